"""TCP connections from peers (PS3.8 9.1): each is accepted, gets its limits, and is always closed."""

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
    import queue
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from dicomnode.config.sections import Receive

_config.LOG_HANDLER_LEVEL = "none"
"""pynetdicom would otherwise format each PDU and message for its log, and raise for malformed ones."""


class Connection(socket.socket):
    """A TCP connection that can always be closed, and sends small PDUs without delay.

    pynetdicom does not close a socket whose shutdown fails. It fails when the peer has reset the connection, as load
    balancers do, and file descriptors would be used up.
    """

    @classmethod
    def of(cls, plain: socket.socket) -> Self:
        """Return a connection that takes over the descriptor of a plain socket."""
        timeout_s = plain.gettimeout()
        connection = cls(plain.family, plain.type, plain.proto, plain.detach())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        return connection

    def shutdown(self, how: int) -> None:
        """Shut the connection down; do nothing when the peer has ended it."""
        with contextlib.suppress(OSError):
            super().shutdown(how)


class Accepted(RequestHandler):
    """Gives each connection an association with the node's own stream, messages, reactor and association control."""

    server: Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = Messages(association, self.server.limits, self.server.memory)
        association.acse = SafeACSE(association)
        association.dul = IdleAwareDUL(association)
        stream = LimitedAssociationSocket(association, self.request, self.server.limits)
        association.set_socket(stream)
        self.server.waiting.add(stream)
        return association


class Waiting:
    """Connections that have not requested an association; when they are too many, the oldest is closed. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._streams: list[weakref.ref[LimitedAssociationSocket]] = []
        self._lock = threading.Lock()

    def add(self, stream: LimitedAssociationSocket) -> None:
        """Add a new connection, and close those that are too many."""
        with self._lock:
            waiting = [one for known in self._streams if (one := known()) is not None and one.waits()]
            self._streams = [weakref.ref(one) for one in (*waiting, stream)]
            surplus = [*waiting, stream][: -self._limit]
        for one in surplus:
            metrics.LIMITS.labels(limit="connections").inc()
            one.hang_up()


class Server(ThreadedAssociationServer):
    """A listening socket whose connections have limits."""

    request_queue_size = 128

    def __init__(self, *arguments: Any, limits: Receive, admits: Callable[[str], bool], **named: Any) -> None:
        self.limits = limits
        self._admits = admits
        self.memory = ReceiveBuffer(limits.max_receiving_bytes)
        self.waiting = Waiting(limits.max_associations)
        super().__init__(*arguments, **named)
        self.RequestHandlerClass = Accepted

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with a time limit for a peer that stops in the middle of a PDU."""
        accepted, address = super().get_request()
        connection = Connection.of(accepted)
        connection.settimeout(self.limits.idle_timeout_s)
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Return whether a connection from this address is served; it is closed otherwise."""
        return self._admits(str(client_address[0]))

    def shutdown(self) -> None:
        """Stop accepting and close the listening socket."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def wake_waiting_thread(event: Event) -> None:
    """Wake the thread of a connection that closes before it requests an association (EVT_CONN_CLOSE).

    Probes of load balancers do so; pynetdicom would wait for the request until its timeout.
    """
    if event.assoc.requestor.primitive is None:
        waiting: queue.Queue[Any] = event.assoc.dul.to_user_queue
        waiting.put(None)
