"""How like the truth a synthetic CT of the phantom is: HU by tissue, and a picture. For people to look at.

Everything is on the CT's own grid: array (slice, row, column), axial, LPS mm, slices from inferior to superior.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from highdicom import Volume, VolumeGeometry, get_volume_from_series
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.phantom.thigh import TISSUES, Phantom, thigh
from pipeline.volume.resampling import resample

Floats = NDArray[np.float64]

HU_WINDOW = (-250.0, 650.0)
"""HU shown as black and as white."""
DIFFERENCE_WINDOW_HU = 400.0
"""Largest difference shown, in HU, either way."""


@dataclass(frozen=True)
class TissueLikeness:
    """One tissue of the phantom: its true HU, and what the synthetic CT has in its voxels."""

    name: str
    voxels: int
    true_hu: float
    mean_hu: float
    sd_hu: float
    mae_hu: float


def read_ct(paths: Iterable[Path]) -> Volume:
    """The HU volume of a CT series (one axial image a file), slices from inferior to superior."""
    volume = get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float64)
    return volume if volume.affine[2, 0] > 0 else volume.flip_spatial(0)


def truth(ct: Volume, mr: VolumeGeometry) -> Phantom:
    """The phantom on the grid of `ct`, with air outside the field of view of the MR."""
    known = thigh(ct.get_geometry(), noise=0.0)
    seen = inside(ct.get_geometry(), mr)
    hu = np.where(seen, known.hu.array, TISSUES[0].hu)
    labels = np.where(seen, known.labels.array, TISSUES[0].label)
    return Phantom(known.mr, known.hu.with_array(hu), known.labels.with_array(labels))


def inside(grid: VolumeGeometry, field: VolumeGeometry) -> NDArray[np.bool_]:
    """Which voxel centres of `grid` lie in the field of view of `field`, as an array of `grid`'s shape."""
    axes = [np.arange(size, dtype=np.float64) for size in grid.spatial_shape]
    to_field = field.inverse_affine @ grid.affine
    seen = np.ones(grid.spatial_shape, np.bool_)
    k, j, i = np.ix_(*axes)
    for axis, size in enumerate(field.spatial_shape):
        index = to_field[axis, 0] * k + to_field[axis, 1] * j + to_field[axis, 2] * i + to_field[axis, 3]
        seen &= (index >= -0.5) & (index <= size - 0.5)
    return seen


def tissue_likeness(ct: Volume, known: Phantom, mr: VolumeGeometry) -> list[TissueLikeness]:
    """Each tissue of the phantom within the field of view of the MR, then the whole leg (every tissue but air)."""
    seen = inside(ct.get_geometry(), mr)
    labels = known.labels.array
    rows = [_likeness(tissue.name, seen & (labels == tissue.label), ct, known) for tissue in TISSUES]
    return [*rows, _likeness("whole leg", seen & (labels != TISSUES[0].label), ct, known)]


def _likeness(name: str, where: NDArray[np.bool_], ct: Volume, known: Phantom) -> TissueLikeness:
    """The figures of the voxels at `where`; NaN where there are none."""
    made: Floats = ct.array[where].astype(np.float64)
    true: Floats = known.hu.array[where].astype(np.float64)
    if not made.size:
        return TissueLikeness(name, 0, np.nan, np.nan, np.nan, np.nan)
    figures = (true.mean(), made.mean(), made.std(), np.abs(made - true).mean())
    return TissueLikeness(name, made.size, *map(float, figures))


@dataclass(frozen=True)
class Panel:
    """One column of the picture: an array (slice, row, column), which values are black and white, its colours."""

    title: str
    array: Floats
    limits: tuple[float, float]
    unit: str
    colours: str = "gray"


def picture(mr: Volume, ct: Volume, known: Phantom | None, path: Path) -> None:
    """Draw an axial and a coronal plane through the middle: MR, synthetic CT and, where it is known, truth and error.

    The patient's left is on the right of both. Writes a PNG file.
    """
    panels = _panels(resample(mr, ct.get_geometry(), fill=0.0), ct, known)
    figure = Figure(figsize=(4.2 * len(panels), 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for panel, (axial, coronal) in zip(panels, axes.T, strict=True):
        _draw(panel, axial, coronal, ct.spacing)
    axes[0, 0].set_ylabel("axial, seen from the feet")
    axes[1, 0].set_ylabel("coronal, seen from the front")
    figure.suptitle("Research, not for clinical use", fontsize="small")
    figure.savefig(path, dpi=110)


def _panels(mr: Volume, ct: Volume, known: Phantom | None) -> list[Panel]:
    """The columns: what was measured, what was made, and where the truth is known the truth and the error."""
    bright = max(float(np.percentile(mr.array, 99.5)), 1.0)
    panels = [
        Panel("MR", mr.array, (0.0, bright), "arbitrary units"),
        Panel("Synthetic CT", ct.array, HU_WINDOW, "HU"),
    ]
    if known is None:
        return panels
    error = ct.array - known.hu.array
    limits = (-DIFFERENCE_WINDOW_HU, DIFFERENCE_WINDOW_HU)
    return [
        *panels,
        Panel("Truth", known.hu.array, HU_WINDOW, "HU"),
        Panel("Synthetic CT minus truth", error, limits, "HU", "RdBu_r"),
    ]


def _draw(panel: Panel, axial: Axes, coronal: Axes, spacing_mm: tuple[float, float, float]) -> None:
    """Draw both planes of a panel; `spacing_mm` is (slice, row, column)."""
    low, high = panel.limits
    slices, rows, _ = panel.array.shape
    slice_mm, row_mm, column_mm = spacing_mm
    across, along = panel.array[slices // 2], panel.array[:, rows // 2]
    axial.imshow(across, cmap=panel.colours, vmin=low, vmax=high, aspect=row_mm / column_mm)
    image = coronal.imshow(along, cmap=panel.colours, vmin=low, vmax=high, aspect=slice_mm / column_mm, origin="lower")
    for axes in (axial, coronal):
        axes.set_xticks([])
        axes.set_yticks([])
    axial.set_title(panel.title)
    axial.figure.colorbar(image, ax=[axial, coronal], location="bottom", label=panel.unit, shrink=0.8)
