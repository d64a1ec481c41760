"""Losses: the paper's five, with the numbers of its equations, and what is ours.

Mahdi et al., Diagnostics 2025, 15, 3010. x is the true CT, y what the networks say; CT in the networks' unit (1 is
1000 HU), so that an L1 of 0.04 is a mean absolute error of 40 HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from models.data.pairs import Patch

DENSE_UNIT: Final = 0.25
THIN_UNIT: Final = -0.2
"""Above and below these (250 and -200 HU) the bone weight is added."""
NOISE_UNIT: Final = 0.02
"""SD of the noise of a CT, 20 HU: an L1 that is quadratic below it is none the worse."""
NARROWS: Final = (0.5, 0.85)
"""Shares of a stage between which what is quadratic of an L1 falls to the noise: not before bone is learned."""


def l1(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Equation 1: mean of |y - x|."""
    return (y.float() - x).abs().mean()


def kl_divergence(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Equation 2, its sign mended: 0.5 (mu^2 + s^2 - log s^2 - 1), the mean over all elements."""
    mean, log_sigma = mean.float(), log_sigma.float()
    return 0.5 * (mean.square() + (2 * log_sigma).exp() - 2 * log_sigma - 1).mean()


def perceptual(y: Sequence[torch.Tensor], x: Sequence[torch.Tensor]) -> torch.Tensor:
    """Equation 3: mean over the layers l of the mean of (f_l(y) - f_l(x))^2; f of a frozen network, see `tissue`."""
    distances = [(mine.float() - true.float()).square().mean() for mine, true in zip(y, x, strict=True)]
    return torch.stack(distances).mean()


def generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Equation 4 for the generator (Mao et al. 2017, least squares): mean of (D(y) - 1)^2."""
    return (fake.float() - 1).square().mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Equation 4 for the discriminator: half the sum of the means of (D(x) - 1)^2 and D(y)^2."""
    return 0.5 * ((real.float() - 1).square().mean() + fake.float().square().mean())


def mse(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Equation 5: mean of (y - x)^2."""
    return (y.float() - x).square().mean()


def adversarial_ramp(over: float, share: float) -> float:
    """Factor of the adversarial terms: 0 in the first share of the stage, 1 after; the paper waits 5 epochs."""
    return 0.0 if over < share else 1.0


def huber_threshold(quadratic: float, over: float) -> float:
    """Error below which `masked_l1` is quadratic, when so much of a stage is over: it falls to the CT's noise."""
    if not quadratic:
        return 0.0
    fallen = min(max((over - NARROWS[0]) / (NARROWS[1] - NARROWS[0]), 0.0), 1.0)
    return quadratic * math.pow(NOISE_UNIT / quadratic, fallen)


def masked_l1(y: torch.Tensor, patch: Patch, bone_weight: float = 0.0, quadratic: float = 0.0) -> torch.Tensor:
    """Weighted mean of |y - x|, ours: misregistered skin and air around count less, bone and air inside more.

    An L1 pulls alike at the noise of a soft voxel and at a bone that is missing, so that bone, rare, is learned late.
    Where it is quadratic for small errors, with its slope of 1 beyond, soft tissue is quiet and bone is not.

    Args:
        y: CT in the networks' unit, of the shape of the patch.
        patch: true CT, and 1 in the weight of the common body.
        bone_weight: added to the weight of voxels of the body below -200 or above 250 HU.
        quadratic: error q below which e^2 / 2q stands for e - q / 2; 0 for none.
    """
    rare = ((patch.ct > DENSE_UNIT) | (patch.ct < THIN_UNIT)).float()
    inside = (patch.weight == 1).float()
    weight = patch.weight * (1 + bone_weight * rare * inside)
    error = torch.nn.functional.smooth_l1_loss(y.float(), patch.ct, reduction="none", beta=quadratic)
    return (weight * error).sum() / weight.sum()


def halving_weights(count: int) -> list[float]:
    """Weights of deep supervision as nnU-Net has them: each level half of the finer one's, their sum 1."""
    weights = [0.5**level for level in range(count)]
    return [weight / sum(weights) for weight in weights]


BOUNDS_HU: Final = (-200.0, -30.0, 150.0)
"""Air below the first, then fat, soft tissue, and bone above the last."""
CHANNELS: Final = (16, 32, 64)


class TissueSegmenter(nn.Module):
    """Convolutions at full, half and quarter resolution; what each level sees is a feature, the last one votes."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.levels = nn.ModuleList(
            [
                nn.Sequential(nn.Conv3d(1, first, (1, 3, 3), padding=(0, 1, 1)), nn.SiLU()),
                nn.Sequential(nn.Conv3d(first, second, (1, 3, 3), (1, 2, 2), padding=(0, 1, 1)), nn.SiLU()),
                nn.Sequential(nn.Conv3d(second, third, 3, (1, 2, 2), padding=1), nn.SiLU()),
            ]
        )
        self.votes = nn.ModuleList([nn.Conv3d(width, len(BOUNDS_HU) + 1, 1) for width in CHANNELS])

    def features(self, ct: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each level for a CT (N, 1, S, R, C) in the networks' unit, finest first."""
        seen = []
        x = ct
        for level in self.levels:
            x = level(x)
            seen.append(x)
        return seen

    def forward(self, ct: torch.Tensor) -> torch.Tensor:
        """Logits (N, 4, S, R, C): the sum of every level's vote."""
        size = ct.shape[2:]
        votes = [
            nn.functional.interpolate(vote(seen), size, mode="trilinear")
            for vote, seen in zip(self.votes, self.features(ct), strict=True)
        ]
        return torch.stack(votes).sum(dim=0)
