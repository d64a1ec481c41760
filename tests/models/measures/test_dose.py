"""Doses on synthetic CT: measures by hand here; plans where `make dose-test` brings pyRadPlan."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from dicomnode.cli import dose as doses
from dicomnode.cli.main import main
from models.data.pairs import Pair
from models.evaluation import dose_report
from models.measures import dose

SPACING_MM = (4.0, 2.0, 2.0)
SHAPE = (16, 44, 44)


def limb() -> Pair:
    """A cylinder of muscle of 36 mm radius with a bone, its CT and MR in one place."""
    row, column = np.ogrid[: SHAPE[1], : SHAPE[2]]
    radius_mm = 2 * np.hypot(row - 21.5, column - 21.5)
    bone = 2 * np.hypot(row - 14, column - 24) < 8
    hu = np.where(radius_mm < 36, np.where(bone, 900, 40), -1000)[None].repeat(SHAPE[0], axis=0).astype(np.int16)
    return Pair("A_1", (hu > -500).astype(np.float16), hu, hu > -500, SPACING_MM)


def test_dvh_points_are_those_of_a_dose_that_a_hand_can_sort() -> None:
    given = np.linspace(50, 70, 101, dtype=np.float32).reshape(1, 1, 101)
    found = dose.dvh_points(given, np.ones(given.shape, dtype=bool), 60.0)
    assert found["d98_gy"] == pytest.approx(50.4)
    assert found["d2_gy"] == pytest.approx(69.6)
    assert found["dmean_gy"] == pytest.approx(60)
    assert found["v95_percent"] == pytest.approx(100 * 66 / 101)


def test_a_dvh_curve_falls_from_all_to_nothing() -> None:
    given = np.array([10.0, 20.0, 30.0, 40.0], dtype=np.float32).reshape(1, 2, 2)
    curve = dose.dvh_curve(given, np.ones(given.shape, dtype=bool), np.array([0.0, 10.0, 10.1, 40.0, 41.0]))
    assert curve.tolist() == [100.0, 100.0, 75.0, 25.0, 0.0]


def test_dose_mae_is_taken_where_the_reference_has_90_percent_of_the_prescription() -> None:
    reference = np.array([60.0, 54.0, 53.9, 0.0], dtype=np.float32).reshape(1, 1, 4)
    found = reference + np.array([0.6, -1.2, 30.0, 30.0], dtype=np.float32)
    assert dose.dose_mae_percent(found, reference, 60.0) == pytest.approx(1.5, abs=1e-4)
    assert np.isnan(dose.dose_mae_percent(found, reference, 600.0))


def test_differences_of_dvh_points_are_in_percent_of_the_prescription() -> None:
    reference = np.full((1, 1, 50), 60.0, dtype=np.float32)
    measured = dose.dose_measures(reference * 1.02, reference, np.ones(reference.shape, dtype=bool), 60.0)
    assert measured["difference_dmean_percent"] == pytest.approx(2.0, abs=1e-3)
    assert measured["difference_v95_percent"] == 0


def test_without_a_contour_the_target_is_a_sphere_deep_in_the_body() -> None:
    target = dose.sphere_target(limb())
    volume_ml = target.mask.sum() * np.prod(SPACING_MM) / 1000
    assert volume_ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.05)
    assert target.centre[1:] == pytest.approx((21.5, 21.5), abs=1)
    assert "20 mm" in target.words


def test_a_body_too_thin_for_a_target_is_refused() -> None:
    pair = limb()
    thin = Pair(pair.name, pair.mr, pair.hu, pair.body & (np.arange(SHAPE[1]) < 10)[:, None], SPACING_MM)
    with pytest.raises(ValueError, match="too thin"):
        dose.sphere_target(thin)


def test_a_contour_is_taken_where_there_is_one(tmp_path: Path) -> None:
    pair = limb()
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[6:9, 20:26, 20:26] = 1
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing(SPACING_MM[::-1])
    SimpleITK.WriteImage(image, str(tmp_path / "A_1_target.nii.gz"))
    target = doses.target_of(pair, tmp_path)
    assert np.array_equal(target.mask, mask > 0)
    assert target.centre == pytest.approx((7, 22.5, 22.5))
    with pytest.raises(ValueError, match="another grid"):
        dose.contour_target(pair, np.zeros((1, 2, 3), dtype=bool), "x")


def test_outside_the_common_body_the_synthetic_ct_is_the_ct() -> None:
    pair = limb()
    put = dose.inserted(pair, np.full(SHAPE, 77, dtype=np.float32))
    assert (put[pair.body] == 77).all()
    assert np.array_equal(put[~pair.body], pair.hu[~pair.body])


def write_pair(pair: Pair, folder: Path) -> None:
    """As `NAME_mr.nii.gz` and `NAME_ct.nii.gz`."""
    folder.mkdir()
    for name, values in (("mr", (1000 * pair.mr).astype(np.int16)), ("ct", pair.hu)):
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing(SPACING_MM[::-1])
        SimpleITK.WriteImage(image, str(folder / f"{pair.name}_{name}.nii.gz"))


def test_without_its_environment_the_command_says_how_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(limb(), tmp_path / "pairs")
    monkeypatch.setenv("SCT_DOSE_PYTHON", str(tmp_path / "nowhere" / "python"))
    assert main(["dose", "all-water", "--pairs", str(tmp_path / "pairs"), "--out", str(tmp_path / "out")]) == 1
    assert "run `make dose-env`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_planning_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    """This Python has no pyRadPlan, as one whose `make dose-env` was cut short."""
    pair = limb()
    images = {"water": np.zeros(SHAPE, dtype=np.float32)}
    with pytest.raises(doses.NoDoseEnvironment, match="No module named"):
        doses.plan(pair, dose.sphere_target(pair), images, dose.PlanSettings(), Path(sys.executable))


def test_the_tables_have_every_modality_and_as_many_cells_as_heads() -> None:
    pair, settings = limb(), dose.PlanSettings()
    target = dose.sphere_target(pair)
    made = {f"{modality}_{name}": np.full(SHAPE, 60.0, np.float32) for modality in settings.gantry_deg
            for name in ("ct", "sct_0")}  # fmt: skip
    made["protons_sct_0"] = made["protons_ct"] - np.float32(0.6)
    passed = {"sct_0": {"3/3": 100.0, "2/2": 99.0, "2/1": 97.5}}
    images = {"lower": (pair.hu - 20 * pair.body).astype(np.float32)}
    rows = dose_report.rows_of(pair, target, images, made, dict.fromkeys(settings.gantry_deg, passed), settings)
    assert [row.modality for row in rows] == ["photons", "protons", "paths"]
    assert rows[1].scores["difference_dmean_percent"] == pytest.approx(-1, abs=1e-4)
    assert rows[2].scores["wepl_bias_mm"] < 0
    text = dose_report.markdown(rows, settings, {"A_1": target.words})
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    assert "| lower | 1.00 | -1.00 |" in text


# With pyRadPlan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command's whole output for a limb, with predictions equal to the CT and 60 HU above it."""
    folder = tmp_path_factory.mktemp("dose")
    pair = limb()
    write_pair(pair, folder / "pairs")
    for name, offset in (("same", 0), ("high", 60)):
        (folder / name).mkdir()
        image = SimpleITK.GetImageFromArray((pair.hu + offset * pair.body).astype(np.int16))
        image.SetSpacing(SPACING_MM[::-1])
        SimpleITK.WriteImage(image, str(folder / name / "A_1.nii.gz"))
    arguments = ["--pairs", str(folder / "pairs"), "--out", str(folder / "out")]
    assert main(["dose", str(folder / "same"), str(folder / "high"), *arguments]) == 0
    return folder / "out"


