"""The database of an earlier version of the node becomes one of this version, without losing a row (alembic).

    the database holds                   what happens
    no tables of ours                    the tables of `dicomnode.ledger.tables` are made, marked as the newest revision
    tables without a mark                they are those of revision 0001; older ones are an OldLedger
    an earlier revision                  every later one of migrations/versions/ runs
    a revision that is not known here    NewLedger: a newer version has been at work

All in one transaction, one process at a time: SQLite's write lock, or an advisory lock of PostgreSQL. A SQLite database
is copied beside itself first, as `node.sqlite.before-REVISION`. Revisions only add: while several machines are upgraded
one after another, processes of the version before go on working. What revisions make and what the schema says is the
same; a test compares.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from dicomnode.errors import NewLedger, OldLedger
from dicomnode.ledger.tables import jobs, metadata
from pipeline.durable_files import move_into_place

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST: Final = "0001"
SCRIPTS: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x5C7_0DE
"""Number of PostgreSQL's advisory lock."""


def migrate(engine: sa.Engine) -> str | None:
    """Bring the database to this version; -> the revision from which it was upgraded, None when nothing was to be done.

    Raises OldLedger, NewLedger, and changes nothing then.
    """
    scripts = ScriptDirectory(str(SCRIPTS))
    with _alone(engine) as connection:
        found = _revision(connection)
        if found is None:
            metadata.create_all(connection)
            MigrationContext.configure(connection).stamp(scripts, "head")
            return None
        if found == scripts.get_current_head():
            return None
        _known(found, scripts)
        _keep_a_copy(engine, found)
        _upgraded(connection, found)
        return found


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other process has beside it; on SQLite without foreign keys, which are checked at its end.

    SQLite cannot switch them off within a transaction, and a table that is made anew is missing for a moment.
    """
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            with connection.begin():
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
                yield connection
            return
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise OldLedger(f"a row of the database's table {broken[0]} refers to one that is not there")
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _revision(connection: sa.Connection) -> str | None:
    """The revision of the tables that are there; None when there are none."""
    marked = MigrationContext.configure(connection).get_current_revision()
    if marked is not None or not sa.inspect(connection).has_table(jobs.name):
        return marked
    return FIRST


def _known(found: str, scripts: ScriptDirectory) -> None:
    """Raise NewLedger for a revision of a newer version."""
    known = {script.revision for script in scripts.walk_revisions()}
    if found not in known:
        raise NewLedger(
            f"the database is of a newer version of sct-node (its revision {found}; this version knows {max(known)}): "
            "upgrade this machine, or start on the copy that was kept before"
        )


def _upgraded(connection: sa.Connection, found: str) -> None:
    """Run the revisions after `found`. Raises OldLedger when the rows, or the tables, do not fit."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS))
    if found == FIRST:
        command.stamp(config, FIRST)
    try:
        command.upgrade(config, "head")
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.OperationalError) as error:
        raise OldLedger(
            f"the database cannot be brought to this version: {error.orig}; it is left as it was; "
            "name a new database, or have its rows looked at"
        ) from error


def _keep_a_copy(engine: sa.Engine, found: str) -> None:
    """A copy of a SQLite database, beside it and durable, before anything is changed. OSError when there is no room."""
    if engine.dialect.name != "sqlite" or engine.url.database in (None, "", ":memory:"):
        return
    source = Path(str(engine.url.database))
    target = source.with_name(f"{source.name}.before-{found}")
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        return
    if shutil.disk_usage(source.parent).free < 2 * source.stat().st_size:
        raise OldLedger(f"no room for a copy of {source}, which is kept before it is brought to this version")
    part.unlink(missing_ok=True)
    with sqlite3.connect(source) as here, sqlite3.connect(part) as there:
        here.backup(there)
    here.close()
    there.close()
    move_into_place(part, target)
