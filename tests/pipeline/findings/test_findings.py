"""Findings of input and output: each measure answers to what it is named after, limits decide, the gate decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from models.data.body import outline, voids
from models.inference.card import find, installed
from models.measures.plausibility import MEASURES, CaseImages, Scan, limits_of, measured
from pipeline.findings.findings import MEANINGS, Finding, finding_for, inspect
from pipeline.findings.header_findings import header_findings
from pipeline.gate import ALWAYS_HELD, Gate, Hold, Implausible, also, hold_of, refuse
from pipeline.phantom.thigh import axial_grid, oblique_grid, thigh, write_mr_series
from pipeline.preflight.check import Complaint
from pipeline.series.series import read_series
from pipeline.volume.resampling import resample
from pipeline.volume.synthesize import model_grid, widened

SPACING_MM = (3.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def sound() -> CaseImages:
    """A thigh of the phantom and its true HU."""
    phantom = thigh(axial_grid())
    return CaseImages(phantom.mr.array, phantom.hu.array, phantom.labels.array > 0, SPACING_MM)


def with_mr(images: CaseImages, change: Callable[[np.ndarray], np.ndarray]) -> CaseImages:
    return replace(images, mr=change(images.mr.copy()).astype(np.float32))


def metal(mr: np.ndarray) -> np.ndarray:
    mr[25:35, 75:105, 75:105] = 5.0
    return mr


def ghosts(mr: np.ndarray) -> np.ndarray:
    return mr + 0.2 * np.roll(mr, mr.shape[1] // 3, axis=1)


def moved(mr: np.ndarray) -> np.ndarray:
    mr[1::2] = np.roll(mr[1::2], 6, axis=2)
    return mr


def slopes_lost(mr: np.ndarray) -> np.ndarray:
    return mr * np.where(np.arange(len(mr)) % 3 == 0, 2.0, 1.0)[:, None, None]


def noisy(mr: np.ndarray) -> np.ndarray:
    return np.abs(mr + np.random.default_rng(3).normal(0, 100, mr.shape))


def shaded(mr: np.ndarray) -> np.ndarray:
    return mr * np.exp(-np.linspace(0, 3, mr.shape[1]))[None, :, None]


@pytest.mark.parametrize(
    ("name", "damage", "limit"),
    [
        ("signal_void", metal, 3),
        ("ghosting", ghosts, 2),
        ("slice_shifts", moved, 3.5),
        ("slice_jumps", slopes_lost, 15),
        ("noise", noisy, 4),
        ("bias_field", shaded, 300),
    ],
)
def test_a_damage_is_seen_by_the_measure_that_is_named_after_it_and_a_sound_mr_is_not(
    sound: CaseImages, name: str, damage: Callable[[np.ndarray], np.ndarray], limit: float
) -> None:
    assert measured(sound, [name])[name] < limit < measured(with_mr(sound, damage), [name])[name]


def test_a_body_cut_by_the_field_is_truncated(sound: CaseImages) -> None:
    cut = (slice(None), slice(None), slice(60, None))
    part = replace(sound, mr=sound.mr[cut], hu=sound.hu[cut], body=sound.body[cut])
    assert measured(sound, ["truncation"])["truncation"] == 0.0
    assert measured(part, ["truncation"])["truncation"] > 5.0


def test_another_contrast_is_far_from_the_training_images(sound: CaseImages) -> None:
    card = find("limb-t1-ldm")
    here = replace(sound, mr_quantiles=card.mr_quantiles)
    dark_fat = with_mr(here, lambda mr: np.where(mr > 500, 150.0, mr))
    limit = card.findings["mr_histogram"]["high"]
    assert measured(dark_fat, ["mr_histogram"])["mr_histogram"] > limit
    assert "mr_histogram" not in measured(sound)


def test_a_scanner_s_unit_has_no_meaning(sound: CaseImages) -> None:
    larger = with_mr(sound, lambda mr: 3.0 * mr)
    for name, value in measured(sound, [name for name in MEASURES if MEANINGS[name].about == "input"]).items():
        assert measured(larger, [name])[name] == pytest.approx(value, rel=1e-3), name


def test_voids_are_thicker_than_cortical_bone(sound: CaseImages) -> None:
    assert not voids(sound.mr, sound.body, SPACING_MM).any()
    found = voids(metal(sound.mr.copy()), sound.body, SPACING_MM)
    assert found[30, 90, 90]
    assert found.sum() == pytest.approx(10 * 30 * 30, rel=0.1)


def test_the_measures_of_hu_are_what_their_names_say(sound: CaseImages) -> None:
    hu = np.full((2, 10, 10), 40.0, np.float32)
    hu[0, :2] = 800.0  # 20 of 200 voxels
    hu[1, :5] = -100.0
    images = CaseImages(np.ones_like(hu), hu, np.ones(hu.shape, bool), SPACING_MM)
    names = ("bone_fraction", "muscle_median", "fat_median", "air_fraction", "outline_agreement")
    assert measured(images, names) == pytest.approx(dict(zip(names, (10.0, 40.0, -100.0, 0.0, 100.0), strict=True)))
    lost = replace(sound, hu=np.where(sound.body, np.float32(-1000), sound.hu))
    assert measured(lost, ["outline_agreement"])["outline_agreement"] == 0.0


def test_water_has_the_path_length_of_water_and_bone_has_more(sound: CaseImages) -> None:
    water = replace(sound, hu=np.where(sound.body, np.float32(0), np.float32(-1000)))
    assert measured(water, ["path_length"])["path_length"] == pytest.approx(0.0, abs=1e-6)
    bone = replace(sound, hu=np.where(sound.body, np.float32(350), np.float32(-1000)))
    assert measured(bone, ["path_length"])["path_length"] == pytest.approx(19.9, abs=1.0)


def test_uncertainty_is_found_only_where_the_model_gives_it(sound: CaseImages) -> None:
    names = ("uncertainty_mean", "uncertainty_p95", "uncertain_region", "novelty")
    assert measured(sound, names) == {}
    sd = np.full(sound.hu.shape, 50.0, np.float32)
    sd[30, 85:95, 85:95] = 900.0
    found = measured(replace(sound, sd=sd, novelty=1.5), names)
    assert found["uncertainty_p95"] == 50.0
    assert found["uncertain_region"] == pytest.approx(100 * 0.003)
    assert found["novelty"] == 1.5


def test_limits_are_the_range_of_the_known_patients_made_wider() -> None:
    limits = limits_of([{"noise": 1.0, "fat_median": -100.0}, {"noise": 2.0, "fat_median": -80.0}])
    assert limits == {"noise": {"low": 0.0, "high": 2.5}, "fat_median": {"low": -110.0, "high": -70.0}}


def test_a_value_passes_within_its_limits_is_reviewed_beyond_and_rejected_far_beyond() -> None:
    limits = {"low": 100.0, "high": 200.0, "reject_low": 1.0}
    verdicts = [finding_for("body_volume", value, "mL", limits).verdict for value in (150.0, 250.0, 50.0, 0.5)]
    assert verdicts == ["pass", "review", "review", "reject"]
    assert (
        str(finding_for("bone_fraction", 99.5, "%", {"low": 1, "high": 30}))
        == "bone_fraction is 99.5 %, expected 1 to 30"
    )


def test_an_empty_body_does_not_pass() -> None:
    nothing = np.zeros((3, 8, 8), np.float32)
    images = CaseImages(nothing, nothing, nothing > 0, SPACING_MM)
    limits = {name: {"low": 0.0, "high": 1.0} for name in ("air_fraction", "soft_tissue_median", "truncation")}
    assert {finding.verdict for finding in inspect(images, limits)} == {"review"}
    with pytest.raises(Implausible, match="BODY_VOLUME: body_volume is 0 mL"):
        refuse(inspect(images, {"body_volume": {"low": 100.0, "high": 1e5, "reject_low": 1.0}}))


def test_every_finding_is_explained_and_every_limit_of_a_card_is_of_one() -> None:
    assert set(MEASURES) < set(MEANINGS)
    for card in installed():
        assert set(card.findings) <= set(MEANINGS), card.name
    for name, meaning in MEANINGS.items():
        assert meaning.low or meaning.high, name


def test_a_report_with_findings_that_cannot_be_measured_is_json() -> None:
    finding = finding_for("ghosting", float("nan"), "%", {"low": 0.0, "high": 2.0})
    assert (finding.value, finding.verdict) == ("not measurable", "pass")
    assert json.dumps(vars(finding), allow_nan=False)


# --- headers ----------------------------------------------------------------------------------------------------------


HEADER_LIMITS = {name: find("limb-t1-ldm").findings[name] for name in ("echo_time", "repetition_time")} | {
    name: {"low": 0.0, "high": 0.0} for name in ("fat_suppression", "contrast_agent")
}


def found_in_headers(folder: Path, **said: object) -> dict[str, Finding]:
    mr = thigh(axial_grid(shape=(6, 16, 16))).mr
    for path in write_mr_series(mr, folder):
        image = pydicom.dcmread(path)
        for keyword, value in said.items():
            setattr(image, keyword, value)
        image.save_as(path)
    (series,) = read_series(folder)
    return {one.name: one for one in header_findings(series, mr.get_geometry(), HEADER_LIMITS | GRID_LIMITS)}


GRID_LIMITS = {name: find("limb-t1-ldm").findings[name] for name in ("slice_step", "slice_gap", "pixel_spacing")}


def test_headers_as_the_model_knows_them_pass(tmp_path: Path) -> None:
    found = found_in_headers(tmp_path)
    assert set(found) == {*HEADER_LIMITS, *GRID_LIMITS}
    assert {one.verdict for one in found.values()} == {"pass"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("echo_time", {"EchoTime": "90"}),
        ("repetition_time", {"RepetitionTime": "4500"}),
        ("fat_suppression", {"ScanOptions": ["PFP", "FS"]}),
        ("fat_suppression", {"ScanOptions": "FAT_SAT"}),
        ("fat_suppression", {"InversionTime": "150"}),
        ("contrast_agent", {"ContrastBolusAgent": "gadobutrol"}),
        ("slice_gap", {"SliceThickness": "1"}),
    ],
)
def test_headers_that_state_another_protocol_ask_for_a_person(
    tmp_path: Path, name: str, said: dict[str, object]
) -> None:
    found = found_in_headers(tmp_path, **said)
    assert [one.name for one in found.values() if one.verdict != "pass"] == [name]


def test_what_headers_do_not_state_is_not_found(tmp_path: Path) -> None:
    found = found_in_headers(tmp_path, EchoTime=None, RepetitionTime="")
    assert not {"echo_time", "repetition_time"} & set(found)


# --- the gate ---------------------------------------------------------------------------------------------------------

GOOD = Finding("noise", 1.0, (0.0, 4.0), "%", "pass")
DOUBTFUL = Finding("noise", 9.0, (0.0, 4.0), "%", "review")
BROKEN = Complaint("planning", "generic", "slice_count", "too many", 1)


@pytest.mark.parametrize(
    ("gate", "findings", "warned", "told", "code"),
    [
        ("auto", [GOOD], False, [], None),
        ("auto", [GOOD, DOUBTFUL], False, [], "NOISE"),
        ("auto", [DOUBTFUL], True, [], None),
        ("never_hold", [DOUBTFUL], True, [], None),
        ("never_hold", [DOUBTFUL], True, [BROKEN], "SLICE_COUNT"),
        ("always_hold", [GOOD], False, [], ALWAYS_HELD),
        ("always_hold", [DOUBTFUL], False, [], "NOISE"),
    ],
)
def test_the_gate_decides_what_is_held(
    gate: Gate, findings: list[Finding], warned: bool, told: list[Complaint], code: str | None
) -> None:
    hold = hold_of(gate, findings, warned, told, find("limb-t1-ldm"))
    assert (hold and hold.code) == code


def test_a_hold_for_one_more_finding_keeps_its_first_reason() -> None:
    assert also(None, DOUBTFUL).code == "NOISE"
    assert also(Hold("TRUNCATION", "cut"), DOUBTFUL) == Hold("TRUNCATION", f"cut; {DOUBTFUL}")
    assert also(Hold(ALWAYS_HELD, "every"), DOUBTFUL).code == "NOISE"


def test_an_oblique_acquisition_is_judged_in_its_own_planes() -> None:
    """On the model's axial grid its first and last planes show a part of the thigh only: no jumps, no motion."""
    turn = np.deg2rad(12)
    about_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    mr = thigh(oblique_grid((30, 180, 180), (4.0, 1.0, 1.0), about_x)).mr
    grid = model_grid(mr, (4.0, 1.0, 1.0))
    seen = resample(widened(mr, grid), grid, fill=0.0).array
    body = grid.with_array(outline(seen).astype(np.uint8))
    own = resample(body, mr.get_geometry(), fill=0, interpolation="nearest").array > 0
    images = CaseImages(seen, seen, body.array > 0, (4.0, 1.0, 1.0), acquired=Scan(mr.array, own, (4.0, 1.0, 1.0)))
    limits = {name: find("limb-t1-ldm").findings[name] for name in ("ghosting", "slice_jumps", "slice_shifts", "noise")}
    assert {one.name: one.verdict for one in inspect(images, limits)} == dict.fromkeys(limits, "pass")


