"""Series -> volume: MR values as the scanner meant them, and geometry as properties over generated series."""

import random
import tempfile
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import EnhancedMRImageStorage, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.phantom.thigh import CORTICAL_BONE, VESSEL, Subject
from pipeline.series.series import Series, only_series, read_instance, read_series
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.resampling import Resampling, resample
from pipeline.volume.volume import read_volume

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
Change = Callable[[pydicom.Dataset, int], object]
"""What is done to the data set of a file, and the file's place in the order of names."""

bounded = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

RIGHT_ANGLED = [np.eye(3)[list(p)] * signs for p in permutations(range(3)) for signs in product((1, -1), repeat=3)]
"""All 48 ways to lay three axes along the patient's axes, mirrored ones too."""

POSITIONS = ("HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR")

spacings = st.floats(0.4, 5.0).map(lambda mm: round(mm, 5))
centres = st.tuples(*[st.floats(-400, 400).map(lambda mm: round(mm, 3))] * 3)
oblique_turns = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: Rotation.from_quat(q).as_matrix())
)
any_steps = st.tuples(spacings, spacings, spacings)
turns = st.one_of(oblique_turns, st.sampled_from(RIGHT_ANGLED))


@st.composite
def volumes(
    draw: st.DrawFn, turns: st.SearchStrategy[Array] = turns, steps: st.SearchStrategy[Triple] = any_steps
) -> highdicom.Volume:
    """A volume of random integers on any grid: any orientation, spacing, size and place."""
    shape = draw(st.tuples(st.integers(5, 8), st.integers(4, 11), st.integers(4, 11)))
    grid = thigh.oblique_grid(shape, draw(steps), draw(turns), draw(centres))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 4096, shape)
    return grid.with_array(values.astype(np.float32))


