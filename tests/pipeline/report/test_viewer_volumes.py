"""What a viewer is given is what is in the DICOM files, at its place, read by libraries that we did not write."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from highdicom import Volume
from scipy.spatial.transform import Rotation

from pipeline.ct.write import write_ct
from pipeline.errors import Unsuitable
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh
from pipeline.report import viewer_volumes
from pipeline.series.series import only_series, read_series
from tests.support.provenance import PROVENANCE

TURNED = Rotation.from_euler("xyz", [10, 20, -15], degrees=True).as_matrix()


def as_itk(content: bytes, folder: Path) -> SimpleITK.Image:
    (folder / "shown.nii.gz").write_bytes(content)
    return SimpleITK.ReadImage(str(folder / "shown.nii.gz"))


def assert_same(image: SimpleITK.Image, volume: Volume, step: int = 1) -> None:
    """Every corner is where it was, every value what it was; of a thinned one every `step`-th."""
    array = volume.array[:, ::step, ::step]
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), array)
    slices, rows, columns = array.shape
    for k, i, j in ((0, 0, 0), (slices - 1, 0, 0), (0, rows - 1, 0), (0, 0, columns - 1)):
        there = image.TransformIndexToPhysicalPoint((j, i, k))
        assert np.allclose(there, (volume.affine @ [k, i * step, j * step, 1])[:3], atol=1e-4)


@pytest.mark.parametrize(("most", "step"), [(viewer_volumes.MOST_VOXELS, 1), (20 * 23 * 20, 2), (1, 45)])
def test_an_oblique_mr_series_in_any_order_of_files_is_shown_where_it_lies(
    tmp_path: Path, most: int, step: int
) -> None:
    mr = thigh(oblique_grid((20, 45, 40), (3.0, 2.0, 2.5), TURNED, (5.0, -30.0, 100.0))).mr
    files = write_mr_series(mr, tmp_path / "mr", shuffled=True)
    assert viewer_volumes.step_of(mr.spatial_shape, most) == step
    stored = mr.with_array(np.clip(np.rint(mr.array), 0, 4095))
    assert_same(as_itk(viewer_volumes.nifti(viewer_volumes.mr_of(files, most_voxels=most)), tmp_path), stored, step)


def test_a_ct_series_of_this_node_is_shown_in_hu_where_it_lies(tmp_path: Path) -> None:
    made = thigh(axial_grid((12, 40, 36), (3.0, 4.0, 4.0), (10.0, 20.0, -30.0)))
    write_mr_series(made.mr, tmp_path / "mr")
    source = only_series(read_series(tmp_path / "mr"))
    write_ct(made.hu, source, PROVENANCE, tmp_path / "ct")
    assert_same(as_itk(viewer_volumes.nifti(viewer_volumes.ct_of(tmp_path / "ct")), tmp_path), made.hu)
    next((tmp_path / "ct").glob("*5.dcm")).unlink()
    with pytest.raises(Unsuitable, match="gap"):
        viewer_volumes.ct_of(tmp_path / "ct")


def test_values_that_are_no_whole_numbers_are_shown_to_a_part_in_32767(tmp_path: Path) -> None:
    mr = thigh(axial_grid((6, 20, 20), (3.0, 4.0, 4.0))).mr
    image = as_itk(viewer_volumes.nifti(mr), tmp_path)
    worst = np.abs(SimpleITK.GetArrayFromImage(image) - mr.array).max()
    assert 0 < worst <= mr.array.max() / 32767


def test_what_is_shown_says_nothing_about_the_patient(tmp_path: Path) -> None:
    files = write_mr_series(thigh(axial_grid((6, 20, 20), (3.0, 4.0, 4.0))).mr, tmp_path / "mr")
    (tmp_path / "shown.nii.gz").write_bytes(viewer_volumes.nifti(viewer_volumes.mr_of(files)))
    header: Any = nibabel.load(tmp_path / "shown.nii.gz").header
    assert [bytes(header[name]).strip(b"\0") for name in ("descrip", "intent_name", "aux_file", "db_name")] == [b""] * 4
    assert list(header.extensions) == []
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)


def test_an_uncertainty_map_is_shown_as_it_is_or_thinned_in_place(tmp_path: Path) -> None:
    grid = axial_grid((5, 20, 18), (3.0, 2.0, 2.0), (7.0, 8.0, 9.0))
    sd = grid.with_array(np.random.default_rng(0).uniform(0, 90, grid.spatial_shape).astype(np.float32))
    path = tmp_path / "uncertainty.nii.gz"
    SimpleITK.WriteImage(sd.to_simpleitk(), str(path))
    assert viewer_volumes.uncertainty_nifti(path) == path.read_bytes()
    thinned = Volume.from_simpleitk(as_itk(viewer_volumes.uncertainty_nifti(path, 5 * 10 * 9), tmp_path), "PATIENT")
    assert np.array_equal(thinned.array, sd.array[:, ::2, ::2])
    assert np.allclose(thinned.affine, sd.affine @ np.diag([1, 2, 2, 1]), atol=1e-4)
    path.write_bytes(b"no image")
    with pytest.raises(Unsuitable, match="no NIfTI image"):
        viewer_volumes.uncertainty_nifti(path)
