"""Bring the database to the tables of this version, without losing a row (alembic).

    the database holds                   what happens
    no tables of ours                    every revision of migrations/versions/ runs
    an earlier revision                  every later one runs
    the newest revision                  nothing
    tables without a mark                OldLedger: they are of a state before 0.1.0
    a revision that is not known here    NewLedger: a newer version has been at work

All in one transaction, one process at a time: SQLite's write lock, or an advisory lock of PostgreSQL. So a process that
dies in the middle leaves the database as it was, and a database that is refused keeps every byte. A SQLite database is
copied beside itself before a revision runs, as `node.sqlite.before-REVISION`. Revisions only add: while several
machines are upgraded one after another, processes of the version before go on working. The revisions and
`dicomnode.ledger.tables` describe the same tables; a test compares them.
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
from dicomnode.ledger.tables import jobs
from pipeline.durable_files import move_into_place

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x5C7_0DE
"""Number of PostgreSQL's advisory lock."""


def migrate(engine: sa.Engine) -> str | None:
    """Bring the database to this version, or leave it exactly as it was.

    Returns:
        The revision from which it was upgraded; None when it was new, or there was nothing to do.

    Raises:
        OldLedger: Its tables or rows cannot be brought to this version.
        NewLedger: Its revision is not known here.
    """
    scripts = ScriptDirectory(str(SCRIPTS))
    head = scripts.get_current_head()
    with exclusive(engine) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == head:
            return None
        if found is None and sa.inspect(connection).has_table(jobs.name):
            raise OldLedger(
                "the database holds tables of a state before 0.1.0, which this version cannot bring up: "
                "let their jobs end with the version that made them, then name a new database"
            )
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise NewLedger(
                f"the database is of a newer version of sct-node (its revision {found}; this version knows {head}), or "
                "of a state before 0.1.0: upgrade this machine, start on the copy that was kept before, or name a new "
                "database"
            )
        if found is not None and engine.dialect.name == "sqlite":
            keep_a_copy(Path(str(engine.url.database)), found)
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        try:
            command.upgrade(config, "head")
        except (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.OperationalError) as error:
            raise OldLedger(
                f"the database cannot be brought to this version: {error.orig}; it is left as it was; "
                "name a new database, or have its rows looked at"
            ) from error
        return found


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction that no other process has beside it.

    On SQLite foreign keys are off meanwhile and checked at its end: alembic changes a table there by making it again,
    so that it is missing for a moment, and SQLite cannot switch foreign keys off within a transaction.
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


def keep_a_copy(source: Path, revision: str) -> None:
    """Copy a SQLite database beside itself, durably, unless that has been done; OldLedger where there is no room."""
    target = source.with_name(f"{source.name}.before-{revision}")
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
