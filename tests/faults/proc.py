"""What /proc tells of a process: whether it lives, its children, and what it holds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_STATE, _USER_TIME, _SYSTEM_TIME, _THREADS, _RESIDENT_PAGES = 0, 11, 12, 17, 21
"""Fields of /proc/PID/stat, counted from the state."""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on. Raises FileNotFoundError, ProcessLookupError when it has gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def lives(pid: int) -> bool:
    """Whether the process is there: no zombie, or one with threads that still end and hold its locks."""
    try:
        fields = _stat(pid)
        return fields[_STATE] != "Z" or int(fields[_THREADS]) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_end(pid: int, limit_s: float = 30.0) -> None:
    """Wait until a process has gone. Raises TimeoutError."""
    deadline = time.monotonic() + limit_s
    while lives(pid):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    """Process ids of its children that live."""
    try:
        said = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in map(int, " ".join(said).split()) if lives(child)]


def command(pid: int) -> list[str]:
    """Its command line, empty when it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True)
class Holding:
    """What a process holds at a moment, and the processor time that it has used so far."""

    resident_bytes: int
    threads: int
    descriptors: int
    sockets: int
    cpu_s: float


def holding(pid: int) -> Holding:
    """What it holds now. Raises FileNotFoundError or ProcessLookupError when it has gone."""
    fields = _stat(pid)
    links = [_link(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return Holding(
        resident_bytes=int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
        threads=int(fields[_THREADS]),
        descriptors=len(links),
        sockets=sum(link.startswith("socket:") for link in links),
        cpu_s=(int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_PER_S,
    )


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""
