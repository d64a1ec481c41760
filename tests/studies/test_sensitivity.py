"""The study of the findings' sensitivity: its damages damage, and its tables count right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sensitivity as study
from damage import DAMAGES

from pipeline.phantom.thigh import axial_grid, thigh

LIMITS = {"noise": {"low": 0.0, "high": 4.0}, "truncation": {"low": 0.0, "high": 5.0}}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_changes_the_image_on_its_grid_and_is_the_same_each_time(name: str) -> None:
    mr = thigh(axial_grid(shape=(8, 90, 90), spacing_mm=(6.0, 2.0, 2.0))).mr.array
    first, again = (DAMAGES[name](mr.copy(), (6.0, 2.0, 2.0), np.random.default_rng(5)) for _ in range(2))
    assert (first.shape, first.dtype) == (mr.shape, mr.dtype)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, mr)


def test_the_area_under_the_curve_is_that_of_the_ranks() -> None:
    assert study.area_under_curve([3, 4], [1, 2]) == 1.0
    assert study.area_under_curve([1, 2], [1, 2]) == 0.5
    assert study.area_under_curve([0, 3], [1, 2]) == 0.5


def test_the_tables_count_who_is_held_and_leave_out_what_the_pairs_makers_cut(tmp_path: Path) -> None:
    rows = [
        study.Row("A", study.SOUND, 40.0, {"noise": 1.0, "truncation": 50.0}, ("truncation",)),
        study.Row("A", "noise", 90.0, {"noise": 9.0, "truncation": 50.0}, ("noise", "truncation")),
    ]
    tables = study.write(rows, LIMITS, tmp_path)
    assert "| none | 1 | 40.0 | 0 | 0 | 0 of 0 | - |" in tables
    assert "| noise | 1 | 90.0 | 1 | 1 | 1 of 1 | noise 1 |" in tables
    assert "| noise | 0 to 4 | 1.00 | 1.00 | 1.00 | 0 |" in tables
    assert (tmp_path / "cases.csv").read_text().splitlines()[2] == "A,noise,90.00,9,50,noise truncation"
