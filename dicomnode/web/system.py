"""The system page: what waits, who works, the destinations, the disk, the models and the last constancy checks.

    GET  /system          reads itself again; it says nothing of any case
    POST /system/echo     fields: destination (its name), token. Asks it by C-ECHO, or STOW-RS by a search

Who is signed in may ask a destination whether it answers; one question at a time a destination, and a short one.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dicomnode import log, metrics
from dicomnode.cases import overview
from dicomnode.cases.overview import LedgerOverview, QueueLength, standing
from dicomnode.config.rules import models_of
from dicomnode.delivery.attempt import reach
from dicomnode.engine import executor, hosts
from dicomnode.errors import NodeError
from dicomnode.quality import constancy_runs
from dicomnode.web import health
from dicomnode.web.rendering import pages_of
from dicomnode.web.sign_in import form_of, visitor_of
from models.inference.card import BadCard, ModelCard, UnknownModel, card_path, find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.config.peers import Destination
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.quality.constancy_runs import ConstancyRow

REFRESH_S: Final = 5
ECHO_S: Final = 10.0
"""Patience with a destination that is asked from the page, however patient a delivery is."""

TREND_S: Final = 90 * 86_400.0
"""How far back the constancy checks of the page go."""

QUEUES: Final = {
    "settle": "series that are still arriving, or not complete",
    "synthesize": "cases whose CT is to be computed",
    "person": "cases that are held for a physicist",
    "deliver": "CT series that a destination has not taken",
    "proof": "storage commitments that destinations owe",
    "notice": "notices that were not sent yet",
}
"""Queue of `standing` -> what waits in it."""


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """What a destination answered to the last question from the page."""

    at: datetime.datetime
    good: bool
    sentence: str


class Echoes:
    """Asks destinations, one question at a time each, and remembers the last answer. Thread-safe."""

    def __init__(self, calling_ae: str) -> None:
        self._calling_ae = calling_ae
        self._last: dict[str, EchoAnswer] = {}
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def last(self, name: str) -> EchoAnswer | None:
        """What a destination answered last; None before anybody asked."""
        return self._last.get(name)

    def ask(self, destination: Destination) -> None:
        """Ask now, unless somebody does so already."""
        with self._lock:
            if destination.name in self._busy:
                return
            self._busy.add(destination.name)
        try:
            good, sentence = self._answer(destination)
            self._last[destination.name] = EchoAnswer(datetime.datetime.now(datetime.UTC), good, sentence)
        finally:
            with self._lock:
                self._busy.discard(destination.name)

    def _answer(self, destination: Destination) -> tuple[bool, str]:
        hasty = dataclasses.replace(destination, timeout_s=min(destination.timeout_s, ECHO_S))
        try:
            return True, reach(hasty, self._calling_ae)
        except (NodeError, OSError, ValueError) as error:
            return False, str(error)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of the node: its name, for how long it is silent, and whether it counts as gone."""

    name: str
    silent_s: float

    @property
    def gone(self) -> bool:
        """Whether /readyz would miss it."""
        return self.silent_s >= health.SILENT_S


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A destination: what waits for it, when it took a whole CT last, and what it answered when asked."""

    destination: Destination
    waiting: QueueLength
    last_taken_at: datetime.datetime | None
    asked: EchoAnswer | None


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that the configuration names: its card, and what is wrong with it or its weights."""

    name: str
    used_by: tuple[str, ...]
    card: ModelCard | None
    wrong: str


@dataclass(frozen=True, slots=True)
class Trend:
    """The constancy checks of one model and worker: the last one, and a line of the deviations before it."""

    last: ConstancyRow
    runs: tuple[ConstancyRow, ...]
    line: str
    highest_hu: float


def routes() -> list[Route]:
    """The page and its button."""
    return [
        Route("/system", _system, methods=["GET"]),
        Route("/system/echo", _echo, methods=["POST"]),
    ]


def workers(config: Config, ledger: Ledger, now: float) -> list[Worker]:
    """The processes of this machine, or on PostgreSQL of all machines, by name; `now` is Unix time in seconds."""
    if config.database == "sqlite":
        ticks = metrics.last_ticks(executor.metrics_folder(config))
        return [Worker(name, max(now - at, 0.0)) for name, at in sorted(ticks.items())]
    return [Worker(one.executor, one.silent_s) for one in hosts.known(ledger.engine)]