def through_dicom(
    mr: highdicom.Volume, *, shuffled: bool = False, position: str = "HFS", enhanced: bool = False
) -> highdicom.Volume:
    """Write a volume as DICOM, and read it back."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(patient_position=position)
        if enhanced:
            thigh.write_enhanced_mr(mr, Path(folder), subject=subject)
        else:
            thigh.write_mr_series(mr, Path(folder), subject=subject, shuffled=shuffled)
        return read_volume(only_series(read_series(Path(folder))))


def as_read(mr: highdicom.Volume) -> highdicom.Volume:
    """The volume with its slices turned as a reader must: along row cosines x column cosines."""
    slices, rows, columns = mr.direction.T
    return mr if np.dot(np.cross(columns, rows), slices) > 0 else mr.flip_spatial(0)


# --- properties ------------------------------------------------------------------------------------------------------


@bounded
@given(volumes(), st.booleans(), st.sampled_from(POSITIONS), st.booleans())
def test_a_volume_comes_back_from_dicom_as_it_was(
    mr: highdicom.Volume, shuffled: bool, position: str, enhanced: bool
) -> None:
    back = through_dicom(mr, shuffled=shuffled, position=position, enhanced=enhanced)
    expected = as_read(mr)
    assert np.abs(back.affine - expected.affine).max() < 1e-7
    assert np.array_equal(back.array, expected.array)
    assert back.array.dtype == np.float32
    assert back.affine.dtype == np.float64


@bounded
@given(volumes(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_volume(mr: highdicom.Volume, order: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = thigh.write_mr_series(mr, Path(folder), shuffled=True)
        instances = [read_instance(path) for path in paths]
        first = read_volume(Series.of(instances))
        order.shuffle(instances)
        series = Series.of(instances)
        second = read_volume(series)
    assert np.array_equal(first.array, second.array)
    assert np.array_equal(first.affine, second.affine)
    normal = second.direction[:, 0]
    heights = [np.dot([float(v) for v in i.header.ImagePositionPatient], normal) for i in series.instances]
    assert heights == sorted(heights)


@bounded
@given(volumes())
def test_the_axial_grid_is_axial_square_and_covers_every_voxel(mr: highdicom.Volume) -> None:
    grid = axial_geometry(mr)
    z, y, x = grid.spacing
    assert grid.get_affine("LPS")[:3, :3] == pytest.approx(np.array([[0, 0, x], [0, y, 0], [z, 0, 0]]), abs=0)
    assert x == pytest.approx(y, abs=1e-4 / max(grid.spatial_shape))
    corners = np.array(list(product(*[(-0.5, n - 0.5) for n in mr.spatial_shape])))
    places = grid.map_reference_to_indices(mr.map_indices_to_reference(corners))
    slack = 1e-4 / np.array(grid.spacing)
    assert np.all(places >= -0.5 - slack)
    assert np.all(places <= np.array(grid.spatial_shape) - 0.5 + slack)
    # and not much more than that: two voxels beyond the outermost corner at most
    assert np.all(places.min(axis=0) < 1.5)
    assert np.all(places.max(axis=0) > np.array(grid.spatial_shape) - 2.5)


@bounded
@given(volumes())
def test_the_axial_grid_is_written_exactly_by_decimal_strings(mr: highdicom.Volume) -> None:
    grid = axial_geometry(mr)
    ds = [float(pydicom.valuerep.format_number_as_ds(v)) for v in (*grid.position, *grid.spacing)]
    for index in (0, grid.spatial_shape[0] - 1):
        written = ds[2] + index * ds[3]
        assert written == pytest.approx(grid.map_indices_to_reference(np.array([[index, 0, 0]]))[0, 2], abs=1e-6)


square = st.tuples(spacings, spacings).map(lambda mm: (mm[0], mm[1], mm[1]))
isotropic = spacings.map(lambda mm: (mm, mm, mm))


@bounded
@given(volumes(st.sampled_from(RIGHT_ANGLED), isotropic))
def test_a_volume_along_the_patients_axes_is_copied_not_interpolated(mr: highdicom.Volume) -> None:
    source = through_dicom(mr)
    ct = resample(source, axial_geometry(source), fill=-1.0)
    assert np.array_equal(np.sort(ct.array.ravel()), np.sort(mr.array.ravel()))
    indices = np.argwhere(np.ones(mr.spatial_shape, bool))
    places = np.rint(ct.map_reference_to_indices(mr.map_indices_to_reference(indices))).astype(int)
    assert np.array_equal(ct.array[tuple(places.T)], mr.array[tuple(indices.T)])


@bounded
@given(volumes(st.sampled_from([m for m in RIGHT_ANGLED if abs(m[2, 2]) == 1]), square))
def test_an_axial_volume_keeps_its_slices_whatever_their_distance(mr: highdicom.Volume) -> None:
    grid = axial_geometry(mr)
    assert sorted(grid.spatial_shape) == sorted(mr.spatial_shape)
    assert grid.spacing[0] == pytest.approx(mr.spacing[0], abs=1e-9)
    assert np.array_equal(np.sort(resample(mr, grid, fill=-1.0).array.ravel()), np.sort(mr.array.ravel()))


coarse = st.floats(1.0, 3.0).map(lambda mm: round(mm, 5))


@bounded
@given(turns, st.tuples(coarse, coarse, coarse), centres, st.tuples(*[st.floats(0.35, 0.65)] * 3), st.booleans())
def test_a_landmark_stays_within_half_a_voxel(
    turn: Array, steps: Triple, centre: Triple, fraction: Triple, enhanced: bool
) -> None:
    grid = thigh.oblique_grid((24, 26, 28), steps, turn, centre)
    index = np.array(fraction) * grid.spatial_shape
    landmark = grid.map_indices_to_reference(index[None])[0]
    source = through_dicom(grid.with_array(_blob(grid.spatial_shape, index)), shuffled=True, enhanced=enhanced)
    ct = resample(source, axial_geometry(source), fill=0.0)
    assert np.all(np.abs(_centroid(ct) - landmark) < 0.5 * np.min(ct.spacing))


def _blob(shape: tuple[int, int, int], centre: Array) -> NDArray[np.float32]:
    """A Gaussian of two voxels' standard deviation about an index, 0 to 4000: gone before the edge of the field."""
    squares = [((np.arange(n) - c) / 2) ** 2 for n, c in zip(shape, centre, strict=True)]
    blob: NDArray[np.float32] = (4000 * np.exp(-sum(np.ix_(*squares)) / 2)).astype(np.float32)
    return blob


def _centroid(volume: highdicom.Volume) -> Array:
    weights = np.clip(volume.array - 400, 0, None)
    points = volume.map_indices_to_reference(np.argwhere(weights > 0))
    return np.average(points, axis=0, weights=weights[weights > 0])


