"""`sct-node evaluate` on small pairs: tables, figures, cross-validation, refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml
from numpy.typing import NDArray

from dicomnode.cli.main import main
from models.data.pairs import read_pairs
from models.evaluation import training_cost
from models.evaluation.evaluate import Terms, method_of, region_of
from models.evaluation.sampler_settings import read_settings
from models.inference.card import ModelCard, find

SHAPE = (12, 40, 36)
SPACING_MM = (1.5, 1.25, 3.0)
"""(column, row, slice), as SimpleITK has it."""
PATIENTS = ("A_1", "A_2", "A_3")


def write(values: NDArray[np.float32], path: Path) -> None:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING_MM)
    SimpleITK.WriteImage(image, str(path))


def limb(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """MR and CT of a cylinder of muscle with fat around and a bone inside."""
    random = np.random.default_rng(seed)
    row, column = np.ogrid[: SHAPE[1], : SHAPE[2]]
    radius = np.hypot(row - 20.0, column - 18.0) + random.uniform(-1, 1)
    ct, mr = np.full(SHAPE, -1000, dtype=np.float32), np.zeros(SHAPE, dtype=np.float32)
    for limit, hu, signal in ((15, -100, 1000), (12, 50, 400), (5, 900, 60), (3, 30, 900)):
        ct[:, radius < limit], mr[:, radius < limit] = hu, signal
    inside = ct > -500
    noisy = (image + np.rint(random.normal(0, sd, SHAPE)) * inside for image, sd in ((mr, 10), (ct, 15)))
    first, second = (image.astype(np.float32) for image in noisy)
    return first, second


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(PATIENTS):
        mr, ct = limb(seed)
        write(mr, folder / f"{name}_mr.nii.gz")
        write(ct, folder / f"{name}_ct.nii.gz")
    return folder


def predictions(pairs: Path, into: Path, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Path:
    into.mkdir()
    for name in PATIENTS:
        ct = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(pairs / f"{name}_ct.nii.gz")))
        write(change(ct).astype(np.float32), into / f"{name}.nii.gz")
    return into


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluated(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of predictions 10 HU too high, and of both floors."""
    folder = tmp_path_factory.mktemp("evaluated")
    high = predictions(pairs, folder / "high", lambda ct: ct + 10)
    methods = [f"ten-high={high}", "all-water", "look-up-table"]
    assert main(["evaluate", *methods, "--pairs", str(pairs), "--out", str(folder / "out"), "--pictures", "1"]) == 0
    return folder / "out"


def test_a_constant_error_is_measured_as_what_it_is(evaluated: Path) -> None:
    found = [row for row in rows(evaluated / "patients.csv") if row["method"] == "ten-high"]
    assert [row["patient"] for row in found] == list(PATIENTS)
    assert {row["MAE (HU)"] for row in found} == {row["bias bone (HU)"] for row in found} == {"10"}
    assert all(float(row["PSNR (dB)"]) == pytest.approx(20 * np.log10(4024 / 10), abs=0.001) for row in found)
    assert all(float(row["Dice bone"]) > 0.95 for row in found)
    assert {row["MAE lung (HU)"] for row in found} == {""}


def test_a_structure_that_all_water_lacks_is_counted_for_every_patient(evaluated: Path) -> None:
    water = [row for row in rows(evaluated / "patients.csv") if row["method"] == "all-water"]
    assert {(row["bone missing"], row["Dice bone"]) for row in water} == {("1", "0")}
    assert "| all-water | 3 | 0 | 0 | 0 | 0 | 0 |" in (evaluated / "tables.md").read_text()


