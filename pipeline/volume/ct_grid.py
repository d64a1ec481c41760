"""The grid of the CT: which voxels are written, from where the MR lies and what a site asks for.

All affines are LPS, mm, float64, and map (slice, row, column) indices to voxel centres: columns of the 3 x 3 part are
the slice, row and column steps. A grid is made along three perpendicular directions, its frame: the patient's axes for
axial planes, or the MR's own. Within a frame a place has the coordinates (slice, row, column), in mm.
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
"""No voxel centre of two grids that count as the same lies farther apart: the error allowed in a CT's positions."""

ROUNDED_MM = 1e-4
"""Spacings and origins of a grid made new are multiples of this, so that DS writes them exactly (PS3.5 6.2)."""

MOST_VOXELS = 2**29
"""Largest grid that is made: 2 GiB of float32. A study of 1024 x 1024 pixels has 512 slices then."""

AXIAL_FRAME: Floats = np.eye(3)[::-1]
"""Directions in which slices, rows and columns follow each other: to superior, posterior and left (LPS)."""


@dataclass(frozen=True)
class OutputGrid:
    """What a site asks of the CT's grid.

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

    def words(self) -> str:
        """The field for a person."""
        return f"body outline and {self.margin_mm:g} mm around it" if self.field == "body" else "whole MR"


WHOLE_FIELD = OutputGrid()


@dataclass(frozen=True)
class Axis:
    """Voxels along one axis of a frame: centre of the first, distance between two, number."""

    first_mm: float
    spacing_mm: float
    size: int


@dataclass(frozen=True)
class Framed:
    """A grid as its frame sees it.

    Attributes:
        steps: mm along the frame's axes (first index) for one step of each of the grid's indices (second index).
        origin: centre of the first voxel.
        shape: number of voxels by index.
    """

    steps: Floats
    origin: Floats
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, geometry: VolumeGeometry, frame: Floats) -> Framed:
        """`geometry` (LPS) in `frame`, whose rows are the directions of its axes."""
        slices, rows, columns = geometry.spatial_shape
        affine = frame @ geometry.affine[:3]
        return cls(affine[:, :3], affine[:, 3], (slices, rows, columns))

    @property
    def centre(self) -> Floats:
        """The middle of the grid."""
        middle: Floats = self.origin + self.steps @ ((np.array(self.shape) - 1) / 2)
        return middle

    def edges_mm(self) -> tuple[Floats, Floats]:
        """Lowest and highest place of the outer edges of the corner voxels, along each axis of the frame."""
        ends = [(-0.5, size - 0.5) for size in self.shape]
        corners = self.steps @ np.array(np.meshgrid(*ends)).reshape(3, -1) + self.origin[:, None]
        return corners.min(axis=1), corners.max(axis=1)


def axial_geometry(geometry: VolumeGeometry | Volume) -> VolumeGeometry:
    """Return the axial grid of the whole field of view of `geometry`, at the spacing that suits it best.

    1\\0\\0\\0\\1\\0, slices inferior to superior, square pixels. The grid covers every voxel of the source, edges
    included. Each axis of a source that lies along the patient's axes is kept plane for plane where its spacing fits:
    all three when the axial pixels are square, so that the CT is the source flipped and permuted.
    """
    return output_geometry(geometry, WHOLE_FIELD)


def output_geometry(
    mr: VolumeGeometry | Volume, asked: OutputGrid = WHOLE_FIELD, body: Volume | None = None
) -> VolumeGeometry:
    """Return the grid of the CT of an MR: slices, rows and columns along the asked planes, all that was asked covered.

    Args:
        mr: where the MR lies, LPS mm, slices along row cosines x column cosines.
        asked: what the site wants.
        body: mask of the body on any grid, not 0 inside; needed for the field `body`. Where it is empty the whole
            field of view of the MR is taken.

    Raises:
        Unsuitable: GRID_TOO_LARGE, the grid has more than `MOST_VOXELS` voxels.
    """
    seen = mr.get_geometry() if isinstance(mr, Volume) else mr
    axial = asked.orientation == "axial"
    upright = seen.to_patient_orientation("HPL") if axial else seen
    frame = AXIAL_FRAME if axial else nearest_frame(seen)
    axes = _axes(Framed.of(upright, frame), asked.spacing_mm)
    if asked.field == "body" and body is not None and body.array.any():
        low, high = _mask_edges_mm(body, frame)
        axes = [
            _cropped(axis, from_mm - asked.margin_mm, to_mm + asked.margin_mm)
            for axis, from_mm, to_mm in zip(axes, low, high, strict=True)
        ]
    voxels = int(np.prod([axis.size for axis in axes], dtype=object))
    if voxels > MOST_VOXELS:
        raise Unsuitable.of("GRID_TOO_LARGE", found=" x ".join(str(axis.size) for axis in axes), most=MOST_VOXELS)
    return _grid(axes, frame, upright.frame_of_reference_uid)


def nearest_frame(geometry: VolumeGeometry) -> Floats:
    """The perpendicular directions nearest the geometry's slice, row and column directions, as rows; LPS."""
    left, _, right = np.linalg.svd(geometry.direction.T)
    perpendicular: Floats = left @ right
    return perpendicular


def same_lattice(grid: VolumeGeometry, other: VolumeGeometry) -> NDArray[np.int_] | None:
    """The index in `other` of the first voxel of `grid` where its voxels coincide with some of `other`'s; else None."""
    offset = np.rint((other.inverse_affine @ grid.affine)[:3, 3]).astype(int)
    affine = other.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ offset
    moved = VolumeGeometry(affine, grid.spatial_shape, "PATIENT")
    return offset if largest_difference_mm(moved, grid) <= SAME_GRID_TOLERANCE_MM else None


