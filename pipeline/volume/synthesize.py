"""MR volume -> HU volume: to the model's grid, through the model, and back by one resampling."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry

from models.data.intensity import AIR_HU
from models.inference.card import ModelCard
from models.inference.weights import Model
from pipeline.ct.provenance import Sampling
from pipeline.series.series import Series
from pipeline.volume.ct_grid import WHOLE_FIELD, OutputGrid, output_geometry
from pipeline.volume.nifti import read_nifti, write_nifti
from pipeline.volume.prepare import model_grid, on_model_grid
from pipeline.volume.volume import is_copied, resample

COPIED: Final = "none"
LINEAR: Final = "linear"


@dataclass(frozen=True)
class Synthesis:
    """What a model makes of an MR.

    Attributes:
        hu: float32 HU on the asked grid; air outside the body and outside the MR's field of view.
        body: 1 in the MR's outline, 0 elsewhere, uint8, on the model's grid.
        mr: float32 MR on the model's grid, in the scanner's unit.
        on_model_grid: HU on the model's grid.
        sampling: how it came about.
        sd: float32 SD in HU of the error to be expected, on the grid of `hu`, 0 outside the body; None where the model
            cannot say.
        novelty: how strange the MR is to the model, about 1 for one as in its training; None where it cannot say.
    """

    hu: Volume
    body: Volume
    mr: Volume
    on_model_grid: Volume
    sampling: Sampling
    sd: Volume | None = None
    novelty: float | None = None


def seed_of(source: Series, card: ModelCard) -> int:
    """The seed of a series: the same instances and the same weights always start from the same noise."""
    uids = sorted(instance.sop_instance_uid for instance in source.instances)
    return int.from_bytes(hashlib.sha256("\n".join([card.digest, *uids]).encode()).digest()[:4], "big") >> 1


def synthesize(
    mr: Volume, model: Model, seed: int, asked: OutputGrid = WHOLE_FIELD, onto: VolumeGeometry | None = None
) -> Synthesis:
    """Synthetic CT of an MR volume. HU are resampled once, from the model's grid, or not at all.

    Args:
        mr: float32 MR values in any orientation, LPS mm.
        model: what turns it into HU.
        seed: of the first sample.
        asked: what the site asks of the result's grid.
        onto: the very grid of the result, instead of `asked`.

    Raises:
        Unsuitable: GRID_TOO_LARGE.
    """
    grid = model_grid(mr, model.card.spacing_mm)
    seen = on_model_grid(mr, grid)
    prediction = model.predict(np.ascontiguousarray(seen.array), seed)
    there = grid.with_array(prediction.hu)
    body = grid.with_array(prediction.body.astype(np.uint8))
    output = onto or output_geometry(mr, asked, body)
    hu = resample(there, output, fill=AIR_HU)
    sd = None if prediction.sd is None else resample(grid.with_array(prediction.sd), output, fill=0.0)
    sampling = _sampling(mr, grid, output, model.card, seed, asked)
    return Synthesis(hu, body, seen, there, sampling, sd, prediction.novelty)


def _sampling(
    mr: Volume, grid: VolumeGeometry, output: VolumeGeometry, card: ModelCard, seed: int, asked: OutputGrid
) -> Sampling:
    """How the HU came about, in words and numbers."""
    slice_mm, row_mm, column_mm = (float(step) for step in grid.spacing)
    return Sampling(
        seed,
        card.sampling["steps"],
        card.sampling["samples"],
        to_model=COPIED if is_copied(mr.get_geometry(), grid) else LINEAR,
        to_ct=COPIED if is_copied(grid, output) else LINEAR,
        model_spacing_mm=(slice_mm, row_mm, column_mm),
        field=asked.words(),
        orientation=asked.orientation,
    )


def predict_nifti(mr_path: Path, out_path: Path, model: Model, seed: int = 0) -> None:
    """MR NIfTI -> float32 HU NIfTI on the MR's own grid, whatever its orientation.

    Raises:
        Unsuitable: UNREADABLE, when the MR is no three-dimensional NIfTI image.
        OSError: the result cannot be written.
    """
    mr = read_nifti(mr_path)
    write_nifti(synthesize(mr, model, seed, onto=mr.get_geometry()).hu, out_path)
