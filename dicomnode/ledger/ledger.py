"""The ledger: which series came, what became of each job, what each destination answered.

States name the last durable fact, and no state says "doing": who works on a job is the engine's business, so a crash
needs no repair here. Every method of `Ledger` that changes something records one event: one transaction, one event row,
and where the event calls for work the engine's queue entry in the same transaction (`then`), because both live in one
database. The table `dicomnode.ledger.states.TRANSITIONS` says what may follow what; `state_picture()` there draws it.

SQLite (WAL, synchronous=FULL) or PostgreSQL; the same code, only the URL changes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode import log
from dicomnode.errors import NodeError, UnknownJob, WrongState
from dicomnode.ledger import resending, uid_conflicts
from dicomnode.ledger.database import Then, connect, database_url, fetch, reaching, transaction
from dicomnode.ledger.rows import DeliveryRow, EventRow, JobRow, Plan, ReceiptRow, SeriesRow, job_key
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.superseding import delivered_by_all, open_job
from dicomnode.ledger.tables import deliveries, events, jobs, receipts, series
from dicomnode.ledger.transitions import ended_for, held_for, locked, record, release, step

if TYPE_CHECKING:
    from dicomnode.config.load import Config
    from dicomnode.receipt import Receipt

Hold = tuple[str, str] | None
"""Reason code and sentence for which a job is held, or None."""


def existing(config: Config) -> Ledger:
    """Open the node's ledger. Raises NodeError when no node has ever run on this data folder."""
    if config.database == "sqlite" and not (config.node.data / "node.sqlite").is_file():
        raise NodeError(f"no node has run on {config.node.data} yet; is node.data right?")
    return Ledger(database_url(config))


IGNORED_BY_RULE: Final = "IGNORED_BY_RULE"
"""Reason code of the job of a series that a rule ignores."""


