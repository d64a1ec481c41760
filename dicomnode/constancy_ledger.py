"""The diary of the constancy check: what each run of the phantom through the whole chain gave. Its SQL is here."""

from __future__ import annotations

import dataclasses
import datetime
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dicomnode.outbox import Kind, put
from dicomnode.schema import Row, constancy
from dicomnode.steps import transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = "CONSTANCY_FAILED"
"""Code of the notice."""
KEPT_S: Final = 3 * 366 * 86_400.0
"""How long a run is remembered."""


@dataclass(frozen=True, slots=True)
class ConstancyRow(Row):
    """A run: on which worker (`executor`), with which model on which device, and what came of it.

    `deviation_hu` is the largest difference of any tissue from the reference, `deviation_mm` the largest of grid, body
    and bone; None where nothing could be compared. `measured` is JSON (`pipeline.constancy.Measured`), or None.
    """

    id: int
    at: datetime.datetime
    executor: str
    model: str
    model_digest: str
    device: str
    passed: bool
    deviation_hu: float | None
    deviation_mm: float | None
    sentence: str
    measured: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a run; the fields are those of `ConstancyRow`."""

    executor: str
    model: str
    model_digest: str
    device: str
    passed: bool
    deviation_hu: float | None
    deviation_mm: float | None
    sentence: str
    measured: str | None
    seconds: float


def record(engine: sa.Engine, run: Run) -> None:
    """Keep a run; of one that failed people are told, in the same transaction. Forgets runs older than `KEPT_S`."""
    now = time.time()
    with transaction(engine) as connection:
        connection.execute(sa.insert(constancy).values(dataclasses.asdict(run) | {"at": now}))
        connection.execute(sa.delete(constancy).where(constancy.c.at < now - KEPT_S))
        if not run.passed:
            put(connection, Kind.CONSTANCY, code=FAILED, words=run.sentence)


def history(engine: sa.Engine, since: float = 0.0) -> list[ConstancyRow]:
    """Every run since then (Unix time), the oldest first."""
    return _rows(engine, sa.select(constancy).where(constancy.c.at >= since).order_by(constancy.c.id))


def latest(engine: sa.Engine) -> list[ConstancyRow]:
    """The last run of each worker and model, by model, device and worker; all commands count as one worker."""
    last: dict[tuple[str, str], ConstancyRow] = {}
    for row in history(engine, time.time() - KEPT_S):
        last[_worker(row.executor), row.model] = row
    return sorted(last.values(), key=lambda row: (row.model, row.device, row.executor))


def last_at(engine: sa.Engine, executor: str) -> datetime.datetime | None:
    """When a worker last made a run; None when it never did."""
    query = sa.select(constancy).where(constancy.c.executor == executor).order_by(constancy.c.id.desc()).limit(1)
    found = _rows(engine, query)
    return found[0].at if found else None


def _worker(executor: str) -> str:
    return "cli" if executor.startswith("cli:") else executor


def _rows(engine: sa.Engine, query: sa.Select[Sequence[object]]) -> list[ConstancyRow]:
    with transaction(engine) as connection:
        return [ConstancyRow.of(row) for row in connection.execute(query).mappings()]
