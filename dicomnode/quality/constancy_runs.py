"""The table of constancy runs: the outcome of each run of the phantom through the whole chain. Its SQL is here.

A run is written when it begins and again when it ends. One whose process ended before it has failed, and is not begun
again before the next day, so that what kills a worker does not kill it over and over.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.config.sections import Kind
from dicomnode.ledger.database import transaction
from dicomnode.ledger.notices import put
from dicomnode.ledger.rows import Row
from dicomnode.ledger.tables import constancy

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILED: Final = "CONSTANCY_FAILED"
"""Code of the notice."""
KEPT_S: Final = 3 * 366 * 86_400.0
"""Time after which a run is deleted."""
_RUNNING: Final = constancy.c.sentence == ""


@dataclass(frozen=True, slots=True)
class ConstancyRow(Row):
    """One run: its worker (`executor`), model, device and outcome.

    `deviation_hu` is the largest difference of any tissue from the reference, `deviation_mm` the largest of grid, body
    and bone; None where nothing could be compared. `measured` is JSON (`pipeline.phantom.constancy.Measured`), or None.
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

    @property
    def worker(self) -> str:
        """Return the worker as metrics and pages name it; all commands count as one."""
        return "cli" if self.executor.startswith("cli:") else self.executor


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run; the fields are those of `ConstancyRow`."""

    passed: bool
    sentence: str
    deviation_hu: float | None = None
    deviation_mm: float | None = None
    measured: str | None = None
    device: str = ""
    seconds: float = 0.0


def begin(engine: sa.Engine, executor: str, model: str, model_digest: str) -> int:
    """Write that a run begins, and delete runs older than `KEPT_S`; return its number."""
    now = time.time()
    row: Mapping[str, Any] = dataclasses.asdict(Outcome(passed=False, sentence=""))
    row = {**row, "at": now, "executor": executor, "model": model, "model_digest": model_digest}
    with transaction(engine) as connection:
        connection.execute(sa.delete(constancy).where(constancy.c.at < now - KEPT_S))
        return int(connection.execute(sa.insert(constancy).values(row).returning(constancy.c.id)).scalar_one())


def end(engine: sa.Engine, number: int, outcome: Outcome) -> None:
    """Write the outcome of a run that has not ended yet; a failure becomes a notice in the same transaction."""
    with transaction(engine) as connection:
        change = sa.update(constancy).where(constancy.c.id == number, _RUNNING).values(dataclasses.asdict(outcome))
        if connection.execute(change).rowcount and not outcome.passed:
            put(connection, Kind.CONSTANCY, code=FAILED, words=outcome.sentence)


def running(engine: sa.Engine, executor: str) -> list[int]:
    """Return the numbers of a worker's runs that have not ended; after a restart of the worker they never will."""
    query = sa.select(constancy.c.id).where(constancy.c.executor == executor, _RUNNING)
    with transaction(engine) as connection:
        return list(connection.execute(query).scalars())


def withdraw(engine: sa.Engine, executor: str) -> None:
    """Delete the runs of a worker that have not ended: it was stopped in order, so they do not count as failed."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(constancy).where(constancy.c.executor == executor, _RUNNING))


def history(engine: sa.Engine, since: float = 0.0) -> list[ConstancyRow]:
    """Return every run that has ended and began after `since` (Unix time), the oldest first."""
    query = sa.select(constancy).where(constancy.c.at >= since, ~_RUNNING).order_by(constancy.c.id)
    with transaction(engine) as connection:
        return [ConstancyRow.of(row) for row in connection.execute(query).mappings()]


def latest(engine: sa.Engine) -> list[ConstancyRow]:
    """Return the last run of each worker and model, by model, device and worker; all commands count as one worker."""
    last: dict[tuple[str, str], ConstancyRow] = {}
    for row in history(engine):
        last[row.worker, row.model] = row
    return sorted(last.values(), key=lambda row: (row.model, row.device, row.executor))


def last_begun(engine: sa.Engine, executor: str) -> float | None:
    """Return when a worker last began a run (Unix time); None when it never did."""
    query = sa.select(sa.func.max(constancy.c.at)).where(constancy.c.executor == executor)
    with transaction(engine) as connection:
        found = connection.execute(query).scalar_one()
    return None if found is None else float(found)
