"""Decisions of people about a job. `by` is who (cli:NAME, web:NAME) and `reason` why; both stay with the event.

    release   a held job continues                          held
    reject    a held job ends                               held, not DELIVERED
    retry     what waits for its next try is tried at once  not held, or held for a fault of the node
    cancel    a job that runs ends                          not held, RECEIVED or SYNTHESIZED
    resend    a CT that was delivered is sent once more     not held, DELIVERED or by a destination

A decision that does not fit is WrongState, with a sentence that names the right one; an unknown job is UnknownJob.
`retry` never sends what a person must look at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dicomnode.engine.contract import together
from dicomnode.errors import WrongState
from dicomnode.ledger import resending
from dicomnode.ledger.database import transaction
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow
    from dicomnode.ledger.uid_conflicts import Use

DELIVERY_FAILED: Final = "DELIVERY_FAILED"
"""Reason code of a job held for a fault of the node while it was sent: nobody needs to look at its CT."""


def release(ledger: Ledger, queues: Queues, job: str, *, by: str, reason: str, use: Use | None = None) -> JobRow:
    """Let a held job continue: RECEIVED is converted again, SYNTHESIZED is sent, DELIVERED only is held no longer.

    A job held for a SOP instance with two contents needs `use`: which of them; a new job may take its place then.
    -> the job that continues. Raises UnknownJob; WrongState when it is not held, or `use` is missing or needless.
    """
    row = _held(ledger, job)
    if row.state is State.RECEIVED:
        continues = queues.synthesize(row.job, row.attempt + 1)
    else:
        waiting = [one for one in ledger.deliveries(row.job) if one.open]
        continues = together(queues.deliver(row.job, one.destination, one.attempt) for one in waiting)
    if use is None:
        ledger.released(row.job, reason, continues, by)
        return ledger.job(row.job)

    decided = Conflicts(ledger.engine).decide(
        row.job, use, reason, continues, begins=lambda job: queues.synthesize(job, 1), by=by
    )
    return ledger.job(decided)


def reject(ledger: Ledger, _queues: Queues, job: str, *, by: str, reason: str) -> JobRow:
    """End a held job: REJECTED, and nothing more of it is sent. -> the job afterwards.

    Raises UnknownJob, WrongState.
    """
    row = _held(ledger, job)
    if row.state is State.DELIVERED:
        raise WrongState(f"job {row.job[:12]} is with its destinations already; release it, once you have looked")
    ledger.rejected_by_person(row.job, reason, by)
    return ledger.job(row.job)


def retry(ledger: Ledger, queues: Queues, job: str, *, by: str, reason: str) -> JobRow:
    """Try at once what waits for its next try: the synthesis, or the attempt of each destination that lacks something.

    A job that is held for a fault of the node continues, as by `release`. -> the job afterwards. Raises UnknownJob;
    WrongState when a person must look first, or nothing waits.
    """
    row = ledger.job(job)
    if row.held is not None:
        if row.state is not State.RECEIVED and row.reason_code != DELIVERY_FAILED:
            raise WrongState(f"job {row.job[:12]} is held for a person to look at, {row.reason_code}: release it")
        return release(ledger, queues, row.job, by=by, reason=reason)
    if row.state is State.RECEIVED:
        ledger.retried(row.job, row.attempt, reason, queues.synthesize(row.job, row.attempt + 1), by)
    else:
        with transaction(ledger.engine) as connection:
            resending.retry_now(connection, row.job, reason, by, _entry(queues, row.job))
    return ledger.job(row.job)


def cancel(ledger: Ledger, _queues: Queues, job: str, *, by: str, reason: str) -> JobRow:
    """End a job that is not held: REJECTED; no CT is made, or no more of it is sent, from the next instance on.

    What a destination has got it keeps. -> the job afterwards. Raises UnknownJob; WrongState when it is held or ended.
    """
    row = ledger.job(job)
    if row.held is not None:
        raise WrongState(f"job {row.job[:12]} is held, {row.reason_code}: reject it")
    if row.state in (State.DELIVERED, State.REJECTED):
        raise WrongState(f"job {row.job[:12]} is {row.state}: there is nothing to stop")
    ledger.cancelled(row.job, reason, by)
    return ledger.job(row.job)


def resend(ledger: Ledger, queues: Queues, job: str, *, by: str, reason: str, to: Sequence[str] = ()) -> JobRow:
    """Send all of a CT series once more, the same objects under the same UIDs.

    `to`: names of destinations of the job; by default those that have got everything. -> the job afterwards. Raises
    UnknownJob; WrongState when it is held, ended or replaced, or no destination has got it.
    """
    row = ledger.job(job)
    with transaction(ledger.engine) as connection:
        resending.send_again(connection, row.job, to, reason, by, _entry(queues, row.job))
    return ledger.job(row.job)


def _entry(queues: Queues, job: str) -> resending.Entry:
    """Return what makes the queue entries of a job's deliveries."""
    return lambda destination, attempt: queues.deliver(job, destination, attempt)


def _held(ledger: Ledger, job: str) -> JobRow:
    row = ledger.job(job)
    if row.held is None:
        raise WrongState(f"job {row.job[:12]} is {row.state} and not held; only a held job waits for a decision")
    return row
