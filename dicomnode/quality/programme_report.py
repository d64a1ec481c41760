"""The programme of some weeks as PDF, for `sct-node report --since 30d`: tables, and plots over time.

The colours of the plots can be told apart with colour vision deficiency too (M. Okabe, K. Ito, Color Universal Design).
"""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from matplotlib import dates, ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dicomnode.cases.wording import utc
from dicomnode.ledger.states import JobEvent
from pipeline.findings.meanings import MEANINGS
from pipeline.report.case_report import UNITS, number
from pipeline.report.figures import png
from pipeline.report.pdf import BAD, LABEL, TITLE, facts, gap, heading, paragraph, pdf, picture, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from reportlab.platypus import Flowable

    from dicomnode.quality.constancy_runs import ConstancyRow
    from dicomnode.quality.programme import Programme, ProgrammeRow


def pdf_of(programme: Programme, node: str) -> bytes:
    """Return the programme as PDF; `node` is the node's AE title. The same programme gives the same bytes."""
    span = f"{programme.since:%Y-%m-%d} to {programme.until:%Y-%m-%d}"
    jobs = programme.jobs
    holds = sum(one.hold is not None for one in jobs)
    overview = (
        ("Node", node),
        ("From", utc(programme.since)),
        ("Until", utc(programme.until)),
        ("Cases", str(len(jobs))),
        ("By state", _counts(programme.states)),
        ("Held", f"{holds}, of which {sum(one.job.held is not None for one in jobs)} still are"),
        ("Decisions", _counts(programme.decisions)),
        ("Faults", _counts(programme.failures)),
    )
    content = [
        paragraph("Synthetic CT programme", TITLE),
        facts(overview),
        *((gap(), picture(cases(programme))) if jobs else ()),
        *times_section(programme),
        *reasons_section(programme),
        *origins_section(programme),
        *findings_section(programme),
        *destinations_section(programme),
        *constancy_section(programme),
    ]
    return pdf(f"Synthetic CT programme, {span}", f"node {node}; no patient is named", content)


def _counts(counts: Mapping[str, int]) -> str:
    """Write counts as `name 2, other 1`."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def times_section(programme: Programme) -> Iterator[Flowable]:
    """Yield the times of each part of the way, as a table and a plot."""
    yield heading("Times")
    if not programme.times:
        yield paragraph("No case has got so far.")
        return
    rows = [
        (part, str(one.cases), _span(one.median_s), _span(one.most_s), _span(one.longest_s))
        for part, one in programme.times.items()
    ]
    yield table(("Part of the way", "Cases", "Median", "90 % within", "Longest"), rows, (50, 14, 20, 20, 20))
    yield gap()
    yield picture(times(programme))


def _span(seconds: float) -> str:
    """Write a time in seconds, minutes or hours, as fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def reasons_section(programme: Programme) -> Iterator[Flowable]:
    """Yield the reasons for which jobs were held or rejected."""
    yield heading("Why cases were held or rejected")
    rows = [("held", code, str(count)) for code, count in programme.holds.items()]
    rows += [("rejected", code, str(count)) for code, count in programme.rejections.items()]
    if rows:
        yield table(("What", "Reason", "Cases"), rows, (24, 80, 20))
    else:
        yield paragraph("None was.")


def origins_section(programme: Programme) -> Iterator[Flowable]:
    """Yield the jobs and the drift of HU by scanner and protocol."""
    yield heading("Scanners and protocols")
    rows = [
        (one.scanner, one.protocol, str(one.cases), str(one.held), _number(one.median_hu), _number(one.drift_hu))
        for one in programme.origins
    ]
    if not rows:
        yield paragraph("No case has a report.")
        return
    head = ("Scanner", "Protocol", "Cases", "Held", "Median HU", "Drift (HU)")
    yield table(head, rows, (32, 40, 14, 14, 20, 20))
    text = (
        "Median HU: in the body, over all cases. Drift: Wasserstein distance between the mean histograms of HU of the "
        "earlier and the later half of the cases; from four cases on."
    )
    yield gap(1)
    yield paragraph(text)


def findings_section(programme: Programme) -> Iterator[Flowable]:
    """Yield every finding over all jobs, as a table and plots."""
    yield heading("Findings")
    checked = programme.findings
    if not checked:
        yield paragraph("No case has findings.")
        return
    rows = []
    for one in checked:
        title = f"{MEANINGS[one.name].title} ({one.name})" if one.name in MEANINGS else one.name
        counts = [str(one.verdicts.get(verdict, 0)) for verdict in ("pass", "review", "reject")]
        within = "" if one.low is None or one.high is None else f"{_number(one.low)} to {_number(one.high)}"
        rows.append([title, *counts, _number(one.median), within, UNITS.get(one.unit, one.unit)])
    head = ("Finding", "Passes", "Review", "Reject", "Median", "5 to 95 %", "Unit")
    yield table(head, rows, (56, 14, 14, 14, 18, 32, 12))
    drawn = findings(programme)
    if drawn is not None:
        yield gap()
        yield picture(drawn)
        yield paragraph("Dashed: limits of the last case, where they are near. Crosses do not pass.")


