"""What hangs is found and ended, so that the supervisor starts it anew.

    what hangs                              who notices             then
    an attempt at a job, for longer than    the worker itself, at   the attempt has failed: tried again, and held
    `synthesize.timeout_s`                  its next tick           after `synthesize.tries`; the worker ends
    a whole process: it ticks no more for   the supervisor          SIGKILL; the engine has its work done again, a
    `node.hang_timeout_s`                                           few times, then the job is held (PROCESS_DIED)

Only elapsed time counts, never the time of day.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dicomnode.errors import RoleTaken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicomnode.config.load import Config

Work = TypeVar("Work")


class CurrentAttempt(Generic[Work]):
    """What a worker is at, and since when."""

    def __init__(self) -> None:
        self._now: tuple[Work, float] | None = None

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """It is at this until the context ends."""
        self._now = (work, time.monotonic())
        try:
            yield
        finally:
            self._now = None

    def longer_than(self, limit_s: float) -> Work | None:
        """What it has been at for longer than that, or None."""
        now = self._now
        return now[0] if now is not None and time.monotonic() - now[1] > limit_s else None


class Heartbeat:
    """Whether a process still touches its file, once it has begun to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._touched = self._last()
        self._felt_at: float | None = None

    def silent_s(self) -> float:
        """Seconds since the file was last seen touched; 0 until the process has touched it for the first time."""
        touched = self._last()
        if touched != self._touched:
            self._touched, self._felt_at = touched, time.monotonic()
        return 0.0 if self._felt_at is None else time.monotonic() - self._felt_at

    def _last(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0


ONLY_MACHINE: Final = "node"
"""What the machine is called on SQLite, whatever it calls itself today."""


def name_of(config: Config) -> str:
    """The name of this machine among those that share the database."""
    if config.database == "sqlite":
        return ONLY_MACHINE
    return config.hosts.name or socket.gethostname()


def metrics_folder(config: Config) -> Path:
    """Where the roles of this machine keep their metrics: a folder of its own where several share `node.data`."""
    folder = config.node.data / "metrics"
    return folder if config.database == "sqlite" else folder / name_of(config)


class Executor:
    """A stable name in the engine (host/role/n), and the lock that keeps it to one process.

    On SQLite there is one machine, whatever it calls itself today; on PostgreSQL the host's name is part of the id.
    Raises RoleTaken when another living process has it.
    """

    def __init__(self, config: Config, role: str, number: int) -> None:
        host = name_of(config)
        self.role = role
        self.id = f"{host}/{role}/{number}"
        self.path = lock_file(config, role, number)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _locked(self.path, self.id)

    def touch(self) -> None:
        """Show by the lock file's time that the process is alive: a probe needs no more than `find -newermt`."""
        os.utime(self._file)

    def close(self) -> None:
        """Let the name go."""
        os.close(self._file)


def lock_file(config: Config, role: str, number: int) -> Path:
    """Where the executor's lock lies; its time says when the process was last alive."""
    return config.node.data / "run" / f"{name_of(config)}-{role}-{number}.lock"


def touched(config: Config) -> list[tuple[str, float]]:
    """Role of every process that ever ran on this machine, and when (Unix time) it last touched its lock file."""
    found = []
    for path in (config.node.data / "run").glob(f"{name_of(config)}-*-*.lock"):
        role, number = path.stem.rsplit("-", 2)[-2:]
        if number.isdigit():
            found.append((role, path.stat().st_mtime))
    return found


def _locked(path: Path, name: str) -> int:
    """An open file descriptor with the exclusive lock; the kernel lets it go when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RoleTaken(f"{name} runs already on this data folder; stop it, or give this one another number") from error
    return descriptor
