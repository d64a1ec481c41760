"""How things stand in the ledger now: what waits, for how long, and for whom. Counted by the database, not row by row.

queue        what waits in it                                     its oldest counts from
settle       series of which instances came, not complete yet     its first instance
synthesize   jobs that are to be computed                         when the series was complete
person       jobs that are held                                   its last step
deliver      CT series that a destination has not taken           when the CT was made
proof        storage commitments that destinations owe            when they had everything
notice       notices that no channel has taken                    what they tell
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.ledger.database import transaction
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import deliveries, jobs, notices, proofs, series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Line:
    """What waits in one queue: how many, and since when its oldest (Unix time, seconds; None: it is empty)."""

    length: int
    since: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The ledger in numbers.

    Attributes:
        jobs: how many jobs by (state, held).
        queues: by the names at the head of this file.
        destinations: what waits for each destination for which anything does.
        last_instance_at: when the last instance of all came (Unix time, seconds); None: none ever did.
    """

    jobs: Mapping[tuple[str, bool], int]
    queues: Mapping[str, Line]
    destinations: Mapping[str, Line]
    last_instance_at: float | None


_COUNT: Final = sa.func.count()
_FREE: Final = jobs.c.held.is_(None)
_OPEN: Final = deliveries.c.delivered_at.is_(None) & deliveries.c.withdrawn_at.is_(None)
_DUE: Final = (jobs.c.state == State.SYNTHESIZED) & _FREE & _OPEN
_OWED: Final = proofs.c.ended_at.is_(None) & jobs.c.state.in_((State.SYNTHESIZED, State.DELIVERED))


def standing(engine: sa.Engine) -> Standing:
    """Count, in one transaction. Raises LedgerUnreachable."""
    held = jobs.c.held.is_not(None)
    with transaction(engine) as connection:
        states = connection.execute(sa.select(jobs.c.state, held, _COUNT).group_by(jobs.c.state, held)).all()
        waiting = sa.select(deliveries.c.destination, _COUNT, sa.func.min(deliveries.c.since)).join(jobs).where(_DUE)
        rows = connection.execute(waiting.group_by(deliveries.c.destination)).all()
        queues = {name: Line(*connection.execute(query).one()) for name, query in _queues()}
        last = connection.execute(sa.select(sa.func.max(series.c.last_at))).scalar_one()
    by_state = {(str(state), bool(is_held)): count for state, is_held, count in states}
    return Standing(by_state, queues, {name: Line(count, since) for name, count, since in rows}, last)


def _queues() -> Iterator[tuple[str, sa.Select[int, Any]]]:
    """Name -> length and oldest."""
    first = sa.func.min
    yield "settle", sa.select(_COUNT, first(series.c.first_at)).where(series.c.job.is_(None))
    due = sa.select(_COUNT, first(jobs.c.created_at)).where(jobs.c.state == State.RECEIVED, _FREE)
    yield "synthesize", due
    yield "person", sa.select(_COUNT, first(jobs.c.updated_at)).where(jobs.c.held.is_not(None))
    yield "deliver", sa.select(_COUNT, first(deliveries.c.since)).select_from(deliveries).join(jobs).where(_DUE)
    yield "proof", sa.select(_COUNT, first(proofs.c.since)).select_from(proofs).join(jobs).where(_OWED)
    unsent = notices.c.ended_at.is_(None) & notices.c.channel.is_not(None)
    yield "notice", sa.select(_COUNT, first(notices.c.at)).where(unsent)
