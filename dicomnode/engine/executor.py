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
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Work = TypeVar("Work")


class AtWork(Generic[Work]):
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


class Pulse:
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
