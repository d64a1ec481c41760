"""Decides when a series is complete, from evidence and without I/O, because DICOM does not announce it.

    reason      evidence                                                                          waits for
    announced   the stack has no gap, and everything that headers or a storage commitment         LINGER_S
                request (PS3.4 J.3.2) announce is there
    complete    the stack has no gap, and every association that brought it was released          LINGER_S
                (A-RELEASE, PS3.8 7.2)
    pieces      the same, but it came in pieces, or its sender is known to send in pieces         `Patience.pieces_s`
    quiet       none: the last resort                                                             `Patience.quiet_s`

A piece ends when the last association that brings the series closes, and the next begins when another opens after that;
associations that overlap are one piece. The first piece may have no gap either (slices 1 to 40 of 80, in order), and
nothing distinguishes it from a whole series. So the pauses of a sender are remembered, and instances that come too late
are handled by a job that supersedes the first (`dicomnode.ledger.superseding`).

Only `announced` and `quiet` apply to a series that was cut short (its association was aborted or lost, and no other has
come after it), and to one that was found on the disk after a restart and of which no more has come. The node waits for
an open association as long as the receiver itself does, `Patience.idle_s`, unless it has gone on to another series.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dicomnode.spool.spool import Arrival

Reason = Literal["announced", "complete", "pieces", "quiet"]

Stack = Literal["unknown", "whole", "announced"]
"""`unknown`: a gap, or no result yet; `whole`: no gap; `announced`: no gap, and everything announced is there."""

LINGER_S: Final = 2.0
"""Seconds without a new instance before other evidence counts: senders reconnect within a second."""

PAUSE_FACTOR: Final = 4.0
"""A silence this many times as long as the longest pause so far is taken as the end."""


def merge(own: Arrival, others: Sequence[Arrival]) -> Arrival:
    """Return what several receivers know of one series; each has seen only the associations that came to it.

    A later association at another receiver makes up for one that was lost, and the silence between the end at one
    receiver and the beginning at another is a pause.
    """
    every = (own, *others)
    begun = [one.begun_at for one in every if one.begun_at is not None]
    awaited = [one.awaited_since for one in every if one.awaited_since is not None]
    return dataclasses.replace(
        max(every, key=lambda one: one.last_at),
        sop_uids=own.sop_uids,
        first_at=min(one.first_at for one in every),
        open_associations=sum(one.open_associations for one in every),
        associations=sum(one.associations for one in every),
        interrupted=any(one.interrupted and not any(at > one.last_at for at in begun) for one in every),
        pause_s=max(pauses(every), default=0.0),
        awaited_since=max(awaited, default=None),
        begun_at=max(begun, default=None),
    )


def pauses(every: Sequence[Arrival]) -> Iterator[float]:
    """Yield the pauses (s) that each receiver saw, and those from one receiver to another."""
    yield from (one.pause_s for one in every)
    brought = sorted((one for one in every if one.associations > 0), key=lambda one: one.first_at)
    still_at = float("inf")
    for before, after in itertools.pairwise(brought):
        still_at = before.last_at if still_at == float("inf") else max(still_at, before.last_at)
        if before.open_associations == 0 and after.first_at > still_at:
            yield after.first_at - still_at


@dataclass(frozen=True, slots=True)
class Patience:
    """Waiting times in seconds.

    `quiet_s` is waited without any other evidence, at least `grace_s` for a series in pieces, `idle_s` for a silent
    association. `habit_s` is the longest pause that the sender is known to make within a series, 0 for none.
    """

    quiet_s: float
    grace_s: float = 10.0
    idle_s: float = 60.0
    habit_s: float = 0.0

    def pieces_s(self, pause_s: float) -> float:
        """Return how long to wait for another piece after pauses up to `pause_s`, at most `quiet_s`."""
        return min(self.quiet_s, max(self.grace_s, PAUSE_FACTOR * max(pause_s, self.habit_s)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision whether a series is settled, and its reason (None while it is not)."""

    settled: bool
    reason: Reason | None


UNSETTLED: Final = Verdict(False, None)


def settled(arrival: Arrival, stack: Stack, now: float, patience: Patience) -> Verdict:
    """Decide whether a series is complete.

    Args:
        arrival: What all receivers know of the series.
        stack: What its instances on the disk show; "unknown" unless `is_still(arrival, now, patience)`.
        now: Time on the clock of `arrival.last_at`.
        patience: The waiting times.
    """
    silent_s = now - arrival.last_at
    all_released = arrival.associations > 0 and arrival.open_associations == 0 and not arrival.interrupted
    if stack == "announced" and is_still(arrival, now, patience):
        return Verdict(True, "announced")
    if stack != "unknown" and all_released:
        in_pieces = arrival.pause_s > 0 or patience.habit_s > 0
        if silent_s >= (patience.pieces_s(arrival.pause_s) if in_pieces else min(LINGER_S, patience.quiet_s)):
            return Verdict(True, "pieces" if in_pieces else "complete")
    awaited = arrival.awaited_since is not None and now - arrival.awaited_since < patience.idle_s
    if silent_s >= patience.quiet_s and not awaited:
        return Verdict(True, "quiet")
    return UNSETTLED


def is_still(arrival: Arrival, now: float, patience: Patience) -> bool:
    """Return whether the series has been still for so long that its stack may decide."""
    return now - arrival.last_at >= min(LINGER_S, patience.quiet_s)
