"""The interface of every method that turns an MR into HU: networks that predict, and how they learn.

A method is one class: `LatentDiffusion`, `NnUNet`, `SwinUnetr`, `Pix2Pix`, `CycleGan`. The trainer and the predictor
know this interface only; `models.networks.registry` names the classes by the word that stands in recipes and cards.

Where bfloat16 cannot be trusted.

On a CPU (torch 2.13, oneDNN, avx512_bf16) the weights' gradient of a 3D convolution in bfloat16 is what happened to lie
in memory, when its input has fewer slices than its kernel but more than one: 2 under a kernel of 3, whatever the
channels, the batch and the memory format. Forward, the input's gradient and float32 are right; so are rows and columns.
Measured against float32 on 112 sizes of 1 to 12 voxels a side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from models.data.pairs import Pair
from models.data.recipe import BadRecipe, Recipe
from models.networks.autoencoder import Stride
from models.networks.batches import TrainingStage

Losses = dict[str, torch.Tensor]
"""Losses by name, already weighted; their sum is minimised."""


@dataclass(frozen=True)
class OptimiserStep:
    """The turn of one optimiser in every step; a GAN has two, taken in their order.

    Attributes:
        name: of what learns, such as `generator`.
        modules: whose parameters move.
        losses: (step, how much of the stage is over, 0 to 1) -> losses. A later turn may use what an earlier one of the
            same step has left in a closure.
        betas: of Adam; GANs take 0.5 for the first.
    """

    name: str
    modules: Sequence[nn.Module]
    losses: Callable[[int, float], Losses]
    betas: tuple[float, float] = (0.9, 0.999)


class Translator(nn.Module, ABC):
    """Networks of one method; its parameters are what a weights file holds.

    Attributes:
        stages: of training, in their order.
        stride: corners of training patches lie on multiples of it, (slice, row, column).
    """

    stages: ClassVar[tuple[str, ...]] = ("train",)
    stride: Stride = (1, 1, 1)

    @abstractmethod
    def synthesize(self, mr: torch.Tensor, seed: int, steps: int = 1) -> torch.Tensor:
        """Synthetic CT of a whole normalised MR: one sample in HU, (S, R, C) float32.

        Args:
            mr: (S, R, C), as `intensity.normalise_mr` gives it, of any size.
            seed: of the noise; without meaning for a method that draws none.
            steps: sampler steps; without meaning for a method without sampler.
        """

    @abstractmethod
    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        """Return the optimiser steps of a training stage: which modules learn, from which losses."""

    def translates(self, stage: str) -> bool:
        """Return whether the networks can make a CT from an MR in a stage of their training."""
        del stage
        return True

    def on_stage_end(self, lesson: TrainingStage) -> None:
        """Do what a stage's end asks for, once the networks are their running average."""

    @classmethod
    def partners(cls, recipe: Recipe) -> nn.ModuleDict:
        """Networks that only the training needs, such as discriminators; no weights file holds them."""
        del recipe
        return nn.ModuleDict()

    @classmethod
    def plan(cls, recipe: Recipe, patients: Sequence[Pair]) -> Recipe:
        """The recipe with what is to be planned from the training patients filled in; else as it is."""
        del patients
        return recipe

    def device(self) -> torch.device:
        """Return the device of the networks."""
        return next(self.parameters()).device


def watch(networks: nn.Module) -> None:
    """Have every 3D convolution refuse inputs for which its gradient would be wrong."""
    for layer in networks.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_pre_hook(_refuse_thin_input)


def _refuse_thin_input(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    assert isinstance(layer, nn.Conv3d)
    x: torch.Tensor = inputs[0]
    in_bfloat16 = x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if in_bfloat16 and 1 < x.shape[2] < layer.kernel_size[0]:
        raise BadRecipe(
            f"precision: a convolution of {layer.kernel_size[0]} slices sees {x.shape[2]}: its gradient in bfloat16 is "
            "wrong on a CPU; take thicker patches, or float32"
        )
