"""A node's processes, killed and started again: by its own supervisor, or each role alone.

Served    `sct-node serve`: the supervisor starts what was killed; when it is killed itself, we start it again
Forked    every role alone, as on hosts of their own; we are the supervisor, and a start costs little (zygote.py)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

import proc

from dicomnode.node.roles import ROLES


class Fleet(Protocol):
    """The processes of a node; `killed` counts the SIGKILLs that a living process got, by role."""

    killed: Counter[str]

    def start(self) -> None:
        """Start all."""

    def processes(self) -> dict[str, int]:
        """Role -> process id, of those that live."""

    def kill(self, roles: tuple[str, ...], pause_s: float) -> bool:
        """SIGKILL to the processes of these roles at one moment; what starts them again waits for `pause_s`.

        -> whether any of them lived.
        """

    def mend(self) -> None:
        """Start what does not run and has nobody else to start it; called often."""

    def log(self, role: str) -> Path:
        """The file of what the role says."""

    def end(self) -> None:
        """Nothing is left."""


class Zygote:
    """A process that forks roles of any node (zygote.py); its end is theirs. `environment` is added to ours."""

    def __init__(self, **environment: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
        ours = os.environ | environment
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ours)

    def start(self, role: str, config: Path, log: Path) -> int:
        """Start a role; -> its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = {"role": role, "number": 0, "config": str(config), "log": str(log)}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """All it forked die with it."""
        self._process.kill()
        self._process.communicate()


class Forked:
    """Roles as separate processes; one that ended is started again by `mend`."""

    def __init__(self, zygote: Zygote, config: Path, folder: Path) -> None:
        self.killed: Counter[str] = Counter()
        self._zygote = zygote
        self._config = config
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def start(self) -> None:
        """Start all roles."""
        for role in ROLES:
            self._start(role)

    def _start(self, role: str) -> None:
        self._pids[role] = self._zygote.start(role, self._config, self.log(role))

    def processes(self) -> dict[str, int]:
        """Role -> process id, of those that live."""
        return {role: pid for role, pid in self._pids.items() if proc.lives(pid)}

    def kill(self, roles: tuple[str, ...], pause_s: float) -> bool:
        """SIGKILL to roles."""
        struck = _struck(self.processes(), roles, self.killed)
        for role, pid in struck.items():
            proc.await_end(pid)
            self._due[role] = time.monotonic() + pause_s
        return bool(struck)

    def mend(self) -> None:
        """Start the roles that do not run, when their pause is over."""
        for role, pid in self._pids.items():
            if time.monotonic() >= self._due.get(role, 0.0) and not proc.lives(pid):
                self._start(role)

    def log(self, role: str) -> Path:
        """What the role says."""
        return self._folder / f"{role}.log"

    def end(self) -> None:
        """Kill all, uncounted."""
        for pid in _struck(self.processes(), ROLES, Counter()).values():
            proc.await_end(pid)


class Served:
    """`sct-node serve` as a site runs it."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.killed: Counter[str] = Counter()
        self._config = config
        self._folder = folder
        self._serve: subprocess.Popen[bytes] | None = None
        self._due = 0.0

    def start(self) -> None:
        """Start the supervisor, which starts the rest."""
        command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(self._config)]
        with self.log("serve").open("ab") as log:
            self._serve = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def processes(self) -> dict[str, int]:
        """Role -> process id, of those that live."""
        if self._serve is None or self._serve.poll() is not None:
            return {}
        named = {(proc.command(pid) + [""] * 4)[3]: pid for pid in proc.children(self._serve.pid)}
        return {"serve": self._serve.pid, **{role: pid for role, pid in named.items() if role in ROLES}}

    def kill(self, roles: tuple[str, ...], pause_s: float) -> bool:
        """SIGKILL to roles, `serve` among them."""
        struck = _struck(self.processes(), roles, self.killed)
        if "serve" in struck and self._serve is not None:
            self._serve.wait()
            self._due = time.monotonic() + pause_s
        return bool(struck)

    def mend(self) -> None:
        """Start the supervisor again."""
        if self._serve is not None and self._serve.poll() is not None and time.monotonic() >= self._due:
            self.start()

    def log(self, role: str) -> Path:
        """What all say, whatever the role: they write where the supervisor does."""
        assert role in ("serve", *ROLES)
        return self._folder / "serve.log"

    def end(self) -> None:
        """Kill the session, orphans of a killed supervisor included."""
        if self._serve is None:
            return
        pids = self.processes().values()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._serve.pid, signal.SIGKILL)
        self._serve.wait()
        for pid in pids:
            proc.await_end(pid)


def _struck(living: dict[str, int], roles: tuple[str, ...], killed: Counter[str]) -> dict[str, int]:
    """Send SIGKILL to those of the roles that live; -> role -> process id."""
    struck = {role: living[role] for role in roles if role in living}
    for role, pid in struck.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[role] += 1
    return struck
