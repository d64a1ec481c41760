"""Which patients a recipe has, in both layouts, and which of them are kept for validation; the paper's recipe runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
import yaml

from models.data import patients
from models.data.pairs import UNKNOWN_HU, BadPair
from models.data.recipe import BadRecipe, read_recipe
from models.inference.weights import load_model
from models.training import train
from models.training.cross_validation import Fold, within
from models.training.tissue_segmenter import read_segmenter

Array = np.ndarray[tuple[int, ...], np.dtype[np.int16]]
SPACING = (1.0, 1.0, 3.0)
"""Of SynthRAD2025, (column, row, slice) in mm."""


def write(path: Path, array: Array) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture
def synthrad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limb: Callable[[float], tuple[Array, Array]]) -> Path:
    """SCT_DATA with patients as both challenges give them out: two of 2025 and three of 2023."""
    monkeypatch.setenv("SCT_DATA", str(tmp_path))
    patients = ("AB/1ABA005", "HN/1HNA001", "brain/1BA001", "brain/1BA005", "pelvis/1PA001")
    for number, name in enumerate(patients):
        folder, suffix = tmp_path / "synthrad/Task1" / name, ".mha" if number < 2 else ".nii.gz"
        mr, hu = limb(10.0 + number)
        mask = np.zeros_like(hu)
        mask[:, 4:28, 4:28] = 1  # wider than the body that the images show
        for kind, array in (("mr", mr), ("ct", hu), ("mask", mask)):
            write(folder / f"{kind}{suffix}", array)
        (folder / "overview.png").touch()
    return tmp_path


def test_the_folders_of_both_challenges_are_found_by_patient(synthrad: Path) -> None:
    found = patients.patients_of(synthrad / "synthrad", "synthrad")
    assert [patient.name for patient in found] == ["1ABA005", "1BA001", "1BA005", "1HNA001", "1PA001"]
    assert [patient.ct.name for patient in found] == ["ct.mha", "ct.nii.gz", "ct.nii.gz", "ct.mha", "ct.nii.gz"]


def test_a_patient_without_its_ct_is_named(synthrad: Path) -> None:
    (synthrad / "synthrad/Task1/AB/1ABA005/ct.mha").unlink()
    with pytest.raises(BadPair, match=r"1ABA005: ct\.mha lacks"):
        patients.patients_of(synthrad / "synthrad", "synthrad")


def test_two_patients_of_one_name_are_refused(synthrad: Path) -> None:
    folder = synthrad / "synthrad/Task1"
    (folder / "AB/1ABA005").rename(folder / "AB/1HNA001")
    with pytest.raises(BadPair, match="1HNA001"):
        patients.patients_of(folder, "synthrad")


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="names or synthrad"):
        patients.patients_of(tmp_path, "dicom")


def test_images_are_resampled_to_the_models_spacing_and_the_mask_is_the_body(synthrad: Path) -> None:
    patient = patients.patients_of(synthrad / "synthrad", "synthrad")[0]
    pair = patients.read_pair(patient, (2.2, 2.4, 2.4), (-1024, 3071))
    assert pair.spacing_mm == pytest.approx((2.2, 2.4, 2.4))
    assert pair.mr.shape == (10, 13, 13)  # 24 mm of slices, 32 mm of rows and columns
    assert pair.hu[5, 6, 6] > 500  # the bone is in the middle still
    area_mm2 = pair.body.sum(axis=(1, 2)).mean() * 2.4 * 2.4
    assert area_mm2 == pytest.approx(24**2, rel=0.15)


def test_what_is_resampled_of_unknown_ct_is_unknown_and_nothing_between(synthrad: Path) -> None:
    """Rows of -2048 HU to the middle of the bone; a mean of both would be soft tissue."""
    patient = patients.patients_of(synthrad / "synthrad", "synthrad")[0]
    whole = patients.read_pair(patient, (2.2, 2.4, 2.4), (-1024, 3071))
    hu = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(patient.ct)))
    hu[:, :16] = UNKNOWN_HU
    write(patient.ct, hu)
    pair = patients.read_pair(patient, (2.2, 2.4, 2.4), (-1024, 3071))
    assert pair.known is not None
    assert not pair.known[:, :6].any()
    assert pair.known[:, 8:].all()
    assert whole.known is None
    assert np.array_equal(pair.hu[pair.known], whole.hu[pair.known])
    assert np.array_equal(pair.body, whole.body & pair.known)


def test_a_pair_at_the_models_spacing_is_not_resampled(synthrad: Path) -> None:
    patient = patients.patients_of(synthrad / "synthrad", "synthrad")[0]
    pair = patients.read_pair(patient, (3.0, 1.0, 1.0), (-1024, 3071))
    assert np.unique(pair.hu).tolist() == [-1000, 40, 900]


def test_a_fraction_for_validation_is_drawn_by_the_seed(project: Path) -> None:
    recipe = read_recipe(project / "config/train/paper.yaml")
    names = [f"P{number:03d}" for number in range(100)]
    trained, kept = patients.split(recipe, names)
    assert len(kept) == 20
    assert sorted([*trained, *kept]) == names
    assert patients.split(recipe, names) == (trained, kept)
    assert patients.split(dataclasses.replace(recipe, seed=1), names)[1] != kept


def test_who_is_left_out_neither_trains_nor_is_kept_back(synthrad: Path, project: Path) -> None:
    changes = ["left_out=[1BA001, 1PA001]", "validation=[1HNA001]", "card.spacing_mm=[3.0, 1.0, 1.0]"]
    recipe = read_recipe(project / "config/train/paper.yaml", synthrad, changes)
    trained, kept = patients.read_cohort(recipe)
    assert [[pair.name for pair in pairs] for pairs in (trained, kept)] == [["1ABA005", "1BA005"], ["1HNA001"]]
    folds = {within(recipe, Fold(number, 3)).validation for number in (1, 2, 3)}
    assert folds == {("1ABA005",), ("1BA005",), ("1HNA001",)}
    with pytest.raises(BadRecipe, match=r"left_out: .* has no 1BA009"):
        patients.read_cohort(dataclasses.replace(recipe, left_out=("1BA001", "1BA009")))


def test_the_papers_recipe_runs_on_the_challenges_folders(synthrad: Path, project: Path) -> None:
    """As it is but for its size: the layout, the segmenter, the critic, all stages."""
    torch.set_num_threads(1)
    values = yaml.safe_load((project / "config/train/paper.yaml").read_text())
    small = {"steps": 2, "batch": 1, "patch": [16, 16, 16], "learning_rate": 1e-4}
    values["run"] = str(synthrad / "run")
    values["stages"] = {
        name: {**stage, **small, "steps": 2 * bool(stage["steps"])} for name, stage in values["stages"].items()
    }
    values["architecture"] |= {
        "autoencoder": {"latent": 3, "channels": [4, 4, 4], "strides": [[2, 2, 2]] * 2, "groups": 2}
    }
    values["architecture"] |= {"mr_channels": [4, 4, 4], "denoiser_channels": [4, 4, 4], "groups": 2}
    values |= {"precision": "float32", "evaluate": [[1, 1]], "copies": 1}
    values["card"] |= {"sampling": {"steps": 1, "samples": 1}}
    path = synthrad / "paper.yaml"
    path.write_text(yaml.safe_dump(values))
    card = train.main(path, device="cpu")
    assert card.figures["patients"] == ["1ABA005"]
    assert load_model(str(synthrad / "run/model"), "cpu").card.spacing_mm == (2.2, 2.4, 2.4)
    assert read_segmenter(synthrad / "run/tissue.safetensors").features(torch.zeros(1, 1, 4, 8, 8))
    header = (synthrad / "run/autoencoder.csv").read_text().splitlines()[0]
    assert header == "step,minutes,rate,l1,kl,perceptual,generator,discriminator"
