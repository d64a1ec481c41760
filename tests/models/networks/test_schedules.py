"""Schedules and predictions of the latent diffusion model, against each other, against MONAI, and in the networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from models.data.pairs import Patch
from models.data.recipe import Stage, read_recipe
from models.networks import latent_diffusion, schedules
from models.networks.batches import TrainingStage
from models.networks.latent_diffusion import LatentDiffusion

SPOKEN = [(schedule, said) for schedule, path in schedules.SCHEDULES.items() for said in path.predictions]
"""Every schedule with every prediction that it knows."""
CHOICES = [
    *(("concat", said, schedule) for schedule, said in SPOKEN),
    ("bridge", "clean", "rectified"),
    ("bridge", "velocity", "rectified"),
    ("bridge", "v", "rectified"),
    *(("paper", said, schedule) for schedule, said in SPOKEN if said != "clean"),
]
MONAI: dict[str, Any] = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195}


def networks_of(conditioning: str, prediction: str, schedule: str) -> LatentDiffusion:
    """Untrained networks; MONAI begins with a last convolution of zeros, which would hide the MR."""
    torch.manual_seed(0)
    features = {"concat": 4, "bridge": 2, "paper": 0}[conditioning]
    network = LatentDiffusion(
        autoencoder={"latent": 2, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0},
        mr_features=features,
        mr_channels=[4, 4] if features else [],
        denoiser_channels=[8, 8],
        groups=0,
        conditioning=conditioning,
        prediction=prediction,
        schedule=schedule,
    ).eval()
    for parameter in network.denoiser.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def latents(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A clean latent and noise."""
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn((2, 1, 2, 3, 4, 5), generator=generator, dtype=torch.float64)
    return clean, noise


def perfect(
    path: schedules.Schedule, prediction: str, z: torch.Tensor, t: torch.Tensor, clean: torch.Tensor
) -> torch.Tensor:
    """What a network says that knows the clean latent."""
    a, s = path.levels(t)
    return schedules.prediction_target(prediction, clean, (z - a * clean) / s, (a, s))


