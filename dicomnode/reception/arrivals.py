"""The series that are arriving, and the associations (PS3.8 7.1) over which they come; the intake decides by them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from dicomnode.spool.spool import Arrival


class Link(Protocol):
    """The part of an association that `Arrivals` uses."""

    is_established: bool
    is_released: bool

    def is_alive(self) -> bool:
        """Return whether its thread still runs."""


@dataclass
class _Coming:
    """One series that is arriving; times are of `time.monotonic`."""

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

    def note_any(self, calling_ae: str, link: Link, now: float) -> None:
        """Note that an instance has come over `link`, new or not."""
        self.drop_ended()
        if link not in self.links:
            self.links.add(link)
            self.associations += 1
            self.begun_at = now
            self.interrupted = False
        self.awaited.add(link)
        self.calling_ae = calling_ae
        self.heard_at = now

    def note_new(self, sop_uid: str, now: float) -> None:
        """Note a new instance."""
        if self.between_pieces:
            self.pause_s = max(self.pause_s, now - self.last_at)
            self.between_pieces = False
        self.sop_uids.add(sop_uid)
        self.last_at = now

    def drop_ended(self) -> None:
        """Forget the associations that have ended; one without A-RELEASE (PS3.8 7.2) has interrupted the series."""
        ended = {link for link in self.links if not (link.is_established and link.is_alive())}
        self.links -= ended
        self.awaited -= ended
        self.interrupted |= any(not link.is_released for link in ended)
        self.between_pieces |= bool(ended) and not self.links and not self.interrupted

    def arrival(self, series_uid: str) -> Arrival:
        """Return what is known now."""
        self.drop_ended()
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
    """The series that have come and are not handed over yet. Thread-safe; keeps nothing of a forgotten series."""

    def __init__(self) -> None:
        self._coming: dict[str, _Coming] = {}
        self._lock = threading.Lock()

    def note(self, series_uid: str, sop_uid: str, calling_ae: str, link: Link, *, new: bool = True) -> None:
        """Note that an instance of the series has been stored over the association `link`.

        An instance that is not `new` (the same bytes again) only shows that its series is still arriving.
        """
        now = time.monotonic()
        with self._lock:
            for other in self._coming.values():
                other.awaited.discard(link)
            if new:
                self._coming.setdefault(series_uid, _Coming(calling_ae, now, now))
            coming = self._coming.get(series_uid)
            if coming is not None:
                coming.note_any(calling_ae, link, now)
            if coming is not None and new:
                coming.note_new(sop_uid, now)

    def adopt(self, found: Iterable[Arrival]) -> None:
        """Adopt series that were found on the disk (`Spool.scan`) as if they had come to this process."""
        with self._lock:
            for one in found:
                new = _Coming(one.calling_ae, one.first_at, one.last_at, associations=one.associations)
                self._coming.setdefault(one.series_uid, new).sop_uids |= one.sop_uids

    def now(self) -> dict[str, Arrival]:
        """Return what is known of each series at this moment, by Series Instance UID."""
        with self._lock:
            return {uid: coming.arrival(uid) for uid, coming in self._coming.items()}

    def forget(self, arrival: Arrival) -> bool:
        """Forget a series that was handed over; return False, and keep it, when more of it has come since `arrival`."""
        with self._lock:
            coming = self._coming.get(arrival.series_uid)
            if coming is None:
                return True
            if coming.last_at != arrival.last_at or coming.sop_uids != arrival.sop_uids:
                return False
            del self._coming[arrival.series_uid]
            return True