@settings(max_examples=12, deadline=None)
@given(turns, st.sampled_from(POSITIONS), st.booleans())
def test_left_is_left_in_any_orientation_and_patient_position(turn: Array, position: str, enhanced: bool) -> None:
    grid = thigh.oblique_grid((60, 60, 60), (3.0, 3.0, 3.0), turn)
    labels = thigh.thigh(grid).labels.astype(np.float32)
    source = through_dicom(labels, shuffled=True, position=position, enhanced=enhanced)
    ct = resample(source, axial_geometry(source), fill=0.0, interpolation="nearest")
    bone = ct.map_indices_to_reference(np.argwhere(ct.array == CORTICAL_BONE.label))
    expected_x, expected_y = thigh.femur_centre_mm(bone[:, 2])
    assert abs(np.mean(bone[:, 0] - expected_x)) < 1.5
    assert abs(np.mean(bone[:, 1] - expected_y)) < 1.5
    vessels = ct.map_indices_to_reference(np.argwhere(ct.array == VESSEL.label))
    assert vessels[:, 0].mean() < -20  # medial in a left thigh: to the patient's right
    lower, upper = bone[bone[:, 2] < -30], bone[bone[:, 2] > 30]
    assert upper[:, 0].mean() > lower[:, 0].mean() + 3  # the femur leans to the left towards superior


# --- values ----------------------------------------------------------------------------------------------------------

