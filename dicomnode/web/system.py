"""The system page: queues, processes, destinations, disk, models and the last constancy checks.

    GET  /system          the page; it reloads itself, and shows nothing about any case
    POST /system/echo     fields: destination (its name), token. Tests the destination by C-ECHO (PS3.7 9.1.5), or one
                          with STOW-RS by a search (PS3.18 10.6)

Every user who is signed in may test a destination: one request at a time for each destination, with a short timeout.
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

from dicomnode import log
from dicomnode.cases import overview
from dicomnode.cases.overview import QueueLength, ledger_overview
from dicomnode.config.rules import models_of
from dicomnode.delivery.attempt import reach
from dicomnode.errors import NodeError
from dicomnode.quality import constancy_runs
from dicomnode.web import health
from dicomnode.web.rendering import context_of, pages_of
from dicomnode.web.sign_in import form_of, visitor_of
from models.inference.card import BadCard, ModelCard, UnknownModel, card_path, find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.config.peers import Destination
    from dicomnode.quality.constancy_runs import ConstancyRow

REFRESH_S: Final = 5
ECHO_S: Final = 10.0
"""Longest timeout of a test from the page, whatever the timeout of a delivery is."""

TREND_S: Final = 90 * 86_400.0
"""Period of the constancy checks on the page."""

QUEUES: Final = {
    "settle": "series that are still arriving, or not complete",
    "synthesize": "cases whose CT is to be computed",
    "person": "cases that are held for a physicist",
    "deliver": "CT series that a destination has not taken",
    "proof": "storage commitments that destinations owe",
    "notice": "notices that were not sent yet",
}
"""Queue of `ledger_overview` -> its entries in words."""


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """The answer of a destination to the last test from the page."""

    at: datetime.datetime
    good: bool
    sentence: str


class Echoes:
    """Tests destinations, each by one request at a time, and remembers the last answers. Thread-safe."""

    def __init__(self, calling_ae: str) -> None:
        self._calling_ae = calling_ae
        self._last: dict[str, EchoAnswer] = {}
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def last(self, name: str) -> EchoAnswer | None:
        """Return the last answer of a destination; None before the first test."""
        return self._last.get(name)

    def ask(self, destination: Destination) -> None:
        """Test a destination and remember its answer; return at once if another request tests it now."""
        with self._lock:
            if destination.name in self._busy:
                return
            self._busy.add(destination.name)
        hasty = dataclasses.replace(destination, timeout_s=min(destination.timeout_s, ECHO_S))
        try:
            sentence = reach(hasty, self._calling_ae)
            self._last[destination.name] = EchoAnswer(datetime.datetime.now(datetime.UTC), True, sentence)
        except (NodeError, OSError, ValueError) as error:
            self._last[destination.name] = EchoAnswer(datetime.datetime.now(datetime.UTC), False, str(error))
        finally:
            with self._lock:
                self._busy.discard(destination.name)


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A destination: its queue, the time of its last complete CT, and its answer to the last test."""

    destination: Destination
    waiting: QueueLength
    last_taken_at: datetime.datetime | None
    echo: EchoAnswer | None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that the configuration names: its card, and the fault of its card or weights; "" for none."""

    name: str
    used_by: tuple[str, ...]
    card: ModelCard | None
    wrong: str


@dataclass(frozen=True, slots=True)
class ConstancyTrend:
    """The constancy checks of one model and worker.

    Attributes:
        last: the last check.
        runs: all checks of the period, the oldest first.
        line: the points of an SVG polyline in a box of 300 x 60: time to the right, deviation (HU) upwards.
        highest_hu: the deviation at the top of the box.
    """

    last: ConstancyRow
    runs: tuple[ConstancyRow, ...]
    line: str
    highest_hu: float


def routes() -> list[Route]:
    """Return the routes of the page and of its button."""
    return [Route("/system", system_page, methods=["GET"]), Route("/system/echo", echo, methods=["POST"])]


def models(config: Config) -> list[ModelRow]:
    """List the models that the configuration names, in its order, and check their weights against their cards."""
    used: dict[str, list[str]] = {}
    for path, name in models_of(config).items():
        used.setdefault(name, []).append(path)
    rows = []
    for name, paths in used.items():
        try:
            card = find(name)
            weights = card_path(name).with_suffix(".safetensors")
            status = weights.stat()
            digest = digest_of(weights, status.st_size, status.st_mtime_ns)
        except (UnknownModel, BadCard, OSError) as error:
            rows.append(ModelRow(name, tuple(paths), None, str(error)))
            continue
        wrong = f"the weights have SHA-256 {digest[:12]}, the card says {card.digest[:12]}"
        rows.append(ModelRow(name, tuple(paths), card, "" if digest == card.digest else wrong))
    return rows


@lru_cache(maxsize=32)
def digest_of(file: Path, _size: int, _changed_ns: int) -> str:
    """Return the SHA-256 of a file; it is computed again only when size or time of the file have changed."""
    with file.open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def trends(rows: Sequence[ConstancyRow]) -> list[ConstancyTrend]:
    """Group the constancy checks by model and worker; `rows` and each group begin with the oldest check."""
    groups: dict[tuple[str, str], list[ConstancyRow]] = {}
    for row in rows:
        groups.setdefault((row.model, row.worker), []).append(row)
    return [trend(group) for _, group in sorted(groups.items())]


def trend(runs: Sequence[ConstancyRow]) -> ConstancyTrend:
    """Draw the deviations of the checks of one model and worker as a line."""
    measured = [one for one in runs if one.deviation_hu is not None]
    highest = max((one.deviation_hu or 0.0 for one in measured), default=0.0)
    span_s = (runs[-1].at - runs[0].at).total_seconds() or 1.0
    right = [300 * (one.at - runs[0].at).total_seconds() / span_s for one in measured]
    down = [60 - 60 * (one.deviation_hu or 0.0) / (highest or 1.0) for one in measured]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(right, down, strict=True))
    return ConstancyTrend(runs[-1], tuple(runs), line, highest)


def system_page(request: Request) -> Response:
    """Answer GET /system."""
    context = context_of(request)
    config, ledger, at = context.config, context.ledger, time.time()
    now, last_taken = ledger_overview(ledger.engine), overview.last_taken(ledger.engine)
    free, size = health.disk_bytes(config)
    echoes: Echoes = request.app.state.echoes

    def age(queue: QueueLength) -> datetime.timedelta | None:
        """Return for how long the oldest entry of a queue has waited; None for an empty queue."""
        return None if queue.since is None else datetime.timedelta(seconds=health.waiting_s(queue, at))

    empty = QueueLength(0, None)
    destinations = [
        DestinationRow(one, now.destinations.get(one.name, empty), last_taken.get(one.name), echoes.last(one.name))
        for one in config.destinations
    ]
    values = {
        "queues": [(QUEUES.get(name, name), name, queue, age(queue)) for name, queue in now.queues.items()],
        "processes": health.processes(config, ledger, at),
        "destinations": destinations,
        "age": age,
        "free": free,
        "size": size,
        "reserve": config.receive.disk_reserve_bytes,
        "models": models(config),
        "trends": trends(constancy_runs.history(ledger.engine, at - TREND_S)),
        "refresh": f"{REFRESH_S}; url=/system?auto=1",
    }
    return pages_of(request).page(request, "system.html", values)


async def echo(request: Request) -> Response:
    """Answer POST /system/echo: test the destination, then show the page (303, RFC 9110 15.4.4)."""
    form = await form_of(request, visitor_of(request).token)
    destinations = context_of(request).config.destinations
    destination = next((one for one in destinations if one.name == form.get("destination")), None)
    if destination is None:
        raise HTTPException(404)
    log.event("destination_asked", destination=destination.name, by=visitor_of(request).by)
    await run_in_threadpool(request.app.state.echoes.ask, destination)
    return RedirectResponse(f"/system#to-{destination.name}", 303)
