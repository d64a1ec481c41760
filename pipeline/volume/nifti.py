"""NIfTI files: volumes in LPS mm here, RAS in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import SimpleITK
from highdicom import Volume

from pipeline.errors import Unsuitable

UNCERTAINTY: Final = "uncertainty.nii.gz"
"""Beside the CT: the SD of the error to be expected of each voxel, in HU, where the model can say."""


def write_nifti(volume: Volume, out_path: Path) -> None:
    """A volume as a NIfTI file, there whole or not at all. Raises OSError."""
    part = out_path.with_name(f".part-{out_path.name}")
    try:
        SimpleITK.WriteImage(volume.to_simpleitk(), str(part))
        part.replace(out_path)
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