GRID = thigh.axial_grid((6, 8, 10), (3.0, 4.0, 4.0))
VALUES = np.random.default_rng(0).integers(0, 4096, GRID.spatial_shape).astype(np.float32)
MR = GRID.with_array(VALUES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six slices of random values in files 0001.dcm to 0006.dcm, in the order of position."""
    thigh.write_mr_series(MR, tmp_path / "mr")
    return tmp_path / "mr"


def edit(folder: Path, change: Change) -> None:
    """Apply `change(data_set, index)` to every file, and write it back."""
    for index, path in enumerate(sorted(folder.iterdir())):
        data_set = pydicom.dcmread(path)
        change(data_set, index)
        data_set.save_as(path)


def read(folder: Path) -> highdicom.Volume:
    """The volume in a folder."""
    return read_volume(only_series(read_series(folder)))


def test_every_slice_has_its_own_rescale(folder: Path) -> None:
    def rescale(data_set: pydicom.Dataset, index: int) -> None:
        data_set.RescaleSlope, data_set.RescaleIntercept, data_set.RescaleType = (
            str(1.5 + index),
            str(-10 * index),
            "US",
        )

    edit(folder, rescale)
    k = np.arange(6)[:, None, None]
    assert read(folder).array == pytest.approx(VALUES * (1.5 + k) - 10 * k, rel=1e-6)


def test_real_world_value_mappings_and_private_scalings_are_not_applied(folder: Path) -> None:
    def map_values(data_set: pydicom.Dataset, index: int) -> None:
        mapping = pydicom.Dataset()
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 7.0, 1.0
        mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, 4095
        data_set.RealWorldValueMappingSequence = [mapping]
        data_set.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5)

    edit(folder, map_values)
    assert np.array_equal(read(folder).array, VALUES)


def test_signed_values_stay_negative(folder: Path) -> None:
    def sign(data_set: pydicom.Dataset, index: int) -> None:
        data_set.PixelData = (VALUES[index] - 2000).astype("<i2").tobytes()
        data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 15, 1

    edit(folder, sign)
    assert np.array_equal(read(folder).array, VALUES - 2000)


def test_signed_values_in_12_bits_are_sign_extended(folder: Path) -> None:
    def sign(data_set: pydicom.Dataset, index: int) -> None:
        data_set.PixelData = ((VALUES[index] - 2000).astype("<i2") & 0x0FFF).astype("<u2").tobytes()
        data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 12, 11, 1

    edit(folder, sign)
    expected = VALUES - 2000
    expected[expected > 2047] -= 4096  # what 12 signed bits cannot hold wraps
    assert np.array_equal(read(folder).array, expected)


def test_an_overlay_hidden_in_the_high_bits_is_not_read_as_signal(folder: Path) -> None:
    def hide(data_set: pydicom.Dataset, index: int) -> None:
        data_set.PixelData = (VALUES[index].astype("<u2") | 0xA000).astype("<u2").tobytes()

    edit(folder, hide)
    assert np.array_equal(read(folder).array, VALUES)


def test_padding_becomes_no_signal(folder: Path) -> None:
    def pad(data_set: pydicom.Dataset, index: int) -> None:
        stored = VALUES[index].astype("<u2")
        stored[0], stored[1] = 4095, 4090
        data_set.PixelData = stored.tobytes()
        data_set.add_new("PixelPaddingValue", "US", 4095)
        data_set.add_new("PixelPaddingRangeLimit", "US", 4090)
        data_set.RescaleSlope, data_set.RescaleIntercept = "2", "100"

    edit(folder, pad)
    array = read(folder).array
    assert np.all(array[:, :2] == 0)
    kept = np.where(VALUES >= 4090, 0, VALUES * 2 + 100)[:, 2:]
    assert np.array_equal(array[:, 2:], kept)


def test_negative_padding_of_signed_values_is_recognised(folder: Path) -> None:
    def pad(data_set: pydicom.Dataset, index: int) -> None:
        stored = (VALUES[index] - 2000).astype("<i2")
        stored[0] = -32768
        data_set.PixelData = stored.tobytes()
        data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 15, 1
        data_set.add_new("PixelPaddingValue", "US", 32768)  # the wrong VR, as some scanners write it

    edit(folder, pad)
    assert np.all(read(folder).array[:, 0] == 0)
    assert np.array_equal(read(folder).array[:, 1:], VALUES[:, 1:] - 2000)


def test_a_modality_lut_is_applied(folder: Path) -> None:
    def look_up(data_set: pydicom.Dataset, index: int) -> None:
        table = pydicom.Dataset()
        table.LUTDescriptor = [4096, 0, 16]
        table.ModalityLUTType = "US"
        table.add_new("LUTData", "OW", (4095 - np.arange(4096)).astype("<u2").tobytes())
        data_set.ModalityLUTSequence = [table]

    edit(folder, look_up)
    assert np.array_equal(read(folder).array, 4095 - VALUES)


def test_an_enhanced_object_may_rescale_every_frame(tmp_path: Path) -> None:
    path = thigh.write_enhanced_mr(MR, tmp_path)
    image = pydicom.dcmread(path)
    rescale = image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    del image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    for group in image.PerFrameFunctionalGroupsSequence:
        own = pydicom.Dataset()
        own.update(rescale)
        own.RescaleSlope = group.FrameContentSequence[0].InStackPositionNumber
        group.PixelValueTransformationSequence = [own]
    image.save_as(path)
    assert np.array_equal(read(tmp_path).array, VALUES * np.arange(1, 7)[:, None, None])


def test_a_legacy_converted_enhanced_series_is_the_classic_series(folder: Path, tmp_path: Path) -> None:
    classic = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        classic, series_instance_uid=generate_uid(), series_number=9, sop_instance_uid=generate_uid(), instance_number=1
    )
    (tmp_path / "converted").mkdir()
    converted.save_as(tmp_path / "converted" / "one.dcm")
    volume = read(tmp_path / "converted")
    assert np.array_equal(volume.array, VALUES)
    assert np.abs(volume.affine - GRID.affine).max() < 1e-7


def test_two_enhanced_objects_that_share_a_stack_make_one_volume(tmp_path: Path) -> None:
    """A concatenation: slices 1 to 3 in one object and 4 to 6 in the other."""
    halves: list[pydicom.Dataset] = []
    for part in (slice(0, 3), slice(3, 6)):
        path = thigh.write_enhanced_mr(MR[part], tmp_path / str(part.start))
        image = pydicom.dcmread(path)
        if halves:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                setattr(image, keyword, getattr(halves[0], keyword))
            image.save_as(path)
        halves.append(image)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, VALUES)


def test_two_enhanced_objects_with_one_volume_each_are_refused(tmp_path: Path) -> None:
    path = thigh.write_enhanced_mr(MR, tmp_path)
    image = pydicom.dcmread(path)
    assert image.SOPClassUID == EnhancedMRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.save_as(tmp_path / "second.dcm")
    with pytest.raises(Unsuitable, match=r"SEVERAL_VOLUMES: .*2 images at each of 6 positions"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0.7, 0.9, 0.99])
def test_a_truncated_compressed_file_is_unreadable(folder: Path, kept: float) -> None:
    edit(folder, lambda data_set, _: data_set.compress(RLELossless, generate_instance_uid=False))
    assert np.array_equal(read(folder).array, VALUES)
    path = folder / "0003.dcm"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(Unsuitable, match="UNREADABLE"):
        read(folder)


# --- resampling ------------------------------------------------------------------------------------------------------


def test_outside_the_source_is_the_fill_value() -> None:
    wide = thigh.axial_grid((8, 10, 12), (3.0, 4.0, 4.0))
    moved = resample(MR, wide, fill=-1024.0)
    assert np.array_equal(moved.array[1:-1, 1:-1, 1:-1], VALUES)
    assert np.all(moved.array[[0, -1]] == -1024)


def test_outside_the_source_is_the_fill_value_on_a_turned_grid_too() -> None:
    turn = Rotation.from_euler("xz", [20, 30], degrees=True).as_matrix()
    wide = thigh.oblique_grid((12, 16, 20), (3.0, 4.0, 4.0), turn)
    places = wide.map_indices_to_reference(np.argwhere(np.ones(wide.spatial_shape, bool)))
    index = MR.map_reference_to_indices(places)
    beyond = np.any((index < -0.5) | (index > np.array(MR.spatial_shape) - 0.5), axis=1).reshape(wide.spatial_shape)
    moved = resample(MR, wide, fill=-1024.0)
    assert np.array_equal(moved.array == -1024, beyond)
    assert 0 < beyond.mean() < 1


def test_the_values_of_a_single_row_of_voxels_are_its_own() -> None:
    """Such a shape is contiguous when transposed: a view, not a copy, of memory that goes with the image."""
    row = thigh.oblique_grid((1, 1, 3), (3.1, 4.1, 4.1), Rotation.from_euler("z", 5, degrees=True).as_matrix())
    even = GRID.with_array(np.full(GRID.spatial_shape, 7.0, np.float32))
    moved = resample(even, row, fill=0.0)
    assert moved.array.flags.owndata
    assert np.all(moved.array == 7.0)


def test_linear_interpolation_is_the_mean_of_two_neighbours() -> None:
    between = thigh.axial_grid((5, 8, 10), (3.0, 4.0, 4.0))  # half a slice up at both ends
    moved = resample(MR, between, fill=0.0)
    assert moved.array == pytest.approx((VALUES[1:] + VALUES[:-1]) / 2, abs=1e-2)


def test_nearest_neighbours_invent_no_label() -> None:
    turned = thigh.oblique_grid((9, 11, 12), (2.0, 3.0, 3.0), Rotation.from_euler("z", 30, degrees=True).as_matrix())
    labels = GRID.with_array((VALUES % 5).astype(np.uint8))
    moved = resample(labels, turned, fill=0, interpolation="nearest")
    assert moved.array.dtype == np.uint8
    assert set(np.unique(moved.array)) <= set(range(5))


def test_the_result_lies_in_the_sources_frame_of_reference() -> None:
    source = highdicom.Volume(VALUES, GRID.affine, "PATIENT", frame_of_reference_uid="1.2.3")
    for grid in (axial_geometry(source), thigh.axial_grid((4, 4, 4))):
        assert resample(source, grid, fill=0.0).frame_of_reference_uid == "1.2.3"
    assert axial_geometry(source).frame_of_reference_uid == "1.2.3"


def test_a_sagittal_series_with_thick_slices_becomes_square_axial_pixels() -> None:
    """35 sagittal slices 4.8 mm apart, 1.015625 mm in their plane: new columns, old rows and slices."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (4.8, 0, 0), (0, 0, -1.015625), (0, 1.015625, 0)
    grid = axial_geometry(highdicom.VolumeGeometry(affine, (35, 256, 256), "PATIENT"))
    assert grid.spacing == pytest.approx((1.015625,) * 3, abs=0)
    assert grid.spatial_shape[:2] == (256, 256)
    assert grid.position[2] == pytest.approx(-255 * 1.015625)
    assert grid.spatial_shape[2] * 1.015625 >= 35 * 4.8


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_copied_voxels_are_those_that_another_program_finds_at_their_places(order: tuple[int, int, int]) -> None:
    """SimpleITK's nearest neighbour is exact where voxels coincide, and knows nothing of our flips and crops."""
    turned = MR.get_geometry().permute_spatial_axes(list(order)).flip_spatial([0, 2])
    part: Any = (slice(1, None), slice(2, -1), slice(None, -3))
    target = turned[part]
    way = Resampling.between(MR.get_geometry(), target)
    assert way.copy is not None
    interpolated = Resampling(target, None).apply(MR, fill=-1024.0, interpolation="nearest")
    assert way.apply(MR, fill=-1024.0).array.tobytes() == interpolated.array.tobytes()
