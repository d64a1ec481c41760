"""Preflight: a good series passes, and each rule of each profile has a written series, damaged, that breaks it."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import UID, MRImageStorage

from pipeline.ct.write import Labels, write_ct
from pipeline.phantom.thigh import axial_grid, thigh, write_mr_series
from pipeline.preflight.check import OF_A_FILE, OF_A_SERIES, Breach, Complaint, complaints, preflight
from pipeline.preflight.conditional_attributes import CONDITIONS
from pipeline.preflight.profile import RULES, Profile, ProfileRule, load_profile, shipped
from pipeline.preflight.rules import FILE_RULES, SERIES_RULES
from pipeline.series.series import Series, read_instance
from pipeline.standard import ct_image_modules
from tests.support.provenance import PROVENANCE


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CT series that breaks no rule."""
    phantom = thigh(axial_grid((5, 20, 24), (3.0, 4.0, 4.0)))
    mr = Series.of(map(read_instance, write_mr_series(phantom.mr, tmp_path_factory.mktemp("mr"))))
    folder = tmp_path_factory.mktemp("ct")
    write_ct(phantom.hu, mr, PROVENANCE, folder)
    return folder


def checked(folder: Path, profile: str = "generic") -> list[Breach]:
    return preflight(sorted(folder.glob("*.dcm")), load_profile(profile))


def damaged(good: Path, into: Path, change: Callable[[Dataset], object]) -> Path:
    """A copy of the folder with `change` made to the third of five files."""
    folder = Path(shutil.copytree(good, into / "ct"))
    image = pydicom.dcmread(folder / "0003.dcm")
    change(image)
    image.save_as(folder / "0003.dcm")
    return folder


def broken(good: Path, into: Path, change: Callable[[Dataset], object], profile: str = "generic") -> list[Breach]:
    """What preflight says of the damaged copy."""
    return checked(damaged(good, into, change), profile)


def put(**values: object) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return change


def drop(keyword: str) -> Callable[[Dataset], object]:
    return lambda image: image.pop(keyword)


def drop_inside(keyword: str, inner: str) -> Callable[[Dataset], object]:
    return lambda image: image[keyword].value[0].pop(inner)


def one_bright_voxel(image: Dataset) -> None:
    stored = np.frombuffer(image.PixelData, "<i2").copy()
    stored[0] = 3072 + 1024
    image.PixelData = stored.tobytes()


def move(x: float, y: float, z: float) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        position = zip(image.ImagePositionPatient, (x, y, z), strict=True)
        image.ImagePositionPatient = [f"{float(v) + by:.6f}" for v, by in position]

    return change


def long_decimal(image: Dataset) -> None:
    tag = image["SliceLocation"].tag
    image[tag] = pydicom.dataelem.RawDataElement(tag, "DS", 18, b"12.345678901234567", 0, False, True)


def position(value: bytes) -> Callable[[Dataset], object]:
    def change(image: Dataset) -> None:
        tag = image["PatientPosition"].tag
        image[tag] = pydicom.dataelem.RawDataElement(tag, "CS", len(value), value, 0, False, True)

    return change


def same_uid_as_the_next(image: Dataset) -> None:
    uid = pydicom.dcmread(Path(str(image.filename)).with_name("0004.dcm")).SOPInstanceUID
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid


def four_hundred_slices(image: Dataset) -> None:
    """As many files as make a series of 400, one below the other."""
    path = Path(str(image.filename))
    first = pydicom.dcmread(path.with_name("0005.dcm"))
    for number in range(6, 401):
        first.InstanceNumber = number
        first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}")
        first.ImagePositionPatient[2] += 3
        first.save_as(path.with_name(f"{number:04d}.dcm"))


def a_kilometre_apart(image: Dataset) -> None:
    path = Path(str(image.filename)).with_name("0005.dcm")
    last = pydicom.dcmread(path)
    last.ImagePositionPatient[2] += 1e6
    last.save_as(path)


