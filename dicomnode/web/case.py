"""The page of a case: what was made of it, its pictures, its findings, all that happened, and where it went.

    GET /jobs/{job}

What it shows comes from the ledger and from `report.json` beside the CT. The pictures are in `case_pictures`, the
buttons in `buttons`. It reads itself again where nobody writes: /jobs/{job}?auto=1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomnode.cases.result import report_of
from dicomnode.cases.sentences import answers, delivery_sentence, reason
from dicomnode.cases.wording import proof_sentence
from dicomnode.commitment.proofs import Proofs
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import Event
from dicomnode.web import buttons, case_images, sign_in
from dicomnode.web.rendering import pages_of
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
class Check:
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
    decisions = buttons.offered(job) if sign_in.visitor_of(request).decides else []
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


def checks(report: Mapping[str, Any]) -> Iterator[Check]:
    """The findings of a report, those that need a person first."""
    for one in sorted(report.get("findings", ()), key=lambda one: ORDER.index(one["verdict"])):
        known = MEANINGS.get(one["name"])
        limit = one["limit"] if isinstance(one["limit"], str) else f"{one['limit'][0]:g} to {one['limit'][1]:g}"
        value = f"{one['value']:.4g}" if isinstance(one["value"], float) else str(one["value"])
        unit = UNITS.get(one["unit"], one["unit"])
        title, look = (known.title, known.look) if known else (one["name"].replace("_", " "), "")
        yield Check(title, value, limit, unit, one["verdict"], one["name"] if known else "", look)


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
