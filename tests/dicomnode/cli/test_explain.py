"""What `sct-node explain` says of a folder is what the node would do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from dicomnode.cli.explain import explain, sentences
from dicomnode.config.load import Config, Rule, RuleAction
from dicomnode.config.rule_conditions import When
from dicomnode.config.sections import Receive
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh
from pipeline.series.volume_choice import Choice


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """The files of a series of the phantom."""
    return write_mr_series(thigh(axial_grid((6, 32, 32), (6.0, 6.0, 6.0))).mr, tmp_path / "mr")


def changed(paths: list[Path], **values: str) -> list[Path]:
    """The files with other values of attributes."""
    for path in paths:
        image = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(image, keyword, value)
        image.save_as(path)
    return paths


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, None),
        ({"PatientPosition": ""}, "NO_GEOMETRY"),
        ({"PatientID": ""}, "NO_PATIENT_ID"),
        ({"LossyImageCompression": "01"}, "LOSSY"),
        ({"Modality": "CT"}, "NOT_MR"),
    ],
)
def test_what_the_pipeline_would_refuse_is_said_before_anything_is_computed(
    paths: list[Path], values: dict[str, str], code: str | None
) -> None:
    [told], unreadable = explain(changed(paths, **values), "", Config())
    assert (told["refused"] and told["refused"]["code"], unreadable) == (code, [])
    said = "\n".join(sentences(told))
    assert ("REFUSED" in said) == (code is not None)


def test_what_would_be_warned_of_or_held_is_said(paths: list[Path]) -> None:
    changed(paths, LossyImageCompression="01", BodyPartExamined="HEAD")
    [told], _ = explain(paths, "", Config(receive=Receive(accept_lossy=True)))
    assert told["refused"] is None
    assert "anatomy is HEAD" in told["held"]
    assert len(told["warnings"]) == 1
    assert "WARNING      " in "\n".join(sentences(told))


def test_one_volume_of_several_is_told_with_what_is_set_aside(mr_item: Callable[[str], Path]) -> None:
    folder = mr_item("philips_fieldmap_2echo_magphase_multivolume_classic")
    wanted = RuleAction(volume=Choice.of({"component": "MAGNITUDE", "echo": 2}))
    rules = (Rule("fieldmap", When.of({"ProtocolName": "*field*"}, "when"), wanted),)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    [told], _ = explain(files, "", Config(rules=rules))
    assert told["mr"]["shape"] == [53, 80, 80]
    assert "echo 2 magnitude" in told["volume"]
    assert [one["count"] for one in told["set_aside"]] == [53, 53, 53]
    [told], _ = explain(files, "", Config())
    assert told["refused"]["code"] == "SEVERAL_VOLUMES"


def test_nothing_that_names_the_patient_is_said(paths: list[Path]) -> None:
    changed(paths, PatientName="Secret^Name", PatientID="SECRET-7", AccessionNumber="SECRET-8")
    [told], _ = explain(paths, "", Config())
    assert "secret" not in (str(told) + "".join(sentences(told))).lower()
