"""Scanner and protocol as labels: what they are, and that no patient is told by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.findings.findings import histogram
from pipeline.phantom.mr_series import PHANTOM_SUBJECT
from pipeline.phantom.thigh import axial_grid, thigh, write_mr_series
from pipeline.series.attributes import origin_of, reveals
from pipeline.series.series import read_series


def test_scanner_and_protocol_are_those_of_the_header(tmp_path: Path) -> None:
    write_mr_series(thigh(axial_grid()).mr, tmp_path)
    (series,) = read_series(tmp_path)
    assert origin_of(series).scanner == "analytic phantom"
    assert origin_of(series).protocol == "T1"


def test_a_protocol_that_names_the_patient_is_left_empty(tmp_path: Path) -> None:
    write_mr_series(thigh(axial_grid()).mr, tmp_path, subject=replace(PHANTOM_SUBJECT, patient_id="T1"))
    (series,) = read_series(tmp_path)
    assert origin_of(series).protocol == ""


@pytest.mark.parametrize(
    ("label", "secret", "told"),
    [
        ("t1_tse_tra", "Meier^Anna", False),
        ("t1_tse_MEIER", "Meier^Anna", True),
        ("knee4711", "PAT-4711", True),
        ("pat4711 knee", "PAT-4711", True),
        ("Limb T1", "Li^Ping", False),
        ("T1 li", "Li^Ping", True),
        ("t1", "", False),
    ],
)
def test_a_label_tells_of_a_patient_when_it_holds_a_word_of_the_name(label: str, secret: str, told: bool) -> None:
    assert reveals(label, secret) is told


def test_the_histogram_counts_every_voxel_once() -> None:
    found = histogram(np.array([-2000.0, -1024.0, 0.0, 15.9, 5000.0], np.float32))
    assert sum(found["counts"]) == 5
    assert found["counts"][0] == 2
    assert found["counts"][1024 // 16] == 2
    assert len(found["counts"]) == 256
