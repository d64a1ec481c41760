"""Make an analytic left thigh: the same anatomy as MR values, as true HU and as labels, on any grid.

Every shape is a formula in patient coordinates (LPS, mm: x to the patient's left, y to posterior, z to superior; PS3.3
C.7.6.2.1.1) that is sampled at voxel centres, so an oblique grid is as exact as an axial one. The femur lies lateral
(+x) and anterior (-y) of the centre and leans, the vessels lie medial, and the thigh widens towards superior: all
directions differ, so that swapped axes are seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from pipeline.phantom.mr_series import PHANTOM_SUBJECT, Subject, write_enhanced_mr, write_mr_series

__all__ = [
    "PHANTOM_SUBJECT",
    "TISSUES",
    "Phantom",
    "Subject",
    "Tissue",
    "axial_grid",
    "femur_centre_mm",
    "oblique_grid",
    "thigh",
    "write_enhanced_mr",
    "write_mr_series",
]

Coordinates = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tissue:
    """One tissue: its label, its HU, and its T1-weighted MR value (arbitrary units)."""

    label: int
    name: str
    hu: float
    mr: float


AIR = Tissue(0, "air", -1000.0, 10.0)
FAT = Tissue(1, "fat", -100.0, 1000.0)
MUSCLE = Tissue(2, "muscle", 55.0, 350.0)
CORTICAL_BONE = Tissue(3, "cortical bone", 1200.0, 60.0)
MARROW = Tissue(4, "marrow", -20.0, 900.0)
VESSEL = Tissue(5, "vessel", 45.0, 80.0)
TISSUES = (AIR, FAT, MUSCLE, CORTICAL_BONE, MARROW, VESSEL)

THIGH_RADIUS_MM = 75.0
"""Radius at z = 0; it grows by the fraction `THIGH_TAPER` for each mm towards superior."""
THIGH_TAPER = 0.0008
FEMUR_RADIUS_MM = 14.0
CORTEX_MM = 5.5
ARTERY_RADIUS_MM = 4.0
VEIN_RADIUS_MM = 5.0
SEPTUM_MM = 1.6
"""Thickness of the fatty planes between the three muscle compartments."""
SEPTA_DEGREES = (25.0, 130.0, 195.0)
"""Directions of these planes from the femur outwards: the borders of extensors, flexors and adductors."""


@dataclass(frozen=True)
class Phantom:
    """One thigh on one grid: MR values (float32), true HU (float32) and labels (uint8, of `TISSUES`)."""

    mr: Volume
    hu: Volume
    labels: Volume


def thigh(geometry: VolumeGeometry, seed: int = 0, noise: float = 15.0, bias: float = 0.0) -> Phantom:
    """Sample the thigh at the voxel centres of `geometry` (any orientation, LPS mm).

    `noise` is the standard deviation of each channel of the Rician noise in MR units, drawn from `seed`; `bias` is
    the relative amplitude of a smooth receive field (0.1: about 10 %).
    """
    x, y, z = _coordinates(geometry)
    labels = _labels(x, y, z)
    hu = np.array([tissue.hu for tissue in TISSUES], np.float32)[labels]
    mr = np.array([tissue.mr for tissue in TISSUES], np.float32)[labels]
    if bias:  # between about -1 and 1 over the thigh, brighter towards anterior left
        field = np.sin((x - y) / 120) + 0.3 * np.cos(z / 90)
        mr *= 1 + np.float32(bias) * np.clip(field, -1, 1).astype(np.float32)
    if noise > 0:  # |signal + n1 + i n2| (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618)
        draw = np.random.default_rng(seed)
        real = mr + noise * draw.standard_normal(mr.shape, np.float32)
        mr = np.hypot(real, noise * draw.standard_normal(mr.shape, np.float32))
    return Phantom(geometry.with_array(mr), geometry.with_array(hu), geometry.with_array(labels))


def femur_centre_mm(z: Coordinates | float) -> tuple[Coordinates | float, Coordinates | float]:
    """Return (x, y) of the femur's axis at height `z`, LPS mm: it leans laterally towards superior."""
    return 14.0 + 0.08 * z, -10.0 + 0.03 * z


