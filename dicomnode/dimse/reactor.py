"""The upper layer's reactor of one association (PS3.8 9.2): timers that no change of the clock moves, rest in silence.

pynetdicom asks each association's socket and queues a thousand times a second, twice: 20 idle associations took 38 % of
a core. Here a reactor rests between two looks for 2 % of the silence so far, never shorter than pynetdicom nor longer
than LONGEST_REST_S. A peer that talks is answered as quickly as ever; one that begins again waits 2 % longer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer

from dicomnode.dimse.machine import Machine

if TYPE_CHECKING:
    from pynetdicom.association import Association


SHORTEST_REST_S: Final = 0.001
LONGEST_REST_S: Final = 0.1


def rest_s(silence_s: float) -> float:
    """Seconds between two looks at a peer that has been silent for so long."""
    return min(LONGEST_REST_S, max(SHORTEST_REST_S, 0.02 * silence_s))


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
        self.state_machine = Machine(self)
        self._idle_timer = Stopwatch(association.network_timeout)
        self.artim_timer = Stopwatch(association.acse_timeout)
        self._heard_at = time.monotonic()

    @property
    def rest_s(self) -> float:
        """Seconds that may pass before the next look."""
        return rest_s(time.monotonic() - self._heard_at)

    def _is_transport_event(self) -> bool:
        """Look whether something has come, and settle how long to rest when nothing has."""
        heard = super()._is_transport_event()
        if heard:
            self._heard_at = time.monotonic()
        self._run_loop_delay = self.rest_s
        return heard

    def _read_pdu_data(self) -> None:
        """Read the next PDU; what comes after the last word was said (Sta13) is thrown away as it is."""
        if self.state_machine.current_state != "Sta13" or self.socket is None or self.socket.socket is None:
            super()._read_pdu_data()
            return
        try:
            ended = not self.socket.socket.recv(65536)
        except OSError:
            ended = True
        if ended:
            self.event_queue.put("Evt17")
