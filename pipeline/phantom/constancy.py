"""Measure constancy: send the phantom through the whole chain, and compare the result with an earlier one.

The phantom is written as an oblique MR series, read, converted, written as a CT series, checked as for a destination,
and read again. All measurements are of the CT that a planning system would receive: LPS, mm, HU.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray
from scipy import ndimage

from models.inference.weights import Model
from pipeline.conversion import ConversionOptions, convert
from pipeline.phantom.comparison import read_ct, truth
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import TISSUES, oblique_grid, thigh
from pipeline.series.series import only_series, read_series
from pipeline.volume.volume import read_volume

Point = tuple[float, float, float]
"""(x, y, z), LPS, mm."""
CORNERS: Final = ("first voxel", "last voxel")

SHAPE: Final = (36, 192, 192)
SPACING_MM: Final = (3.3, 1.0, 1.0)
"""Spacing of the MR: slice, row, column."""
TILT_DEGREES: Final = (12.0, 8.0)
"""Rotation of the MR's planes about the patient's left-right and front-back axes, so that no axis is aligned."""
BODY_HU: Final = -200.0
BONE_HU: Final = 250.0


@dataclass(frozen=True)
class Measured:
    """The measurements of one run.

    Attributes:
        tissues: mean HU of each tissue of the phantom, at least a voxel away from its borders within the plane.
        corners: centres of the CT's first and last voxel.
        body: centre of gravity of all voxels above `BODY_HU`; None when there are none.
        bone: the same above `BONE_HU`.
        body_ml: volume of the body.
        complaints: rules for CT series that the CT breaks.
    """

    tissues: dict[str, float]
    corners: tuple[Point, Point]
    body: Point | None
    bone: Point | None
    body_ml: float
    complaints: tuple[str, ...] = ()

    def as_json(self) -> str:
        """Encode the measurements as JSON, which `read` decodes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> Measured:
        """Decode the text of `as_json`. Raises ValueError, KeyError or TypeError for another text."""
        found = json.loads(text)
        body, bone = (None if found[name] is None else _point(found[name]) for name in ("body", "bone"))
        first, last = found["corners"]
        tissues = {str(name): float(value) for name, value in found["tissues"].items()}
        corners = (_point(first), _point(last))
        return cls(tissues, corners, body, bone, float(found["body_ml"]), tuple(map(str, found["complaints"])))


def _point(values: list[float]) -> Point:
    x, y, z = map(float, values)
    return x, y, z


@dataclass(frozen=True)
class Difference:
    """The largest differences from a reference, in HU and in mm, the quantities that have them, and lost quantities."""

    hu: float
    of_hu: str
    mm: float
    of_mm: str
    lost: tuple[str, ...] = ()


def run_phantom(model: Model, folder: Path, options: ConversionOptions) -> Measured:
    """Send the phantom through the whole chain in an empty folder; findings have no limits, which are for patients.

    Raises:
        Unsuitable, OSError: as `convert`.
    """
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, findings={}))
    options = dataclasses.replace(options, limits={}, gate="auto")
    about_x, about_y = (np.deg2rad(degrees) for degrees in TILT_DEGREES)
    tilt_x = np.array([[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]])
    tilt_y = np.array([[np.cos(about_y), 0, np.sin(about_y)], [0, 1, 0], [-np.sin(about_y), 0, np.cos(about_y)]])
    made = thigh(oblique_grid(SHAPE, SPACING_MM, tilt_x @ tilt_y), seed=1)
    series = only_series(read_series(write_mr_series(made.mr, folder / "mr", seed=1, shuffled=True)))
    (folder / "ct").mkdir()
    result = convert(series, model, folder / "ct", options)
    measured = measure(read_ct(result.ct), read_volume(series).get_geometry())
    return dataclasses.replace(measured, complaints=tuple(map(str, result.complaints)))


def measure(ct: Volume, mr: VolumeGeometry) -> Measured:
    """Measure a synthetic CT of the phantom whose MR had the grid `mr`."""
    labels = truth(ct, mr).labels.array
    within = ndimage.minimum_filter(labels, size=(1, 3, 3)) == ndimage.maximum_filter(labels, size=(1, 3, 3))
    tissues = {}
    for tissue in TISSUES:
        where = within & (labels == tissue.label)
        tissues[tissue.name] = round(float(ct.array[where].mean()), 3) if where.any() else math.nan
    body = ct.array > BODY_HU
    millilitres = float(body.sum() * np.prod(ct.spacing) / 1000.0)
    last = np.asarray(ct.spatial_shape) - 1
    corners = (_in_mm(ct, np.zeros(3)), _in_mm(ct, last))
    return Measured(tissues, corners, _centre(ct, body), _centre(ct, ct.array > BONE_HU), round(millilitres, 2))


def _centre(ct: Volume, mask: NDArray[np.bool_]) -> Point | None:
    """Return the centre of gravity of a mask on the grid of `ct`."""
    return _in_mm(ct, np.asarray(ndimage.center_of_mass(mask))) if mask.any() else None


def _in_mm(ct: Volume, index: NDArray[np.floating] | NDArray[np.integer]) -> Point:
    x, y, z = (round(float(value), 4) for value in ct.affine[:3, :3] @ index + ct.affine[:3, 3])
    return x, y, z


def difference(measured: Measured, reference: Measured) -> Difference:
    """Find the largest differences from a reference. A quantity that only one of the two has is `lost`."""
    hu = {name: abs(measured.tissues.get(name, math.nan) - value) for name, value in reference.tissues.items()}
    known = {name: value for name, value in hu.items() if math.isfinite(value)}
    lost = [name for name in hu if name not in known and math.isfinite(reference.tissues[name])]
    mm = {name: math.dist(*pair) for name, *pair in zip(CORNERS, measured.corners, reference.corners, strict=True)}
    for name, now, before in (("body", measured.body, reference.body), ("bone", measured.bone, reference.bone)):
        if now is not None and before is not None:
            mm[name] = math.dist(now, before)
        elif now is not before:
            lost.append(name)
    mm["size of the body"] = abs(_radius_mm(measured.body_ml) - _radius_mm(reference.body_ml))
    of_hu, of_mm = max(known, key=known.__getitem__, default=""), max(mm, key=mm.__getitem__)
    return Difference(known.get(of_hu, 0.0), of_hu, mm[of_mm], of_mm, tuple(lost))


def _radius_mm(millilitres: float) -> float:
    """Return the radius of a sphere of this volume."""
    return float(np.cbrt(3000.0 * millilitres / (4.0 * np.pi)))
