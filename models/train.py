"""Training of the latent diffusion model in three stages, each resumable, each repeatable from its recipe.

1. `autoencoder`: L1 + KL on CT patches; then the latent's mean and SD over the training set.
2. `denoiser`: MR encoder and UNet learn to find the clean latent behind any noise of the rectified flow.
3. `joint`: the clean latent of one step from pure noise is decoded, and its L1 in HU trains MR encoder, UNet and
   decoder together, beside the flow loss. The CT encoder stays, or the latent space would move.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from models import flow, pairs, plausibility, validate
from models.autoencoder import kl_divergence
from models.card import ModelCard
from models.intensity import AIR_HU, HU_PER_UNIT, to_unit
from models.latent_diffusion import Condition, LatentDiffusion, pad_to_multiple
from models.pairs import Pair, Patch
from models.recipe import STAGES, Recipe, Stage, read_recipe
from models.weights import load_model, pick_device, save_model

FLOOR: Final = 0.02
"""Fraction of the peak learning rate at the end of the cosine."""
CHECKPOINT_STEPS: Final = 250
LOG_STEPS: Final = 50
GRADIENT_NORM: Final = 1.0
EMA_DECAY: Final = 0.999
DENSE_UNIT: Final = 0.25
THIN_UNIT: Final = -0.2
"""Above and below these (250 and -200 HU) the bone weight is added."""

Losses = dict[str, torch.Tensor]


@dataclass
class Training:
    """The networks that learn, their running average, and where the run keeps its state."""

    recipe: Recipe
    networks: LatentDiffusion
    average: LatentDiffusion
    device: torch.device

    @classmethod
    def begin(cls, recipe: Recipe, device: torch.device) -> Training:
        """Networks with weights drawn from the recipe's seed."""
        torch.manual_seed(recipe.seed)
        networks = LatentDiffusion(**recipe.architecture).to(device)
        nn.utils.convert_conv3d_weight_memory_format(networks, torch.channels_last_3d)
        recipe.run.mkdir(parents=True, exist_ok=True)
        return cls(recipe, networks, copy.deepcopy(networks).requires_grad_(False), device)

    def state_path(self, stage: str) -> Path:
        """The checkpoint of a stage."""
        return self.recipe.run / f"{stage}.pt"

    def save(self, stage: str, step: int, optimiser: torch.optim.Optimizer) -> None:
        """Write the checkpoint of a stage, whole or not at all."""
        state = {
            "step": step,
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        part = self.state_path(stage).with_suffix(".part")
        torch.save(state, part)
        part.replace(self.state_path(stage))

    def restore(self, stage: str, optimiser: torch.optim.Optimizer | None) -> int:
        """Take up a stage where its checkpoint left it; returns the steps done, 0 without a checkpoint."""
        if not self.state_path(stage).is_file():
            return 0
        state = torch.load(self.state_path(stage), map_location=self.device, weights_only=True)
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        if optimiser is not None:
            optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])


def learning_rate(step: int, stage: Stage) -> float:
    """Linear rise over the first steps, then a cosine down to 2 % of the peak."""
    rise = min(1.0, (step + 1) / stage.warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / stage.steps)))
    return stage.learning_rate * rise * (FLOOR + (1 - FLOOR) * fall)


def fit(training: Training, name: str, trained: Sequence[nn.Module], losses: Callable[[int], Losses]) -> None:
    """Run one stage to its end: AdamW, clipped gradients, running average, checkpoints, a CSV of losses.

    Args:
        training: what learns; after the stage its networks are their running average.
        name: of the stage.
        trained: the modules whose parameters move.
        losses: step -> losses by name; their sum is minimised.
    """
    stage = training.recipe.stages[name]
    parameters = [parameter for module in trained for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=stage.learning_rate, weight_decay=1e-4)
    first = training.restore(name, optimiser)
    seen: dict[str, list[float]] = {}
    for step in range(first, stage.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, stage)
        parts = losses(step)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        if nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM).isfinite():
            optimiser.step()
            follow(training.average, training.networks, step)
        else:
            print(f"{name} {step}: the gradient is not finite; the step is left out", flush=True)
        for key, value in parts.items():
            seen.setdefault(key, []).append(float(value.detach()))
        if (step + 1) % LOG_STEPS == 0:
            record(training.recipe.run / f"{name}.csv", step + 1, seen)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == stage.steps:
            training.save(name, step + 1, optimiser)
    training.networks.load_state_dict(training.average.state_dict())


