"""Paths from a clean latent to noise, what a network may say of a place on them, and the way back.

t = 0 is the clean latent z0, t = 1 the noise e; between them

    z_t = a(t) z0 + s(t) e

A schedule says a and s. A prediction is what the network says; by a and s the clean latent follows from each:

| prediction | the network says | of the schedules    | source                                         |
| ---------- | ---------------- | ------------------- | ---------------------------------------------- |
| clean      | z0               | all                 | the mean over all CT at t = 1: a regression    |
| velocity   | e - z0           | rectified           | Liu et al. 2023, "Flow Straight and Fast"      |
| v          | a e - s z0       | all                 | Salimans and Ho 2022, appendix D               |
| epsilon    | e                | ddpm, ddim          | Ho et al. 2020, equation 14; the paper         |

v needs no a^2 + s^2 = 1. On the rectified path it is the preconditioning of Karras et al. 2022 ("EDM", equation 7 with
an SD of the data of 1): nearly all of z_t goes past the network at small t, and at t = 1 the network says -z0, as a
regression does.

MONAI's schedulers agree where they walk all 1000 steps (a test compares), and are not used: with fewer, their step ends
at another time than the next begins at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(z_t of shape (N, C, s, r, c), t of shape (N,)) -> the clean latent seen from there, of the shape of z_t."""
Levels = tuple[torch.Tensor, torch.Tensor]
"""a and s at times, each (N, 1, 1, 1, 1)."""

DIFFUSION_STEPS: Final = 1000
"""Of DDPM; its times are k / 1000."""
BETAS: Final = (0.0015, 0.0195)
"""First and last beta of the paper; their square roots lie on a line between ("scaled linear")."""


def prediction_coefficients(prediction: str, levels: Levels) -> Levels:
    """p and q, of which the network says p z0 + q e."""
    a, s = levels
    none, one = torch.zeros_like(a), torch.ones_like(a)
    return {"clean": (one, none), "velocity": (-one, one), "v": (-s, a), "epsilon": (none, one)}[prediction]


