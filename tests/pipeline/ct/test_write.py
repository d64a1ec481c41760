"""The CT series that is written: what it says, that others can read it, and that it is the same every time."""

import dataclasses
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import Volume, VolumeGeometry
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scipy.spatial.transform import Rotation

from pipeline.ct.elements import decimal_string
from pipeline.ct.modules import ImageGrid
from pipeline.ct.write import (
    Equipment,
    Labels,
    Provenance,
    Sampling,
    ct_series_uid,
    scanner_time,
    stored_values,
    write_ct,
)
from pipeline.errors import Unsuitable
from pipeline.findings.findings import Finding
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh, write_mr_series
from pipeline.preflight.check import preflight
from pipeline.preflight.profile import load_profile
from pipeline.series.series import Series, read_instance, read_series
from pipeline.standard import keywords_of
from tests.support.provenance import CARD, SAMPLING

PROVENANCE = Provenance(
    card=CARD,
    sampling=SAMPLING,
    findings=(Finding("soft_tissue_median", 41.5, (20.0, 70.0), "HU", "pass"),),
    configuration_digest="cd" * 32,
    warnings=(),
    software_version="0.1.0",
)
WARNED = dataclasses.replace(PROVENANCE, warnings=("the model claims no meaning for BRAIN",))
NOW = datetime.fromisoformat("2026-01-02 03:04:05")
GRID = axial_grid((5, 30, 36), (2.5, 1.1, 1.1), (12.34567, -45.67891, 321.98765))


@pytest.fixture(scope="module")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """A classic MR series of the phantom."""
    phantom = thigh(axial_grid((9, 30, 36), (2.5, 4.0, 4.0)))
    return Series.of(map(read_instance, write_mr_series(phantom.mr, tmp_path_factory.mktemp("mr"))))


@pytest.fixture(scope="module")
def hu() -> Volume:
    """Whole HU on an axial grid that lies nowhere special."""
    return whole(thigh(GRID).hu)


@pytest.fixture(scope="module")
def ct(mr: Series, hu: Volume, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A CT series, written once."""
    return write_ct(hu, mr, PROVENANCE, tmp_path_factory.mktemp("ct"), written_at=NOW)


def whole(volume: Volume) -> Volume:
    """Whole HU, with a ramp along each axis so that no two directions look alike."""
    slices, rows, columns = np.indices(volume.spatial_shape)
    return volume.with_array(np.rint(volume.array + slices - 2 * rows - 5 * columns).astype(np.float32))


def first(paths: list[Path]) -> Dataset:
    return pydicom.dcmread(paths[0])


def changed_mr(mr: Series, into: Path, change: Callable[[Dataset], None]) -> Series:
    """The series with `change` made to each of its files."""
    paths = []
    for instance in mr.instances:
        image = pydicom.dcmread(instance.path)
        change(image)
        paths.append(into / instance.path.name)
        image.save_as(paths[-1])
    return Series.of(map(read_instance, paths))


def raw(keyword: str, value: bytes) -> RawDataElement:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


def raw_value(path: Path, keyword: str) -> bytes:
    return bytes(pydicom.dcmread(path, stop_before_pixels=True).get_item(keyword).value)


def lines(kind: str, *command: str) -> list[str]:
    """Lines of a validator's report that begin with `kind`.

    Left out are references of a real MR's own study to objects that were never in the data.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(kind)]
    return [line for line in found if "Missing SOPInstanceUID" not in line]


def from_dicom(paths: list[Path]) -> Volume:
    """The series as highdicom reads it, HU; it puts the superior slice first, so turned over."""
    return highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths]).flip_spatial(0)


# --- others accept it ------------------------------------------------------------------------------------------------


def test_dciodvfy_finds_no_error_and_no_warning_in_any_file(ct: list[Path], program: Callable[[str], str]) -> None:
    dciodvfy = program("dciodvfy")
    assert [found for path in ct for found in lines("Error", dciodvfy, str(path))] == []
    assert [found for path in ct for found in lines("Warning", dciodvfy, str(path))] == []


