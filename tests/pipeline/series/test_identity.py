"""Never one person's anatomy under another's name: what contradicts itself is refused by attribute, without values."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.identity import PATIENT_POSITIONS, check_one_patient, check_patient_position
from pipeline.series.series import Instance, only_series, read_instance, read_series, select

FIRST: Mapping[str, str] = {
    "PatientName": "Kowalska^Anna=山田^花子",
    "PatientID": "PID-1",
    "IssuerOfPatientID": "HOSPITAL-A",
    "PatientBirthDate": "19500101",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.826.1",
}
SECOND: Mapping[str, str] = {
    "PatientName": "Nowak^Jan=鈴木^一郎",
    "PatientID": "PID-2",
    "IssuerOfPatientID": "HOSPITAL-B",
    "PatientBirthDate": "19801231",
    "PatientSex": "M",
    "StudyInstanceUID": "1.2.826.2",
}
SAME: Mapping[str, Sequence[str]] = {
    "PatientName": ["KOWALSKA^ANNA^^^=山田^花子", "kowalska ^ Anna=山田^花子=", "Kowalska^Anna", "=山田^花子^"],
    "PatientID": ["PID-1 ", " PID-1"],
    "IssuerOfPatientID": ["HOSPITAL-A "],
    "PatientBirthDate": ["1950.01.01", " 19500101"],
    "PatientSex": ["f", "F "],
    "StudyInstanceUID": ["1.2.826.1"],
}
"""The values of FIRST, as other systems write them."""

OPTIONAL = sorted({*FIRST} - {"PatientID", "StudyInstanceUID"})


def instance(number: int, values: Mapping[str, str]) -> Instance:
    header = pydicom.Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        setattr(header, keyword, value)
    uid = pydicom.uid.UID(f"1.2.3.{number}")
    return Instance(MRImageStorage, uid, ImplicitVRLittleEndian, pydicom.uid.UID("1.2"), Path("none"), header)


def refusal(instances: Sequence[Instance]) -> Unsuitable:
    with pytest.raises(Unsuitable) as refused:
        check_one_patient(instances)
    assert refused.value.code == "MIXED_PATIENTS"
    for values in (FIRST, SECOND):
        parts = [part for value in values.values() for part in value.replace("=", "^").split("^") if len(part) > 1]
        assert [part for part in parts if part in str(refused.value)] == []
    return refused.value


@given(
    keywords=st.sets(st.sampled_from(sorted(FIRST)), min_size=1),
    others=st.sets(st.integers(1, 8), min_size=1, max_size=3),
    order=st.permutations(range(1, 9)),
)
def test_images_that_name_another_patient_or_study_are_refused_by_attribute_and_uid(
    keywords: set[str], others: set[int], order: list[int]
) -> None:
    other = {**FIRST, **{keyword: SECOND[keyword] for keyword in keywords}}
    found = str(refusal([instance(number, other if number in others else FIRST) for number in order]))
    assert {keyword for keyword in FIRST if keyword in found.replace(",", "").split()} == keywords
    of_first = next(number for number in order if number not in others)
    named = {number for number in range(1, 9) if f"1.2.3.{number}" in found}
    assert named == {*others, of_first}


@given(st.data())
def test_one_patient_as_several_systems_write_it_is_one_patient(data: st.DataObject) -> None:
    spelled = st.fixed_dictionaries({keyword: st.sampled_from([FIRST[keyword], *SAME[keyword]]) for keyword in FIRST})
    written = data.draw(st.lists(spelled, min_size=2, max_size=5))
    missing = data.draw(st.lists(st.sets(st.sampled_from(OPTIONAL)), min_size=len(written), max_size=len(written)))
    empty = data.draw(st.booleans())
    images = []
    for number, (values, absent) in enumerate(zip(written, missing, strict=True), start=1):
        kept = {keyword: value for keyword, value in values.items() if keyword not in absent}
        images.append(instance(number, {**dict.fromkeys(absent, ""), **kept} if empty else kept))
    check_one_patient(images)


@given(keyword=st.sampled_from(sorted(FIRST)), order=st.permutations(range(1, 6)))
def test_an_image_without_the_attribute_hides_no_contradiction_between_two_others(
    keyword: str, order: list[int]
) -> None:
    without = {one: value for one, value in FIRST.items() if one != keyword}
    values = {1: FIRST, 2: {**FIRST, keyword: SECOND[keyword]}}
    found = refusal([instance(number, values.get(number, without)) for number in order])
    assert keyword in found.sentence


def test_a_long_list_of_images_is_cut_and_counted() -> None:
    found = refusal([instance(number, FIRST if number <= 60 else SECOND) for number in range(1, 101)])
    assert "1.2.3.61" in found.sentence
    assert "and 35 more" in found.sentence
    assert len(found.sentence) < 800


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 999", "", "ISO_IR 100"])
def test_names_whose_bytes_cannot_be_decoded_are_compared_as_bytes(charset: str, tmp_path: Path) -> None:
    thigh.write_mr_series(MR, tmp_path)
    for number, name in ((1, b"M\xfcller"), (2, b"M\xf6ller")):
        path = tmp_path / f"{number:04d}.dcm"
        image = pydicom.dcmread(path)
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 192", "QZQZQZ"
        image.save_as(path)
        bytes_of = path.read_bytes().replace(b"ISO_IR 192", charset.ljust(10).encode())
        path.write_bytes(bytes_of.replace(b"QZQZQZ", name))
    images = [read_instance(tmp_path / f"{number:04d}.dcm") for number in (1, 2)]
    with pytest.raises(Unsuitable, match="PatientName"):
        check_one_patient(images)
    check_one_patient([images[0], images[0]])


# --- files -----------------------------------------------------------------------------------------------------------

MR = thigh.thigh(thigh.axial_grid((12, 24, 28), (3.2, 6.0, 6.0))).mr


def refused(folder: Path) -> Unsuitable:
    """The error with which the one series of a folder is refused."""
    with pytest.raises(Unsuitable) as caught:
        select(only_series(read_series(folder)))
    return caught.value


@pytest.mark.parametrize("keyword", sorted(FIRST))
def test_a_folder_with_a_slice_of_another_patient_is_refused(keyword: str, tmp_path: Path) -> None:
    paths = thigh.write_mr_series(MR, tmp_path)
    for number, path in enumerate(paths):
        image = pydicom.dcmread(path)
        image.SpecificCharacterSet = "ISO_IR 192"
        setattr(image, keyword, (SECOND if number == 6 else FIRST)[keyword])
        image.save_as(path)
    error = refused(tmp_path)
    assert error.code == "MIXED_PATIENTS"
    assert keyword in error.sentence
    assert pydicom.dcmread(paths[6]).SOPInstanceUID in error.sentence


def test_two_enhanced_objects_of_two_patients_are_refused(tmp_path: Path) -> None:
    (first := tmp_path / "1").mkdir()
    (second := tmp_path / "2").mkdir()
    image = pydicom.dcmread(thigh.write_enhanced_mr(MR, first))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3.4")
    image.PatientName = "Nowak^Jan"
    image.save_as(second / "other.dcm")
    error = refused(tmp_path)
    assert (error.code, "PatientName" in error.sentence, "1.2.3.4" in error.sentence) == ("MIXED_PATIENTS", True, True)


# --- one element twice -----------------------------------------------------------------------------------------------


def written_twice(folder: Path, keyword: str, value: object, syntax: str, *, first: bool) -> None:
    """Put a second element with `value` before or behind that of file 0005."""
    path = thigh.write_mr_series(MR, folder)[4]
    image = pydicom.dcmread(path)
    if keyword not in image:
        setattr(image, keyword, {"IssuerOfPatientID": "A"}[keyword])
    other = pydicom.Dataset()
    setattr(other, keyword, image[keyword].value if value is None else value)
    image.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    own = image[keyword]
    del image[keyword]
    elements = dict(image.items())
    before = pydicom.Dataset({tag: element for tag, element in elements.items() if tag < own.tag})
    behind = pydicom.Dataset({tag: element for tag, element in elements.items() if tag > own.tag})
    mine = pydicom.Dataset({own.tag: own})
    implicit = syntax == ImplicitVRLittleEndian
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    for part in (before, *((other, mine) if first else (mine, other)), behind):
        pydicom.filewriter.write_dataset(buffer, part)
    body = buffer.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
        body += b"\0" * (len(body) % 2)
    meta = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(meta, image.file_meta)
    path.write_bytes(b"\0" * 128 + b"DICM" + meta.getvalue() + body)


TWICE: Sequence[tuple[str, object]] = [
    ("PatientName", "Nowak^Jan"),
    ("PatientID", "PID-2"),
    ("IssuerOfPatientID", "B"),
    ("PatientBirthDate", "19801231"),
    ("PatientSex", "M"),
    ("StudyInstanceUID", "1.2.826.2"),
    ("SOPInstanceUID", "1.2.826.3"),
    ("FrameOfReferenceUID", "1.2.826.4"),
    ("PatientPosition", "FFP"),
    ("ImagePositionPatient", [0, 0, 100]),
    ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]),
    ("PixelSpacing", [1, 1]),
    ("Rows", 12),
]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("keyword", "value"), TWICE)
def test_an_identifying_or_geometric_attribute_with_two_values_is_refused_by_name(
    keyword: str, value: object, first: bool, syntax: str, tmp_path: Path
) -> None:
    written_twice(tmp_path, keyword, value, syntax, first=first)
    error = refused(tmp_path)
    assert error.code == "REPEATED_ATTRIBUTE"
    assert keyword in error.sentence
    assert str(value) not in error.sentence.replace(read_instance(tmp_path / "0005.dcm").sop_instance_uid, "")


@pytest.mark.parametrize("keyword", ["PatientName", "ImagePositionPatient", "Rows"])
def test_the_same_value_twice_contradicts_nothing(keyword: str, tmp_path: Path) -> None:
    written_twice(tmp_path, keyword, None, "1.2.840.10008.1.2.1", first=True)
    assert len(select(only_series(read_series(tmp_path))).stack.frames) == 12


# --- how the patient lay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["SUPINE", "UNKNOWN", "HF", "HFSX", "HEAD FIRST", "HFS\\HFP", "0", "Nowak^Jan"])
def test_a_patient_position_that_is_no_defined_term_is_refused_without_its_value(said: str, tmp_path: Path) -> None:
    for path in thigh.write_mr_series(MR, tmp_path):
        image = pydicom.dcmread(path)
        image["PatientPosition"]._value = said
        image.save_as(path)
    error = refused(tmp_path)
    assert (error.code, "PatientPosition" in error.sentence) == ("BAD_GEOMETRY", True)
    assert "Nowak" not in error.sentence


@given(st.sampled_from(sorted(PATIENT_POSITIONS)), st.sampled_from(["", " ", "  "]), st.booleans())
def test_lower_case_and_blanks_around_a_defined_term_are_taken_as_it(term: str, blanks: str, lower: bool) -> None:
    said = blanks + (term.lower() if lower else term) + blanks
    assert check_patient_position(said, "1.2.3") == term


def test_two_spellings_of_one_position_are_one_and_two_positions_are_two(tmp_path: Path) -> None:
    paths = thigh.write_mr_series(MR, tmp_path)
    for path, position in zip(paths, ["hfs", "HFS "] * 6, strict=True):
        image = pydicom.dcmread(path)
        image["PatientPosition"]._value = position
        image.save_as(path)
    assert len(select(only_series(read_series(tmp_path))).stack.frames) == 12
    image["PatientPosition"]._value = "hfp"
    image.save_as(paths[-1])
    assert refused(tmp_path).code == "MIXED_PATIENT_POSITIONS"


# --- greyscale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enhanced", [True, False])
def test_monochrome1_is_refused_by_name(enhanced: bool, tmp_path: Path) -> None:
    """Were it read as it is, cortical bone would become the brightest signal."""
    paths = [thigh.write_enhanced_mr(MR, tmp_path)] if enhanced else thigh.write_mr_series(MR, tmp_path)
    image = pydicom.dcmread(paths[-1])
    image.PhotometricInterpretation = "MONOCHROME1"
    image.save_as(paths[-1])
    error = refused(tmp_path)
    assert error.code == "INVERTED_DISPLAY"
    assert "MONOCHROME1" in error.sentence
    assert image.SOPInstanceUID in error.sentence
