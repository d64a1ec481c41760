"""Decides which job events become notices to people, and keeps the queue of notices in the node's database.

    event                                             kind
    a job is held for a fault of the node             failure
    a finding rejects a job                           failure
    a job is held for anything else                   hold
    undelivered or unproven for too long, lost by a   alarm
    destination, replaced after it had been sent
    a series is unsuitable                            rejection
    the daily check of the whole chain failed         constancy
    a process hangs, or ends again and again          failure

A notice is written in the transaction of its event: so no notice is about something that did not happen, and none is
forgotten when its process dies. It is divided once, into one row for each channel, or deleted where nobody wants it.
An attempt begins with moving the next one into the future: so an attempt that its process did not survive is made
again, and two processes never make the same one. A notice that was being sent when its process was killed is sent
twice at most. `dicomnode.notify` sends them.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.config.sections import Kind
from dicomnode.ledger.database import fetch, transaction
from dicomnode.ledger.rows import Row
from dicomnode.ledger.states import JobEvent
from dicomnode.ledger.tables import notices
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from dicomnode.config.sections import Kind

TOGETHER: Final = 50
"""Notices in one message, at most."""

_OPEN: Final = notices.c.ended_at.is_(None)


@dataclass(frozen=True, slots=True)
class NoticeRow(Row):
    """A notice to people over one channel; the next attempt is `attempt`, due at `due_at`."""

    id: int
    kind: str
    job: str | None
    code: str
    words: str
    at: datetime.datetime
    channel: str
    attempt: int
    due_at: datetime.datetime
    ended_at: datetime.datetime | None
    sent: bool
    sentence: str


class Notices:
    """The queue of notices. Safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def divide(self, kinds: Collection[Kind], channels: Iterable[str], gather_s: float) -> None:
        """Divide new notices of these kinds into one row for each channel, due `gather_s` later; delete the others."""
        new = notices.c.channel.is_(None)
        names = list(channels)
        if not fetch(self._engine, sa.select(notices.c.id).where(new).limit(1)):
            return
        with transaction(self._engine) as connection:
            rows = connection.execute(sa.delete(notices).where(new).returning(*notices.c)).mappings().all()
            wanted = [row for row in sorted(rows, key=lambda row: row["id"]) if row["kind"] in kinds]
            for row in wanted:
                kept = {key: value for key, value in row.items() if key != "id"} | {"due_at": row["at"] + gather_s}
                for name in names:
                    connection.execute(sa.insert(notices).values(kept | {"channel": name}))

    def due(self, channel: str) -> list[NoticeRow]:
        """Return what is due on a channel and, once anything is, also what was not tried yet; the oldest first."""
        now = time.time()
        mine = (notices.c.channel == channel) & _OPEN
        if not fetch(self._engine, sa.select(notices.c.id).where(mine, notices.c.due_at <= now).limit(1)):
            return []
        ripe = sa.or_(notices.c.due_at <= now, notices.c.attempt == 1)
        query = sa.select(notices).where(mine, ripe).order_by(notices.c.id).limit(TOGETHER)
        return [NoticeRow.of(row) for row in fetch(self._engine, query)]

    def begun(self, rows: Sequence[NoticeRow], next_at: float) -> list[NoticeRow]:
        """Begin an attempt; -> the notices that no other process tries. All are due again at `next_at`."""
        taken = []
        with transaction(self._engine) as connection:
            for row in rows:
                this = (notices.c.id == row.id) & (notices.c.attempt == row.attempt) & _OPEN
                change = sa.update(notices).where(this).values(attempt=row.attempt + 1, due_at=next_at)
                if connection.execute(change).rowcount:
                    taken.append(row)
        return taken

    def sent(self, rows: Sequence[NoticeRow]) -> None:
        """Record that the channel took them."""
        self._change(rows, ended_at=time.time(), sent=True, sentence="")

    def postponed(self, rows: Sequence[NoticeRow], sentence: str, due_at: float) -> None:
        """Record that the channel did not take them, because of `sentence`; they are due again at a Unix time."""
        self._change(rows, due_at=due_at, sentence=sentence)

    def given_up(self, rows: Sequence[NoticeRow], sentence: str) -> None:
        """Record that they are not tried any more."""
        self._change(rows, ended_at=time.time(), sentence=sentence)

    def forget(self, before: float) -> None:
        """Delete the notices that ended before a Unix time."""
        with transaction(self._engine) as connection:
            connection.execute(sa.delete(notices).where(notices.c.ended_at < before))

    def last(self, number: int) -> list[NoticeRow]:
        """Return the newest notices that were divided, the newest first."""
        query = sa.select(notices).where(notices.c.channel.is_not(None)).order_by(notices.c.id.desc()).limit(number)
        return [NoticeRow.of(row) for row in fetch(self._engine, query)]

    def _change(self, rows: Sequence[NoticeRow], **values: object) -> None:
        """Change the rows of an attempt that this process began."""
        with transaction(self._engine) as connection:
            these = notices.c.id.in_([row.id for row in rows])
            connection.execute(sa.update(notices).where(these, _OPEN).values(values))


FAULTS: Final = frozenset(
    ("FAILED", "PROCESS_DIED", "DELIVERY_FAILED", "WRONG_DIGEST", "UNKNOWN_MODEL", "BAD_CARD", "UNKNOWN_SETTINGS")
)
"""Reason codes of holds for which nobody needs to look at the images: the node, or its installation, is at fault."""
WITHOUT_NOTICE: Final = "IGNORED_BY_RULE"
"""Reason code of the rejection of what a site does not want to have converted."""
ALARMS: Final = (JobEvent.ALARMED, JobEvent.COMMITMENT_FAILED, JobEvent.REPLACED)


def kind_of(event: JobEvent, values: Mapping[str, Any]) -> Kind | None:
    """Return the kind of notice that an event becomes; None: no notice. `values`: the job's columns that it changes."""
    if values.get("held"):
        return Kind.FAILURE if values["reason_code"] in FAULTS else Kind.HOLD
    if event in ALARMS:
        return Kind.ALARM
    code = values.get("reason_code")
    if event is not JobEvent.REJECTED or code == WITHOUT_NOTICE:
        return None
    return Kind.FAILURE if str(code).lower() in MEANINGS else Kind.REJECTION


def note(connection: sa.Connection, event: JobEvent, job: str, words: str, values: Mapping[str, Any]) -> None:
    """Put the notice that an event becomes, if any, into the queue, in the transaction of the event."""
    kind = kind_of(event, values)
    if kind is not None:
        code = values.get("reason_code") or str(event).upper()
        put(connection, kind, code, values.get("reason_sentence") or words, job)


def put(connection: sa.Connection, kind: Kind, code: str, words: str, job: str | None = None) -> None:
    """Put a notice into the queue, in the caller's transaction; it is about `job`, or about the node."""
    now = time.time()
    row = {"kind": str(kind), "job": job, "code": code, "words": words, "at": now, "due_at": now}
    connection.execute(sa.insert(notices).values(row | {"attempt": 1, "sent": False, "sentence": ""}))
