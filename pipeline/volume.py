"""Series -> volume, the axial grid for the CT, and the one resampling between two grids.

All affines are LPS, mm, float64, and map (slice, row, column) indices to voxel centres: columns of the 3 x 3 part are
the slice, row and column steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from pipeline.choice import UNAMBIGUOUS, Choice
from pipeline.frame import Frame
from pipeline.instance import Instance
from pipeline.pixels import mr_values, stored_values
from pipeline.series import Series, regular_stack
from pipeline.stack import TOLERANCES, Tolerances

SAME_GRID_TOLERANCE_MM = 1e-4
"""No voxel centre of two grids that count as the same lies farther apart: the error allowed in a CT's positions."""

ROUNDED_MM = 1e-4
"""Spacings and origins of a grid made new are multiples of this, so that DS writes them exactly (PS3.5 6.2)."""


@dataclass(frozen=True)
class Axis:
    """Voxels along one of the patient's axes: centre of the first, distance between two, number."""

    first_mm: float
    spacing_mm: float
    size: int


Interpolation = Literal["linear", "nearest", "cubic"]

INTERPOLATORS = {
    "linear": SimpleITK.sitkLinear,
    "nearest": SimpleITK.sitkNearestNeighbor,
    "cubic": SimpleITK.sitkBSpline,
}


