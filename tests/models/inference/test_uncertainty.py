"""How far a synthetic CT may be trusted: expected error of each voxel, and how strange the MR is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from highdicom import Volume, VolumeGeometry
from scipy import ndimage
from torch import nn

from models.data.intensity import homogenised, normalise_mr
from models.data.pairs import Pair
from models.inference.card import ModelCard
from models.inference.uncertainty import MEASURES, UncertaintyEstimator, measures_by_slab
from models.inference.weights import load_model, save_model
from models.networks.latent_diffusion import LatentDiffusion
from models.networks.registry import build
from models.training.uncertainty import (
    Example,
    Held,
    Sample,
    calibrate,
    calibration_of,
    curve_of,
    example_of,
    factor_of,
    fitted_to,
    held_out,
    sample_of,
)
from pipeline.conversion import ConversionOptions, convert
from pipeline.phantom.thigh import thigh, write_mr_series
from pipeline.series.series import only_series, read_series
from pipeline.volume.synthesize import synthesize
from pipeline.volume.volume import UNCERTAINTY, read_nifti

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
def estimator() -> UncertaintyEstimator:
    torch.manual_seed(1)
    return UncertaintyEstimator(hidden=6)


@pytest.fixture
def folder(tmp_path: Path, estimator: UncertaintyEstimator) -> Path:
    torch.manual_seed(2)
    save_model(build("ldm", TINY), card(uncertainty={"hidden": 6}), tmp_path / "tiny", estimator)
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


@pytest.mark.parametrize("homogenise_mm", [0.0, 8.0])
def test_what_is_learned_from_is_what_is_judged(folder: Path, homogenise_mm: float) -> None:
    """A doubt that remembers one patient finds nothing novel in that patient's MR, however the networks see it."""
    model = load_model(str(folder), "cpu")
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, homogenise_mm=homogenise_mm))
    mr = block() * np.linspace(0.4, 1.6, 34, dtype=np.float32)
    made = dataclasses.replace(model, uncertainty=None).predict(mr, 1)
    assert made.novelty is None
    even = homogenised(mr, made.body, model.card.spacing_mm, homogenise_mm) if homogenise_mm else mr
    assert np.array_equal(made.mr[made.body], normalise_mr(even, made.body)[made.body])
    pair = Pair("A", mr.astype(np.float16), made.hu.astype(np.int16), made.body, (3.0, 2.0, 2.0))
    assert model.uncertainty is not None
    model.uncertainty.remember(sample_of(example_of(pair, made), 0).measures)
    assert model.judged(made).novelty == pytest.approx(1, abs=1e-3)
    assert model.predict(mr, 1).novelty == model.judged(made).novelty


