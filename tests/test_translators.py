"""Every method in small: it learns, goes on after an interruption, is saved, loaded, and predicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from models import train
from models.card import read_card
from models.methods import METHODS
from models.nnunet import topology
from models.weights import load_model

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
    assert first.hu.shape == first.sd.shape == mr.shape
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


def test_the_plan_of_thick_slices_halves_rows_and_columns_first() -> None:
    levels = topology((3.27, 0.977, 0.977), (32, 80, 80))
    assert levels.kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert levels.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert levels.multiple() == (8, 16, 16)
