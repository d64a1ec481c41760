"""The autoencoder, the rectified flow and the latent diffusion model as networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets.autoencoderkl import AutoencoderKL

from models.inference.weights import average
from models.networks.autoencoder import Autoencoder, in_blocks, kernel_for, out_of_blocks
from models.networks.latent_diffusion import LatentDiffusion, pad_to_multiple
from models.networks.losses import kl_divergence

TINY: dict[str, Any] = {
    "autoencoder": {"latent": 2, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0},
    "mr_features": 4,
    "mr_channels": [4, 4],
    "denoiser_channels": [8, 8],
    "groups": 0,
}


def tiny(seed: int = 0) -> LatentDiffusion:
    """Untrained networks; MONAI begins with a last convolution of zeros, which would hide the MR."""
    torch.manual_seed(seed)
    network = LatentDiffusion(**TINY).eval()
    for parameter in network.denoiser.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_autoencoder_has_as_many_parameters_as_monais() -> None:
    ours = Autoencoder(latent=3, channels=[32, 64, 64], strides=[[2, 2, 2], [2, 2, 2]], groups=16)
    theirs = AutoencoderKL(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1, 1),
        channels=(32, 64, 64),
        attention_levels=(False, False, False),
        latent_channels=3,
        norm_num_groups=16,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    assert count(ours) == count(theirs)


def test_a_level_does_not_mix_voxels_along_an_axis_that_it_does_not_halve() -> None:
    assert kernel_for((1, 2, 2)) == (1, 3, 3)
    assert kernel_for((2, 2, 2)) == (3, 3, 3)


def test_the_latent_halves_the_axes_of_its_strides_and_decoding_restores_the_size() -> None:
    network = Autoencoder(latent=4, channels=[8, 8], strides=[[1, 2, 2]], groups=4)
    mean, log_sigma = network.encode(torch.zeros(1, 1, 6, 8, 12))
    assert mean.shape == log_sigma.shape == (1, 4, 6, 4, 6)
    assert network.decode(mean).shape == (1, 1, 6, 8, 12)


def test_a_block_s_voxels_become_channels_of_one_and_return_to_their_places() -> None:
    image = torch.arange(2 * 3 * 4 * 6.0).view(1, 2, 3, 4, 6)
    folded = in_blocks(image, (1, 2, 3))
    assert folded.shape == (1, 12, 3, 2, 2)
    assert folded[0, 6:, 2, 1, 0].tolist() == image[0, 1, 2, 2:4, :3].flatten().tolist()
    assert torch.equal(out_of_blocks(folded, (1, 2, 3)), image)


def test_a_latent_of_blocks_has_a_quarter_of_the_voxels_numbers_and_the_mr_reaches_the_decoder_beside_it() -> None:
    torch.manual_seed(0)
    autoencoder = {"latent": 4, "channels": [4, 6], "strides": [[1, 2, 2]], "groups": 0, "block": [1, 2, 2]}
    network = LatentDiffusion(**TINY | {"autoencoder": autoencoder, "detail": True})
    mr = torch.rand(1, 1, 4, 16, 24)
    z, seen = network.encode(mr), network.encode_mr(mr)
    assert z.shape == (1, 4, 4, 4, 6)
    assert 4 * z.numel() == mr.numel()
    assert seen.latent is not None
    assert seen.latent.shape == (1, 4, 4, 4, 6)
    assert network.decode(z, seen).shape == mr.shape
    assert network.synthesize(mr[0, 0, :3, :13, :22], seed=1).shape == (3, 13, 22)


def test_the_kl_divergence_of_a_standard_normal_is_zero_and_grows_with_distance() -> None:
    zeros = torch.zeros(1, 2, 3, 3, 3)
    assert kl_divergence(zeros, zeros).item() == pytest.approx(0.0, abs=1e-7)
    assert kl_divergence(zeros + 2, zeros).item() == pytest.approx(2.0)  # mu^2 / 2


@given(shape=st.tuples(*[st.integers(1, 19)] * 3))
@settings(max_examples=20, deadline=None)
def test_synthesis_keeps_the_size_of_any_volume(shape: tuple[int, int, int]) -> None:
    hu = tiny().synthesize(torch.rand(shape), seed=1, steps=1)
    assert hu.shape == shape
    assert torch.isfinite(hu).all()


def test_padding_repeats_the_last_voxels_and_changes_no_other() -> None:
    image = torch.arange(60.0).view(1, 1, 3, 4, 5)
    padded = pad_to_multiple(image, (2, 4, 4))
    assert padded.shape == (1, 1, 4, 4, 8)
    assert torch.equal(padded[:, :, :3, :4, :5], image)
    assert torch.equal(padded[:, :, 3, :, 5:], image[:, :, 2, :, 4:].expand(-1, -1, -1, 3))


def test_the_same_seed_gives_the_same_ct_and_another_seed_another() -> None:
    network, mr = tiny(), torch.rand(5, 9, 11)
    first = network.synthesize(mr, seed=3, steps=2)
    again = network.synthesize(mr, seed=3, steps=2)
    other = network.synthesize(mr, seed=4, steps=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_mean_and_sd_of_samples_are_those_of_single_samples_of_mirrored_mr() -> None:
    network, mr = tiny(), torch.rand(4, 8, 8)
    singles = np.stack(
        [
            network.synthesize(mr.flip(axes), 7 + number, 2).flip(axes).numpy()
            for number, axes in enumerate([(), (2,), (1,), (1, 2), ()])
        ]
    )
    mean, sd = average(network, mr, 7, 2, samples=5)
    np.testing.assert_allclose(mean.numpy(), singles.mean(axis=0), atol=1e-2)
    np.testing.assert_allclose(sd.numpy(), singles.std(axis=0, ddof=1), atol=1e-2)


def test_without_groups_a_tile_sees_what_the_whole_volume_sees() -> None:
    """No statistic of the whole image enters: far from its edges, a part is translated as it is in the whole."""
    network = tiny()
    mr = torch.rand(1, 1, 8, 96, 16)
    with torch.inference_mode():
        whole = network.decode(network.encode(mr))
        part = network.decode(network.encode(mr[:, :, :, 16:80]))
    inner = (slice(None), slice(None), slice(None), slice(24, 40))
    torch.testing.assert_close(part[inner], whole[:, :, :, 40:56], atol=1e-5, rtol=0)


def test_a_decoder_that_sees_the_mr_begins_as_the_autoencoders_and_its_gradient_reaches_the_mrs_finest_features() -> (
    None
):
    torch.manual_seed(0)
    network, mr, z = LatentDiffusion(**TINY, detail=True), torch.rand(1, 1, 2, 8, 8), torch.randn(1, 2, 2, 4, 4)
    seen = network.encode_mr(mr)
    assert torch.equal(network.decode(z, seen), network.decode(z))
    assert network.detail is not None
    torch.nn.init.normal_(network.detail.weight)
    changed = network.decode(z, network.encode_mr(mr))
    assert not torch.allclose(changed, network.decode(z))
    changed.sum().backward()
    first = next(network.mr_encoder.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0


def test_the_mr_decides_the_ct() -> None:
    network = tiny()
    first = network.synthesize(torch.zeros(4, 8, 8), seed=0, steps=1)
    second = network.synthesize(torch.ones(4, 8, 8), seed=0, steps=1)
    assert not torch.allclose(first, second)
