"""Comparison of the dose on the synthetic CT with that on the true CT. Axes (slice, row, column); Gy over all
fractions.

The plan is optimised on the CT and recomputed on the synthetic CT with the same weights; the difference is what the
synthetic CT would have done to the patient's dose. Outside the body that MR and CT have in common the synthetic CT
takes the CT's HU, so that misregistered skin does not decide, as it does not in the image measures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask, ct_body
from models.data.pairs import Pair
from models.measures.similarity import Hu

Dose = NDArray[np.float32]

HIGH_DOSE: Final = 0.9
"""Dose MAE is taken where the CT's dose is at least this fraction of the prescription."""
TARGET_RADIUS_MM: Final = 20.0
TARGET_DEPTH_MM: Final = 5.0
"""A sphere stays this deep below the body's surface."""


@dataclass(frozen=True)
class Criterion:
    """A gamma criterion: percent of the reference's maximum (global), and mm."""

    percent: float
    mm: float


@dataclass(frozen=True)
class PlanSettings:
    """Settings by which plans are made.

    Attributes:
        prescription_gy: to the target, over all fractions.
        fractions: their number.
        gantry_deg: modality -> gantry angles; pyRadPlan's generic machines.
        spot_mm: distance of bixels and of spots.
        dose_grid_mm: voxel side of the dose calculation.
        gamma: criteria.
        gamma_cut_percent: gamma is taken where the CT's dose is above this percentage of its maximum.
    """

    prescription_gy: float = 60.0
    fractions: int = 30
    gantry_deg: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {"photons": (0.0, 72.0, 144.0, 216.0, 288.0), "protons": (90.0, 270.0)}
    )
    spot_mm: float = 5.0
    dose_grid_mm: float = 3.0
    gamma: tuple[Criterion, ...] = (Criterion(3, 3), Criterion(2, 2), Criterion(2, 1))
    gamma_cut_percent: float = 10.0


@dataclass(frozen=True)
class Target:
    """The target volume: a mask, its centre in voxels (slice, row, column), and a description."""

    mask: Mask
    centre: tuple[float, float, float]
    words: str


def sphere_target(pair: Pair) -> Target:
    """A sphere about the deepest point of the common body (of several, the middle one); the field's rim is a surface.

    The pairs are cropped about the tumour, so that it lies near the middle; the sphere has 20 mm radius, or less where
    it would come nearer than 5 mm to the surface.

    Raises:
        ValueError: there is no room for a sphere.
    """
    depth_mm = ndimage.distance_transform_edt(np.pad(pair.body, 1), sampling=pair.spacing_mm)[1:-1, 1:-1, 1:-1]
    deepest = np.argwhere(depth_mm == depth_mm.max())
    centre = deepest[np.linalg.norm(deepest - deepest.mean(axis=0), axis=1).argmin()]
    radius_mm = min(TARGET_RADIUS_MM, float(depth_mm.max()) - TARGET_DEPTH_MM)
    if radius_mm <= max(pair.spacing_mm):
        raise ValueError(f"{pair.name}: the body is too thin for a target; give a contour")
    offsets = [
        (np.arange(length) - place) * step
        for length, place, step in zip(pair.body.shape, centre, pair.spacing_mm, strict=True)
    ]
    square = sum(np.square(offset) for offset in np.ix_(*offsets))
    first, second, third = (float(place) for place in centre)
    words = f"sphere of {radius_mm:.0f} mm radius about the body's deepest point"
    return Target(np.asarray(square <= radius_mm**2) & pair.body, (first, second, third), words)


def contour_target(pair: Pair, mask: Mask, name: str) -> Target:
    """A contoured target within the common body.

    Raises:
        ValueError: it lies on another grid, or outside the body.
    """
    if mask.shape != pair.body.shape or not (mask & pair.body).any():
        raise ValueError(f"{pair.name}: target {name} lies on another grid than the pair, or outside its body")
    first, second, third = (float(place) for place in ndimage.center_of_mass(mask & pair.body))
    return Target(mask & pair.body, (first, second, third), f"contour {name}")


def planning_body(pair: Pair) -> Mask:
    """The body in which doses are calculated: that of the CT."""
    return ct_body(pair.hu)


def inserted(pair: Pair, hu: Hu) -> Hu:
    """The synthetic CT in the common body, the true CT elsewhere."""
    return np.where(pair.body, hu, pair.hu).astype(np.float32)


def dvh_points(dose: Dose, mask: Mask, prescription_gy: float) -> dict[str, float]:
    """D98, D2 and Dmean in Gy, V95 in % of the structure's volume.

    D98 is the dose that 98 % of the volume receives at least; V95 the volume with at least 95 % of the prescription.
    """
    inside = dose[mask].astype(np.float64)
    return {
        "d98_gy": float(np.percentile(inside, 2)),
        "d2_gy": float(np.percentile(inside, 98)),
        "dmean_gy": float(inside.mean()),
        "v95_percent": float(100 * (inside >= 0.95 * prescription_gy).mean()),
    }


def dvh_curve(dose: Dose, mask: Mask, doses_gy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of the structure's volume that receives at least each of some doses."""
    inside = np.sort(dose[mask].astype(np.float64))
    return 100 * (1 - np.searchsorted(inside, doses_gy, side="left") / inside.size)


def dose_mae_percent(dose: Dose, reference: Dose, prescription_gy: float) -> float:
    """Mean absolute difference in % of the prescription where the reference has at least 90 % of it; NaN if nowhere."""
    high = reference >= HIGH_DOSE * prescription_gy
    if not high.any():
        return float("nan")
    return float(100 * np.abs(dose[high].astype(np.float64) - reference[high]).mean() / prescription_gy)


def dose_measures(dose: Dose, reference: Dose, target: Mask, prescription_gy: float) -> dict[str, float]:
    """Dose MAE, and each DVH point on CT, on synthetic CT, and as the difference (doses in % of the prescription)."""
    found, true = (dvh_points(one, target, prescription_gy) for one in (dose, reference))
    measures = {"dose_mae_percent": dose_mae_percent(dose, reference, prescription_gy)}
    for name, value in found.items():
        measures[f"ct_{name}"], measures[f"sct_{name}"] = true[name], value
        scale = 1.0 if name.endswith("percent") else 100 / prescription_gy
        measures[f"difference_{name.partition('_')[0]}_percent"] = scale * (value - true[name])
    return measures
