"""TLS contexts for both directions with mutual authentication (PS3.15 B.12; BCP 195: RFC 8996, RFC 9325).

    TLS 1.3   preferred (RFC 8446); its cipher suites are those of OpenSSL
    TLS 1.2   the four suites of RFC 9325 4.2: ECDHE with RSA or ECDSA, AES-GCM; no renegotiation, no compression
    older     refused, as are keys and signatures below OpenSSL's security level 2 (RSA 2048, SHA-256)

The PEM files are checked when they are loaded. Certificate, key, CAs and revocation lists are read again when their
files change. When the new files cannot be used, the old ones stay in use, with an error in the log. Open associations
are not touched.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dicomnode import log, metrics
from dicomnode.config.peers import read_secret
from dicomnode.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnode.config.load import Config
    from dicomnode.config.peers import ClientTls, Destination, Secret, Tls, Version

SUITES: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""Cipher suites of TLS 1.2 (RFC 9325 4.2)."""

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

LOOK_S: Final = 5.0
"""Interval in which the files are looked at while nobody calls."""


class Context(ssl.SSLContext):
    """A context that remembers why TLS failed, because pynetdicom only reports that there is no connection."""

    failure: str = ""


class TlsConnection(ssl.SSLSocket):
    """A TLS connection that can always be closed, and stores the reason of a failure in its context."""

    _turn: threading.Lock

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Make the connection and its lock; a context makes an SSLSocket without calling `__init__`."""
        made = super().__new__(cls, *arguments, **named)
        made._turn = threading.Lock()
        return made

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake (RFC 8446 4, RFC 5246 7.3). Raises OSError."""
        with self._remembered(OSError):
            super().do_handshake(block)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; with TLS 1.3 a client learns only here that its certificate is rejected."""
        with self._turn, self._remembered(ssl.SSLError):
            return super().recv(buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send, while no other thread uses the connection."""
        with self._turn:
            return super().send(data, flags)

    @contextlib.contextmanager
    def _remembered(self, kind: type[OSError]) -> Iterator[None]:
        """Store the reason of a failure of this kind in the context."""
        try:
            yield
        except kind as error:
            if isinstance(self.context, Context) and not isinstance(
                error, ssl.SSLWantReadError | ssl.SSLWantWriteError
            ):
                self.context.failure = reason(error)
            raise

    def shutdown(self, how: int) -> None:
        """Send close_notify (RFC 8446 6.1) without waiting for the answer, and shut the socket down.

        While another thread is receiving no close_notify is sent, because OpenSSL serves one thread at a time.
        """
        if self._turn.acquire(blocking=False):
            with contextlib.suppress(OSError, ValueError):
                self.settimeout(0)
                self.unwrap()
            self._turn.release()
        with contextlib.suppress(OSError):
            super().shutdown(how)