def measures_of(mr: torch.Tensor, hu: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    return torch.cat([found[:, body[slices]].T for slices, found in measures_by_slab(mr, hu)])


def test_measures_do_not_know_the_slabs_in_which_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    mr, hu = torch.rand((2, 35, 19, 21), generator=generator)
    body = torch.ones(mr.shape, dtype=torch.bool)
    by_slab = measures_of(mr, 1000 * hu, body)
    monkeypatch.setattr("models.inference.uncertainty.SLAB", 64)
    assert by_slab.shape == (mr.numel(), MEASURES)
    torch.testing.assert_close(by_slab, measures_of(mr, 1000 * hu, body))


def varied(name: str, seed: int, times: float = 1.0) -> Sample:
    """Errors that are exponentially distributed, ten times as large where the MR is dark."""
    generator = np.random.default_rng(seed)
    mr = ndimage.gaussian_filter(generator.standard_normal((8, 40, 40)), (0, 3, 3)).astype(np.float32)
    scale = times * np.where(mr > 0, 20.0, 200.0)
    error = (scale * generator.exponential(size=mr.shape)).astype(np.float32)
    body = np.ones(mr.shape, dtype=bool)
    return sample_of(Example(name, (mr > 0).astype(np.float32), np.zeros_like(mr), error, body), 0)


def test_the_sd_that_is_learned_is_that_of_the_errors_of_patients_it_did_not_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.training.uncertainty.BATCH", 256)
    estimator, figures = fitted_to(
        [varied(name, seed) for seed, name in enumerate("ABCD")], [varied("E", 9)], {"steps": 250, "hidden": 6}, 0
    )
    unseen = varied("F", 10)
    sd = estimator.sd(unseen.measures)
    bright = unseen.measures[:, 0] > 0
    assert float(sd[bright].median()) == pytest.approx(20 * 2**0.5, rel=0.15)
    assert float(sd[~bright].median()) == pytest.approx(200 * 2**0.5, rel=0.15)
    assert calibration_of(estimator, unseen).spearman > 0.5
    assert [one["name"] for one in figures["training"]] == ["A", "B", "C", "D"]
    assert figures["curve"]["ence"] < 0.15


def test_the_factor_makes_up_for_errors_that_are_larger_on_patients_the_model_never_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.training.uncertainty.BATCH", 256)
    learned = [varied(name, seed) for seed, name in enumerate("AB")]
    kept = [varied("C", 9, 3.0), varied("D", 10, 3.0)]
    estimator, figures = fitted_to(learned, kept, {"steps": 150, "hidden": 6}, 0)
    assert float(estimator.factor) == pytest.approx(3, rel=0.15)
    assert all(one["ence"] < 0.3 for one in figures["kept_back"])
    luckily_small = [varied("C", 9, 0.5)]
    assert factor_of(estimator, luckily_small) == 1


def test_the_map_to_the_sd_only_rises(estimator: UncertaintyEstimator) -> None:
    sample = varied("A", 0)
    calibrate(estimator, [Held(sample, estimator)])
    said = estimator.log_error(sample.measures).detach()
    assert (estimator.sd(sample.measures).detach()[said.argsort()].diff() >= -1e-3).all()


def test_no_training_patient_is_judged_by_a_network_that_learned_from_it() -> None:
    samples = [varied(str(number), number) for number in range(7)]
    held = held_out({"hidden": 4}, samples, 2, 0)
    for one in held:
        others = torch.cat(
            [s.measures for s in samples if all(s is not h.sample for h in held if h.estimator is one.estimator)]
        )
        torch.testing.assert_close(one.estimator.measure_mean, others.mean(dim=0))
    assert sorted(one.sample.name for one in held) == [str(number) for number in range(7)]


def test_a_curve_holds_where_errors_are_as_large_as_expected() -> None:
    generator = np.random.default_rng(0)
    sd = generator.uniform(10, 300, 20_000)
    error = np.abs(sd * generator.standard_normal(sd.size))
    assert curve_of(sd, error).ence < 0.05
    assert curve_of(sd, 2 * error).ence == pytest.approx(1, abs=0.1)


def test_the_novelty_is_one_for_what_is_remembered_and_more_for_another_contrast(
    estimator: UncertaintyEstimator,
) -> None:
    generator = torch.Generator().manual_seed(0)
    body = torch.ones(6, 24, 24, dtype=torch.bool)
    mr = torch.rand(body.shape, generator=generator)
    ct = 100 * torch.rand(body.shape, generator=generator)
    estimator.remember(measures_of(mr, ct, body))
    assert estimator.judge(mr, ct, body)[1] == pytest.approx(1, abs=0.01)
    assert estimator.judge(3 * mr, ct, body)[1] > 2


def test_what_is_remembered_survives_float16(folder: Path, estimator: UncertaintyEstimator) -> None:
    body = torch.ones(4, 16, 16, dtype=torch.bool)
    mr = torch.rand(body.shape, generator=torch.Generator().manual_seed(0))
    estimator.remember(1e-2 * measures_of(mr, mr, body))
    before = estimator.judge(mr, mr, body)[1]
    save_model(build("ldm", TINY), dataclasses.replace(card(), uncertainty={"hidden": 6}), folder, estimator)
    kept = load_model(str(folder), "cpu").uncertainty
    assert kept is not None
    assert kept.judge(mr, mr, body)[1] == pytest.approx(before, rel=0.02)


def test_the_uncertainty_lies_beside_the_ct_files_on_their_grid(folder: Path, tmp_path: Path) -> None:
    write_mr_series(thigh(VolumeGeometry(AFFINE, (12, 40, 44), "PATIENT"), seed=3).mr, tmp_path / "mr")
    (tmp_path / "out").mkdir()
    made = convert(
        only_series(read_series(tmp_path / "mr")), load_model(str(folder), "cpu"), tmp_path / "out", ConversionOptions()
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
