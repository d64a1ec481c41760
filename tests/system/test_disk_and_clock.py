"""A node whose disk is full at one step after the other or cannot be written, and one whose clock jumps by an hour."""

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.load import dump
from dicomnode.ledger.states import State

Node = Callable[..., Any]
FULL_S = 6.0
"""How long the disk stays full: several ticks of every role."""


def signal_role(running: Any, role: str, number: int) -> None:
    """A signal to the process of a role."""
    said = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(running.process.pid)], capture_output=True, text=True, check=True
    )
    [pid] = [int(line.split()[0]) for line in said.stdout.splitlines() if f"dicomnode.cli.main {role} " in line]
    os.kill(pid, number)


def test_a_disk_that_is_full_after_success_loses_nothing(
    node: Node, small_disk: Any, planning: Any, thigh_series: list[Path]
) -> None:
    running = small_disk.under(node(planning.destination))
    running.start()
    running.push(thigh_series)
    small_disk.fill()
    time.sleep(FULL_S)
    small_disk.clear()
    with planning.up():
        job = running.job(State.DELIVERED)
    assert len(planning.instances()) == job.ct_instances


def test_a_disk_that_is_full_when_a_job_is_computed_costs_it_nothing(
    node: Node, small_disk: Any, planning: Any, thigh_series: list[Path]
) -> None:
    running = small_disk.under(node(planning.destination))
    running.start()
    running.until(lambda: running.ticks("synthesize"), "the worker is there")
    signal_role(running, "synthesize", signal.SIGSTOP)
    running.push(thigh_series)
    running.job(State.RECEIVED)
    small_disk.fill()
    signal_role(running, "synthesize", signal.SIGCONT)
    time.sleep(2 * FULL_S)
    small_disk.clear()
    with planning.up():
        job = running.job(State.DELIVERED)
    assert len(planning.instances()) == job.ct_instances


def test_a_disk_that_is_full_while_receipts_come_sends_nothing_under_another_uid(
    node: Node, small_disk: Any, planning: Any, thigh_series: list[Path]
) -> None:
    running = small_disk.under(node(planning.destination))
    running.start()
    running.push(thigh_series)
    running.job(State.SYNTHESIZED)
    small_disk.fill()
    with planning.up():
        time.sleep(FULL_S)
        small_disk.clear()
        job = running.job(State.DELIVERED)
    assert len(planning.instances()) == job.ct_instances
    assert planning.series() == {job.ct_series_uid}


def test_a_folder_that_cannot_be_written_is_named_before_anything_starts(node: Node, small_disk: Any) -> None:
    running = small_disk.under(node())
    (running.folder / "node.yaml").write_text(dump(running.config))
    subprocess.run(["mount", "-o", "remount,ro", small_disk.folder], check=True)
    command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(running.folder / "node.yaml")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 1
    assert "node.data" in said.stderr
    assert "Read-only file system" in said.stderr
    assert "Traceback" not in said.stderr


class Clock:
    """The time of day of the processes started from now on, which a test may move; no other clock is touched."""

    def __init__(self, folder: Path, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file, library = folder / "moved", folder / "clock.so"
        self.move(0)
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("SCT_CLOCK", str(self._file))

    def move(self, seconds: int) -> None:
        """From now on it is so many seconds from the true time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

    def now(self) -> float:
        """What such a process takes for the time."""
        command = [sys.executable, "-c", "import time; print(time.time())"]
        return float(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.fixture
def clock(tmp_path: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Needs a C compiler."""
    return Clock(tmp_path, program("gcc"), monkeypatch)


@pytest.mark.parametrize("jump_s", [3600, -3600], ids=["forwards", "backwards"])
def test_a_clock_that_jumps_by_an_hour_neither_loses_nor_hastens_anything(
    node: Node, planning: Any, thigh_series: list[Path], another_series: Any, clock: Clock, jump_s: int
) -> None:
    running = node(planning.destination)
    running.start()
    running.push(thigh_series[::2])
    clock.move(jump_s)
    assert abs(clock.now() - time.time() - jump_s) < 600
    time.sleep(2.0)
    assert running.ledger.jobs() == []  # it has gaps: only a quiet time of its own would settle it
    running.push(thigh_series[1::2])
    running.job(State.SYNTHESIZED)
    with planning.up():
        first = running.job(State.DELIVERED)
        running.push(another_series(5))
        clock.move(0)
        running.until(lambda: delivered(running) == 2, "both are delivered")
    assert len(planning.instances()) == 2 * first.ct_instances


def delivered(running: Any) -> int:
    """How many jobs are DELIVERED; which is the newest, their times do not say here."""
    return sum(job.state is State.DELIVERED for job in running.ledger.jobs())
