"""A whole training in small: pairs, three stages, interruption, the card at the end."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models.data import pairs
from models.data.patients import read_cohort
from models.data.recipe import BadRecipe, Stage, read_recipe
from models.inference.card import read_card
from models.inference.verify import problems_of
from models.inference.weights import load_model
from models.networks import losses, translator
from models.networks.batches import TrainingStage
from models.networks.latent_diffusion import LatentDiffusion, encode_whole
from models.networks.registry import METHODS
from models.networks.translator import OptimiserStep, Translator
from models.training import checkpoint, train
from models.training.progress import draw, forget_after, read, record

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


@pytest.mark.parametrize(
    "choice",
    [
        {"conditioning": "bridge", "mr_features": 2, "prediction": "velocity"},
        {"conditioning": "paper", "mr_features": 0, "mr_channels": [], "prediction": "epsilon", "schedule": "ddpm"},
    ],
    ids=["bridge", "paper"],
)
def test_an_ldm_of_another_conditioning_learns_and_predicts(
    recipe_path: Path, tmp_path: Path, choice: dict[str, object]
) -> None:
    values = yaml.safe_load(recipe_path.read_text())
    recipe_path.write_text(yaml.safe_dump(values | {"architecture": values["architecture"] | choice}))
    card = train.main(recipe_path, device="cpu")
    assert card.architecture.items() >= choice.items()
    assert problems_of(card, str(tmp_path / "run/model")) == []


def test_a_training_ends_with_weights_a_card_and_its_figures(recipe_path: Path, tmp_path: Path) -> None:
    card = train.main(recipe_path, device="cpu")
    assert load_model(str(tmp_path / "run/model"), "cpu").card == read_card(tmp_path / "run/model/limb-t1-ldm.json")
    assert card.figures["patients"] == ["C"]
    assert card.figures["all_water"]["mae_bone"] == 900
    assert set(card.figures) >= {"look_up_table", "autoencoder_ceiling", "steps_1_samples_1", "steps_2_samples_2"}


def test_what_is_set_takes_the_place_of_the_recipe_s(recipe_path: Path) -> None:
    before = read_recipe(recipe_path)
    changes = ("losses.bone=2.5", "stages.joint.contrast=0.5", "validation=[A]", "run=elsewhere")
    after = read_recipe(recipe_path, changes=changes)
    assert (after.losses.bone, after.stages["joint"].contrast, after.validation) == (2.5, 0.5, ("A",))
    joint = dataclasses.replace(after.stages["joint"], contrast=before.stages["joint"].contrast)
    assert {**after.stages, "joint": joint} == before.stages
    assert read_recipe(recipe_path) == before


@pytest.mark.parametrize("change", ["losses", "nowhere.bone=2", "seed.bone=2", "losses.bone=[", "losses.bones=1"])
def test_a_place_that_a_recipe_has_not_cannot_be_set(recipe_path: Path, change: str) -> None:
    with pytest.raises(BadRecipe):
        read_recipe(recipe_path, changes=(change,))


def test_a_recipe_with_doubt_ends_with_a_model_that_says_it_and_what_it_was_worth(
    recipe_path: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load(recipe_path.read_text())
    recipe_path.write_text(yaml.safe_dump(values | {"uncertainty": {"steps": 30, "hidden": 4}}))
    card = train.main(recipe_path, device="cpu")
    model = load_model(str(tmp_path / "run/model"), "cpu")
    assert model.uncertainty is not None
    assert float(model.uncertainty.factor) == pytest.approx(card.figures["uncertainty"]["factor"], rel=1e-3)
    told = card.figures["uncertainty"]
    assert [one["name"] for one in told["training"] + told["kept_back"]] == ["A", "B", "C"]
    assert list(told["curve"]["expected"]) == sorted(told["curve"]["expected"])
    assert (tmp_path / "run/uncertainty.png").read_bytes().startswith(b"\x89PNG")


def lesson_of(recipe_path: Path, stage: str, *changes: str) -> tuple[LatentDiffusion, TrainingStage]:
    """Networks of a small LDM and one of its stages, of whole patients."""
    recipe = read_recipe(recipe_path, recipe_path.parent, changes)
    networks = checkpoint.Training.begin(recipe, torch.device("cpu")).networks
    assert isinstance(networks, LatentDiffusion)
    patients = [[pair] for pair in read_cohort(recipe)[0]]
    number = LatentDiffusion.stages.index(stage)
    return networks, TrainingStage(
        recipe, stage, number, patients, networks.stride, torch.device("cpu"), torch.nn.ModuleDict()
    )


def test_a_latent_has_mean_0_and_sd_1_in_the_bodies_however_much_air_is_about_them(recipe_path: Path) -> None:
    networks, lesson = lesson_of(recipe_path, "autoencoder")
    networks.on_stage_end(lesson)
    inside, everywhere = [], []
    for (pair,) in lesson.patients:
        latent = encode_whole(networks, lesson, pair)[0]
        everywhere.append(latent.flatten(1))
        inside.append(latent[:, torch.from_numpy(pair.body[:, ::2, ::2] & pair.body[:, 1::2, 1::2])])
    body, field = torch.cat(inside, dim=1), torch.cat(everywhere, dim=1)
    assert body.mean(dim=1).abs().max() < 0.1
    assert (body.std(dim=1) - 1).abs().max() < 0.1
    assert field.std(dim=1).max() > 1.5  # where bodies and air are one population


@pytest.mark.parametrize(("share", "given"), [(0.0, []), (0.25, [3, 7]), (1.0, list(range(8)))])
def test_the_decoder_is_given_the_true_latent_in_a_share_of_the_joint_stage_s_steps(
    recipe_path: Path, share: float, given: list[int]
) -> None:
    networks, lesson = lesson_of(recipe_path, "joint", f"stages.joint.autoencoding={share}")
    (turn,) = networks.turns(lesson)
    found = [turn.losses(step, 0.0) for step in range(8)]
    assert [step for step, parts in enumerate(found) if "autoencoder" in parts] == given
    for step in given:
        patch = lesson.batch(step)
        decoded = networks.decode(networks.encode(patch.ct))
        torch.testing.assert_close(found[step]["autoencoder"], lesson.l1(decoded, patch, 0.0))


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


class Scale(Translator):
    """CT is a learned multiple of the MR; its losses are what a test says."""

    def __init__(self, losses: Callable[[int], torch.Tensor]) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))
        self.losses = losses

    def synthesize(self, mr: torch.Tensor, seed: int, steps: int = 1) -> torch.Tensor:
        del seed, steps
        return self.factor * mr

    def turns(self, lesson: TrainingStage) -> list[OptimiserStep]:
        assert lesson.patients == []
        return [OptimiserStep("scale", [self], lambda step, _: {"loss": self.losses(step) * self.factor})]


def lesson_and_training(
    path: Path, losses: Callable[[int], torch.Tensor], stage: Stage
) -> tuple[TrainingStage, checkpoint.Training]:
    recipe = dataclasses.replace(read_recipe(path), stages={"train": stage})
    recipe.run.mkdir()
    device, network = torch.device("cpu"), Scale(losses)
    training = checkpoint.Training(recipe, network, copy.deepcopy(network), torch.nn.ModuleDict(), device)
    return TrainingStage(recipe, "train", 0, [], (1, 1, 1), device, training.partners), training


def test_a_step_that_is_not_finite_is_left_out_and_counted(recipe_path: Path) -> None:
    bad = {3: float("nan"), 4: float("inf"), 7: float("nan")}
    stage = Stage(steps=10, batch=1, learning_rate=0.1)
    lesson, training = lesson_and_training(recipe_path, lambda step: torch.tensor(bad.get(step, 1.0)), stage)
    train.fit(training, lesson)
    assert training.done["train"].left_out == 3
    assert training.done["train"].step == 10
    assert all(torch.isfinite(parameter) for parameter in training.networks.parameters())
    assert read(lesson.recipe.run / "train.csv")["loss"][0] < 1


def test_a_gradient_that_is_not_finite_moves_nothing_even_where_the_loss_is(recipe_path: Path) -> None:
    stage = Stage(steps=2, batch=1, learning_rate=0.1)
    _, training = lesson_and_training(recipe_path, lambda _: torch.ones(()), stage)
    assert isinstance(training.networks, Scale)
    training.networks.factor.data.zero_()  # sqrt(0) is 0, its slope is not finite
    turn = OptimiserStep(
        "scale", [training.networks], lambda *_: {"loss": training.networks.get_parameter("factor").sqrt()}
    )
    optimisers = train.optimisers_of([turn], stage)
    train.take_step(training, [turn], optimisers, progress := checkpoint.StageProgress(), 0.0, 0.1, {})
    assert progress.left_out == 1
    assert training.networks.factor == 0


def test_twenty_steps_in_a_row_that_are_not_finite_end_the_training_by_name(recipe_path: Path) -> None:
    stage = Stage(steps=100, batch=1, learning_rate=0.1)
    lesson, training = lesson_and_training(
        recipe_path, lambda step: torch.tensor(float("nan") if step >= 5 else 1.0), stage
    )
    with pytest.raises(train.Diverged, match="20 steps in a row, the last of them 25"):
        train.fit(training, lesson)


def test_a_time_budget_ends_a_stage_and_bends_its_learning_rate(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step takes 6 seconds of the clock that the test keeps: 1 minute is 10 steps."""
    seconds = iter(range(0, 10_000, 6))
    monkeypatch.setattr("models.training.train.time.process_time", lambda: float(next(seconds)))
    stage = Stage(steps=1000, batch=1, learning_rate=0.1, minutes=1.0, warm_up=1)
    lesson, training = lesson_and_training(recipe_path, lambda _: torch.ones(()), stage)
    train.fit(training, lesson)
    assert training.done["train"].step == 10
    half = checkpoint.StageProgress(step=5, minutes=0.5)
    assert train.learning_rate(half, stage) == pytest.approx(0.1 * (0.02 + 0.98 * 0.5))
    assert train.learning_rate(checkpoint.StageProgress(10, 1.0), stage) == pytest.approx(0.1 * 0.02)