class Ledger:
    """Reads and changes the node's tables. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)

    def create(self) -> None:
        """Make the tables where they are missing, and bring those of an earlier version to this one.

        Raises OldLedger, NewLedger, LedgerUnreachable.
        """
        from dicomnode.ledger.migration import migrate  # alembic takes a while to import, and few commands need it

        with reaching():
            before = migrate(self.engine)
        if before is not None:
            log.event("database_upgraded", revision_before=before)

    def reach(self) -> None:
        """Raise LedgerUnreachable when the database does not answer."""
        with transaction(self.engine) as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    # Queries

    def longest_pause_s(self, calling_ae: str, of_last: int = 50) -> float:
        """Return the longest pause that a sender made within one of its last series; 0: each came in one piece."""
        last = sa.select(series.c.pause_s).where(series.c.calling_ae == calling_ae)
        last = last.order_by(series.c.last_at.desc()).limit(of_last)
        [row] = fetch(self.engine, sa.select(sa.func.max(last.subquery().c.pause_s).label("longest")))
        return float(row["longest"] or 0.0)

    def jobs(self) -> list[JobRow]:
        """Return every job, the newest first."""
        return self._jobs(sa.true())

    def job(self, job: str) -> JobRow:
        """Return the job of a key, or of the one key that begins so (at least 6 characters). Raises UnknownJob."""
        found = self._jobs(jobs.c.job.startswith(job, autoescape=True)) if len(job) >= 6 else []
        if len(found) != 1:
            raise UnknownJob(f"{'several jobs begin' if found else 'no job is known'} with {job!r}; see sct-node jobs")
        return found[0]

    def job_of(self, series_instance_uid: str) -> JobRow | None:
        """Return the job that took the series as it is now; None while it is arriving or unknown."""
        found = self._jobs(jobs.c.job == sa.select(series.c.job).where(_is(series_instance_uid)).scalar_subquery())
        return found[0] if found else None

    def knows(self, job: str) -> bool:
        """Tell whether there is a job of exactly that key."""
        return bool(fetch(self.engine, sa.select(jobs.c.job).where(jobs.c.job == job)))

    def series(self, series_instance_uid: str) -> SeriesRow | None:
        """Return the row of a series; None when no instance of it ever came."""
        rows = fetch(self.engine, sa.select(series).where(_is(series_instance_uid)))
        return SeriesRow.of(rows[0]) if rows else None

    def receiving(self) -> list[SeriesRow]:
        """Return the series of which instances came that no job has taken yet, the newest first."""
        query = sa.select(series).where(series.c.job.is_(None)).order_by(series.c.last_at.desc())
        return [SeriesRow.of(row) for row in fetch(self.engine, query)]

    def events(self, job: str) -> list[EventRow]:
        """Return every event of a job, in order."""
        query = sa.select(events).where(events.c.job == job).order_by(events.c.id)
        return [EventRow.of(row) for row in fetch(self.engine, query)]

    def receipts(self, job: str) -> list[ReceiptRow]:
        """Return what each destination last answered for each instance of a job (PS3.4 B.2.3)."""
        query = sa.select(receipts).where(receipts.c.job == job)
        query = query.order_by(receipts.c.destination, receipts.c.sop_instance_uid)
        return [ReceiptRow.of(row) for row in fetch(self.engine, query)]

    def deliveries(self, job: str) -> list[DeliveryRow]:
        """Return how far each destination of a job is."""
        query = sa.select(deliveries).where(deliveries.c.job == job).order_by(deliveries.c.destination)
        return [DeliveryRow.of(row) for row in fetch(self.engine, query)]

    def to_synthesize(self) -> list[JobRow]:
        """Return the jobs for which a synthesis is due: RECEIVED and not held."""
        return self._jobs((jobs.c.state == State.RECEIVED) & jobs.c.held.is_(None))

    def to_deliver(self) -> list[DeliveryRow]:
        """Return the deliveries that are due: of jobs SYNTHESIZED and not held, where instances are missing."""
        query = sa.select(deliveries).join(jobs, jobs.c.job == deliveries.c.job)
        query = query.where(jobs.c.state == State.SYNTHESIZED, jobs.c.held.is_(None), _OPEN)
        return [DeliveryRow.of(row) for row in fetch(self.engine, query)]

    def accepted_uids(self, job: str, destination: str) -> frozenset[str]:
        """Return the SOP Instance UIDs that a destination has taken (PS3.4 B.2.3) since all was last sent once more."""
        counting = receipts.c.taken & _delivery(job, destination) & resending.COUNTS
        query = sa.select(receipts.c.sop_instance_uid).join(deliveries, _OF_DELIVERY).where(counting)
        return frozenset(row["sop_instance_uid"] for row in fetch(self.engine, query))

    # Events

    def arrived(
        self, series_instance_uid: str, calling_ae: str, instances: int, last_at: float, pause_s: float = 0.0
    ) -> None:
        """Record that instances of a series came: it is RECEIVING.

        There is an event the first time, and when instances come after a job had taken the series; otherwise only the
        count changes.

        Args:
            instances: How many have come so far.
            last_at: When the last one came (Unix time, seconds).
            pause_s: The longest pause between two associations that brought it, as far as the caller knows.
        """
        now = {"instances": instances, "last_at": last_at, "calling_ae": calling_ae, "job": None}
        longest = sa.case((series.c.pause_s > pause_s, series.c.pause_s), else_=pause_s)
        with transaction(self.engine) as connection:
            again = sa.update(series).where(_is(series_instance_uid)).values(**now, pause_s=longest)
            if connection.execute(again.where(series.c.job.is_(None))).rowcount:
                return
            reopened = connection.execute(again).rowcount
            if not reopened:
                first = {"series_instance_uid": series_instance_uid, "first_at": last_at, "pause_s": pause_s, **now}
                connection.execute(sa.insert(series).values(first))
            words = "more instances after the series was taken" if reopened else "first instances"
            record(connection, JobEvent.ARRIVED, series_instance_uid, None, State.RECEIVING, words)

    def received(
        self,
        series_instance_uid: str,
        sop_instance_uids: Sequence[str],
        plan: Plan,
        reason: str,
        then: Callable[[sa.Connection, str], None],
    ) -> tuple[str, bool]:
        """Record that a series that has arrived is complete, because of `reason`, and that a job takes it.

        `then(connection, job)` is called for a new job only, and not for one that a rule ignores: that is REJECTED.

        Returns:
            The job's key, and whether it is new: asking twice for the same instances is one job.
        """
        job = job_key(series_instance_uid, sop_instance_uids, plan.model_digest, plan.configuration_digest)
        with transaction(self.engine) as connection:
            taking = sa.update(series).where(_is(series_instance_uid)).values(job=job).returning(series.c.calling_ae)
            calling_ae = connection.execute(taking).scalar_one()
            if connection.execute(sa.select(jobs.c.job).where(jobs.c.job == job)).first() is not None:
                return job, False
            row = {"job": job, "series_instance_uid": series_instance_uid, "calling_ae": calling_ae, **plan.columns}
            row |= {"sop_instance_uids": json.dumps(sorted(sop_instance_uids))}
            open_job(connection, row, reason, "more instances of the series came")
            if plan.ignored is not None:
                step(connection, JobEvent.REJECTED, job, plan.ignored, ended_for(IGNORED_BY_RULE, plan.ignored))
            elif not uid_conflicts.hold(connection, job):
                then(connection, job)
        return job, True

    def synthesized(
        self, job: str, ct_series_uid: str, instances: int, destinations: Sequence[str], hold: Hold, then: Then
    ) -> None:
        """Record that the CT series lies in out/<job>/; with a `hold` nothing is sent before a person agrees."""
        made = {"ct_series_uid": ct_series_uid, "ct_instances": instances, **held_for(hold)}
        with transaction(self.engine) as connection:
            step(connection, JobEvent.SYNTHESIZED, job, f"{instances} instances", made)
            now = time.time()
            for name in destinations:
                row = {"job": job, "destination": name, "attempt": 1, "since": now, "due_at": now, "sentence": ""}
                connection.execute(sa.insert(deliveries).values(row))
            if hold is None:
                then(connection)

    def rejected(self, job: str, code: str, sentence: str) -> None:
        """Record that there will be no CT of this input: REJECTED with its reason code, never tried again."""
        self._step(JobEvent.REJECTED, job, sentence, ended_for(code, sentence))

    def failed(self, job: str, attempt: int, sentence: str, detail: str, then: Then) -> None:
        """Record that an attempt at a synthesis failed and the next is due; `detail` is the traceback.

        Raises WrongState when `attempt` is not the one that is due.
        """
        values = {"attempt": attempt + 1, "failures": jobs.c.failures + 1}
        with transaction(self.engine) as connection:
            step(connection, JobEvent.FAILED, job, _with_detail(sentence, detail), values, jobs.c.attempt == attempt)
            then(connection)

    def held(self, job: str, code: str, sentence: str, detail: str = "") -> None:
        """Record that the job waits for a person, with a reason; `detail` (a traceback) goes into the event."""
        self._step(JobEvent.HELD, job, _with_detail(sentence, detail), held_for((code, sentence)))

    def released(self, job: str, reason: str, then: Then, by: str | None = None) -> None:
        """Record that a person (`by`) released a held job: RECEIVED is synthesized again, SYNTHESIZED is delivered.

        Raises WrongState when it is not held, or held for a contradiction (`dicomnode.ledger.uid_conflicts`), which
        needs a choice.
        """
        with transaction(self.engine) as connection:
            if uid_conflicts.undecided(connection, locked(connection, job)):
                raise WrongState(
                    f"job {job[:12]} is held for a contradiction: say which to use: --use first or --use last"
                )
            release(connection, job, reason, by)
            delivered_by_all(connection, job)
            then(connection)

    def deleted(self, job: str, words: str) -> None:
        """Record that the files of a job are about to be deleted. Raises WrongState unless it is DELIVERED and free."""
        self._step(JobEvent.DELETED, job, words, {})

    def rejected_by_person(self, job: str, reason: str, by: str | None = None) -> None:
        """Record that a person rejected a held job. Raises WrongState when it is not held, or delivered."""
        self._step(JobEvent.REJECTED_BY_PERSON, job, reason, ended_for("REJECTED_BY_PERSON", reason), by)

    def cancelled(self, job: str, reason: str, by: str | None = None) -> None:
        """Record that a person stopped a job that is not held: no CT is made, or no more of it is sent."""
        self._step(JobEvent.CANCELLED, job, reason, ended_for("CANCELLED_BY_PERSON", reason), by)

    def retried(self, job: str, attempt: int, reason: str, then: Then, by: str | None = None) -> None:
        """Record that a person had a synthesis tried at once instead of `attempt`. Raises WrongState when not due."""
        with transaction(self.engine) as connection:
            values = {"attempt": attempt + 1}
            step(connection, JobEvent.RETRIED, job, reason, values, jobs.c.attempt == attempt, by)
            then(connection)

    def begin(self, job: str, destination: str, instances: int | None = None) -> None:
        """Record that the first instance is about to be sent: a job that supersedes this one must name it from now on.

        `instances` is how many the destination is to have in the end, CT and companions. Raises WrongState when the job
        is not to be sent (any more): held, superseded, ended, delivered.
        """
        with transaction(self.engine) as connection:
            row = locked(connection, job)
            beginning = sa.update(deliveries).where(_delivery(job, destination), _OPEN)
            begun_at = sa.func.coalesce(deliveries.c.begun_at, time.time())
            beginning = beginning.values(begun_at=begun_at, instances=instances)
            sendable = row.state is State.SYNTHESIZED and row.held is None
            if not sendable or not connection.execute(beginning).rowcount:
                raise WrongState(f"job {job[:12]} is not to be sent to {destination} (any more)")

    def answered(self, job: str, destination: str, answers: Iterable[Receipt], attempt: int = 1) -> None:
        """Keep what a destination answered for some instances in this attempt (PS3.4 B.2.3).

        A receipt of an instance that was taken is never overwritten, unless a person had it all sent once more.
        """
        with transaction(self.engine) as connection:
            for answer in answers:
                keep_receipt(connection, job, destination, answer, attempt)

    def postponed(
        self, job: str, destination: str, attempt: int, sentence: str, due_at: float, then: Then, begun: bool = True
    ) -> None:
        """Record that a destination did not take everything in this attempt: the next is due at `due_at` (Unix time).

        `begun` is False when it is certain that the destination has no instance of it. Raises WrongState when the
        attempt is not due (any more).
        """
        values = {"attempt": attempt + 1, "sentence": sentence, "due_at": due_at}
        if not begun:
            values["begun_at"] = None
        due = _delivery(job, destination) & (deliveries.c.attempt == attempt) & _OPEN
        with transaction(self.engine) as connection:
            if not connection.execute(sa.update(deliveries).where(due).values(values)).rowcount:
                raise WrongState(f"job {job[:12]} waits for no attempt {attempt} to deliver to {destination}")
            step(connection, JobEvent.POSTPONED, job, sentence)
            then(connection)

    def alarmed(self, job: str, destination: str, sentence: str) -> bool:
        """Record that a destination has not taken everything for too long; -> False when that is known already."""
        open_one = sa.update(deliveries).where(_delivery(job, destination), _OPEN, deliveries.c.alarmed_at.is_(None))
        with transaction(self.engine) as connection:
            if not connection.execute(open_one.values(alarmed_at=time.time())).rowcount:
                return False
            step(connection, JobEvent.ALARMED, job, sentence)
            return True

    def delivered(
        self, job: str, destination: str, then: Then | None = None, uids: Collection[str] | None = None
    ) -> bool:
        """Record that a destination has every instance.

        Args:
            then: Writes what this calls for, in the same transaction.
            uids: The SOP Instance UIDs (0008,0018) that it is to have, CT and companions; None: the CT series alone.

        Returns:
            Whether all destinations have everything now, so that the job is DELIVERED.

        Raises:
            WrongState: The receipts do not show it.
        """
        count = sa.select(sa.func.count()).select_from(receipts).where(_OF_DELIVERY, receipts.c.taken, resending.COUNTS)
        slices = sa.select(jobs.c.ct_instances).where(jobs.c.job == job).scalar_subquery()
        enough = count.scalar_subquery() >= slices
        if uids is not None:
            has = count.where(receipts.c.sop_instance_uid.in_(uids)).scalar_subquery()
            enough = (has == len(uids)) & (sa.literal(len(uids)) >= slices)
        with transaction(self.engine) as connection:
            done = sa.update(deliveries).where(_delivery(job, destination), enough)
            if not connection.execute(done.values(delivered_at=time.time(), sentence="")).rowcount:
                raise WrongState(f"the receipts do not show that {destination} has all of job {job[:12]}")
            step(connection, JobEvent.ACCEPTED, job, destination)
            if then is not None:
                then(connection)
            return delivered_by_all(connection, job)

    def _step(self, event: JobEvent, job: str, words: str, values: dict[str, Any], by: str | None = None) -> None:
        """Take one step in a transaction of its own."""
        with transaction(self.engine) as connection:
            step(connection, event, job, words, values, by=by)

    def _jobs(self, where: sa.ColumnElement[bool]) -> list[JobRow]:
        query = sa.select(jobs).where(where).order_by(jobs.c.created_at.desc(), jobs.c.job)
        return [JobRow.of(row) for row in fetch(self.engine, query)]


_OPEN: Final = deliveries.c.delivered_at.is_(None) & deliveries.c.withdrawn_at.is_(None)
"""Of a delivery: the destination is to get the job, and has not got all of it."""

_OF_DELIVERY: Final = (receipts.c.job == deliveries.c.job) & (receipts.c.destination == deliveries.c.destination)
"""Of a receipt and a delivery: they belong together."""


def _is(series_instance_uid: str) -> sa.ColumnElement[bool]:
    return series.c.series_instance_uid == series_instance_uid


def _delivery(job: str, destination: str) -> sa.ColumnElement[bool]:
    return (deliveries.c.job == job) & (deliveries.c.destination == destination)


def _with_detail(sentence: str, detail: str) -> str:
    return f"{sentence}\n{detail}".strip()


def keep_receipt(connection: sa.Connection, job: str, destination: str, answer: Receipt, attempt: int) -> None:
    """Insert or renew one receipt; a receipt from before everything was sent once more gives way."""
    key = (receipts.c.job == job) & (receipts.c.destination == destination)
    key &= receipts.c.sop_instance_uid == answer.sop_instance_uid
    values = {"status": answer.status, "taken": answer.stored, "warning": answer.warning, "comment": answer.comment}
    values |= {"at": answer.at.timestamp(), "attempt": attempt, "commitment": None}
    resent_from = sa.select(deliveries.c.resent_from).where(_delivery(job, destination)).scalar_subquery()
    gives_way = ~receipts.c.taken | (sa.func.coalesce(receipts.c.attempt, 0) < resent_from)
    if connection.execute(sa.update(receipts).where(key, gives_way).values(values)).rowcount:
        return
    if connection.execute(sa.select(receipts.c.job).where(key)).first() is None:
        whose = {"job": job, "destination": destination, "sop_instance_uid": answer.sop_instance_uid}
        connection.execute(sa.insert(receipts).values(whose | values))
