"""Measures of one case, MR and synthetic CT, and limits within which they are plausible. Free of torch.

`MEASURES` is the table: what is measured of the MR that came in and of the HU that came out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import CT_BODY_HU, Mask, fill_slices, full_signal
from models.data.intensity import AIR_HU
from models.measures import mr_quality
from models.measures.path_length import path_lengths_mm
from models.measures.similarity import FAT_HU, SOFT_HU

Inside = NDArray[np.float32]
"""HU of the voxels of the body, one-dimensional."""

MUSCLE_HU: Final = (-30.0, 150.0)
"""Muscle, vessels and marrow that holds blood lie between these."""
UNCERTAIN_HU: Final = 200.0
"""A voxel whose SD is larger is uncertain."""
PLANES: Final = 5
"""Axial planes in which rays are followed."""
MARGIN: Final = 0.5
"""Limits lie this fraction of the range of the known patients beyond its ends."""


@dataclass(frozen=True)
class Scan:
    """The MR as it was acquired: slices first, in whatever direction; noise, ghosts and motion belong to its planes.

    Attributes:
        mr: in the scanner's unit, axes (slice, row, column) of the acquisition.
        body: the outline on the same grid.
        spacing_mm: along the axes.
        axial: whether its planes are axial, within 45 degrees: in others the anatomy itself jumps from slice to slice.
    """

    mr: NDArray[np.float32]
    body: Mask
    spacing_mm: tuple[float, float, float]
    axial: bool = True

    @cached_property
    def relative(self) -> NDArray[np.float32]:
        """The MR relative to full signal."""
        full = full_signal(self.mr, self.body)
        return (self.mr / np.float32(full)).astype(np.float32) if full > 0 else np.zeros_like(self.mr, np.float32)


@dataclass(frozen=True)
class CaseImages:
    """One case on the model's grid, axes (slice, row, column) along +S, +P, +L.

    Attributes:
        mr: in the scanner's unit.
        hu: synthetic CT.
        body: outline of the MR.
        spacing_mm: along the axes.
        sd: standard deviation in HU by voxel, None where the model gives none.
        novelty: the model's out-of-distribution score, None where it gives none.
        mr_quantiles: of the training images, as `mr_quality.quantiles` gives them; empty where the card has none.
        acquired: the MR on its own grid, None where the model's is its own.
    """

    mr: NDArray[np.float32]
    hu: NDArray[np.float32]
    body: Mask
    spacing_mm: tuple[float, float, float]
    sd: NDArray[np.float32] | None = None
    novelty: float | None = None
    mr_quantiles: tuple[float, ...] = ()
    acquired: Scan | None = None

    @cached_property
    def scan(self) -> Scan:
        """The MR on the grid of its acquisition."""
        return self.acquired or Scan(self.mr, self.body, self.spacing_mm)

    @cached_property
    def relative(self) -> NDArray[np.float32]:
        """The MR on the model's grid relative to full signal."""
        return Scan(self.mr, self.body, self.spacing_mm).relative

    @cached_property
    def inside(self) -> Inside:
        """Return the HU within the outline."""
        return self.hu[self.body]

    @property
    def voxel_ml(self) -> float:
        """Return the volume of a voxel in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def soft_tissue_median(inside: Inside) -> float:
    """Median HU of soft tissue, fat included; NaN where there is none."""
    return _median_between(inside, SOFT_HU)


def bone_fraction(inside: Inside) -> float:
    """Per cent of the body above 250 HU; 0 of an empty body."""
    return 100.0 * float((inside > SOFT_HU[1]).mean()) if inside.size else 0.0


def air_fraction(inside: Inside) -> float:
    """Per cent of the body below -200 HU; 100 of an empty body."""
    return 100.0 * float((inside < SOFT_HU[0]).mean()) if inside.size else 100.0


def _median_between(inside: Inside, bounds: tuple[float, float]) -> float:
    chosen = inside[(inside > bounds[0]) & (inside < bounds[1])]
    return float(np.median(chosen)) if chosen.size else float("nan")


def outline_agreement(images: CaseImages) -> float:
    """Dice coefficient in per cent of the MR's outline and that of the HU; NaN where both are empty."""
    found = fill_slices(images.hu > CT_BODY_HU)
    both = int(images.body.sum()) + int(found.sum())
    return 200.0 * float((images.body & found).sum()) / both if both else float("nan")


def uncertain_region(sd: NDArray[np.float32], body: Mask, voxel_ml: float) -> float:
    """Volume in mL of the largest connected region of the body above 200 HU of SD."""
    labels, count = ndimage.label(body & (sd > UNCERTAIN_HU))
    return float(np.bincount(labels.ravel())[1:].max()) * voxel_ml if count else 0.0


def path_length(images: CaseImages) -> float:
    """Mean absolute difference, in per cent, of the water-equivalent lengths of 72 rays to those in water.

    The rays end in the deepest point of the body, in five axial planes; water fills the MR's outline.
    """
    planes = np.flatnonzero(images.body.any(axis=(1, 2)))
    if not planes.size:
        return float("nan")
    chosen = planes[np.unique(np.linspace(0, planes.size - 1, PLANES + 2).round().astype(int)[1:-1])]
    differences = [_against_water(images.hu[[plane]], images.body[plane], images.spacing_mm) for plane in chosen]
    return float(np.mean(differences))


