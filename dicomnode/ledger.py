"""The diary: which series came, what became of each job, what each destination answered. All SQL is here,
but that of storage commitment (`dicomnode.commitment_ledger`).

States name the last durable fact, and nobody is ever "doing": who works on a job is the engine's business, so a crash
needs no repair here. Every method of `Ledger` that changes something is one fact: one transaction, one event row, and
where the fact calls for work the engine's queue entry in the same transaction (`then`), because both live in one
database. What may follow what is a table, `dicomnode.states.TRANSITIONS`; `state_picture()` there draws it.

SQLite (WAL, synchronous=FULL) or PostgreSQL; the same code, only the URL changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.errors import LedgerUnreachable, UnknownJob, WrongState
from dicomnode.schema import (
    DeliveryRow,
    EventRow,
    JobRow,
    Plan,
    ReceiptRow,
    SeriesRow,
    deliveries,
    events,
    jobs,
    metadata,
    receipts,
    series,
)
from dicomnode.states import TRANSITIONS, Fact, State

if TYPE_CHECKING:
    from dicomnode.config import Config
    from dicomnode.deliver import Receipt

Then = Callable[[sa.Connection], None]
"""What the engine writes in the same transaction as the fact, usually one queue entry."""

Hold = tuple[str, str] | None
"""Reason code and sentence for which a job is held, or None."""


def database_url(config: Config) -> str:
    """SQLAlchemy's URL of the node's one database: ours and the engine's tables."""
    if config.database == "sqlite":
        return f"sqlite:///{config.node.data / 'node.sqlite'}"
    return "postgresql+psycopg://" + config.database.split("://", 1)[1]


def connect(url: str) -> sa.Engine:
    """An engine that is durable: SQLite with WAL, synchronous=FULL and patience for locks; PostgreSQL as it is."""
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if url.startswith("sqlite"):
        sa.event.listen(engine, "connect", _durable)
    return engine


def _durable(connection: Any, _record: object) -> None:
    """SQLite pragmas of every new connection; IMMEDIATE lets writers queue instead of failing half-way."""
    connection.isolation_level = "IMMEDIATE"
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def job_key(series_instance_uid: str, sop_instance_uids: Iterable[str], model_digest: str, config_digest: str) -> str:
    """The job's name: SHA-256 (hex) of what it is made of, so that asking twice is one job."""
    parts = [series_instance_uid, *sorted(sop_instance_uids), model_digest, config_digest]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


IGNORED_BY_RULE: Final = "IGNORED_BY_RULE"
"""Reason code of the job of a series that a rule ignores."""


