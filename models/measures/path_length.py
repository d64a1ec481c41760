"""Water-equivalent path length: how much water a beam meets before it reaches a point. A cheap surrogate for dose.

Axes (slice, row, column) along +S, +P, +L; angles are those of an IEC 61217 gantry about a supine patient whose head
lies to the gantry: 0 degrees from anterior, 90 degrees from the patient's left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.intensity import AIR_HU

Floats = NDArray[np.float64]

STOPPING_POWER: Final = (
    (-1024.0, 0.001),
    (-999.0, 0.001),
    (-90.0, 0.95),
    (-45.0, 0.99),
    (0.0, 1.0),
    (100.0, 1.095),
    (350.0, 1.199),
    (3000.0, 2.505),
)
"""(HU, stopping power relative to water), linear between: matRad's default table, which pyRadPlan applies to photons
and protons alike (e0404/matRad, hlutLibrary/matRad_default.hlut). A scanner's own calibration differs by some percent;
it cancels where two images are compared by one table."""

RAYS: Final = 72
"""Rays about a point, one every 5 degrees."""
STEP_MM: Final = 0.5
"""Distance of the samples along a ray."""


@dataclass(frozen=True)
class PathDifference:
    """Differences of the path lengths in two images, over rays.

    Attributes:
        mean_mm: mean of the absolute differences.
        worst_mm: largest absolute difference.
        worst_percent: largest absolute difference relative to the length in the reference.
        bias_mm: mean of the signed differences.
    """

    mean_mm: float
    worst_mm: float
    worst_percent: float
    bias_mm: float


def stopping_power(hu: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
    """Stopping power relative to water, by `STOPPING_POWER`; the ends hold beyond it."""
    known = np.array(STOPPING_POWER)
    return np.asarray(np.interp(hu, known[:, 0], known[:, 1]))


def gantry_angles(rays: int = RAYS) -> Floats:
    """Angles in degrees that divide the circle, from 0."""
    return np.linspace(0.0, 360.0, rays, endpoint=False)


def path_lengths_mm(
    hu: NDArray[np.floating] | NDArray[np.integer],
    spacing_mm: tuple[float, float, float],
    point: Sequence[float],
    angles_deg: Floats | None = None,
) -> Floats:
    """Water-equivalent length in mm from outside to a point, one ray an angle in the point's axial plane.

    Args:
        hu: HU; what lies beyond the field of view is air.
        spacing_mm: (slice, row, column).
        point: (slice, row, column) in voxels, may lie between them.
        angles_deg: gantry angles; 72 around the circle where None.
    """
    angles = np.deg2rad(gantry_angles() if angles_deg is None else angles_deg)
    longest_mm = float(np.linalg.norm(np.multiply(hu.shape, spacing_mm)))
    distances_mm = np.arange(STEP_MM / 2, longest_mm, STEP_MM)
    rows = point[1] - np.cos(angles)[:, None] * distances_mm / spacing_mm[1]
    columns = point[2] + np.sin(angles)[:, None] * distances_mm / spacing_mm[2]
    power = stopping_power(hu.astype(np.float32))
    outside = float(stopping_power(np.array([AIR_HU]))[0])
    places = np.stack([np.full_like(rows, point[0]), rows, columns])
    met = ndimage.map_coordinates(power, places, order=1, mode="constant", cval=outside)
    beyond = ((places < 0) | (places > np.reshape(hu.shape, (3, 1, 1)) - 1)).any(axis=0)
    lengths: Floats = np.where(beyond, 0.0, met).sum(axis=1) * STEP_MM
    return lengths


def compare_paths(found_mm: Floats, reference_mm: Floats) -> PathDifference:
    """Differences of path lengths, ray by ray; a ray of no length in the reference has no percentage."""
    difference = found_mm - reference_mm
    percent = 100 * np.abs(difference[reference_mm > 0]) / reference_mm[reference_mm > 0]
    return PathDifference(
        float(np.abs(difference).mean()),
        float(np.abs(difference).max()),
        float(percent.max()) if percent.size else float("nan"),
        float(difference.mean()),
    )
