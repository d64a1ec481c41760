"""Cards and weights: what is installed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.inference import card as cards
from models.inference.card import BadCard, ModelCard, UnknownModel, card_path, find, installed, read_card, write_card
from models.inference.weights import CROP_MARGIN, WrongDigest, bounding_box, load_model, save_model
from models.networks.latent_diffusion import LatentDiffusion

ARCHITECTURE: dict[str, Any] = {
    "autoencoder": {"latent": 2, "channels": [4, 4], "strides": [[1, 2, 2]], "groups": 0},
    "mr_features": 4,
    "mr_channels": [4, 4],
    "denoiser_channels": [8, 8],
    "groups": 0,
}
CARD = ModelCard(
    name="tiny",
    version="0.0.1",
    digest="0" * 64,
    architecture=ARCHITECTURE,
    modality="MR",
    anatomy=("THIGH", "LEG"),
    contrast="T1",
    spacing_mm=(3.0, 1.0, 1.0),
    hu_range=(-1024.0, 3071.0),
    training_data="none",
    limits="everywhere",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(LatentDiffusion(**ARCHITECTURE), CARD, tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_card(CARD, tmp_path / "tiny.json")
    assert read_card(tmp_path / "tiny.json") == CARD


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surprise": 1}, "unknown keys"),
        ({"digest": "abc"}, "64 hexadecimal digits"),
        ({"spacing_mm": [1, 1]}, "three positive numbers"),
        ({"hu_range": [10, -10]}, "must rise"),
    ],
)
def test_a_card_with_a_wrong_key_is_refused_by_its_name(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "tiny.json"
    write_card(CARD, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadCard, match=words):
        read_card(path)


def test_weights_that_are_not_those_of_the_card_are_refused(folder: Path) -> None:
    weights = folder / "tiny.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WrongDigest, match="SHA-256"):
        load_model(str(folder), "cpu")


def test_a_model_that_is_not_installed_is_named_beside_those_that_are() -> None:
    with pytest.raises(UnknownModel, match="limb-t1-ldm") as caught:
        find("no-such-model")
    assert caught.value.name == "no-such-model"


def test_a_model_that_the_repository_alone_holds_is_found_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownModel):
        find("tiny")
    monkeypatch.setattr(cards, "unshipped", lambda: folder.parent)
    assert find("tiny") == find(str(folder))
    assert [card.name for card in installed()][-1] == "tiny"
    assert load_model("tiny", "cpu").card.name == "tiny"


def test_a_card_claims_its_anatomy_and_does_not_contradict_silence() -> None:
    assert CARD.claims("thigh")
    assert CARD.claims("")
    assert not CARD.claims("HEAD")


def test_the_whole_field_of_view_is_translated_and_air_is_outside_the_body(folder: Path) -> None:
    model = load_model(str(folder), "cpu")
    mr = np.zeros((12, 40, 60), dtype=np.float32)
    mr[:, 10:30, 15:45] = 500.0
    prediction = model.predict(mr, seed=1)
    assert prediction.hu.shape == mr.shape
    assert prediction.body[:, 10:30, 15:45].all()
    assert (prediction.hu[:, :8] == -1000).all()
    assert (prediction.hu[:, 12:28, 20:40] != -1000).any()


def test_an_image_of_nothing_becomes_air(folder: Path) -> None:
    prediction = load_model(str(folder), "cpu").predict(np.zeros((4, 8, 8), dtype=np.float32), seed=1)
    assert (prediction.hu == -1000).all()
    assert not prediction.body.any()


def test_the_scanners_unit_of_signal_does_not_matter(folder: Path) -> None:
    model = load_model(str(folder), "cpu")
    mr = np.random.default_rng(0).uniform(100, 500, (8, 24, 24)).astype(np.float32)
    first, second = model.predict(mr, seed=1), model.predict(mr * 7.5, seed=1)
    np.testing.assert_allclose(first.hu, second.hu, atol=0.5)


def test_a_box_has_its_margin_and_stays_within_the_image() -> None:
    mask = np.zeros((20, 30, 40), dtype=bool)
    mask[10, 15, 39] = True
    assert bounding_box(mask, CROP_MARGIN) == (slice(2, 19), slice(7, 24), slice(31, 40))


@pytest.mark.parametrize("card", installed(), ids=lambda card: card.name)
def test_an_installed_model_is_small_whole_and_says_where_it_fails(card: ModelCard) -> None:
    weights = card_path(card.name).with_suffix(".safetensors")
    assert weights.stat().st_size <= 10_000_000
    assert load_model(card.name, "cpu").card == card
    assert card.limits
    assert card.training_data
    assert card.figures


def test_the_limb_model_beats_the_floors_on_the_validation_patients() -> None:
    figures = find("limb-t1-ldm").figures
    sampling = find("limb-t1-ldm").sampling
    model = figures[f"steps_{sampling['steps']}_samples_{sampling['samples']}"]
    assert model["mae"] < figures["look_up_table"]["mae"] < figures["all_water"]["mae"]
    assert model["mae_bone"] < 0.75 * figures["look_up_table"]["mae_bone"]
