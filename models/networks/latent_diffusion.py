"""The 3D latent diffusion model: an MR becomes a CT by way of noise in the CT's latent space.

Mahdi et al., Diagnostics 2025, 15, 3010, with the changes that their text forces: the denoiser sees the MR, it follows
a rectified flow, and few steps suffice. Three choices of the architecture say how; their first words are the default:

| choice       | words                          | meaning                                                              |
| ------------ | ------------------------------ | -------------------------------------------------------------------- |
| conditioning | concat, bridge, paper          | the UNet sees z_t beside the encoded MR; sees z_t alone, on a path   |
|              |                                | that begins at the encoded MR plus noise; never learns of the MR     |
| prediction   | clean, velocity, v, epsilon    | what the UNet predicts, see `schedules`                              |
| schedule     | rectified, ddpm, ddim          | the path to noise, and the sampler on it, see `schedules`            |

It learns in three stages:

1. `autoencoder`: L1 + KL on CT patches; then the latent's mean and SD over the training set.
2. `denoiser`: MR encoder and UNet learn to find the clean latent from any place of the path.
3. `joint`: the clean latent of one step from pure noise is decoded, and its L1 in HU trains MR encoder, UNet and
   decoder together, beside the flow loss. The CT encoder stays, or the latent space would move. The decoder is given
   the true latent, too, in a share of the steps, so that it stays an autoencoder's: a sampler ends at such latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import nn

from models.data import pairs
from models.data.intensity import AIR_HU, HU_PER_UNIT, to_hu, to_unit
from models.data.pairs import Pair, Patch
from models.data.recipe import BadRecipe, Recipe
from models.networks import losses, schedules
from models.networks.autoencoder import Autoencoder, Stride, VoxelNorm, encoder, in_blocks
from models.networks.batches import TrainingStage
from models.networks.pix2pix import PatchDiscriminator
from models.networks.translator import Losses, OptimiserStep, Translator

TIMES: Final = 1000.0
"""MONAI's UNet embeds time steps of 0 to 1000; t runs from 0 to 1."""
CONDITIONINGS: Final = ("concat", "bridge", "paper")
"""How the denoiser learns of the MR."""


class MrCondition(NamedTuple):
    """The MR as the networks see it: its encoding on the latent's grid, and its detail on the image's grid."""

    latent: torch.Tensor | None
    detail: torch.Tensor | None


