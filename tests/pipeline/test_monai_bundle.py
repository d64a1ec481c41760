"""A model as a MONAI Bundle, run by MONAI."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from models.inference.card import UnknownModel, find
from models.inference.weights import load_model
from pipeline.monai_bundle import write_bundle
from pipeline.phantom.thigh import axial_grid, thigh
from pipeline.volume.synthesize import predict_nifti


def test_monai_runs_the_bundle_and_makes_the_same_ct(tmp_path: Path) -> None:
    mr = thigh(axial_grid((8, 96, 96), (3.27, 1.954, 1.954))).mr
    SimpleITK.WriteImage(mr.to_simpleitk(), str(tmp_path / "mr.nii.gz"))
    bundle = write_bundle("limb-t1-ldm", tmp_path / "bundle")
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle), "--device", "cpu"]
    command += ["--config_file", str(bundle / "configs" / "inference.yaml")]
    command += ["--meta_file", str(bundle / "configs" / "metadata.json")]
    command += ["--mr", str(tmp_path / "mr.nii.gz"), "--ct", str(tmp_path / "ct.nii.gz")]
    subprocess.run(command, check=True, capture_output=True)
    predict_nifti(tmp_path / "mr.nii.gz", tmp_path / "ours.nii.gz", load_model("limb-t1-ldm", "cpu"))
    made, ours = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name)))
                  for name in ("ct.nii.gz", "ours.nii.gz"))  # fmt: skip
    np.testing.assert_allclose(made, ours, atol=0.01)  # the order of a sum depends on the number of threads


def test_the_metadata_say_what_the_card_says(tmp_path: Path) -> None:
    bundle = write_bundle("limb-t1-ldm", tmp_path / "bundle")
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    card = find("limb-t1-ldm")
    assert (said["name"], said["version"], said["description"]) == (card.name, card.version, card.limits)
    assert "not for clinical use" in said["intended_use"]
    assert find(str(bundle / "models")) == card


def test_a_bundle_never_takes_the_place_of_a_folder_and_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="is there already"):
        write_bundle("limb-t1-ldm", tmp_path)
    with pytest.raises(UnknownModel):
        write_bundle("no-such-model", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
