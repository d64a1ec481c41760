"""A SOP Instance UID that stands for two things: the job is held until a person says which is used."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.errors import WrongState
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts

SERIES = "1.2.3"


class Entries:
    """Queue entries as they are asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def entry(self, name: str) -> Callable[..., None]:
        return lambda *_: self.made.append(name)


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    made.create()
    yield made
    made.close()


@pytest.fixture
def conflicts(ledger: Ledger) -> Conflicts:
    return Conflicts(ledger.engine)


def received(ledger: Ledger, entries: Entries, *names: str, series: str = SERIES) -> str:
    ledger.arrived(series, "MR", len(names), time.time())
    then = lambda _, job: entries.made.append(job)  # noqa: E731
    return ledger.received(series, names, Plan("tiny", "a" * 64, "b" * 64), "complete", then)[0]


def test_a_contradiction_before_the_job_holds_it_when_it_is_made(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    found = conflicts.found(SERIES, ["1", "2"], ["2~ab"])
    assert ([one.name for one in found.new], found.held) == (["2~ab"], None)
    job = ledger.job(received(ledger, entries, "1", "2"))
    assert (job.state, job.reason_code) == (State.RECEIVED, "CONFLICTING_INSTANCES")
    assert job.held == (
        "SOP instance 2 came again with different content; all are kept, and release takes --use first or --use last"
    )
    assert not entries.made
    assert not ledger.to_synthesize()


def delivered(ledger: Ledger, job: str) -> None:
    ledger.synthesized(job, "9.9", 1, ["a"], None, lambda _: None)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'DELIVERED'")


def synthesized(ledger: Ledger, job: str) -> None:
    ledger.synthesized(job, "9.9", 1, ["a"], None, lambda _: None)


def held(ledger: Ledger, job: str) -> None:
    ledger.synthesized(job, "9.9", 1, ["a"], ("ANATOMY", "a head"), lambda _: None)


@pytest.mark.parametrize("reach", [lambda *_: None, synthesized, held, delivered])
def test_a_contradiction_after_the_job_holds_it_wherever_it_is(
    ledger: Ledger, conflicts: Conflicts, entries: Entries, reach: Callable[[Ledger, str], None]
) -> None:
    job = received(ledger, entries, "1", "2")
    reach(ledger, job)
    state = ledger.job(job).state
    assert conflicts.found(SERIES, ["1", "2"], ["2~ab"]).held == job
    row = ledger.job(job)
    assert (row.state, row.reason_code) == (state, "CONFLICTING_INSTANCES")
    assert ("ANATOMY: a head" in (row.held or "")) == (reach is held)
    assert not ledger.to_deliver()
    assert conflicts.found(SERIES, ["1", "2"], ["2~ab"]).new == ()
    with pytest.raises(WrongState, match="say which to use"):
        ledger.released(job, "why", lambda _: None)
    assert conflicts.decide(job, "first", "the rest", entries.entry("on"), entries.entry) == job
    assert (ledger.job(job).state, ledger.job(job).held) == (state, None)
    assert entries.made == [job, "on"]


def test_what_is_not_about_the_job_s_instances_does_not_hold_it(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    job = received(ledger, entries, "1", "2")
    assert conflicts.found(SERIES, ["1", "2", "3"], ["3~ab"]).held is None
    assert ledger.job(job).held is None


def test_the_last_content_is_another_job_that_takes_the_place_of_the_first(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    first = received(ledger, entries, "1", "2")
    conflicts.found(SERIES, ["1", "2"], ["2~ab"])
    conflicts.found(SERIES, ["1", "2"], ["2~ab", "2~99"])
    second = conflicts.decide(first, "last", "shown at the console", entries.entry("on"), entries.entry)
    assert entries.made == [first, second]
    assert ledger.job(second).sop_instance_uids == ("1", "2~99")
    assert (ledger.job(first).state, ledger.job(first).reason_code) == (State.REJECTED, "SUPERSEDED")
    assert ledger.job_of(SERIES) == ledger.job(second)
    assert ledger.job(second).calling_ae == "MR"
    assert "shown at the console" in ledger.events(second)[0].words
    assert [one.chosen for one in conflicts.of(SERIES)] == ["2~99", "2~99"]


def test_a_decided_contradiction_does_not_hold_the_next_job(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    conflicts.found(SERIES, ["1", "2"], ["2~ab"])
    job = received(ledger, entries, "1", "2")
    job = conflicts.decide(job, "last", "why", entries.entry("on"), entries.entry)
    later = received(ledger, entries, "1", "2~ab", "3")
    assert ledger.job(later).held is None
    assert ledger.job(later).supersedes == job


def test_a_choice_is_only_taken_for_a_contradiction(ledger: Ledger, conflicts: Conflicts, entries: Entries) -> None:
    job = received(ledger, entries, "1", "2")
    for _ in range(2):
        with pytest.raises(WrongState, match="no --use"):
            conflicts.decide(job, "first", "why", entries.entry("on"), entries.entry)
        if not ledger.job(job).held:
            ledger.held(job, "FAILED", "three times")


def test_the_same_uid_in_another_series_holds_the_job_of_the_later_one(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    conflicts.found(SERIES, ["1", "2"], [])
    earlier = received(ledger, entries, "1", "2")
    found = conflicts.found("7.7", ["2", "3"], [])
    assert [(one.sop_instance_uid, one.other_series) for one in found.new] == [("2", SERIES)]
    later = received(ledger, entries, "2", "3", series="7.7")
    assert "SOP instance 2 belongs to series 1.2.3 too" in (ledger.job(later).held or "")
    assert ledger.job(earlier).held is None
    assert conflicts.found(SERIES, ["1", "2", "4"], []).new == ()
    assert conflicts.decide(later, "first", "a copy", entries.entry("on"), entries.entry) == later
    assert entries.made == [earlier, "on"]


def test_many_contradictions_are_counted_rather_than_listed(
    ledger: Ledger, conflicts: Conflicts, entries: Entries
) -> None:
    uids = [f"4.{number:03}" for number in range(1200)]
    conflicts.found(SERIES, uids, [])
    assert len(conflicts.found("7.7", uids, []).new) == 1200
    job = ledger.job(received(ledger, entries, *uids, series="7.7"))
    assert "4.004 belongs to series 1.2.3 too; 1195 more belong to other series" in (job.held or "")
    assert conflicts.seen() == {SERIES: 1200, "7.7": 1200}
