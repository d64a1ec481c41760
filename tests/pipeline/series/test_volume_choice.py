"""One series, several volumes: what is told apart, what is taken, what is set aside, and what is refused by name."""

import dataclasses
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import Volume
from pydicom.uid import generate_uid

from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.series import Selection, only_series, read_series, select, stack_complete
from pipeline.series.stack import TOLERANCES, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, WORDS, Choice
from pipeline.volume.volume import read_stack

GRID = thigh.axial_grid((12, 24, 28), (3.2, 6.0, 6.0))
MR = thigh.thigh(GRID).mr

Change = Callable[[pydicom.Dataset], object]
"""What is done to the data set of a file."""


def put(**values: object) -> Change:
    """A change that sets attributes."""

    def change(image: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return change


UNCHANGED = put()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A regular axial series of 12 slices, 3.2 mm apart."""
    thigh.write_mr_series(MR, tmp_path)
    return tmp_path


def add(folder: Path, volume: Volume, name: str, change: Change = UNCHANGED, slices: int | None = None) -> None:
    """Write more slices into a series: of `volume`, the first `slices` of them, changed."""
    first = pydicom.dcmread(folder / "0001.dcm")
    for path in thigh.write_mr_series(volume[:slices], folder / name, seed=len(name)):
        image = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(image, keyword, getattr(first, keyword))
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        change(image)
        image.save_as(path)


def edit(folder: Path, change: Change, *numbers: int) -> None:
    """Apply a change to the files of the given numbers, or to all."""
    for path in sorted(folder.glob("*.dcm")):
        if not numbers or int(path.stem) in numbers:
            image = pydicom.dcmread(path)
            change(image)
            image.save_as(path)


def selected(folder: Path, tolerances: Tolerances = TOLERANCES, **wanted: object) -> Selection:
    """What is taken of the series in a folder."""
    return select(only_series(read_series(folder)), Choice.of(wanted), tolerances)


def refusal(folder: Path, tolerances: Tolerances = TOLERANCES, **wanted: object) -> Unsuitable:
    """The error with which the series of a folder is refused."""
    with pytest.raises(Unsuitable) as caught:
        selected(folder, tolerances, **wanted)
    return caught.value


def is_whole(found: Selection) -> bool:
    """Whether the 12 slices of the fixture were taken, and nothing else."""
    return np.array_equal(read_stack(found.stack).array, np.clip(np.rint(MR.array), 0, 4095))


def plane(cosines: tuple[float, ...], size: int = 24, mm: float = 6.0) -> Volume:
    """Three slices of an image plane through the middle of the volume, of another orientation."""
    rows, columns = np.reshape(cosines, (2, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([np.cross(rows, columns) * 20, columns * mm, rows * mm])
    affine[:3, 3] = GRID.center_position - affine[:3, :3] @ [1, (size - 1) / 2, (size - 1) / 2]
    return Volume(np.full((3, size, size), 500, np.float32), affine, "PATIENT")


SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)


# --- the default rule ------------------------------------------------------------------------------------------------


def test_the_only_volume_is_taken_without_words(folder: Path) -> None:
    found = selected(folder)
    assert is_whole(found)
    assert (found.volume_description, found.set_aside) == ("", ())


def test_localizers_of_three_planes_are_set_aside_whatever_their_image_type(folder: Path) -> None:
    add(folder, plane(SAGITTAL), "sagittal")
    add(folder, plane(CORONAL), "coronal", put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    found = selected(folder)
    assert is_whole(found)
    assert [vars(one) for one in found.set_aside] == [
        {"count": 3, "what": "sagittal 24 x 24, 6 x 6 mm", "why": "of another geometry"},
        {"count": 3, "what": "localizer", "why": "ImageType says so"},
    ]
    assert stack_complete(only_series(read_series(folder)))


def test_only_the_instances_of_the_volume_stay_in_its_series(folder: Path) -> None:
    add(folder, plane(SAGITTAL), "sagittal", put(PatientPosition="FFP"))
    found = selected(folder)
    assert len(found.series.instances) == 12
    assert {instance.header.PatientPosition for instance in found.series.instances} == {"HFS"}


def test_files_that_are_no_images_are_counted(folder: Path) -> None:
    (folder / "notes.txt").write_text("nothing")
    [aside] = selected(folder).set_aside
    assert (aside.count, aside.why) == (1, "no images")


def test_a_localizer_alone_is_refused_as_such(tmp_path: Path) -> None:
    thigh.write_mr_series(MR, tmp_path)
    edit(tmp_path, put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert refusal(tmp_path).code == "LOCALIZER"


def test_three_planes_alone_are_of_mixed_orientation(tmp_path: Path) -> None:
    thigh.write_mr_series(plane((1, 0, 0, 0, 1, 0)), tmp_path)
    add(tmp_path, plane(SAGITTAL), "sagittal")
    add(tmp_path, plane(CORONAL), "coronal")
    error = refusal(tmp_path)
    assert error.code == "MIXED_ORIENTATION"
    assert "slices of 3 orientations" in error.sentence


@pytest.mark.parametrize("number", [1, 5, 12])
@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("MIXED_ORIENTATION", put(ImageOrientationPatient=[*SAGITTAL])),
        ("MIXED_ORIENTATION", put(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])),
        ("MIXED_ORIENTATION", put(ImageOrientationPatient=[1, 0, 0, 0, 0.9848077530, 0.1736481777])),
        ("MIXED_MATRIX", put(Rows=28, Columns=24)),
        ("MIXED_SPACING", put(PixelSpacing=[7.0, 7.0])),
        ("LOCALIZER", put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        ("SEVERAL_VOLUMES", put(ImageType=["ORIGINAL", "PRIMARY", "P"])),
        ("SEVERAL_VOLUMES", put(EchoTime=24)),
    ],
)
def test_a_slice_that_may_belong_to_the_stack_is_never_set_aside_not_even_at_its_end(
    folder: Path, code: str, change: Change, number: int
) -> None:
    edit(folder, change, number)
    assert refusal(folder).code == code


def test_a_gap_stays_a_gap_when_localizers_come_along(folder: Path) -> None:
    add(folder, plane(SAGITTAL), "sagittal")
    (folder / "0007.dcm").unlink()
    assert refusal(folder).sentence == "gap of 6.4 mm at slice 6 of 11; expected 3.2 mm"


def test_two_stacks_of_different_orientation_are_two_volumes_and_one_can_be_chosen(folder: Path) -> None:
    sagittal = thigh.thigh(thigh.oblique_grid((9, 24, 24), (4.0, 6.0, 6.0), np.eye(3)[[2, 1, 0]])).mr
    add(folder, sagittal, "second")
    error = refusal(folder)
    assert error.code == "SEVERAL_VOLUMES"
    assert "axial (axial 24 x 28, 6 x 6 mm, 12 slices)" in error.sentence
    assert is_whole(selected(folder, orientation="axial"))
    assert selected(folder, orientation="sagittal").stack.geometry.spatial_shape == (9, 24, 24)


def test_a_stack_too_small_to_plan_on_is_too_small_only_by_the_site_s_limit(folder: Path) -> None:
    add(folder, plane(SAGITTAL), "sagittal")
    assert refusal(folder, Tolerances(min_slices=3)).code == "SEVERAL_VOLUMES"


@pytest.mark.parametrize("component", ["PHASE", "REAL", "IMAGINARY"])
def test_a_stack_of_phase_images_is_taken_only_when_it_was_asked_for(folder: Path, component: str) -> None:
    edit(folder, put(ComplexImageComponent=component))
    assert refusal(folder).code == "NOT_MAGNITUDE"
    assert is_whole(selected(folder, component=component))


@pytest.mark.parametrize(
    "image_type",
    [
        ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
        ["DERIVED", "PRIMARY", "M", "FA"],
        ["DERIVED", "PRIMARY", "T1 MAP", "M"],
        ["DERIVED", "PRIMARY", "FF", "FF"],
        ["DERIVED", "SECONDARY", "SUBTRACTION"],
        ["DERIVED", "SECONDARY", "MIP"],
        ["DERIVED", "SECONDARY", "SCREEN SAVE"],
    ],
)
def test_a_map_a_difference_or_a_projection_is_refused_whatever_stack_it_makes(
    folder: Path, image_type: list[str]
) -> None:
    edit(folder, put(ImageType=image_type))
    error = refusal(folder)
    assert error.code == "DERIVED_IMAGE"
    assert "\\".join(image_type) in error.sentence


@pytest.mark.parametrize(
    "image_type",
    [
        ["DERIVED", "SECONDARY", "MPR"],
        ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
        ["DERIVED", "PRIMARY", "M", "MEAN"],
        ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS3D"],
        ["ORIGINAL", "PRIMARY", "T1", "NONE"],
    ],
)
def test_reformats_and_means_hold_mr_signal_and_are_taken(folder: Path, image_type: list[str]) -> None:
    edit(folder, put(ImageType=image_type))
    assert is_whole(selected(folder))


def frame_type(*values: str) -> Change:
    """A change of the Frame Type of all frames of an Enhanced object."""

    def change(image: pydicom.Dataset) -> None:
        image.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType = [*values]

    return change


@pytest.mark.parametrize(
    "change",
    [
        frame_type("DERIVED", "PRIMARY", "T1", "T1"),
        put(VolumeBasedCalculationTechnique="MAX_IP"),
        put(VolumetricProperties="DISTORTED"),
    ],
)
def test_a_multi_frame_object_says_in_other_places_that_it_is_calculated(tmp_path: Path, change: Change) -> None:
    path = thigh.write_enhanced_mr(MR, tmp_path)
    assert is_whole(selected(tmp_path))  # T1 as the third value of its Frame Type is a contrast
    image = pydicom.dcmread(path)
    change(image)
    image.save_as(path)
    assert refusal(tmp_path).code == "DERIVED_IMAGE"


# --- told apart, and chosen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "wanted", "words"),
    [
        (put(EchoTime=80), {"echo": 1}, "echo 1 (TE 12 ms, 12 slices)"),
        (put(EchoTime=80), {"echo_time_ms": 12.0}, "echo 1 (TE 12 ms, 12 slices)"),
        (put(EchoNumbers=2), {"echo": 1}, "echo 1 (12 slices)"),
        (put(ImageType=["ORIGINAL", "PRIMARY", "P"]), {"component": None}, "component not stated (12 slices)"),
        (put(ImageType=["DERIVED", "PRIMARY", "DIXON", "FAT"]), {"dixon": "none"}, "dixon not stated (12 slices)"),
        (put(ImageType=["DERIVED", "SECONDARY", "ADC"]), {"image_type": "OTHER"}, "(12 slices)"),
        (put(DiffusionBValue=800.0), {"b_value": "none"}, "b value not stated (12 slices)"),
        (put(TemporalPositionIdentifier=2), {"temporal_position": "none"}, "temporal position not stated (12 slices)"),
        (put(AcquisitionNumber=2), {"acquisition": 1}, "acquisition 1 (12 slices)"),
        (put(ContrastBolusAgent="GADOLINIUM"), {"contrast_agent": False}, "contrast agent no (12 slices)"),
        (put(InversionTime="900"), {"inversion_time_ms": "NONE"}, "inversion time not stated (12 slices)"),
        (put(FlipAngle="20"), {"flip_angle_deg": "NONE"}, "flip angle not stated (12 slices)"),
        (put(TriggerTime="300"), {"trigger_time_ms": "NONE"}, "trigger time not stated (12 slices)"),
    ],
)
def test_a_second_volume_is_refused_unless_the_site_chose(
    folder: Path, change: Change, wanted: dict[str, object], words: str
) -> None:
    add(folder, MR.with_array(MR.array / 2), "second", change)
    assert refusal(folder).code == "SEVERAL_VOLUMES"
    found = select(only_series(read_series(folder)), Choice.of(wanted))
    assert is_whole(found)
    assert words in found.volume_description
    assert [(one.count, one.why) for one in found.set_aside] == [(12, "not chosen")]


@pytest.mark.parametrize("change", [put(TemporalPositionIdentifier=2), put(ContrastBolusAgent="GADOLINIUM")])
def test_halves_of_two_volumes_make_no_whole_one(folder: Path, change: Change) -> None:
    edit(folder, change, *range(7, 13))
    error = refusal(folder)
    assert error.code == "SEVERAL_VOLUMES"
    assert error.sentence.count("(6 slices)") == 2


def test_a_volume_in_two_patient_positions_is_refused(folder: Path) -> None:
    edit(folder, put(PatientPosition="HFP"), 3)
    assert str(refusal(folder)).startswith("MIXED_PATIENT_POSITIONS: the patient lay HFP and HFS in different images")


def test_of_several_wishes_the_first_that_can_be_had_is_taken(folder: Path) -> None:
    edit(folder, put(ImageType=["DERIVED", "PRIMARY", "DIXON", "WATER"]))
    add(folder, MR.with_array(MR.array / 2), "second", put(ImageType=["DERIVED", "PRIMARY", "DIXON", "FAT"]))
    assert is_whole(selected(folder, dixon=["IN_PHASE", "WATER", "FAT"]))


def test_an_aspect_that_nothing_states_is_passed_over_and_leaves_the_question_open(folder: Path) -> None:
    assert is_whole(selected(folder, dixon="IN_PHASE", b_value=0))
    add(folder, MR, "second", put(EchoTime=80))
    error = refusal(folder, dixon="IN_PHASE")
    assert error.sentence.startswith("the choice of dixon IN_PHASE leaves 2 volumes where one is needed: echo 1")


def test_a_choice_that_nothing_fits_says_what_there_is(folder: Path) -> None:
    add(folder, MR, "second", put(EchoTime=80))
    error = refusal(folder, echo=3)
    assert error.code == "NO_SUCH_VOLUME"
    volumes = "echo 1 (TE 12 ms, 12 slices), echo 2 (TE 80 ms, 12 slices)"
    assert error.sentence == f"no volume of the series is echo 3; it holds 2 volumes: {volumes}"


def test_volumes_that_no_attribute_tells_apart_are_not_sorted_by_luck(folder: Path) -> None:
    add(folder, MR.with_array(MR.array / 2), "second")
    error = refusal(folder, echo=1)
    assert error.code == "SEVERAL_VOLUMES"
    assert error.sentence == "the series holds 2 images at each of 12 positions where one is needed"


def test_a_time_that_differs_from_slice_to_slice_tells_no_volumes_apart(folder: Path) -> None:
    def number(image: pydicom.Dataset) -> None:
        image.TriggerTime = 100 * image.InstanceNumber
        image.AcquisitionNumber = image.InstanceNumber % 2

    edit(folder, number)
    assert is_whole(selected(folder))
    twin = pydicom.dcmread(folder / "0004.dcm")
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    twin.TriggerTime = 50
    twin.save_as(folder / "0013.dcm")
    assert refusal(folder).code == "DUPLICATE_POSITION"
    assert refusal(folder, trigger_time_ms=50).code == "DUPLICATE_POSITION"  # it is no volume of one slice


def test_the_chosen_volume_must_reach_as_far_as_the_others(folder: Path) -> None:
    add(folder, MR, "second", put(EchoTime=80))
    (folder / "0012.dcm").unlink()
    error = refusal(folder, echo=1)
    assert error.code == "INCOMPLETE"
    assert error.sentence == "the volume is not whole: 11 slices, but another volume of the series has 12"
    found = selected(folder, echo=2)
    assert len(found.series.instances) == 12


def test_a_series_is_not_complete_while_its_other_volumes_are_coming(folder: Path) -> None:
    add(folder, MR, "second", put(EchoTime=80), slices=7)
    series = only_series(read_series(folder))
    assert not stack_complete(series, Choice.of({"echo": 1}))
    add(folder, MR[7:], "rest of second", put(EchoTime=80))
    assert stack_complete(only_series(read_series(folder)), Choice.of({"echo": 1}))


def test_the_order_of_arrival_does_not_change_the_choice(folder: Path) -> None:
    add(folder, MR, "second", put(EchoTime=80))
    series = only_series(read_series(folder))
    backwards = dataclasses.replace(series, instances=series.instances[::-1])
    one, other = (select(each, Choice.of({"echo": 2})) for each in (series, backwards))
    assert [i.sop_instance_uid for i in one.series.instances] == [i.sop_instance_uid for i in other.series.instances]
    assert (one.volume_description, one.set_aside) == (other.volume_description, other.set_aside)


# --- the choice as a value -------------------------------------------------------------------------------------------


def test_a_choice_survives_json() -> None:
    choice = Choice.of({"echo": 1, "component": "magnitude", "dixon": ["in_phase", "WATER"], "b_value": None})
    assert choice.wanted == {
        "echo": ("1",),
        "component": ("MAGNITUDE",),
        "dixon": ("IN_PHASE", "WATER"),
        "b_value": ("NONE",),
    }
    assert Choice.of(json.loads(json.dumps(dataclasses.asdict(choice)))) == choice
    assert Choice.of(choice.mapping) == choice
    assert Choice.of({}) == UNAMBIGUOUS
    assert str(choice) == "echo 1, component MAGNITUDE, dixon IN_PHASE or WATER, b_value NONE"


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"eko": 1}, "'eko' is nothing to choose a volume by; known are orientation, stack, echo"),
        ({"echo": "first"}, "echo is 'first'; a number is needed"),
        ({"component": "PHASES"}, "component is 'PHASES'; known are MAGNITUDE, PHASE, REAL, IMAGINARY"),
        ({"stack": ""}, "stack is ''; known are words"),
    ],
)
def test_a_choice_that_means_nothing_is_refused_with_what_is_wrong(mapping: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Choice.of(mapping)


def test_the_shipped_configuration_names_every_aspect_and_every_word() -> None:
    comment = (files("config") / "node.yaml").read_text().split("# `volume` asks these aspects")[1].split("rules:")[0]
    named = [field.name for field in dataclasses.fields(Choice)]
    assert sorted(named, key=comment.index) == named
    assert [
        word for words in WORDS.values() for word in words if word not in comment and word not in ("YES", "NO")
    ] == []


# --- limits of size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerances", "sentence"),
    [
        (Tolerances(max_spacing_mm=5.0), "TOO_COARSE: pixels 6 mm apart; at most 5 mm are allowed"),
        (Tolerances(max_extent_mm=160.0), "TOO_LARGE: 168 mm; at most 160 mm are allowed"),
        (Tolerances(max_voxels=8000), "TOO_LARGE: 8064 voxels; at most 8000 are allowed"),
        (Tolerances(min_slices=13), "TOO_FEW_SLICES: 12 slices; at least 13 are needed"),
    ],
)
def test_a_stack_beyond_the_site_s_limits_is_refused_with_the_figure(
    folder: Path, tolerances: Tolerances, sentence: str
) -> None:
    assert str(refusal(folder, tolerances)) == sentence


def test_slices_too_far_apart_are_told_from_pixels_too_large(tmp_path: Path) -> None:
    thigh.write_mr_series(thigh.thigh(thigh.axial_grid((6, 8, 8), (12.0, 6.0, 6.0))).mr, tmp_path)
    assert str(refusal(tmp_path)) == "TOO_COARSE: slices 12 mm apart; at most 10 mm are allowed"


def test_a_header_that_claims_a_huge_image_is_refused_before_any_pixel_is_read(folder: Path) -> None:
    def claim(image: pydicom.Dataset) -> None:
        image.Rows = image.Columns = 65535

    edit(folder, claim)
    assert refusal(folder).code == "TOO_LARGE"
