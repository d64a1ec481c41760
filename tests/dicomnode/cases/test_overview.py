"""What the list of cases reads from the ledger, on both databases."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomnode.cases import overview
from dicomnode.cases.files import JobFactsCache
from dicomnode.cases.wording import tally
from dicomnode.ledger.database import connect
from dicomnode.ledger.ledger import Ledger
from dicomnode.web import case_list

Filled = tuple[Ledger, dict[str, str]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, filled: Callable[[Ledger], dict[str, str]]
) -> Iterator[Filled]:
    url = f"sqlite:///{tmp_path_factory.mktemp('overview') / 'node.sqlite'}"
    if request.param == "postgresql":
        own = request.getfixturevalue("postgres").new_database()
        url = own.replace("postgresql://", "postgresql+psycopg://")
    made = Ledger(url)
    yield made, filled(made)
    made.close()


def test_cases_are_counted_by_state_and_those_held_once_more(ledger: Filled) -> None:
    assert overview.counts(ledger[0].engine) == {
        "RECEIVING": 1,
        "RECEIVED": 1,
        "SYNTHESIZED": 2,
        "DELIVERED": 1,
        "REJECTED": 1,
        "HELD": 1,
    }


def test_the_newest_come_first_and_no_more_than_asked_for(ledger: Filled) -> None:
    engine, jobs = ledger[0].engine, ledger[1]
    assert [row.job for row in overview.newest(engine, "", 2)] == [jobs["failed"], jobs["rejected"]]
    assert [row.job for row in overview.newest(engine, "HELD", 9)] == [jobs["held"]]
    assert [row.job for row in overview.newest(engine, "DELIVERED", 9)] == [jobs["delivered"]]


def test_answers_counted_by_the_database_are_those_counted_one_by_one(ledger: Filled) -> None:
    diary = ledger[0]
    found = overview.delivery_statuses(diary.engine, diary.jobs())
    assert sorted(found) == sorted(ledger[1][name] for name in ("delivered", "held", "postponed"))
    for job, ways in found.items():
        assert [way.delivery for way in ways] == diary.deliveries(job)
        assert [way.counted for way in ways] == [tally(way.delivery, diary.receipts(job)) for way in ways]
    assert sorted(overview.last_taken(diary.engine)) == ["archive", "planning"]


def test_the_list_takes_as_many_questions_for_many_cases_as_for_few(
    tmp_path: Path, filled: Callable[[Ledger], dict[str, str]], came: Callable[..., str]
) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    filled(made)
    asked: list[str] = []
    sa.event.listen(made.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    known = JobFactsCache(tmp_path)
    few = len(case_list.case_rows(made, known, "")), len(asked)
    asked.clear()
    for number in range(20):
        came(made, f"1.3.{number}")
    asked.clear()
    many = len(case_list.case_rows(made, known, "")), len(asked)
    assert (few[0], many[0]) == (5, 25)
    assert few[1] == many[1]
    made.close()


def test_a_destination_that_lost_what_it_took_or_that_another_job_took_over_is_marked(
    tmp_path: Path, filled: Callable[[Ledger], dict[str, str]]
) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    jobs = filled(made)
    with connect(str(made.engine.url)).begin() as connection:
        connection.execute(sa.text("UPDATE receipts SET commitment = 274 WHERE destination = 'archive'"))
        connection.execute(sa.text("UPDATE deliveries SET withdrawn_at = 1 WHERE job = :job"), {"job": jobs["held"]})
    shown = {line.job.job: line for line in case_list.case_rows(made, JobFactsCache(tmp_path), "")}
    assert [one.kind for one in shown[jobs["delivered"]].destinations] == ["alarm", "done"]
    assert "3 LOST THERE" in shown[jobs["delivered"]].destinations[0].words
    assert {one.kind for one in shown[jobs["held"]].destinations} == {"withdrawn"}
    made.close()


def test_what_cannot_be_read_of_a_case_is_left_out(tmp_path: Path, filled: Any) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    jobs = filled(made)
    good = '{"scanner": "Demo 3T", "protocol": "t1", "findings": [{"name": "anatomy", "verdict": "review"}]}'
    for name, report in (("delivered", good), ("held", "[]"), ("postponed", "{")):
        (tmp_path / "out" / jobs[name]).mkdir(parents=True)
        (tmp_path / "out" / jobs[name] / "report.json").write_text(report)
    known = JobFactsCache(tmp_path)
    read = {name: known.of(made.job(job)) for name, job in jobs.items()}
    assert (read["delivered"].origin.scanner, read["delivered"].not_passing) == ("Demo 3T", ("anatomy",))
    assert {(one.origin.scanner, one.findings) for name, one in read.items() if name != "delivered"} == {("", 0)}
    made.close()
