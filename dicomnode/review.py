"""What a person decides about a held job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnode.engine import together
from dicomnode.errors import WrongState
from dicomnode.states import State

if TYPE_CHECKING:
    from dicomnode.engine import Queues
    from dicomnode.ledger import Ledger
    from dicomnode.schema import JobRow


def release(ledger: Ledger, queues: Queues, job: str, reason: str) -> JobRow:
    """Let a held job go on: a RECEIVED one is converted anew, a SYNTHESIZED one is sent. -> the job afterwards.

    Raises UnknownJob, WrongState when it is not held.
    """
    row = _held(ledger, job)
    if row.state is State.RECEIVED:
        entries = [queues.synthesize(row.job, row.attempt + 1)]
    else:
        waiting = [one for one in ledger.deliveries(row.job) if one.delivered_at is None]
        entries = [queues.deliver(row.job, one.destination, one.attempt) for one in waiting]
    ledger.released(row.job, reason, together(entries))
    return ledger.job(row.job)


def reject(ledger: Ledger, job: str, reason: str) -> JobRow:
    """End a held job: REJECTED, and nothing of it is sent. -> the job afterwards. Raises UnknownJob, WrongState."""
    row = _held(ledger, job)
    ledger.refused(row.job, reason)
    return ledger.job(row.job)


def _held(ledger: Ledger, job: str) -> JobRow:
    row = ledger.job(job)
    if row.held is None:
        raise WrongState(f"job {row.job[:12]} is {row.state} and not held; only a held job waits for a decision")
    return row
