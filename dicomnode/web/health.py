"""Whether the node is alive and ready, and what it counts: for the watchers of a site, on an address of their own.

    GET /metrics        Prometheus text format, summed over the node's processes
    GET /healthz        200 while the process of the web page answers
    GET /readyz         200 when the ledger can be read, the disk is above its reserve and every role was heard from
                        lately; else 503. The checks are in the answer, as JSON

Nobody signs in here, nothing can be changed, and no answer names a patient, a job or a user. `metrics.bind` says who
can reach it: by default this machine alone.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicomnode import metrics
from dicomnode.cases.overview import standing
from dicomnode.config.load import Config
from dicomnode.engine import hosts
from dicomnode.engine.executor import metrics_folder, touched
from dicomnode.errors import LedgerUnreachable
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.quality.constancy_runs import latest
from dicomnode.web.middleware import SecurityHeaders

if TYPE_CHECKING:
    from dicomnode.cases.overview import LedgerOverview, QueueLength

ROLES: Final = ("receive", "synthesize", "deliver")
"""Roles that must have been heard from for the node to be ready."""

SILENT_S: Final = 30.0
"""A role that has not ticked for so long counts as gone; a busy CPU may delay a tick by seconds."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the routes share."""

    config: Config
    ledger: Ledger


def app(config: Config) -> Starlette:
    """Metrics, health and readiness of a node, as an ASGI application."""
    routes = [Route("/metrics", _metrics), Route("/healthz", _healthz), Route("/readyz", _readyz)]
    made = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)])
    made.state.watched = Watched(config, Ledger(database_url(config)))
    return made


def readiness(config: Config, ledger: Ledger, now: float) -> dict[str, str]:
    """Each check of /readyz -> `ok` or what is wrong; `now` is Unix time in seconds.

    On PostgreSQL a role may be at work on any machine.
    """
    checks = {"ledger": _ledger_check(ledger), "disk": _disk_check(config)}
    if config.database == "sqlite":
        silent_s = {name: now - at for name, at in metrics.last_ticks(metrics_folder(config)).items()}
        return checks | role_checks((name.rstrip("0123456789-"), silence_s) for name, silence_s in silent_s.items())
    try:
        return checks | role_checks((one.role, one.silent_s) for one in hosts.known(ledger.engine))
    except LedgerUnreachable:
        return checks | role_checks(())


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


def disk_bytes(config: Config) -> int:
    """Size of that disk; 0 while there is no such folder."""
    try:
        return shutil.disk_usage(config.node.data).total
    except FileNotFoundError:
        return 0


def role_checks(heard: Iterable[tuple[str, float]]) -> dict[str, str]:
    """Each of `ROLES` -> `ok` or for how long it is silent; `heard` has the role and the silence of each process."""
    silent_s: dict[str, float] = {}
    for role, silence_s in heard:
        silent_s[role] = min(silence_s, silent_s.get(role, silence_s))
    checks = {}
    for role in ROLES:
        silence_s = silent_s.get(role, math.inf)
        silent = f"was last heard from {silence_s:.0f} s ago" if role in silent_s else "was not heard from yet"
        checks[role] = "ok" if silence_s < SILENT_S else silent
    return checks


def _metrics(request: Request) -> Response:
    """GET /metrics; without what the ledger says while that cannot be read."""
    watched = _watched(request)
    text = exposition(metrics_folder(watched.config), now(watched.config, watched.ledger, time.time()))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def now(config: Config, ledger: Ledger, at: float) -> Now:
    """What ledger, disk and processes say at a Unix time."""
    free, size = disk_free_bytes(config), disk_bytes(config)
    try:
        counted, runs = standing(ledger.engine), constancy_runs(ledger)
        return Now(at, counted, free, size, workers(config, ledger, at), runs)
    except LedgerUnreachable:
        return Now(at, None, free, size)


def constancy_runs(ledger: Ledger) -> list[LastConstancy]:
    """The last constancy run of each worker and model. Raises LedgerUnreachable."""
    return [
        LastConstancy(_worker(row.executor), row.model, row.at.timestamp(), row.passed, row.deviation_hu)
        for row in latest(ledger.engine)
    ]


def _worker(executor: str) -> str:
    """A worker as a label shows it: commands are one, whoever gave them."""
    return "cli" if executor.startswith("cli:") else executor


def workers(config: Config, ledger: Ledger, at: float) -> dict[str, int]:
    """Role -> how many of its processes were heard from lately: of this machine, or on PostgreSQL of all machines.

    Raises LedgerUnreachable.
    """
    if config.database == "sqlite":
        heard = [(role, at - ticked) for role, ticked in touched(config)]
    else:
        heard = [(one.role, one.silent_s) for one in hosts.known(ledger.engine)]
    counts = Counter(role for role, silence_s in heard if silence_s < SILENT_S)
    return {role: counts[role] for role in ROLES}


