"""The upper layer's reactor of one association (PS3.8 9.2), with timers that no change of the clock can move."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer

if TYPE_CHECKING:
    from pynetdicom.association import Association


class Stopwatch(Timer):
    """A timer of elapsed time, not of the time of day: an NTP step of an hour ends no association."""

    @property
    def remaining(self) -> float:
        """Seconds until the timeout; 1 if there is none."""
        if self.timeout is None or self._start_time is None:
            return 1 if self.timeout is None else self.timeout
        end = time.monotonic() if self._end_time is None else self._end_time
        return self.timeout - (end - self._start_time)

    def start(self) -> None:
        """Run, from zero."""
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        """Run no longer."""
        self._end_time = time.monotonic()


class Reactor(DULServiceProvider):
    """The reactor of an association that a peer asks for."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._idle_timer = Stopwatch(association.network_timeout)
        self.artim_timer = Stopwatch(association.acse_timeout)
