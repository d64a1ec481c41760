"""Bytes of PDUs from a peer, with limits: how long a PDU may be and how long it may take (PS3.8 9.1.4 and 9.3).

What breaks a limit ends the connection: an A-ABORT is sent (source 2, reason 6: invalid PDU parameter value) for a PDU
that is too long, the connection is closed on a peer that is too slow. Neither is waited for, nor given any memory.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from pynetdicom.pdu import A_ABORT_RQ
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


class Stream(AssociationSocket):
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
            log.event("peer too slow, connection closed", level="warning", address=self.assoc.requestor.address)
            raise
        finally:
            self.socket.settimeout(self._limits.idle_timeout_s)
        return content

    def _refuse(self, length: int) -> None:
        """Tell the peer that its PDU is too long, and read no more from it."""
        metrics.LIMITS.labels(limit="pdu").inc()
        told = {"length": length, "longest": self._longest(), "address": self.assoc.requestor.address}
        log.event("PDU too long, connection closed", level="warning", **told)
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x06
        self.send(abort.encode())
