"""What a person decides about a job, against a real ledger, real queues and a real destination."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dicomnode.engine import review
from dicomnode.engine.contract import delivery_id, synthesis_id
from dicomnode.errors import UnknownJob, WrongState
from dicomnode.ledger.rows import DeliveryRow, JobRow, Plan
from dicomnode.ledger.states import State

if TYPE_CHECKING:
    from tests.support.node import Bench

WHO: dict[str, str] = {"by": "cli:jane", "reason": "asked by phone"}
DECISIONS: dict[str, Callable[..., JobRow]] = {
    "release": review.release,
    "reject": review.reject,
    "retry": review.retry,
    "cancel": review.cancel,
    "resend": review.resend,
}


def received(b: Bench) -> str:
    """A second job, whose synthesis is due."""
    b.ledger.arrived("2.2", "MR", 1, time.time())
    return b.ledger.received("2.2", ["9"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)[0]


def delivered(b: Bench, planning: Any) -> None:
    with planning.up():
        assert b.attempt("planning").delivered_at is not None


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_delivery_that_waits_is_tried_at_once_and_its_older_queue_entry_does_nothing(
    bench: Callable[..., Bench], planning: Any
) -> None:
    slow = dataclasses.replace(planning.destination, retry_first_s=3600.0, retry_max_s=3600.0)
    b = bench(slow)
    assert b.attempt("planning").due_at.timestamp() > time.time() + 1000
    row = review.retry(b.ledger, b.queues, b.job, **WHO)
    delivery = b.delivery("planning")
    assert (row.state, delivery.attempt) == (State.SYNTHESIZED, 3)
    assert delivery.due_at.timestamp() <= time.time()
    assert b.queues.endings([delivery_id(b.job, "planning", 3)]).popitem()[1] == "waiting"
    with planning.up():
        b.deliveries.attempt(b.job, "planning", 2)
        assert not planning.instances()
        assert b.attempt("planning").delivered_at is not None
    event = next(one for one in b.ledger.events(b.job) if one.event == "retried")
    assert (event.by, event.words) == ("cli:jane", "asked by phone (to planning)")


def test_a_synthesis_that_waits_is_tried_at_once(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    job = received(b)
    row = review.retry(b.ledger, b.queues, job, **WHO)
    assert (row.state, row.attempt, row.failures) == (State.RECEIVED, 2, 0)
    assert b.queues.endings([synthesis_id(job, 2)]).popitem()[1] == "waiting"


def test_retry_releases_a_fault_of_the_node_and_never_what_a_person_must_look_at(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    b.ledger.held(b.job, "DELIVERY_FAILED", "the disk could not be read")
    assert review.retry(b.ledger, b.queues, b.job, **WHO).held is None
    b.ledger.held(b.job, "ANATOMY", "a head")
    with pytest.raises(WrongState, match="held for a person to look at, ANATOMY"):
        review.retry(b.ledger, b.queues, b.job, **WHO)
    assert b.ledger.job(b.job).held == "a head"


def test_a_cancelled_job_stops_between_two_instances_and_is_never_sent_again(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    with planning.up("--delay-s", "0.2"), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(b.attempt, "planning")
        while len(b.ledger.accepted_uids(b.job, "planning")) < 2:
            time.sleep(0.05)
        row = review.cancel(b.ledger, b.queues, b.job, **WHO)
        sending.result()
        taken = len(b.ledger.accepted_uids(b.job, "planning"))
        assert (row.state, row.reason_code) == (State.REJECTED, "CANCELLED_BY_PERSON")
        b.attempt("planning")
        assert len(planning.instances()) == taken < 12
    assert not b.ledger.to_deliver()
    assert b.ledger.events(b.job)[-1].by == "cli:jane"


def test_a_job_whose_last_instance_was_answered_when_it_was_cancelled_stays_cancelled(
    bench: Callable[..., Bench], planning: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(planning.destination)
    finish = b.deliveries._delivered

    def late(row: JobRow, delivery: DeliveryRow, uids: frozenset[str]) -> None:
        review.cancel(b.ledger, b.queues, b.job, **WHO)
        finish(row, delivery, uids)

    monkeypatch.setattr(b.deliveries, "_delivered", late)
    with planning.up():
        assert b.attempt("planning").delivered_at is None
    assert b.ledger.job(b.job).state is State.REJECTED


def test_a_delivered_job_is_sent_once_more_as_it_was_and_its_first_receipts_do_not_count(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    delivered(b, planning)
    sent = {path.name: path.read_bytes() for path in planning.folder.glob("*.dcm")}
    for path in planning.folder.glob("*.dcm"):
        path.unlink()
    row = review.resend(b.ledger, b.queues, b.job, **WHO)
    assert (row.state, b.delivery("planning").attempt) == (State.SYNTHESIZED, 2)
    assert b.ledger.accepted_uids(b.job, "planning") == frozenset()
    assert {one.taken for one in b.ledger.receipts(b.job)} == {True}  # until it answers anew
    with planning.up("--answers", "0000,A700,B000"):
        assert "10 of 12" not in b.attempt("planning").sentence
        assert len(b.ledger.accepted_uids(b.job, "planning")) == 11
        assert b.attempt("planning").delivered_at is not None
    assert b.ledger.job(b.job).state is State.DELIVERED
    assert {path.name: path.read_bytes() for path in planning.folder.glob("*.dcm")} == sent
    assert sorted(one.attempt or 0 for one in b.ledger.receipts(b.job)) == [2] * 11 + [3]
    facts = [one.event for one in b.ledger.events(b.job)]
    assert facts[2:] == ["accepted", "delivered", "resent", "postponed", "accepted", "delivered"]


def test_only_the_destination_that_is_named_gets_it_once_more(
    bench: Callable[..., Bench], planning: Any, free_port: Callable[[], int]
) -> None:
    second = dataclasses.replace(planning.destination, name="archive")
    b = bench(planning.destination, second)
    delivered(b, planning)
    with planning.up():
        b.attempt("archive")
    review.resend(b.ledger, b.queues, b.job, to=["archive"], **WHO)
    assert [one.destination for one in b.ledger.to_deliver()] == ["archive"]
    with pytest.raises(WrongState, match="does not go to tps, it goes to: archive, planning"):
        review.resend(b.ledger, b.queues, b.job, to=["tps"], **WHO)


@pytest.mark.parametrize(
    ("state", "right"),
    [
        ("waiting", {"retry", "cancel"}),
        ("computing", {"retry", "cancel"}),
        ("held", {"release", "reject"}),
        ("delivered", {"resend"}),
        ("rejected", set()),
        ("replaced", set()),
    ],
)
def test_a_decision_that_does_not_fit_changes_nothing_and_says_why(
    bench: Callable[..., Bench], planning: Any, state: str, right: set[str]
) -> None:
    b = bench(planning.destination)
    job = received(b) if state == "computing" else b.job
    if state in ("held", "rejected"):
        b.ledger.held(job, "ANATOMY", "a head")
    if state == "rejected":
        b.ledger.rejected_by_person(job, "no use", "cli:jane")
    if state in ("delivered", "replaced"):
        delivered(b, planning)
    if state == "replaced":
        b.ledger.arrived("1.2", "MR", 13, time.time())
        b.ledger.received("1.2", ["1", "2"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)
    before = b.ledger.job(job), b.ledger.events(job), b.ledger.deliveries(job)
    for name in sorted(set(DECISIONS) - right):
        with pytest.raises(WrongState, match=job[:12]):
            DECISIONS[name](b.ledger, b.queues, job, **WHO)
        assert (b.ledger.job(job), b.ledger.events(job), b.ledger.deliveries(job)) == before, name
    with pytest.raises(UnknownJob):
        review.resend(b.ledger, b.queues, "abcdef01", **WHO)
