"""MR -> the model's grid: where its voxels lie, and the MR on them. LPS, mm, voxel centres."""

from __future__ import annotations

from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry
from scipy import ndimage

from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.volume import resample

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