def test_dcentvfy_finds_the_ct_consistent_with_its_source(
    ct: list[Path], mr: Series, program: Callable[[str], str]
) -> None:
    files = [*map(str, ct), *(str(instance.path) for instance in mr.instances)]
    assert lines("", program("dcentvfy"), *files) == []


OBLIQUE = oblique_grid(
    (5, 30, 36), (2.5, 1.1, 1.1), Rotation.from_euler("xz", [12.3, 40], degrees=True).as_matrix(), (12.3, -45.6, 321.9)
)
SAGITTAL = oblique_grid((5, 30, 36), (4.8, 1.1, 1.1), np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]))
VARIANTS: dict[str, tuple[VolumeGeometry, Provenance, Labels]] = {
    "oblique planes of the MR": (OBLIQUE, PROVENANCE, Labels()),
    "sagittal planes of the MR": (SAGITTAL, WARNED, Labels()),
    "said to be original": (GRID, PROVENANCE, Labels(image_type=("ORIGINAL", "PRIMARY", "AXIAL"))),
    "a fourth value of the image type": (GRID, PROVENANCE, Labels(image_type=("DERIVED", "PRIMARY", "AXIAL", "SCT"))),
    "a wide range": (GRID, PROVENANCE, Labels(hu_range=(-2000, 20000))),
    "not resampled": (
        GRID,
        dataclasses.replace(PROVENANCE, sampling=Sampling(7, 4, 2, "none", "none", (3, 1, 1))),
        Labels(),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_way_to_write_a_ct_is_valid_and_consistent_with_its_source(
    variant: str, mr: Series, tmp_path: Path, program: Callable[[str], str]
) -> None:
    grid, provenance, labels = VARIANTS[variant]
    paths = write_ct(whole(thigh(grid).hu), mr, provenance, tmp_path, written_at=NOW, labels=labels)
    assert [e for path in paths for e in lines("Error", program("dciodvfy"), str(path))] == []
    files = [*map(str, paths), *(str(instance.path) for instance in mr.instances)]
    assert lines("", program("dcentvfy"), *files) == []
    assert preflight(paths, load_profile("archive" if "planes" in variant else "axial-only")) == []


def test_a_ct_says_which_series_it_replaces_and_both_are_valid_together(
    mr: Series, hu: Volume, ct: list[Path], tmp_path: Path, program: Callable[[str], str]
) -> None:
    earlier = str(first(ct).SeriesInstanceUID)
    provenance = dataclasses.replace(PROVENANCE, replaces=earlier)
    paths = write_ct(hu, mr, provenance, tmp_path, written_at=NOW)
    image = first(paths)
    assert image.SeriesInstanceUID != earlier
    [related] = image.RelatedSeriesSequence
    assert (related.StudyInstanceUID, related.SeriesInstanceUID) == (image.StudyInstanceUID, earlier)
    assert related.PurposeOfReferenceCodeSequence == []
    assert f"Replaces CT series {earlier}." in image.ImageComments
    assert f"Replaces CT series {earlier}." in image.DerivationDescription
    assert "RelatedSeriesSequence" not in first(ct)
    for kind in ("Error", "Warning"):
        assert [e for path in paths for e in lines(kind, program("dciodvfy"), str(path))] == []
    files = [*map(str, (*ct, *paths)), *(str(instance.path) for instance in mr.instances)]
    assert lines("", program("dcentvfy"), *files) == []
    assert preflight(paths) == []


def test_dciodvfy_sees_a_missing_attribute(ct: list[Path], tmp_path: Path, program: Callable[[str], str]) -> None:
    image = first(ct)
    del image.RescaleSlope
    image.save_as(tmp_path / "broken.dcm")
    assert lines("Error", program("dciodvfy"), str(tmp_path / "broken.dcm"))


REAL = {
    "philips_ingenia_sag_mprage_classic": "philips_ingenia_sag_mprage_classic",
    "siemens_xa30_enhanced_t1": "siemens_xa30_enhanced_t1/series5.dcm",
    "ibsi_STS_024": "ibsi_STS_024/MR_T1/image",
    "ibsi_STS_035": "ibsi_STS_035/MR_T1/image",
    "siemens_prisma_sag_t1_HFDL": "siemens_prisma_sag_t1_HFDL",
    "toshiba_galan_dwi_oblique_2vol_classic": "toshiba_galan_dwi_oblique_2vol_classic",
}


@pytest.mark.filterwarnings("ignore:The value length")  # a Study ID of the ibsi series is longer than SH allows
@pytest.mark.parametrize("item", REAL)
def test_a_ct_of_a_real_mr_series_is_valid_and_consistent_with_it(
    item: str, mr_item: Callable[[str], Path], hu: Volume, tmp_path: Path, program: Callable[[str], str]
) -> None:
    folder, *rest = REAL[item].split("/", 1)
    (source,) = read_series(mr_item(folder).joinpath(*rest))
    paths = write_ct(hu, source, WARNED, tmp_path, written_at=NOW)
    assert [e for path in paths for e in lines("Error", program("dciodvfy"), str(path))] == []
    files = [*map(str, paths), *(str(instance.path) for instance in source.instances)]
    assert lines("Error", program("dcentvfy"), *files) == []
    image = first(paths)
    assert image.FrameOfReferenceUID == source.frame_of_reference_uid
    assert image.StudyInstanceUID == source.study_instance_uid
    assert image.PatientPosition == source.header.PatientPosition
    assert raw_value(paths[0], "PatientName") == raw_value(source.instances[0].path, "PatientName")
    referenced = [item.ReferencedSOPInstanceUID for item in image.SourceImageSequence]
    assert referenced == [instance.sop_instance_uid for instance in source.instances]


# --- geometry and values ---------------------------------------------------------------------------------------------


def test_hu_and_grid_come_back_as_they_were_given(ct: list[Path], hu: Volume) -> None:
    volume = from_dicom(ct)
    assert np.array_equal(volume.array, hu.array)
    assert np.abs(volume.affine - hu.affine).max() < 1e-7


@settings(deadline=None, max_examples=25)
@given(
    origin=st.tuples(*[st.floats(-2000, 2000) for _ in range(3)]),
    slice_mm=st.floats(0.3, 10),
    pixel_mm=st.floats(0.2, 5),
    index=st.integers(0, 999),
)
def test_positions_are_right_and_steps_are_equal_on_any_axial_grid(
    origin: tuple[float, float, float], slice_mm: float, pixel_mm: float, index: int
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, pixel_mm], [0, pixel_mm, 0], [slice_mm, 0, 0]]
    affine[:3, 3] = origin
    grid = ImageGrid.of(VolumeGeometry(affine, (1000, 4, 4), coordinate_system="PATIENT"))
    written = [float(decimal_string(value)) for value in grid.position(index)]
    assert np.abs(np.array(written) - (affine @ [index, 0, 0, 1])[:3]).max() < 1e-4
    assert grid.position(index + 1)[2] - grid.position(index)[2] == grid.step[0]


def test_slices_are_numbered_from_inferior_to_superior_at_equal_steps(ct: list[Path], hu: Volume) -> None:
    images = [pydicom.dcmread(path) for path in ct]
    heights = [image.ImagePositionPatient[2] for image in images]
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    assert np.abs(np.diff([float(z) for z in heights]) - 2.5).max() < 1e-9
    assert {str(image.SliceThickness) for image in images} == {"2.5"}
    assert images[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


def test_hu_are_rounded_and_clipped_to_the_configured_range() -> None:
    hu = np.array([-5000.0, -1024.4, -0.6, 0.4, 0.6, 3071.6, 9000.0])
    assert (stored_values(hu, (-1024, 3071)) - 1024).tolist() == [-1024, -1024, -1, 0, 1, 3071, 3071]
    assert (stored_values(hu, (-1000, 2000)) - 1024).tolist() == [-1000, -1000, -1, 0, 1, 2000, 2000]


def test_hu_that_are_no_numbers_or_a_range_beyond_16_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="no finite numbers"):
        stored_values(np.array([0.0, np.nan]), (-1024, 3071))
    with pytest.raises(ValueError, match="16 bit"):
        stored_values(np.array([0.0]), (-1024, 40000))


def test_slices_that_do_not_follow_each_other_along_row_by_column_cosines_are_refused(hu: Volume) -> None:
    assert ImageGrid.of(hu.get_geometry()).axial
    for other in (hu.flip_spatial(0), hu.flip_spatial(2), hu.permute_spatial_axes((1, 0, 2))):
        with pytest.raises(ValueError, match="row x column"):
            ImageGrid.of(other.get_geometry())


# --- what it says ----------------------------------------------------------------------------------------------------


def test_the_output_table_holds_on_every_slice(ct: list[Path], mr: Series) -> None:
    for image in map(pydicom.dcmread, ct):
        assert (image.Modality, image.ImageType) == ("CT", ["DERIVED", "SECONDARY", "AXIAL"])
        assert (image.RescaleSlope, image.RescaleIntercept, image.RescaleType) == (1, -1024, "HU")
        assert (image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation) == (16, 16, 15, 1)
        assert (image.SyntheticData, image.BurnedInAnnotation, image.LossyImageCompression) == ("YES", "NO", "00")
        assert image.PixelSpacing[0] == image.PixelSpacing[1]
        assert image.FrameOfReferenceUID == mr.frame_of_reference_uid
        for keyword in ("StudyID", "ReferringPhysicianName", "AccessionNumber", "SeriesNumber", "KVP"):
            assert keyword in image
        assert "AcquisitionNumber" in image
        assert "PositionReferenceIndicator" in image


def test_the_ct_says_for_research_and_which_model_made_it(ct: list[Path], mr: Series) -> None:
    image = first(ct)
    assert image.SeriesDescription == "sCT limb-t1-ldm 1.0.0; research, not for clinical use"
    assert image.ContentQualification == "RESEARCH"
    assert "soft_tissue_median: 41.5 HU (limit 20 to 70), pass" in image.ImageComments
    for word in ("limb-t1-ldm 1.0.0", CARD.digest, "seed 7", "steps 4".capitalize(), "research, not for"):
        assert word in image.DerivationDescription
    assert "Field the whole MR. Interpolation: MR to model linear, HU to CT linear." in image.DerivationDescription
    assert [one.CodeMeaning for one in image.DerivationCodeSequence] == [
        "Spatial resampling",
        "Artificial Intelligence",
    ]


def test_what_was_not_resampled_does_not_say_so(mr: Series, hu: Volume, tmp_path: Path) -> None:
    copied = dataclasses.replace(PROVENANCE, sampling=Sampling(7, 4, 2, "none", "none", (3, 1, 1)))
    image = first(write_ct(hu, mr, copied, tmp_path, written_at=NOW))
    assert [one.CodeMeaning for one in image.DerivationCodeSequence] == ["Artificial Intelligence"]


def test_a_warning_is_shown_where_a_planning_system_shows_something(mr: Series, hu: Volume, tmp_path: Path) -> None:
    long_name = dataclasses.replace(WARNED, card=dataclasses.replace(CARD, name="n" * 80))
    image = first(write_ct(hu, mr, long_name, tmp_path, written_at=NOW))
    assert image.SeriesDescription.startswith("WARNING sCT n")
    assert image.SeriesDescription.endswith("; research, not for clinical use")
    assert len(image.SeriesDescription) <= 64
    for text in (image.ImageComments, image.DerivationDescription):
        assert text.startswith("WARNING: the model claims no meaning for BRAIN.")
    assert len(image.DerivationDescription) <= 1024


def test_a_site_names_the_series_and_the_equipment_that_its_density_table_is_bound_to(
    mr: Series, hu: Volume, tmp_path: Path
) -> None:
    own = Equipment("Physics", "MR-only", "PLANMR1", "007")
    labels = Labels(description="pCT of {model} v{version} " + "x" * 60, equipment=own)
    image = first(write_ct(hu, mr, PROVENANCE, tmp_path, written_at=NOW, labels=labels))
    assert (image.Manufacturer, image.ManufacturerModelName) == ("Physics", "MR-only")
    assert (image.StationName, image.DeviceSerialNumber) == ("PLANMR1", "007")
    assert image.SeriesDescription.startswith(f"pCT of {CARD.name} v{CARD.version} x")
    assert image.SeriesDescription.endswith("; research, not for clinical use")
    assert len(image.SeriesDescription) == 64
    other = first(write_ct(hu, mr, PROVENANCE, tmp_path / "b", written_at=NOW))
    assert other.SeriesInstanceUID != image.SeriesInstanceUID


@pytest.mark.parametrize("wrong", [{"station_name": "S" * 17}, {"manufacturer": ""}, {"serial_number": "a\\b"}])
def test_equipment_that_dicom_could_not_write_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Equipment(**wrong)


def test_a_site_may_leave_the_research_label_out(mr: Series, hu: Volume, tmp_path: Path) -> None:
    image = first(write_ct(hu, mr, PROVENANCE, tmp_path, written_at=NOW, labels=Labels(research=False)))
    assert "ContentQualification" not in image
    assert "research" not in image.SeriesDescription + image.ImageComments + image.DerivationDescription


def test_laterality_is_kept_empty_if_unknown_and_absent_from_an_unpaired_body_part(
    mr: Series, hu: Volume, tmp_path: Path
) -> None:
    def written(body_part: str, side: str) -> Dataset:
        def change(image: Dataset) -> None:
            image.BodyPartExamined, image.Laterality = body_part, side

        (folder := tmp_path / body_part / (side or "none")).mkdir(parents=True)
        return first(write_ct(hu, changed_mr(mr, folder, change), PROVENANCE, folder / "ct", written_at=NOW))

    assert written("THIGH", "R").Laterality == "R"
    assert written("THIGH", "").Laterality == ""
    assert "Laterality" not in written("BRAIN", "")
    assert "Laterality" not in written("SOMEWHERE", "")


def test_a_lossy_mr_makes_a_lossy_ct(mr: Series, hu: Volume, tmp_path: Path) -> None:
    def change(image: Dataset) -> None:
        image.LossyImageCompression, image.LossyImageCompressionRatio = "01", "12.5"
        image.LossyImageCompressionMethod = "ISO_10918_1"

    image = first(write_ct(hu, changed_mr(mr, tmp_path, change), PROVENANCE, tmp_path / "ct", written_at=NOW))
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 12.5)


