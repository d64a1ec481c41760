"""Damaged files: none crashes the pipeline, hangs it, makes it grow, or makes a volume in the wrong place.

What counts as which is told in `tests/fuzz/mutants.py`, whose child process judges the mutants. SCT_MUTANTS sets how
many are made of each series (default 36), SCT_MUTANTS_REPORT a file for what is said of each.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SEED = 20260903
EACH = int(os.environ.get("SCT_MUTANTS", "36"))
HANG_S = 10.0
PEAK_MIB = 1024
MANY = 9
"""Hangs and deaths after which it is no use to go on."""
MUTANTS = Path(__file__).with_name("mutants.py")

Report = dict[str, Any]


def judged(folder: Path, first: int) -> list[Report]:
    """What one child says of the mutants from number `first`, until it ends or one of them takes too long."""
    command = [sys.executable, str(MUTANTS), str(folder), str(SEED), str(EACH), str(first)]
    reports: list[Report] = []
    lines: queue.Queue[bytes | None] = queue.Queue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        threading.Thread(target=_follow, args=(child, lines), daemon=True).start()
        limit_s = 60.0  # the libraries are being loaded
        while (line := _next(lines, limit_s)) is not None:
            report = json.loads(line) if line else {"hang": True}
            reports.append(report)
            limit_s = HANG_S
            if "hang" in report:
                child.kill()
                break
    return reports if child.returncode == 0 else [*reports, {"ended": child.returncode}]


def _follow(child: "subprocess.Popen[bytes]", lines: "queue.Queue[bytes | None]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _next(lines: "queue.Queue[bytes | None]", limit_s: float) -> bytes | None:
    """The next line; empty when none comes in time, None at the end."""
    try:
        return lines.get(timeout=limit_s)
    except queue.Empty:
        return b""


def campaign(folder: Path) -> list[Report]:
    """What is said of every mutant, whatever happens to the processes that judge them."""
    verdicts: list[Report] = []
    first, number_of_mutants = 0, EACH * len(list(folder.iterdir()))
    while first < number_of_mutants and len(bad(verdicts, "HANG", "DIED")) < MANY:
        reports = judged(folder, first)
        verdicts += [report for report in reports if "verdict" in report]
        started = [report for report in reports if "started" in report]
        if "verdict" not in reports[-1]:
            what = "HANG" if any("hang" in report for report in reports) else "DIED"
            assert started, f"the child ends before its first mutant: {reports[-1]}"
            verdicts.append({**started[-1], "verdict": what, "detail": str(reports[-1]), "s": 0, "peak_mib": 0})
        first = started[-1]["started"] + 1
    return verdicts


@pytest.fixture(scope="module")
def verdicts(sct_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    folder = tmp_path_factory.mktemp("mutants")
    subprocess.run([sys.executable, str(MUTANTS), str(folder), str(sct_data)], check=True)
    found = campaign(folder)
    if kept := os.environ.get("SCT_MUTANTS_REPORT"):
        Path(kept).write_text("\n".join(map(json.dumps, found)))
    return found


def bad(verdicts: list[Report], *kinds: str) -> list[str]:
    """The mutants of these verdicts, for the eyes of who looks for the cause."""
    return [f"{v['base']} {v['how']}: {v['detail']}" for v in verdicts if v["verdict"] in kinds]


def test_at_least_five_hundred_damaged_series_are_judged_and_most_are_refused_by_name(verdicts: list[Report]) -> None:
    counts = Counter(report["verdict"] for report in verdicts)
    assert len(verdicts) >= 500
    assert counts["refused"] > len(verdicts) / 3
    assert len({report["detail"] for report in verdicts if report["verdict"] == "refused"}) >= 12


def test_no_damaged_file_crashes_the_pipeline(verdicts: list[Report]) -> None:
    assert bad(verdicts, "CRASH", "DIED") == []


def test_no_damaged_file_hangs_it(verdicts: list[Report]) -> None:
    assert bad(verdicts, "HANG") == []
    assert max(report["s"] for report in verdicts) < HANG_S


def test_no_damaged_file_makes_a_volume_in_another_place_than_its_headers_say(verdicts: list[Report]) -> None:
    assert bad(verdicts, "WRONG") == []


def test_memory_stays_bounded(verdicts: list[Report]) -> None:
    assert max(report["peak_mib"] for report in verdicts) < PEAK_MIB
