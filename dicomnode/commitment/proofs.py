"""The diary of proofs: storage commitment that was asked of destinations, and what they reported. Its SQL is here.

One row a transaction. What a destination reports of an instance stands in its receipt (`receipts.commitment`); nothing
reported is unproven, never failed. Beginning a visit moves the next one into the future, so that a visit that its
process did not survive is made again, and two processes never make the same one. A report counts whenever it comes,
unless the instances have been sent once more since.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from pydicom.uid import generate_uid

from dicomnode.ledger.database import transaction
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
        """What makes a proof wanted, in the transaction in which the destination has got everything.

        The first visit is due `wait_s` later.
        """
        return lambda connection: _want(connection, job, destination, wait_s)

    def open(self) -> list[ProofRow]:
        """Proofs that are still to come, of jobs that have not ended, the oldest first."""
        return self._rows(_OPEN & jobs.c.state.in_(_LIVE))

    def of(self, job: str) -> list[ProofRow]:
        """Every proof that was wanted about a job, the oldest first."""
        return self._rows(proofs.c.job == job)

    def unproven(self, row: ProofRow) -> list[str]:
        """SOP Instance UIDs that the destination has taken and reported nothing of."""
        query = sa.select(receipts.c.sop_instance_uid).where(
            receipts.c.job == row.job, receipts.c.destination == row.destination
        )
        query = query.where(receipts.c.taken, receipts.c.commitment.is_(None))
        with transaction(self._engine) as connection:
            return list(connection.execute(query.order_by(receipts.c.sop_instance_uid)).scalars())

    def begun(self, row: ProofRow, next_at: float) -> ProofRow | None:
        """A visit begins; -> the row. If nothing is heard of it, the next is due at `next_at` (Unix time).

        None when it is not due any more: reported, or begun by another process.
        """
        begun = dataclasses.replace(row, attempt=row.attempt + 1)
        return begun if self._changed(row, attempt=begun.attempt, due_at=next_at) else None

    def asking(self, row: ProofRow, listed: Mapping[str, str]) -> None:
        """The request is about to be made; `listed`: SOP Instance UID -> SOP Class UID."""
        self._changed(row, listed=json.dumps(dict(listed)), asked_at=time.time())

    def not_asked(self, row: ProofRow, sentence: str, due_at: float) -> None:
        """The request was not taken, because of `sentence`; it is made again at `due_at` (Unix time)."""
        self._changed(row, asked_at=None, sentence=sentence, due_at=due_at)

    def postponed(self, row: ProofRow, sentence: str, due_at: float) -> None:
        """No report was had, because of `sentence`; the next visit is due at `due_at` (Unix time)."""
        self._changed(row, sentence=sentence, due_at=due_at)

    def ended(self, row: ProofRow, sentence: str) -> None:
        """There will be no visit any more, because of `sentence`; a report still counts."""
        self._changed(row, ended_at=time.time(), sentence=sentence)

    def renewed(self, row: ProofRow) -> None:
        """Nothing was reported for too long: a request under another Transaction UID takes this one's place."""
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
        """It has been unproven for too long; False when that is known."""
        with transaction(self._engine) as connection:
            change = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid, _OPEN)
            change = change.where(proofs.c.alarmed_at.is_(None)).values(alarmed_at=time.time())
            if not connection.execute(change).rowcount:
                return False
            step(connection, JobEvent.ALARMED, row.job, sentence)
            return True

    def reported(self, report: Report) -> ProofRow | None:
        """A destination reported; -> the row, or None when no such transaction was asked for.

        An event when this proves the whole delivery, or says that something of it is lost.
        """
        with transaction(self._engine) as connection:
            row = _touched(connection, report.transaction_uid)
            if row is None:
                return None
            listed = row.listed or {}
            failed = {uid: why for uid, why in report.failed.items() if uid in listed}
            told = {uid: 0 for uid in report.committed if uid in listed} | failed
            counting = _counts(connection, row)
            if counting:
                _note(connection, row, told)
            if row.failed == failed and row.ended_at is not None:
                return row  # it says so again
            values: dict[str, object] = {"failed": json.dumps(failed), "sentence": ""}
            if listed.keys() <= told.keys() or not counting:
                values["ended_at"] = time.time()
            whose = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid)
            connection.execute(whose.values(values))
            if counting:
                _tell(connection, row, failed)
            return dataclasses.replace(row, failed=failed)

    def _changed(self, row: ProofRow, **values: object) -> bool:
        """Change a proof that is to come and is at this very attempt; False when it is not."""
        change = sa.update(proofs).where(proofs.c.transaction_uid == row.transaction_uid, _OPEN)
        with transaction(self._engine) as connection:
            return bool(connection.execute(change.where(proofs.c.attempt == row.attempt).values(values)).rowcount)

    def _rows(self, where: sa.ColumnElement[bool]) -> list[ProofRow]:
        query = (
            sa.select(proofs)
            .join(jobs, jobs.c.job == proofs.c.job)
            .where(where)
            .order_by(proofs.c.since, proofs.c.due_at)
        )
        with transaction(self._engine) as connection:
            return [ProofRow.of(row) for row in connection.execute(query).mappings().all()]


