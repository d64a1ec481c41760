"""Which series may become a synthetic CT; each that may not is refused by its code and a sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from pipeline.errors import REASONS, Unsuitable
from pipeline.phantom import thigh
from pipeline.series.series import Series, only_series, read_instance, read_series, regular_stack, stack_complete
from pipeline.volume.volume import read_volume

GRID = thigh.axial_grid((12, 24, 28), (3.2, 6.0, 6.0))
MR = thigh.thigh(GRID).mr

Change = Callable[[pydicom.Dataset], object]
"""What is done to the data set of a file."""


@pytest.fixture
def series_folder(tmp_path: Path) -> Path:
    """A regular series of 12 slices, 3.2 mm apart, one file a slice in the order of position."""
    thigh.write_mr_series(MR, tmp_path / "mr")
    return tmp_path / "mr"


def edit(folder: Path, change: Change, *numbers: int) -> None:
    """Apply `change` to the files of the given numbers (all of them when none is given), and write them back."""
    for path in sorted(folder.iterdir()):
        if not numbers or int(path.stem) in numbers:
            data_set = pydicom.dcmread(path)
            change(data_set)
            data_set.save_as(path)


def put(**values: object) -> Change:
    """A change that sets attributes."""

    def change(data_set: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            setattr(data_set, keyword, value)

    return change


def drop(keyword: str) -> Change:
    """A change that removes an attribute."""
    return lambda data_set: data_set.__delattr__(keyword)


def refusal(folder: Path) -> Unsuitable:
    """The error with which the one series of a folder is refused."""
    with pytest.raises(Unsuitable) as caught:
        read_volume(only_series(read_series(folder)))
    assert "Phantom" not in str(caught.value)
    assert "SCT-PHANTOM" not in str(caught.value)
    return caught.value


def test_a_regular_series_is_read_in_the_order_of_its_positions(series_folder: Path) -> None:
    (series,) = read_series(series_folder)
    assert len(series.instances) == 12
    assert [i.header.InstanceNumber for i in series.instances] == list(range(1, 13))
    assert series.body_part == "THIGH"
    assert series.header is series.instances[0].header
    assert series.frame_of_reference_uid
    assert series.study_instance_uid
    assert "PixelData" not in series.header
    assert stack_complete(series)


def test_where_no_body_part_is_named_the_coded_anatomic_region_speaks(series_folder: Path) -> None:
    def code(dataset: pydicom.Dataset) -> None:
        region = pydicom.Dataset()
        region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "T-A0100", "SRT", "Brain"
        dataset.AnatomicRegionSequence = [region]
        del dataset.BodyPartExamined

    edit(series_folder, code)
    (series,) = read_series(series_folder)
    assert series.body_part == ""
    assert series.anatomy == "BRAIN"


def test_instance_numbers_do_not_decide_the_order(tmp_path: Path) -> None:
    thigh.write_mr_series(MR, tmp_path, shuffled=True)
    (series,) = read_series(tmp_path)
    heights = [float(i.header.ImagePositionPatient[2]) for i in series.instances]
    assert heights == sorted(heights)
    assert [i.header.InstanceNumber for i in series.instances] != list(range(1, 13))


def test_no_repr_shows_the_patient(series_folder: Path) -> None:
    (series,) = read_series(series_folder)
    assert "Phantom" not in repr(series)
    assert "SCT-PHANTOM" not in repr(series)


def test_other_files_are_set_aside_and_listed(series_folder: Path) -> None:
    (series_folder / "notes.txt").write_text("nothing")
    (series_folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (series_folder / "._0001.dcm").write_text("what macOS leaves")
    (series_folder / "new.dcm.part").write_bytes(b"\0" * 128 + b"DICM")
    report = pydicom.dcmread(series_folder / "0001.dcm", stop_before_pixels=True)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    del report.Rows, report.Columns
    report.save_as(series_folder / "report.dcm")
    (series,) = read_series(series_folder)
    assert len(series.instances) == 12
    assert [path.name for path in series.set_aside] == [
        "._0001.dcm",
        "DICOMDIR",
        "new.dcm.part",
        "notes.txt",
        "report.dcm",
    ]


def test_an_image_of_an_unknown_class_is_not_quietly_left_out(series_folder: Path) -> None:
    edit(series_folder, put(SOPClassUID="1.2.840.10008.5.1.4.1.1.99"), 12)
    assert refusal(series_folder).code == "NOT_MR"


def test_the_same_file_twice_counts_once(series_folder: Path) -> None:
    shutil.copy(series_folder / "0003.dcm", series_folder / "copy.dcm")
    (series,) = read_series(series_folder)
    assert len(series.instances) == 12
    assert stack_complete(series)


def test_two_series_in_one_folder_are_told_apart_and_one_is_asked_for(series_folder: Path, tmp_path: Path) -> None:
    thigh.write_mr_series(MR, tmp_path / "mr" / "second", seed=1)
    found = read_series(series_folder)
    assert len(found) == 2
    with pytest.raises(Unsuitable, match="SEVERAL_SERIES: 2 MR series"):
        only_series(found)


def test_a_ct_series_beside_the_mr_series_is_not_chosen(series_folder: Path, tmp_path: Path) -> None:
    thigh.write_mr_series(MR, tmp_path / "mr" / "ct", seed=1)
    edit(series_folder / "ct", put(SOPClassUID=CTImageStorage, Modality="CT"))
    assert only_series(read_series(series_folder)).header.Modality == "MR"


# --- refused by its headers ------------------------------------------------------------------------------------------


def test_a_ct_instead_of_an_mr_is_refused(series_folder: Path) -> None:
    edit(series_folder, put(SOPClassUID=CTImageStorage, Modality="CT"))
    error = refusal(series_folder)
    assert error.code == "NOT_MR"
    assert error.sentence == "the series holds 12 CT Image Storage; MR images are needed"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("NOT_MR", put(Modality="OT")),
        ("NO_PATIENT_ID", put(PatientID="")),
        ("NO_PATIENT_ID", drop("PatientID")),
        ("NO_FRAME_OF_REFERENCE", drop("FrameOfReferenceUID")),
        ("MIXED_PATIENTS", put(PatientID="SCT-PHANTOM-2")),
        ("MIXED_PATIENTS", put(StudyInstanceUID="1.2.3")),
        ("MIXED_FRAMES_OF_REFERENCE", put(FrameOfReferenceUID="1.2.3")),
        ("COLOUR", put(PhotometricInterpretation="PALETTE COLOR")),
        ("COLOUR", put(SamplesPerPixel=3, PhotometricInterpretation="RGB")),
        ("BURNED_IN", put(BurnedInAnnotation="YES")),
        ("LOCALIZER", put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        ("MOSAIC", put(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
        ("MOSAIC", put(ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"])),
        ("MOSAIC", lambda image: image.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 25)),
        ("NO_GEOMETRY", drop("ImagePositionPatient")),
        ("NO_GEOMETRY", put(ImageOrientationPatient=None)),
        ("NO_GEOMETRY", drop("PixelSpacing")),
        ("BAD_GEOMETRY", put(PixelSpacing=[0, 1])),
        ("BAD_GEOMETRY", put(ImagePositionPatient=[0, 1])),
        ("BAD_GEOMETRY", put(ImageOrientationPatient=[1, 0, 0, 0, 0.9, 0])),
        ("BAD_GEOMETRY", put(ImageOrientationPatient=[1, 0, 0, 0.01, 0.99995, 0])),
        ("BAD_RESCALE", put(RescaleSlope=0, RescaleIntercept=0)),
        ("MIXED_ORIENTATION", put(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])),
        ("MIXED_ORIENTATION", put(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])),
        ("MIXED_SPACING", put(PixelSpacing=[6.0, 6.001])),
        ("SEVERAL_VOLUMES", put(ImageType=["ORIGINAL", "PRIMARY", "P"])),
        ("SEVERAL_VOLUMES", put(EchoTime=24)),
    ],
)
def test_one_unsuitable_slice_refuses_the_series_by_its_code(series_folder: Path, code: str, change: Change) -> None:
    edit(series_folder, change, 5)
    error = refusal(series_folder)
    assert error.code == code
    assert not stack_complete(only_series(read_series(series_folder)))


@pytest.mark.parametrize(
    "change", [put(FrameOfReferenceUID="none"), drop("StudyInstanceUID"), put(StudyInstanceUID="1..2")]
)
def test_a_uid_that_the_ct_would_take_over_must_be_one(series_folder: Path, change: Change) -> None:
    edit(series_folder, change)
    assert refusal(series_folder).code == "BAD_UID"


def test_a_stray_slice_of_another_size_is_named(series_folder: Path) -> None:
    edit(series_folder, put(Rows=28, Columns=24), 7)
    error = refusal(series_folder)
    uid = pydicom.dcmread(series_folder / "0007.dcm").SOPInstanceUID
    assert str(error) == f"MIXED_MATRIX: slices of different size: 24 x 28 and, in {uid}, 28 x 24 (rows x columns)"


def test_a_tilted_slice_is_named_with_its_angle(series_folder: Path) -> None:
    c, s = np.cos(np.deg2rad(2)), np.sin(np.deg2rad(2))
    edit(series_folder, put(ImageOrientationPatient=[1, 0, 0, 0, round(c, 12), round(s, 12)]), 7)
    error = refusal(series_folder)
    assert error.code == "MIXED_ORIENTATION"
    assert error.sentence.endswith("by 2 degrees")


def test_one_sop_instance_with_two_contents_is_refused(series_folder: Path) -> None:
    other = pydicom.dcmread(series_folder / "0003.dcm")
    other.SeriesDescription = "changed"
    other.save_as(series_folder / "0003~abc.dcm")
    assert refusal(series_folder).code == "CONFLICTING_INSTANCES"


# --- refused by its positions ----------------------------------------------------------------------------------------


def test_a_missing_slice_is_a_gap_in_a_sentence(series_folder: Path) -> None:
    (series_folder / "0008.dcm").unlink()
    error = refusal(series_folder)
    assert error.code == "GAP"
    assert error.sentence == "gap of 6.4 mm at slice 7 of 11; expected 3.2 mm"
    assert not stack_complete(only_series(read_series(series_folder)))


def test_a_single_slice_is_too_few(series_folder: Path) -> None:
    for path in sorted(series_folder.iterdir())[1:]:
        path.unlink()
    error = refusal(series_folder)
    assert str(error) == "TOO_FEW_SLICES: 1 slices; at least 5 are needed"


def test_a_slice_nearer_than_its_neighbours_is_an_uneven_step(series_folder: Path) -> None:
    edit(series_folder, put(ImagePositionPatient=[*GRID.position[:2], GRID.position[2] - 1.6]), 1)
    assert refusal(series_folder).sentence == "gap of 4.8 mm at slice 1 of 12; expected 3.2 mm"
    edit(series_folder, put(ImagePositionPatient=[*GRID.position[:2], GRID.position[2] + 1.6]), 1)
    assert refusal(series_folder).sentence == "step of 1.6 mm at slice 1 of 12; expected 3.2 mm"


def test_positions_rounded_by_the_scanner_are_no_gap(series_folder: Path) -> None:
    def rounded(data_set: pydicom.Dataset) -> None:
        data_set.ImagePositionPatient = [round(float(v), 2) for v in data_set.ImagePositionPatient]

    edit(series_folder, rounded)
    assert stack_complete(only_series(read_series(series_folder)))


def test_steps_that_grow_little_by_little_are_refused(series_folder: Path) -> None:
    def growing(data_set: pydicom.Dataset) -> None:
        n = data_set.InstanceNumber - 1
        data_set.ImagePositionPatient = [0, 0, round(3.2 * n + 0.0018 * n * n, 6)]

    edit(series_folder, growing)  # every step within 0.02 mm of the median, the stack 0.05 mm off its grid
    assert refusal(series_folder).code in ("GAP", "UNEVEN_STEPS")


def test_a_stack_that_leans_is_sheared(series_folder: Path) -> None:
    def leaning(data_set: pydicom.Dataset) -> None:
        x, y, z = data_set.ImagePositionPatient
        data_set.ImagePositionPatient = [float(x) + 0.02 * data_set.InstanceNumber, y, z]

    edit(series_folder, leaning)
    assert str(refusal(series_folder)).startswith("SHEAR: slice 12 of 12 is shifted by 0.22 mm within its plane")


def test_one_slice_sent_twice_under_two_uids_is_a_duplicate_position(series_folder: Path) -> None:
    twin = pydicom.dcmread(series_folder / "0004.dcm")
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    twin.save_as(series_folder / "twin.dcm")
    error = refusal(series_folder)
    assert str(error) == ("DUPLICATE_POSITION: 2 images lie at the position of slice 4 of 12; one is expected")


def test_two_echoes_are_several_volumes_and_the_sentence_says_what_differs(series_folder: Path) -> None:
    for path in sorted(series_folder.iterdir()):
        second = pydicom.dcmread(path)
        second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        second.EchoTime = 80
        second.save_as(series_folder / f"second-{path.name}")
    error = refusal(series_folder)
    assert error.code == "SEVERAL_VOLUMES"
    volumes = "echo 1 (TE 12 ms, 12 slices), echo 2 (TE 80 ms, 12 slices)"
    assert error.sentence == f"the series holds 2 volumes where one is needed: {volumes}"


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 100, 131, 400, 1000, 0.95, 0.999])
def test_a_truncated_file_is_unreadable_and_named(series_folder: Path, kept: int | float) -> None:
    path = series_folder / "0005.dcm"
    uid, content = pydicom.dcmread(path).SOPInstanceUID, path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(Unsuitable) as caught:
        read_volume(only_series(read_series(series_folder)))
    error = caught.value
    assert error.code == "UNREADABLE"
    assert uid in error.sentence or "0005.dcm" in error.sentence


def test_a_file_cut_anywhere_never_passes_as_whole(series_folder: Path) -> None:
    path = series_folder / "0005.dcm"
    content = path.read_bytes()
    for kept in range(132, len(content), 37):
        path.write_bytes(content[:kept])
        with pytest.raises(Unsuitable):
            read_volume(only_series(read_series(series_folder)))


def test_a_damaged_number_is_unreadable_not_a_crash(series_folder: Path) -> None:
    path = series_folder / "0005.dcm"
    content = path.read_bytes()
    position = b"\\".join(str(v).encode() for v in pydicom.dcmread(path).ImagePositionPatient)
    assert position in content
    path.write_bytes(content.replace(position, position.replace(b"-", b"?"), 1))
    assert refusal(series_folder).code == "UNREADABLE"


@pytest.mark.parametrize("echo_time", [b"1\\2\\3 ", b"9" * 400, b"\xb2 "])
def test_an_echo_time_that_is_no_number_crashes_nothing(series_folder: Path, echo_time: bytes) -> None:
    def change(data_set: pydicom.Dataset) -> None:
        tag = pydicom.tag.Tag("EchoTime")
        data_set[tag] = pydicom.dataelem.RawDataElement(tag, "DS", len(echo_time), echo_time, 0, False, True)

    edit(series_folder, change)
    assert read_volume(only_series(read_series(series_folder))).shape == MR.shape
    edit(series_folder, put(EchoTime="12"), 5)
    assert refusal(series_folder).code == "SEVERAL_VOLUMES"


def test_a_missing_file_is_no_unsuitable_series(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_instance(tmp_path / "absent.dcm")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(Unsuitable, match="NO_IMAGES: no image was found among 1 files"):
        read_series(tmp_path)
    with pytest.raises(Unsuitable, match="NO_IMAGES"):
        only_series([])
    with pytest.raises(Unsuitable, match="NO_IMAGES"):
        regular_stack(Series.of([]))


# --- when is it complete ---------------------------------------------------------------------------------------------


def test_announced_images_that_have_not_come_leave_the_stack_incomplete(series_folder: Path) -> None:
    edit(series_folder, put(ImagesInAcquisition=13))
    assert not stack_complete(only_series(read_series(series_folder)))
    edit(series_folder, put(ImagesInAcquisition=12))
    assert stack_complete(only_series(read_series(series_folder)))


def test_an_enhanced_object_is_complete_alone_and_incomplete_as_a_part(tmp_path: Path) -> None:
    path = thigh.write_enhanced_mr(MR, tmp_path)
    assert stack_complete(Series.of([read_instance(path)]))
    edit_enhanced(path, put(InConcatenationTotalNumber=2))
    assert not stack_complete(Series.of([read_instance(path)]))


def test_an_enhanced_object_with_fewer_items_than_frames_is_refused(tmp_path: Path) -> None:
    path = thigh.write_enhanced_mr(MR, tmp_path)
    edit_enhanced(path, lambda image: image.PerFrameFunctionalGroupsSequence.pop())
    with pytest.raises(Unsuitable, match="11 items for 12 frames"):
        read_volume(only_series(read_series(tmp_path)))


def edit_enhanced(path: Path, change: Change) -> None:
    """Apply a change to one file."""
    image = pydicom.dcmread(path)
    change(image)
    image.save_as(path)


def test_every_reason_has_a_sentence_and_unknown_codes_are_a_mistake() -> None:
    assert all(sentence and code.isupper() for code, sentence in REASONS.items())
    assert not any("patient_name" in sentence or "patient_id" in sentence for sentence in REASONS.values())
    with pytest.raises(ValueError, match="unknown reason code WRONG"):
        Unsuitable("WRONG", "")
    with pytest.raises(KeyError):
        Unsuitable.of("GAP")
