"""How far a synthetic CT may be trusted: the error to be expected of each voxel, and how strange the MR is.

One small network looks at an MR and at what a model made of it, whatever the model's method, and says how large the
error is there (the scale of a Laplace distribution, whose negative log likelihood it minimises: Kendall and Gal 2017,
equation 5, with L1). Errors are learned on the model's own training patients, where they are smaller than elsewhere; so
the scale is multiplied by one factor that was measured on patients the model never saw, and stands with the weights.

The network's last features have a mean and a covariance over the training patients. The mean squared Mahalanobis
distance from them, over the body, is the novelty: about 1 for an MR as in training (Lee et al. 2018, without classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from models.autoencoder import VoxelNorm
from models.intensity import HU_PER_UNIT

RIDGE: Final = 1e-3
"""Added to the variance of every feature, in parts of the mean variance: features that never move count for nothing."""


class Doubt(nn.Module):
    """Expected absolute error and novelty of a synthetic CT.

    Args:
        channels: of every hidden layer; the last are the features.
        dilations: of the layers after the first, in the slice; each also mixes neighbouring slices.
    """

    feature_mean: torch.Tensor
    feature_whitening: torch.Tensor
    factor: torch.Tensor

    def __init__(self, channels: int = 16, dilations: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "dilations": list(dilations)}
        self.first = nn.Conv3d(2, channels, (1, 3, 3), padding=(0, 1, 1))
        self.layers = nn.ModuleList(
            nn.Conv3d(channels, channels, 3, padding=(1, wide, wide), dilation=(1, wide, wide)) for wide in dilations
        )
        self.norms = nn.ModuleList(VoxelNorm(channels) for _ in dilations)
        self.last = nn.Conv3d(channels, 1, 1)
        self.register_buffer("feature_mean", torch.zeros(channels))
        self.register_buffer("feature_whitening", torch.eye(channels))
        self.register_buffer("factor", torch.ones(1))

    def features(self, mr: torch.Tensor, ct: torch.Tensor) -> torch.Tensor:
        """Features (N, channels, S, R, C) of a normalised MR and a CT in the networks' unit, each (N, 1, S, R, C)."""
        x = self.first(torch.cat([mr, ct], dim=1))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(nn.functional.silu(norm(x)))
        return torch.as_tensor(x)

    def log_scale(self, features: torch.Tensor) -> torch.Tensor:
        """Log of the expected absolute error in the networks' unit, (N, 1, S, R, C)."""
        found: torch.Tensor = self.last(nn.functional.silu(features))
        return found.clamp(-7.0, 1.0)

    @torch.inference_mode()
    def judge(self, mr: torch.Tensor, hu: torch.Tensor, body: torch.Tensor) -> tuple[torch.Tensor, float]:
        """What is to be thought of a synthetic CT.

        Args:
            mr: normalised, (S, R, C).
            hu: of the synthetic CT, (S, R, C).
            body: where it counts, (S, R, C), not empty.

        Returns:
            Expected SD of the error in HU, (S, R, C) float32 (of a Laplace distribution: sqrt(2) times its scale), and
            the novelty, 1 for a typical MR of the training.
        """
        where = self.first.weight.device
        found = self.features(mr[None, None].to(where).float(), hu[None, None].to(where).float() / HU_PER_UNIT)
        sd = self.factor * 2**0.5 * HU_PER_UNIT * self.log_scale(found)[0, 0].exp()
        apart = (found[0, :, body.to(where)].T - self.feature_mean) @ self.feature_whitening
        novelty = apart.square().mean()
        return sd, float(novelty)

    @torch.no_grad()
    def remember(self, features: Sequence[torch.Tensor]) -> None:
        """Keep mean and whitening of features, each (voxels, channels), of the training patients' bodies."""
        every = torch.cat(list(features)).double()
        covariance = torch.cov(every.T)
        ridge = RIDGE * covariance.diagonal().mean() * torch.eye(every.shape[1], dtype=torch.double)
        self.feature_mean.copy_(every.mean(dim=0))
        self.feature_whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance + ridge)))
