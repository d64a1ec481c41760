"""TCP connections from peers: accepted, given their limits, always closed."""

from __future__ import annotations

import contextlib
import socket
import socketserver
from typing import Any, Self

from pynetdicom.transport import ThreadedAssociationServer


class Connection(socket.socket):
    """A TCP connection that can always be closed, and sends small PDUs without delay.

    pynetdicom does not close a socket whose shutdown fails, and it fails when the peer has reset the connection, as
    load balancers do: descriptors would pile up.
    """

    @classmethod
    def of(cls, plain: socket.socket) -> Self:
        """The same connection, taken over from a plain socket."""
        timeout_s = plain.gettimeout()
        connection = cls(plain.family, plain.type, plain.proto, plain.detach())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        return connection

    def shutdown(self, how: int) -> None:
        """Shut down what is still there."""
        with contextlib.suppress(OSError):
            super().shutdown(how)


class Server(ThreadedAssociationServer):
    """A listening socket whose connections cannot be silent for ever."""

    request_queue_size = 128
    idle_timeout_s = 60.0

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with a limit for a peer that stops within a PDU."""
        accepted, address = super().get_request()
        connection = Connection.of(accepted)
        connection.settimeout(self.idle_timeout_s)
        return connection, address

    def shutdown(self) -> None:
        """Stop accepting and close the listening socket."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()
