"""The two HTTP servers of the node: the page, and metrics and health beside it or beside a role that runs alone.

uvicorn serves both. This file adds the limits that uvicorn does not have: the header of a request must be complete
within `HEADER_S`, and one address may hold at most `PER_ADDRESS` connections, so that slow callers cannot take all
connections.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicomnode import log
from dicomnode.errors import ConfigError
from dicomnode.security.tls import SUITES, Files

if TYPE_CHECKING:
    from dicomnode.config.sections import Web

HEADER_S: Final = 10.0
"""Longest time for the header of a request, from the connection or from its first byte."""

HEADER_BYTES: Final = 16_384
"""Longest header of a request."""

PER_ADDRESS: Final = 32
"""Most connections of one address; a browser opens 6."""

CONNECTIONS: Final = 200
"""Most connections of all addresses; a further one is closed at once."""

BIND_AGAIN_S: Final = 10.0
"""Time between two attempts to listen for health requests, while another process uses the address."""

RELOAD_S: Final = 5
"""Time between two checks whether the files of the certificate have changed."""

STOP_S: Final = 3
"""Time for answers in progress when the server stops."""


class LimitedH11Protocol(H11Protocol):
    """An HTTP/1.1 connection (RFC 9112) with a time limit for headers and a limit of connections per address."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Accept a connection, or close it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS or self.connections_of_address() > PER_ADDRESS:
            transport.abort()
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; the timer runs while a header is incomplete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start_timer()
        else:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of a closed connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def connections_of_address(self) -> int:
        """Count the connections of this caller's address; 0 for a proxy of `web.proxies`, which has many callers."""
        address = self.client[0] if self.client else ""
        proxies = [ipaddress.ip_network(one) for one in self.config.forwarded_allow_ips or ()]
        if address and any(ipaddress.ip_address(address) in network for network in proxies):
            return 0
        others = (one.client for one in self.connections if isinstance(one, LimitedH11Protocol))
        return sum(client is not None and client[0] == address for client in others)

    def _start_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_S, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class Certificate:
    """The certificate of the page and its TLS context: TLS 1.2 or later with the suites of PS3.15 B.12 (`tls.SUITES`).

    The files are loaded again when they change. Raises ConfigError for an invalid certificate, key or password.
    """

    def __init__(self, web: Web) -> None:
        self._files = Files("web", web.certificate, web.key, web.key_password, None, None)
        self._stamp = self._files.stamp()
        self.context = self._new_context()

    async def reload_if_changed(self) -> None:
        """Load changed files if they are valid; open connections keep the old certificate."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._new_context()
            self._files.load(self.context)
        except ConfigError as error:
            log.event("web_certificate_rejected", level="error", reason=str(error))
        else:
            log.event("web_certificate_reloaded")

    def _new_context(self) -> ssl.SSLContext:
        """Create a TLS context without renegotiation (RFC 9325 3.5) and load the files into it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(SUITES))
        context.options |= ssl.OP_NO_RENEGOTIATION
        self._files.load(context)
        return context


def server(
    app: ASGIApp, bind: str, port: int, proxies: Sequence[str] = (), certificate: Certificate | None = None
) -> uvicorn.Server:
    """Create a server of an application, not started. Only `proxies` may send X-Forwarded headers."""
    settings = uvicorn.Config(
        app,
        host=bind,
        port=port,
        http=LimitedH11Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        limit_concurrency=100,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=STOP_S,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        callback_notify=None if certificate is None else certificate.reload_if_changed,
        timeout_notify=RELOAD_S,
    )
    return uvicorn.Server(settings)


def run_beside(app: ASGIApp, bind: str, port: int, stop: threading.Event) -> threading.Thread:
    """Serve metrics and health in a thread until `stop`.

    If another process of this machine already serves them, wait until it ends: its answers are the same.
    """

    def serve_until_stop() -> None:
        while not stop.is_set():
            listener = listener_on(bind, port)
            if listener is not None:
                with listener:
                    served = server(app, bind, port)
                    threading.Thread(target=stop_server, args=(served, stop), name="health-end", daemon=True).start()
                    served.run(sockets=[listener])
            stop.wait(BIND_AGAIN_S)

    thread = threading.Thread(target=serve_until_stop, name="health", daemon=True)
    thread.start()
    return thread


def stop_server(served: uvicorn.Server, stop: threading.Event) -> None:
    """Wait for `stop`, then let a server that runs in another thread end."""
    stop.wait()
    served.should_exit = True


def listener_on(bind: str, port: int) -> socket.socket | None:
    """Return a socket bound to an address, or None, and log the reason, if it cannot be bound now."""
    listener = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bind, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            log.event("metrics_served_elsewhere", level="debug", port=port)
        else:
            log.event("metrics_not_served", level="error", bind=bind, port=port, reason=error.strerror)
        return None
    return listener
