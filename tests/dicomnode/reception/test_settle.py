"""Tests of the decision that a series is complete."""

import dataclasses
import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.reception.settle import LINGER_S, PAUSE_FACTOR, Patience, Stack, Verdict, merge, settled
from dicomnode.spool.spool import Arrival

NOW = 1000.0
QUIET_S = 30.0
GRACE_S = 10.0
IDLE_S = 60.0
PATIENCE = Patience(QUIET_S, GRACE_S, IDLE_S)
STACKS: tuple[Stack, ...] = ("unknown", "whole", "announced")


def arrival(
    still_s: float,
    open_associations: int = 0,
    associations: int = 1,
    interrupted: bool = False,
    pause_s: float = 0.0,
    awaited_s: float | None = None,
) -> Arrival:
    """Return a series whose last instance came `still_s` ago, over an open association `awaited_s` ago."""
    since = None if awaited_s is None else NOW - awaited_s
    return Arrival(
        "1.2", frozenset({"1"}), "MR", 0.0, NOW - still_s, open_associations, associations, interrupted, pause_s, since
    )


arrivals = st.builds(
    arrival,
    still_s=st.floats(0, 200),
    open_associations=st.integers(0, 5),
    associations=st.integers(0, 300),
    interrupted=st.booleans(),
    pause_s=st.floats(0, 100),
    awaited_s=st.none() | st.floats(0, 200),
)
patiences = st.builds(Patience, st.floats(0.1, 100), st.floats(0.1, 100), st.floats(1, 100), st.floats(0, 100))
stacks = st.sampled_from(STACKS)


def test_a_gap_free_stack_whose_sender_has_gone_is_complete() -> None:
    assert settled(arrival(LINGER_S), "whole", NOW, PATIENCE) == Verdict(True, "complete")


def test_an_open_association_keeps_a_gap_free_stack_waiting() -> None:
    assert not settled(arrival(10, open_associations=1, awaited_s=10), "whole", NOW, PATIENCE).settled


def test_a_stack_with_a_gap_waits_for_the_quiet_time() -> None:
    assert not settled(arrival(QUIET_S - 0.1), "unknown", NOW, PATIENCE).settled
    assert settled(arrival(QUIET_S), "unknown", NOW, PATIENCE) == Verdict(True, "quiet")


@pytest.mark.parametrize("open_associations", [0, 1, 3])
@pytest.mark.parametrize(("associations", "interrupted"), [(1, False), (1, True), (0, False), (80, False)])
def test_what_was_announced_needs_no_timer_and_no_association_to_close(
    open_associations: int, associations: int, interrupted: bool
) -> None:
    one = arrival(LINGER_S, open_associations, associations, interrupted, pause_s=3.0)
    assert settled(one, "announced", NOW, PATIENCE) == Verdict(True, "announced")
    assert not settled(arrival(LINGER_S - 0.1), "announced", NOW, PATIENCE).settled


@pytest.mark.parametrize(("associations", "interrupted"), [(1, True), (2, True), (0, False)])
def test_a_sender_that_was_cut_short_has_the_quiet_time_to_come_again(associations: int, interrupted: bool) -> None:
    waiting, over = (
        arrival(still_s, associations=associations, interrupted=interrupted) for still_s in (QUIET_S - 0.1, QUIET_S)
    )
    assert not settled(waiting, "whole", NOW, PATIENCE).settled
    assert settled(over, "whole", NOW, PATIENCE).reason == "quiet"


def test_a_sender_that_reconnects_at_once_does_not_split_its_series() -> None:
    assert not settled(arrival(LINGER_S / 2), "whole", NOW, PATIENCE).settled


def test_a_series_in_pieces_has_a_grace_and_longer_when_its_pauses_were_longer() -> None:
    for pause_s, wait_s in ((0.2, GRACE_S), (4.0, 4.0 * PAUSE_FACTOR), (20.0, QUIET_S)):
        for still_s, reason in ((wait_s - 0.1, None), (wait_s, "pieces")):
            assert settled(arrival(still_s, associations=80, pause_s=pause_s), "whole", NOW, PATIENCE).reason == reason


def test_a_sender_known_for_pieces_has_the_grace_from_its_first_piece_on() -> None:
    known = Patience(QUIET_S, GRACE_S, IDLE_S, habit_s=5.0)
    assert not settled(arrival(5.0 * PAUSE_FACTOR - 0.1), "whole", NOW, known).settled
    assert settled(arrival(5.0 * PAUSE_FACTOR), "whole", NOW, known).reason == "pieces"


def test_overlapping_associations_that_have_all_closed_are_one_piece() -> None:
    assert settled(arrival(LINGER_S, associations=4), "whole", NOW, PATIENCE).reason == "complete"


