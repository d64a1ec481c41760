"""What is changed of a pair is changed of MR, CT and body alike, and is the same twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.data import augmentation, pairs
from models.data.augmentation import KNOTS, Acquisition, Warp
from models.data.pairs import Pair, Patch
from models.data.recipe import BadRecipe, read_recipe
from models.networks.batches import TrainingStage
from models.networks.latent_diffusion import LatentDiffusion

RECIPE = Path(__file__).parents[3] / "config" / "train" / "limb-t1-nnunet.yaml"
SIZE = (6, 24, 20)
STILL = (0.0,) * (3 * KNOTS**3)


def ball() -> Pair:
    """A ball of 900 HU and MR 1 in air, off the centre, on thick slices."""
    s, r, c = np.indices((8, 40, 36))
    inside = (9 * (s - 4) ** 2 + (r - 17) ** 2 + (c - 20) ** 2) < 100
    hu = np.where(inside, 900, -1000).astype(np.int16)
    return Pair("A", inside.astype(np.float16), hu, inside, (3.0, 1.0, 1.0))


def test_a_deformation_moves_mr_ct_and_body_alike() -> None:
    random = np.random.default_rng(4)
    hu = np.zeros((6, 40, 40), np.int16)
    hu[:, 12:20, 25:33] = 900
    pair = pairs.Pair("A", (hu / 900).astype(np.float16), hu, hu > 500, (3.0, 1.0, 1.0))
    moved = augmentation.deform(pair, augmentation.draw_deformation(random))
    assert not np.array_equal(moved.hu, hu)
    seen = moved.hu >= 0  # beyond the image the MR has no signal and the CT is air
    np.testing.assert_allclose(moved.mr.astype(float)[seen] * 900, moved.hu[seen], atol=2)
    agreement = (moved.body == (moved.hu > 450)).mean()
    assert agreement > 0.99


def test_a_deformation_scales_in_mm_about_the_centre_and_a_mirror_keeps_sizes() -> None:
    """A block of 12 x 16 x 16 mm about the centre, on slices of 3 mm."""
    hu = np.full((10, 40, 40), -1000, np.int16)
    hu[3:7, 12:28, 12:28] = 900
    pair = pairs.Pair("A", (hu > 0).astype(np.float16), hu, hu > 0, (3.0, 1.0, 1.0))
    for mirror in (False, True):
        made = augmentation.deform(pair, augmentation.Deformation(mirror, mirror, 0.0, (1.5, 0.5, 1.25)))
        sizes = [np.ptp(where) + 1 for where in np.nonzero(made.body)]
        assert sizes == [6, 8, 20]


def test_a_drawn_contrast_gives_the_same_mr_twice_and_keeps_its_range() -> None:
    change = augmentation.draw_contrast(np.random.default_rng(1))
    mr = torch.rand(1, 1, 4, 8, 8) * 2
    first = augmentation.apply_contrast(mr, change)
    assert torch.equal(first, augmentation.apply_contrast(mr, change))
    assert first.min() >= 0
    assert first.max() <= 2


def test_a_warp_of_no_strength_cuts_the_same_patch() -> None:
    pair = ball()
    still = augmentation.draw_warp(np.random.default_rng(1), 0.0)
    for corner in ((0, 0, 0), (1, 8, 12), (4, 30, 30)):
        plain, warped = pairs.cut_patch(pair, corner, SIZE), augmentation.warped_patch(pair, corner, SIZE, still)
        for name in ("mr", "ct", "weight"):
            torch.testing.assert_close(getattr(warped, name), getattr(plain, name), atol=1e-4, rtol=0)


def test_what_is_unknown_of_a_ct_is_moved_with_it_and_one_voxel_wider_where_it_is_interpolated() -> None:
    known = np.ones((8, 40, 36), bool)
    known[:, 22:] = False
    pair = dataclasses.replace(ball(), known=known)
    mirrored = augmentation.deform(pair, augmentation.Deformation(True, False, 0.0, (1.0, 1.0, 1.0)))
    assert mirrored.known is not None
    assert np.array_equal(mirrored.known, known[:, ::-1])
    patch = augmentation.warped_patch(pair, (1, 6, 8), SIZE, Warp((0, 0, 0), (1, 1, 1), (0.0, 0.5, 0.0) * KNOTS**3))
    assert (patch.weight[0, 0, :, 15:] == 0).all()  # rows 21.5 and on
    assert (patch.weight[0, 0, :, :15] > 0).all()
    whole = augmentation.warped_patch(ball(), (1, 6, 8), SIZE, Warp((0, 0, 0), (1, 1, 1), (0.0, 0.5, 0.0) * KNOTS**3))
    assert torch.equal(whole.weight[0, 0, :, :15], patch.weight[0, 0, :, :15])


@pytest.mark.parametrize("seed", range(5))
def test_a_warp_moves_mr_ct_and_body_alike(seed: int) -> None:
    pair = ball()
    warp = augmentation.draw_warp(np.random.default_rng(seed))
    patch = augmentation.warped_patch(pair, (1, 6, 8), SIZE, warp)
    assert not torch.equal(patch.mr, pairs.cut_patch(pair, (1, 6, 8), SIZE).mr)
    torch.testing.assert_close(patch.ct, patch.mr * 1.9 - 1.0, atol=1e-3, rtol=0)
    assert torch.equal(patch.weight == 1.0, patch.mr > 0.5)


def test_a_push_and_a_scale_are_millimetres_about_the_centre() -> None:
    pushed = Warp((0, 0, 0), (1, 1, 1), (3.0, -2.0, 1.0) * KNOTS**3)
    there = augmentation.places(pushed, (2, 5, 7), SIZE, (3.0, 1.0, 0.5))
    assert there[0, 0, 0].tolist() == pytest.approx([3, 3, 9])
    larger = augmentation.places(Warp((0, 0, 0), (1, 2, 1), STILL), (0, 0, 0), SIZE, (3.0, 1.0, 1.0))
    assert larger[0, :, 0, 1].diff().tolist() == pytest.approx([0.5] * 23)
    assert float(larger[..., 1].mean()) == pytest.approx(11.5)


def test_a_turn_about_the_slice_axis_keeps_distances_in_mm_and_slices() -> None:
    there = augmentation.places(Warp((90, 0, 0), (1, 1, 1), STILL), (0, 0, 0), (3, 5, 5), (3.0, 1.0, 2.0))
    assert there[1, 2, 2].tolist() == pytest.approx([1, 2, 2])
    np.testing.assert_allclose(there[2, ..., 0], 2, atol=1e-5)
    assert abs(float(there[1, 2, 3, 1] - there[1, 2, 2, 1])) == pytest.approx(2)  # 2 mm of a column are 2 rows


def test_what_was_acquired_in_full_stays_as_it_is() -> None:
    patch = pairs.cut_patch(ball(), (0, 0, 0), SIZE)
    kept = augmentation.acquire(patch, Acquisition((1, 1, 1), None))
    assert torch.equal(kept.ct, patch.ct)
    torch.testing.assert_close(kept.mr, patch.mr, atol=1e-5, rtol=0)


def test_a_coarser_mr_is_smoother_and_its_ct_is_not() -> None:
    patch = pairs.cut_patch(ball(), (1, 6, 8), SIZE)
    coarse = augmentation.acquire(patch, Acquisition((1, 2, 2), None))
    assert torch.equal(coarse.ct, patch.ct)
    assert coarse.mr.diff(dim=4).abs().max() < 0.8 * patch.mr.diff(dim=4).abs().max()


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("end", [0, 1])
def test_beyond_the_field_of_view_there_is_no_signal_and_no_weight(axis: int, end: int) -> None:
    whole = Patch(torch.ones(1, 1, *SIZE), torch.full((1, 1, *SIZE), 0.04), torch.ones(1, 1, *SIZE))
    cut = augmentation.acquire(whole, Acquisition((1, 1, 1), (axis, end, 0.25)))
    gone = round(0.25 * SIZE[axis])
    beyond, seen = [image.narrow(2 + axis, (SIZE[axis] - gone) * end, gone) for image in _parts(cut)], _parts(cut)
    assert [float(image.max()) for image in beyond] == pytest.approx([0, 0.04, 0])
    assert int((seen[0] == 0).sum()) == int((seen[2] == 0).sum()) == beyond[0].numel()


def _parts(patch: Patch) -> list[torch.Tensor]:
    return [patch.mr, patch.ct, patch.weight]


def test_draws_at_strength_one_cut_some_patches_and_none_at_zero() -> None:
    generator = np.random.default_rng(3)
    drawn = [augmentation.draw_acquisition(generator) for _ in range(400)]
    assert 20 < sum(change.cut is not None for change in drawn) < 90
    assert all(1 <= factor <= 2 for change in drawn for factor in change.coarser)
    still = [augmentation.draw_acquisition(generator, 0.0) for _ in range(50)]
    assert {(change.coarser, change.cut) for change in still} == {((1.0, 1.0, 1.0), None)}


def test_a_step_has_the_same_batch_whatever_came_before() -> None:
    recipe = read_recipe(RECIPE)
    stage = dataclasses.replace(recipe.stages["train"], patch=SIZE, deformation=1.0, acquisition=1.0)
    recipe = dataclasses.replace(recipe, stages={"train": stage})
    lesson = TrainingStage(recipe, "train", 0, [[ball()]], (1, 1, 1), torch.device("cpu"), nn.ModuleDict())
    first = lesson.batch(7)
    lesson.batch(3)
    again, other = lesson.batch(7), lesson.batch(8)
    assert all(map(torch.equal, _parts(first), _parts(again)))
    assert not torch.equal(first.mr, other.mr)


def test_latents_that_are_encoded_once_cannot_be_deformed() -> None:
    recipe = read_recipe(RECIPE.with_name("limb-t1-ldm.yaml"))
    stage = dataclasses.replace(recipe.stages["denoiser"], deformation=1.0)
    with pytest.raises(BadRecipe, match="encoded once"):
        LatentDiffusion.plan(dataclasses.replace(recipe, stages={**recipe.stages, "denoiser": stage}), [])
