"""Headers as the world writes them: pushed, kept, converted, and their patient and study found again in the CT."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from dicomnode.config.peers import Destination
from dicomnode.config.rules import JobSettings
from dicomnode.config.sections import Node, Receive
from dicomnode.delivery.storage_scu import send
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
from dicomnode.synthesis.attempt import options_of
from models.inference.weights import Model, load_model
from pipeline.conversion import Result, convert
from pipeline.errors import Unsuitable
from pipeline.phantom.thigh import axial_grid, thigh, write_mr_series
from pipeline.series.series import Series, read_instance

SLICES = 6

Header = Mapping[str, bytes | None]
"""Keyword -> value bytes; None leaves the attribute out."""

Change = Callable[[pydicom.Dataset, int], None]
"""What is done to the header of a slice, and its number."""

Pass = Callable[..., tuple[Result, list[Path]]]
"""Changes a series, pushes and converts it (with other settings); -> the result, and the MR's files as they were kept.
"""

DEFAULT = JobSettings()


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), "cpu")


@pytest.fixture(scope="module")
def small_series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a small MR series of the phantom."""
    return write_mr_series(thigh(axial_grid((SLICES, 32, 32), (6.0, 6.0, 6.0))).mr, tmp_path_factory.mktemp("small"))


@pytest.fixture
def through(small_series: list[Path], model: Model, tmp_path: Path) -> Pass:
    """The way of a series through the node."""

    def push_and_convert(change: Change, settings: JobSettings = DEFAULT) -> tuple[Result, list[Path]]:
        paths = [odd(path, tmp_path, change, number) for number, path in enumerate(small_series)]
        spool = Spool(tmp_path / "data", 0)
        receiver = Receiver(Node(port=0, data=spool.root), Receive(disk_reserve_bytes=0), spool)
        receiver.start()
        send(paths, Destination("node", "SCTNODE", "127.0.0.1", receiver.port), "SCANNER", lambda _: None)
        receiver.stop(1)
        kept = sorted(spool.inbox.glob("*/*.dcm"))
        assert len(kept) == len(paths)
        (tmp_path / "ct").mkdir()
        series = Series.of(map(read_instance, kept))
        return convert(series, model, tmp_path / "ct", options_of(settings, "cpu")), kept

    return push_and_convert


def put(header: Header) -> Change:
    """A change to other values, written as they are; {n} in a value is the number of the slice."""

    def change(image: pydicom.Dataset, number: int) -> None:
        for keyword, value in header.items():
            tag = Tag(keyword)
            image.pop(tag, None)
            if value is not None:
                image[tag] = element(tag, stand_in(keyword, value).replace(b"{n}", str(number).encode()))

    return change


def odd(path: Path, into: Path, change: Change, number: int) -> Path:
    """A changed file."""
    image = pydicom.dcmread(path)
    change(image, number)
    image.file_meta[Tag("MediaStorageSOPInstanceUID")] = element(
        Tag("MediaStorageSOPInstanceUID"), str(image.SOPInstanceUID).encode()
    )
    image.save_as(into / path.name)
    content = (into / path.name).read_bytes()
    for keyword, value in FOREIGN:
        if stand_in(keyword, value) != value:
            content = content.replace(stand_in(keyword, value), value)
    (into / path.name).write_bytes(content)
    return into / path.name


def stand_in(keyword: str, value: bytes) -> bytes:
    """ASCII as long as a value that pydicom would encode anew, to be replaced in the file."""
    if value.isascii() and b"\x1b" not in value:
        return value
    return hashlib.sha256(value).hexdigest().encode()[: len(value)]


def element(tag: BaseTag, value: bytes) -> RawDataElement:
    value += b"\0" * (len(value) % 2) if dictionary_VR(tag) == "UI" else b" " * (len(value) % 2)
    return RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def value_of(path: Path, keyword: str) -> bytes | None:
    """The bytes of a value as they stand in a file, without padding."""
    image = pydicom.dcmread(path, stop_before_pixels=True)
    value = image.get_item(keyword).value if keyword in image else None
    if isinstance(value, bytes) or value is None:  # SpecificCharacterSet is decoded at once
        return value if value is None else value.rstrip(b" \0")
    return "\\".join([value] if isinstance(value, str) else value).encode()


