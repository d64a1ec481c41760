"""The grid of the CT: which voxels are written, computed from where the MR lies and what a site wants.

All affines are LPS, mm, float64, and map (slice, row, column) indices to voxel centres: the columns of the 3 x 3 part
are the steps from slice to slice, row to row and column to column (PS3.3 C.7.6.2.1.1, in highdicom's order of axes).

A grid is made along three perpendicular directions, its frame: the patient's axes for axial planes, or the directions
of the MR itself. In a frame, a point has the coordinates (slice, row, column) in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from pipeline.errors import Unsuitable

Floats = NDArray[np.float64]

SAME_GRID_TOLERANCE_MM = 1e-4
"""Two grids count as the same when no voxel centre moves farther: the error allowed in a CT's positions."""

ROUNDED_MM = 1e-4
"""Spacings and origins of a new grid are multiples of this, so that DS writes them exactly (PS3.5 6.2)."""

MOST_VOXELS = 2**29
"""Largest grid that is made: 2 GiB of float32. A study of 1024 x 1024 pixels has 512 slices then."""

AXIAL_FRAME: Floats = np.eye(3)[::-1]
"""Directions of slices, rows and columns in an axial grid: to superior, posterior and left (LPS, PS3.3 C.7.6.2.1.1)."""


@dataclass(frozen=True)
class OutputGrid:
    """The settings of a site for the CT's grid.

    Attributes:
        spacing_mm: (slice, row, column), or None: new pixels take the finer of the two most axial spacings of the MR,
            new slices the spacing of its axis nearest the patient's long axis; with `source` the MR's own.
        orientation: `axial` planes (1\\0\\0\\0\\1\\0), or those of the `source`.
        field: `mr`, the whole field of view of the MR; or `body`, a box around the outline of the body.
        margin_mm: how much is kept around the body on each side, where the MR has it.
    """

    spacing_mm: tuple[float, float, float] | None = None
    orientation: Literal["axial", "source"] = "axial"
    field: Literal["mr", "body"] = "mr"
    margin_mm: float = 10.0

    @property
    def field_description(self) -> str:
        """The field of view in words for a person."""
        return f"body outline and {self.margin_mm:g} mm around it" if self.field == "body" else "whole MR"


WHOLE_FIELD = OutputGrid()


@dataclass(frozen=True)
class Axis:
    """Voxels along one axis of a frame: centre of the first, distance between two, number."""

    first_mm: float
    spacing_mm: float
    size: int

    @classmethod
    def covering(cls, low_mm: float, high_mm: float, spacing_mm: float) -> Axis:
        """Return voxels from `low_mm` to `high_mm`, edge to edge, centred, the first at a multiple of `ROUNDED_MM`."""
        size = int(np.ceil((high_mm - low_mm + 2 * ROUNDED_MM) / spacing_mm))
        first = (low_mm + high_mm - spacing_mm * (size - 1)) / 2
        return cls(float(np.floor(first / ROUNDED_MM) * ROUNDED_MM), spacing_mm, size)

    def cropped(self, low_mm: float, high_mm: float) -> Axis:
        """Return the voxels that cover `low_mm` to `high_mm`, edge to edge; none of them moves."""
        edge = self.first_mm - self.spacing_mm / 2
        first = min(max(int(np.floor((low_mm - edge) / self.spacing_mm)), 0), self.size - 1)
        behind = min(max(int(np.ceil((high_mm - edge) / self.spacing_mm)), first + 1), self.size)
        return Axis(self.first_mm + first * self.spacing_mm, self.spacing_mm, behind - first)