def test_the_tables_say_units_range_seed_and_what_stars_mean(evaluated: Path) -> None:
    text = (evaluated / "tables.md").read_text()
    for said in ("MAE (HU)", "HD95 bone (mm)", "PSNR on -1024..3000 HU", "seed 0", "paired two-sided t-test", "Holm"):
        assert said in text
    assert "**10.0** ± 0.0" in text
    assert json.loads((evaluated / "evaluation.json").read_text())["psnr_range_hu"] == [-1024.0, 3000.0]
    assert "| ten-high | **10.0** ± 0.0 |" in (evaluated / "short.md").read_text()


def test_the_best_is_never_significantly_worse_than_the_reference(evaluated: Path) -> None:
    found = {(row["measure"], row["method"]): row for row in rows(evaluated / "comparisons.csv")}
    water = found["MAE (HU)", "all-water"]
    assert float(water["difference"]) > 0
    assert float(water["low"]) > 0
    assert float(water["t_p"]) < float(water["t_p_holm"]) < 0.05
    assert float(water["wilcoxon_p"]) == 0.25


def test_every_figure_is_there_as_png_and_in_one_pdf(evaluated: Path) -> None:
    drawn = {path.stem for path in evaluated.glob("*.png")}
    assert drawn == {"example_A_1", "profile_A_1", "boxes", "tissues", "differences", "hu_agreement"}
    assert (evaluated / "figures.pdf").read_bytes().count(b"/Type /Page ") == len(drawn)


def test_a_profile_runs_through_bone_and_is_the_ct_s(evaluated: Path) -> None:
    found = rows(evaluated / "profile_A_1.csv")
    assert max(float(row["CT (HU)"]) for row in found) > 800
    assert float(found[1]["position (mm)"]) == 1.5
    assert all(float(row["ten-high (HU)"]) - float(row["CT (HU)"]) == pytest.approx(10, abs=0.6) for row in found[8:28])


