"""Which series are coming, over which associations: what the receiver knows and the intake settles by."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from dicomnode.spool.spool import Arrival


class Link(Protocol):
    """As much of an association as the arrivals need."""

    is_established: bool
    is_released: bool

    def is_alive(self) -> bool:
        """Whether anything still serves it."""


@dataclass
class _Coming:
    """One series while it comes."""

    calling_ae: str
    first_at: float
    last_at: float
    sop_uids: set[str] = field(default_factory=set)
    links: set[Link] = field(default_factory=set)
    awaited: set[Link] = field(default_factory=set)
    heard_at: float = 0.0
    begun_at: float | None = None
    associations: int = 0
    interrupted: bool = False
    between_pieces: bool = False
    pause_s: float = 0.0

    def hear(self, calling_ae: str, link: Link, now: float) -> None:
        """An instance has come over `link`, new or not."""
        self.let_go()
        if link not in self.links:
            self.links.add(link)
            self.associations += 1
            self.begun_at = now
            self.interrupted = False
        self.awaited.add(link)
        self.calling_ae = calling_ae
        self.heard_at = now

    def note(self, sop_uid: str, now: float) -> None:
        """The instance was new."""
        if self.between_pieces:
            self.pause_s = max(self.pause_s, now - self.last_at)
            self.between_pieces = False
        self.sop_uids.add(sop_uid)
        self.last_at = now

    def let_go(self) -> None:
        """Let go of associations that have ended."""
        ended = {link for link in self.links if not (link.is_established and link.is_alive())}
        self.links -= ended
        self.awaited -= ended
        self.interrupted |= any(not link.is_released for link in ended)
        self.between_pieces |= bool(ended) and not self.links and not self.interrupted

    def arrival(self, series_uid: str) -> Arrival:
        """What is known now."""
        self.let_go()
        return Arrival(
            series_uid,
            frozenset(self.sop_uids),
            self.calling_ae,
            self.first_at,
            self.last_at,
            open_associations=len(self.links),
            associations=self.associations,
            interrupted=self.interrupted,
            pause_s=self.pause_s,
            awaited_since=self.heard_at if self.awaited else None,
            begun_at=self.begun_at,
        )


class Arrivals:
    """Which series have come and are not handed over yet. Thread-safe; holds nothing of a series that was forgotten."""

    def __init__(self) -> None:
        self._coming: dict[str, _Coming] = {}
        self._lock = threading.Lock()

    def note(self, series_uid: str, sop_uid: str, calling_ae: str, link: Link, *, new: bool = True) -> None:
        """An instance of the series has been stored over the association `link`.

        One that is not `new` (the same bytes again) is only a sign of life of a series that is still coming.
        """
        now = time.monotonic()
        with self._lock:
            for other in self._coming.values():
                other.awaited.discard(link)
            if new:
                self._coming.setdefault(series_uid, _Coming(calling_ae, now, now))
            coming = self._coming.get(series_uid)
            if coming is not None:
                coming.hear(calling_ae, link, now)
            if coming is not None and new:
                coming.note(sop_uid, now)

    def adopt(self, found: Iterable[Arrival]) -> None:
        """Take over series found on disk (`Spool.scan`) as if they had come to this process."""
        with self._lock:
            for one in found:
                new = _Coming(one.calling_ae, one.first_at, one.last_at, associations=one.associations)
                self._coming.setdefault(one.series_uid, new).sop_uids |= one.sop_uids

    def now(self) -> dict[str, Arrival]:
        """Series Instance UID -> what is known of it at this moment."""
        with self._lock:
            return {uid: coming.arrival(uid) for uid, coming in self._coming.items()}

    def forget(self, arrival: Arrival) -> bool:
        """Let go of a series that was handed over; False, and kept, when more of it has come since `arrival`."""
        with self._lock:
            coming = self._coming.get(arrival.series_uid)
            if coming is None:
                return True
            if coming.last_at != arrival.last_at or coming.sop_uids != arrival.sop_uids:
                return False
            del self._coming[arrival.series_uid]
            return True
