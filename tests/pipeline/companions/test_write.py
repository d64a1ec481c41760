"""Outline, segments and uncertainty beside the CT: what they say, and what foreign readers make of them."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom import Volume
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from pydicom import Dataset
from skimage.draw import polygon2mask

from models.data.body import Mask, fill_slices
from pipeline.companions.kinds import COMPANIONS, MADE_WITH_THE_CT, CompanionKind
from pipeline.companions.report_objects import write_report_object
from pipeline.companions.rtstruct import MOST_POINTS, outlines
from pipeline.companions.write import Content, write_companions
from pipeline.ct.write import write_ct
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh, write_mr_series
from pipeline.report.case_report import Case, Happened, pdf_of
from pipeline.series.series import Series, read_instance
from tests.support.provenance import PROVENANCE

GRID = axial_grid((9, 60, 72), (2.5, 3.1, 3.1), (12.34567, -45.67891, 321.98765))
TURNED = oblique_grid(
    (9, 60, 72), (2.5, 3.1, 3.1), np.array([[0, 0.6, 0.8], [1, 0, 0], [0, 0.8, -0.6]]), (1.2, 3.4, 5.6)
)
KINDS: tuple[CompanionKind, ...] = ("rtstruct", "seg", "uncertainty")


@dataclass(frozen=True)
class Made:
    """A CT series with its companions, the MR it is of, and what they show."""

    mr: list[Path]
    ct: list[Path]
    content: Content
    files: dict[CompanionKind, Path]
    geometry: highdicom.VolumeGeometry

    def read(self, kind: CompanionKind) -> Dataset:
        return pydicom.dcmread(self.files[kind])


def content_of(hu: Volume) -> Content:
    """A body with a sharp edge, an uncertainty that is nowhere alike, a void within."""
    body = hu.array > -300
    sd = np.where(body, 20.04 + np.indices(body.shape).sum(axis=0) / 3, 0).astype(np.float32)
    voids = np.zeros_like(body)
    voids[3:6, 25:31, 30:38] = True
    return Content(hu.array, fill_slices(body), sd, voids & body)


def voids_of(content: Content) -> Mask:
    assert content.voids is not None
    return content.voids


def make(grid: highdicom.VolumeGeometry, into: Path) -> Made:
    phantom = thigh(axial_grid((9, 30, 36), (2.5, 4.0, 4.0)))
    mr = write_mr_series(phantom.mr, into / "mr")
    hu = thigh(grid).hu
    ct = write_ct(hu, Series.of(map(read_instance, mr)), PROVENANCE, into / "ct")
    content = content_of(hu)
    told = write_companions(KINDS, content, ct, into / "ct")
    assert told == dict.fromkeys(KINDS, "written")
    return Made(
        mr, ct, content, {kind: into / "ct" / MADE_WITH_THE_CT / f"{kind}.dcm" for kind in KINDS}, hu.get_geometry()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(GRID, tmp_path_factory.mktemp("axial"))


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(TURNED, tmp_path_factory.mktemp("turned"))


def told_by(*command: str) -> list[str]:
    """The complaints of a validator, each a line.

    That the study which a structure set names as the standard wants it (PS3.3 C.8.8.5) is no file is no complaint.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning", "Abort")) and "Missing SOP" not in line]


# --- others accept it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_has_nothing_to_say(
    made: Made, turned: Made, kind: CompanionKind, program: Callable[[str], str]
) -> None:
    for one in (made, turned):
        assert told_by(program("dciodvfy"), str(one.files[kind])) == []


def test_dcentvfy_finds_companions_ct_and_mr_consistent(made: Made, program: Callable[[str], str]) -> None:
    files = map(str, (*made.files.values(), *made.ct, *made.mr))
    assert told_by(program("dcentvfy"), *files) == []


def test_dcentvfy_sees_a_companion_of_another_patient(
    made: Made, tmp_path: Path, program: Callable[[str], str]
) -> None:
    changed = made.read("seg")
    changed.PatientName = "Another^One"
    changed.save_as(tmp_path / "seg.dcm")
    assert told_by(program("dcentvfy"), str(tmp_path / "seg.dcm"), *map(str, made.ct))