def test_a_checkpoint_is_written_after_ten_minutes_however_few_the_steps(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 10_000, 240))  # 4 minutes a step
    monkeypatch.setattr("models.training.train.time.process_time", lambda: float(next(seconds)))
    stage = Stage(steps=9, batch=1, learning_rate=0.1)
    lesson, training = lesson_and_training(recipe_path, lambda _: torch.ones(()), stage)
    saved: list[int] = []
    monkeypatch.setattr(training, "save", lambda *said: saved.append(said[1].step))
    train.fit(training, lesson)
    assert saved == [3, 6, 9]


def test_in_a_turn_only_its_own_networks_get_gradients() -> None:
    stage = Stage(steps=1, batch=1, learning_rate=0.1)
    mine, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def both(*_: float) -> dict[str, torch.Tensor]:
        return {"loss": (mine(torch.ones(1)) + other(torch.ones(1))).sum()}

    turns = [OptimiserStep("mine", [mine], both), OptimiserStep("other", [other], both)]
    train.take_turn(turns[0], turns, train.optimisers_of(turns, stage)["mine"], (0, 0.0), {})
    assert mine.weight.grad is not None
    assert other.weight.grad is None


@pytest.mark.parametrize(("slices", "bfloat16", "refused"), [(2, True, True), (2, False, False), (3, True, False)])
def test_a_convolution_whose_bfloat16_gradient_is_garbage_is_refused(
    slices: int, bfloat16: bool, refused: bool
) -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, (3, 3, 3), padding=1))
    translator.watch(network)
    expected = pytest.raises(BadRecipe, match="sees 2") if refused else contextlib.nullcontext()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), expected:
        network(torch.zeros(1, 1, slices, 8, 8))
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), torch.no_grad():
        network(torch.zeros(1, 1, slices, 8, 8))  # forward it is right


