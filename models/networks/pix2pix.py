"""Pix2Pix in 3D (Isola et al. 2017): a U-Net that says the CT, and a critic that sees MR and CT side by side.

The generator minimises 100 x L1 + (D(mr, y) - 1)^2, the critic least squares (equation 4) in the place of the paper's
logarithms, as the adversarial term of the LDM paper has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.data.recipe import Recipe
from models.networks import losses
from models.networks.autoencoder import Stride, kernel_for
from models.networks.batches import Lesson
from models.networks.nnunet import u_net
from models.networks.patch_gan import Critic
from models.networks.regression import Regression
from models.networks.translator import Losses, Turn

BETAS = (0.5, 0.999)
"""Of Adam, for GANs."""


class Pix2Pix(Regression):
    """A U-Net of two convolutions a level as the generator.

    Args:
        channels: by level, finest first.
        strides: between two levels; one fewer than channels.
        tile: size of the training patches.
        dropout: fraction left out in training: the noise of the paper.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        tile: Sequence[int],
        dropout: float = 0.1,
    ) -> None:
        steps: list[Stride] = [(int(s), int(r), int(c)) for s, r, c in strides]
        kernels = [*(kernel_for(step) for step in steps), (3, 3, 3)]
        first, second, third = tile
        network = u_net(kernels, [(1, 1, 1), *steps], channels, supervised=1, dropout=dropout)
        super().__init__(network, (first, second, third))

    @classmethod
    def partners(cls, recipe: Recipe) -> nn.ModuleDict:
        """The critic, which sees MR and CT."""
        del recipe
        return nn.ModuleDict({"critic": Critic(inputs=2)})

    def turns(self, lesson: Lesson) -> list[Turn]:
        """The generator's turn, then the critic's, on the same patches."""
        critic, weights = lesson.partners["critic"], lesson.recipe.losses
        shown: dict[str, torch.Tensor] = {}

        def generate(step: int, over: float) -> Losses:
            patch = lesson.batch(step)
            torch.manual_seed(lesson.noise(step).initial_seed())  # of the dropout
            with lesson.autocast():
                fake = self(patch.mr)
                judged = critic(torch.cat([patch.mr, fake], dim=1))
            shown.update(mr=patch.mr, real=patch.ct, fake=fake.detach())
            begun = losses.warmed_up(over, weights.adversarial_after)
            return {
                "l1": lesson.l1(fake, patch, over),
                "fooling": begun * weights.adversarial * losses.fooling(judged),
                **lesson.perceptual(fake, patch.ct),
            }

        def judge(step: int, over: float) -> Losses:
            del step, over
            with lesson.autocast():
                real = critic(torch.cat([shown["mr"], shown["real"]], dim=1))
                fake = critic(torch.cat([shown["mr"], shown["fake"]], dim=1))
            return {"telling": losses.telling(real, fake)}

        return [Turn("generator", [self.network], generate, BETAS), Turn("critic", [critic], judge, BETAS)]
