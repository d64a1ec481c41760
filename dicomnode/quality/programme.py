"""A programme of synthetic CT over some weeks: jobs, times, findings, drift, failures. It names no patient.

Its numbers come from the ledger and from report.json beside each CT; of a job whose files are deleted only the ledger
still knows.
"""

from __future__ import annotations

import datetime
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

from dicomnode.cases.files import report_of
from dicomnode.errors import NodeError
from dicomnode.ledger.states import JobEvent, State
from dicomnode.quality import constancy_runs

if TYPE_CHECKING:
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import DeliveryRow, EventRow, JobRow
    from dicomnode.quality.constancy_runs import ConstancyRow
    from dicomnode.spool.spool import Spool

UNNAMED: Final = "not named"
"""Scanner or protocol of a job whose headers do not name it."""
_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


class BadSpan(NodeError):
    """A span of time that cannot be read."""


def span_of(text: str) -> datetime.timedelta:
    """Read a span such as `30d`, `4w` or `12h`. Raises BadSpan."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise BadSpan(f"{text!r} is no span of time; write hours, days or weeks, such as 12h, 30d, 4w")
    return datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})


@dataclass(frozen=True, slots=True)
class ProgrammeRow:
    """One job: its row, its events in order, its deliveries, and its report.json."""

    job: JobRow
    events: Sequence[EventRow]
    deliveries: Sequence[DeliveryRow]
    report: Mapping[str, Any]

    @property
    def origin(self) -> tuple[str, str]:
        """Return scanner (equipment, PS3.3 C.7.5.1) and protocol (ProtocolName, PS3.3 C.7.3.1)."""
        return str(self.report.get("scanner") or UNNAMED), str(self.report.get("protocol") or UNNAMED)

    @property
    def hold(self) -> str | None:
        """Return the code of the first reason for which it was held; None when it never was."""
        if self.report.get("held_code"):
            return str(self.report["held_code"])
        held = any(one.event in (JobEvent.HELD, JobEvent.CONFLICTED) for one in self.events)
        return (self.job.reason_code or "HELD") if held or self.job.held else None

    def at(self, *events: JobEvent) -> datetime.datetime | None:
        """Return when one of these events last happened."""
        found = [one.at for one in self.events if one.event in events]
        return found[-1] if found else None

    def seconds(self, first: JobEvent, *then: JobEvent) -> float | None:
        """Return the seconds from one event to the other; None unless both happened."""
        begun, ended = self.at(first), self.at(*then)
        return None if begun is None or ended is None else (ended - begun).total_seconds()


@dataclass(frozen=True, slots=True)
class Times:
    """Times of one part of the way over `cases` jobs: median, 90th percentile and longest, in seconds."""

    cases: int
    median_s: float
    most_s: float
    longest_s: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Times | None:
        """Summarize the times that are known (s); None where there are none."""
        known = sorted(float(value) for value in values if value is not None)
        if not known:
            return None
        return cls(len(known), statistics.median(known), float(np.percentile(known, 90)), known[-1])


@dataclass(frozen=True, slots=True)
class Checked:
    """One finding over all jobs: the count of each verdict, and the median, 5th and 95th percentile of its numbers."""

    name: str
    unit: str
    verdicts: Mapping[str, int]
    median: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, name: str, found: Sequence[Mapping[str, Any]]) -> Checked:
        """Summarize a finding of several jobs, as report.json has it."""
        values = [float(one["value"]) for one in found if isinstance(one["value"], int | float)]
        low, median, high = (float(value) for value in np.percentile(values, (5, 50, 95))) if values else (None,) * 3
        verdicts = Counter(str(one["verdict"]) for one in found)
        return cls(name, str(found[-1]["unit"]), dict(verdicts), median, low, high)


@dataclass(frozen=True, slots=True)
class ProtocolCases:
    """The jobs of one scanner and protocol, and the drift of their HU.

    `median_hu` is the median in the body over all jobs, each with the same weight. `drift_hu` is the Wasserstein
    distance (scipy.stats.wasserstein_distance) between the mean histograms of HU of the earlier and the later half of
    the jobs; None below four jobs.
    """

    scanner: str
    protocol: str
    cases: int
    held: int
    median_hu: float | None
    drift_hu: float | None

    @classmethod
    def of(cls, scanner: str, protocol: str, jobs: Sequence[ProgrammeRow]) -> ProtocolCases:
        """Summarize the jobs of a scanner and protocol, the oldest first."""
        histograms = histograms_of(jobs)
        half = len(histograms) // 2
        whole, earlier, later = (_mean(some) for some in (histograms, histograms[:half], histograms[half:]))
        median = None if whole is None else float(np.interp(0.5, np.cumsum(whole[1]), whole[0]))
        drift = None
        if half >= 2 and earlier is not None and later is not None:
            drift = float(stats.wasserstein_distance(earlier[0], later[0], earlier[1], later[1]))
        return cls(scanner, protocol, len(jobs), sum(one.hold is not None for one in jobs), median, drift)


@dataclass(frozen=True, slots=True)
class Programme:
    """The jobs that were opened in a span of time, the oldest first, and the constancy runs of that time."""

    since: datetime.datetime
    until: datetime.datetime
    jobs: Sequence[ProgrammeRow]
    runs: Sequence[ConstancyRow]

    @property
    def states(self) -> Mapping[str, int]:
        """Return how many jobs are in each state."""
        return {str(state): count for state, count in sorted(Counter(one.job.state for one in self.jobs).items())}

    @property
    def rejections(self) -> Mapping[str, int]:
        """Return reason code -> number of rejected jobs, the most frequent first."""
        codes = Counter(str(one.job.reason_code) for one in self.jobs if one.job.state is State.REJECTED)
        return dict(codes.most_common())

    @property
    def holds(self) -> Mapping[str, int]:
        """Return reason code -> number of jobs that were held, the most frequent first."""
        return dict(Counter(one.hold for one in self.jobs if one.hold is not None).most_common())

    @property
    def decisions(self) -> Mapping[str, int]:
        """Return event -> how often people decided so."""
        kinds = (JobEvent.RELEASED, JobEvent.REJECTED_BY_PERSON, JobEvent.RETRIED, JobEvent.CANCELLED, JobEvent.RESENT)
        return dict(Counter(str(event.event) for one in self.jobs for event in one.events if event.event in kinds))

    @property
    def failures(self) -> Mapping[str, int]:
        """Return event -> how often something went wrong, here or at a destination."""
        kinds = (JobEvent.FAILED, JobEvent.POSTPONED, JobEvent.ALARMED, JobEvent.COMMITMENT_FAILED, JobEvent.CONFLICTED)
        return dict(Counter(str(event.event) for one in self.jobs for event in one.events if event.event in kinds))

    @property
    def times(self) -> Mapping[str, Times]:
        """Return each part of the way -> how long it took."""
        parts = {
            "computing the CT": (one.report.get("seconds", {}).get("synthesize") for one in self.jobs),
            "complete series to CT": (one.seconds(JobEvent.SETTLED, JobEvent.SYNTHESIZED) for one in self.jobs),
            "complete series to last destination": (
                one.seconds(JobEvent.SETTLED, JobEvent.DELIVERED) for one in self.jobs
            ),
            "CT held to decision": (
                one.seconds(JobEvent.SYNTHESIZED, JobEvent.RELEASED, JobEvent.REJECTED_BY_PERSON)
                for one in self.jobs
                if one.hold
            ),
        }
        return {part: times for part, values in parts.items() if (times := Times.of(values)) is not None}

    @property
    def findings(self) -> Sequence[Checked]:
        """Return every finding, by name."""
        by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for finding in (finding for one in self.jobs for finding in one.report.get("findings", ())):
            by_name[finding["name"]].append(finding)
        return [Checked.of(name, by_name[name]) for name in sorted(by_name)]

    @property
    def origins(self) -> Sequence[ProtocolCases]:
        """Return the jobs by scanner and protocol, those of most jobs first."""
        groups: dict[tuple[str, str], list[ProgrammeRow]] = defaultdict(list)
        for one in self.jobs:
            if one.report:
                groups[one.origin].append(one)
        order = sorted(groups, key=lambda key: (-len(groups[key]), key))
        return [ProtocolCases.of(*origin, groups[origin]) for origin in order]

    @property
    def destinations(self) -> Mapping[str, tuple[int, int, int]]:
        """Return destination -> number of jobs for it, of these delivered (PS3.4 B.2.3), and of attempts."""
        found: dict[str, tuple[int, int, int]] = {}
        for one in (delivery for job in self.jobs for delivery in job.deliveries):
            cases, there, attempts = found.get(one.destination, (0, 0, 0))
            found[one.destination] = (cases + 1, there + (one.delivered_at is not None), attempts + one.attempt)
        return dict(sorted(found.items()))


def programme_of(ledger: Ledger, spool: Spool, since: datetime.datetime, until: datetime.datetime) -> Programme:
    """Return all of a span of time; both moments are aware. Raises LedgerUnreachable."""
    rows = sorted((one for one in ledger.jobs() if since <= one.created_at < until), key=lambda one: one.created_at)
    jobs = [
        ProgrammeRow(one, ledger.events(one.job), ledger.deliveries(one.job), report_of(spool.outbox / one.job))
        for one in rows
    ]
    runs = [run for run in constancy_runs.history(ledger.engine, since.timestamp()) if run.at < until]
    return Programme(since, until, jobs, runs)


def numbers(programme: Programme) -> dict[str, Any]:
    """Return the programme as plain values, for JSON."""
    return {
        "since": programme.since.isoformat(),
        "until": programme.until.isoformat(),
        "cases": len(programme.jobs),
        "states": programme.states,
        "held_now": sum(one.job.held is not None for one in programme.jobs),
        "holds": programme.holds,
        "decisions": programme.decisions,
        "rejections": programme.rejections,
        "failures": programme.failures,
        "times": {part: _plain(times) for part, times in programme.times.items()},
        "findings": [_plain(one) for one in programme.findings],
        "origins": [_plain(one) for one in programme.origins],
        "destinations": {
            name: dict(zip(("cases", "delivered", "attempts"), counts, strict=True))
            for name, counts in programme.destinations.items()
        },
        "constancy": {"runs": len(programme.runs), "failed": sum(not run.passed for run in programme.runs)},
    }


def _plain(value: Any) -> dict[str, Any]:
    """Return the fields of a frozen value by name."""
    return {name: getattr(value, name) for name in value.__slots__}


Histogram = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""HU (middles of the bins, ascending), and the part of the body's voxels in each bin (sum 1)."""


def histograms_of(jobs: Iterable[ProgrammeRow]) -> list[Histogram]:
    """Return the histogram of every job whose report.json has one of at least one voxel."""
    histograms = []
    for found in (one.report.get("hu_histogram") for one in jobs):
        counts = np.asarray(found["counts"] if found else (), dtype=np.float64)
        if found and counts.sum() > 0:
            middles = found["from_hu"] + found["step_hu"] * (np.arange(counts.size) + 0.5)
            histograms.append((middles, counts / counts.sum()))
    return histograms


def _mean(histograms: Sequence[Histogram]) -> Histogram | None:
    """Return the mean of histograms, each with the same weight; None of none."""
    if not histograms:
        return None
    hu, part = (np.concatenate(parts) for parts in zip(*histograms, strict=True))
    order = np.argsort(hu, kind="stable")
    return hu[order], part[order] / len(histograms)