def test_a_silent_association_is_waited_for_until_the_receiver_ends_it() -> None:
    for stack in ("unknown", "whole"):
        slow = arrival(IDLE_S - 1, open_associations=1, awaited_s=IDLE_S - 1)
        assert not settled(slow, stack, NOW, PATIENCE).settled
        assert settled(arrival(IDLE_S, open_associations=1, awaited_s=IDLE_S), stack, NOW, PATIENCE).reason == "quiet"


def test_an_association_that_has_gone_on_to_another_series_is_not_waited_for() -> None:
    assert settled(arrival(QUIET_S, open_associations=1), "unknown", NOW, PATIENCE).reason == "quiet"


def test_a_sender_that_sends_again_what_is_there_is_alive_while_its_association_is() -> None:
    again = arrival(5 * QUIET_S, open_associations=1, awaited_s=1.0)
    assert not settled(again, "unknown", NOW, PATIENCE).settled
    assert settled(arrival(5 * QUIET_S), "unknown", NOW, PATIENCE).reason == "quiet"


def test_a_quiet_time_shorter_than_the_linger_is_obeyed() -> None:
    assert settled(arrival(0.1), "whole", NOW, Patience(0.1)).settled


@given(arrivals, stacks, patiences)
def test_every_series_settles_once_it_has_been_quiet_long_enough(
    one: Arrival, stack: Stack, patience: Patience
) -> None:
    heard_at = max(one.last_at, one.awaited_since or 0.0)
    assert settled(one, stack, heard_at + max(patience.quiet_s, patience.idle_s) * 1.001, patience).settled


@given(arrivals, stacks, patiences, st.floats(0, 100))
def test_what_is_settled_stays_settled_while_nothing_comes(
    one: Arrival, stack: Stack, patience: Patience, later_s: float
) -> None:
    if settled(one, stack, NOW, patience).settled:
        assert settled(one, stack, NOW + later_s, patience).settled


@given(arrivals, patiences)
def test_a_reason_is_given_exactly_when_a_series_is_settled(one: Arrival, patience: Patience) -> None:
    for stack, now in itertools.product(STACKS, (NOW, NOW + 50)):
        verdict = settled(one, stack, now, patience)
        assert verdict.settled == (verdict.reason is not None)


@given(arrivals, patiences)
def test_only_the_quiet_time_settles_a_stack_with_a_gap(one: Arrival, patience: Patience) -> None:
    assert settled(one, "unknown", NOW, patience).reason in (None, "quiet")
    if one.open_associations:
        assert settled(one, "whole", NOW, patience).reason in (None, "quiet")


@given(arrivals, patiences)
def test_more_evidence_never_delays(one: Arrival, patience: Patience) -> None:
    verdicts = [settled(one, stack, NOW, patience).settled for stack in STACKS]
    assert verdicts == sorted(verdicts)


def at(first_s: float, last_s: float, **more: Any) -> Arrival:
    """Return what one receiver saw of a series between two moments, over one association that was released."""
    plain = {"open_associations": 0, "associations": 1, "begun_at": first_s}
    return Arrival("1.2", frozenset(), "MR", first_s, last_s, **(plain | more))


def test_an_association_that_is_open_at_one_receiver_is_open_for_all() -> None:
    seen = merge(at(0, 5), [at(1, 4, open_associations=1, awaited_since=4.0)])
    assert (seen.open_associations, seen.associations, seen.awaited_since) == (1, 2, 4.0)
    assert not settled(seen, "whole", 10.0, PATIENCE).settled
    assert settled(merge(at(0, 5), [at(1, 4)]), "whole", 10.0, PATIENCE) == Verdict(True, "complete")


def test_what_was_lost_at_one_receiver_is_made_good_by_a_later_association_at_another() -> None:
    lost = at(0, 5, interrupted=True)
    assert merge(lost, [at(6, 8)]).interrupted is False
    assert merge(lost, [at(1, 4)]).interrupted is True
    assert merge(at(6, 8), [lost]).interrupted is False


def test_silence_between_two_receivers_is_a_pause_and_associations_that_overlap_are_one_piece() -> None:
    assert merge(at(0, 5), [at(9, 12)]).pause_s == 4
    assert merge(at(0, 5), [at(3, 12), at(7, 9)]).pause_s == 0
    assert merge(at(0, 5), [at(5.5, 6, pause_s=2.0)]).pause_s == 2


@given(st.lists(arrivals, min_size=1, max_size=4), st.randoms())
def test_what_receivers_know_together_does_not_depend_on_who_asks(seen: list[Arrival], random: Random) -> None:
    own, *others = seen
    shuffled = list(seen)
    random.shuffle(shuffled)
    one, other = merge(own, others), merge(shuffled[0], shuffled[1:])
    assert dataclasses.replace(one, calling_ae="") == dataclasses.replace(other, calling_ae="")
    assert one.last_at == max(arrival.last_at for arrival in seen)
    assert merge(own, []) == own
