"""`sct-node ready`: it waits for a node of real processes."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from dicomnode.cli.main import main


def receiver_of(running: Any) -> int:
    """The process id of a node's receiver."""
    events = [json.loads(line) for line in running.log().splitlines() if '"role_started"' in line]
    return int(next(one["pid"] for one in events if one["role"] == "receive"))


@pytest.mark.timeout(600)
def test_a_node_is_ready_once_its_receiver_answers_and_its_page_listens(
    node: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    running = node()
    ask = ("ready", "--config", str(running.folder / "node.yaml"), "--timeout")
    running.start()
    assert main([*ask, "300"]) == 0
    port = running.config.node.port
    assert capsys.readouterr().out.startswith(f"ready: {running.config.node.ae_title} answers on port {port}")

    receiver = receiver_of(running)
    os.kill(receiver, signal.SIGSTOP)
    assert main([*ask, "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("sct-node: the node is not ready after 0 s: the receiver (")
    assert "gave no answer to the association request" in said
    os.kill(receiver, signal.SIGCONT)

    running.kill()
    assert main([*ask, "0.5"]) == 1
    said = capsys.readouterr().err
    assert f"not ready after 0.5 s: /readyz does not answer on port {running.config.metrics.port} (" in said