def axial_grid(
    shape: tuple[int, int, int] = (60, 180, 180),
    spacing_mm: tuple[float, float, float] = (3.0, 1.0, 1.0),
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    frame_of_reference_uid: str | None = None,
) -> VolumeGeometry:
    """Return an axial grid (slice, row, column), slices inferior to superior, its centre at `centre_mm` (LPS)."""
    step = np.zeros((3, 3))
    step[2, 0], step[1, 1], step[0, 2] = spacing_mm
    return _grid(shape, step, centre_mm, frame_of_reference_uid)


def oblique_grid(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rotation: NDArray[np.float64],
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    frame_of_reference_uid: str | None = None,
) -> VolumeGeometry:
    """Return a grid (slice, row, column) whose axes are the axial grid's, turned by `rotation` (3 x 3, LPS)."""
    step = np.zeros((3, 3))
    step[2, 0], step[1, 1], step[0, 2] = spacing_mm
    return _grid(shape, np.asarray(rotation) @ step, centre_mm, frame_of_reference_uid)


def _grid(
    shape: tuple[int, int, int],
    step: NDArray[np.float64],
    centre_mm: tuple[float, float, float],
    frame_of_reference_uid: str | None,
) -> VolumeGeometry:
    affine = np.eye(4)
    affine[:3, :3] = step
    affine[:3, 3] = np.asarray(centre_mm) - step @ ((np.asarray(shape) - 1) / 2)
    return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=frame_of_reference_uid)


def _coordinates(geometry: VolumeGeometry) -> tuple[Coordinates, Coordinates, Coordinates]:
    """Return x, y and z (LPS, mm) of every voxel centre, each of the grid's shape."""
    steps = [np.arange(n, dtype=np.float64) for n in geometry.spatial_shape]
    k, j, i = np.ix_(*steps)
    affine = geometry.affine
    x, y, z = (affine[a, 0] * k + affine[a, 1] * j + affine[a, 2] * i + affine[a, 3] for a in range(3))
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _labels(x: Coordinates, y: Coordinates, z: Coordinates) -> NDArray[np.uint8]:
    """Return the label at every voxel centre; later shapes overwrite earlier ones."""
    labels = np.full(x.shape, AIR.label, np.uint8)
    scale = 1 + np.float32(THIGH_TAPER) * z
    labels[_ellipse(x, y, THIGH_RADIUS_MM * scale, 0.94 * THIGH_RADIUS_MM * scale)] = FAT.label
    muscle = _ellipse(x - 3, y + 4, (THIGH_RADIUS_MM - 14) * scale, (0.94 * THIGH_RADIUS_MM - 13) * scale)
    femur_x, femur_y = femur_centre_mm(z)
    from_femur = x - femur_x, y - femur_y
    septa = np.zeros(x.shape, np.bool_)
    for degrees in SEPTA_DEGREES:
        c, s = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
        across, along = from_femur[0] * s - from_femur[1] * c, from_femur[0] * c + from_femur[1] * s
        septa |= (np.abs(across) < SEPTUM_MM / 2) & (along > 0)
    labels[muscle & ~septa] = MUSCLE.label
    labels[_ellipse(x + 27, y + 12, ARTERY_RADIUS_MM, ARTERY_RADIUS_MM)] = VESSEL.label
    labels[_ellipse(x + 34, y + 3, VEIN_RADIUS_MM, VEIN_RADIUS_MM)] = VESSEL.label
    from_axis = np.hypot(*from_femur)
    labels[from_axis < FEMUR_RADIUS_MM] = CORTICAL_BONE.label
    labels[from_axis < FEMUR_RADIUS_MM - CORTEX_MM] = MARROW.label
    return labels


def _ellipse(x: Coordinates, y: Coordinates, a: Coordinates | float, b: Coordinates | float) -> Mask:
    inside: Mask = (x / a) ** 2 + (y / b) ** 2 < 1
    return inside
