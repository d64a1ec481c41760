"""CycleGAN in 3D (Zhu et al. 2017): learns from MR and CT of different patients, never from a pair.

G makes CT of MR and is what is kept; F makes MR of CT. Both minimise

    (D_ct(G(mr)) - 1)^2 + (D_mr(F(ct)) - 1)^2                                  (equation 4)
    + cycle (|F(G(mr)) - mr| + |G(F(ct)) - ct|)
    + cycle identity (|G(ct) - ct| + |F(mr) - mr|)

and the critics tell what is real from what lies in a pool of what G and F have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from models.data.recipe import Recipe
from models.networks import losses
from models.networks.autoencoder import Stride, convolution, kernel_for
from models.networks.batches import TrainingStage
from models.networks.pix2pix import BETAS, ImagePool, PatchDiscriminator
from models.networks.regression import InFloat32, Regression
from models.networks.translator import Losses, OptimiserStep


class Block(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.InstanceNorm3d(channels, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.InstanceNorm3d(channels, affine=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, S, R, C) to the same shape."""
        residual: torch.Tensor = x + self.layers(x)
        return residual


def generator(channels: Sequence[int], strides: Sequence[Sequence[int]], blocks: int) -> nn.Sequential:
    """c7s1, a convolution down a stride, residual blocks, a transposed one up a stride, c7s1; 7 in rows and columns."""
    steps: list[Stride] = [(int(s), int(r), int(c)) for s, r, c in strides]
    levels = list(zip(channels[:-1], channels[1:], steps, strict=True))
    layers: list[nn.Module] = [nn.Conv3d(1, channels[0], (1, 7, 7), padding=(0, 3, 3)), *_normal(channels[0])]
    for fine, coarse, stride in levels:
        layers += [convolution(fine, coarse, kernel_for(stride), stride), *_normal(coarse)]
    layers += [Block(channels[-1]) for _ in range(blocks)]
    for fine, coarse, stride in reversed(levels):
        layers += [nn.ConvTranspose3d(coarse, fine, stride, stride), *_normal(fine)]
    return nn.Sequential(*layers, InFloat32(nn.Conv3d(channels[0], 1, (1, 7, 7), padding=(0, 3, 3))))


def _normal(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm3d(channels, affine=True), nn.ReLU(inplace=True)]


@dataclass(frozen=True)
class DiscriminatorInputs:
    """The inputs of the discriminators in one step: real images, and the generators' images."""

    mr: torch.Tensor
    ct: torch.Tensor
    fake_mr: torch.Tensor
    fake_ct: torch.Tensor


class CycleGan(Regression):
    """The generator of CT; the one of MR, the critics and the pools are partners.

    Args:
        channels: by level, finest first.
        strides: between two levels; one fewer than channels.
        blocks: residual blocks at the coarsest level.
        tile: size of the training patches.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[Sequence[int]], blocks: int, tile: Sequence[int]
    ) -> None:
        first, second, third = tile
        super().__init__(generator(channels, strides, blocks), (first, second, third))

    @classmethod
    def partners(cls, recipe: Recipe) -> nn.ModuleDict:
        """The generator of MR, a critic and a pool for either kind of image."""
        drawn = recipe.architecture
        size = recipe.stages["train"].patch
        return nn.ModuleDict(
            {
                "back": generator(drawn["channels"], drawn["strides"], drawn["blocks"]),
                "ct_critic": PatchDiscriminator(inputs=1),
                "mr_critic": PatchDiscriminator(inputs=1),
                "ct_pool": ImagePool(size),
                "mr_pool": ImagePool(size),
            }
        )

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        """The two generators' turn, then the two critics'."""
        partners, shown = lesson.partners, list[DiscriminatorInputs]()

        def generate(step: int, over: float) -> Losses:
            patch = lesson.unpaired(step)
            shown[:] = []
            found, made = self._cycle(lesson, patch.mr, patch.ct, over)
            shown.append(made)
            return found

        def judge(step: int, over: float) -> Losses:
            del over
            return _discriminator_losses(lesson, shown[0], step)

        return [
            OptimiserStep("generators", [self.network, partners["back"]], generate, BETAS),
            OptimiserStep("critics", [partners["ct_critic"], partners["mr_critic"]], judge, BETAS),
        ]

    def _cycle(
        self, lesson: TrainingStage, mr: torch.Tensor, ct: torch.Tensor, over: float
    ) -> tuple[Losses, DiscriminatorInputs]:
        """The generators' losses, and what they made."""
        weights, partners = lesson.recipe.losses, lesson.partners
        back, ct_critic, mr_critic = partners["back"], partners["ct_critic"], partners["mr_critic"]
        with lesson.autocast():
            fake_ct, fake_mr = self.network(mr), back(ct)
            came_back_mr, came_back_ct = back(fake_ct), self.network(fake_mr)
            same_ct, same_mr = self.network(ct), back(mr)
            judged_ct, judged_mr = ct_critic(fake_ct), mr_critic(fake_mr)
        begun = losses.adversarial_ramp(over, weights.adversarial_after)
        cycle = losses.l1(came_back_mr, mr) + losses.l1(came_back_ct, ct)
        identity = losses.l1(same_ct, ct) + losses.l1(same_mr, mr)
        fooled = losses.generator_loss(judged_ct) + losses.generator_loss(judged_mr)
        found = {
            "generator": begun * weights.adversarial * fooled,
            "cycle": weights.cycle * cycle,
            "identity": weights.cycle * weights.identity * identity,
        }
        return found, DiscriminatorInputs(mr, ct, fake_mr.detach(), fake_ct.detach())


def _discriminator_losses(lesson: TrainingStage, shown: DiscriminatorInputs, step: int) -> Losses:
    """The critics' losses, on images of the pools."""
    partners, noise = lesson.partners, lesson.noise(step)
    ct_pool, mr_pool = partners["ct_pool"], partners["mr_pool"]
    assert isinstance(ct_pool, ImagePool)
    assert isinstance(mr_pool, ImagePool)
    old_ct, old_mr = ct_pool.exchange(shown.fake_ct, noise), mr_pool.exchange(shown.fake_mr, noise)
    ct_critic, mr_critic = partners["ct_critic"], partners["mr_critic"]
    with lesson.autocast():
        ct = losses.discriminator_loss(ct_critic(shown.ct), ct_critic(old_ct))
        mr = losses.discriminator_loss(mr_critic(shown.mr), mr_critic(old_mr))
    return {"discriminator_ct": ct, "discriminator_mr": mr}
