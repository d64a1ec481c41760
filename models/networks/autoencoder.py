"""The KL autoencoder of the latent diffusion model, with a stride of its own for every axis.

The structure is that of MONAI's AutoencoderKL without attention (Rombach et al. 2022): with strides (2, 2, 2) it has
the same layers and the same number of parameters, which a test compares. MONAI's halves all axes alike; pairs of
0.98 x 0.98 x 3.27 mm want their rows and columns halved first, and kernels that do not mix slices before that.

`block` puts the voxels of a box into channels before the first level, and back after the last (Shi et al. 2016,
"sub-pixel convolution"): convolutions at full resolution, of few channels, take most of a CPU's time otherwise.

Normalisation is a choice: `groups` of 0 normalises over the channels of each voxel alone (VoxelNorm), so that a voxel's
value depends on its surroundings only and never on the size of the image; a count takes GroupNorm, as the paper does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import torch
from einops import rearrange
from torch import nn

Stride = tuple[int, int, int]

FIRST_LOG_SIGMA: Final = -3.0
"""Log SD of the latent before training: small, or the first thousand steps are spent on growing out of the noise."""


def kernel_for(stride: Stride) -> Stride:
    """Kernel of a level: 3 along the axes that its stride halves, 1 along the others, whose voxels are still longer."""
    first, second, third = (3 if step > 1 else 1 for step in stride)
    return (first, second, third)


def convolution(channels_in: int, channels_out: int, kernel: Stride, stride: Stride = (1, 1, 1)) -> nn.Conv3d:
    """A convolution that keeps the size, but for its stride."""
    return nn.Conv3d(
        channels_in, channels_out, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    )


def in_blocks(image: torch.Tensor, block: Stride) -> torch.Tensor:
    """(N, C, S, R, C) -> (N, C * voxels of a block, S / s, R / r, C / c): each block's voxels as channels of one."""
    first, second, third = block
    return rearrange(image, "n c (s i) (r j) (q k) -> n (c i j k) s r q", i=first, j=second, k=third)


def out_of_blocks(image: torch.Tensor, block: Stride) -> torch.Tensor:
    """Invert `in_blocks`."""
    first, second, third = block
    return rearrange(image, "n (c i j k) s r q -> n c (s i) (r j) (q k)", i=first, j=second, k=third)


class VoxelNorm(nn.Module):
    """Normalise over the channels of each voxel: a part of an image sees what the whole image sees."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, S, R, C) to the same shape."""
        last = nn.functional.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return last.movedim(-1, 1)


def norm(channels: int, groups: int) -> nn.Module:
    """GroupNorm of a number of groups, or VoxelNorm where that is 0."""
    return nn.GroupNorm(groups, channels, eps=1e-6) if groups else VoxelNorm(channels)


