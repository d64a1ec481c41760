"""Plausibility of input and output: named checks whose limits stand in the model's card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard

Verdict = Literal["pass", "review", "reject"]


@dataclass(frozen=True)
class Finding:
    """One check of one case.

    Attributes:
        name: what was measured, such as `anatomy` or `soft_tissue_median`.
        value: the measured value, in `unit`; a text where the check is not of a number.
        limit: lowest and highest value that pass, or the text of the rule.
        unit: UCUM unit, `[hnsf'U]` for HU, `%`, `L` or empty.
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
        unit = "HU" if self.unit == HU else self.unit
        return f"{self.name} is {value}{' ' if unit else ''}{unit}, expected {limit}"


HU: Final = "[hnsf'U]"
SOFT_HU: Final = (-200.0, 250.0)
"""Soft tissue of a CT, fat included, lies between these; bone above."""


def anatomy(body_part: str, card: ModelCard) -> Finding:
    """Whether the model claims meaning for the body part that the series names (BodyPartExamined)."""
    verdict: Verdict = "pass" if card.claims(body_part) else "review"
    return Finding("anatomy", body_part or "not named", "one of " + ", ".join(card.anatomy), "", verdict)


def _soft_tissue_median(inside: NDArray[np.float32]) -> float:
    soft = inside[(inside > SOFT_HU[0]) & (inside < SOFT_HU[1])]
    return float(np.median(soft)) if soft.size else float("nan")


def _bone_fraction(inside: NDArray[np.float32]) -> float:
    return 100.0 * float((inside > SOFT_HU[1]).mean()) if inside.size else 0.0


def _air_fraction(inside: NDArray[np.float32]) -> float:
    return 100.0 * float((inside < SOFT_HU[0]).mean()) if inside.size else 100.0


MEASURES: Final[Mapping[str, tuple[Callable[[NDArray[np.float32]], float], str]]] = {
    "soft_tissue_median": (_soft_tissue_median, HU),
    "bone_fraction": (_bone_fraction, "%"),
    "air_fraction": (_air_fraction, "%"),
}
"""Name of a finding -> what it measures of the HU inside the body, and its unit. Its limits stand in the card."""


def inspect(hu: NDArray[np.float32], body: NDArray[np.bool_], voxel_mm3: float, card: ModelCard) -> tuple[Finding, ...]:
    """All measures for which the card has limits.

    Args:
        hu: synthetic CT, axes (slice, row, column).
        body: outline of the MR on the same grid.
        voxel_mm3: volume of a voxel.
        card: of the model that made it.
    """
    inside = hu[body]
    measured = {"body_volume": (inside.size * voxel_mm3 * 1e-6, "L")}
    measured |= {name: (measure(inside), unit) for name, (measure, unit) in MEASURES.items()}
    return tuple(_within(name, *measured[name], limits) for name, limits in card.findings.items() if name in measured)


def _within(name: str, value: float, unit: str, limits: Mapping[str, float]) -> Finding:
    low, high = float(limits["low"]), float(limits["high"])
    return Finding(name, value, (low, high), unit, "pass" if low <= value <= high else "review")
