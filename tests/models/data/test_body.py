"""Where the patient is."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.body import outline
from models.data.intensity import homogenised

SHAPE = (48, 40, 40)
SLICE, ROW, COLUMN = np.indices(SHAPE)


def test_a_depth_that_the_coil_leaves_dark_is_body_even_where_the_ring_about_it_is_open() -> None:
    distance = np.hypot(ROW - 19.5, COLUMN - 19.5)
    mr = np.select([distance < 12, distance < 16], [10.0, 1000.0], 0.0)
    mr[20:28, 18:22, 30:] = 0  # an ear that gives no signal opens the ring
    assert outline(mr)[:, 19, 19].all()


def test_the_gap_between_two_legs_that_touch_below_and_above_stays_air() -> None:
    legs = (np.hypot(ROW - 19.5, COLUMN - 11) < 5) | (np.hypot(ROW - 19.5, COLUMN - 28) < 5)
    touching = (SLICE < 6) | (SLICE > 41)
    mr = np.where(legs | (touching & (abs(ROW - 19.5) < 6) & (abs(COLUMN - 19.5) < 8)), 1000.0, 0.0)
    body = outline(mr)
    assert body[2, 19, 19]
    assert not body[16:32, 19, 19].any()


def test_an_mr_made_even_is_as_bright_in_the_depth_as_at_the_skin() -> None:
    distance = np.sqrt((SLICE - 23.5) ** 2 + (ROW - 19.5) ** 2 + (COLUMN - 19.5) ** 2)
    body = distance < 18
    mr = np.where(body, 100 * np.exp(distance / 9), 3).astype(np.float32)
    even = homogenised(mr, body, (2.0, 2.0, 2.0), 5.0)
    depth, skin = even[distance < 4].mean(), even[body & (distance > 14)].mean()
    assert mr[distance < 4].mean() < 0.3 * mr[body & (distance > 14)].mean()
    assert depth == pytest.approx(skin, rel=0.4)
    assert (even[~body] < 0.05).all()
    assert np.array_equal(homogenised(mr, np.zeros_like(body), (2.0, 2.0, 2.0), 8.0), mr)
