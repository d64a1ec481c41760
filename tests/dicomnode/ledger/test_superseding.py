"""More instances came after a job had taken a series: what becomes of that job, and what the new one replaces."""

import contextlib
import datetime
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.errors import WrongState
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow, Plan
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts, names_of, plain_uid
from dicomnode.receipt import Receipt

SERIES = "1.2.3"
DELIVERED, SYNTHESIZED, REJECTED = State.DELIVERED, State.SYNTHESIZED, State.REJECTED


def nothing(*_: object) -> None:
    """No queue entry."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    made.create()
    yield made
    made.close()


def received(ledger: Ledger, *uids: str) -> str:
    """A job of the series with these instances."""
    ledger.arrived(SERIES, "MR", len(uids), time.time())
    return ledger.received(SERIES, uids, Plan("tiny", "a" * 64, "b" * 64), "complete", nothing)[0]


def synthesized(ledger: Ledger, job: str, *destinations: str) -> None:
    ledger.synthesized(job, f"9.{job[:4]}", 2, destinations, None, nothing)


def deliver(ledger: Ledger, job: str, destination: str, instances: int = 2) -> None:
    """A destination takes instances; with both it has everything."""
    ledger.begin(job, destination)
    now = datetime.datetime.now(datetime.UTC)
    ledger.answered(job, destination, [Receipt(str(number), 0, now) for number in range(instances)])
    if instances == 2:
        ledger.delivered(job, destination)


def as_received(ledger: Ledger, job: str) -> None:
    """Nothing more."""


def as_held(ledger: Ledger, job: str) -> None:
    ledger.held(job, "FAILED", "three times")


def as_synthesized(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job, "a", "b")


def as_held_with_its_ct(ledger: Ledger, job: str) -> None:
    ledger.synthesized(job, "9.9", 2, ["a"], ("ANATOMY", "a head"), nothing)


def as_refused_by_its_destination(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job, "a")
    ledger.begin(job, "a")
    ledger.postponed(job, "a", 1, "refused all", time.time(), nothing, begun=False)


def as_finished_without_destination(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job)


def as_sent_in_part(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job, "a", "b")
    deliver(ledger, job, "a", instances=1)


def as_about_to_be_sent(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job, "a")
    ledger.begin(job, "a")


def as_delivered(ledger: Ledger, job: str) -> None:
    synthesized(ledger, job, "a")
    deliver(ledger, job, "a")


@pytest.mark.parametrize(
    ("reach", "state", "replaced"),
    [
        (as_received, REJECTED, False),
        (as_held, REJECTED, False),
        (as_synthesized, REJECTED, False),
        (as_held_with_its_ct, REJECTED, False),
        (as_refused_by_its_destination, REJECTED, False),
        (as_finished_without_destination, SYNTHESIZED, True),
        (as_about_to_be_sent, SYNTHESIZED, True),
        (as_sent_in_part, SYNTHESIZED, True),
        (as_delivered, DELIVERED, True),
    ],
)
def test_what_nobody_has_is_cancelled_and_what_somebody_may_have_is_replaced(
    ledger: Ledger, reach: Callable[[Ledger, str], None], state: State, replaced: bool
) -> None:
    first = received(ledger, "1", "2")
    reach(ledger, first)
    second = ledger.job(received(ledger, "1", "2", "3"))
    old = ledger.job(first)
    assert (old.state, old.held) == (state, None)
    assert (second.state, second.supersedes) == (State.RECEIVED, first)
    assert second.replaces == (old.ct_series_uid if replaced else None)
    assert ledger.events(first)[-1].event == ("replaced" if replaced else "superseded")
    if not replaced:
        assert old.reason_code == "SUPERSEDED"
        assert second.job[:12] in (old.reason_sentence or "")
        assert not ledger.to_deliver()


def test_what_is_cancelled_goes_no_further(ledger: Ledger) -> None:
    computing, sending = received(ledger, "1"), None
    received(ledger, "1", "2")
    with pytest.raises(WrongState):
        synthesized(ledger, computing, "a")
    sending = received(ledger, "1", "2", "3")
    synthesized(ledger, sending, "a")
    received(ledger, "1", "2", "3", "4")
    with pytest.raises(WrongState):
        ledger.begin(sending, "a")


def test_a_destination_that_had_nothing_yet_is_spared_the_old_series(ledger: Ledger) -> None:
    first = received(ledger, "1", "2")
    as_sent_in_part(ledger, first)
    received(ledger, "1", "2", "3")
    assert [one.destination for one in ledger.to_deliver()] == ["a"]
    with pytest.raises(WrongState):
        ledger.begin(first, "b")
    deliver(ledger, first, "a")
    assert ledger.job(first).state is DELIVERED


def test_a_series_that_only_others_wait_for_is_delivered_when_they_are_spared_it(ledger: Ledger) -> None:
    first = received(ledger, "1", "2")
    synthesized(ledger, first, "a", "b")
    deliver(ledger, first, "a")
    assert ledger.job(first).state is SYNTHESIZED
    received(ledger, "1", "2", "3")
    assert ledger.job(first).state is DELIVERED


def test_a_third_job_replaces_the_newest_that_was_sent(ledger: Ledger) -> None:
    first = received(ledger, "1")
    as_delivered(ledger, first)
    second = received(ledger, "1", "2")
    third = received(ledger, "1", "2", "3")
    assert ledger.job(second).reason_code == "SUPERSEDED"
    row: JobRow = ledger.job(third)
    assert (row.supersedes, row.replaces) == (second, ledger.job(first).ct_series_uid)
    as_delivered(ledger, third)
    fourth = ledger.job(received(ledger, "1", "2", "3", "4"))
    assert fourth.replaces == ledger.job(third).ct_series_uid != row.replaces


def test_a_held_job_that_was_sent_in_part_waits_for_its_person(ledger: Ledger) -> None:
    first = received(ledger, "1", "2")
    synthesized(ledger, first, "a", "b")
    deliver(ledger, first, "a")
    ledger.held(first, "DELIVERY_FAILED", "a folder is missing")
    received(ledger, "1", "2", "3")
    assert (ledger.job(first).state, ledger.job(first).reason_code) == (SYNTHESIZED, "DELIVERY_FAILED")
    ledger.released(first, "looked at", nothing)
    assert ledger.job(first).state is DELIVERED


def test_a_pause_between_pieces_is_remembered_of_a_sender_s_last_series(ledger: Ledger) -> None:
    assert ledger.longest_pause_s("MR") == 0.0
    ledger.arrived("1.1", "MR", 1, 100.0)
    ledger.arrived("1.1", "MR", 2, 110.0, 9.5)
    ledger.arrived("1.1", "MR", 3, 112.0, 1.5)
    ledger.arrived("1.2", "MR", 1, 120.0)
    ledger.arrived("1.3", "OTHER", 1, 120.0)
    assert [ledger.longest_pause_s(name) for name in ("MR", "OTHER")] == [9.5, 0.0]
    assert ledger.longest_pause_s("MR", of_last=1) == 0.0


def test_a_queue_entry_that_fails_takes_the_cancelling_back(ledger: Ledger) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no queue")

    first = received(ledger, "1", "2")
    as_synthesized(ledger, first)
    ledger.arrived(SERIES, "MR", 3, time.time())
    with pytest.raises(RuntimeError):
        ledger.received(SERIES, ["1", "2", "3"], Plan("tiny", "a" * 64, "b" * 64), "complete", fail)
    assert [one.job for one in ledger.jobs()] == [first]
    assert (ledger.job(first).state, ledger.job(first).superseded_by) == (SYNTHESIZED, None)
    ledger.begin(first, "a")


STEPS = (
    "late",
    "synthesize",
    "hold",
    "release",
    "begin",
    "part",
    "refuse",
    "deliver a",
    "deliver b",
    "conflict",
    "use",
)


def step(ledger: Ledger, what: str) -> None:
    """Something that may happen to the newest job, or to any that is being sent."""
    (newest, *_) = ledger.jobs()
    job, known = newest.job, newest.sop_instance_uids
    late = [plain_uid(name) for name in known] + [str(len(known))]
    destination = what[-1]
    being_sent = [one.job for one in ledger.deliveries(job) if one.open]
    match what:
        case "late":
            names = names_of(late, Conflicts(ledger.engine).of(SERIES))
            received(ledger, *names)
        case "synthesize":
            as_synthesized(ledger, job)
        case "hold":
            ledger.held(job, "FAILED", "three times")
        case "release":
            ledger.released(job, "why", nothing)
        case "begin":
            ledger.begin(job, "a")
        case "part":
            deliver(ledger, job, "b", instances=1)
        case "refuse":
            ledger.rejected_by_person(job, "why")
        case "conflict":
            Conflicts(ledger.engine).found(SERIES, late[:-1], [f"0~{len(ledger.events(job)):012}"])
        case "use":
            Conflicts(ledger.engine).decide(job, "last", "why", nothing, lambda _: nothing)
        case _ if being_sent:
            deliver(ledger, job, destination)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=4, max_size=14))
def test_whatever_happens_one_job_stands_and_what_was_sent_is_never_cancelled(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/node.sqlite")
        ledger.create()
        received(ledger, "0")
        for what in steps:
            with contextlib.suppress(WrongState):
                step(ledger, what)
            newest, *earlier = ledger.jobs()
            sent = [one for one in earlier if any(to.begun_at for to in ledger.deliveries(one.job))]
            assert newest.reason_code != "SUPERSEDED"
            assert {one.job for one in ledger.to_synthesize()} <= {newest.job}
            assert all(one.reason_code != "SUPERSEDED" for one in sent)
            assert all(one.state is REJECTED for one in earlier if one not in sent)
            assert newest.replaces == (sent[0].ct_series_uid if sent else None)
        ledger.close()