@torch.no_grad()
def follow(average: nn.Module, networks: nn.Module, step: int) -> None:
    """Exponential moving average of the weights; its decay rises to 0.999."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), networks.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def record(path: Path, step: int, seen: dict[str, list[float]]) -> None:
    """Append the mean of each loss since the last record, print it, and begin anew."""
    means = {key: sum(values) / len(values) for key, values in seen.items()}
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", *means])
        writer.writerow([step, *(f"{value:.6f}" for value in means.values())])
    print(f"{path.stem} {step} " + " ".join(f"{key} {value:.5f}" for key, value in means.items()), flush=True)
    seen.clear()


def draw_patches(
    training: Training, patients: Sequence[Sequence[Pair]], name: str, step: int
) -> list[tuple[Pair, tuple[int, int, int]]]:
    """Which copy of which patient, and where: a function of seed, stage and step alone."""
    stage = training.recipe.stages[name]
    generator = np.random.default_rng([training.recipe.seed, STAGES.index(name), step])
    drawn = []
    for _ in range(stage.batch):
        copies = patients[int(generator.integers(len(patients)))]
        pair = copies[int(generator.integers(len(copies)))]
        drawn.append((pair, pairs.draw_corner(pair.body, stage.patch, training.networks.stride, generator)))
    return drawn


def take_batch(training: Training, patients: Sequence[Sequence[Pair]], name: str, step: int) -> Patch:
    """A batch of patches, the MR's contrast changed anew at every step."""
    stage = training.recipe.stages[name]
    generator = np.random.default_rng([training.recipe.seed, 100 + STAGES.index(name), step])
    patches = [
        pairs.cut_patch(pair, corner, stage.patch) for pair, corner in draw_patches(training, patients, name, step)
    ]
    mr = [pairs.apply_contrast(patch.mr, pairs.draw_contrast(generator, stage.contrast)) for patch in patches]
    stacked = (mr, [patch.ct for patch in patches], [patch.weight for patch in patches])
    layout = torch.channels_last_3d
    first, second, third = (torch.cat(part).to(training.device, memory_format=layout) for part in stacked)
    return Patch(first, second, third)


def dice(training: Training, name: str, step: int) -> torch.Generator:
    """The noise of a step: a function of seed, stage and step, so that a resumed training draws the same."""
    return torch.Generator().manual_seed(training.recipe.seed + 1_000_000 * STAGES.index(name) + step)


def image_loss(unit: torch.Tensor, patch: Patch, bone_weight: float) -> torch.Tensor:
    """Weighted L1 in the networks' unit; bone and air count more, misregistered skin less."""
    rare = ((patch.ct > DENSE_UNIT) | (patch.ct < THIN_UNIT)).float()
    inside = (patch.weight == 1).float()
    weight = patch.weight * (1 + bone_weight * rare * inside)
    return (weight * (unit.float() - patch.ct).abs()).sum() / weight.sum()


def autocast(training: Training) -> torch.autocast:
    """bfloat16 where it is safe; the networks keep what must be exact in float32."""
    return torch.autocast(training.device.type, torch.bfloat16, enabled=training.recipe.precision == "bfloat16")


def train_autoencoder(training: Training, patients: Sequence[Sequence[Pair]]) -> None:
    """Stage 1; then the latent's mean and SD of each channel over the bodies of the training set."""
    recipe, networks = training.recipe, training.networks

    def losses(step: int) -> Losses:
        patch = take_batch(training, patients, "autoencoder", step)
        with autocast(training):
            mean, log_sigma = networks.autoencoder.encode(patch.ct)
            noise = torch.randn(mean.shape, generator=dice(training, "autoencoder", step)).to(training.device)
            latent = mean + log_sigma.exp() * noise
            decoded = networks.autoencoder.decode(latent)
        return {
            "l1": image_loss(decoded, patch, recipe.bone_weight),
            "kl": recipe.kl_weight * kl_divergence(mean, log_sigma),
        }

    fit(training, "autoencoder", [networks.autoencoder], losses)
    measure_latent(training, [copies[0] for copies in patients])


