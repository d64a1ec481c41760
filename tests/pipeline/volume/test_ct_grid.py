"""The CT's grid, as a site asks for it: properties over any MR, spacing, orientation and field, read back as DICOM."""

import tempfile
from itertools import permutations, product
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import Volume, VolumeGeometry
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.inference.weights import load_model
from pipeline.conversion import ConversionOptions, convert
from pipeline.ct.write import write_ct
from pipeline.errors import Unsuitable
from pipeline.phantom.mr_series import Subject
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh, write_mr_series
from pipeline.preflight.check import preflight
from pipeline.preflight.profile import load_profile
from pipeline.series.series import Series, only_series, read_series
from pipeline.volume.ct_grid import MOST_VOXELS, OutputGrid, axial_geometry, output_geometry
from pipeline.volume.resampling import Resampling, resample
from pipeline.volume.synthesize import model_grid, synthesize
from pipeline.volume.volume import read_volume
from tests.support.provenance import PROVENANCE

Array = NDArray[np.float64]
Triple = tuple[float, float, float]

bounded = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RIGHT_ANGLED = [np.eye(3)[list(p)] * signs for p in permutations(range(3)) for signs in product((1, -1), repeat=3)]
POSITIONS = ("HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR")
AIR_HU = -1000.0

oblique_turns = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: Rotation.from_quat(q).as_matrix())
)
steps_mm = st.floats(0.5, 6.0).map(lambda mm: round(mm, 4))
centres = st.tuples(*[st.floats(-900, 900).map(lambda mm: round(mm, 3))] * 3)


@st.composite
def fields(draw: st.DrawFn) -> VolumeGeometry:
    """Where an MR may lie: any orientation, mirrored ones too, very unequal spacing, any place."""
    shape = draw(st.tuples(st.integers(5, 9), st.integers(4, 12), st.integers(4, 12)))
    turn = draw(st.one_of(oblique_turns, st.sampled_from(RIGHT_ANGLED)))
    return oblique_grid(shape, draw(st.tuples(steps_mm, steps_mm, steps_mm)), turn, draw(centres))


@st.composite
def asked_grids(draw: st.DrawFn) -> OutputGrid:
    """Whatever a site may ask for."""
    slice_mm, pixel_mm = draw(st.floats(2.5, 9.0)), draw(st.floats(2.5, 9.0))
    return OutputGrid(
        spacing_mm=draw(st.sampled_from([None, (slice_mm, pixel_mm, pixel_mm)])),
        orientation=draw(st.sampled_from(["axial", "source"])),
        field=draw(st.sampled_from(["mr", "body"])),
        margin_mm=draw(st.sampled_from([0.0, 3.0, 10.0])),
    )


def as_series(field: VolumeGeometry, into: Path, position: str = "HFS") -> Series:
    """An MR series there, its values of no meaning."""
    values = np.random.default_rng(0).integers(0, 4096, field.spatial_shape).astype(np.float32)
    write_mr_series(field.with_array(values), into, subject=Subject(patient_position=position), shuffled=True)
    return only_series(read_series(into))


