"""The buttons of a job's page: what a physicist decides there, as `review` does it.

    POST /jobs/{job}/{decision}    fields: reason (required), use (of a conflict: first or last), token

Each is done once for a reason that is kept with the event and in the audit trail; then the page of the job that goes on
is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicomnode.engine import queues as engine
from dicomnode.engine import review
from dicomnode.errors import NodeError
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import Event
from dicomnode.web.rendering import pages_of
from dicomnode.web.sign_in import form_of, record, visitor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

LONGEST_REASON: Final = 1000
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A button: its words, what it does, and what the audit trail calls it."""

    name: str
    label: str
    means: str
    done: Callable[..., JobRow]
    event: Event


DECISIONS: Final = {
    one.name: one
    for one in (
        Decision("release", "Release", "the job goes on: the CT is sent, or made anew", review.release, Event.RELEASED),
        Decision("reject", "Reject", "the job ends; nothing more of it is sent", review.reject, Event.REJECTED),
        Decision("retry", "Retry", "what waits for its next try is tried at once", review.retry, Event.RETRIED),
        Decision("cancel", "Cancel", "the job ends; a destination keeps what it has", review.cancel, Event.CANCELLED),
        Decision("resend", "Resend", "all of the CT is sent again, under the same UIDs", review.resend, Event.RESENT),
    )
}
"""Name -> button."""


class NotAllowed(NodeError):
    """A viewer asks for what only a physicist decides."""


class NoReason(NodeError):
    """A decision without a reason, or with one that is too long."""


def offered(job: JobRow) -> list[Decision]:
    """The buttons that a job in this state has; the table is in `review`."""
    if job.held is not None:
        names = ["release"] if job.state is State.DELIVERED else ["release", "reject"]
    elif job.state in (State.RECEIVED, State.SYNTHESIZED):
        names = ["retry", "cancel"]
    else:
        names = ["resend"] if job.state is State.DELIVERED and job.superseded_by is None else []
    return [DECISIONS[name] for name in names]


def routes() -> list[Route]:
    """One for each button."""
    return [Route(f"/jobs/{{job:str}}/{name}", _decide, methods=["POST"], name=name) for name in DECISIONS]


async def _decide(request: Request) -> Response:
    """POST /jobs/{job}/{decision}"""
    form = await form_of(request, visitor_of(request).token)
    return await run_in_threadpool(_decided, request, DECISIONS[request.url.path.rpartition("/")[2]], form)


def _decided(request: Request, decision: Decision, form: dict[str, str]) -> Response:
    ledger: Ledger = request.app.state.seen.ledger
    job = ledger.job(request.path_params["job"])
    told: dict[str, Any] = {"job": job.job, "series": [job.source_series_uid]}
    try:
        reason = _reason(request, form)
        more = {"use": form["use"]} if form.get("use") in ("first", "last") and decision.name == "release" else {}
        queues = engine.Queues(ledger)
        going_on = decision.done(ledger, queues, job.job, by=visitor_of(request).by, reason=reason, **more)
    except NodeError as error:
        record(request, decision.event, failed=str(error), **told)
        status = 403 if isinstance(error, NotAllowed) else 400 if isinstance(error, NoReason) else 409
        return pages_of(request).problem(request, f"Not done: {decision.label.lower()}", str(error), status)
    record(request, decision.event, words=reason, **told)
    return RedirectResponse(f"/jobs/{going_on.job}", 303)


def _reason(request: Request, form: dict[str, str]) -> str:
    """Why it is decided so. Raises NotAllowed, NoReason."""
    if not visitor_of(request).decides:
        raise NotAllowed("Only a physicist decides about jobs.")
    reason = " ".join(form.get("reason", "").split())
    if not 0 < len(reason) <= LONGEST_REASON:
        raise NoReason(f"Say why, in 1 to {LONGEST_REASON} characters; it stays with the job.")
    return reason
