"""Where the patient is."""

from __future__ import annotations

import numpy as np

from models.body import outline

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
