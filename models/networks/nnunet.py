"""nnU-Net as a regression: a U-Net whose shape is planned from the data's fingerprint, deep supervision, masked L1.

Isensee et al., Nature Methods 2021; the plan follows the rules of its version 2:

1. The fingerprint is the median spacing and the median size of the training images.
2. The patch begins as a cube in mm, of at most the median size, and is made smaller along the axis on which it covers
   most of the median image, until it fits a budget: of GPU memory there, of voxels here.
3. An axis is halved while at least 4 voxels remain and its spacing is within a factor 2 of the finest one; a kernel
   is 1 along an axis until its spacing is within that factor, then 3. The bottleneck's kernel is 3 x 3 x 3.
4. Channels double with each level up to a maximum; the first count is the largest multiple of 4 that keeps the network
   within a number of parameters (nnU-Net: 32, at most 320).

Other than there: AdamW and a cosine (the trainer's, the same for every method) in the place of SGD with momentum 0.99;
an L1 in the body in the place of Dice and cross-entropy, as the winner of SynthRAD2025 has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from models.data.pairs import Pair, Patch
from models.data.recipe import Recipe
from models.networks.autoencoder import Stride
from models.networks.batches import TrainingStage
from models.networks.losses import halving_weights
from models.networks.regression import InFloat32, Regression
from models.networks.translator import Losses, OptimiserStep

LEAST_VOXELS: Final = 4
"""Voxels that remain along an axis at the bottleneck."""
MOST_SUPERVISED: Final = 3
"""Resolutions that are supervised; the two coarsest never are, as in nnU-Net."""
CHANNEL_STEP: Final = 4
WIDEST: Final = 10
"""The largest count of channels, as a multiple of the first: 320 of 32."""


@dataclass(frozen=True)
class Fingerprint:
    """Medians over the training images: spacing in mm and size in voxels, (slice, row, column)."""

    spacing_mm: tuple[float, float, float]
    size: tuple[int, int, int]


def fingerprint(patients: Sequence[Pair]) -> Fingerprint:
    """Plan from the training images before any deformation."""
    spacing = np.median([pair.spacing_mm for pair in patients], axis=0)
    size = np.median([pair.mr.shape for pair in patients], axis=0)
    return Fingerprint((float(spacing[0]), float(spacing[1]), float(spacing[2])), _rounded(size))


@dataclass(frozen=True)
class Topology:
    """Levels of a U-Net, finest first: kernel of each, and the stride that leads into it (1 for the first)."""

    kernels: tuple[Stride, ...]
    strides: tuple[Stride, ...]

    def multiple(self) -> Stride:
        """Return the divisor of a patch's size, (slice, row, column)."""
        return _rounded(np.prod(self.strides, axis=0))


