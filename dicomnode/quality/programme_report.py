"""The programme of some weeks as PDF: `sct-node report --since 30d`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dicomnode.cases.wording import utc
from dicomnode.quality import plots
from pipeline.findings.meanings import MEANINGS
from pipeline.report.case_report import UNITS, number
from pipeline.report.pdf import BAD, LABEL, TITLE, facts, gap, heading, pdf, picture, say, table

if TYPE_CHECKING:
    from reportlab.platypus import Flowable

    from dicomnode.quality.programme import Checked, Programme


def pdf_of(programme: Programme, node: str) -> bytes:
    """The programme as PDF; `node` is the node's AE title. The same programme gives the same bytes."""
    span = f"{programme.since:%Y-%m-%d} to {programme.until:%Y-%m-%d}"
    return pdf(f"Synthetic CT programme, {span}", f"node {node}; no patient is named", list(_content(programme, node)))


def _content(programme: Programme, node: str) -> Iterator[Flowable]:
    yield say("Synthetic CT programme", TITLE)
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
        yield picture(plots.cases(programme))
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
        yield say("No case has got so far.")
        return
    rows = [
        (part, str(one.cases), _span(one.median_s), _span(one.most_s), _span(one.longest_s))
        for part, one in programme.times.items()
    ]
    yield table(("Part of the way", "Cases", "Median", "90 % within", "Longest"), rows, (50, 14, 20, 20, 20))
    yield gap()
    yield picture(plots.times(programme))


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
        yield say("None was.")


def _origins(programme: Programme) -> Iterator[Flowable]:
    yield heading("Scanners and protocols")
    rows = [
        (one.scanner, one.protocol, str(one.cases), str(one.held), _number(one.median_hu), _number(one.drift_hu))
        for one in programme.origins
    ]
    if not rows:
        yield say("No case has a report.")
        return
    head = ("Scanner", "Protocol", "Cases", "Held", "Median HU", "Drift (HU)")
    yield table(head, rows, (32, 40, 14, 14, 20, 20))
    text = (
        "Median HU: in the body, over all cases. Drift: Wasserstein distance between the mean histograms of HU of the "
        "earlier and the later half of the cases; from four cases on."
    )
    yield gap(1)
    yield say(text)


def _findings(programme: Programme) -> Iterator[Flowable]:
    yield heading("Findings")
    checked = programme.findings
    if not checked:
        yield say("No case has findings.")
        return
    head = ("Finding", "Passes", "Review", "Reject", "Median", "5 to 95 %", "Unit")
    yield table(head, [_row(one) for one in checked], (56, 14, 14, 14, 18, 32, 12))
    drawn = plots.findings(programme)
    if drawn is not None:
        yield gap()
        yield picture(drawn)
        yield say("Dashed: limits of the last case, where they are near. Crosses do not pass.")


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
        yield say("The phantom was not sent through the chain: sct-node constancy, and constancy.at.")
        return
    failed = [run for run in runs if not run.passed]
    yield say(f"Runs of the phantom through the whole chain: {len(runs)}, of which {len(failed)} failed.")
    yield picture(plots.constancy(runs))
    if failed:
        style = LABEL.clone("failed", textColor=BAD)
        rows = [(utc(run.at), run.model, run.device, say(run.sentence, style)) for run in failed[-20:]]
        yield table(("When", "Model", "Device", "What was wrong"), rows, (34, 24, 20, 62))
