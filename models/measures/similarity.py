"""Image similarity in the definitions of the SynthRAD challenges. Axes (slice, row, column), HU."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from models.data.body import Mask

Image = NDArray[np.floating]
Scalar = TypeVar("Scalar", bound=np.generic)

RANGE_2023: Final = (-1024.0, 3000.0)
"""Dynamic range of SynthRAD2023 and of the paper."""
RANGE_2025: Final = (-1024.0, 3071.0)
"""Dynamic range of SynthRAD2025."""
SOFT_HU: Final = (-200.0, 250.0)
"""Soft tissue lies between these, bone above the upper one, air below the lower, in the true CT."""
LUNG_HU: Final = (-900.0, -500.0)
"""Lung lies between these; it is a part of `air`."""
FAT_HU: Final = (-200.0, -30.0)
"""Fat lies between these; it is a part of `soft`."""
TISSUES: Final = ("air", "lung", "fat", "soft", "bone")
"""Tissues by HU of the true CT. Air, soft and bone divide the body; lung and fat are parts of air and of soft."""

K1: Final = 0.01
K2: Final = 0.03
WINDOW: Final = 7
"""Side of SSIM's uniform window in voxels."""
LEVEL_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""MS-SSIM's exponent of each level, the finest first (Wang et al. 2003, section 3.2)."""
LEAST_SIDE: Final = 97
"""Smallest side in voxels that leaves a voxel at the last of five levels once the rim is cut."""


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


def ms_ssim(hu: Image, truth: Image, mask: Mask, hu_range: tuple[float, float] = RANGE_2025) -> float:
    """MS-SSIM of SynthRAD2025 in the mask; NaN where the mask leaves no voxel at a level.

    Clipped, the lowest HU outside the mask, shifted to 0, padded by its edge to at least 97 voxels a side. At each of
    five levels: luminance, contrast and structure, each to the level's exponent voxel by voxel, their product's mean
    in the mask less a rim of 3. The product of the five means.
    """
    low, high = hu_range
    first, second = (
        _padded(np.where(mask, np.clip(image, low, high), low).astype(np.float64) - low) for image in (hu, truth)
    )
    inside = _padded(mask)
    product, rim = 1.0, (slice(WINDOW // 2, -(WINDOW // 2)),) * 3
    for weight in LEVEL_WEIGHTS:
        luminance, contrast, structure = similarity(first, second, high - low)
        chosen = inside[rim]
        if not chosen.any():
            return float("nan")
        product *= float(((luminance * contrast * structure)[rim][chosen] ** weight).mean())
        first, second, inside = halved(first), halved(second), inside[::2, ::2, ::2]
    return product


def _padded(image: NDArray[Scalar]) -> NDArray[Scalar]:
    missing = [max(LEAST_SIDE - length, 0) for length in image.shape]
    return np.pad(image, [(short // 2, short - short // 2) for short in missing], mode="edge")


def halved(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every second voxel of the mean over 2^3 voxels: each and those before it, 0 before the first."""
    mean: NDArray[np.float64] = ndimage.uniform_filter(image, 2, mode="constant")
    return mean[::2, ::2, ::2]


def similarity(
    first: NDArray[np.float64], second: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Luminance, contrast and structure of SSIM as maps, none below 0 (Wang et al. 2003, equations 1 to 3).

    Uniform window of 7^3 voxels, sample covariance; `width` is that of the dynamic range.
    """
    c1, c2 = (K1 * width) ** 2, (K2 * width) ** 2
    count = WINDOW**first.ndim

    def mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.uniform_filter(image, WINDOW))

    mu_x, mu_y = mean(first), mean(second)
    var_x, var_y, cov = (
        (mean(one * other) - mu * nu) * count / (count - 1)
        for one, other, mu, nu in (
            (first, first, mu_x, mu_x),
            (second, second, mu_y, mu_y),
            (first, second, mu_x, mu_y),
        )
    )
    deviations = np.sqrt(np.maximum(var_x, 0) * np.maximum(var_y, 0))
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    contrast = (2 * deviations + c2) / (var_x + var_y + c2)
    structure = (cov + c2 / 2) / (deviations + c2 / 2)
    return np.maximum(luminance, 0), np.maximum(contrast, 0), np.maximum(structure, 0)


def tissue_masks(truth: Image, body: Mask) -> dict[str, Mask]:
    """Voxels of each tissue of `TISSUES` in the body, by HU of the true CT."""
    low, high = SOFT_HU
    return {
        "air": body & (truth < low),
        "lung": body & (truth >= LUNG_HU[0]) & (truth < LUNG_HU[1]),
        "fat": body & (truth >= FAT_HU[0]) & (truth < FAT_HU[1]),
        "soft": body & (truth >= low) & (truth <= high),
        "bone": body & (truth > high),
    }


def score(hu: Image, truth: Image, body: Mask) -> dict[str, float]:
    """All measures of one patient in the body but MS-SSIM: overall, and by tissue of the true CT."""
    scores = {"mae": mae(hu, truth, body), "psnr": psnr(hu, truth, body), "ssim": ssim(hu, truth, body)}
    for tissue, mask in tissue_masks(truth, body).items():
        scores[f"mae_{tissue}"] = mae(hu, truth, mask)
        scores[f"bias_{tissue}"] = bias(hu, truth, mask)
    return scores


Hu = NDArray[np.float32]