def test_the_same_evaluation_says_the_same_again(pairs: Path, evaluated: Path, tmp_path: Path) -> None:
    high = evaluated.parent / "high"
    methods = [f"ten-high={high}", "all-water", "look-up-table"]
    assert main(["evaluate", *methods, "--pairs", str(pairs), "--out", str(tmp_path), "--pictures", "1"]) == 0
    for name in ("comparisons.csv", "boxes.png", "example_A_1.png", "figures.pdf"):
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_each_patient_can_have_the_model_of_its_own_fold(pairs: Path, tmp_path: Path) -> None:
    predictions(pairs, tmp_path / "good", lambda ct: ct)
    predictions(pairs, tmp_path / "bad", lambda ct: ct + 50)
    folds = tmp_path / "folds.yaml"
    folds.write_text(yaml.safe_dump(dict(zip(PATIENTS, ("good", "bad", "good"), strict=True))))
    arguments = ["evaluate", f"crossed={folds}", "--pairs", str(pairs), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--pictures", "0"]) == 0
    assert [row["MAE (HU)"] for row in rows(tmp_path / "out" / "patients.csv")] == ["0", "50", "0"]


def test_the_look_up_table_never_learns_from_the_patient_it_is_tried_on(pairs: Path) -> None:
    """One patient's CT is changed: its own prediction stays, that of another follows."""
    first, second, third = read_pairs(pairs, PATIENTS, (-1024, 3071))
    changed = dataclasses.replace(first, hu=np.where(first.hu > 500, 2000, first.hu).astype(np.int16))
    before, after = (method_of("look-up-table", Terms([one, second, third], [], "cpu")) for one in (first, changed))
    assert np.array_equal(before.learned(first)(first), after.learned(changed)(changed))
    assert not np.array_equal(before.learned(second)(second), after.learned(second)(second))


def test_a_ct_that_is_moved_differs_by_its_slope_times_the_way(pairs: Path) -> None:
    """4 HU a millimetre along rows of 1.5 mm, noise taken off: a ramp stays a ramp."""
    [pair] = read_pairs(pairs, PATIENTS[:1], (-1024, 3071))
    ramp = np.broadcast_to((6 * np.arange(40, dtype=np.int16))[None, :, None], (12, 40, 20))
    sloping = dataclasses.replace(pair, hu=ramp, spacing_mm=(3.0, 1.5, 1.5))
    moved = {mm: method_of(f"ct-moved-{mm}-mm", Terms([], [], "cpu")) for mm in (0, 3)}
    assert [method.name for method in moved.values()] == ["ct-moved-0-mm", "ct-moved-3-mm"]
    inner = (slice(None), slice(10, 30))
    for mm, method in moved.items():
        assert np.abs(method.learned(sloping)(sloping) - (ramp - 4.0 * mm))[inner].max() < 1e-3


def test_an_installed_model_is_measured_on_its_own_prediction_at_its_own_spacing(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "limb-t1-ldm", "all-water", "--pairs", str(pairs), "--patients", "A_2", "--range", "2025"]
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    said_error = capsys.readouterr().err
    assert "give --spacing-mm 3.27,0.977,0.977" in said_error
    arguments += ["--spacing-mm", "3.27,0.977,0.977"]
    assert main([*arguments, "--out", str(tmp_path), "--reference", "all-water", "--pictures", "0"]) == 0
    said = json.loads((tmp_path / "evaluation.json").read_text())
    assert (said["patients"], said["reference"], said["psnr_range_hu"]) == (["A_2"], "all-water", [-1024.0, 3071.0])
    assert said["mean"]["limb-t1-ldm"]["seconds"] > 0


def test_groups_have_columns_of_their_own_as_in_the_papers_tables(pairs: Path, tmp_path: Path) -> None:
    high = predictions(pairs, tmp_path / "high", lambda ct: ct + 10)
    groups = tmp_path / "groups.yaml"
    arguments = ["evaluate", f"ten-high={high}", "all-water", "--pairs", str(pairs), "--out", str(tmp_path / "out")]
    arguments += ["--pictures", "0", "--groups", str(groups)]
    groups.write_text("A_1: thigh\nA_2: calf\nA_3: thigh\n")
    assert main(arguments) == 0
    text = (tmp_path / "out/tables.md").read_text()
    assert "| MAE (HU) | calf (n = 1) | thigh (n = 2) | all (n = 3) |" in text
    assert "| ten-high | **10.0** | **10.0** ± 0.0 | **10.0** ± 0.0 |" in text
    groups.write_text("A_1: thigh\n")
    assert main(arguments) == 1


@pytest.mark.parametrize(
    ("name", "region"),
    [("1BA001", "brain"), ("1PC033", "pelvis"), ("1ABA005", "abdomen"), ("1HND103", "head and neck"), ("STS_004", "")],
)
def test_a_synthrad_name_tells_the_region(name: str, region: str) -> None:
    assert region_of(name) == region


def test_steps_and_samples_are_measured_for_models_alone(pairs: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "limb-t1-ldm", "all-water", "--pairs", str(pairs), "--patients", "A_2", "--pictures", "0"]
    arguments += ["--spacing-mm", "3.27,0.977,0.977", "--out", str(tmp_path), "--sampling", "1x1,2x1,1x2"]
    assert main(arguments) == 0
    found = {(row["sampler steps"], row["samples"]): row for row in rows(tmp_path / "sampling.csv")}
    assert set(found) == {("1", "1"), ("2", "1"), ("1", "2")}
    assert {row["method"] for row in found.values()} == {"limb-t1-ldm"}
    assert len({row["MAE (HU)"] for row in found.values()}) == 3
    [plain] = [row for row in rows(tmp_path / "patients.csv") if row["method"] == "limb-t1-ldm"]
    assert plain["MAE (HU)"] == found["1", "1"]["MAE (HU)"]  # the card says one step and one sample
    assert (tmp_path / "sampling.png").is_file()
    mae = f"{float(found['1', '2']['MAE (HU)']):.1f}"
    assert f"| limb-t1-ldm | 1 | 2 | {mae} |" in (tmp_path / "tables.md").read_text()


@pytest.mark.parametrize("text", ["1", "0x1", "1x0", "1x1;2x1", "axb"])
def test_sampling_that_is_no_list_of_steps_and_samples_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="STEPSxSAMPLES"):
        read_settings(text)


