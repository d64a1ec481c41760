"""Tests of the evidence in the files of an arriving series and in storage commitment requests (PS3.4 J.3.2)."""

from collections.abc import Collection
from pathlib import Path

import pytest

from dicomnode.config.load import Config
from dicomnode.reception.evidence import Evidence
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh
from pipeline.series.series import read_instance

SLICES = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return an MR series of the phantom, in the order of its slices."""
    grid = axial_grid((SLICES, 32, 32), (6.0, 6.0, 6.0))
    return write_mr_series(thigh(grid).mr, tmp_path_factory.mktemp("thigh"))


def evidence(*requests: Collection[str], came: Collection[str] = ()) -> Evidence:
    """Return evidence with these storage commitment requests, where the instances `came` have come."""

    def naming(uids: Collection[str]) -> list[frozenset[str]]:
        return [frozenset(listed) for listed in requests if not set(listed).isdisjoint(uids)]

    return Evidence(Config(), naming, lambda uids: set(uids) - set(came))


def test_a_stack_is_whole_with_every_slice_and_unknown_without_one_or_with_a_damaged_one(
    files: list[Path], tmp_path: Path
) -> None:
    seen = evidence()
    assert seen.stack("1.2", "MR", files[:3]) == "unknown"
    assert seen.stack("1.2", "MR", files[:6]) == "whole"
    assert seen.stack("1.2", "MR", [*files[:4], *files[5:]]) == "unknown"
    assert seen.stack("1.2", "MR", files) == "whole"
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(files[0].read_bytes()[:600])
    assert seen.stack("1.2", "MR", [*files, damaged]) == "unknown"


def test_a_commitment_request_for_the_series_shows_that_it_is_all_or_that_something_lacks(files: list[Path]) -> None:
    uids = [str(read_instance(path).sop_instance_uid) for path in files]
    other = ["9.9.1", "9.9.2"]
    cases: list[tuple[list[Collection[str]], Collection[str], str]] = [
        ([uids], uids, "announced"),
        ([uids + other], uids + other, "announced"),
        ([uids + other], uids, "unknown"),
        ([uids + other, uids], uids, "announced"),
        ([[uid] for uid in uids], uids, "whole"),
        ([uids[:4], uids[4:]], uids, "whole"),
        ([other], uids, "whole"),
    ]
    for requests, came, stack in cases:
        assert evidence(*requests, came=came).stack("1.2", "MR", files) == stack
    assert evidence(uids[:6], came=uids).stack("1.2", "MR", [*files[:3], *files[4:6]]) == "unknown"
