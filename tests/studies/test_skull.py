"""Whether a head's synthetic CT has a skull about a brain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skull import skull_of

SPACING_MM = (4.0, 4.0, 4.0)
SHAPE = (48, 60, 50)


def depth_mm(step_mm: float, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Depth below the skin of an egg of 85 x 105 x 80 mm about the middle."""
    middle = (np.array(shape) - 1) / 2
    place = (np.indices(shape) - middle[:, None, None, None]) * step_mm
    radius = np.sqrt(sum((axis / half) ** 2 for axis, half in zip(place, (85, 105, 80), strict=True)))
    return np.asarray((1 - radius) * 85)


def ct_of(depth: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scalp, skull of 8 mm and brain."""
    return np.select([depth < 0, depth < 8, depth < 16], [-1000.0, -90.0, 900.0], 35.0).astype(np.float32)


def test_a_shell_of_bone_is_a_closed_skull_of_its_thickness() -> None:
    depth = depth_mm(4.0, SHAPE)
    skull = skull_of(ct_of(depth), depth >= 0, SPACING_MM)
    assert skull.closed == 100
    assert skull.thickness_mm == pytest.approx(8, abs=3)
    assert (skull.bone_in_brain, skull.air_in_brain) == (0, 0)
    assert (skull.soft_median_hu, skull.fat_median_hu) == (35, -90)
    assert skull.bone + skull.soft + skull.fat + skull.air == pytest.approx(100, abs=0.1)


def test_a_hole_in_the_vault_lets_rays_through() -> None:
    depth = depth_mm(4.0, SHAPE)
    hu = ct_of(depth)
    hu[30:, :, 25:] = np.where(depth[30:, :, 25:] < 0, -1000, 35)
    assert 30 < skull_of(hu, depth >= 0, SPACING_MM).closed < 70


def test_bone_and_air_in_the_brain_are_seen() -> None:
    depth = depth_mm(4.0, SHAPE)
    hu = ct_of(depth)
    hu[28:34, 26:34, 14:20] = 800
    hu[28:34, 26:34, 30:36] = -900
    skull = skull_of(hu, depth >= 0, SPACING_MM)
    assert 2 < skull.bone_in_brain < 30
    assert 2 < skull.air_in_brain < 30


def test_nothing_is_no_head() -> None:
    with pytest.raises(ValueError, match="body is empty"):
        skull_of(np.full(SHAPE, -1000, np.float32), np.zeros(SHAPE, bool), SPACING_MM)
