"""Image similarity in the definitions of the SynthRAD challenges. Axes (slice, row, column), HU."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from models.body import Mask

Image = NDArray[np.floating]

RANGE_2023: Final = (-1024.0, 3000.0)
"""Dynamic range of SynthRAD2023 and of the paper."""
SOFT_HU: Final = (-200.0, 250.0)
"""Soft tissue lies between these, bone above the upper one, air below the lower, in the true CT."""


def mae(hu: Image, truth: Image, mask: Mask) -> float:
    """Mean absolute error in HU, unclipped, over the mask; NaN where the mask is empty."""
    return float(np.abs(hu[mask] - truth[mask]).mean()) if mask.any() else float("nan")


def bias(hu: Image, truth: Image, mask: Mask) -> float:
    """Mean signed error in HU over the mask; NaN where the mask is empty."""
    return float((hu[mask] - truth[mask]).mean()) if mask.any() else float("nan")


def psnr(hu: Image, truth: Image, mask: Mask, hu_range: tuple[float, float] = RANGE_2023) -> float:
    """Peak signal to noise ratio in dB: clipped to the range, over the mask, the peak its width."""
    error = np.clip(hu[mask], *hu_range) - np.clip(truth[mask], *hu_range)
    mean_square = float(np.square(error, dtype=np.float64).mean())
    width = hu_range[1] - hu_range[0]
    return float(10 * np.log10(width**2 / mean_square)) if mean_square > 0 else float("inf")


def ssim(hu: Image, truth: Image, mask: Mask, hu_range: tuple[float, float] = RANGE_2023) -> float:
    """SSIM of SynthRAD2023: clipped, the lowest HU outside the mask, shifted to 0, window 7^3, rim cut, mask mean."""
    low, high = hu_range
    first, second = (np.where(mask, np.clip(image, low, high), low) - low for image in (hu, truth))
    _, full = structural_similarity(first, second, data_range=high - low, full=True)
    inner = (slice(3, -3),) * 3
    return float(full[inner][mask[inner]].mean())


def score(hu: Image, truth: Image, body: Mask) -> dict[str, float]:
    """All measures of one patient in the body: overall, and by tissue of the true CT."""
    low, high = SOFT_HU
    tissues = {
        "air": body & (truth < low),
        "soft": body & (truth >= low) & (truth <= high),
        "bone": body & (truth > high),
    }
    scores = {"mae": mae(hu, truth, body), "psnr": psnr(hu, truth, body), "ssim": ssim(hu, truth, body)}
    for tissue, mask in tissues.items():
        scores[f"mae_{tissue}"] = mae(hu, truth, mask)
        scores[f"bias_{tissue}"] = bias(hu, truth, mask)
    return scores