@given(t=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_clean_latent_and_each_prediction_follow_from_each_prediction(t: float, seed: int) -> None:
    clean, noise = latents(seed)
    for path in schedules.SCHEDULES.values():
        times = path.nearest(torch.tensor([t], dtype=torch.float64))
        z, levels = path.path(clean, noise, times), path.levels(times)
        for prediction in path.predictions:
            said = schedules.prediction_target(prediction, clean, noise, levels)
            found = schedules.clean_from_prediction(prediction, z, said, levels)
            torch.testing.assert_close(found, clean, atol=1e-11, rtol=0)
            for other in path.predictions:
                again = perfect(path, other, z, times, found)
                wanted = schedules.prediction_target(other, clean, noise, levels)
                torch.testing.assert_close(again, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("t", [0.02, 0.3, 0.999, 1.0])
def test_v_on_the_rectified_path_is_the_preconditioning_of_edm(t: float) -> None:
    """Karras et al. 2022, table 1: c_skip and c_out at sigma = t / (1 - t), for data of SD 1."""
    (clean, noise), time = latents(5), torch.tensor([t], dtype=torch.float64)
    path = schedules.SCHEDULES["rectified"]
    z, levels = path.path(clean, noise, time), path.levels(time)
    said = schedules.prediction_target("v", clean, noise, levels)
    scale = (t**2 + (1 - t) ** 2) ** 0.5
    skip, out = (1 - t) / scale**2, t / scale
    torch.testing.assert_close(
        schedules.clean_from_prediction("v", z, said, levels), skip * z - out * said / scale, atol=1e-12, rtol=0
    )
    torch.testing.assert_close(schedules.clean_from_prediction("v", z, said, levels), clean, atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize(("schedule", "prediction"), SPOKEN)
def test_a_perfect_denoiser_reaches_the_clean_latent_in_any_number_of_steps(
    schedule: str, prediction: str, steps: int
) -> None:
    path, (clean, noise) = schedules.SCHEDULES[schedule], latents(steps)
    times: list[float] = []

    def denoise(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        times.append(t.item())
        return schedules.clean_from_prediction(prediction, z, perfect(path, prediction, z, t, clean), path.levels(t))

    found = path.sample(denoise, noise, steps, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, clean, atol=1e-9, rtol=0)
    assert len(times) == steps
    assert times[0] == 1.0
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("schedule", ["rectified", "ddim"])
def test_a_sampler_that_draws_nothing_follows_the_path_on_which_the_latent_became_noise(schedule: str) -> None:
    path, (clean, noise) = schedules.SCHEDULES[schedule], latents(1)
    start = path.path(clean, noise, torch.ones(1, dtype=torch.float64))

    def denoise(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(z, path.path(clean, noise, t), atol=1e-9, rtol=0)
        return clean

    path.sample(denoise, start, 8, torch.Generator())


@pytest.mark.parametrize(("schedule", "steps"), [("rectified", 0), ("ddpm", 0), ("ddim", 1001)])
def test_a_number_of_steps_that_a_sampler_has_not_is_refused(schedule: str, steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps?, not {steps}"):
        schedules.SCHEDULES[schedule].sample(lambda z, _: z, torch.zeros(1, 1, 1, 1, 1), steps, torch.Generator())


@pytest.mark.parametrize("prediction", ["clean", "v", "epsilon"])
@pytest.mark.parametrize("schedule", ["ddpm", "ddim"])
def test_each_of_a_thousand_steps_is_monais(schedule: str, prediction: str) -> None:
    kind = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[schedule]
    word = {"clean": "sample", "v": "v_prediction", "epsilon": "epsilon"}[prediction]
    theirs, ours = kind(1000, clip_sample=False, prediction_type=word, **MONAI), schedules.SCHEDULES[schedule]
    assert isinstance(ours, schedules.Diffusion)
    z, said = (latent.float() for latent in latents(2))
    for number in (1000, 999, 500, 2, 1):
        t, to = torch.tensor([number / 1000]), torch.tensor([(number - 1) / 1000])
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(number))
        clean = schedules.clean_from_prediction(prediction, z, said, ours.levels(t))
        wanted, seen = theirs.step(said, number - 1, z, generator=torch.Generator().manual_seed(number))
        torch.testing.assert_close(clean, seen, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.step(z, clean, t, to, noise), wanted, atol=1e-4, rtol=1e-4)


def test_a_latent_is_noised_as_by_monai() -> None:
    clean, noise = latents(3)
    for number in (1, 400, 1000):
        theirs = DDPMScheduler(1000, **MONAI).add_noise(clean, noise, torch.tensor([number - 1]))
        ours = schedules.SCHEDULES["ddpm"].path(clean, noise, torch.tensor([number / 1000], dtype=torch.float64))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_drawn_times_become_those_of_the_schedule() -> None:
    drawn = torch.tensor([0.0, 0.0004, 0.5, 0.99999, 1.0])
    assert schedules.SCHEDULES["ddpm"].nearest(drawn).tolist() == pytest.approx([0.001, 0.001, 0.5, 1.0, 1.0])
    assert torch.equal(schedules.SCHEDULES["rectified"].nearest(drawn), drawn)


@pytest.mark.parametrize(("conditioning", "prediction", "schedule"), CHOICES)
def test_whatever_is_chosen_the_seed_decides_the_ct_and_the_mr_does_but_as_printed(
    conditioning: str, prediction: str, schedule: str
) -> None:
    network, mr = networks_of(conditioning, prediction, schedule), torch.rand(3, 9, 10)
    first = network.synthesize(mr, seed=3, steps=3)
    assert torch.equal(first, network.synthesize(mr, seed=3, steps=3))
    assert not torch.equal(first, network.synthesize(mr, seed=4, steps=3))
    blind = torch.equal(first, network.synthesize(1 - mr, seed=3, steps=3))
    assert blind == (conditioning == "paper")


def lesson_of(project: Path, places: int, pure_noise: float) -> TrainingStage:
    """Of the denoiser, in batches of two."""
    stage = Stage(steps=1, batch=2, learning_rate=0.1, pure_noise=pure_noise, places=places)
    recipe = read_recipe(project / "config/train/limb-t1-ldm.yaml")
    recipe = dataclasses.replace(recipe, stages={"denoiser": stage}, precision="float32")
    return TrainingStage(recipe, "denoiser", 1, [], (1, 2, 2), torch.device("cpu"), torch.nn.ModuleDict())


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize(("conditioning", "prediction", "schedule"), CHOICES)
def test_a_network_that_knows_the_clean_latent_has_no_loss(
    conditioning: str, prediction: str, schedule: str, places: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = lesson_of(project, places, pure_noise=0.0)
    network, clean = networks_of(conditioning, prediction, schedule), torch.randn(2, 2, 4, 4, 4)
    patch = Patch(*torch.rand(3, 2, 1, 4, 8, 8))
    blank = latent_diffusion.guess(network, lesson, patch, clean, 0)
    known = clean.repeat(places, 1, 1, 1, 1)
    monkeypatch.setattr(network, "predict_from", lambda z, t, _: perfect(network.schedule, prediction, z, t, known))
    knowing = latent_diffusion.guess(network, lesson, patch, clean, 0)
    assert blank.error > 0.1
    assert knowing.error < 1e-6
    torch.testing.assert_close(knowing.clean, clean, atol=1e-3, rtol=0)


def test_the_mr_is_encoded_once_and_of_several_places_the_first_is_pure_noise_and_is_what_is_decoded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, clean = networks_of("concat", "v", "rectified"), torch.randn(2, 2, 4, 4, 4)
    patch, times, looks = Patch(*torch.rand(3, 2, 1, 4, 8, 8)), [], []
    predict_from, encode_mr = network.predict_from, network.encode_mr

    def heard(z: torch.Tensor, t: torch.Tensor, condition: latent_diffusion.MrCondition) -> torch.Tensor:
        times.extend(t.tolist())
        return predict_from(z, t, condition)

    def seen(mr: torch.Tensor) -> latent_diffusion.MrCondition:
        looks.append(mr.shape)
        return encode_mr(mr)

    monkeypatch.setattr(network, "predict_from", heard)
    monkeypatch.setattr(network, "encode_mr", seen)
    made = latent_diffusion.guess(network, lesson_of(project, 3, pure_noise=1.0), patch, clean, 0)
    assert looks == [patch.mr.shape]
    assert times[:2] == [1.0, 1.0]
    assert len(set(times[2:])) == 4
    assert 0 < min(times[2:]) < max(times[2:]) < 1
    alone = latent_diffusion.guess(network, lesson_of(project, 3, pure_noise=1.0), patch, 0 * clean, 0)
    assert torch.equal(alone.clean, made.clean)  # pure noise tells nothing of the latent
    assert made.clean.shape == clean.shape


def test_the_latent_of_misregistered_skin_counts_by_the_square_of_its_weight(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, clean = networks_of("concat", "clean", "rectified"), torch.randn(2, 2, 4, 4, 4)
    weight = torch.ones(2, 1, 4, 8, 8)
    weight[..., 4:] = 0.2
    wrong = torch.zeros_like(clean)
    wrong[..., 2:] = 3.0
    monkeypatch.setattr(network, "predict_from", lambda *_: clean + wrong)
    mr, ct = torch.rand(2, 2, 1, 4, 8, 8)
    patch = Patch(mr, ct, weight)
    found = latent_diffusion.guess(network, lesson_of(project, 1, pure_noise=0.0), patch, clean, 0)
    assert found.error.item() == pytest.approx(9 * 0.04 / 1.04)


def test_an_architecture_that_says_nothing_of_it_is_computed_as_before_there_was_a_choice() -> None:
    """Cards of 0.1.0: the UNet says the clean latent, Euler steps along (z_t - z0) / t; to the last bit."""
    network = networks_of("concat", "clean", "rectified")
    mr, steps = torch.rand(4, 8, 8), 3
    with torch.inference_mode():
        condition = network.encode_mr(mr[None, None])
        assert condition.latent is not None
        z = torch.randn((1, 2, 4, 4, 4), generator=torch.Generator().manual_seed(7))
        for step in range(steps):
            t = torch.full((1,), 1 - step / steps)
            clean = network.denoiser(torch.cat([z, condition.latent], dim=1), timesteps=t * 1000)
            z = z - (z - clean) / t.view(-1, 1, 1, 1, 1) / steps
        wanted = 1000 * network.decode(z, condition)[0, 0]
    np.testing.assert_array_equal(network.synthesize(mr, seed=7, steps=steps), wanted)
    old = LatentDiffusion(
        autoencoder={"latent": 2, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0},
        mr_features=4,
        mr_channels=[4, 4],
        denoiser_channels=[8, 8],
        groups=0,
    )
    assert (old.conditioning, old.prediction, old.schedule) == ("concat", "clean", schedules.SCHEDULES["rectified"])


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (("cross", "clean", "rectified"), "conditioning: must be one of concat, bridge, paper, found 'cross'"),
        (("concat", "clean", "cosine"), "schedule: must be one of rectified, ddpm, ddim, found 'cosine'"),
        (("concat", "epsilon", "rectified"), "prediction: must be one of clean, velocity, v by schedule rectified"),
        (("concat", "velocity", "ddpm"), "prediction: must be one of clean, v, epsilon by schedule ddpm"),
        (("bridge", "clean", "ddim"), "schedule: must be rectified in a bridge"),
    ],
)
def test_choices_that_do_not_go_together_are_refused_by_name(choice: tuple[str, str, str], reason: str) -> None:
    features = {"bridge": 2}.get(choice[0], 4)
    with pytest.raises(ValueError, match=reason):
        LatentDiffusion(
            autoencoder={"latent": 2, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0},
            mr_features=features,
            mr_channels=[4, 4],
            denoiser_channels=[8, 8],
            conditioning=choice[0],
            prediction=choice[1],
            schedule=choice[2],
        )


@pytest.mark.parametrize(("conditioning", "features"), [("concat", 0), ("bridge", 4), ("paper", 4)])
def test_an_encoding_of_the_mr_of_a_wrong_size_is_refused(conditioning: str, features: int) -> None:
    with pytest.raises(ValueError, match=f"mr_features: must be .* found {features}"):
        LatentDiffusion(
            autoencoder={"latent": 2, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0},
            mr_features=features,
            mr_channels=[4, 4],
            denoiser_channels=[8, 8],
            conditioning=conditioning,
        )
