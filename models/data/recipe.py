"""A training recipe: one YAML file that says all that a training depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.data.strict_yaml import BadYaml, read_yaml

PLANNED: Final = (0, 0, 0)
"""Size of a patch that the method plans from its training patients."""


class BadRecipe(ValueError):
    """A recipe cannot be used; names the key and what is wrong."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        steps: of the optimiser.
        batch: patches a step.
        learning_rate: at its peak.
        patch: size of a patch in voxels, (slice, row, column); (0, 0, 0) where the method plans it.
        minutes: time budget beside the steps, whichever ends first; 0 for none. On a CPU they are the processor's,
            summed over the threads, so that another program's work is not charged; on a GPU, the clock's.
        timed: whether the minutes alone end the stage, however many steps that takes.
        share: of the minutes that `sct-node train --minutes` gives to all stages, beside those of the other stages.
        warm_up: steps over which the learning rate rises.
        contrast: strength of the changes of the MR's contrast, 0 for none.
        deformation: strength of the change of each patch's shape, 0 for none; beside the deformed copies.
        acquisition: strength of the loss of resolution and of field of view, 0 for none.
        pure_noise: fraction of the patches at t = 1, where the one-step prediction is learned; of the LDM. 0 where it
            says epsilon, of which pure noise teaches nothing.
        places: on the path to noise, of each patch's latent, about which the UNet is asked in a step; of the LDM. The
            first may be pure noise and is what is decoded, the others are anywhere: the MR is encoded once for all.
        autoencoding: share of the joint stage's steps in which the decoder is given the true latent, too.
    """

    steps: int
    batch: int
    learning_rate: float
    patch: tuple[int, int, int] = PLANNED
    minutes: float = 0.0
    timed: bool = False
    share: float = 1.0
    warm_up: int = 200
    contrast: float = 1.0
    deformation: float = 0.0
    acquisition: float = 0.0
    pure_noise: float = 0.5
    places: int = 1
    autoencoding: float = 0.0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the losses; a method reads those that it has.

    Attributes:
        l1: of the L1 in image space (equation 1); 100 in Pix2Pix.
        bone: added to the weight of voxels below -200 or above 250 HU in that L1.
        quadratic: error in the networks' unit below which that L1 is quadratic when a stage begins; it falls to 0.02
            (20 HU) in its second half. So bone may be learned before the noise of soft tissue; in ten minutes it was
            with one seed and not with another. 0 for an L1 throughout, as the autoencoder has it.
        kl: of the KL term (equation 2).
        perceptual: of the distance of features (equation 3).
        adversarial: of the generator against the discriminator (equation 4).
        adversarial_after: share of a stage's steps before the adversarial term begins.
        flow: of the flow loss (equation 5) beside the L1, in the LDM's joint stage.
        cycle: of what comes back from a cycle; 10 in CycleGAN.
        identity: of a CT that a generator of CT should leave alone, as a share of `cycle`; 0.5 in CycleGAN.
    """

    l1: float = 1.0
    bone: float = 0.0
    quadratic: float = 0.0
    kl: float = 1e-6
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_after: float = 0.0
    flow: float = 1.0
    cycle: float = 10.0
    identity: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on.

    Attributes:
        method: `ldm`, `nnunet`, `swinunetr`, `pix2pix` or `cyclegan`.
        seed: of every draw.
        pairs: folder of the training pairs; relative to SCT_DATA where that is set.
        layout: `names`, a folder with `NAME_mr.nii.gz` and `NAME_ct.nii.gz`; or `synthrad`, a folder for each patient
            with mr, ct and mask, as the challenges of 2023 (.nii.gz) and 2025 (.mha) give them out.
        validation: names that are kept for validation, or a fraction of all, drawn by the seed; all others train.
        left_out: names that neither train nor are kept back, so that a choice can be tried on the others.
        copies: copies of each training patient; the first as it is, the others deformed.
        run: folder of checkpoints and curves.
        architecture: arguments of the method's class; of nnU-Net, what its plan has to keep to.
        precision: `bfloat16` (autocast; what must be exact stays float32) or `float32`.
        losses: weights of the losses.
        perceptual: network whose features the perceptual loss compares: `none`, `self` (our own tissue segmenter,
            trained on the training patients' CT before the first stage), or the path of such a segmenter's weights.
        evaluate: pairs (sampler steps, samples) that are measured at the end; where there is none, nothing is.
        stages: by name, in the method's order.
        milestones: steps, counted over all stages, at which the validation error is measured on the way.
        card: the texts of the model's card.
        uncertainty: arguments of `UncertaintyEstimator` (`hidden`) and the `steps` in which it learns from the finished
        model's errors, such
            as `{steps: 400, hidden: 16}`, which takes seconds; None for none.
    """

    method: str
    seed: int
    pairs: Path
    layout: str
    validation: tuple[str, ...] | float
    left_out: tuple[str, ...]
    copies: int
    run: Path
    architecture: Mapping[str, Any]
    precision: str
    losses: LossWeights
    perceptual: str
    evaluate: tuple[tuple[int, int], ...]
    stages: Mapping[str, Stage]
    card: Mapping[str, Any]
    uncertainty: Mapping[str, Any] | None
    milestones: tuple[int, ...]


DEFAULTS: Final[Mapping[str, Any]] = {
    "method": "ldm",
    "layout": "names",
    "losses": {},
    "perceptual": "none",
    "uncertainty": None,
    "milestones": (),
    "left_out": (),
}
"""What a recipe need not say."""


def read_recipe(path: Path, data: Path | None = None, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: YAML file.
        data: folder that its `pairs` is relative to.
        changes: `KEY=VALUE` each, put in the place of what the file says, such as `losses.bone=2`; VALUE is YAML.

    Raises:
        BadRecipe: the file is no YAML mapping, or a key lacks, is unknown or has a wrong form.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8")).values
    except (OSError, BadYaml) as error:
        raise BadRecipe(f"{path}: {error}") from error
    known = {entry.name for entry in dataclasses.fields(Recipe)}
    if isinstance(values, dict) and "doubt" in values:  # recipes of 0.1.0
        values["uncertainty"] = values.pop("doubt")
    values = {**DEFAULTS, **values} if isinstance(values, dict) else {}
    for change in changes:
        _change(values, change)
    if set(values) != known:
        raise BadRecipe(f"{path}: keys missing or unknown: {', '.join(sorted(map(str, set(values) ^ known)))}")
    try:
        values |= {
            "stages": {name: _stage(stage) for name, stage in values["stages"].items()},
            "evaluate": tuple((int(steps), int(samples)) for steps, samples in values["evaluate"]),
            "milestones": tuple(map(int, values["milestones"])),
            "losses": LossWeights(**{name: float(weight) for name, weight in values["losses"].items()}),
        }
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadRecipe(f"{path}: stages, evaluate, milestones or losses: {error}") from error
    kept = values["validation"]
    values |= {
        "validation": kept if isinstance(kept, float) else tuple(kept),
        "left_out": tuple(values["left_out"]),
        "pairs": (data or Path()) / values["pairs"],
        "run": Path(values["run"]),
    }
    return Recipe(**values)


def _change(values: dict[str, Any], change: str) -> None:
    """Put `KEY=VALUE` into a recipe's values; KEY names a place by the keys on the way to it, a point between them."""
    place, equals, text = change.partition("=")
    *above, last = place.split(".")
    try:
        for key in above:
            values[key] = dict(values[key])  # what DEFAULTS holds stays as it is
            values = values[key]
        found = read_yaml(text).values
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecipe(f"--set {change}: the recipe has no such place, or the value is no YAML ({error!r})") from error
    if not equals:
        raise BadRecipe(f"--set {change}: must be KEY=VALUE, such as losses.bone=2")
    values[last] = found


def _stage(values: Mapping[str, Any]) -> Stage:
    first, second, third = (int(length) for length in values.get("patch", PLANNED))
    return Stage(**{**values, "patch": (first, second, third)})
