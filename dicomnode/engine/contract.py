"""The contract between the ledger and the engine that hands out its work, whatever engine that is.

The ledger's and the spool's keys make it harmless to do work twice, so they need little of an engine:

    asked                                    the engine
    twice for the same attempt               does it once: its name is the job, the destination and the attempt
    inside a transaction of ours             asks with it, and forgets it when the transaction is rolled back
    for an attempt with a delay              begins it no earlier
    for several syntheses                    gives each worker one at a time, in the order in which they were asked
    for deliveries to several destinations   gives each worker one at a time of each destination: no destination that
                                             hangs delays another
    to work as the executor that died        does again, in that process, what the dead one had begun, a few times
    to take back a dead executor's work      puts it into the queue for any other executor
    what became of an attempt                says that it is unknown, waits, has ended, or died each time
    to prune                                 forgets attempts that ended long ago, and none that waits

What is tried again, and when (`back_off_s`: doubling, capped, with jitter):

    what                        first and longest delay                 until
    a synthesis that failed     2 s, 60 s (`synthesis/attempt.py`)      `synthesize.tries` failures: the job is held
    a delivery                  `destinations[].retry_first_s`,         the destination has everything, or a person
                                `retry_max_s` (`delivery/attempt.py`)   cancels; an alarm after `alarm_after_s`
    a report of commitment      `commitment.retry_first_s`,             `commitment.give_up_after_s`
                                `retry_max_s` (`commitment/scp.py`)
    a request for commitment    those of the destination                the destination reports; an alarm likewise
    a notice                    `notify.retry_first_s`, `retry_max_s`   `notify.give_up_after_s`
    an attempt whose process    at once (`RECOVERY_ATTEMPTS`)           three times: the job is held
    died

`dicomnode.engine.queues` fulfils it with DBOS Transact; tests/dicomnode/engine/test_contract.py states every line, on
SQLite and on PostgreSQL. Another engine is another module like it: an `Engine`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dicomnode.ledger.database import Then
    from dicomnode.ledger.ledger import Ledger

RECOVERY_ATTEMPTS: Final = 3
"""How often an attempt whose process died is done again before the engine gives it up."""

REMEMBERED_S: Final = 7 * 86_400.0
"""How long the engine's records of ended attempts are kept."""

Ending = Literal["unknown", "waiting", "ended", "died"]
"""State of an attempt: not known to the engine, not ended, ended, or given up because its process died each time."""


class Queues(Protocol):
    """Puts attempts into the queues and says what became of them; every process may have one.

    Methods that reach the database raise LedgerUnreachable when it does not answer.
    """

    def synthesize(self, job: str, attempt: int, delay_s: float = 0.0) -> Then:
        """Return what asks for an attempt at a job, within the transaction of the event that calls for it."""
        ...

    def deliver(self, job: str, destination: str, attempt: int, delay_s: float = 0.0) -> Then:
        """Return what asks for an attempt to deliver a job to a destination, within a transaction likewise."""
        ...

    def endings(self, names: Iterable[str]) -> dict[str, Ending]:
        """Return what became of attempts, by `synthesis_id` or `delivery_id`."""
        ...

    def begun_by(self) -> set[str]:
        """Return the executors that have begun an attempt and not ended it."""
        ...

    def take_back(self, executors: Collection[str]) -> int:
        """Put back into their queues the attempts that these executors have begun and not ended; -> how many."""
        ...

    def prune(self, older_than_s: float) -> int:
        """Forget attempts that ended longer ago; -> how many. The ledger keeps its events."""
        ...


class Engine(Protocol):
    """A module that fulfils the contract; one process works on one queue."""

    def open_queues(self, ledger: Ledger) -> Queues:
        """Return the way into the queues; `prepare` must have run on this database once."""
        ...

    def prepare(self, ledger: Ledger) -> None:
        """Make the engine's own tables where they are missing, in the ledger's database."""
        ...

    def work_synthesize(self, ledger: Ledger, executor: str, synthesize: Callable[[str, int], None]) -> None:
        """Call `synthesize(job, attempt)` in a thread for what waits, as an executor; return at once."""
        ...

    def work_deliver(self, ledger: Ledger, executor: str, deliver: Callable[[str, str, int], None]) -> None:
        """Call `deliver(job, destination, attempt)` in threads for what waits, as an executor; return at once."""
        ...

    def stop(self) -> None:
        """Begin nothing more in this process. What is running is left to the end of the process."""
        ...


def synthesis_id(job: str, attempt: int) -> str:
    """Return the name of an attempt at a job."""
    return f"synthesize:{job}:{attempt}"


def delivery_id(job: str, destination: str, attempt: int) -> str:
    """Return the name of an attempt to deliver a job."""
    return f"deliver:{job}:{destination}:{attempt}"


def together(entries: Iterable[Then]) -> Then:
    """Join several queue entries into one."""
    kept = list(entries)

    def then(connection: sa.Connection) -> None:
        for entry in kept:
            entry(connection)

    return then


def back_off_s(attempt: int, first_s: float, max_s: float, draw: float) -> float:
    """Return the seconds before the attempt after `attempt` (from 1): doubling, capped, with jitter.

    `draw` is uniform in [0, 1) and spreads the delay over [0.75, 1.25) of its nominal value.
    """
    nominal = min(max_s, first_s * 2.0 ** min(attempt - 1, 60))
    return min(max_s, nominal * (0.75 + 0.5 * draw))


def jitter() -> float:
    """Return a draw for `back_off_s`."""
    return random.SystemRandom().random()