BREAKS: list[tuple[str, Callable[[Dataset], object]]] = [
    ("sop_class", put(Modality="MR")),
    ("sop_class", put(SOPClassUID=MRImageStorage)),
    ("required_attributes", drop("RescaleSlope")),
    ("required_attributes", put(FrameOfReferenceUID="")),
    ("required_attributes", drop("KVP")),
    ("required_attributes", drop("StudyID")),
    ("required_attributes", drop_inside("ContributingEquipmentSequence", "Manufacturer")),
    ("required_attributes", drop_inside("SourceImageSequence", "ReferencedSOPInstanceUID")),
    ("required_attributes", put(SliceThickness=None, ImageOrientationPatient=None)),
    ("conditional_attributes", drop("PatientPosition")),
    ("conditional_attributes", drop("Laterality")),
    ("conditional_attributes", drop("ReferencedSeriesSequence")),
    ("conditional_attributes", put(PatientIdentityRemoved="YES")),
    ("conditional_attributes", put(WindowWidth=None)),
    ("conditional_attributes", drop_inside("DerivationCodeSequence", "CodeValue")),
    ("conditional_attributes", drop_inside("DerivationCodeSequence", "CodingSchemeDesignator")),
    ("patient_id", put(PatientID="")),
    ("patient_id", drop("PatientID")),
    ("patient_position", position(b"SUPINE")),
    ("patient_position", position(b"hfs ")),
    ("axial_orientation", put(ImageOrientationPatient=[1, 0, 0, 0, 0.9998, 0.02])),
    ("axial_orientation", put(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])),
    ("square_pixels", put(PixelSpacing=[4, 4.001])),
    ("hu_rescale", put(RescaleType="US")),
    ("hu_rescale", drop("RescaleType")),
    ("sixteen_bits", put(BitsStored=14, HighBit=13)),
    ("sixteen_bits", put(HighBit=11)),
    ("sixteen_bits", put(PhotometricInterpretation="MONOCHROME1")),
    ("sixteen_bits", put(Rows=19)),
    ("value_range", one_bright_voxel),
    ("value_range", put(RescaleSlope=2)),
    ("synthetic_data", drop("SyntheticData")),
    ("synthetic_data", put(SyntheticData="NO")),
    ("decimal_strings", long_decimal),
    ("equal_steps", move(0, 0, 0.0002)),
    ("equal_steps", move(0.0002, 0, 0)),
    ("equal_steps", move(0, -0.0002, 0)),
    ("equal_steps", put(InstanceNumber=1000)),
    ("one_series", put(FrameOfReferenceUID="1.2.3")),
    ("one_series", put(PatientID="another")),
    ("one_series", put(SeriesInstanceUID="1.2.3")),
    ("same_rescale", put(RescaleIntercept=-1023)),
    ("one_series", put(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])),
    ("unique_sop_uids", same_uid_as_the_next),
    ("slices_touch", put(SliceThickness="2.9")),
    ("slices_touch", put(SpacingBetweenSlices="3.5")),
    ("image_type", put(ImageType=["DERIVED", "PRIMARY", "AXIAL"])),
    ("image_type", drop("ImageType")),
    ("attributes_filled", put(StationName="")),
    ("attributes_filled", drop("DeviceSerialNumber")),
    ("slice_count", four_hundred_slices),
    ("length", a_kilometre_apart),
]
"""Rule -> damage to the third file of a written series, which breaks it."""


def asking(rule: str) -> str:
    """The first shipped profile, generic before the others, that asks a rule."""
    names = ["generic", *shipped()]
    return next(name for name in names if rule in [asked.rule for asked in load_profile(name).rules])


@pytest.mark.parametrize("profile", [name for name in shipped() if name != "original-only"])
def test_a_written_series_breaks_no_rule_of(profile: str, good: Path) -> None:
    assert checked(good, profile) == []


@pytest.mark.filterwarnings("ignore:Value exceeds the maximum length:UserWarning:pydicom")
@pytest.mark.parametrize(("rule", "change"), BREAKS, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(BREAKS)])
def test_a_broken_series_is_named_by_its_rule_and_file(
    rule: str, change: Callable[[Dataset], object], good: Path, tmp_path: Path
) -> None:
    breaches = [breach for breach in broken(good, tmp_path, change, asking(rule)) if breach.rule == rule]
    assert breaches
    of_the_file = {breach.file.name for breach in breaches} <= {"0003.dcm", "0004.dcm"}
    assert of_the_file or rule in ("equal_steps", "slice_count", "length", "image_type")


@pytest.mark.parametrize("profile", shipped())
def test_every_rule_of_a_profile_has_a_file_that_breaks_it(profile: str, good: Path, tmp_path: Path) -> None:
    changes = dict(reversed(BREAKS))
    for asked in load_profile(profile).rules:
        folder = damaged(good, tmp_path / asked.rule, changes[asked.rule])
        assert asked.rule in {breach.rule for breach in checked(folder, profile)}


def test_every_rule_is_asked_by_a_shipped_profile_and_every_one_is_explained() -> None:
    asked = {one.rule for name in shipped() for one in load_profile(name).rules}
    assert asked == set(RULES) == set(OF_A_FILE) | set(OF_A_SERIES)
    assert all(rule.__doc__ for rule in (*FILE_RULES, *SERIES_RULES))


