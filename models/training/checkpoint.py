"""A training between two steps: networks, their running average, optimisers, progress; and its file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.data.recipe import Recipe
from models.inference.card import ModelCard
from models.networks import translator
from models.networks.registry import build, method_of
from models.networks.translator import Translator


@dataclass
class StageProgress:
    """The state of a stage: steps, time and losses so far.

    Attributes:
        step: steps done, those left out included.
        minutes: of the time budget (see `recipe.Stage`).
        left_out: steps whose loss or gradient was not finite, so that nothing moved.
        in_a_row: of those, the last ones without a good one between.
    """

    step: int = 0
    minutes: float = 0.0
    left_out: int = 0
    in_a_row: int = 0


@dataclass
class Training:
    """The networks that learn, and the folder of the run's state.

    Attributes:
        recipe: with everything planned filled in.
        networks: that learn.
        average: their running average, which is what is kept in the end.
        partners: networks that only the training needs.
        device: of all of them.
        done: progress of the stages that were run or found complete.
    """

    recipe: Recipe
    networks: Translator
    average: Translator
    partners: nn.ModuleDict
    device: torch.device
    done: dict[str, StageProgress] = field(default_factory=dict)

    @classmethod
    def begin(cls, recipe: Recipe, device: torch.device) -> Training:
        """Networks with weights drawn from the recipe's seed."""
        torch.manual_seed(recipe.seed)
        networks = build(recipe.method, recipe.architecture).to(device)
        partners = method_of(recipe).partners(recipe).to(device)
        for module in (networks, partners):
            nn.utils.convert_conv3d_weight_memory_format(module, torch.channels_last_3d)
        recipe.run.mkdir(parents=True, exist_ok=True)
        average = copy.deepcopy(networks).requires_grad_(False)
        for module in (networks, partners):
            translator.watch(module)
        return cls(recipe, networks, average, partners, device)

    def path(self, stage: str) -> Path:
        """Return the path of a stage's checkpoint."""
        return self.recipe.run / f"{stage}.pt"

    def save(self, stage: str, progress: StageProgress, optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
        """Write the checkpoint of a stage, whole or not at all."""
        state = {
            "progress": vars(progress),
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "partners": self.partners.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        }
        part = self.path(stage).with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path(stage))

    def progress_of(self, stage: str) -> StageProgress:
        """Return how far a stage was run by its checkpoint; without one it has not begun."""
        if stage in self.done or not self.path(stage).is_file():
            return self.done.get(stage, StageProgress())
        return _progress(torch.load(self.path(stage), map_location="cpu", weights_only=True, mmap=True))

    def restore(self, stage: str, optimisers: Mapping[str, torch.optim.Optimizer] | None = None) -> StageProgress:
        """Take up a stage where its checkpoint left it; progress of nothing without a checkpoint."""
        if not self.path(stage).is_file():
            return StageProgress()
        state = torch.load(self.path(stage), map_location=self.device, weights_only=True)
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.partners.load_state_dict(state.get("partners", {}))
        for name, optimiser in (optimisers or {}).items():
            optimiser.load_state_dict(_optimiser_state(state, name))
        return _progress(state)


def _progress(state: Mapping[str, Any]) -> StageProgress:
    """Read the progress of a checkpoint; one of version 0.1 holds the step alone."""
    return StageProgress(**state["progress"]) if "progress" in state else StageProgress(int(state["step"]))


def card_of(recipe: Recipe) -> ModelCard:
    """The card of what a recipe makes, before its weights are written and measured."""
    return ModelCard(digest="0" * 64, method=recipe.method, architecture=recipe.architecture, **recipe.card)


def _optimiser_state(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an optimiser's state from a checkpoint; one of version 0.1 has a single optimiser without a name."""
    found: dict[str, Any] = state["optimisers"][name] if "optimisers" in state else state["optimiser"]
    return found
