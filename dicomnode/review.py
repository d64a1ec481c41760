"""What a person decides about a held job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnode.conflicts import Conflicts
from dicomnode.engine import together
from dicomnode.errors import WrongState
from dicomnode.states import State

if TYPE_CHECKING:
    from dicomnode.conflicts import Use
    from dicomnode.engine import Queues
    from dicomnode.ledger import Ledger
    from dicomnode.schema import JobRow
    from dicomnode.steps import Then


def release(ledger: Ledger, queues: Queues, job: str, reason: str, use: Use | None = None) -> JobRow:
    """Let a held job go on: RECEIVED is converted anew, SYNTHESIZED is sent, DELIVERED only is held no longer.

    A job held for a SOP instance with two contents needs `use`: which of them; the job that goes on may be a new one
    then. -> the job that goes on. Raises UnknownJob; WrongState when it is not held, or `use` is missing or needless.
    """
    row = _held(ledger, job)
    going_on = _going_on(ledger, queues, row)
    if use is None:
        ledger.released(row.job, reason, going_on)
        return ledger.job(row.job)

    decided = Conflicts(ledger.engine).decide(
        row.job, use, reason, going_on, anew=lambda job: queues.synthesize(job, 1)
    )
    return ledger.job(decided)


def _going_on(ledger: Ledger, queues: Queues, row: JobRow) -> Then:
    """The queue entries of a job that is held no longer."""
    if row.state is State.RECEIVED:
        return queues.synthesize(row.job, row.attempt + 1)
    waiting = [one for one in ledger.deliveries(row.job) if one.open]
    return together(queues.deliver(row.job, one.destination, one.attempt) for one in waiting)


def reject(ledger: Ledger, job: str, reason: str) -> JobRow:
    """End a held job: REJECTED, and nothing of it is sent. -> the job afterwards. Raises UnknownJob, WrongState."""
    row = _held(ledger, job)
    if row.state is State.DELIVERED:
        raise WrongState(f"job {row.job[:12]} is with its destinations already; release it, once you have looked")
    ledger.refused(row.job, reason)
    return ledger.job(row.job)


def _held(ledger: Ledger, job: str) -> JobRow:
    row = ledger.job(job)
    if row.held is None:
        raise WrongState(f"job {row.job[:12]} is {row.state} and not held; only a held job waits for a decision")
    return row
