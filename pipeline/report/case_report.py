"""The report of a case: what a physicist reads before, and keeps after, a decision about a synthetic CT.

It names series and model, findings, decision and receipts, and shows the pictures. A patient is named in it only where
`Case.subject` does: as a companion it lies in a DICOM object that says whose it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reportlab.platypus import Flowable, Paragraph

from pipeline.findings.meanings import MEANINGS
from pipeline.report.figures import CaseVolumes, histogram, planes
from pipeline.report.pdf import BAD, CODE, GOOD, LABEL, TITLE, Cell, box, facts, gap, heading, pdf, picture, say, table

UNITS: Final = {"[hnsf'U]": "HU", "1": ""}
"""UCUM unit -> what a person writes."""
VERDICTS: Final = {"pass": "passes", "review": "REVIEW", "reject": "REJECT"}
RELEASED: Final = "released"
REJECTED_BY_PERSON: Final = "rejected_by_person"
EVENTS_SHOWN: Final = 60


@dataclass(frozen=True)
class Happened:
    """Something that happened to a case: when (aware), what, by whom (empty: the node itself), and what was said."""

    at: datetime.datetime
    what: str
    by: str = ""
    words: str = ""


@dataclass(frozen=True)
class Sent:
    """How far a destination is: its name, in words, since when; and each different answer with how often it came."""

    destination: str
    words: str
    answers: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Case:
    """All that a report tells of a job.

    Attributes:
        job: its key.
        state: its state.
        report: what `report.json` beside the CT says; empty where there is none.
        mr_series_uid: the source.
        ct_series_uid: the synthetic CT; empty while there is none.
        held: why a person must look, or None.
        reason: code and sentence of the hold or of the rejection, also after the decision; empty where there is none.
        calling_ae: who sent the MR series.
        rule: the rule that took it.
        events: all that happened, in order.
        deliveries: how far each destination is.
        images: the volumes; None where their files are gone.
        subject: whom the report is about, where it is to say so.
        research_label: whether the CT carries the label; the pages of the report always do.
    """

    job: str
    state: str
    report: Mapping[str, Any]
    mr_series_uid: str
    ct_series_uid: str = ""
    held: str | None = None
    reason: str = ""
    calling_ae: str = ""
    rule: str = ""
    events: Sequence[Happened] = ()
    deliveries: Sequence[Sent] = ()
    images: CaseVolumes | None = None
    subject: str = ""
    research_label: bool = field(default=True)

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Each check, as `report.json` has it; those that do not pass first."""
        every = self.report.get("findings", ())
        return sorted(every, key=lambda one: ("reject", "review", "pass").index(one["verdict"]))

    @property
    def decision(self) -> Happened | None:
        """The last decision of a person: `released` or `refused`; None where nobody has decided."""
        decided = [one for one in self.events if one.what in (RELEASED, REJECTED_BY_PERSON)]
        return decided[-1] if decided else None


def pdf_of(case: Case) -> bytes:
    """The report as PDF (A4); the same case gives the same bytes."""
    return pdf("Synthetic CT report", f"job {case.job}", list(_content(case)))


def verdict_of(case: Case) -> tuple[str, bool]:
    """What the report says first, in a sentence; and whether it is good news."""
    decision = case.decision
    if case.held is not None:
        return f"HELD: a physicist has to look before it is used. {case.held}", False
    if case.state == "REJECTED":
        by = f" by {decision.by}, {moment(decision.at)}: {decision.words}" if decision else f": {case.reason}"
        return f"REJECTED{by}", False
    failed = [one["name"] for one in case.findings if one["verdict"] != "pass"]
    if decision is not None:
        why = case.report.get("held") or ", ".join(failed)
        held = f" It was held: {why}" if why else ""
        return f"RELEASED by {decision.by}, {moment(decision.at)}: {_sentence(decision.words)}{held}", True
    if failed:
        return f"Not held, though these findings do not pass: {', '.join(failed)}", False
    return ("All findings pass; nobody had to decide." if case.findings else "No synthetic CT yet."), True


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def moment(at: datetime.datetime) -> str:
    """A moment, in UTC, to the second."""
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _content(case: Case) -> Iterator[Flowable]:
    yield Paragraph("Synthetic CT report", TITLE)
    sentence, good = verdict_of(case)
    yield box(sentence, good=good)
    yield gap()
    yield facts(_identity(case))
    for warning in case.report.get("warnings", ()):
        yield gap(2)
        yield box(f"WARNING: {warning}", good=False)
    yield from _findings(case)
    yield from _pictures(case)
    yield from _provenance(case)
    yield from _sent(case)
    yield from _timeline(case)


def _identity(case: Case) -> Iterator[tuple[str, str]]:
    """What the case is."""
    source = case.report.get("source", {})
    yield "Patient", case.subject
    yield "Job", case.job
    yield "State", case.state
    yield "MR series", case.mr_series_uid
    yield "CT series", case.ct_series_uid
    yield "Scanner", str(case.report.get("scanner") or "")
    yield "Protocol", str(case.report.get("protocol") or "")
    yield "From", case.calling_ae
    yield "Anatomy", str(source.get("anatomy") or "")
    yield "Rule", case.rule
    for name, key in (("MR grid", "source"), ("CT grid", "ct")):
        yield name, _grid(case.report.get(key, {}))


