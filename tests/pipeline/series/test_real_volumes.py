"""Real series that hold several volumes: a choice takes one of them, voxel for voxel what files picked by hand hold."""

import gzip
import itertools
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from pipeline.ct.write import write_ct
from pipeline.errors import Unsuitable
from pipeline.series.series import Series, only_series, read_instance, read_series, select
from pipeline.series.volume_choice import Choice
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.resampling import resample
from pipeline.volume.volume import read_stack, read_volume
from tests.support.provenance import PROVENANCE

Find = Callable[[str], Path]
"""From the name of an item to its file or folder."""

Slice = tuple[tuple[float, ...], NDArray[Any]]
"""Position of the first pixel, and MR values (row, column)."""

FIELD_MAP = "philips_fieldmap_2echo_magphase_multivolume_classic"
FIELD_MAP_ENHANCED = "philips_enhanced_multivolume/fieldmap_2echo_mag_phase_enhanced.dcm.gz"
PCASL = "philips_enhanced_multivolume/pcasl_6vol_enhanced.dcm.gz"
B0_MAP = "philips_enhanced_multivolume/b0map_mag_real_enhanced.dcm.gz"
GE = "ge_multiphase_10vol_classic"
TOSHIBA = "toshiba_galan_dwi_oblique_2vol_classic"


@pytest.fixture(scope="module")
def series(mr_item: Find, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Series]:
    """The one series of an item, unzipped where it is zipped, its headers read once."""
    folder, read = tmp_path_factory.mktemp("plain"), {}

    def find(name: str) -> Series:
        path = mr_item(name)
        if path.suffix == ".gz":
            plain = folder / path.stem
            plain.write_bytes(gzip.decompress(path.read_bytes()))
            path = plain
        if name not in read:
            read[name] = only_series(read_series(path))
        return read[name]

    return find


def classic_slices(series: Series, of_volume: Callable[[Dataset], bool]) -> Iterator[Slice]:
    """The files that a person would pick, read by pydicom alone."""
    for instance in series.instances:
        image = pydicom.dcmread(instance.path)
        if of_volume(image):
            values = image.pixel_array * float(image.get("RescaleSlope", 1)) + float(image.get("RescaleIntercept", 0))
            yield tuple(map(float, image.ImagePositionPatient)), values


def enhanced_slices(series: Series, of_volume: Callable[[Dataset], bool]) -> Iterator[Slice]:
    """The frames that a person would pick by their functional groups, read by pydicom alone."""
    image = pydicom.dcmread(series.instances[0].path)
    for group, stored in zip(image.PerFrameFunctionalGroupsSequence, image.pixel_array, strict=True):
        if of_volume(group):
            position = tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
            rescale = group.PixelValueTransformationSequence[0]
            yield position, stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)


def by_hand(slices: Iterator[Slice], normal: NDArray[np.float64]) -> NDArray[np.float32]:
    """Slices in the order of their positions along a normal."""
    ordered = sorted(slices, key=lambda one: float(np.dot(one[0], normal)))
    return np.stack([values for _, values in ordered]).astype(np.float32)


def frame_type(component: str) -> Callable[[Dataset], bool]:
    return lambda group: group.MRImageFrameTypeSequence[0].ComplexImageComponent == component


def control_1(group: Dataset) -> bool:
    """The first control volume, as Philips' private label has it."""
    label = group[0x2005, 0x140F][0][0x2005, 0x1429].value
    return bool(group.FrameContentSequence[0].TemporalPositionIndex == 1 and label == "CONTROL")


def echo_1_magnitude(group: Dataset) -> bool:
    return group.MREchoSequence[0].EffectiveEchoTime == 2.3 and frame_type("MAGNITUDE")(group)


PICKED: list[tuple[str, dict[str, object], str, Callable[[Dataset], bool]]] = [
    (
        FIELD_MAP,
        {"echo": 1, "component": "MAGNITUDE"},
        "echo 1 magnitude (TE 2.3 ms, 53 slices)",
        lambda image: image.EchoTime == 2.3 and "M_FFE" in image.ImageType,
    ),
    (
        FIELD_MAP,
        {"echo_time_ms": 4.6, "component": "PHASE"},
        "echo 2 phase (TE 4.6 ms, 53 slices)",
        lambda image: image.EchoTime == 4.6 and "PHASE MAP" in image.ImageType,
    ),
    (
        FIELD_MAP_ENHANCED,
        {"echo": 1, "component": "MAGNITUDE"},
        "echo 1 magnitude (TE 2.3 ms, 53 slices)",
        echo_1_magnitude,
    ),
    (
        PCASL,
        {"temporal_position": 1, "label": "CONTROL"},
        "temporal position 1 control (40 slices)",
        control_1,
    ),
    (B0_MAP, {"component": "MAGNITUDE"}, "echo 1 magnitude (TE 1.52 ms, 32 slices)", frame_type("MAGNITUDE")),
    (
        GE,
        {"temporal_position": 4},
        "temporal position 4 (10 slices)",
        lambda image: image.TemporalPositionIdentifier == 4,
    ),
    (TOSHIBA, {"b_value": 1500}, "b 1500 (40 slices)", lambda image: "DiffusionBValue" in image),
    (TOSHIBA, {"b_value": None}, "b value not stated (40 slices)", lambda image: "DiffusionBValue" not in image),
]


