"""Whether an installed model is what its card says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.inference.card import ModelCard, installed, read_card
from models.inference.verify import problems_of, reference_of
from models.inference.weights import load_model, save_model
from models.networks.latent_diffusion import LatentDiffusion

TINY: dict[str, Any] = {
    "autoencoder": {"latent": 2, "channels": [4, 4], "strides": [[1, 2, 2]], "groups": 0},
    "mr_features": 2,
    "mr_channels": [4, 4],
    "denoiser_channels": [4, 4],
    "groups": 0,
}


def made(folder: Path, bias_hu: float, figures: dict[str, Any]) -> ModelCard:
    """A model whose HU are shifted by a bias."""
    torch.manual_seed(0)
    networks = LatentDiffusion(**TINY)
    with torch.no_grad():
        last = networks.autoencoder.last
        assert isinstance(last, torch.nn.Conv3d)
        assert last.bias is not None
        last.bias.add_(bias_hu / 1000)
    card = ModelCard(
        name="tiny",
        version="0.0.1",
        digest="0" * 64,
        architecture=TINY,
        modality="MR",
        anatomy=("THIGH",),
        contrast="T1",
        spacing_mm=(3.0, 1.0, 1.0),
        hu_range=(-1024.0, 3071.0),
        training_data="none",
        limits="everywhere",
        figures=figures,
    )
    return save_model(networks, card, folder)


@pytest.fixture
def reference(tmp_path: Path) -> list[float]:
    made(tmp_path / "first", 0, {})
    return reference_of(load_model(str(tmp_path / "first"), "cpu"))


def test_a_model_that_computes_as_its_card_says_has_no_problem(tmp_path: Path, reference: list[float]) -> None:
    card = made(tmp_path / "tiny", 0, {"reference": reference})
    assert problems_of(card, str(tmp_path / "tiny")) == []


def test_a_model_that_computes_otherwise_is_named_with_the_difference(tmp_path: Path, reference: list[float]) -> None:
    card = made(tmp_path / "tiny", 30, {"reference": reference})
    (problem,) = problems_of(card, str(tmp_path / "tiny"))
    assert "30.0 HU from its card's" in problem


def test_a_card_without_a_reference_cannot_be_verified(tmp_path: Path) -> None:
    (problem,) = problems_of(made(tmp_path / "tiny", 0, {}), str(tmp_path / "tiny"))
    assert "no reference" in problem


def test_damaged_weights_are_a_problem_and_not_a_traceback(tmp_path: Path, reference: list[float]) -> None:
    card = made(tmp_path / "tiny", 0, {"reference": reference})
    weights = tmp_path / "tiny/tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (problem,) = problems_of(card, str(tmp_path / "tiny"))
    assert "SHA-256" in problem


def test_numbers_that_are_not_finite_are_a_problem(tmp_path: Path, reference: list[float]) -> None:
    card = made(tmp_path / "tiny", float("nan"), {"reference": reference})
    (problem,) = problems_of(dataclasses.replace(card), str(tmp_path / "tiny"))
    assert "not finite" in problem


def test_what_is_installed_is_verified_by_the_command() -> None:
    command = [sys.executable, "-m", "dicomnode.cli.main", "models", "--verify"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(card.name in ended.stdout for card in installed())


def test_an_installed_card_holds_its_reference(project: Path) -> None:
    for path in (project / "models/shipped").glob("*.json"):
        assert len(read_card(path).figures["reference"]) == 8
