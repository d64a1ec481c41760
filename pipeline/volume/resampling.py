"""The one resampling between two grids: values are copied where the voxels coincide, interpolated elsewhere.

All affines are LPS, mm, float64, and map (slice, row, column) indices to voxel centres: the columns of the 3 x 3 part
are the steps from slice to slice, row to row and column to column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK
from highdicom import Volume, VolumeGeometry

from pipeline.volume.ct_grid import SAME_GRID_TOLERANCE_MM

Interpolation = Literal["linear", "nearest", "cubic"]

INTERPOLATORS = {
    "linear": SimpleITK.sitkLinear,
    "nearest": SimpleITK.sitkNearestNeighbor,
    "cubic": SimpleITK.sitkBSpline,
}


@dataclass(frozen=True)
class VoxelCopy:
    """How voxels are copied from one grid to another.

    Attributes:
        axes: the axis of the source for each axis of the target.
        flipped: the axes of the target along which the source runs backwards.
        offset: index, in the source so turned, of the target's first voxel; negative where the target begins before.
    """

    axes: tuple[int, ...]
    flipped: tuple[int, ...]
    offset: tuple[int, ...]


@dataclass(frozen=True)
class Resampling:
    """The way from one grid to another, found once for every volume on the first.

    Attributes:
        target: the grid of the result, LPS mm.
        copy: how voxels are copied, or None where values are interpolated.
    """

    target: VolumeGeometry
    copy: VoxelCopy | None

    @classmethod
    def between(cls, source: VolumeGeometry, target: VolumeGeometry) -> Resampling:
        """Return the way from `source` to `target`.

        Voxels are copied when all of `target`, as far as `source` reaches, coincide with voxels of `source` that is
        flipped, permuted and cropped at most.
        """
        axes = np.abs(target.direction.T @ source.direction).argmax(axis=1).tolist()
        if len(set(axes)) < 3:
            return cls(target, None)
        turned = source.permute_spatial_axes(axes)
        cosines = np.sum(target.direction * turned.direction, axis=0)
        flipped = [axis for axis in range(3) if cosines[axis] < 0]
        turned = turned.flip_spatial(flipped)
        offset = np.rint((turned.inverse_affine @ target.affine)[:3, 3]).astype(int)
        affine = turned.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ offset
        ends = [(0, size - 1) for size in target.spatial_shape]
        corners = np.vstack([np.array(np.meshgrid(*ends)).reshape(3, -1), np.ones(8)])
        apart_mm = np.linalg.norm(((affine - target.affine) @ corners)[:3], axis=0).max()
        same = apart_mm <= SAME_GRID_TOLERANCE_MM
        return cls(target, VoxelCopy(tuple(axes), tuple(flipped), tuple(offset.tolist())) if same else None)

    def apply(self, volume: Volume, fill: float, interpolation: Interpolation = "linear") -> Volume:
        """Return a volume of the source's grid on the target, `fill` where it has no voxel.

        The dtype is kept; the result lies in the frame of reference of `volume` (PS3.3 C.7.4.1).
        """
        shape, uid = self.target.spatial_shape, volume.frame_of_reference_uid
        grid = VolumeGeometry(self.target.affine, shape, "PATIENT", frame_of_reference_uid=uid)
        if self.copy is None:
            moved = SimpleITK.Resample(
                volume.to_simpleitk(),
                referenceImage=grid.with_array(np.zeros(shape, np.uint8)).to_simpleitk(),
                interpolator=INTERPOLATORS[interpolation],
                defaultPixelValue=fill,
            )
            view = SimpleITK.GetArrayViewFromImage(moved).transpose(2, 1, 0)
            return grid.with_array(np.array(view, volume.dtype, order="C"))  # a copy: the view's memory goes with moved
        turned = np.flip(volume.array.transpose(self.copy.axes), self.copy.flipped)
        array = np.full(shape, fill, turned.dtype)
        inside = [
            slice(max(-first, 0), max(min(size, whole - first), 0))
            for first, size, whole in zip(self.copy.offset, shape, turned.shape, strict=True)
        ]
        there = [slice(part.start + n, part.stop + n) for part, n in zip(inside, self.copy.offset, strict=True)]
        if all(part.start < part.stop for part in inside):
            array[tuple(inside)] = turned[tuple(there)]
        return grid.with_array(array)


def resample(volume: Volume, geometry: VolumeGeometry, fill: float, interpolation: Interpolation = "linear") -> Volume:
    """Return `volume` on the grid `geometry` (LPS, mm), `fill` where it has no voxel; the dtype is kept.

    When the voxels of `geometry` coincide with some of `volume` the values are copied, not interpolated.
    """
    return Resampling.between(volume.get_geometry(), geometry).apply(volume, fill, interpolation)
