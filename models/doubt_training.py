"""How a model's doubt is learned from its errors, and how well the expected errors agree with the real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from models import augmentation, pairs
from models.doubt import Doubt
from models.intensity import to_unit
from models.pairs import Pair
from models.recipe import Recipe
from models.weights import Model

Figures = dict[str, Any]

PATCH: Final = (16, 96, 96)
LEARNING_RATE: Final = 2e-3
STRENGTH: Final = 1.5
"""Of the changes of contrast, against 1 in training: the errors should be as on a scanner that is a little strange."""
BINS: Final = 10


@dataclass(frozen=True)
class Example:
    """What a model made of an MR, and how wrong it was; all (S, R, C).

    Attributes:
        mr: normalised.
        hu: of the synthetic CT.
        error: absolute, in HU.
        body: where both MR and CT show the patient.
    """

    mr: NDArray[np.float32]
    hu: NDArray[np.float32]
    error: NDArray[np.float32]
    body: NDArray[np.bool_]


def example_of(model: Model, pair: Pair) -> Example:
    """The errors of a model on a pair; its seed is 0."""
    mr = pair.mr.astype(np.float32)
    hu = model.predict(mr, 0).hu
    return Example(mr, hu, np.abs(hu - pair.hu.astype(np.float32)), pair.body)


def examples_of(model: Model, patients: Sequence[Pair], seed: int) -> Iterator[Example]:
    """Each patient as it is, and once deformed and with another contrast."""
    for number, pair in enumerate(patients):
        yield example_of(model, pair)
        generator = np.random.default_rng([seed, 3000, number])
        strange = augmentation.deform(pair, augmentation.draw_deformation(generator))
        changed = augmentation.apply_contrast(
            torch.from_numpy(strange.mr.astype(np.float32))[None, None], augmentation.draw_contrast(generator, STRENGTH)
        )
        mr = np.where(strange.mr > 0, changed[0, 0].numpy(), 0).astype(np.float16)
        yield example_of(model, Pair(pair.name, mr, strange.hu, strange.body, pair.spacing_mm))


def learn_doubt(architecture: Mapping[str, Any], examples: Sequence[Example], steps: int, seed: int) -> Doubt:
    """Minimise the negative log likelihood of the errors, and remember the features of the bodies.

    Args:
        architecture: keyword arguments of `Doubt`.
        examples: errors on training patients.
        steps: of one patch each.
        seed: of weights and patches.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        doubt = Doubt(**architecture)
    optimiser = torch.optim.AdamW(doubt.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        generator = np.random.default_rng([seed, 4000, step])
        loss = _loss(doubt, examples[int(generator.integers(len(examples)))], generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(doubt.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    doubt.eval().requires_grad_(False)
    doubt.remember([_seen(doubt, example) for example in examples[::2]])
    return doubt


def _loss(doubt: Doubt, example: Example, generator: np.random.Generator) -> torch.Tensor:
    """Mean negative log likelihood of a patch's errors in the body, of Laplace distributions."""
    corner = pairs.draw_corner(example.body, PATCH, (1, 1, 1), generator)
    mr, hu, error, body = (
        pairs.cut(torch.from_numpy(image)[None, None], corner, PATCH, 0)
        for image in (example.mr, example.hu, example.error, example.body)
    )
    log_scale = doubt.log_scale(doubt.features(mr, to_unit(hu)))
    likelihood = to_unit(error) * (-log_scale).exp() + log_scale
    return (likelihood * body).sum() / body.sum().clamp(min=1)


@torch.inference_mode()
def _seen(doubt: Doubt, example: Example) -> torch.Tensor:
    """Features (voxels, channels) of an example's body."""
    mr, hu = (torch.from_numpy(image)[None, None] for image in (example.mr, example.hu))
    return doubt.features(mr, to_unit(hu))[0, :, torch.from_numpy(example.body)].T


@dataclass(frozen=True)
class Agreement:
    """Expected SD against real error over the voxels of a body, both in HU.

    Attributes:
        spearman: rank correlation of SD and absolute error, voxel by voxel.
        expected: mean SD of `BINS` bins of equal counts, from the surest to the least sure.
        found: root mean square of the errors in each bin.
        ence: expected normalised calibration error, the mean of |found - expected| / expected (Levi et al. 2022).
        novelty: of the MR.
    """

    spearman: float
    expected: tuple[float, ...]
    found: tuple[float, ...]
    ence: float
    novelty: float


def agreement_of(doubt: Doubt, example: Example) -> Agreement:
    """How well a doubt foretells the errors of one patient."""
    body = torch.from_numpy(example.body)
    sd, novelty = doubt.judge(torch.from_numpy(example.mr), torch.from_numpy(example.hu), body)
    sure, error = sd.numpy()[example.body].astype(np.float64), example.error[example.body].astype(np.float64)
    parts = np.array_split(np.argsort(sure, kind="stable"), BINS)
    expected = [float(np.sqrt((sure[part] ** 2).mean())) for part in parts]
    found = [float(np.sqrt((error[part] ** 2).mean())) for part in parts]
    ence = float(np.mean([abs(f - e) / e for f, e in zip(found, expected, strict=True)]))
    rank = float(stats.spearmanr(sure, error).statistic)
    first, second = (tuple(round(value, 2) for value in values) for values in (expected, found))
    return Agreement(round(rank, 4), first, second, round(ence, 4), round(novelty, 3))


def factor_of(doubt: Doubt, examples: Sequence[Example]) -> float:
    """The one factor on every SD with which the errors of these patients have the expected mean square."""
    squares = []
    for example in examples:
        body = torch.from_numpy(example.body)
        sd, _ = doubt.judge(torch.from_numpy(example.mr), torch.from_numpy(example.hu), body)
        squares.append(((example.error / sd.numpy().clip(1e-3))[example.body] ** 2).mean())
    return float(np.sqrt(np.mean(squares)))


def taught(model: Model, training: Sequence[Pair], kept_back: Sequence[Pair], recipe: Recipe) -> tuple[Doubt, Figures]:
    """A finished model's doubt, and its figures for the card.

    The network learns from the training patients alone. Its one factor comes from the patients kept back, where errors
    are larger; so the figures of each of these are computed with the factor of the others.
    """
    assert recipe.doubt is not None
    architecture = {name: value for name, value in recipe.doubt.items() if name != "steps"}
    examples = list(examples_of(model, training, recipe.seed))
    doubt = learn_doubt(architecture, examples, int(recipe.doubt["steps"]), recipe.seed)
    kept = [example_of(model, pair) for pair in kept_back]
    by_patient = {}
    for number, pair in enumerate(kept_back):
        others = [*kept[:number], *kept[number + 1 :]] or kept
        doubt.factor.fill_(factor_of(doubt, others))
        by_patient[pair.name] = dataclasses.asdict(agreement_of(doubt, kept[number]))
        doubt.factor.fill_(1.0)
    doubt.factor.fill_(factor_of(doubt, kept))
    seen = [agreement_of(doubt, example).novelty for example in examples[::2]]
    figures = {
        "factor": round(float(doubt.factor), 4),
        "novelty_in_training": [min(seen), max(seen)],
        "by_patient": by_patient,
    }
    return doubt, figures