def values(folder: Path) -> dict[tuple[str, str, str], float]:
    with (folder / "dose.csv").open(encoding="utf-8") as file:
        return {(row["method"], row["modality"], row["measure"]): float(row["value"]) for row in csv.DictReader(file)}


@pytest.mark.dose
@pytest.mark.parametrize("modality", ["photons", "protons"])
def test_a_synthetic_ct_equal_to_the_ct_changes_no_dose(planned: Path, modality: str) -> None:
    found = values(planned)
    assert found["same", modality, "dose_mae_percent"] == 0
    assert found["same", modality, "gamma_2_1"] == 100
    assert found["same", "paths", "wepl_worst_mm"] == 0


@pytest.mark.dose
@pytest.mark.parametrize("modality", ["photons", "protons"])
def test_the_plan_gives_the_target_its_dose(planned: Path, modality: str) -> None:
    found = values(planned)
    assert found["same", modality, "ct_dmean_gy"] == pytest.approx(60, abs=1.5)
    assert found["same", modality, "ct_v95_percent"] > 90


@pytest.mark.dose
def test_protons_feel_60_hu_more_than_photons_do(planned: Path) -> None:
    found = values(planned)
    for measure in ("gamma_2_1", "gamma_2_2"):
        assert found["high", "protons", measure] < found["high", "photons", measure]
    assert found["high", "photons", "difference_dmean_percent"] < 0
    assert found["high", "paths", "wepl_bias_mm"] == pytest.approx(0.057 * 36, abs=0.4)


@pytest.mark.dose
def test_gamma_passes_less_the_stricter_it_is(planned: Path) -> None:
    found = values(planned)
    rates = [found["high", "protons", f"gamma_{name}"] for name in ("3_3", "2_2", "2_1")]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 100


@pytest.mark.dose
def test_tables_pictures_and_what_they_depend_on_are_written(planned: Path) -> None:
    drawn = {path.name for path in planned.glob("*.png")}
    assert drawn == {"photons_A_1.png", "protons_A_1.png", "dvh_A_1.png", "paths_A_1.png"}
    assert (planned / "dose.pdf").stat().st_size > 10_000
    said = json.loads((planned / "dose.json").read_text())
    assert said["settings"]["prescription_gy"] == 60
    assert said["planning"]["A_1"]["versions"]["pyradplan"].startswith("0.5")
    assert "| high |" in (planned / "dose.md").read_text()
    grid: NDArray[np.float64] = np.array(said["settings"]["gantry_deg"]["photons"])
    assert len(grid) == 5