def closing_norm(channels: int, groups: int) -> nn.Module:
    """Return the layer before a last convolution: GroupNorm, or none, so that HU pass along the residual sum."""
    return nn.GroupNorm(groups, channels, eps=1e-6) if groups else nn.Identity()


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1 x 1 x 1 convolution on x where the channels change."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Stride, groups: int) -> None:
        super().__init__()
        self.norm1 = norm(channels_in, groups)
        self.conv1 = convolution(channels_in, channels_out, kernel)
        self.norm2 = norm(channels_out, groups)
        self.conv2 = convolution(channels_out, channels_out, kernel)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else convolution(channels_in, channels_out, (1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels_in, S, R, C) to (N, channels_out, S, R, C)."""
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        residual: torch.Tensor = self.skip(x) + y
        return residual


def encoder(
    inputs: int, outputs: int, channels: Sequence[int], strides: Sequence[Stride], groups: int
) -> nn.Sequential:
    """Image (N, inputs, S, R, C) -> features (N, outputs, S / s, R / r, C / c); one channel count more than strides."""
    kernels = [*(kernel_for(stride) for stride in strides), (3, 3, 3)]
    layers: list[nn.Module] = [convolution(inputs, channels[0], kernels[0])]
    previous = channels[0]
    for level, width in enumerate(channels):
        layers.append(ResidualBlock(previous, width, kernels[level], groups))
        if level < len(strides):
            layers.append(convolution(width, width, kernels[level], strides[level]))
        previous = width
    layers += [closing_norm(previous, groups), convolution(previous, outputs, (3, 3, 3))]
    return nn.Sequential(*layers)


class Upsample(nn.Module):
    """Repeat every voxel `stride` times along each axis, then convolve."""

    def __init__(self, channels: int, stride: Stride) -> None:
        super().__init__()
        self.factor = tuple(float(step) for step in stride)
        self.conv = convolution(channels, channels, kernel_for(stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, S, R, C) to (N, channels, S * s, R * r, C * c)."""
        finer: torch.Tensor = self.conv(nn.functional.interpolate(x, scale_factor=self.factor, mode="nearest"))
        return finer


def decoder(inputs: int, channels: Sequence[int], strides: Sequence[Stride], groups: int) -> nn.Sequential:
    """Features (N, inputs, S / s, R / r, C / c) -> features (N, channels[0], S, R, C); the mirror of `encoder`."""
    kernels = [*(kernel_for(stride) for stride in strides), (3, 3, 3)]
    layers: list[nn.Module] = [convolution(inputs, channels[-1], (3, 3, 3))]
    previous = channels[-1]
    for level in reversed(range(len(channels))):
        layers.append(ResidualBlock(previous, channels[level], kernels[level], groups))
        previous = channels[level]
        if level > 0:
            layers.append(Upsample(previous, strides[level - 1]))
    return nn.Sequential(*layers)


class Autoencoder(nn.Module):
    """CT in the networks' unit <-> latent.

    Args:
        latent: channels of the latent.
        channels: channels by level, finest first; one more than `strides`.
        strides: step along (slice, row, column) between two levels.
        groups: groups of every GroupNorm; 0 for VoxelNorm.
        block: (slice, row, column) of voxels that are channels of one to the first level, see above.
    """

    def __init__(
        self,
        latent: int,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        groups: int = 16,
        block: Sequence[int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        steps: list[Stride] = [(int(s), int(r), int(c)) for s, r, c in strides]
        self.block: Stride = (int(block[0]), int(block[1]), int(block[2]))
        voxels = prod(self.block)
        self.encoder = encoder(voxels, latent, channels, steps, groups)
        self.mean = nn.Conv3d(latent, latent, 1)
        self.log_sigma = nn.Conv3d(latent, latent, 1)
        assert self.log_sigma.bias is not None
        nn.init.constant_(self.log_sigma.bias, FIRST_LOG_SIGMA)
        self.unmix = nn.Conv3d(latent, latent, 1)
        self.decoder = decoder(latent, channels, steps, groups)
        self.last_norm = closing_norm(channels[0], groups)
        self.last = convolution(channels[0], voxels, kernel_for(steps[0]))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log SD of the latent, each (N, latent, s, r, c), of an image (N, 1, S, R, C)."""
        features = self.encoder(in_blocks(x, self.block))
        return self.mean(features), self.log_sigma(features).clamp(-15.0, 10.0)

    def decode(self, z: torch.Tensor, detail: torch.Tensor | None = None) -> torch.Tensor:
        """Image (N, 1, S, R, C) of a latent; last norm and convolution in float32, since bfloat16 has steps of 8 HU.

        `detail`, of shape (N, channels[1], S, R, C) or at the resolution of the `block`, is added to the features
        before the last block: what a latent at half the resolution cannot hold.
        """
        features = self.decoder[:-1](self.unmix(z))
        features = self.decoder[-1](features if detail is None else features + detail)
        with torch.autocast(features.device.type, enabled=False):
            image: torch.Tensor = self.last(self.last_norm(features.float()))
        return out_of_blocks(image, self.block)
