"""Metrics, health and readiness of the node, for monitoring systems: a server beside the page, on its own address.

    GET /metrics        Prometheus text format 0.0.4: the counts of all processes, and `LiveValues`
    GET /healthz        200 while this process answers
    GET /readyz         200 if the ledger can be read, the free disk space exceeds the reserve and every role has
                        ticked lately; otherwise 503 (RFC 9110 15.6.4). The answer lists the checks as JSON

There is no sign-in, nothing can be changed, and no answer names a patient, a job or a user. The configuration key
`metrics.bind` decides who can reach it: by default this machine alone.
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
from dicomnode.cases.overview import ledger_overview
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
"""Roles that must have ticked lately for the node to be ready."""

SILENT_S: Final = 30.0
"""A role that has not ticked for this time counts as gone; a busy CPU may delay a tick by seconds."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The values that the routes share."""

    config: Config
    ledger: Ledger


def app(config: Config) -> Starlette:
    """Create the ASGI application that serves metrics, health and readiness of a node."""
    routes = [Route("/metrics", metrics_text), Route("/healthz", alive), Route("/readyz", ready)]
    application = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)])
    application.state.watched = Watched(config, Ledger(database_url(config)))
    return application


def metrics_text(request: Request) -> Response:
    """Answer GET /metrics; the values of the ledger are missing while it cannot be read."""
    watched: Watched = request.app.state.watched
    text = exposition(metrics_folder(watched.config), live_values(watched.config, watched.ledger, time.time()))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def alive(_: Request) -> Response:
    """Answer GET /healthz."""
    return PlainTextResponse("ok\n")


def ready(request: Request) -> Response:
    """Answer GET /readyz."""
    watched: Watched = request.app.state.watched
    checks = readiness(watched.config, watched.ledger, time.time())
    is_ready = all(result == "ok" for result in checks.values())
    return JSONResponse({"ready": is_ready, "checks": checks}, status_code=200 if is_ready else 503)


def readiness(config: Config, ledger: Ledger, now: float) -> dict[str, str]:
    """Return the checks of /readyz: name -> `ok`, or what is wrong.

    Args:
        config: the configuration of the node. On PostgreSQL a role may run on any machine.
        ledger: its ledger.
        now: Unix time in seconds.
    """
    checks = {"ledger": "ok", "disk": "ok"}
    try:
        ledger.receiving()
    except LedgerUnreachable as error:
        checks["ledger"] = str(error)
    free, reserve = disk_bytes(config)[0], config.receive.disk_reserve_bytes
    if free <= reserve:
        checks["disk"] = f"{free} bytes are free; receive.disk_reserve_bytes is {reserve}"
    try:
        return checks | role_checks((one.role, one.silent_s) for one in processes(config, ledger, now))
    except LedgerUnreachable:
        return checks | role_checks(())


