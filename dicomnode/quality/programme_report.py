"""The programme of some weeks as PDF: `sct-node report --since 30d`.

Plots over time: cases, how long they took, findings, constancy; in colours that every kind of vision tells apart.
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
    from dicomnode.quality.programme import Checked, Programme, ProgrammeRow


def pdf_of(programme: Programme, node: str) -> bytes:
    """The programme as PDF; `node` is the node's AE title. The same programme gives the same bytes."""
    span = f"{programme.since:%Y-%m-%d} to {programme.until:%Y-%m-%d}"
    return pdf(f"Synthetic CT programme, {span}", f"node {node}; no patient is named", list(_content(programme, node)))


def _content(programme: Programme, node: str) -> Iterator[Flowable]:
    yield paragraph("Synthetic CT programme", TITLE)
    told = programme.told
    holds = sum(one.hold is not None for one in told)
    yield facts(
        (
            ("Node", node),
            ("From", utc(programme.since)),
            ("Until", utc(programme.until)),
            ("Cases", str(len(told))),
            ("By state", _counts(programme.states)),
            ("Held", f"{holds}, of which {sum(one.job.held is not None for one in told)} still are"),
            ("Decisions", _counts(programme.decisions)),
            ("Faults", _counts(programme.failures)),
        )
    )
    if told:
        yield gap()
        yield picture(cases(programme))
    yield from _times(programme)
    yield from _reasons(programme)
    yield from _origins(programme)
    yield from _findings(programme)
    yield from _destinations(programme)
    yield from _constancy(programme)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _times(programme: Programme) -> Iterator[Flowable]:
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
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _reasons(programme: Programme) -> Iterator[Flowable]:
    yield heading("Why cases were held or rejected")
    rows = [("held", code, str(count)) for code, count in programme.holds.items()]
    rows += [("rejected", code, str(count)) for code, count in programme.rejections.items()]
    if rows:
        yield table(("What", "Reason", "Cases"), rows, (24, 80, 20))
    else:
        yield paragraph("None was.")


def _origins(programme: Programme) -> Iterator[Flowable]:
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


def _findings(programme: Programme) -> Iterator[Flowable]:
    yield heading("Findings")
    checked = programme.findings
    if not checked:
        yield paragraph("No case has findings.")
        return
    head = ("Finding", "Passes", "Review", "Reject", "Median", "5 to 95 %", "Unit")
    yield table(head, [_row(one) for one in checked], (56, 14, 14, 14, 18, 32, 12))
    drawn = findings(programme)
    if drawn is not None:
        yield gap()
        yield picture(drawn)
        yield paragraph("Dashed: limits of the last case, where they are near. Crosses do not pass.")


def _row(one: Checked) -> list[str]:
    title = f"{MEANINGS[one.name].title} ({one.name})" if one.name in MEANINGS else one.name
    counts = [str(one.verdicts.get(verdict, 0)) for verdict in ("pass", "review", "reject")]
    within = "" if one.low is None or one.high is None else f"{_number(one.low)} to {_number(one.high)}"
    return [title, *counts, _number(one.median), within, UNITS.get(one.unit, one.unit)]


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _destinations(programme: Programme) -> Iterator[Flowable]:
    if not programme.destinations:
        return
    yield heading("Destinations")
    rows = [(name, *map(str, counts)) for name, counts in programme.destinations.items()]
    yield table(("Destination", "Cases for it", "With it", "Attempts"), rows, (50, 24, 24, 24))


def _constancy(programme: Programme) -> Iterator[Flowable]:
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
"""Okabe and Ito."""
FAILED_COLOUR: Final = "#d55e00"
OUTCOMES: Final[Mapping[str, str]] = {
    "delivered": "#0072b2",
    "on its way": "#56b4e9",
    "held now": "#e69f00",
    "rejected": "#d55e00",
}
ABOVE: Final[dict[str, Any]] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 7, "frameon": False}
"""Where a legend hides nothing."""
MOST_FINDINGS: Final = 12
"""Findings of which a trend is drawn: those that most often do not pass."""


def trend(runs: Sequence[ConstancyRow]) -> bytes:
    """The constancy of each tissue's HU and of the geometry, as PNG."""
    return png(constancy(runs))


