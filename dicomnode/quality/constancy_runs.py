"""The diary of the constancy check: what each run of the phantom through the whole chain gave. Its SQL is here.

A run is written down when it begins and again when it ends. One whose process did not live to its end has failed, and
is not begun again before its time: what kills a worker must not kill it over and over.
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
"""How long a run is remembered."""
_RUNNING: Final = constancy.c.sentence == ""


@dataclass(frozen=True, slots=True)
class ConstancyRow(Row):
    """A run: on which worker (`executor`), with which model on which device, and what came of it.

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
        """The worker as metrics and pages name it; all commands count as one."""
        return "cli" if self.executor.startswith("cli:") else self.executor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; the fields are those of `ConstancyRow`."""

    passed: bool
    sentence: str
    deviation_hu: float | None = None
    deviation_mm: float | None = None
    measured: str | None = None
    device: str = ""
    seconds: float = 0.0


def begin(engine: sa.Engine, executor: str, model: str, model_digest: str) -> int:
    """A run begins; -> its number. Forgets runs older than `KEPT_S`."""
    now = time.time()
    row: Mapping[str, Any] = dataclasses.asdict(Outcome(passed=False, sentence=""))
    row = {**row, "at": now, "executor": executor, "model": model, "model_digest": model_digest}
    with transaction(engine) as connection:
        connection.execute(sa.delete(constancy).where(constancy.c.at < now - KEPT_S))
        return int(connection.execute(sa.insert(constancy).values(row).returning(constancy.c.id)).scalar_one())


def end(engine: sa.Engine, number: int, outcome: Outcome) -> None:
    """A run ends; of one that failed people are told, in the same transaction. Nothing happens when it has ended."""
    with transaction(engine) as connection:
        change = sa.update(constancy).where(constancy.c.id == number, _RUNNING).values(dataclasses.asdict(outcome))
        if connection.execute(change).rowcount and not outcome.passed:
            put(connection, Kind.CONSTANCY, code=FAILED, words=outcome.sentence)


def running(engine: sa.Engine, executor: str) -> list[int]:
    """Numbers of the runs of a worker that have not ended; of a worker that has just started, none of them will."""
    query = sa.select(constancy.c.id).where(constancy.c.executor == executor, _RUNNING)
    with transaction(engine) as connection:
        return list(connection.execute(query).scalars())


def withdraw(engine: sa.Engine, executor: str) -> None:
    """Runs of a worker that was stopped before they had ended were never begun."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(constancy).where(constancy.c.executor == executor, _RUNNING))


def history(engine: sa.Engine, since: float = 0.0) -> list[ConstancyRow]:
    """Every run that has ended and began since then (Unix time), the oldest first."""
    query = sa.select(constancy).where(constancy.c.at >= since, ~_RUNNING).order_by(constancy.c.id)
    with transaction(engine) as connection:
        return [ConstancyRow.of(row) for row in connection.execute(query).mappings()]


def latest(engine: sa.Engine) -> list[ConstancyRow]:
    """The last run of each worker and model, by model, device and worker; all commands count as one worker."""
    last: dict[tuple[str, str], ConstancyRow] = {}
    for row in history(engine):
        last[row.worker, row.model] = row
    return sorted(last.values(), key=lambda row: (row.model, row.device, row.executor))


def last_begun(engine: sa.Engine, executor: str) -> float | None:
    """When a worker last began a run (Unix time); None when it never did."""
    query = sa.select(sa.func.max(constancy.c.at)).where(constancy.c.executor == executor)
    with transaction(engine) as connection:
        found = connection.execute(query).scalar_one()
    return None if found is None else float(found)
