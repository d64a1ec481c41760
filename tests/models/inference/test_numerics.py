"""Gates of arithmetic on the weights that are shipped: bfloat16, parts of an image, the same bytes again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.data.intensity import to_hu
from models.inference.card import installed
from models.inference.verify import Deviation, bfloat16_deviation, deviation, limb
from models.inference.weights import Model, load_model
from models.networks.latent_diffusion import LatentDiffusion

NAMES = [card.name for card in installed()]
WITHOUT_GROUPS = [
    card.name for card in installed() if card.method == "ldm" and not card.architecture["autoencoder"]["groups"]
]
HALO = 48
"""Rows of MR that a part sees beyond its own."""

loaded = lru_cache(maxsize=1)(load_model)


def model_of(name: str) -> Model:
    return loaded(name, "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_changes_the_hu_of_a_shipped_model_by_no_more_than_the_gate(name: str) -> None:
    found = bfloat16_deviation(model_of(name))
    assert found.mean > 0  # or nothing was computed in bfloat16
    assert found.passes, found


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_whatever_was_computed_between(name: str) -> None:
    first = model_of(name).predict(limb(), 7).hu.tobytes()
    torch.manual_seed(1)
    torch.rand(3)
    model_of(name).predict(limb(), 8)
    assert load_model(name, "cpu").predict(limb(), 7).hu.tobytes() == first


def one_step(networks: LatentDiffusion, mr: torch.Tensor, noise: torch.Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        seen = networks.encode_mr(mr)
        clean = networks.denoise(networks.initial_latent(noise, seen), torch.ones(1), seen)
        hu: NDArray[np.float32] = to_hu(networks.decode(clean, seen))[0, 0].numpy()
    return hu


@pytest.mark.parametrize("name", WITHOUT_GROUPS)
def test_two_parts_under_one_noise_join_to_what_the_whole_gives(name: str) -> None:
    """The rows in two halves, each with a halo; without it the halves differ where they meet."""
    networks = model_of(name).networks
    assert isinstance(networks, LatentDiffusion)
    mr = torch.from_numpy(np.tile(limb()[:8, :, :24], (1, 3, 1)) / 900)[None, None]
    noise = networks.draw_noise(mr.shape[2:], torch.Generator().manual_seed(0))
    stride, rows = networks.stride[1], mr.shape[3]

    def joined(halo: int) -> Deviation:
        upper, lower = (slice(0, rows // 2 + halo), slice(rows // 2 - halo, rows))
        halves = [
            one_step(networks, mr[:, :, :, part], noise[:, :, :, part.start // stride : part.stop // stride])
            for part in (upper, lower)
        ]
        return deviation(np.concatenate([halves[0][:, : rows // 2], halves[1][:, halo:]], axis=1), whole)

    whole = one_step(networks, mr, noise)
    assert joined(HALO).tail < 0.05
    assert joined(0).tail > 1


def test_the_gate_is_a_mean_and_a_tail() -> None:
    zeros = np.zeros(10_000, np.float32)
    assert deviation(zeros, zeros + 2).passes
    assert not deviation(zeros, zeros + 2.1).passes
    spike = zeros.copy()
    spike[:20] = 25
    assert not deviation(zeros, spike).passes
    spike[5:] = 0  # fewer than one in a thousand
    assert deviation(zeros, spike).passes
