"""The upper layer of an association that a peer asks for (PS3.8 9): PDU limits, reactor and state machine.

`LimitedAssociationSocket` limits the length of a PDU and the time that it may take (PS3.8 9.3). A PDU that is too long
is answered with A-ABORT (source 2, reason 6: invalid PDU parameter value); the connection of a peer that is too slow is
closed. The node neither reads nor stores what exceeds a limit.

`IdleAwareDUL` is the reactor (PS3.8 9.2). pynetdicom looks at each socket and queue a thousand times a second: 20 idle
associations took 38 % of a core. Here a reactor rests between two looks for 2 % of the silence so far, never shorter
than in pynetdicom and never longer than LONGEST_REST_S. A peer that sends is answered as quickly as before; one that
sends again after a silence waits 2 % of that silence longer.

`SafeStateMachine` and `SafeACSE` end an association on input for which pynetdicom raises an error (found by
`make fuzz`). In pynetdicom the thread dies, and the peer and the other threads wait; here the peer receives A-ABORT,
the connection is closed and the waiting threads wake.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from dicomnode import log, metrics
from dicomnode.dimse.association_pdu import TolerantDUL

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from dicomnode.config.sections import Receive

LONGEST_REQUEST: Final = 1_048_576
"""Bytes of an A-ASSOCIATE-RQ (PS3.8 9.3.2); 128 presentation contexts with 30 transfer syntaxes have about 130,000."""

LONGEST_PDU: Final = 67_108_864
"""Bytes of a P-DATA-TF PDU where `receive.max_pdu_bytes` is 0, which announces no limit (PS3.8 D.1.1)."""

SLACK: Final = 1024
"""Bytes by which a P-DATA-TF PDU may exceed the limit: some senders do not count the headers of its values."""

PIECE: Final = 262_144
"""Bytes that are read at once."""


class LimitedAssociationSocket(AssociationSocket):
    """The connection of an association that a peer asks for."""

    def __init__(self, association: Association, connection: socket.socket, limits: Receive) -> None:
        super().__init__(association, client_socket=connection)
        self._limits = limits
        self._opened_at = time.monotonic()

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next `nr_bytes` of a PDU; fewer when the peer has gone, none when the PDU is too long.

        Raises TimeoutError when the peer is too slow, OSError when the connection is broken.
        """
        assert self.socket is not None
        associated = self.assoc.requestor.primitive is not None
        data_limit = self._limits.max_pdu_bytes + SLACK if self._limits.max_pdu_bytes else LONGEST_PDU
        limit = data_limit if associated else LONGEST_REQUEST
        if nr_bytes > limit:
            metrics.LIMITS.labels(limit="pdu").inc()
            named = {"length": nr_bytes, "longest": limit, "address": self.assoc.requestor.address}
            log.event("pdu_too_long", level="warning", **named)
            self.send(abort_pdu(reason=0x06))
            return bytearray()
        idle_deadline = time.monotonic() + self._limits.idle_timeout_s
        deadline = idle_deadline if associated else self._opened_at + self._limits.request_timeout_s
        content = bytearray()
        try:
            while len(content) < nr_bytes:
                self.socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self.socket.recv(min(PIECE, nr_bytes - len(content)))
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

    def waits(self) -> bool:
        """Return whether the connection is open and no association has been requested."""
        return self.socket is not None and self.socket.fileno() >= 0 and self.assoc.requestor.primitive is None

    def hang_up(self) -> None:
        """End the connection from another thread; its reactor finds it closed."""
        if self.socket is not None:
            self.socket.shutdown(socket.SHUT_RDWR)


def abort_pdu(reason: int) -> bytes:
    """Return an A-ABORT PDU of the service provider, source 2, with a reason (PS3.8 9.3.8, table 9-26)."""
    abort = A_ABORT_RQ()
    abort.source, abort.reason_diagnostic = 0x02, reason
    return abort.encode()


SHORTEST_REST_S: Final = 0.001
LONGEST_REST_S: Final = 0.1


def rest_s(silence_s: float) -> float:
    """Return the seconds between two looks at a peer that has been silent for `silence_s`."""
    return min(LONGEST_REST_S, max(SHORTEST_REST_S, silence_s / 50))


class ElapsedTimer(Timer):
    """A timer of elapsed time (ARTIM of PS3.8 9.1.5, and idle); a step of the clock ends no association."""

    @property
    def remaining(self) -> float:
        """Return the seconds until the timeout; 1 if there is none."""
        if self.timeout is None or self._start_time is None:
            return 1 if self.timeout is None else self.timeout
        end = time.monotonic() if self._end_time is None else self._end_time
        return self.timeout - (end - self._start_time)

    def start(self) -> None:
        """Start from zero."""
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        """Stop the timer."""
        self._end_time = time.monotonic()


class IdleAwareDUL(TolerantDUL):
    """The reactor of an association that a peer asked for (PS3.8 9.2)."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.state_machine = SafeStateMachine(self)
        self._idle_timer = ElapsedTimer(association.network_timeout)
        self.artim_timer = ElapsedTimer(association.acse_timeout)
        self._heard_at = time.monotonic()

    @property
    def rest_s(self) -> float:
        """Return the seconds that may pass before the next look at the peer."""
        return rest_s(time.monotonic() - self._heard_at)

    def _is_transport_event(self) -> bool:
        """Look whether bytes have arrived, and set the time to rest when none have."""
        heard = super()._is_transport_event()
        if heard:
            self._heard_at = time.monotonic()
        self._run_loop_delay = self.rest_s
        return heard

    def _read_pdu_data(self) -> None:
        """Read the next PDU; bytes that arrive while the node waits for the end (Sta13) are discarded unread."""
        if self.state_machine.current_state != "Sta13" or self.socket is None or self.socket.socket is None:
            super()._read_pdu_data()
            return
        try:
            ended = not self.socket.socket.recv(65536)
        except OSError:
            ended = True
        if ended:
            self.event_queue.put("Evt17")  # transport connection closed (PS3.8 table 9-10)


class SafeStateMachine(StateMachine):
    """The state machine of the upper layer (PS3.8 9.2); an event that it cannot handle ends the connection."""

    def do_action(self, event: str) -> None:
        """Take the event's step of PS3.8 table 9-10, or abort, close the connection and inform the service user."""
        try:
            super().do_action(event)
        except Exception:  # malformed input can raise any error in pynetdicom
            association, stream = self.dul.assoc, self.dul.socket
            log.exception("pdu_not_understood", level="warning", address=association.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            if stream is not None and stream.socket is not None:
                with contextlib.suppress(OSError):
                    stream.send(abort_pdu(reason=0x00))
                stream.close()
            evt.trigger(association, evt.EVT_CONN_CLOSE, {"address": association.requestor.address})
            self.dul.to_user_queue.put(A_P_ABORT())
            self.current_state = "Sta1"
            self.dul.kill_dul()


class SafeACSE(ACSE):
    """Association control (PS3.8 7.1); a request that cannot be negotiated is aborted."""

    def _negotiate_as_acceptor(self) -> None:
        try:
            super()._negotiate_as_acceptor()
        except Exception:  # malformed input can raise any error in pynetdicom
            log.exception("negotiation_failed", level="warning", address=self.assoc.requestor.address)
            metrics.LIMITS.labels(limit="message").inc()
            self.send_abort(0x02)
            self.assoc.kill()
