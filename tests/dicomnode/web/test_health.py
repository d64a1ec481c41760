"""What watchers ask of the node, over a real socket."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicomnode.config.load import Config, dump
from dicomnode.config.sections import Hosts, Metrics, Node, Receive, Web
from dicomnode.engine.hosts import beat
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.web import health, server

Ask = Callable[..., Any]


def test_the_metrics_count_the_jobs_of_the_ledger(site: Any, ask: Ask) -> None:
    answer = ask(f"{site.health}/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    now = {(s.labels["state"], s.labels["held"]): s.value for s in families["sct_node_jobs_current"].samples}
    assert now["SYNTHESIZED", "yes"] == 1
    assert now["REJECTED", "no"] == 1
    waiting = {s.labels["destination"]: s.value for s in families["sct_node_delivery_waiting_seconds"].samples}
    assert set(waiting) == {"planning", "archive"}
    assert all(0 < age_s < 7200 for age_s in waiting.values())


def test_healthz_answers(site: Any, ask: Ask) -> None:
    assert ask(f"{site.health}/healthz").text == "ok\n"


def test_readyz_is_503_and_says_why_while_a_role_is_silent(site: Any, ask: Ask) -> None:
    answer = ask(f"{site.health}/readyz")
    told = json.loads(answer.text)
    assert (answer.status, told["ready"]) == (503, False)
    assert set(told["checks"]) == {"ledger", "disk", *health.ROLES}


def test_a_disk_below_its_reserve_is_not_ready(site: Any, ask: Ask) -> None:
    config = replace(site.config, receive=Receive(disk_reserve_bytes=2**50))
    assert "receive.disk_reserve_bytes" in health.readiness(config, site.ledger, time.time())["disk"]


def test_a_ledger_that_cannot_be_read_is_said_in_readyz_and_leaves_the_rest(
    tmp_path: Path, serving: Any, ask: Ask
) -> None:
    with serving(health.app(Config(node=Node(data=tmp_path / "never made")))) as url:
        assert json.loads(ask(f"{url}/readyz").text)["checks"]["ledger"] != "ok"
        assert [ask(f"{url}/{path}").status for path in ("healthz", "metrics")] == [200, 200]


def test_only_what_watchers_ask_is_there_and_nothing_can_be_sent(site: Any, ask: Ask) -> None:
    assert [ask(f"{site.health}/{path}").status for path in ("", "jobs", "style.css")] == [404, 404, 404]
    assert ask(f"{site.health}/metrics", "POST", b"x").status == 405


def test_the_last_ticks_decide_whether_a_role_is_there() -> None:
    checks = health.role_checks([("receive", 1.0), ("synthesize", 99.0), ("synthesize", 6.0), ("deliver", 101.0)])
    assert (checks["receive"], checks["synthesize"]) == ("ok", "ok")
    assert checks["deliver"] == "was last heard from 101 s ago"
    assert health.role_checks([])["receive"] == "was not heard from yet"


def test_on_postgresql_a_role_may_be_at_work_on_any_machine(postgresql_url: str, tmp_path: Path) -> None:
    config = Config(node=Node(data=tmp_path), database=postgresql_url, hosts=Hosts("here"))
    ledger = Ledger(database_url(config))
    ledger.create()
    with transaction(ledger.engine) as connection:
        beat(connection, "there/receive/0")
    checks = health.readiness(config, ledger, time.time())
    assert (checks["receive"], checks["deliver"]) == ("ok", "was not heard from yet")
    ledger.close()


def test_a_role_that_runs_alone_is_watched_and_two_of_one_machine_share_the_address(
    tmp_path: Path, free_port: Callable[[], int], ask: Ask
) -> None:
    ports = (free_port(), free_port(), free_port())
    config = Config(node=Node(data=tmp_path, port=ports[0]), metrics=Metrics(port=ports[1]), web=Web(port=ports[2]))
    (tmp_path / "node.yaml").write_text(dump(config))
    url = f"http://127.0.0.1:{config.metrics.port}"
    command = [sys.executable, "-m", "dicomnode.cli.main"]
    with contextlib.ExitStack() as running:
        roles = [
            running.enter_context(subprocess.Popen([*command, role, "--config", str(tmp_path / "node.yaml")]))
            for role in ("receive", "deliver", "web")
        ]
        for role in roles:
            running.callback(role.kill)
        told = wait_for(lambda: checks_of(ask, url), lambda checks: checks["receive"] == checks["deliver"] == "ok")
        assert told["synthesize"] == "was not heard from yet"
        assert "sct_node" in ask(f"{url}/metrics").text
        roles[0].kill()
        roles[0].wait()
        wait_for(lambda: checks_of(ask, url), lambda checks: checks["deliver"] == "ok")
        assert ask(f"http://127.0.0.1:{config.web.port}/").status == 200
        assert [role.poll() for role in roles[1:]] == [None, None]


def checks_of(ask: Ask, url: str) -> dict[str, str]:
    """The checks of /readyz; none while nobody answers."""
    try:
        return dict(json.loads(ask(f"{url}/readyz").text)["checks"])
    except OSError:
        return dict.fromkeys(("receive", "deliver"), "nobody answers")


def wait_for(look: Callable[[], dict[str, str]], good: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """What is seen as soon as it is good, within a minute."""
    deadline = time.monotonic() + 60
    while not good(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


def test_an_address_that_is_not_this_machine_s_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    thread = server.run_beside(health.app(Config()), "192.0.2.1", 8081, stop)
    deadline = time.monotonic() + 30
    while "Metrics and health cannot be served" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()
    assert "Metrics and health cannot be served" in caplog.text
