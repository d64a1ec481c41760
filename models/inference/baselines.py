"""Floors: what a synthetic CT reaches without any learning of shape. A model that does not beat them is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask

BINS: Final = 60
WATER_HU: Final = 0.0
SMOOTHING: Final = (0.7, 1.2, 1.2)
"""SD in voxels (slice, row, column) of what takes the noise off a CT."""


def all_water(body: Mask) -> NDArray[np.float32]:
    """Predict 0 HU everywhere."""
    return np.full(body.shape, WATER_HU, dtype=np.float32)


def moved(hu: NDArray[np.integer], spacing_mm: tuple[float, float, float], mm: float) -> NDArray[np.float32]:
    """The true CT without its noise, moved along the rows' axis.

    Not a floor that a model must beat, but what may be left of the error of a perfect one: noise of the CT it is
    compared with, and a registration that is wrong by so much.

    Args:
        hu: true CT, (S, R, C).
        spacing_mm: along the axes.
        mm: towards the last row; between voxels linear.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), SMOOTHING)
    there: NDArray[np.float32] = ndimage.shift(smooth, (0, mm / spacing_mm[1], 0), order=1, mode="nearest")
    return there


@dataclass(frozen=True)
class LookUpTable:
    """The median HU of each of 60 equal bins of the normalised MR."""

    hu: NDArray[np.float32]
    top: float

    def __call__(self, mr: NDArray[np.floating]) -> NDArray[np.float32]:
        """HU of a normalised MR, bin by bin."""
        values: NDArray[np.float32] = self.hu[_bins(mr, self.top)]
        return values


def _bins(mr: NDArray[np.floating], top: float) -> NDArray[np.intp]:
    return np.clip((mr.astype(np.float32) / top * BINS).astype(np.intp), 0, BINS - 1)


def learn_look_up_table(
    pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.integer], Mask]], top: float = 1.2
) -> LookUpTable:
    """Median HU by MR bin over the bodies of (normalised MR, HU, body); an empty bin takes its lower neighbour's HU."""
    bins = np.concatenate([_bins(mr[body], top) for mr, _, body in pairs])
    hu = np.concatenate([ct[body] for _, ct, body in pairs])
    medians = np.zeros(BINS, dtype=np.float32)
    for number in range(BINS):
        chosen = hu[bins == number]
        medians[number] = np.median(chosen) if chosen.size else medians[max(number - 1, 0)]
    return LookUpTable(medians, top)
