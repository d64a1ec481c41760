"""Between scanner or Hounsfield units and the numbers that the networks see. Loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    import torch

HU_PER_UNIT: Final = 1000.0
"""Water is 0 and air -1 for the networks: bfloat16 is finest near 0, so soft tissue keeps its small differences."""
AIR_HU: Final = -1000.0
MR_PERCENTILE: Final = 99.0
"""Percentile of the MR inside the body that becomes 1."""
MR_CEILING: Final = 2.0
"""Normalised MR values above this (vessels in flow, fat at a coil) are cut."""


LEAST_SENSITIVITY: Final = 0.02
"""Of a coil, in parts of its greatest: below, there is noise alone, which is not made brighter."""


def normalise_mr(mr: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """MR in the scanner's arbitrary unit -> 0 at no signal, 1 at the 99th percentile of the body.

    Args:
        mr: MR values, axes (slice, row, column).
        body: voxels of the body, same axes; where empty, all voxels count.
    """
    inside = mr[body] if body.any() else mr.ravel()
    scale = float(np.percentile(inside, MR_PERCENTILE))
    if scale <= 0:
        return np.zeros_like(mr, dtype=np.float32)
    normal: NDArray[np.float32] = np.clip(mr / np.float32(scale), 0.0, MR_CEILING).astype(np.float32)
    return normal


def homogenised(
    mr: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float], sd_mm: float
) -> NDArray[np.float32]:
    """An MR divided by its own mean over a neighbourhood in the body: what a coil leaves dark is as bright as the rest.

    Args:
        mr: in the scanner's unit, axes (slice, row, column).
        body: voxels of the body; beyond it the whole image is scaled alike.
        spacing_mm: along the axes.
        sd_mm: SD of the neighbourhood.
    """
    if not body.any():
        return mr
    steps = [sd_mm / step for step in spacing_mm]
    weight = ndimage.gaussian_filter(body.astype(np.float32), steps)
    mean = ndimage.gaussian_filter(np.where(body, mr, 0).astype(np.float32), steps) / np.maximum(weight, 1e-3)
    highest = max(float(mean[body].max()), 1e-6)
    return np.asarray(mr / np.where(body, np.maximum(mean, LEAST_SENSITIVITY * highest), highest), np.float32)


def to_unit(hu: torch.Tensor) -> torch.Tensor:
    """Convert HU to the unit of the networks."""
    return hu / HU_PER_UNIT


def to_hu(unit: torch.Tensor) -> torch.Tensor:
    """The networks' unit -> HU, always in float32."""
    return unit.float() * HU_PER_UNIT
