"""The table of proofs: storage commitments that the node asks of destinations (PS3.4 J.3.2), with all its SQL.

One row a Transaction UID (0008,1195). What a destination reports of an instance stands in the instance's receipt
(`receipts.commitment`); without a report it is unproven, never failed. A visit begins with moving the next one into the
future: so a visit that its process did not survive is made again, and two processes never make the same one. A report
counts whenever it comes, unless the instances have been sent once more since.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from pydicom.uid import generate_uid

from dicomnode.ledger.database import fetch, transaction
from dicomnode.ledger.rows import ProofRow
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.tables import deliveries, jobs, proofs, receipts
from dicomnode.ledger.transitions import locked, step

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dicomnode.commitment.push_model import Report
    from dicomnode.ledger.database import Then

_OPEN: Final = proofs.c.ended_at.is_(None)
_LIVE: Final = (State.SYNTHESIZED, State.DELIVERED)
"""States of jobs that destinations are asked about."""


class Proofs:
    """The table of proofs. Safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def wanted(self, job: str, destination: str, wait_s: float) -> Then:
        """Return what asks for a proof, in the transaction in which the destination has got everything.

        The first visit is due `wait_s` later. An earlier proof of the delivery that has not come is not waited for.
        """

        def then(connection: sa.Connection) -> None:
            whose = (proofs.c.job == job) & (proofs.c.destination == destination)
            older = sa.update(proofs).where(whose, _OPEN)
            connection.execute(older.values(ended_at=time.time(), sentence="all was sent once more"))
            query = sa.select(deliveries.c.attempt).where(
                deliveries.c.job == job, deliveries.c.destination == destination
            )
            sent_in, now = connection.execute(query).scalar_one(), time.time()
            _insert(connection, job, destination, sent_in, {"since": now, "due_at": now + wait_s})

        return then

    def open(self) -> list[ProofRow]:
        """Return the proofs that are still to come, of jobs that have not ended, the oldest first."""
        return self._rows(_OPEN & jobs.c.state.in_(_LIVE))

    def of(self, job: str) -> list[ProofRow]:
        """Return every proof that was asked for about a job, the oldest first."""
        return self._rows(proofs.c.job == job)

    def unproven(self, row: ProofRow) -> list[str]:
        """Return the SOP Instance UIDs that the destination has taken and reported nothing of."""
        whose = (receipts.c.job == row.job) & (receipts.c.destination == row.destination)
        query = sa.select(receipts.c.sop_instance_uid).where(whose, receipts.c.taken, receipts.c.commitment.is_(None))
        return [one["sop_instance_uid"] for one in fetch(self._engine, query.order_by(receipts.c.sop_instance_uid))]

    def begun(self, row: ProofRow, next_at: float) -> ProofRow | None:
        """Begin a visit; -> the row. If the visit does not end, the next is due at `next_at` (Unix time).

        None when it is not due any more: reported, or begun by another process.
        """
        begun = dataclasses.replace(row, attempt=row.attempt + 1)
        return begun if self._changed(row, attempt=begun.attempt, due_at=next_at) else None

    def asking(self, row: ProofRow, listed: Mapping[str, str]) -> None:
        """Record that the request is about to be made; `listed`: SOP Instance UID -> SOP Class UID."""
        self._changed(row, listed=json.dumps(dict(listed)), asked_at=time.time())

    def not_asked(self, row: ProofRow, sentence: str, due_at: float) -> None:
        """Record that the request was not taken, because of `sentence`; it is made again at `due_at` (Unix time)."""
        self._changed(row, asked_at=None, sentence=sentence, due_at=due_at)

    def postponed(self, row: ProofRow, sentence: str, due_at: float) -> None:
        """Record that no report came, because of `sentence`; the next visit is due at `due_at` (Unix time)."""
        self._changed(row, sentence=sentence, due_at=due_at)

    def ended(self, row: ProofRow, sentence: str) -> None:
        """Record that there will be no further visit, because of `sentence`; a report still counts."""
        self._changed(row, ended_at=time.time(), sentence=sentence)

    def renewed(self, row: ProofRow) -> None:
        """Replace a request that got no report for too long by one under another Transaction UID."""
        with transaction(self._engine) as connection:
            change = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid, _OPEN)
            now = time.time()
            if connection.execute(change.values(ended_at=now, due_at=now, sentence="asked again")).rowcount:
                query = sa.select(proofs.c.since, proofs.c.alarmed_at).where(
                    proofs.c.transaction_uid == row.transaction_uid
                )
                kept = dict(connection.execute(query).mappings().one())
                _insert(connection, row.job, row.destination, row.sent_in, kept)

    def alarmed(self, row: ProofRow, sentence: str) -> bool:
        """Record that it has been unproven for too long; -> False when that is known already."""
        with transaction(self._engine) as connection:
            change = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid, _OPEN)
            change = change.where(proofs.c.alarmed_at.is_(None)).values(alarmed_at=time.time())
            if not connection.execute(change).rowcount:
                return False
            step(connection, JobEvent.ALARMED, row.job, sentence)
            return True

    def reported(self, report: Report) -> ProofRow | None:
        """Record what a destination reported; -> the row, or None when no such transaction was asked for.

        There is an event when the report proves the whole delivery, or says that something of it is lost. A report
        about what has been sent once more since does not count.
        """
        whose = proofs.c.transaction_uid == report.transaction_uid
        touch = sa.update(proofs).where(whose).values(transaction_uid=proofs.c.transaction_uid).returning(*proofs.c)
        with transaction(self._engine) as connection:
            found = connection.execute(touch).mappings().first()
            if found is None:
                return None
            row = ProofRow.of(found)
            listed = row.listed or {}
            failed = {uid: why for uid, why in report.failed.items() if uid in listed}
            answered = {uid: 0 for uid in report.committed if uid in listed} | failed
            query = sa.select(deliveries.c.resent_from).where(
                deliveries.c.job == row.job, deliveries.c.destination == row.destination
            )
            counts = (connection.execute(query).scalar_one_or_none() or 0) <= row.sent_in
            if counts and answered:
                own = (receipts.c.job == row.job) & (receipts.c.destination == row.destination)
                change = sa.update(receipts).where(own, receipts.c.sop_instance_uid == sa.bindparam("uid"))
                values = [{"uid": uid, "reported": reason} for uid, reason in answered.items()]
                connection.execute(change.values(commitment=sa.bindparam("reported")), values)
            if row.failed == failed and row.ended_at is not None:
                return row  # the same report once more
            columns: dict[str, object] = {"failed": json.dumps(failed), "sentence": ""}
            if listed.keys() <= answered.keys() or not counts:
                columns["ended_at"] = time.time()
            connection.execute(sa.update(proofs).where(whose).values(columns))
            if counts:
                conclude(connection, row, failed)
            return dataclasses.replace(row, failed=failed)

    def _changed(self, row: ProofRow, **values: object) -> bool:
        """Change a proof that is to come and is at this very attempt; False when it is not."""
        change = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid, _OPEN)
        with transaction(self._engine) as connection:
            return bool(connection.execute(change.where(proofs.c.attempt == row.attempt).values(values)).rowcount)

    def _rows(self, where: sa.ColumnElement[bool]) -> list[ProofRow]:
        query = sa.select(proofs).join(jobs, jobs.c.job == proofs.c.job).where(where)
        return [ProofRow.of(row) for row in fetch(self._engine, query.order_by(proofs.c.since, proofs.c.due_at))]


