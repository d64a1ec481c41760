"""The engine: DBOS Transact behind `dicomnode.engine.contract`. All its calls are here and nowhere else.

Two queues. `synthesize`: one workflow an attempt at a job. `deliver`: one workflow an attempt at a job and destination,
partitioned by destination; the next attempt is a new workflow with a delay, never a sleeping one. The engine's own
records are trusted for nothing but who works on what.

Learned by trying, and therefore:
- the engine uses the ledger's database and connections (SQLite: WAL, synchronous=FULL), so that an event and the queue
  entry it calls for are one transaction;
- `worker_concurrency` only: `global_concurrency` is not enforced across processes on SQLite;
- the application version is fixed, or an upgrade would strand waiting attempts;
- arguments are JSON, never pickle;
- a dead executor's work waits for the same executor id: ids are stable, and a lock keeps each to one process;
- threads only, no fork.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final

from dbos import (
    DBOS,
    DBOSClient,
    DBOSPortableJSONSerializer,
    EnqueueOptions,
    WorkflowSerializationFormat,
    WorkflowStatus,
)

from dicomnode import log
from dicomnode.engine.contract import RECOVERY_ATTEMPTS, Ending, Queues, delivery_id, synthesis_id
from dicomnode.ledger.database import reaching

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dicomnode.ledger.database import Then
    from dicomnode.ledger.ledger import Ledger

NAME: Final = "sct-node"
VERSION: Final = "1"
"""The engine's application version: changed only when old queue entries could no longer be understood."""

SYNTHESIZE: Final = "synthesize"
DELIVER: Final = "deliver"
POLL_S: Final = 0.5
DELIVERIES_AT_ONCE: Final = 32

_ENDINGS: Final[dict[str, Ending]] = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "waiting",
    "SUCCESS": "ended",
    "ERROR": "ended",
    "CANCELLED": "ended",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "died",
}
"""Status of a DBOS workflow -> the contract's word."""

PRUNED_AT_ONCE: Final = 500


class DbosQueues:
    """The way into the queues, for every process; needs `prepare` to have run on this database once."""

    def __init__(self, ledger: Ledger) -> None:
        self._client = DBOSClient(
            system_database_engine=ledger.engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=NAME,
        )

    def synthesize(self, job: str, attempt: int, delay_s: float = 0.0) -> Then:
        """Return what asks for an attempt at a job, within the transaction of the event that calls for it."""
        name = synthesis_id(job, attempt)
        options = EnqueueOptions(workflow_name=SYNTHESIZE, queue_name=SYNTHESIZE, workflow_id=name)
        return self._entry(options, delay_s, job, attempt)

    def deliver(self, job: str, destination: str, attempt: int, delay_s: float = 0.0) -> Then:
        """Return what asks for an attempt to deliver a job to a destination, within a transaction likewise."""
        name = delivery_id(job, destination, attempt)
        options = EnqueueOptions(workflow_name=DELIVER, queue_name=DELIVER, workflow_id=name)
        options["queue_partition_key"] = destination
        return self._entry(options, delay_s, job, destination, attempt)

    def endings(self, names: Iterable[str]) -> dict[str, Ending]:
        """Return what became of attempts. Raises LedgerUnreachable."""
        ids = list(names)
        endings: dict[str, Ending] = dict.fromkeys(ids, "unknown")
        if ids:
            with reaching():
                found = self._client.list_workflows(workflow_ids=ids, load_input=False, load_output=False)
            endings |= {one.workflow_id: _ENDINGS.get(one.status, "ended") for one in found}
        return endings

    def begun_by(self) -> set[str]:
        """Return the executors that have begun an attempt and not ended it. Raises LedgerUnreachable."""
        return {str(one.executor_id) for one in self._pending()}

    def take_back(self, executors: Collection[str]) -> int:
        """Put back into their queues the attempts that these executors have begun and not ended; -> how many."""
        left = [one for one in self._pending() if one.executor_id in executors]
        with reaching():
            for one in left:
                self._client.resume_workflow(one.workflow_id, queue_name=one.queue_name)
        return len(left)

    def prune(self, older_than_s: float) -> int:
        """Delete the records of attempts that ended longer ago; -> how many. Raises LedgerUnreachable."""
        before = datetime.datetime.fromtimestamp(time.time() - older_than_s, datetime.UTC).isoformat()
        over = [status for status, ending in _ENDINGS.items() if ending != "waiting"]
        deleted = 0
        while True:
            with reaching():
                found = self._client.list_workflows(
                    status=over, completed_before=before, limit=PRUNED_AT_ONCE, load_input=False, load_output=False
                )
                self._client.delete_workflows([one.workflow_id for one in found])
            deleted += len(found)
            if len(found) < PRUNED_AT_ONCE:
                return deleted

    def _pending(self) -> list[WorkflowStatus]:
        with reaching():
            return self._client.list_workflows(status="PENDING", load_input=False, load_output=False)

    def _entry(self, options: EnqueueOptions, delay_s: float, *arguments: object) -> Then:
        options["app_version"] = VERSION
        options["serialization_type"] = WorkflowSerializationFormat.PORTABLE
        if delay_s > 0:
            options["delay_seconds"] = delay_s

        def then(connection: sa.Connection) -> None:
            self._client.enqueue_in_transaction(connection, options, *arguments)

        return then


def open_queues(ledger: Ledger) -> Queues:
    """Return the way into the queues."""
    return DbosQueues(ledger)


def prepare(ledger: Ledger) -> None:
    """Make the engine's tables where they are missing, in the ledger's database."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    log.log_warnings_only("dbos")
    DBOS.migrate(url)


def work_synthesize(ledger: Ledger, executor: str, synthesize: Callable[[str, int], None]) -> None:
    """Take attempts from the synthesize queue, one at a time, in a thread: `synthesize(job, attempt)`."""

    def workflow(job: str, attempt: int) -> None:
        synthesize(job, attempt)

    _launch(ledger, executor, SYNTHESIZE, workflow)
    DBOS.register_queue(SYNTHESIZE, worker_concurrency=1, polling_interval_sec=POLL_S, on_conflict="always_update")


def work_deliver(ledger: Ledger, executor: str, deliver: Callable[[str, str, int], None]) -> None:
    """Take attempts from the deliver queue, one at a time a destination: `deliver(job, destination, attempt)`."""

    def workflow(job: str, destination: str, attempt: int) -> None:
        deliver(job, destination, attempt)

    _launch(ledger, executor, DELIVER, workflow)
    DBOS.register_queue(
        DELIVER,
        worker_concurrency=DELIVERIES_AT_ONCE,
        partition_worker_concurrency=1,
        polling_interval_sec=POLL_S,
        on_conflict="always_update",
    )


def _launch(ledger: Ledger, executor: str, queue: str, function: Callable[..., None]) -> None:
    """Launch the engine in this process (once), listening to one queue; recovers what this executor had begun."""
    DBOS.workflow(
        name=queue,
        max_recovery_attempts=RECOVERY_ATTEMPTS,
        serialization_type=WorkflowSerializationFormat.PORTABLE,
    )(function)
    DBOS(
        config={
            "name": NAME,
            "application_version": VERSION,
            "executor_id": executor,
            "system_database_engine": ledger.engine,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
    )
    log.log_warnings_only("dbos")  # DBOS brings a console handler of its own
    DBOS.listen_queues([queue])
    DBOS.launch()


def stop() -> None:
    """Begin nothing more. What is running is left to the end of the process: it is safe at any point."""
    DBOS.destroy()
