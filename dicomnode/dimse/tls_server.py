"""The TCP ports on which DICOM is spoken: a plain one, one over TLS, or both."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from dicomnode import metrics
from dicomnode.dimse.server import Server
from dicomnode.errors import PortTaken
from dicomnode.security.tls import Inwards, TlsConnection, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom import AE, evt

    from dicomnode.config.peers import Tls
    from dicomnode.config.sections import Node, Receive
    from dicomnode.dimse.admission import AssociationAdmission


class Ports:
    """The listening sockets of a receiver; all share its limits, and each accepts in a thread of its own."""

    def __init__(self, node: Node, receive: Receive, tls: Tls, door: AssociationAdmission) -> None:
        self._node = node
        self._receive = receive
        self._tls = tls
        self._door = door
        self.plain: Server | None = None
        self.secured: Server | None = None

    def open(self, ae: AE, events: list[evt.EventHandlerType]) -> None:
        """Listen; returns at once. Raises PortTaken, and ConfigError for TLS files that are no good."""
        inwards = None if self._tls.port is None else Inwards(self._tls)
        if self._tls.plain:
            self.plain = self._listening(ae, events, "node.port", self._node.port, {})
        if self._tls.port is not None and inwards is not None:
            more = {
                "server_class": TlsServer,
                "inwards": inwards,
                "handshake_s": self._tls.handshake_s,
                "refused": lambda address, why: self._door.turned_away("tls", "", address, why),
            }
            self.secured = self._listening(ae, events, "tls.port", self._tls.port, more)
            if self.plain is not None:
                self.secured.room, self.secured.waiting = self.plain.room, self.plain.waiting
        for server in self._open():
            threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        for server in self._open():
            server.shutdown()
        self.plain = self.secured = None

    def _open(self) -> list[Server]:
        return [server for server in (self.plain, self.secured) if server is not None]

    def _listening(
        self, ae: AE, events: list[evt.EventHandlerType], key: str, port: int, more: dict[str, Any]
    ) -> Server:
        """A listening socket that does not accept yet."""
        address = (self._node.bind, port)
        named: dict[str, Any] = {"server_class": Server, "limits": self._receive, "admits": self._door.admits}
        try:
            server = ae.make_server(address, evt_handlers=events, **named | more)
        except OSError as error:
            raise PortTaken(key, *address) from error
        assert isinstance(server, Server)
        return server


HANDSHAKES_AT_ONCE: Final = 128
"""Connections that may be agreeing on TLS at one time; each takes a thread, and some milliseconds."""


class Handshakes:
    """Connections that are agreeing on TLS; when they are too many, the oldest goes. Thread-safe."""

    def __init__(self, most: int = HANDSHAKES_AT_ONCE) -> None:
        self._most = most
        self._begun: OrderedDict[int, TlsConnection] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, secured: TlsConnection) -> None:
        """One more; it is taken out again by `end`, whatever becomes of it."""
        with self._lock:
            self._begun[id(secured)] = secured
            surplus = self._begun.popitem(last=False)[1] if len(self._begun) > self._most else None
            if surplus is not None:
                metrics.LIMITS.labels(limit="connections").inc()
                with contextlib.suppress(OSError):  # of the TCP connection alone: its thread is in the handshake
                    socket.socket.shutdown(surplus, socket.SHUT_RDWR)

    def end(self, secured: TlsConnection) -> None:
        """Agreed, or not; it may be closed only after this."""
        with self._lock:
            self._begun.pop(id(secured), None)


class TlsServer(Server):
    """A listening socket on which DICOM is spoken over TLS."""

    daemon_threads = True

    def __init__(
        self,
        *arguments: Any,
        inwards: Inwards,
        handshake_s: float,
        refused: Callable[[str, str], None],
        **named: Any,
    ) -> None:
        """`refused` is called with address and reason of each handshake that failed."""
        self._inwards = inwards
        self._handshake_s = handshake_s
        self._refused = refused
        self._handshakes = Handshakes()
        super().__init__(*arguments, **named)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Agree on TLS, then begin the association. Runs in the connection's own thread."""
        try:
            secured = self._agreed(request)
        except OSError as error:
            metrics.TLS_HANDSHAKES.labels(outcome="refused").inc()
            if not isinstance(error, ssl.SSLEOFError | ConnectionError):  # a probe that goes again is no attack
                self._refused(str(client_address[0]), reason(error))
            self.shutdown_request(request)
            return
        metrics.TLS_HANDSHAKES.labels(outcome="agreed").inc()
        super().finish_request(secured, client_address)

    def _agreed(self, plain: socket.socket) -> TlsConnection:
        """The connection, secured within the time it has; raises OSError, and closes it, when it is not."""
        timeout_s = plain.gettimeout()
        secured = self._inwards.context().wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        assert isinstance(secured, TlsConnection)
        self._handshakes.begin(secured)
        try:
            _shake_hands(secured, time.monotonic() + self._handshake_s)
        except OSError:
            self._handshakes.end(secured)
            secured.close()
            raise
        self._handshakes.end(secured)
        secured.settimeout(timeout_s)
        return secured

    def service_actions(self) -> None:
        """Called about twice a second."""
        super().service_actions()
        self._inwards.look()


def _shake_hands(secured: TlsConnection, deadline: float) -> None:
    """The handshake, whole before the deadline however slowly the peer sends. Raises OSError."""
    secured.settimeout(0)
    while True:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0:
            raise TimeoutError(110, "the handshake took too long")
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            _wait(secured, select.POLLIN, wait_s)
        except ssl.SSLWantWriteError:
            _wait(secured, select.POLLOUT, wait_s)
        else:
            return


def _wait(secured: TlsConnection, for_what: int, wait_s: float) -> None:
    """Wait until the peer has sent, or taken, something."""
    poll = select.poll()
    poll.register(secured, for_what)
    poll.poll(1000 * wait_s)
