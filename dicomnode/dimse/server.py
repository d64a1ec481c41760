"""TCP connections from peers: accepted, given their limits, always closed."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from pynetdicom import _config
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicomnode import metrics
from dicomnode.dimse.messages import Messages, ReceiveBuffer
from dicomnode.dimse.upper_layer import IdleAwareDUL, LimitedAssociationSocket, SafeACSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association

    from dicomnode.config.sections import Receive

_config.LOG_HANDLER_LEVEL = "none"
"""pynetdicom would describe each PDU and message in words that nobody hears, and stumble over malformed ones."""


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


class Accepted(RequestHandler):
    """Gives each connection an association with the node's own parts: stream, messages, reactor."""

    server: Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = Messages(association, self.server.limits, self.server.room)
        association.acse = SafeACSE(association)
        association.dul = IdleAwareDUL(association)
        stream = LimitedAssociationSocket(association, self.request, self.server.limits)
        association.set_socket(stream)
        self.server.waiting.add(stream)
        return association


class Waiting:
    """Connections that have not asked for an association yet; when they are too many, the oldest goes. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: list[weakref.ref[LimitedAssociationSocket]] = []
        self._lock = threading.Lock()

    def add(self, stream: LimitedAssociationSocket) -> None:
        """One more has come."""
        with self._lock:
            waiting = [one for known in self._streams if (one := known()) is not None and one.waits()]
            self._streams = [weakref.ref(one) for one in (*waiting, stream)]
            surplus = [*waiting, stream][: -self._most]
        for one in surplus:
            metrics.LIMITS.labels(limit="connections").inc()
            one.hang_up()


class Server(ThreadedAssociationServer):
    """A listening socket whose connections have limits."""

    request_queue_size = 128

    def __init__(self, *arguments: Any, limits: Receive, admits: Callable[[str], bool], **named: Any) -> None:
        self.limits = limits
        self._admits = admits
        self.room = ReceiveBuffer(limits.max_receiving_bytes)
        self.waiting = Waiting(limits.max_associations)
        super().__init__(*arguments, **named)
        self.RequestHandlerClass = Accepted

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with a limit for a peer that stops within a PDU."""
        accepted, address = super().get_request()
        connection = Connection.of(accepted)
        connection.settimeout(self.limits.idle_timeout_s)
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether a connection from this address is served; it is closed otherwise."""
        return self._admits(str(client_address[0]))

    def shutdown(self) -> None:
        """Stop accepting and close the listening socket."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()
