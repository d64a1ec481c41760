"""SynthRAD's measures and the floors, against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from models.inference import baselines
from models.measures import similarity


def cube(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((10, 12, 14), value, dtype=np.float32)


EVERYWHERE = np.ones((10, 12, 14), dtype=bool)


def test_mae_and_bias_are_those_of_a_constant_error() -> None:
    assert similarity.mae(cube(-20), cube(0), EVERYWHERE) == 20
    assert similarity.bias(cube(-20), cube(0), EVERYWHERE) == -20


def test_mae_looks_at_the_mask_only() -> None:
    wrong = cube(0)
    wrong[0] = 1000
    mask = EVERYWHERE.copy()
    mask[0] = False
    assert similarity.mae(wrong, cube(0), mask) == 0


def test_a_tissue_that_is_not_there_has_no_error_instead_of_none() -> None:
    scores = similarity.score(cube(0), cube(0), EVERYWHERE)
    assert np.isnan(scores["mae_bone"])
    assert scores["mae_soft"] == 0


def test_psnr_is_that_of_scikit_image_where_nothing_is_clipped() -> None:
    random = np.random.default_rng(1)
    truth, hu = random.uniform(-900, 2900, (2, 10, 12, 14))
    expected = peak_signal_noise_ratio(truth, hu, data_range=4024)
    assert similarity.psnr(hu, truth, EVERYWHERE) == pytest.approx(expected)


def test_psnr_clips_to_the_range() -> None:
    truth = cube(3000)
    assert similarity.psnr(cube(9000), truth + 0, EVERYWHERE, (-1024.0, 3000.0)) == np.inf


def test_ssim_of_equal_images_is_one_and_that_of_scikit_image_elsewhere() -> None:
    random = np.random.default_rng(2)
    truth, hu = random.uniform(-900, 2900, (2, 10, 12, 14))
    assert similarity.ssim(truth, truth, EVERYWHERE) == pytest.approx(1)
    _, full = structural_similarity(truth + 1024, hu + 1024, data_range=4024, full=True)
    assert similarity.ssim(hu, truth, EVERYWHERE) == pytest.approx(full[3:-3, 3:-3, 3:-3].mean())


def test_the_look_up_table_gives_the_median_of_each_bin() -> None:
    mr = np.zeros((2, 2, 2), dtype=np.float32)
    mr[1] = 1.0
    hu = np.array([[[10, 20], [30, 1000]], [[-100, -100], [-90, -110]]], dtype=np.int16)
    table = baselines.learn_look_up_table([(mr, hu, np.ones((2, 2, 2), dtype=bool))])
    assert table(np.array([[[0.0, 1.0]]], dtype=np.float32)).tolist() == [[[25.0, -100.0]]]
