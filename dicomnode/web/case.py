"""The page of a case: what was made of it, its pictures, its findings, all that happened, and where it went.

    GET /jobs/{job}

What it shows comes from the ledger and from `report.json` beside the CT. The pictures are in `case_pictures`, the
buttons in `buttons`. It reads itself again where nobody writes: /jobs/{job}?auto=1.

The buttons of a job's page: what a physicist decides there, as `review` does it.

    POST /jobs/{job}/{decision}    fields: reason (required), use (of a conflict: first or last), token

Each is done once for a reason that is kept with the event and in the audit trail; then the page of the job that goes on
is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicomnode.cases.files import report_of
from dicomnode.cases.wording import answers, delivery_sentence, proof_sentence, reason
from dicomnode.commitment.proofs import Proofs
from dicomnode.engine import review
from dicomnode.engine.queues import open_queues
from dicomnode.errors import NodeError
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import Event
from dicomnode.web import case_images, sign_in
from dicomnode.web.rendering import pages_of
from dicomnode.web.sign_in import form_of, record, visitor_of
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

REFRESH_S: Final = 5

UNITS: Final = {"[hnsf'U]": "HU", "1": ""}
"""UCUM unit -> what a person writes."""

ORDER: Final = ("reject", "review", "pass")
"""Verdicts, those that need a person first."""

WINDOWS: Final = {
    "soft tissue": (-160, 240),
    "bone": (-450, 1150),
    "lung": (-1350, 150),
    "all": (-1024, 2000),
}
"""Windows of the CT, by name: HU shown black, HU shown white."""

WIDE: Final = 640.0
HIGH: Final = 160.0
"""The histogram's bars, in the picture's own units."""

TICKS_HU: Final = range(-1000, 4000, 500)


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding in words; `help` is its place on the help page, empty where there is none."""

    title: str
    value: str
    limit: str
    unit: str
    verdict: str
    help: str
    look: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Voxels by HU: bars (x, width, height, which is logarithmic), ticks (x, HU), and how many voxels there are."""

    bars: tuple[tuple[float, float, float], ...]
    ticks: tuple[tuple[float, int], ...]
    voxels: int


def routes() -> list[Route]:
    """The page, and its pictures."""
    return [Route("/jobs/{job:str}", _case, methods=["GET"]), *case_images.routes()]


def _case(request: Request) -> Response:
    """GET /jobs/{job}"""
    seen = request.app.state.seen
    job = seen.ledger.job(request.path_params["job"])
    if "auto" not in request.query_params:
        sign_in.record(request, Event.ACCESSED, job=job.job, series=[job.source_series_uid])
    report = report_of(seen.config.node.data / "out" / job.job)
    decisions = offered(job) if sign_in.visitor_of(request).decides else []
    # Without JavaScript a page with a form does not read itself again: that would wipe out a reason half written.
    refresh = None if decisions else f"{REFRESH_S}; url=/jobs/{job.job}?auto=1"
    values = {
        **_told(seen.ledger, job),
        "origin": seen.known.of(job).origin,
        "report": report,
        "checks": list(checks(report)),
        "histogram": histogram(report),
        "shown": case_images.shown_of(seen.ledger, seen.config.node.data, job, report),
        "windows": WINDOWS,
        "decisions": decisions,
        "refresh": refresh,
    }
    return pages_of(request).page(request, "case.html", values)


def _told(ledger: Ledger, job: JobRow) -> dict[str, Any]:
    """What the ledger says."""
    receipts = ledger.receipts(job.job)
    deliveries = ledger.deliveries(job.job)
    return {
        "job": job,
        "reason": reason(job),
        "ended": job.state in (State.DELIVERED, State.REJECTED) and job.held is None,
        "events": ledger.events(job.job),
        "progress": [delivery_sentence(one, receipts, one.instances or job.ct_instances or 0) for one in deliveries],
        "answers": answers(receipts),
        "proofs": [(one, proof_sentence(one)) for one in Proofs(ledger.engine).of(job.job)],
    }


def checks(report: Mapping[str, Any]) -> Iterator[FindingRow]:
    """The findings of a report, those that need a person first."""
    for one in sorted(report.get("findings", ()), key=lambda one: ORDER.index(one["verdict"])):
        known = MEANINGS.get(one["name"])
        limit = one["limit"] if isinstance(one["limit"], str) else f"{one['limit'][0]:g} to {one['limit'][1]:g}"
        value = f"{one['value']:.4g}" if isinstance(one["value"], float) else str(one["value"])
        unit = UNITS.get(one["unit"], one["unit"])
        title, look = (known.title, known.look) if known else (one["name"].replace("_", " "), "")
        yield FindingRow(title, value, limit, unit, one["verdict"], one["name"] if known else "", look)


def histogram(report: Mapping[str, Any]) -> Histogram | None:
    """The histogram of a report, less the empty bars at both ends; None where it has none."""
    said = report.get("hu_histogram")
    if not said or not any(said["counts"]):
        return None
    counts, low, step = said["counts"], said["from_hu"], said["step_hu"]
    filled = [index for index, count in enumerate(counts) if count]
    first, behind = filled[0], filled[-1] + 1
    begin_hu, width = low + first * step, WIDE / (behind - first)
    most = math.log1p(max(counts))
    bars = tuple(
        (round((index - first) * width, 1), round(width, 1), round(HIGH * math.log1p(counts[index]) / most, 1))
        for index in filled
    )
    at = {hu: round((hu - begin_hu) / step * width, 1) for hu in TICKS_HU}
    return Histogram(bars, tuple((x, hu) for hu, x in at.items() if 0 <= x <= WIDE), sum(counts))


LONGEST_REASON: Final = 1000
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class DecisionButton:
    """A button: its words, what it does, and what the audit trail calls it."""

    name: str
    label: str
    means: str
    done: Callable[..., JobRow]
    event: Event


DECISIONS: Final = {
    one.name: one
    for one in (
        DecisionButton(
            "release", "Release", "the job goes on: the CT is sent, or made anew", review.release, Event.RELEASED
        ),
        DecisionButton("reject", "Reject", "the job ends; nothing more of it is sent", review.reject, Event.REJECTED),
        DecisionButton("retry", "Retry", "what waits for its next try is tried at once", review.retry, Event.RETRIED),
        DecisionButton(
            "cancel", "Cancel", "the job ends; a destination keeps what it has", review.cancel, Event.CANCELLED
        ),
        DecisionButton(
            "resend", "Resend", "all of the CT is sent again, under the same UIDs", review.resend, Event.RESENT
        ),
    )
}
"""Name -> button."""


class NotAllowed(NodeError):
    """A viewer asks for what only a physicist decides."""


class NoReason(NodeError):
    """A decision without a reason, or with one that is too long."""


def offered(job: JobRow) -> list[DecisionButton]:
    """The buttons that a job in this state has; the table is in `review`."""
    if job.held is not None:
        names = ["release"] if job.state is State.DELIVERED else ["release", "reject"]
    elif job.state in (State.RECEIVED, State.SYNTHESIZED):
        names = ["retry", "cancel"]
    else:
        names = ["resend"] if job.state is State.DELIVERED and job.superseded_by is None else []
    return [DECISIONS[name] for name in names]


def decision_routes() -> list[Route]:
    """One for each button."""
    return [Route(f"/jobs/{{job:str}}/{name}", _decide, methods=["POST"], name=name) for name in DECISIONS]


async def _decide(request: Request) -> Response:
    """POST /jobs/{job}/{decision}"""
    form = await form_of(request, visitor_of(request).token)
    return await run_in_threadpool(_decided, request, DECISIONS[request.url.path.rpartition("/")[2]], form)


def _decided(request: Request, decision: DecisionButton, form: dict[str, str]) -> Response:
    ledger: Ledger = request.app.state.seen.ledger
    job = ledger.job(request.path_params["job"])
    told: dict[str, Any] = {"job": job.job, "series": [job.source_series_uid]}
    try:
        reason = _reason(request, form)
        more = {"use": form["use"]} if form.get("use") in ("first", "last") and decision.name == "release" else {}
        queues = open_queues(ledger)
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