def test_dates_are_in_the_time_zone_of_the_mr() -> None:
    at = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    header = Dataset()
    header[Tag("TimezoneOffsetFromUTC")] = raw("TimezoneOffsetFromUTC", b"+0530 ")
    assert f"{scanner_time(at, header):%Y%m%d %H%M}" == "20260102 0500"
    assert scanner_time(NOW, header) == NOW


# --- patient and study, byte for byte --------------------------------------------------------------------------------

NAMES = {
    "latin-1": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "utf-8": (b"ISO_IR 192", "Žižková^Ñandú^木".encode()),
    "japanese": (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "korean": (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    "arabic": (b"ISO_IR 127", "قباني^لنزار".encode("iso8859-6")),
    "absent": (None, "Müller^Jörg".encode("latin-1")),
    "wrong": (b"ISO_IR 192", b"M\xfcller^J\xf6rg\xff"),
    "unknown": (b"ISO_IR 999", b"M\xfcller^J\xf6rg"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # what pydicom says of the wrong and the unknown set
@pytest.mark.parametrize("name", NAMES)
def test_patient_and_study_are_copied_byte_for_byte_in(
    name: str, mr: Series, hu: Volume, tmp_path: Path, program: Callable[[str], str]
) -> None:
    character_set, person = NAMES[name]
    person += b" " * (len(person) % 2)

    def change(image: Dataset) -> None:
        del image.SpecificCharacterSet
        if character_set is not None:
            image.SpecificCharacterSet = character_set.decode().split("\\")
        image.PatientName = image.ReferringPhysicianName = image.StudyDescription = "N" * len(person)
        image.PatientID = "I" * 8

    source = changed_mr(mr, tmp_path, change)
    for instance in source.instances:  # pydicom would encode the names anew
        content = instance.path.read_bytes().replace(b"N" * len(person), person).replace(b"I" * 8, b" 0042_x ")
        instance.path.write_bytes(content)
    path = write_ct(hu, source, PROVENANCE, tmp_path / "ct", written_at=NOW)[0]
    assert raw_value(path, "PatientName") == raw_value(path, "ReferringPhysicianName") == person
    assert raw_value(path, "StudyDescription") == person
    assert raw_value(path, "PatientID") == b" 0042_x "
    expected = pydicom.dcmread(source.instances[0].path).get("SpecificCharacterSet")
    assert pydicom.dcmread(path).get("SpecificCharacterSet") == expected
    errors = lines("Error", program("dciodvfy"), str(path))
    assert not errors or name in ("absent", "wrong", "unknown")


@pytest.mark.parametrize("syntax", ["implicit", "big endian", "deflated"])
def test_a_source_of_another_transfer_syntax_gives_the_same_patient(
    syntax: str, mr: Series, hu: Volume, tmp_path: Path
) -> None:
    uid = {
        "implicit": pydicom.uid.ImplicitVRLittleEndian,
        "big endian": pydicom.uid.ExplicitVRBigEndian,
        "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    }[syntax]
    image = pydicom.dcmread(mr.instances[0].path)
    image.PregnancyStatus = 4
    image.ReferencedStudySequence = [Dataset()]
    image.ReferencedStudySequence[0].ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    image.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"
    if syntax == "big endian":
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    image.file_meta.TransferSyntaxUID = uid
    anew = Dataset({element.tag: element for element in image})
    anew.file_meta, anew.preamble = image.file_meta, b"\0" * 128
    anew.save_as(tmp_path / "mr.dcm", implicit_vr=syntax == "implicit", little_endian=syntax != "big endian")
    source = Series.of([read_instance(tmp_path / "mr.dcm")])
    written = first(write_ct(hu, source, PROVENANCE, tmp_path / "ct", written_at=NOW))
    for keyword in ("PatientName", "PatientWeight", "PregnancyStatus", "ReferencedStudySequence", "StudyDate"):
        assert written[keyword].value == image[keyword].value


def test_every_attribute_of_patient_and_study_is_the_mrs(ct: list[Path], mr: Series) -> None:
    source, written = pydicom.dcmread(mr.instances[0].path), first(ct)
    here = [k for entity in ("Patient", "Study") for k in keywords_of(entity) if k in source]
    assert len(here) >= 12
    assert {keyword: written[keyword].value for keyword in here} == {keyword: source[keyword].value for keyword in here}


def test_retired_attributes_of_the_patient_are_kept(mr: Series, hu: Volume, tmp_path: Path) -> None:
    def change(image: Dataset) -> None:
        image.OtherPatientIDs, image.EthnicGroup = ["A1", "B2"], "none"

    image = first(write_ct(hu, changed_mr(mr, tmp_path, change), PROVENANCE, tmp_path / "ct", written_at=NOW))
    assert (image.OtherPatientIDs, image.EthnicGroup) == (["A1", "B2"], "none")


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("PatientID", "NO_PATIENT_ID"),
        ("PatientPosition", "NO_GEOMETRY"),
        ("FrameOfReferenceUID", "NO_FRAME_OF_REFERENCE"),
    ],
)
def test_an_mr_is_refused_without(missing: str, code: str, mr: Series, hu: Volume, tmp_path: Path) -> None:
    for number, change in enumerate((lambda image: image.pop(missing), lambda image: setattr(image, missing, ""))):
        (folder := tmp_path / str(number)).mkdir()
        with pytest.raises(Unsuitable) as refused:
            write_ct(hu, changed_mr(mr, folder, change), PROVENANCE, folder / "ct", written_at=NOW)
        assert refused.value.code == code
        assert not (folder / "ct").exists()


# --- the same every time ---------------------------------------------------------------------------------------------


def test_the_same_content_gives_the_same_bytes_and_uids(mr: Series, hu: Volume, ct: list[Path], tmp_path: Path) -> None:
    again = write_ct(hu, mr, PROVENANCE, tmp_path, written_at=NOW)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in ct]
    assert first(ct).SeriesInstanceUID == ct_series_uid(hu, mr, PROVENANCE)
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in ct}) == len(ct)


