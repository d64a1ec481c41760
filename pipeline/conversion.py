"""The whole pipeline: convert an MR series to a CT series in a folder, with a report of how it was made.

The file is not named after its function `convert`, so that `pipeline.convert` is the function: a module of that name
would take its place as soon as anything imported it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import pydicom
from highdicom import Volume

from models.inference.weights import Model
from models.measures.plausibility import CaseImages, Scan
from pipeline.companions.kinds import CompanionKind
from pipeline.companions.write import companions_beside
from pipeline.ct.provenance import Provenance
from pipeline.ct.write import DEFAULT_LABELS, Labels, check_source, write_ct
from pipeline.findings.findings import Finding, Limits, anatomy, histogram, inspect, limits_of
from pipeline.findings.header_findings import header_findings
from pipeline.gate import Gate, Hold, hold_of, refuse
from pipeline.preflight.check import Complaint, complaints
from pipeline.preflight.profile import Profile
from pipeline.series.attributes import origin_of
from pipeline.series.lossy_compression import loss_warnings
from pipeline.series.series import Selection, Series, select
from pipeline.series.stack import TOLERANCES, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.ct_grid import WHOLE_FIELD, OutputGrid
from pipeline.volume.resampling import resample
from pipeline.volume.synthesize import Synthesis, seed_of, synthesize
from pipeline.volume.volume import read_stack, write_uncertainty

COS_45: Final = 0.7071
"""Slices are axial when their normal is nearer than 45 degrees to the patient's long axis: |cosine| above this."""


@dataclass(frozen=True)
class ConversionOptions:
    """The settings of a site for every conversion.

    Attributes:
        accept_lossy: whether a series that was compressed with loss is converted, with a warning, or refused.
        anatomy_check: `hold` a series that names a body part for which the model claims no meaning, or `warn`.
        gate: whether a case whose findings ask for a review is held or sent (`pipeline.gate`).
        limits: of findings, where the site sets others than the model's card.
        device: where the model runs (already loaded there); for the report.
        grid: orientation, spacing and field of view of the CT.
        labels: names and texts for the CT's headers.
        configuration_digest: SHA-256 of the configuration that changes the result.
        choice: which volume is meant where a series holds several.
        tolerances: how far the series may stray from one regular stack.
        profiles: rules of the destinations, by their names; the generic profile where there is none.
        replaces: SeriesInstanceUID of a CT series, made of fewer or other instances and sent already, that this one
            replaces; None for none.
        companions: the objects to make beside the CT, because a destination wants them.
    """

    accept_lossy: bool = False
    anatomy_check: Literal["hold", "warn"] = "hold"
    gate: Gate = "auto"
    limits: Limits = field(default_factory=dict)
    device: str = "auto"
    grid: OutputGrid = WHOLE_FIELD
    labels: Labels = DEFAULT_LABELS
    configuration_digest: str = ""
    choice: Choice = UNAMBIGUOUS
    tolerances: Tolerances = TOLERANCES
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    replaces: str | None = None
    companions: frozenset[CompanionKind] = frozenset()


@dataclass(frozen=True)
class Result:
    """A finished conversion.

    Attributes:
        ct: the CT files, inferior first.
        ct_series_uid: their SeriesInstanceUID.
        findings: all checks.
        complaints: rules of the destinations' profiles that the files break.
        hold: why a person should look before the CT is sent, or None.
        report: source, CT, model, sampling, findings and durations as plain values for JSON, without patient data.
    """

    ct: tuple[Path, ...]
    ct_series_uid: str
    findings: tuple[Finding, ...]
    complaints: tuple[Complaint, ...]
    hold: Hold | None
    report: dict[str, Any]

    @property
    def held(self) -> str | None:
        """The sentence of the hold, or None."""
        return self.hold.sentence if self.hold else None


