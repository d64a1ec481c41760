"""The node's one database: its URL, its connections and its transactions.

Every module reaches the database in one way, and an outage is LedgerUnreachable everywhere:

    fetch(engine, query)            one query that changes nothing
    with transaction(engine)        several statements, all or nothing
    with reaching()                 work of another library (alembic, the engine) on the same database

A function that takes a `connection` works inside a transaction that its caller has begun.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
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
    """Return SQLAlchemy's URL of the node's one database, with its password: it must not be logged.

    The database holds our tables and the engine's. Raises ConfigError when `database_password` names no password.
    """
    if config.database == "sqlite":
        return f"sqlite:///{config.node.data / 'node.sqlite'}"
    url = sa.make_url("postgresql+psycopg://" + config.database.split("://", 1)[1])
    if config.database_password is not None:
        url = url.set(password=read_secret(config.database_password, "database_password"))
    return url.render_as_string(hide_password=False)


def connect(url: str) -> sa.Engine:
    """Return an engine whose commits are durable: SQLite with WAL and synchronous=FULL; PostgreSQL as it is.

    Each side gives up a PostgreSQL connection that has been cut off after about 20 s: otherwise the locks of a lost
    client would stay for hours.
    """
    if url.startswith("sqlite"):
        engine = sa.create_engine(url)

        @sa.event.listens_for(engine, "connect")
        def durable(connection: Any, _record: object) -> None:
            connection.isolation_level = "IMMEDIATE"  # writers queue instead of failing half-way
            for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        return engine
    engine = sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=_PATIENCE)
    sa.event.listen(engine, "connect", lambda connection, _: connection.adapters.register_dumper(str, _Plain))
    return engine


Then = Callable[[sa.Connection], None]
"""Writes what an event calls for in the event's own transaction, usually one queue entry."""


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction, commit it at the end, roll it back on an error. Raises LedgerUnreachable."""
    with reaching(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """Raise LedgerUnreachable where the database does not answer."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise LedgerUnreachable(f"the database does not answer: {error.__cause__ or error}") from error


def fetch(engine: sa.Engine, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
    """Return the rows of one query. Raises LedgerUnreachable."""
    with transaction(engine) as connection:
        return connection.execute(query).mappings().all()


def clock(connection: sa.Connection) -> float:
    """Return the Unix time by the database's clock, which all machines share."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())


class _Plain(StrDumper):
    """Dumps text as PostgreSQL takes it: without NUL, which a comment may hold, and without surrogates."""

    def dump(self, obj: str) -> Buffer | None:
        """Encode the text in UTF-8."""
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
"""Time-outs of libpq and of the server: in milliseconds where the name begins with tcp_user or ends in _timeout of
`options`, else in seconds."""
