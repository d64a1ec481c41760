"""A whole node that is watched: a real Prometheus with our rules scrapes it, and a real mail server tells people."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope

from dicomnode.config.sections import Mail, Notify

if TYPE_CHECKING:
    from tests.support.node import Planning, Running

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


@dataclass
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def ask(self, path: str, **query: str) -> Any:
        """What its API answers."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> float | None:
        """The value of an expression now; None while there is none, or nobody answers."""
        with contextlib.suppress(OSError):
            found = self.ask("query", query=expression)["result"]
            return float(found[0]["value"][1]) if found else None
        return None


@pytest.fixture
def prometheus(
    tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[Callable[[int], Prometheus]]:
    """Starts one with the shipped configuration and rules, but for the target's port and the pace."""
    with contextlib.ExitStack() as running:

        def start(port: int) -> Prometheus:
            shipped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
            shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
            shipped["rule_files"] = [str(PROMETHEUS / name) for name in shipped["rule_files"]]
            shipped["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(shipped))
            own = free_port()
            options = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
            options += [f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"]
            process = running.enter_context(subprocess.Popen([program("prometheus"), *options]))
            running.callback(process.terminate)
            return Prometheus(f"http://127.0.0.1:{own}")

        yield start


class Subjects:
    """A mail server's box: the subject lines of what it took."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:  # noqa: N802, aiosmtpd's name
        """Take a message."""
        lines = (envelope.original_content or b"").decode().splitlines()
        self.taken += [line for line in lines if line.startswith("Subject: ")]
        return "250 taken"


@pytest.fixture
def subjects(free_port: Callable[[], int]) -> Iterator[tuple[Subjects, Mail]]:
    """A mail server, and how a node hands mail to it."""
    box, port = Subjects(), free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, Mail("127.0.0.1", "node@hospital.example", ("physics@hospital.example",), port, security="plain")
    server.stop()


def of_a_head(paths: list[Path]) -> list[Path]:
    """The files, changed: they name another body part."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.BodyPartExamined = "HEAD"
        dataset.save_as(path)
    return paths


def test_prometheus_sees_a_delivered_and_a_held_case_and_people_are_told_of_hold_and_failure(
    node: Callable[..., Running],
    planning: Planning,
    thigh_series: list[Path],
    another_series: Callable[..., list[Path]],
    prometheus: Callable[[int], Prometheus],
    subjects: tuple[Subjects, Mail],
) -> None:
    box, mail = subjects
    running = node(planning.destination, notify=Notify(gather_s=0.0, mail=mail))
    running.start()
    watching = prometheus(running.config.metrics.port)
    with planning.up():
        running.push(thigh_series)
        running.push(of_a_head(another_series(3)))
        running.until(lambda: len(planning.instances()) == len(thigh_series), "one case is delivered")
        running.until(lambda: watching.value('sct_node_queue_length{queue="person"} == 1'), "Prometheus sees the hold")
        running.until(lambda: any("hold: ANATOMY" in line for line in box.taken), "people are told of the hold")
        journeys = 'sct_node_scanner_to_destination_seconds_count{destination="planning"} == 1'
        running.until(lambda: watching.value(journeys), "Prometheus sees the journey")
    assert watching.value("up") == 1
    assert watching.value("sum(sct_node_cases_total)") == 2
    assert watching.value('sct_node_workers_current{role="synthesize"}') == 1
    assert watching.value('sct_node_findings_total{finding="anatomy", verdict="review"}') == 1
    rules = [rule for group in watching.ask("rules")["groups"] for rule in group["rules"]]
    running.until(
        lambda: all(rule["health"] == "ok" for group in watching.ask("rules")["groups"] for rule in group["rules"]),
        "every rule has been evaluated",
    )
    assert len(rules) > 20
    assert [one["labels"]["alertname"] for one in watching.ask("alerts")["alerts"] if one["state"] == "firing"] == []
    end_three_times(running)
    running.until(lambda: any("failure: ROLE_KEEPS_ENDING" in line for line in box.taken), "people are told of it")


def end_three_times(running: Running) -> None:
    """SIGKILL to the web process, as often as it takes to be a failure."""
    assert running.process is not None
    ended: set[int] = set()
    deadline = time.monotonic() + 60
    while len(ended) < 3 and time.monotonic() < deadline:
        listed = ["ps", "-o", "pid=,args=", "--ppid", str(running.process.pid)]
        said = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in said.splitlines() if " web " in line]
        for pid in {int(row[0]) for row in rows} - ended:
            os.kill(pid, signal.SIGKILL)
            ended.add(pid)
        time.sleep(0.1)
