"""Starts roles of a node by forking a process that has done their imports: what a killed role costs is its start.

    python zygote.py        reads one JSON object a line, {"role", "number", "config", "log"}, and answers with a pid

A role is `dicomnode.node.roles.run_role` in a process of its own, as `sct-node ROLE` runs it; only the seconds of
importing torch, pydicom and the rest are spent once. The fork comes before any thread. All roles die with this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

from dicomnode.commitment import scp
from dicomnode.config import load
from dicomnode.delivery import attempt
from dicomnode.node import roles
from dicomnode.reception import intake, storage_scp
from dicomnode.synthesis import attempt as conversion
from dicomnode.web import app

_PR_SET_PDEATHSIG: Final = 1
IMPORTED: Final = (attempt, scp, conversion, intake, storage_scp, app)
"""What the roles import when they start."""


def main() -> int:
    """Serve until standard input is closed."""
    assert threading.active_count() == 1, "a fork copies one thread only"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(wanted)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    return 0


def _become(wanted: dict[str, Any]) -> None:
    """Run a role in this process, its words in a file; does not return."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    try:
        roles.run_role(wanted["role"], load.load(Path(wanted["config"])), wanted["number"])
    finally:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main())
