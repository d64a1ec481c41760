"""Tests of attempts to deliver, with a real ledger, spool, queues and destination, without processes of the node."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dicomnode.delivery.attempt import Offer
from dicomnode.engine import review
from dicomnode.engine.contract import delivery_id
from dicomnode.errors import WrongState
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts

if TYPE_CHECKING:
    from tests.support.node import Bench


def test_a_destination_that_takes_everything_has_it_delivered(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    with planning.up():
        assert b.attempt("planning").delivered_at is not None
    assert b.ledger.job(b.job).state is State.DELIVERED
    assert len(planning.instances()) == 12


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)  # pynetdicom
def test_a_destination_that_is_down_is_tried_again_later_and_delays_no_other(
    bench: Callable[..., Bench], planning: Any, free_port: Callable[[], int]
) -> None:
    down = dataclasses.replace(planning.destination, name="down", port=free_port())
    b = bench(planning.destination, down)
    delivery = b.attempt("down")
    assert (delivery.attempt, delivery.delivered_at) == (2, None)
    assert "cannot be reached" in delivery.sentence
    assert delivery.due_at.timestamp() > time.time()
    assert b.queues.endings([delivery_id(b.job, "down", 2)]) == {f"deliver:{b.job}:down:2": "waiting"}
    with planning.up():
        assert b.attempt("planning").delivered_at is not None
    assert b.ledger.job(b.job).state is State.SYNTHESIZED


def test_only_what_was_refused_is_sent_again(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    with planning.up("--answers", "0000,A700,B000,0111,C000"):
        assert "refused 1 with status 0xA700, refused 1 with status 0xC000; 10 of 12" in b.attempt("planning").sentence
        taken = len(b.ledger.accepted_uids(b.job, "planning"))
        assert b.attempt("planning").delivered_at is not None
    statuses = sorted(one.status for one in b.ledger.receipts(b.job))
    assert (taken, statuses) == (10, [0] * 10 + [0x0111, 0xB000])


def test_a_destination_that_is_no_longer_configured_waits(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination, known=("gone",))
    delivery = b.attempt("gone")
    assert delivery.attempt == 2
    assert "no destination 'gone'" in delivery.sentence


def test_a_folder_that_is_missing_is_our_fault_and_is_held_after_three_tries(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    shutil.rmtree(b.spool.outbox / b.job)
    for _ in range(3):
        b.attempt("planning")
    row = b.ledger.job(b.job)
    assert (row.state, row.reason_code) == (State.SYNTHESIZED, "DELIVERY_FAILED")
    assert "Traceback" in b.ledger.events(b.job)[-1].words
    assert not b.ledger.to_deliver()


def test_an_attempt_that_is_not_due_sends_nothing(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    with planning.up():
        b.deliveries.attempt(b.job, "planning", 2)
        b.deliveries.attempt(b.job, "other", 1)
        assert not planning.instances()
        b.attempt("planning")
        b.attempt("planning")
    assert [one.event for one in b.ledger.events(b.job)].count("accepted") == 1


def test_a_delivery_without_a_workflow_is_put_back_into_the_queue(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    b.deliveries.reconcile()
    assert b.delivery("planning").attempt == 1
    with b.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM workflow_status")
    b.deliveries.reconcile()
    b.deliveries.reconcile()
    assert b.delivery("planning").attempt == 2
    assert b.queues.endings([delivery_id(b.job, "planning", 2)]) == {f"deliver:{b.job}:planning:2": "waiting"}


def test_a_job_held_while_it_is_sent_stops_and_goes_on_from_there_when_it_is_released(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    conflicts = Conflicts(b.ledger.engine)
    with planning.up("--delay-s", "0.2"), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(b.attempt, "planning")
        while len(b.ledger.accepted_uids(b.job, "planning")) < 2:
            time.sleep(0.05)
        assert conflicts.found("1.2", ["1"], ["1~0123456789ab"]).held == b.job
        sending.result()
    taken = len(b.ledger.accepted_uids(b.job, "planning"))
    assert 2 <= taken < 12
    assert (b.delivery("planning").attempt, b.delivery("planning").delivered_at) == (1, None)
    review.release(b.ledger, b.queues, b.job, by="me", reason="the first is right", use="first")
    with planning.up():
        assert b.attempt("planning").delivered_at is not None
    assert b.ledger.job(b.job).state is State.DELIVERED


def test_a_destination_counts_as_begun_only_when_it_may_have_something(
    bench: Callable[..., Bench], planning: Any
) -> None:
    b = bench(planning.destination)
    assert b.attempt("planning").begun_at is None  # it is down
    with planning.up("--answers", ",".join(["A700"] * 12)):
        assert b.attempt("planning").begun_at is None
    with planning.up("--answers", ",".join(["A700"] * 11)):
        assert b.attempt("planning").begun_at is not None


def test_a_superseded_job_is_sent_no_more(bench: Callable[..., Bench], planning: Any) -> None:
    b = bench(planning.destination)
    b.ledger.arrived("1.2", "MR", 13, time.time())
    row = b.ledger.job(b.job)
    plan = Plan(row.model, row.model_digest, row.configuration_digest)
    larger, _ = b.ledger.received("1.2", ["1", "2"], plan, "test", lambda *_: None)
    offer = Offer(b.ledger, b.job, "planning")
    with planning.up():
        with pytest.raises(WrongState):
            b.deliveries._send(row, b.delivery("planning"), offer)
        assert not planning.instances()
    assert (offer.instances, b.ledger.job(b.job).superseded_by) == (0, larger)
