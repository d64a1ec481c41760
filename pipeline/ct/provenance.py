"""Which model made a synthetic CT, from what and how; and the words that say so inside the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.ct.elements import plain

if TYPE_CHECKING:  # so that reading a configuration loads no SciPy
    from models.inference.card import ModelCard
    from pipeline.findings.findings import Finding

RESEARCH_LABEL = "research, not for clinical use"
DERIVATION_LENGTH = 1024
"""Longest Derivation Description, VR ST (PS3.5 table 6.2-1)."""
COMMENTS_LENGTH = 10240
"""Longest Image Comments, VR LT (PS3.5 table 6.2-1)."""
LO_LENGTH = 64
"""Longest Series Description, Manufacturer and the like, VR LO (PS3.5 table 6.2-1)."""
STATION_NAME_LENGTH = 16
"""Longest Station Name, VR SH (PS3.5 table 6.2-1)."""
DESCRIPTION = "sCT {model} {version}"
"""Series Description unless a site configures otherwise."""


@dataclass(frozen=True)
class Sampling:
    """How the model was sampled.

    Attributes:
        seed: seed of the noise.
        steps: steps of the sampler.
        samples: number of samples that were averaged.
        to_model: interpolation from the MR's grid to the model's: `linear`, or `none` where its voxels are the MR's.
        to_ct: interpolation from the model's grid to the CT's, the only one that HU go through; `none` likewise.
        model_spacing_mm: spacing of the model's grid in mm, (slice, row, column).
        field: what of the MR's field of view the CT shows, in words.
        orientation: `axial` planes, or those of the `source`.
    """

    seed: int
    steps: int
    samples: int
    to_model: str
    to_ct: str
    model_spacing_mm: tuple[float, float, float]
    field: str = "the whole MR"
    orientation: str = "axial"

    @property
    def resampled(self) -> bool:
        """Whether any value was interpolated."""
        return (self.to_model, self.to_ct) != ("none", "none")


@dataclass(frozen=True)
class Provenance:
    """Everything besides the MR that decided the content of a synthetic CT.

    Attributes:
        card: card of the model.
        sampling: how the model was sampled.
        findings: the plausibility checks of the case.
        configuration_digest: SHA-256 of the configuration that changes the result.
        warnings: sentences that a person who uses the CT must see, such as an anatomy the model does not claim.
        software_version: version of sct-node.
        replaces: SeriesInstanceUID of an earlier CT that this one takes the place of, or None.
        volume: which volume of the MR series it was made of, "" where that has only one.
    """

    card: ModelCard
    sampling: Sampling
    findings: tuple[Finding, ...]
    configuration_digest: str
    warnings: tuple[str, ...]
    software_version: str
    replaces: str | None = None
    volume: str = ""


@dataclass(frozen=True)
class Equipment:
    """What the node calls itself in the CT; a site binds its one HU-to-density table to these values.

    Raises ValueError for a value that is empty, too long for its VR (PS3.5 table 6.2-1), or not plain ASCII.
    """

    manufacturer: str = "sct-node"
    model_name: str = "sct-node synthetic CT"
    station_name: str = "SCTNODE"
    serial_number: str = "SCT-1"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            longest = STATION_NAME_LENGTH if name == "station_name" else LO_LENGTH
            if not value or value != plain(value, longest):
                raise ValueError(f"{name} is {value!r}; it must be 1 to {longest} ASCII characters, no backslash")


NODE_EQUIPMENT = Equipment()


def series_description(provenance: Provenance, research_label: bool, text: str = DESCRIPTION) -> str:
    """What lists of series show: whether there is a warning, what it is, which model, and the research label.

    `text` may name the model by {model} and {version}. Only it is cut, never the label and the word WARNING.
    """
    head = "WARNING " if provenance.warnings else ""
    tail = f"; {RESEARCH_LABEL}" if research_label else ""
    named = text.replace("{model}", provenance.card.name).replace("{version}", provenance.card.version)
    return f"{head}{plain(named, LO_LENGTH - len(head) - len(tail))}{tail}"


def derivation_description(provenance: Provenance, source: str, grid: str, research_label: bool) -> str:
    """How the CT was derived, warnings first; `source` and `grid` describe the grids of MR and CT in words."""
    card, sampling = provenance.card, provenance.sampling
    sentences = [
        *(f"WARNING: {_sentence(warning)}" for warning in provenance.warnings),
        *([f"Synthetic CT; {RESEARCH_LABEL}."] if research_label else ["Synthetic CT."]),
        *_replaced(provenance),
        f"HU predicted from MR by model {card.name} {card.version} (weights SHA-256 {card.digest}).",
        f"Steps {sampling.steps}, samples {sampling.samples}, seed {sampling.seed}.",
        *([f"Of several volumes: {provenance.volume}."] if provenance.volume else []),
        f"Source {source}; model grid {_by(sampling.model_spacing_mm)} mm; CT grid {grid}.",
        f"Field {sampling.field}. Interpolation: MR to model {sampling.to_model}, HU to CT {sampling.to_ct}.",
        f"sct-node {provenance.software_version}, configuration SHA-256 {provenance.configuration_digest}.",
    ]
    return plain(" ".join(sentences), DERIVATION_LENGTH)


def image_comments(provenance: Provenance, research_label: bool, notes: Sequence[str] = ()) -> str:
    """What viewers show with the image: warnings, the research label, notes, and each finding with its limit."""
    sentences = [
        *(f"WARNING: {_sentence(warning)}" for warning in provenance.warnings),
        *([f"Synthetic CT; {RESEARCH_LABEL}."] if research_label else ["Synthetic CT."]),
        *_replaced(provenance),
        *notes,
        *(_finding(finding) for finding in provenance.findings),
    ]
    return plain(" ".join(sentences), COMMENTS_LENGTH)


def _replaced(provenance: Provenance) -> list[str]:
    """Which CT series this one takes the place of, for a person."""
    return [f"Replaces CT series {provenance.replaces}."] if provenance.replaces else []


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _by(spacing_mm: tuple[float, float, float]) -> str:
    return " x ".join(f"{value:g}" for value in spacing_mm)


def _finding(finding: Finding) -> str:
    value = f"{finding.value:.4g}" if isinstance(finding.value, float) else str(finding.value)
    limit = finding.limit if isinstance(finding.limit, str) else f"{finding.limit[0]:g} to {finding.limit[1]:g}"
    unit = f" {finding.unit}" if finding.unit else ""
    return f"Finding {finding.name}: {value}{unit} (limit {limit}), {finding.verdict}."
