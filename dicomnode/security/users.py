"""The users of the web page: names, roles and hashed passwords (Argon2id, RFC 9106), in one file.

    {"users": [{"name": "jane", "role": "physicist", "hash": "$argon2id$v=19$m=65536,t=3,p=4$..."}]}

`sct-node user add|remove|list` writes it. It is read again when it has changed, so that a removed user is signed out at
once. While the file cannot be understood, nobody can sign in.
"""

from __future__ import annotations

import dataclasses
import fcntl
import ipaddress
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import argon2

from dicomnode.config.values import plain_name
from dicomnode.errors import BadPassword, ConfigError, UnknownUser, UsersUnreadable
from pipeline.durable_files import write_whole

if TYPE_CHECKING:
    from dicomnode.config.load import Config

SHORTEST: Final = 12
"""Smallest number of characters of a password; the page slows guessing down, but not for a stolen file."""

LONGEST: Final = 256

HASHER: Final = argon2.PasswordHasher()
"""The default of argon2-cffi: the second option of RFC 9106 4 (64 MiB), about 50 ms a password."""

AT_ONCE: Final = threading.BoundedSemaphore(2)
"""Limits the passwords that are verified at the same time, because each takes 64 MiB."""


class Role(StrEnum):
    """The role of a user: a viewer reads, a physicist also decides about jobs (`web.sign_in.Visitor`)."""

    VIEWER = "viewer"
    PHYSICIST = "physicist"


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in. Raises ValueError for an impossible name or hash."""

    name: str
    role: Role
    hash: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        if complaint := plain_name(self.name):
            raise ValueError(f"a user's name {complaint}")
        argon2.extract_parameters(self.hash)


def users_path(config: Config) -> Path:
    """Return the file of users: `web.users`, or `users.json` in node.data."""
    return config.web.users or config.node.data / "users.json"


def is_local(config: Config) -> bool:
    """Return whether only this machine can reach the page."""
    bind = config.web.bind
    try:
        loopback = bind == "localhost" or ipaddress.ip_address(bind).is_loopback
    except ValueError:
        loopback = False
    return loopback and not config.web.proxies


def check_reachable(config: Config) -> None:
    """Raise ConfigError where the network would reach the page without signing in, or passwords without TLS."""
    if is_local(config):
        return
    path = users_path(config)
    if not Users(path).all():
        remedy = "add one: sct-node user add NAME --role physicist; or serve this machine alone: web.bind: 127.0.0.1"
        raise ConfigError("web.bind", f"{config.web.bind} is reached from the network and {path} has no users", remedy)
    if not (config.web.certificate or config.web.proxies or config.web.plain):
        remedy = "name web.certificate and web.key, or in web.proxies the proxy that ends TLS, or set web.plain: true"
        raise ConfigError("web.certificate", f"passwords would reach {config.web.bind} unencrypted", remedy)


class Users:
    """The users of a file. Thread-safe; other processes may write the file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._users: Mapping[str, User] = {}
        self._lock = threading.Lock()
        self._nobody = HASHER.hash(os.urandom(16).hex())

    def all(self) -> Mapping[str, User]:
        """Return the users by name; none where there is no file. Raises UsersUnreadable."""
        with self._lock:
            try:
                found = self.path.stat()
                version: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
            except FileNotFoundError:
                version = ()
            except OSError as error:
                raise UsersUnreadable(self.path, error.strerror or "it is not readable") from error
            if version != self._seen:
                self._users, self._seen = _read(self.path), version
            return self._users

    def verified(self, name: str, password: str) -> User | None:
        """Return the user of that name and password, or None after the same time. Raises UsersUnreadable."""
        user = self.all().get(name)
        with AT_ONCE:
            try:
                HASHER.verify(user.hash if user else self._nobody, password[: LONGEST + 1])
            except argon2.exceptions.VerificationError:
                return None
        return user

    def add(self, name: str, role: Role, password: str) -> bool:
        """Add a user, or change role and password of one. Return whether the name is new.

        Raises:
            BadPassword: the password is too short, too long or too simple.
            ValueError: the name is impossible.
            UsersUnreadable: the file of users cannot be read.
        """
        if complaint := password_complaint(password, name):
            raise BadPassword(complaint)
        user = User(name, role, HASHER.hash(password))
        before = self._write(lambda users: {**users, name: user})
        return name not in before

    def remove(self, name: str) -> None:
        """Remove a user. Raises UnknownUser, UsersUnreadable."""
        if name not in self.all():
            raise UnknownUser(f"there is no user {name!r}; sct-node user list names them")
        self._write(lambda users: {key: user for key, user in users.items() if key != name})

    def _write(self, change: Callable[[Mapping[str, User]], Mapping[str, User]]) -> Mapping[str, User]:
        """Replace the file, whole or not at all, one writer at a time. Return the users before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = _read(self.path)
            users = sorted(change(before).values(), key=lambda user: user.name)
            folder = self.path.parent.stat()
            owner = (folder.st_uid, folder.st_gid) if os.geteuid() == 0 else None
            text = json.dumps({"users": [dataclasses.asdict(user) for user in users]}, indent=1)
            write_whole(self.path, text.encode(), mode=0o600, owner=owner)
        return before


def password_complaint(password: str, name: str) -> str | None:
    """Return what is wrong with a password, or None."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters"
    if len(set(password)) < 5 or (len(name) > 3 and name.lower() in password.lower()):
        return "a password has at least 5 different characters and not the user's name in it"
    return None


def _read(path: Path) -> Mapping[str, User]:
    """Return the users of a file by name. Raises UsersUnreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        users = [User(one["name"], Role(one["role"]), one["hash"]) for one in found["users"]]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsersUnreadable(path, error.strerror or "it is not readable") from error
    except (ValueError, KeyError, TypeError, argon2.exceptions.InvalidHashError):
        raise UsersUnreadable(path, "it is no file of users") from None
    return {user.name: user for user in users}