def prediction_target(prediction: str, clean: torch.Tensor, noise: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Return the prediction of a perfect network at a place on the path between a clean latent and noise."""
    p, q = prediction_coefficients(prediction, levels)
    return p * clean + q * noise


def clean_from_prediction(prediction: str, z: torch.Tensor, said: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Solve z_t = a z0 + s e and prediction = p z0 + q e for the clean latent z0."""
    if prediction == "clean":
        return said
    (a, s), (p, q) = levels, prediction_coefficients(prediction, levels)
    return (q * z - s * said) / (q * a - p * s)


def _spread(t: torch.Tensor) -> torch.Tensor:
    return t.view(-1, 1, 1, 1, 1)


class Schedule(ABC):
    """A path from a clean latent to noise, and a sampler for the way back."""

    predictions: ClassVar[tuple[str, ...]]
    """From which the clean latent follows at every time of the schedule."""

    @abstractmethod
    def levels(self, t: torch.Tensor) -> Levels:
        """a and s at times t of shape (N,)."""

    def path(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t at times t of shape (N,)."""
        a, s = self.levels(t)
        return a * clean + s * noise

    def nearest(self, t: torch.Tensor) -> torch.Tensor:
        """The times of the schedule for times between 0 and 1."""
        return t

    @abstractmethod
    def sample(self, denoise: Denoise, start: torch.Tensor, steps: int, generator: torch.Generator) -> torch.Tensor:
        """Go from t = 1 to the clean latent.

        Args:
            denoise: what sees the clean latent from any place of the path.
            start: z_1.
            steps: of the sampler, each of which asks `denoise` once.
            generator: of the noise that is added on the way, where the sampler adds any; on the CPU.

        Raises:
            ValueError: the schedule has no such number of steps.
        """


class Rectified(Schedule):
    """Rectified flow: a = 1 - t, s = t; a straight path, gone in equal Euler steps along (z_t - z0) / t."""

    predictions = ("clean", "velocity", "v")

    def levels(self, t: torch.Tensor) -> Levels:
        """a and s at times t of shape (N,)."""
        return 1 - _spread(t), _spread(t)

    def sample(self, denoise: Denoise, start: torch.Tensor, steps: int, generator: torch.Generator) -> torch.Tensor:
        """Integrate from t = 1 to the clean latent, see `Schedule`; nothing is drawn."""
        del generator
        if steps < 1:
            raise ValueError(f"a sampler needs at least 1 step, not {steps}")
        z = start
        for step in range(steps):
            t = torch.full((z.shape[0],), 1 - step / steps, device=z.device, dtype=z.dtype)
            z = z - (z - denoise(z, t)) / _spread(t) / steps
        return z


def _alpha_bar() -> torch.Tensor:
    """Product of 1 - beta over the first k steps, for k of 0 to 1000."""
    first, last = BETAS
    betas = torch.linspace(first**0.5, last**0.5, DIFFUSION_STEPS, dtype=torch.float64).square()
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(dim=0)])


ALPHA_BAR: Final = _alpha_bar()


@dataclass(frozen=True)
class Diffusion(Schedule):
    """Diffusion in 1000 steps: a^2 is the product of 1 - beta, s^2 = 1 - a^2; a is not quite 0 at t = 1 (0.012).

    Attributes:
        eta: share of DDPM's noise that every step of the sampler adds: 1 for DDPM, 0 for DDIM.
    """

    eta: float
    predictions = ("clean", "v", "epsilon")

    def levels(self, t: torch.Tensor) -> Levels:
        """a and s at times t of shape (N,), multiples of 1 / 1000."""
        number = (t * DIFFUSION_STEPS).round().long()
        alpha_bar = _spread(ALPHA_BAR.to(t.device)[number])
        return alpha_bar.sqrt().to(t.dtype), (1 - alpha_bar).sqrt().to(t.dtype)

    def nearest(self, t: torch.Tensor) -> torch.Tensor:
        """The next multiple of 1 / 1000, never 0."""
        return (t * DIFFUSION_STEPS).ceil().clamp(min=1) / DIFFUSION_STEPS

    def step(
        self, z: torch.Tensor, clean: torch.Tensor, t: torch.Tensor, to: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Step from z at time t to an earlier time: Song et al. 2021, "DDIM", equations 12 and 16."""
        (a, s), (a_to, s_to) = self.levels(t), self.levels(to)
        sigma = self.eta * s_to / s * (1 - (a / a_to).square()).sqrt()
        direction = (s_to.square() - sigma.square()).clamp(min=0).sqrt()
        return a_to * clean + direction * (z - a * clean) / s + sigma * noise

    def sample(self, denoise: Denoise, start: torch.Tensor, steps: int, generator: torch.Generator) -> torch.Tensor:
        """Walk from t = 1 to the clean latent over times that are evenly spread, see `Schedule`."""
        if not 1 <= steps <= DIFFUSION_STEPS:
            raise ValueError(f"DDPM and DDIM take 1 to {DIFFUSION_STEPS} steps, not {steps}")
        times = torch.linspace(DIFFUSION_STEPS, 0, steps + 1).round().to(start) / DIFFUSION_STEPS
        z = start
        for number in range(steps):
            t, to = times[number].expand(len(z)), times[number + 1].expand(len(z))
            noise = torch.randn(z.shape, generator=generator, dtype=z.dtype) if self.eta else torch.zeros(())
            z = self.step(z, denoise(z, t), t, to, noise.to(z.device))
        return z


SCHEDULES: Final[Mapping[str, Schedule]] = {
    "rectified": Rectified(),
    "ddpm": Diffusion(eta=1.0),
    "ddim": Diffusion(eta=0.0),
}
"""By their names in recipes and cards; `ddpm` and `ddim` learn alike and differ in their samplers."""
