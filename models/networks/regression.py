"""A network that says the CT at once: what nnU-Net, SwinUNETR and the generators of the GANs have in common.

A large image in overlapping tiles, for networks whose answer depends on the size of what they see.

Instance norms take their statistics from what is shown, and windowed attention counts from its first voxel: such a
network is shown tiles of the size of its training patches (Isensee et al. 2021, nnU-Net). Tiles overlap by half, and
their answers are averaged under a Gaussian whose SD is an eighth of the tile, so that no seam remains.

SwinUNETR as a regression: MONAI's network (Hatamizadeh et al. 2022), narrow enough for two cores; masked L1.

In bfloat16 it is slower on a CPU than in float32 (MODEL.md: 7.0 against 2.3 s), so that its recipe says float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from models.data.intensity import to_hu
from models.networks.autoencoder import Stride
from models.networks.batches import TrainingStage
from models.networks.translator import Losses, OptimiserStep, Translator


class InFloat32(nn.Module):
    """A layer that computes in float32 whatever autocast says: bfloat16 has steps of 8 HU near 1500 HU."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x in float32."""
        with torch.autocast(x.device.type, enabled=False):
            y: torch.Tensor = self.layer(x.float())
        return y


class Regression(Translator):
    """One network, MR (N, 1, S, R, C) -> CT in the networks' unit, shown tiles of a fixed size.

    Args:
        network: that maps a normalised MR to a CT of the same shape.
        tile: size of a tile, which is that of the training patches.
    """

    def __init__(self, network: nn.Module, tile: Stride) -> None:
        super().__init__()
        self.network = network
        self.tile = tile

    def forward(self, mr: torch.Tensor) -> torch.Tensor:
        """CT in the networks' unit, float32, of a normalised MR (N, 1, S, R, C)."""
        ct: torch.Tensor = self.network(mr)
        return ct.float()

    @torch.inference_mode()
    def synthesize(self, mr: torch.Tensor, seed: int, steps: int = 1) -> torch.Tensor:
        """Synthetic CT in tiles; nothing is drawn, so seed and steps have no meaning."""
        del seed, steps
        return to_hu(translate_in_tiles(self, mr[None, None].to(self.device()), self.tile))[0, 0]

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        """One turn: masked L1 of the network's CT."""

        def losses(step: int, over: float) -> Losses:
            patch = lesson.batch(step)
            with lesson.autocast():
                ct = self(patch.mr)
            return {"l1": lesson.l1(ct, patch, over), **lesson.perceptual(ct, patch.ct)}

        return [OptimiserStep("network", [self.network], losses)]


OVERLAP: Final = 0.5
SIGMA: Final = 0.125
"""SD of the Gaussian, as a fraction of the tile."""
FLOOR: Final = 1e-3
"""Least weight along an axis. Of the product it would make the rim of one tile count as much as the middle of another,
at the edges of the image, where every tile has its rim."""


def starts(extent: int, length: int, overlap: float = OVERLAP) -> list[int]:
    """First voxels of tiles of a length that cover an extent evenly, neighbours sharing at least the overlap."""
    if extent <= length:
        return [0]
    most = max(1, int(length * (1 - overlap)))
    count = -(-(extent - length) // most) + 1
    return [round(number * (extent - length) / (count - 1)) for number in range(count)]


def gaussian(size: Sequence[int]) -> torch.Tensor:
    """Weights of the voxels of a tile: 1 at its centre, at its rim FLOOR along each axis at the least."""
    weights = torch.ones(())
    for length in size:
        places = torch.arange(length) - (length - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (places / (SIGMA * length)).square()).clamp(min=FLOOR)
    return weights


def translate_in_tiles(
    network: Callable[[torch.Tensor], torch.Tensor], mr: torch.Tensor, size: Stride, overlap: float = OVERLAP
) -> torch.Tensor:
    """The network's answer for a whole image, of any size.

    Args:
        network: maps (1, 1, S, R, C) of exactly `size` to the same shape.
        mr: (1, 1, S, R, C); where it is smaller than a tile, its last voxels are repeated, and cropped after.
        size: of a tile, (slice, row, column).
        overlap: least fraction that neighbouring tiles share.
    """
    shape = mr.shape[2:]
    missing = [max(length - extent, 0) for extent, length in zip(shape, size, strict=True)]
    padded = torch.nn.functional.pad(mr, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
    weights = gaussian(size).to(mr.device)
    total, weight = torch.zeros_like(padded), torch.zeros_like(padded)
    for corner in product(*(starts(e, n, overlap) for e, n in zip(padded.shape[2:], size, strict=True))):
        s, r, c = (slice(first, first + length) for first, length in zip(corner, size, strict=True))
        total[..., s, r, c] += weights * network(padded[..., s, r, c]).float()
        weight[..., s, r, c] += weights
    return (total / weight)[..., : shape[0], : shape[1], : shape[2]]


MULTIPLE: Final = 32
"""Five halvings of all axes."""


class SwinUnetr(Regression):
    """MONAI's SwinUNETR.

    Args:
        features: channels at full resolution, a multiple of 12; they double five times.
        depths: transformer blocks by level.
        heads: attention heads by level.
        window: voxels of an attention window along each axis.
        tile: size of the training patches; multiples of 32.

    Raises:
        ValueError: the tile is no multiple of 32.
    """

    def __init__(
        self,
        features: int,
        depths: Sequence[int],
        heads: Sequence[int],
        tile: Sequence[int],
        window: int = 7,
    ) -> None:
        if any(length % MULTIPLE for length in tile):
            raise ValueError(f"SwinUNETR halves five times: its tile must be multiples of {MULTIPLE}, not {tile}")
        network = SwinUNETR(
            in_channels=1,
            out_channels=1,
            feature_size=features,
            depths=depths,
            num_heads=heads,
            window_size=window,
            spatial_dims=3,
        )
        network.add_module("out", InFloat32(network.out))
        first, second, third = tile
        super().__init__(network, (first, second, third))