def disk_bytes(config: Config) -> tuple[int, int]:
    """Return (free bytes, size in bytes) of the disk with the node's files; (0, 0) if the folder does not exist."""
    try:
        usage = shutil.disk_usage(config.node.data)
    except FileNotFoundError:
        return 0, 0
    return usage.free, usage.total


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A process of the node: its name, its role, and the time since its last tick."""

    name: str
    role: str
    silent_s: float

    @property
    def gone(self) -> bool:
        """Whether /readyz counts it as gone."""
        return self.silent_s >= SILENT_S


def processes(config: Config, ledger: Ledger, now: float) -> list[NodeProcess]:
    """List the processes of this machine, or on PostgreSQL of all machines, by name; `now` is Unix time (s).

    Raises LedgerUnreachable on PostgreSQL.
    """
    if config.database == "sqlite":
        ticks = metrics.last_ticks(metrics_folder(config))
        return [NodeProcess(name, name.rstrip("0123456789-"), max(now - at, 0.0)) for name, at in sorted(ticks.items())]
    return [NodeProcess(one.executor, one.role, one.silent_s) for one in hosts.known(ledger.engine)]


def role_checks(silences: Iterable[tuple[str, float]]) -> dict[str, str]:
    """Return role -> `ok`, or for how long it has been silent, for each of `ROLES`.

    Args:
        silences: (role, time since its last tick in s) of each process.
    """
    silent_s: dict[str, float] = {}
    for role, silence_s in silences:
        silent_s[role] = min(silence_s, silent_s.get(role, silence_s))
    checks = {}
    for role in ROLES:
        silence_s = silent_s.get(role, math.inf)
        silent = f"was last heard from {silence_s:.0f} s ago" if role in silent_s else "was not heard from yet"
        checks[role] = "ok" if silence_s < SILENT_S else silent
    return checks


@dataclass(frozen=True)
class LastConstancy:
    """The last constancy run of a worker and model.

    Attributes:
        worker: the name of the process; all commands count as `cli`.
        model: the name of the model.
        at: Unix time (s) of the run.
        passed: whether every measurement was within its limit.
        deviation_hu: the largest deviation from the reference (HU); None if nothing was compared.
    """

    worker: str
    model: str
    at: float
    passed: bool
    deviation_hu: float | None


@dataclass(frozen=True)
class LiveValues:
    """The state of ledger, disk and processes when ``/metrics`` is requested.

    Attributes:
        at: Unix time (s) of the request.
        standing: the ledger in numbers; None while it cannot be read.
        disk_free_bytes: free space of the disk with the node's files.
        disk_bytes: size of this disk.
        workers: role -> number of its processes that ticked lately.
        constancy: the last constancy run of each worker and model.
    """

    at: float
    standing: LedgerOverview | None
    disk_free_bytes: int
    disk_bytes: int
    workers: Mapping[str, int] = field(default_factory=dict)
    constancy: Sequence[LastConstancy] = ()


def live_values(config: Config, ledger: Ledger, at: float) -> LiveValues:
    """Read the state of ledger, disk and processes at a Unix time (s)."""
    free, size = disk_bytes(config)
    try:
        overview = ledger_overview(ledger.engine)
        runs = [
            LastConstancy(run.worker, run.model, run.at.timestamp(), run.passed, run.deviation_hu)
            for run in latest(ledger.engine)
        ]
        return LiveValues(at, overview, free, size, workers(config, ledger, at), runs)
    except LedgerUnreachable:
        return LiveValues(at, None, free, size)


def workers(config: Config, ledger: Ledger, at: float) -> dict[str, int]:
    """Count the processes of each role that ticked lately: of this machine, or on PostgreSQL of all machines.

    Raises LedgerUnreachable.
    """
    if config.database == "sqlite":
        silences = [(role, at - ticked) for role, ticked in touched(config)]
    else:
        silences = [(one.role, one.silent_s) for one in hosts.known(ledger.engine)]
    counts = Counter(role for role, silence_s in silences if silence_s < SILENT_S)
    return {role: counts[role] for role in ROLES}


def exposition(folder: Path, live: LiveValues) -> bytes:
    """Return the text of ``/metrics``: the counts that all roles wrote into `folder`, and the live values."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    registry.register(LiveGauges(live))
    return generate_latest(registry)


class LiveGauges(Collector):
    """The live values as gauges."""

    def __init__(self, live: LiveValues) -> None:
        self._live = live

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the gauges of the ledger, the disk, the workers and the last constancy runs."""
        live = self._live
        if live.standing is not None:
            yield from ledger_gauges(live.standing, live.at)
        yield gauge("disk_free_bytes", "Free bytes where the node keeps its files.", live.disk_free_bytes)
        yield gauge("disk_size_bytes", "Size of the disk where the node keeps its files.", live.disk_bytes)
        processes = labelled("workers_current", "Processes of a role that were heard from lately.", "role")
        for role, count in sorted(live.workers.items()):
            processes.add_metric([role], count)
        yield processes
        yield from constancy_gauges(live.constancy)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Create a gauge with one value and no labels."""
    return GaugeMetricFamily(f"sct_node_{name}", text, value=value)


def labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Create a gauge with labels and no value yet."""
    return GaugeMetricFamily(f"sct_node_{name}", text, labels=labels)


def ledger_gauges(standing: LedgerOverview, at: float) -> Iterable[GaugeMetricFamily]:
    """Yield the gauges of the ledger: jobs by state, queues, destinations, and the last instance."""
    jobs = labelled("jobs_current", "Jobs in a state now, by whether they are held.", "state", "held")
    for (state, held), count in sorted(standing.jobs.items()):
        jobs.add_metric([state, "yes" if held else "no"], count)
    yield jobs
    waiting_text = "CT series that a destination has not taken yet."
    for length, text, oldest, label, queues in (
        ("queue_length", "How many wait in a queue.", "queue_oldest_seconds", "queue", standing.queues),
        ("delivery_waiting_jobs", waiting_text, "delivery_waiting_seconds", "destination", standing.destinations),
    ):
        lengths = labelled(length, text, label)
        ages = labelled(oldest, "For how long the oldest of them waits.", label)
        for name, queue in sorted(queues.items()):
            lengths.add_metric([name], queue.length)
            ages.add_metric([name], waiting_s(queue, at))
        yield from (lengths, ages)
    if standing.last_instance_at is not None:
        text = "When the last instance came (Unix time)."
        yield gauge("last_instance_timestamp_seconds", text, standing.last_instance_at)


def waiting_s(queue: QueueLength, at: float) -> float:
    """Return for how long (s) the oldest entry of a queue has waited at a Unix time; 0 for an empty queue."""
    return 0.0 if queue.since is None else max(at - queue.since, 0.0)


def constancy_gauges(runs: Sequence[LastConstancy]) -> Iterable[GaugeMetricFamily]:
    """Yield the gauges of the last constancy run of each worker and model."""
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
