"""One job takes the place of earlier ones of the same series: more instances came, or a person chose other bytes.

    the earlier job is                          then it                                 and the new CT series
    RECEIVED, also while it is computed         is REJECTED: SUPERSEDED                 -
    SYNTHESIZED, and nothing was sent           is REJECTED: SUPERSEDED                 -
    SYNTHESIZED, and sent at least in part      is sent to the end where it had begun   says that it replaces it
    SYNTHESIZED, without any destination        stays: out/<job>/ is where it ends      says that it replaces it
    DELIVERED                                   stays                                   says that it replaces it
    REJECTED by a person, and sent in part      stays                                   says that it replaces it

The new CT series names the one that it replaces in its Related Series Sequence (0008,1250; PS3.3 C.7.3.1). The one that
is replaced keeps its UIDs: a UID never names another object (PS3.5 9.1). Held or not makes no difference, except that
what is held is not sent to the end before a person releases it. Nothing is deleted. Each function works inside a
transaction that its caller has begun.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.ledger.rows import DeliveryRow, JobRow
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.tables import deliveries, jobs
from dicomnode.ledger.transitions import ended_for, locked, record, step

if TYPE_CHECKING:
    from collections.abc import Mapping

SUPERSEDED: Final = "SUPERSEDED"
"""Reason code of a job that another took the place of before anything of it was sent."""


def open_job(connection: sa.Connection, row: Mapping[str, Any], reason: str, why: str, by: str | None = None) -> None:
    """Insert a job that takes the place of the earlier ones of its series.

    Args:
        row: Its columns, but for state and times, and what it supersedes and replaces.
        reason: Why it is RECEIVED; `by` is who decided that.
        why: Why it takes the earlier ones' place.
    """
    job, source = row["job"], row["series_instance_uid"]
    touch = sa.update(jobs).where(jobs.c.series_instance_uid == source).values(job=jobs.c.job).returning(*jobs.c)
    earlier = [JobRow.of(one) for one in connection.execute(touch).mappings()]  # locked until the transaction ends
    earlier.sort(key=lambda one: one.created_at, reverse=True)
    sent = supersede(connection, earlier, job, why)
    succession = {"supersedes": earlier[0].job if earlier else None, "replaces": sent and sent.ct_series_uid}
    when = {"created_at": time.time(), "updated_at": time.time()}
    connection.execute(sa.insert(jobs).values({**row, **succession, **when, "state": State.RECEIVED}))
    record(connection, JobEvent.SETTLED, source, job, State.RECEIVED, reason, by)


def supersede(connection: sa.Connection, earlier: list[JobRow], by: str, why: str) -> JobRow | None:
    """End the jobs of which nothing has been sent; -> the newest that has been sent, which the job `by` replaces.

    Destinations that have nothing of a replaced job yet do not get it. `earlier`: the newest first.
    """
    sent = [row for row in earlier if _sent(connection, row)]
    words = f"{why}; job {by[:12]} takes its place"
    for row in earlier:
        if row not in sent and row.state is not State.REJECTED:
            step(connection, JobEvent.SUPERSEDED, row.job, words, ended_for(SUPERSEDED, words) | {"superseded_by": by})
    if not sent:
        return None
    newest = sent[0]
    if newest.state is not State.REJECTED:
        step(connection, JobEvent.REPLACED, newest.job, words, {"superseded_by": by})
        nothing = (deliveries.c.job == newest.job) & deliveries.c.begun_at.is_(None)
        withdrawal = sa.update(deliveries).where(nothing, deliveries.c.delivered_at.is_(None))
        connection.execute(withdrawal.values(withdrawn_at=time.time()))
        delivered_by_all(connection, newest.job)
    return newest


def delivered_by_all(connection: sa.Connection, job: str) -> bool:
    """Record that a job is DELIVERED if every destination that is to have it has it; -> whether that is so.

    A held job is not DELIVERED before it is released; one without destinations never is.
    """
    row, rows = locked(connection, job), _deliveries(connection, job)
    if row.state is not State.SYNTHESIZED or row.held is not None or not rows or any(one.open for one in rows):
        return False
    step(connection, JobEvent.DELIVERED, job, "every destination has every instance")
    return True


def _sent(connection: sa.Connection, row: JobRow) -> bool:
    """Tell whether somebody may have instances of the job's CT series."""
    rows = _deliveries(connection, row.job)
    begun = any(one.begun_at or one.delivered_at for one in rows)
    return begun or row.state is State.DELIVERED or (row.state is State.SYNTHESIZED and not rows)


def _deliveries(connection: sa.Connection, job: str) -> list[DeliveryRow]:
    rows = connection.execute(sa.select(deliveries).where(deliveries.c.job == job)).mappings()
    return [DeliveryRow.of(row) for row in rows]
