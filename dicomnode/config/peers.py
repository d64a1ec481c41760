"""Whom the node lets in and whom it believes: the configuration of TLS and of admission.

`config/node.yaml` says what each key means; `tls` and `admission` do what is written here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from dicomnode.config.credentials import Secret
from dicomnode.config.plain import between
from dicomnode.config.validation import ae_pattern, ae_titles, networks, not_empty

Right = Literal["echo", "store", "commitment"]
Version = Literal["1.2", "1.3"]


def _port(value: int | None) -> str | None:
    """A TCP port, or none."""
    return None if value is None else between(1, 65535)(value)


def _name(value: str | None) -> str | None:
    """Some text, or none."""
    return None if value is None else not_empty(value)


def _some(value: int | None) -> str | None:
    """At least one, or no number."""
    return None if value is None else between(1, 10_000)(value)


def _checked(default: Any, check: Any) -> Any:
    """A dataclass field with a default and a rule."""
    return field(default=default, metadata={"check": check})


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of the DICOM port, and what destinations use unless they say otherwise (PS3.15 B.12)."""

    port: int | None = _checked(None, _port)
    plain: bool = True
    certificate: Path | None = None
    key: Path | None = None
    key_password: Secret | None = None
    ca: Path | None = None
    crl: Path | None = None
    mutual: bool = True
    minimum: Version = "1.2"
    handshake_s: float = _checked(10.0, between(0.5, 120))
    warn_days: int = _checked(30, between(0, 3650))

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate goes with its key; name both files, or neither")
        if self.port is not None and self.certificate is None:
            raise ValueError("port is set, certificate and key are not; name both files")
        if self.port is not None and self.mutual and self.ca is None:
            raise ValueError("mutual is true, ca is not set; name the file with the CAs of the peers")
        if self.port is None and not self.plain:
            raise ValueError("plain is false and port is not set, so nobody could call; set port")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS towards one peer; what is not set is as in `tls`."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: Secret | None = None
    crl: Path | None = None
    name: str | None = _checked(None, _name)
    check_name: bool = True
    minimum: Version | None = None

    def completed(self, node: Tls) -> ClientTls:
        """The same with the node's own files where this names none. Raises ValueError."""
        own = (self.certificate, self.key)
        if (own[0] is None) != (own[1] is None):
            raise ValueError("a certificate goes with its key; name both files, or neither")
        inherited = ("ca", "crl", "minimum") + (() if own[0] else ("certificate", "key", "key_password"))
        whole = dataclasses.replace(self, **{key: getattr(self, key) or getattr(node, key) for key in inherited})
        if whole.ca is None:
            raise ValueError("no CA is named, so nobody could be believed; set ca, here or in tls")
        return whole


@dataclass(frozen=True, slots=True)
class Caller:
    """One AE, or several of a pattern, that may call, from where, and what it may ask for."""

    ae_title: str = field(metadata={"check": ae_pattern})
    addresses: tuple[str, ...] = _checked((), networks)
    certificate: str | None = _checked(None, _name)
    rights: tuple[Right, ...] = ("echo", "store", "commitment")
    max_associations: int | None = _checked(None, _some)
    commits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may call, and as whom; nothing set is everyone."""

    addresses: tuple[str, ...] = _checked((), networks)
    called: tuple[str, ...] = _checked((), ae_titles)
    callers: tuple[Caller, ...] = ()


EVERYONE: Final = Admission()
NO_TLS: Final = Tls()