# Inside a transaction that the caller has begun


def _want(connection: sa.Connection, job: str, destination: str, wait_s: float) -> None:
    """A proof of a delivery is wanted; an earlier one that has not come is not waited for."""
    whose = (proofs.c.job == job) & (proofs.c.destination == destination)
    older = sa.update(proofs).where(whose, _OPEN).values(ended_at=time.time(), sentence="all was sent once more")
    connection.execute(older)
    query = sa.select(deliveries.c.attempt).where(deliveries.c.job == job, deliveries.c.destination == destination)
    sent_in, now = connection.execute(query).scalar_one(), time.time()
    _insert(connection, job, destination, sent_in, {"since": now, "due_at": now + wait_s})


def _insert(
    connection: sa.Connection, job: str, destination: str, sent_in: int, values: Mapping[str, float | None]
) -> None:
    """A row under a Transaction UID that is random (PS3.5 B.2): nobody guesses one."""
    row = {"transaction_uid": generate_uid(prefix=None), "job": job, "destination": destination, "sent_in": sent_in}
    row |= {"attempt": 1, "due_at": time.time(), "sentence": ""}
    connection.execute(sa.insert(proofs).values({**row, **values}))


def _touched(connection: sa.Connection, transaction_uid: str) -> ProofRow | None:
    """The row of a transaction as it is until the database's transaction ends."""
    whose = proofs.c.transaction_uid == transaction_uid
    touch = sa.update(proofs).where(whose).values(transaction_uid=proofs.c.transaction_uid).returning(*proofs.c)
    found = connection.execute(touch).mappings().first()
    return None if found is None else ProofRow.of(found)


def _counts(connection: sa.Connection, row: ProofRow) -> bool:
    """Whether what was asked about is what was sent last."""
    query = sa.select(deliveries.c.resent_from).where(
        deliveries.c.job == row.job, deliveries.c.destination == row.destination
    )
    return (connection.execute(query).scalar_one_or_none() or 0) <= row.sent_in


def _note(connection: sa.Connection, row: ProofRow, told: Mapping[str, int]) -> None:
    """Write what was reported of each instance into its receipt."""
    whose = (receipts.c.job == row.job) & (receipts.c.destination == row.destination)
    change = sa.update(receipts).where(whose, receipts.c.sop_instance_uid == sa.bindparam("uid"))
    if told:
        values = [{"uid": uid, "reported": reason} for uid, reason in told.items()]
        connection.execute(change.values(commitment=sa.bindparam("reported")), values)


def _tell(connection: sa.Connection, row: ProofRow, failed: Collection[str]) -> None:
    """The event of a report, if it says something final; a job that has ended has no events any more."""
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