def test_slices_of_a_sagittal_series_are_not_asked_for_jumps_between_them(sound: CaseImages) -> None:
    """There the anatomy itself changes from slice to slice; limits were measured on axial series."""
    sagittal = replace(sound, acquired=Scan(sound.mr, sound.body, SPACING_MM, axial=False))
    limits = {name: {"low": 0.0, "high": 1.0} for name in ("slice_jumps", "slice_shifts")}
    assert [(one.value, one.verdict) for one in inspect(sagittal, limits)] == [("not measurable", "pass")] * 2


def test_whatever_a_model_makes_that_is_worse_than_a_look_up_table_is_held() -> None:
    measured_cards = [card for card in installed() if "look_up_table" in card.figures]
    worse = {
        card.name
        for card in measured_cards
        if card.figures["steps_1_samples_1"]["psnr"] <= card.figures["look_up_table"]["psnr"]
    }
    assert measured_cards
    assert {card.name for card in measured_cards if card.gate == "always_hold"} == worse


@pytest.mark.parametrize("gate", ["auto", "always_hold", "never_hold"])
def test_a_card_may_hold_every_case_whatever_the_site_says(gate: Gate) -> None:
    card = replace(find("limb-t1-ldm"), gate="always_hold")
    hold = hold_of(gate, [GOOD], gate == "never_hold", [], card)
    assert hold is not None
    assert (hold.code, "limb-t1-ldm" in hold.sentence) == (ALWAYS_HELD, True)