def _number(value: float | None) -> str:
    """Write a number as reports do; nothing for None."""
    return "" if value is None else number(value)


def destinations_section(programme: Programme) -> Iterator[Flowable]:
    """Yield the jobs and attempts by destination."""
    if not programme.destinations:
        return
    yield heading("Destinations")
    rows = [(name, *map(str, counts)) for name, counts in programme.destinations.items()]
    yield table(("Destination", "Cases for it", "With it", "Attempts"), rows, (50, 24, 24, 24))


def constancy_section(programme: Programme) -> Iterator[Flowable]:
    """Yield the constancy runs, as a plot and a table of those that failed."""
    yield heading("Constancy")
    runs = programme.runs
    if not runs:
        yield paragraph("The phantom was not sent through the chain: sct-node constancy, and constancy.at.")
        return
    failed = [run for run in runs if not run.passed]
    yield paragraph(f"Runs of the phantom through the whole chain: {len(runs)}, of which {len(failed)} failed.")
    yield picture(constancy(runs))
    if failed:
        style = LABEL.clone("failed", textColor=BAD)
        rows = [(utc(run.at), run.model, run.device, paragraph(run.sentence, style)) for run in failed[-20:]]
        yield table(("When", "Model", "Device", "What was wrong"), rows, (34, 24, 20, 62))


COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
"""The palette of Okabe and Ito, but for its yellow."""
FAILED_COLOUR: Final = "#d55e00"
OUTCOMES: Final[Mapping[str, str]] = {
    "delivered": "#0072b2",
    "on its way": "#56b4e9",
    "held now": "#e69f00",
    "rejected": "#d55e00",
}
ABOVE: Final[dict[str, Any]] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 7, "frameon": False}
"""Place of a legend: above the axes, where it hides nothing."""
MOST_FINDINGS: Final = 12
"""Number of findings that are plotted: those that most often do not pass."""


def trend(runs: Sequence[ConstancyRow]) -> bytes:
    """Return the plot of `constancy` as PNG."""
    return png(constancy(runs))


