"""Write the report of a job as PDF, which a physicist reads before a decision about a synthetic CT and keeps.

It has series and model, findings, decision, receipts and pictures. It names the patient only by `Case.subject`; as a
companion it is part of a DICOM object that names the patient.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reportlab.platypus import Flowable, Paragraph

from pipeline.ct.provenance import as_sentence
from pipeline.findings.findings import limit_text
from pipeline.findings.meanings import MEANINGS
from pipeline.report.figures import CaseVolumes, histogram, planes
from pipeline.report.pdf import (
    BAD,
    CODE,
    GOOD,
    LABEL,
    TITLE,
    Cell,
    box,
    facts,
    gap,
    heading,
    paragraph,
    pdf,
    picture,
    table,
)

UNITS: Final = {"[hnsf'U]": "HU", "1": ""}
"""UCUM unit -> the unit as a person writes it."""
VERDICTS: Final = {"pass": "passes", "review": "REVIEW", "reject": "REJECT"}
RELEASED: Final = "released"
REJECTED_BY_PERSON: Final = "rejected_by_person"
EVENTS_SHOWN: Final = 60


@dataclass(frozen=True)
class Happened:
    """An event of a job: its time (aware), its name, the person or "" for the node, and the reason or comment."""

    at: datetime.datetime
    what: str
    by: str = ""
    words: str = ""


@dataclass(frozen=True)
class Sent:
    """The state of one destination: its name, the state for a person, and each answer with its count."""

    destination: str
    words: str
    answers: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Case:
    """The content of the report of a job.

    Attributes:
        job: its key.
        state: its state.
        report: the content of `report.json` beside the CT; empty when there is none.
        mr_series_uid: SeriesInstanceUID of the source.
        ct_series_uid: SeriesInstanceUID of the synthetic CT; empty while there is none.
        held: the reason why a person must look at it, or None.
        reason: code and sentence of the hold or of the rejection, also after the decision; or empty.
        calling_ae: AE title of the sender of the MR series.
        rule: name of the configuration's rule for the series.
        events: all events, in order.
        deliveries: the state of each destination.
        images: the volumes; None when their files are gone.
        subject: the patient, when the report is to name one.
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
        """Return the findings of `report.json`; those that do not pass come first."""
        every = self.report.get("findings", ())
        return sorted(every, key=lambda one: ("reject", "review", "pass").index(one["verdict"]))

    @property
    def decision(self) -> Happened | None:
        """Return the last decision of a person, or None."""
        decided = [one for one in self.events if one.what in (RELEASED, REJECTED_BY_PERSON)]
        return decided[-1] if decided else None


def pdf_of(case: Case) -> bytes:
    """Write the report as PDF (A4); the same case gives the same bytes."""
    sentence, good = verdict_of(case)
    content = [Paragraph("Synthetic CT report", TITLE), box(sentence, good=good), gap(), facts(_identity(case))]
    for warning in case.report.get("warnings", ()):
        content += [gap(2), box(f"WARNING: {warning}", good=False)]
    content += _findings(case)
    content.append(heading("Pictures", of_picture=case.images is not None))
    if case.images is None:
        content.append(paragraph("There are none: the files of MR and CT are not there (any more)."))
    else:
        content.append(picture(planes(case.images), tallest_mm=175.0))
        content.append(heading("HU of the synthetic CT", of_picture=True))
        content.append(picture(histogram(case.images.ct), width_mm=150.0))
    return pdf("Synthetic CT report", f"job {case.job}", [*content, *_history(case)])


def verdict_of(case: Case) -> tuple[str, bool]:
    """Return the first sentence of the report, the decision or state, and whether it is a good one."""
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
        return f"RELEASED by {decision.by}, {moment(decision.at)}: {as_sentence(decision.words)}{held}", True
    if failed:
        return f"Not held, though these findings do not pass: {', '.join(failed)}", False
    return ("All findings pass; nobody had to decide." if case.findings else "No synthetic CT yet."), True


def moment(at: datetime.datetime) -> str:
    """Write a time in UTC, to the second."""
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _identity(case: Case) -> Iterator[tuple[str, str]]:
    """Yield the rows that identify the job."""
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
        grid = case.report.get(key, {})
        if "shape" in grid:
            shape, spacing = (" x ".join(f"{value:g}" for value in grid[part]) for part in ("shape", "spacing_mm"))
            yield name, f"{shape} voxels of {spacing} mm (slice, row, column)"