def read_volume(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Volume:
    """Read the one regular volume that `series` is, or that `choice` takes of it.

    Float32 MR values, slices along row x column cosines.
    Raises Unsuitable for whatever is no single regular volume of readable MR images.
    """
    stack = regular_stack(series, choice, tolerances)
    array = np.empty(stack.geometry.spatial_shape, np.float32)
    of_instance: dict[Instance, list[tuple[int, Frame]]] = defaultdict(list)
    for index, frame in enumerate(stack.frames):
        of_instance[frame.instance].append((index, frame))
    for instance, frames in of_instance.items():
        stored = stored_values(instance)
        for index, frame in frames:
            array[index] = mr_values(stored[frame.number], frame)
    return stack.geometry.with_array(array)


def axial_geometry(geometry: VolumeGeometry | Volume) -> VolumeGeometry:
    """Return the axial grid for the CT of `geometry`: 1\\0\\0\\0\\1\\0, slices inferior to superior, square pixels.

    The grid covers every voxel of the source, edges included. Each axis of a source that lies along the patient's
    axes is kept plane for plane where its spacing fits: all three when the axial pixels are square, so that the CT is
    the source flipped and permuted. New pixels take the finer of the source's two most axial spacings, new slices
    the spacing of its axis nearest the patient's long axis.
    """
    upright = _geometry(geometry).to_patient_orientation("HPL")
    between_slices, *in_plane = upright.spacing
    wanted = (between_slices, min(in_plane), min(in_plane))
    kept = _axial_grid([_kept(upright, axis, mm) for axis, mm in enumerate(wanted)], upright.frame_of_reference_uid)
    if _largest_difference_mm(kept, upright) <= SAME_GRID_TOLERANCE_MM:
        return kept
    if not _along_axes(upright):
        wanted = (_rounded(wanted[0]), _rounded(wanted[1]), _rounded(wanted[2]))
    low, high = _edges_mm(upright)
    axes = [
        _kept(upright, axis, mm) if _fits(upright, axis, mm) else _covering(low[axis], high[axis], mm)
        for axis, mm in enumerate(wanted)
    ]
    return _axial_grid(axes, upright.frame_of_reference_uid)


def resample(volume: Volume, geometry: VolumeGeometry, fill: float, interpolation: Interpolation = "linear") -> Volume:
    """Return `volume` on the grid `geometry` (LPS, mm), `fill` where it has no voxel; the dtype is kept.

    When the two grids are the same up to flips and permutations the values are copied, not interpolated.
    """
    copied = _copied(volume, geometry)
    if copied is not None:
        return copied
    reference = geometry.with_array(np.zeros(geometry.spatial_shape, np.uint8))
    moved = SimpleITK.Resample(
        volume.to_simpleitk(),
        referenceImage=reference.to_simpleitk(),
        interpolator=INTERPOLATORS[interpolation],
        defaultPixelValue=fill,
    )
    array = np.ascontiguousarray(SimpleITK.GetArrayViewFromImage(moved).transpose(2, 1, 0))
    return _with_frame_of_reference(geometry, volume).with_array(array.astype(volume.dtype, copy=False))


def _copied(volume: Volume, geometry: VolumeGeometry) -> Volume | None:
    """Return `volume` flipped and permuted onto `geometry`, or None when that grid needs interpolation."""
    axes = np.abs(geometry.direction.T @ volume.direction).argmax(axis=1)  # of the volume, for each of the geometry's
    if len(set(axes.tolist())) < 3:
        return None
    turned = volume.permute_spatial_axes(axes.tolist())
    cosines = np.sum(geometry.direction * turned.direction, axis=0)
    turned = turned.flip_spatial([axis for axis in range(3) if cosines[axis] < 0])
    if _largest_difference_mm(turned, geometry) > SAME_GRID_TOLERANCE_MM:
        return None
    return _with_frame_of_reference(geometry, volume).with_array(np.ascontiguousarray(turned.array))


def _with_frame_of_reference(geometry: VolumeGeometry, volume: Volume) -> VolumeGeometry:
    """Return the grid of `geometry` in the frame of reference of `volume`."""
    uid = volume.frame_of_reference_uid
    return VolumeGeometry(geometry.affine, geometry.spatial_shape, "PATIENT", frame_of_reference_uid=uid)


def _geometry(volume: VolumeGeometry | Volume) -> VolumeGeometry:
    return volume.get_geometry() if isinstance(volume, Volume) else volume


def _along_axes(upright: VolumeGeometry) -> bool:
    """Whether the axes of `upright` run along z, y and x: turned onto them, no voxel moves more than the tolerance."""
    axes = [_kept(upright, axis, mm) for axis, mm in enumerate(upright.spacing)]
    return _largest_difference_mm(_axial_grid(axes, None), upright) <= SAME_GRID_TOLERANCE_MM


def _fits(upright: VolumeGeometry, axis: int, spacing_mm: float) -> bool:
    """Whether the planes of `upright` along an axis may stay where they are, at this spacing.

    They may when only the index along that axis moves a voxel along the patient's axis (z, y, x: axes 0, 1, 2).
    """
    moves_mm = np.abs(upright.affine[2 - axis, :3]) * (np.array(upright.spatial_shape) - 1)
    wanted_mm = spacing_mm * (upright.spatial_shape[axis] - 1)
    off_mm = abs(moves_mm[axis] - wanted_mm) / 2 + np.delete(moves_mm, axis).sum()
    return bool(off_mm <= SAME_GRID_TOLERANCE_MM)


def _kept(upright: VolumeGeometry, axis: int, spacing_mm: float) -> Axis:
    """Return as many voxels as `upright` has along an axis, about the same centre (z, y, x: axes 0, 1, 2)."""
    size = upright.spatial_shape[axis]
    return Axis(float(upright.center_position[2 - axis]) - spacing_mm * (size - 1) / 2, spacing_mm, size)


def _covering(low_mm: float, high_mm: float, spacing_mm: float) -> Axis:
    """Return voxels from `low_mm` to `high_mm`, edge to edge, centred, the first at a multiple of `ROUNDED_MM`."""
    size = int(np.ceil((high_mm - low_mm + 2 * ROUNDED_MM) / spacing_mm))
    first = (low_mm + high_mm - spacing_mm * (size - 1)) / 2
    return Axis(float(np.floor(first / ROUNDED_MM) * ROUNDED_MM), spacing_mm, size)


def _rounded(spacing_mm: float) -> float:
    return max(round(spacing_mm / ROUNDED_MM), 1) * ROUNDED_MM


def _edges_mm(geometry: VolumeGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest z, y, x of the outer edges of the corner voxels."""
    ends = [(-0.5, n - 0.5) for n in geometry.spatial_shape]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    points = (geometry.affine[:3, :3] @ corners + geometry.affine[:3, 3:])[::-1]
    return points.min(axis=1), points.max(axis=1)


def _axial_grid(axes: Sequence[Axis], frame_of_reference_uid: str | None) -> VolumeGeometry:
    """Return the grid of three axes along z, y and x (LPS): slices to superior, rows to posterior, columns to left."""
    affine = np.eye(4)[:, [2, 1, 0, 3]]
    affine[:3, :3] *= [axis.spacing_mm for axis in axes]
    affine[:3, 3] = [axis.first_mm for axis in reversed(axes)]
    shape = [axis.size for axis in axes]
    return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=frame_of_reference_uid)


def _largest_difference_mm(a: VolumeGeometry | Volume, b: VolumeGeometry | Volume) -> float:
    """Return the largest distance between voxel centres of equal index; infinite when the shapes differ."""
    if tuple(a.spatial_shape) != tuple(b.spatial_shape):
        return float("inf")
    ends = [(0, n - 1) for n in a.spatial_shape]
    corners = np.vstack([np.array(np.meshgrid(*ends)).reshape(3, -1), np.ones(8)])
    return float(np.linalg.norm(((a.affine - b.affine) @ corners)[:3], axis=0).max())
