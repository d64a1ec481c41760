"""The web page: the jobs, and each job with its events and what each destination answered.

    GET /               the jobs, newest first; /?state=REJECTED only those; held ones say why
    GET /jobs/{job}     one job: its events and what each destination answered

No page holds a patient's name or ID: the ledger has none. The pages need no JavaScript; `guard` allows none.
"""

import asyncio
import contextlib
import datetime
import importlib.metadata
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dicomnode import health, listener, metrics
from dicomnode.config import Config
from dicomnode.deliver import DUPLICATE
from dicomnode.errors import LedgerUnreachable, UnknownJob
from dicomnode.guard import SecurityHeaders
from dicomnode.ledger import Ledger, database_url
from dicomnode.schema import DeliveryRow, JobRow, ReceiptRow
from dicomnode.states import State

SHOWN: Final = 200
"""Jobs on the page; the command line lists all."""

REFRESH_S: Final = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said, equal for `instances` instances of a job."""

    destination: str
    status: int
    comment: str
    meaning: str
    instances: int
    last_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the page of jobs: a job, its reason in one sentence, and one sentence a destination."""

    job: JobRow
    reason: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the routes share: the configuration, the ledger and the templates."""

    config: Config
    ledger: Ledger
    templates: jinja2.Environment


def app(config: Config) -> Starlette:
    """The web page of a node, as an ASGI application."""
    seen = Seen(config, Ledger(database_url(config)), _templates(config))
    routes = [
        Route("/", _jobs),
        Route("/jobs/{job:str}", _job),
        Route("/style.css", _style),
    ]
    made = Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={LedgerUnreachable: _unreachable, UnknownJob: _unknown, 404: _not_found},
        lifespan=_ticking,
    )
    made.state.seen = seen
    return made


def serve(config: Config) -> None:
    """Serve the page on `web.bind` and `web.port`, and the health beside it, until SIGTERM or SIGINT."""
    watched = listener.server(health.app(config), config.metrics.bind, config.metrics.port)
    listener.run(listener.server(app(config), config.web.bind, config.web.port), watched)


def reason(job: JobRow) -> str:
    """Why a job is held or rejected, with its code, or what took its place; empty when nothing is to be said."""
    sentence = job.held or job.reason_sentence
    if sentence is None and job.superseded_by is not None:
        return f"more instances came late; the CT series of job {job.superseded_by[:12]} replaces this one"
    return f"{job.reason_code}: {sentence}" if sentence and job.reason_code else sentence or ""


def meaning(receipt: ReceiptRow) -> str:
    """A receipt in one word; the statuses of C-STORE are in PS3.4 Table B.2-1."""
    if receipt.status == DUPLICATE:
        return "taken, it had it already"
    if receipt.warning:
        return "taken, with a warning"
    return "taken" if receipt.taken else "refused"


def answers(receipts: Iterable[ReceiptRow]) -> list[Answer]:
    """The receipts of a job, equal ones counted, by destination and status."""
    groups: dict[tuple[str, int, str, str], list[ReceiptRow]] = {}
    for receipt in receipts:
        key = (receipt.destination, receipt.status, receipt.comment, meaning(receipt))
        groups.setdefault(key, []).append(receipt)
    return [Answer(*key, len(group), max(one.at for one in group)) for key, group in sorted(groups.items())]


def delivery_sentence(delivery: DeliveryRow, receipts: Sequence[ReceiptRow], instances: int) -> str:
    """How far a destination is with a job's `instances`, in one sentence."""
    own = [receipt for receipt in receipts if receipt.destination == delivery.destination]
    taken, warned = sum(one.taken for one in own), sum(one.warning for one in own)
    text = f"{delivery.destination}: {taken} of {instances}"
    if warned:
        text += f", {warned} with a warning"
    if delivery.delivered_at is None and delivery.attempt > 1:
        text += f"; attempt {delivery.attempt} at {delivery.due_at:%H:%M:%S} UTC. {delivery.sentence}"
    return text


