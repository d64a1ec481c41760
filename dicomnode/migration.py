"""The tables of an earlier version of the node become those of this one, without losing a row.

SQLite cannot change a table's constraints, so a table whose definition differs is made anew and filled from the old one
(the procedure of https://www.sqlite.org/lang_altertable.html, section 7), all tables in one transaction. A column that
is new must be one that may be NULL or has a default in the schema. On PostgreSQL a difference is an OldLedger.
"""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from dicomnode.errors import OldLedger
from dicomnode.schema import metadata

_OLD: Final = "before_migration_"


def migrate(engine: sa.Engine) -> list[str]:
    """Bring the tables that are there to the schema of this version; -> the names of those that were changed.

    Raises OldLedger when their rows do not fit, and changes nothing then.
    """
    if engine.dialect.name != "sqlite":
        _same_columns(engine)
        return []
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
        try:
            return _rebuilt(connection)
        except sa.exc.IntegrityError as error:
            connection.rollback()
            raise OldLedger(f"the database's rows do not fit this version of the node: {error.orig}") from error
        finally:
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _rebuilt(connection: sa.Connection) -> list[str]:
    """Rebuild the tables that differ, in one transaction."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    old = [table for table in metadata.sorted_tables if _differs(connection, table)]
    for table in old:
        _rebuild(connection, table)
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        connection.rollback()
        raise OldLedger(f"a row of the database's table {broken[0]} refers to one that is not there")
    connection.commit()
    return [table.name for table in old]


def _differs(connection: sa.Connection, table: sa.Table) -> bool:
    """Whether a table is there and was made by another definition."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    found = connection.exec_driver_sql(query, (table.name,)).scalar_one_or_none()
    return found is not None and _plain(found) != _plain(str(CreateTable(table).compile(connection.engine)))


def _plain(definition: str) -> str:
    """A definition without what makes no difference."""
    return re.sub(r'[\s"]+', "", definition)


def _rebuild(connection: sa.Connection, table: sa.Table) -> None:
    """Make one table anew, filled from the old one; its indexes went with that."""
    old = _OLD + table.name
    there = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")  # other tables go on referring to the name
    connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {old}")
    for index in table.indexes:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
    table.create(connection)
    kept = [column.name for column in table.columns if column.name in there]
    connection.execute(
        table.insert().from_select(kept, sa.select(*(sa.column(name) for name in kept)).select_from(sa.table(old)))
    )
    connection.exec_driver_sql(f"DROP TABLE {old}")
    connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")


def _same_columns(engine: sa.Engine) -> None:
    """Raise OldLedger for a table that is there and lacks a column."""
    inspector = sa.inspect(engine)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)} if table.name in present else None
        lacking = [] if there is None else [column.name for column in table.columns if column.name not in there]
        if lacking:
            raise OldLedger(
                f"the database's table {table.name} is of an earlier version and lacks {', '.join(lacking)}; "
                "name a new database, or add the columns as deploy/CHANGELOG.md says"
            )
