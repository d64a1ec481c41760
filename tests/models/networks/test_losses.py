"""The paper's five losses and ours, against values computed by hand; the segmenter of tissues; the pool of images."""

from __future__ import annotations

import pytest
import torch

from models.data.pairs import Patch
from models.networks import losses
from models.networks.pix2pix import ImagePool
from models.training.tissue_segmenter import agreement, classes, train_segmenter


def image(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def test_equation_1_is_the_mean_absolute_difference() -> None:
    assert losses.l1(image(0.0, 1.0, 3.0), image(1.0, 1.0, 1.0)).item() == pytest.approx(1.0)


def test_equation_3_is_the_mean_over_layers_of_the_squared_distance_of_features() -> None:
    mine, true = [image(0.0, 2.0), image(1.0)], [image(0.0, 0.0), image(4.0)]
    assert losses.perceptual(mine, true).item() == pytest.approx((2.0 + 9.0) / 2)


def test_equation_4_is_least_squares_and_zero_where_a_player_has_won() -> None:
    assert losses.generator_loss(image(1.0, 1.0)).item() == 0
    assert losses.generator_loss(image(0.0, 3.0)).item() == pytest.approx(2.5)
    assert losses.discriminator_loss(real=image(1.0), fake=image(0.0)).item() == 0
    assert losses.discriminator_loss(real=image(0.0), fake=image(2.0)).item() == pytest.approx(2.5)


def test_equation_5_is_the_mean_squared_difference() -> None:
    assert losses.mse(image(0.0, 3.0), image(1.0, 1.0)).item() == pytest.approx(2.5)


def test_the_adversarial_term_waits_for_its_share_of_the_steps() -> None:
    assert [losses.adversarial_ramp(over, 0.05) for over in (0.0, 0.04, 0.05, 0.99)] == [0.0, 0.0, 1.0, 1.0]
    assert losses.adversarial_ramp(0.0, 0.0) == 1.0


def test_bone_and_air_of_the_body_weigh_more_and_skin_less() -> None:
    patch = Patch(image(0, 0, 0, 0), image(0.0, 0.9, -0.9, 0.9), image(1.0, 1.0, 1.0, 0.2))
    wrong_by_one = patch.ct + image(1.0, 0.0, 0.0, 0.0)
    assert losses.masked_l1(wrong_by_one, patch, bone_weight=2.0).item() == pytest.approx(1 / (1 + 3 + 3 + 0.2))
    assert losses.masked_l1(wrong_by_one, patch).item() == pytest.approx(1 / 3.2)


def test_a_small_error_pulls_less_where_the_loss_is_quadratic_and_a_large_one_as_ever() -> None:
    patch = Patch(image(0, 0), image(0.04, 0.9), image(1.0, 1.0))
    for quadratic, pulls, loss in ((0.0, [0.5, 0.5], 0.47), (0.5, [0.04, 0.5], (0.04**2 + 0.9 - 0.25) / 2)):
        made = image(0.0, 0.0).requires_grad_()
        found = losses.masked_l1(made, patch, quadratic=quadratic)
        found.backward()
        assert found.item() == pytest.approx(loss)
        assert made.grad is not None
        assert made.grad.flatten().neg().tolist() == pytest.approx(pulls)


def test_the_loss_narrows_to_an_l1_above_the_noise_before_the_stage_ends() -> None:
    widths = [losses.huber_threshold(0.5, over / 40) for over in range(41)]
    assert widths[:21] == [0.5] * 21
    assert widths[27] == pytest.approx((0.5 * 0.02) ** 0.5)
    assert widths[34:] == pytest.approx([0.02] * 7)
    assert sorted(widths, reverse=True) == widths
    assert losses.huber_threshold(0.0, 0.3) == 0.0


def test_what_lies_beyond_the_body_of_both_images_is_not_bone_however_dense() -> None:
    patch = Patch(image(0, 0), image(0.0, 0.9), image(1.0, 0.2))
    wrong = patch.ct + image(0.0, 1.0)
    assert losses.masked_l1(wrong, patch, bone_weight=9.0).item() == pytest.approx(0.2 / 1.2)


@pytest.mark.parametrize(("levels", "weights"), [(1, [1]), (2, [2 / 3, 1 / 3]), (3, [4 / 7, 2 / 7, 1 / 7])])
def test_each_supervised_level_weighs_half_of_the_finer_one_and_all_together_one(
    levels: int, weights: list[float]
) -> None:
    assert losses.halving_weights(levels) == pytest.approx(weights)


def test_tissues_are_told_by_hu_after_smoothing_away_single_voxels() -> None:
    ct = torch.full((1, 1, 2, 9, 36), -1.0)
    for number, unit in enumerate((-1.0, -0.1, 0.04, 0.9)):
        ct[..., 9 * number : 9 * number + 9] = unit
    noisy = ct.clone()
    noisy[..., 4, 22] += 0.9  # one bright voxel of soft tissue
    found = classes(noisy)
    assert found[0, 0, 4, [4, 13, 22, 31]].tolist() == [0, 1, 2, 3]


def test_the_segmenter_learns_to_see_tissues_through_noise_and_the_same_seed_gives_the_same_one() -> None:
    torch.set_num_threads(1)

    def batch(step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        places = torch.randint(4, (2, 1, 4, 4, 4), generator=generator)
        values = torch.tensor([-1.0, -0.1, 0.04, 0.9])[places]
        blocks = torch.nn.functional.interpolate(values, scale_factor=(1.0, 8.0, 8.0), mode="nearest")
        return blocks + 0.02 * torch.randn(blocks.shape, generator=generator)

    segmenter = train_segmenter(batch, seed=1, steps=60)
    assert min(agreement(segmenter, [batch(1000)])) > 0.7
    again = train_segmenter(batch, seed=1, steps=60)
    for mine, other in zip(segmenter.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_pool_gives_back_new_images_until_it_is_full_and_then_old_ones_half_of_the_time() -> None:
    pool, generator = ImagePool((1, 1, 1), capacity=2), torch.Generator().manual_seed(0)
    given = [pool.exchange(torch.full((1, 1, 1, 1, 1), float(number)), generator).item() for number in range(1, 202)]
    assert given[:2] == [1, 2]
    old = sum(seen != number for number, seen in enumerate(given, start=1))
    assert 70 < old < 130
    assert all(seen <= number for number, seen in enumerate(given, start=1))
