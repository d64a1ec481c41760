"""The list of cases: each with its state, scanner, findings and destinations. The browser reads it again by itself.

GET /               the newest first; /?state=REJECTED only those, /?state=HELD those that wait for a person
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomnode.cases import overview
from dicomnode.cases.files import Facts
from dicomnode.cases.wording import progress, reason
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import Event
from dicomnode.web import sign_in
from dicomnode.web.help_page import anchor
from dicomnode.web.rendering import pages_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dicomnode.cases.files import Known
    from dicomnode.cases.overview import DeliveryStatus
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow, SeriesRow

SHOWN: Final = 200
"""Cases on the page; the command line lists all."""

REFRESH_S: Final = 5
"""How often a browser without JavaScript reads the page again; with it, live.js does."""


@dataclass(frozen=True, slots=True)
class DestinationCell:
    """One destination of a case: its name, how far it is in words, and `done`, `waiting`, `alarm` or `withdrawn`."""

    destination: str
    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One row of the page: a job, its facts, its reason with the place that explains it, and its destinations."""

    job: JobRow
    facts: Facts
    reason: str
    help: str
    arrows: tuple[DestinationCell, ...]


def routes() -> list[Route]:
    """The page."""
    return [Route("/", _cases, methods=["GET"])]


def lines(ledger: Ledger, known: Known, shown: str) -> list[CaseRow]:
    """The newest cases of a state, of HELD, or all for an empty word; one more than SHOWN when there are more."""
    found = overview.newest(ledger.engine, shown, SHOWN + 1)
    ways = overview.ways(ledger.engine, found)
    return [_line(job, known.of(job), ways.get(job.job, [])) for job in found]


def _line(job: JobRow, facts: Facts, ways: Sequence[DeliveryStatus]) -> CaseRow:
    code = anchor(job.reason_code) if job.reason_code else ""
    return CaseRow(job, facts, reason(job), code, tuple(_arrow(way, job) for way in ways))


def _arrow(way: DeliveryStatus, job: JobRow) -> DestinationCell:
    delivery = way.delivery
    words = progress(delivery, way.counted, delivery.instances or job.ct_instances or 0)
    alarming = way.counted.lost or (delivery.open and delivery.alarmed_at is not None)
    if delivery.withdrawn_at is not None:
        return DestinationCell(delivery.destination, f"{words}; withdrawn, another CT takes its place", "withdrawn")
    kind = "waiting" if delivery.delivered_at is None else "done"
    return DestinationCell(delivery.destination, words, "alarm" if alarming else kind)


def _cases(request: Request) -> Response:
    """GET /"""
    seen = request.app.state.seen
    counts = overview.counts(seen.ledger.engine)
    shown = _shown(request, counts)
    arriving: list[SeriesRow] = seen.ledger.receiving() if shown in ("", State.RECEIVING) else []
    found = [] if shown == State.RECEIVING else lines(seen.ledger, seen.known, shown)
    values = {
        "counts": counts,
        "total": sum(counts[state.value] for state in State),
        "shown": shown,
        "receiving": arriving,
        "lines": found[:SHOWN],
        "more": len(found) > SHOWN,
        "port": seen.config.node.port,
        "refresh": f"{REFRESH_S}; url=/?auto=1" + (f"&state={shown}" if shown else ""),
    }
    if "auto" not in request.query_params:
        sign_in.record(request, Event.ACCESSED, words="the list of cases")
    return pages_of(request).page(request, "cases.html", values)


def _shown(request: Request, counts: Mapping[str, int]) -> str:
    """The state that the address asks for; empty for all, and for words that are none."""
    asked = request.query_params.get("state", "").upper()
    return asked if asked in counts else ""
