"""Record how a synthetic CT was made, and describe it in the text attributes of the CT."""

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
"""Series Description unless a site configures another."""


@dataclass(frozen=True)
class Sampling:
    """The settings with which the model was sampled.

    Attributes:
        seed: seed of the noise.
        steps: steps of the sampler.
        samples: number of samples that were averaged.
        to_model: interpolation from the MR's grid to the model's: `linear`, or `none` when voxels are copied.
        to_ct: interpolation of HU from the model's grid to the CT's, their only one: `linear` or `none`.
        model_spacing_mm: spacing of the model's grid in mm, (slice, row, column).
        field: the part of the MR's field of view that the CT shows, for a person.
        orientation: `axial` planes, or the planes of the `source`.
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
        """Return whether any value was interpolated."""
        return (self.to_model, self.to_ct) != ("none", "none")


@dataclass(frozen=True)
class Provenance:
    """Everything except the MR that determines the content of a synthetic CT.

    Attributes:
        card: card of the model.
        sampling: how the model was sampled.
        findings: the plausibility checks of the case.
        configuration_digest: SHA-256 of the part of the configuration that affects the result.
        warnings: sentences that every user of the CT must see, such as an anatomy that the model does not claim.
        software_version: version of sct-node.
        replaces: SeriesInstanceUID of the earlier CT that this one replaces, or None.
        volume: description of the volume of the MR series that was used, "" when it has only one.
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
    """The names of the node in the CT (PS3.3 C.7.5.1); a site binds one HU-to-density table to them.

    Raises ValueError for a value that is empty, too long for its VR (PS3.5 table 6.2-1), or not ASCII.
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
    """Compose Series Description (0008,103E): the word WARNING if there is one, `text`, and the research label.

    In `text`, {model} and {version} are replaced. It is cut to fit; the label and the word WARNING are never cut.
    """
    head = "WARNING " if provenance.warnings else ""
    tail = f"; {RESEARCH_LABEL}" if research_label else ""
    named = text.replace("{model}", provenance.card.name).replace("{version}", provenance.card.version)
    return f"{head}{plain(named, LO_LENGTH - len(head) - len(tail))}{tail}"


def derivation_description(provenance: Provenance, source: str, grid: str, research_label: bool) -> str:
    """Compose Derivation Description (0008,2111), warnings first; `source` and `grid` describe both grids."""
    card, sampling = provenance.card, provenance.sampling
    spacing = " x ".join(f"{value:g}" for value in sampling.model_spacing_mm)
    sentences = [
        *(f"WARNING: {as_sentence(warning)}" for warning in provenance.warnings),
        *([f"Synthetic CT; {RESEARCH_LABEL}."] if research_label else ["Synthetic CT."]),
        *_replaced(provenance),
        f"HU predicted from MR by model {card.name} {card.version} (weights SHA-256 {card.digest}).",
        f"Steps {sampling.steps}, samples {sampling.samples}, seed {sampling.seed}.",
        *([f"Of several volumes: {provenance.volume}."] if provenance.volume else []),
        f"Source {source}; model grid {spacing} mm; CT grid {grid}.",
        f"Field {sampling.field}. Interpolation: MR to model {sampling.to_model}, HU to CT {sampling.to_ct}.",
        f"sct-node {provenance.software_version}, configuration SHA-256 {provenance.configuration_digest}.",
    ]
    return plain(" ".join(sentences), DERIVATION_LENGTH)


def image_comments(provenance: Provenance, research_label: bool, notes: Sequence[str] = ()) -> str:
    """Compose Image Comments (0020,4000): warnings, the research label, notes, and each finding with its limit."""
    from pipeline.findings.findings import limit_text  # loads SciPy

    sentences = [
        *(f"WARNING: {as_sentence(warning)}" for warning in provenance.warnings),
        *([f"Synthetic CT; {RESEARCH_LABEL}."] if research_label else ["Synthetic CT."]),
        *_replaced(provenance),
        *notes,
    ]
    for finding in provenance.findings:
        value = f"{finding.value:.4g}" if isinstance(finding.value, float) else str(finding.value)
        unit = f" {finding.unit}" if finding.unit else ""
        limit = limit_text(finding.limit)
        sentences.append(f"Finding {finding.name}: {value}{unit} (limit {limit}), {finding.verdict}.")
    return plain(" ".join(sentences), COMMENTS_LENGTH)


def _replaced(provenance: Provenance) -> list[str]:
    """Name the CT series that this one replaces, for a person."""
    return [f"Replaces CT series {provenance.replaces}."] if provenance.replaces else []


def as_sentence(text: str) -> str:
    """End a text with a full stop, unless it ends like a sentence already."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