class Ledger:
    """The node's tables. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)

    def create(self) -> None:
        """Make the tables where they are missing."""
        metadata.create_all(self.engine)

    def reach(self) -> None:
        """Raise LedgerUnreachable when the database does not answer."""
        with self._transaction() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    # What is known

    def jobs(self) -> list[JobRow]:
        """Every job, the newest first."""
        return self._jobs(sa.true())

    def job(self, job: str) -> JobRow:
        """The job of that key, or of the one key that begins so (at least 6 characters). Raises UnknownJob."""
        found = self._jobs(jobs.c.job.startswith(job, autoescape=True)) if len(job) >= 6 else []
        if len(found) != 1:
            raise UnknownJob(f"{'several jobs begin' if found else 'no job is known'} with {job!r}; see sct-node jobs")
        return found[0]

    def job_of(self, series_instance_uid: str) -> JobRow | None:
        """The job that took the series as it is now; None while it is arriving or unknown."""
        found = self._jobs(jobs.c.job == sa.select(series.c.job).where(_is(series_instance_uid)).scalar_subquery())
        return found[0] if found else None

    def knows(self, job: str) -> bool:
        """Whether there is a job of exactly that key."""
        return bool(self._rows(sa.select(jobs.c.job).where(jobs.c.job == job)))

    def series(self, series_instance_uid: str) -> SeriesRow | None:
        """What is known of a series that ever sent an instance."""
        rows = self._rows(sa.select(series).where(_is(series_instance_uid)))
        return SeriesRow.of(rows[0]) if rows else None

    def receiving(self) -> list[SeriesRow]:
        """Series of which instances came that no job has taken yet, the newest first."""
        query = sa.select(series).where(series.c.job.is_(None)).order_by(series.c.last_at.desc())
        return [SeriesRow.of(row) for row in self._rows(query)]

    def events(self, job: str) -> list[EventRow]:
        """Everything that happened to a job, in order."""
        query = sa.select(events).where(events.c.job == job).order_by(events.c.id)
        return [EventRow.of(row) for row in self._rows(query)]

    def receipts(self, job: str) -> list[ReceiptRow]:
        """What each destination last answered for each instance."""
        query = sa.select(receipts).where(receipts.c.job == job)
        query = query.order_by(receipts.c.destination, receipts.c.sop_instance_uid)
        return [ReceiptRow.of(row) for row in self._rows(query)]

    def deliveries(self, job: str) -> list[DeliveryRow]:
        """How far each destination is."""
        query = sa.select(deliveries).where(deliveries.c.job == job).order_by(deliveries.c.destination)
        return [DeliveryRow.of(row) for row in self._rows(query)]

    def to_synthesize(self) -> list[JobRow]:
        """Jobs for which a synthesis is due: RECEIVED and not held."""
        return self._jobs((jobs.c.state == State.RECEIVED) & jobs.c.held.is_(None))

    def to_deliver(self) -> list[DeliveryRow]:
        """Deliveries that are due: of jobs SYNTHESIZED and not held, where instances are missing."""
        query = sa.select(deliveries).join(jobs, jobs.c.job == deliveries.c.job)
        query = query.where(
            jobs.c.state == State.SYNTHESIZED, jobs.c.held.is_(None), deliveries.c.delivered_at.is_(None)
        )
        return [DeliveryRow.of(row) for row in self._rows(query)]

    def taken(self, job: str, destination: str) -> frozenset[str]:
        """SOP Instance UIDs that the destination has."""
        return frozenset(
            one.sop_instance_uid for one in self.receipts(job) if one.taken and one.destination == destination
        )

    # Facts

    def arrived(self, series_instance_uid: str, calling_ae: str, instances: int, last_at: float) -> None:
        """Instances of a series came (`instances` so far, the last one at `last_at`): it is RECEIVING.

        An event the first time, and when instances come after a job had taken the series; else only the count.
        """
        now = {"instances": instances, "last_at": last_at, "calling_ae": calling_ae, "job": None}
        with self._transaction() as connection:
            counted = sa.update(series).where(_is(series_instance_uid), series.c.job.is_(None)).values(now)
            if connection.execute(counted).rowcount:
                return
            reopened = connection.execute(sa.update(series).where(_is(series_instance_uid)).values(now)).rowcount
            if not reopened:
                first = {"series_instance_uid": series_instance_uid, "first_at": last_at, **now}
                connection.execute(sa.insert(series).values(first))
            words = "more instances after the series was taken" if reopened else "first instances"
            _event(connection, Fact.ARRIVED, series_instance_uid, None, State.RECEIVING, words)

    def received(
        self,
        series_instance_uid: str,
        sop_instance_uids: Sequence[str],
        plan: Plan,
        reason: str,
        then: Callable[[sa.Connection, str], None],
    ) -> tuple[str, bool]:
        """The series (which has arrived) is complete, because of `reason`: a job takes it; -> (job, whether it is new).

        `then(connection, job)` is called for a new job only, and not for one that a rule ignores: that is REJECTED.
        """
        job = job_key(series_instance_uid, sop_instance_uids, plan.model_digest, plan.configuration_digest)
        with self._transaction() as connection:
            taking = sa.update(series).where(_is(series_instance_uid)).returning(series.c.calling_ae)
            earlier = _latest_job(connection, series_instance_uid)
            known = connection.execute(sa.select(jobs.c.job).where(jobs.c.job == job)).first() is not None
            if not known:
                row = {"job": job, "series_instance_uid": series_instance_uid, "state": State.RECEIVED, **plan.columns}
                what = {"sop_instance_uids": json.dumps(sorted(sop_instance_uids)), "supersedes": earlier}
                when = {"created_at": time.time(), "updated_at": time.time()}
                connection.execute(sa.insert(jobs).values({**row, **what, **when}))
            calling_ae = connection.execute(taking.values(job=job)).scalar_one()
            if not known:
                connection.execute(sa.update(jobs).where(jobs.c.job == job).values(calling_ae=calling_ae))
                _event(connection, Fact.SETTLED, series_instance_uid, job, State.RECEIVED, reason)
                if plan.ignored is None:
                    then(connection, job)
                else:
                    why = _reason((IGNORED_BY_RULE, plan.ignored))
                    self._step(connection, Fact.UNSUITABLE, job, plan.ignored, {**why})
        return job, not known

    def synthesized(
        self, job: str, ct_series_uid: str, instances: int, destinations: Sequence[str], hold: Hold, then: Then
    ) -> None:
        """The CT series lies in out/<job>/; with a `hold` (code, sentence) nothing is sent before a person agrees."""
        made = {"ct_series_uid": ct_series_uid, "ct_instances": instances, **_reason(hold)}
        with self._transaction() as connection:
            self._step(connection, Fact.SYNTHESIZED, job, f"{instances} instances", made | {"held": _sentence(hold)})
            now = time.time()
            for name in destinations:
                row = {"job": job, "destination": name, "attempt": 1, "since": now, "due_at": now, "sentence": ""}
                connection.execute(sa.insert(deliveries).values(row))
            if hold is None:
                then(connection)

    def unsuitable(self, job: str, code: str, sentence: str) -> None:
        """The input will never be suitable: REJECTED with its reason code, never tried again."""
        self._one(Fact.UNSUITABLE, job, sentence, {"reason_code": code, "reason_sentence": sentence})

    def failed(self, job: str, attempt: int, sentence: str, detail: str, then: Then) -> None:
        """An attempt at a synthesis failed and the next is due; `detail` is the traceback. WrongState when not due."""
        values = {"attempt": attempt + 1, "failures": jobs.c.failures + 1}
        with self._transaction() as connection:
            self._step(connection, Fact.FAILED, job, _said(sentence, detail), values, jobs.c.attempt == attempt)
            then(connection)

    def held(self, job: str, code: str, sentence: str, detail: str = "") -> None:
        """The job waits for a person, with a reason; `detail` (a traceback) goes into the event."""
        values = {"held": sentence, **_reason((code, sentence))}
        self._one(Fact.HELD, job, _said(sentence, detail), values)

    def released(self, job: str, reason: str, then: Then) -> None:
        """A person released a held job: RECEIVED is synthesized anew, SYNTHESIZED is delivered."""
        values = {"held": None, "attempt": jobs.c.attempt + 1, "failures": 0, **_reason(None)}
        self._one(Fact.RELEASED, job, reason, values, then)

    def refused(self, job: str, reason: str) -> None:
        """A person rejected a held job."""
        self._one(Fact.REFUSED, job, reason, {"held": None, **_reason(("REJECTED_BY_PERSON", reason))})

    def answered(self, job: str, destination: str, answers: Iterable[Receipt]) -> None:
        """A destination answered for some instances; an answer that took an instance is never overwritten."""
        with self._transaction() as connection:
            for answer in answers:
                _keep_receipt(connection, job, destination, answer)

    def postponed(self, job: str, destination: str, attempt: int, sentence: str, due_at: float, then: Then) -> None:
        """A destination did not take everything in this attempt: the next is due at `due_at` (Unix time)."""
        values = {"attempt": attempt + 1, "sentence": sentence, "due_at": due_at}
        due = _delivery(job, destination) & (deliveries.c.attempt == attempt) & deliveries.c.delivered_at.is_(None)
        with self._transaction() as connection:
            if not connection.execute(sa.update(deliveries).where(due).values(values)).rowcount:
                raise WrongState(f"job {job[:12]} waits for no attempt {attempt} to deliver to {destination}")
            self._step(connection, Fact.POSTPONED, job, sentence, {})
            then(connection)

    def delivered(self, job: str, destination: str) -> bool:
        """The destination has every instance; -> whether now all destinations have, so that the job is DELIVERED.

        Raises WrongState when the receipts do not show it.
        """
        count = sa.select(sa.func.count()).select_from(receipts)
        count = count.where(receipts.c.job == job, receipts.c.destination == destination, receipts.c.taken)
        enough = count.scalar_subquery() >= sa.select(jobs.c.ct_instances).where(jobs.c.job == job).scalar_subquery()
        open_ones = sa.select(deliveries.c.job).where(deliveries.c.job == job, deliveries.c.delivered_at.is_(None))
        with self._transaction() as connection:
            done = sa.update(deliveries).where(_delivery(job, destination), enough)
            if not connection.execute(done.values(delivered_at=time.time(), sentence="")).rowcount:
                raise WrongState(f"the receipts do not show that {destination} has all of job {job[:12]}")
            self._step(connection, Fact.TAKEN, job, destination, {})
            last = connection.execute(open_ones).first() is None
            if last:
                self._step(connection, Fact.DELIVERED, job, "every destination has every instance", {})
        return last

    def _one(self, fact: Fact, job: str, words: str, values: dict[str, Any], then: Then | None = None) -> None:
        """A fact that is one step."""
        with self._transaction() as connection:
            self._step(connection, fact, job, words, values)
            if then is not None:
                then(connection)

    def _step(
        self,
        connection: sa.Connection,
        fact: Fact,
        job: str,
        words: str,
        values: dict[str, Any],
        besides: sa.ColumnElement[bool] | None = None,
    ) -> None:
        """Take a step of TRANSITIONS if the job is where one begins, and write its event; else WrongState.

        The compare and the change are one UPDATE, so two processes can never both take the step.
        """
        for step in (one for one in TRANSITIONS if one.fact is fact):
            guard = (jobs.c.job == job) & (jobs.c.state == step.before)
            if step.held is not None:
                guard &= jobs.c.held.is_not(None) if step.held else jobs.c.held.is_(None)
            if besides is not None:
                guard &= besides
            change = sa.update(jobs).where(guard).values(state=step.after, updated_at=time.time(), **values)
            source = connection.execute(change.returning(jobs.c.series_instance_uid)).scalar_one_or_none()
            if source is not None:
                return _event(connection, fact, source, job, step.after, words)
        raise WrongState(f"job {job[:12]} is not where '{fact}' can happen; see sct-node show {job[:12]}")

    def _jobs(self, where: sa.ColumnElement[bool]) -> list[JobRow]:
        query = sa.select(jobs).where(where).order_by(jobs.c.created_at.desc(), jobs.c.job)
        return [JobRow.of(row) for row in self._rows(query)]

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        with self._transaction() as connection:
            return connection.execute(query).mappings().all()

    def _transaction(self) -> contextlib.AbstractContextManager[sa.Connection]:
        return transaction(self.engine)


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All or nothing; a database that does not answer is LedgerUnreachable."""
    try:
        with engine.begin() as connection:
            yield connection
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise LedgerUnreachable(f"the database does not answer: {error.__cause__ or error}") from error


