"""The histograms of finished cases in the ledger, by which the drift of later ones is seen.

Only cases that nobody holds and that were not rejected count. The table is bounded and holds no text of the headers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from dicomnode.ledger.database import transaction
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import histograms, jobs

KEPT: Final = 20_000
"""Rows of the table; the oldest beyond it go. A row takes about a kilobyte."""

Histogram = Mapping[str, Any]
"""As `pipeline.findings.histogram.histogram` gives it."""


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
    """The histograms of the last cases of a stratum, newest first, but for the job's own."""
    sent = (jobs.c.held.is_(None)) & jobs.c.state.in_([State.SYNTHESIZED, State.DELIVERED])
    query = (
        sa.select(histograms.c.histogram)
        .join(jobs, jobs.c.job == histograms.c.job)
        .where(histograms.c.stratum == stratum, histograms.c.job != job, sent)
        .order_by(histograms.c.at.desc())
        .limit(count)
    )
    with transaction(engine) as connection:
        return [json.loads(text) for text in connection.execute(query).scalars()]
