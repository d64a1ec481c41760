"""Who is signed in: kept in this process's memory, found by a random key that only the browser has.

A session ends when nobody has used it for `web.session_idle_s`, `web.session_max_s` after sign-in, at sign-out, when
the user is removed or gets another password or role, and when this process ends.
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
