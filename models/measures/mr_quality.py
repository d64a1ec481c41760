"""Measures of an MR that distinguish a sound image from a damaged one. Free of torch.

Axes (slice, row, column) along +S, +P, +L. Values are relative to full signal (`void.full_signal`), so that a scanner's
unit has no meaning. A measure is NaN where the image has not what it needs, such as air around the body.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask, voids

Relative = NDArray[np.float32]
"""MR relative to full signal."""
Spacing = tuple[float, float, float]

INNER: Final = 2
"""Voxels by which the body is narrowed where its rim must not count."""
AROUND: Final = 4
"""Voxels around the body that do not count as air."""
LEAST_AIR: Final = 2000
"""Voxels of air without which there is none to look at."""
LEAST_VOXELS: Final = 100
"""Voxels of body without which nothing can be fitted to it."""
LEAST_SLICE: Final = 0.3
"""Slices with less body than this fraction of the fullest one's are left out: there the anatomy itself changes fast."""
SMOOTH: Final = 2.0
"""SD in pixels of the smoothing that leaves ghosts and takes noise."""
LEVELS: Final = tuple(range(5, 100, 5))
"""Per cents at which the distribution of the MR's values is described."""


def truncation(mr: Relative, body: Mask) -> float:
    """Per cent of the outline, in axial planes, on the edge of the field that holds signal."""
    signal = mr > 0
    rows, columns = (np.flatnonzero(signal.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if not body.any() or not rows.size:
        return float("nan")
    inside = body[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    at_edge = sum(int(side.sum()) for side in (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]))
    return 100.0 * at_edge / max(_perimeter(inside), 1)


def _perimeter(mask: Mask) -> int:
    """Faces between the mask and what is not of it, within axial planes."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return sum(int(np.diff(padded, axis=axis).sum()) for axis in (1, 2))


def signal_void(mr: Relative, body: Mask, spacing_mm: Spacing) -> float:
    """Volume in mL of the largest void."""
    labels, count = ndimage.label(voids(mr, body, spacing_mm))
    return float(np.bincount(labels.ravel())[1:].max() * np.prod(spacing_mm) / 1000) if count else 0.0


def bias_field(mr: Relative, body: Mask, spacing_mm: Spacing) -> float:
    """Per cent by which a smooth field's 95th percentile surpasses its 5th; fitted to the logarithm of the signal.

    The field is a polynomial of second order in the position, least squares.
    """
    inner = _inner(body) & (mr > 0.1)
    places = np.argwhere(inner)[:: max(1, int(inner.sum()) // 20_000)]
    if len(places) < LEAST_VOXELS:
        return float("nan")
    x, y, z = ((places - places.mean(axis=0)) * np.array(spacing_mm) / 100.0).T
    terms = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
    logarithm = np.log(mr[tuple(places.T)])
    field = terms @ np.linalg.lstsq(terms, logarithm, rcond=None)[0]
    low, high = np.percentile(field, [5, 95])
    return float(100.0 * (np.exp(high - low) - 1))


def noise(mr: Relative, body: Mask) -> float:
    """SD of the noise in per cent of full signal, from second differences in axial planes (Immerkaer 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    differences = ndimage.convolve(mr, kernel[None])[_inner(body)]
    return 100.0 * float(np.median(np.abs(differences))) / 0.6745 if differences.size else float("nan")


def ghosting(mr: Relative, body: Mask) -> float:
    """Per cent of full signal by which the brightest twentieth of the smoothed air surpasses its median."""
    air = ~ndimage.binary_dilation(body, np.ones((1, 3, 3), bool), iterations=AROUND)
    if int(air.sum()) < LEAST_AIR:
        return float("nan")
    smooth = ndimage.gaussian_filter(mr * air, (0, SMOOTH, SMOOTH))[air]
    middle, high = np.percentile(smooth, [50, 95])
    return 100.0 * float(high - middle)


def slice_jumps(mr: Relative, body: Mask) -> float:
    """Largest change in per cent of a slice's median signal in the body against the mean of its neighbours'."""
    medians = [np.median(mr[number][body[number]]) for number in _full_slices(body)]
    if len(medians) < 3 or min(medians) <= 0:
        return float("nan")
    logarithm = np.log(np.array(medians, np.float64))
    beyond = logarithm[1:-1] - (logarithm[:-2] + logarithm[2:]) / 2
    return float(100.0 * (np.exp(np.abs(beyond).max()) - 1))


def slice_shifts(mr: Relative, body: Mask, spacing_mm: Spacing) -> float:
    """90th percentile in mm of the shifts by which neighbouring slices agree best (the peak of their correlation)."""
    full = _full_slices(body)
    if len(full) < 3:
        return float("nan")
    mr = mr[full[0] : full[-1] + 1]
    planes = np.fft.rfft2(mr - mr.mean(axis=(1, 2), keepdims=True))
    found = np.fft.irfft2(planes[:-1] * np.conj(planes[1:]), s=mr.shape[1:])
    peaks = found.reshape(len(found), -1).argmax(axis=1)
    shifts = np.stack(np.unravel_index(peaks, mr.shape[1:]), axis=1)
    size = np.array(mr.shape[1:])
    signed = (shifts + size // 2) % size - size // 2
    return float(np.percentile(np.hypot(*(signed * np.array(spacing_mm[1:])).T), 90))


def quantiles(mr: Relative, body: Mask) -> tuple[float, ...]:
    """The distribution of the values in the body, by its quantiles at `LEVELS`; empty for an empty body."""
    return tuple(np.round(np.percentile(mr[body], LEVELS), 4).tolist()) if body.any() else ()


def mr_histogram(mr: Relative, body: Mask, reference: tuple[float, ...]) -> float:
    """Wasserstein distance in per cent of full signal between the distribution in the body and that of a reference.

    In one dimension it is the mean distance of the quantiles.
    """
    mine = quantiles(mr, body)
    return 100.0 * float(np.abs(np.subtract(mine, reference)).mean()) if mine else float("nan")


def _full_slices(body: Mask) -> NDArray[np.intp]:
    """Numbers of the slices that show enough of the body."""
    counts = body.sum(axis=(1, 2))
    return np.flatnonzero((counts > 0) & (counts >= LEAST_SLICE * counts.max()))


def _inner(body: Mask) -> Mask:
    return np.asarray(ndimage.binary_erosion(body, iterations=INNER))
