"""Write the companions that contain the decision about a job: its findings as a Structured Report, its report as PDF.

The Structured Report (PS3.3 A.35.13) follows template TID 1500 of PS3.16: each finding with limits and verdict. The
names of findings are codes of the node (scheme 99SCTNODE), because no standard has them; units are UCUM's. The PDF is
an Encapsulated PDF (PS3.3 A.45.1) in the CT's study. Both are written when a job is first sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from highdicom import sr
from highdicom.sr import CodedConcept, RelationshipTypeValues
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage, generate_uid

from pipeline.companions.companion import Companion, CtSeries, made_at, of_highdicom, stand_ins
from pipeline.companions.kinds import CompanionKind
from pipeline.ct.elements import elements, file_bytes, plain, sequence
from pipeline.ct.provenance import RESEARCH_LABEL
from pipeline.durable_files import write_all
from pipeline.findings.meanings import MEANINGS
from pipeline.report.case_report import Case, pdf_of, verdict_of

SCHEME: Final = "99SCTNODE"
"""Coding scheme designator of the node's own codes (PS3.3 section 8.2)."""
UNITS: Final[Mapping[str, str]] = {
    "[hnsf'U]": "Hounsfield unit",
    "%": "percent",
    "mm": "millimeter",
    "mL": "milliliter",
    "ms": "millisecond",
}
"""UCUM unit -> its meaning; any other unit is its own meaning."""
VERDICTS: Final[Mapping[str, str]] = {
    "pass": "Passes",
    "review": "Has to be reviewed by a person",
    "reject": "Refused",
}
VERDICT: Final = CodedConcept("verdict", SCHEME, "Verdict of the check")
COMMENT: Final = codes.DCM.Comment
LONGEST: Final = 1024
"""Characters of a text at most."""
TITLE: Final = "Synthetic CT report"
"""Document Title (0042,0010)."""


def structured_report(ct: CtSeries, case: Case, at: datetime) -> bytes:
    """Encode the file of a job's findings and of the decision about it, made at the time `at` (aware)."""
    texts = [verdict_of(case)[0]]
    if ct.research:
        texts.append(f"Synthetic CT; {RESEARCH_LABEL}")
    texts += [f"WARNING: {warning}" for warning in case.report.get("warnings", ())]
    content = repr([texts, sorted(repr(one) for one in case.findings)]).encode()
    companion = made_at(ct, "sr", content, at)
    groups = [finding_group(companion, one, case.report.get("model", {})) for one in case.findings]
    if not groups:  # TID 1500 requires a group at least
        uid = generate_uid(entropy_srcs=[companion.sop_instance_uid, "nothing"])
        groups = [sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(uid=uid, identifier="findings"))]
        groups[0][0].ContentSequence.append(_comment("nothing was checked"))
    report = sr.MeasurementReport(
        observation_context=observation_context(ct, case),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.extend(map(_comment, texts))
    made = sr.Comprehensive3DSR(
        evidence=stand_ins(ct),
        content=report[0],
        series_instance_uid=companion.series_uid,
        series_number=companion.series_number,
        sop_instance_uid=companion.sop_instance_uid,
        instance_number=1,
        manufacturer=ct.text("Manufacturer"),
        is_complete=True,
    )
    return file_bytes(Comprehensive3DSRStorage, companion.sop_instance_uid, of_highdicom(companion, made))


def observation_context(ct: CtSeries, case: Case) -> sr.ObservationContext:
    """Make the observers (PS3.16 TID 1001): the node, and the person who decided, by the name of the account."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["sct-node", ct.text("DeviceSerialNumber")]),
        name=ct.text("StationName"),
        manufacturer_name=ct.text("Manufacturer"),
        model_name=ct.text("ManufacturerModelName"),
        serial_number=ct.text("DeviceSerialNumber"),
    )
    node = sr.ObserverContext(codes.DCM.Device, device)
    decision = case.decision
    if decision is None or not decision.by:
        return sr.ObservationContext(observer_device_context=node)
    family_name = plain(decision.by.replace("^", " ").replace("=", " "), 62)  # the whole account (PS3.5 section 6.2.1)
    person = sr.PersonObserverIdentifyingAttributes(f"{family_name}^")
    return sr.ObservationContext(sr.ObserverContext(codes.DCM.Person, person), node)


def finding_group(
    companion: Companion, finding: Mapping[str, Any], model: Mapping[str, Any]
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Make the group of one finding (PS3.16 TID 1501): its model, value, verdict, and advice when it does not pass."""
    name, value, verdict = str(finding["name"]), finding["value"], str(finding["verdict"])
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=generate_uid(entropy_srcs=[companion.sop_instance_uid, name]), identifier=name
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=plain(str(model.get("name", "unknown")), 64), version=plain(str(model.get("version", "unknown")), 64)
        ),
        measurements=[finding_measurement(finding)] if isinstance(value, float | int) else None,
        qualitative_evaluations=[sr.QualitativeEvaluation(VERDICT, _concept(verdict, VERDICTS[verdict]))],
    )
    comments = [] if isinstance(value, float | int) else [f"{name} is {value}"]
    if isinstance(finding["limit"], str):
        comments.append(f"expected: {finding['limit']}")
    if name in MEANINGS and verdict != "pass":
        comments.append(f"look at: {MEANINGS[name].look}")
    group[0].ContentSequence.extend(map(_comment, comments))
    return group


