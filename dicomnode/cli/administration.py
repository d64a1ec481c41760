"""The commands that run, watch and administer a node.

serve, receive, synthesize, deliver, web    its processes
check, ready                                whether it could work, whether it does
config schema                               the JSON Schema of its configuration
hosts, takeover                             several machines on one database
notify                                      a test message over each channel of the configuration
user add|remove|list                        who may sign in to the web page
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import getpass
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dicomnode.cli.printing import print_json
from dicomnode.config.load import load
from dicomnode.errors import BadPassword, ConfigError, NotTaken, UnknownHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnode.config.load import Config
    from dicomnode.engine.hosts import KnownHosts


def add_role_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `serve`, each role alone, `check` and `ready`; `add` makes a command with its help."""
    add(commands, "serve", serve, "Run the whole node on this machine", "Ends on SIGTERM or Ctrl-C.")
    for role, summary in (
        ("receive", "Run only the receiver: C-ECHO, C-STORE, settling of series"),
        ("synthesize", "Run only a worker that computes synthetic CT"),
        ("deliver", "Run only the sender to the destinations"),
        ("web", "Run only the web page, and /metrics, /healthz and /readyz beside it"),
    ):
        added = add(commands, role, run_role, summary, "All roles share node.data and the database.")
        added.set_defaults(role=role, number=0)
        added.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
        if role in ("synthesize", "deliver"):
            text = "number of this worker on this machine, from 0 (one process each)"
            added.add_argument("--number", type=int, default=0, metavar="N", help=text)
    details = (
        "Configuration, weights' digest, database, disk, and C-ECHO to every destination. Exit status 1 if any fails."
    )
    add(commands, "check", check, "Check that the node could work", details, "json")
    details = "JSON Schema (draft 2020-12), for editors and for checks elsewhere; config/node.schema.json is the same."
    added = add(commands, "config", print_schema, "Print the schema of the configuration file", details)
    added.add_argument("action", choices=("schema",), help="what is printed")
    details = "Its receiver answers, /readyz says 200, the page listens. Exit status 1, and why, when it takes longer."
    added = add(commands, "ready", ready, "Wait until the node of `sct-node serve` is ready", details)
    text = "how many seconds to wait (default: 60)"
    added.add_argument("--timeout", type=float, default=60.0, metavar="S", help=text)


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `hosts`, `takeover`, `notify` and `user`; `add` makes a command with its help."""
    details = "Only with PostgreSQL. A process that was not heard of for hosts.dead_after_s is dead."
    add(commands, "hosts", hosts, "List the processes of all machines on the database", details, "json")
    details = "What it had begun goes back into the queues. This happens by itself after hosts.dead_after_s."
    added = add(commands, "takeover", take_over, "Have the others do the work of a dead machine", details)
    added.add_argument("host", metavar="HOST", help="the machine's name, as sct-node hosts lists it")
    text = "also when it was heard of a moment ago: it is certain that it is off"
    added.add_argument("--force", action="store_true", help=text)

    details = "The node need not run, nothing is kept. Exit status 1 when a channel does not take it."
    add(commands, "notify", notify, "Send a test message to people over each channel of `notify`", details, "json")

    details = "The password is asked for on the terminal. Changes count at once; no restart is needed."
    added = add(commands, "user", user, "Say who may sign in to the web page", details, "json")
    added.add_argument("action", choices=("add", "remove", "list"), help="add also changes role and password")
    added.add_argument("name", nargs="?", default="", metavar="NAME", help="letters, digits, '-', '_' and '.'")
    text = "a viewer reads; a physicist also releases, rejects, retries, cancels and sends again"
    added.add_argument("--role", choices=("viewer", "physicist"), default="viewer", help=f"{text} (default: viewer)")
    text = "add: read the password from the first line of standard input, and no further"
    added.add_argument("--password-stdin", action="store_true", help=text)


def serve(given: argparse.Namespace) -> int:
    """Run all roles of the node until SIGTERM; return the exit status."""
    from dicomnode.node import supervisor

    supervisor.serve(load(given.config))
    return 0


def run_role(given: argparse.Namespace) -> int:
    """Run one role of the node until SIGTERM; return the exit status."""
    from dicomnode.node import roles

    roles.run_role(given.role, load(given.config), given.number, supervised=given.supervised)
    return 0


def check(given: argparse.Namespace) -> int:
    """Print each check of the node; return 1 if any fails, else 0."""
    config = load(given.config)
    from dicomnode.node.check import checks

    results = checks(config)
    if given.json:
        print_json([dataclasses.asdict(one) for one in results])
    else:
        for one in results:
            print(f"{'ok    ' if one.good else 'FAILED'} {one.name}: {one.sentence}")
    return 0 if all(one.good for one in results) else 1


def print_schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema of the configuration; return the exit status."""
    from dicomnode.config.json_schema import node_schema

    print_json(node_schema())
    return 0


