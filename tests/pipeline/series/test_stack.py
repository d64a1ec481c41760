"""Properties of generated series: what order, orientation and conversion do not change, and what never passes.

Removed, doubled and shifted slices are tried at every place of a stack, the first and the last one too. A plain stack
without its first or last slice is a smaller regular stack, and no geometry can tell; it is refused where the headers
announce the number of images, or where another volume of the series reaches farther
(tests/pipeline/series/test_volume_choice.py).
"""

import copy
import dataclasses
import random
import tempfile
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import Volume, VolumeGeometry
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from pipeline.ct.write import write_ct
from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.series import Instance, Series, only_series, read_instance, read_series, select, stack_complete
from pipeline.series.stack import TOLERANCES, Tolerances
from pipeline.series.volume_choice import Choice
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.resampling import resample
from pipeline.volume.volume import read_stack, read_volume
from tests.support.provenance import PROVENANCE

Array = NDArray[np.float64]

bounded = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

RIGHT_ANGLED = [
    turn
    for p, signs in product(permutations(range(3)), product((1, -1), repeat=3))
    if np.linalg.det(turn := np.eye(3)[list(p)] * signs) > 0
]
"""The 24 orientations along the patient's axes that a scanner can acquire."""

POSITIONS = ("HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR")


lengths = st.floats(0.8, 6.0).map(lambda mm: round(mm, 4))
turns = st.tuples(*[st.floats(-1, 1)] * 4).map(
    lambda q: Rotation.from_quat(q if np.linalg.norm(q) > 0.1 else (0, 0, 0, 1)).as_matrix()
)
any_turn = st.one_of(turns, st.sampled_from(RIGHT_ANGLED))


@st.composite
def grids(draw: st.DrawFn) -> VolumeGeometry:
    """Any small grid: 7 to 10 slices, any orientation, spacing and place."""
    shape = draw(st.tuples(st.integers(7, 10), st.integers(3, 6), st.integers(3, 6)))
    steps = draw(st.tuples(lengths, lengths, lengths))
    centre = draw(st.tuples(*[st.floats(-300, 300).map(lambda mm: round(mm, 3))] * 3))
    return thigh.oblique_grid(shape, steps, draw(any_turn), centre)


def volume_on(grid: VolumeGeometry, seed: int = 0) -> Volume:
    """Random whole values on a grid."""
    values = np.random.default_rng(seed).integers(0, 4096, grid.spatial_shape)
    return grid.with_array(values.astype(np.float32))


def slices_of(grid: VolumeGeometry) -> list[Instance]:
    """The headers of a series on a grid, in the order of position along +normal."""
    with tempfile.TemporaryDirectory() as folder:
        paths = thigh.write_mr_series(volume_on(grid), Path(folder))
        return list(Series.of(map(read_instance, paths)).instances)


def altered(instance: Instance, **values: object) -> Instance:
    """An instance with other header values."""
    header = copy.deepcopy(instance.header)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return dataclasses.replace(instance, header=header, sop_instance_uid=header.SOPInstanceUID)


def moved(instance: Instance, by_mm: Array) -> Instance:
    """An instance at another place."""
    return altered(instance, ImagePositionPatient=[*(np.array(instance.header.ImagePositionPatient, float) + by_mm)])


def refusal(instances: Sequence[Instance], **wanted: object) -> Unsuitable:
    """The error with which a series of these instances is refused."""
    series = Series.of(instances)
    with pytest.raises(Unsuitable) as caught:
        select(series, Choice.of(wanted))
    assert not stack_complete(series, Choice.of(wanted))
    return caught.value


def axes(instance: Instance) -> tuple[Array, Array, Array]:
    """Unit vectors along a row, along a column, and of the normal."""
    rows, columns = np.reshape(np.array(instance.header.ImageOrientationPatient, float), (2, 3))
    return rows, columns, np.cross(rows, columns)


# --- one slice wrong -------------------------------------------------------------------------------------------------


@bounded
@given(grids(), st.data())
def test_a_slice_removed_from_within_is_a_gap_at_its_place(grid: VolumeGeometry, data: st.DataObject) -> None:
    slices = slices_of(grid)
    lost = data.draw(st.integers(1, len(slices) - 2))
    error = refusal(slices[:lost] + slices[lost + 1 :])
    assert error.code == "GAP"
    assert f"at slice {lost} of {len(slices) - 1}" in error.sentence


