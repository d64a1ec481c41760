"""Several machines on one PostgreSQL database and one shared folder: which are alive, and who does a dead one's work.

Each process of a role writes about every BEAT_S that it is alive, by the database's clock. One that has been silent for
`hosts.dead_after_s` is dead: what it had begun goes back into the queues, for whoever is there. Only a process whose
own connection has been good for as long may judge so of another: after an outage of the database all look dead.

    the process that was thought dead     what happens
    is dead                               its jobs are done by others; doing it twice would be harmless
    was cut off and goes on computing     its result is the same series under the same UIDs; the first one stays
    was cut off while it sent             it stops at the next answer, which it cannot keep; UIDs are sent again
    comes back                            it is alive again, and takes new work

On SQLite there is one machine, and nothing here happens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dicomnode import log
from dicomnode.errors import LedgerUnreachable, StillAlive, UnknownHost
from dicomnode.ledger.database import clock, transaction
from dicomnode.ledger.tables import arrivals, processes

if TYPE_CHECKING:
    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger

BEAT_S: Final = 5.0
TAKE_OVER_LOCK: Final = 0x5C7_0DF
"""Number of PostgreSQL's advisory lock: one process at a time takes over."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that works on the database, or did; `executor` is host/role/number, last heard `silent_s` ago."""

    executor: str
    role: str
    silent_s: float

    @property
    def host(self) -> str:
        """Return the machine on which it runs."""
        return self.executor.split("/", 1)[0]


def known(engine: sa.Engine) -> list[Process]:
    """Return every process of a database that is alive, or dead without anybody having taken over its work, by name."""
    with transaction(engine) as connection:
        silent = (clock(connection) - processes.c.alive_at).label("silent_s")
        query = sa.select(processes.c.executor, processes.c.role, silent).order_by(processes.c.executor)
        return [Process(**row) for row in connection.execute(query).mappings()]


class KnownHosts:
    """Watches over the processes that share a database; `executor` is this one's name."""

    def __init__(self, ledger: Ledger, queues: Queues, dead_after_s: float, executor: str = "") -> None:
        self._engine = ledger.engine
        self._queues = queues
        self._executor = executor
        self._dead_after_s = dead_after_s
        self._good_since: float | None = None
        self._beaten_at = float("-inf")

    def tick(self) -> None:
        """Write that this process is alive, and take over what dead ones have left. Raises LedgerUnreachable.

        Silence on our own side, such as of a machine that slept, begins the wait from zero.
        """
        if time.monotonic() - self._beaten_at < BEAT_S:
            return
        try:
            with transaction(self._engine) as connection:
                beat(connection, self._executor)
        except LedgerUnreachable:
            self._good_since = None
            raise
        now = time.monotonic()
        if self._good_since is None or now - self._beaten_at > self._dead_after_s:
            self._good_since = now
        self._beaten_at = now
        if now - self._good_since > self._dead_after_s:
            self.take_over_dead()

    def known(self) -> list[Process]:
        """Return every process that is alive, or dead without anybody having taken over its work, by name."""
        return known(self._engine)

    def take_over(self, host: str, *, force: bool = False) -> int:
        """Put back into the queues what the processes of a machine had begun; -> how many attempts.

        Raises UnknownHost, and StillAlive when one of them was heard of within the limit, unless `force`.
        """
        of_host = [one for one in self.known() if one.host == host]
        left = [one for one in self._queues.begun_by() if one.split("/", 1)[0] == host]
        if not of_host and not left:
            names = ", ".join(sorted({one.host for one in self.known()})) or "none"
            raise UnknownHost(f"no machine {host!r} works on this database, or has left anything; known: {names}")
        alive = [one for one in of_host if one.silent_s < self._dead_after_s]
        if alive and not force:
            heard = f"{alive[0].executor} was heard of {alive[0].silent_s:.0f} s ago"
            raise StillAlive(f"{heard}; stop that machine first, or say --force")
        return self._take_over({*left, *(one.executor for one in of_host)})

    def take_over_dead(self) -> None:
        """Take over from every process that has been silent for too long; receivers take over receivers' series."""
        with transaction(self._engine) as connection:
            if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(TAKE_OVER_LOCK))).scalar_one():
                return
            dead = {one.executor for one in self.known() if one.silent_s > self._dead_after_s}
            if dead:
                self._take_over(dead)

    def _take_over(self, executors: set[str]) -> int:
        """Resume first, then forget: if this process dies between the two, another takes over again."""
        attempts = self._queues.take_back(executors)
        with transaction(self._engine) as connection:
            gone = processes.c.executor.in_(executors) & (processes.c.role != "receive")
            connection.execute(sa.delete(processes).where(gone))
        if attempts:
            log.event("host_taken_over", level="warning", executors=sorted(executors), attempts=attempts)
        return attempts


def beat(connection: sa.Connection, executor: str) -> None:
    """Write, within a transaction, that this process is alive."""
    now = clock(connection)
    again = sa.update(processes).where(processes.c.executor == executor).values(alive_at=now)
    if not connection.execute(again).rowcount:
        role = executor.split("/")[1]
        connection.execute(sa.insert(processes).values(executor=executor, role=role, alive_at=now))


def forget_receiver(connection: sa.Connection, executor: str) -> None:
    """Delete, within a transaction, a receiver whose arrivals another has taken."""
    connection.execute(sa.delete(arrivals).where(arrivals.c.receiver == executor))
    connection.execute(sa.delete(processes).where(processes.c.executor == executor))