def finding_measurement(finding: Mapping[str, Any]) -> sr.Measurement:
    """Make the value of a finding (PS3.16 TID 300) with the limits between which it passes (TID 312)."""
    name, code, limit = str(finding["name"]), str(finding["unit"]), finding["limit"]
    unit = CodedConcept(code, "UCUM", UNITS.get(code, code)) if code else CodedConcept("1", "UCUM", "no units")
    properties = None
    if isinstance(limit, Sequence) and not isinstance(limit, str):
        bounds = (codes.SCT.NormalRangeLowerLimit, codes.SCT.NormalRangeUpperLimit)
        normal = sr.NormalRangeProperties(
            [
                sr.NumContentItem(bound, float(value), unit, relationship_type=RelationshipTypeValues.HAS_PROPERTIES)
                for bound, value in zip(bounds, limit, strict=True)
            ]
        )
        properties = sr.MeasurementProperties(normal_range_properties=normal)
    concept = _concept(name, MEANINGS[name].title if name in MEANINGS else name)
    return sr.Measurement(concept, float(finding["value"]), unit, properties=properties)


def _concept(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, SCHEME, plain(meaning, 64))


def _comment(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(COMMENT, plain(text, LONGEST), relationship_type=RelationshipTypeValues.CONTAINS)


def encapsulated_pdf(ct: CtSeries, pdf: bytes, at: datetime) -> bytes:
    """Encode the file that holds a PDF report (PS3.3 C.24.2), made at the time `at` (aware)."""
    companion = made_at(ct, "pdf", pdf, at)
    label = f"; {RESEARCH_LABEL}" if ct.research else ""
    document = elements(
        ConversionType="SYN",
        AcquisitionDateTime=None,
        BurnedInAnnotation="NO",
        DocumentTitle=TITLE + label,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=pdf + b"\0" * (len(pdf) % 2),
        EncapsulatedDocumentLength=len(pdf),
    )
    sources = sequence("SourceInstanceSequence", ct.references())
    name = sequence("ConceptNameCodeSequence", [])
    shared = companion.shared() | companion.content_time()
    return file_bytes(EncapsulatedPDFStorage, companion.sop_instance_uid, shared, document, sources, name)


def write_report_object(kind: CompanionKind, case: Case, ct: Sequence[Path], into: Path, at: datetime) -> None:
    """Write the findings (`sr`) or the report (`pdf`) of a job into a folder, made at the time `at` (aware).

    `ct` are the files of its CT. Raises OSError, InvalidDicomError.
    """
    series = CtSeries.read(ct)
    written = structured_report(series, case, at) if kind == "sr" else encapsulated_pdf(series, pdf_of(case), at)
    write_all([(f"{kind}.dcm", written)], into)
