"""The node's one database: its URL, its connections, and what a transaction is.

Every module that reaches the database does it by `transaction` or `reaching`: an outage is LedgerUnreachable
everywhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from psycopg.abc import Buffer
from psycopg.types.string import StrDumper

from dicomnode.config.peers import read_secret
from dicomnode.errors import LedgerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnode.config.load import Config


def database_url(config: Config) -> str:
    """SQLAlchemy's URL of the node's one database, ours and the engine's tables, with its password: not to be logged.

    Raises ConfigError when `database_password` names no password.
    """
    if config.database == "sqlite":
        return f"sqlite:///{config.node.data / 'node.sqlite'}"
    url = sa.make_url("postgresql+psycopg://" + config.database.split("://", 1)[1])
    if config.database_password is not None:
        url = url.set(password=read_secret(config.database_password, "database_password"))
    return url.render_as_string(hide_password=False)


def connect(url: str) -> sa.Engine:
    """An engine that is durable: SQLite with WAL, synchronous=FULL and patience for locks; PostgreSQL as it is.

    A PostgreSQL server that is cut off is given up after about 20 s, and so is a client that the server hears no more
    of: else its locks would stay for hours.
    """
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)
        sa.event.listen(engine, "connect", _durable)
        return engine
    engine = sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=_PATIENCE)
    sa.event.listen(engine, "connect", lambda connection, _: connection.adapters.register_dumper(str, _Plain))
    return engine


Then = Callable[[sa.Connection], None]
"""What the engine writes in the same transaction as a fact, usually one queue entry."""


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All or nothing; a database that does not answer is LedgerUnreachable."""
    with reaching(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """A database that does not answer is LedgerUnreachable."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise LedgerUnreachable(f"the database does not answer: {error.__cause__ or error}") from error


def clock(connection: sa.Connection) -> float:
    """Unix time by the database's clock, which is one for all machines."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())


class _Plain(StrDumper):
    """Text as PostgreSQL takes it: without NUL, which a destination's comment may hold, and without half characters."""

    def dump(self, obj: str) -> Buffer | None:
        """The text in UTF-8."""
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode())


_PATIENCE: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=20000 -c idle_in_transaction_session_timeout=60000",
}
"""libpq's and the server's time-outs, in seconds, milliseconds where they begin with tcp_user or end in timeout=."""


def _durable(connection: Any, _record: object) -> None:
    """SQLite pragmas of every new connection; IMMEDIATE lets writers queue instead of failing half-way."""
    connection.isolation_level = "IMMEDIATE"
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
