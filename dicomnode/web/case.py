"""The page of a case: its images, findings, events and deliveries, and the buttons by which a physicist decides.

    GET  /jobs/{job}               the page; without a form it reloads itself as /jobs/{job}?auto=1
    POST /jobs/{job}/{decision}    fields: reason (required), use (for a conflict: first or last), token

The page shows values of the ledger and of `report.json` beside the CT; `case_images` has the images. A decision calls
the function of the same name in `dicomnode.engine.review`. Its reason is stored with the event and in the audit trail;
then the page of the job that continues is shown.
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
from dicomnode.web import case_images
from dicomnode.web.case_images import CaseFiles
from dicomnode.web.rendering import context_of, pages_of
from dicomnode.web.sign_in import form_of, record, visitor_of
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dicomnode.ledger.rows import JobRow

REFRESH_S: Final = 5
"""Time between two loads of the page by a browser without JavaScript; with it, live.js decides."""

UNITS: Final = {"[hnsf'U]": "HU", "1": ""}
"""UCUM unit -> its usual symbol, where the two differ."""

ORDER: Final = ("reject", "review", "pass")
"""Verdicts in the order of the page: first those that need a person."""

WINDOWS: Final = {
    "soft tissue": (-160, 240),
    "bone": (-450, 1150),
    "lung": (-1350, 150),
    "all": (-1024, 2000),
}
"""Windows of the CT by name: the HU shown black, and the HU shown white (PS3.3 C.11.2.1.2)."""

CHART_WIDTH: Final = 640.0
CHART_HEIGHT: Final = 160.0
"""Size of the histogram in the units of its SVG image."""

TICKS_HU: Final = range(-1000, 4000, 500)

LONGEST_REASON: Final = 1000
"""Most characters of a reason."""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding in words; `help` is its id on the help page, "" if it has no entry."""

    title: str
    value: str
    limit: str
    unit: str
    verdict: str
    help: str
    look: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """The chart of voxels by HU.

    Attributes:
        bars: (x, width, height) of each bar, the height on a logarithmic scale.
        ticks: (x, HU) of each tick.
        voxels: the number of all voxels.
    """

    bars: tuple[tuple[float, float, float], ...]
    ticks: tuple[tuple[float, int], ...]
    voxels: int


@dataclass(frozen=True, slots=True)
class DecisionButton:
    """A button: its name in the address, its label, its effect in words, the function, and the audit event."""

    name: str
    label: str
    effect: str
    decide: Callable[..., JobRow]
    event: Event


DECISIONS: Final = {
    one.name: one
    for one in (
        DecisionButton(
            "release", "Release", "the case goes on: the CT is sent, or made again", review.release, Event.RELEASED
        ),
        DecisionButton("reject", "Reject", "the case ends; nothing more of it is sent", review.reject, Event.REJECTED),
        DecisionButton("retry", "Retry", "what waits for its next try is tried at once", review.retry, Event.RETRIED),
        DecisionButton(
            "cancel", "Cancel", "the case ends; a destination keeps what it has", review.cancel, Event.CANCELLED
        ),
        DecisionButton(
            "resend", "Resend", "all of the CT is sent again, under the same UIDs", review.resend, Event.RESENT
        ),
    )
}
"""Name of a decision -> its button."""


class NotAllowed(NodeError):
    """A viewer requests a decision that only a physicist may make."""


class NoReason(NodeError):
    """A decision has no reason, or one that is too long."""


def routes() -> list[Route]:
    """Return the routes of the page, of its images and of its decisions."""
    decisions = [Route(f"/jobs/{{job:str}}/{name}", decide, methods=["POST"], name=name) for name in DECISIONS]
    return [Route("/jobs/{job:str}", case_page, methods=["GET"]), *case_images.routes(), *decisions]


def case_page(request: Request) -> Response:
    """Answer GET /jobs/{job}. A request of a person is recorded in the audit trail (PS3.15 A.5.3.6)."""
    context = context_of(request)
    ledger, data = context.ledger, context.config.node.data
    job = ledger.job(request.path_params["job"])
    if "auto" not in request.query_params:
        record(request, Event.ACCESSED, job=job.job, series=[job.source_series_uid])
    report = report_of(data / "out" / job.job)
    receipts, deliveries = ledger.receipts(job.job), ledger.deliveries(job.job)
    decisions = offered(job) if visitor_of(request).decides else []
    # Without JavaScript a page with a form does not reload itself, because that would erase an unfinished reason.
    refresh = None if decisions else f"{REFRESH_S}; url=/jobs/{job.job}?auto=1"
    values = {
        "job": job,
        "reason": reason(job),
        "events": ledger.events(job.job),
        "progress": [delivery_sentence(one, receipts, one.instances or job.ct_instances or 0) for one in deliveries],
        "answers": answers(receipts),
        "proofs": [(one, proof_sentence(one)) for one in Proofs(ledger.engine).of(job.job)],
        "origin": context.known.of(job).origin,
        "report": report,
        "findings": list(finding_rows(report)),
        "histogram": histogram(report),
        "volumes": case_images.viewable(CaseFiles(ledger, job, data), report),
        "windows": WINDOWS,
        "decisions": decisions,
        "refresh": refresh,
    }
    return pages_of(request).page(request, "case.html", values)