@pytest.mark.parametrize("slices", [1, 3, 4])
def test_gradients_in_bfloat16_that_are_not_refused_are_those_of_float32(slices: int) -> None:
    torch.manual_seed(0)
    layer, x = torch.nn.Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, slices, 8, 8)
    translator.watch(layer)
    wanted = torch.randn(2, 8, slices, 8, 8)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            (layer(x).float() * wanted).sum().backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.02 * float(gradients[0].abs().max()), rtol=0)


def test_curves_beyond_a_checkpoint_are_forgotten_when_the_training_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    for step in (50, 100, 150):
        record(path, {"step": step, "minutes": step / 100, "rate": 0.1, "l1": 1 / step})
    forget_after(path, 100)
    assert read(path)["step"] == [50, 100]
    draw([path, tmp_path / "absent.csv"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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


def test_where_no_ct_lies_there_is_no_body_no_air_and_no_weight_in_any_loss() -> None:
    hu = np.full((4, 60, 60), -1000, np.int16)
    hu[:, 10:30, 10:50] = 40
    mr = np.where(hu == 40, 900, 0).astype(np.int16)
    hu[:, 10:16] = pairs.UNKNOWN_HU
    hu[:, 20:24, 20:30] = pairs.UNKNOWN_HU  # enclosed, as a hole of the CT's body would be
    pair = pairs.make_pair("A", mr, hu, (3.0, 1.0, 1.0), (-1024, 3071))
    assert pair.known is not None
    assert np.array_equal(~pair.known, hu == pairs.UNKNOWN_HU)
    assert np.array_equal(pair.body[:, :30, 10:50], (hu == 40)[:, :30, 10:50])
    assert pair.hu.min() >= -1024
    patch = pairs.cut_patch(pair, (0, 0, 0), (4, 60, 64))
    assert (patch.weight[..., 10:16, :60] == 0).all()
    assert (patch.weight[..., 10:16, 60:] > 0).all()  # beyond the image lies air, which is known
    wrong = torch.where(patch.weight == 0, 3.0, patch.ct)
    assert losses.masked_l1(wrong, patch, bone_weight=1.0) == 0


def test_of_a_ct_that_is_everywhere_nothing_is_unknown() -> None:
    hu = np.full((4, 20, 20), 40, np.int16)
    assert pairs.make_pair("A", hu, hu, (3.0, 1.0, 1.0), (-1024, 3071)).known is None


def test_a_patch_beyond_the_image_is_air_of_little_weight() -> None:
    pair = pairs.Pair(
        "A", np.ones((2, 4, 4), np.float16), np.full((2, 4, 4), 40, np.int16), np.ones((2, 4, 4), bool), (3, 1, 1)
    )
    patch = pairs.cut_patch(pair, (0, 0, 0), (4, 4, 8))
    assert patch.ct[0, 0, 0, 0, 7] == -1
    assert patch.mr[0, 0, 3].max() == 0
    assert patch.weight[0, 0, 0, 0].tolist() == pytest.approx([1] * 4 + [0.2] * 4)
