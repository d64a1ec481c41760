"""Plausibility of input and output: named checks whose limits stand in the model's card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "review", "reject"]


@dataclass(frozen=True)
class Finding:
    """One check of one case.

    Attributes:
        name: what was measured, such as `anatomy` or `soft_tissue_median`.
        value: the measured value, in `unit`; a text where the check is not of a number.
        limit: lowest and highest value that pass, or the text of the rule.
        unit: UCUM unit, `HU`, `%`, `1` or empty.
        verdict: `pass`; `review` holds the case for a person; `reject` refuses it.
    """

    name: str
    value: float | str
    limit: tuple[float, float] | str
    unit: str
    verdict: Verdict
