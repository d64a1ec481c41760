"""The trainer, one for every method: stages in turn, each resumable, each repeatable from its recipe."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from models.data import augmentation
from models.data.pairs import Pair
from models.data.patients import read_cohort
from models.data.recipe import BadRecipe, Recipe, Stage, read_recipe
from models.inference import verify
from models.inference.card import ModelCard
from models.inference.weights import load_model, pick_device, save_model
from models.measures import plausibility
from models.networks.batches import TrainingStage
from models.networks.latent_diffusion import LatentDiffusion
from models.networks.losses import TissueSegmenter
from models.networks.registry import method_of
from models.networks.translator import OptimiserStep
from models.training import cross_validation, uncertainty, validation
from models.training.checkpoint import StageProgress, Training, card_of
from models.training.progress import Milestones, draw, forget_after, milestones_of, record
from models.training.tissue_segmenter import read_segmenter, train_segmenter
from models.training.uncertainty import example_of, fitted

FLOOR: Final = 0.02
"""Fraction of the peak learning rate at the end of the cosine."""
CHECKPOINT_STEPS: Final = 250
CHECKPOINT_MINUTES: Final = 10.0
LOG_STEPS: Final = 50
GRADIENT_NORM: Final = 1.0
EMA_DECAY: Final = 0.999
PATIENCE: Final = 20
"""Steps in a row that may be left out before the training gives up."""


class Diverged(RuntimeError):
    """Losses or gradients were not finite for too many steps in a row; names the stage and the step."""


class ProcessorMinutes:
    """Minutes spent: on a CPU, the processor's, summed over the threads; on a GPU, the clock's."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self._now_s = time.process_time if device.type == "cpu" else time.monotonic
        self._begin_s = self._now_s() - 60 * minutes

    def minutes(self) -> float:
        """Since the stage began, interruptions not counted."""
        return (self._now_s() - self._begin_s) / 60


def fraction(progress: StageProgress, stage: Stage) -> float:
    """Return the finished share of a stage: of its steps, or of its minutes where those run out first."""
    by_steps = progress.step / stage.steps if stage.steps else 1.0
    by_minutes = progress.minutes / stage.minutes if stage.minutes else 0.0
    if stage.timed:
        return min(1.0, by_minutes)
    return min(1.0, max(by_steps, by_minutes))


def learning_rate(progress: StageProgress, stage: Stage) -> float:
    """Linear rise over the first steps, and a cosine down to 2 % of the peak at the end of the stage."""
    rise = min(1.0, (progress.step + 1) / stage.warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * fraction(progress, stage)))
    return stage.learning_rate * rise * (FLOOR + (1 - FLOOR) * fall)


def optimisers_of(turns: Sequence[OptimiserStep], stage: Stage) -> dict[str, torch.optim.Optimizer]:
    """AdamW for the modules of each turn."""
    return {
        turn.name: torch.optim.AdamW(_parameters(turn), lr=stage.learning_rate, betas=turn.betas, weight_decay=1e-4)
        for turn in turns
    }


def _parameters(turn: OptimiserStep) -> list[nn.Parameter]:
    return [parameter for module in turn.modules for parameter in module.parameters()]


def fit(training: Training, lesson: TrainingStage, kept_back: Sequence[Pair] = ()) -> None:
    """Run one stage to its end; after it the networks are their running average.

    Args:
        training: what learns.
        lesson: the stage.
        kept_back: validation patients, on whom the recipe's milestones are measured.

    Raises:
        Diverged: 20 steps in a row had a loss or a gradient that is not finite.
    """
    stage, name = lesson.stage, lesson.name
    turns = training.networks.turns(lesson)
    optimisers = optimisers_of(turns, stage)
    progress = training.restore(name, optimisers)
    milestones = Milestones(training, name, kept_back)
    milestones.forget_after(progress)
    forget_after(training.recipe.run / f"{name}.csv", progress.step)
    watch, saved_at = ProcessorMinutes(training.device, progress.minutes), progress.minutes
    seen: dict[str, list[float]] = {}
    while fraction(progress, stage) < 1:
        rate = learning_rate(progress, stage)
        take_step(training, turns, optimisers, progress, fraction(progress, stage), rate, seen)
        progress.minutes = watch.minutes()
        if milestones.pass_by(progress):
            watch = ProcessorMinutes(training.device, progress.minutes)
        over = fraction(progress, stage) == 1
        if over or progress.step % LOG_STEPS == 0:
            log(training.recipe.run / f"{name}.csv", progress, rate, seen)
        if over or progress.step % CHECKPOINT_STEPS == 0 or progress.minutes - saved_at > CHECKPOINT_MINUTES:
            training.save(name, progress, optimisers)
            saved_at = progress.minutes
            draw([training.recipe.run / f"{name}.csv" for name in training.recipe.stages], picture_of(training))
    training.networks.load_state_dict(training.average.state_dict())
    training.done[name] = progress


def picture_of(training: Training) -> Path:
    """The picture of the run's curves."""
    return training.recipe.run / "curves.png"


