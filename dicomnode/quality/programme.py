"""A programme of synthetic CT over some weeks: cases, times, findings, drift, failures. No patient is in it.

What it tells comes from the ledger and from report.json beside each CT; of a job whose files are deleted only the
ledger still knows.
"""

from __future__ import annotations

import datetime
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""Scanner or protocol of a case whose headers do not say."""
_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


class BadSpan(NodeError):
    """A span of time that cannot be read."""


def span_of(text: str) -> datetime.timedelta:
    """`30d`, `4w`, `12h` -> a span. Raises BadSpan."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise BadSpan(f"{text!r} is no span of time; write hours, days or weeks, such as 12h, 30d, 4w")
    return datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})


@dataclass(frozen=True, slots=True)
class ProgrammeRow:
    """One job: its row, its events in order, how far each destination is, and its report.json."""

    job: JobRow
    events: Sequence[EventRow]
    deliveries: Sequence[DeliveryRow]
    report: Mapping[str, Any]

    @property
    def origin(self) -> tuple[str, str]:
        """Scanner and protocol."""
        return str(self.report.get("scanner") or UNNAMED), str(self.report.get("protocol") or UNNAMED)

    @property
    def hold(self) -> str | None:
        """The first reason for which it was held, as its code; None when it never was."""
        if self.report.get("held_code"):
            return str(self.report["held_code"])
        held = any(one.event in (JobEvent.HELD, JobEvent.CONFLICTED) for one in self.events)
        return (self.job.reason_code or "HELD") if held or self.job.held else None

    def at(self, *facts: JobEvent) -> datetime.datetime | None:
        """When one of these last happened."""
        found = [one.at for one in self.events if one.event in facts]
        return found[-1] if found else None

    def seconds(self, first: JobEvent, *then: JobEvent) -> float | None:
        """From one to the other, where both happened."""
        begun, ended = self.at(first), self.at(*then)
        return None if begun is None or ended is None else (ended - begun).total_seconds()


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, in seconds, over `cases`."""

    cases: int
    median_s: float
    most_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Checked:
    """One finding over all cases: how often each verdict, and of numbers the median and the 5th and 95th percentile."""

    name: str
    unit: str
    verdicts: Mapping[str, int]
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ProtocolCases:
    """The cases of one scanner and protocol, and how far the HU of the later half are from those of the earlier.

    `drift_hu` is the Wasserstein distance of the two mean histograms of HU in the body; None below four cases.
    """

    scanner: str
    protocol: str
    cases: int
    held: int
    median_hu: float | None
    drift_hu: float | None


@dataclass(frozen=True, slots=True)
class Programme:
    """All of a span of time; the jobs are those opened in it, the oldest first."""

    since: datetime.datetime
    until: datetime.datetime
    told: Sequence[ProgrammeRow]
    runs: Sequence[ConstancyRow]

    @property
    def states(self) -> Mapping[str, int]:
        """How many jobs are in which state."""
        return {str(state): count for state, count in sorted(Counter(one.job.state for one in self.told).items())}

    @property
    def rejections(self) -> Mapping[str, int]:
        """Rejected jobs by reason code, the most frequent first."""
        codes = Counter(str(one.job.reason_code) for one in self.told if one.job.state is State.REJECTED)
        return dict(codes.most_common())

    @property
    def holds(self) -> Mapping[str, int]:
        """Jobs that were held, by the code of the reason, the most frequent first."""
        return dict(Counter(one.hold for one in self.told if one.hold is not None).most_common())

    @property
    def decisions(self) -> Mapping[str, int]:
        """What people decided: how often each, by fact."""
        facts = (JobEvent.RELEASED, JobEvent.REJECTED_BY_PERSON, JobEvent.RETRIED, JobEvent.CANCELLED, JobEvent.RESENT)
        return dict(Counter(str(event.event) for one in self.told for event in one.events if event.event in facts))

    @property
    def failures(self) -> Mapping[str, int]:
        """What went wrong on our side or theirs: how often each, by fact."""
        facts = (JobEvent.FAILED, JobEvent.POSTPONED, JobEvent.ALARMED, JobEvent.COMMITMENT_FAILED, JobEvent.CONFLICTED)
        return dict(Counter(str(event.event) for one in self.told for event in one.events if event.event in facts))

    @property
    def times(self) -> Mapping[str, Times]:
        """How long each part of the way took."""
        parts = {
            "computing the CT": (one.report.get("seconds", {}).get("synthesize") for one in self.told),
            "complete series to CT": (one.seconds(JobEvent.SETTLED, JobEvent.SYNTHESIZED) for one in self.told),
            "complete series to last destination": (
                one.seconds(JobEvent.SETTLED, JobEvent.DELIVERED) for one in self.told
            ),
            "CT held to decision": (
                one.seconds(JobEvent.SYNTHESIZED, JobEvent.RELEASED, JobEvent.REJECTED_BY_PERSON)
                for one in self.told
                if one.hold
            ),
        }
        return {part: times for part, values in parts.items() if (times := _times(values)) is not None}

    @property
    def findings(self) -> Sequence[Checked]:
        """Every finding, by name."""
        by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for finding in (finding for one in self.told for finding in one.report.get("findings", ())):
            by_name[finding["name"]].append(finding)
        return [_checked(name, by_name[name]) for name in sorted(by_name)]

    @property
    def origins(self) -> Sequence[ProtocolCases]:
        """Scanners and protocols, those of most cases first."""
        groups: dict[tuple[str, str], list[ProgrammeRow]] = defaultdict(list)
        for one in self.told:
            if one.report:
                groups[one.origin].append(one)
        return [_origin(*origin, groups[origin]) for origin in sorted(groups, key=lambda key: (-len(groups[key]), key))]

    @property
    def destinations(self) -> Mapping[str, tuple[int, int, int]]:
        """Destination -> cases for it, of these with it, and attempts."""
        found: dict[str, tuple[int, int, int]] = {}
        for one in (delivery for told in self.told for delivery in told.deliveries):
            cases, there, attempts = found.get(one.destination, (0, 0, 0))
            found[one.destination] = (cases + 1, there + (one.delivered_at is not None), attempts + one.attempt)
        return dict(sorted(found.items()))


def programme_of(ledger: Ledger, spool: Spool, since: datetime.datetime, until: datetime.datetime) -> Programme:
    """Everything of a span of time; both moments aware. Raises LedgerUnreachable."""
    jobs = sorted((one for one in ledger.jobs() if since <= one.created_at < until), key=lambda one: one.created_at)
    told = [
        ProgrammeRow(one, ledger.events(one.job), ledger.deliveries(one.job), report_of(spool.outbox / one.job))
        for one in jobs
    ]
    runs = [run for run in constancy_runs.history(ledger.engine, since.timestamp()) if run.at < until]
    return Programme(since, until, told, runs)


def numbers(programme: Programme) -> dict[str, Any]:
    """The programme as plain values."""
    return {
        "since": programme.since.isoformat(),
        "until": programme.until.isoformat(),
        "cases": len(programme.told),
        "states": programme.states,
        "held_now": sum(one.job.held is not None for one in programme.told),
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
    return {name: getattr(value, name) for name in value.__slots__}


def _times(values: Iterable[float | None]) -> Times | None:
    known = sorted(float(value) for value in values if value is not None)
    if not known:
        return None
    return Times(len(known), statistics.median(known), float(np.percentile(known, 90)), known[-1])


def _checked(name: str, found: Sequence[Mapping[str, Any]]) -> Checked:
    values = [float(one["value"]) for one in found if isinstance(one["value"], int | float)]
    low, median, high = (float(value) for value in np.percentile(values, (5, 50, 95))) if values else (None,) * 3
    verdicts = Counter(str(one["verdict"]) for one in found)
    return Checked(name, str(found[-1]["unit"]), dict(verdicts), median, low, high)


def _origin(scanner: str, protocol: str, told: Sequence[ProgrammeRow]) -> ProtocolCases:
    histograms = list(_histograms(told))
    held = sum(one.hold is not None for one in told)
    whole = _mean(histograms)
    median = None if whole is None else float(np.interp(0.5, np.cumsum(whole[1]), whole[0]))
    return ProtocolCases(scanner, protocol, len(told), held, median, _drift(histograms))


def _histograms(told: Iterable[ProgrammeRow]) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """HU (middles of the bins) and the part of the body's voxels in each, of every case that has voxels."""
    for found in (one.report.get("hu_histogram") for one in told):
        counts = np.asarray(found["counts"] if found else (), dtype=np.float64)
        if found and counts.sum() > 0:
            middles = found["from_hu"] + found["step_hu"] * (np.arange(counts.size) + 0.5)
            yield middles, counts / counts.sum()


def _mean(
    histograms: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """All in one, each case with the same weight, by HU."""
    if not histograms:
        return None
    hu, part = (np.concatenate(parts) for parts in zip(*histograms, strict=True))
    order = np.argsort(hu, kind="stable")
    return hu[order], part[order] / len(histograms)


def _drift(histograms: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> float | None:
    """Wasserstein distance in HU of the later half from the earlier one."""
    half = len(histograms) // 2
    earlier, later = _mean(histograms[:half]), _mean(histograms[half:])
    if half < 2 or earlier is None or later is None:
        return None
    return float(stats.wasserstein_distance(earlier[0], later[0], earlier[1], later[1]))
