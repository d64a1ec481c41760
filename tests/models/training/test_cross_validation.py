"""Folds, a time budget for all stages, and what a training says of itself on its way."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.cli.main import main
from models.data.recipe import BadRecipe, Recipe, read_recipe
from models.inference.card import read_card
from models.networks.registry import METHODS, build
from models.training import checkpoint, cross_validation, train, validation
from models.training.cross_validation import Fold, budgeted, deal, read_fold
from models.training.progress import read

TILE = [4, 16, 16]


@pytest.fixture
def recipe_path(project: Path, limbs: Path) -> Path:
    """A recipe of a tiny Pix2Pix on three patients."""
    values = yaml.safe_load((project / "config/train/limb-t1-pix2pix.yaml").read_text())
    values |= {
        "pairs": "pairs",
        "copies": 1,
        "precision": "float32",
        "run": str(limbs / "run"),
        "stages": {"train": {"steps": 4, "batch": 1, "learning_rate": 1e-3, "warm_up": 1, "patch": TILE}},
        "architecture": {"channels": [4, 8, 8], "strides": [[1, 2, 2], [1, 2, 2]], "tile": TILE},
    }
    values["card"]["spacing_mm"] = [3.0, 1.0, 1.0]
    path = limbs / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def changed(path: Path, **keys: Any) -> Path:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))
    return path


@given(count=st.integers(2, 40), of=st.integers(2, 10), seed=st.integers(0, 2**32 - 1))
def test_every_patient_is_kept_back_once_in_folds_of_equal_size(count: int, of: int, seed: int) -> None:
    names = [f"P{number:02}" for number in range(count)]
    folds = deal(names, of, seed)
    assert sorted(name for fold in folds for name in fold) == names
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == deal(names, of, seed)


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/1", "-1/3", "a/b", "1/2/3"])
def test_a_fold_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRecipe, match="--fold: must be K/N"):
        read_fold(text)


def test_all_methods_have_the_same_folds(project: Path, limbs: Path) -> None:
    paths = sorted((project / "config/train").glob("limb-t1-*.yaml"))
    kept = {
        cross_validation.within(read_recipe(path, limbs), Fold(2, 3)).validation for path in paths_here(paths, limbs)
    }
    assert len(kept) == 1


def paths_here(paths: list[Path], limbs: Path) -> list[Path]:
    """The recipes, of the patients A, B and C."""
    here = [limbs / path.name for path in paths]
    for path, mine in zip(paths, here, strict=True):
        mine.write_text(re.sub("pairs: pairs2?/train", "pairs: pairs", path.read_text()))
    return here


def ldm(project: Path) -> Recipe:
    return read_recipe(project / "config/train/limb-t1-ldm.yaml")


def test_a_budget_is_dealt_by_the_stages_shares_and_ends_them_alone(project: Path) -> None:
    recipe = ldm(project)
    shares = {"autoencoder": 1.0, "denoiser": 1.0, "joint": 2.0}
    stages = {name: dataclasses.replace(stage, steps=10, share=shares[name]) for name, stage in recipe.stages.items()}
    found = budgeted(dataclasses.replace(recipe, stages=stages), 60)
    assert {name: stage.minutes for name, stage in found.stages.items()} == {
        "autoencoder": 15,
        "denoiser": 15,
        "joint": 30,
    }
    assert found.run == recipe.run / "60-minutes"
    joint = found.stages["joint"]
    assert train.fraction(checkpoint.StageProgress(step=10 * joint.steps, minutes=15), joint) == 0.5
    assert train.fraction(checkpoint.StageProgress(step=1, minutes=30), joint) == 1
    half = train.learning_rate(checkpoint.StageProgress(step=10 * joint.steps, minutes=15), joint)
    assert half == pytest.approx(joint.learning_rate * (0.02 + 0.98 * 0.5))


def test_a_stage_without_steps_gets_no_time_and_no_budget_is_refused(project: Path) -> None:
    recipe = ldm(project)
    stages = {**recipe.stages, "joint": dataclasses.replace(recipe.stages["joint"], steps=0)}
    found = budgeted(dataclasses.replace(recipe, stages=stages), 10)
    assert sum(stage.minutes for stage in found.stages.values()) == pytest.approx(10)
    assert train.fraction(checkpoint.StageProgress(), found.stages["joint"]) == 1
    with pytest.raises(BadRecipe, match="--minutes"):
        budgeted(recipe, 0)


def test_a_cross_validation_ends_with_a_file_that_evaluate_takes(
    recipe_path: Path, limbs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = limbs / "run/0.002-minutes"
    folds = run / "folds-of-2.yaml"
    for number in (1, 2):
        assert not folds.exists()
        assert main(["train", str(recipe_path), "--fold", f"{number}/2", "--minutes", "0.002"]) == 0
    assert f"all folds: {folds}" in capsys.readouterr().out
    model_of = yaml.safe_load(folds.read_text())
    assert sorted(model_of) == ["A", "B", "C"]
    for name, model in model_of.items():
        [card] = [read_card(path) for path in (run / model).glob("*.json")]
        assert name in card.figures["patients"]
        assert card.name == f"limb-t1-pix2pix-{Path(model).parent.name}"
        assert f"all but {', '.join(card.figures['patients'])}." in card.training_data
        assert card.figures["training"]["train"]["steps"] >= 1
        assert (
            set(card.figures) & {"look_up_table", "reference", "uncertainty"},
            card.uncertainty,
            card.mr_quantiles,
        ) == (
            set(),
            None,
            (),
        )
    arguments = ["--pairs", str(limbs / "pairs"), "--out", str(limbs / "out"), "--pictures", "0"]
    assert main(["evaluate", f"crossed={folds}", *arguments]) == 0
    monkeypatch.delattr(train, "fit")  # a fold that is over is not trained again
    assert main(["train", str(recipe_path), "--fold", "2/2", "--minutes", "0.002"]) == 0


def test_make_measures_the_folds_where_the_trainings_write_them(project: Path) -> None:
    command = ["make", "-n", "cross-validation", "FOLDS=3", "MINUTES=7"]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    loop = re.sub(r"\S+/sct-node", "echo", said[said.index("for fold in") : said.index("done; done") + 10])
    trainings = subprocess.run(["sh", "-c", loop], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(trainings) == 3 * (len(METHODS) + 1)
    recipes = {}
    for training in trainings:
        config, changes = training.split()[1], tuple(re.findall(r"--set (\S+)", training))
        recipe = read_recipe(project / config, changes=changes)
        name = recipe.run.name.removeprefix("limb-t1-")
        assert f"{name}={budgeted(recipe, 7).run}/folds-of-3.yaml" in said
        recipes[name] = recipe
    assert set(recipes) == {*METHODS, "nnunet-quadratic"}
    assert recipes["nnunet-quadratic"].losses.quadratic == recipes["ldm"].losses.quadratic > 0
    plain = dataclasses.replace(recipes["nnunet-quadratic"], run=recipes["nnunet"].run, losses=recipes["nnunet"].losses)
    assert plain == recipes["nnunet"]


def test_make_changes_one_thing_at_a_time_that_the_recipe_has(project: Path) -> None:
    said = subprocess.run(["make", "-n", "ablation"], cwd=project, capture_output=True, text=True, check=True).stdout
    lines = [line for line in said.replace("\\\n", "").splitlines() if "sct-node train" in line]
    changed = [tuple(re.findall(r"--set (\S+)", line)) for line in lines]
    assert len(set(changed)) == len(lines) > 10
    for changes in changed:
        recipe = read_recipe(project / "config/train/limb-t1-ldm.yaml", changes=changes)
        assert (recipe.evaluate, recipe.milestones, recipe.uncertainty) == ((), (), None)
        assert recipe.left_out == read_recipe(project / "config/train/limb-t1-ldm.yaml").validation
        build(recipe.method, recipe.architecture)


def test_more_folds_than_patients_are_refused(recipe_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(recipe_path), "--fold", "1/4"]) == 1
    assert "4 folds need as many patients" in capsys.readouterr().err


def test_the_error_on_the_way_is_that_of_the_average_at_its_step_and_changes_nothing(
    recipe_path: Path, limbs: Path
) -> None:
    changed(recipe_path, validation=["C"])
    train.main(recipe_path, device="cpu")
    plain = torch.load(limbs / "run/train.pt", weights_only=True)
    changed(recipe_path, run=str(limbs / "second"), milestones=[2, 4, 9])
    card = train.main(recipe_path, device="cpu")
    measured = torch.load(limbs / "second/train.pt", weights_only=True)
    for key, value in plain["average"].items():
        assert torch.equal(measured["average"][key], value)
    found = card.figures["milestones"]
    assert [row["step"] for row in found] == [2, 4]
    assert found[-1]["mae"] == pytest.approx(card.figures["steps_1_samples_1"]["mae"], abs=1)  # float16 on the disk
    assert found[0]["mae"] != found[-1]["mae"]


def test_the_time_of_measuring_is_no_training_time(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the test's clock a step takes a minute and a measurement an hour."""
    changed(recipe_path, validation=["C"], milestones=[2])
    clock = [0.0]
    monkeypatch.setattr("models.training.train.time.process_time", lambda: clock[0])
    follow, scores_of = train.follow, validation.scores_of

    def a_minute(*given: Any) -> None:
        clock[0] += 60
        follow(*given)

    def an_hour(*given: Any) -> dict[str, dict[str, float]]:
        clock[0] += 3600
        return scores_of(*given)

    monkeypatch.setattr(train, "follow", a_minute)
    monkeypatch.setattr(validation, "scores_of", an_hour)
    card = train.main(recipe_path, device="cpu")
    assert card.figures["training"]["train"]["minutes"] == 4
    assert [(row["step"], row["minutes"]) for row in card.figures["milestones"]] == [(2, 2)]


def test_a_milestone_beyond_the_checkpoint_is_measured_again_after_an_interruption(
    recipe_path: Path, limbs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(recipe_path, validation=["C"], milestones=[1, 3])
    monkeypatch.setattr(train, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(train, "LOG_STEPS", 1)

    def cut(path: Path, progress: checkpoint.StageProgress, *_: Any) -> None:
        if path.name == "train.csv" and progress.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "log", cut)
        with pytest.raises(KeyboardInterrupt):
            train.main(recipe_path, device="cpu")
    assert read(limbs / "run/milestones.csv")["step"] == [1, 3]
    train.main(recipe_path, device="cpu")
    assert read(limbs / "run/milestones.csv")["step"] == [1, 3]