def topology(spacing_mm: Sequence[float], patch: Sequence[int]) -> Topology:
    """Rule 3: what is halved when, for a patch of voxels of a spacing."""
    spacing, size = np.array(spacing_mm, dtype=float), np.array(patch)
    kernel = np.ones(3, dtype=int)
    kernels, strides = [], [np.ones(3, dtype=int)]
    while True:
        roomy = size >= 2 * LEAST_VOXELS
        if not roomy.any():
            break
        halved = roomy & (spacing / spacing[roomy].min() < 2)
        if halved.sum() == 1 and size[halved][0] < 3 * LEAST_VOXELS:
            break
        kernel = np.where(spacing / spacing.min() < 2, 3, kernel)
        kernels.append(kernel)
        strides.append(np.where(halved, 2, 1))
        spacing, size = spacing * strides[-1], -(-size // strides[-1])
    kernels.append(np.full(3, 3))
    return Topology(tuple(map(_rounded, kernels)), tuple(map(_rounded, strides)))


def plan_patch(found: Fingerprint, voxels: int) -> Stride:
    """Rule 2: the largest patch of at most a number of voxels; no axis becomes shorter than 4 of them.

    Raises:
        ValueError: the budget is below 4 x 4 x 4 voxels.
    """
    if voxels < LEAST_VOXELS**3:
        raise ValueError(f"a patch has at least {LEAST_VOXELS**3} voxels, not {voxels}")
    shape = np.array(found.size)
    cube = 1 / np.array(found.spacing_mm)
    patch = np.minimum(np.ceil(cube * (256**3 / cube.prod()) ** (1 / 3)), shape).astype(int)
    patch = _padded(patch, topology(found.spacing_mm, patch))
    while patch.prod() > voxels:
        multiple = np.array(topology(found.spacing_mm, patch).multiple())
        axis = int(np.argmax(np.where(patch > LEAST_VOXELS, patch / shape, 0)))
        smaller = patch.copy()
        smaller[axis] -= multiple[axis]
        multiple = np.array(topology(found.spacing_mm, smaller).multiple())  # one axis less deep asks for less
        smaller[axis] = patch[axis] - multiple[axis]
        patch = _padded(smaller, topology(found.spacing_mm, smaller))
    return _rounded(patch)


def _padded(patch: np.ndarray[tuple[int, ...], np.dtype[np.int_]], levels: Topology) -> Any:
    multiple = np.array(levels.multiple())
    return -(-patch // multiple) * multiple


def _rounded(values: Sequence[float] | np.ndarray[tuple[int, ...], Any]) -> Stride:
    first, second, third = (round(float(value)) for value in values)
    return (first, second, third)


def channels_by_level(first: int, levels: int) -> list[int]:
    """Rule 4: doubled with each level, up to ten times the first."""
    return [min(first * 2**level, WIDEST * first) for level in range(levels)]


def plan_channels(levels: Topology, parameters: int) -> list[int]:
    """The widest channels whose network has at most a number of parameters.

    Raises:
        ValueError: even the narrowest network has more.
    """
    widest: list[int] = []
    first = CHANNEL_STEP
    while (count := _parameters(levels, channels := channels_by_level(first, len(levels.strides)))) <= parameters:
        widest, first = channels, first + CHANNEL_STEP
    if not widest:
        raise ValueError(
            f"the narrowest U-Net of {len(levels.strides)} levels has {count} parameters, not {parameters}"
        )
    return widest


def _parameters(levels: Topology, channels: Sequence[int]) -> int:
    supervised = supervised_levels(len(levels.strides))
    with torch.device("meta"):
        return sum(
            weight.numel() for weight in u_net(levels.kernels, levels.strides, channels, supervised).parameters()
        )


def u_net(
    kernels: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
    channels: Sequence[int],
    supervised: int,
    dropout: float = 0.0,
) -> DynUNet:
    """MONAI's DynUNet of one channel in and one out; the last convolution in float32."""
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=channels,
        dropout=dropout or None,
        deep_supervision=supervised > 1,
        deep_supr_num=max(supervised - 1, 1),
    )
    network.add_module("output_block", InFloat32(network.output_block))
    return network


def supervised_levels(levels: int) -> int:
    """Return the number of resolutions that are compared with the CT, the finest included."""
    return max(1, min(MOST_SUPERVISED, levels - 2))


class NnUNet(Regression):
    """MONAI's DynUNet in the planned shape.

    Args:
        kernels: by level, finest first.
        strides: into each level; the first is (1, 1, 1).
        channels: by level.
        tile: size of the planned patch.
    """

    network: DynUNet

    def __init__(
        self,
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        channels: Sequence[int],
        tile: Sequence[int],
    ) -> None:
        supervised = supervised_levels(len(strides))
        super().__init__(u_net(kernels, strides, channels, supervised), _rounded(tile))
        self.supervised = supervised
        self.coarser = [_rounded(np.prod(strides[: level + 1], axis=0)) for level in range(self.supervised)]

    @classmethod
    def plan(cls, recipe: Recipe, patients: Sequence[Pair]) -> Recipe:
        """Fill in the architecture and the size of the patches; the recipe's `voxels` and `parameters` are kept to."""
        limits: Mapping[str, int] = recipe.architecture
        found = fingerprint(patients)
        patch = plan_patch(found, int(limits["voxels"]))
        levels = topology(found.spacing_mm, patch)
        architecture = {
            "kernels": levels.kernels,
            "strides": levels.strides,
            "channels": plan_channels(levels, int(limits["parameters"])),
            "tile": patch,
        }
        stages = {name: dataclasses.replace(stage, patch=patch) for name, stage in recipe.stages.items()}
        return dataclasses.replace(recipe, architecture=architecture, stages=stages)

    def by_resolution(self, mr: torch.Tensor) -> list[torch.Tensor]:
        """CT at every supervised resolution, finest first."""
        network = self.network
        finest = network.output_block(network.skip_layers(mr))
        return [finest, *network.heads[: self.supervised - 1]]

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        """One turn: masked L1 at every supervised resolution."""

        def losses(step: int, over: float) -> Losses:
            patch = lesson.batch(step)
            with lesson.autocast():
                found = self.by_resolution(patch.mr)
            terms = [
                weight * lesson.l1(ct, coarser(patch, stride), over)
                for weight, ct, stride in zip(halving_weights(self.supervised), found, self.coarser, strict=True)
            ]
            names = ["l1", *(f"l1_level_{level}" for level in range(1, self.supervised))]
            return {**dict(zip(names, terms, strict=True)), **lesson.perceptual(found[0], patch.ct)}

        return [OptimiserStep("network", [self.network], losses)]


def coarser(patch: Patch, stride: Stride) -> Patch:
    """A patch at a lower resolution: means over the stride."""
    if stride == (1, 1, 1):
        return patch
    return Patch(*(nn.functional.avg_pool3d(part, stride) for part in (patch.mr, patch.ct, patch.weight)))
