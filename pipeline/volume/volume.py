"""Series -> volume, and the one resampling between two grids.

All affines are LPS, mm, float64, and map (slice, row, column) indices to voxel centres: columns of the 3 x 3 part are
the slice, row and column steps.

NIfTI files: volumes in LPS mm here, RAS in the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import SimpleITK
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from pipeline.durable_files import move_into_place
from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame
from pipeline.series.instance import Instance
from pipeline.series.series import Series, regular_stack
from pipeline.series.stack import TOLERANCES, Stack, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.ct_grid import same_lattice
from pipeline.volume.pixels import mr_values, stored_values

Grid = TypeVar("Grid", Volume, VolumeGeometry)
Interpolation = Literal["linear", "nearest", "cubic"]

INTERPOLATORS = {
    "linear": SimpleITK.sitkLinear,
    "nearest": SimpleITK.sitkNearestNeighbor,
    "cubic": SimpleITK.sitkBSpline,
}


def read_volume(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Volume:
    """Read the one regular volume that `series` is, or that `choice` takes of it.

    Raises Unsuitable for whatever is no single regular volume of readable MR images.
    """
    return read_stack(regular_stack(series, choice, tolerances))


def read_stack(stack: Stack) -> Volume:
    """Read the pixels of a stack: float32 MR values, slices along row x column cosines, LPS mm.

    Raises Unsuitable UNREADABLE or BAD_RESCALE.
    """
    array = np.empty(stack.geometry.spatial_shape, np.float32)
    of_instance: dict[Instance, list[tuple[int, Frame]]] = defaultdict(list)
    for index, frame in enumerate(stack.frames):
        of_instance[frame.instance].append((index, frame))
    for instance, frames in of_instance.items():
        stored = stored_values(instance)
        for index, frame in frames:
            array[index] = mr_values(stored[frame.number], frame)
    return stack.geometry.with_array(array)


def resample(volume: Volume, geometry: VolumeGeometry, fill: float, interpolation: Interpolation = "linear") -> Volume:
    """Return `volume` on the grid `geometry` (LPS, mm), `fill` where it has no voxel; the dtype is kept.

    When the voxels of `geometry` coincide with some of `volume` the values are copied, not interpolated.
    """
    copied = _copied(volume, geometry, fill)
    if copied is not None:
        return copied
    reference = geometry.with_array(np.zeros(geometry.spatial_shape, np.uint8))
    moved = SimpleITK.Resample(
        volume.to_simpleitk(),
        referenceImage=reference.to_simpleitk(),
        interpolator=INTERPOLATORS[interpolation],
        defaultPixelValue=fill,
    )
    view = SimpleITK.GetArrayViewFromImage(moved).transpose(2, 1, 0)
    array = np.array(view, volume.dtype, order="C")  # a copy always: the view's memory goes with `moved`
    return _with_frame_of_reference(geometry, volume).with_array(array)


def is_copied(source: VolumeGeometry, geometry: VolumeGeometry) -> bool:
    """Whether `resample` copies values from one grid to the other, flipped, permuted or cropped at most."""
    turned = _turned(source, geometry)
    return turned is not None and same_lattice(geometry, turned) is not None


def _copied(volume: Volume, geometry: VolumeGeometry, fill: float) -> Volume | None:
    """Return `volume` flipped, permuted and cropped onto `geometry`, or None when that grid needs interpolation."""
    turned = _turned(volume, geometry)
    offset = None if turned is None else same_lattice(geometry, turned.get_geometry())
    if turned is None or offset is None:
        return None
    array = _window(turned.array, offset.tolist(), geometry.spatial_shape, fill)
    return _with_frame_of_reference(geometry, volume).with_array(array)


def _turned(source: Grid, geometry: VolumeGeometry) -> Grid | None:
    """Return `source` with its axes flipped and permuted to be nearest those of `geometry`; None if two share one."""
    axes = np.abs(geometry.direction.T @ source.direction).argmax(axis=1)  # of the source, for each of the geometry's
    if len(set(axes.tolist())) < 3:
        return None
    turned = source.permute_spatial_axes(axes.tolist())
    cosines = np.sum(geometry.direction * turned.direction, axis=0)
    return turned.flip_spatial([axis for axis in range(3) if cosines[axis] < 0])


def _window(array: NDArray[Any], offset: Sequence[int], shape: Sequence[int], fill: float) -> NDArray[Any]:
    """The part of `array` from index `offset` on, of `shape`; `fill` where it has no voxel."""
    window = np.full(shape, fill, array.dtype)
    inside = [
        slice(max(-first, 0), max(min(size, whole - first), 0))
        for first, size, whole in zip(offset, shape, array.shape, strict=True)
    ]
    there = [slice(part.start + first, part.stop + first) for part, first in zip(inside, offset, strict=True)]
    if all(part.start < part.stop for part in inside):
        window[tuple(inside)] = array[tuple(there)]
    return window


def _with_frame_of_reference(geometry: VolumeGeometry, volume: Volume) -> VolumeGeometry:
    """Return the grid of `geometry` in the frame of reference of `volume`."""
    uid = volume.frame_of_reference_uid
    return VolumeGeometry(geometry.affine, geometry.spatial_shape, "PATIENT", frame_of_reference_uid=uid)


UNCERTAINTY: Final = "uncertainty.nii.gz"
"""Beside the CT: the SD of the error to be expected of each voxel, in HU, where the model can say."""


def write_nifti(volume: Volume, out_path: Path) -> None:
    """A volume as a NIfTI file, there whole or not at all. Raises OSError."""
    part = out_path.with_name(f".part-{out_path.name}")
    try:
        SimpleITK.WriteImage(volume.to_simpleitk(), str(part))
        move_into_place(part, out_path)
    except RuntimeError as error:
        raise OSError(f"{out_path.name} cannot be written as NIfTI; its name should end in .nii.gz") from error
    finally:
        part.unlink(missing_ok=True)


def read_nifti(path: Path) -> Volume:
    """A NIfTI image as a volume in LPS mm, float32, axes (slice, row, column) of the file.

    Raises:
        Unsuitable: UNREADABLE.
    """
    try:
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    except RuntimeError as error:
        raise Unsuitable.of("UNREADABLE", name=path.name, detail="it is no image that SimpleITK reads") from error
    if image.GetDimension() != 3:
        detail = f"it has {image.GetDimension()} dimensions; 3 are needed"
        raise Unsuitable.of("UNREADABLE", name=path.name, detail=detail)
    return Volume.from_simpleitk(image, coordinate_system="PATIENT")
