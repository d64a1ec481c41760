"""Copies of audit records for a syslog server: RFC 5424 over UDP (RFC 5426), TLS (RFC 5425) or a local socket.

PS3.15 A.6 and A.7 define the content: facility 10 (security), severity 5 (notice), MSGID `DICOM+RFC3881`, and the
message as the XML of A.5.1. A thread sends the records from a queue of `QUEUED`, so that no server delays the work;
records that find the queue full are left out, counted and logged. The file of the trail holds every record.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from dicomnode import log, metrics
from dicomnode.errors import ConfigError
from dicomnode.security.tls import client_context

if TYPE_CHECKING:
    from dicomnode.config.peers import ClientTls

QUEUED: Final = 1000
TIMEOUT_S: Final = 5.0
RETRY_S: Final = 5.0
COMPLAINT_S: Final = 60.0
PRIORITY: Final = 10 * 8 + 5
"""Facility 10, severity 5 (RFC 5424 6.2.1)."""


def line(document: str, at: str) -> bytes:
    """Return a record (XML) as a syslog message (RFC 5424 6); `at` is its time (RFC 5424 6.2.3, UTC)."""
    host = socket.gethostname() or "-"
    return f"<{PRIORITY}>1 {at} {host} sct-node {os.getpid()} DICOM+RFC3881 - \ufeff{document}".encode()


class Syslog:
    """Sends records to a server in their order; at most QUEUED of them wait."""

    def __init__(self, address: str, tls: ClientTls | None) -> None:
        """Start the thread; `address` is udp://HOST:PORT, tls://HOST:PORT or unix:///PATH."""
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 0
        if parts.scheme == "unix":
            self._send = _Datagrams(socket.AF_UNIX, parts.path).send
        elif parts.scheme == "udp":
            self._send = _Datagrams(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)).send
        else:
            assert tls is not None, "checked when the configuration was read"
            self._send = _Stream(host, port, tls).send
        self._waiting: queue.Queue[bytes] = queue.Queue(QUEUED)
        self._complained_at = -COMPLAINT_S
        threading.Thread(target=self._run, name="audit-syslog", daemon=True).start()

    def send(self, message: bytes) -> None:
        """Queue a message; return at once."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            metrics.AUDIT_FAILURES.labels(where="syslog").inc()
            self._complain("audit_records_left_out")

    def flush(self, limit_s: float) -> None:
        """Wait until everything is sent, no longer than `limit_s`."""
        deadline = time.monotonic() + limit_s
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)

    def _run(self) -> None:
        """Send the waiting messages; each is tried until it is sent."""
        while True:
            message = self._waiting.get()
            while True:
                try:
                    self._send(message)
                    break
                except (OSError, ConfigError) as error:
                    self._complain("audit_record_not_sent", str(error))
                    time.sleep(RETRY_S)
            self._waiting.task_done()

    def _complain(self, what: str, why: str = "") -> None:
        """Log a failure, at most once in COMPLAINT_S."""
        if time.monotonic() - self._complained_at >= COMPLAINT_S:
            self._complained_at = time.monotonic()
            log.event(what, level="error", reason=why)


class _Datagrams:
    """Sends each message as one datagram (RFC 5426 3.1), by UDP or to a local socket such as /dev/log."""

    def __init__(self, family: int, address: tuple[str, int] | str) -> None:
        self._family = family
        self._address = address

    def send(self, message: bytes) -> None:
        """Send a message. Raises OSError."""
        with socket.socket(self._family, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, self._address)


class _Stream:
    """Sends messages over one TLS connection, each preceded by its length (RFC 5425 4.3)."""

    def __init__(self, host: str, port: int, tls: ClientTls) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connection: socket.socket | None = None

    def send(self, message: bytes) -> None:
        """Send a message, on a new connection where the last one has ended. Raises OSError, ConfigError."""
        connection = self._open()
        try:
            connection.sendall(b"%d %s" % (len(message), message))
        except OSError:
            self._connection = None
            with contextlib.suppress(OSError):
                connection.close()
            raise

    def _open(self) -> socket.socket:
        """Return the connection, a new one when the server has closed it. A syslog server sends no data."""
        if self._connection is not None and _ended(self._connection):
            self._connection.close()
            self._connection = None
        if self._connection is None:
            context = client_context(self._tls, "audit.syslog_tls")
            assert context is not None
            plain = socket.create_connection((self._host, self._port), TIMEOUT_S)
            try:
                self._connection = context.wrap_socket(plain, server_hostname=self._tls.name or self._host)
            except OSError:
                plain.close()
                raise
        return self._connection


def _ended(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection."""
    connection.settimeout(0)
    try:
        return not connection.recv(1)
    except OSError as error:
        return not isinstance(error, ssl.SSLWantReadError)
    finally:
        connection.settimeout(TIMEOUT_S)
