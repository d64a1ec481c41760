"""How far a synthetic CT may be trusted: expected error of each voxel, and how strange the MR is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from highdicom import Volume, VolumeGeometry
from torch import nn

from models.card import ModelCard
from models.doubt import Doubt
from models.doubt_training import Example, agreement_of, factor_of
from models.latent_diffusion import LatentDiffusion
from models.methods import build
from models.weights import load_model, save_model
from pipeline.nifti import UNCERTAINTY, read_nifti
from pipeline.phantom import thigh, write_mr_series
from pipeline.run import Options, convert
from pipeline.series import only_series, read_series
from pipeline.synthesize import synthesize

TINY: dict[str, Any] = {
    "autoencoder": {"latent": 2, "channels": [4, 4], "strides": [[1, 2, 2]], "groups": 0},
    "mr_features": 2,
    "mr_channels": [4, 4],
    "denoiser_channels": [4, 4],
    "groups": 0,
}
AFFINE = np.array([[0, 0, 3.0, -60], [0, 3.0, 0, -60], [5.0, 0, 0, 10], [0, 0, 0, 1]], dtype=np.float64)


def card(**more: object) -> ModelCard:
    values: dict[str, Any] = {"name": "tiny", "version": "0.0.1", "digest": "0" * 64, "architecture": TINY}
    values |= {
        "modality": "MR",
        "anatomy": ("THIGH",),
        "contrast": "T1",
        "spacing_mm": (3.0, 2.0, 2.0),
        "hu_range": (-1024, 3071),
    }
    return ModelCard(**{**values, "training_data": "none", "limits": "a test", **more})


@pytest.fixture
def doubt() -> Doubt:
    torch.manual_seed(1)
    return Doubt(channels=6, dilations=(1, 2))


@pytest.fixture
def folder(tmp_path: Path, doubt: Doubt) -> Path:
    torch.manual_seed(2)
    save_model(build("ldm", TINY), card(doubt={"channels": 6, "dilations": [1, 2]}), tmp_path / "tiny", doubt)
    return tmp_path / "tiny"


def block() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    mr = np.zeros((10, 30, 34), dtype=np.float32)
    mr[:, 6:24, 8:28] = np.random.default_rng(0).uniform(300, 600, (10, 18, 20))
    return mr


def test_a_model_with_doubts_says_them_from_one_sample_and_they_end_at_the_skin(folder: Path) -> None:
    made = load_model(str(folder), "cpu").predict(block(), seed=1)
    assert made.sd is not None
    assert made.novelty is not None
    assert (made.sd[made.body] > 0).all()
    assert (made.sd[made.hu == -1000.0] == 0).all()


def test_a_model_without_doubts_and_of_one_sample_says_none_and_of_several_their_spread(tmp_path: Path) -> None:
    networks = build("ldm", TINY)
    assert isinstance(networks, LatentDiffusion)
    for parameter in networks.denoiser.out.parameters():
        nn.init.normal_(parameter)  # it begins as zero, deaf to its noise
    save_model(networks, card(), tmp_path / "tiny")
    model = load_model(str(tmp_path / "tiny"), "cpu")
    assert (model.predict(block(), 1).sd, model.predict(block(), 1).novelty) == (None, None)
    several = model.predict(block(), 1, samples=3)
    assert several.sd is not None
    assert several.sd[several.body].max() > 0


def test_the_scale_that_is_learned_is_the_mean_absolute_error(doubt: Doubt) -> None:
    generator = torch.Generator().manual_seed(0)
    mr = (torch.rand((1, 1, 4, 16, 16), generator=generator) > 0.5).float()
    error = torch.where(mr > 0, 0.02, 0.2)  # in the networks' unit: 20 and 200 HU
    optimiser = torch.optim.Adam(doubt.parameters(), 0.02)
    for _ in range(120):
        log_scale = doubt.log_scale(doubt.features(mr, torch.zeros_like(mr)))
        loss = (error / log_scale.exp() + log_scale).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    sd, _ = doubt.judge(mr[0, 0], torch.zeros(4, 16, 16), torch.ones(4, 16, 16, dtype=torch.bool))
    assert float(sd[mr[0, 0] > 0].median()) == pytest.approx(20 * 2**0.5, rel=0.2)
    assert float(sd[mr[0, 0] == 0].median()) == pytest.approx(200 * 2**0.5, rel=0.2)


def test_the_novelty_is_one_for_what_is_remembered_and_more_for_another_contrast(doubt: Doubt) -> None:
    generator = torch.Generator().manual_seed(0)
    body = torch.ones(6, 24, 24, dtype=torch.bool)
    mr = torch.rand(body.shape, generator=generator)
    ct = torch.zeros(body.shape)
    doubt.remember([doubt.features(mr[None, None], ct[None, None])[0, :, body].T])
    assert doubt.judge(mr, ct, body)[1] == pytest.approx(1, abs=0.1)
    assert doubt.judge(3 * mr, ct, body)[1] > 2


def test_what_is_remembered_survives_float16(folder: Path, doubt: Doubt) -> None:
    body = torch.ones(4, 16, 16, dtype=torch.bool)
    mr = torch.rand(body.shape, generator=torch.Generator().manual_seed(0))
    doubt.remember([1e-2 * doubt.features(mr[None, None], mr[None, None])[0, :, body].T])
    before = doubt.judge(mr, mr, body)[1]
    save_model(
        build("ldm", TINY), dataclasses.replace(card(), doubt={"channels": 6, "dilations": [1, 2]}), folder, doubt
    )
    kept = load_model(str(folder), "cpu").doubt
    assert kept is not None
    assert kept.judge(mr, mr, body)[1] == pytest.approx(before, rel=0.02)


def test_the_uncertainty_lies_beside_the_ct_files_on_their_grid(folder: Path, tmp_path: Path) -> None:
    write_mr_series(thigh(VolumeGeometry(AFFINE, (12, 40, 44), "PATIENT"), seed=3).mr, tmp_path / "mr")
    (tmp_path / "out").mkdir()
    made = convert(
        only_series(read_series(tmp_path / "mr")), load_model(str(folder), "cpu"), tmp_path / "out", Options()
    )
    sd = read_nifti(tmp_path / "out" / UNCERTAINTY)
    first = pydicom.dcmread(made.ct[0])
    assert sd.spatial_shape == (len(made.ct), first.Rows, first.Columns)
    assert np.allclose(sd.position, first.ImagePositionPatient, atol=1e-3)
    assert sd.array.min() == 0
    assert sd.array.max() > 0


def test_a_volume_and_its_uncertainty_share_their_geometry(folder: Path) -> None:
    mr = Volume(block(), AFFINE, coordinate_system="PATIENT")
    made = synthesize(mr, load_model(str(folder), "cpu"), 1)
    assert made.sd is not None
    assert np.array_equal(made.sd.affine, made.hu.affine)
    assert made.sd.spatial_shape == made.hu.spatial_shape


def example(doubt: Doubt, scale: float) -> Example:
    """Errors that are normally distributed with `scale` times the SD that the doubt expects."""
    generator = np.random.default_rng(5)
    mr = generator.uniform(0, 1, (8, 24, 24)).astype(np.float32)
    body = np.ones(mr.shape, dtype=bool)
    sd, _ = doubt.judge(torch.from_numpy(mr), torch.zeros(mr.shape), torch.from_numpy(body))
    error = np.abs(scale * sd.numpy() * generator.standard_normal(mr.shape)).astype(np.float32)
    return Example(mr, np.zeros_like(mr), error, body)


def test_errors_as_large_as_expected_agree_and_the_factor_makes_others_do(doubt: Doubt) -> None:
    with torch.no_grad():
        doubt.last.weight.mul_(4)  # so that SDs differ
        assert doubt.last.bias is not None
        doubt.last.bias.fill_(-4)
    assert factor_of(doubt, [example(doubt, 1.0)]) == pytest.approx(1, abs=0.05)
    assert agreement_of(doubt, example(doubt, 1.0)).ence < 0.1
    wrong = example(doubt, 2.5)
    assert agreement_of(doubt, wrong).ence > 1
    doubt.factor.fill_(factor_of(doubt, [wrong]))
    assert float(doubt.factor) == pytest.approx(2.5, rel=0.05)
    assert agreement_of(doubt, wrong).ence < 0.1
    assert agreement_of(doubt, wrong).spearman > 0.3
