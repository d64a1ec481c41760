"""Write MR, CT and uncertainty of a job for a viewer: NIfTI-1, gzip, at most `MOST_VOXELS` voxels.

A larger volume is thinned within its slices: every second (third, ...) pixel of rows and columns is kept at its own
place, and nothing is averaged. Files are read one at a time. A NIfTI file holds no text of the DICOM headers.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from highdicom import Volume
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame, frames_of
from pipeline.series.instance import Instance, read_instance
from pipeline.series.series import Series, regular_stack
from pipeline.series.stack import TOLERANCES, Stack, Tolerances, stack_of
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.pixels import Stored, decode_stored_values, mr_values

MOST_VOXELS: Final = 2**25
"""Voxels of a volume that is shown: 128 MiB here, a few times that in the browser."""

OWN: Final = Tolerances(min_slices=2, max_spacing_mm=100.0, max_extent_mm=10_000.0, max_voxels=2**34)
"""Tolerances for a CT that this node wrote: as wide as any that a site can configure for its MR series."""

LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient coordinates (PS3.3 C.7.6.2.1.1) to NIfTI's."""

LARGEST: Final = np.iinfo(np.int16).max

FAST: Final = 1
"""Level of gzip: processor time is scarcer than network."""


def step_of(shape: Sequence[int], most_voxels: int = MOST_VOXELS) -> int:
    """Return n when every n-th pixel of rows and columns of a volume (slices, rows, columns) is shown."""
    slices, rows, columns = shape
    step = 1
    while slices * math.ceil(rows / step) * math.ceil(columns / step) > most_voxels and step < max(rows, columns):
        step += 1
    return step


def mr_of(
    files: Iterable[Path],
    choice: Choice = UNAMBIGUOUS,
    tolerances: Tolerances = TOLERANCES,
    most_voxels: int = MOST_VOXELS,
) -> Volume:
    """Read the MR volume that a conversion of these files uses, float32, LPS mm, thinned.

    Raises Unsuitable when there is no single regular volume, OSError when a file does not exist.
    """
    series = Series.of([read_instance(path) for path in files])
    return _read(regular_stack(series, choice, tolerances), mr_values, most_voxels)


def ct_of(folder: Path, most_voxels: int = MOST_VOXELS) -> Volume:
    """Read the CT series of a folder, float32 HU, LPS mm, thinned.

    Raises Unsuitable when a file is damaged or missing in between.
    """
    frames = [frame for path in sorted(folder.glob("*.dcm")) for frame in frames_of(read_instance(path))]
    uid = None if not frames else str(frames[0].instance.header.FrameOfReferenceUID)
    return _read(stack_of(frames, uid, OWN), _hu, most_voxels)


def nifti(volume: Volume) -> bytes:
    """Write a volume as .nii.gz: int16, exact when all values are whole numbers, otherwise scaled to fill 15 bits.

    The fastest axis is the column, as in DICOM; qform and sform are the scanner's frame (code 1), in RAS mm.
    """
    largest = float(np.abs(volume.array).max(initial=0.0))
    whole = largest <= LARGEST and all(bool((plane == np.rint(plane)).all()) for plane in volume.array)
    slope = 1.0 if whole else largest / LARGEST
    values = np.empty(volume.array.shape, np.int16)
    for index, plane in enumerate(volume.array):
        values[index] = np.rint(plane / np.float32(slope))
    affine = LPS_TO_RAS @ volume.affine
    affine[:, :3] = affine[:, 2::-1]
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    image.header.set_slope_inter(slope, 0)
    return _zipped(image)


def uncertainty_nifti(path: Path, most_voxels: int = MOST_VOXELS) -> bytes:
    """Return a NIfTI file, thinned when it is too large, but not along its coarsest axis.

    Raises Unsuitable UNREADABLE, OSError when it does not exist.
    """
    try:
        image: Any = nibabel.load(path)
        coarsest = int(np.argmax(image.header.get_zooms()))
        step = step_of((image.shape[coarsest], *np.delete(image.shape, coarsest)), most_voxels)
        if step == 1:
            return path.read_bytes()
        steps = [1 if axis == coarsest else step for axis in range(3)]
        thinned = np.asarray(image.dataobj[tuple(slice(None, None, one) for one in steps)], np.float32)
        return _zipped(nibabel.Nifti1Image(thinned, image.affine @ np.diag([*steps, 1])))
    except (ImageFileError, ValueError, EOFError) as error:
        raise Unsuitable.of("UNREADABLE", name=path.name, detail="it is no NIfTI image") from error


def _read(stack: Stack, values_of: Any, most_voxels: int) -> Volume:
    """Read the pixels of a stack, float32, thinned; the files are read one after the other."""
    slices, rows, columns = stack.geometry.spatial_shape
    step = step_of((slices, rows, columns), most_voxels)
    array = np.empty((slices, math.ceil(rows / step), math.ceil(columns / step)), np.float32)
    read: tuple[Instance, Stored] | None = None
    for index, frame in enumerate(stack.frames):
        if read is None or read[0] is not frame.instance:
            read = frame.instance, decode_stored_values(frame.instance)
        array[index] = values_of(read[1][frame.number], frame)[::step, ::step]
    affine = stack.geometry.affine @ np.diag([1, step, step, 1])
    return Volume(array, affine, "PATIENT", frame_of_reference_uid=stack.geometry.frame_of_reference_uid)


def _hu(stored: Stored, frame: Frame) -> NDArray[np.float32]:
    """Rescale stored values of a slice that the node wrote to HU (PS3.3 C.11.1.1.2)."""
    return (stored * np.float64(frame.slope) + np.float64(frame.intercept)).astype(np.float32)


def _zipped(image: nibabel.Nifti1Image) -> bytes:
    """Encode an image as .nii.gz: mm, seconds, scanner's coordinates."""
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    written = io.BytesIO()
    with gzip.GzipFile(fileobj=written, mode="wb", compresslevel=FAST, mtime=0) as file:
        image.to_stream(file)
    return written.getvalue()
