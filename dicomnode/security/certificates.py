"""Certificates in PEM files: readable, not expired, and for how long yet."""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dicomnode import log, metrics
from dicomnode.errors import ConfigError

DAY_S: Final = 86_400.0

_warned: dict[tuple[Path, int], float] = {}
_lock: Final = threading.Lock()


def check_certificate(file: Path, path: str) -> None:
    """Raise ConfigError when the first certificate of the file, one's own, is not valid now.

    `path` is the dotted path of its key. Raises ConfigError also for a file that cannot be read.
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
    """The certificates of a PEM file, at least one. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigError(path, f"{file} cannot be read ({error.strerror})", "name a readable file") from error
    except ValueError as error:
        raise ConfigError(path, f"{file} holds no certificate in PEM", "name a PEM file") from error


def when_it_ends(file: Path) -> str:
    """The day on which the first certificate of a file ends, in UTC. Raises ConfigError."""
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
        what = "certificate expires soon" if ends > now else "certificate has expired"
        log.event(what, level=level, file=file.name, days=round((ends - now) / DAY_S, 1))


def _changed(file: Path) -> int:
    """When the file changed (ns), 0 when it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
