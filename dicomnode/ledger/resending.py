"""Decisions of people about deliveries: make the next attempt at once, or send everything once more.

To send once more (`send_again`) keeps what the destination answered until it answers again: receipts of an attempt
before `deliveries.resent_from` do not count. The objects in out/<job>/ are the same, under the same UIDs: a destination
that has one answers Success again, or 0x0111 Duplicate SOP Instance (PS3.7 C), which counts as success. Each function
works inside a transaction that its caller has begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dicomnode.errors import WrongState
from dicomnode.ledger.database import Then
from dicomnode.ledger.rows import DeliveryRow
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.tables import deliveries, events, receipts
from dicomnode.ledger.transitions import locked, step

if TYPE_CHECKING:
    from collections.abc import Collection

    from dicomnode.ledger.rows import JobRow

Entry = Callable[[str, int], Then]
"""Destination and attempt -> the engine's queue entry."""

COUNTS: Final = sa.func.coalesce(receipts.c.attempt, 0) >= sa.func.coalesce(deliveries.c.resent_from, 0)
"""Of a receipt and its delivery: it was given since everything was last sent once more, if ever."""


def retry_now(connection: sa.Connection, job: str, reason: str, by: str, entry: Entry) -> None:
    """Make the next attempt of each destination that has not everything at once.

    Raises WrongState when the job is held, ended, or no destination is to get anything of it.
    """
    row = locked(connection, job)
    waiting = [one for one in _deliveries(connection, row) if one.open]
    if not waiting:
        raise WrongState(f"job {job[:12]} is {row.state}, and no destination is to get anything more of it")
    names = ", ".join(one.destination for one in waiting)
    step(connection, JobEvent.RETRIED, job, f"{reason} (to {names})", by=by)
    for one in waiting:
        _enqueue_next(connection, one, entry, sentence=one.sentence)


def send_again(connection: sa.Connection, job: str, to: Collection[str], reason: str, by: str, entry: Entry) -> None:
    """Send everything once more: `to` these destinations, or to all that have everything when none is named.

    Raises WrongState when the job is held, ended or replaced, or a destination is none of its own.
    """
    row = locked(connection, job)
    if row.superseded_by is not None:
        raise WrongState(f"job {row.superseded_by[:12]} took the place of job {job[:12]}; resend that one")
    gone = sa.select(events.c.id).where(events.c.job == job, events.c.event == JobEvent.DELETED)
    if connection.execute(gone).first() is not None:
        raise WrongState(f"the CT of job {job[:12]} is deleted (retention.delivered_after_s)")
    there = {one.destination: one for one in _deliveries(connection, row) if one.withdrawn_at is None}
    strange = [name for name in to if name not in there]
    if strange:
        known = ", ".join(there) or "nowhere"
        raise WrongState(f"job {job[:12]} does not go to {strange[0]}, it goes to: {known}; see sct-node send")
    chosen = [there[name] for name in dict.fromkeys(to)] or [one for one in there.values() if one.delivered_at]
    if not chosen:
        raise WrongState(f"job {job[:12]} is {row.state}, and no destination has got all of it; see sct-node retry")
    words = f"{reason} (all of it once more to {', '.join(one.destination for one in chosen)})"
    step(connection, JobEvent.RESENT, job, words, by=by)
    for one in chosen:
        values = {"delivered_at": None, "alarmed_at": None, "since": time.time(), "resent_from": one.attempt + 1}
        _enqueue_next(connection, one, entry, **values, sentence="")


def _deliveries(connection: sa.Connection, row: JobRow) -> list[DeliveryRow]:
    """Return the deliveries of a job that is not held and whose CT is there to be sent. Raises WrongState."""
    if row.held is not None:
        raise WrongState(f"job {row.job[:12]} is held, {row.reason_code}: release it or reject it")
    if row.state not in (State.SYNTHESIZED, State.DELIVERED):
        raise WrongState(f"job {row.job[:12]} is {row.state}: there is nothing to send")
    query = sa.select(deliveries).where(deliveries.c.job == row.job).order_by(deliveries.c.destination)
    return [DeliveryRow.of(one) for one in connection.execute(query).mappings()]


def _enqueue_next(connection: sa.Connection, one: DeliveryRow, entry: Entry, **values: object) -> None:
    """Make the attempt after the known one due now, and put it into the queue."""
    attempt = one.attempt + 1
    whose = (deliveries.c.job == one.job) & (deliveries.c.destination == one.destination)
    change = sa.update(deliveries).where(whose).values(attempt=attempt, due_at=time.time(), **values)
    connection.execute(change)
    entry(one.destination, attempt)(connection)
