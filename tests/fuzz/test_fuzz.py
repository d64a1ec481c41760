"""A slice of `make fuzz`: a running node stands malformed PDUs and DIMSE messages."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ATTACK = Path(__file__).with_name("attack.py")


def test_a_running_node_stands_malformed_pdus_and_messages(tmp_path: Path, program: Callable[[str], str]) -> None:
    program("storescu")
    command = [sys.executable, str(ATTACK), str(tmp_path), "--count", os.environ.get("SCT_ATTACKS", "200")]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ATTACK.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "nothing was wrong"
