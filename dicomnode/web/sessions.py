"""Who is signed in: kept in this process's memory, found by a random key that only the browser has.

A session ends when nobody has used it for `web.session_idle_s`, `web.session_max_s` after sign-in, at sign-out, when
the user is removed or gets another password or role, and when this process ends.

How long who failed to sign in must wait: longer each time, by user and by address.

    failures   1  2  3  4    5    6    7    ...
    wait       0  0  0  1 s  2 s  4 s  8 s  ... up to a minute for a user, a quarter of an hour for an address

A user waits no longer than a minute, because anybody may fail in a user's name. A minute allows 1440 guesses a day.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dicomnode.security.users import User, Users

OF_ONE_USER: Final = 8
"""Sessions of one user; a further one ends the oldest."""


@dataclass(slots=True)
class Session:
    """One who is signed in, the token that their forms carry, and when (s) it began and was used last."""

    user: User
    token: str
    began: float
    used: float


class Sessions:
    """All sessions. Thread-safe. Times are seconds of any clock that does not jump."""

    def __init__(self, idle_s: float, longest_s: float) -> None:
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: User, now: float) -> str:
        """Sign a user in. -> the key, 256 random bits; never one that somebody proposed."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            own = [digest for digest, session in self._sessions.items() if session.user.name == user.name]
            for digest in own[: max(len(own) - OF_ONE_USER + 1, 0)]:
                del self._sessions[digest]
            self._sessions[_digest(key)] = Session(user, secrets.token_urlsafe(32), now, now)
        return key

    def find(self, key: str, users: Users, now: float, *, person: bool) -> Session | None:
        """The session of a key, or None; `person` tells whether somebody acts, or a page reads itself again.

        Raises UsersUnreadable.
        """
        known = users.all()
        with self._lock:
            session = self._sessions.get(_digest(key))
            if session is None:
                return None
            over = now - session.used > self._idle_s or now - session.began > self._longest_s
            if over or known.get(session.user.name) != session.user:
                del self._sessions[_digest(key)]
                return None
            if person:
                session.used = now
            return session

    def end(self, key: str) -> None:
        """Sign out."""
        with self._lock:
            self._sessions.pop(_digest(key), None)


class Nonces:
    """Tokens for a form that is filled in before anybody is signed in: bound to a random cookie, nothing is kept."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, nonce: str) -> str:
        """The token that belongs to a cookie's value."""
        return hmac.new(self._key, nonce.encode(), hashlib.sha256).hexdigest()


def _digest(key: str) -> bytes:
    """What is kept of a key: memory that leaks signs nobody in."""
    return hashlib.sha256(key.encode()).digest()


FREE: Final = 3
"""Failures that cost nothing: people mistype."""
FIRST_S: Final = 1.0
"""The first wait; each further failure doubles it."""
USER_MAX_S: Final = 60.0
ADDRESS_MAX_S: Final = 900.0
FORGET_S: Final = 3600.0
"""After so long without a failure all is forgotten."""
KEPT: Final = 10_000
"""Users and addresses that are remembered; the ones that failed longest ago make room."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Failures so far. Thread-safe. Times are seconds of any clock that does not jump."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: str, address: str, now: float) -> float:
        """Seconds that an attempt must wait; 0 lets it try, and it counts as failed until `succeeded`.

        It is counted before the password is looked at, so that attempts side by side are no way round.
        """
        with self._lock:
            wait_s = max(
                self._wait_s(f"user {user}", USER_MAX_S, now), self._wait_s(f"address {address}", ADDRESS_MAX_S, now)
            )
            if wait_s <= 0:
                for key in (f"user {user}", f"address {address}"):
                    self._count(key, now)
            return max(wait_s, 0.0)

    def succeeded(self, user: str, address: str) -> None:
        """The attempt was good: the user's failures are forgotten, of the address's only this one.

        Whoever has one good password must not be able to clear what they tried for others.
        """
        with self._lock:
            self._failures.pop(f"user {user}", None)
            of_address = self._failures.get(f"address {address}")
            if of_address is not None:
                of_address.count -= 1

    def _wait_s(self, key: str, longest_s: float, now: float) -> float:
        failures = self._failures.get(key)
        if failures is None or failures.count < FREE or now - failures.last > FORGET_S:
            return 0.0
        return float(failures.last + min(FIRST_S * 2.0 ** min(failures.count - FREE, 30), longest_s) - now)

    def _count(self, key: str, now: float) -> None:
        failures = self._failures.pop(key, None)
        count = failures.count if failures and now - failures.last <= FORGET_S else 0
        self._failures[key] = _Failures(count + 1, now)
        if len(self._failures) > KEPT:
            self._failures.popitem(last=False)
