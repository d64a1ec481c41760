"""Between scanner or Hounsfield units and the numbers that the networks see. Loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

HU_PER_UNIT: Final = 1000.0
"""Water is 0 and air -1 for the networks: bfloat16 is finest near 0, so soft tissue keeps its small differences."""
AIR_HU: Final = -1000.0
MR_PERCENTILE: Final = 99.0
"""Percentile of the MR inside the body that becomes 1."""
MR_CEILING: Final = 2.0
"""Normalised MR values above this (vessels in flow, fat at a coil) are cut."""


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


def to_unit(hu: torch.Tensor) -> torch.Tensor:
    """HU -> the networks' unit."""
    return hu / HU_PER_UNIT


def to_hu(unit: torch.Tensor) -> torch.Tensor:
    """The networks' unit -> HU, always in float32."""
    return unit.float() * HU_PER_UNIT
