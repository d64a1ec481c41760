"""The TCP ports on which the node listens for associations: without TLS, with TLS (PS3.15 B.12), or both."""

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
    """The listening sockets of a receiver; they share its limits, and each accepts in a thread of its own."""

    def __init__(self, node: Node, receive: Receive, tls: Tls, admission: AssociationAdmission) -> None:
        self._node = node
        self._receive = receive
        self._tls = tls
        self._admission = admission
        self.plain: Server | None = None
        self.secured: Server | None = None

    def open(self, ae: AE, events: list[evt.EventHandlerType]) -> None:
        """Listen, and return at once. Raises PortTaken, and ConfigError when the TLS files cannot be used."""
        inwards = None if self._tls.port is None else Inwards(self._tls)
        if self._tls.plain:
            self.plain = self._listening(ae, events, "node.port", self._node.port, {})
        if self._tls.port is not None and inwards is not None:
            more = {
                "server_class": TlsServer,
                "inwards": inwards,
                "handshake_s": self._tls.handshake_s,
                "on_refusal": lambda address, why: self._admission.record_refusal("tls", "", address, why),
            }
            self.secured = self._listening(ae, events, "tls.port", self._tls.port, more)
            if self.plain is not None:
                self.secured.memory, self.secured.waiting = self.plain.memory, self.plain.waiting
        for server in self._open():
            threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        for server in self._open():
            server.shutdown()
        self.plain = self.secured = None

    def _open(self) -> list[Server]:
        return [server for server in (self.plain, self.secured) if server is not None]

    def _listening(
        self, ae: AE, events: list[evt.EventHandlerType], key: str, port: int, more: dict[str, Any]
    ) -> Server:
        """Return a listening socket that does not accept connections yet; `key` names its port in the configuration."""
        address = (self._node.bind, port)
        named: dict[str, Any] = {"server_class": Server, "limits": self._receive, "admits": self._admission.admits}
        try:
            server = ae.make_server(address, evt_handlers=events, **named | more)
        except OSError as error:
            raise PortTaken(key, *address) from error
        assert isinstance(server, Server)
        return server


HANDSHAKES_AT_ONCE: Final = 128
"""TLS handshakes that may run at one time; each needs a thread and some milliseconds."""


class Handshakes:
    """TLS handshakes that are running; when they are too many, the oldest is ended. Thread-safe."""

    def __init__(self, limit: int = HANDSHAKES_AT_ONCE) -> None:
        self._limit = limit
        self._begun: OrderedDict[int, TlsConnection] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, secured: TlsConnection) -> None:
        """Add a handshake; `end` must follow, whatever its result."""
        with self._lock:
            self._begun[id(secured)] = secured
            surplus = self._begun.popitem(last=False)[1] if len(self._begun) > self._limit else None
            if surplus is not None:
                metrics.LIMITS.labels(limit="connections").inc()
                with contextlib.suppress(OSError):  # the TCP connection only: its thread is in the handshake
                    socket.socket.shutdown(surplus, socket.SHUT_RDWR)

    def end(self, secured: TlsConnection) -> None:
        """Remove a handshake that has ended; its connection may be closed only after this."""
        with self._lock:
            self._begun.pop(id(secured), None)


class TlsServer(Server):
    """A listening socket for associations over TLS."""

    daemon_threads = True

    def __init__(
        self,
        *arguments: Any,
        inwards: Inwards,
        handshake_s: float,
        on_refusal: Callable[[str, str], None],
        **named: Any,
    ) -> None:
        """Listen with the server contexts of `inwards`.

        Args:
            arguments: As for `Server`.
            inwards: The TLS context of the node, renewed when its files change.
            handshake_s: Seconds that a handshake may take.
            on_refusal: Called with address and reason of each handshake that fails.
            named: As for `Server`.
        """
        self._inwards = inwards
        self._handshake_s = handshake_s
        self._on_refusal = on_refusal
        self._handshakes = Handshakes()
        super().__init__(*arguments, **named)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make the TLS handshake, then begin the association. Runs in the connection's own thread."""
        timeout_s = request.gettimeout()
        secured: Any = None
        try:
            secured = self._inwards.context().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self._handshakes.begin(secured)
            try:
                shake_hands(secured, time.monotonic() + self._handshake_s)
            finally:
                self._handshakes.end(secured)
        except OSError as error:
            if secured is not None:
                secured.close()
            metrics.TLS_HANDSHAKES.labels(outcome="refused").inc()
            if not isinstance(error, ssl.SSLEOFError | ConnectionError):  # a probe that ends at once is no attack
                self._on_refusal(str(client_address[0]), reason(error))
            self.shutdown_request(request)
            return
        secured.settimeout(timeout_s)
        metrics.TLS_HANDSHAKES.labels(outcome="agreed").inc()
        super().finish_request(secured, client_address)

    def service_actions(self) -> None:
        """Look for changed TLS files; socketserver calls this about twice a second."""
        super().service_actions()
        self._inwards.look()


def shake_hands(secured: TlsConnection, deadline: float) -> None:
    """Complete the handshake (RFC 8446 4) before the deadline, however slowly the peer sends. Raises OSError."""
    poll = select.poll()
    secured.settimeout(0)
    while True:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0:
            raise TimeoutError(110, "the handshake took too long")
        try:
            secured.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            wanted = select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT
            poll.register(secured, wanted)
            poll.poll(1000 * wait_s)
        else:
            return
