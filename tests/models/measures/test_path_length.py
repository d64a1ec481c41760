"""Water-equivalent path lengths, against lengths that geometry gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from models.measures import path_length

SPACING_MM = (3.0, 1.0, 2.0)
SHAPE = (5, 121, 81)
CENTRE = (2.0, 60.0, 40.0)


def cylinder(radius_mm: float, hu: float) -> NDArray[np.float32]:
    """A cylinder along the slices about the centre, in air."""
    row, column = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = np.hypot((row - CENTRE[1]) * SPACING_MM[1], (column - CENTRE[2]) * SPACING_MM[2]) <= radius_mm
    image: NDArray[np.float32] = np.where(inside, hu, -1000).astype(np.float32)[None].repeat(SHAPE[0], axis=0)
    return image


def test_the_curve_goes_through_its_points_and_rises() -> None:
    known = np.array(path_length.STOPPING_POWER)
    assert path_length.stopping_power(known[:, 0]) == pytest.approx(known[:, 1])
    assert path_length.stopping_power(np.array([0.0, 50.0])) == pytest.approx([1.0, 1.0475])
    assert (np.diff(path_length.stopping_power(np.arange(-1024.0, 3072.0))) >= 0).all()


def test_water_of_a_radius_is_as_long_as_the_radius_from_every_side() -> None:
    lengths = path_length.path_lengths_mm(cylinder(40, 0), SPACING_MM, CENTRE)
    assert len(lengths) == 72
    assert lengths == pytest.approx(40, abs=1.5)
    assert lengths.mean() == pytest.approx(40, abs=0.5)


def test_bone_is_longer_by_its_stopping_power() -> None:
    water, bone = (path_length.path_lengths_mm(cylinder(40, hu), SPACING_MM, CENTRE) for hu in (0, 1000))
    expected = np.interp(1000, [350, 3000], [1.199, 2.505])
    assert bone.mean() / water.mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("angle", "box"), [(0, np.s_[:, :50, :]), (90, np.s_[:, :, 60:]), (180, np.s_[:, 71:, :])])
def test_a_plate_is_met_from_its_own_side_only(angle: float, box: tuple[slice, slice, slice]) -> None:
    """0 degrees looks from anterior (low rows), 90 from the patient's left (high columns)."""
    hu = np.full(SHAPE, -1000, dtype=np.float32)
    hu[box] = 0
    angles = np.array([angle, (angle + 180) % 360])
    near, far = path_length.path_lengths_mm(hu, SPACING_MM, CENTRE, angles)
    assert near > 38
    assert far < 1


def test_beyond_the_field_of_view_there_is_nothing() -> None:
    lengths = path_length.path_lengths_mm(np.zeros(SHAPE, dtype=np.float32), SPACING_MM, CENTRE, np.array([0.0, 90.0]))
    assert lengths == pytest.approx([60.0, 80.0], abs=0.6)


def test_differences_are_those_of_a_hand() -> None:
    found = path_length.compare_paths(np.array([10.0, 22.0, 30.0]), np.array([10.0, 20.0, 31.0]))
    assert dataclasses.astuple(found) == pytest.approx((1.0, 2.0, 10.0, 1 / 3))
