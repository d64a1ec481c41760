"""The commands about several machines: `hosts` lists their processes, `takeover` gives away the work of a dead one."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dicomnode.config import load as configuration
from dicomnode.errors import UnknownHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicomnode.config.load import Config
    from dicomnode.engine.hosts import Hosts


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`hosts` and `takeover`; `add` makes a command with its help."""
    details = "Only with PostgreSQL. A process that was not heard of for hosts.dead_after_s is dead."
    add(commands, "hosts", _hosts, "List the processes of all machines on the database", details, "json")
    details = "What it had begun goes back into the queues. This happens by itself after hosts.dead_after_s."
    added = add(commands, "takeover", _takeover, "Have the others do the work of a dead machine", details)
    added.add_argument("host", metavar="HOST", help="the machine's name, as sct-node hosts lists it")
    text = "also when it was heard of a moment ago: it is certain that it is off"
    added.add_argument("--force", action="store_true", help=text)


@contextmanager
def _others(config: Config) -> Iterator[Hosts]:
    """The processes of all machines. Raises UnknownHost where there can be only one."""
    from dicomnode.engine import queues
    from dicomnode.engine.hosts import Hosts
    from dicomnode.ledger.ledger import existing

    if config.database == "sqlite":
        raise UnknownHost("the database is sqlite: there is one machine, and what it had begun goes on when it is back")
    ledger = existing(config)
    try:
        yield Hosts(ledger, queues.Queues(ledger), config.hosts.dead_after_s)
    finally:
        ledger.close()


def _hosts(given: argparse.Namespace) -> int:
    config = configuration.load(given.config)
    with _others(config) as others:
        known = others.known()
    if given.json:
        print(json.dumps([dataclasses.asdict(one) | {"host": one.host} for one in known], indent=2))
        return 0
    for one in known:
        dead = "  dead" if one.silent_s > config.hosts.dead_after_s else ""
        print(f"{one.executor:<40} heard of {one.silent_s:.0f} s ago{dead}")
    return 0


def _takeover(given: argparse.Namespace) -> int:
    with _others(configuration.load(given.config)) as others:
        attempts = others.take_over(given.host, force=given.force)
    print(f"{attempts} attempts of {given.host} are back in the queues")
    return 0
