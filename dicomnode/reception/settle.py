"""When is a series complete? Nobody is told; this module decides from evidence, and does no I/O.

    reason      evidence                                                                                waits after
    announced   its stack has no gap, and all that headers or a storage commitment request               LINGER_S
                announce is there
    complete    its stack has no gap, and every association that brought it has been released            LINGER_S
    pieces      the same, but it came in pieces, or its sender is known to bring series so     `Patience.pieces_s`
    quiet       nothing else: the last resort                                                 `Patience.quiet_s`

A piece ends when the last association that brings the series closes, and the next begins when another opens after that;
associations that overlap are one piece. The first piece of a stack may have no gap either (slices 1 to 40 of 80, in
order), and nothing tells it from a whole series: so a sender's habit is remembered, and what comes late after all is
made good by a job that supersedes the first (`dicomnode.ledger.superseding`).

Only `announced` and `quiet` hold for a series that was cut short (its association was aborted or lost and none has come
after it), and for one found on disk after our own end of which nobody has sent more since. An open association is
waited for as long as the receiver itself does, `Patience.idle_s`, unless it has gone on to another series.
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
"""What the files show: a gap, or nothing yet; a stack without a gap; the same, and all that was announced is there."""

LINGER_S: Final = 2.0
"""How long a series must have been still before anything else counts: senders reconnect within a second."""

PAUSE_FACTOR: Final = 4.0
"""A silence so many times as long as the longest pause so far is the end."""


def together(own: Arrival, others: Sequence[Arrival]) -> Arrival:
    """What several receivers know of one series; each has seen only the associations that came to it.

    An association that was lost at one receiver is made good by a later one at another, and the silence between the end
    at one and the beginning at another is a pause.
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
        pause_s=max(_pauses(every), default=0.0),
        awaited_since=max(awaited, default=None),
        begun_at=max(begun, default=None),
    )


def _pauses(every: Sequence[Arrival]) -> Iterator[float]:
    """The pauses that receivers saw, and those between what they saw."""
    yield from (one.pause_s for one in every)
    brought = sorted((one for one in every if one.associations > 0), key=lambda one: one.first_at)
    still_at = float("inf")
    for before, after in itertools.pairwise(brought):
        still_at = before.last_at if still_at == float("inf") else max(still_at, before.last_at)
        if before.open_associations == 0 and after.first_at > still_at:
            yield after.first_at - still_at


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    `quiet_s` without any other evidence; at least `grace_s` for a series in pieces; `idle_s` for a silent association;
    `habit_s` is the longest pause that the sender is known to make within a series, 0 for none.
    """

    quiet_s: float
    grace_s: float = 10.0
    idle_s: float = 60.0
    habit_s: float = 0.0

    def pieces_s(self, pause_s: float) -> float:
        """How long to wait for another piece after pauses up to `pause_s`: never longer than `quiet_s`."""
        return min(self.quiet_s, max(self.grace_s, PAUSE_FACTOR * max(pause_s, self.habit_s)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a series is settled, and the evidence that decided (None while it is not)."""

    settled: bool
    reason: Reason | None


UNSETTLED: Final = Verdict(False, None)


def settled(arrival: Arrival, stack: Stack, now: float, patience: Patience) -> Verdict:
    """Decide whether a series may be processed.

    `stack` is what all its instances on disk show, worth finding out only when `is_still(arrival, now, patience)`.
    `now` is of the same clock as `arrival.last_at`.
    """
    silent_s = now - arrival.last_at
    if stack == "announced" and is_still(arrival, now, patience):
        return Verdict(True, "announced")
    if stack != "unknown" and _all_finished(arrival):
        in_pieces = arrival.pause_s > 0 or patience.habit_s > 0
        if silent_s >= (patience.pieces_s(arrival.pause_s) if in_pieces else min(LINGER_S, patience.quiet_s)):
            return Verdict(True, "pieces" if in_pieces else "complete")
    if silent_s >= patience.quiet_s and not _awaited(arrival, now, patience):
        return Verdict(True, "quiet")
    return UNSETTLED


def is_still(arrival: Arrival, now: float, patience: Patience) -> bool:
    """Whether the series has been still for so long that its stack may decide."""
    return now - arrival.last_at >= min(LINGER_S, patience.quiet_s)


def _all_finished(arrival: Arrival) -> bool:
    """Every association that brought the series has been released, and there was one."""
    return arrival.associations > 0 and arrival.open_associations == 0 and not arrival.interrupted


def _awaited(arrival: Arrival, now: float, patience: Patience) -> bool:
    """Whether an open association may be about to bring more."""
    return arrival.awaited_since is not None and now - arrival.awaited_since < patience.idle_s
