"""The receivers of one node exchange what they know of the series that are arriving.

A TCP load balancer may distribute the associations that bring one series over receivers on different machines. They
share the folder of instances, but each sees only its own associations. So each tick writes what its own receiver knows
into the table `arrivals`, and a series is judged by everything together (`settle.merge`): by one receiver at a time,
and only when every receiver that is alive has written after the series' last instance came. The C-STORE answer does not
wait for this. The series of a dead receiver are adopted from the files.

Times in the table are those of the database's clock, and those of `time.monotonic` of this process outside it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from dicomnode.engine import hosts
from dicomnode.ledger.database import clock, transaction
from dicomnode.ledger.tables import arrivals as table
from dicomnode.ledger.tables import processes
from dicomnode.spool.spool import Arrival

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


_TIMES: Final = ("first_at", "last_at", "begun_at", "awaited_since")
_FACTS: Final = ("calling_ae", "open_associations", "associations", "interrupted", "pause_s")
"""Columns of an arrival that hold times, and the others."""


@dataclass(frozen=True, slots=True)
class OtherArrivals:
    """The knowledge of the other receivers.

    `arrivals` holds their arrivals by Series Instance UID, `exchanged_at` the time of the receiver that wrote longest
    ago, `dead` the receivers that do not live, so that their series must be adopted.
    """

    arrivals: Mapping[str, list[Arrival]] = field(default_factory=dict)
    exchanged_at: float = float("inf")
    dead: frozenset[str] = frozenset()


class Receivers(Protocol):
    """The way in which one receiver knows of the others."""

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """Publish what arrives here; return what the others published. Raises LedgerUnreachable."""

    def claim(self, series_uid: str) -> AbstractContextManager[bool]:
        """Return a context that gives True while this receiver, and no other, may work on a series."""

    def forget_dead(self, dead: frozenset[str]) -> None:
        """Remove receivers whose series were adopted."""


class SingleReceiver:
    """The only receiver of a node, as on SQLite."""

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """Return nothing: there are no other receivers."""
        del own
        return OtherArrivals()

    @contextmanager
    def claim(self, series_uid: str) -> Iterator[bool]:
        """Give True: a single receiver never has to wait."""
        del series_uid
        yield True

    def forget_dead(self, dead: frozenset[str]) -> None:
        """Do nothing: there are no other receivers."""


class SharedReceivers:
    """The receivers that share a PostgreSQL database; `name` is the executor of this one."""

    def __init__(self, engine: sa.Engine, name: str, dead_after_s: float) -> None:
        self._engine = engine
        self._name = name
        self._dead_after_s = dead_after_s
        self._published: dict[str, Arrival] = {}
        self._good_since = time.monotonic()
        self._exchanged_at = self._good_since

    def exchange(self, own: Mapping[str, Arrival]) -> OtherArrivals:
        """Write, in one transaction, that this receiver lives and what changed here; read what the others wrote."""
        began = time.monotonic()
        if began - self._exchanged_at > self._dead_after_s / 2:
            self._good_since = began
        with transaction(self._engine) as connection:
            now = clock(connection)
            offset_s = time.monotonic() - now  # database's clock + offset_s = this process' monotonic clock
            hosts.beat(connection, self._name)
            self._write(connection, own, offset_s)
            others = self._read(connection, now, offset_s)
        self._published = dict(own)
        self._exchanged_at = time.monotonic()
        return others

    @contextmanager
    def claim(self, series_uid: str) -> Iterator[bool]:
        """Claim a series by an advisory lock, which ends with its transaction, however this process ends."""
        number = int.from_bytes(hashlib.sha256(series_uid.encode()).digest()[:8], signed=True)
        with transaction(self._engine) as connection:
            yield bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(number))).scalar_one())

    def forget_dead(self, dead: frozenset[str]) -> None:
        """Delete the rows of dead receivers; one that was only cut off writes new ones when it is back."""
        with transaction(self._engine) as connection:
            for one in dead:
                hosts.forget_receiver(connection, one)

    def _write(self, connection: sa.Connection, own: Mapping[str, Arrival], offset_s: float) -> None:
        """Write the rows of series that changed here, and delete those of series that are gone."""
        mine = table.c.receiver == self._name
        gone = set(self._published) - set(own)
        if not self._published:
            connection.execute(sa.delete(table).where(mine, table.c.series_instance_uid.not_in(set(own))))
        elif gone:
            connection.execute(sa.delete(table).where(mine, table.c.series_instance_uid.in_(gone)))
        for uid, arrival in own.items():
            if self._published.get(uid) == arrival:
                continue
            row = {name: getattr(arrival, name) for name in _FACTS}
            row |= {name: _shifted(getattr(arrival, name), -offset_s) for name in _TIMES}
            changing = sa.update(table).where(mine, table.c.series_instance_uid == uid).values(row)
            if not connection.execute(changing).rowcount:
                connection.execute(sa.insert(table).values(receiver=self._name, series_instance_uid=uid, **row))

    def _read(self, connection: sa.Connection, now: float, offset_s: float) -> OtherArrivals:
        """Read the rows of the others; those of a dead receiver count until this process may call it dead."""
        query = sa.select(processes).where(processes.c.role == "receive", processes.c.executor != self._name)
        alive_at = {row.executor: row.alive_at for row in connection.execute(query)}
        dead = frozenset(name for name, at in alive_at.items() if now - at > self._dead_after_s)
        if time.monotonic() - self._good_since <= self._dead_after_s:
            dead = frozenset()
        found: dict[str, list[Arrival]] = {}
        for row in connection.execute(sa.select(table).where(table.c.receiver.in_(set(alive_at) - dead))).mappings():
            uid, values = row["series_instance_uid"], {name: row[name] for name in _FACTS}
            values |= {name: _shifted(row[name], offset_s) for name in _TIMES}
            found.setdefault(uid, []).append(Arrival(series_uid=uid, sop_uids=frozenset(), **values))
        exchanged_at = min((at + offset_s for name, at in alive_at.items() if name not in dead), default=float("inf"))
        return OtherArrivals(found, exchanged_at, dead)


def _shifted(at: float | None, by_s: float) -> float | None:
    """Return a time on another clock; None stays None."""
    return None if at is None else at + by_s