def reason(error: OSError) -> str:
    """Return why TLS failed, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message}"
    named = getattr(error, "reason", None)
    return str(named).lower().replace("_", " ") if named else (error.strerror or "the peer ended the connection")


# Contexts


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one side of TLS; `path` is the dotted path of the mapping that names them."""

    path: str
    certificate: Path | None
    key: Path | None
    key_password: Secret | None
    ca: Path | None
    crl: Path | None
    warn_days: int = 30

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return values that change when any of the files changes, also behind a symbolic link."""
        password = self.key_password.file if self.key_password else None
        return tuple(_stamp(file) for file in (self.certificate, self.key, self.ca, self.crl, password) if file)

    def load(self, context: ssl.SSLContext) -> None:
        """Load them into a context. Raises ConfigError for one that is missing, unreadable, mismatching or expired."""
        if self.certificate is not None and self.key is not None:
            check_certificate(self.certificate, f"{self.path}.certificate")
            self._load_key(context, self.certificate, self.key)
        if self.ca is not None:
            check_issuers(self.ca, f"{self.path}.ca")
            context.load_verify_locations(self.ca)
        if self.crl is not None:
            path, remedy = f"{self.path}.crl", "name its file, or leave crl out"
            try:
                context.load_verify_locations(self.crl)
            except ssl.SSLError as error:
                raise ConfigError(path, f"{self.crl} is no revocation list in PEM", remedy) from error
            except OSError as error:
                raise ConfigError(path, f"{self.crl} cannot be read ({error.strerror})", remedy) from error
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        self.warn()

    def warn(self) -> None:
        """Log once a day that a certificate ends soon, and set the metric of its end."""
        for kind, file in (("own", self.certificate), ("ca", self.ca)):
            if file is not None:
                warn(kind, file, self.warn_days)

    def _load_key(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        """Load certificate and key into a context. Raises ConfigError."""
        secret = self.key_password
        password = read_secret(secret, f"{self.path}.key_password") if secret else ""
        check_key(key, password, f"{self.path}.key")
        try:
            context.load_cert_chain(certificate, key, lambda: password)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            problem = "does not belong to the certificate" if mismatch else f"is not accepted ({reason(error)})"
            raise ConfigError(f"{self.path}.key", f"{key} {problem}", "name the certificate's key") from error


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Return inode, size and time of a file; None when it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _context(protocol: int, minimum: Version) -> Context:
    """Return a context of the profile (PS3.15 B.12), without files."""
    context = Context(protocol)
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(":".join((*SUITES, "@SECLEVEL=2")))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.sslsocket_class = TlsConnection
    return context


def server_context(settings: Tls) -> Context:
    """Return the context for peers that call. Raises ConfigError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, settings.minimum)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if settings.mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    else:  # a certificate is verified where the peer shows one and there are CAs
        context.verify_mode = ssl.CERT_OPTIONAL if settings.ca else ssl.CERT_NONE
    inwards(settings).load(context)
    return context


def inwards(settings: Tls) -> Files:
    """Return the files for peers that call."""
    named = (settings.certificate, settings.key, settings.key_password, settings.ca, settings.crl)
    return Files("tls", *named, settings.warn_days)


def client_context(tls: ClientTls | None, path: str) -> Context | None:
    """Return the context for a peer that is called; None without TLS. The files are read each time.

    Args:
        tls: the settings for this peer.
        path: names the peer in the error.

    Raises:
        ConfigError: a file is missing, unreadable, mismatching or expired.
    """
    if tls is None:
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls.minimum or "1.2")
    context.check_hostname = tls.check_name
    Files(path, tls.certificate, tls.key, tls.key_password, tls.ca, tls.crl).load(context)
    return context


def client_arguments(destination: Destination) -> tuple[ssl.SSLContext, str] | None:
    """Return context and name (RFC 9525 6.3) for a destination's certificate; None without TLS. Raises ConfigError."""
    context = client_context(destination.tls, f"destination {destination.name}: tls")
    if context is None or destination.tls is None:
        return None
    return context, destination.tls.name or destination.host


def check(config: Config) -> None:
    """Raise ConfigError when any of the configured files is missing, unreadable, mismatching or expired."""
    if config.tls.port is not None:
        server_context(config.tls)
    for index, one in enumerate(config.destinations):
        client_context(one.tls, f"destinations[{index}].tls")
    for index, peer in enumerate(config.receive.peers):
        client_context(peer.tls, f"receive.peers[{index}].tls")


class Inwards:
    """The context for peers that call; it is made again when its files change. Thread-safe."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._files = inwards(settings)
        self._lock = threading.Lock()
        self._stamp = self._files.stamp()
        self._context = server_context(settings)
        self._looked_at = time.monotonic()

    def context(self) -> Context:
        """Return the context of the present files, or of the last ones that could be used."""
        with self._lock:
            stamp = self._files.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = server_context(self._settings)
                except (ConfigError, OSError) as error:
                    metrics.TLS_RELOADS.labels(outcome="failed").inc()
                    log.event("tls_files_rejected", level="error", reason=str(error))
                else:
                    metrics.TLS_RELOADS.labels(outcome="loaded").inc()
                    log.event("tls_files_reloaded")
            return self._context

    def look(self) -> None:
        """Look at the files, at most once in LOOK_S."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            self.context()
            self._files.warn()


