"""Expected error of each voxel of a synthetic CT, and the novelty of the MR.

Both look at the same measures of each voxel: MR and CT, their gradients, and over four neighbourhoods their means and
SD and the fractions of bone, fat and air. A small network learns from them the mean of log(|error| + 5 HU), whatever
the model's method: it orders voxels by their error better than a likelihood does, whose gradient is that of the few
worst ones. A map that only rises then makes an SD of it: the root mean square of the errors there of patients whom the
network did not see. At last comes one factor, for a model that errs less on the patients it learned from.

The measures have a mean and a covariance over the training patients. The mean squared Mahalanobis distance from them,
over the body and by measure, is the novelty: about 1 for an MR as in training (Lee et al. 2018, without classes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from models.data.intensity import HU_PER_UNIT

RIDGE: Final = 1e-2
"""Added to the variance 1 of every measure: combinations of measures that never move count for little."""
NEIGHBOURHOODS: Final = ((1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16))
"""Voxels (slice, row, column) over which measures are averaged."""
TISSUES: Final = ((200.0, 4000.0), (-250.0, -40.0), (-2000.0, -250.0))
"""HU between which a voxel counts as bone, fat and air."""
POINTWISE: Final = 4
"""Measures of the voxel itself: MR, CT and the gradient of each."""
AVERAGED: Final = POINTWISE + len(TISSUES)
"""Measures whose mean is taken over every neighbourhood; the SD of MR and CT come to it."""
MEASURES: Final = POINTWISE + len(NEIGHBOURHOODS) * (AVERAGED + 2)
FAR: Final = 6.0
"""SD from the mean of the training patients beyond which the network takes measures for this far."""
FLOOR_HU: Final = 5.0
"""Errors well below this are all alike."""
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.93, 0.95, 0.965, 0.975, 0.985, 0.99, 0.995, 1.0)
"""Shares of the voxels between which the SD is measured, finest where errors are largest: bone, its rim, gas."""
KNOTS: Final = len(SHARES) - 1
"""Points of the map from what the network says to the SD."""
SLAB: Final = 16
"""Slices that are judged at a time."""
HALO: Final = 4
"""Slices about a slab on which its averages depend: one of the largest neighbourhood."""


def gradient(image: torch.Tensor) -> torch.Tensor:
    """Sum of the absolute central differences along rows and columns of (S, R, C); 0 at the rim."""
    found = torch.zeros_like(image)
    found[:, 1:-1] += (image[:, 2:] - image[:, :-2]).abs() / 2
    found[:, :, 1:-1] += (image[:, :, 2:] - image[:, :, :-2]).abs() / 2
    return found


def averages(images: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Means of (channels, S, R, C) over boxes of a size, interpolated between them; beyond its end it goes on."""
    shape = images.shape[1:]
    missing = [-extent % length for extent, length in zip(shape, size, strict=True)]
    beyond = (0, missing[2], 0, missing[1], 0, missing[0])
    padded = nn.functional.pad(images[None], beyond, mode="replicate")
    boxes = nn.functional.avg_pool3d(padded, size, size)
    fine = nn.functional.interpolate(boxes, size=padded.shape[2:], mode="trilinear")
    return fine[0, :, : shape[0], : shape[1], : shape[2]]