def span(length: datetime.timedelta) -> str:
    """A time span as a person says it: `48 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    seconds = max(int(length.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02d} min" if days < 1 else f"{days} d {hours % 24} h"


def utc(moment: datetime.datetime) -> str:
    """A moment, in UTC, to the second."""
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


@contextlib.asynccontextmanager
async def _ticking(_: Starlette) -> AsyncIterator[None]:
    """Say every second that this role is alive, from start to stop."""

    async def tick() -> None:
        while True:
            metrics.tick("web")
            await asyncio.sleep(1)

    task = asyncio.create_task(tick())
    yield
    task.cancel()


def _jobs(request: Request) -> Response:
    """GET /"""
    seen = _seen(request)
    jobs, receiving = seen.ledger.jobs(), seen.ledger.receiving()
    counted = Counter(job.state for job in jobs)
    counts = {state.value: counted[state] for state in State} | {State.RECEIVING.value: len(receiving)}
    counts["HELD"] = sum(job.held is not None for job in jobs)
    shown = _shown(request, counts)
    chosen = [job for job in jobs if shown in ("", job.state, "HELD" if job.held else "")]
    values = {
        "counts": counts,
        "total": len(jobs) + len(receiving),
        "shown": shown,
        "receiving": receiving if shown in ("", State.RECEIVING) else [],
        "lines": [_line(seen.ledger, job) for job in chosen[:SHOWN]],
        "more": len(chosen) > SHOWN,
        "port": seen.config.node.port,
    }
    return _page(seen, "jobs.html", {**values, "refresh_s": REFRESH_S})


def _shown(request: Request, counts: Mapping[str, int]) -> str:
    """The state that the address asks for; empty for all, and for words that are none."""
    asked = request.query_params.get("state", "").upper()
    return asked if asked in counts else ""


def _line(ledger: Ledger, job: JobRow) -> Line:
    receipts = ledger.receipts(job.job)
    deliveries = ledger.deliveries(job.job)
    return Line(job, reason(job), tuple(delivery_sentence(one, receipts, job.ct_instances or 0) for one in deliveries))


def _job(request: Request) -> Response:
    """GET /jobs/{job}"""
    seen = _seen(request)
    job = seen.ledger.job(request.path_params["job"])
    told = {"events": seen.ledger.events(job.job), "answers": answers(seen.ledger.receipts(job.job))}
    return _page(seen, "job.html", {"line": _line(seen.ledger, job), **told, "refresh_s": REFRESH_S})


def _style(_: Request) -> Response:
    """GET /style.css"""
    return Response(files("dicomnode").joinpath("templates/style.css").read_text(), media_type="text/css")


def _unreachable(request: Request, error: Exception) -> Response:
    return _problem(request, "The ledger cannot be read", str(error), 503)


def _unknown(request: Request, error: Exception) -> Response:
    return _problem(request, "No such job", str(error), 404)


def _not_found(request: Request, _: Exception) -> Response:
    return _problem(request, "No such page", "There are a page of jobs and one of each job.", 404)


def _problem(request: Request, title: str, sentence: str, status: int) -> Response:
    return _page(_seen(request), "problem.html", {"title": title, "sentence": sentence}, status)


def _page(seen: Seen, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """A template filled with `values`."""
    now = datetime.datetime.now(datetime.UTC)
    return HTMLResponse(seen.templates.get_template(template).render(now=now, **values), status)


def _templates(config: Config) -> jinja2.Environment:
    """The templates; everything put into them is escaped, and a name that is missing is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("dicomnode"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.filters |= {"span": span, "utc": utc}
    made.globals |= {"node": config.node.ae_title, "version": importlib.metadata.version("sct-node"), "refresh_s": None}
    return made


def _seen(request: Request) -> Seen:
    """What `app` put into the application's state."""
    seen: Seen = request.app.state.seen
    return seen
