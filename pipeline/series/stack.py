"""Frames -> one regular stack, or the reason why not. No file is read here.

Every step along the normal is computed from ImagePositionPatient (PS3.3 C.7.6.2.1.1) and checked against `Tolerances`.
SliceLocation, SpacingBetweenSlices and InstanceNumber are not used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from highdicom import VolumeGeometry
from numpy.typing import NDArray

from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame


def _within(default: float, low: float, high: float) -> Any:
    """Return a dataclass field with its default and its bounds."""
    return field(default=default, metadata={"bounds": (low, high)})


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a series may stray from one regular stack. Units are in the names; a site may set its own values.

    Attributes:
        min_slices: fewer slices are a localizer or a scout, never a volume to plan on.
        require_announced: refuse fewer images than ImagesInAcquisition announces; some scanners announce too many.
        max_spacing_mm: slices farther apart, or larger pixels, are too coarse.
        max_extent_mm: a longer edge of the field of view is no patient.
        max_voxels: more are refused before memory is asked for; 2^28 take 1 GiB.
        cosine: direction cosines from unit length and from a right angle (no unit); 2e-4 is 0.05 mm over 250 mm.
        orientation_deg: between the orientations of two slices; 0.01 is 0.02 mm at 125 mm from the centre.
        pixel_spacing_mm: between the pixel spacings of two slices; 1e-4 is 0.03 mm over 256 pixels.
        same_position_mm: two slices nearer than this along the normal lie at one position.
        step_mm: one step along the normal from the median step; scanners round positions to 0.01 mm at worst.
        position_mm: a slice from its place on the regular grid, along the normal and within the plane.
    """

    min_slices: int = _within(5, 2, 10_000)
    require_announced: bool = _within(True, False, True)
    max_spacing_mm: float = _within(10.0, 0.1, 100.0)
    max_extent_mm: float = _within(2200.0, 10.0, 10_000.0)
    max_voxels: int = _within(2**28, 1000, 2**34)
    cosine: float = _within(2e-4, 0.0, 0.01)
    orientation_deg: float = _within(0.01, 0.0, 1.0)
    pixel_spacing_mm: float = _within(1e-4, 0.0, 0.01)
    same_position_mm: float = _within(0.02, 0.0, 0.5)
    step_mm: float = _within(0.02, 0.0, 0.5)
    position_mm: float = _within(0.05, 0.0, 0.5)


TOLERANCES = Tolerances()
"""The tolerances of a site that sets none."""

NEARLY_PARALLEL_DEG = 30.0
"""Planes nearer than this may be one slice of a stack with a wrong orientation; a localizer crosses it."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Frames on a regular grid.

    Attributes:
        frames: in the order of their positions along the normal.
        geometry: their grid, axes (slice, row, column), LPS in mm.
    """

    frames: tuple[Frame, ...]
    geometry: VolumeGeometry


def stack_of(
    frames: Sequence[Frame], frame_of_reference_uid: str | None = None, tolerances: Tolerances = TOLERANCES
) -> Stack:
    """Order `frames` along the slice normal and return the regular grid that they fill.

    The normal is row cosines x column cosines (PS3.3 C.7.6.2.1.1), so axial slices run inferior to superior. The affine
    is equation C.7.6.2.1-1 with the slice as the first index.

    Raises:
        Unsuitable: TOO_FEW_SLICES, TOO_LARGE, BAD_GEOMETRY, MIXED_ORIENTATION, MIXED_MATRIX, MIXED_SPACING,
            SEVERAL_VOLUMES, DUPLICATE_POSITION, GAP, UNEVEN_STEPS, SHEAR or TOO_COARSE.
    """
    if len(frames) < tolerances.min_slices:
        raise Unsuitable.of("TOO_FEW_SLICES", found=len(frames), least=tolerances.min_slices)
    voxels = sum(frame.rows * frame.columns for frame in frames)
    if voxels > tolerances.max_voxels:
        raise Unsuitable.of("TOO_LARGE", found=f"{voxels} voxels", limit=tolerances.max_voxels)
    right_angled(frames, tolerances)
    check_same_plane(frames, tolerances)
    rows, columns, normal = axes_of(common_orientation(frames))
    ordered = sorted(frames, key=lambda frame: (distance_mm(frame, normal), frame.name))
    distances = np.array([distance_mm(frame, normal) for frame in ordered])
    check_regular(ordered, distances, normal, tolerances)
    between_rows, between_columns = ordered[0].pixel_spacing_mm
    step = (distances[-1] - distances[0]) / (len(ordered) - 1)
    pixel_mm = max(between_rows, between_columns)
    what, coarsest = ("slices", step) if step >= pixel_mm else ("pixels", pixel_mm)
    if coarsest > tolerances.max_spacing_mm:
        limit_mm = shown(tolerances.max_spacing_mm)
        raise Unsuitable.of("TOO_COARSE", what=what, found_mm=shown(coarsest), limit_mm=limit_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([normal * step, columns * between_rows, rows * between_columns])
    affine[:3, 3] = ordered[0].position_mm
    shape = (len(ordered), ordered[0].rows, ordered[0].columns)
    longest = max(size * mm for size, mm in zip(shape, (step, between_rows, between_columns), strict=True))
    if longest > tolerances.max_extent_mm:
        raise Unsuitable.of("TOO_LARGE", found=f"{shown(longest)} mm", limit=f"{shown(tolerances.max_extent_mm)} mm")
    grid = VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=frame_of_reference_uid)
    return Stack(tuple(ordered), grid)


