"""One attempt at a destination, in the language that it speaks: C-STORE (`deliver`) or STOW-RS (`stow`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnode.delivery import storage_scu, stow_rs
from dicomnode.dimse import client

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from dicomnode.config.destination import Destination
    from dicomnode.receipt import Receipt


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files to a destination; see `deliver.send`. Raises Undelivered."""
    if destination.stow is not None:
        return stow_rs.send(paths, destination, on_receipt, already, before)
    return storage_scu.send(paths, destination, calling_ae, on_receipt, already, before)


def reach(destination: Destination, calling_ae: str) -> str:
    """Whether a destination answers: C-ECHO, or a search; -> a sentence. Raises Undelivered when it does not."""
    if destination.stow is not None:
        stow_rs.reach(destination)
        return f"{destination.where} answers"
    client.echo(destination, calling_ae)
    return f"{destination.where} answers C-ECHO"
