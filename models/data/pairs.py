"""Registered MR and CT of the same patients, as the networks see them.

Axes (slice, row, column), along +S, +P, +L in mm: LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask, ct_body, mr_body
from models.data.intensity import AIR_HU, normalise_mr, to_unit

MARGIN: Final = 3
"""Voxels around the CT body in which the CT is kept; beyond lies the couch, which becomes air."""
SKIN_WEIGHT: Final = 0.2
"""Weight of voxels that are not in the body of both images: misregistered skin, air around it."""
UNKNOWN_HU: Final = -2048
"""Of a voxel where no CT lies, in a CT that was moved onto the MR's grid: unknown, not air."""
MIXED: Final = 0.999
"""Share of known CT below which an interpolated voxel is unknown."""


class BadPair(ValueError):
    """A training pair cannot be used; names the file and the reason."""


@dataclass(frozen=True)
class Pair:
    """One patient.

    Attributes:
        name: the patient's name in the data set.
        mr: normalised MR (0 no signal, 1 the body's 99th percentile), float16.
        hu: CT in HU, clipped to the model's range, air beyond the body, int16.
        body: the common body, in which scores are taken.
        spacing_mm: (slice, row, column).
        known: where a CT lies; elsewhere `hu` is air and no loss counts. None where it lies everywhere.
    """

    name: str
    mr: NDArray[np.float16]
    hu: NDArray[np.int16]
    body: Mask
    spacing_mm: tuple[float, float, float]
    known: Mask | None = None


def read_image(path: Path) -> SimpleITK.Image:
    """An image of any format that SimpleITK reads, its axes along +L, +P, +S.

    Raises:
        BadPair: the file cannot be read, or its axes are not those of the patient.
    """
    try:
        image: SimpleITK.Image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    except RuntimeError as error:
        raise BadPair(f"{path.name}: cannot be read as an image") from error
    if not np.allclose(np.array(image.GetDirection()).reshape(3, 3), np.eye(3), atol=1e-3):
        raise BadPair(f"{path.name}: its axes are oblique; training pairs lie along the patient's axes")
    return image


def values_of(image: SimpleITK.Image) -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    """Array (slice, row, column) along +S, +P, +L, and its spacing in mm."""
    column, row, step = image.GetSpacing()
    return SimpleITK.GetArrayFromImage(image), (step, row, column)


def read_nifti(path: Path) -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    """Array (slice, row, column) along +S, +P, +L of an image file, and its spacing in mm.

    Raises:
        BadPair: the file cannot be read, or its axes are not those of the patient.
    """
    return values_of(read_image(path))


def make_pair(
    name: str,
    mr: NDArray[np.int16],
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    hu_range: tuple[float, float],
    body: Mask | None = None,
) -> Pair:
    """Normalise an MR and clean a CT of equal shape.

    Args:
        name: of the patient.
        mr: in the scanner's unit.
        hu: CT; `UNKNOWN_HU` where none lies.
        spacing_mm: (slice, row, column).
        hu_range: to which the CT is clipped.
        body: the body's outline where the data set says it; else both images are asked.

    Raises:
        BadPair: the shapes differ.
    """
    if mr.shape != hu.shape or (body is not None and body.shape != hu.shape):
        raise BadPair(f"{name}: MR of {mr.shape} voxels, CT of {hu.shape}; a mask must have as many")
    in_mr, in_ct = (mr_body(mr), ct_body(hu)) if body is None else (body, body)
    known = hu != UNKNOWN_HU
    near = ndimage.binary_dilation(in_ct, iterations=MARGIN) & known
    clean = np.where(near, np.clip(hu, *hu_range), AIR_HU).astype(np.int16)
    normal = normalise_mr(mr.astype(np.float32), in_mr).astype(np.float16)
    return Pair(name, normal, clean, in_mr & in_ct & known, spacing_mm, None if known.all() else known)


def read_pairs(folder: Path, names: Sequence[str], hu_range: tuple[float, float]) -> list[Pair]:
    """Pairs `NAME_mr.nii.gz` and `NAME_ct.nii.gz` of a folder, in the order of the names.

    Raises:
        BadPair: a file cannot be read or the two images differ in shape.
    """
    pairs = []
    for name in names:
        mr, spacing_mm = read_nifti(folder / f"{name}_mr.nii.gz")
        hu, _ = read_nifti(folder / f"{name}_ct.nii.gz")
        pairs.append(make_pair(name, mr, hu, spacing_mm, hu_range))
    return pairs


@dataclass(frozen=True)
class Patch:
    """A box of a pair as tensors (1, 1, S, R, C): MR, CT in the networks' unit, weight of each voxel in the losses."""

    mr: torch.Tensor
    ct: torch.Tensor
    weight: torch.Tensor


def draw_corner(
    body: Mask, size: tuple[int, int, int], multiple: tuple[int, int, int], generator: np.random.Generator
) -> tuple[int, int, int]:
    """First voxel of a box about a random place of the body, on a multiple of the latent's stride."""
    corner = []
    for axis, (extent, length, step) in enumerate(zip(body.shape, size, multiple, strict=True)):
        occupied = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (int(occupied[0]), int(occupied[-1])) if occupied.size else (0, extent - 1)
        first = int(generator.integers(low - length // 4, max(low, high - 3 * length // 4) + 1))
        corner.append(min(max(first, 0), max(extent - length, 0)) // step * step)
    return (corner[0], corner[1], corner[2])


def cut(image: torch.Tensor, corner: Sequence[int], size: Sequence[int], fill: float) -> torch.Tensor:
    """A box of the last three axes; what lies beyond the image is filled."""
    s, r, c = (slice(first, first + length) for first, length in zip(corner, size, strict=True))
    box = image[..., s, r, c]
    missing = [length - extent for length, extent in zip(size, box.shape[-3:], strict=True)]
    return torch.nn.functional.pad(box, (0, missing[2], 0, missing[1], 0, missing[0]), value=fill)


def cut_patch(pair: Pair, corner: Sequence[int], size: Sequence[int]) -> Patch:
    """The box of a pair at a corner; beyond the image lies air of weight 0.2, where no CT is known the weight is 0."""
    mr, hu, body = (torch.from_numpy(image)[None, None] for image in (pair.mr, pair.hu, pair.body))
    weight = SKIN_WEIGHT + (1 - SKIN_WEIGHT) * cut(body, corner, size, False).float()
    if pair.known is not None:
        weight = weight * cut(torch.from_numpy(pair.known)[None, None], corner, size, True)
    return Patch(cut(mr, corner, size, 0.0).float(), to_unit(cut(hu, corner, size, AIR_HU).float()), weight)