def common_orientation(frames: Sequence[Frame]) -> tuple[float, ...]:
    """Return the orientation (six direction cosines) that most frames have, whatever their order."""
    counts = Counter(tuple(round(cosine, 3) for cosine in frame.orientation) for frame in frames)
    most, _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    return min(f.orientation for f in frames if tuple(round(cosine, 3) for cosine in f.orientation) == most)


def axes_of(orientation: Sequence[float]) -> tuple[Vector, Vector, Vector]:
    """Return the unit vectors along a row, along a column, and of the normal (LPS), exactly orthonormal."""
    cosines = np.reshape(np.asarray(orientation, np.float64), (2, 3))
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > 1e-12:
        left, _, right = np.linalg.svd(cosines, full_matrices=False)
        cosines = left @ right  # the nearest orthonormal pair
    rows, columns = cosines + 0.0  # no -0.0
    return rows, columns, np.cross(rows, columns)


def distance_mm(frame: Frame, normal: Vector) -> float:
    """Return the position of `frame` along `normal`, in mm."""
    return float(np.dot(frame.position_mm, normal))


def most_at_one_position(frames: Sequence[Frame], tolerances: Tolerances) -> int:
    """Return the largest number of `frames` at one position along their normal."""
    return int(_counts(_distances(frames), tolerances).max(initial=0))


def missing_slices(slices: Sequence[Frame], others: Sequence[Frame], tolerances: Tolerances) -> list[Frame]:
    """Return those of `others` that may be slices which the stack of `slices` lacks: in a gap, or next to an end.

    A frame may be such a slice when its first pixel lies on the grid of the stack, or when it is nearly parallel.
    """
    places = _distances(slices)
    steps = np.diff(places)
    if not (steps > tolerances.same_position_mm).any():
        return []
    step = float(np.median(steps[steps > tolerances.same_position_mm]))
    normal = axes_of(common_orientation(slices))[2]

    def lacks(place: float) -> bool:
        near = places[0] - 1.5 * step <= place <= places[-1] + 1.5 * step
        return bool(near and np.abs(places - place).min() > step / 2)

    def may_be_one(frame: Frame) -> bool:
        corner, middle = distance_mm(frame, normal), float(centre_mm(frame) @ normal)
        off_mm = abs(math.remainder(corner - places[0], step))
        tilt = _degrees(axes_of(frame.orientation)[2], normal)
        parallel = min(tilt, 180 - tilt) <= NEARLY_PARALLEL_DEG
        return (lacks(corner) and off_mm <= tolerances.position_mm) or (parallel and lacks(middle))

    return [frame for frame in others if may_be_one(frame)]


def centre_mm(frame: Frame) -> Vector:
    """Return the centre of a frame (LPS, mm)."""
    rows, columns, _ = axes_of(frame.orientation)
    between_rows, between_columns = frame.pixel_spacing_mm
    along_row, along_column = between_columns * (frame.columns - 1) / 2, between_rows * (frame.rows - 1) / 2
    return np.asarray(frame.position_mm) + rows * along_row + columns * along_column


