"""What hangs: a synthesis that never ends, a process that ticks no more, a series that kills its process each time."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dicomnode.config.sections import Mail, Notify, Synthesize
from dicomnode.engine.contract import RECOVERY_ATTEMPTS
from dicomnode.engine.queues import open_queues, prepare
from dicomnode.ledger.notices import Notices
from dicomnode.ledger.states import State

if TYPE_CHECKING:
    from tests.support.node import Running

POISONED = """
import os, sys, time
from pathlib import Path
from dicomnode.engine import queues as engine
from dicomnode.ledger.ledger import Ledger
ledger, poison, done = Ledger(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
def attempt(job, number):
    if job == poison:
        os._exit(9)
    done.write_text(job)
engine.work_synthesize(ledger, "node/synthesize/0", attempt)
for _ in range(150):
    time.sleep(0.1)
    if done.exists() and len(sys.argv) == 4:
        os._exit(0)
"""
"""A worker that one job takes down."""


def test_a_synthesis_that_hangs_is_ended_and_the_next_attempt_delivers_what_it_should(
    node: Callable[..., "Running"], tiny_model: Path, thigh_series: list[Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (weights,) = model.glob("*.safetensors")
    content = weights.read_bytes()
    weights.unlink()
    os.mkfifo(weights)  # to open it waits for a writer that never comes
    running = node(model=str(model), synthesize=Synthesize(timeout_s=10.0))
    running.start()
    running.push(thigh_series)
    running.until(lambda: "synthesis_hangs" in running.log(), "the attempt is ended")
    weights.unlink()
    weights.write_bytes(content)
    row = running.job(State.SYNTHESIZED)
    words = [event.words for event in running.ledger.events(row.job) if event.event == "failed"]
    assert words
    assert all("longer than 10 s (synthesize.timeout_s)" in one for one in words)


def test_a_process_that_ticks_no_more_is_killed_and_started_again_and_people_are_told(
    node: Callable[..., "Running"], free_port: Callable[[], int]
) -> None:
    away = Mail("127.0.0.1", "node@hospital.example", ("physics@hospital.example",), free_port(), security="plain")
    running = node(notify=Notify(mail=away))
    patient = dataclasses.replace(running.config.node, hang_timeout_s=4.0)
    running.config = dataclasses.replace(running.config, node=patient)
    running.start()
    running.until(lambda: running.ticks("deliver") > 1, "deliver ticks")
    assert running.process is not None
    serve = running.process.pid
    stopped = _process_of(serve, "deliver")
    os.kill(stopped, signal.SIGSTOP)
    running.until(lambda: "role_killed" in running.log(), "the supervisor notices")
    running.until(lambda: _process_of(serve, "deliver") not in (0, stopped), "it is started again")
    told = Notices(running.ledger.engine)
    assert running.until(lambda: told.last(1), "people are to be told")[0].code == "ROLE_HANGS"


def test_a_series_that_kills_its_process_each_time_is_given_up_and_the_next_one_has_its_turn(
    node: Callable[..., "Running"], tmp_path: Path
) -> None:
    running = node()
    script, done = tmp_path / "worker.py", tmp_path / "done"
    script.write_text(POISONED)
    running.ledger.create()
    prepare(running.ledger)
    queues = open_queues(running.ledger)
    for job in ("poison", "harmless"):
        with running.ledger.engine.begin() as connection:
            queues.synthesize(job, 1)(connection)
    url = running.ledger.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, str(script), url, "poison", str(done)]
    deaths = 0
    for _ in range(8):
        ended = subprocess.run(command, timeout=100, capture_output=True, check=False)
        deaths += ended.returncode == 9
        if done.exists():
            break
    assert done.read_text() == "harmless"
    assert deaths == RECOVERY_ATTEMPTS + 1
    assert queues.endings(["synthesize:poison:1"]) == {"synthesize:poison:1": "died"}


def _process_of(serve: int, role: str) -> int:
    """The process of a role, 0 while there is none."""
    for child in Path(f"/proc/{serve}/task/{serve}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if role in words:
            return int(child)
    return 0
