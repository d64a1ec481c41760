"""What a frame shows is said in the same words whether the object is classic, Enhanced or Legacy Converted."""

import gzip
import io
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import highdicom
import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.frame import Frame, frames_of
from pipeline.series.image_kind import KINDS, classic_kind
from pipeline.series.series import read_instance, read_series

MR = thigh.thigh(thigh.axial_grid((6, 16, 20), (3.2, 6.0, 6.0))).mr


def frames_in(path: Path) -> list[Frame]:
    return [frame for series in read_series(path) for one in series.instances for frame in frames_of(one)]


def image(**values: object) -> pydicom.Dataset:
    header = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


def test_a_philips_field_map_says_the_same_as_classic_and_as_enhanced(
    mr_item: Callable[[str], Path], tmp_path: Path
) -> None:
    zipped = mr_item("philips_enhanced_multivolume/fieldmap_2echo_mag_phase_enhanced.dcm.gz")
    (tmp_path / "one.dcm").write_bytes(gzip.decompress(zipped.read_bytes()))
    classic = frames_in(mr_item("philips_fieldmap_2echo_magphase_multivolume_classic"))
    for keyword in ("ComplexImageComponent", "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber"):
        said = [Counter(frame.kind[keyword] for frame in one) for one in (classic, frames_in(tmp_path))]
        assert said[0] == said[1]
    assert Counter(frame.kind["ComplexImageComponent"] for frame in classic) == {"MAGNITUDE": 106, "PHASE": 106}


def test_a_legacy_converted_image_says_the_same_as_its_classic_images(tmp_path: Path) -> None:
    paths = thigh.write_mr_series(MR, tmp_path / "classic")
    for number, path in enumerate(paths):
        one = pydicom.dcmread(path)
        one.ImageType = ["ORIGINAL", "PRIMARY", "IN_PHASE"]  # the conversion drops what follows
        one.EchoTime, one.EchoNumbers, one.TemporalPositionIdentifier = 2.3 + number, number + 1, number + 3
        one.InversionTime, one.TriggerTime, one.ContrastBolusAgent = 900, 10.5 * number, "Gd"
        one.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 100 * number)
        one.save_as(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
            [pydicom.dcmread(path) for path in paths], generate_uid(), 9, generate_uid(), 1
        )
    (tmp_path / "converted").mkdir()
    converted.save_as(tmp_path / "converted" / "one.dcm")
    classic = sorted(frames_in(tmp_path / "classic"), key=lambda frame: frame.position_mm)
    legacy = sorted(frames_in(tmp_path / "converted"), key=lambda frame: frame.position_mm)
    said = [
        [{keyword: frame.kind[keyword] for keyword in frame.kind.keys() - {"ImageType", "StackID"}} for frame in frames]
        for frames in (classic, legacy)
    ]
    assert said[0] == said[1]
    assert [frame.kind["DiffusionBValue"] for frame in classic] == ["0", "100", "200", "300", "400", "500"]
    assert classic[0].kind["Dixon"] == "IN_PHASE"


@pytest.mark.parametrize(
    ("image_type", "component", "dixon"),
    [
        ("ORIGINAL\\PRIMARY\\M\\NORM\\DIS2D", "MAGNITUDE", ""),  # Siemens
        ("ORIGINAL\\PRIMARY\\P\\ND", "PHASE", ""),
        ("DERIVED\\PRIMARY\\W\\W\\DERIVED", "", "WATER"),  # Philips
        ("DERIVED\\PRIMARY\\IP\\IP\\DERIVED", "", "IN_PHASE"),
        ("ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", "MAGNITUDE", ""),
        ("ORIGINAL\\PRIMARY\\R_FFE\\R\\FFE", "REAL", ""),
        ("ORIGINAL\\PRIMARY\\M_SE\\NONE", "MAGNITUDE", ""),  # Philips, converted to multi-frame
        ("ORIGINAL\\PRIMARY\\PHASE MAP\\NONE", "PHASE", ""),
        ("DERIVED\\PRIMARY\\DIXON\\FAT", "", "FAT"),
        ("ORIGINAL\\PRIMARY\\M\\OPP_PHASE", "MAGNITUDE", "OPPOSED_PHASE"),
        ("original\\primary\\m", "MAGNITUDE", ""),
        ("M\\P", "", ""),
    ],
)
def test_vendors_words_in_image_type_are_understood(image_type: str, component: str, dixon: str) -> None:
    kind = classic_kind(image(ImageType=image_type.split("\\")), "it")
    assert (kind["ComplexImageComponent"], kind["Dixon"]) == (component, dixon)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value", "expected"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 800, "800"),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", [1000000700, 8, 0, 0], "700"),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 50.5, "50.5"),
        (0x0065, "Image Private Header", 0x09, "FD", 929.75, "929.75"),
    ],
)
def test_a_private_b_value_is_read_by_its_creator(
    group: int, creator: str, element: int, vr: str, value: object, expected: str, implicit: bool
) -> None:
    header = image()
    header.private_block(group, creator, create=True).add_new(element, vr, value)
    written = io.BytesIO()
    pydicom.dcmwrite(written, header, implicit_vr=implicit, little_endian=True)
    again = read_dataset(io.BytesIO(written.getvalue()), implicit, is_little_endian=True)
    if implicit:  # as it comes from a sender that knows no private dictionary
        tag = (group << 16) + 0x1000 + element
        again[tag] = DataElement(tag, "UN", again.get_item(tag).value)
    assert classic_kind(again, "it")["DiffusionBValue"] == expected
    assert classic_kind(image(DiffusionBValue=5.0), "it")["DiffusionBValue"] == "5"


def test_the_b_value_of_united_imaging_is_found_in_its_files(mr_item: Callable[[str], Path]) -> None:
    path = sorted(mr_item("uih_dti_vframe_mosaic").iterdir())[3]
    instance = read_instance(path)
    assert float(classic_kind(instance.header, "it")["DiffusionBValue"]) == pytest.approx(929.75)


def test_a_private_element_that_cannot_be_read_is_not_said() -> None:
    header = image()
    header.private_block(0x0065, "Image Private Header", create=True).add_new(0x09, "UN", b"\1\2\3")
    assert classic_kind(header, "it")["DiffusionBValue"] == ""


def test_a_value_that_cannot_be_read_is_named() -> None:
    tag = Tag("DiffusionBValue")
    header = image()
    header[tag] = RawDataElement(tag, "FD", 3, b"abc", 0, is_implicit_VR=False, is_little_endian=True)
    with pytest.raises(Unsuitable, match="it cannot be read: its DiffusionBValue is damaged"):
        classic_kind(header, "it")


def test_no_kind_is_asked_twice() -> None:
    words = [keyword for keyword, _, _ in KINDS]
    assert len(set(words)) == len(words)