@pytest.mark.parametrize(("name", "wanted", "words", "of_volume"), PICKED)
def test_a_choice_takes_the_volume_that_a_person_would_pick(
    name: str,
    wanted: dict[str, object],
    words: str,
    of_volume: Callable[[Dataset], bool],
    series: Callable[[str], Series],
) -> None:
    source = series(name)
    found = select(source, Choice.of(wanted))
    volume = read_stack(found.stack)
    slices = enhanced_slices if len(source.instances) == 1 else classic_slices
    expected = by_hand(slices(source, of_volume), volume.direction[:, 0])
    assert found.volume_description == words
    assert volume.array.shape == expected.shape
    assert np.array_equal(volume.array, expected)
    frames = sum(one.count for one in found.set_aside) + len(found.stack.frames)
    assert frames == max(len(source.instances), int(source.header.get("NumberOfFrames", 1)))


@pytest.mark.parametrize(("echo", "component"), [*itertools.product((1, 2), ("MAGNITUDE", "PHASE"))])
def test_the_scanner_s_classic_and_enhanced_export_give_the_same_volumes(
    echo: int, component: str, series: Callable[[str], Series]
) -> None:
    choice = Choice.of({"echo": echo, "component": component})
    classic, enhanced = (read_volume(series(name), choice) for name in (FIELD_MAP, FIELD_MAP_ENHANCED))
    assert np.abs(classic.affine - enhanced.affine).max() < 1e-4
    assert np.array_equal(classic.array, enhanced.array)


def test_the_ct_of_some_frames_names_these_frames(
    series: Callable[[str], Series], tmp_path: Path, program: Callable[[str], str]
) -> None:
    found = select(series(FIELD_MAP_ENHANCED), Choice.of({"echo": 1, "component": "MAGNITUDE"}))
    mr = read_stack(found.stack)
    path = write_ct(resample(mr, axial_geometry(mr), fill=-1000.0), found.series, PROVENANCE, tmp_path)[0]
    image = pydicom.dcmread(path)
    [source] = image.SourceImageSequence
    groups = pydicom.dcmread(found.series.instances[0].path).PerFrameFunctionalGroupsSequence
    assert list(source.ReferencedFrameNumber) == [n for n, g in enumerate(groups, start=1) if echo_1_magnitude(g)]
    assert "Source MR 80 x 80 x 53;" in image.DerivationDescription
    said = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []


def test_a_field_map_is_not_taken_for_an_mr_image_even_when_it_was_chosen(series: Callable[[str], Series]) -> None:
    with pytest.raises(Unsuitable, match="DERIVED_IMAGE: the images are calculated"):
        select(series(B0_MAP), Choice.of({"component": "REAL"}))


def test_a_choice_that_leaves_two_says_which(series: Callable[[str], Series]) -> None:
    with pytest.raises(Unsuitable) as caught:
        select(series(PCASL), Choice.of({"temporal_position": 1}))
    leaves = "the choice of temporal_position 1 leaves 2 volumes where one is needed"
    assert caught.value.sentence == f"{leaves}: control (40 slices), label (40 slices)"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("siemens_prisma_sag_t1_HFP", {}), (TOSHIBA, {"b_value": 1500}), (FIELD_MAP, {"echo": 1, "component": "PHASE"})],
)
def test_a_converted_real_series_is_the_classic_one(
    name: str, wanted: dict[str, object], series: Callable[[str], Series], tmp_path: Path
) -> None:
    source, choice = series(name), Choice.of(wanted)
    files = [pydicom.dcmread(instance.path) for instance in source.instances]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom doubts names without a caret
        converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
            files, generate_uid(), series_number=9, sop_instance_uid=generate_uid(), instance_number=1
        )
    converted.save_as(tmp_path / "one.dcm")
    classic = read_volume(source, choice)
    enhanced = read_volume(Series.of([read_instance(tmp_path / "one.dcm")]), choice)
    assert np.abs(classic.affine - enhanced.affine).max() < 1e-7
    assert np.array_equal(classic.array, enhanced.array)