class LatentDiffusion(Translator):
    """CT autoencoder, MR encoder and denoiser, and the latent's mean and SD in the bodies of the training set.

    Args:
        autoencoder: arguments of `Autoencoder`.
        mr_features: channels of the MR encoding; the latent's in a bridge, 0 as printed in the paper.
        mr_channels: channels by level of the MR encoder, whose strides and block are the autoencoder's; none in the
            paper.
        denoiser_channels: channels by level of the UNet, finest first; every level halves all axes.
        attention: whether a level of the UNet attends; without any, the UNet is a convolution of any field of view.
        groups: groups of the UNet's and the MR encoder's GroupNorms; 0 for VoxelNorm.
        detail: whether the decoder sees the MR's features at full resolution. Their weights begin at zero, so that the
            decoder begins as the autoencoder's.
        conditioning: `concat`, `bridge` or `paper`.
        prediction: `clean`, `velocity`, `v` or `epsilon`.
        schedule: `rectified`, `ddpm` or `ddim`.
        sigma: SD of the noise on the encoded MR where a bridge begins.

    Raises:
        ValueError: the three choices do not go together, or not with the sizes; names them.
    """

    stages: ClassVar[tuple[str, ...]] = ("autoencoder", "denoiser", "joint")
    latent_mean: torch.Tensor
    latent_sd: torch.Tensor

    def __init__(
        self,
        autoencoder: Mapping[str, Any],
        mr_features: int,
        mr_channels: Sequence[int],
        denoiser_channels: Sequence[int],
        attention: Sequence[bool] = (),
        groups: int = 16,
        detail: bool = False,
        conditioning: str = "concat",
        prediction: str = "clean",
        schedule: str = "rectified",
        sigma: float = 1.0,
    ) -> None:
        super().__init__()
        strides: list[Stride] = [(int(s), int(r), int(c)) for s, r, c in autoencoder["strides"]]
        latent = int(autoencoder["latent"])
        _refuse_what_does_not_go_together(conditioning, prediction, schedule)
        _refuse_sizes(conditioning, latent, mr_features, detail)
        self.conditioning, self.prediction, self.sigma = conditioning, prediction, sigma
        self.schedule = schedules.SCHEDULES[schedule]
        self.autoencoder = Autoencoder(**autoencoder)
        block = self.autoencoder.block
        self.mr_encoder = (
            encoder(prod(block), mr_features, mr_channels, strides, groups) if mr_features else nn.Sequential()
        )
        self.detail = _silent(mr_channels[0], autoencoder["channels"][1]) if detail else None
        beside = mr_features if conditioning == "concat" else 0
        self.denoiser = _unet(latent + beside, latent, denoiser_channels, attention, groups)
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_sd", torch.ones(latent))
        self.stride = _total_stride([block, *strides])
        self.multiple = _total_stride([block, *strides, *[(2, 2, 2)] * (len(denoiser_channels) - 1)])

    def encode(self, ct: torch.Tensor) -> torch.Tensor:
        """Normalised latent (mean 0, SD 1 a channel in bodies) of a CT in the networks' unit; the mean, not a draw."""
        mean, _ = self.autoencoder.encode(ct)
        return (mean - _by_channel(self.latent_mean)) / _by_channel(self.latent_sd)

    def encode_mr(self, mr: torch.Tensor) -> MrCondition:
        """Encode a normalised MR (N, 1, S, R, C); the paper does not."""
        if not len(self.mr_encoder):
            return MrCondition(None, None)
        fine = self.mr_encoder[:2](in_blocks(mr, self.autoencoder.block))
        return MrCondition(self.mr_encoder[2:](fine), None if self.detail is None else self.detail(fine))

    def decode(self, z: torch.Tensor, condition: MrCondition | None = None) -> torch.Tensor:
        """CT in the networks' unit of a normalised latent, with the MR's detail where the decoder sees it."""
        latent = z * _by_channel(self.latent_sd) + _by_channel(self.latent_mean)
        return self.autoencoder.decode(latent, condition and condition.detail)

    def initial_latent(self, noise: torch.Tensor, condition: MrCondition) -> torch.Tensor:
        """z_1, where the path begins: noise (N, C, s, r, c); in a bridge sigma of it on the encoded MR."""
        if self.conditioning != "bridge":
            return noise
        assert condition.latent is not None
        return condition.latent.float() + self.sigma * noise

    def predict_from(self, z: torch.Tensor, t: torch.Tensor, condition: MrCondition) -> torch.Tensor:
        """Predict by the UNet from z_t of shape (N, C, s, r, c) at t of shape (N,); `prediction` names what."""
        beside = [condition.latent] if self.conditioning == "concat" and condition.latent is not None else []
        said: torch.Tensor = self.denoiser(torch.cat([z, *beside], dim=1), timesteps=t * TIMES)
        return said

    def denoise(self, z: torch.Tensor, t: torch.Tensor, condition: MrCondition) -> torch.Tensor:
        """The clean latent seen from z_t of shape (N, C, s, r, c) at t of shape (N,), given the encoded MR."""
        return schedules.clean_from_prediction(
            self.prediction, z, self.predict_from(z, t, condition), self.schedule.levels(t)
        )

    def draw_noise(self, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        """Noise for an image of (S, R, C) voxels; drawn on the CPU, so that every device starts from the same."""
        size = [extent // step for extent, step in zip(shape, self.stride, strict=True)]
        noise = torch.randn((1, self.latent_mean.numel(), *size), generator=generator)
        return noise.to(self.latent_mean.device)

    @torch.inference_mode()
    def synthesize(self, mr: torch.Tensor, seed: int, steps: int = 1) -> torch.Tensor:
        """Synthetic CT of a whole normalised MR, padded to a multiple and cropped exactly; see `Translator`."""
        padded = pad_to_multiple(mr[None, None].to(self.latent_mean.device), self.multiple)
        condition = self.encode_mr(padded)
        generator = torch.Generator().manual_seed(seed)
        start = self.initial_latent(self.draw_noise(padded.shape[2:], generator), condition)
        z = self.schedule.sample(lambda z, t: self.denoise(z, t, condition), start, steps, generator)
        return to_hu(self.decode(z, condition))[0, 0, : mr.shape[0], : mr.shape[1], : mr.shape[2]]

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        """One optimiser a stage; a second one for the discriminator, where the autoencoder has an adversarial term."""
        by_stage = {"autoencoder": _autoencoder_turns, "denoiser": _denoiser_turns, "joint": _joint_turns}
        return by_stage[lesson.name](self, lesson)

    def translates(self, stage: str) -> bool:
        """The autoencoder alone sees no MR."""
        return stage != "autoencoder"

    @classmethod
    def plan(cls, recipe: Recipe, patients: Sequence[Pair]) -> Recipe:
        """Return the recipe unchanged.

        Raises:
            BadRecipe: the denoiser's patches would change their shape, though its latents are encoded once.
        """
        stage = recipe.stages["denoiser"]
        if stage.deformation or stage.acquisition:
            raise BadRecipe("stages.denoiser: deformation and acquisition must be 0, its latents are encoded once")
        return super().plan(recipe, patients)

    @classmethod
    def partners(cls, recipe: Recipe) -> nn.ModuleDict:
        """A critic of CT, where the autoencoder has an adversarial term."""
        return nn.ModuleDict({"critic": PatchDiscriminator(inputs=1)} if recipe.losses.adversarial else {})

    @torch.no_grad()
    def on_stage_end(self, lesson: TrainingStage) -> None:
        """After the autoencoder, store the latent's mean and SD by channel over the bodies of the training patients.

        With air in it the SD would be that of the body's outline: tissues would differ by 0.1 to 0.3 of it, and hide in
        the noise at nearly all times.
        """
        if lesson.name != "autoencoder":
            return
        self.latent_mean.zero_()
        self.latent_sd.fill_(1)
        inside = []
        for pair, *_ in lesson.patients:
            latent, body = encode_whole(self, lesson, pair)[0], torch.from_numpy(pair.body)[None, None].float()
            share = nn.functional.avg_pool3d(pad_to_multiple(body, self.stride), self.stride)[0, 0]
            inside.append(latent[:, share.to(lesson.device) > 0.5])
        latents = torch.cat(inside, dim=1)
        self.latent_mean.copy_(latents.mean(dim=1))
        self.latent_sd.copy_(latents.std(dim=1))


def _refuse_what_does_not_go_together(conditioning: str, prediction: str, schedule: str) -> None:
    """Raises ValueError for words that are not known, or whose clean latent cannot be told at every time."""
    if conditioning not in CONDITIONINGS:
        raise ValueError(f"conditioning: must be one of {', '.join(CONDITIONINGS)}, found {conditioning!r}")
    if schedule not in schedules.SCHEDULES:
        raise ValueError(f"schedule: must be one of {', '.join(schedules.SCHEDULES)}, found {schedule!r}")
    if conditioning == "bridge" and schedule != "rectified":
        raise ValueError(f"schedule: must be rectified in a bridge, found {schedule!r}")
    known = schedules.SCHEDULES[schedule].predictions
    if prediction not in known:
        raise ValueError(f"prediction: must be one of {', '.join(known)} by schedule {schedule}, found {prediction!r}")


def _refuse_sizes(conditioning: str, latent: int, mr_features: int, detail: bool) -> None:
    """Raises ValueError where the encoded MR has not as many channels as the conditioning wants."""
    if conditioning == "paper" and (mr_features or detail):
        raise ValueError(f"mr_features: must be 0, and detail false, for conditioning: paper; found {mr_features}")
    if conditioning == "bridge" and mr_features != latent:
        raise ValueError(f"mr_features: must be the {latent} channels of the latent in a bridge, found {mr_features}")
    if conditioning == "concat" and mr_features < 1:
        raise ValueError(f"mr_features: must be 1 or more to be concatenated, found {mr_features}")


def pad_to_multiple(image: torch.Tensor, multiple: Sequence[int]) -> torch.Tensor:
    """Repeat the last voxels of (N, 1, S, R, C) up to a multiple along each axis: a body that is cut goes on there."""
    missing = [-extent % step for extent, step in zip(image.shape[2:], multiple, strict=True)]
    return nn.functional.pad(image, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def _silent(inputs: int, outputs: int) -> nn.Conv3d:
    """A convolution of single voxels that begins as zero."""
    layer = nn.Conv3d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _by_channel(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1, 1)


def _total_stride(strides: Sequence[Stride]) -> Stride:
    total = torch.tensor(strides).prod(dim=0).tolist()
    return (int(total[0]), int(total[1]), int(total[2]))


def _unet(
    inputs: int, outputs: int, channels: Sequence[int], attention: Sequence[bool], groups: int
) -> DiffusionModelUNet:
    """MONAI's diffusion UNet; its middle block attends always, so that is taken out where no level does."""
    levels = tuple(attention) or (False,) * len(channels)
    unet = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=inputs,
        out_channels=outputs,
        num_res_blocks=1,
        channels=tuple(channels),
        attention_levels=levels,
        norm_num_groups=groups or 1,
        num_head_channels=tuple(width if attends else 1 for width, attends in zip(channels, levels, strict=True)),
    )
    if not any(levels):
        unet.middle_block.attention = nn.Identity()
    if not groups:
        _normalise_by_voxel(unet)
        unet.out[0] = nn.Identity()  # a last norm by voxel would take the latent's magnitude away
    return unet


def _normalise_by_voxel(network: nn.Module) -> None:
    """Put a VoxelNorm in the place of every GroupNorm of a network."""
    for name, child in network.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(network, name, VoxelNorm(child.num_channels))
        else:
            _normalise_by_voxel(child)


def _autoencoder_turns(networks: LatentDiffusion, lesson: TrainingStage) -> list[OptimiserStep]:
    """L1, KL and perceptual loss of CT patches; with an adversarial term, the critic has a turn of its own."""
    weights, shown = lesson.recipe.losses, dict[str, torch.Tensor]()

    def lose(step: int, over: float) -> Losses:
        del over
        patch = lesson.batch(step)
        with lesson.autocast():
            mean, log_sigma = networks.autoencoder.encode(patch.ct)
            noise = torch.randn(mean.shape, generator=lesson.noise(step)).to(lesson.device)
            decoded = networks.autoencoder.decode(mean + log_sigma.exp() * noise)
        shown.update(real=patch.ct, fake=decoded)
        return {
            "l1": weights.l1 * losses.masked_l1(decoded, patch, weights.bone),
            "kl": weights.kl * losses.kl_divergence(mean, log_sigma),
            **lesson.perceptual(decoded, patch.ct),
        }

    if "critic" not in lesson.partners:
        return [OptimiserStep("autoencoder", [networks.autoencoder], lose)]
    critic = lesson.partners["critic"]

    def lose_and_fool(step: int, over: float) -> Losses:
        found = lose(step, over)
        begun = losses.adversarial_ramp(over, weights.adversarial_after)
        with lesson.autocast():
            judged = critic(shown["fake"])
        return {**found, "generator": begun * weights.adversarial * losses.generator_loss(judged)}

    def judge(step: int, over: float) -> Losses:
        del step, over
        with lesson.autocast():
            real, fake = critic(shown["real"]), critic(shown["fake"].detach())
        return {"discriminator": losses.discriminator_loss(real, fake)}

    return [
        OptimiserStep("autoencoder", [networks.autoencoder], lose_and_fool),
        OptimiserStep("critic", [critic], judge),
    ]


def _denoiser_turns(networks: LatentDiffusion, lesson: TrainingStage) -> list[OptimiserStep]:
    """Squared error of what the UNet says, on latents that are encoded once and kept."""
    latents = _kept_latents(networks, lesson)

    def lose(step: int, over: float) -> Losses:
        del over
        return {"flow": guess(networks, lesson, lesson.batch(step), latents(step), step).error}

    return [OptimiserStep("denoiser", [networks.mr_encoder, networks.denoiser], lose)]


def _joint_turns(networks: LatentDiffusion, lesson: TrainingStage) -> list[OptimiserStep]:
    """L1 of the decoded guess and of the decoded true latent, and the flow loss, for all but the CT encoder."""
    weights, autoencoder = lesson.recipe.losses, networks.autoencoder

    def lose(step: int, over: float) -> Losses:
        patch = lesson.batch(step)
        with torch.no_grad(), lesson.autocast():
            clean = networks.encode(patch.ct).float()
        guessed = guess(networks, lesson, patch, clean, step)
        with lesson.autocast():
            decoded = networks.decode(guessed.clean, guessed.condition)
        found = {
            "l1": lesson.l1(decoded, patch, over),
            "flow": weights.flow * guessed.error,
            **lesson.perceptual(decoded, patch.ct),
        }
        if int((step + 1) * lesson.stage.autoencoding) > int(step * lesson.stage.autoencoding):
            with lesson.autocast():
                decoded = networks.decode(clean, guessed.condition)
            found["autoencoder"] = lesson.l1(decoded, patch, over)
        return found

    decoding = [autoencoder.unmix, autoencoder.decoder, autoencoder.last_norm, autoencoder.last]
    seeing = [networks.mr_encoder] if networks.detail is None else [networks.mr_encoder, networks.detail]
    return [OptimiserStep("joint", [*seeing, networks.denoiser, *decoding], lose)]


@torch.no_grad()
def encode_whole(networks: LatentDiffusion, lesson: TrainingStage, pair: Pair) -> torch.Tensor:
    """Latent (1, C, s, r, c) of a whole CT, padded to a multiple of the stride."""
    ct = pad_to_multiple(to_unit(torch.from_numpy(pair.hu.astype(np.float32)))[None, None], networks.stride)
    with lesson.autocast():
        return networks.encode(ct.to(lesson.device)).float()


def _kept_latents(networks: LatentDiffusion, lesson: TrainingStage) -> Callable[[int], torch.Tensor]:
    """step -> latents of the step's patches, cut from whole latents that are encoded when they are first asked for."""
    kept: dict[int, torch.Tensor] = {}
    size = [length // step for length, step in zip(lesson.stage.patch, networks.stride, strict=True)]
    air = encode_air(networks)

    def latents(step: int) -> torch.Tensor:
        boxes = []
        for pair, corner in lesson.draw(step):
            first = [place // stride for place, stride in zip(corner, networks.stride, strict=True)]
            if id(pair) not in kept:
                kept[id(pair)] = encode_whole(networks, lesson, pair).half()
            difference = kept[id(pair)].float() - air
            boxes.append(pairs.cut(difference, first, size, 0.0) + air)
        return torch.cat(boxes)

    return latents


@torch.no_grad()
def encode_air(networks: LatentDiffusion) -> torch.Tensor:
    """The latent (1, C, 1, 1, 1) of nothing but air, with which patches beyond the image are filled."""
    size = [8 * step for step in networks.stride]
    air = torch.full((1, 1, *size), AIR_HU / HU_PER_UNIT, device=networks.device())
    return networks.encode(air)[:, :, 4:5, 4:5, 4:5].float()


def draw_times(count: int, pure_noise: float, generator: torch.Generator) -> torch.Tensor:
    """Times of shape (count,): a fraction of them 1 (pure noise), the others uniform."""
    t = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < pure_noise, torch.ones(count), t)


@dataclass(frozen=True)
class OneStepEstimate:
    """The UNet's estimate from a noisy latent: mean squared error, the clean latent, and the MR as it was seen."""

    error: torch.Tensor
    clean: torch.Tensor
    condition: MrCondition


def guess(
    networks: LatentDiffusion, lesson: TrainingStage, patch: Patch, clean: torch.Tensor, step: int
) -> OneStepEstimate:
    """Noise a clean latent at drawn times and ask the UNet about it: equation 5, weighted by the body.

    Of each latent `Stage.places` are asked about; the clean latent is that seen from the first of them. The weight is
    squared: air lies 7 SD of the bodies away, and one place of misregistered skin would count as ten of the body.
    """
    generator, schedule, places = lesson.noise(step), networks.schedule, lesson.stage.places
    count = clean.shape[0]
    with lesson.autocast():
        condition = networks.encode_mr(patch.mr)
    true = clean.repeat(places, 1, 1, 1, 1)
    latent = None if condition.latent is None else condition.latent.repeat(places, 1, 1, 1, 1)
    noise = torch.randn(true.shape, generator=generator).to(lesson.device)
    t = torch.cat(
        [draw_times(count, lesson.stage.pure_noise, generator), torch.rand((places - 1) * count, generator=generator)]
    )
    t = schedule.nearest(t).to(lesson.device)
    begin = networks.initial_latent(noise, MrCondition(latent, None))
    z, levels = schedule.path(true, begin, t), schedule.levels(t)
    with lesson.autocast():
        said = networks.predict_from(z, t, MrCondition(latent, None)).float()
    wanted = schedules.prediction_target(networks.prediction, true, begin, levels)
    weight = nn.functional.avg_pool3d(patch.weight, networks.stride).square().repeat(places, 1, 1, 1, 1)
    error = (weight * (said - wanted).square()).sum() / (weight.sum() * clean.shape[1])
    return OneStepEstimate(
        error, schedules.clean_from_prediction(networks.prediction, z, said, levels)[:count], condition
    )
