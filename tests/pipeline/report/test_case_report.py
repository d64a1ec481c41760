"""The report of a case, read with a PDF library of others; and its pictures, looked at pixel by pixel."""

import dataclasses
import datetime
import io
from typing import Any

import numpy as np
import pypdf
import pytest
from highdicom import Volume
from PIL import Image

from pipeline.ct.provenance import RESEARCH_LABEL
from pipeline.findings.meanings import MEANINGS
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh
from pipeline.report.case_report import Case, Happened, Sent, pdf_of, verdict_of
from pipeline.report.figures import CaseVolumes, hu_histogram, planes, png, views
from pipeline.report.pdf import printable
from pipeline.volume.ct_grid import axial_geometry

TILT = np.deg2rad(15)
ROTATION = np.array([[1, 0, 0], [0, np.cos(TILT), -np.sin(TILT)], [0, np.sin(TILT), np.cos(TILT)]])
MR = thigh(oblique_grid((18, 60, 60), (6.0, 3.0, 3.0), ROTATION)).mr
CT = thigh(axial_geometry(MR), noise=0.0).hu
SD = CT.with_array(np.where(CT.array > 250, 150.0, 20.0).astype(np.float32))
AT = datetime.datetime(2026, 11, 23, 1, 2, 3, tzinfo=datetime.UTC)
HELD = "bone_fraction is 23.12 %, expected 0 to 13.7"
REPORT: dict[str, Any] = {
    "source": {"shape": [18, 60, 60], "spacing_mm": [6.0, 3.0, 3.0], "anatomy": "THIGH", "volume": "the only volume"},
    "ct": {"shape": list(CT.shape), "spacing_mm": [6.0, 3.0, 3.0]},
    "scanner": "Scanner 1.5T",
    "protocol": "t1 <tse> & more",
    "model": {"name": "limb-t1-ldm", "version": "1.2.3", "digest": "ab" * 32},
    "sampling": {"seed": 7, "steps": 1, "samples": 1},
    "findings": [
        {"name": "anatomy", "value": "THIGH", "limit": "one of THIGH, CALF", "unit": "", "verdict": "pass"},
        {"name": "bone_fraction", "value": 23.123456, "limit": [0.0, 13.7], "unit": "%", "verdict": "review"},
        {
            "name": "soft_tissue_median",
            "value": 34.2,
            "limit": [-110.61, 90.81],
            "unit": "[hnsf'U]",
            "verdict": "pass",
        },
    ],
    "warnings": [],
    "preflight": {"complaints": [{"rule": "slice_count", "sentence": "412 slices; at most 400"}]},
    "configuration_digest": "cd" * 32,
    "software_version": "0.1.0",
    "seconds": {"read": 0.3, "synthesize": 12.1},
}
CASE = Case(
    "ab12" * 16, "SYNTHESIZED", REPORT, "1.2.840.1", "1.2.840.2", images=CaseVolumes(MR, CT, SD), rule="thigh T1"
)
WHO = "web:jane, 2026-11-23 01:02:03 UTC"
LOOKED = Happened(AT, "released", "web:jane", "an implant: known <b>Ωμέγα</b>\nsecond line")


def pages(case: Case) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf_of(case))).pages]


def test_a_report_tells_findings_provenance_and_receipts() -> None:
    sent = Sent("planning", "36 of 36", [("0x0000 taken", 36)])
    text = "\n".join(pages(dataclasses.replace(CASE, deliveries=[sent], events=[LOOKED])))
    told = [CASE.job, "1.2.840.1", "1.2.840.2", "Scanner 1.5T", "t1 <tse> & more", "thigh T1", "bone_fraction", "23.12"]
    told += ["0 to 13.7", "-110.61 to 90.81", "HU", "REVIEW", "limb-t1-ldm 1.2.3", "ab" * 32, "cd" * 32, "seed 7"]
    told += ["slice_count", "412 slices", "36 of 36", "0x0000 taken (36 times)", "2026-11-23 01:02:03 UTC"]
    assert [one for one in told if one not in text] == []
    assert text.index("bone_fraction") < text.index("anatomy"), "what does not pass stands first"


def test_what_does_not_pass_is_explained() -> None:
    text = " ".join(pages(dataclasses.replace(CASE, images=None))[0].split())
    assert MEANINGS["bone_fraction"].look in text
    assert MEANINGS["bone_fraction"].high in text
    assert MEANINGS["anatomy"].look not in text


def test_every_page_says_that_it_is_for_research() -> None:
    assert all(
        RESEARCH_LABEL in page.lower() and f"page {number}" in page for number, page in enumerate(pages(CASE), 1)
    )


def test_what_people_and_headers_say_is_no_markup() -> None:
    text = "\n".join(pages(dataclasses.replace(CASE, events=[LOOKED])))
    assert "an implant: known <b>Ωμέγα</b>" in text
    assert "second line" not in text
    assert printable("a\u202eb\x07c") == "abc"


