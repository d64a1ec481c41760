"""The node's two HTTP servers: the page, and beside it (or beside a role that runs alone) what watchers ask.

uvicorn serves both. What it leaves open is closed here: a caller must finish its request's header within `HEADER_S`,
and one address holds no more than `PER_ADDRESS` connections, so that slow callers take no others' place.
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
"""Time for a request's header to come, from the connection or from its first byte."""

HEADER_BYTES: Final = 16_384

PER_ADDRESS: Final = 32
"""Connections of one address; a browser opens 6."""

CONNECTIONS: Final = 200
"""Connections in all; those beyond are closed unheard."""

ANOTHER_S: Final = 10.0
"""How often it is asked whether the address of the health is free, while another process has it."""

LOOK_S: Final = 5
"""How often the files of the certificate are looked at."""

STOP_S: Final = 3
"""What answers that are under way get when the server ends."""


class LimitedH11Protocol(H11Protocol):
    """A connection that must say what it wants in time, one of few of its address."""

    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS or self._of_this_address() > PER_ADDRESS:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Time runs while a header is incomplete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _of_this_address(self) -> int:
        """Connections from where this one comes; a proxy of the configuration brings those of many."""
        address = self.client[0] if self.client else ""
        if _within(address, self.config.forwarded_allow_ips or ()):
            return 0
        others = (one.client for one in self.connections if isinstance(one, LimitedH11Protocol))
        return sum(client is not None and client[0] == address for client in others)

    def _wait(self) -> None:
        if self._too_late is None:
            self._too_late = self.loop.call_later(HEADER_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


class Certificate:
    """How the page speaks TLS (1.2 or later; `tls.SUITES`), by files that are read again when they change.

    Raises ConfigError for a certificate, key or password that is not good.
    """

    def __init__(self, web: Web) -> None:
        self._files = Files("web", web.certificate, web.key, web.key_password, None, None)
        self._stamp = self._files.stamp()
        self.context = self._loaded()

    async def look(self) -> None:
        """Take changed files, when they are good; connections that are open stay as they are."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._loaded()
            self._files.load(self.context)
        except ConfigError as error:
            log.event("web_certificate_rejected", level="error", reason=str(error))
        else:
            log.event("web_certificate_reloaded")

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(SUITES))
        context.options |= ssl.OP_NO_RENEGOTIATION
        self._files.load(context)
        return context


def _within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of some networks."""
    if not address or not networks:
        return False
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(one) for one in networks)


def server(
    app: ASGIApp, bind: str, port: int, proxies: Sequence[str] = (), certificate: Certificate | None = None
) -> uvicorn.Server:
    """A server of an application, not started. Headers of forwarding are believed of `proxies` alone."""
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
        callback_notify=None if certificate is None else certificate.look,
        timeout_notify=LOOK_S,
    )
    return uvicorn.Server(settings)


def run_beside(app: ASGIApp, bind: str, port: int, stop: threading.Event) -> threading.Thread:
    """Serve what watchers ask, in a thread, until `stop`.

    Where another process of this machine serves it already, wait until that one ends: the answers are the same.
    """

    def beside() -> None:
        while not stop.is_set():
            listening = _bound(bind, port)
            if listening is not None:
                with listening:
                    _serve_until(server(app, bind, port), listening, stop)
            stop.wait(ANOTHER_S)

    thread = threading.Thread(target=beside, name="health", daemon=True)
    thread.start()
    return thread


def _bound(bind: str, port: int) -> socket.socket | None:
    """A socket on an address, or None when it is taken or cannot be had now."""
    made = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((bind, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            log.event("metrics_served_elsewhere", level="debug", port=port)
        else:
            log.event("metrics_not_served", level="error", bind=bind, port=port, reason=error.strerror)
        return None
    return made


def _serve_until(watched: uvicorn.Server, listening: socket.socket, stop: threading.Event) -> None:
    """Serve on a bound socket; another thread watches for the end."""

    def end() -> None:
        stop.wait()
        watched.should_exit = True

    threading.Thread(target=end, name="health-end", daemon=True).start()
    watched.run(sockets=[listening])