def _findings(case: Case) -> Iterator[Flowable]:
    """Yield the section on findings, and on the rules of destinations that the CT breaks."""
    yield heading("Findings")
    if not case.findings:
        yield paragraph("No findings: there is no synthetic CT of this job.")
        return
    rows = [(one["name"], number(one["value"]), limit_of(one), unit_of(one), verdict(one)) for one in case.findings]
    yield table(("Finding", "Value", "Passes within", "Unit", "Verdict"), rows, (34, 22, 46, 10, 14))
    failed = [one for one in case.findings if one["verdict"] != "pass" and one["name"] in MEANINGS]
    if failed:
        yield heading("What does not pass, and what to look at")
        explained = []
        for one in failed:
            meaning, value, limit = MEANINGS[one["name"]], one["value"], one["limit"]
            low = isinstance(value, int | float) and not isinstance(limit, str) and value < limit[0]
            cause = f"{meaning.what} {meaning.low if low else meaning.high}"
            explained.append((f"{meaning.title} ({one['name']})", cause, meaning.look))
        yield table(("Finding", "What it usually means", "What to look at"), explained, (22, 52, 52))
    complaints = case.report.get("preflight", {}).get("complaints", ())
    if complaints:
        yield heading("Rules of the destinations that the CT breaks")
        yield table(("Rule", "What is wrong"), [(one["rule"], one["sentence"]) for one in complaints], (30, 96))


def number(value: object) -> str:
    """Write a number with four digits, rounded to a millionth; a text stays as it is."""
    return f"{round(value, 6):.4g}" if isinstance(value, float) else str(value)


def limit_of(finding: Mapping[str, Any]) -> str:
    """Write the limits within which a finding passes."""
    return limit_text(finding["limit"])


def unit_of(finding: Mapping[str, Any]) -> str:
    """Write the unit as a person does."""
    unit = str(finding["unit"])
    return UNITS.get(unit, unit)


def verdict(finding: Mapping[str, Any]) -> Paragraph:
    """Write the verdict as a word in a colour."""
    word = str(finding["verdict"])
    style = LABEL.clone("verdict", textColor=GOOD if word == "pass" else BAD)
    return paragraph(VERDICTS.get(word, word), style)


def _history(case: Case) -> Iterator[Flowable]:
    """Yield the sections on how the CT was made, where it was sent, and what happened to the job."""
    report = case.report
    if report.get("model"):
        model, sampling, seconds = report["model"], report.get("sampling", {}), report.get("seconds", {})
        steps = []
        for key, value in sampling.items():
            text = " x ".join(f"{one:g}" for one in value) if isinstance(value, list | tuple) else value
            steps.append(f"{key} {text}")
        yield heading("How it was made")
        yield facts(
            (
                ("Model", f"{model['name']} {model['version']}"),
                ("Weights", f"SHA-256 {model['digest']}"),
                ("Volume", str(report.get("source", {}).get("volume", ""))),
                ("Sampling", ", ".join(steps)),
                ("Configuration", f"SHA-256 {report.get('configuration_digest', '')}"),
                ("Software", f"sct-node {report.get('software_version', '')}"),
                ("Seconds", ", ".join(f"{stage} {value:g}" for stage, value in seconds.items())),
            )
        )
    yield heading("Destinations and their receipts")
    rows: list[Sequence[Cell]] = []
    for one in case.deliveries:
        answers = "; ".join(f"{answer} ({times} times)" for answer, times in one.answers)
        rows.append((one.destination, one.words, answers or "no answer yet"))
    yield (
        table(("Destination", "How far", "Answers"), rows, (24, 52, 50))
        if rows
        else paragraph("Nothing has been sent.")
    )
    if case.events:
        yield heading("What happened")
        if len(case.events) > EVENTS_SHOWN:
            yield paragraph(f"The last {EVENTS_SHOWN} of {len(case.events)} events; sct-node show has all.")
        shown = case.events[-EVENTS_SHOWN:]
        rows = [(paragraph(moment(one.at), CODE), one.what, one.by or "node", one.words) for one in shown]
        yield table(("When", "What", "By", "Words"), rows, (34, 18, 22, 62))
