"""When is a series complete?"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.settle import LINGER_S, Arrival, Verdict, may_be_complete, settled

NOW = 1000.0
QUIET_S = 30.0


def arrival(
    still_s: float, images: int = 100, open_associations: int = 0, associations: int = 1, interrupted: bool = False
) -> Arrival:
    """A series whose last instance came `still_s` ago."""
    uids = frozenset(f"1.2.{number}" for number in range(images))
    return Arrival("1.2", uids, "SCANNER", 0.0, NOW - still_s, open_associations, associations, interrupted)


arrivals = st.builds(
    arrival,
    still_s=st.floats(0, 200),
    images=st.integers(1, 300),
    open_associations=st.integers(0, 5),
    associations=st.integers(0, 300),
    interrupted=st.booleans(),
)


def test_a_gap_free_stack_whose_sender_has_gone_is_complete() -> None:
    assert settled(arrival(LINGER_S), True, NOW, QUIET_S) == Verdict(True, "complete")


def test_an_open_association_keeps_a_gap_free_stack_waiting() -> None:
    assert settled(arrival(10, open_associations=1), True, NOW, QUIET_S) == Verdict(False, None)


def test_a_stack_with_a_gap_waits_for_the_quiet_time() -> None:
    assert not settled(arrival(QUIET_S - 0.1), False, NOW, QUIET_S).settled
    assert settled(arrival(QUIET_S), False, NOW, QUIET_S) == Verdict(True, "quiet")


@pytest.mark.parametrize(("associations", "interrupted"), [(1, True), (2, True), (0, False)])
def test_a_sender_that_was_cut_short_has_the_quiet_time_to_come_again(associations: int, interrupted: bool) -> None:
    waiting, over = (
        arrival(still_s, associations=associations, interrupted=interrupted) for still_s in (QUIET_S - 0.1, QUIET_S)
    )
    assert not settled(waiting, True, NOW, QUIET_S).settled
    assert settled(over, True, NOW, QUIET_S).reason == "quiet"


def test_a_sender_that_reconnects_at_once_does_not_split_its_series() -> None:
    assert not settled(arrival(LINGER_S / 2), True, NOW, QUIET_S).settled


@pytest.mark.parametrize("images", range(2, 60))
def test_one_image_an_association_is_split_by_no_pause_shorter_than_the_quiet_time(images: int) -> None:
    growing = arrival(QUIET_S - 1, images=images, associations=images)
    assert not settled(growing, True, NOW, QUIET_S).settled


def test_a_single_object_in_a_single_association_is_complete() -> None:
    assert settled(arrival(LINGER_S, images=1), True, NOW, QUIET_S).reason == "complete"


def test_a_quiet_time_shorter_than_the_linger_is_obeyed() -> None:
    assert settled(arrival(0.1), True, NOW, 0.1).settled


@given(arrivals, st.booleans(), st.floats(0.1, 100))
def test_every_series_settles_once_it_has_been_quiet_long_enough(one: Arrival, complete: bool, quiet_s: float) -> None:
    assert settled(one, complete, one.last_at + quiet_s * 1.001, quiet_s).settled


@given(arrivals, st.booleans(), st.floats(0.1, 100), st.floats(0, 100))
def test_what_is_settled_stays_settled_while_nothing_comes(
    one: Arrival, complete: bool, quiet_s: float, later_s: float
) -> None:
    if settled(one, complete, NOW, quiet_s).settled:
        assert settled(one, complete, NOW + later_s, quiet_s).settled


@given(arrivals, st.floats(0.1, 100))
def test_a_reason_is_given_exactly_when_a_series_is_settled(one: Arrival, quiet_s: float) -> None:
    for complete, now in itertools.product((False, True), (NOW, NOW + 50)):
        verdict = settled(one, complete, now, quiet_s)
        assert verdict.settled == (verdict.reason is not None)


@given(arrivals, st.floats(0.1, 100))
def test_complete_is_never_said_of_a_stack_with_a_gap_or_of_an_open_association(one: Arrival, quiet_s: float) -> None:
    assert settled(one, False, NOW, quiet_s).reason != "complete"
    if one.open_associations:
        assert settled(one, True, NOW, quiet_s).reason != "complete"


@given(arrivals, st.floats(0.1, 100))
def test_the_stack_is_worth_looking_at_exactly_when_it_can_decide(one: Arrival, quiet_s: float) -> None:
    decides = settled(one, True, NOW, quiet_s).reason == "complete"
    assert may_be_complete(one, NOW, quiet_s) == decides
