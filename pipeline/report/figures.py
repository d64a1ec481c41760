"""Pictures of a case for people: MR, synthetic CT, both in one, and its uncertainty, in three planes; and its HU.

All volumes are LPS mm and lie in one frame of reference; each on a grid of its own. The planes are those of the CT,
turned so that axes are nearest (superior, posterior, left): the patient's left is on the right of axial and coronal
planes, anterior is up in axial ones and on the left of sagittal ones.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from highdicom import Volume
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.volume.resampling import resample

Plane = NDArray[np.float32]
"""Rows from the top, columns from the left, as they are seen."""

HU_WINDOW: Final = (-250.0, 650.0)
"""HU shown as black and as white."""
OUTLINE_HU: Final = -200.0
"""HU of the line drawn as the body's outline."""
BONE_HU: Final = 250.0
"""HU from which on a voxel is painted as bone."""
SD_WINDOW_HU: Final = (0.0, 200.0)
"""Standard deviations shown in the first and in the last colour."""
HISTOGRAM_HU: Final = (-1050, 1650, 20)
"""First and last edge of the histogram's bins, and their width."""
SCALE_MM: Final = 50.0
DOTS_PER_INCH: Final = 110
COLUMN_INCH: Final = 2.6
OUTLINE_COLOUR: Final = "#56b4e9"
BONE_COLOUR: Final = "#e69f00"
"""Sky blue and orange are told apart with every kind of colour vision (Okabe and Ito)."""

EDGES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "axial": ("A", "P", "R", "L"),
    "coronal": ("H", "F", "R", "L"),
    "sagittal": ("H", "F", "A", "P"),
}
"""Plane -> what lies at its top, bottom, left and right."""


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of a case: MR values, HU, and the standard deviation of the HU (None where the model gives none)."""

    mr: Volume
    ct: Volume
    sd: Volume | None = None


@dataclass(frozen=True)
class View:
    """One plane of a case: its name, MR, HU, SD in HU or None, and its pixel's height and width in mm."""

    name: str
    mr: Plane
    hu: Plane
    sd: Plane | None
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        rows, columns = self.hu.shape
        return rows * self.pixel_mm[0], columns * self.pixel_mm[1]


def centre_of(ct: Volume) -> tuple[int, int, int]:
    """Index of the middle of the body in `ct`, whatever its orientation; of the grid where it holds no body."""
    inside = np.argwhere(ct.array > OUTLINE_HU)
    middle = inside.mean(axis=0) if inside.size else (np.asarray(ct.spatial_shape) - 1) / 2
    k, j, i = (int(index) for index in np.rint(middle))
    return k, j, i


def views(images: CaseVolumes) -> tuple[View, View, View]:
    """The axial, coronal and sagittal plane through the middle of the body."""
    ct = images.ct.to_patient_orientation("HPL")
    k, j, i = centre_of(ct)
    slice_mm, row_mm, column_mm = (float(step) for step in ct.spacing)
    return (
        _view("axial", images, ct[k : k + 1], (row_mm, column_mm)),
        _view("coronal", images, ct.permute_spatial_axes([1, 0, 2])[j : j + 1], (slice_mm, column_mm)),
        _view("sagittal", images, ct.permute_spatial_axes([2, 0, 1])[i : i + 1], (slice_mm, row_mm)),
    )


def _view(name: str, images: CaseVolumes, ct: Volume, pixel_mm: tuple[float, float]) -> View:
    """`ct` is one plane thick along its first axis; the other volumes are resampled onto it."""
    upright = slice(None) if name == "axial" else slice(None, None, -1)

    def seen(volume: Volume) -> Plane:
        on_plane = volume if volume is ct else resample(volume, ct.get_geometry(), fill=0.0)
        plane: Plane = on_plane.array[0, upright].astype(np.float32)
        return plane

    sd = None if images.sd is None else seen(images.sd)
    return View(name, seen(images.mr), seen(ct), sd, pixel_mm)


def planes(images: CaseVolumes) -> Figure:
    """Three planes (rows) of MR, synthetic CT, both in one, and the uncertainty where there is one (columns)."""
    three = views(images)
    bright = max(float(np.percentile(np.concatenate([view.mr.ravel() for view in three]), 99.5)), 1.0)
    columns = 3 if images.sd is None else 4
    heights = [view.size_mm[0] / view.size_mm[1] for view in three]
    size = (COLUMN_INCH * columns, COLUMN_INCH * sum(heights) + 1.1)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(4, columns, squeeze=False, height_ratios=[*heights, 0.05])
    for view, row in zip(three, panels[:3], strict=True):
        _draw_row(view, row, bright)
    for axes, title in zip(panels[0], ("MR", "synthetic CT", "MR with synthetic CT", "uncertainty"), strict=False):
        axes.set_title(title, fontsize=9)
    _scale(three[0], panels[0, 0])
    _explain(figure, panels)
    return figure


