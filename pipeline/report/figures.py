"""Draw MR, synthetic CT, both together, and the uncertainty in three planes, and the histogram of the HU.

All volumes are LPS mm in one frame of reference, each on its own grid. The planes are those of the CT, with axes as
near as possible to (superior, posterior, left): the patient's left is on the right of axial and coronal planes,
anterior is at the top of axial and on the left of sagittal planes.
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
"""A picture: rows from the top, columns from the left."""

HU_WINDOW: Final = (-250.0, 650.0)
"""HU shown as black and as white."""
OUTLINE_HU: Final = -200.0
"""HU of the line that is drawn as the body's outline."""
BONE_HU: Final = 250.0
"""Lowest HU that is painted as bone."""
SD_WINDOW_HU: Final = (0.0, 200.0)
"""Standard deviations of the first and the last colour."""
HISTOGRAM_HU: Final = (-1050, 1650, 20)
"""First and last edge of the histogram's bins, and their width."""
SCALE_MM: Final = 50.0
DOTS_PER_INCH: Final = 110
COLUMN_INCH: Final = 2.6
OUTLINE_COLOUR: Final = "#56b4e9"
BONE_COLOUR: Final = "#e69f00"
MARK_COLOUR: Final = "#f0e442"
"""Sky blue and orange differ for every kind of colour vision (Okabe and Ito, Color Universal Design, 2008)."""

EDGES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "axial": ("A", "P", "R", "L"),
    "coronal": ("H", "F", "R", "L"),
    "sagittal": ("H", "F", "A", "P"),
}
"""Plane -> side of the patient at its top, bottom, left and right (PS3.3 C.7.6.1.1.1)."""


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of a job: MR values, HU, and the standard deviation of the HU or None."""

    mr: Volume
    ct: Volume
    sd: Volume | None = None


@dataclass(frozen=True)
class View:
    """One plane of a job: its name, MR, HU, SD in HU or None, height and width of a pixel in mm."""

    name: str
    mr: Plane
    hu: Plane
    sd: Plane | None
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Return height and width of the plane."""
        rows, columns = self.hu.shape
        return rows * self.pixel_mm[0], columns * self.pixel_mm[1]


def centre_of(ct: Volume) -> tuple[int, int, int]:
    """Return the index of the middle of the body in `ct`, or of the grid when there is no body."""
    inside = np.argwhere(ct.array > OUTLINE_HU)
    middle = inside.mean(axis=0) if inside.size else (np.asarray(ct.spatial_shape) - 1) / 2
    k, j, i = (int(index) for index in np.rint(middle))
    return k, j, i


def views(images: CaseVolumes) -> tuple[View, View, View]:
    """Cut the axial, coronal and sagittal plane through the middle of the body."""
    ct = images.ct.to_patient_orientation("HPL")
    k, j, i = centre_of(ct)
    slice_mm, row_mm, column_mm = (float(step) for step in ct.spacing)
    return (
        _view("axial", images, ct[k : k + 1], (row_mm, column_mm)),
        _view("coronal", images, ct.permute_spatial_axes([1, 0, 2])[j : j + 1], (slice_mm, column_mm)),
        _view("sagittal", images, ct.permute_spatial_axes([2, 0, 1])[i : i + 1], (slice_mm, row_mm)),
    )


def _view(name: str, images: CaseVolumes, ct: Volume, pixel_mm: tuple[float, float]) -> View:
    """Resample the volumes to `ct`, which has one slice along its first axis."""
    upright = slice(None) if name == "axial" else slice(None, None, -1)

    def seen(volume: Volume) -> Plane:
        on_plane = volume if volume is ct else resample(volume, ct.get_geometry(), fill=0.0)
        plane: Plane = on_plane.array[0, upright].astype(np.float32)
        return plane

    sd = None if images.sd is None else seen(images.sd)
    return View(name, seen(images.mr), seen(ct), sd, pixel_mm)


def planes(images: CaseVolumes) -> Figure:
    """Draw three planes (rows) of MR, synthetic CT, both together, and the uncertainty if there is one (columns)."""
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
    rows, pixels = three[0].hu.shape
    length = SCALE_MM / three[0].pixel_mm[1]
    if length < 0.8 * pixels:  # the scale, where there is space for it
        left, axes = 0.04 * pixels, panels[0, 0]
        axes.plot([left, left + length], [0.95 * rows] * 2, color=MARK_COLOUR, linewidth=1.5)
        axes.text(left, 0.92 * rows, f"{SCALE_MM:g} mm", color=MARK_COLOUR, fontsize=7, va="bottom")
    _explain(figure, panels)
    return figure


def _draw_row(view: View, row: Sequence[Axes], bright: float) -> None:
    """Draw one plane in each of the columns, with the sides of the patient."""
    aspect = view.pixel_mm[0] / view.pixel_mm[1]
    how: dict[str, Any] = {"aspect": aspect, "interpolation": "nearest"}
    row[0].imshow(view.mr, cmap="gray", vmin=0.0, vmax=bright, **how)
    row[1].imshow(view.hu, cmap="gray", vmin=HU_WINDOW[0], vmax=HU_WINDOW[1], **how)
    row[2].imshow(view.mr, cmap="gray", vmin=0.0, vmax=bright, **how)
    bone = np.ma.masked_less(view.hu, BONE_HU)
    row[2].imshow(bone * 0.0, cmap=ListedColormap([BONE_COLOUR]), alpha=0.55, **how)
    if view.hu.min() < OUTLINE_HU < view.hu.max() and min(view.hu.shape) > 1:
        row[2].contour(view.hu, levels=[OUTLINE_HU], colors=OUTLINE_COLOUR, linestyles="solid", linewidths=0.8)
    if view.sd is not None:
        row[3].imshow(view.sd, cmap="viridis", vmin=SD_WINDOW_HU[0], vmax=SD_WINDOW_HU[1], **how)
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
    row[0].set_ylabel(view.name, fontsize=9)
    top, bottom, left, right = EDGES[view.name]
    places = ((top, 0.5, 0.98, "center", "top"), (bottom, 0.5, 0.02, "center", "bottom"))
    sides = ((left, 0.02, 0.5, "left", "center"), (right, 0.98, 0.5, "right", "center"))
    for text, x, y, across, along in (*places, *sides):
        row[1].text(x, y, text, transform=row[1].transAxes, ha=across, va=along, color=MARK_COLOUR, fontsize=8)


def _explain(figure: Figure, panels: NDArray[Any]) -> None:
    """Draw the last row: colour bars, and the meaning of the colours in the column with both images."""
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
    """Draw the histogram of the CT's HU; the axis of the number of voxels is logarithmic."""
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
    """Count voxels in the bins of `HISTOGRAM_HU`, outliers in the outermost ones; return counts and edges of bins."""
    low, high, width = HISTOGRAM_HU
    edges = np.arange(low, high + width, width, dtype=np.float64)
    counts, _ = np.histogram(np.clip(ct.array, low, high), edges)
    return counts.astype(np.int64), edges


def png(figure: Figure) -> bytes:
    """Write a figure as PNG; the same numbers give the same bytes."""
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return into.getvalue()