def _grid(grid: Mapping[str, Any]) -> str:
    if "shape" not in grid:
        return ""
    shape, spacing = (" x ".join(f"{value:g}" for value in grid[key]) for key in ("shape", "spacing_mm"))
    return f"{shape} voxels of {spacing} mm (slice, row, column)"


# Findings


def _findings(case: Case) -> Iterator[Flowable]:
    yield heading("Findings")
    if not case.findings:
        yield say("No findings: there is no synthetic CT of this job.")
        return
    rows = [(one["name"], number(one["value"]), limit_of(one), unit_of(one), verdict(one)) for one in case.findings]
    yield table(("Finding", "Value", "Passes within", "Unit", "Verdict"), rows, (34, 22, 46, 10, 14))
    doubtful = [one for one in case.findings if one["verdict"] != "pass" and one["name"] in MEANINGS]
    if doubtful:
        yield heading("What does not pass, and what to look at")
        yield table(
            ("Finding", "What it usually means", "What to look at"), [_meaning(one) for one in doubtful], (22, 52, 52)
        )
    complaints = case.report.get("preflight", {}).get("complaints", ())
    if complaints:
        yield heading("Rules of the destinations that the CT breaks")
        yield table(("Rule", "What is wrong"), [(one["rule"], one["sentence"]) for one in complaints], (30, 96))


def _meaning(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    """A finding that does not pass, as `MEANINGS` explains it: too low, or too high, or another text."""
    means, value, limit = MEANINGS[finding["name"]], finding["value"], finding["limit"]
    low = isinstance(value, int | float) and not isinstance(limit, str) and value < limit[0]
    return f"{means.title} ({finding['name']})", f"{means.what} {means.low if low else means.high}", means.look


def number(value: object) -> str:
    """A value to four digits, and to a millionth; a text as it is."""
    return f"{round(value, 6):.4g}" if isinstance(value, float) else str(value)


def limit_of(finding: Mapping[str, Any]) -> str:
    """Within what a finding passes."""
    limit = finding["limit"]
    return limit if isinstance(limit, str) else f"{limit[0]:g} to {limit[1]:g}"


def unit_of(finding: Mapping[str, Any]) -> str:
    """The unit as a person writes it."""
    unit = str(finding["unit"])
    return UNITS.get(unit, unit)


def verdict(finding: Mapping[str, Any]) -> Paragraph:
    """The verdict, in a word and a colour."""
    word = str(finding["verdict"])
    style = LABEL.clone("verdict", textColor=GOOD if word == "pass" else BAD)
    return say(VERDICTS.get(word, word), style)


# Pictures


def _pictures(case: Case) -> Iterator[Flowable]:
    yield heading("Pictures", of_picture=case.images is not None)
    if case.images is None:
        yield say("There are none: the files of MR and CT are not there (any more).")
        return
    yield picture(planes(case.images), tallest_mm=175.0)
    yield heading("HU of the synthetic CT", of_picture=True)
    yield picture(histogram(case.images.ct), width_mm=150.0)


# Where it comes from, and where it went


def _provenance(case: Case) -> Iterator[Flowable]:
    if not case.report.get("model"):
        return
    report = case.report
    model, sampling, seconds = report["model"], report.get("sampling", {}), report.get("seconds", {})
    yield heading("How it was made")
    yield facts(
        (
            ("Model", f"{model['name']} {model['version']}"),
            ("Weights", f"SHA-256 {model['digest']}"),
            ("Volume", str(report.get("source", {}).get("volume", ""))),
            ("Sampling", ", ".join(f"{key} {_plain(value)}" for key, value in sampling.items())),
            ("Configuration", f"SHA-256 {report.get('configuration_digest', '')}"),
            ("Software", f"sct-node {report.get('software_version', '')}"),
            ("Seconds", ", ".join(f"{stage} {value:g}" for stage, value in seconds.items())),
        )
    )


def _plain(value: object) -> str:
    return " x ".join(f"{one:g}" for one in value) if isinstance(value, list | tuple) else str(value)


def _sent(case: Case) -> Iterator[Flowable]:
    yield heading("Destinations and their receipts")
    if not case.deliveries:
        yield say("Nothing has been sent.")
        return
    rows = []
    for one in case.deliveries:
        answers = "; ".join(f"{answer} ({times} times)" for answer, times in one.answers)
        rows.append((one.destination, one.words, answers or "no answer yet"))
    yield table(("Destination", "How far", "Answers"), rows, (24, 52, 50))


def _timeline(case: Case) -> Iterator[Flowable]:
    if not case.events:
        return
    yield heading("What happened")
    left_out = len(case.events) - EVENTS_SHOWN
    if left_out > 0:
        yield say(f"The last {EVENTS_SHOWN} of {len(case.events)} events; sct-node show has all.")
    rows: list[Sequence[Cell]] = [
        (say(moment(one.at), CODE), one.what, one.by or "node", one.words) for one in case.events[-EVENTS_SHOWN:]
    ]
    yield table(("When", "What", "By", "Words"), rows, (34, 18, 22, 62))
