"""The configuration of everybody that the node talks to: callers, destinations, TLS, and the secrets shown to them.

`config/node.yaml` explains each key. No secret stands in the configuration, which names a file or an environment
variable that holds it:

    database_password: {file: /run/secrets/database}
    database_password: {environment: SCT_DATABASE_PASSWORD}

Only this name is kept, printed and logged. `read_secret` reads the secret each time it is used, so that a new password
needs no restart.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from dicomnode.config.values import (
    AeTitle,
    AeTitleOrUnset,
    AeTitles,
    Between,
    ExpandedPath,
    Networks,
    NonEmpty,
    PlainName,
    Port,
    TextOrUnset,
    ValueCheck,
    WebAddress,
    each_once,
)
from dicomnode.errors import ConfigError
from pipeline.companions.kinds import CompanionKind

Right = Literal["echo", "store", "commitment"]
Version = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of the DICOM port (PS3.15 B.12), and the defaults of TLS towards destinations and peers."""

    port: Port | None = None
    plain: bool = True
    certificate: ExpandedPath | None = None
    key: ExpandedPath | None = None
    key_password: Secret | None = None
    ca: ExpandedPath | None = None
    crl: ExpandedPath | None = None
    mutual: bool = True
    minimum: Version = "1.2"
    handshake_s: Annotated[float, Between(0.5, 120)] = 10.0
    warn_days: Annotated[int, Between(0, 3650)] = 30

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
    """TLS towards one peer; a key that is not set is as in `tls`."""

    ca: ExpandedPath | None = None
    certificate: ExpandedPath | None = None
    key: ExpandedPath | None = None
    key_password: Secret | None = None
    crl: ExpandedPath | None = None
    name: NonEmpty | None = None
    check_name: bool = True
    minimum: Version | None = None

    def completed(self, node: Tls) -> ClientTls:
        """Return the same with the node's own files where this names none. Raises ValueError."""
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
    """An AE that may call, or several by a pattern, with its addresses and its rights."""

    ae_title: AeTitle
    """May be a pattern: * and ? are characters of VR AE as well (PS3.5 Table 6.2-1)."""
    addresses: Networks = ()
    certificate: NonEmpty | None = None
    rights: tuple[Right, ...] = ("echo", "store", "commitment")
    max_associations: Annotated[int, Between(1, 10_000)] | None = None
    commits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """The addresses and AEs that may call, and the called AE titles; empty means everyone."""

    addresses: Networks = ()
    called: AeTitles = ()
    callers: tuple[Caller, ...] = ()


EVERYONE: Final = Admission()
NO_TLS: Final = Tls()


@dataclass(frozen=True, slots=True)
class Proof:
    """Storage commitment (PS3.4 J) asked of a destination: its address and the times of asking."""

    ae_title: AeTitle | None = None
    host: NonEmpty | None = None
    port: Port | None = None
    wait_s: Annotated[float, Between(0, 86_400)] = 10.0
    linger_s: Annotated[float, Between(0, 600)] = 5.0
    ask_again_s: Annotated[float, Between(1, 2_592_000)] = 43_200.0
    alarm_after_s: Annotated[float, Between(1, 2_592_000)] = 86_400.0

    def address_of(self, destination: Destination) -> Destination:
        """Return the destination with the address at which commitment is asked."""
        return dataclasses.replace(
            destination,
            ae_title=self.ae_title or destination.ae_title,
            host=self.host or destination.host,
            port=self.port or destination.port,
        )


@dataclass(frozen=True, slots=True)
class Stow:
    """A STOW-RS service (PS3.18 10.5) and the credentials for it. Raises ValueError for a secret sent in clear."""

    url: WebAddress
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None) or (self.user and self.token):
            raise ValueError("shows half of what it should, or too much; write user and password, or token")
        parts = urlsplit(self.url)
        if (self.user or self.token) and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("a secret would be sent in clear; use https")


@dataclass(frozen=True, slots=True)
class Destination:
    """A C-STORE SCP or STOW-RS service that gets CT series, with its own retries and alarm."""

    name: PlainName
    ae_title: AeTitleOrUnset = ""  # "" and 0: not set, beside stow
    host: TextOrUnset = ""
    port: Annotated[int, Between(0, 65535)] = 0
    timeout_s: Annotated[float, Between(1, 3600)] = 30.0
    retry_first_s: Annotated[float, Between(0.1, 86_400)] = 10.0
    retry_max_s: Annotated[float, Between(0.1, 604_800)] = 1800.0
    alarm_after_s: Annotated[float, Between(1, 2_592_000)] = 3600.0
    profile: NonEmpty = "generic"
    tls: ClientTls | None = None
    commitment: Proof | None = None
    stow: Stow | None = None
    companions: Annotated[tuple[CompanionKind, ...], ValueCheck(each_once)] = ()

    @property
    def where(self) -> str:
        """The address, for people."""
        return self.stow.url if self.stow is not None else f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def machine(self) -> str:
        """The host that is called."""
        return (urlsplit(self.stow.url).hostname or "") if self.stow is not None else self.host


@dataclass(frozen=True, slots=True)
class Secret:
    """The place of a secret: a file or an environment variable. Raises ValueError unless it is exactly one."""

    file: ExpandedPath | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.environment is None):
            raise ValueError("names not exactly one place; write {file: PATH} or {environment: NAME}")


def read_secret(secret: Secret, path: str) -> str:
    """Return the secret itself without its line end.

    Args:
        secret: the place of it.
        path: dotted path of its key, for the error.

    Raises:
        ConfigError: it is not there, is empty or not text, or anybody may write the file.
    """
    file = secret.file
    if file is None:
        text = os.environ.get(secret.environment or "", "")
    else:
        try:
            if file.stat().st_mode & stat.S_IWOTH:
                raise ConfigError(path, f"anybody may write the file {file}", f"chmod 600 {file}")
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(path, f"{file} cannot be read ({error.strerror})", "name a readable file") from error
        except UnicodeDecodeError:
            raise ConfigError(path, f"{file} is not UTF-8 text", "put the secret there as text") from None
    found = text.rstrip("\r\n")
    if not found:
        where = f"the file {secret.file}" if secret.file else f"the environment variable {secret.environment}"
        raise ConfigError(path, f"{where} holds nothing", "put the secret there")
    return found