def models(config: Config) -> list[Weights]:
    """Every model that the configuration names, in the order in which it does."""
    used: dict[str, list[str]] = {}
    for path, name in models_of(config).items():
        used.setdefault(name, []).append(path)
    return [_weights(name, tuple(paths)) for name, paths in used.items()]


def _weights(name: str, used_by: tuple[str, ...]) -> Weights:
    try:
        card = find(name)
        file = card_path(name).with_suffix(".safetensors")
        seen = file.stat()
        found = _digest(file, seen.st_size, seen.st_mtime_ns)
    except (UnknownModel, BadCard, OSError) as error:
        return Weights(name, used_by, None, str(error))
    wrong = "" if found == card.digest else f"the weights have SHA-256 {found[:12]}, the card says {card.digest[:12]}"
    return Weights(name, used_by, card, wrong)


@lru_cache(maxsize=32)
def _digest(file: Path, _size: int, _changed_ns: int) -> str:
    """SHA-256 of a file, computed anew only when it has changed."""
    with file.open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def trends(rows: Sequence[ConstancyRow]) -> list[Trend]:
    """The runs by model and worker, the oldest first; all commands count as one worker. One that died has no device."""
    groups: dict[tuple[str, str], list[ConstancyRow]] = {}
    for row in rows:
        worker = "cli" if row.executor.startswith("cli:") else row.executor
        groups.setdefault((row.model, worker), []).append(row)
    return [_trend(group) for _, group in sorted(groups.items())]


def _trend(runs: Sequence[ConstancyRow]) -> Trend:
    """`line` is the points of an SVG polyline in a box of 300 x 60: days to the right, HU upwards."""
    measured = [one for one in runs if one.deviation_hu is not None]
    highest = max((one.deviation_hu or 0.0 for one in measured), default=0.0)
    span_s = (runs[-1].at - runs[0].at).total_seconds() or 1.0
    right = [300 * (one.at - runs[0].at).total_seconds() / span_s for one in measured]
    down = [60 - 60 * (one.deviation_hu or 0.0) / (highest or 1.0) for one in measured]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(right, down, strict=True))
    return Trend(runs[-1], tuple(runs), line, highest)


def places(config: Config, ledger: Ledger, now: LedgerOverview, echoes: Echoes) -> list[DestinationRow]:
    """Every destination of the configuration."""
    taken = overview.last_taken(ledger.engine)
    return [
        DestinationRow(
            one, now.destinations.get(one.name, QueueLength(0, None)), taken.get(one.name), echoes.last(one.name)
        )
        for one in config.destinations
    ]


def _system(request: Request) -> Response:
    """GET /system"""
    seen = request.app.state.seen
    config, ledger, at = seen.config, seen.ledger, time.time()
    now = standing(ledger.engine)
    values = {
        "queues": [(QUEUES.get(name, name), name, line, _age(line, at)) for name, line in now.queues.items()],
        "workers": workers(config, ledger, at),
        "places": places(config, ledger, now, request.app.state.echoes),
        "age": lambda line: _age(line, at),
        "free": health.disk_free_bytes(config),
        "size": health.disk_bytes(config),
        "reserve": config.receive.disk_reserve_bytes,
        "models": models(config),
        "trends": trends(constancy_runs.history(ledger.engine, at - TREND_S)),
        "refresh": f"{REFRESH_S}; url=/system?auto=1",
    }
    return pages_of(request).page(request, "system.html", values)


def _age(line: QueueLength, now: float) -> datetime.timedelta | None:
    """For how long the oldest of a queue has waited; None where it is empty."""
    return None if line.since is None else datetime.timedelta(seconds=max(now - line.since, 0.0))


async def _echo(request: Request) -> Response:
    """POST /system/echo"""
    form = await form_of(request, visitor_of(request).token)
    config: Config = request.app.state.seen.config
    asked = [one for one in config.destinations if one.name == form.get("destination")]
    if not asked:
        raise HTTPException(404)
    log.event("destination_asked", destination=asked[0].name, by=visitor_of(request).by)
    await run_in_threadpool(request.app.state.echoes.ask, asked[0])
    return RedirectResponse(f"/system#to-{asked[0].name}", 303)