def _draw_row(view: View, row: Sequence[Axes], bright: float) -> None:
    """One plane, in each of the columns."""
    aspect = view.pixel_mm[0] / view.pixel_mm[1]
    how: dict[str, Any] = {"aspect": aspect, "interpolation": "nearest"}
    row[0].imshow(view.mr, cmap="gray", vmin=0.0, vmax=bright, **how)
    row[1].imshow(view.hu, cmap="gray", vmin=HU_WINDOW[0], vmax=HU_WINDOW[1], **how)
    row[2].imshow(view.mr, cmap="gray", vmin=0.0, vmax=bright, **how)
    _overlay(view, row[2], how)
    if view.sd is not None:
        row[3].imshow(view.sd, cmap="viridis", vmin=SD_WINDOW_HU[0], vmax=SD_WINDOW_HU[1], **how)
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
    row[0].set_ylabel(view.name, fontsize=9)
    _label_edges(view, row[1])


def _overlay(view: View, axes: Axes, how: Mapping[str, Any]) -> None:
    """The synthetic CT's bone as a wash, its outline as a line, over the MR."""
    bone = np.ma.masked_less(view.hu, BONE_HU)
    axes.imshow(bone * 0.0, cmap=ListedColormap([BONE_COLOUR]), alpha=0.55, **how)
    if view.hu.min() < OUTLINE_HU < view.hu.max() and min(view.hu.shape) > 1:
        axes.contour(view.hu, levels=[OUTLINE_HU], colors=OUTLINE_COLOUR, linestyles="solid", linewidths=0.8)


def _label_edges(view: View, axes: Axes) -> None:
    """Which side of the patient is where."""
    top, bottom, left, right = EDGES[view.name]
    places = ((top, 0.5, 0.98, "center", "top"), (bottom, 0.5, 0.02, "center", "bottom"))
    sides = ((left, 0.02, 0.5, "left", "center"), (right, 0.98, 0.5, "right", "center"))
    for text, x, y, across, along in (*places, *sides):
        axes.text(x, y, text, transform=axes.transAxes, ha=across, va=along, color="#f0e442", fontsize=8)


def _scale(view: View, axes: Axes) -> None:
    """A bar of `SCALE_MM` in the lower left corner, where there is room for it."""
    rows, columns = view.hu.shape
    length = SCALE_MM / view.pixel_mm[1]
    if length < 0.8 * columns:
        axes.plot([0.04 * columns, 0.04 * columns + length], [0.95 * rows] * 2, color="#f0e442", linewidth=1.5)
        axes.text(0.04 * columns, 0.92 * rows, f"{SCALE_MM:g} mm", color="#f0e442", fontsize=7, va="bottom")


def _explain(figure: Figure, panels: NDArray[Any]) -> None:
    """The last row: colour bars, and what the colours of the column with both mean."""
    for axes in panels[3]:
        axes.set_axis_off()
    shown = {1: "HU", 3: "standard deviation (HU)"}
    for column in [column for column in shown if column < panels.shape[1]]:
        panels[3, column].set_axis_on()
        bar = figure.colorbar(panels[0, column].images[0], cax=panels[3, column], orientation="horizontal")
        bar.set_label(shown[column], fontsize=8)
        bar.ax.tick_params(labelsize=7)
    text = f"blue line: CT at {OUTLINE_HU:g} HU\norange: CT above {BONE_HU:g} HU"
    panels[3, 2].text(0.5, 0.9, text, transform=panels[3, 2].transAxes, ha="center", va="top", fontsize=7)


def histogram(ct: Volume) -> Figure:
    """How many voxels of the CT have which HU, the number on a logarithmic axis."""
    counts, edges = hu_histogram(ct)
    figure = Figure(figsize=(6.4, 2.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.stairs(counts, edges, fill=True, color=OUTLINE_COLOUR)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    axes.set_xlabel("HU", fontsize=8)
    axes.set_ylabel("voxels", fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def hu_histogram(ct: Volume) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Voxels by HU, in bins of `HISTOGRAM_HU`, and the bins' edges; values beyond are in the outermost bins."""
    low, high, width = HISTOGRAM_HU
    edges = np.arange(low, high + width, width, dtype=np.float64)
    counts, _ = np.histogram(np.clip(ct.array, low, high), edges)
    return counts.astype(np.int64), edges


def png(figure: Figure) -> bytes:
    """A figure as PNG, the same bytes for the same numbers."""
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return into.getvalue()