@bounded
@given(grids(), st.booleans())
def test_an_end_slice_removed_is_seen_only_where_the_number_of_images_is_announced(
    grid: VolumeGeometry, first: bool
) -> None:
    slices = slices_of(grid)
    left = slices[1:] if first else slices[:-1]
    assert select(Series.of(left)).stack.geometry.spatial_shape[0] == len(slices) - 1  # no geometry can tell
    announced = [altered(instance, ImagesInAcquisition=len(slices)) for instance in left]
    error = refusal(announced)
    assert error.code == "INCOMPLETE"
    assert error.sentence.endswith(f"{len(slices) - 1} images came, but ImagesInAcquisition is {len(slices)}")
    lenient = Tolerances(require_announced=False)
    assert select(Series.of(announced), tolerances=lenient).stack.geometry.spatial_shape[0] == len(slices) - 1
    derived = [altered(instance, ImageType=["DERIVED", "SECONDARY", "MPR"]) for instance in announced]
    assert select(Series.of(derived)).stack.geometry.spatial_shape[0] == len(slices) - 1  # the count is its source's


DIFFERENT = st.sampled_from(
    [
        ({}, "DUPLICATE_POSITION"),
        ({"InstanceNumber": 99, "ContentTime": "120000", "SliceLocation": 3}, "DUPLICATE_POSITION"),
        ({"AcquisitionNumber": 2}, "SEVERAL_VOLUMES"),
        ({"EchoTime": 80}, "SEVERAL_VOLUMES"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "SEVERAL_VOLUMES"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "SEVERAL_VOLUMES"),
    ]
)


@bounded
@given(grids(), DIFFERENT, st.data())
def test_a_doubled_slice_is_refused_wherever_it_lies_and_whatever_it_calls_itself(
    grid: VolumeGeometry, different: tuple[dict[str, object], str], data: st.DataObject
) -> None:
    slices, (values, code) = slices_of(grid), different
    twice = data.draw(st.integers(0, len(slices) - 1))
    twin = altered(slices[twice], SOPInstanceUID=generate_uid(), **values)
    error = refusal([*slices, twin])
    assert error.code == code
    if code == "DUPLICATE_POSITION":
        assert f"2 images lie at the position of slice {twice + 1} of {len(slices)}" in error.sentence


@bounded
@given(grids(), st.one_of(st.floats(0.03, 0.06), st.floats(0.06, 2.5)), st.booleans(), st.data())
def test_a_slice_shifted_along_the_normal_is_refused_by_its_steps(
    grid: VolumeGeometry, by_mm: float, back: bool, data: st.DataObject
) -> None:
    assume(by_mm < 0.45 * grid.spacing[0])
    slices = slices_of(grid)
    shifted = data.draw(st.integers(0, len(slices) - 1))
    slices[shifted] = moved(slices[shifted], axes(slices[0])[2] * (-by_mm if back else by_mm))
    error = refusal(slices)
    assert error.code in ("GAP", "UNEVEN_STEPS")
    assert any(f"at slice {n} of {len(slices)}" in error.sentence for n in (shifted, shifted + 1))


@bounded
@given(grids(), st.floats(0, 2 * np.pi), st.floats(0.11, 30.0), st.data())
def test_a_slice_shifted_within_its_plane_is_sheared(
    grid: VolumeGeometry, angle: float, by_mm: float, data: st.DataObject
) -> None:
    slices = slices_of(grid)
    shifted = data.draw(st.integers(0, len(slices) - 1))
    rows, columns, _ = axes(slices[0])
    slices[shifted] = moved(slices[shifted], (rows * np.cos(angle) + columns * np.sin(angle)) * by_mm)
    assert refusal(slices).code == "SHEAR"


@bounded
@given(grids(), st.floats(0.06, 80.0), st.sampled_from([0, 1, 2]), st.data())
def test_a_slice_of_another_angle_is_refused_at_any_place(
    grid: VolumeGeometry, degrees: float, axis: int, data: st.DataObject
) -> None:
    slices = slices_of(grid)
    turned = data.draw(st.integers(0, len(slices) - 1))
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axes(slices[0])[axis])
    cosines = [round(float(c), 12) for vector in axes(slices[0])[:2] for c in turn.apply(vector)]
    slices[turned] = altered(slices[turned], ImageOrientationPatient=cosines)
    assert refusal(slices).code == "MIXED_ORIENTATION"


@bounded
@given(grids(), st.randoms(use_true_random=False))
def test_scatter_within_the_tolerances_is_no_fault(grid: VolumeGeometry, chance: random.Random) -> None:
    slices = [moved(one, np.array([chance.uniform(-0.004, 0.004) for _ in range(3)])) for one in slices_of(grid)]
    stack = select(Series.of(slices)).stack
    assert np.abs(stack.geometry.affine[:3, 3] - np.array(slices[0].header.ImagePositionPatient, float)).max() < 1e-9
    for index, frame in enumerate(stack.frames):
        place = stack.geometry.map_indices_to_reference(np.array([[index, 0, 0]]))[0]
        assert np.abs(place - frame.position_mm).max() < TOLERANCES.position_mm


