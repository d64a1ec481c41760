"""Drift: the distance of a job's HU histogram from those of the last jobs of its scanner, protocol and model.

The histograms of finished jobs are kept in the ledger. Only jobs that are not held and were not rejected count. The
table is bounded and holds no text of the headers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from dicomnode.ledger.database import fetch, transaction
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import histograms, jobs
from pipeline.findings.findings import finding_for
from pipeline.gate import Gate, also

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dicomnode.config.sections import Quality
    from dicomnode.ledger.rows import JobRow
    from pipeline.conversion import Result
    from pipeline.findings.findings import Limits

NAME: Final = "hu_drift"
LEAST_CASES: Final = 5
"""Earlier jobs without which there is no finding."""

Histogram = Mapping[str, Any]
"""A histogram as `pipeline.findings.findings.histogram` returns it: from_hu, step_hu and counts."""


def stratum_of(scanner: str, protocol: str, model_digest: str) -> str:
    """Return the SHA-256 (hex) of what jobs must share to be compared."""
    return hashlib.sha256("\n".join([scanner, protocol, model_digest]).encode()).hexdigest()


def distance_hu(found: Histogram, others: Sequence[Histogram]) -> float:
    """Return the Wasserstein-1 distance in HU between a histogram and the mean of others, each with equal weight.

    In one dimension it is the area between the cumulative distributions (Vallender 1974). All have the bins of
    `pipeline.findings.findings`.
    """
    length = max(len(one["counts"]) for one in [found, *others])
    mean = np.mean([_cumulative(one, length) for one in others], axis=0)
    return float(np.abs(_cumulative(found, length) - mean).sum() * found["step_hu"])


def _cumulative(histogram: Histogram, length: int) -> NDArray[np.float64]:
    counts = np.zeros(length)
    counts[: len(histogram["counts"])] = histogram["counts"]
    fractions: NDArray[np.float64] = np.cumsum(counts) / max(counts.sum(), 1.0)
    return fractions


def with_drift(result: Result, others: Sequence[Histogram], limits: Mapping[str, float], gate: Gate) -> Result:
    """Add the finding about drift to a finished conversion, unless there are too few earlier jobs."""
    if len(others) < LEAST_CASES:
        return result
    finding = finding_for(NAME, distance_hu(result.report["hu_histogram"], others), "[hnsf'U]", limits)
    report = result.report | {"findings": [*result.report["findings"], dataclasses.asdict(finding)]}
    holds = finding.verdict != "pass" and gate != "never_hold"
    hold = also(result.hold, finding) if holds else result.hold
    return dataclasses.replace(result, findings=(*result.findings, finding), report=report, hold=hold)


def compared(engine: sa.Engine, job: JobRow, result: Result, limits: Limits, quality: Quality) -> Result:
    """Keep the HU histogram of a finished conversion for later jobs, and add the finding about its own drift."""
    stratum = stratum_of(result.report["scanner"], result.report["protocol"], job.model_digest)
    keep(engine, job.job, stratum, result.report["hu_histogram"])
    if NAME not in limits or quality.drift_cases == 0:
        return result
    return with_drift(result, earlier(engine, job.job, stratum, quality.drift_cases), limits[NAME], quality.gate)


KEPT: Final = 20_000
"""Rows of the table; the oldest beyond it go. A row takes about a kilobyte."""


def keep(engine: sa.Engine, job: str, stratum: str, histogram: Histogram) -> None:
    """Write the histogram of a job, in place of an earlier attempt's, and let the oldest rows beyond KEPT go."""
    row = {"job": job, "stratum": stratum, "at": time.time(), "histogram": json.dumps(histogram)}
    with transaction(engine) as connection:
        connection.execute(sa.delete(histograms).where(histograms.c.job == job))
        connection.execute(sa.insert(histograms).values(row))
        oldest = sa.select(histograms.c.at).order_by(histograms.c.at.desc()).offset(KEPT).limit(1)
        beyond = connection.execute(oldest).scalar_one_or_none()
        if beyond is not None:
            connection.execute(sa.delete(histograms).where(histograms.c.at <= beyond))


def earlier(engine: sa.Engine, job: str, stratum: str, count: int) -> list[Histogram]:
    """Return the histograms of the last jobs of a stratum, newest first, without the job's own."""
    sent = (jobs.c.held.is_(None)) & jobs.c.state.in_([State.SYNTHESIZED, State.DELIVERED])
    query = (
        sa.select(histograms.c.histogram)
        .join(jobs, jobs.c.job == histograms.c.job)
        .where(histograms.c.stratum == stratum, histograms.c.job != job, sent)
        .order_by(histograms.c.at.desc())
        .limit(count)
    )
    return [json.loads(row["histogram"]) for row in fetch(engine, query)]