def names_of(connection: socket.socket | None) -> frozenset[str] | None:
    """Return common names and DNS names (RFC 5280 4.2.1.6) of a peer's certificate; None without one."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    shown: Any = connection.getpeercert()
    if not shown:
        return None
    common = (value for part in shown.get("subject", ()) for key, value in part if key == "commonName")
    others = (value for key, value in shown.get("subjectAltName", ()) if key == "DNS")
    return frozenset((*common, *others))


DAY_S: Final = 86_400.0
_warned: dict[tuple[Path, int], float] = {}
_lock: Final = threading.Lock()


def check_certificate(file: Path, path: str) -> None:
    """Raise ConfigError when the first certificate of the file, one's own, is not valid now (RFC 5280 4.1.2.5).

    `path` is the dotted path of its key. A file that cannot be read raises ConfigError as well.
    """
    own = certificates(file, path)[0]
    now = datetime.datetime.now(datetime.UTC)
    if own.not_valid_after_utc <= now:
        ended = own.not_valid_after_utc.isoformat(timespec="seconds")
        raise ConfigError(path, f"{file} has expired ({ended})", "have it renewed")
    if own.not_valid_before_utc > now:
        begins = own.not_valid_before_utc.isoformat(timespec="seconds")
        raise ConfigError(path, f"{file} is not valid before {begins}", "correct the clock, or wait")


def check_issuers(file: Path, path: str) -> None:
    """Raise ConfigError when no CA of the file is valid now."""
    now = datetime.datetime.now(datetime.UTC)
    if not any(one.not_valid_before_utc <= now < one.not_valid_after_utc for one in certificates(file, path)):
        raise ConfigError(path, f"{file}: every certificate has expired", "have them renewed")


def check_key(file: Path, password: str | None, path: str) -> None:
    """Raise ConfigError when a private key cannot be read, or not be opened with the password."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(path, f"{file} cannot be read ({error.strerror})", "name a readable file") from error
    try:
        load_pem_private_key(content, password.encode() if password and b"ENCRYPTED" in content else None)
    except TypeError as error:
        raise ConfigError(path, f"{file} is locked", "name its password as key_password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        problem = "cannot be opened with key_password" if b"ENCRYPTED" in content else "holds no key in PEM"
        raise ConfigError(path, f"{file} {problem}", "correct it") from error


def certificates(file: Path, path: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file (RFC 7468), at least one. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigError(path, f"{file} cannot be read ({error.strerror})", "name a readable file") from error
    except ValueError as error:
        raise ConfigError(path, f"{file} holds no certificate in PEM", "name a PEM file") from error


def when_it_ends(file: Path) -> str:
    """Return the day (UTC) on which the first certificate of a file ends. Raises ConfigError."""
    return certificates(file, "tls.certificate")[0].not_valid_after_utc.date().isoformat()


def warn(kind: str, file: Path, warn_days: int) -> None:
    """Say, once a day and file, that a certificate ends within `warn_days`, and to the metrics when (`kind`: own, ca).

    Of one's own file the first certificate counts, of CAs the one that ends last.
    """
    now = time.time()
    with _lock:
        if now - _warned.get((file, _changed(file)), -DAY_S) < DAY_S:
            return
        _warned[file, _changed(file)] = now
    try:
        found = certificates(file, "tls")
    except ConfigError:
        return
    ends = max(one.not_valid_after_utc for one in (found[:1] if kind == "own" else found)).timestamp()
    metrics.TLS_EXPIRY.labels(certificate=kind).set(ends)
    if ends - now < warn_days * DAY_S:
        level = "warning" if ends > now else "error"
        what = "certificate_expires" if ends > now else "certificate_expired"
        log.event(what, level=level, file=file.name, days=round((ends - now) / DAY_S, 1))


def _changed(file: Path) -> int:
    """Return when the file changed (ns), or 0 when it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