def constancy(runs: Sequence[ConstancyRow]) -> Figure:
    """Plot the HU of each tissue relative to the first run of the same weights and device, and the deviation in mm."""
    figure = _figure(7.0, 3.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for index, (tissue, points) in enumerate(sorted(tissue_changes(runs).items())):
        when, change = _numbers(at for at, _ in points), [change for _, change in points]
        upper.plot(when, change, ".-", color=COLOURS[index % len(COLOURS)], linewidth=0.8, label=tissue)
    known = [(run.at, run.deviation_mm) for run in runs if run.deviation_mm is not None]
    lower.plot(_numbers(at for at, _ in known), [mm for _, mm in known], ".-", color=COLOURS[0], linewidth=0.8)
    for axes in (upper, lower):
        for index, at in enumerate(_numbers(run.at for run in runs if not run.passed)):
            axes.axvline(at, color=FAILED_COLOUR, linewidth=3, alpha=0.35, label="_" if index else "failed")
        _days(axes)
    upper.set_ylabel("HU since the first run", fontsize=7)
    lower.set_ylabel("mm", fontsize=7)
    if runs:
        first, last = _numbers((runs[0].at, runs[-1].at))
        upper.set_xlim(first - 0.5, last + 0.5)
        upper.legend(fontsize=6, **ABOVE)
    return figure


def tissue_changes(runs: Sequence[ConstancyRow]) -> dict[str, list[tuple[datetime.datetime, float]]]:
    """Return tissue -> moments, and its HU relative to the first run of the same weights and device."""
    first: dict[tuple[str, str, str], float] = {}
    found: dict[str, list[tuple[datetime.datetime, float]]] = defaultdict(list)
    for run in runs:
        for tissue, hu in json.loads(run.measured)["tissues"].items() if run.measured else ():
            begun = first.setdefault((tissue, run.model_digest, run.device), hu)
            found[tissue].append((run.at, hu - begun))
    return found


def cases(programme: Programme) -> Figure:
    """Plot the jobs of each day by their outcome."""
    figure = _figure(7.0, 2.2)
    axes = figure.subplots()
    counted = Counter((one.job.created_at.date(), outcome(one)) for one in programme.jobs)
    days = sorted({day for day, _ in counted})
    below = [0] * len(days)
    for name, colour in OUTCOMES.items():
        heights = [counted[day, name] for day in days]
        at = _numbers(datetime.datetime.combine(day, datetime.time(12), datetime.UTC) for day in days)
        axes.bar(at, heights, 0.8, bottom=below, color=colour, label=name)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_ylabel("cases a day", fontsize=7)
    axes.set_xlim(*_numbers((programme.since, programme.until)))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(fontsize=6, **ABOVE)
    _days(axes)
    return figure


def outcome(row: ProgrammeRow) -> str:
    """Return the outcome of a job, one of `OUTCOMES`."""
    if row.job.held is not None:
        return "held now"
    return {"DELIVERED": "delivered", "REJECTED": "rejected"}.get(str(row.job.state), "on its way")


STEPS: Final = {JobEvent.SYNTHESIZED: "to the CT", JobEvent.DELIVERED: "to all destinations"}


def times(programme: Programme) -> Figure:
    """Plot the time of each job from the complete series to the CT, and to the last destination."""
    figure = _figure(7.0, 2.2)
    axes = figure.subplots()
    for index, (event, label) in enumerate(STEPS.items()):
        seconds = [(one.job.created_at, one.seconds(JobEvent.SETTLED, event)) for one in programme.jobs]
        known = [(at, value / 60.0) for at, value in seconds if value]
        style: dict[str, Any] = {"color": COLOURS[index], "markersize": 4, "label": label, "linestyle": ""}
        axes.plot(_numbers(at for at, _ in known), [value for _, value in known], marker="ox"[index], **style)
    every = [value for one in programme.jobs for event in STEPS if (value := one.seconds(JobEvent.SETTLED, event))]
    low, high = min(every, default=60.0) / 90.0, max(every, default=60.0) / 40.0
    axes.set_yscale("log")
    axes.set_ylim(low, max(high, 12.0 * low))  # a power of ten at least is within
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_ylabel("minutes after the series\nwas complete", fontsize=7)
    axes.set_xlim(*_numbers((programme.since, programme.until)))
    axes.legend(fontsize=6, **ABOVE)
    _days(axes)
    return figure


def findings(programme: Programme) -> Figure | None:
    """Plot every measured finding over time with its limits; None where no job has one."""
    series = measured_findings(programme)
    if not series:
        return None
    rows = (len(series) + 2) // 3
    figure = _figure(7.0, 1.5 * rows + 0.2)
    panels = figure.subplots(rows, 3, squeeze=False, sharex=True).ravel()
    for axes, (name, points) in zip(panels, series.items(), strict=False):
        plot_finding(axes, name, points)
        axes.set_xlim(*_numbers((programme.since, programme.until)))
        _days(axes)
    for axes in panels[len(series) :]:
        axes.set_axis_off()
    return figure


def measured_findings(programme: Programme) -> dict[str, list[tuple[datetime.datetime, Mapping[str, Any]]]]:
    """Return finding -> moments and findings with a number, those first that most often do not pass."""
    found: dict[str, list[tuple[datetime.datetime, Mapping[str, Any]]]] = defaultdict(list)
    for row in programme.jobs:
        for one in row.report.get("findings", ()):
            if isinstance(one["value"], int | float):
                found[one["name"]].append((row.job.created_at, one))
    failed = {name: sum(one["verdict"] != "pass" for _, one in points) for name, points in found.items()}
    names = sorted(found, key=lambda name: (-failed[name], name))[:MOST_FINDINGS]
    return {name: found[name] for name in names}


def plot_finding(axes: Axes, name: str, points: Sequence[tuple[datetime.datetime, Mapping[str, Any]]]) -> None:
    """Plot one finding: dots, crosses where it does not pass, and the limits of the last job.

    A limit is left out where drawing it would press the points together.
    """
    for passes, marker, colour in ((True, "o", COLOURS[0]), (False, "x", FAILED_COLOUR)):
        own = [(at, one["value"]) for at, one in points if (one["verdict"] == "pass") is passes]
        when, own_values = _numbers(at for at, _ in own), [value for _, value in own]
        axes.plot(when, own_values, linestyle="", markersize=3, marker=marker, color=colour)
    limit = points[-1][1]["limit"]
    values = [float(one["value"]) for _, one in points]
    low, high = min(values), max(values)
    room = 3.0 * max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    for edge in () if isinstance(limit, str) else limit:
        if abs(float(edge)) < 1e6 and low - room <= float(edge) <= high + room:
            axes.axhline(edge, color="#555555", linewidth=0.7, linestyle="--")
    axes.set_title(name, fontsize=7)


def _numbers(moments: Iterable[datetime.datetime]) -> list[float]:
    """Return moments as matplotlib counts them, in days."""
    return [float(dates.date2num(moment)) for moment in moments]


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that is drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _days(axes: Axes) -> None:
    """Format the time axis and the grid."""
    axes.tick_params(labelsize=6)
    locator = dates.AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(6)
    axes.grid(alpha=0.25, linewidth=0.4)
