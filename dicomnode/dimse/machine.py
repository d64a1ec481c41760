"""An association that breaks off where a peer's nonsense makes pynetdicom raise; found by `make fuzz`.

pynetdicom's threads die of what they cannot understand, and leave the peer, its connection and each other waiting. Here
the peer hears A-ABORT, the connection is closed and whoever waits is told.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT

from dicomnode import log, metrics

if TYPE_CHECKING:
    from pynetdicom.association import Association


class Machine(StateMachine):
    """The upper layer's state machine (PS3.8 9.2); an event or a PDU for which it has no answer ends the connection."""

    def do_action(self, event: str) -> None:
        """Take the event's step of PS3.8 table 9-10."""
        try:
            super().do_action(event)
        except Exception:  # pynetdicom raises whatever the garbage leads it into
            log.LOGGER.warning("a PDU ends its connection", exc_info=True, extra=_whose(self.dul.assoc))
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


class Negotiation(ACSE):
    """Association control; a request that cannot be negotiated is aborted."""

    def _negotiate_as_acceptor(self) -> None:
        try:
            super()._negotiate_as_acceptor()
        except Exception:  # pynetdicom raises whatever the garbage leads it into
            log.LOGGER.warning("a request cannot be negotiated", exc_info=True, extra=_whose(self.assoc))
            self.send_abort(0x02)
            self.assoc.kill()


def _whose(association: Association) -> dict[str, object]:
    """Count what ends an association; the fields of its line in the log."""
    metrics.LIMITS.labels(limit="message").inc()
    return log.fields(address=association.requestor.address)
