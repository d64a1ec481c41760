"""Plausibility of input and output: named checks whose limits stand in the model's card; a site may set its own.

    limits of a finding   {"low": .., "high": ..}, and where wished "reject_low" and "reject_high"
    within low and high   pass
    beyond reject_*       reject: the job is REJECTED with the finding's name as its reason code
    else, or unknown      review: the case is held for a person, unless the gate says otherwise (`pipeline.gate`)

A measure that has no limits is not taken. What each finding means says `MEANINGS`.

The histogram of a synthetic CT's HU in the body: for the report, the case page, and the drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.inference.card import ModelCard
from models.measures.plausibility import MEASURES, CaseImages, measured
from pipeline.findings.meanings import MEANINGS

__all__ = ["MEANINGS", "Finding", "Limits", "Verdict", "anatomy", "inspect", "judged", "limits_of"]

Verdict = Literal["pass", "review", "reject"]
Limits = Mapping[str, Mapping[str, float]]
"""Finding -> its limits by `low`, `high`, and where it can refuse a series `reject_low`, `reject_high`."""

NOT_MEASURABLE = "not measurable"
UNMEASURED_PASSES = frozenset({"ghosting", "slice_jumps", "slice_shifts"})
"""What some sound images cannot be asked: where no air is seen around the body, or there are hardly any slices."""


@dataclass(frozen=True)
class Finding:
    """One check of one case.

    Attributes:
        name: what was measured, such as `anatomy` or `soft_tissue_median`; a key of `MEANINGS`.
        value: the measured value, in `unit`; a text where the check is not of a number.
        limit: lowest and highest value that pass, or the text of the rule.
        unit: UCUM unit, `[hnsf'U]` for HU, `%`, `mm`, `mL`, `ms` or empty.
        verdict: `pass`; `review` holds the case for a person; `reject` refuses it.
    """

    name: str
    value: float | str
    limit: tuple[float, float] | str
    unit: str
    verdict: Verdict

    def __str__(self) -> str:
        limit = self.limit if isinstance(self.limit, str) else f"{self.limit[0]:g} to {self.limit[1]:g}"
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        unit = "HU" if self.unit == "[hnsf'U]" else self.unit
        return f"{self.name} is {value}{' ' if unit else ''}{unit}, expected {limit}"


def limits_of(card: ModelCard, own: Limits) -> dict[str, dict[str, float]]:
    """The card's limits, and in their place those of the site."""
    names = dict.fromkeys([*card.findings, *own])
    return {name: dict(own.get(name) or card.findings[name]) for name in names}


def anatomy(body_part: str, card: ModelCard) -> Finding:
    """Whether the model claims meaning for the body part that the series names (`Series.anatomy`)."""
    verdict: Verdict = "pass" if card.claims(body_part) else "review"
    return Finding("anatomy", body_part or "not named", "one of " + ", ".join(card.anatomy), "", verdict)


def inspect(images: CaseImages, limits: Limits) -> tuple[Finding, ...]:
    """All measures of the images for which there are limits, and which the model gives."""
    values = measured(images, [name for name in MEASURES if name in limits])
    return tuple(judged(name, value, MEASURES[name].unit, limits[name]) for name, value in values.items())


def judged(name: str, value: float, unit: str, limits: Mapping[str, float]) -> Finding:
    """A finding about a number; one that is not finite passes only where a sound image may lack what it needs."""
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
"""Up to 3072 HU; what lies beyond counts in the last bin."""


def histogram(inside: NDArray[np.floating]) -> dict[str, Any]:
    """Plain values: `from_hu` and `step_hu` (HU, left edge of the first bin and width of each), `counts` (voxels).

    Empty bins after the last occupied one are left out.
    """
    bins = np.clip((inside - FROM_HU) // STEP_HU, 0, BINS - 1).astype(int)
    counts = np.trim_zeros(np.bincount(bins, minlength=BINS), "b")
    return {"from_hu": FROM_HU, "step_hu": STEP_HU, "counts": counts.tolist()}
