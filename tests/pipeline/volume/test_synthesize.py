"""MR volume -> HU volume -> CT series with the installed limb model: grids, orientation, findings, report."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom import Volume
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy import ndimage

from models.data.intensity import AIR_HU
from models.inference.card import ModelCard
from models.inference.weights import Model, load_model
from pipeline.conversion import ConversionOptions, convert
from pipeline.errors import Unsuitable
from pipeline.findings.findings import anatomy
from pipeline.phantom.thigh import Subject, axial_grid, femur_centre_mm, oblique_grid, thigh, write_mr_series
from pipeline.series.series import only_series, read_series
from pipeline.series.volume_choice import Choice
from pipeline.volume.ct_grid import OutputGrid, output_geometry
from pipeline.volume.resampling import Resampling, resample
from pipeline.volume.synthesize import model_grid, predict_nifti, seed_of, synthesize, widened

SPACING_MM = (3.27, 0.977, 0.977)
SHAPE = (16, 176, 176)


@pytest.fixture(scope="module")
def limb() -> Model:
    return load_model("limb-t1-ldm", "cpu")


@pytest.fixture(scope="module")
def mr() -> Volume:
    return thigh(axial_grid(SHAPE, SPACING_MM)).mr


def turn(axis: int, degrees: float) -> NDArray[np.float64]:
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    angle = np.deg2rad(degrees)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def test_an_mr_of_the_models_spacing_is_not_resampled(limb: Model, mr: Volume) -> None:
    grid = model_grid(mr, limb.card.spacing_mm)
    np.testing.assert_array_equal(grid.affine, mr.affine)
    assert widened(mr, grid) is mr
    made = synthesize(mr, limb, seed=1)
    assert (made.sampling.to_model, made.sampling.to_ct) == ("none", "none")
    np.testing.assert_array_equal(made.hu.array, made.on_model_grid.array)


@pytest.mark.parametrize("output", [OutputGrid(), OutputGrid(orientation="source", field="body")], ids=["mr", "body"])
@pytest.mark.parametrize("degrees", [0, 12])
def test_hu_are_what_the_model_predicts_resampled_once_to_the_byte(
    limb: Model, degrees: float, output: OutputGrid
) -> None:
    mr = thigh(oblique_grid((12, 60, 64), (3.2, 1.9, 1.9), turn(0, degrees), (5.0, -4.0, 10.0))).mr
    made = synthesize(mr, limb, seed=4, output=output)
    grid = model_grid(mr, limb.card.spacing_mm)
    assert made.mr.array.tobytes() == resample(widened(mr, grid), grid, fill=0.0).array.tobytes()
    predicted = limb.predict(made.mr.array, 4)
    assert made.on_model_grid.array.tobytes() == predicted.hu.tobytes()
    ct_grid = output_geometry(mr, output, made.body)
    assert made.hu.array.tobytes() == resample(grid.with_array(predicted.hu), ct_grid, fill=AIR_HU).array.tobytes()
    assert made.sd is not None
    assert predicted.sd is not None
    assert made.sd.array.tobytes() == resample(grid.with_array(predicted.sd), ct_grid, fill=0.0).array.tobytes()
    copied = Resampling.between(grid, ct_grid).copy is not None
    assert (made.sampling.to_ct == "none") == copied == bool(np.isin(made.hu.array, made.on_model_grid.array).all())


@pytest.mark.parametrize("degrees", [0, 7, 30, 90])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_models_grid_covers_the_whole_field_of_view(axis: int, degrees: float) -> None:
    field = oblique_grid((20, 50, 70), (4.0, 1.5, 1.1), turn(axis, degrees), (30.0, -20.0, 500.0))
    mr = field.with_array(np.zeros(field.spatial_shape, np.float32))
    grid = model_grid(mr, SPACING_MM)
    corners = np.array(np.meshgrid(*[(0, extent - 1) for extent in field.spatial_shape])).reshape(3, -1).T
    places = grid.map_reference_to_indices(field.map_indices_to_reference(corners))
    assert (places > -0.51).all()
    assert (places < np.array(grid.spatial_shape) - 0.49).all()
    np.testing.assert_allclose(grid.spacing, SPACING_MM)


def test_thin_slices_are_averaged_so_that_none_is_lost() -> None:
    field = axial_grid((60, 12, 12), (0.5, 1.0, 1.0))
    stripes = np.zeros(field.spatial_shape, np.float32)
    stripes[::2] = 100
    mr = field.with_array(stripes)
    grid = model_grid(mr, (3.0, 1.0, 1.0))
    there = resample(widened(mr, grid), grid, fill=0.0).array
    np.testing.assert_allclose(there[1:-1], 50, atol=2)


def test_an_even_image_stays_even_on_the_models_grid() -> None:
    mr = axial_grid((40, 30, 30), (1.0, 0.5, 0.5)).with_array(np.full((40, 30, 30), 7.0, np.float32))
    grid = model_grid(mr, SPACING_MM)
    there = resample(widened(mr, grid), grid, fill=0.0).array
    np.testing.assert_allclose(there[1:-1, 1:-1, 1:-1], 7.0, rtol=1e-5)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_whatever_plane_was_scanned_the_ct_is_the_same(limb: Model, mr: Volume, order: tuple[int, int, int]) -> None:
    """Flips and permutations only: no resampling, so the very same values at the very same places."""
    scanned = mr.permute_spatial_axes(list(order)).flip_spatial([0, 2])
    expected, found = synthesize(mr, limb, seed=5).hu, synthesize(scanned, limb, seed=5).hu
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-9)
    np.testing.assert_allclose(found.array, expected.array, atol=0.01)


def test_an_oblique_scan_shows_the_femur_where_it_is(limb: Model) -> None:
    field = oblique_grid((30, 170, 170), (3.2, 1.0, 1.0), turn(0, 12) @ turn(2, 20), (5.0, -4.0, 10.0))
    hu = synthesize(thigh(field).mr, limb, seed=2).hu
    parts, _ = ndimage.label(hu.array > 300)  # vessels in flow are as dark as bone: the femur is the largest part
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    places = hu.map_indices_to_reference(np.argwhere(parts == sizes.argmax()))
    x, y = femur_centre_mm(places[:, 2])
    assert np.hypot(np.mean(places[:, 0] - x), np.mean(places[:, 1] - y)) < 3.0
    assert places[:, 0].mean() > 5  # the femur lies towards the patient's left, +x in LPS


def test_tissues_of_the_phantom_get_their_kind_of_hu(limb: Model) -> None:
    phantom = thigh(axial_grid(SHAPE, SPACING_MM))
    hu = synthesize(phantom.mr, limb, seed=3).hu.array
    true = phantom.hu.array
    assert (hu[true == true.min()] < -900).mean() > 0.95  # air
    assert -140 < np.median(hu[true == -100]) < -60  # fat
    assert 10 < np.median(hu[true == 55]) < 100  # muscle
    assert np.median(hu[true == 1200]) > 400  # cortical bone


def test_a_nifti_comes_back_on_its_own_grid_in_any_orientation(limb: Model, mr: Volume, tmp_path: Path) -> None:
    turned = mr.permute_spatial_axes([2, 0, 1]).flip_spatial([1])
    for name, volume in (("axial", mr), ("turned", turned)):
        SimpleITK.WriteImage(volume.to_simpleitk(), str(tmp_path / f"{name}.nii.gz"))
        predict_nifti(tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_hu.nii.gz", limb)
    source = SimpleITK.ReadImage(str(tmp_path / "turned.nii.gz"))
    axial, made = (SimpleITK.ReadImage(str(tmp_path / f"{name}_hu.nii.gz")) for name in ("axial", "turned"))
    assert made.GetSize() == source.GetSize()
    np.testing.assert_allclose(made.GetOrigin(), source.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(made.GetDirection(), source.GetDirection(), atol=1e-6)
    upright = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(made, "LPS"))
    expected = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(axial, "LPS"))
    np.testing.assert_allclose(upright, expected, atol=0.5)


def test_a_file_that_is_no_image_is_refused_and_leaves_nothing(limb: Model, tmp_path: Path) -> None:
    (tmp_path / "mr.nii.gz").write_bytes(b"no image")
    with pytest.raises(Unsuitable, match=r"UNREADABLE: mr\.nii\.gz"):
        predict_nifti(tmp_path / "mr.nii.gz", tmp_path / "hu.nii.gz", limb)
    assert not (tmp_path / "hu.nii.gz").exists()


def convert_phantom(
    limb: Model, mr: Volume, folder: Path, body_part: str, options: ConversionOptions
) -> tuple[dict[str, Any], list[Path], str]:
    subject = Subject(body_part=body_part)
    write_mr_series(mr, folder / "mr", subject=subject)
    (folder / "ct").mkdir()
    result = convert(only_series(read_series(folder / "mr")), limb, folder / "ct", options)
    return result.report, list(result.ct), result.held or ""


def test_a_thigh_is_converted_without_a_hold_and_the_report_is_plain_json(
    limb: Model, mr: Volume, tmp_path: Path
) -> None:
    report, files, held = convert_phantom(limb, mr, tmp_path, "THIGH", ConversionOptions())
    assert held == ""
    assert len(files) == SHAPE[0]
    assert json.loads(json.dumps(report, allow_nan=False))["sampling"]["steps"] == limb.card.sampling["steps"]
    assert report["model"]["digest"] == limb.card.digest
    assert "Phantom" not in json.dumps(report)
    assert set(report["seconds"]) == {"read", "synthesize", "write"}


def test_the_report_and_the_ct_say_which_volume_was_taken_and_what_was_set_aside(
    limb: Model, mr: Volume, tmp_path: Path
) -> None:
    write_mr_series(mr, tmp_path / "mr")
    for path in write_mr_series(mr.with_array(mr.array / 2), tmp_path / "mr" / "second"):
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.EchoTime = 80
        image.save_as(path)
    (tmp_path / "ct").mkdir()
    options = ConversionOptions(choice=Choice.of({"echo": 1}), replaces="1.2.3")
    series = only_series(read_series(tmp_path / "mr"))
    result = convert(series, limb, tmp_path / "ct", options)
    taken, other = (f"echo {echo} (TE {time} ms, {SHAPE[0]} slices)" for echo, time in ((1, 12), (2, 80)))
    source = result.report["source"]
    assert (source["volume"], source["instances"]) == (taken, SHAPE[0])
    assert source["set_aside"] == [{"count": SHAPE[0], "what": other, "why": "not chosen"}]
    ct = pydicom.dcmread(result.ct[0], stop_before_pixels=True)
    assert f"Of several volumes: {taken}." in ct.DerivationDescription
    assert "Replaces CT series 1.2.3." in ct.DerivationDescription
    named = {item.ReferencedSOPInstanceUID for item in ct.SourceImageSequence}
    assert named == {one.sop_instance_uid for one in series.instances if one.header.EchoTime == 12}


def test_a_head_is_held_for_a_model_of_limbs(limb: Model, mr: Volume, tmp_path: Path) -> None:
    _, _, held = convert_phantom(limb, mr, tmp_path, "HEAD", ConversionOptions(anatomy_check="hold"))
    assert "anatomy is HEAD, expected one of THIGH" in held


def test_where_the_site_says_warn_the_mismatch_is_written_into_the_ct_and_the_report(
    limb: Model, mr: Volume, tmp_path: Path
) -> None:
    report, files, held = convert_phantom(limb, mr, tmp_path, "HEAD", ConversionOptions(anatomy_check="warn"))
    assert held == ""
    assert "anatomy is HEAD" in report["warnings"][0]
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    assert "anatomy is HEAD" in header.DerivationDescription
    assert "WARNING" in header.SeriesDescription


def test_the_same_series_and_weights_start_from_the_same_noise(limb: Model, mr: Volume, tmp_path: Path) -> None:
    write_mr_series(mr, tmp_path / "mr", shuffled=True)
    series = only_series(read_series(tmp_path / "mr"))
    assert seed_of(series, limb.card) == seed_of(only_series(read_series(tmp_path / "mr")), limb.card)
    assert seed_of(series, limb.card) != seed_of(series, CARD)


CARD = ModelCard(
    name="bands",
    version="1.0.0",
    digest="1" * 64,
    architecture={},
    modality="MR",
    anatomy=("LEG",),
    contrast="T1",
    spacing_mm=SPACING_MM,
    hu_range=(-1024, 3071),
    training_data="none",
    limits="none",
)


def test_a_series_that_names_no_body_part_is_not_contradicted() -> None:
    assert anatomy("", CARD).verdict == "pass"
    assert anatomy("HEAD", CARD).verdict == "review"
