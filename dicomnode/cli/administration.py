"""The commands about several machines: `hosts` lists their processes, `takeover` gives away the work of a dead one.

`sct-node notify`: a test message over each channel of the configuration, and what came of it.

The commands `sct-node user add|remove|list`: who may sign in to the web page.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import getpass
import json
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dicomnode.config.load import load
from dicomnode.errors import BadPassword, ConfigError, NotTaken, UnknownHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicomnode.config.load import Config
    from dicomnode.engine.hosts import KnownHosts


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
def _others(config: Config) -> Iterator[KnownHosts]:
    """The processes of all machines. Raises UnknownHost where there can be only one."""
    from dicomnode.engine import queues
    from dicomnode.engine.hosts import KnownHosts
    from dicomnode.ledger.ledger import existing

    if config.database == "sqlite":
        raise UnknownHost("the database is sqlite: there is one machine, and what it had begun goes on when it is back")
    ledger = existing(config)
    try:
        yield KnownHosts(ledger, queues.open_queues(ledger), config.hosts.dead_after_s)
    finally:
        ledger.close()


def _hosts(given: argparse.Namespace) -> int:
    config = load(given.config)
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
    with _others(load(given.config)) as others:
        attempts = others.take_over(given.host, force=given.force)
    print(f"{attempts} attempts of {given.host} are back in the queues")
    return 0


def add_command(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`notify`; `add` makes a command with its help."""
    details = "The node need not run, nothing is kept. Exit status 1 when a channel does not take it."
    add(commands, "notify", _notify, "Send a test message to people over each channel of `notify`", details, "json")


def _notify(given: argparse.Namespace) -> int:
    config = load(given.config)
    if not config.notify.channels:
        raise ConfigError("notify", "names neither mail nor webhook", "set one of them")
    told = {name: _tried(config, name) for name in config.notify.channels}
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        for name, problem in told.items():
            print(f"{name}: {problem or 'taken'}")
    return 1 if any(told.values()) else 0


def _tried(config: Config, name: str) -> str | None:
    """Send the test over a channel; -> why it was not taken, or None."""
    from dicomnode.ledger.notices import NoticeRow
    from dicomnode.notify.notice_text import NoticeContent, message_of
    from dicomnode.notify.notifier import send

    now = datetime.datetime.now(datetime.UTC)
    row = NoticeRow(0, "alarm", None, "TEST", "", now, name, 1, now, None, sent=False, sentence="")
    message = message_of([NoticeContent(row, page=config.notify.page or "")], config.node.ae_title)
    try:
        send(message, config.notify.channels[name])
    except NotTaken as error:
        return str(error)
    return None


def add_user_command(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`user` with its three actions; `add` makes a command with its help."""
    details = "The password is asked for on the terminal. Changes count at once; no restart is needed."
    added = add(commands, "user", _user, "Say who may sign in to the web page", details, "json")
    added.add_argument("action", choices=("add", "remove", "list"), help="add also changes role and password")
    added.add_argument("name", nargs="?", default="", metavar="NAME", help="letters, digits, '-', '_' and '.'")
    text = "a viewer reads; a physicist also releases, rejects, retries, cancels and sends again"
    added.add_argument("--role", choices=("viewer", "physicist"), default="viewer", help=f"{text} (default: viewer)")
    text = "add: read the password from the first line of standard input, and no further"
    added.add_argument("--password-stdin", action="store_true", help=text)


def _user(given: argparse.Namespace) -> int:
    from dicomnode.security import users

    config = load(given.config)
    file = users.Users(users.users_path(config))
    if given.action == "list":
        return _list(file, as_json=given.json)
    if not given.name:
        raise ValueError(f"sct-node user {given.action} NAME: the name is missing")
    if given.action == "add":
        new = file.add(given.name, users.Role(given.role), _password(given.name, from_input=given.password_stdin))
        print(f"{'added' if new else 'changed'} {given.name}, {given.role}, in {file.path}")
        return 0
    file.remove(given.name)
    print(f"removed {given.name} from {file.path}")
    if not file.all() and not users.is_local(config):
        print("nobody can sign in now: the page is closed until there is a user", file=sys.stderr)
    return 0


def _list(file: Any, *, as_json: bool) -> int:
    rows = [{"name": user.name, "role": user.role.value} for user in file.all().values()]
    if as_json:
        print(json.dumps(rows, indent=2))
    for row in [] if as_json else rows:
        print(f"{row['role']:<10} {row['name']}")
    return 0


def _password(name: str, *, from_input: bool) -> str:
    """Return the first line of standard input, or what is typed twice at the terminal.

    The line is read byte by byte: what follows it in a pipe, a file or a pasted block is left to the next program.

    Raises:
        BadPassword: there is no terminal, the two passwords differ, or the line is not UTF-8.
    """
    if from_input:
        line = bytearray()
        while (byte := os.read(0, 1)) not in (b"", b"\n"):
            line += byte
        try:
            return line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise BadPassword("the password on standard input is not UTF-8; nothing was changed") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            first, again = (getpass.getpass(prompt) for prompt in (f"Password of {name}: ", "Again: "))
        except (getpass.GetPassWarning, EOFError):
            way = "give it with --password-stdin, as the first line of standard input"
            raise BadPassword(f"there is no terminal on which to ask for the password; {way}") from None
    if again != first:
        raise BadPassword("the two passwords differ; nothing was changed")
    return first
