"""Several receivers of one node: what each has told the others of the series that are arriving there.

A TCP balancer may give the associations that bring one series to receivers on different machines. Each has the files
before it (the folder is shared), but not the others' associations. So each tick writes what its own receiver knows into
the table `arrivals`, and a series is judged by all of it together (`settle.together`); only by one receiver at a time,
and only when every receiver that is alive has told later than the series' last instance came. The C-STORE answer waits
for none of this. What a dead receiver had is adopted from the files.

Times are the database's clock in the table, and `time.monotonic` of this process outside it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from dicomnode.engine import hosts
from dicomnode.ledger.database import clock, transaction
from dicomnode.ledger.tables import arrivals as table
from dicomnode.ledger.tables import processes
from dicomnode.spool.spool import Arrival

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class OtherArrivals:
    """What the other receivers have told: their arrivals by series, and when the one that told longest ago did.

    `dead` are receivers whose series are nobody's.
    """

    arrivals: Mapping[str, list[Arrival]] = field(default_factory=dict)
    told_at: float = float("inf")
    dead: frozenset[str] = frozenset()


class Receivers(Protocol):
    """How one receiver knows of the others."""

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """Tell them what arrives here; -> what they told. Raises LedgerUnreachable."""

    def turn(self, series_uid: str) -> AbstractContextManager[bool]:
        """Whether this receiver may look at a series while the context lasts, and no other."""

    def bury(self, dead: frozenset[str]) -> None:
        """What these had is adopted."""


class SingleReceiver:
    """The only receiver there is: on SQLite."""

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """Nobody to tell."""
        del own
        return OtherArrivals()

    @contextmanager
    def turn(self, series_uid: str) -> Iterator[bool]:
        """Always."""
        del series_uid
        yield True

    def bury(self, dead: frozenset[str]) -> None:
        """Nobody."""


class SharedReceivers:
    """The receivers that share a PostgreSQL database; `name` is this one's executor."""

    def __init__(self, engine: sa.Engine, name: str, dead_after_s: float) -> None:
        self._engine = engine
        self._name = name
        self._dead_after_s = dead_after_s
        self._told: dict[str, Arrival] = {}
        self._good_since = time.monotonic()
        self._exchanged_at = self._good_since

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """One transaction: this receiver is alive, what changed here since, what the others wrote."""
        began = time.monotonic()
        if began - self._exchanged_at > self._dead_after_s / 2:
            self._good_since = began
        with transaction(self._engine) as connection:
            now = clock(connection)
            ago = time.monotonic() - now  # database's clock + ago = this process' monotonic clock
            hosts.beat(connection, self._name)
            self._write(connection, own, ago)
            told = self._read(connection, now, ago)
        self._told = dict(own)
        self._exchanged_at = time.monotonic()
        return told

    @contextmanager
    def turn(self, series_uid: str) -> Iterator[bool]:
        """By an advisory lock that ends with its transaction, however this process ends."""
        number = int.from_bytes(hashlib.sha256(series_uid.encode()).digest()[:8], signed=True)
        with transaction(self._engine) as connection:
            yield bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(number))).scalar_one())

    def bury(self, dead: frozenset[str]) -> None:
        """Their rows go; one that was only cut off writes new ones when it is back."""
        with transaction(self._engine) as connection:
            for one in dead:
                hosts.forget_receiver(connection, one)

    def _write(self, connection: sa.Connection, own: Mapping[str, Arrival], ago: float) -> None:
        """The rows of what changed here, and none of what is gone."""
        mine = table.c.receiver == self._name
        gone = set(self._told) - set(own)
        if not self._told:
            connection.execute(sa.delete(table).where(mine, table.c.series_instance_uid.not_in(set(own))))
        elif gone:
            connection.execute(sa.delete(table).where(mine, table.c.series_instance_uid.in_(gone)))
        for uid, arrival in own.items():
            if self._told.get(uid) == arrival:
                continue
            row = _row(arrival, ago)
            changing = sa.update(table).where(mine, table.c.series_instance_uid == uid).values(row)
            if not connection.execute(changing).rowcount:
                connection.execute(sa.insert(table).values(receiver=self._name, series_instance_uid=uid, **row))

    def _read(self, connection: sa.Connection, now: float, ago: float) -> OtherArrivals:
        """The others' rows; those of a receiver that is dead only as long as nobody may say so."""
        query = sa.select(processes).where(processes.c.role == "receive", processes.c.executor != self._name)
        alive_at = {row.executor: row.alive_at for row in connection.execute(query)}
        dead = frozenset(name for name, at in alive_at.items() if now - at > self._dead_after_s)
        if time.monotonic() - self._good_since <= self._dead_after_s:
            dead = frozenset()
        found: dict[str, list[Arrival]] = {}
        for row in connection.execute(sa.select(table).where(table.c.receiver.in_(set(alive_at) - dead))).mappings():
            found.setdefault(row["series_instance_uid"], []).append(_arrival(row, ago))
        told_at = min((at + ago for name, at in alive_at.items() if name not in dead), default=float("inf"))
        return OtherArrivals(found, told_at, dead)


def _row(one: Arrival, ago: float) -> dict[str, Any]:
    """The columns of an arrival."""
    return {
        "calling_ae": one.calling_ae,
        "first_at": one.first_at - ago,
        "last_at": one.last_at - ago,
        "begun_at": None if one.begun_at is None else one.begun_at - ago,
        "awaited_since": None if one.awaited_since is None else one.awaited_since - ago,
        "open_associations": one.open_associations,
        "associations": one.associations,
        "interrupted": one.interrupted,
        "pause_s": one.pause_s,
    }


def _arrival(row: sa.RowMapping, ago: float) -> Arrival:
    """The arrival of a row."""
    return Arrival(
        row["series_instance_uid"],
        frozenset(),
        row["calling_ae"],
        row["first_at"] + ago,
        row["last_at"] + ago,
        row["open_associations"],
        row["associations"],
        row["interrupted"],
        row["pause_s"],
        None if row["awaited_since"] is None else row["awaited_since"] + ago,
        None if row["begun_at"] is None else row["begun_at"] + ago,
    )