@dataclass(frozen=True)
class Framed:
    """A grid in the coordinates of a frame.

    Attributes:
        steps: mm along the frame's axes (first index) for one step of each of the grid's indices (second index).
        origin: centre of the first voxel, mm along the frame's axes.
        shape: number of voxels by index.
    """

    steps: Floats
    origin: Floats
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, geometry: VolumeGeometry, frame: Floats) -> Framed:
        """Return `geometry` (LPS) in `frame`, whose rows are the directions of its axes."""
        slices, rows, columns = geometry.spatial_shape
        affine = frame @ geometry.affine[:3]
        return cls(affine[:, :3], affine[:, 3], (slices, rows, columns))

    @property
    def centre(self) -> Floats:
        """The middle of the grid, mm."""
        middle: Floats = self.origin + self.steps @ ((np.array(self.shape) - 1) / 2)
        return middle

    def edges_mm(self) -> tuple[Floats, Floats]:
        """Return the lowest and highest place of the outer edges of the corner voxels, along each axis."""
        ends = [(-0.5, size - 0.5) for size in self.shape]
        corners = self.steps @ np.array(np.meshgrid(*ends)).reshape(3, -1) + self.origin[:, None]
        return corners.min(axis=1), corners.max(axis=1)

    def kept(self, axis: int, spacing_mm: float) -> Axis:
        """Return as many voxels as the grid has along an axis, about the same centre."""
        size = self.shape[axis]
        return Axis(float(self.centre[axis]) - spacing_mm * (size - 1) / 2, spacing_mm, size)

    def fits(self, axis: int, spacing_mm: float) -> bool:
        """Return whether the planes along an axis may stay where they are, at this spacing.

        They may when only the index along that axis moves a voxel along the frame's axis.
        """
        moves_mm = np.abs(self.steps[axis]) * (np.array(self.shape) - 1)
        wanted_mm = spacing_mm * (self.shape[axis] - 1)
        off_mm = abs(moves_mm[axis] - wanted_mm) / 2 + np.delete(moves_mm, axis).sum()
        return bool(off_mm <= SAME_GRID_TOLERANCE_MM)

    def same_as(self, axes: Sequence[Axis]) -> bool:
        """Return whether no voxel lies farther than the tolerance from the one of equal index along `axes`."""
        ends = [(0, size - 1) for size in self.shape]
        corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
        apart = self.steps - np.diag([axis.spacing_mm for axis in axes])
        moved = apart @ corners + (self.origin - [axis.first_mm for axis in axes])[:, None]
        return float(np.linalg.norm(moved, axis=0).max()) <= SAME_GRID_TOLERANCE_MM

    def covering_axes(self, spacing_mm: tuple[float, float, float] | None) -> list[Axis]:
        """Return the voxels along each axis of the frame that cover the whole grid.

        Without `spacing_mm` they have the grid's own spacing between slices and the finer of its two in the plane;
        rounded to `ROUNDED_MM` where the grid does not run along the frame's axes.
        """
        lengths = [float(step) for step in np.linalg.norm(self.steps, axis=0)]
        wanted = spacing_mm or (lengths[0], min(lengths[1:]), min(lengths[1:]))
        kept = [self.kept(axis, mm) for axis, mm in enumerate(wanted)]
        if self.same_as(kept):
            return kept
        if spacing_mm is None and not self.same_as([self.kept(axis, mm) for axis, mm in enumerate(lengths)]):
            slice_mm, row_mm, column_mm = (max(round(mm / ROUNDED_MM), 1) * ROUNDED_MM for mm in wanted)
            wanted = (slice_mm, row_mm, column_mm)
        low, high = self.edges_mm()
        return [
            self.kept(axis, mm) if self.fits(axis, mm) else Axis.covering(low[axis], high[axis], mm)
            for axis, mm in enumerate(wanted)
        ]


def axial_geometry(geometry: VolumeGeometry | Volume) -> VolumeGeometry:
    """Return the axial grid of the whole field of view of `geometry`, at the spacing that suits it best.

    1\\0\\0\\0\\1\\0, slices inferior to superior, square pixels. The grid covers every voxel of the source, edges
    included. Each axis of a source that lies along the patient's axes is kept plane for plane where its spacing fits:
    all three when the axial pixels are square, so that the CT is the source flipped and permuted.
    """
    return output_geometry(geometry, WHOLE_FIELD)


def output_geometry(
    mr: VolumeGeometry | Volume, output: OutputGrid = WHOLE_FIELD, body: Volume | None = None
) -> VolumeGeometry:
    """Return the grid of the CT of an MR: slices, rows and columns along the wanted planes, the wanted field covered.

    Args:
        mr: where the MR lies, LPS mm, slices along row cosines x column cosines.
        output: the settings of the site.
        body: mask of the body on any grid, not 0 inside; needed for the field `body`. Where it is empty the whole
            field of view of the MR is taken.

    Raises:
        Unsuitable: GRID_TOO_LARGE, the grid has more than `MOST_VOXELS` voxels.
    """
    geometry = mr.get_geometry() if isinstance(mr, Volume) else mr
    axial = output.orientation == "axial"
    upright = geometry.to_patient_orientation("HPL") if axial else geometry
    frame = AXIAL_FRAME if axial else nearest_frame(geometry)
    axes = Framed.of(upright, frame).covering_axes(output.spacing_mm)
    if output.field == "body" and body is not None and body.array.any():
        low, high = mask_edges_mm(body, frame)
        axes = [
            axis.cropped(from_mm - output.margin_mm, to_mm + output.margin_mm)
            for axis, from_mm, to_mm in zip(axes, low, high, strict=True)
        ]
    shape = [axis.size for axis in axes]
    if int(np.prod(shape, dtype=object)) > MOST_VOXELS:
        raise Unsuitable.of("GRID_TOO_LARGE", found=" x ".join(map(str, shape)), most=MOST_VOXELS)
    affine = np.eye(4)
    affine[:3, :3] = frame.T * [axis.spacing_mm for axis in axes]
    affine[:3, 3] = frame.T @ [axis.first_mm for axis in axes]
    return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=upright.frame_of_reference_uid)


def nearest_frame(geometry: VolumeGeometry) -> Floats:
    """Return the perpendicular directions nearest the slice, row and column directions of a grid, as rows; LPS."""
    left, _, right = np.linalg.svd(geometry.direction.T)
    perpendicular: Floats = left @ right
    return perpendicular


def mask_edges_mm(mask: Volume, frame: Floats) -> tuple[Floats, Floats]:
    """Return the lowest and highest place of the outer edges of the voxels of a mask, along each axis of the frame.

    A place is linear in the indices, so of each row of voxels only the first and the last can be the extreme.
    """
    inside = mask.array != 0
    slices, rows = np.nonzero(inside.any(axis=2))
    lines = inside[slices, rows]
    first, last = lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    ends = np.stack([np.tile(slices, 2), np.tile(rows, 2), np.concatenate([first, last])])
    seen = Framed.of(mask.get_geometry(), frame)
    places = seen.steps @ ends + seen.origin[:, None]
    half = np.abs(seen.steps).sum(axis=1) / 2
    return places.min(axis=1) - half, places.max(axis=1) + half
