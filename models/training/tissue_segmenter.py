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

from models.networks.losses import BOUNDS_HU, TissueSegmenter

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
