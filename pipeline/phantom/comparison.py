"""Compare a synthetic CT of the phantom with the truth: HU by tissue, and a picture for people.

All arrays are on the CT's own grid: (slice, row, column), axial, LPS mm, slices from inferior to superior.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import Volume, VolumeGeometry, get_volume_from_series
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.phantom.thigh import TISSUES, Phantom, thigh
from pipeline.volume.resampling import resample

Floats = NDArray[np.float64]

HU_WINDOW = (-250.0, 650.0)
"""HU that are shown as black and as white."""
DIFFERENCE_WINDOW_HU = 400.0
"""Largest difference that is shown, in HU, of either sign."""


@dataclass(frozen=True)
class TissueErrors:
    """The HU of one tissue of the phantom: the truth, and mean, SD and MAE of the synthetic CT in its voxels."""

    name: str
    voxels: int
    true_hu: float
    mean_hu: float
    sd_hu: float
    mae_hu: float


def read_ct(paths: Iterable[Path]) -> Volume:
    """Read the HU volume of a CT series (one axial image in each file), slices from inferior to superior."""
    volume = get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float64)
    return volume if volume.affine[2, 0] > 0 else volume.flip_spatial(0)


def truth(ct: Volume, mr: VolumeGeometry) -> Phantom:
    """Make the phantom on the grid of `ct`, with air outside the field of view of the MR."""
    known = thigh(ct.get_geometry(), noise=0.0)
    seen = inside(ct.get_geometry(), mr)
    hu = np.where(seen, known.hu.array, TISSUES[0].hu)
    labels = np.where(seen, known.labels.array, TISSUES[0].label)
    return Phantom(known.mr, known.hu.with_array(hu), known.labels.with_array(labels))


def inside(grid: VolumeGeometry, field: VolumeGeometry) -> NDArray[np.bool_]:
    """Mark the voxel centres of `grid` that lie in the field of view of `field`; the array has the shape of `grid`."""
    axes = [np.arange(size, dtype=np.float64) for size in grid.spatial_shape]
    to_field = field.inverse_affine @ grid.affine
    seen = np.ones(grid.spatial_shape, np.bool_)
    k, j, i = np.ix_(*axes)
    for axis, size in enumerate(field.spatial_shape):
        index = to_field[axis, 0] * k + to_field[axis, 1] * j + to_field[axis, 2] * i + to_field[axis, 3]
        seen &= (index >= -0.5) & (index <= size - 0.5)
    return seen


def tissue_errors(ct: Volume, known: Phantom, mr: VolumeGeometry) -> list[TissueErrors]:
    """Compare each tissue, then the whole leg (all but air), in the field of view of the MR; NaN without voxels."""
    seen = inside(ct.get_geometry(), mr)
    labels = known.labels.array
    parts = [(tissue.name, seen & (labels == tissue.label)) for tissue in TISSUES]
    rows = []
    for name, where in [*parts, ("whole leg", seen & (labels != TISSUES[0].label))]:
        made, true = (volume.array[where].astype(np.float64) for volume in (ct, known.hu))
        figures = (true.mean(), made.mean(), made.std(), np.abs(made - true).mean()) if made.size else (math.nan,) * 4
        rows.append(TissueErrors(name, made.size, *map(float, figures)))
    return rows


@dataclass(frozen=True)
class Panel:
    """One column of the picture: an array (slice, row, column), the values of its first and last colour, colours."""

    title: str
    array: Floats
    limits: tuple[float, float]
    unit: str
    colours: str = "gray"


def picture(mr: Volume, ct: Volume, known: Phantom | None, path: Path) -> None:
    """Draw an axial and a coronal plane through the middle: MR, synthetic CT and, if it is known, truth and error.

    The patient's left is on the right of both. The file is a PNG.
    """
    on_ct = resample(mr, ct.get_geometry(), fill=0.0).array
    bright = max(float(np.percentile(on_ct, 99.5)), 1.0)
    panels = [
        Panel("MR", on_ct, (0.0, bright), "arbitrary units"),
        Panel("Synthetic CT", ct.array, HU_WINDOW, "HU"),
    ]
    if known is not None:
        limits = (-DIFFERENCE_WINDOW_HU, DIFFERENCE_WINDOW_HU)
        panels.append(Panel("Truth", known.hu.array, HU_WINDOW, "HU"))
        panels.append(Panel("Synthetic CT minus truth", ct.array - known.hu.array, limits, "HU", "RdBu_r"))
    figure = Figure(figsize=(4.2 * len(panels), 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False)
    slice_mm, row_mm, column_mm = ct.spacing
    slices, rows, _ = ct.spatial_shape
    for panel, (axial, coronal) in zip(panels, axes.T, strict=True):
        how: dict[str, Any] = {"cmap": panel.colours, "vmin": panel.limits[0], "vmax": panel.limits[1]}
        axial.imshow(panel.array[slices // 2], aspect=row_mm / column_mm, **how)
        image = coronal.imshow(panel.array[:, rows // 2], aspect=slice_mm / column_mm, origin="lower", **how)
        for plane in (axial, coronal):
            plane.set_xticks([])
            plane.set_yticks([])
        axial.set_title(panel.title)
        figure.colorbar(image, ax=[axial, coronal], location="bottom", label=panel.unit, shrink=0.8)
    axes[0, 0].set_ylabel("axial, seen from the feet")
    axes[1, 0].set_ylabel("coronal, seen from the front")
    figure.suptitle("Research, not for clinical use", fontsize="small")
    figure.savefig(path, dpi=110)
