"""A process of a role: its stable name in the engine, its lock, and how it is noticed that it hangs.

    what hangs                              who notices             then
    an attempt at a job, for longer than    the worker itself, at   the attempt has failed: tried again, and held
    `synthesize.timeout_s`                  its next tick           after `synthesize.tries`; the worker ends
    a whole process: it ticks no more for   the supervisor          SIGKILL; the engine has its work done again, a
    `node.hang_timeout_s`                                           few times, then the job is held (PROCESS_DIED)

The supervisor starts again what has ended. Only elapsed time counts, never the time of day.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dicomnode.errors import RoleTaken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicomnode.config.load import Config

Work = TypeVar("Work")


class CurrentAttempt(Generic[Work]):
    """Knows what a worker does now, and since when."""

    def __init__(self) -> None:
        self._now: tuple[Work, float] | None = None

    @contextlib.contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Note that the worker does this until the context ends."""
        self._now = (work, time.monotonic())
        try:
            yield
        finally:
            self._now = None

    def longer_than(self, limit_s: float) -> Work | None:
        """Return what the worker has been doing for longer than that, or None."""
        now = self._now
        return now[0] if now is not None and time.monotonic() - now[1] > limit_s else None


class Heartbeat:
    """Watches whether a process still touches its file, once it has begun to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._touched = self._last()
        self._felt_at: float | None = None

    def silent_s(self) -> float:
        """Return the seconds since the file was last seen touched; 0 before the process has touched it at all."""
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
"""Name of the machine on SQLite, whatever its host name is today."""


def name_of(config: Config) -> str:
    """Return the name of this machine among those that share the database."""
    if config.database == "sqlite":
        return ONLY_MACHINE
    return config.hosts.name or socket.gethostname()


def metrics_folder(config: Config) -> Path:
    """Return where the roles of this machine keep their metrics: its own folder where several share `node.data`."""
    folder = config.node.data / "metrics"
    return folder if config.database == "sqlite" else folder / name_of(config)


class Executor:
    """A stable name in the engine (host/role/n), with the lock that keeps it to one process.

    On SQLite there is one machine with a fixed name; on PostgreSQL the host's name is part of the id. Raises RoleTaken
    when another living process has it.
    """

    def __init__(self, config: Config, role: str, number: int) -> None:
        self.role = role
        self.id = f"{name_of(config)}/{role}/{number}"
        self.path = lock_file(config, role, number)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets it go when the process ends
        except BlockingIOError as error:
            os.close(self._file)
            raise RoleTaken(
                f"{self.id} runs already on this data folder; stop it, or give this one another number"
            ) from error

    def touch(self) -> None:
        """Show by the lock file's time that the process is alive: a probe needs no more than `find -newermt`."""
        os.utime(self._file)

    def close(self) -> None:
        """Release the executor's lock."""
        os.close(self._file)


def lock_file(config: Config, role: str, number: int) -> Path:
    """Return the path of an executor's lock; its time says when the process was last alive."""
    return config.node.data / "run" / f"{name_of(config)}-{role}-{number}.lock"


def touched(config: Config) -> list[tuple[str, float]]:
    """Return role and last sign of life (Unix time) of every process that ever ran on this machine."""
    found = []
    for path in (config.node.data / "run").glob(f"{name_of(config)}-*-*.lock"):
        role, number = path.stem.rsplit("-", 2)[-2:]
        if number.isdigit():
            found.append((role, path.stat().st_mtime))
    return found