@pytest.mark.parametrize("name", ["External", "MR void"])
def test_plastimatch_makes_the_very_masks_of_the_structure_set(
    made: Made, tmp_path: Path, name: str, program: Callable[[str], str]
) -> None:
    command = [program("plastimatch"), "convert", "--input", str(made.files["rtstruct"])]
    command += ["--referenced-ct", str(made.ct[0].parent), "--output-prefix", str(tmp_path), "--prefix-format", "nrrd"]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    image = SimpleITK.ReadImage(str(tmp_path / f"{name}.nrrd"))
    mask = made.content.body if name == "External" else fill_slices(voids_of(made.content))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image) > 0, mask)
    np.testing.assert_allclose(image.GetOrigin(), made.geometry.position, atol=1e-3)


# --- what it says ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.sampled_from([4, 8, 1000]))
def test_the_outlines_of_any_plane_hold_exactly_the_centres_of_its_voxels(plane: np.ndarray, most: int) -> None:
    filled = fill_slices(plane[None])[0]
    centres = np.moveaxis(np.indices(filled.shape), 0, -1).reshape(-1, 2)
    lines = outlines(filled, most)
    inside = [Polygon(np.vstack([line, line[:1]]), closed=True).contains_points(centres) for line in lines]
    assert all(len(line) <= most for line in lines)
    times = np.sum([np.zeros(len(centres), int), *inside], axis=0)
    np.testing.assert_array_equal(times.reshape(filled.shape), filled)


@pytest.mark.parametrize("which", ["made", "turned"])
def test_every_vertex_lies_half_way_between_voxels_of_the_slice_it_names(
    which: str, request: pytest.FixtureRequest
) -> None:
    case: Made = request.getfixturevalue(which)
    slices = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): at for at, path in enumerate(case.ct)}
    for roi in case.read("rtstruct").ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            at = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            index = case.geometry.map_reference_to_indices(points)
            np.testing.assert_allclose(index[:, 0], at, atol=1e-3)
            halves = np.rint(2 * index[:, 1:])
            np.testing.assert_allclose(2 * index[:, 1:], halves, atol=1e-3)
            assert set((halves % 2).sum(axis=1)) == {1}
            assert len(points) == contour.NumberOfContourPoints >= 4


def test_an_axial_contour_has_the_very_position_of_its_slice(made: Made) -> None:
    places = {str(image.SOPInstanceUID): image.ImagePositionPatient[2] for image in map(pydicom.dcmread, made.ct)}
    for contour in made.read("rtstruct").ROIContourSequence[0].ContourSequence:
        assert {*contour.ContourData[2::3]} == {places[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]}


