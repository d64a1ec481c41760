"""A destination that hangs or is down for days: the others do not notice, and a person hears of it once."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dicomnode.config.load import Config, dump
from dicomnode.config.sections import Metrics, Node
from dicomnode.engine.contract import back_off_s, together
from dicomnode.ledger.rows import Plan
from dicomnode.metrics import REGISTRY

if TYPE_CHECKING:
    from tests.support.node import Bench


def more(b: Bench, number: int, *destinations: str) -> str:
    """Another job of the bench, SYNTHESIZED."""
    b.ledger.arrived(f"2.{number}", "MR", 12, time.time())
    job, _ = b.ledger.received(f"2.{number}", ["1"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)
    made = b.spool.published(b.job)
    assert made is not None
    b.spool.publish(job, lambda into: shutil.copytree(made, into, dirs_exist_ok=True))
    sending = together(b.queues.deliver(job, name, 1) for name in destinations)
    b.ledger.synthesized(job, "1.3", 12, destinations, None, sending)
    return job


def test_while_one_destination_hangs_in_its_first_attempt_the_other_gets_every_job(
    bench: Callable[..., Bench], planning: Any, free_port: Callable[[], int], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, planning.up():
        port = silent.getsockname()[1]
        hanging = dataclasses.replace(planning.destination, name="hanging", port=port, timeout_s=3000.0)
        b = bench(hanging, planning.destination)
        jobs = [b.job, *(more(b, number, "hanging", "planning") for number in range(3))]
        node = Node(data=tmp_path / "data")
        known = (hanging, planning.destination)
        config = Config(node=node, metrics=Metrics(port=free_port()), destinations=known)
        (tmp_path / "node.yaml").write_text(dump(config))
        command = [sys.executable, "-m", "dicomnode.cli.main", "deliver", "--config", str(tmp_path / "node.yaml")]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                deadline = time.monotonic() + 200
                while not all(b.ledger.deliveries(job)[1].delivered_at for job in jobs):
                    assert process.poll() is None
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
                    time.sleep(0.1)
                waiting = [b.ledger.deliveries(job)[0] for job in jobs]
                silent.settimeout(20)
                silent.accept()[0].close()  # it had been called
            finally:
                process.kill()
    assert [(one.destination, one.attempt, one.delivered_at) for one in waiting] == [("hanging", 1, None)] * 4
    assert "delivery_postponed" not in (tmp_path / "log").read_text()
    assert not {one.event for job in jobs for one in b.ledger.events(job)} & {"postponed", "delivered"}


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_has_not_taken_everything_in_time_is_an_alarm_once(
    bench: Callable[..., Bench], planning: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def alarms() -> float:
        labels = {"destination": "planning", "what": "undelivered"}
        return REGISTRY.get_sample_value("sct_node_destination_alarms_total", labels) or 0.0

    before = alarms()
    b = bench(dataclasses.replace(planning.destination, alarm_after_s=1.0))
    b.deliveries.reconcile()
    assert b.delivery("planning").alarmed_at is None
    time.sleep(1.1)
    b.deliveries.reconcile()  # no attempt has been made: it is raised all the same
    b.attempt("planning")
    b.attempt("planning")
    b.deliveries.reconcile()
    assert b.delivery("planning").alarmed_at is not None
    assert alarms() == before + 1
    assert [one.event for one in b.ledger.events(b.job)].count("alarmed") == 1
    with planning.up():
        assert b.attempt("planning").delivered_at is not None


def test_attempts_go_on_for_days_at_most_retry_max_s_apart_and_never_all_at_once() -> None:
    draws = [number / 97 for number in range(97)]
    for attempt in (1, 5, 10, 10_000):
        delays = [back_off_s(attempt, 10.0, 1800.0, draw) for draw in draws]
        assert max(delays) <= 1800.0
        assert min(delays) >= 0.75 * min(1800.0, 10.0 * 2.0 ** min(attempt - 1, 60))
        assert max(delays) - min(delays) >= 0.2 * min(delays)


def test_the_audit_trail_says_what_was_sent_where_and_what_arrived(
    bench: Callable[..., Bench], planning: Any, tmp_path: Path
) -> None:
    b = bench(planning.destination)
    b.attempt("planning")  # it is down: nothing began
    with planning.up("--answers", "0000,A700"):
        b.attempt("planning")
    with planning.up():
        b.attempt("planning")
    (file,) = (tmp_path / "data" / "audit").glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(one["EventIdentification"]["EventID"]["csd-code"], _instances(one)) for one in records]
    assert told == [("110102", 12), ("110104", 11), ("110102", 1), ("110104", 1)]
    outcomes = [one["EventIdentification"]["EventOutcomeIndicator"] for one in records]
    assert [str(one) == "0" for one in outcomes] == [True, False, True, True]


def _instances(record: dict[str, Any]) -> int:
    """How many instances a record counts."""
    (found,) = re.findall(r'"NumberOfInstances": "(\d+)"', json.dumps(record))
    return int(found)
