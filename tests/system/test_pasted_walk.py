"""README's walk, pasted into a shell at a terminal (a pty) as it is printed.

The shell has a network of its own where the kernel allows it (Linux namespaces), since README names fixed ports.
"""

import contextlib
import ctypes
import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import load as config
from dicomnode.errors import LedgerUnreachable
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.states import State
from dicomnode.security.users import Role, Users
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh

WAIT_S = 420.0
REASON = "outline and bone lie where the MR has them"
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def walk() -> tuple[str, str]:
    """The block of README's section `A walk` without its indentation, and the line that ends what it started."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    section = readme.split("\n## A walk")[1].split("\n## ")[0]
    [block] = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    [end] = re.findall(r"`(kill [^`]*)` ends the walk", section)
    return re.sub(r"^    ", "", block, flags=re.MULTILINE), f"{end}\n"


def enter_terminal() -> None:
    """In the child: make standard input the controlling terminal, and leave the network of the other tests."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


@dataclass
class Shell:
    """An interactive bash at a terminal: what is pasted goes in at once, what it prints is kept."""

    folder: Path
    printed: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.terminal, inside = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-i"],
            cwd=self.folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=enter_terminal,
        )
        os.close(inside)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while read := os.read(self.terminal, 4096):
                self.printed += read
        except OSError:  # a pty whose other end is closed answers EIO
            return

    def paste(self, text: str) -> None:
        """Put a text into the terminal's input, all at once."""
        os.write(self.terminal, text.encode())

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait until `true()` holds and return it; fail with what the shell printed."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(LedgerUnreachable):
                if found := true():
                    return found
            time.sleep(0.2)
        pytest.fail(f"not within {WAIT_S:.0f} s: {what}\n{self.printed.decode(errors='replace')[-4000:]}")

    def others(self) -> list[int]:
        """The processes of the terminal's session but for the shell."""
        found = subprocess.run(["ps", "-o", "pid=", "-s", str(self.process.pid)], capture_output=True, text=True)
        return [pid for pid in map(int, found.stdout.split()) if pid != self.process.pid]

    def end(self) -> None:
        """Kill whatever is left of the session."""
        for pid in [*self.others(), self.process.pid]:
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        self.process.wait(30)
        os.close(self.terminal)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell in a folder that looks as `make demo` leaves a checkout: a venv, and an MR series of a phantom."""
    if os.environ.get("SCT_TEST_INSTALLED"):
        (tmp_path / ".venv").symlink_to(sys.prefix)
    else:
        command = tmp_path / ".venv" / "bin" / "sct-node"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dicomnode.cli.main "$@"\n')
        command.chmod(0o755)
        python = Path(sys.executable).parent
        command.with_name("activate").write_text(f'PATH="{command.parent}:{python}:$PATH"\n')
    (tmp_path / "demo-out").mkdir()
    grid = axial_grid((16, 64, 64), (6.0, 3.0, 3.0))
    write_mr_series(thigh(grid).mr, tmp_path / "demo-out" / "20260101-120000" / "mr")
    monkeypatch.chdir(tmp_path)
    opened = Shell(tmp_path)
    yield opened
    opened.end()


@pytest.mark.timeout(900)
def test_the_walk_that_readme_shows_can_be_pasted_and_delivers_the_case(shell: Shell) -> None:
    start, end = walk()
    shell.paste(start)
    shell.until((shell.folder / "walk" / "node.sqlite").exists, "the node makes its database")
    ledger = Ledger(database_url(config.load(shell.folder / "walk.yaml")))
    [job] = shell.until(lambda: [one for one in ledger.jobs() if one.held], "the case is held")
    assert not list((shell.folder / "planning").glob("*")), "nothing is sent before somebody has looked"
    [jane] = Users(shell.folder / "walk" / "users.json").all().values()
    assert (jane.name, jane.role) == ("jane", Role.PHYSICIST)

    shell.paste(f"sct-node release {job.job} --reason '{REASON}' --config walk.yaml\n")
    shell.until(lambda: ledger.job(job.job).state is State.DELIVERED, "the case is delivered")
    assert len(list((shell.folder / "planning").iterdir())) == ledger.job(job.job).ct_instances
    ledger.close()

    shell.paste(end)
    shell.until(lambda: not shell.others(), "the walk ends what it started")
