"""`sct-node demo` as a person runs it: a command, what it prints, and nothing left behind."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import TISSUES, axial_grid, thigh

COMMAND = [sys.executable, "-m", "dicomnode.cli.main", "demo"]
PATIENCE_S = 280


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo with arguments, to its end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def processes_that_name(folder: Path) -> list[str]:
    """Command lines of running processes in which `folder` occurs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_the_phantom_makes_the_whole_journey(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("RECEIVED", "SYNTHESIZED", "DELIVERED", "36 MR instances", "planes oblique by up to 14 degrees"):
        assert said in done.stdout
    rows = re.findall(r"^(\w[\w ]+?) +(-?\d+) +(-?\d+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == [*(tissue.name for tissue in TISSUES), "whole leg"]
    assert [int(row[1]) for row in rows[:-1]] == [tissue.hu for tissue in TISSUES]
    [named] = re.findall(r"^Picture +(\S+)$", done.stdout, re.MULTILINE)
    with Image.open(named) as picture:
        assert np.asarray(picture.convert("L")).std() > 20
    assert processes_that_name(tmp_path) == []


def test_a_series_of_the_user_makes_it_too_without_columns_of_truth(tmp_path: Path) -> None:
    write_mr_series(thigh(axial_grid((12, 80, 80), (4.0, 2.0, 2.0))).mr, tmp_path / "own series")
    done = run("--out", str(tmp_path / "out"), "--input", str(tmp_path / "own series"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 CT instances" in done.stdout
    assert "true HU" not in done.stdout


@pytest.mark.parametrize("content", ["", "not DICOM"])
def test_a_folder_without_an_mr_series_ends_with_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "given").mkdir()
    if content:
        (tmp_path / "given" / "file").write_text(content)
    done = run("--out", str(tmp_path / "out"), "--input", str(tmp_path / "given"))
    assert done.returncode == 1
    assert "The demo failed: NO_IMAGES" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    with subprocess.Popen([*COMMAND, "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        until = time.monotonic() + PATIENCE_S
        for line in demo.stdout:
            if "the node is ready" in line or time.monotonic() > until:
                break
        assert len(processes_that_name(tmp_path)) >= 3
        demo.send_signal(number)
        assert demo.wait(60) in (130, 143)
    assert processes_that_name(tmp_path) == []
