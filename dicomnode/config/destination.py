"""Where CT series are sent: a C-STORE SCP, or a STOW-RS service, and how it proves that it keeps them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicomnode.config.credentials import Secret
from dicomnode.config.peers import ClientTls
from dicomnode.config.plain import between, checked, required
from dicomnode.config.validation import ae_title, each_once, not_empty, plain_name, web_address
from pipeline.companions.kinds import CompanionKind


@dataclass(frozen=True, slots=True)
class Proof:
    """How a destination is asked to prove, by storage commitment, that it keeps what it took."""

    ae_title: str | None = checked(None, lambda value: None if value is None else ae_title(value))
    host: str | None = checked(None, lambda value: None if value is None else not_empty(value))
    port: int | None = checked(None, lambda value: None if value is None else between(1, 65535)(value))
    wait_s: float = checked(10.0, between(0, 86_400))
    linger_s: float = checked(5.0, between(0, 600))
    ask_again_s: float = checked(43_200.0, between(1, 2_592_000))
    alarm_after_s: float = checked(86_400.0, between(1, 2_592_000))

    def address_of(self, destination: Destination) -> Destination:
        """Where it is asked: the destination itself, but for what is set here."""
        return dataclasses.replace(
            destination,
            ae_title=self.ae_title or destination.ae_title,
            host=self.host or destination.host,
            port=self.port or destination.port,
        )


@dataclass(frozen=True, slots=True)
class Stow:
    """A DICOMweb STOW-RS service, and what the node shows to it. Raises ValueError for a secret sent in clear."""

    url: str = required(web_address)
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
    """One C-STORE SCP, or STOW-RS service, that gets every CT series, with its own retries."""

    name: str = required(plain_name)
    ae_title: str = checked("", lambda value: ae_title(value) if value else None)  # "" and 0: not set, beside stow
    host: str = checked("", lambda value: not_empty(value) if value else None)
    port: int = checked(0, between(0, 65535))
    timeout_s: float = checked(30.0, between(1, 3600))
    retry_first_s: float = checked(10.0, between(0.1, 86_400))
    retry_max_s: float = checked(1800.0, between(0.1, 604_800))
    alarm_after_s: float = checked(3600.0, between(1, 2_592_000))
    profile: str = checked("generic", not_empty)
    tls: ClientTls | None = None
    commitment: Proof | None = None
    stow: Stow | None = None
    companions: tuple[CompanionKind, ...] = checked((), each_once)

    @property
    def where(self) -> str:
        """Its address, for people."""
        return self.stow.url if self.stow is not None else f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def machine(self) -> str:
        """The host that is called."""
        return (urlsplit(self.stow.url).hostname or "") if self.stow is not None else self.host
