"""All calls of the workflow engine (DBOS Transact), here and nowhere else.

Two queues. `synthesize`: one workflow an attempt at a job. `deliver`: one workflow an attempt at a job and destination,
partitioned by destination, so that a dead destination never delays another; the next attempt is a new workflow with a
delay, never a sleeping one. A workflow's id is its job and attempt, so that asking twice is one workflow. What a
workflow does is idempotent by the ledger's and the spool's keys; the engine's own records are trusted for nothing but
who works on what, so another engine could take its place.

Learned by trying, and therefore:
- the engine uses the ledger's database and connections (SQLite: WAL, synchronous=FULL), so that a fact and the queue
  entry it calls for are one transaction;
- `worker_concurrency` only: `global_concurrency` is not enforced across processes on SQLite;
- the application version is fixed, or an upgrade would strand waiting attempts;
- arguments are JSON, never pickle;
- a dead executor's work waits for the same executor id: ids are stable, and a lock keeps each to one process;
- threads only, no fork.
"""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final, Literal

from dbos import (
    DBOS,
    DBOSClient,
    DBOSPortableJSONSerializer,
    EnqueueOptions,
    WorkflowSerializationFormat,
    WorkflowStatus,
)

from dicomnode import log

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
RECOVERY_ATTEMPTS: Final = 3
DELIVERIES_AT_ONCE: Final = 32

Ending = Literal["unknown", "waiting", "ended", "died"]
"""What the engine knows of a workflow: nothing, not ended, ended, or given up because its process died each time."""

_WAITING: Final = ("ENQUEUED", "DELAYED", "PENDING")
_ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

PRUNED_AT_ONCE: Final = 500
REMEMBERED_S: Final = 7 * 86_400.0
"""How long the engine's records of ended attempts are kept."""


def back_off_s(attempt: int, first_s: float, max_s: float, draw: float) -> float:
    """Seconds before the attempt after `attempt` (from 1): doubling, capped, with jitter.

    `draw` is uniform in [0, 1) and spreads the delay over [0.75, 1.25) of its nominal value.
    """
    nominal = min(max_s, first_s * 2.0 ** min(attempt - 1, 60))
    return min(max_s, nominal * (0.75 + 0.5 * draw))


def jitter() -> float:
    """A draw for `back_off_s`."""
    return random.SystemRandom().random()


class Queues:
    """The way into the queues, for every process; needs `prepare` to have run on this database once."""

    def __init__(self, ledger: Ledger) -> None:
        self._client = DBOSClient(
            system_database_engine=ledger.engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=NAME,
        )

    def synthesize(self, job: str, attempt: int, delay_s: float = 0.0) -> Then:
        """What puts an attempt at a job into the queue, within the transaction of the fact that calls for it."""
        options = EnqueueOptions(
            workflow_name=SYNTHESIZE, queue_name=SYNTHESIZE, workflow_id=synthesis_id(job, attempt)
        )
        return self._entry(options, delay_s, job, attempt)

    def deliver(self, job: str, destination: str, attempt: int, delay_s: float = 0.0) -> Then:
        """The same for an attempt to deliver a job to a destination."""
        name = delivery_id(job, destination, attempt)
        options = EnqueueOptions(workflow_name=DELIVER, queue_name=DELIVER, workflow_id=name)
        options["queue_partition_key"] = destination
        return self._entry(options, delay_s, job, destination, attempt)

    def endings(self, workflow_ids: Iterable[str]) -> dict[str, Ending]:
        """What the engine knows of each workflow."""
        ids = list(workflow_ids)
        endings: dict[str, Ending] = dict.fromkeys(ids, "unknown")
        if ids:
            for one in self._client.list_workflows(workflow_ids=ids, load_input=False, load_output=False):
                endings[one.workflow_id] = _ending(one.status)
        return endings

    def begun_by(self) -> set[str]:
        """Executors that have begun an attempt and not ended it."""
        return {str(one.executor_id) for one in self._pending()}

    def take_back(self, executors: Collection[str]) -> int:
        """Put back into their queues the attempts that these executors have begun and not ended; -> how many."""
        left = [one for one in self._pending() if one.executor_id in executors]
        for one in left:
            self._client.resume_workflow(one.workflow_id, queue_name=one.queue_name)
        return len(left)

    def prune(self, older_than_s: float) -> int:
        """Delete the engine's records of attempts that ended longer ago; -> how many. The ledger keeps its events."""
        before = datetime.datetime.fromtimestamp(time.time() - older_than_s, datetime.UTC).isoformat()
        deleted = 0
        while True:
            found = self._client.list_workflows(
                status=list(_ENDED), completed_before=before, limit=PRUNED_AT_ONCE, load_input=False, load_output=False
            )
            self._client.delete_workflows([one.workflow_id for one in found])
            deleted += len(found)
            if len(found) < PRUNED_AT_ONCE:
                return deleted

    def _pending(self) -> list[WorkflowStatus]:
        return self._client.list_workflows(status="PENDING", load_input=False, load_output=False)

    def _entry(self, options: EnqueueOptions, delay_s: float, *arguments: object) -> Then:
        options["app_version"] = VERSION
        options["serialization_type"] = WorkflowSerializationFormat.PORTABLE
        if delay_s > 0:
            options["delay_seconds"] = delay_s

        def then(connection: sa.Connection) -> None:
            self._client.enqueue_in_transaction(connection, options, *arguments)

        return then