# Inside a transaction that the caller has begun


def _insert(
    connection: sa.Connection, job: str, destination: str, sent_in: int, values: Mapping[str, float | None]
) -> None:
    """Insert a row under a random Transaction UID (PS3.5 B.2), which nobody can guess."""
    row = {"transaction_uid": generate_uid(prefix=None), "job": job, "destination": destination, "sent_in": sent_in}
    row |= {"attempt": 1, "due_at": time.time(), "sentence": ""}
    connection.execute(sa.insert(proofs).values({**row, **values}))


def conclude(connection: sa.Connection, row: ProofRow, failed: Collection[str]) -> None:
    """Record the event of a report, if it says something final; a job that has ended has no events any more."""
    job = locked(connection, row.job)
    if job.state not in _LIVE:
        return
    whose = (receipts.c.job == row.job) & (receipts.c.destination == row.destination) & receipts.c.taken
    query = sa.select(sa.func.count(), sa.func.count().filter(receipts.c.commitment == 0)).where(whose)
    taken, kept = connection.execute(query).one()
    if failed:
        words = f"{row.destination} does not keep {len(failed)} of {taken} instances"
        step(connection, JobEvent.COMMITMENT_FAILED, row.job, words)
    elif kept == taken and kept >= (job.ct_instances or 0):
        step(connection, JobEvent.COMMITTED, row.job, f"{row.destination} keeps all {kept} instances")
