"""Rectified flow: the straight path from a clean latent to noise, and the way back.

Liu et al. 2023, "Flow Straight and Fast". t = 0 is the clean latent z0, t = 1 is the noise e:

    z_t = (1 - t) z0 + t e          (path)
    v   = dz_t / dt = e - z0 = (z_t - z0) / t        (velocity)

The network says the clean latent z0, and the velocity follows from it. Were it to say v, one step from pure noise would
carry every error in its copy of the noise into the CT.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(z_t of shape (N, C, s, r, c), t of shape (N,)) -> v of the shape of z_t."""


def _spread(t: torch.Tensor) -> torch.Tensor:
    return t.view(-1, 1, 1, 1, 1)


def path(clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """z_t at times t of shape (N,)."""
    return (1 - _spread(t)) * clean + _spread(t) * noise


def velocity_from(z: torch.Tensor, clean: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The velocity at z_t that leads straight to a clean latent; t is above 0."""
    return (z - clean) / _spread(t)


def sample(velocity: Velocity, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Integrate from noise (t = 1) to the clean latent (t = 0) in equal Euler steps.

    Raises:
        ValueError: steps is below 1.
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, not {steps}")
    z = noise
    for step in range(steps):
        t = torch.full((z.shape[0],), 1 - step / steps, device=z.device, dtype=z.dtype)
        z = z - velocity(z, t) / steps
    return z
