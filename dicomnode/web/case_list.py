"""The list of cases: each with its state, scanner, findings and destinations. The browser reloads it by itself.

GET /               the newest first; /?state=REJECTED only those, /?state=HELD those that wait for a person
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomnode.cases import overview
from dicomnode.cases.files import JobFacts
from dicomnode.cases.wording import progress, reason
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import Event
from dicomnode.web.help_page import anchor
from dicomnode.web.rendering import context_of, pages_of
from dicomnode.web.sign_in import record

if TYPE_CHECKING:
    from dicomnode.cases.files import JobFactsCache
    from dicomnode.cases.overview import DeliveryStatus
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

SHOWN: Final = 200
"""Most cases on the page; the command line lists all."""

REFRESH_S: Final = 5
"""Time between two loads of the page by a browser without JavaScript; with it, live.js decides."""


@dataclass(frozen=True, slots=True)
class DestinationCell:
    """A destination of a case: its name, its progress in words, and `done`, `waiting`, `alarm` or `withdrawn`."""

    destination: str
    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One row of the page.

    Attributes:
        job: the job of the case.
        facts: what its files hold about it.
        reason: why it is held or rejected; "" if it is neither.
        help: the id of the reason code on the help page.
        destinations: the progress at each destination.
    """

    job: JobRow
    facts: JobFacts
    reason: str
    help: str
    destinations: tuple[DestinationCell, ...]


def routes() -> list[Route]:
    """Return the route of the page."""
    return [Route("/", list_page, methods=["GET"])]


def case_rows(ledger: Ledger, known: JobFactsCache, shown: str) -> list[CaseRow]:
    """List the newest cases of a state, of HELD, or all for ""; at most one more than `SHOWN`."""
    jobs = overview.newest(ledger.engine, shown, SHOWN + 1)
    deliveries = overview.delivery_statuses(ledger.engine, jobs)
    rows = []
    for job in jobs:
        cells = tuple(destination_cell(status, job) for status in deliveries.get(job.job, []))
        rows.append(CaseRow(job, known.of(job), reason(job), anchor(job.reason_code or ""), cells))
    return rows


def destination_cell(status: DeliveryStatus, job: JobRow) -> DestinationCell:
    """Describe the progress of a job at one destination."""
    delivery = status.delivery
    words = progress(delivery, status.counted, delivery.instances or job.ct_instances or 0)
    if delivery.withdrawn_at is not None:
        return DestinationCell(delivery.destination, f"{words}; withdrawn, another CT takes its place", "withdrawn")
    if status.counted.lost or (delivery.open and delivery.alarmed_at is not None):
        return DestinationCell(delivery.destination, words, "alarm")
    return DestinationCell(delivery.destination, words, "waiting" if delivery.delivered_at is None else "done")


def list_page(request: Request) -> Response:
    """Answer GET /; an unknown state in the address shows all cases."""
    context = context_of(request)
    counts = overview.counts(context.ledger.engine)
    state = request.query_params.get("state", "").upper()
    shown = state if state in counts else ""
    rows = [] if shown == State.RECEIVING else case_rows(context.ledger, context.known, shown)
    values = {
        "counts": counts,
        "total": sum(counts[one.value] for one in State),
        "shown": shown,
        "receiving": context.ledger.receiving() if shown in ("", State.RECEIVING) else [],
        "rows": rows[:SHOWN],
        "more": len(rows) > SHOWN,
        "port": context.config.node.port,
        "refresh": f"{REFRESH_S}; url=/?auto=1" + (f"&state={shown}" if shown else ""),
    }
    if "auto" not in request.query_params:
        record(request, Event.ACCESSED, words="the list of cases")
    return pages_of(request).page(request, "cases.html", values)
