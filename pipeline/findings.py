"""Plausibility of input and output: named checks whose limits stand in the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.plausibility import MEASURES
from pipeline.meanings import MEANINGS

__all__ = ["MEANINGS", "Finding", "Verdict", "anatomy", "inspect"]

Verdict = Literal["pass", "review", "reject"]


@dataclass(frozen=True)
class Finding:
    """One check of one case.

    Attributes:
        name: what was measured, such as `anatomy` or `soft_tissue_median`.
        value: the measured value, in `unit`; a text where the check is not of a number.
        limit: lowest and highest value that pass, or the text of the rule.
        unit: UCUM unit, `[hnsf'U]` for HU, `%` or empty.
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


def anatomy(body_part: str, card: ModelCard) -> Finding:
    """Whether the model claims meaning for the body part that the series names (`Series.anatomy`)."""
    verdict: Verdict = "pass" if card.claims(body_part) else "review"
    return Finding("anatomy", body_part or "not named", "one of " + ", ".join(card.anatomy), "", verdict)


def inspect(hu: NDArray[np.float32], body: NDArray[np.bool_], card: ModelCard) -> tuple[Finding, ...]:
    """All measures for which the card has limits.

    Args:
        hu: synthetic CT, axes (slice, row, column).
        body: outline of the MR on the same grid.
        card: of the model that made it.
    """
    return tuple(_finding(name, hu[body], limits) for name, limits in card.findings.items() if name in MEASURES)


def _finding(name: str, inside: NDArray[np.float32], limits: Mapping[str, float]) -> Finding:
    measure, unit = MEASURES[name]
    low, high, value = float(limits["low"]), float(limits["high"]), measure(inside)
    verdict: Verdict = "pass" if low <= value <= high else "review"
    return Finding(name, value if np.isfinite(value) else "not measurable", (low, high), unit, verdict)
