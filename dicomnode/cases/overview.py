"""Queries about all jobs, for pages and metrics: the database counts, however many jobs and receipts there are.

Each function is one transaction that changes nothing. What waits, for how long, and for whom:

    queue        what waits in it                                     its oldest counts from
    settle       series of which instances came, not complete yet     its first instance
    synthesize   jobs that are to be computed                         when the series was complete
    person       jobs that are held                                   its last step
    deliver      CT series that a destination has not taken           when the CT was made
    proof        storage commitments that destinations owe            when they had everything
    notice       notices that no channel has taken                    their event
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.cases.wording import ReceiptCounts
from dicomnode.ledger import resending
from dicomnode.ledger.database import fetch, transaction
from dicomnode.ledger.rows import DeliveryRow, JobRow
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import deliveries, jobs, notices, proofs, receipts, series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELD: Final = "HELD"
"""Word of the pages for held jobs, whatever their state."""


def counts(engine: sa.Engine) -> dict[str, int]:
    """Count the jobs in each state, and those that are held; RECEIVING are series that no job has taken."""
    query = sa.select(jobs.c.state, jobs.c.held.is_not(None).label("held"), sa.func.count().label("number"))
    with transaction(engine) as connection:
        found = connection.execute(query.group_by(jobs.c.state, jobs.c.held.is_not(None))).all()
        arriving = sa.select(sa.func.count()).select_from(series).where(series.c.job.is_(None))
        receiving = connection.execute(arriving).scalar_one()
    counted = dict.fromkeys([*(state.value for state in State), HELD], 0) | {State.RECEIVING.value: receiving}
    for state, held, number in found:
        counted[state] += number
        counted[HELD] += number if held else 0
    return counted


def newest(engine: sa.Engine, shown: str, most: int) -> list[JobRow]:
    """Return the newest jobs, at most so many: of a state, HELD, or all of them for an empty word."""
    query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.job).limit(most)
    if shown:
        query = query.where(jobs.c.held.is_not(None) if shown == HELD else jobs.c.state == shown)
    return [JobRow.of(row) for row in fetch(engine, query)]


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """The delivery of a job to one destination, and its answers since everything was last sent once more, counted."""

    delivery: DeliveryRow
    counted: ReceiptCounts


def delivery_statuses(engine: sa.Engine, of: Sequence[JobRow]) -> Mapping[str, list[DeliveryStatus]]:
    """Return the destinations of each job, by name; none for a job that is not SYNTHESIZED yet."""
    keys = [row.job for row in of]
    query = sa.select(deliveries).where(deliveries.c.job.in_(keys)).order_by(deliveries.c.destination)
    belongs = (receipts.c.job == deliveries.c.job) & (receipts.c.destination == deliveries.c.destination)
    counting = sa.select(
        receipts.c.job,
        receipts.c.destination,
        _number(receipts.c.taken).label("taken"),
        _number(receipts.c.warning).label("warned"),
        _number(receipts.c.commitment == 0).label("kept"),
        _number(receipts.c.commitment != 0).label("lost"),
    )
    counting = counting.join(deliveries, belongs).where(receipts.c.job.in_(keys), resending.COUNTS)
    counting = counting.group_by(receipts.c.job, receipts.c.destination)
    with transaction(engine) as connection:
        rows = [DeliveryRow.of(row) for row in connection.execute(query).mappings()]
        answered = {(one.job, one.destination): one for one in connection.execute(counting)}
    found: dict[str, list[DeliveryStatus]] = defaultdict(list)
    for row in rows:
        one = answered.get((row.job, row.destination))
        counted = ReceiptCounts(one.taken, one.warned, one.kept, one.lost) if one else ReceiptCounts()
        found[row.job].append(DeliveryStatus(row, counted))
    return found


def _number(true: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """Count the rows in which a condition is true; NULL is not."""
    return sa.func.sum(sa.case((true, 1), else_=0))


def last_taken(engine: sa.Engine) -> dict[str, datetime.datetime]:
    """Return when each destination last had every instance of a CT series."""
    query = sa.select(deliveries.c.destination, sa.func.max(deliveries.c.delivered_at).label("at"))
    query = query.where(deliveries.c.delivered_at.is_not(None)).group_by(deliveries.c.destination)
    rows = fetch(engine, query)
    return {row["destination"]: datetime.datetime.fromtimestamp(row["at"], datetime.UTC) for row in rows}


@dataclass(frozen=True, slots=True)
class QueueLength:
    """The length of one queue, and since when its oldest waits (Unix time, seconds; None: it is empty)."""

    length: int
    since: float | None


@dataclass(frozen=True, slots=True)
class LedgerOverview:
    """The ledger in numbers.

    Attributes:
        jobs: Number of jobs by (state, held).
        queues: Queues by the names at the head of this file.
        destinations: The queue of each destination for which anything waits.
        last_instance_at: When the last instance of all came (Unix time, seconds); None: none ever did.
    """

    jobs: Mapping[tuple[str, bool], int]
    queues: Mapping[str, QueueLength]
    destinations: Mapping[str, QueueLength]
    last_instance_at: float | None


_COUNT: Final = sa.func.count()
_FIRST: Final = sa.func.min
_FREE: Final = jobs.c.held.is_(None)
_OPEN: Final = deliveries.c.delivered_at.is_(None) & deliveries.c.withdrawn_at.is_(None)
_DUE: Final = (jobs.c.state == State.SYNTHESIZED) & _FREE & _OPEN
_OWED: Final = proofs.c.ended_at.is_(None) & jobs.c.state.in_((State.SYNTHESIZED, State.DELIVERED))
_UNSENT: Final = notices.c.ended_at.is_(None) & notices.c.channel.is_not(None)
_QUEUES: Final[Mapping[str, sa.Select[int, Any]]] = {
    "settle": sa.select(_COUNT, _FIRST(series.c.first_at)).where(series.c.job.is_(None)),
    "synthesize": sa.select(_COUNT, _FIRST(jobs.c.created_at)).where(jobs.c.state == State.RECEIVED, _FREE),
    "person": sa.select(_COUNT, _FIRST(jobs.c.updated_at)).where(jobs.c.held.is_not(None)),
    "deliver": sa.select(_COUNT, _FIRST(deliveries.c.since)).select_from(deliveries).join(jobs).where(_DUE),
    "proof": sa.select(_COUNT, _FIRST(proofs.c.since)).select_from(proofs).join(jobs).where(_OWED),
    "notice": sa.select(_COUNT, _FIRST(notices.c.at)).where(_UNSENT),
}
"""Name -> query for length and oldest."""


def ledger_overview(engine: sa.Engine) -> LedgerOverview:
    """Count everything in one transaction. Raises LedgerUnreachable."""
    held = jobs.c.held.is_not(None)
    with transaction(engine) as connection:
        states = connection.execute(sa.select(jobs.c.state, held, _COUNT).group_by(jobs.c.state, held)).all()
        waiting = sa.select(deliveries.c.destination, _COUNT, _FIRST(deliveries.c.since)).join(jobs).where(_DUE)
        rows = connection.execute(waiting.group_by(deliveries.c.destination)).all()
        queues = {name: QueueLength(*connection.execute(query).one()) for name, query in _QUEUES.items()}
        last = connection.execute(sa.select(sa.func.max(series.c.last_at))).scalar_one()
    by_state = {(str(state), bool(is_held)): count for state, is_held, count in states}
    return LedgerOverview(by_state, queues, {name: QueueLength(count, since) for name, count, since in rows}, last)