def convert(series: Series, model: Model, into: Path, options: ConversionOptions) -> Result:
    """Make the synthetic CT of an MR series and write it into a folder.

    Where the series holds several volumes, `options.choice` takes one. The folder `into` exists; it receives the CT,
    `uncertainty.nii.gz` where the model states the error to be expected, and the companions that `options` names.

    Raises:
        Unsuitable: the series is not one regular volume, or lacks what a CT needs.
        Implausible: a finding rejects the case.
        OSError: the files cannot be written.
    """
    clock = Stopwatch({})
    with clock("read"):
        chosen = select(series, options.choice, options.tolerances)
        check_source(chosen.series)
        loss = loss_warnings(chosen.series, options.accept_lossy)
        mr = read_stack(chosen.stack)
    with clock("synthesize"):
        made = synthesize(mr, model, seed_of(chosen.series, model.card), options.grid)
        findings = assess(chosen.series, mr, made, limits_of(model.card, options.limits), model)
    refuse(findings)
    overridden = overridden_findings(findings, options)
    provenance = Provenance(
        card=model.card,
        sampling=made.sampling,
        findings=findings,
        configuration_digest=options.configuration_digest,
        warnings=(*loss, *overridden),
        software_version=version("sct-node"),
        replaces=options.replaces,
        volume=chosen.volume_description,
    )
    with clock("write"):
        files = write_ct(made.hu, chosen.series, provenance, into, labels=options.labels)
        write_uncertainty(made.sd, into)
        companions = companions_beside(files, made, options.companions, into)
    broken = complaints(files, options.profiles)
    hold = hold_of(options.gate, findings, bool(overridden), broken, model.card)
    uid = str(pydicom.dcmread(files[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    report = report_of(chosen, mr, made, provenance, clock.seconds)
    report |= {"preflight": preflight_of(broken, options.profiles), "companions": companions}
    return Result(tuple(files), uid, findings, tuple(broken), hold, report)


@dataclass(frozen=True)
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float]

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the time of a stage; a stage that raises leaves none."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - began, 3)


def assess(series: Series, mr: Volume, made: Synthesis, limits: Limits, model: Model) -> tuple[Finding, ...]:
    """Return every finding: of the headers, of the MR on its own grid, and of the HU on the model's grid."""
    slice_mm, row_mm, column_mm = (float(step) for step in made.mr.spacing)
    acquired_slice_mm, acquired_row_mm, acquired_column_mm = (float(step) for step in mr.spacing)
    body = resample(made.body, mr.get_geometry(), fill=0, interpolation="nearest")
    images = CaseImages(
        mr=made.mr.array,
        hu=made.on_model_grid.array,
        body=made.body.array > 0,
        spacing_mm=(slice_mm, row_mm, column_mm),
        sd=None if made.sd is None else resample(made.sd, made.mr.get_geometry(), fill=0.0).array,
        novelty=made.novelty,
        mr_quantiles=model.card.mr_quantiles,
        acquired=Scan(
            mr.array,
            body.array > 0,
            (acquired_slice_mm, acquired_row_mm, acquired_column_mm),
            axial=abs(float(mr.direction[2, 0])) > COS_45,
        ),
    )
    headers = header_findings(series, mr.get_geometry(), limits)
    return (anatomy(series.anatomy, model.card), *headers, *inspect(images, limits))


def overridden_findings(findings: tuple[Finding, ...], options: ConversionOptions) -> tuple[str, ...]:
    """Return the findings that ask for a review but do not hold the case, as warnings for the CT and the report.

    The settings of the site override them in two cases: the gate never holds; or the series names another anatomy and
    the site wants a warning only. Then the limits of all findings, which are those of the model's own anatomy, are
    reported and not enforced.
    """
    elsewhere = options.anatomy_check == "warn" and findings[0].verdict != "pass"
    if not elsewhere and options.gate != "never_hold":
        return ()
    return tuple(str(finding) for finding in findings if finding.verdict != "pass")


def preflight_of(broken: Sequence[Complaint], profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """Return for the report the profile of each destination, and the rules of profiles that the files break."""
    names = {destination: profile.name for destination, profile in profiles.items()}
    return {"profiles": names, "complaints": [dataclasses.asdict(one) for one in broken]}


def report_of(
    chosen: Selection, mr: Volume, made: Synthesis, provenance: Provenance, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return plain values for `report.json`; UIDs are in it, but neither name nor ID of the patient."""
    card = provenance.card
    return {
        **dataclasses.asdict(origin_of(chosen.series)),
        "hu_histogram": histogram(made.on_model_grid.array[made.body.array > 0]),
        "source": {
            "series_instance_uid": chosen.series.series_instance_uid,
            "instances": len(chosen.series.instances),
            "volume": chosen.volume_description or "the only volume",
            "set_aside": [dataclasses.asdict(one) for one in chosen.set_aside],
            "shape": list(mr.spatial_shape),
            "spacing_mm": [round(float(step), 6) for step in mr.spacing],
            "anatomy": chosen.series.anatomy,
        },
        "ct": {
            "instances": int(made.hu.spatial_shape[0]),
            "shape": list(made.hu.spatial_shape),
            "spacing_mm": [round(float(step), 6) for step in made.hu.spacing],
        },
        "model": {"name": card.name, "version": card.version, "digest": card.digest},
        "sampling": dataclasses.asdict(made.sampling),
        "findings": [dataclasses.asdict(finding) for finding in provenance.findings],
        "warnings": list(provenance.warnings),
        "configuration_digest": provenance.configuration_digest,
        "software_version": provenance.software_version,
        "seconds": seconds,
    }
