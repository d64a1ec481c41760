"""Whether the synthetic CT of a head has a skull about a brain: what can be said of heads whose true CT nobody has.

Rays go from the middle of the brain up to the skin. A closed skull stops every one of them; bone or air on the first
part of a ray lies in the brain, where neither belongs.

    python -m tests.studies.skull MODEL OUT_DIR MR_DIR [MR_DIR ...]

converts each MR series and writes OUT_DIR/NAME.png (MR and synthetic CT in three planes) and OUT_DIR/NAME.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import Mask
from models.inference.weights import Model, load_model
from models.measures.plausibility import MUSCLE_HU
from models.measures.similarity import FAT_HU, SOFT_HU
from pipeline.report.figures import CaseVolumes, planes, png
from pipeline.series.series import only_series, read_series
from pipeline.volume.synthesize import seed_of, synthesize
from pipeline.volume.volume import read_volume

BONE_HU: Final = SOFT_HU[1]
DEPTH_MM: Final = 65.0
"""The middle of an adult's brain lies so far below the vertex: above orbits and ears."""
RAYS: Final = 1000
STEP_MM: Final = 1.0
LENGTH_MM: Final = 140.0
BRAIN_SHARE: Final = 0.6
"""This first part of the way from the middle to the skin lies in the brain."""


@dataclass(frozen=True)
class Skull:
    """What the synthetic CT of a head holds.

    Attributes:
        closed: per cent of the rays upwards that meet bone.
        thickness_mm: of the bone on a ray, median over the rays that meet some.
        bone_in_brain: per cent of the rays that meet bone in the brain.
        air_in_brain: per cent of the rays that meet air there.
        bone, soft, fat, air: per cent of the body above 250 HU, from -30 to 150, from -200 to -30 and below -200.
        soft_median_hu: of what lies from -30 to 150 HU.
        fat_median_hu: of fat.
    """

    closed: float
    thickness_mm: float
    bone_in_brain: float
    air_in_brain: float
    bone: float
    soft: float
    fat: float
    air: float
    soft_median_hu: float
    fat_median_hu: float


def skull_of(hu: NDArray[np.float32], body: Mask, spacing_mm: tuple[float, float, float]) -> Skull:
    """Look at a head; axes (slice, row, column) along +S, +P, +L.

    Raises:
        ValueError: the body is empty.
    """
    if not body.any():
        raise ValueError("there is no head: the body is empty")
    values, within = _along_rays(hu, body, spacing_mm)
    early = np.cumsum(within, axis=1) <= BRAIN_SHARE * within.sum(axis=1, keepdims=True)
    bone, air = within & (values > BONE_HU), within & (values < SOFT_HU[0])
    met: Mask = np.asarray(bone.any(axis=1))
    inside = hu[body]
    muscle, fat = (inside[(inside > low) & (inside < high)] for low, high in (MUSCLE_HU, FAT_HU))
    return Skull(
        closed=_percent(met),
        thickness_mm=round(float(np.median(bone[met].sum(axis=1)) * STEP_MM), 1) if met.any() else 0.0,
        bone_in_brain=_percent((bone & early).any(axis=1)),
        air_in_brain=_percent((air & early).any(axis=1)),
        bone=_percent(inside > BONE_HU),
        soft=round(100 * muscle.size / inside.size, 2),
        fat=round(100 * fat.size / inside.size, 2),
        air=_percent(inside < SOFT_HU[0]),
        soft_median_hu=round(float(np.median(muscle)), 1) if muscle.size else float("nan"),
        fat_median_hu=round(float(np.median(fat)), 1) if fat.size else float("nan"),
    )


def _percent(these: NDArray[np.bool_]) -> float:
    return round(100 * float(these.mean()), 2)


def _along_rays(
    hu: NDArray[np.float32], body: Mask, spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float32], Mask]:
    """HU, and whether the ray has not left the body yet, both (ray, step)."""
    top = int(np.flatnonzero(body.any(axis=(1, 2)))[-1])
    middle = max(top - round(DEPTH_MM / spacing_mm[0]), 0)
    row, column = ndimage.center_of_mass(body[middle:].any(axis=0))
    steps_mm = np.arange(0, LENGTH_MM, STEP_MM)
    places = _upwards()[:, None, :] * steps_mm[None, :, None] / np.array(spacing_mm) + (middle, row, column)
    where = places.reshape(-1, 3).T
    shape = places.shape[:2]
    values = ndimage.map_coordinates(hu, where, order=1, mode="constant", cval=-1000.0).reshape(shape)
    there = ndimage.map_coordinates(body.astype(np.uint8), where, order=0, mode="constant", cval=0).reshape(shape)
    return values, np.logical_and.accumulate(there > 0, axis=1)


def _upwards() -> NDArray[np.float64]:
    """Unit vectors (ray, 3) spread evenly over the upper hemisphere, along (+S, +P, +L): a spiral of golden angles."""
    number = np.arange(RAYS)
    height = (number + 0.5) / RAYS
    angle = np.pi * (3 - 5**0.5) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def look_at(folder: Path, model: Model, into: Path) -> Skull:
    """Convert the MR series of a folder, or of a file; write its picture and its figures.

    Raises:
        Unsuitable: it is no regular MR volume.
    """
    series = only_series(read_series(folder))
    mr = read_volume(series)
    made = synthesize(mr, model, seed_of(series, model.card))
    slice_mm, row_mm, column_mm = (float(step) for step in made.body.spacing)
    skull = skull_of(made.on_model_grid.array, made.body.array > 0, (slice_mm, row_mm, column_mm))
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{folder.stem}.png").write_bytes(png(planes(CaseVolumes(mr, made.hu))))
    (into / f"{folder.stem}.json").write_text(json.dumps(asdict(skull), indent=2) + "\n", encoding="utf-8")
    return skull


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.skull", description="Look at synthetic CT of heads")
    parser.add_argument("model", help="installed model, or a folder with a card and weights")
    parser.add_argument("into", type=Path, metavar="OUT_DIR")
    parser.add_argument("folders", type=Path, metavar="MR_DIR", nargs="+")
    given = parser.parse_args()
    model = load_model(given.model)
    for folder in given.folders:
        look_at(folder, model, given.into)


if __name__ == "__main__":
    main()
