"""A large image in overlapping tiles, for networks whose answer depends on the size of what they see.

Instance norms take their statistics from what is shown, and windowed attention counts from its first voxel: such a
network is shown tiles of the size of its training patches (Isensee et al. 2021, nnU-Net). Tiles overlap by half, and
their answers are averaged under a Gaussian whose SD is an eighth of the tile, so that no seam remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

import torch

from models.networks.autoencoder import Stride

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