KINDS: st.SearchStrategy[dict[str, object]] = st.sampled_from(
    [{}, {"EchoTime": 80}, {"AcquisitionNumber": 2}, {"TriggerTime": 9}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}]
)


@st.composite
def mixtures(draw: st.DrawFn) -> list[Instance]:
    """Up to three stacks, whole or in pieces, of equal or different geometry and contrast, under one series UID."""
    base = draw(grids())
    mixed: list[Instance] = []
    for _ in range(draw(st.integers(1, 3))):
        grid = draw(st.sampled_from([base, base, draw(grids())]))
        shift = draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])) * grid.affine[:3, 0]
        values = {**draw(KINDS), "SeriesInstanceUID": "1.2", "StudyInstanceUID": "1.3", "FrameOfReferenceUID": "1.4"}
        slices = slices_of(grid)
        kept = draw(st.lists(st.sampled_from(slices), unique_by=id, min_size=1) | st.just(slices))
        mixed += [moved(altered(one, SOPInstanceUID=generate_uid(), **values), shift) for one in kept]
    return mixed


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mixtures())
def test_whatever_is_mixed_a_stack_that_is_taken_has_every_slice_where_its_header_says(mixed: list[Instance]) -> None:
    """Taken or refused; when taken, no slice of its geometry is left out and no corner lies off the grid."""
    try:
        found = select(Series.of(mixed))
    except Unsuitable as error:
        event(error.code)
        return
    event(f"taken, {len(found.set_aside)} stacks set aside")
    grid, frames = found.stack.geometry, found.stack.frames
    _, rows, columns = grid.spatial_shape
    for index, frame in enumerate(frames):
        across, down = np.reshape(frame.orientation, (2, 3))
        first = np.array(frame.position_mm)
        last = (
            first + across * frame.pixel_spacing_mm[1] * (columns - 1) + down * frame.pixel_spacing_mm[0] * (rows - 1)
        )
        corners = grid.map_indices_to_reference(np.array([[index, 0, 0], [index, rows - 1, columns - 1]]))
        assert np.abs(corners - [first, last]).max() < 2 * TOLERANCES.position_mm
    assert len(frames) + sum(one.count for one in found.set_aside) == len(mixed)
    assert all(one.why == "of another geometry" and one.count < TOLERANCES.min_slices for one in found.set_aside)


# --- order and orientation -------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(grids(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_ct_to_the_byte(grid: VolumeGeometry, order: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        instances = [read_instance(path) for path in thigh.write_mr_series(volume_on(grid), Path(folder) / "mr")]
        contents = []
        for name in ("one", "other"):
            found = select(Series.of(instances))
            mr = read_stack(found.stack)
            hu = resample(mr, axial_geometry(mr), fill=-1000.0)
            when = pydicom.valuerep.DT("20260102030405")
            paths = write_ct(hu, found.series, PROVENANCE, Path(folder) / name, written_at=when)
            contents.append([path.read_bytes() for path in paths])
            order.shuffle(instances)
    assert contents[0] == contents[1]


def written_positions(path: Path) -> tuple[Array, Array]:
    """Position (row, column, LPS mm) of every pixel of a CT file by PS3.3 C.7.6.2.1.1, and its HU."""
    image = pydicom.dcmread(path)
    corner, (along_row, along_column) = (
        np.array(image.ImagePositionPatient, float),
        np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3)),
    )
    rows, columns = np.indices((image.Rows, image.Columns))
    down, right = (float(mm) for mm in image.PixelSpacing)
    places = corner + rows[..., None] * down * along_column + columns[..., None] * right * along_row
    return places, image.pixel_array.astype(float) * float(image.RescaleSlope) + float(image.RescaleIntercept)


def as_read(mr: Volume) -> Volume:
    """The volume with its slices along row cosines x column cosines, as a reader must put them."""
    slices, rows, columns = mr.direction.T
    return mr if np.dot(np.cross(columns, rows), slices) > 0 else mr.flip_spatial(0)


CENTRE = np.array([12.5, -40.25, 88.0])
SLOPE = np.array([7.0, -11.0, 5.0])
"""HU a mm along x, y and z."""