def measures_by_slab(mr: torch.Tensor, hu: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Slices, and the measures (MEASURES, slices, R, C) of their voxels, until all slices are through.

    Args:
        mr: normalised, (S, R, C).
        hu: of the synthetic CT, (S, R, C).
    """
    ct = hu / HU_PER_UNIT
    tissues = [((hu > low) & (hu <= high)).float() for low, high in TISSUES]
    base = torch.stack([mr, ct, gradient(mr), gradient(ct), *tissues, mr.square(), ct.square()])
    for first in range(0, len(mr), SLAB):
        begin = max(first - HALO, 0)
        inner = slice(first, min(first + SLAB, len(mr)))
        cut = slice(inner.start - begin, inner.stop - begin)
        around = base[:, begin : first + SLAB + HALO]
        parts = [base[:POINTWISE, inner]]
        for size in NEIGHBOURHOODS:
            mean = averages(around, size)[:, cut]
            variance = mean[AVERAGED:] - mean[:2].square()
            parts += [mean[:AVERAGED], variance.clamp(min=0).sqrt()]
        yield inner, torch.cat(parts)


class UncertaintyEstimator(nn.Module):
    """Expected error and novelty of a synthetic CT.

    Args:
        hidden: units of each of the two hidden layers.
    """

    measure_mean: torch.Tensor
    measure_sd: torch.Tensor
    whitening: torch.Tensor
    knots: torch.Tensor
    log_sd: torch.Tensor
    factor: torch.Tensor

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.arguments = {"hidden": hidden}
        self.layers = nn.Sequential(
            nn.Linear(MEASURES, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        self.register_buffer("measure_mean", torch.zeros(MEASURES))
        self.register_buffer("measure_sd", torch.ones(MEASURES))
        self.register_buffer("whitening", torch.eye(MEASURES))
        self.register_buffer("knots", torch.linspace(0.0, 7.0, KNOTS))
        self.register_buffer("log_sd", torch.linspace(0.0, 7.0, KNOTS))
        self.register_buffer("factor", torch.ones(1))

    def standardised(self, measures: torch.Tensor) -> torch.Tensor:
        """Measures (voxels, MEASURES) in SD from the mean of the training patients."""
        return (measures - self.measure_mean) / self.measure_sd

    def log_error(self, measures: torch.Tensor) -> torch.Tensor:
        """Expected log(|error| + 5 HU) of measures (voxels, MEASURES), before any map; (voxels,)."""
        found: torch.Tensor = self.layers(self.standardised(measures).clamp(-FAR, FAR))
        return found[:, 0]

    def sd(self, measures: torch.Tensor) -> torch.Tensor:
        """SD of the error in HU of voxels of measures (voxels, MEASURES); linear between knots in the logarithm."""
        said = self.log_error(measures).clamp(self.knots[0], self.knots[-1])
        after = torch.bucketize(said, self.knots).clamp(1, KNOTS - 1)
        low, high = self.knots[after - 1], self.knots[after]
        share = (said - low) / (high - low).clamp(min=1e-3)
        return self.factor * torch.lerp(self.log_sd[after - 1], self.log_sd[after], share.clamp(0, 1)).exp()

    def squared_distances(self, measures: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance from the training patients by measure, (voxels,) of (voxels, MEASURES)."""
        return (self.standardised(measures) @ self.whitening).square().mean(dim=1)

    @torch.inference_mode()
    def judge(self, mr: torch.Tensor, hu: torch.Tensor, body: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return the expected error in HU of each voxel, and the novelty of the MR.

        Args:
            mr: normalised, (S, R, C).
            hu: of the synthetic CT, (S, R, C).
            body: where the novelty is taken, (S, R, C), not empty.

        Returns:
            Expected SD of the error in HU, (S, R, C) float32, and the novelty, 1 for a typical MR of the training.
        """
        where = self.factor.device
        mr, hu, body = mr.to(where).float(), hu.to(where).float(), body.to(where)
        sd, distances = torch.zeros_like(mr), torch.zeros((), dtype=torch.double, device=where)
        for slices, found in measures_by_slab(mr, hu):
            measures = found.flatten(1).T
            sd[slices] = self.sd(measures).view(sd[slices].shape)
            distances += self.squared_distances(measures[body[slices].flatten()]).double().sum()
        return sd, float(distances / body.sum())

    @torch.no_grad()
    def remember(self, measures: torch.Tensor) -> None:
        """Keep mean, SD and covariance of measures (voxels, MEASURES) of the training patients' bodies."""
        self.measure_mean.copy_(measures.mean(dim=0))
        self.measure_sd.copy_(measures.std(dim=0).clamp(min=1e-3))
        covariance = torch.cov(self.standardised(measures).double().T) + RIDGE * torch.eye(MEASURES)
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
        self.whitening.div_(self.squared_distances(measures).mean().sqrt())

    @torch.no_grad()
    def calibrate(self, log_errors: torch.Tensor, sd: torch.Tensor) -> None:
        """Keep the map to the SD: KNOTS rising values of `log_error`, and the SD in HU that belongs to each."""
        self.knots.copy_(log_errors)
        self.log_sd.copy_(sd.clamp(min=1.0).log())
