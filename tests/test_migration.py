"""A database of an earlier version of the node goes on with this one, and loses nothing."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomnode.errors import OldLedger
from dicomnode.ledger import Ledger
from dicomnode.migration import migrate
from dicomnode.schema import Plan


@pytest.fixture
def old(tmp_path: Path) -> str:
    """The URL of a database without two columns and two words of this version, with a job, its events and a series."""
    url = f"sqlite:///{tmp_path / 'node.sqlite'}"
    ledger = Ledger(url)
    ledger.create()
    ledger.arrived("1.2", "MR", 2, time.time())
    ledger.received("1.2", ["1", "2"], Plan("tiny", "a" * 64, "b" * 64), "complete", lambda *_: None)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("PRAGMA writable_schema=ON")
        for table, word in (("jobs", "replaces VARCHAR(64), "), ("events", ", 'superseded', 'replaced'")):
            query = "SELECT sql FROM sqlite_master WHERE name = ?"
            sql = connection.exec_driver_sql(query, (table,)).scalar_one()
            indexes = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
            made = connection.exec_driver_sql(indexes, (table,)).scalars().all()
            columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns if name != "replaces")
            older = " ".join(sql.split()).replace(word, "")
            assert older != " ".join(sql.split())
            connection.exec_driver_sql(f"CREATE TABLE old AS SELECT {kept} FROM {table}")
            connection.exec_driver_sql(f"DROP TABLE {table}")
            connection.exec_driver_sql(older)
            connection.exec_driver_sql(f"INSERT INTO {table} ({kept}) SELECT {kept} FROM old")
            connection.exec_driver_sql("DROP TABLE old")
            for index in made:
                connection.exec_driver_sql(index)
        connection.commit()
    ledger.close()
    return url


def test_an_older_database_gets_the_columns_and_words_of_this_version_and_keeps_its_rows(old: str) -> None:
    ledger = Ledger(old)
    assert migrate(ledger.engine) == ["jobs", "events"]
    assert migrate(ledger.engine) == []
    ledger.create()
    (job,) = ledger.jobs()
    assert (job.sop_instance_uids, job.replaces) == (("1", "2"), None)
    assert [one.fact for one in ledger.events(job.job)] == ["settled"]
    ledger.arrived("1.2", "MR", 3, time.time())
    ledger.received("1.2", ["1", "2", "3"], Plan("tiny", "a" * 64, "b" * 64), "complete", lambda *_: None)
    assert [one.fact for one in ledger.events(job.job)] == ["settled", "superseded"]
    with ledger.engine.connect() as connection:
        indexes = sa.inspect(connection).get_indexes("jobs")
        assert {index["name"] for index in indexes} >= {"ix_jobs_state", "ix_jobs_series_instance_uid"}
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None
    ledger.close()


def test_rows_that_do_not_fit_are_told_and_the_database_is_left_as_it_was(old: str) -> None:
    ledger = Ledger(old)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        connection.exec_driver_sql("UPDATE jobs SET state = 'DREAMT'")
        connection.commit()
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=OFF")
    for _ in range(2):
        with pytest.raises(OldLedger, match="state_known"):
            ledger.create()
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT state FROM jobs").scalar() == "DREAMT"
        assert "replaces" not in {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(jobs)")}
    ledger.close()
