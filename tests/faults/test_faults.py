"""A slice of `make faults` and `make soak`, and that their checks can fail."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import campaign
import pytest
import soak
from peers import acknowledged_in
from power import KEPT, Disk, read_log, recorder
from verdict import Case

HERE = Path(__file__).parent


def run(name: str, *arguments: str) -> dict[str, object]:
    """One of the programs beside this file; its summary, in which it complains of nothing."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_killed_at_random_moments_a_node_loses_and_doubles_nothing_and_the_check_would_have_seen_it(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    program("storescp")
    options = campaign.Options(kills=10, seed=7, database="sqlite", start="forked", minutes=2.0, folder=tmp_path / "c")
    with campaign.campaign(options) as running:
        summary = running.run()
        assert summary["complaints"] == []
        assert sum(running.fleet.killed.values()) >= 10
        running.fleet.end()
        case = Case(running.config.node.data, running.ledger, running.sent(), running.plannings)
        assert case.complaints() == []
        tamper(case)
        told = " ".join(case.complaints())
    for words in ("is not there", "has other bytes", "no longer those that were written", "lacks", "was never made"):
        assert words in told


def tamper(case: Case) -> None:
    """Lose an instance, change one, and the same at a destination."""
    first, second, *_ = sorted(case.data.glob("in/*/*.dcm"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-2] + b"\1\2")
    gone, changed, *_ = sorted(case.plannings[0].folder.iterdir())
    shutil.copy(second, case.plannings[0].folder / "another")
    gone.unlink()
    changed.write_bytes(changed.read_bytes()[:-2] + b"\1\2")


def test_after_a_power_failure_what_was_acknowledged_is_there_and_the_node_goes_on(
    program: Callable[[str], str],
) -> None:
    program("storescp")
    program("gcc")
    summary = run("blackout.py", "--series", "1", "--losses", "20", "--restarts", "1")
    assert summary["power failures"] == 20


WRITER = """
import os, sys
top = sys.argv[1]
for name, file, folder in (("safe", 1, 1), ("unsynced", 0, 1), ("nameless", 1, 0)):
    os.mkdir(f"{top}/{name}")
    with open(f"{top}/{name}/part", "wb") as out:
        out.write(b"content")
        out.flush()
        file and os.fsync(out.fileno())
    os.rename(f"{top}/{name}/part", f"{top}/{name}/whole")
    if folder:
        descriptor = os.open(f"{top}/{name}", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
descriptor = os.open(top, os.O_RDONLY)
os.fsync(descriptor)
"""


@pytest.mark.parametrize("keep", KEPT)
def test_a_power_failure_takes_what_was_not_synced_and_nothing_else(
    tmp_path: Path, keep: str, program: Callable[[str], str]
) -> None:
    program("gcc")
    top, log = tmp_path / "top", tmp_path / "log"
    top.mkdir()
    watched = {"LD_PRELOAD": str(recorder(tmp_path)), "RECORDER_ROOT": str(top), "RECORDER_LOG": str(log)}
    subprocess.run([sys.executable, "-c", WRITER, str(top)], env=os.environ | watched, check=True)
    disk = Disk(top)
    for record in read_log(log):
        disk.play(record)
    disk.fail(tmp_path / "found", keep, random.Random(1))
    files = {str(path.relative_to(tmp_path / "found")): path for path in (tmp_path / "found").rglob("*")}
    assert files.keys() >= {"safe", "unsynced", "nameless", "safe/whole", "unsynced/whole"}
    assert files["safe/whole"].read_bytes() == b"content"
    if keep in ("nothing", "names"):
        assert files["unsynced/whole"].read_bytes() == b""
    if keep in ("nothing", "contents"):
        assert not any(name.startswith("nameless/") for name in files)
    if keep == "names":
        assert files["nameless/whole"].read_bytes() == b"content"


def sampled(resident: Callable[[int], int], threads: Callable[[int], int]) -> list[soak.Sample]:
    return [soak.Sample(5.0 * n, "receive", 1, 10 * n, 1.0, resident(n), threads(n), 20, 5, 0.1) for n in range(80)]


def test_what_grows_is_not_flat_and_what_swings_is() -> None:
    flat = soak.growth_of(sampled(lambda n: 200_000_000 + 1000 * (n % 7), lambda n: 8 + n % 5))
    assert flat["not flat"] == []
    leaking = soak.growth_of(sampled(lambda n: 200_000_000 + 400_000 * n, lambda n: 8 + n // 10))
    assert leaking["not flat"] == ["resident_bytes", "threads"]


def test_a_short_day_loses_nothing(tmp_path: Path, program: Callable[[str], str]) -> None:
    program("storescu")
    amounts = ("--associations", "20", "--connects", "20", "--instances", "100")
    options = soak.options([*amounts, "--minutes", "0.5", "--csv", str(tmp_path / "day.csv")])
    summary = soak.run(options)
    assert summary["bare connects"] == 20
    assert summary["instances acknowledged"] == summary["instances kept"] == 100
    assert (tmp_path / "day.csv").read_text().startswith("seconds,role,pid,acknowledged,load,resident_bytes")


def test_only_an_answer_of_success_acknowledges_a_file() -> None:
    said = "I: Sending file: a.dcm\nI: Received Store Response (Success)\nI: Sending file: b.dcm\n"
    said += "I: Received Store Response (Refused: OutOfResources)\nI: Sending file: c.dcm\n"
    assert acknowledged_in(said) == [Path("a.dcm")]
