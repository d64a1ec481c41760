"""One row of `dicomnode.ledger.states.TRANSITIONS` taken in SQL, with its event row and its notice.

Each function works inside a transaction that its caller has begun.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dicomnode.errors import WrongState
from dicomnode.ledger import notices
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import TRANSITIONS, JobEvent, State
from dicomnode.ledger.tables import events, jobs

if TYPE_CHECKING:
    from collections.abc import Mapping


def step(
    connection: sa.Connection,
    event: JobEvent,
    job: str,
    words: str,
    values: Mapping[str, Any] | None = None,
    besides: sa.ColumnElement[bool] | None = None,
    by: str | None = None,
) -> None:
    """Take a step of TRANSITIONS if the job is where one begins, and write event and notice.

    The comparison and the change are one UPDATE, so two processes can never both take the step.

    Args:
        values: Columns of the job that change with it.
        besides: A further condition on the job's row.
        by: Who decided it (cli:NAME, web:NAME); None: the node.

    Raises:
        WrongState: The job is not where the event can happen.
    """
    for one in (one for one in TRANSITIONS if one.event is event):
        guard = (jobs.c.job == job) & (jobs.c.state == one.before)
        if one.held is not None:
            guard &= jobs.c.held.is_not(None) if one.held else jobs.c.held.is_(None)
        if besides is not None:
            guard &= besides
        change = sa.update(jobs).where(guard).values(state=one.after, updated_at=time.time(), **(values or {}))
        source = connection.execute(change.returning(jobs.c.series_instance_uid)).scalar_one_or_none()
        if source is not None:
            notices.note(connection, event, job, words, values or {})
            return record(connection, event, source, job, one.after, words, by)
    raise WrongState(f"job {job[:12]} is not where '{event}' can happen; see sct-node show {job[:12]}")


def record(
    connection: sa.Connection,
    event: JobEvent,
    source: str,
    job: str | None,
    state: State,
    words: str,
    by: str | None = None,
) -> None:
    """Write the row of an event about a job, or about the series `source` that has no job yet."""
    row = {"at": time.time(), "event": event, "series_instance_uid": source, "job": job, "state": state, "words": words}
    connection.execute(sa.insert(events).values(row | {"by": by}))


def locked(connection: sa.Connection, job: str) -> JobRow:
    """Lock a job until the transaction ends, and return it as it is. Raises WrongState when it is unknown.

    The lock is an UPDATE that changes nothing: SQLite begins a transaction with the first UPDATE, not with a SELECT.
    """
    touch = sa.update(jobs).where(jobs.c.job == job).values(job=jobs.c.job).returning(*jobs.c)
    row = connection.execute(touch).mappings().first()
    if row is None:
        raise WrongState(f"no job is known as {job[:12]}")
    return JobRow.of(row)


def held_for(hold: tuple[str, str] | None) -> dict[str, str | None]:
    """Return the columns of a job that is held for a reason (code, sentence), or for none."""
    code, sentence = hold or (None, None)
    return {"held": sentence, "reason_code": code, "reason_sentence": sentence}


def ended_for(code: str, sentence: str) -> dict[str, str | None]:
    """Return the columns of a job that has ended for a reason; it is no longer held."""
    return {"held": None, "reason_code": code, "reason_sentence": sentence}


def release(connection: sa.Connection, job: str, reason: str, by: str | None = None) -> None:
    """Let a held job continue because a person decided so; its failures count from zero again. Raises WrongState."""
    values = {"attempt": jobs.c.attempt + 1, "failures": 0, **held_for(None)}
    step(connection, JobEvent.RELEASED, job, reason, values, by=by)
