"""Volumes read: the stack of a DICOM series, and NIfTI files; and written, as NIfTI.

Arrays are (slice, row, column), grids LPS in mm. A NIfTI file holds RAS; the conversion is SimpleITK's.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
from highdicom import Volume

from pipeline.durable_files import move_into_place
from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame
from pipeline.series.instance import Instance
from pipeline.series.series import Series, regular_stack
from pipeline.series.stack import TOLERANCES, Stack, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.pixels import decode_stored_values, mr_values

UNCERTAINTY: Final = "uncertainty.nii.gz"
"""File beside the CT: for each voxel the SD of the error to be expected, in HU, where the model can state it."""


def read_volume(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Volume:
    """Read the one regular volume that `series` is, or that `choice` takes of it.

    Raises:
        Unsuitable: the series is not one regular volume of readable MR images.
    """
    return read_stack(regular_stack(series, choice, tolerances))


def read_stack(stack: Stack) -> Volume:
    """Read the pixels of a stack: float32 MR values, slices along row x column cosines, LPS mm.

    Raises:
        Unsuitable: UNREADABLE or BAD_RESCALE.
    """
    array = np.empty(stack.geometry.spatial_shape, np.float32)
    of_instance: dict[Instance, list[tuple[int, Frame]]] = defaultdict(list)
    for index, frame in enumerate(stack.frames):
        of_instance[frame.instance].append((index, frame))
    for instance, frames in of_instance.items():
        stored = decode_stored_values(instance)
        for index, frame in frames:
            array[index] = mr_values(stored[frame.number], frame)
    return stack.geometry.with_array(array)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI image as a float32 volume in LPS mm, axes (slice, row, column) of the file.

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


def write_uncertainty(sd: Volume | None, folder: Path) -> None:
    """Write the SD of the error to be expected, rounded to 1 HU, as `UNCERTAINTY`; without SD there is no file.

    Raises:
        OSError: the file cannot be written.
    """
    if sd is not None:
        write_nifti(sd.with_array(np.rint(sd.array).astype(np.int16)), folder / UNCERTAINTY)


def write_nifti(volume: Volume, out_path: Path) -> None:
    """Write a volume as a NIfTI file, whole or not at all.

    Raises:
        OSError: the file cannot be written, or its name does not end as that of a NIfTI file.
    """
    part = out_path.with_name(f".part-{out_path.name}")
    try:
        SimpleITK.WriteImage(volume.to_simpleitk(), str(part))
        move_into_place(part, out_path)
    except RuntimeError as error:
        raise OSError(f"{out_path.name} cannot be written as NIfTI; its name should end in .nii.gz") from error
    finally:
        part.unlink(missing_ok=True)
