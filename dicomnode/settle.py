"""When is a series complete? Nobody is told; this module decides from evidence, and does no I/O.

    reason      evidence
    complete    every association that brought the series is closed, and its stack has no gap
    quiet       nothing has come for `quiet_s`: the last resort, when completeness cannot be shown

The first half of a stack has no gap either, so a stack without a gap proves something only when its sender is known to
have finished. It is not, and only the quiet time counts, when
- the association was aborted or lost and none has come after it;
- the series was found on disk after our own end, and nobody has sent more of it since;
- each association brings a single image: such a sender is closed between any two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["complete", "quiet"]

LINGER_S: Final = 2.0
"""How long a series must have been still before closed associations count: senders reconnect within a second."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of one series in the spool that has not been handed over yet.

    Attributes: `series_uid`; `sop_uids` (the instances that came since it was last handed over; the spool lists all of
    them); `calling_ae` (the last sender's AE title, empty if unknown); `first_at` and `last_at` (seconds of
    `time.monotonic`, so that a step of the clock splits no series); `open_associations` (those that brought an instance
    of it and are neither released nor aborted nor lost); `associations` (how many have brought it in all; 0 for one
    found on disk); `interrupted` (one ended without a release, and none has begun to bring it after that).
    """

    series_uid: str
    sop_uids: frozenset[str]
    calling_ae: str
    first_at: float
    last_at: float
    open_associations: int
    associations: int
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a series is settled, and the evidence that decided (None while it is not)."""

    settled: bool
    reason: Reason | None


UNSETTLED: Final = Verdict(False, None)


def settled(arrival: Arrival, complete: bool, now: float, quiet_s: float) -> Verdict:
    """Decide whether a series may be processed.

    `complete`: the stack of all its instances on disk has no gap, by positions (`pipeline.series`); worth finding out
    only when `may_be_complete(arrival, now, quiet_s)`. `now` is of the same clock as `arrival.last_at`.
    """
    if complete and may_be_complete(arrival, now, quiet_s):
        return Verdict(True, "complete")
    if now - arrival.last_at >= quiet_s:
        return Verdict(True, "quiet")
    return UNSETTLED


def may_be_complete(arrival: Arrival, now: float, quiet_s: float) -> bool:
    """Whether the senders' behaviour allows the series to be complete, whatever its stack looks like."""
    still = now - arrival.last_at >= min(LINGER_S, quiet_s)
    return still and _all_finished(arrival) and not _one_image_an_association(arrival)


def _all_finished(arrival: Arrival) -> bool:
    """Every association that brought the series has been released, and there was one."""
    return arrival.associations > 0 and arrival.open_associations == 0 and not arrival.interrupted


def _one_image_an_association(arrival: Arrival) -> bool:
    """Each of several associations brought a single image."""
    return arrival.associations > 1 and arrival.associations >= len(arrival.sop_uids)