def body_of(mr: Volume) -> Volume:
    """A mask about the middle of an MR, on a grid of its own."""
    grid = model_grid(mr, (4.0, 3.0, 3.0))
    mask = np.zeros(grid.spatial_shape, np.uint8)
    mask[tuple(slice(size // 3, max(size // 3 + 1, 2 * size // 3)) for size in grid.spatial_shape)] = 1
    return grid.with_array(mask)


def ramp(geometry: VolumeGeometry, slope: Triple) -> Volume:
    """HU that are linear in LPS, from the middle on."""
    places = geometry.map_indices_to_reference(np.argwhere(np.ones(geometry.spatial_shape, bool)))
    middle = np.array(geometry.center_position)
    values = (places - middle) @ np.array(slope) + 20
    return geometry.with_array(values.reshape(geometry.spatial_shape).astype(np.float32))


def centres_of(image: pydicom.Dataset) -> Array:
    """Centres of all pixels of a slice, (rows, columns, 3), by the equation of PS3.3 C.7.6.2.1.1 alone."""
    position = np.array([float(v) for v in image.ImagePositionPatient])
    cosines = np.array([float(v) for v in image.ImageOrientationPatient])
    down_mm, across_mm = (float(v) for v in image.PixelSpacing)
    row, column = np.meshgrid(np.arange(image.Rows), np.arange(image.Columns), indexing="ij")
    across, down = column[..., None] * across_mm * cosines[:3], row[..., None] * down_mm * cosines[3:]
    places: Array = position + across + down
    return places


def corners(geometry: VolumeGeometry) -> Array:
    """Outer corners of a grid, LPS."""
    places: Array = geometry.map_indices_to_reference(
        np.array(list(product(*[(-0.5, n - 0.5) for n in geometry.spatial_shape])))
    )
    return places


def covered(geometry: VolumeGeometry, places: Array) -> bool:
    """Whether places lie within the outer edges of a grid, to 1e-4 mm."""
    index = geometry.map_reference_to_indices(places)
    slack = 1e-4 / np.array(geometry.spacing)
    return bool(np.all(index >= -0.5 - slack) and np.all(index <= np.array(geometry.spatial_shape) - 0.5 + slack))


@settings(bounded, max_examples=12)
@given(fields(), asked_grids(), st.sampled_from(POSITIONS))
@example(axial_grid((40, 4, 4), (0.5, 6.0, 6.0), (-900.12345, 900.12345, -900.12345)), OutputGrid(), "FFDL")
def test_voxels_are_written_where_they_are_and_the_field_is_covered(
    field: VolumeGeometry, asked: OutputGrid, position: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = as_series(field, Path(folder) / "mr", position)
        mr = read_volume(source)
        body = body_of(mr)
        geometry = output_geometry(mr, asked, body)
        paths = write_ct(ramp(geometry, (0.3, -0.2, 0.1)), source, PROVENANCE, Path(folder) / "ct")
        profile = "axial-only" if asked.orientation == "axial" else "archive"
        assert preflight(paths, load_profile(profile)) == []
        images = [pydicom.dcmread(path) for path in paths]
    written = np.stack([centres_of(image) for image in images])
    exact = geometry.map_indices_to_reference(np.argwhere(np.ones(geometry.spatial_shape, bool)))
    assert np.abs(written.reshape(-1, 3) - exact).max() <= 1e-4
    steps = np.diff(written[:, 0, 0], axis=0)
    assert len(steps) == 0 or np.ptp(steps, axis=0).max() < 1e-7
    hu = np.stack([image.pixel_array for image in images]).astype(float) - 1024
    middle = np.array(geometry.center_position)
    assert np.abs(hu - ((written - middle) @ [0.3, -0.2, 0.1] + 20)).max() <= 0.5 + 1e-3
    if asked.field == "mr":
        assert covered(geometry, corners(mr.get_geometry()))
    else:
        assert covered(geometry, _within_the_mr(body, asked, mr))


def _within_the_mr(body: Volume, asked: OutputGrid, mr: Volume) -> Array:
    """Corners of the body's voxels, and what is asked around their centres, as far as the whole field has it."""
    inside = np.argwhere(body.array)
    shifts = np.array(list(product((-0.5, 0.5), repeat=3)))
    around = body.map_indices_to_reference((inside[:, None] + shifts).reshape(-1, 3).astype(float))
    centre = body.map_indices_to_reference(inside)
    frame = output_geometry(mr, asked, body).direction.T
    margins = [centre + sign * asked.margin_mm * axis for axis in frame for sign in (-1, 1)]
    places = np.concatenate([around, *margins])
    whole = output_geometry(mr, OutputGrid(asked.spacing_mm, asked.orientation))
    index = whole.map_reference_to_indices(places)
    seen = np.all((index >= -0.5) & (index <= np.array(whole.spatial_shape) - 0.5), axis=1)
    return places[seen]


@bounded
@given(fields(), asked_grids(), st.tuples(*[st.floats(-3, 3)] * 3))
def test_a_ramp_on_the_models_grid_is_the_same_ramp_on_the_cts_and_beyond_it_is_air(
    field: VolumeGeometry, asked: OutputGrid, slope: Triple
) -> None:
    mr = field.with_array(np.zeros(field.spatial_shape, np.float32))
    there = ramp(model_grid(mr, (4.0, 3.0, 3.0)), slope)
    geometry = output_geometry(mr, asked, body_of(mr))
    hu = resample(there, geometry, fill=AIR_HU)
    places = geometry.map_indices_to_reference(np.argwhere(np.ones(geometry.spatial_shape, bool)))
    expected = ((places - np.array(there.center_position)) @ np.array(slope) + 20).reshape(geometry.spatial_shape)
    index = there.map_reference_to_indices(places).reshape(*geometry.spatial_shape, 3)
    last = np.array(there.spatial_shape) - 1
    inside = np.all((index >= 0) & (index <= last), axis=-1)
    beyond = np.any((index < -0.5 - 1e-6) | (index > last + 0.5 + 1e-6), axis=-1)
    assert np.abs(hu.array - expected)[inside].max(initial=0) <= 1e-6 * (1000 + np.abs(there.array).max())
    assert np.all(hu.array[beyond] == AIR_HU)


@bounded
@given(fields(), asked_grids())
def test_the_bodys_box_is_cut_out_of_the_whole_field_voxel_by_voxel(field: VolumeGeometry, asked: OutputGrid) -> None:
    mr = field.with_array(np.zeros(field.spatial_shape, np.float32))
    whole = output_geometry(mr, OutputGrid(asked.spacing_mm, asked.orientation))
    box = output_geometry(mr, asked, body_of(mr))
    assert np.all(np.array(box.spatial_shape) <= whole.spatial_shape)
    assert Resampling.between(whole, box).copy
    assert np.all(ramp(whole, (1, 1, 1)).array.max() >= resample(ramp(whole, (1, 1, 1)), box, fill=-1e6).array)
    assert resample(ramp(whole, (1, 1, 1)), box, fill=-1e6).array.min() > -1e6


@bounded
@given(fields())
def test_source_planes_are_the_mrs_own_where_its_pixels_are_square(field: VolumeGeometry) -> None:
    mr = field.with_array(np.zeros(field.spatial_shape, np.float32))
    geometry = output_geometry(mr, OutputGrid(orientation="source"))
    assert np.abs(geometry.direction - mr.direction).max() < 1e-12
    if field.spacing[1] == pytest.approx(field.spacing[2], abs=1e-6):
        assert np.abs(geometry.affine - mr.affine).max() < 1e-9
        assert geometry.spatial_shape == mr.spatial_shape
    else:
        assert geometry.spacing[1:] == pytest.approx([min(field.spacing[1:])] * 2, abs=1e-4)
    assert geometry.spacing[0] == pytest.approx(field.spacing[0], abs=1e-4)


def test_an_asked_spacing_is_what_is_written_and_planes_that_fit_it_stay() -> None:
    mr = axial_grid((20, 30, 40), (3.0, 1.5, 1.5), (1.2, 3.4, 5.6))
    geometry = output_geometry(mr, OutputGrid(spacing_mm=(3.0, 2.0, 2.0)))
    assert geometry.spacing == (3.0, 2.0, 2.0)
    assert geometry.position[2] == pytest.approx(mr.position[2], abs=1e-9)
    assert geometry.spatial_shape == (20, 23, 31)


def test_without_a_body_its_box_is_the_whole_field() -> None:
    mr = axial_grid((6, 8, 10), (3.0, 4.0, 4.0))
    nothing = mr.with_array(np.zeros(mr.spatial_shape, np.uint8))
    asked = OutputGrid(field="body")
    for body in (None, nothing):
        assert np.array_equal(output_geometry(mr, asked, body).affine, axial_geometry(mr).affine)


def test_a_grid_too_large_for_the_memory_is_refused() -> None:
    mr = axial_grid((400, 512, 512), (3.0, 1.0, 1.0))
    output_geometry(mr, OutputGrid())
    with pytest.raises(Unsuitable, match=rf"GRID_TOO_LARGE: .* {MOST_VOXELS}; output.spacing_mm"):
        output_geometry(mr, OutputGrid(spacing_mm=(0.2, 0.2, 0.2)))


# --- with the installed model ----------------------------------------------------------------------------------------


def test_a_thigh_comes_in_the_planes_of_its_mr_and_the_body_alone(tmp_path: Path) -> None:
    """An oblique MR of a thigh: HU on its own planes, the body's box; air around it one constant; planning holds it."""
    limb = load_model("limb-t1-ldm", "cpu")
    turn = Rotation.from_euler("xz", [12, 8], degrees=True).as_matrix()
    field = oblique_grid((10, 150, 150), (4.0, 1.6, 1.6), turn, (5.0, -4.0, 10.0))
    write_mr_series(thigh(field).mr, tmp_path / "mr")
    (tmp_path / "ct").mkdir()
    asked = OutputGrid(orientation="source", field="body", margin_mm=15.0)
    profiles = {"pacs": load_profile("archive"), "planning": load_profile("generic")}
    options = ConversionOptions(grid=asked, profiles=profiles)
    result = convert(only_series(read_series(tmp_path / "mr")), limb, tmp_path / "ct", options)
    ct = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in result.ct])
    assert ct.spatial_shape[0] == 10
    assert np.all(np.array(ct.spatial_shape[1:]) < 150)
    assert np.abs(np.abs(ct.direction.T @ field.direction) - np.eye(3)).max() < 1e-9
    border = np.concatenate([ct.array[:, :4].ravel(), ct.array[:, :, :4].ravel()])
    assert set(border.tolist()) == {AIR_HU}
    assert (ct.array > 300).any()
    assert {(one.destination, one.rule) for one in result.complaints} == {("planning", "axial_orientation")}
    assert "planning, profile generic: axial_orientation: ImageOrientationPatient is" in (result.held or "")
    assert result.report["sampling"]["orientation"] == "source"
    words = pydicom.dcmread(result.ct[0]).DerivationDescription
    assert "Field body outline and 15 mm around it. Interpolation: MR to model linear, HU to CT linear." in words
    assert "4 mm, planes of the MR" in words


def test_the_field_changes_no_hu(tmp_path: Path) -> None:
    limb = load_model("limb-t1-ldm", "cpu")
    mr = thigh(axial_grid((8, 200, 200), (3.27, 0.977, 0.977))).mr
    whole = synthesize(mr, limb, seed=3)
    body = synthesize(mr, limb, seed=3, output=OutputGrid(field="body"))
    assert body.sampling.to_ct == whole.sampling.to_ct == "none"
    assert body.hu.array.size < whole.hu.array.size
    assert np.array_equal(resample(whole.hu, body.hu.get_geometry(), fill=0.0).array, body.hu.array)
