"""Pix2Pix in 3D (Isola et al. 2017): a U-Net that says the CT, and a critic that sees MR and CT side by side.

The generator minimises 100 x L1 + (D(mr, y) - 1)^2, the critic least squares (equation 4) in the place of the paper's
logarithms, as the adversarial term of the LDM paper has it.

What the GANs share: a discriminator that judges patches, and a pool of images that it is shown again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from models.data.recipe import Recipe
from models.networks import losses
from models.networks.autoencoder import Stride, kernel_for
from models.networks.batches import TrainingStage
from models.networks.nnunet import u_net
from models.networks.regression import Regression
from models.networks.translator import Losses, OptimiserStep

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
        return nn.ModuleDict({"critic": PatchDiscriminator(inputs=2)})

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
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
            begun = losses.adversarial_ramp(over, weights.adversarial_after)
            return {
                "l1": lesson.l1(fake, patch, over),
                "generator": begun * weights.adversarial * losses.generator_loss(judged),
                **lesson.perceptual(fake, patch.ct),
            }

        def judge(step: int, over: float) -> Losses:
            del step, over
            with lesson.autocast():
                real = critic(torch.cat([shown["mr"], shown["real"]], dim=1))
                fake = critic(torch.cat([shown["mr"], shown["fake"]], dim=1))
            return {"discriminator": losses.discriminator_loss(real, fake)}

        return [
            OptimiserStep("generator", [self.network], generate, BETAS),
            OptimiserStep("critic", [critic], judge, BETAS),
        ]


CHANNELS: Final = (32, 64, 128)
STRIDES: Final[Sequence[Stride]] = ((1, 2, 2), (2, 2, 2), (1, 1, 1))
"""Slices are thick, so that rows and columns are halved first."""
SLOPE: Final = 0.2
POOL: Final = 20
"""Images kept; 50 in Zhu et al., whose images are smaller."""


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (Isola et al. 2017): convolutions of kernel 4 where they halve, instance norms but for the first.

    Maps (N, inputs, S, R, C) to one score a patch, (N, 1, s, r, c); least squares make 1 of what is real and 0 of what
    is not, see `losses.discriminator_loss`.
    """

    def __init__(self, inputs: int, channels: Sequence[int] = CHANNELS) -> None:
        layers: list[nn.Module] = []
        previous = inputs
        for number, (width, stride) in enumerate(zip(channels, STRIDES, strict=True)):
            first, second, third = (4 if step == 2 else 3 for step in stride)
            layers.append(nn.Conv3d(previous, width, (first, second, third), stride, padding=1))
            if number:
                layers.append(nn.InstanceNorm3d(width))
            layers.append(nn.LeakyReLU(SLOPE))
            previous = width
        super().__init__(*layers, nn.Conv3d(previous, 1, 3, padding=1))


class ImagePool(nn.Module):
    """The last images that a generator made (Shrivastava et al. 2017), so that its critic does not forget.

    Its images are buffers: they lie in the checkpoint, and an interrupted training goes on with the same.

    Args:
        size: of an image, (slice, row, column).
        capacity: images kept.
    """

    images: torch.Tensor
    filled: torch.Tensor

    def __init__(self, size: Sequence[int], capacity: int = POOL) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(capacity, 1, *size))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, fresh: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Take in images (N, 1, S, R, C) and give back as many: each the new one, or by half a chance an old one."""
        given = []
        for image in fresh.float():
            if int(self.filled) < len(self.images):
                self.images[int(self.filled)] = image
                self.filled += 1
                given.append(image)
            elif torch.rand((), generator=generator) < 0.5:
                place = int(torch.randint(len(self.images), (), generator=generator))
                given.append(self.images[place].clone())
                self.images[place] = image
            else:
                given.append(image)
        return torch.stack(given)