def card_with(milestones: list[dict[str, float]], minutes: float) -> ModelCard:
    """The installed card, with another training."""
    training = {"first": {"steps": 10, "minutes": 1.0}, "last": {"steps": 30, "minutes": minutes}}
    return dataclasses.replace(find("limb-t1-ldm"), figures={"training": training, "milestones": milestones})


def test_equal_steps_are_those_that_every_fold_has() -> None:
    first = card_with([{"step": step, "minutes": step / 10, "mae": 60 - step, "mae_bone": 400} for step in (10, 20)], 3)
    second = card_with([{"step": 20, "minutes": 4, "mae": 50, "mae_bone": 300}], 5)
    assert training_cost.effort_of([first, second]) == training_cost.Effort(40, 5)
    assert training_cost.milestones_of([first, second]) == {20: {"minutes": 3, "mae": 45, "mae_bone": 350}}
    assert training_cost.table({"crossed": [first, second], "single": [first], "floor": []}) == [
        ["steps", "crossed: MAE (HU) after minutes", "single: MAE (HU) after minutes"],
        ["10", "", "50.0 after 1.0"],
        ["20", "45.0 after 3.0", "40.0 after 2.0"],
    ]
    assert training_cost.effort_of([dataclasses.replace(first, figures={})]) is None
    old = {"training": {"first": {"steps": 10, "minutes": None}, "last": {"steps": 5, "minutes": 2.0}}}
    assert training_cost.effort_of([dataclasses.replace(first, figures=old)]) == training_cost.Effort(
        15, 2, complete=False
    )
    assert training_cost.effort_of([]) is None
    assert training_cost.curves({"floor": []}) is None
    assert training_cost.curves({"single": [first]}) is not None


def test_folders_of_synthrad_are_read_and_their_mask_is_where_scores_are_taken(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Task1" / "brain" / "1BA001"
    folder.mkdir(parents=True)
    for kind in ("mr", "ct"):
        image = SimpleITK.ReadImage(str(pairs / f"A_1_{kind}.nii.gz"))
        SimpleITK.WriteImage(image, str(folder / f"{kind}.mha"))
    mask = SimpleITK.GetArrayFromImage(image) > 500
    write(mask.astype(np.float32), tmp_path / "mask.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz")), str(folder / "mask.mha"))
    arguments = ["--pairs", str(tmp_path / "Task1"), "--out", str(tmp_path / "out"), "--pictures", "0"]
    assert main(["evaluate", "all-water", *arguments]) == 0
    [found] = rows(tmp_path / "out" / "patients.csv")
    assert found["patient"] == "1BA001"
    assert found["MAE (HU)"] == found["MAE bone (HU)"]
    assert found["MAE soft (HU)"] == ""


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["all-water", "all-water"], "two methods have one name"),
        (["all-water", "--reference", "nnunet"], "none of the methods"),
        (["no-such-model"], "no model 'no-such-model'"),
        (["all-water", "--patients", "A_9"], "no pair A_9"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], methods: list[str], said: str
) -> None:
    assert main(["evaluate", *methods, "--pairs", str(pairs), "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err


def test_a_prediction_that_is_not_there_or_lies_on_another_grid_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = predictions(pairs, tmp_path / "made", lambda ct: ct[:-1])
    arguments = ["--pairs", str(pairs), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(folder), *arguments]) == 1
    assert "has (11, 40, 36) voxels, its CT (12, 40, 36)" in capsys.readouterr().err
    (folder / "A_1.nii.gz").unlink()
    assert main(["evaluate", str(folder), *arguments]) == 1
    assert "0 predictions of A_1" in capsys.readouterr().err
