"""A small segmenter of CT into air, fat, soft tissue and bone, whose frozen features the perceptual loss compares.

The winner of SynthRAD2025 compares features of a network trained on anatomy; photographs, on which the usual networks
were trained, know no HU. Ours learns from thresholds of a smoothed CT, so it needs no labels: what it has to learn is
to see tissues through the noise, at several scales.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import nn

BOUNDS_HU: Final = (-200.0, -30.0, 150.0)
"""Air below the first, then fat, soft tissue, and bone above the last."""
CHANNELS: Final = (16, 32, 64)
SMOOTHING: Final = 3
"""Voxels, in rows and columns, over which the CT is averaged before the thresholds."""
STEPS: Final = 300
RATE: Final = 2e-3


def classes(ct: torch.Tensor) -> torch.Tensor:
    """Class 0 to 3 of every voxel, (N, S, R, C), of a CT (N, 1, S, R, C) in the networks' unit."""
    window = (1, SMOOTHING, SMOOTHING)
    edge = SMOOTHING // 2
    padded = nn.functional.pad(ct, (edge, edge, edge, edge, 0, 0), mode="replicate")
    smooth = nn.functional.avg_pool3d(padded, window, stride=1)
    bounds = torch.tensor(BOUNDS_HU, device=ct.device) / 1000.0
    return torch.bucketize(smooth[:, 0].contiguous(), bounds)


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
        """What each level sees of a CT (N, 1, S, R, C) in the networks' unit, finest first."""
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


def train_segmenter(cts: Callable[[int], torch.Tensor], seed: int, steps: int = STEPS) -> TissueSegmenter:
    """Learn by cross-entropy in float32 from batches step -> CT (N, 1, S, R, C) in the networks' unit."""
    torch.manual_seed(seed)
    segmenter = TissueSegmenter().to(cts(0).device)
    optimiser = torch.optim.Adam(segmenter.parameters(), lr=RATE)
    for step in range(steps):
        ct = cts(step)
        loss = nn.functional.cross_entropy(segmenter(ct), classes(ct))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return segmenter


def read_segmenter(path: Path) -> TissueSegmenter:
    """A frozen segmenter from its weights."""
    segmenter = TissueSegmenter()
    segmenter.load_state_dict(load_file(path))
    return segmenter.requires_grad_(False).eval()


def agreement(segmenter: TissueSegmenter, cts: Sequence[torch.Tensor]) -> list[float]:
    """Fraction of voxels of each class that the segmenter finds, over CTs (N, 1, S, R, C); NaN for an absent class."""
    found = torch.cat([segmenter(ct).argmax(dim=1).flatten() for ct in cts])
    true = torch.cat([classes(ct).flatten() for ct in cts])
    return [float((found[true == number] == number).float().mean()) for number in range(len(BOUNDS_HU) + 1)]
