"""The ledger: every fact is one transaction and one event, and impossible situations are impossible."""

import datetime
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomnode.errors import LedgerUnreachable, UnknownJob, WrongState
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan, job_key
from dicomnode.ledger.states import TRANSITIONS, JobEvent, State, state_picture
from dicomnode.ledger.tables import events, jobs, receipts
from dicomnode.receipt import Receipt

SERIES = "1.2.3"
MODEL = ("tiny", "a" * 64)
CONFIG = "b" * 64
PLAN = Plan(*MODEL, CONFIG)


def nothing(*_: object) -> None:
    """No queue entry."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    made.create()
    yield made
    made.close()


def received(ledger: Ledger, *uids: str) -> str:
    ledger.arrived(SERIES, "MR", len(uids) or 2, time.time())
    return ledger.received(SERIES, uids or ("1", "2"), PLAN, "complete", nothing)[0]


def synthesized(ledger: Ledger, *destinations: str) -> str:
    job = received(ledger)
    ledger.synthesized(job, "9.9", 2, destinations, None, nothing)
    return job


def answer(uid: str, status: int) -> Receipt:
    return Receipt(uid, status, datetime.datetime.now(datetime.UTC))


def test_sqlite_is_as_durable_as_it_can_be(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert [*values, connection.exec_driver_sql("PRAGMA foreign_keys").scalar()] == ["wal", 2, 1]


def test_a_series_is_receiving_until_a_job_takes_it(ledger: Ledger) -> None:
    ledger.arrived(SERIES, "MR", 1, time.time())
    ledger.arrived(SERIES, "MR", 2, time.time())
    assert [one.instances for one in ledger.receiving()] == [2]
    job, new = ledger.received(SERIES, ["2", "1"], PLAN, "complete", nothing)
    assert new
    assert not ledger.receiving()
    assert ledger.job(job).state is State.RECEIVED
    assert ledger.job(job).sop_instance_uids == ("1", "2")
    assert ledger.job_of(SERIES) == ledger.job(job)


def test_the_same_set_is_the_same_job_whatever_its_order(ledger: Ledger) -> None:
    job = received(ledger, "1", "2")
    entries: list[str] = []
    again = ledger.received(SERIES, ["2", "1"], PLAN, "quiet", lambda _, job: entries.append(job))
    assert again == (job, False)
    assert not entries
    assert len(ledger.events(job)) == 1


def test_a_job_key_differs_with_each_of_its_four_parts() -> None:
    keys = {
        job_key(series, uids, model, config)
        for series, uids, model, config in itertools.product(("1", "2"), (["a"], ["a", "b"]), "mn", "cd")
    }
    assert len(keys) == 16


def test_a_larger_set_is_a_job_that_supersedes_the_first(ledger: Ledger) -> None:
    first = received(ledger, "1", "2")
    ledger.arrived(SERIES, "MR", 3, time.time())
    assert [one.series_instance_uid for one in ledger.receiving()] == [SERIES]
    second = received(ledger, "1", "2", "3")
    assert second != first
    assert ledger.job(second).supersedes == first
    assert ledger.job_of(SERIES) == ledger.job(second)


def test_a_queue_entry_that_fails_takes_the_fact_back(ledger: Ledger) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no queue")

    ledger.arrived(SERIES, "MR", 2, time.time())
    with pytest.raises(RuntimeError):
        ledger.received(SERIES, ["1"], PLAN, "complete", fail)
    assert not ledger.jobs()
    job = received(ledger)
    with pytest.raises(RuntimeError):
        ledger.synthesized(job, "9.9", 2, ["a"], None, fail)
    assert ledger.job(job).state is State.RECEIVED
    assert not ledger.deliveries(job)


def test_a_job_is_delivered_when_every_destination_has_every_instance(ledger: Ledger) -> None:
    job = synthesized(ledger, "a", "b")
    ledger.answered(job, "a", [answer("x", 0), answer("y", 0xA700)])
    with pytest.raises(WrongState):
        ledger.delivered(job, "a")
    ledger.answered(job, "a", [answer("y", 0x0111)])
    assert not ledger.delivered(job, "a")
    ledger.answered(job, "b", [answer("x", 0xB007), answer("y", 0)])
    assert ledger.delivered(job, "b")
    assert ledger.job(job).state is State.DELIVERED
    assert [one.event for one in ledger.events(job)] == ["settled", "synthesized", "accepted", "accepted", "delivered"]


def test_an_answer_that_took_an_instance_is_never_overwritten(ledger: Ledger) -> None:
    job = synthesized(ledger, "a")
    ledger.answered(job, "a", [answer("x", 0xB000)])
    ledger.answered(job, "a", [answer("x", 0xA900)])
    assert [(one.status, one.taken, one.warning) for one in ledger.receipts(job)] == [(0xB000, True, True)]
    assert ledger.accepted_uids(job, "a") == {"x"}


def test_an_attempt_is_postponed_once(ledger: Ledger) -> None:
    job = synthesized(ledger, "a")
    due_at = time.time() + 60
    ledger.postponed(job, "a", 1, "a is down", due_at, nothing)
    with pytest.raises(WrongState):
        ledger.postponed(job, "a", 1, "a is down", due_at, nothing)
    (delivery,) = ledger.to_deliver()
    assert (delivery.attempt, delivery.sentence) == (2, "a is down")
    assert delivery.due_at.timestamp() == pytest.approx(due_at)


def test_a_failed_attempt_is_counted_once_and_a_release_begins_anew(ledger: Ledger) -> None:
    job = received(ledger)
    ledger.failed(job, 1, "MemoryError", "trace", nothing)
    with pytest.raises(WrongState):
        ledger.failed(job, 1, "MemoryError", "trace", nothing)
    ledger.held(job, "FAILED", "MemoryError", "trace")
    assert not ledger.to_synthesize()
    assert ledger.job(job).held == ledger.job(job).reason_sentence == "MemoryError"
    ledger.released(job, "more memory", nothing)
    row = ledger.job(job)
    assert (row.attempt, row.failures, row.held, row.reason_code) == (3, 0, None, None)
    assert ledger.to_synthesize() == [row]
    assert [one.words for one in ledger.events(job)][-1] == "more memory"


def test_a_job_held_by_a_finding_is_not_delivered_before_its_release(ledger: Ledger) -> None:
    job = received(ledger)
    entries: list[object] = []
    ledger.synthesized(job, "9.9", 2, ["a"], ("ANATOMY", "a head"), entries.append)
    assert not entries
    assert not ledger.to_deliver()
    ledger.released(job, "looked at", entries.append)
    assert len(entries) == len(ledger.to_deliver()) == 1


@pytest.mark.parametrize("state", [State.RECEIVED, State.SYNTHESIZED])
def test_only_a_held_job_is_released_or_refused(ledger: Ledger, state: State) -> None:
    job = received(ledger) if state is State.RECEIVED else synthesized(ledger, "a")
    with pytest.raises(WrongState):
        ledger.released(job, "why", nothing)
    with pytest.raises(WrongState):
        ledger.rejected_by_person(job, "why")
    ledger.held(job, "FINDING", "look")
    ledger.rejected_by_person(job, "no use")
    row = ledger.job(job)
    assert (row.state, row.reason_code, row.reason_sentence) == (State.REJECTED, "REJECTED_BY_PERSON", "no use")


def test_from_the_end_nothing_leads_anywhere(ledger: Ledger) -> None:
    job = received(ledger)
    ledger.rejected(job, "GAP", "a gap")
    steps: list[Callable[[], object]] = [
        lambda: ledger.synthesized(job, "9", 1, [], None, nothing),
        lambda: ledger.held(job, "X", "x"),
        lambda: ledger.released(job, "x", nothing),
        lambda: ledger.failed(job, 1, "x", "", nothing),
    ]
    for step in steps:
        with pytest.raises(WrongState):
            step()
    assert [one.event for one in ledger.events(job)] == ["settled", "rejected"]


@pytest.mark.parametrize(
    "impossible",
    [
        {"state": "DONE"},
        {"state": "RECEIVING"},
        {"state": "SYNTHESIZED"},
        {"state": "REJECTED"},
        {"held": "for no code"},
        {"reason_code": "GAP"},
        {"ct_series_uid": "9.9"},
        {"state": "DELIVERED", "ct_series_uid": "9.9", "ct_instances": 0},
        {"state": "REJECTED", "reason_code": "GAP", "reason_sentence": "gap", "held": "gap"},
    ],
)
def test_the_tables_refuse_an_impossible_job(ledger: Ledger, impossible: dict[str, object]) -> None:
    job = received(ledger)
    with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.job == job).values(impossible))


def test_the_tables_refuse_a_second_receipt_and_an_event_of_nothing(ledger: Ledger) -> None:
    job = synthesized(ledger, "a")
    ledger.answered(job, "a", [answer("x", 0)])
    with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
        connection.execute(sa.insert(receipts).from_select(list(receipts.c.keys()), sa.select(receipts)))
    row = {"at": 0.0, "event": "slept", "series_instance_uid": SERIES, "job": job, "state": "RECEIVED", "words": ""}
    with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
        connection.execute(sa.insert(events).values(row))


def test_a_job_is_found_by_its_first_characters(ledger: Ledger) -> None:
    job = received(ledger)
    assert ledger.job(job[:6]).job == job
    for unknown in ("", job[:5], "ffffffff", "%%%%%%"):
        with pytest.raises(UnknownJob):
            ledger.job(unknown)


def test_a_database_that_does_not_answer_is_named_as_such(tmp_path: Path) -> None:
    unreachable = Ledger(f"sqlite:///{tmp_path / 'absent' / 'node.sqlite'}")
    with pytest.raises(LedgerUnreachable, match="unable to open"):
        unreachable.jobs()
    unreachable.close()


def test_the_picture_shows_every_transition_of_the_table() -> None:
    picture = state_picture().splitlines()
    assert picture[0] == "stateDiagram-v2"
    arrows = dict(line.strip().split(": ") for line in picture if ": " in line)
    assert len(arrows) == 1 + len({(step.before, step.after) for step in TRANSITIONS})
    for step in TRANSITIONS:
        event = step.event.replace("_", " ") + (" (of a held job)" if step.held else "")
        assert event in arrows[f"{step.before} --> {step.after}"].split(", ")
    assert {step.event for step in TRANSITIONS} == set(JobEvent) - {JobEvent.ARRIVED}
    assert all(line.count(":") <= 1 for line in picture)