def _against_water(hu: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    depth = ndimage.distance_transform_edt(np.pad(body, 1), sampling=spacing_mm[1:])[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), body.shape)
    water = np.where(body, np.float32(0.0), np.float32(AIR_HU))[None]
    point = (0, int(row), int(column))
    found, reference = (path_lengths_mm(image, spacing_mm, point) for image in (hu, water))
    return 100.0 * float(np.abs(found - reference).sum() / max(reference.sum(), 1e-6))


@dataclass(frozen=True)
class Measure:
    """One number of a case.

    Attributes:
        of: the case -> the number; NaN where it cannot be measured, None where the model does not give it.
        unit: UCUM.
        sound: whether sound cases have `low` values, `high` ones, or lie within a `band`.
    """

    of: Callable[[CaseImages], float | None]
    unit: str
    sound: Literal["low", "high", "band"]


MEASURES: Final[Mapping[str, Measure]] = {
    "body_volume": Measure(lambda one: float(one.body.sum()) * one.voxel_ml, "mL", "band"),
    "truncation": Measure(lambda one: mr_quality.truncation(one.relative, one.body), "%", "low"),
    "signal_void": Measure(lambda one: mr_quality.signal_void(one.relative, one.body, one.spacing_mm), "mL", "low"),
    "bias_field": Measure(lambda one: mr_quality.bias_field(one.relative, one.body, one.spacing_mm), "%", "low"),
    "noise": Measure(lambda one: mr_quality.noise(one.scan.relative, one.scan.body), "%", "low"),
    "ghosting": Measure(lambda one: mr_quality.ghosting(one.scan.relative, one.scan.body), "%", "low"),
    "slice_jumps": Measure(
        lambda one: mr_quality.slice_jumps(one.scan.relative, one.scan.body) if one.scan.axial else np.nan, "%", "low"
    ),
    "slice_shifts": Measure(
        lambda one: (
            mr_quality.slice_shifts(one.scan.relative, one.scan.body, one.scan.spacing_mm) if one.scan.axial else np.nan
        ),
        "mm",
        "low",
    ),
    "mr_histogram": Measure(
        lambda one: mr_quality.mr_histogram(one.relative, one.body, one.mr_quantiles) if one.mr_quantiles else None,
        "%",
        "low",
    ),
    "novelty": Measure(lambda one: one.novelty, "", "low"),
    "soft_tissue_median": Measure(lambda one: soft_tissue_median(one.inside), "[hnsf'U]", "band"),
    "fat_median": Measure(lambda one: _median_between(one.inside, FAT_HU), "[hnsf'U]", "band"),
    "muscle_median": Measure(lambda one: _median_between(one.inside, MUSCLE_HU), "[hnsf'U]", "band"),
    "bone_fraction": Measure(lambda one: bone_fraction(one.inside), "%", "band"),
    "air_fraction": Measure(lambda one: air_fraction(one.inside), "%", "low"),
    "outline_agreement": Measure(outline_agreement, "%", "high"),
    "uncertainty_mean": Measure(lambda one: _of_sd(one, np.mean), "[hnsf'U]", "low"),
    "uncertainty_p95": Measure(lambda one: _of_sd(one, lambda sd: np.percentile(sd, 95)), "[hnsf'U]", "low"),
    "uncertain_region": Measure(
        lambda one: None if one.sd is None else uncertain_region(one.sd, one.body, one.voxel_ml), "mL", "low"
    ),
    "path_length": Measure(path_length, "%", "low"),
}
"""Name -> measure; of the MR first, of the HU then."""


def _of_sd(images: CaseImages, statistic: Callable[[NDArray[np.float32]], np.floating]) -> float | None:
    if images.sd is None:
        return None
    return float(statistic(images.sd[images.body])) if images.body.any() else float("nan")


def measured(images: CaseImages, names: Sequence[str] = tuple(MEASURES)) -> dict[str, float]:
    """Name -> value, of the measures named that the case has at all; NaN where one cannot be measured."""
    values = {name: MEASURES[name].of(images) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def limits_of(cases: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Limits of every measure: the range over known patients, wider by half of it at either end; per cent in 0..100.

    What is sound when it is low has no lower limit but 0, what is sound when it is high no upper one but 100.
    """
    limits = {}
    for name in (name for name in MEASURES if name in cases[0]):
        values = [case[name] for case in cases if np.isfinite(case[name])]
        if values:
            limits[name] = _wider(min(values), max(values), MEASURES[name])
    return limits


def _wider(low: float, high: float, measure: Measure) -> dict[str, float]:
    beyond = MARGIN * (high - low)
    low, high = low - beyond, high + beyond
    if measure.sound == "low":
        low = 0.0
    if measure.sound == "high" or (measure.unit == "%" and measure.sound == "band"):
        low, high = max(low, 0.0), min(high, 100.0)
    return {"low": round(low, 2), "high": 100.0 if measure.sound == "high" else round(high, 2)}