def errors_of(path: Path, program: Callable[[str], str]) -> list[str]:
    """What dciodvfy says is wrong."""
    said = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, check=False)
    return [line for line in said.stderr.decode("latin-1").splitlines() if line.startswith("Error")]


KEPT: dict[str, Header] = {
    "japanese": {
        "SpecificCharacterSet": rb"\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    },
    "korean": {
        "SpecificCharacterSet": rb"\ISO 2022 IR 149",
        "PatientName": b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    },
    "arabic": {"SpecificCharacterSet": b"ISO_IR 127", "PatientName": "قباني^لنزار".encode("iso8859-6")},
    "no character set": {"SpecificCharacterSet": None, "PatientName": b"M\xfcller^J\xf6rg"},
    "wrong character set": {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": b"M\xfcller^J\xf6rg\xff"},
    "character set of no standard": {"SpecificCharacterSet": b"KOI-8", "PatientName": b"\xec\xc5\xce\xc9\xce"},
    "leading zeros": {"StudyInstanceUID": b"1.2.03.4", "FrameOfReferenceUID": b"1.2.003.05"},
    "long texts": {
        "PatientName": b"A" * 300 + b"^" + b"B" * 300,
        "PatientComments": b"words " * 2000,
        "StudyDescription": b"S" * 200,
        "OtherPatientIDs": b"\\".join(b"id%d" % n for n in range(300)),
        "AccessionNumber": b"7" * 40,
    },
    "odd dates and numbers": {"PatientBirthDate": b"1.1.70", "PatientAge": b"55 years", "StudyTime": b"25:61"},
}

REPORTED = {
    "no character set": "character",
    "wrong character set": "character",
    "character set of no standard": "haracter",
    "leading zeros": "UID",
    "long texts": "Length invalid",
    "odd dates and numbers": "Value invalid",
}
"""Where the MR breaks the standard so does the CT: what dciodvfy says of it, and that it says so."""

SUMMARY = "Dicom dataset contains invalid data values for Value Representations"
"""How dciodvfy sums them up."""

FOREIGN = [(keyword, value) for header in KEPT.values() for keyword, value in header.items() if value is not None]
"""What is put into the files as bytes."""


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # what pydicom says when a test looks at these values
@pytest.mark.parametrize("name", KEPT)
def test_patient_and_study_are_kept_byte_for_byte_from_push_to_ct(
    name: str, through: Pass, program: Callable[[str], str]
) -> None:
    result, _ = through(put(KEPT[name]))
    for keyword, value in KEPT[name].items():
        assert value_of(result.ct[0], keyword) == (value if value is None else value.rstrip(b" "))
    errors = [line for line in errors_of(result.ct[0], program) if SUMMARY not in line]
    assert [line for line in errors if REPORTED.get(name, "-") not in line] == []


def test_references_to_images_whose_uids_have_leading_zeros_lead_to_them(through: Pass) -> None:
    result, kept = through(put({"SOPInstanceUID": b"1.2.003.0{n}", "SeriesInstanceUID": b"1.2.003"}))
    image = pydicom.dcmread(result.ct[0])
    referenced = {str(one.ReferencedSOPInstanceUID) for one in image.SourceImageSequence}
    assert referenced == {path.stem for path in kept} == {f"1.2.003.0{n}" for n in range(SLICES)}
    assert str(image.ReferencedSeriesSequence[0].SeriesInstanceUID) == "1.2.003"


def test_private_groups_do_not_go_into_the_ct(through: Pass) -> None:
    def private(image: pydicom.Dataset, _: int) -> None:
        image.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"\1\2" * 60_000)
        image[Tag(0x0011, 0x1002)] = RawDataElement(Tag(0x0011, 0x1002), "UN", 4, b"lost", 0, False, True)
        nested = pydicom.Dataset()
        nested.PatientID = "NESTED"
        image.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [nested])

    result, kept = through(private)
    image = pydicom.dcmread(result.ct[0])
    assert [one.tag for one in image.iterall() if one.tag.is_private] == []
    assert image.PatientID != "NESTED"
    assert pydicom.dcmread(kept[0])[0x0029, 0x1010].value == b"\1\2" * 60_000


