"""MR and CT of heads from label maps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import simulated
from models.cohort import patients_of
from models.pairs import read_pairs
from models.simulated import HU, Atlas, Look, Tissue, draw_look, simulate

SHAPE = (32, 40, 40)


@pytest.fixture
def ball() -> Atlas:
    """Brain in a skull in fat, in air."""
    distance = np.sqrt(((np.indices(SHAPE) - np.array([[[[15.5]]], [[[19.5]]], [[[19.5]]]])) ** 2).sum(axis=0))
    names = [distance < 5, distance < 9, distance < 13]
    labels = np.select(names, [Tissue.GREY, Tissue.TABLE, Tissue.FAT], Tissue.AIR).astype(np.uint8)
    return Atlas("ball", labels, (1.0, 1.0, 1.0))


def look(seed: int) -> Look:
    return draw_look(np.random.default_rng(seed))


def test_a_look_gives_the_same_pair_twice_and_another_look_another_contrast(ball: Atlas) -> None:
    (mr, hu), (again, hu_again), (other, _) = (simulate(ball, one) for one in (look(1), look(1), look(2)))
    assert np.array_equal(mr, again)
    assert np.array_equal(hu, hu_again)
    core = ball.labels == Tissue.GREY
    assert abs(float(mr[core].mean() / other[core].mean()) - 1) > 0.02


def test_tissues_have_the_hu_of_their_look_and_air_is_air(ball: Atlas) -> None:
    drawn = look(3)
    _, hu = simulate(ball, drawn)
    assert float(hu[14:18, 18:22, 18:22].mean()) == pytest.approx(drawn.hu[Tissue.GREY], abs=6)
    assert float(np.median(hu[:, 0])) == pytest.approx(HU[Tissue.AIR][0], abs=3)
    inner = np.zeros(SHAPE, bool)
    inner[15:17, 19:21, 12:14] = True  # the middle of the table, which the point spread leaves alone
    assert float(hu[inner].mean()) == pytest.approx(drawn.hu[Tissue.TABLE], rel=0.25)


def test_bone_is_dark_and_fat_is_bright_in_every_look(ball: Atlas) -> None:
    for seed in range(5):
        mr, _ = simulate(ball, look(seed))
        bone, fat = (float(np.median(mr[ball.labels == tissue])) for tissue in (Tissue.TABLE, Tissue.FAT))
        assert bone < 0.7 * fat


def test_a_real_mr_and_a_real_ct_are_kept_as_they_are(ball: Atlas) -> None:
    real = np.full(SHAPE, 7, np.float32)
    mr, hu = simulate(Atlas("real", ball.labels, ball.spacing_mm, mr=real, hu=2 * real), look(1))
    assert (mr == 7).all()
    assert (hu == 14).all()


def test_a_map_that_knows_only_skull_gets_tables_and_diploe_and_fat_below_the_skin(ball: Atlas) -> None:
    plain = np.where(ball.labels == Tissue.FAT, Tissue.SOFT, ball.labels).astype(np.uint8)
    refined = atlas._refined(plain, ball.spacing_mm)
    assert set(np.unique(refined)) >= {Tissue.TABLE, Tissue.DIPLOE, Tissue.FAT}
    assert (refined[plain == Tissue.AIR] == Tissue.AIR).all()


def test_pairs_are_written_as_recipes_read_them(ball: Atlas, tmp_path: Path) -> None:
    simulated.write_pairs([ball], tmp_path, draws=2, seed=1, spacing_mm=1.0)
    assert [one.name for one in patients_of(tmp_path, "names")] == ["ball-0", "ball-1"]
    first, second = read_pairs(tmp_path, ["ball-0", "ball-1"], (-1024, 3071))
    assert first.hu.shape == SHAPE
    assert not np.array_equal(first.mr, second.mr)


def test_the_heads_of_the_data_hold_brain_in_a_skull_in_air(sct_data: Path) -> None:
    for atlas in atlas._real_ct(sct_data / "ct"):
        share = np.bincount(atlas.labels.ravel(), minlength=12) / (atlas.labels != Tissue.AIR).sum()
        brain = share[Tissue.WHITE] + share[Tissue.GREY] + share[Tissue.CSF]
        assert 0.2 < brain < 0.7
        assert 0.1 < share[Tissue.TABLE] + share[Tissue.DIPLOE] < 0.35
        assert atlas.hu is not None
        assert float(np.median(atlas.hu[atlas.labels == Tissue.GREY])) == pytest.approx(38, abs=15)


def test_the_command_needs_a_folder_of_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.simulated", str(tmp_path), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "colin27" in ended.stderr
