"""Batches of a training stage: patches, noise and precision, each a function of seed, stage and step alone.

A training that was interrupted therefore goes on with the very draws that it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from models.data import augmentation, pairs
from models.data.pairs import Pair, Patch
from models.data.recipe import Recipe, Stage
from models.networks import losses
from models.networks.autoencoder import Stride
from models.networks.losses import TissueSegmenter

Corner = tuple[int, int, int]
DeformedCopies = Sequence[Pair]
"""One patient: the pair as it is, and deformed."""


@dataclass(frozen=True)
class TrainingStage:
    """One stage of one training.

    Attributes:
        recipe: that says all.
        name: of the stage.
        number: of the stage among its method's; part of every seed.
        patients: the training patients with their deformed copies.
        stride: corners lie on multiples of it.
        device: where batches go.
        partners: networks that only the training needs.
        segmenter: frozen, whose features the perceptual loss compares; none where the recipe has no such loss.
    """

    recipe: Recipe
    name: str
    number: int
    patients: Sequence[DeformedCopies]
    stride: Stride
    device: torch.device
    partners: nn.ModuleDict
    segmenter: TissueSegmenter | None = None

    @property
    def stage(self) -> Stage:
        """The recipe's numbers for this stage."""
        return self.recipe.stages[self.name]

    def draw(self, step: int) -> list[tuple[Pair, Corner]]:
        """Draw patient, copy and place of each patch of a batch."""
        generator = np.random.default_rng([self.recipe.seed, self.number, step])
        return [self._draw_one(self.patients, generator) for _ in range(self.stage.batch)]

    def draw_other(self, step: int) -> list[tuple[Pair, Corner]]:
        """Draw as `draw` does, but each patch of another patient than there: for learning without pairs.

        Raises:
            ValueError: there is one patient only.
        """
        if len(self.patients) < 2:
            raise ValueError("unpaired learning needs two patients")
        generator = np.random.default_rng([self.recipe.seed, 200 + self.number, step])
        taken = [pair.name for pair, _ in self.draw(step)]
        return [
            self._draw_one([copies for copies in self.patients if copies[0].name != name], generator) for name in taken
        ]

    def _draw_one(self, patients: Sequence[DeformedCopies], generator: np.random.Generator) -> tuple[Pair, Corner]:
        copies = patients[int(generator.integers(len(patients)))]
        pair = copies[int(generator.integers(len(copies)))]
        return pair, pairs.draw_corner(pair.body, self.stage.patch, self.stride, generator)

    def batch(self, step: int) -> Patch:
        """Return a batch of patches; deformation, contrast and acquisition are drawn at every step."""
        return self._cut(self.draw(step), step)

    def unpaired(self, step: int) -> Patch:
        """A batch whose CT is of other patients than its MR; its weight is the CT's."""
        own, other = self._cut(self.draw(step), step), self._cut(self.draw_other(step), step)
        return replace(other, mr=own.mr)

    def _cut(self, drawn: Sequence[tuple[Pair, Corner]], step: int) -> Patch:
        contrasts = np.random.default_rng([self.recipe.seed, 100 + self.number, step])
        shapes = np.random.default_rng([self.recipe.seed, 300 + self.number, step])
        patches = [self._change(self._box(pair, corner, shapes), contrasts, shapes) for pair, corner in drawn]
        stacked = zip(*((patch.mr, patch.ct, patch.weight) for patch in patches), strict=True)
        layout = torch.channels_last_3d
        first, second, third = (torch.cat(part).to(self.device, memory_format=layout) for part in stacked)
        return Patch(first, second, third)

    def _box(self, pair: Pair, corner: Corner, generator: np.random.Generator) -> Patch:
        if not self.stage.deformation:
            return pairs.cut_patch(pair, corner, self.stage.patch)
        warp = augmentation.draw_warp(generator, self.stage.deformation)
        return augmentation.warped_patch(pair, corner, self.stage.patch, warp)

    def _change(self, patch: Patch, contrasts: np.random.Generator, shapes: np.random.Generator) -> Patch:
        if self.stage.acquisition:
            patch = augmentation.acquire(patch, augmentation.draw_acquisition(shapes, self.stage.acquisition))
        contrast = augmentation.draw_contrast(contrasts, self.stage.contrast)
        return replace(patch, mr=augmentation.apply_contrast(patch.mr, contrast))

    def noise(self, step: int) -> torch.Generator:
        """Return the generator of a step's noise."""
        return torch.Generator().manual_seed(self.recipe.seed + 1_000_000 * self.number + step)

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is safe; the networks keep what must be exact in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def l1(self, y: torch.Tensor, patch: Patch, over: float) -> torch.Tensor:
        """Equation 1 as the recipe weights it, when so much of the stage is over; see `losses.masked_l1`."""
        weights = self.recipe.losses
        return weights.l1 * losses.masked_l1(y, patch, weights.bone, losses.huber_threshold(weights.quadratic, over))

    def perceptual(self, y: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Equation 3 between a CT y and the true x, weighted; nothing without a segmenter or a weight."""
        weight = self.recipe.losses.perceptual
        if self.segmenter is None or not weight:
            return {}
        with self.autocast():
            mine, true = self.segmenter.features(y), self.segmenter.features(x)
        return {"perceptual": weight * losses.perceptual(mine, true)}
