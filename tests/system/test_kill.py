"""SIGKILL: to every process of the node once in every state, to the supervisor alone, to the roles alone."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicomnode.config.load import AS_CONFIGURED
from dicomnode.config.rules import settings_of
from dicomnode.config.sections import Settle
from dicomnode.ledger.states import State
from dicomnode.synthesis.attempt import options_of
from models.inference.weights import load_model
from pipeline.conversion import convert
from pipeline.series.series import Series, read_instance

Node = Callable[..., Any]


@pytest.fixture
def expected(thigh_series: list[Path], tiny_model: Path, node: Node, tmp_path: Path) -> str:
    """SeriesInstanceUID of the CT as it is without any kill."""
    series = Series.of([read_instance(path) for path in thigh_series])
    options = options_of(settings_of(node().config, AS_CONFIGURED), "cpu")
    return convert(series, load_model(str(tiny_model), "cpu"), tmp_path / "expected", options).ct_series_uid


def test_a_node_killed_once_in_every_state_delivers_one_series_with_the_uids_it_would_have_had(
    node: Node, planning: Any, thigh_series: list[Path], expected: str
) -> None:
    running = node(planning.destination)

    running.start()
    running.push(thigh_series[:7])
    running.until(running.ledger.receiving, "the series is RECEIVING")
    running.kill()

    running.start()
    assert not running.ledger.jobs()
    running.push(thigh_series)
    key = running.job(State.RECEIVED).job
    running.kill()
    assert running.ledger.job(key).state is State.RECEIVED

    running.start()
    running.job(State.SYNTHESIZED)
    running.kill()

    with planning.up("--delay-s", "0.3"):
        running.start()
        running.until(lambda: len(running.ledger.accepted_uids(key, "planning")) >= 3, "three instances are taken")
        running.kill()
    assert 3 <= len(running.ledger.accepted_uids(key, "planning")) < len(thigh_series)

    with planning.up():
        running.start()
        assert running.job(State.DELIVERED).ct_series_uid == expected
        running.kill()

        running.start()
        running.push(thigh_series)
        running.until(lambda: "association_released" in running.logs[-1].read_text(), "the second push was taken")
        running.until(lambda: running.ticks("receive") >= 2, "and looked at")

    assert [one.job for one in running.ledger.jobs()] == [key]
    assert planning.series() == {expected}
    assert len(planning.instances()) == len(thigh_series) == len(running.ledger.accepted_uids(key, "planning"))
    facts = [one.event for one in running.ledger.events(key)]
    assert [facts.count(fact) for fact in ("settled", "synthesized", "accepted", "delivered")] == [1, 1, 1, 1]


def test_children_end_when_only_the_supervisor_is_killed_and_it_starts_again_at_once(node: Node) -> None:
    running = node()
    running.start()
    children = children_of(running.process.pid)
    assert len(children) == 4
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(10)
    running.start()
    running.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the orphans are gone")
    assert running.stop() == 0


def test_roles_that_are_killed_are_started_again(node: Node, thigh_series: list[Path]) -> None:
    running = node()
    running.start()
    for pid in children_of(running.process.pid):
        os.kill(pid, signal.SIGKILL)
    running.until(lambda: running.log().count("dicom_listening") == 2, "the receiver listens again")
    assert running.log().count("role_restarted") == 4
    running.push(thigh_series)
    running.job(State.SYNTHESIZED)


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children."""
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(word) for word in said.stdout.split()]


def test_a_node_killed_between_a_late_slice_and_its_consequence_ends_right(
    node: Node, planning: Any, thigh_series: list[Path]
) -> None:
    running = node(planning.destination, settle=Settle(quiet_s=3.0))
    running.start()
    running.push(thigh_series[:10])
    first = running.job(State.SYNTHESIZED)

    running.push(thigh_series[10:11])
    running.kill()
    running.start()
    second = running.job(State.SYNTHESIZED, number=2)
    old = running.ledger.job(first.job)
    assert (old.state, old.reason_code, old.superseded_by) == (State.REJECTED, "SUPERSEDED", second.job)
    assert (second.supersedes, second.replaces) == (first.job, None)

    with planning.up():
        running.job(State.DELIVERED, number=2)
        assert planning.series() == {second.ct_series_uid}
        running.push(thigh_series[11:])
        running.until(running.ledger.receiving, "the late slice is noted")
        running.kill()
        running.start()
        third = running.job(State.DELIVERED, number=3)

    assert (third.supersedes, third.replaces) == (second.job, second.ct_series_uid)
    assert running.ledger.job(second.job).state is State.DELIVERED
    assert running.ledger.job(second.job).superseded_by == third.job
    assert planning.series() == {second.ct_series_uid, third.ct_series_uid}
    sent = [pydicom.dcmread(path, force=True) for path in planning.folder.glob("*.dcm")]
    named = {one.RelatedSeriesSequence[0].SeriesInstanceUID for one in sent if "RelatedSeriesSequence" in one}
    assert named == {second.ct_series_uid}
    assert running.log().count("instances_late") >= 2
    facts = [[one.event for one in running.ledger.events(job)] for job in (first.job, second.job)]
    assert [list_.count(fact) for list_, fact in zip(facts, ("superseded", "replaced"), strict=True)] == [1, 1]