@pytest.mark.parametrize("turn", RIGHT_ANGLED, ids=range(24))
def test_each_orientation_in_four_patient_positions_keeps_every_voxel_in_its_place(turn: Array, tmp_path: Path) -> None:
    """MR values rise evenly in space: through files, volume, resampling and CT files they stay where they were."""
    positions = POSITIONS[:4] if turn[0, 0] else POSITIONS[4:]
    for number, position in enumerate(positions):
        tilt = Rotation.from_euler("xyz", [0, 4 * number, -9 * number], degrees=True).as_matrix()
        grid = thigh.oblique_grid((5, 7, 6), (3.0, 2.0, 2.0), tilt @ turn, tuple(CENTRE))
        places = grid.map_indices_to_reference(np.argwhere(np.ones(grid.spatial_shape, bool)))
        values = np.rint((places - CENTRE) @ SLOPE + 1000).reshape(grid.spatial_shape)
        mr = as_read(grid.with_array(values.astype(np.float32)))
        subject = thigh.Subject(patient_position=position)
        thigh.write_mr_series(mr, tmp_path / f"mr{number}", subject=subject, shuffled=True)
        found = select(only_series(read_series(tmp_path / f"mr{number}")))
        back = read_stack(found.stack)
        assert np.abs(back.affine - mr.affine).max() < 1e-7
        assert np.array_equal(back.array, mr.array)
        hu = resample(back, axial_geometry(back), fill=-1000.0)
        files = write_ct(hu, found.series, PROVENANCE, tmp_path / f"ct{number}")
        assert {pydicom.dcmread(path).PatientPosition for path in files} == {position}
        assert sum(_checked_in_place(path, index, hu, back) for index, path in enumerate(files)) > 50


def _checked_in_place(path: Path, index: int, hu: Volume, mr: Volume) -> int:
    """The pixels of a CT file are where its grid has them, and have the value that the MR has there: so many did."""
    places, values = written_positions(path)
    pixels = np.array([[index, row, column] for row, column in np.ndindex(*values.shape)])
    assert np.abs(hu.map_indices_to_reference(pixels) - places.reshape(-1, 3)).max() < 1e-4
    in_mr = mr.map_reference_to_indices(places.reshape(-1, 3))
    inside = np.all((in_mr > -1e-6) & (in_mr < np.array(mr.spatial_shape) - 1 + 1e-6), axis=1)
    expected = (places.reshape(-1, 3) - CENTRE) @ SLOPE + 1000
    assert np.abs(values.ravel() - expected)[inside].max(initial=0) <= 1.0 + 1e-3  # rounded twice
    return int(inside.sum())


# --- classic and Enhanced --------------------------------------------------------------------------------------------


def legacy_converted(classic: Sequence[pydicom.Dataset], path: Path) -> Path:
    """A classic series as one Legacy Converted Enhanced MR object, by highdicom."""
    converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        classic, series_instance_uid=generate_uid(), series_number=9, sop_instance_uid=generate_uid(), instance_number=1
    )
    converted.save_as(path)
    return path


@settings(max_examples=8, deadline=None)
@given(grids(), st.integers(0, 9), st.booleans())
def test_a_legacy_conversion_to_enhanced_gives_the_same_volume(grid: VolumeGeometry, seed: int, rescaled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = thigh.write_mr_series(volume_on(grid, seed), Path(folder) / "mr", shuffled=True)
        for number, path in enumerate(paths * rescaled, start=1):
            image = pydicom.dcmread(path)
            image.RescaleSlope, image.RescaleIntercept, image.RescaleType = str(number), str(-10 * number), "US"
            image.save_as(path)
        classic = read_volume(Series.of(map(read_instance, paths)))
        path = legacy_converted([pydicom.dcmread(path) for path in paths], Path(folder) / "one.dcm")
        enhanced = read_volume(Series.of([read_instance(path)]))
    assert np.array_equal(classic.array, enhanced.array)
    assert np.abs(classic.affine - enhanced.affine).max() < 1e-7


def test_the_volumes_of_a_converted_series_are_told_apart_as_before(tmp_path: Path) -> None:
    grid = thigh.axial_grid((7, 4, 5), (3.0, 4.0, 4.0))
    images = []
    for seed, (time, component) in enumerate(product((12, 80), "MP")):
        for path in thigh.write_mr_series(volume_on(grid, seed), tmp_path / str(seed)):
            image = pydicom.dcmread(path)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.EchoTime, image.ImageType = time, ["ORIGINAL", "PRIMARY", component, "ND"]
            image.save_as(path)
            images.append(image)
    classic = only_series(read_series(tmp_path))
    enhanced = Series.of([read_instance(legacy_converted(images, tmp_path / "one.dcm"))])
    for wanted in product((1, 2), ("MAGNITUDE", "PHASE")):
        choice = Choice.of({"echo": wanted[0], "component": wanted[1]})
        one, other = select(classic, choice), select(enhanced, choice)
        assert one.volume_description == other.volume_description != ""
        assert np.array_equal(read_stack(one.stack).array, read_stack(other.stack).array)
