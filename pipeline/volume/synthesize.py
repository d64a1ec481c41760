"""MR volume to HU volume, one way: to the model's grid, through the model, to the grid of the CT.

    model_grid -> resample -> predict -> output_geometry -> resample -> Synthesis

Each resampling is found once, as a `Resampling`: it moves every volume of that step and knows whether values are copied
or interpolated, which the CT states (`Sampling`). Grids are LPS, mm, voxel centres; arrays are (slice, row, column).
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
from pipeline.volume.resampling import Resampling
from pipeline.volume.volume import read_nifti, write_nifti

SPACING_TOLERANCE: Final = 0.02
"""An MR whose axial spacing differs by at most this fraction from the model's is taken as it is, without resampling."""
SD_TO_FWHM: Final = 2.3548
"""Full width at half maximum of a Gaussian in standard deviations: 2 sqrt(2 ln 2)."""


@dataclass(frozen=True)
class Synthesis:
    """The result of a model for an MR.

    Attributes:
        hu: float32 HU on the grid of the CT; air outside the body and outside the MR's field of view.
        body: 1 in the MR's outline, 0 elsewhere, uint8, on the model's grid.
        mr: float32 MR on the model's grid, in the scanner's unit.
        on_model_grid: HU on the model's grid.
        sampling: how the HU were computed.
        sd: float32 SD in HU of the error to be expected, on the grid of `hu`, 0 outside the body; None where the model
            does not state it.
        novelty: how unlike its training data the MR is to the model, about 1 for an MR like those; None where the model
            does not state it.
    """

    hu: Volume
    body: Volume
    mr: Volume
    on_model_grid: Volume
    sampling: Sampling
    sd: Volume | None = None
    novelty: float | None = None


def seed_of(source: Series, card: ModelCard) -> int:
    """Return the seed of a series: the same instances and the same weights always start from the same noise."""
    uids = sorted(instance.sop_instance_uid for instance in source.instances)
    return int.from_bytes(hashlib.sha256("\n".join([card.digest, *uids]).encode()).digest()[:4], "big") >> 1


def synthesize(
    mr: Volume, model: Model, seed: int, output: OutputGrid = WHOLE_FIELD, onto: VolumeGeometry | None = None
) -> Synthesis:
    """Compute the synthetic CT of an MR volume. HU are resampled once, from the model's grid, or not at all.

    Args:
        mr: float32 MR values in any orientation, LPS mm.
        model: the network with its weights and its card.
        seed: of the first sample.
        output: the settings of the site for the grid of the CT.
        onto: the exact grid of the result, instead of `output`.

    Raises:
        Unsuitable: GRID_TOO_LARGE.
    """
    grid = model_grid(mr, model.card.spacing_mm)
    to_model = Resampling.between(mr.get_geometry(), grid)
    seen = to_model.apply(widened(mr, grid), fill=0.0)
    prediction = model.predict(np.ascontiguousarray(seen.array), seed)
    body = grid.with_array(prediction.body.astype(np.uint8))
    to_ct = Resampling.between(grid, onto or output_geometry(mr, output, body))
    there = grid.with_array(prediction.hu)
    slice_mm, row_mm, column_mm = (float(step) for step in grid.spacing)
    return Synthesis(
        hu=to_ct.apply(there, fill=AIR_HU),
        body=body,
        mr=seen,
        on_model_grid=there,
        sampling=Sampling(
            seed,
            model.card.sampling["steps"],
            model.card.sampling["samples"],
            to_model="linear" if to_model.copy is None else "none",
            to_ct="linear" if to_ct.copy is None else "none",
            model_spacing_mm=(slice_mm, row_mm, column_mm),
            field=output.field_description,
            orientation=output.orientation,
        ),
        sd=None if prediction.sd is None else to_ct.apply(grid.with_array(prediction.sd), fill=0.0),
        novelty=prediction.novelty,
    )


def predict_nifti(mr_path: Path, out_path: Path, model: Model, seed: int = 0) -> None:
    """Write the HU of an MR NIfTI as a float32 NIfTI on the MR's own grid, in any orientation.

    Raises:
        Unsuitable: UNREADABLE, when the MR is no three-dimensional NIfTI image.
        OSError: the result cannot be written.
    """
    mr = read_nifti(mr_path)
    write_nifti(synthesize(mr, model, seed, onto=mr.get_geometry()).hu, out_path)


def model_grid(mr: Volume, spacing_mm: tuple[float, float, float]) -> VolumeGeometry:
    """Return the axial grid of the model: slices to superior, rows to posterior, columns to left, whole field of view.

    It is the CT's own grid where that grid's spacing is the model's within 2 %, so that nothing is resampled.
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


def widened(mr: Volume, grid: VolumeGeometry) -> Volume:
    """Return the MR smoothed along its axes to the resolution of the grid's nearest axes, where the MR is finer.

    Thinner slices are so averaged by the resampling that follows, and none of them is lost.
    """
    nearest = np.abs(mr.direction.T @ grid.direction).argmax(axis=1)
    wanted = np.array(grid.spacing)[nearest]
    own = np.array(mr.spacing)
    coarser = wanted > own * (1 + SPACING_TOLERANCE)
    if not coarser.any():
        return mr
    sigma_voxels = np.where(coarser, np.sqrt(np.maximum(wanted**2 - own**2, 0.0)) / SD_TO_FWHM / own, 0.0)
    smooth = ndimage.gaussian_filter(mr.array, sigma_voxels, mode="nearest")
    return mr.with_array(smooth.astype(np.float32))
