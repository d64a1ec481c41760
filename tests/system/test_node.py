"""The whole node, as processes: what is bad gets its named error in the right place, and the next goes through."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.load import load
from dicomnode.errors import Undelivered
from dicomnode.ledger.states import State

Node = Callable[..., Any]
Series = Callable[..., list[Path]]


def sct_node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    command = [sys.executable, "-m", "dicomnode.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def children_of(pid: int) -> dict[str, int]:
    """Role -> process id of a node's children."""
    said = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in said.stdout.splitlines()]
    return {row[row.index("dicomnode.cli.main") + 1]: int(row[0]) for row in rows}


def test_bad_series_and_a_dead_destination_hinder_nothing(
    node: Node, planning: Any, thigh_series: list[Path], another_series: Series, free_port: Callable[[], int]
) -> None:
    dead = dataclasses.replace(planning.destination, name="dead", port=free_port())
    running = node(planning.destination, dead)
    running.start()
    with planning.up():
        gap, single = another_series(1), another_series(2)
        running.push(gap[:5] + gap[6:])
        running.push(single[:1])
        running.push(thigh_series)
        running.until(lambda: len(running.ledger.jobs()) == 3, "three jobs")
        running.until(lambda: len(planning.instances()) == len(thigh_series), "the good one is delivered")
        running.until(lambda: len([one for one in running.ledger.jobs() if one.reason_code]) == 2, "two rejected")

    jobs = {one.source_series_uid: one for one in running.ledger.jobs()}
    assert sorted(one.reason_code or "" for one in jobs.values()) == ["", "GAP", "TOO_FEW_SLICES"]
    good = next(one for one in jobs.values() if one.reason_code is None)
    assert good.state is State.SYNTHESIZED
    assert {one.destination: one.delivered_at is not None for one in running.ledger.deliveries(good.job)} == {
        "planning": True,
        "dead": False,
    }
    assert "cannot be reached" in running.until(
        lambda: running.ledger.deliveries(good.job)[0].sentence, "the dead one is postponed"
    )
    maps = {role: Path(f"/proc/{pid}/maps").read_text() for role, pid in children_of(running.process.pid).items()}
    assert [role for role, text in maps.items() if "libtorch" in text] == ["synthesize"]
    assert "Phantom" not in running.log()
    assert running.stop() == 0


def test_wrong_weights_hold_a_job_until_they_are_right_and_a_person_releases_it(
    node: Node, tiny_model: Path, tmp_path: Path, thigh_series: list[Path]
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = model / "tiny.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right + b"x")
    running = node(model=str(model))
    running.start()
    running.push(thigh_series)
    job = running.held()
    assert (job.reason_code, job.state) == ("WRONG_DIGEST", State.RECEIVED)
    weights.write_bytes(right)
    config = running.folder / "node.yaml"
    assert sct_node("release", job.job[:8], "--reason", "weights reinstalled", "--config", config).returncode == 0
    assert running.job(State.SYNTHESIZED).held is None


def test_a_late_slice_makes_a_second_job_for_the_larger_set(node: Node, thigh_series: list[Path]) -> None:
    running = node()
    running.start()
    running.push(thigh_series[:-1])
    first = running.job(State.SYNTHESIZED)
    running.push(thigh_series[-1:])
    second = running.job(State.SYNTHESIZED, number=2)
    assert (second.supersedes, second.ct_instances) == (first.job, first.ct_instances + 1)
    assert second.ct_series_uid != first.ct_series_uid


def test_a_full_disk_refuses_instances_and_the_next_series_goes_through_when_there_is_room(
    node: Node, small_disk: Any, thigh_series: list[Path]
) -> None:
    running = small_disk.under(node())
    running.start()
    small_disk.fill()
    with pytest.raises(Undelivered, match="refused 12 with status 0xA700"):
        running.push(thigh_series)
    small_disk.clear()
    running.push(thigh_series)
    running.job(State.SYNTHESIZED)
    assert "The disk is full" in running.log()


def test_a_port_in_use_is_named_before_anything_starts(node: Node) -> None:
    running = node()
    running.start()
    path = running.folder / "other.yaml"
    text = f"node: {{port: {running.config.node.port}, data: {running.folder / 'other'}}}\n"
    path.write_text(f"{text}model: {running.config.model}\n")
    said = sct_node("serve", "--config", path)
    assert said.returncode == 1
    assert f"node.port: 127.0.0.1:{running.config.node.port} is in use by another process" in said.stderr
    again = sct_node("serve", "--config", running.folder / "node.yaml")
    assert again.returncode == 1
    assert "runs already on this data folder" in again.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node: {prot: 104}", "node.prot: is no key of the configuration; did you mean 'port'?"),
        ("model: no-such-model", "model: no model 'no-such-model'"),
        ("node: {bind: 192.0.2.1}", "node.bind: '192.0.2.1'"),
    ],
)
def test_a_wrong_configuration_is_named_before_anything_starts(
    tmp_path: Path, tiny_model: Path, text: str, words: str
) -> None:
    path = tmp_path / "node.yaml"
    if "node:" not in text:
        text += f"\nnode: {{data: {tmp_path}}}"
    if "bind" in text:
        text = text.replace("}", f", data: {tmp_path}}}\nmodel: {tiny_model}")
    path.write_text(text)
    said = sct_node("serve", "--config", path)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith(f"sct-node: {words}")


def test_what_the_supervisor_gives_its_children_is_the_configuration_it_was_given(node: Node) -> None:
    running = node()
    running.start()
    path = running.config.node.data / "run" / "node-serving.yaml"
    assert load(path) == running.config
    assert path.stat().st_mode & 0o777 == 0o600