@pytest.mark.parametrize(
    ("changes", "begins", "good"),
    [
        ({"held": HELD}, f"HELD: a physicist has to look before it is used. {HELD}", False),
        ({"events": [LOOKED]}, "RELEASED by web:jane, 2026-11-23 01:02:03 UTC: an implant", True),
        ({"events": [dataclasses.replace(LOOKED, words="seen")]}, f"RELEASED by {WHO}: seen. It was held: bone", True),
        (
            {"state": "REJECTED", "events": [dataclasses.replace(LOOKED, what="rejected_by_person")]},
            "REJECTED by web:jane",
            False,
        ),
        ({"state": "REJECTED", "reason": "GAP: a gap", "report": {}}, "REJECTED: GAP: a gap", False),
        ({}, "Not held, though these findings do not pass: bone_fraction", False),
        ({"report": {"findings": REPORT["findings"][:1]}}, "All findings pass", True),
        ({"report": {}, "state": "RECEIVED"}, "No synthetic CT yet", True),
    ],
)
def test_a_report_begins_with_what_was_decided(changes: dict[str, Any], begins: str, good: bool) -> None:
    sentence, is_good = verdict_of(dataclasses.replace(CASE, **changes))
    assert (sentence.startswith(begins), is_good) == (True, good)


def test_a_case_without_anything_still_has_a_report() -> None:
    text = "\n".join(pages(Case("cd" * 32, "REJECTED", {}, "1.2.3", reason="GAP: gap of 9 mm")))
    assert "gap of 9 mm" in text
    assert "There are none: the files of MR and CT are not there" in text


def test_the_same_case_gives_the_same_bytes() -> None:
    case = dataclasses.replace(CASE, images=None)
    assert pdf_of(case) == pdf_of(case)


def test_nobody_is_named_unless_asked() -> None:
    case = dataclasses.replace(CASE, images=None, subject="Phantom^Thigh, SCT-PHANTOM")
    assert ("Phantom^Thigh" in pages(case)[0], "Patient" in pages(dataclasses.replace(case, subject=""))[0]) == (
        True,
        False,
    )


# Pictures


def marked(where: tuple[int, int, int]) -> Volume:
    """A CT of air with one block of bone in it, on an axial grid (superior, posterior, left)."""
    grid = axial_grid((20, 30, 40), (4.0, 2.0, 2.0))
    array = np.full(grid.spatial_shape, -1000.0, np.float32)
    array[10, 15, 20] = 0.0
    k, j, i = where
    array[k, j, i] = 1000.0
    return grid.with_array(array)


def test_planes_show_the_patient_as_radiologists_expect() -> None:
    ct = marked((10, 15, 30))
    axial, coronal, _ = views(CaseVolumes(ct, ct))
    assert np.argwhere(axial.hu > 500).tolist() == [[15, 30]], "left is on the right"
    assert np.argwhere(coronal.hu > 500).tolist() == [[20 - 1 - 10, 30]]
    ct = marked((15, 15, 20))
    _, coronal, sagittal = views(CaseVolumes(ct, ct))
    assert np.argwhere(coronal.hu > 500)[0][0] < 10, "superior is up"
    assert np.argwhere(sagittal.hu > 500)[0][0] < 10
    ct = marked((10, 5, 20))
    axial, _, sagittal = views(CaseVolumes(ct, ct))
    assert np.argwhere(axial.hu > 500)[0][0] < 15, "anterior is up"
    assert np.argwhere(sagittal.hu > 500)[0][1] < 15, "anterior is on the left"


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_planes_do_not_depend_on_how_the_volume_is_stored(axes: tuple[int, int, int]) -> None:
    turned = CT.permute_spatial_axes(list(axes)).flip_spatial([0, 2])
    for plain, other in zip(views(CaseVolumes(MR, CT, SD)), views(CaseVolumes(MR, turned, SD)), strict=True):
        assert np.array_equal(plain.hu, other.hu)
        assert np.allclose(plain.mr, other.mr, atol=1e-3)
        assert plain.pixel_mm == other.pixel_mm


def test_mr_and_ct_of_a_plane_lie_on_each_other() -> None:
    for view in views(CaseVolumes(MR, CT)):
        seen = view.mr > 100
        assert (seen & (view.hu > -500)).sum() > 0.97 * seen.sum()


def test_the_picture_has_a_fourth_column_where_there_is_an_uncertainty() -> None:
    with Image.open(io.BytesIO(png(planes(CaseVolumes(MR, CT))))) as three:
        narrow = three.size[0]
    with Image.open(io.BytesIO(png(planes(CaseVolumes(MR, CT, SD))))) as four:
        assert four.size[0] == round(narrow * 4 / 3)


def test_an_image_of_air_alone_is_drawn() -> None:
    air = CT.with_array(np.full_like(CT.array, -1000.0))
    assert png(planes(CaseVolumes(MR.with_array(np.zeros_like(MR.array)), air)))


def test_every_voxel_is_in_the_histogram() -> None:
    counts, edges = hu_histogram(CT)
    assert counts.sum() == CT.array.size
    assert counts[np.searchsorted(edges, 55.0) - 1] >= (CT.array == 55.0).sum() > 0
