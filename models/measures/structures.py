"""Do the structures of the synthetic CT lie where those of the true one lie? Dice and 95 % Hausdorff distance.

Axes (slice, row, column). A structure that one image has and the other lacks is counted and takes the worst values
there are; it is never dropped from a mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask, ct_body
from models.measures.similarity import SOFT_HU, Image

STRUCTURES: Final = ("bone", "air", "body")
LEAST_ML: Final = 0.1
"""A connected part smaller than this is noise, in the true CT as in the synthetic one."""
PERCENTILE: Final = 95.0

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Agreement:
    """Agreement of a structure of the synthetic CT with that of the true CT.

    Attributes:
        dice: 0 to 1; NaN where neither image has the structure.
        hd95_mm: NaN where neither image has it; the diagonal of the field of view where only one has it.
        missing: the true CT has it, the synthetic one has not.
        invented: the synthetic CT has it, the true one has not.
    """

    dice: float
    hd95_mm: float
    missing: bool
    invented: bool


def structure_masks(hu: Image, within: Mask, spacing_mm: Spacing) -> dict[str, Mask]:
    """Bone (above 250 HU) and air (below -200 HU) within a region, and the body in the whole field of view."""
    low, high = SOFT_HU
    least = LEAST_ML * 1000 / float(np.prod(spacing_mm))
    return {
        "bone": without_specks(within & (hu > high), least),
        "air": without_specks(within & (hu < low), least),
        "body": ct_body(hu),
    }


def without_specks(mask: Mask, least_voxels: float) -> Mask:
    """The mask less its connected parts (by faces) of fewer voxels."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= max(1.0, least_voxels))[labels]
    return kept


def dice(first: Mask, second: Mask) -> float:
    """Twice the common voxels over all voxels of both; NaN where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def hd95(first: Mask, second: Mask, spacing_mm: Spacing) -> float:
    """95th percentile of the distances in mm from surface to surface, the worse of the two directions.

    A surface is made of the voxels of a structure that touch its outside by a face; the image's rim is an outside.
    NaN where a structure is empty.
    """
    if not (first.any() and second.any()):
        return float("nan")
    one, other = (mask & ~ndimage.binary_erosion(mask) for mask in (first, second))
    return max(_reach(one, other, spacing_mm), _reach(other, one, spacing_mm))


def _reach(start: Mask, goal: Mask, spacing_mm: Spacing) -> float:
    distance_mm: NDArray[np.float64] = ndimage.distance_transform_edt(~goal, sampling=spacing_mm)
    return float(np.percentile(distance_mm[start], PERCENTILE))


def agreement(found: Mask, true: Mask, spacing_mm: Spacing) -> Agreement:
    """Compare a structure of the synthetic CT with that of the true one."""
    missing, invented = bool(true.any() and not found.any()), bool(found.any() and not true.any())
    if missing or invented:
        diagonal_mm = float(np.linalg.norm(np.multiply(true.shape, spacing_mm)))
        return Agreement(0.0, diagonal_mm, missing, invented)
    return Agreement(dice(found, true), hd95(found, true, spacing_mm), missing, invented)


def agreements(hu: Image, truth: Image, body: Mask, spacing_mm: Spacing) -> dict[str, Agreement]:
    """Agreement of bone and air within the common body, and of the body itself."""
    found, true = structure_masks(hu, body, spacing_mm), structure_masks(truth, body, spacing_mm)
    return {name: agreement(found[name], true[name], spacing_mm) for name in STRUCTURES}