def constancy(runs: Sequence[ConstancyRow]) -> Figure:
    """HU of each tissue since the first run of the same weights on the same device; and the deviation in mm."""
    figure = _figure(7.0, 3.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for index, (tissue, points) in enumerate(sorted(_tissues(runs).items())):
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


def _tissues(runs: Sequence[ConstancyRow]) -> dict[str, list[tuple[datetime.datetime, float]]]:
    """Tissue -> when, and its HU since the first run of the same weights on the same device."""
    first: dict[tuple[str, str, str], float] = {}
    found: dict[str, list[tuple[datetime.datetime, float]]] = defaultdict(list)
    for run in runs:
        for tissue, hu in json.loads(run.measured)["tissues"].items() if run.measured else ():
            begun = first.setdefault((tissue, run.model_digest, run.device), hu)
            found[tissue].append((run.at, hu - begun))
    return found


def cases(programme: Programme) -> Figure:
    """Cases a day, by what has become of them."""
    figure = _figure(7.0, 2.2)
    axes = figure.subplots()
    counted = Counter((one.job.created_at.date(), outcome(one)) for one in programme.told)
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


def outcome(told: ProgrammeRow) -> str:
    """What has become of a job, one of `OUTCOMES`."""
    if told.job.held is not None:
        return "held now"
    return {"DELIVERED": "delivered", "REJECTED": "rejected"}.get(str(told.job.state), "on its way")


_STEPS: Final = {JobEvent.SYNTHESIZED: "to the CT", JobEvent.DELIVERED: "to all destinations"}


def times(programme: Programme) -> Figure:
    """How long each case took from the complete series to the CT, and to the last destination."""
    figure = _figure(7.0, 2.2)
    axes = figure.subplots()
    for index, (fact, label) in enumerate(_STEPS.items()):
        seconds = [(one.job.created_at, one.seconds(JobEvent.SETTLED, fact)) for one in programme.told]
        known = [(at, value / 60.0) for at, value in seconds if value]
        style: dict[str, Any] = {"color": COLOURS[index], "markersize": 4, "label": label, "linestyle": ""}
        axes.plot(_numbers(at for at, _ in known), [value for _, value in known], marker="ox"[index], **style)
    every = [value for one in programme.told for fact in _STEPS if (value := one.seconds(JobEvent.SETTLED, fact))]
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
    """Every measured finding over time with its limits, those first that most often do not pass; None without any."""
    series = _series(programme)
    if not series:
        return None
    rows = (len(series) + 2) // 3
    figure = _figure(7.0, 1.5 * rows + 0.2)
    panels = figure.subplots(rows, 3, squeeze=False, sharex=True).ravel()
    for axes, (name, points) in zip(panels, series.items(), strict=False):
        _finding(axes, name, points)
        axes.set_xlim(*_numbers((programme.since, programme.until)))
        _days(axes)
    for axes in panels[len(series) :]:
        axes.set_axis_off()
    return figure


def _series(programme: Programme) -> dict[str, list[tuple[datetime.datetime, Mapping[str, Any]]]]:
    """Finding -> when, and the finding; of those with a number."""
    found: dict[str, list[tuple[datetime.datetime, Mapping[str, Any]]]] = defaultdict(list)
    for told in programme.told:
        for one in told.report.get("findings", ()):
            if isinstance(one["value"], int | float):
                found[one["name"]].append((told.job.created_at, one))
    failed = {name: sum(one["verdict"] != "pass" for _, one in points) for name, points in found.items()}
    names = sorted(found, key=lambda name: (-failed[name], name))[:MOST_FINDINGS]
    return {name: found[name] for name in names}


def _finding(axes: Axes, name: str, points: Sequence[tuple[datetime.datetime, Mapping[str, Any]]]) -> None:
    """One finding: dots, crosses where it does not pass, and the limits of the last case."""
    for passes, marker, colour in ((True, "o", COLOURS[0]), (False, "x", FAILED_COLOUR)):
        own = [(at, one["value"]) for at, one in points if (one["verdict"] == "pass") is passes]
        when, values = _numbers(at for at, _ in own), [value for _, value in own]
        axes.plot(when, values, linestyle="", markersize=3, marker=marker, color=colour)
    limit = points[-1][1]["limit"]
    every = [float(one["value"]) for _, one in points]
    for edge in () if isinstance(limit, str) else limit:
        if abs(float(edge)) < 1e6 and _near(float(edge), every):
            axes.axhline(edge, color="#555555", linewidth=0.7, linestyle="--")
    axes.set_title(name, fontsize=7)


def _near(edge: float, values: Sequence[float]) -> bool:
    """Whether a limit is near enough to what was measured that drawing it leaves that to be seen."""
    low, high = min(values), max(values)
    room = 3.0 * max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    return low - room <= edge <= high + room


def _numbers(moments: Iterable[datetime.datetime]) -> list[float]:
    """Moments as matplotlib counts them: days."""
    return [float(dates.date2num(moment)) for moment in moments]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _days(axes: Axes) -> None:
    """Days along the axis."""
    axes.tick_params(labelsize=6)
    locator = dates.AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(6)
    axes.grid(alpha=0.25, linewidth=0.4)