def test_decimal_strings_longer_than_16_characters_are_read_exactly_and_never_written(
    through: Pass, program: Callable[[str], str]
) -> None:
    header = {
        "PixelSpacing": rb"6.0000000000000000000\6.00000000000000000000",
        "ImageOrientationPatient": rb"1.00000000000000000000\0\0\0\1.00000000000000000\0",
        "PatientWeight": b"72.123456789012345678",
        "PatientSize": b"1.7",
    }
    result, _ = through(put(header))
    assert result.held is None
    assert value_of(result.ct[0], "PatientWeight") is None
    assert value_of(result.ct[0], "PatientSize") == b"1.7"
    assert "PatientWeight" in pydicom.dcmread(result.ct[0]).ImageComments
    assert errors_of(result.ct[0], program) == []


def test_a_study_id_that_is_too_long_is_left_empty_and_the_ct_says_so(
    through: Pass, program: Callable[[str], str]
) -> None:
    result, _ = through(put({"StudyID": b"0123456789ABCDEFG"}))
    assert value_of(result.ct[0], "StudyID") == b""
    assert "StudyID" in pydicom.dcmread(result.ct[0]).ImageComments
    assert errors_of(result.ct[0], program) == []


def test_items_of_which_nothing_can_be_read_are_left_out(through: Pass, program: Callable[[str], str]) -> None:
    """The CT stays valid; the MR keeps what came."""
    result, _ = through(put({"OtherPatientIDsSequence": b"\xfe\xff\x00\xe0\x20\0\0\0broken"}))
    assert value_of(result.ct[0], "OtherPatientIDsSequence") is None
    assert errors_of(result.ct[0], program) == []


def test_an_mr_that_was_once_compressed_with_loss_is_converted_where_configured_and_the_ct_says_so(
    through: Pass, program: Callable[[str], str]
) -> None:
    said = {
        "LossyImageCompression": b"01",
        "LossyImageCompressionRatio": b"12.5",
        "LossyImageCompressionMethod": b"ISO_15444_1",
    }
    result, _ = through(put(said), JobSettings(accept_lossy=True))
    assert {keyword: value_of(result.ct[0], keyword) for keyword in said} == said
    image = pydicom.dcmread(result.ct[0])
    sentence = "the MR was compressed with loss (ISO_15444_1, ratio 12.5)"
    assert f"WARNING: {sentence}." in image.DerivationDescription
    assert sentence in image.ImageComments
    assert "WARNING" in image.SeriesDescription
    assert sentence in result.report["warnings"]
    assert errors_of(result.ct[0], program) == []


@pytest.mark.parametrize(
    ("header", "code", "part"),
    [
        ({"PatientID": b""}, "NO_PATIENT_ID", "PatientID"),
        ({"PatientID": b"    "}, "NO_PATIENT_ID", "PatientID"),
        ({"PatientID": None}, "NO_PATIENT_ID", "PatientID"),
        ({"LossyImageCompression": b"01"}, "LOSSY", "LossyImageCompression"),
        ({"PatientPosition": None}, "NO_GEOMETRY", "PatientPosition"),
        ({"StudyInstanceUID": None}, "BAD_UID", "StudyInstanceUID"),
        ({"ReferencedStudySequence": b"\1\2\3\4\5\6"}, "UNREADABLE", "ReferencedStudySequence"),
    ],
)
def test_what_cannot_be_made_good_is_refused_by_name(header: Header, code: str, part: str, through: Pass) -> None:
    with pytest.raises(Unsuitable) as refused:
        through(put(header))
    assert refused.value.code == code
    assert part in refused.value.sentence
    assert "Phantom" not in refused.value.sentence
