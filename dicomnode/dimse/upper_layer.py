"""Bytes of PDUs from a peer, with limits: how long a PDU may be and how long it may take (PS3.8 9.1.4 and 9.3).

What breaks a limit ends the connection: an A-ABORT is sent (source 2, reason 6: invalid PDU parameter value) for a PDU
that is too long, the connection is closed on a peer that is too slow. Neither is waited for, nor given any memory.

The upper layer's reactor of one association (PS3.8 9.2): timers that no change of the clock moves, rest in silence.

pynetdicom asks each association's socket and queues a thousand times a second, twice: 20 idle associations took 38 % of
a core. Here a reactor rests between two looks for 2 % of the silence so far, never shorter than pynetdicom nor longer
than LONGEST_REST_S. A peer that talks is answered as quickly as ever; one that begins again waits 2 % longer.

An association that breaks off where a peer's nonsense makes pynetdicom raise; found by `make fuzz`.

pynetdicom's threads die of what they cannot understand, and leave the peer, its connection and each other waiting. Here
the peer hears A-ABORT, the connection is closed and whoever waits is told.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from dicomnode import log, metrics

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from dicomnode.config.sections import Receive

LONGEST_REQUEST: Final = 1_048_576
"""Bytes of an A-ASSOCIATE-RQ: one of 128 presentation contexts with 30 transfer syntaxes each has about 130,000."""

LONGEST_PDU: Final = 67_108_864
"""Bytes of a P-DATA-TF PDU where `receive.max_pdu_bytes` is 0, no limit."""

SLACK: Final = 1024
"""Bytes by which a P-DATA-TF PDU may pass the limit: some senders count it without the headers of its values."""

PIECE: Final = 262_144
"""Bytes read at once."""


class LimitedAssociationSocket(AssociationSocket):
    """The connection of an association that a peer asks for."""

    def __init__(self, association: Association, connection: socket.socket, limits: Receive) -> None:
        super().__init__(association, client_socket=connection)
        self._limits = limits
        self._opened_at = time.monotonic()

    def recv(self, nr_bytes: int) -> bytearray:
        """The next bytes of a PDU: `nr_bytes`, or fewer when the peer has gone or the PDU is too long.

        Raises TimeoutError when the peer is too slow, OSError when the connection is broken.
        """
        if nr_bytes > self._longest():
            self._refuse(nr_bytes)
            return bytearray()
        return self._read(nr_bytes, self._deadline())

    def waits(self) -> bool:
        """Whether the connection is open and no association has been asked for."""
        return self.socket is not None and self.socket.fileno() >= 0 and not self._associated()

    def hang_up(self) -> None:
        """End the connection from another thread: its reactor finds it closed."""
        if self.socket is not None:
            self.socket.shutdown(socket.SHUT_RDWR)

    def _associated(self) -> bool:
        """Whether the peer has asked for an association."""
        return self.assoc.requestor.primitive is not None

    def _longest(self) -> int:
        """Bytes that a PDU may have now."""
        if not self._associated():
            return LONGEST_REQUEST
        return self._limits.max_pdu_bytes + SLACK if self._limits.max_pdu_bytes else LONGEST_PDU

    def _deadline(self) -> float:
        """When this part of the PDU must be here, of the monotonic clock."""
        if self._associated():
            return time.monotonic() + self._limits.idle_timeout_s
        return self._opened_at + self._limits.request_timeout_s

    def _read(self, wanted: int, deadline: float) -> bytearray:
        """As many bytes as wanted; fewer when the peer has gone."""
        assert self.socket is not None
        content = bytearray()
        try:
            while len(content) < wanted:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self.socket.recv(min(PIECE, wanted - len(content)))
                if not piece:
                    break
                content += piece
        except TimeoutError:
            metrics.LIMITS.labels(limit="slow").inc()
            log.event("peer_too_slow", level="warning", address=self.assoc.requestor.address)
            raise
        finally:
            self.socket.settimeout(self._limits.idle_timeout_s)
        return content

    def _refuse(self, length: int) -> None:
        """Tell the peer that its PDU is too long, and read no more from it."""
        metrics.LIMITS.labels(limit="pdu").inc()
        told = {"length": length, "longest": self._longest(), "address": self.assoc.requestor.address}
        log.event("pdu_too_long", level="warning", **told)
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x06
        self.send(abort.encode())


SHORTEST_REST_S: Final = 0.001
LONGEST_REST_S: Final = 0.1


def rest_s(silence_s: float) -> float:
    """Seconds between two looks at a peer that has been silent for so long."""
    return min(LONGEST_REST_S, max(SHORTEST_REST_S, 0.02 * silence_s))


class ElapsedTimer(Timer):
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


class IdleAwareDUL(DULServiceProvider):
    """The reactor of an association that a peer asks for."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.state_machine = SafeStateMachine(self)
        self._idle_timer = ElapsedTimer(association.network_timeout)
        self.artim_timer = ElapsedTimer(association.acse_timeout)
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


class SafeStateMachine(StateMachine):
    """The upper layer's state machine (PS3.8 9.2); an event or a PDU for which it has no answer ends the connection."""

    def do_action(self, event: str) -> None:
        """Take the event's step of PS3.8 table 9-10."""
        try:
            super().do_action(event)
        except Exception:  # pynetdicom raises whatever the garbage leads it into
            log.exception("pdu_not_understood", level="warning", address=self.dul.assoc.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            self._break_off()

    def _break_off(self) -> None:
        """A-ABORT (source 2, reason 0) to the peer, no connection any more, and the service user knows."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00
        association, stream = self.dul.assoc, self.dul.socket
        if stream is not None and stream.socket is not None:
            with contextlib.suppress(OSError):
                stream.send(abort.encode())
            stream.close()
        evt.trigger(association, evt.EVT_CONN_CLOSE, {"address": association.requestor.address})
        self.dul.to_user_queue.put(A_P_ABORT())
        self.current_state = "Sta1"
        self.dul.kill_dul()


class SafeACSE(ACSE):
    """Association control; a request that cannot be negotiated is aborted."""

    def _negotiate_as_acceptor(self) -> None:
        try:
            super()._negotiate_as_acceptor()
        except Exception:  # pynetdicom raises whatever the garbage leads it into
            log.exception("negotiation_failed", level="warning", address=self.assoc.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            self.send_abort(0x02)
            self.assoc.kill()