def finding_rows(report: Mapping[str, Any]) -> Iterator[FindingRow]:
    """Yield the findings of a report in words, first those that need a person."""
    for one in sorted(report.get("findings", ()), key=lambda one: ORDER.index(one["verdict"])):
        known = MEANINGS.get(one["name"])
        limit = one["limit"] if isinstance(one["limit"], str) else f"{one['limit'][0]:g} to {one['limit'][1]:g}"
        value = f"{one['value']:.4g}" if isinstance(one["value"], float) else str(one["value"])
        unit = UNITS.get(one["unit"], one["unit"])
        title, look = (known.title, known.look) if known else (one["name"].replace("_", " "), "")
        yield FindingRow(title, value, limit, unit, one["verdict"], one["name"] if known else "", look)


def histogram(report: Mapping[str, Any]) -> Histogram | None:
    """Draw the histogram of a report, without the empty bars at both ends; None if the report has none."""
    table = report.get("hu_histogram")
    if not table or not any(table["counts"]):
        return None
    counts, low, step = table["counts"], table["from_hu"], table["step_hu"]
    filled = [index for index, count in enumerate(counts) if count]
    first, end = filled[0], filled[-1] + 1
    begin_hu, width = low + first * step, CHART_WIDTH / (end - first)
    highest = math.log1p(max(counts))
    bars = tuple(
        (
            round((index - first) * width, 1),
            round(width, 1),
            round(CHART_HEIGHT * math.log1p(counts[index]) / highest, 1),
        )
        for index in filled
    )
    at = {hu: round((hu - begin_hu) / step * width, 1) for hu in TICKS_HU}
    return Histogram(bars, tuple((x, hu) for hu, x in at.items() if 0 <= x <= CHART_WIDTH), sum(counts))


def offered(job: JobRow) -> list[DecisionButton]:
    """List the buttons of a job in its present state, as the table in `dicomnode.engine.review` allows."""
    if job.held is not None:
        names = ["release"] if job.state is State.DELIVERED else ["release", "reject"]
    elif job.state in (State.RECEIVED, State.SYNTHESIZED):
        names = ["retry", "cancel"]
    else:
        names = ["resend"] if job.state is State.DELIVERED and job.superseded_by is None else []
    return [DECISIONS[name] for name in names]


async def decide(request: Request) -> Response:
    """Answer POST /jobs/{job}/{decision}."""
    form = await form_of(request, visitor_of(request).token)
    return await run_in_threadpool(carry_out, request, DECISIONS[request.url.path.rpartition("/")[2]], form)


def carry_out(request: Request, decision: DecisionButton, form: dict[str, str]) -> Response:
    """Carry out a decision, record it in the audit trail, and show the job that continues (303).

    A decision that is not carried out is recorded too: 403 for a viewer, 400 for a wrong reason, 409 (RFC 9110 15.5.10)
    if the state of the job does not allow it.
    """
    ledger = context_of(request).ledger
    job = ledger.job(request.path_params["job"])
    of_job: dict[str, Any] = {"job": job.job, "series": [job.source_series_uid]}
    reason = " ".join(form.get("reason", "").split())
    use = {"use": form["use"]} if form.get("use") in ("first", "last") and decision.name == "release" else {}
    try:
        if not visitor_of(request).decides:
            raise NotAllowed("Only a physicist decides about cases.")
        if not 0 < len(reason) <= LONGEST_REASON:
            raise NoReason(f"Say why, in 1 to {LONGEST_REASON} characters; it stays with the case.")
        queues = open_queues(ledger)
        continues_as = decision.decide(ledger, queues, job.job, by=visitor_of(request).by, reason=reason, **use)
    except NodeError as error:
        record(request, decision.event, failed=str(error), **of_job)
        status = 403 if isinstance(error, NotAllowed) else 400 if isinstance(error, NoReason) else 409
        return pages_of(request).problem(request, f"Not done: {decision.label.lower()}", str(error), status)
    record(request, decision.event, words=reason, **of_job)
    return RedirectResponse(f"/jobs/{continues_as.job}", 303)
