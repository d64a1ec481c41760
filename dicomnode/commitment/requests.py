"""The table of storage commitments that senders ask for (PS3.4 J.3.2), with all its SQL.

One row a requestor and Transaction UID. A repeated request stays one row, to be reported again; with another list, the
last list counts. An attempt at a report begins with moving the next one into the future: so an attempt that its process
did not survive is made again, and two processes never make the same one.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dicomnode.commitment.push_model import CommitmentRequest, Unacceptable
from dicomnode.ledger.database import fetch, transaction
from dicomnode.ledger.rows import CommitmentRow
from dicomnode.ledger.tables import commitments

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MOST_WAITING: Final = 10_000
"""Requests of which the report is still to be given; more are answered with Resource limitation (0x0213, PS3.7 C)."""

LINGER_S: Final = 1.5
"""How long a sender has to fall silent on its own association, before it is called back over another."""

ANNOUNCED_S: Final = 3600.0
"""How long a request counts as an announcement of instances that are to come."""

REMEMBERED_S: Final = 30 * 86_400.0
"""How long a request is kept after it has ended."""

_OPEN: Final = commitments.c.ended_at.is_(None)


class Commitments:
    """The table of commitments. Safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def asked(self, request: CommitmentRequest) -> None:
        """Remember a request, or ask again for one that is known; durable when this returns.

        Raises Unacceptable when too many wait, LedgerUnreachable.
        """
        now = time.time()
        values = {"listed": json.dumps(dict(request.references)), "asked_at": now, "due_at": now + LINGER_S}
        values |= {"ended_at": None, "failed": None, "sentence": ""}
        with transaction(self._engine) as connection:
            again = sa.update(commitments).where(_is(request.requestor, request.transaction_uid))
            if connection.execute(again.values(**values, attempt=commitments.c.attempt + 1)).rowcount:
                return
            waiting = sa.select(sa.func.count()).select_from(commitments).where(_OPEN)
            if connection.execute(waiting).scalar_one() >= MOST_WAITING:
                raise Unacceptable(0x0213, "Too many requests wait for their reports")
            key = {"requestor": request.requestor, "transaction_uid": request.transaction_uid}
            connection.execute(sa.insert(commitments).values(**key, **values, attempt=1))
            ended_long_ago = commitments.c.ended_at < now - REMEMBERED_S
            connection.execute(sa.delete(commitments).where(ended_long_ago))

    def waiting(self) -> list[CommitmentRow]:
        """Return the requests whose report is still to be given, the oldest first."""
        return self._rows(_OPEN)

    def known(self) -> list[CommitmentRow]:
        """Return every request that is remembered, the oldest first."""
        return self._rows(sa.true())

    def begun(self, row: CommitmentRow, next_at: float) -> CommitmentRow | None:
        """Begin an attempt at this report; -> its row. If the attempt does not end, the next is due at `next_at`.

        None when it is not due any more: reported, asked for again, or begun by another process.
        """
        begun = dataclasses.replace(row, attempt=row.attempt + 1)
        return begun if self._changed(row, attempt=begun.attempt, due_at=next_at) else None

    def postponed(self, row: CommitmentRow, sentence: str, due_at: float) -> None:
        """Record that an attempt came to nothing, because of `sentence`; the next is due at `due_at` (Unix time)."""
        self._changed(row, sentence=sentence, due_at=due_at)

    def reported(self, row: CommitmentRow, failed: Mapping[str, int]) -> None:
        """Record that the requestor took the report; `failed`: SOP Instance UID -> Failure Reason."""
        self._changed(row, failed=json.dumps(dict(failed)), ended_at=time.time(), sentence="")

    def given_up(self, row: CommitmentRow, sentence: str) -> bool:
        """Record that the report is given up, because of `sentence`; False when it does not wait any more."""
        return self._changed(row, ended_at=time.time(), sentence=sentence)

    def requests(self, sop_uids: Collection[str]) -> list[frozenset[str]]:
        """Return the SOP Instance UIDs listed by each request of the last hour that names one of `sop_uids`.

        A sender lists what it has sent. A request names no series: it may list instances of others too, and a sender
        may ask for each instance by itself.
        """
        lately = [frozenset(row.listed) for row in self._rows(commitments.c.asked_at > time.time() - ANNOUNCED_S)]
        return [listed for listed in lately if not listed.isdisjoint(sop_uids)]

    def _changed(self, row: CommitmentRow, **values: object) -> bool:
        """Change a request that waits and is at this very attempt; False when it is not."""
        change = sa.update(commitments).where(_is(row.requestor, row.transaction_uid), _OPEN)
        with transaction(self._engine) as connection:
            return bool(connection.execute(change.where(commitments.c.attempt == row.attempt).values(values)).rowcount)

    def _rows(self, where: sa.ColumnElement[bool]) -> list[CommitmentRow]:
        query = sa.select(commitments).where(where).order_by(commitments.c.asked_at)
        return [CommitmentRow.of(row) for row in fetch(self._engine, query)]


def _is(requestor: str, transaction_uid: str) -> sa.ColumnElement[bool]:
    return (commitments.c.requestor == requestor) & (commitments.c.transaction_uid == transaction_uid)