def largest_difference_mm(a: VolumeGeometry | Volume, b: VolumeGeometry | Volume) -> float:
    """Return the largest distance between voxel centres of equal index; infinite when the shapes differ."""
    if tuple(a.spatial_shape) != tuple(b.spatial_shape):
        return float("inf")
    ends = [(0, n - 1) for n in a.spatial_shape]
    corners = np.vstack([np.array(np.meshgrid(*ends)).reshape(3, -1), np.ones(8)])
    return float(np.linalg.norm(((a.affine - b.affine) @ corners)[:3], axis=0).max())


# --- one axis --------------------------------------------------------------------------------------------------------


def _axes(seen: Framed, spacing_mm: tuple[float, float, float] | None) -> list[Axis]:
    """The voxels along each axis of the frame that cover all of `seen`."""
    wanted = spacing_mm or _own_spacing(seen)
    kept = [_kept(seen, axis, mm) for axis, mm in enumerate(wanted)]
    if _farthest_mm(seen, kept) <= SAME_GRID_TOLERANCE_MM:
        return kept
    if spacing_mm is None and not _along(seen):
        wanted = (_rounded(wanted[0]), _rounded(wanted[1]), _rounded(wanted[2]))
    low, high = seen.edges_mm()
    return [
        _kept(seen, axis, mm) if _fits(seen, axis, mm) else _covering(low[axis], high[axis], mm)
        for axis, mm in enumerate(wanted)
    ]


def _own_spacing(seen: Framed) -> tuple[float, float, float]:
    """The source's own spacing between slices, and the finer of its two in the plane."""
    between, *in_plane = (float(step) for step in np.linalg.norm(seen.steps, axis=0))
    return between, min(in_plane), min(in_plane)


def _along(seen: Framed) -> bool:
    """Whether the axes of `seen` run along the frame's: turned onto them, no voxel moves more than the tolerance."""
    lengths = np.linalg.norm(seen.steps, axis=0)
    return _farthest_mm(seen, [_kept(seen, axis, float(mm)) for axis, mm in enumerate(lengths)]) <= (
        SAME_GRID_TOLERANCE_MM
    )


def _fits(seen: Framed, axis: int, spacing_mm: float) -> bool:
    """Whether the planes of `seen` along an axis may stay where they are, at this spacing.

    They may when only the index along that axis moves a voxel along the frame's axis.
    """
    moves_mm = np.abs(seen.steps[axis]) * (np.array(seen.shape) - 1)
    wanted_mm = spacing_mm * (seen.shape[axis] - 1)
    off_mm = abs(moves_mm[axis] - wanted_mm) / 2 + np.delete(moves_mm, axis).sum()
    return bool(off_mm <= SAME_GRID_TOLERANCE_MM)


def _kept(seen: Framed, axis: int, spacing_mm: float) -> Axis:
    """Return as many voxels as `seen` has along an axis, about the same centre."""
    size = seen.shape[axis]
    return Axis(float(seen.centre[axis]) - spacing_mm * (size - 1) / 2, spacing_mm, size)


def _covering(low_mm: float, high_mm: float, spacing_mm: float) -> Axis:
    """Return voxels from `low_mm` to `high_mm`, edge to edge, centred, the first at a multiple of `ROUNDED_MM`."""
    size = int(np.ceil((high_mm - low_mm + 2 * ROUNDED_MM) / spacing_mm))
    first = (low_mm + high_mm - spacing_mm * (size - 1)) / 2
    return Axis(float(np.floor(first / ROUNDED_MM) * ROUNDED_MM), spacing_mm, size)


def _cropped(axis: Axis, low_mm: float, high_mm: float) -> Axis:
    """The voxels of an axis that cover `low_mm` to `high_mm`, edge to edge; their places stay as they are."""
    edge = axis.first_mm - axis.spacing_mm / 2
    first = min(max(int(np.floor((low_mm - edge) / axis.spacing_mm)), 0), axis.size - 1)
    behind = min(max(int(np.ceil((high_mm - edge) / axis.spacing_mm)), first + 1), axis.size)
    return Axis(axis.first_mm + first * axis.spacing_mm, axis.spacing_mm, behind - first)


def _rounded(spacing_mm: float) -> float:
    return max(round(spacing_mm / ROUNDED_MM), 1) * ROUNDED_MM


def _mask_edges_mm(mask: Volume, frame: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest place of the outer edges of the voxels of a mask, along each axis of the frame.

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


def _farthest_mm(seen: Framed, axes: Sequence[Axis]) -> float:
    """Largest distance between the voxels of `seen` and those of equal index along `axes`, of as many."""
    ends = [(0, size - 1) for size in seen.shape]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    apart = seen.steps - np.diag([axis.spacing_mm for axis in axes])
    moved = apart @ corners + (seen.origin - [axis.first_mm for axis in axes])[:, None]
    return float(np.linalg.norm(moved, axis=0).max())


def _grid(axes: Sequence[Axis], frame: Floats, frame_of_reference_uid: str | None) -> VolumeGeometry:
    """Return the grid of three axes along the directions of a frame, LPS."""
    affine = np.eye(4)
    affine[:3, :3] = frame.T * [axis.spacing_mm for axis in axes]
    affine[:3, 3] = frame.T @ [axis.first_mm for axis in axes]
    shape = [axis.size for axis in axes]
    return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=frame_of_reference_uid)