def _healthz(_: Request) -> Response:
    """GET /healthz"""
    return PlainTextResponse("ok\n")


def _readyz(request: Request) -> Response:
    """GET /readyz"""
    watched = _watched(request)
    checks = readiness(watched.config, watched.ledger, time.time())
    ready = all(found == "ok" for found in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)


def _watched(request: Request) -> Watched:
    """What `app` put into the application's state."""
    watched: Watched = request.app.state.watched
    return watched


@dataclass(frozen=True)
class LastConstancy:
    """The last constancy run of a worker and model, at a Unix time; no deviation where nothing was compared."""

    worker: str
    model: str
    at: float
    passed: bool
    deviation_hu: float | None


@dataclass(frozen=True)
class Now:
    """What the ledger and the disk say when ``/metrics`` is asked for.

    `standing` is None while the ledger cannot be read, `workers` are the processes heard from lately by role, and the
    disk is the one on which the node keeps its files.
    """

    at: float
    standing: LedgerOverview | None
    disk_free_bytes: int
    disk_bytes: int
    workers: Mapping[str, int] = field(default_factory=dict)
    constancy: Sequence[LastConstancy] = ()


def exposition(folder: Path, now: Now) -> bytes:
    """The text of ``/metrics``: what all roles wrote into `folder`, and `now`. Prometheus text format 0.0.4."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    registry.register(_Gauges(now))
    return generate_latest(registry)


class _Gauges(Collector):
    """`Now` as gauges."""

    def __init__(self, now: Now) -> None:
        self._now = now

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What waits and for how long, the disk, the workers, and the last run of the constancy check."""
        if self._now.standing is not None:
            yield from _standing(self._now.standing, self._now.at)
        yield gauge("disk_free_bytes", "Free bytes where the node keeps its files.", self._now.disk_free_bytes)
        yield gauge("disk_size_bytes", "Size of the disk where the node keeps its files.", self._now.disk_bytes)
        workers = labelled("workers_current", "Processes of a role that were heard from lately.", "role")
        for role, count in sorted(self._now.workers.items()):
            workers.add_metric([role], count)
        yield workers
        yield from _constancy(self._now.constancy)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge of one value."""
    return GaugeMetricFamily(f"sct_node_{name}", text, value=value)


def labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """A gauge with labels, of no value yet."""
    return GaugeMetricFamily(f"sct_node_{name}", text, labels=labels)


def _standing(standing: LedgerOverview, at: float) -> Iterable[GaugeMetricFamily]:
    """The ledger in numbers, at a Unix time."""
    jobs = labelled("jobs_current", "Jobs in a state now, by whether they are held.", "state", "held")
    for (state, held), count in sorted(standing.jobs.items()):
        jobs.add_metric([state, "yes" if held else "no"], count)
    yield jobs
    yield from _lines("queue_length", "How many wait in a queue.", "queue_oldest_seconds", "queue", standing.queues, at)
    text = "CT series that a destination has not taken yet."
    yield from _lines(
        "delivery_waiting_jobs", text, "delivery_waiting_seconds", "destination", standing.destinations, at
    )
    if standing.last_instance_at is not None:
        text = "When the last instance came (Unix time)."
        yield gauge("last_instance_timestamp_seconds", text, standing.last_instance_at)


def _lines(
    length: str, text: str, oldest: str, label: str, lines: Mapping[str, QueueLength], at: float
) -> Iterable[GaugeMetricFamily]:
    """Lengths of queues, and for how long the oldest of each waits; 0 for an empty one."""
    lengths = labelled(length, text, label)
    ages = labelled(oldest, "For how long the oldest of them waits.", label)
    for name, line in sorted(lines.items()):
        lengths.add_metric([name], line.length)
        ages.add_metric([name], 0.0 if line.since is None else max(at - line.since, 0.0))
    yield from (lengths, ages)


def _constancy(runs: Sequence[LastConstancy]) -> Iterable[GaugeMetricFamily]:
    """Whether and when the last constancy run of each worker and model was good."""
    both = ("worker", "model")
    passed = labelled("constancy_passed", "1 when the last constancy run passed, else 0.", *both)
    last = labelled("constancy_last_run_timestamp_seconds", "When the last constancy run was (Unix time).", *both)
    text = "Largest difference of a tissue of the phantom from the reference in the last constancy run."
    deviation = labelled("constancy_deviation_hounsfield", text, *both)
    for run in runs:
        passed.add_metric([run.worker, run.model], run.passed)
        last.add_metric([run.worker, run.model], run.at)
        if run.deviation_hu is not None:
            deviation.add_metric([run.worker, run.model], run.deviation_hu)
    yield from (passed, last, deviation)
