"""Body masks of an MR and of a CT. Axes are (slice, row, column) throughout.

Regions of the body that give no MR signal and are thicker than cortical bone: metal, gas, dense calcification.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

Mask = NDArray[np.bool_]

MR_FRACTION: Final = 0.15
"""The MR body lies above this fraction of the MR's 95th percentile."""
MR_CLOSING: Final = 2
"""Iterations of the closing that joins cortical bone and vessels to the body."""
OPEN_SLICES: Final = 12
"""So many slices in a row may have an outline that is open."""
PART_FRACTION: Final = 0.01
"""A part of the body (the other leg, an arm) has at least this fraction of the largest part's voxels."""
CT_BODY_HU: Final = -300.0
"""The CT body lies above this HU."""


def fill_slices(mask: Mask) -> Mask:
    """Fill the holes of each axial slice (first axis)."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def fill_open_slices(mask: Mask) -> Mask:
    """Fill what is enclosed in its coronal or in its sagittal plane, where few slices lie between body and body.

    A ring of skin that is open in an axial slice leaves its inside out; the slices above and below know better. The gap
    between two legs that touch stays, since it is longer than `OPEN_SLICES`.
    """
    coronal, sagittal = (np.moveaxis(fill_slices(np.moveaxis(mask, axis, 0)), 0, axis) for axis in (1, 2))
    between = ndimage.binary_closing(mask, np.ones((OPEN_SLICES + 1, 1, 1)))
    return np.asarray(mask | ((coronal | sagittal) & between))


def mr_body(mr: NDArray[np.floating] | NDArray[np.integer]) -> Mask:
    """Body of an MR: above 15 % of its 95th percentile, closed by 2 voxels, holes filled slice by slice."""
    above = mr > MR_FRACTION * np.percentile(mr, 95)
    padded = np.pad(above, MR_CLOSING)
    inner = (slice(MR_CLOSING, -MR_CLOSING),) * 3
    return fill_slices(ndimage.binary_closing(padded, iterations=MR_CLOSING)[inner])


def ct_body(hu: NDArray[np.floating] | NDArray[np.integer]) -> Mask:
    """Body of a CT: the largest component above -300 HU, holes filled slice by slice."""
    labels, count = ndimage.label(hu > CT_BODY_HU)
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return fill_slices(labels == int(sizes.argmax()))


def common_body(mr: NDArray[np.integer], hu: NDArray[np.integer]) -> Mask:
    """Voxels that belong to the body in both images, so that misregistered skin does not decide a score."""
    return mr_body(mr) & ct_body(hu)


def outline(mr: NDArray[np.floating]) -> Mask:
    """Body of any MR, whatever part of the field of view it fills: every part of at least 1 % of the largest one.

    The threshold is 15 % of the 95th percentile of the voxels above Otsu's, so that a small limb in a large field of
    view is found as well as a cropped one; noise in the air around it stays below. What a coil leaves dark in the
    depth belongs to the body, even where the ring around it is open in a slice.
    """
    if not np.ptp(mr) > 0:
        return np.zeros(mr.shape, dtype=bool)
    bright = mr[mr > threshold_otsu(mr)]
    above = mr > MR_FRACTION * np.percentile(bright, 95)
    padded = np.pad(above, MR_CLOSING, mode="edge")  # the body goes on beyond the first and the last slice
    inner = (slice(MR_CLOSING, -MR_CLOSING),) * 3
    filled = fill_open_slices(fill_slices(ndimage.binary_closing(padded, iterations=MR_CLOSING)[inner] | above))
    labels, _ = ndimage.label(filled)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    parts: Mask = (sizes >= max(1.0, PART_FRACTION * sizes.max()))[labels]
    return parts


FULL_SIGNAL_PERCENTILE: Final = 99.0
"""Percentile of the MR in the body that counts as full signal."""
DARK: Final = 0.08
"""Fraction of full signal below which a voxel gives none."""
DEPTH_MM: Final = 4.0
"""A void is somewhere deeper than this on all sides: cortical bone of a limb is seldom 8 mm thick."""


def full_signal(mr: NDArray[np.floating], body: Mask) -> float:
    """Return the value of full signal in the unit of the MR; 0 for an empty body."""
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