@torch.no_grad()
def measure_latent(training: Training, plain: Sequence[Pair]) -> None:
    """Store the latent's mean and SD by channel over whole training volumes."""
    networks = training.networks
    networks.latent_mean.zero_()
    networks.latent_sd.fill_(1)
    latents = torch.cat([encode_whole(training, pair).flatten(2) for pair in plain], dim=2)[0].float()
    for module in (networks, training.average):
        module.latent_mean.copy_(latents.mean(dim=1))
        module.latent_sd.copy_(latents.std(dim=1))


@torch.no_grad()
def encode_whole(training: Training, pair: Pair) -> torch.Tensor:
    """Latent (1, C, s, r, c) of a whole CT, padded to a multiple of the stride."""
    networks = training.networks
    ct = pad_to_multiple(to_unit(torch.from_numpy(pair.hu.astype(np.float32)))[None, None], networks.stride)
    with autocast(training):
        return networks.encode(ct.to(training.device)).float()


def train_denoiser(training: Training, patients: Sequence[Sequence[Pair]]) -> None:
    """Stage 2: mean squared error of the clean latent, on latents that are encoded once and kept."""
    networks, stage = training.networks, training.recipe.stages["denoiser"]
    kept: dict[int, torch.Tensor] = {}
    size = [length // step for length, step in zip(stage.patch, networks.stride, strict=True)]
    air = encode_air(training)

    def latents(step: int) -> torch.Tensor:
        boxes = []
        for pair, corner in draw_patches(training, patients, "denoiser", step):
            first = [place // stride for place, stride in zip(corner, networks.stride, strict=True)]
            if id(pair) not in kept:
                kept[id(pair)] = encode_whole(training, pair).half()
            difference = kept[id(pair)].float() - air
            boxes.append(pairs.cut(difference, first, size, 0.0) + air)
        return torch.cat(boxes)

    def losses(step: int) -> Losses:
        patch = take_batch(training, patients, "denoiser", step)
        return {"flow": guess(training, patch, latents(step), "denoiser", step).error}

    fit(training, "denoiser", [networks.mr_encoder, networks.denoiser], losses)


@torch.no_grad()
def encode_air(training: Training) -> torch.Tensor:
    """The latent (1, C, 1, 1, 1) of nothing but air, with which patches beyond the image are filled."""
    size = [8 * step for step in training.networks.stride]
    air = torch.full((1, 1, *size), AIR_HU / HU_PER_UNIT, device=training.device)
    return training.networks.encode(air)[:, :, 4:5, 4:5, 4:5].float()


def draw_times(count: int, pure_noise: float, generator: torch.Generator) -> torch.Tensor:
    """Times of shape (count,): a fraction of them 1 (pure noise), the others uniform."""
    t = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < pure_noise, torch.ones(count), t)


@dataclass(frozen=True)
class Guess:
    """What the denoiser says of a noisy latent: the clean latent, its mean squared error, and what it saw of the MR."""

    error: torch.Tensor
    clean: torch.Tensor
    condition: Condition


def guess(training: Training, patch: Patch, clean: torch.Tensor, name: str, step: int) -> Guess:
    """Noise a clean latent at drawn times and ask for it again; the squared error is weighted by the body."""
    networks = training.networks
    generator = dice(training, name, step)
    noise = torch.randn(clean.shape, generator=generator).to(training.device)
    t = draw_times(clean.shape[0], training.recipe.stages[name].pure_noise, generator).to(training.device)
    z = flow.path(clean, noise, t)
    with autocast(training):
        condition = networks.look(patch.mr)
        found = networks.denoise(z, t, condition).float()
    weight = nn.functional.avg_pool3d(patch.weight, networks.stride)
    error = (weight * (found - clean).square()).sum() / (weight.sum() * clean.shape[1])
    return Guess(error, found, condition)


def train_jointly(training: Training, patients: Sequence[Sequence[Pair]]) -> None:
    """Stage 3: L1 in HU of the decoded guess, and the flow loss, for all but the CT encoder."""
    recipe, networks = training.recipe, training.networks

    def losses(step: int) -> Losses:
        patch = take_batch(training, patients, "joint", step)
        with torch.no_grad(), autocast(training):
            clean = networks.encode(patch.ct).float()
        guessed = guess(training, patch, clean, "joint", step)
        with autocast(training):
            decoded = networks.decode(guessed.clean, guessed.condition)
        return {
            "l1": image_loss(decoded, patch, recipe.bone_weight),
            "flow": recipe.flow_weight * guessed.error,
        }

    autoencoder = networks.autoencoder
    decoding = [autoencoder.unmix, autoencoder.decoder, autoencoder.last_norm, autoencoder.last]
    seen = [networks.mr_encoder] if networks.detail is None else [networks.mr_encoder, networks.detail]
    fit(training, "joint", [*seen, networks.denoiser, *decoding], losses)


def deformed_copies(recipe: Recipe, plain: Sequence[Pair]) -> list[list[Pair]]:
    """Each patient as it is, and deformed `copies - 1` times."""
    generators = [np.random.default_rng([recipe.seed, 1000 + number]) for number in range(len(plain))]
    return [
        [pair, *(pairs.deform(pair, pairs.draw_deformation(generator)) for _ in range(recipe.copies - 1))]
        for pair, generator in zip(plain, generators, strict=True)
    ]


STAGE_TRAINERS: Final[Mapping[str, Callable[[Training, Sequence[Sequence[Pair]]], None]]] = {
    "autoencoder": train_autoencoder,
    "denoiser": train_denoiser,
    "joint": train_jointly,
}


def train(recipe: Recipe, plain: Sequence[Pair], device: torch.device) -> Training:
    """Run all stages, or what remains of them after an interruption."""
    training = Training.begin(recipe, device)
    patients = deformed_copies(recipe, plain)
    begun = [name for name in STAGES if training.state_path(name).is_file()]
    for name in STAGES[STAGES.index(begun[-1]) if begun else 0 :]:  # a checkpoint holds all that came before it
        STAGE_TRAINERS[name](training, patients)
    return training


def finish(training: Training, plain: Sequence[Pair], kept_back: Sequence[Pair]) -> ModelCard:
    """Write weights and card into the run's folder, and measure the model as it will be installed."""
    recipe = training.recipe
    card = ModelCard(digest="0" * 64, architecture=recipe.architecture, **recipe.card)
    folder = recipe.run / "model"
    save_model(training.average, card, folder)
    model = load_model(str(folder), str(training.device))
    first = Training.begin(recipe, training.device)
    first.restore("autoencoder", None)
    figures = validate.figures_of(model, first.average.eval(), plain, kept_back, recipe.evaluate)
    limits = plausibility.limits_of([validate.inside(model, pair) for pair in (*plain, *kept_back)])
    return save_model(training.average, dataclasses.replace(card, figures=figures, findings=limits), folder)


def main(recipe_path: Path, resume: bool = True, device: str = "auto") -> ModelCard:
    """Train by a recipe, or go on where it stopped; returns the card of what was made.

    Raises:
        BadRecipe: the recipe cannot be used.
        BadPair: a training pair lacks or cannot be used.
        FileExistsError: the run's folder holds a training and `resume` is false.
    """
    recipe = read_recipe(recipe_path, Path(os.environ.get("SCT_DATA", "../shared/data")))
    if not resume and any(recipe.run.glob("*.pt")):
        raise FileExistsError(f"{recipe.run} holds a training already; remove it, or resume")
    names = sorted(path.name.removesuffix("_mr.nii.gz") for path in recipe.pairs.glob("*_mr.nii.gz"))
    if not set(recipe.validation) < set(names):
        raise pairs.BadPair(f"{recipe.pairs}: validation patients or training patients lack; found {len(names)} pairs")
    low, high = recipe.card["hu_range"]
    plain = pairs.read_pairs(recipe.pairs, [name for name in names if name not in recipe.validation], (low, high))
    kept_back = pairs.read_pairs(recipe.pairs, recipe.validation, (low, high))
    training = train(recipe, plain, pick_device(device))
    card = finish(training, plain, kept_back)
    print(json.dumps(card.figures, indent=2), flush=True)
    return card