def test_another_date_changes_no_uid(mr: Series, hu: Volume, ct: list[Path], tmp_path: Path) -> None:
    later = write_ct(hu, mr, PROVENANCE, tmp_path)
    assert first(later).SOPInstanceUID == first(ct).SOPInstanceUID
    assert first(later).SeriesDate != first(ct).SeriesDate


def test_the_order_of_the_sources_files_changes_no_uid(mr: Series, hu: Volume) -> None:
    turned = Series.of(reversed(mr.instances))
    assert ct_series_uid(hu, turned, PROVENANCE) == ct_series_uid(hu, mr, PROVENANCE)


def test_changed_content_changes_every_uid(mr: Series, hu: Volume, tmp_path: Path) -> None:
    one_voxel = hu.array.copy()
    one_voxel[4, 5, 6] += 1
    moved = hu.affine.copy()
    moved[2, 3] += 0.001
    moved_geometry = VolumeGeometry(moved, hu.spatial_shape, coordinate_system="PATIENT")
    model = dataclasses.replace(PROVENANCE, card=dataclasses.replace(CARD, digest="ef" * 32))
    configuration = dataclasses.replace(PROVENANCE, configuration_digest="ef" * 32)
    renamed = changed_mr(mr, tmp_path, lambda image: setattr(image, "PatientName", "Other^Name"))
    shorter = Series.of(mr.instances[:-1])
    uids = [
        ct_series_uid(hu, mr, PROVENANCE),
        ct_series_uid(hu.with_array(one_voxel), mr, PROVENANCE),
        ct_series_uid(moved_geometry.with_array(hu.array), mr, PROVENANCE),
        ct_series_uid(hu, mr, model),
        ct_series_uid(hu, mr, configuration),
        ct_series_uid(hu, mr, WARNED),
        ct_series_uid(hu, renamed, PROVENANCE),
        ct_series_uid(hu, shorter, PROVENANCE),
        ct_series_uid(hu, mr, PROVENANCE, Labels(research=False)),
        ct_series_uid(hu, mr, PROVENANCE, Labels(image_type=("ORIGINAL", "PRIMARY", "AXIAL"))),
        ct_series_uid(hu, mr, dataclasses.replace(PROVENANCE, replaces="1.2.3")),
    ]
    assert len(set(uids)) == len(uids)
    written = [write_ct(hu, mr, p, tmp_path / p.card.digest[:2], written_at=NOW) for p in (PROVENANCE, model)]
    sops = [{pydicom.dcmread(path).SOPInstanceUID for path in paths} for paths in written]
    assert not sops[0] & sops[1]


@contextmanager
def small_files_only() -> Iterator[None]:
    """No file of this process may grow beyond 1000 bytes: what a full disk does in the middle of a file.

    Not a fixture: the tests' own report may go to a file as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_file_is_left_when_the_disk_refuses_one(mr: Series, hu: Volume, tmp_path: Path) -> None:
    with small_files_only(), pytest.raises(OSError, match="large"):
        write_ct(hu, mr, PROVENANCE, tmp_path, written_at=NOW)
    assert list(tmp_path.iterdir()) == []
