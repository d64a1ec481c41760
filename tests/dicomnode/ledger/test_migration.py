"""A database of the version before goes on with this one and loses nothing, on SQLite and on PostgreSQL.

`previous/*.sql` are databases as version 0.1.0 (commit 885f602) left them: jobs in every state, entries waiting in the
engine's queues. The engine's own tables are made by the engine.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomnode.commitment.requests import Commitments
from dicomnode.engine import review
from dicomnode.engine.queues import Queues, delivery_id, prepare, stop, synthesis_id, work_synthesize
from dicomnode.errors import LedgerUnreachable, NewLedger, OldLedger
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.migration import FIRST
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import commitments, conflicts, deliveries, events, instances, jobs, receipts, series

PREVIOUS = Path(__file__).parents[2] / "previous"
TABLES = (series, instances, conflicts, jobs, events, deliveries, receipts, commitments)

Row = dict[str, Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'node.sqlite'}"
    return str(request.getfixturevalue("postgresql_url")).replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture
def old(empty: str) -> Iterator[Ledger]:
    """A database of the version before."""
    ledger = Ledger(empty)
    prepare(ledger)
    script = (PREVIOUS / f"{ledger.engine.dialect.name}.sql").read_text()
    with ledger.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.executescript(script) if isinstance(raw, sqlite3.Connection) else raw.execute(script)
        raw.commit()
    yield ledger
    stop()
    ledger.close()


def rows(ledger: Ledger) -> dict[str, list[Row]]:
    """Table -> its rows with the columns of the version before, sorted."""
    script = (PREVIOUS / "sqlite.sql").read_text()
    found: dict[str, list[Row]] = {}
    with ledger.engine.connect() as connection:
        for table in TABLES:
            line = next(one for one in script.splitlines() if one.startswith(f"INSERT INTO {table.name} ("))
            columns = line.partition("(")[2].rstrip(")").split(", ")
            query = sa.text(f"SELECT {', '.join(columns)} FROM {table.name}")
            found[table.name] = sorted(map(dict, connection.execute(query).mappings()), key=str)
    return found


def shape(ledger: Ledger) -> dict[str, Any]:
    """Everything the database says of our tables."""
    seen = sa.inspect(ledger.engine)
    told: dict[str, Any] = {}
    for name in sorted(set(seen.get_table_names()) & {table.name for table in jobs.metadata.sorted_tables}):
        columns = [(one["name"], repr(one["type"]), one["nullable"], one["default"]) for one in seen.get_columns(name)]
        told[name] = {
            "columns": sorted(columns),
            "key": seen.get_pk_constraint(name)["constrained_columns"],
            "foreign": sorted(
                (one["constrained_columns"], one["referred_table"]) for one in seen.get_foreign_keys(name)
            ),
            "indexes": sorted((one["name"] or "", one["column_names"]) for one in seen.get_indexes(name)),
            "unique": sorted((one["name"] or "", one["column_names"]) for one in seen.get_unique_constraints(name)),
            "checks": sorted((one["name"] or "", one["sqltext"]) for one in seen.get_check_constraints(name)),
        }
    return told


def test_the_previous_version_left_jobs_in_every_state(old: Ledger) -> None:
    found = Counter((row["state"], row["held"] is not None) for row in rows(old)["jobs"])
    assert {state for state, _ in found} == {str(state) for state in State} - {"RECEIVING"}
    assert {state for state, held in found if held} == {"RECEIVED", "SYNTHESIZED"}
    assert any(row["job"] is None for row in rows(old)["series"])


def test_no_row_is_lost_and_none_is_changed(old: Ledger) -> None:
    before = rows(old)
    old.create()
    assert rows(old) == before
    old.create()
    assert rows(old) == before


def test_revisions_make_what_the_schema_says(old: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    if old.engine.dialect.name != "sqlite":
        url = request.getfixturevalue("postgres").new_database().replace("postgresql:", "postgresql+psycopg:")
    fresh = Ledger(url)
    fresh.create()
    old.create()
    assert shape(old) == shape(fresh)
    fresh.close()


def test_every_job_goes_on_and_what_waited_in_the_queues_is_taken_by_this_version(old: Ledger) -> None:
    old.create()
    prepare(old)
    queues = Queues(old)
    by_series = {one.series_instance_uid: one for one in reversed(old.jobs())}
    waiting = {synthesis_id(one.job, one.attempt) for one in old.to_synthesize()}
    waiting |= {delivery_id(one.job, one.destination, one.attempt) for one in old.to_deliver()}
    assert len(waiting) == 5
    assert set(queues.endings(waiting).values()) == {"waiting"}

    assert review.release(old, queues, by_series["1.2.4"].job, by="cli:jane", reason="looked").held is None
    assert (
        review.release(old, queues, by_series["1.2.6"].job, by="cli:jane", reason="looked").state is State.SYNTHESIZED
    )
    assert (
        review.release(old, queues, by_series["1.2.12"].job, by="cli:jane", reason="the first", use="first").held
        is None
    )
    assert [one.transaction_uid for one in Commitments(old.engine).waiting()] == ["2.25.771"]
    assert [one.series_instance_uid for one in old.receiving()] == ["1.2.1"]
    assert old.longest_pause_s("MR1") == 1.5

    seen: set[str] = set()
    work_synthesize(old, "node/synthesize/0", lambda job, attempt: seen.add(synthesis_id(job, attempt)))
    deadline = time.monotonic() + 60
    while not {name for name in waiting if name.startswith("synthesize")} <= seen and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {name for name in waiting if name.startswith("synthesize")} <= seen


def test_what_happened_after_is_written_as_before(old: Ledger) -> None:
    old.create()
    before = max(row["id"] for row in rows(old)["events"])
    old.arrived("1.2.99", "MR1", 1, time.time())
    assert max(row["id"] for row in rows(old)["events"]) == before + 1


def test_a_copy_of_a_sqlite_database_is_kept(old: Ledger) -> None:
    if old.engine.dialect.name != "sqlite":
        assert old.engine.url.database is not None
        return
    before = rows(old)
    old.create()
    kept = Ledger(f"sqlite:///{old.engine.url.database}.before-{FIRST}")
    assert rows(kept) == before
    assert "alembic_version" not in sa.inspect(kept.engine).get_table_names()
    kept.close()


def test_a_database_of_a_newer_version_is_refused_in_plain_words(empty: str) -> None:
    ledger = Ledger(empty)
    ledger.create()
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewLedger, match=r"newer version of sct-node .its revision 9999; .*upgrade this machine"):
        ledger.create()
    ledger.close()


def test_several_that_start_at_once_upgrade_once(old: Ledger) -> None:
    before, failed = rows(old), []
    ledgers = [Ledger(old.engine.url.render_as_string(hide_password=False)) for _ in range(4)]

    def create(ledger: Ledger) -> None:
        try:
            ledger.create()
        except Exception as error:  # noqa: BLE001, told below
            failed.append(error)

    threads = [threading.Thread(target=create, args=(one,)) for one in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert rows(old) == before
    for one in ledgers:
        one.close()


def test_tables_that_do_not_fit_are_told_and_left_as_they_were(old: Ledger) -> None:
    with old.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE arrivals (something INTEGER)")
    before = rows(old)
    for _ in range(2):
        with pytest.raises(OldLedger, match=r"arrivals.* already exists.*left as it was"):
            old.create()
    assert rows(old) == before
    assert "processes" not in sa.inspect(old.engine).get_table_names()


def test_a_database_that_is_away_is_no_old_one(free_port: Callable[[], int]) -> None:
    ledger = Ledger(f"postgresql+psycopg://sct@127.0.0.1:{free_port()}/sct")
    with pytest.raises(LedgerUnreachable):
        ledger.create()
    ledger.close()