def test_the_structure_set_says_which_region_is_the_external_contour_and_whose_frame_it_lies_in(made: Made) -> None:
    written, mr = made.read("rtstruct"), pydicom.dcmread(made.mr[0])
    named = [(roi.ROIName, roi.ROIGenerationAlgorithm) for roi in written.StructureSetROISequence]
    assert named == [("External", "AUTOMATIC"), ("MR void", "AUTOMATIC")]
    assert [one.RTROIInterpretedType for one in written.RTROIObservationsSequence] == ["EXTERNAL", "AVOIDANCE"]
    frames = written.ReferencedFrameOfReferenceSequence
    assert [frame.FrameOfReferenceUID for frame in frames] == [mr.FrameOfReferenceUID]
    images = frames[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    assert [one.ReferencedSOPInstanceUID for one in images] == [path_uid(path) for path in made.ct]


def path_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


@pytest.mark.parametrize("which", ["made", "turned"])
def test_highdicom_reads_the_segments_where_the_ct_has_these_hu(which: str, request: pytest.FixtureRequest) -> None:
    case: Made = request.getfixturevalue(which)
    read = highdicom.seg.segread(case.files["seg"])
    volume = read.get_volume()
    masks = volume.match_geometry(case.geometry).array.astype(bool)
    hu, body = case.content.hu, case.content.body
    for number, expected in enumerate(
        (
            body,
            body & (hu < -200),
            body & (hu >= -200) & (hu < -30),
            body & (hu >= -30) & (hu <= 250),
            body & (hu > 250),
        )
    ):
        np.testing.assert_array_equal(masks[..., number], expected)
    assert masks[..., 1:].sum() == body.sum()


@pytest.mark.parametrize("which", ["made", "turned"])
def test_highdicom_reads_the_uncertainty_in_hu_within_half_a_step(which: str, request: pytest.FixtureRequest) -> None:
    case: Made = request.getfixturevalue(which)
    read = highdicom.imread(case.files["uncertainty"])
    volume = read.get_volume(apply_real_world_transform=True).match_geometry(case.geometry)
    assert case.content.sd is not None
    assert np.abs(volume.array - case.content.sd).max() <= 0.05 + 1e-4
    mapping = read.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"


@pytest.mark.parametrize("kind", KINDS)
def test_patient_study_and_frame_of_reference_are_the_mrs_byte_for_byte(tmp_path: Path, kind: CompanionKind) -> None:
    mr = write_mr_series(thigh(axial_grid((9, 30, 36), (2.5, 4.0, 4.0))).mr, tmp_path / "mr")
    name = "Müller^Jürgen".encode("latin-1")
    for path in mr:
        image = pydicom.dcmread(path)
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "Müller^Jürgen"
        image.StudyDescription = "Hüfte"
        image.save_as(path)
    hu = thigh(GRID).hu
    ct = write_ct(hu, Series.of(map(read_instance, mr)), PROVENANCE, tmp_path / "ct")
    write_companions([kind], content_of(hu), ct, tmp_path / "ct")
    written = pydicom.dcmread(tmp_path / "ct" / MADE_WITH_THE_CT / f"{kind}.dcm")
    source = pydicom.dcmread(mr[0])
    assert bytes(written.get_item("PatientName").value).rstrip() == name
    assert bytes(written.get_item("StudyDescription").value).rstrip() == "Hüfte".encode("latin-1")
    for keyword in ("SpecificCharacterSet", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[keyword].value == source[keyword].value
    assert written.Modality == COMPANIONS[kind].modality
    assert "research, not for clinical use" in written.SeriesDescription


def test_the_same_content_has_the_same_uids_and_another_has_others(made: Made, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    write_companions(KINDS, made.content, made.ct, again)
    smaller = made.content.body.copy()
    smaller[4, 30, :] = False
    sd = None if made.content.sd is None else made.content.sd + 1
    write_companions(KINDS, Content(made.content.hu, smaller, sd), made.ct, other)
    for kind in KINDS:
        first, second, third = (
            path_uid(root / f"{kind}.dcm")
            for root in (made.files[kind].parent, again / MADE_WITH_THE_CT, other / MADE_WITH_THE_CT)
        )
        assert first == second != third


def test_what_cannot_be_made_of_a_case_is_said_and_not_written(made: Made, tmp_path: Path) -> None:
    nothing = Content(made.content.hu, np.zeros_like(made.content.body))
    told = write_companions((*KINDS, "pdf"), nothing, made.ct, tmp_path)
    assert told == {
        "rtstruct": "no outline of a body was found",
        "seg": "no outline of a body was found",
        "uncertainty": "the model gives no uncertainty",
        "pdf": "written when the case is first sent",
    }
    assert list(tmp_path.iterdir()) == []


def test_an_outline_of_more_points_than_a_decimal_string_holds_is_cut_in_two() -> None:
    rows, columns = np.indices((12, 1201))
    plane = (rows == 6) | (columns % 2 == 1)  # a comb on both sides
    lines = outlines(plane)
    assert max(map(len, lines)) <= MOST_POINTS < max(map(len, outlines(plane, most=10**9)))
    drawn = sum(polygon2mask(plane.shape, line).astype(int) for line in lines)
    np.testing.assert_array_equal(drawn, plane)


# --- what was found and decided --------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
FOUND = (
    {"name": "anatomy", "value": "BRAIN", "limit": "one of THIGH", "unit": "", "verdict": "review"},
    {"name": "bone_fraction", "value": 3.25, "limit": [0.5, 9.0], "unit": "%", "verdict": "pass"},
    {"name": "soft_tissue_median", "value": 41.5, "limit": [20.0, 70.0], "unit": "[hnsf'U]", "verdict": "pass"},
)
CASE = Case(
    job="ab" * 32,
    state="SYNTHESIZED",
    report={"findings": FOUND, "model": {"name": "limb-t1-ldm", "version": "1.0.0", "digest": "ab" * 32}},
    mr_series_uid="1.2",
    events=[Happened(NOW, "released", "web:ada", "the header is wrong, it is a thigh")],
)


@pytest.fixture(scope="module")
def told(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with findings and report of the case."""
    into = tmp_path_factory.mktemp("told")
    kinds: tuple[CompanionKind, ...] = ("sr", "pdf")
    for kind in kinds:
        write_report_object(kind, CASE, made.ct, into, NOW)
    return into


def test_dciodvfy_finds_no_error_in_findings_and_report_and_only_our_own_codes_are_new_to_it(
    told: Path, program: Callable[[str], str]
) -> None:
    assert told_by(program("dciodvfy"), str(told / "pdf.dcm")) == []
    complaints = told_by(program("dciodvfy"), str(told / "sr.dcm"))
    assert {*complaints} == {
        "Warning - Unrecognized defined term <99SCTNODE> for value 1 of attribute <Coding Scheme Designator>"
    }


def test_dcentvfy_finds_every_companion_consistent_with_the_ct(
    made: Made, told: Path, program: Callable[[str], str]
) -> None:
    files = map(str, (*made.files.values(), *told.glob("*.dcm"), *made.ct, *made.mr))
    complaints = told_by(program("dcentvfy"), *files)
    # it takes the Accession Number of a structured report for one of its series; the values are equal
    assert [line for line in complaints if "Element=<AccessionNumber> IE <Study> versus <Series>" not in line] == []
    assert pydicom.dcmread(told / "sr.dcm").AccessionNumber == pydicom.dcmread(made.ct[0]).AccessionNumber


def test_dcmtk_reads_values_limits_units_verdicts_and_the_decision(told: Path, program: Callable[[str], str]) -> None:
    command = [program("dsrdump"), "+Pl", str(told / "sr.dcm")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for words in (
        'NUM:(,,"Soft tissue")="41.5" ([hnsf\'U],UCUM,"Hounsfield unit")',
        '"Normal Range Lower Limit")="20.0"',
        '"Normal Range Upper Limit")="70.0"',
        '"Verdict of the check")=(review,99SCTNODE,',
        '"anatomy is BRAIN"',
        "RELEASED by web:ada, 2026-11-23 01:02:03 UTC: the header is wrong, it is a thigh",
        'PNAME:(,,"Person Observer Name")="web:ada^"',
        "research, not for clinical use",
    ):
        assert words in said


def test_the_encapsulated_report_is_the_report_and_says_so(made: Made, told: Path) -> None:
    written = pydicom.dcmread(told / "pdf.dcm")
    assert bytes(written.EncapsulatedDocument)[: written.EncapsulatedDocumentLength] == pdf_of(CASE)
    assert written.DocumentTitle == "Synthetic CT report; research, not for clinical use"
    assert [one.ReferencedSOPInstanceUID for one in written.SourceInstanceSequence] == [path_uid(p) for p in made.ct]


def test_a_case_without_findings_has_a_report_of_findings_all_the_same(
    made: Made, tmp_path: Path, program: Callable[[str], str]
) -> None:
    write_report_object("sr", Case("cd" * 32, "SYNTHESIZED", {}, "1.2"), made.ct, tmp_path, NOW)
    assert not [line for line in told_by(program("dciodvfy"), str(tmp_path / "sr.dcm")) if line.startswith("Error")]
