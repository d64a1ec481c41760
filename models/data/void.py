"""Regions of the body that give no MR signal and are thicker than cortical bone: metal, gas, dense calcification."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask

FULL_SIGNAL_PERCENTILE: Final = 99.0
"""Percentile of the MR in the body that counts as full signal."""
DARK: Final = 0.08
"""Fraction of full signal below which a voxel gives none."""
DEPTH_MM: Final = 4.0
"""A void is somewhere deeper than this on all sides: cortical bone of a limb is seldom 8 mm thick."""


def full_signal(mr: NDArray[np.floating], body: Mask) -> float:
    """What counts as full signal, in the MR's unit; 0 for an empty body."""
    return float(np.percentile(mr[body], FULL_SIGNAL_PERCENTILE)) if body.any() else 0.0


def voids(mr: NDArray[np.floating], body: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """Voxels of the body in regions without signal that are thicker than 8 mm.

    Args:
        mr: MR in any unit, axes (slice, row, column).
        body: its outline on the same grid.
        spacing_mm: along the axes.
    """
    dark = body & (mr < DARK * full_signal(mr, body))
    if not dark.any():
        return dark
    box = ndimage.find_objects(dark.astype(np.uint8))[0]
    inside = dark[box]
    core = _depth_mm(inside, spacing_mm) > DEPTH_MM
    found = np.zeros_like(dark)
    if core.any():
        near = ndimage.distance_transform_edt(~core, sampling=spacing_mm) <= DEPTH_MM + max(spacing_mm[1:])
        found[box] = inside & near
    return found


def _depth_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distance of each voxel of a mask to the nearest one that is not of it; the mask goes on beyond its slices."""
    padded = np.pad(np.pad(mask, ((1, 1), (0, 0), (0, 0)), mode="edge"), ((0, 0), (1, 1), (1, 1)))
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(padded, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return depth
