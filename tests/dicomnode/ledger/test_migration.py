"""A new database gets the tables; one that cannot be brought to this version is refused, and not a byte of it changes.

There is one revision so far. That a database of an earlier revision is brought up without losing a row is shown with a
second one, which the tests add: on SQLite and on PostgreSQL.
"""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomnode.errors import LedgerUnreachable, NewLedger, OldLedger
from dicomnode.ledger import migration
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.tables import metadata

FIRST = "0001"
SECOND = '''
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    """A column, a table, and a table that SQLite makes again."""
    op.add_column("deliveries", sa.Column("tomorrow", sa.Integer, nullable=True))
    with op.batch_alter_table("series") as batch:
        batch.alter_column("calling_ae", type_=sa.String(64), existing_type=sa.String(16), existing_nullable=False)
    op.create_table("future", sa.Column("id", sa.Integer, primary_key=True))
'''
DIE = """
import os, signal, sys
import sqlalchemy as sa
from dicomnode.ledger import migration
from dicomnode.ledger.ledger import Ledger

ledger = Ledger(sys.argv[1])

@sa.event.listens_for(ledger.engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if "CREATE TABLE deliveries" in statement or "CREATE TABLE future" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

migration.SCRIPTS = migration.Path(sys.argv[2])
ledger.create()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'node.sqlite'}"
    return str(request.getfixturevalue("postgresql_url")).replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture
def ledger(empty: str) -> Iterator[Ledger]:
    """A ledger on it."""
    made = Ledger(empty)
    yield made
    made.close()


@pytest.fixture
def contents(empty: str, request: pytest.FixtureRequest) -> Callable[[], object]:
    """All that is in the database: the bytes of SQLite's file, or PostgreSQL's dump."""
    if empty.startswith("sqlite"):
        return Path(empty.removeprefix("sqlite:///")).read_bytes
    name = empty.rpartition("/")[2]
    return lambda: request.getfixturevalue("postgres").dump(name)


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Becomes a version that has one revision more."""

    def upgrade() -> Path:
        scripts = tmp_path / "next" / "migrations"
        shutil.copytree(migration.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
        (scripts / "versions" / "r0002_next.py").write_text(SECOND)
        monkeypatch.setattr(migration, "SCRIPTS", scripts)
        return scripts

    return upgrade


def rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Table -> its rows."""
    with ledger.engine.connect() as connection:
        query = {table.name: sa.select(table) for table in metadata.sorted_tables}
        return {name: list(map(dict, connection.execute(one).mappings())) for name, one in query.items()}


def filled(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Something in the tables."""
    ledger.create()
    for number in range(3):
        ledger.arrived(f"1.2.{number}", "MR1", 4, time.time())
    return rows(ledger)


def shape(ledger: Ledger) -> dict[str, Any]:
    """Everything that the database says of our tables."""
    seen = sa.inspect(ledger.engine)
    told: dict[str, Any] = {}
    for name in sorted(set(seen.get_table_names()) - {"alembic_version"}):
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


def test_the_revisions_make_what_the_tables_say(ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    if ledger.engine.dialect.name != "sqlite":
        url = request.getfixturevalue("postgres").new_database().replace("postgresql:", "postgresql+psycopg:")
    described = Ledger(url)
    metadata.create_all(described.engine)
    ledger.create()
    assert set(shape(ledger)) == {table.name for table in metadata.sorted_tables}
    assert shape(ledger) == shape(described)
    described.close()


def test_a_database_of_this_version_stays_as_it_is(ledger: Ledger) -> None:
    before = filled(ledger)
    ledger.create()
    assert rows(ledger) == before


def refused(ledger: Ledger, contents: Callable[[], object], error: type[Exception], sentence: str) -> None:
    """This version refuses the database, and every byte is as it was."""
    ledger.close()
    before = contents()
    for _ in range(2):
        with pytest.raises(error, match=sentence):
            ledger.create()
        ledger.close()
    assert contents() == before


def test_tables_without_a_mark_are_refused_and_kept(ledger: Ledger, contents: Callable[[], object]) -> None:
    metadata.create_all(ledger.engine)
    refused(ledger, contents, OldLedger, "before 0.1.0.*let their jobs end.*name a new database")


@pytest.mark.parametrize("revision", ["9999", "0002"])
def test_a_newer_or_unknown_revision_is_refused_and_kept(
    ledger: Ledger, contents: Callable[[], object], revision: str
) -> None:
    filled(ledger)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    sentence = rf"newer version of sct-node \(its revision {revision}; this version knows 0001\).*upgrade this machine"
    refused(ledger, contents, NewLedger, sentence)


def killed(url: str, scripts: Path) -> None:
    """A process brings the database to this version, and is killed in the middle."""
    done = subprocess.run([sys.executable, "-c", DIE, url, str(scripts)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_process_that_dies_while_it_makes_the_tables_leaves_none(ledger: Ledger, empty: str) -> None:
    killed(empty, migration.SCRIPTS)
    assert sa.inspect(ledger.engine).get_table_names() == []
    filled(ledger)


def test_a_process_that_dies_while_it_upgrades_leaves_all_as_it_was(
    ledger: Ledger, empty: str, next_version: Callable[[], Path]
) -> None:
    before, looked = filled(ledger), shape(ledger)
    killed(empty, next_version())
    assert rows(ledger) == before
    assert shape(ledger) == looked
    ledger.create()
    assert rows(ledger) == before
    assert "future" in shape(ledger)


def test_an_earlier_revision_is_brought_up_and_no_row_is_lost(
    ledger: Ledger, tmp_path: Path, next_version: Callable[[], Path]
) -> None:
    before = filled(ledger)
    next_version()
    for _ in range(2):
        ledger.create()
        assert rows(ledger) == before
    assert "tomorrow" in {column[0] for column in shape(ledger)["deliveries"]["columns"]}
    if ledger.engine.dialect.name == "sqlite":
        kept = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}.before-{FIRST}")
        assert rows(kept) == before
        assert "future" not in shape(kept)
        kept.close()


def test_tables_that_do_not_fit_are_refused_and_kept(
    ledger: Ledger, contents: Callable[[], object], next_version: Callable[[], Path]
) -> None:
    filled(ledger)
    next_version()
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE future (something INTEGER)")
    refused(ledger, contents, OldLedger, "future.* already exists.*left as it was")


def test_several_that_start_at_once_upgrade_once(ledger: Ledger, empty: str, next_version: Callable[[], Path]) -> None:
    before, failed = filled(ledger), []
    next_version()
    ledgers = [Ledger(empty) for _ in range(4)]

    def create(ledger: Ledger) -> None:
        try:
            ledger.create()
        except Exception as error:  # noqa: BLE001, shown below
            failed.append(error)

    threads = [threading.Thread(target=create, args=(one,)) for one in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert rows(ledger) == before
    for one in ledgers:
        one.close()


def test_a_database_that_is_away_is_no_old_one(free_port: Callable[[], int]) -> None:
    ledger = Ledger(f"postgresql+psycopg://sct@127.0.0.1:{free_port()}/sct")
    with pytest.raises(LedgerUnreachable):
        ledger.create()
    ledger.close()
