"""Structured Report (PS3.3 A.35.13) after template TID 1500: each finding with limits and verdict, and the decision.

The names of findings are codes of our own (scheme 99SCTNODE): no standard has them. Units are UCUM's.

Encapsulated PDF (PS3.3 A.45.1): the report of a case, in the CT's study.

The companions that tell what was found and decided: written when a case is first sent, of its finished CT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
"""Coding scheme designator of the node's own codes."""
UNITS: Final[Mapping[str, str]] = {
    "[hnsf'U]": "Hounsfield unit",
    "%": "percent",
    "mm": "millimeter",
    "mL": "milliliter",
    "ms": "millisecond",
}
"""UCUM unit -> its meaning; of any other the unit itself."""
VERDICTS: Final[Mapping[str, str]] = {
    "pass": "Passes",
    "review": "Has to be reviewed by a person",
    "reject": "Refused",
}
VERDICT: Final = CodedConcept("verdict", SCHEME, "Verdict of the check")
COMMENT: Final = codes.DCM.Comment
LONGEST: Final = 1024
"""Characters of a text."""


def structured_report(ct: CtSeries, case: Case, at: datetime) -> bytes:
    """The file of a case's findings and of what was decided about it, made at a moment (aware)."""
    texts = [*_said(case, ct)]
    content = repr([texts, sorted(repr(one) for one in case.findings)]).encode()
    companion = made_at(ct, "sr", content, at)
    report = sr.MeasurementReport(
        observation_context=_observers(ct, case),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[_group(companion, one, case) for one in case.findings] or [_nothing(companion)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    for text in texts:
        report[0].ContentSequence.append(_text(COMMENT, text))
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


def _said(case: Case, ct: CtSeries) -> Iterator[str]:
    """What the report says of the case as a whole: the decision first."""
    yield verdict_of(case)[0]
    if ct.research:
        yield f"Synthetic CT; {RESEARCH_LABEL}"
    yield from (f"WARNING: {warning}" for warning in case.report.get("warnings", ()))


def _observers(ct: CtSeries, case: Case) -> sr.ObservationContext:
    """TID 1001: the node; and the person who decided, by the account's name."""
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
    person = sr.PersonObserverIdentifyingAttributes(_person(decision.by))
    return sr.ObservationContext(sr.ObserverContext(codes.DCM.Person, person), node)


def _person(account: str) -> str:
    """An account's name, such as `web:ada`, as a person's name (VR PN): all of it is the family name."""
    return plain(account.replace("^", " ").replace("=", " "), 62) + "^"


def _group(companion: Companion, found: Mapping[str, Any], case: Case) -> sr.MeasurementsAndQualitativeEvaluations:
    """TID 1501: one finding, the model that was looked at, and what to look at where it does not pass."""
    name = str(found["name"])
    model = case.report.get("model", {})
    verdict = str(found["verdict"])
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=generate_uid(entropy_srcs=[companion.sop_instance_uid, name]), identifier=name
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=plain(str(model.get("name", "unknown")), 64), version=plain(str(model.get("version", "unknown")), 64)
        ),
        measurements=[_measurement(found)] if isinstance(found["value"], float | int) else None,
        qualitative_evaluations=[sr.QualitativeEvaluation(VERDICT, _concept(verdict, VERDICTS[verdict]))],
    )
    for text in _words(found):
        group[0].ContentSequence.append(_text(COMMENT, text))
    return group


def _nothing(companion: Companion) -> sr.MeasurementsAndQualitativeEvaluations:
    """TID 1501 of a case without findings: TID 1500 wants one group at least."""
    uid = generate_uid(entropy_srcs=[companion.sop_instance_uid, "nothing"])
    group = sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(uid=uid, identifier="findings"))
    group[0].ContentSequence.append(_text(COMMENT, "nothing was checked"))
    return group


def _measurement(found: Mapping[str, Any]) -> sr.Measurement:
    """TID 300: the value, and the limits between which it passes (TID 312)."""
    unit = _unit(str(found["unit"]))
    limit = found["limit"]
    normal = None
    if isinstance(limit, Sequence) and not isinstance(limit, str):
        bounds = (codes.SCT.NormalRangeLowerLimit, codes.SCT.NormalRangeUpperLimit)
        normal = sr.NormalRangeProperties(
            [
                sr.NumContentItem(bound, float(value), unit, relationship_type=RelationshipTypeValues.HAS_PROPERTIES)
                for bound, value in zip(bounds, limit, strict=True)
            ]
        )
    properties = sr.MeasurementProperties(normal_range_properties=normal)
    return sr.Measurement(_name(found), float(found["value"]), unit, properties=properties if normal else None)


def _words(found: Mapping[str, Any]) -> Iterator[str]:
    """What a code does not say: a value or a limit that is a text, and what to look at."""
    if not isinstance(found["value"], float | int):
        yield f"{found['name']} is {found['value']}"
    if isinstance(found["limit"], str):
        yield f"expected: {found['limit']}"
    meaning = MEANINGS.get(str(found["name"]))
    if meaning is not None and found["verdict"] != "pass":
        yield f"look at: {meaning.look}"


def _name(found: Mapping[str, Any]) -> CodedConcept:
    meaning = MEANINGS.get(str(found["name"]))
    return _concept(str(found["name"]), meaning.title if meaning else str(found["name"]))


def _concept(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, SCHEME, plain(meaning, 64))


def _unit(unit: str) -> CodedConcept:
    return CodedConcept(unit, "UCUM", UNITS.get(unit, unit)) if unit else CodedConcept("1", "UCUM", "no units")


def _text(name: Any, text: str) -> sr.TextContentItem:
    return sr.TextContentItem(name, plain(text, LONGEST), relationship_type=RelationshipTypeValues.CONTAINS)


TITLE: Final = "Synthetic CT report"
"""Document Title (0042,0010)."""


def encapsulated_pdf(ct: CtSeries, pdf: bytes, at: datetime) -> bytes:
    """The file that holds a PDF report, made at a moment (aware)."""
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


def write_told(kind: CompanionKind, case: Case, ct: Sequence[Path], into: Path, at: datetime) -> None:
    """Write the findings (`sr`) or the report (`pdf`) of a case into a folder, as of a moment (aware).

    `ct` are the files of its CT. Raises OSError, InvalidDicomError.
    """
    series = CtSeries.read(ct)
    told = structured_report(series, case, at) if kind == "sr" else encapsulated_pdf(series, pdf_of(case), at)
    write_all([(f"{kind}.dcm", told)], into)
