"""What the node shows: a page of jobs, one of each job, the metrics, and whether it is alive and ready.

    GET /               the jobs, newest first; /?state=REJECTED only those; held ones say why
    GET /jobs/{job}     one job: its events and what each destination answered
    GET /metrics        Prometheus text format, summed over the node's processes
    GET /healthz        200 while this process answers
    GET /readyz         200 when the ledger can be read, the disk is above its reserve and every role was heard from
                        lately; else 503. The checks are in the answer, as JSON

Everything is read, nothing is changed, and no page holds a patient's name or ID: the ledger has none. The pages need no
JavaScript; `SECURITY_HEADERS` allows none.
"""

import asyncio
import contextlib
import datetime
import importlib.metadata
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomnode import metrics
from dicomnode.config import Config
from dicomnode.deliver import DUPLICATE
from dicomnode.errors import LedgerUnreachable, UnknownJob
from dicomnode.ledger import Ledger, database_url
from dicomnode.schema import DeliveryRow, JobRow, ReceiptRow
from dicomnode.states import State

ROLES: Final = ("receive", "synthesize", "deliver")
"""Roles that must have been heard from for the node to be ready."""

SILENT_S: Final = 30.0
"""A role that has not ticked for so long counts as gone; a busy CPU may delay a tick by seconds."""

SHOWN: Final = 200
"""Jobs on the page; the command line lists all."""

REFRESH_S: Final = 5

SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


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
        Route("/metrics", _metrics),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz),
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
    """Serve the page on `web.bind` and `web.port` until SIGTERM or SIGINT."""
    settings = uvicorn.Config(
        app(config),
        host=config.web.bind,
        port=config.web.port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=100,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(settings).run()


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


def readiness(config: Config, ledger: Ledger, now: float) -> dict[str, str]:
    """Each check of /readyz -> `ok` or what is wrong; `now` is Unix time in seconds."""
    ticks = metrics.last_ticks(config.node.data / "metrics")
    return {"ledger": _ledger_check(ledger), "disk": _disk_check(config), **role_checks(ticks, now)}


def _ledger_check(ledger: Ledger) -> str:
    try:
        ledger.receiving()
    except LedgerUnreachable as error:
        return str(error)
    return "ok"


def _disk_check(config: Config) -> str:
    free, reserve = disk_free_bytes(config), config.receive.disk_reserve_bytes
    return "ok" if free > reserve else f"{free} bytes are free; receive.disk_reserve_bytes is {reserve}"


def disk_free_bytes(config: Config) -> int:
    """Free bytes where the node keeps its files; 0 while there is no such folder."""
    try:
        return shutil.disk_usage(config.node.data).free
    except FileNotFoundError:
        return 0


def role_checks(ticks: Mapping[str, float], now: float) -> dict[str, str]:
    """Each of `ROLES` -> `ok` or since when it is silent; `ticks` as `metrics.last_ticks` gives them."""
    checks = {}
    for role in ROLES:
        heard = max((at for name, at in ticks.items() if name.rstrip("0123456789-") == role), default=None)
        silent = "was not heard from yet" if heard is None else f"was last heard from {now - heard:.0f} s ago"
        checks[role] = "ok" if heard is not None and now - heard < SILENT_S else silent
    return checks


class SecurityHeaders:
    """ASGI middleware that adds `SECURITY_HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await self._app(scope, receive, send_with_headers)


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


def _metrics(request: Request) -> Response:
    """GET /metrics; without the gauges of the ledger while that cannot be read."""
    seen = _seen(request)
    free = disk_free_bytes(seen.config)
    try:
        now = metrics.Now(*_from_ledger(seen.ledger, time.time()), free)
    except LedgerUnreachable:
        now = metrics.Now({}, {}, free)
    text = metrics.exposition(seen.config.node.data / "metrics", now)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _from_ledger(ledger: Ledger, now: float) -> tuple[dict[tuple[str, bool], int], dict[str, float]]:
    """Jobs by (state, held), and the age in seconds of the oldest delivery that is due by destination."""
    jobs = Counter((str(job.state), job.held is not None) for job in ledger.jobs())
    ages: dict[str, float] = {}
    for delivery in ledger.to_deliver():
        age_s = now - delivery.since.timestamp()
        ages[delivery.destination] = max(age_s, ages.get(delivery.destination, 0.0))
    return dict(jobs), ages


def _healthz(_: Request) -> Response:
    """GET /healthz"""
    return PlainTextResponse("ok\n")


def _readyz(request: Request) -> Response:
    """GET /readyz"""
    seen = _seen(request)
    checks = readiness(seen.config, seen.ledger, time.time())
    ready = all(found == "ok" for found in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)


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
