"""The figures and the picture by which people judge a synthetic CT of the phantom."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.phantom.comparison import inside, picture, tissue_errors, truth
from pipeline.phantom.thigh import TISSUES, axial_grid, oblique_grid, thigh
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.resampling import resample

TILT = np.deg2rad(15)
ROTATION = np.array([[1, 0, 0], [0, np.cos(TILT), -np.sin(TILT)], [0, np.sin(TILT), np.cos(TILT)]])
MR = thigh(oblique_grid((24, 90, 90), (4.0, 2.0, 2.0), ROTATION), noise=10.0).mr
KNOWN = truth(thigh(axial_geometry(MR)).hu, MR.get_geometry())


def test_the_truth_itself_has_no_error_in_any_tissue() -> None:
    rows = tissue_errors(KNOWN.hu, KNOWN, MR.get_geometry())
    assert [row.name for row in rows] == [*(tissue.name for tissue in TISSUES), "whole leg"]
    assert all(row.voxels > 100 for row in rows)
    assert rows[-1].voxels == sum(row.voxels for row in rows[1:-1])
    assert [row.mae_hu for row in rows] == [0] * len(rows)
    assert [row.mean_hu for row in rows[:-1]] == [tissue.hu for tissue in TISSUES]


def test_an_error_in_one_tissue_is_found_there_and_only_there() -> None:
    bone = KNOWN.labels.array == 3
    wrong = KNOWN.hu.with_array(np.where(bone, KNOWN.hu.array - 200, KNOWN.hu.array))
    rows = {row.name: row for row in tissue_errors(wrong, KNOWN, MR.get_geometry())}
    assert (rows["cortical bone"].mae_hu, rows["cortical bone"].mean_hu) == (200, 1000)
    assert rows["fat"].mae_hu == 0


def test_outside_the_field_of_view_of_the_mr_the_truth_is_air() -> None:
    seen = inside(KNOWN.hu.get_geometry(), MR.get_geometry())
    assert 0.4 < seen.mean() < 0.99
    assert set(np.unique(KNOWN.hu.array[~seen])) == {-1000.0}


def test_the_field_of_view_ends_half_a_voxel_beyond_the_outermost_centres() -> None:
    field = axial_grid((3, 4, 5), (2.0, 2.0, 2.0))
    fine = axial_grid((30, 40, 50), (0.25, 0.25, 0.25))
    seen = inside(fine, field)
    assert np.argwhere(seen).min(axis=0).tolist() == [3, 4, 5]
    assert np.argwhere(seen).max(axis=0).tolist() == [26, 35, 44]


@pytest.mark.parametrize("known", [KNOWN, None], ids=["with truth", "without"])
def test_the_picture_has_four_columns_with_truth_and_two_without(known: object, tmp_path: Path) -> None:
    ct = resample(KNOWN.hu, KNOWN.hu.get_geometry(), fill=-1000.0)
    picture(MR, ct, KNOWN if known else None, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as drawn:
        assert drawn.size == (round(4.2 * (4 if known else 2) * 110), 924)
        assert len(drawn.convert("L").getcolors(256) or ()) > 100
