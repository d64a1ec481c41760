"""MR volume -> HU volume: to the model's grid, through the model, and back by one resampling.

MR -> the model's grid: where its voxels lie, and the MR on them. LPS, mm, voxel centres.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry
from scipy import ndimage

from models.data.intensity import AIR_HU
from models.inference.card import ModelCard
from models.inference.weights import Model
from pipeline.ct.provenance import Sampling
from pipeline.series.series import Series
from pipeline.volume.ct_grid import WHOLE_FIELD, OutputGrid, axial_geometry, output_geometry
from pipeline.volume.volume import is_copied, read_nifti, resample, write_nifti

COPIED: Final = "none"
LINEAR: Final = "linear"


@dataclass(frozen=True)
class Synthesis:
    """What a model makes of an MR.

    Attributes:
        hu: float32 HU on the asked grid; air outside the body and outside the MR's field of view.
        body: 1 in the MR's outline, 0 elsewhere, uint8, on the model's grid.
        mr: float32 MR on the model's grid, in the scanner's unit.
        on_model_grid: HU on the model's grid.
        sampling: how it came about.
        sd: float32 SD in HU of the error to be expected, on the grid of `hu`, 0 outside the body; None where the model
            cannot say.
        novelty: how strange the MR is to the model, about 1 for one as in its training; None where it cannot say.
    """

    hu: Volume
    body: Volume
    mr: Volume
    on_model_grid: Volume
    sampling: Sampling
    sd: Volume | None = None
    novelty: float | None = None


def seed_of(source: Series, card: ModelCard) -> int:
    """The seed of a series: the same instances and the same weights always start from the same noise."""
    uids = sorted(instance.sop_instance_uid for instance in source.instances)
    return int.from_bytes(hashlib.sha256("\n".join([card.digest, *uids]).encode()).digest()[:4], "big") >> 1


def synthesize(
    mr: Volume, model: Model, seed: int, asked: OutputGrid = WHOLE_FIELD, onto: VolumeGeometry | None = None
) -> Synthesis:
    """Synthetic CT of an MR volume. HU are resampled once, from the model's grid, or not at all.

    Args:
        mr: float32 MR values in any orientation, LPS mm.
        model: what turns it into HU.
        seed: of the first sample.
        asked: what the site asks of the result's grid.
        onto: the very grid of the result, instead of `asked`.

    Raises:
        Unsuitable: GRID_TOO_LARGE.
    """
    grid = model_grid(mr, model.card.spacing_mm)
    seen = on_model_grid(mr, grid)
    prediction = model.predict(np.ascontiguousarray(seen.array), seed)
    there = grid.with_array(prediction.hu)
    body = grid.with_array(prediction.body.astype(np.uint8))
    output = onto or output_geometry(mr, asked, body)
    hu = resample(there, output, fill=AIR_HU)
    sd = None if prediction.sd is None else resample(grid.with_array(prediction.sd), output, fill=0.0)
    sampling = _sampling(mr, grid, output, model.card, seed, asked)
    return Synthesis(hu, body, seen, there, sampling, sd, prediction.novelty)


def _sampling(
    mr: Volume, grid: VolumeGeometry, output: VolumeGeometry, card: ModelCard, seed: int, asked: OutputGrid
) -> Sampling:
    """How the HU came about, in words and numbers."""
    slice_mm, row_mm, column_mm = (float(step) for step in grid.spacing)
    return Sampling(
        seed,
        card.sampling["steps"],
        card.sampling["samples"],
        to_model=COPIED if is_copied(mr.get_geometry(), grid) else LINEAR,
        to_ct=COPIED if is_copied(grid, output) else LINEAR,
        model_spacing_mm=(slice_mm, row_mm, column_mm),
        field=asked.words(),
        orientation=asked.orientation,
    )


def predict_nifti(mr_path: Path, out_path: Path, model: Model, seed: int = 0) -> None:
    """MR NIfTI -> float32 HU NIfTI on the MR's own grid, whatever its orientation.

    Raises:
        Unsuitable: UNREADABLE, when the MR is no three-dimensional NIfTI image.
        OSError: the result cannot be written.
    """
    mr = read_nifti(mr_path)
    write_nifti(synthesize(mr, model, seed, onto=mr.get_geometry()).hu, out_path)


SPACING_TOLERANCE: Final = 0.02
"""An MR whose axial spacing differs by at most this fraction from the model's is taken as it is, without resampling."""
SD_TO_FWHM: Final = 2.3548


def model_grid(mr: Volume, spacing_mm: tuple[float, float, float]) -> VolumeGeometry:
    """The axial grid of the model: slices to superior, rows to posterior, columns to left, the whole field of view.

    The CT's own grid where its spacing is the model's within 2 %, so that nothing is resampled.
    """
    grid = axial_geometry(mr)
    wanted = np.array(spacing_mm)
    if np.all(np.abs(np.array(grid.spacing) / wanted - 1) <= SPACING_TOLERANCE):
        return grid
    extent = np.array(grid.spatial_shape) * np.array(grid.spacing)
    shape = np.maximum(np.ceil(extent / wanted - 1e-9).astype(int), 1)
    affine = np.array(grid.affine, dtype=np.float64)
    affine[:3, :3] = grid.direction * wanted
    centre = np.array(grid.map_indices_to_reference((np.array([grid.spatial_shape]) - 1) / 2)[0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return VolumeGeometry(affine, tuple(shape.tolist()), "PATIENT", frame_of_reference_uid=mr.frame_of_reference_uid)


def on_model_grid(mr: Volume, grid: VolumeGeometry) -> Volume:
    """The MR at the model's voxels, 0 where there is none; thinner voxels are averaged first, so that none is lost."""
    return resample(_widened(mr, grid), grid, fill=0.0)


def _widened(mr: Volume, grid: VolumeGeometry) -> Volume:
    """The MR smoothed along its axes to the resolution of the grid's nearest axes; unchanged where it is as coarse."""
    nearest = np.abs(mr.direction.T @ grid.direction).argmax(axis=1)
    wanted = np.array(grid.spacing)[nearest]
    own = np.array(mr.spacing)
    coarser = wanted > own * (1 + SPACING_TOLERANCE)
    if not coarser.any():
        return mr
    sigma_voxels = np.where(coarser, np.sqrt(np.maximum(wanted**2 - own**2, 0.0)) / SD_TO_FWHM / own, 0.0)
    smooth = ndimage.gaussian_filter(mr.array, sigma_voxels, mode="nearest")
    return mr.with_array(smooth.astype(np.float32))