def _is(series_instance_uid: str) -> sa.ColumnElement[bool]:
    return series.c.series_instance_uid == series_instance_uid


def _delivery(job: str, destination: str) -> sa.ColumnElement[bool]:
    return (deliveries.c.job == job) & (deliveries.c.destination == destination)


def _reason(hold: Hold) -> dict[str, str | None]:
    code, sentence = hold or (None, None)
    return {"reason_code": code, "reason_sentence": sentence}


def _sentence(hold: Hold) -> str | None:
    return None if hold is None else hold[1]


def _said(sentence: str, detail: str) -> str:
    return f"{sentence}\n{detail}".strip()


def _latest_job(connection: sa.Connection, series_instance_uid: str) -> str | None:
    """The newest job made of a series, which a larger set's job supersedes."""
    query = sa.select(jobs.c.job).where(jobs.c.series_instance_uid == series_instance_uid)
    return connection.execute(query.order_by(jobs.c.created_at.desc()).limit(1)).scalar_one_or_none()


def _event(connection: sa.Connection, fact: Fact, source: str, job: str | None, state: State, words: str) -> None:
    """The event row of a fact."""
    row = {"at": time.time(), "fact": fact, "series_instance_uid": source, "job": job, "state": state, "words": words}
    connection.execute(sa.insert(events).values(row))


def _keep_receipt(connection: sa.Connection, job: str, destination: str, answer: Receipt) -> None:
    """Insert or renew one receipt."""
    key = (receipts.c.job == job) & (receipts.c.destination == destination)
    key &= receipts.c.sop_instance_uid == answer.sop_instance_uid
    values = {
        "status": answer.status,
        "at": answer.at.timestamp(),
        "warning": answer.warning,
        "comment": answer.comment,
    }
    values["taken"] = answer.stored
    if connection.execute(sa.update(receipts).where(key, ~receipts.c.taken).values(values)).rowcount:
        return
    if connection.execute(sa.select(receipts.c.job).where(key)).first() is None:
        whose = {"job": job, "destination": destination, "sop_instance_uid": answer.sop_instance_uid}
        connection.execute(sa.insert(receipts).values(whose | values))
