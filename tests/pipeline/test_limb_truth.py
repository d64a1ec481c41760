"""Real limb series, from their DICOM files to HU, against the CT of the same patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import Volume, get_volume_from_series

from models.data.body import ct_body, mr_body
from models.data.pairs import read_pairs
from models.inference import baselines
from models.inference.weights import load_model
from models.measures.similarity import score
from pipeline.series.series import only_series, read_series
from pipeline.volume.resampling import resample
from pipeline.volume.synthesize import seed_of, synthesize
from pipeline.volume.volume import read_volume


def true_ct(folder: Path, like: Volume) -> Volume:
    """The patient's CT on the grid of the synthetic one; both lie in one frame of reference."""
    files = [pydicom.dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    volume = get_volume_from_series([file for file in files if file.Modality == "CT"], dtype=np.float64)
    assert volume.frame_of_reference_uid == like.frame_of_reference_uid
    return resample(volume.with_array(volume.array.astype(np.float32)), like.get_geometry(), fill=-1024.0)


@pytest.mark.parametrize("name", ["ibsi_STS_024", "ibsi_STS_035"])
def test_a_real_limb_lies_where_its_ct_lies_and_its_bones_beat_a_look_up_table(
    mr_item: Callable[[str], Path], sct_data: Path, name: str
) -> None:
    """Both patients are among those that trained the model, so this is a check of geometry and chain, not of skill."""
    folder = mr_item(name)
    model = load_model("limb-t1-ldm", "cpu")
    series = only_series(read_series(folder / "MR_T1/image"))
    mr = read_volume(series)
    made = synthesize(mr, model, seed_of(series, model.card)).hu
    truth = true_ct(folder / "CT/image", made).array
    signal = resample(mr, made.get_geometry(), fill=0.0).array
    body = mr_body(signal) & ct_body(truth)
    scores = score(made.array, truth, body)
    mirrored = score(made.array[:, :, ::-1], truth, body)
    names = [patient for patient in ("STS_004", "STS_006", "STS_010") if patient not in name]
    known = read_pairs(sct_data / "pairs/train", names, (-1024, 3071))
    table = baselines.learn_look_up_table([(pair.mr, pair.hu, pair.body) for pair in known])
    plain = score(table(signal / np.percentile(signal[body], 99)), truth, body)
    assert scores["mae_bone"] < 0.8 * plain["mae_bone"]
    assert scores["mae"] < 0.7 * score(baselines.all_water(body), truth, body)["mae"]
    assert scores["mae"] < 0.8 * mirrored["mae"]
