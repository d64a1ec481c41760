"""MS-SSIM, Dice, HD95 and tissues, against scikit-image, SciPy, MONAI and hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from skimage.metrics import structural_similarity

from models.measures import similarity, structures

Volume = NDArray[np.float32]
SPACING_MM = (3.0, 1.0, 1.0)


def noise(seed: int, shape: tuple[int, int, int] = (20, 24, 22)) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.random.default_rng(seed).uniform(0, 4000, shape)
    return values


def smooth(seed: int) -> Volume:
    """HU that vary over some voxels, as tissue does."""
    coarse = np.random.default_rng(seed).uniform(-900, 1500, (9, 10, 11)).astype(np.float32)
    return np.kron(coarse, np.ones((6, 6, 6), dtype=np.float32))


def ball(centre: tuple[int, int, int], radius: float, shape: tuple[int, int, int] = (20, 40, 40)) -> NDArray[np.bool_]:
    s, r, c = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside: NDArray[np.bool_] = (s - centre[0]) ** 2 + (r - centre[1]) ** 2 + (c - centre[2]) ** 2 <= radius**2
    return inside


# MS-SSIM


def test_luminance_times_contrast_times_structure_is_the_ssim_of_scikit_image() -> None:
    first = noise(1)
    second = 0.7 * first + 0.3 * noise(2)
    parts = similarity.similarity(first, second, 4095)
    _, expected = structural_similarity(first, second, data_range=4095, full=True)
    assert np.prod(parts, axis=0) == pytest.approx(expected, abs=1e-12)


def test_no_part_of_ssim_is_below_0() -> None:
    first = noise(1)
    assert min(part.min() for part in similarity.similarity(first, 4000 - first, 4095)) == 0


def test_a_level_is_halved_as_by_a_convolution_with_a_box_of_2_voxels() -> None:
    image = noise(3)
    expected = fftconvolve(image, np.full((2, 2, 2), 1 / 8), mode="same")[::2, ::2, ::2]
    assert similarity.halved(image) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_of_equal_images_is_1() -> None:
    assert similarity.ms_ssim(smooth(1), smooth(1), np.ones((54, 60, 66), dtype=bool)) == pytest.approx(1)


def test_ms_ssim_is_the_product_over_levels_of_masked_means() -> None:
    """The definition again, level by level, from scikit-image's parts: the second level's weight alone decides."""
    truth, hu = smooth(1), smooth(1) + 60 * np.sin(np.arange(66, dtype=np.float32))
    mask = np.ones(truth.shape, dtype=bool)
    mask[:, :20] = False
    first, second = (np.where(mask, image, -1024).astype(np.float64) + 1024 for image in (hu, truth))
    sides = [(21, 22), (18, 19), (15, 16)]  # from 54, 60 and 66 voxels to 97
    first, second, inside = (np.pad(image, sides, mode="edge") for image in (first, second, mask))
    expected, box = 1.0, np.full((2, 2, 2), 1 / 8)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        _, full = structural_similarity(first, second, data_range=4095, full=True)
        level = (np.clip(full, 0, None) ** weight)[3:-3, 3:-3, 3:-3]
        expected *= level[inside[3:-3, 3:-3, 3:-3]].mean()
        first, second = (fftconvolve(image, box, mode="same")[::2, ::2, ::2] for image in (first, second))
        inside = inside[::2, ::2, ::2]
    assert similarity.ms_ssim(hu, truth, mask) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_looks_at_the_mask_only_and_says_nan_where_no_voxel_is_left() -> None:
    truth, hu = smooth(1), smooth(1) + 30
    mask = np.zeros(truth.shape, dtype=bool)
    mask[10:40, 10:50, 10:50] = True
    other = np.where(mask, hu, 3000).astype(np.float32)
    assert similarity.ms_ssim(other, truth, mask) == similarity.ms_ssim(hu, truth, mask)
    assert np.isnan(similarity.ms_ssim(hu, truth, np.zeros_like(mask)))


# Tissues


def test_air_soft_and_bone_divide_the_body_and_lung_and_fat_are_parts_of_them() -> None:
    truth, body = smooth(2), np.ones((54, 60, 66), dtype=bool)
    body[0] = False
    masks = similarity.tissue_masks(truth, body)
    assert np.array_equal(sum(masks[name].astype(int) for name in ("air", "soft", "bone")), body.astype(int))
    assert masks["lung"].any()
    assert masks["fat"].any()
    assert not (masks["lung"] & ~masks["air"]).any()
    assert not (masks["fat"] & ~masks["soft"]).any()


# Structures


def test_dice_of_two_overlapping_boxes_is_what_a_hand_counts() -> None:
    first, second = np.zeros((2, 1, 1, 4), dtype=bool)
    first[..., :3] = True
    second[..., 2:] = True
    assert structures.dice(first, second) == pytest.approx(2 * 1 / (3 + 2))


def test_hd95_of_a_shifted_structure_is_the_shift_in_mm() -> None:
    first = np.zeros((9, 20, 20), dtype=bool)
    first[3:5, 5:15, 5:15] = True
    shifted = np.roll(first, 2, axis=0)
    assert structures.hd95(first, shifted, SPACING_MM) == pytest.approx(6.0)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(
    ("centre", "radius"), [((9, 20, 20), 8.0), ((11, 18, 25), 6.5), ((8, 14, 20), 5.0), ((2, 2, 2), 4.0)]
)
def test_hd95_is_that_of_monai(centre: tuple[int, int, int], radius: float) -> None:
    first, second = ball((9, 20, 20), 7.0), ball(centre, radius)
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (first, second))
    expected = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=list(SPACING_MM))
    assert structures.hd95(first, second, SPACING_MM) == pytest.approx(expected.item(), rel=1e-5)


def test_a_structure_that_the_synthetic_ct_lacks_is_counted_and_has_the_worst_values() -> None:
    true, nothing = ball((9, 20, 20), 7.0), np.zeros((20, 40, 40), dtype=bool)
    missing = structures.agreement(nothing, true, SPACING_MM)
    assert (missing.missing, missing.invented, missing.dice) == (True, False, 0.0)
    assert missing.hd95_mm == pytest.approx((60**2 + 40**2 + 40**2) ** 0.5)
    assert structures.agreement(true, nothing, SPACING_MM).invented


def test_a_structure_that_neither_has_is_neither_missing_nor_perfect() -> None:
    nothing = np.zeros((20, 40, 40), dtype=bool)
    found = structures.agreement(nothing, nothing, SPACING_MM)
    assert np.isnan([found.dice, found.hd95_mm]).all()
    assert not found.missing
    assert not found.invented


def test_specks_of_noise_are_no_structure() -> None:
    mask = ball((9, 20, 20), 5.0)
    speckled = mask.copy()
    speckled[0, 0, :3] = True
    assert np.array_equal(structures.without_specks(speckled, 4), mask)


def test_bone_and_air_are_looked_for_in_the_common_body_and_the_body_everywhere() -> None:
    hu = np.full((20, 40, 40), -1000, dtype=np.float32)
    hu[ball((9, 20, 20), 12.0)] = 40
    hu[ball((9, 20, 20), 5.0)] = 700
    hu[ball((9, 30, 30), 3.0)] = 700
    within = ball((9, 20, 20), 9.0)
    masks = structures.structure_masks(hu, within, SPACING_MM)
    assert np.array_equal(masks["bone"], ball((9, 20, 20), 5.0) | (ball((9, 30, 30), 3.0) & within))
    assert masks["body"].sum() > within.sum()
    assert not masks["air"].any()
