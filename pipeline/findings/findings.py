"""Check whether MR and synthetic CT are plausible, and count the HU of the synthetic CT.

The limits of each check stand in the model's card; a site may configure its own.

    limits of a finding   {"low": .., "high": ..}, and optionally "reject_low" and "reject_high"
    within low and high   pass
    beyond reject_*       reject: the job is REJECTED with the finding's name as its reason code
    otherwise             review: the job is held for a person, unless the gate lets it pass (`pipeline.gate`)

A measure without limits is not computed. `MEANINGS` explains each finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.inference.card import ModelCard
from models.measures.plausibility import MEASURES, CaseImages, measured
from pipeline.findings.meanings import MEANINGS

__all__ = ["MEANINGS", "Finding", "Limits", "Verdict", "anatomy", "finding_for", "inspect", "limits_of"]

Verdict = Literal["pass", "review", "reject"]
Limits = Mapping[str, Mapping[str, float]]
"""Finding -> its limits `low` and `high`; with `reject_low` or `reject_high` it can also reject a series."""

NOT_MEASURABLE = "not measurable"
UNMEASURED_PASSES = frozenset({"ghosting", "slice_jumps", "slice_shifts"})
"""Findings that some good images do not have: no air is seen around the body, or there are hardly any slices."""


@dataclass(frozen=True)
class Finding:
    """The result of one check of one job.

    Attributes:
        name: a key of `MEANINGS`, such as `anatomy` or `soft_tissue_median`.
        value: the measured value in `unit`, or a text when the check is not about a number.
        limit: lowest and highest value that pass, or the text of the rule.
        unit: UCUM unit, `[hnsf'U]` for HU, `%`, `mm`, `mL`, `ms` or empty.
        verdict: `pass`; `review` holds the job for a person; `reject` rejects it.
    """

    name: str
    value: float | str
    limit: tuple[float, float] | str
    unit: str
    verdict: Verdict

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        unit = "HU" if self.unit == "[hnsf'U]" else self.unit
        return f"{self.name} is {value}{' ' if unit else ''}{unit}, expected {limit_text(self.limit)}"


def limit_text(limit: Sequence[float] | str) -> str:
    """Write the limit of a finding for a person: its rule, or `low to high`."""
    return limit if isinstance(limit, str) else f"{limit[0]:g} to {limit[1]:g}"


def limits_of(card: ModelCard, own: Limits) -> dict[str, dict[str, float]]:
    """Return the limits of the card, replaced by those of the site where it has its own."""
    names = dict.fromkeys([*card.findings, *own])
    return {name: dict(own.get(name) or card.findings[name]) for name in names}


def anatomy(body_part: str, card: ModelCard) -> Finding:
    """Check whether the model is meant for the body part that the series names (`Series.anatomy`)."""
    verdict: Verdict = "pass" if card.claims(body_part) else "review"
    return Finding("anatomy", body_part or "not named", "one of " + ", ".join(card.anatomy), "", verdict)


def inspect(images: CaseImages, limits: Limits) -> tuple[Finding, ...]:
    """Compute and check all measures of the images that have limits and that the model provides."""
    values = measured(images, [name for name in MEASURES if name in limits])
    return tuple(finding_for(name, value, MEASURES[name].unit, limits[name]) for name, value in values.items())


def finding_for(name: str, value: float, unit: str, limits: Mapping[str, float]) -> Finding:
    """Compare a number with its limits; NaN passes only for `UNMEASURED_PASSES`."""
    low, high = float(limits["low"]), float(limits["high"])
    if not np.isfinite(value):
        verdict: Verdict = "pass" if name in UNMEASURED_PASSES else "review"
        return Finding(name, NOT_MEASURABLE, (low, high), unit, verdict)
    refused = value < limits.get("reject_low", -np.inf) or value > limits.get("reject_high", np.inf)
    verdict = "reject" if refused else "pass" if low <= value <= high else "review"
    return Finding(name, value, (low, high), unit, verdict)


FROM_HU: Final = -1024
STEP_HU: Final = 16
BINS: Final = 256
"""The last bin ends at 3072 HU and also counts all values above."""


def histogram(inside: NDArray[np.floating]) -> dict[str, Any]:
    """Count the voxels inside the body by their HU, for the report, the case page and the drift.

    Returns:
        `from_hu` (left edge of the first bin), `step_hu` (width of a bin), `counts` (voxels of each bin); empty bins
        after the last occupied one are left out.
    """
    bins = np.clip((inside - FROM_HU) // STEP_HU, 0, BINS - 1).astype(int)
    counts = np.trim_zeros(np.bincount(bins, minlength=BINS), "b")
    return {"from_hu": FROM_HU, "step_hu": STEP_HU, "counts": counts.tolist()}
