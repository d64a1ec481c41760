"""The Storage SCU (PS3.4 B.2.1): one association for one attempt, one receipt for each instance as its answer comes.

The time of the next attempt is not decided here. Only NodeError leaves this module for what a destination does; an
unreadable file of the node's own is a fault of the node and stays an OSError or InvalidDicomError.
"""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from pydicom.filereader import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext, build_context

from dicomnode import metrics
from dicomnode.config.peers import Destination
from dicomnode.dimse.client import AssociationLost, answer, associated, described
from dicomnode.errors import Undelivered
from dicomnode.receipt import Receipt
from dicomnode.spool.instance_file import Parcel, parcel

_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files over one association by C-STORE (PS3.7 9.1.1); a refused instance does not stop the others.

    Args:
        paths: The files to send, in order.
        destination: The peer.
        calling_ae: The AE title of the node.
        on_receipt: Called with each receipt before the next instance is sent.
        already: SOP Instance UIDs that are left out, because the destination has them.
        before: Called before each instance is sent; an error that it raises stops the attempt.

    Returns:
        All receipts, warnings among them.

    Raises:
        Undelivered: An instance is not at the destination; it holds the receipts, and a sentence for people.
    """
    parcels = [one for one in map(parcel, paths) if one.sop_instance_uid not in already]
    if not parcels:
        return []
    receipts: list[Receipt] = []
    reasons: list[str] = []
    try:
        with associated(destination, calling_ae, contexts_of(parcels)) as association:
            accepted = {(one.abstract_syntax, one.transfer_syntax[0]) for one in association.accepted_contexts}
            welcome = [one for one in parcels if any((one.sop_class_uid, as_) in accepted for as_ in _syntaxes(one))]
            others = [one for one in parcels if one not in welcome]
            kinds = {f"{one.sop_class_uid.name} as {one.transfer_syntax_uid.name}" for one in others}
            reasons += [f"does not accept {kind}" for kind in sorted(kinds)]
            for one in welcome:
                before()
                data_set = dcmread(one.path)
                status = answer(destination, functools.partial(association.send_c_store, data_set))
                comment, at = str(status.get("ErrorComment", "") or ""), datetime.datetime.now(datetime.UTC)
                receipts.append(Receipt(one.sop_instance_uid, int(status.Status), at, comment))
                metrics.DELIVERED_INSTANCES.labels(destination.name, receipts[-1].outcome).inc()
                on_receipt(receipts[-1])
    except AssociationLost as error:
        reasons.append(str(error))
    return conclude(destination, parcels, receipts, reasons)


def conclude(
    destination: Destination, parcels: Sequence[Parcel], receipts: list[Receipt], reasons: Sequence[str]
) -> list[Receipt]:
    """Return all receipts of an attempt; `reasons` are what went wrong besides refusals, as parts of a sentence.

    Raises Undelivered when an instance is not at the destination. Comments of the destination stay in the receipts.
    """
    unsent = len(parcels) - len(receipts)
    metrics.DELIVERED_INSTANCES.labels(destination.name, "unsent").inc(unsent)
    refused = Counter(receipt.status for receipt in receipts if not receipt.stored)
    every = [*reasons, *(f"refused {refused[status]} with status 0x{status:04X}" for status in sorted(refused))]
    if every:
        arrived = f"{sum(receipt.stored for receipt in receipts)} of {len(parcels)} arrived"
        raise Undelivered(receipts, f"{described(destination)} {', '.join(every)}; {arrived}")
    return receipts


def contexts_of(parcels: Sequence[Parcel]) -> list[PresentationContext]:
    """Return a presentation context for each SOP class and transfer syntax of the files (PS3.8 7.1.1.13).

    Uncompressed files are proposed in both little endian syntaxes, each in a context of its own, so that the
    destination may accept the one it wants, and explicit VR is used where both are accepted.
    """
    wanted = {(one.sop_class_uid, syntax) for one in parcels for syntax in _syntaxes(one)}
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]


def _syntaxes(one: Parcel) -> tuple[UID, ...]:
    """Return the transfer syntaxes in which a file can be sent, converted between VRs if need be (PS3.5 A.1, A.2)."""
    return _UNCOMPRESSED if one.transfer_syntax_uid in _UNCOMPRESSED else (one.transfer_syntax_uid,)