def angle_deg(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the larger of the angles between the rows and between the columns of two orientations."""
    return max(map(_degrees, axes_of(a)[:2], axes_of(b)[:2]))


def right_angled(frames: Sequence[Frame], tolerances: Tolerances) -> None:
    """Check that direction cosines are unit vectors at a right angle (PS3.3 C.7.6.2.1.1).

    Raises:
        Unsuitable: BAD_GEOMETRY.
    """
    for frame in frames:
        cosines = np.reshape(frame.orientation, (2, 3))
        if np.abs(cosines @ cosines.T - np.eye(2)).max() > tolerances.cosine:
            detail = "its direction cosines are not of unit length and at right angles"
            attribute = "ImageOrientationPatient"
            raise Unsuitable.of("BAD_GEOMETRY", name=frame.name, attribute=attribute, detail=detail)


def _distances(frames: Sequence[Frame]) -> Vector:
    """Return the positions of `frames` along their normal, ascending."""
    normal = axes_of(common_orientation(frames))[2]
    return np.sort([distance_mm(frame, normal) for frame in frames])


def _counts(distances: Vector, tolerances: Tolerances) -> NDArray[np.int64]:
    """Return how many frames lie at each position, from their ascending distances."""
    new = np.flatnonzero(np.diff(distances, prepend=-np.inf) > tolerances.same_position_mm)
    return np.diff(np.append(new, len(distances)))


def _degrees(a: Vector, b: Vector) -> float:
    """Return the angle between two unit vectors; exact near 0, unlike the arc cosine."""
    return math.degrees(2 * math.asin(min(1.0, float(np.linalg.norm(a - b)) / 2)))


def check_same_plane(frames: Sequence[Frame], tolerances: Tolerances) -> None:
    """Check that all frames have one orientation, one matrix and one pixel spacing.

    Raises:
        Unsuitable: MIXED_ORIENTATION, MIXED_MATRIX or MIXED_SPACING; the sentence names the first frame that differs.
    """
    orientation = common_orientation(frames)
    angles = [(frame.name, angle_deg(frame.orientation, orientation)) for frame in frames]
    turned = [one for one in angles if one[1] > tolerances.orientation_deg]
    if turned:
        name, degrees = min(turned)
        found = len({tuple(round(cosine, 3) + 0.0 for cosine in frame.orientation) for frame in frames})
        raise Unsuitable.of("MIXED_ORIENTATION", found=max(found, 2), name=name, degrees=shown(degrees))
    sizes = Counter((frame.rows, frame.columns) for frame in frames)
    matrix, _ = max(sizes.items(), key=lambda item: (item[1], item[0]))
    by_name = sorted(frames, key=lambda frame: frame.name)
    odd = [frame for frame in by_name if (frame.rows, frame.columns) != matrix]
    if 0 in matrix:
        odd = odd or by_name
    if odd:
        found_matrix = f"{odd[0].rows} x {odd[0].columns}"
        expected = f"{matrix[0]} x {matrix[1]}"
        raise Unsuitable.of("MIXED_MATRIX", expected=expected, name=odd[0].name, found=found_matrix)
    spacing = tuple(np.median([frame.pixel_spacing_mm for frame in frames], axis=0))
    for frame in by_name:
        if max(abs(a - b) for a, b in zip(frame.pixel_spacing_mm, spacing, strict=True)) > tolerances.pixel_spacing_mm:
            texts = [" x ".join(shown(mm) for mm in one) for one in (spacing, frame.pixel_spacing_mm)]
            raise Unsuitable.of("MIXED_SPACING", expected=texts[0], name=frame.name, found=texts[1])


def check_regular(ordered: Sequence[Frame], distances: Vector, normal: Vector, tolerances: Tolerances) -> None:
    """Check that the positions of frames, in order along their normal, are those of one regular grid.

    Args:
        ordered: the frames.
        distances: their positions along the normal, in mm.
        normal: unit vector, LPS.
        tolerances: how far a position may lie from the grid.

    Raises:
        Unsuitable: SEVERAL_VOLUMES where most positions repeat, DUPLICATE_POSITION where few do, GAP, UNEVEN_STEPS, or
            SHEAR where slices are shifted within their plane.
    """
    counts = _counts(distances, tolerances)
    repeated = np.flatnonzero(counts > 1)
    if 2 * repeated.size > counts.size:
        images = shown_range(int(counts.min()), int(counts.max()))
        found = f"the series holds {images} images at each of {counts.size} positions"
        raise Unsuitable.of("SEVERAL_VOLUMES", found=found, detail=differences(ordered))
    if repeated.size:
        first = int(repeated[0])
        raise Unsuitable.of("DUPLICATE_POSITION", found=int(counts[first]), slice=first + 1, slices=counts.size)
    slices, steps = len(distances), np.diff(distances)
    expected = float(np.median(steps))
    off_grid = np.abs(distances - np.linspace(distances[0], distances[-1], slices)).max()
    worst = int(np.argmax(np.abs(steps - expected)))
    if abs(steps[worst] - expected) > tolerances.step_mm or off_grid > tolerances.position_mm:
        code = "GAP" if steps[worst] > expected else "UNEVEN_STEPS"
        step_mm, expected_mm = shown(steps[worst]), shown(expected)
        raise Unsuitable.of(code, step_mm=step_mm, slice=worst + 1, slices=slices, expected_mm=expected_mm)
    positions = np.array([frame.position_mm for frame in ordered])
    in_plane = positions - positions[0] - np.outer(distances - distances[0], normal)
    shifts = np.linalg.norm(in_plane, axis=1)
    worst = int(np.argmax(shifts))
    if shifts[worst] > tolerances.position_mm:
        shift_mm, limit_mm = shown(shifts[worst]), shown(tolerances.position_mm)
        raise Unsuitable.of("SHEAR", slice=worst + 1, slices=slices, shift_mm=shift_mm, limit_mm=limit_mm)


def differences(frames: Sequence[Frame]) -> str:
    """Return the attributes in which `frames` differ, in words: "; they differ in EchoTime (2.3, 4.6)", or ""."""
    parts = []
    for keyword in dict.fromkeys(keyword for frame in frames for keyword in frame.kind):
        values = sorted({frame.kind.get(keyword, "") or "none" for frame in frames})
        if len(values) > 1:
            parts.append(f"{keyword} ({', '.join(values) if len(values) <= 4 else f'{len(values)} values'})")
    return f"; they differ in {', '.join(parts)}" if parts else ""


def shown(value: float) -> str:
    """Return a length or an angle with at most three decimals: 3.2, 1.016, 0.05."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def shown_range(low: int, high: int) -> str:
    """Return "4", or "2 to 4"."""
    return str(low) if low == high else f"{low} to {high}"
