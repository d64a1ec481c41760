"""Gates of arithmetic: how far the HU may move when the precision changes, or when an image is seen in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.inference.verify import limb
from models.inference.weights import Model

MEAN_HU: Final = 2.0
"""Largest mean of the differences in the body."""
TAIL_HU: Final = 20.0
"""Largest 99.9th percentile of them."""
TAIL_PERCENT: Final = 99.9


@dataclass(frozen=True)
class Apart:
    """How far two computations of one synthetic CT lie apart, in HU: mean and 99.9th percentile of |difference|."""

    mean: float
    tail: float

    @property
    def passes(self) -> bool:
        """Whether both are within their limits."""
        return self.mean <= MEAN_HU and self.tail <= TAIL_HU


def apart(first: NDArray[np.float32], second: NDArray[np.float32]) -> Apart:
    """Of the voxels of two arrays of one shape."""
    difference = np.abs(first - second)
    return Apart(float(difference.mean()), float(np.percentile(difference, TAIL_PERCENT)))


def bfloat16_apart(model: Model) -> Apart:
    """Prediction under bfloat16 autocast against float32, in the body of `verify`'s limb."""
    mr = limb()
    exact = model.predict(mr, 0)
    with torch.autocast(model.device.type, torch.bfloat16):
        rough = model.predict(mr, 0)
    return apart(rough.hu[exact.body], exact.hu[exact.body])
