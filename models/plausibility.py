"""What a synthetic CT looks like inside the body, in a few numbers; and the limits within which they are plausible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.metrics import SOFT_HU

Inside = NDArray[np.float32]
"""HU of the voxels of the body, one-dimensional."""

MARGIN: Final = 0.5
"""Limits lie this fraction of the range of the known patients beyond its ends."""


def soft_tissue_median(inside: Inside) -> float:
    """Median HU of soft tissue, fat included; NaN where there is none."""
    soft = inside[(inside > SOFT_HU[0]) & (inside < SOFT_HU[1])]
    return float(np.median(soft)) if soft.size else float("nan")


def bone_fraction(inside: Inside) -> float:
    """Per cent of the body above 250 HU; 0 of an empty body."""
    return 100.0 * float((inside > SOFT_HU[1]).mean()) if inside.size else 0.0


def air_fraction(inside: Inside) -> float:
    """Per cent of the body below -200 HU; 100 of an empty body."""
    return 100.0 * float((inside < SOFT_HU[0]).mean()) if inside.size else 100.0


MEASURES: Final[Mapping[str, tuple[Callable[[Inside], float], str]]] = {
    "soft_tissue_median": (soft_tissue_median, "[hnsf'U]"),
    "bone_fraction": (bone_fraction, "%"),
    "air_fraction": (air_fraction, "%"),
}
"""Name -> measure, UCUM unit."""


def limits_of(bodies: Sequence[Inside]) -> dict[str, dict[str, float]]:
    """Limits of every measure: the range over known patients, wider by half of it at either end; per cent in 0..100."""
    limits = {}
    for name, (measure, unit) in MEASURES.items():
        values = [measure(inside) for inside in bodies]
        beyond = MARGIN * (max(values) - min(values))
        low, high = min(values) - beyond, max(values) + beyond
        if unit == "%":
            low, high = max(low, 0.0), min(high, 100.0)
        limits[name] = {"low": round(low, 2), "high": round(high, 2)}
    return limits
