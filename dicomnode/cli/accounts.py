"""The commands `sct-node user add|remove|list`: who may sign in to the web page."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from typing import Any

from dicomnode.config import load as configuration
from dicomnode.errors import BadPassword


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`user` with its three actions; `add` makes a command with its help."""
    details = "The password is asked for, or read from standard input. Changes count at once; no restart is needed."
    added = add(commands, "user", _user, "Say who may sign in to the web page", details, "json")
    added.add_argument("action", choices=("add", "remove", "list"), help="add also changes role and password")
    added.add_argument("name", nargs="?", default="", metavar="NAME", help="letters, digits, '-', '_' and '.'")
    text = "a viewer reads; a physicist also releases, rejects, retries, cancels and sends again"
    added.add_argument("--role", choices=("viewer", "physicist"), default="viewer", help=f"{text} (default: viewer)")


def _user(given: argparse.Namespace) -> int:
    from dicomnode.security import users

    config = configuration.load(given.config)
    file = users.Users(users.users_path(config))
    if given.action == "list":
        return _list(file, as_json=given.json)
    if not given.name:
        raise ValueError(f"sct-node user {given.action} NAME: the name is missing")
    if given.action == "add":
        new = file.add(given.name, users.Role(given.role), _password(given.name))
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


def _password(name: str) -> str:
    """Asked for twice at a terminal; else the first line of standard input. Raises BadPassword when the two differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Again: ") != first:
        raise BadPassword("the two passwords differ; nothing was changed")
    return first
