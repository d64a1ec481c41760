"""A whole training in small: pairs, three stages, interruption, the card at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models import pairs, train
from models.card import read_card
from models.latent_diffusion import LatentDiffusion
from models.methods import METHODS
from models.recipe import BadRecipe, read_recipe
from models.weights import load_model

STEPS = 4


@pytest.fixture
def recipe_path(tmp_path: Path, project: Path, limbs: Path) -> Path:
    values = yaml.safe_load((project / "config/train/limb-t1-ldm.yaml").read_text())
    stage = {"steps": STEPS, "batch": 2, "patch": [4, 16, 16], "learning_rate": 1e-3}
    values |= {
        "pairs": "pairs",
        "validation": ["C"],
        "copies": 2,
        "precision": "float32",  # the same numbers twice
        "run": str(tmp_path / "run"),
        "stages": dict.fromkeys(("autoencoder", "denoiser", "joint"), stage),
        "evaluate": [[1, 1], [2, 2]],
        "architecture": {
            "autoencoder": {"latent": 2, "channels": [4, 4], "strides": [[1, 2, 2]], "groups": 0},
            "mr_features": 4,
            "mr_channels": [4, 4],
            "denoiser_channels": [8, 8],
            "groups": 0,
        },
    }
    values["card"]["spacing_mm"] = [3.0, 1.0, 1.0]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_training_ends_with_weights_a_card_and_its_figures(recipe_path: Path, tmp_path: Path) -> None:
    card = train.main(recipe_path, device="cpu")
    assert load_model(str(tmp_path / "run/model"), "cpu").card == read_card(tmp_path / "run/model/limb-t1-ldm.json")
    assert card.figures["patients"] == ["C"]
    assert card.figures["all_water"]["mae_bone"] == 900
    assert set(card.figures) >= {"look_up_table", "autoencoder_ceiling", "steps_1_samples_1", "steps_2_samples_2"}


def test_an_interrupted_training_goes_on_and_ends_where_an_uninterrupted_one_ends(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.main(recipe_path, device="cpu")
    whole = torch.load(tmp_path / "run/joint.pt", weights_only=True)["average"]

    class PowerCut(Exception):
        pass

    monkeypatch.setattr(train, "CHECKPOINT_STEPS", STEPS // 2)
    follow = train.follow

    def cut(average: torch.nn.Module, networks: torch.nn.Module, step: int) -> None:
        follow(average, networks, step)
        if step == STEPS - 1:
            raise PowerCut

    for _ in LatentDiffusion.stages:
        monkeypatch.setattr(train, "follow", cut)
        if not (tmp_path / "second").exists():
            recipe_path.write_text(recipe_path.read_text().replace(str(tmp_path / "run"), str(tmp_path / "second")))
        with pytest.raises(PowerCut):
            train.main(recipe_path, device="cpu")
        monkeypatch.setattr(train, "follow", follow)
    train.main(recipe_path, device="cpu")
    resumed = torch.load(tmp_path / "second/joint.pt", weights_only=True)["average"]
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value)


def test_without_resume_a_finished_run_is_not_overwritten(recipe_path: Path) -> None:
    train.main(recipe_path, device="cpu")
    with pytest.raises(FileExistsError, match="holds a training already"):
        train.main(recipe_path, resume=False, device="cpu")


def test_a_recipe_with_a_missing_or_unknown_key_is_refused_by_its_name(recipe_path: Path) -> None:
    values = yaml.safe_load(recipe_path.read_text())
    del values["seed"]
    values["sead"] = 1
    recipe_path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadRecipe, match="sead, seed"):
        read_recipe(recipe_path)


def test_every_recipe_of_the_project_can_be_read(project: Path) -> None:
    names = {read_recipe(path).card["name"] for path in (project / "config/train").glob("*.yaml")}
    assert {"paper-ldm", "limb-t1-paper", *(f"limb-t1-{method}" for method in METHODS)} <= names


def test_a_folder_without_the_validation_patients_is_refused(recipe_path: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs/C_mr.nii.gz").unlink()
    with pytest.raises(pairs.BadPair, match="validation patients"):
        train.main(recipe_path, device="cpu")


def test_images_of_different_size_are_no_pair() -> None:
    with pytest.raises(pairs.BadPair, match="MR of"):
        pairs.make_pair("A", np.ones((4, 4, 4), np.int16), np.ones((4, 4, 5), np.int16), (3, 1, 1), (-1024, 3071))


def test_the_couch_beyond_the_body_becomes_air() -> None:
    hu = np.full((4, 60, 60), -1000, np.int16)
    hu[:, 10:30, 10:50] = 40
    hu[:, 55:58] = 300
    mr = np.where(hu == 40, 900, 0).astype(np.int16)
    pair = pairs.make_pair("A", mr, hu, (3.0, 1.0, 1.0), (-1024, 3071))
    assert (pair.hu[:, 50:] == -1000).all()
    assert (pair.hu[:, 10:30, 10:50] == 40).all()
    assert pair.body[:, 10:30, 10:50].all()


def test_a_deformation_moves_mr_ct_and_body_alike() -> None:
    random = np.random.default_rng(4)
    hu = np.zeros((6, 40, 40), np.int16)
    hu[:, 12:20, 25:33] = 900
    pair = pairs.Pair("A", (hu / 900).astype(np.float16), hu, hu > 500, (3.0, 1.0, 1.0))
    moved = pairs.deform(pair, pairs.draw_deformation(random))
    assert not np.array_equal(moved.hu, hu)
    seen = moved.hu >= 0  # beyond the image the MR has no signal and the CT is air
    np.testing.assert_allclose(moved.mr.astype(float)[seen] * 900, moved.hu[seen], atol=2)
    agreement = (moved.body == (moved.hu > 450)).mean()
    assert agreement > 0.99


def test_a_drawn_contrast_gives_the_same_mr_twice_and_keeps_its_range() -> None:
    change = pairs.draw_contrast(np.random.default_rng(1))
    mr = torch.rand(1, 1, 4, 8, 8) * 2
    first = pairs.apply_contrast(mr, change)
    assert torch.equal(first, pairs.apply_contrast(mr, change))
    assert first.min() >= 0
    assert first.max() <= 2


def test_a_patch_beyond_the_image_is_air_of_little_weight() -> None:
    pair = pairs.Pair(
        "A", np.ones((2, 4, 4), np.float16), np.full((2, 4, 4), 40, np.int16), np.ones((2, 4, 4), bool), (3, 1, 1)
    )
    patch = pairs.cut_patch(pair, (0, 0, 0), (4, 4, 8))
    assert patch.ct[0, 0, 0, 0, 7] == -1
    assert patch.mr[0, 0, 3].max() == 0
    assert patch.weight[0, 0, 0, 0].tolist() == pytest.approx([1] * 4 + [0.2] * 4)
