"""Every method in small: it learns, goes on after an interruption, is saved, loaded, and predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.data.pairs import Pair
from models.data.recipe import BadRecipe, read_recipe
from models.inference.card import BadCard, read_card
from models.inference.weights import fill, load_model, weights_of
from models.networks import losses
from models.networks.batches import TrainingStage
from models.networks.cyclegan import CycleGan
from models.networks.nnunet import Fingerprint, Topology, plan_channels, plan_patch, topology
from models.networks.pix2pix import Pix2Pix
from models.networks.registry import METHODS, build, method_of
from models.networks.regression import Regression, SwinUnetr, starts, translate_in_tiles
from models.training import train

TINY: dict[str, dict[str, Any]] = {
    "nnunet": {"voxels": 2048, "parameters": 30_000},
    "swinunetr": {"features": 12, "depths": [1, 1, 1, 1], "heads": [1, 1, 1, 1], "window": 2, "tile": [32, 64, 32]},
    "pix2pix": {"channels": [4, 8, 8], "strides": [[1, 2, 2], [1, 2, 2]], "tile": [4, 16, 16]},
    "cyclegan": {"channels": [4, 8], "strides": [[1, 2, 2]], "blocks": 1, "tile": [4, 16, 16]},
}
"""Architecture of each method in its tiny recipe."""
STEPS = 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other are slower than one, for networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(TINY))
def recipe_path(request: pytest.FixtureRequest, project: Path, limbs: Path) -> Path:
    """The recipe of limb-t1-<method>, its networks and its patients tiny."""
    values = yaml.safe_load((project / f"config/train/limb-t1-{request.param}.yaml").read_text())
    patch = {} if request.param == "nnunet" else {"patch": TINY[request.param]["tile"]}
    stage = {"steps": STEPS, "batch": 2, "learning_rate": 1e-3, "warm_up": 1, **patch}
    values |= {
        "pairs": "pairs",
        "validation": ["C"],
        "copies": 2,
        "precision": "float32",  # the same numbers twice
        "run": str(limbs / "run"),
        "stages": dict.fromkeys(values["stages"], stage),
        "architecture": TINY[request.param],
    }
    values["card"]["spacing_mm"] = [3.0, 1.0, 1.0]
    path = limbs / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_method_learns_is_saved_loaded_and_predicts_any_size(recipe_path: Path, limbs: Path) -> None:
    card = train.main(recipe_path, device="cpu")
    model = load_model(str(limbs / "run/model"), "cpu")
    assert isinstance(model.networks, METHODS[card.method])
    assert model.card == read_card(limbs / f"run/model/{card.name}.json")
    mr = np.zeros((11, 45, 37), dtype=np.float32)
    mr[:, 8:38, 8:30] = 500
    first, again = model.predict(mr, seed=1), model.predict(mr, seed=1)
    assert first.hu.shape == mr.shape
    assert np.array_equal(first.hu, again.hu)
    assert (first.hu[first.body] != -1000).any()
    assert all(effort["steps"] == STEPS for effort in card.figures["training"].values())
    assert (limbs / "run/curves.png").is_file()


def test_an_interrupted_method_ends_where_an_uninterrupted_one_ends(
    recipe_path: Path, limbs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.main(recipe_path, device="cpu")
    last = list(yaml.safe_load(recipe_path.read_text())["stages"])[-1]
    whole = torch.load(limbs / f"run/{last}.pt", weights_only=True)

    class PowerCut(Exception):
        pass

    monkeypatch.setattr(train, "CHECKPOINT_STEPS", STEPS // 2)
    follow = train.follow

    def cut(average: torch.nn.Module, networks: torch.nn.Module, step: int) -> None:
        follow(average, networks, step)
        if step == STEPS - 1:
            raise PowerCut

    recipe_path.write_text(recipe_path.read_text().replace(str(limbs / "run"), str(limbs / "second")))
    monkeypatch.setattr(train, "follow", cut)
    with pytest.raises(PowerCut):
        train.main(recipe_path, device="cpu")
    monkeypatch.setattr(train, "follow", follow)
    train.main(recipe_path, device="cpu")
    resumed = torch.load(limbs / f"second/{last}.pt", weights_only=True)
    for part in ("average", "partners"):
        for key, value in whole[part].items():
            torch.testing.assert_close(resumed[part][key], value)


def lesson_of(name: str, project: Path, patients: int = 3) -> TrainingStage:
    """A lesson by the recipe of limb-t1-<name> on patients whose voxels say who they are."""
    recipe = read_recipe(project / f"config/train/limb-t1-{name}.yaml")
    shape = (6, 20, 20)
    copies = [
        [
            Pair(
                f"P{number}",
                np.full(shape, number / 10, np.float16),
                np.full(shape, 100 * number, np.int16),
                np.ones(shape, bool),
                (3.0, 1.0, 1.0),
            )
        ]
        for number in range(1, patients + 1)
    ]
    stage = dataclasses.replace(recipe.stages["train"], patch=(4, 16, 16), batch=2, contrast=0.0)
    recipe = dataclasses.replace(recipe, stages={"train": stage})
    return TrainingStage(recipe, "train", 0, copies, (1, 1, 1), torch.device("cpu"), torch.nn.ModuleDict())


def test_unpaired_batches_never_hold_mr_and_ct_of_one_patient(project: Path) -> None:
    lesson = lesson_of("cyclegan", project)
    met = set()
    for step in range(60):
        patch = lesson.unpaired(step)
        for mr, ct in zip(patch.mr, patch.ct, strict=True):
            met.add((round(float(mr.max()) * 10), round(float(ct.max()) * 10)))
    assert met == {(mr, ct) for mr in (1, 2, 3) for ct in (1, 2, 3) if mr != ct}


def test_paired_batches_always_hold_mr_and_ct_of_one_patient(project: Path) -> None:
    lesson = lesson_of("pix2pix", project)
    for step in range(20):
        patch = lesson.batch(step)
        assert torch.allclose(patch.mr.amax((1, 2, 3, 4)), patch.ct.amax((1, 2, 3, 4)), atol=1e-3)


def test_a_recipes_loss_narrows_as_its_stage_goes_on(project: Path) -> None:
    lesson = lesson_of("pix2pix", project)
    weights = dataclasses.replace(lesson.recipe.losses, l1=3.0, bone=1.0, quadratic=0.5)
    lesson = dataclasses.replace(lesson, recipe=dataclasses.replace(lesson.recipe, losses=weights))
    lesson = dataclasses.replace(lesson, partners=Pix2Pix.partners(lesson.recipe))
    patch = lesson.batch(0)
    generator, _ = Pix2Pix(**TINY["pix2pix"]).eval().turns(lesson)
    for over, width in ((0.0, 0.5), (1.0, 0.02)):
        found = lesson.l1(patch.mr, patch, over)
        assert found.item() == pytest.approx(3 * losses.masked_l1(patch.mr, patch, 1.0, width).item())
    assert generator.losses(0, 1.0)["l1"] > generator.losses(0, 0.0)["l1"] + 1e-4


def test_one_patient_is_too_few_for_unpaired_learning(project: Path) -> None:
    with pytest.raises(ValueError, match="two patients"):
        lesson_of("cyclegan", project, patients=1).unpaired(0)


def test_cyclegan_sees_no_pair_whatever_the_step(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its losses are computed with `batch` taken away."""
    lesson = lesson_of("cyclegan", project)
    recipe = dataclasses.replace(lesson.recipe, architecture=TINY["cyclegan"])
    lesson = dataclasses.replace(lesson, recipe=recipe, partners=CycleGan.partners(recipe))
    monkeypatch.delattr(TrainingStage, "batch")
    generators, critics = CycleGan(**TINY["cyclegan"]).turns(lesson)
    assert set(generators.losses(0, 0.0)) == {"generator", "cycle", "identity"}
    assert set(critics.losses(0, 0.0)) == {"discriminator_ct", "discriminator_mr"}