def test_the_parameters_of_a_rule_are_those_that_a_profile_must_give() -> None:
    for rule in (*FILE_RULES, *SERIES_RULES):
        own = [p.name for p in inspect.signature(rule).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        assert own == list(RULES[rule.__name__])


def test_only_an_image_type_that_says_original_passes_where_that_is_asked(good: Path, tmp_path: Path) -> None:
    assert {breach.rule for breach in checked(good, "original-only")} == {"image_type"}
    phantom = thigh(axial_grid((3, 20, 24), (3.0, 4.0, 4.0)))
    mr = Series.of(map(read_instance, write_mr_series(phantom.mr, tmp_path / "mr")))
    labels = Labels(image_type=("ORIGINAL", "PRIMARY", "AXIAL"))
    paths = write_ct(phantom.hu, mr, PROVENANCE, tmp_path / "ct", labels=labels)
    assert preflight(paths, load_profile("original-only")) == []


def test_limits_hold_to_the_last_slice_and_millimetre(good: Path, tmp_path: Path) -> None:
    paths = sorted(good.glob("*.dcm"))
    for rule, name, at_most in (("slice_count", "most", 5), ("length", "most_mm", 15.0)):
        fits = Profile("own", "a test", (ProfileRule(rule, {name: at_most}, "none"),))
        exceeds = Profile("own", "a test", (ProfileRule(rule, {name: at_most - 0.5}, "none"),))
        assert preflight(paths, fits) == []
        assert [breach.rule for breach in preflight(paths, exceeds)] == [rule]


def test_each_destination_hears_what_its_own_profile_asks(good: Path, tmp_path: Path) -> None:
    paths = sorted(damaged(good, tmp_path, put(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])).glob("*.dcm"))
    profiles = {"pacs": load_profile("archive"), "planning": load_profile("axial-only")}
    told = complaints(paths, profiles)
    assert {(one.destination, one.rule) for one in told} == {
        ("pacs", "one_series"),
        ("planning", "one_series"),
        ("planning", "axial_orientation"),
    }
    axial = next(one for one in told if one.rule == "axial_orientation")
    assert str(axial).startswith(
        "planning, profile axial-only: axial_orientation: ImageOrientationPatient is [0.0, 1.0"
    )
    assert str(Complaint("", "generic", "patient_id", "PatientID is missing", 3)) == (
        "patient_id: PatientID is missing (3 files)"
    )


def test_slices_within_a_ten_thousandth_of_a_millimetre_pass(good: Path, tmp_path: Path) -> None:
    assert broken(good, tmp_path, move(0.00005, 0, -0.00005)) == []


def test_slices_from_superior_to_inferior_are_named(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "ct"))
    for path in folder.glob("*.dcm"):
        image = pydicom.dcmread(path)
        image.InstanceNumber = 6 - image.InstanceNumber
        image.save_as(path)
    assert {breach.rule for breach in checked(folder)} == {"equal_steps"}


def test_a_missing_slice_in_the_middle_is_named(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "ct"))
    (folder / "0003.dcm").unlink()
    assert {breach.rule for breach in checked(folder)} == {"equal_steps", "slices_touch"}


@pytest.mark.parametrize("length", [0, 100, 500, 3000])
def test_a_file_cut_short_is_named_and_the_others_are_still_asked(length: int, good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "ct"))
    content = (folder / "0003.dcm").read_bytes()
    (folder / "0003.dcm").write_bytes(content[:length])
    (folder / "0005.dcm").unlink()
    breaches = checked(folder)
    assert "0003.dcm" in {breach.file.name for breach in breaches}


def test_no_file_at_all_is_no_breach_of_a_file() -> None:
    assert preflight([]) == []


def test_a_name_beyond_ascii_needs_a_character_set(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "ct"))
    content = (folder / "0003.dcm").read_bytes()
    assert content.count(b"ISO_IR 192") == 1
    foreign = content.replace(b"Phantom^Thigh ", b"Phant\xf6m^Thigh ").replace(
        b"\x08\x00\x05\x00CS", b"\x08\x00\x04\x00CS"
    )
    (folder / "0003.dcm").write_bytes(foreign)
    sentences = [breach.sentence for breach in checked(folder) if breach.rule == "conditional_attributes"]
    assert sentences == ["Type 1C attribute SpecificCharacterSet is missing although its condition holds"]


def test_a_site_may_allow_another_range(good: Path, tmp_path: Path) -> None:
    phantom = thigh(axial_grid((3, 20, 24), (3.0, 4.0, 4.0)))
    mr = Series.of(map(read_instance, write_mr_series(phantom.mr, tmp_path / "mr")))
    bright = phantom.hu.with_array(phantom.hu.array + 3000)
    paths = write_ct(bright, mr, PROVENANCE, tmp_path / "ct", labels=Labels(hu_range=(-1024, 8191)))
    assert {breach.rule for breach in preflight(paths)} == {"value_range"}
    own = tmp_path / "own.yaml"
    own.write_text("for: us\nlike: generic\nrules: {value_range: {lowest: -1024, highest: 8191, evidence: we tried}}")
    assert preflight(paths, load_profile(str(own))) == []


def test_sentences_hold_no_patient(good: Path, tmp_path: Path) -> None:
    breaches = broken(good, tmp_path, put(PatientID="SECRET", PatientName="SECRET^NAME", Modality="MR"))
    assert breaches
    assert not any("SECRET" in breach.sentence for breach in breaches)


def test_every_conditional_attribute_of_the_standard_has_its_row() -> None:
    modules = [m for m in ct_image_modules() if m.usage == "M" or m.key in ("voi-lut", "common-instance-reference")]
    rows = {row.keyword: row.type for m in modules for row in m.attributes if not row.path and row.type in ("1C", "2C")}
    assert {keyword: kind for keyword, (kind, _) in CONDITIONS.items()} == rows
