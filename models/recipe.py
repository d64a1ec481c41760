"""A training recipe: one YAML file that says all that a training depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class BadRecipe(ValueError):
    """A recipe cannot be used; names the key and what is wrong."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        steps: of the optimiser.
        batch: patches a step.
        patch: size of a patch in voxels, (slice, row, column).
        learning_rate: at its peak.
        warm_up: steps over which the learning rate rises.
        contrast: strength of the changes of the MR's contrast, 0 for none.
        pure_noise: fraction of the patches at t = 1, where the one-step prediction is learned.
    """

    steps: int
    batch: int
    patch: tuple[int, int, int]
    learning_rate: float
    warm_up: int = 200
    contrast: float = 1.0
    pure_noise: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on.

    Attributes:
        seed: of every draw.
        pairs: folder with `NAME_mr.nii.gz` and `NAME_ct.nii.gz`; relative to SCT_DATA where that is set.
        validation: names that are kept for validation; all others train.
        copies: copies of each training patient; the first as it is, the others deformed.
        run: folder of checkpoints and curves.
        architecture: arguments of `LatentDiffusion`.
        precision: `bfloat16` (autocast; what must be exact stays float32) or `float32`.
        bone_weight: weight added to voxels below -200 or above 250 HU in the losses in image space.
        kl_weight: weight of the KL term.
        flow_weight: weight of the flow loss beside the L1 loss in the joint stage.
        evaluate: pairs (sampler steps, samples) that are measured at the end.
        stages: `autoencoder`, `denoiser`, `joint`.
        card: the texts of the model's card.
    """

    seed: int
    pairs: Path
    validation: tuple[str, ...]
    copies: int
    run: Path
    architecture: Mapping[str, Any]
    precision: str
    bone_weight: float
    kl_weight: float
    flow_weight: float
    evaluate: tuple[tuple[int, int], ...]
    stages: Mapping[str, Stage]
    card: Mapping[str, Any]


STAGES = ("autoencoder", "denoiser", "joint")


def read_recipe(path: Path, data: Path | None = None) -> Recipe:
    """Read a recipe; `data` is the folder that its `pairs` is relative to.

    Raises:
        BadRecipe: the file is no YAML mapping, or a key lacks, is unknown or has a wrong form.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadRecipe(f"{path}: {error}") from error
    known = {entry.name for entry in dataclasses.fields(Recipe)}
    if not isinstance(values, dict) or set(values) != known:
        wrong = set(values) ^ known if isinstance(values, dict) else known
        raise BadRecipe(f"{path}: keys missing or unknown: {', '.join(sorted(map(str, wrong)))}")
    if set(values["stages"]) != set(STAGES):
        raise BadRecipe(f"{path}: stages must be {', '.join(STAGES)}")
    try:
        stages = {name: _stage(values["stages"][name]) for name in STAGES}
        evaluate = tuple((int(steps), int(samples)) for steps, samples in values["evaluate"])
    except (TypeError, ValueError, KeyError) as error:
        raise BadRecipe(f"{path}: stages or evaluate: {error}") from error
    values |= {
        "stages": stages,
        "evaluate": evaluate,
        "validation": tuple(values["validation"]),
        "pairs": (data or Path()) / values["pairs"],
        "run": Path(values["run"]),
    }
    return Recipe(**values)


def _stage(values: Mapping[str, Any]) -> Stage:
    first, second, third = (int(length) for length in values["patch"])
    return Stage(**{**values, "patch": (first, second, third)})