def together(entries: Iterable[Then]) -> Then:
    """Several queue entries in one transaction."""
    kept = list(entries)

    def then(connection: sa.Connection) -> None:
        for entry in kept:
            entry(connection)

    return then


def synthesis_id(job: str, attempt: int) -> str:
    """Workflow id of an attempt at a job."""
    return f"{SYNTHESIZE}:{job}:{attempt}"


def delivery_id(job: str, destination: str, attempt: int) -> str:
    """Workflow id of an attempt to deliver a job."""
    return f"{DELIVER}:{job}:{destination}:{attempt}"


def _ending(status: str) -> Ending:
    if status in _WAITING:
        return "waiting"
    return "died" if status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED" else "ended"


def prepare(ledger: Ledger) -> None:
    """Make the engine's tables where they are missing, in the ledger's database."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    _hush()
    DBOS.migrate(url)


def work_synthesize(ledger: Ledger, executor: str, synthesize: Callable[[str, int], None]) -> None:
    """Take attempts from the synthesize queue, one at a time, in a thread: `synthesize(job, attempt)`."""

    def workflow(job: str, attempt: int) -> None:
        synthesize(job, attempt)

    _work(ledger, executor, SYNTHESIZE, workflow)
    DBOS.register_queue(SYNTHESIZE, worker_concurrency=1, polling_interval_sec=POLL_S, on_conflict="always_update")


def work_deliver(ledger: Ledger, executor: str, deliver: Callable[[str, str, int], None]) -> None:
    """Take attempts from the deliver queue, one at a time a destination: `deliver(job, destination, attempt)`."""

    def workflow(job: str, destination: str, attempt: int) -> None:
        deliver(job, destination, attempt)

    _work(ledger, executor, DELIVER, workflow)
    DBOS.register_queue(
        DELIVER,
        worker_concurrency=DELIVERIES_AT_ONCE,
        partition_worker_concurrency=1,
        polling_interval_sec=POLL_S,
        on_conflict="always_update",
    )


def _work(ledger: Ledger, executor: str, queue: str, function: Callable[..., None]) -> None:
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
    _hush()
    DBOS.listen_queues([queue])
    DBOS.launch()


def stop() -> None:
    """Take nothing more. What is running is left to the end of the process: it is safe at any point."""
    DBOS.destroy()


def _hush() -> None:
    """The engine brings its own console handler; its words go the way of all logs, from warning upward."""
    log.log_warnings_only("dbos")
