"""Masks -> closed planar contours: exactly those voxels are inside whose centres the mask has.

The line runs half-way between the centres of voxels inside and outside, so that any reader that asks for each voxel's
centre gets the mask back. Holes have no contour of their own: a mask is filled, slice by slice, before it comes here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

Line = NDArray[np.float64]
"""Vertices (row, column) in voxels of a plane, the first not repeated at the end."""
HALF = 0.5
MOST_POINTS = 1600
"""Of one contour: three decimal strings each, together fewer than the 65534 bytes of a DS (PS3.5 7.1.2)."""


def outlines(mask: NDArray[np.bool_], most: int = MOST_POINTS) -> list[Line]:
    """The outlines of the parts of a plane's mask (rows, columns), which has no holes; corners only.

    Where one would have more than `most` points, the mask is cut in two, whose outlines lie side by side.
    """
    padded = np.pad(mask, 1).astype(np.float64)
    lines = [_corners(line[:-1] - 1) for line in find_contours(padded, HALF, fully_connected="low")]
    if all(len(line) <= most for line in lines):
        return lines
    first, second = _halves(mask)
    return outlines(first, most) + outlines(second, most)


def _halves(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A mask cut in two across its longer side."""
    indices = np.argwhere(mask)
    lowest, highest = indices.min(axis=0), indices.max(axis=0)
    axis = int(np.argmax(highest - lowest))
    first = np.indices(mask.shape)[axis] <= (lowest[axis] + highest[axis]) // 2
    return mask & first, mask & ~first


def _corners(line: Line) -> Line:
    """The vertices at which the line turns: coordinates are multiples of a half, so this is exact."""
    into = line - np.roll(line, 1, axis=0)
    out = np.roll(line, -1, axis=0) - line
    turns = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    return np.asarray(line[turns])