def take_step(
    training: Training,
    turns: Sequence[OptimiserStep],
    optimisers: Mapping[str, torch.optim.Optimizer],
    progress: StageProgress,
    over: float,
    rate: float,
    seen: dict[str, list[float]],
) -> None:
    """One step: every turn once, then the running average; losses are added to those seen."""
    finite = True
    for turn in turns:
        for group in optimisers[turn.name].param_groups:
            group["lr"] = rate
        finite &= take_turn(turn, turns, optimisers[turn.name], (progress.step, over), seen)
    if finite:
        follow(training.average, training.networks, progress.step)
    progress.left_out += not finite
    progress.in_a_row = 0 if finite else progress.in_a_row + 1
    progress.step += 1
    if progress.in_a_row >= PATIENCE:
        raise Diverged(f"{turns[0].name}: not finite for {PATIENCE} steps in a row, the last of them {progress.step}")


def take_turn(
    turn: OptimiserStep,
    turns: Sequence[OptimiserStep],
    optimiser: torch.optim.Optimizer,
    at: tuple[int, float],
    seen: dict[str, list[float]],
) -> bool:
    """One optimiser's turn, `at` a step and a share of the stage.

    Only its own parameters get gradients; nothing moves where one is not finite.
    """
    for other in turns:
        for parameter in _parameters(other):
            parameter.requires_grad_(other is turn)
    parts = turn.losses(*at)
    total = torch.stack(list(parts.values())).sum()
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(_parameters(turn), GRADIENT_NORM)
    finite = bool(torch.isfinite(total) and torch.isfinite(norm))
    if finite:
        optimiser.step()
        for key, value in parts.items():
            seen.setdefault(key, []).append(float(value.detach()))
    return finite


