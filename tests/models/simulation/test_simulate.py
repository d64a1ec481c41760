"""MR and CT of heads from label maps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.data.pairs import read_pairs
from models.data.patients import patients_of
from models.simulation import head_atlas as heads
from models.simulation import simulate as simulated
from models.simulation.head_atlas import Atlas, HeadTissue
from models.simulation.simulate import HU, Look, draw_look, sensitivity, simulate

SHAPE = (32, 40, 40)


@pytest.fixture
def ball() -> Atlas:
    """Brain in a skull in fat, in air."""
    distance = np.sqrt(((np.indices(SHAPE) - np.array([[[[15.5]]], [[[19.5]]], [[[19.5]]]])) ** 2).sum(axis=0))
    names = [distance < 5, distance < 9, distance < 13]
    labels = np.select(names, [HeadTissue.GREY, HeadTissue.TABLE, HeadTissue.FAT], HeadTissue.AIR).astype(np.uint8)
    return Atlas("ball", labels, (1.0, 1.0, 1.0))


def look(seed: int) -> Look:
    return draw_look(np.random.default_rng(seed))


def test_a_look_gives_the_same_pair_twice_and_another_look_another_contrast(ball: Atlas) -> None:
    (mr, hu), (again, hu_again), (other, _) = (simulate(ball, one) for one in (look(1), look(1), look(2)))
    assert np.array_equal(mr, again)
    assert np.array_equal(hu, hu_again)
    core = ball.labels == HeadTissue.GREY
    assert abs(float(mr[core].mean() / other[core].mean()) - 1) > 0.02


def test_tissues_have_the_hu_of_their_look_and_air_is_air(ball: Atlas) -> None:
    drawn = look(3)
    _, hu = simulate(ball, drawn)
    assert float(hu[14:18, 18:22, 18:22].mean()) == pytest.approx(drawn.hu[HeadTissue.GREY], abs=6)
    assert float(np.median(hu[:, 0])) == pytest.approx(HU[HeadTissue.AIR][0], abs=3)
    inner = np.zeros(SHAPE, bool)
    inner[15:17, 19:21, 12:14] = True  # the middle of the table, which the point spread leaves alone
    assert float(hu[inner].mean()) == pytest.approx(drawn.hu[HeadTissue.TABLE], rel=0.25)


def test_bone_is_dark_and_fat_is_bright_in_every_look(ball: Atlas) -> None:
    for seed in range(5):
        mr, _ = simulate(ball, look(seed))
        bone, fat = (float(np.median(mr[ball.labels == tissue])) for tissue in (HeadTissue.TABLE, HeadTissue.FAT))
        assert bone < 0.7 * fat


def test_the_coil_receives_less_from_the_depth_and_from_below_its_end(ball: Atlas) -> None:
    uneven = replace(look(1), coil=1.5, neck=0.0)
    received = sensitivity(ball, uneven)
    assert received[16, 20, 8] == pytest.approx(1, abs=0.1)
    assert received[16, 20, 20] < 0.7 * received[16, 20, 8]
    tall = Atlas("tall", np.full((200, 9, 9), HeadTissue.SOFT, np.uint8), (1.0, 1.0, 1.0))
    received = sensitivity(tall, replace(look(1), coil=0.0, neck=1.0))
    assert received[100, 4, 4] == 1
    assert received[0, 4, 4] == pytest.approx(np.exp(-69 / 80), rel=0.01)


def test_a_field_of_view_that_ends_at_the_neck_cuts_both_images(ball: Atlas) -> None:
    mr, hu = simulate(ball, replace(look(1), kept_mm=12))
    assert mr.shape == hu.shape == (32 - (28 - 12), 40, 40)


def test_thick_slices_blur_the_mr_along_one_axis_and_leave_the_ct_alone(ball: Atlas) -> None:
    sharp, thick = (simulate(ball, replace(look(1), thick_mm=mm, thick_axis=2)) for mm in (0, 5))
    across, along = (np.abs(np.diff(sharp[0] - thick[0], axis=axis)).mean() for axis in (1, 2))
    assert along > across
    assert np.array_equal(sharp[1], thick[1])


def test_lobules_of_fat_lie_in_the_depth_of_soft_tissue_in_both_images() -> None:
    block = Atlas("block", np.pad(np.full((30, 30, 30), HeadTissue.MUSCLE, np.uint8), 4), (1.0, 1.0, 1.0))
    drawn = replace(look(1), lobes=0.3, coil=0.0, neck=0.0, thick_mm=0.0)
    mr, hu = simulate(block, drawn)
    fat = hu[9:-9, 9:-9, 9:-9] < -40
    assert 0.1 < fat.mean() < 0.5
    assert mr[9:-9, 9:-9, 9:-9][fat].mean() > 1.2 * mr[9:-9, 9:-9, 9:-9][~fat].mean()
    assert (hu[5:7, 9:-9, 9:-9] > -40).all()


def test_what_a_label_map_calls_skull_within_the_brain_is_none() -> None:
    distance = np.sqrt(((np.indices((60, 60, 60)) - 29.5) ** 2).sum(axis=0))
    labels = np.select([distance < 20, distance < 24], [HeadTissue.GREY, HeadTissue.TABLE], HeadTissue.AIR).astype(
        np.uint8
    )
    labels[30, 25:35, 30] = HeadTissue.TABLE
    within = heads.within_brain(labels, (1.0, 1.0, 1.0))
    assert within[30, 25:35, 30].all()
    assert not within[distance >= 20].any()


def test_voxels_half_air_and_half_skin_are_no_fat_and_the_edge_of_bone_is_no_marrow() -> None:
    labels = np.full((9, 9, 24), HeadTissue.AIR, np.uint8)
    labels[..., 4:5], labels[..., 5:9], labels[..., 9:20] = HeadTissue.FAT, HeadTissue.MUSCLE, HeadTissue.DIPLOE
    sound = heads.sound(labels)
    assert (sound[..., 4] == HeadTissue.SOFT).all()
    assert (sound[..., 9] == HeadTissue.TABLE).all()
    assert (sound[..., 14] == HeadTissue.DIPLOE).all()


def test_a_real_mr_and_a_real_ct_are_kept_as_they_are(ball: Atlas) -> None:
    real = np.full(SHAPE, 7, np.float32)
    mr, hu = simulate(Atlas("real", ball.labels, ball.spacing_mm, mr=real, hu=2 * real), look(1))
    assert (mr == 7).all()
    assert (hu == 14).all()


def test_a_map_that_knows_only_skull_gets_tables_and_diploe_and_fat_below_the_skin(ball: Atlas) -> None:
    plain = np.where(ball.labels == HeadTissue.FAT, HeadTissue.SOFT, ball.labels).astype(np.uint8)
    refined = heads.refined(plain, ball.spacing_mm)
    assert set(np.unique(refined)) >= {HeadTissue.TABLE, HeadTissue.DIPLOE, HeadTissue.FAT}
    assert (refined[plain == HeadTissue.AIR] == HeadTissue.AIR).all()


def test_pairs_are_written_as_recipes_read_them(ball: Atlas, tmp_path: Path) -> None:
    simulated.write_pairs([ball], tmp_path, draws=2, seed=1, spacing_mm=1.0)
    assert [one.name for one in patients_of(tmp_path, "names")] == ["ball-0", "ball-1"]
    first, second = read_pairs(tmp_path, ["ball-0", "ball-1"], (-1024, 3071))
    assert first.hu.shape == SHAPE
    assert not np.array_equal(first.mr, second.mr)


def test_the_heads_of_the_data_hold_brain_in_a_skull_in_air(sct_data: Path) -> None:
    for atlas in heads.real_ct(sct_data / "ct"):
        share = np.bincount(atlas.labels.ravel(), minlength=12) / (atlas.labels != HeadTissue.AIR).sum()
        brain = share[HeadTissue.WHITE] + share[HeadTissue.GREY] + share[HeadTissue.CSF]
        assert 0.2 < brain < 0.7
        assert 0.1 < share[HeadTissue.TABLE] + share[HeadTissue.DIPLOE] < 0.35
        assert atlas.hu is not None
        assert float(np.median(atlas.hu[atlas.labels == HeadTissue.GREY])) == pytest.approx(38, abs=15)


def test_the_command_needs_a_folder_of_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.simulation.simulate", str(tmp_path), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "colin27" in ended.stderr