def ready(given: argparse.Namespace) -> int:
    """Wait until the node is ready; return the exit status."""
    config = load(given.config)
    from dicomnode.node.check import wait_until_ready

    print(wait_until_ready(config, given.timeout))
    return 0


@contextmanager
def known_hosts(config: Config) -> Iterator[KnownHosts]:
    """Open the register of all machines on the database. Raises UnknownHost where there can be only one machine."""
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


def hosts(given: argparse.Namespace) -> int:
    """Print the processes of all machines and when each was last heard of; return the exit status."""
    config = load(given.config)
    with known_hosts(config) as others:
        known = others.known()
    if given.json:
        print_json([dataclasses.asdict(one) | {"host": one.host} for one in known])
        return 0
    for one in known:
        dead = "  dead" if one.silent_s > config.hosts.dead_after_s else ""
        print(f"{one.executor:<40} heard of {one.silent_s:.0f} s ago{dead}")
    return 0


def take_over(given: argparse.Namespace) -> int:
    """Put the attempts of a dead machine back into the queues; return the exit status."""
    with known_hosts(load(given.config)) as others:
        attempts = others.take_over(given.host, force=given.force)
    print(f"{attempts} attempts of {given.host} are back in the queues")
    return 0


def notify(given: argparse.Namespace) -> int:
    """Send a test message over each channel; return 1 if any channel does not take it, else 0."""
    config = load(given.config)
    if not config.notify.channels:
        raise ConfigError("notify", "names neither mail nor webhook", "set one of them")
    from dicomnode.ledger.notices import NoticeRow
    from dicomnode.notify.notice_text import NoticeContent, message_of
    from dicomnode.notify.notifier import send

    now = datetime.datetime.now(datetime.UTC)
    problems: dict[str, str | None] = {}
    for name, channel in config.notify.channels.items():
        row = NoticeRow(0, "alarm", None, "TEST", "", now, name, 1, now, None, sent=False, sentence="")
        message = message_of([NoticeContent(row, page=config.notify.page or "")], config.node.ae_title)
        try:
            send(message, channel)
            problems[name] = None
        except NotTaken as error:
            problems[name] = str(error)
    if given.json:
        print_json(problems)
    else:
        for name, problem in problems.items():
            print(f"{name}: {problem or 'taken'}")
    return 1 if any(problems.values()) else 0


def user(given: argparse.Namespace) -> int:
    """Add, remove or list the users of the web page (passwords: Argon2id, RFC 9106); return the exit status."""
    from dicomnode.security import users

    config = load(given.config)
    file = users.Users(users.users_path(config))
    if given.action == "list":
        rows = [{"name": one.name, "role": one.role.value} for one in file.all().values()]
        if given.json:
            print_json(rows)
        else:
            for row in rows:
                print(f"{row['role']:<10} {row['name']}")
        return 0
    if not given.name:
        raise ValueError(f"sct-node user {given.action} NAME: the name is missing")
    if given.action == "add":
        password = first_line() if given.password_stdin else ask_password(given.name)
        new = file.add(given.name, users.Role(given.role), password)
        print(f"{'added' if new else 'changed'} {given.name}, {given.role}, in {file.path}")
        return 0
    file.remove(given.name)
    print(f"removed {given.name} from {file.path}")
    if not file.all() and not users.is_local(config):
        print("nobody can sign in now: the page is closed until there is a user", file=sys.stderr)
    return 0


def first_line() -> str:
    """Return the first line of standard input. Raises BadPassword when it is not UTF-8 (RFC 3629).

    It is read byte by byte: what follows it in a pipe, a file or a pasted block is left to the next program.
    """
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise BadPassword("the password on standard input is not UTF-8; nothing was changed") from None


def ask_password(name: str) -> str:
    """Ask for a password twice at the terminal. Raises BadPassword when there is none, or the two differ."""
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