@torch.no_grad()
def follow(average: nn.Module, networks: nn.Module, step: int) -> None:
    """Exponential moving average of the weights; its decay rises to 0.999."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), networks.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def log(path: Path, progress: StageProgress, rate: float, seen: dict[str, list[float]]) -> None:
    """Record and print the mean of each loss since the last record, then reset it."""
    means = {key: sum(values) / len(values) for key, values in seen.items()}
    record(path, {"step": progress.step, "minutes": progress.minutes, "rate": rate, **means})
    said = " ".join(f"{key} {value:.5f}" for key, value in means.items())
    left_out = f", {progress.left_out} left out" if progress.left_out else ""
    print(f"{path.stem} {progress.step} ({progress.minutes:.1f} min{left_out}): {said}", flush=True)
    seen.clear()


def deformed_copies(recipe: Recipe, plain: Sequence[Pair]) -> list[list[Pair]]:
    """Each patient as it is, and deformed `copies - 1` times."""
    generators = [np.random.default_rng([recipe.seed, 1000 + number]) for number in range(len(plain))]
    return [
        [pair, *(augmentation.deform(pair, augmentation.draw_deformation(generator)) for _ in range(recipe.copies - 1))]
        for pair, generator in zip(plain, generators, strict=True)
    ]


def train(recipe: Recipe, plain: Sequence[Pair], kept_back: Sequence[Pair], device: torch.device) -> Training:
    """Run all stages, or what remains of them after an interruption; those kept back are measured at milestones.

    Raises:
        BadRecipe: method and stages do not fit.
        Diverged: the losses are not finite any more.
    """
    method = method_of(recipe)
    training = Training.begin(method.plan(recipe, plain), device)
    patients = deformed_copies(recipe, plain)
    begun = [name for name in method.stages if training.path(name).is_file()]
    first = method.stages.index(begun[-1]) if begun else 0  # a checkpoint holds all that came before it
    lessons = [
        TrainingStage(training.recipe, name, number, patients, training.networks.stride, device, training.partners)
        for number, name in enumerate(method.stages)
    ]
    segmenter = frozen_segmenter(lessons[0])
    for lesson in lessons[first:]:
        taught = dataclasses.replace(lesson, segmenter=segmenter)
        fit(training, taught, kept_back)
        training.networks.on_stage_end(taught)
        training.average.load_state_dict(training.networks.state_dict())
    return training


def frozen_segmenter(lesson: TrainingStage) -> TissueSegmenter | None:
    """The segmenter that a recipe's `perceptual` asks for: none, our own (trained now or before), or of a file.

    Raises:
        BadRecipe: the recipe names a file that is not there.
    """
    recipe = lesson.recipe
    if recipe.perceptual == "none":
        return None
    own = recipe.perceptual == "self"
    path = recipe.run / "tissue.safetensors" if own else Path(recipe.perceptual)
    if own and not path.exists():
        save_file(train_segmenter(lambda step: lesson.batch(step).ct, recipe.seed).state_dict(), path)
    if not path.is_file():
        raise BadRecipe(f"perceptual: must be none, self or the path of a segmenter's weights, found {path}")
    return read_segmenter(path).to(lesson.device)


def training_cost(training: Training) -> dict[str, dict[str, float | None]]:
    """Steps, minutes and steps left out by stage; a checkpoint of version 0.1 had no minutes, so they are None."""
    done = {name: training.progress_of(name) for name in training.recipe.stages}
    return {
        name: {
            "steps": one.step,
            "minutes": round(one.minutes, 1) if one.minutes or not one.step else None,
            "left_out": one.left_out,
        }
        for name, one in done.items()
    }


def finish(training: Training, plain: Sequence[Pair], kept_back: Sequence[Pair]) -> ModelCard:
    """Write weights and card into the run's folder, and measure the model as it will be installed.

    Of a recipe without sampler settings to evaluate, as a fold's is, only what the training itself says is written.
    """
    recipe = training.recipe
    figures: dict[str, Any] = {"training": training_cost(training), "patients": [pair.name for pair in kept_back]}
    if recipe.milestones:
        figures["milestones"] = milestones_of(recipe)
    card = dataclasses.replace(card_of(recipe), figures=figures)
    folder = recipe.run / "model"
    save_model(training.average, card, folder)
    if not recipe.evaluate:
        return card
    model = load_model(str(folder), str(training.device))
    made = {pair.name: validation.made_of(model, pair) for pair in (*plain, *kept_back)}
    estimator = None
    if recipe.uncertainty is not None:
        learned, kept = ([example_of(pair, made[pair.name]) for pair in pairs] for pairs in (plain, kept_back))
        estimator, figures["uncertainty"] = fitted(learned, kept, recipe)
        uncertainty.draw(figures["uncertainty"], recipe.run / "uncertainty.png")
        card = dataclasses.replace(card, uncertainty=estimator.arguments)
    figures["reference"] = verify.reference_of(model)
    figures["bfloat16_apart_hu"] = dataclasses.asdict(verify.bfloat16_deviation(model))
    figures |= validation.figures_of(model, ceilings_of(training), plain, kept_back, recipe.evaluate)
    quantiles = validation.mr_quantiles_of(plain)
    product = dataclasses.replace(model, uncertainty=estimator)
    seen = (validation.images_of(pair, product.judged(made[pair.name]), quantiles) for pair in (*plain, *kept_back))
    limits = plausibility.limits_of([plausibility.measured(images) for images in seen])
    findings = {**limits, **card.findings}
    card = dataclasses.replace(card, mr_quantiles=quantiles, figures=figures, findings=findings)
    return save_model(training.average, card, folder, estimator)


def ceilings_of(training: Training) -> dict[str, validation.Translate]:
    """Measure the method's upper limit: for the LDM, its autoencoder at the end of the first stage.

    The joint stage bends the decoder to the denoiser, so the networks of the first stage are asked.
    """
    if not isinstance(training.networks, LatentDiffusion):
        return {}
    first = Training.begin(training.recipe, training.device)
    first.restore(LatentDiffusion.stages[0])
    assert isinstance(first.average, LatentDiffusion)
    return {"autoencoder_ceiling": validation.reconstruction_by(first.average.eval())}


def main(
    recipe_path: Path,
    resume: bool = True,
    device: str = "auto",
    fold: str = "",
    minutes: float | None = None,
    changes: Sequence[str] = (),
) -> ModelCard:
    """Train by a recipe, or go on where it stopped; returns the card of what was made.

    Args:
        recipe_path: YAML file.
        resume: whether a training that the run's folder holds is gone on with.
        device: `auto`, `cpu` or `cuda`.
        fold: `K/N` for one fold of a cross-validation; one that is over is not measured again.
        minutes: of all stages together, in the place of the recipe's steps and minutes.
        changes: of the recipe, see `read_recipe`.

    Raises:
        BadRecipe: the recipe cannot be used.
        BadPair: a training pair lacks or cannot be used.
        FileExistsError: the run's folder holds a training and `resume` is false.
        Diverged: the losses are not finite any more.
    """
    recipe = read_recipe(recipe_path, Path(os.environ.get("SCT_DATA", "../shared/data")), changes)
    method_of(recipe)
    if minutes is not None:
        recipe = cross_validation.budgeted(recipe, minutes)
    if fold:
        return of_fold(recipe, cross_validation.read_fold(fold), resume, device)
    return of_recipe(recipe, resume, device)


def of_fold(recipe: Recipe, fold: cross_validation.Fold, resume: bool, device: str) -> ModelCard:
    """Train one fold, unless that is done; after the last, write which patient has which model."""
    own = cross_validation.within(recipe, fold)
    card = cross_validation.card_of_run(own) or of_recipe(own, resume, device)
    path = cross_validation.write_folds(recipe, fold.of)
    print(f"{card.name}: done; {f'all folds: {path}' if path else 'other folds lack'}", flush=True)
    return card


def of_recipe(recipe: Recipe, resume: bool, device: str) -> ModelCard:
    """Train, measure and write the model; see `main`."""
    if not resume and any(recipe.run.glob("*.pt")):
        raise FileExistsError(f"{recipe.run} holds a training already; remove it, or resume")
    plain, kept_back = read_cohort(recipe)
    training = train(recipe, plain, kept_back, pick_device(device))
    card = finish(training, plain, kept_back)
    print(json.dumps(card.figures, indent=2), flush=True)
    return card
