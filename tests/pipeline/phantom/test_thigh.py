"""The analytic thigh: what it holds, that left is left in it, and that its DICOM is valid."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.phantom import thigh as phantom
from pipeline.phantom.thigh import AIR, CORTICAL_BONE, FAT, MARROW, MUSCLE, TISSUES, VESSEL, Tissue

OBLIQUE = Rotation.from_euler("xyz", [20, 70, 5], degrees=True).as_matrix()
SMALL = phantom.axial_grid((8, 40, 44), (3.0, 4.0, 4.0))


def centroid_mm(volume: Volume, tissue: Tissue) -> NDArray[np.float64]:
    """Mean position (LPS, mm) of the voxels of one tissue."""
    indices = np.argwhere(volume.array == tissue.label)
    mean: NDArray[np.float64] = volume.map_indices_to_reference(indices).mean(axis=0)
    return mean


def test_every_tissue_is_present_and_has_its_hu() -> None:
    thigh = phantom.thigh(phantom.axial_grid((10, 180, 180)))
    for tissue in TISSUES:
        inside = thigh.labels.array == tissue.label
        assert inside.sum() > 500
        assert np.unique(thigh.hu.array[inside]).tolist() == [tissue.hu]


def test_tissues_have_their_mr_value_under_rician_noise() -> None:
    thigh = phantom.thigh(phantom.axial_grid((10, 180, 180)), noise=15.0)
    for tissue in (FAT, MUSCLE, MARROW):
        values = thigh.mr.array[thigh.labels.array == tissue.label]
        assert values.mean() == pytest.approx(tissue.mr, abs=2)
        assert values.std() == pytest.approx(15, rel=0.1)
    air = thigh.mr.array[thigh.labels.array == AIR.label]
    assert air.min() >= 0
    assert air.mean() > AIR.mr  # a magnitude has no negative half


def test_left_is_left_front_is_front_and_up_is_up() -> None:
    labels = phantom.thigh(phantom.axial_grid((40, 90, 90), (6.0, 2.0, 2.0))).labels
    bone, vessels = centroid_mm(labels, CORTICAL_BONE), centroid_mm(labels, VESSEL)
    assert bone[0] > 10  # the femur lies to the patient's left
    assert bone[1] < -5  # and in front
    assert vessels[0] < -20  # the vessels lie medial in a left thigh
    body = (labels.array != AIR.label).sum(axis=(1, 2))
    assert body[-1] > 1.2 * body[0]  # wider towards superior: the last slice


def test_an_oblique_grid_samples_the_same_thigh() -> None:
    oblique = phantom.thigh(phantom.oblique_grid((20, 70, 70), (4.0, 3.0, 3.0), OBLIQUE)).labels
    fine = phantom.thigh(phantom.axial_grid((220, 220, 220), (1.0, 1.0, 1.0))).labels
    draw = np.random.default_rng(1)
    indices = draw.integers(0, oblique.spatial_shape, (3000, 3))
    points = oblique.map_indices_to_reference(indices)
    nearest = np.rint(fine.map_reference_to_indices(points)).astype(int)
    inside = np.all((nearest >= 0) & (nearest < fine.spatial_shape), axis=1)
    agree = oblique.array[tuple(indices[inside].T)] == fine.array[tuple(nearest[inside].T)]
    assert agree.mean() > 0.95  # the rest lies at borders, half a voxel apart


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_noise(tmp_path: Path) -> None:
    first = phantom.write_mr_series(phantom.thigh(SMALL, seed=1).mr, tmp_path / "a", seed=1)
    again = phantom.write_mr_series(phantom.thigh(SMALL, seed=1).mr, tmp_path / "b", seed=1)
    other = phantom.write_mr_series(phantom.thigh(SMALL, seed=2).mr, tmp_path / "c", seed=2)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert first[0].read_bytes() != other[0].read_bytes()
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in (*first, *other)}
    assert len(uids) == len(first) + len(other)


def test_a_shuffled_series_has_its_numbers_out_of_order(tmp_path: Path) -> None:
    paths = phantom.write_mr_series(phantom.thigh(SMALL).mr, tmp_path, shuffled=True)
    heights = [pydicom.dcmread(path).ImagePositionPatient[2] for path in paths]
    assert heights != sorted(heights)
    assert [pydicom.dcmread(path).InstanceNumber for path in paths] == list(range(1, len(paths) + 1))


def test_a_field_makes_the_front_left_brighter() -> None:
    even = phantom.thigh(phantom.axial_grid((5, 90, 90), (3, 2, 2)), noise=0).mr.array
    uneven = phantom.thigh(phantom.axial_grid((5, 90, 90), (3, 2, 2)), noise=0, bias=0.2).mr.array
    ratio = uneven[2] / even[2]
    assert ratio[20, 70] > 1.1  # row 20 is anterior, column 70 is left
    assert ratio[70, 20] < 0.95


def test_the_demo_size_takes_about_a_second(tmp_path: Path) -> None:
    start = time.perf_counter()
    phantom.write_mr_series(phantom.thigh(phantom.axial_grid((60, 180, 180))).mr, tmp_path)
    assert time.perf_counter() - start < 10  # 0.5 s when the machine is idle


@pytest.mark.parametrize("grid", [SMALL, phantom.oblique_grid((8, 30, 34), (3.3, 2.1, 1.7), OBLIQUE)])
def test_classic_files_are_valid_dicom(grid: VolumeGeometry, tmp_path: Path, program: Callable[[str], str]) -> None:
    paths = phantom.write_mr_series(phantom.thigh(grid).mr, tmp_path, shuffled=True)
    for path in (paths[0], paths[-1]):
        assert complaints(program("dciodvfy"), path) == []
    assert complaints(program("dcentvfy"), *paths) == []


def test_the_enhanced_object_is_valid_dicom(tmp_path: Path, program: Callable[[str], str]) -> None:
    path = phantom.write_enhanced_mr(phantom.thigh(SMALL).mr, tmp_path)
    assert complaints(program("dciodvfy"), path) == []


def test_the_validator_does_complain(tmp_path: Path, program: Callable[[str], str]) -> None:
    path = phantom.write_mr_series(phantom.thigh(SMALL).mr, tmp_path)[0]
    broken = pydicom.dcmread(path)
    del broken.ImageOrientationPatient
    broken.save_as(path)
    assert any("ImageOrientationPatient" in line for line in complaints(program("dciodvfy"), path))


def complaints(validator: str, *paths: Path) -> list[str]:
    """Lines of the validator's output that are errors."""
    done = subprocess.run([validator, *map(str, paths)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