@pytest.mark.parametrize(
    ("spacing_mm", "patch", "kernels", "strides"),
    [
        (
            (3.27, 0.977, 0.977),
            (40, 64, 80),
            ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
            ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        ),
        (
            (1.0, 1.0, 1.0),
            (64, 64, 64),
            ((3, 3, 3),) * 5,
            ((1, 1, 1), *((2, 2, 2),) * 4),
        ),
        (
            (5.0, 0.5, 0.5),
            (12, 64, 64),
            ((1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
            ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)),
        ),
    ],
)
def test_an_axis_is_halved_and_convolved_once_its_spacing_is_near_the_finest(
    spacing_mm: tuple[float, float, float],
    patch: tuple[int, int, int],
    kernels: tuple[tuple[int, int, int], ...],
    strides: tuple[tuple[int, int, int], ...],
) -> None:
    assert topology(spacing_mm, patch) == Topology(kernels, strides)


@given(
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    size=st.tuples(*[st.integers(16, 200)] * 3),
    voxels=st.integers(20_000, 2_000_000),
)
@example(spacing=(1.0, 1.0, 1.0), size=(16, 256, 320), voxels=20_000)
@settings(max_examples=25, deadline=None)
def test_a_planned_patch_fits_its_budget_and_its_network(
    spacing: tuple[float, float, float], size: tuple[int, int, int], voxels: int
) -> None:
    patch = plan_patch(Fingerprint(spacing, size), voxels)
    assert np.prod(patch) <= voxels
    levels = topology(spacing, patch)
    assert all(length % multiple == 0 for length, multiple in zip(patch, levels.multiple(), strict=True))
    assert all(length // multiple >= 4 for length, multiple in zip(patch, levels.multiple(), strict=True))


def test_the_widest_channels_within_the_budget_are_taken() -> None:
    levels = topology((1.0, 1.0, 1.0), (64, 64, 64))
    channels = plan_channels(levels, 4_900_000)
    assert channels == [16, 32, 64, 128, 160]
    with pytest.raises(ValueError, match="narrowest"):
        plan_channels(levels, 1000)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_weights_of_every_recipe_take_at_most_ten_megabytes(method: str, project: Path) -> None:
    recipe = read_recipe(project / f"config/train/limb-t1-{method}.yaml")
    if method == "nnunet":
        shape = (59, 127, 137)
        empty = np.zeros(shape, np.float16)
        pair = Pair("A", empty, empty.astype(np.int16), empty > 0, (3.27, 0.977, 0.977))
        recipe = METHODS[method].plan(recipe, [pair])
    weights = weights_of(build(method, recipe.architecture))
    assert sum(value.numel() for value in weights.values()) <= 5_000_000


def test_tiles_cover_an_image_of_any_size_and_overlap_by_half() -> None:
    for extent in range(1, 100):
        first = starts(extent, 16)
        assert first[0] == 0
        assert first[-1] + 16 >= extent
        assert all(0 < later - earlier <= 8 for earlier, later in pairwise(first))


@given(shape=st.tuples(*[st.integers(1, 40)] * 3))
@settings(max_examples=15, deadline=None)
def test_a_network_of_single_voxels_says_the_same_in_tiles_as_of_the_whole(shape: tuple[int, int, int]) -> None:
    image = torch.rand(1, 1, *shape)
    tiled = translate_in_tiles(lambda x: 3 * x.square() - 1, image, (4, 16, 12))
    torch.testing.assert_close(tiled, 3 * image.square() - 1, atol=1e-5, rtol=0)


def test_away_from_the_edges_convolutions_in_tiles_equal_the_whole_to_a_fraction_of_a_hu() -> None:
    """A receptive field of 7 voxels in tiles of 48: what a tile lacks at its rim weighs a thousandth."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.Conv3d(4, 4, 3, padding=1),
        torch.nn.Conv3d(4, 1, 3, padding=1),
    ]
    network = torch.nn.Sequential(*layers)
    image = torch.rand(1, 1, 12, 100, 100)
    with torch.inference_mode():
        difference = translate_in_tiles(network, image, (12, 48, 48)) - network(image)
    assert 1000 * difference.abs().max() < 0.5
    assert 1000 * difference.abs().mean() < 0.05


@pytest.mark.parametrize("method", ["nnunet", "swinunetr", "pix2pix", "cyclegan"])
def test_an_image_of_a_tiles_size_is_translated_as_it_is(method: str) -> None:
    torch.manual_seed(0)
    architecture = TINY[method]
    if method == "nnunet":
        levels = topology((3.0, 1.0, 1.0), (8, 16, 16))
        architecture = {
            "kernels": levels.kernels,
            "strides": levels.strides,
            "channels": [4, 8, 8],
            "tile": (8, 16, 16),
        }
    network = build(method, architecture).eval()
    assert isinstance(network, Regression)
    mr = torch.rand(network.tile)
    hu = network.synthesize(mr, seed=0)
    with torch.inference_mode():
        whole = 1000 * network(mr[None, None])[0, 0]
    torch.testing.assert_close(hu, whole, atol=1e-2, rtol=0)


def test_a_swin_unetr_whose_tile_cannot_be_halved_five_times_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        SwinUnetr(**{**TINY["swinunetr"], "tile": [16, 64, 64]})


def test_weights_that_do_not_fit_the_cards_architecture_are_refused(limbs: Path) -> None:
    network = build("pix2pix", TINY["pix2pix"])
    with pytest.raises(BadCard, match="does not fit"):
        fill(weights_of(build("cyclegan", TINY["cyclegan"])), weights_of(network), "tiny")


def test_a_method_that_is_not_known_and_stages_of_another_are_refused(project: Path) -> None:
    recipe = read_recipe(project / "config/train/limb-t1-nnunet.yaml")
    with pytest.raises(BadRecipe, match="method: must be one of ldm, nnunet"):
        method_of(dataclasses.replace(recipe, method="gan"))
    with pytest.raises(BadRecipe, match="stages: must be autoencoder"):
        method_of(dataclasses.replace(recipe, method="ldm"))
