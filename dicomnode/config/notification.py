"""How people are told of what happens: the configuration of `notify`. What a key means is said in node.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from dicomnode.config.credentials import Secret
from dicomnode.config.plain import between, checked, required
from dicomnode.config.sections import Kind
from dicomnode.config.validation import not_empty, web_address

THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
KindName = Literal["hold", "failure", "alarm", "rejection", "constancy"]
Contents = Literal["codes", "sentences", "patients"]


def mail_address(value: str) -> str | None:
    """One address of RFC 5322 3.4.1, without a name, in ASCII."""
    try:
        good = value.isascii() and value.isprintable() and Address(addr_spec=value).domain
    except (HeaderParseError, ValueError, IndexError):
        good = None
    return None if good else "must be an e-mail address such as physics@hospital.example"


def mail_addresses(value: tuple[str, ...]) -> str | None:
    """At least one address."""
    return next(filter(None, map(mail_address, value)), None) if value else "must name at least one address"


def _page(value: str | None) -> str | None:
    """Nothing, or the address of the page."""
    return None if value is None else web_address(value)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server that takes messages (RFC 6409), and from whom to whom they go. Raises ValueError."""

    host: str = required(not_empty)
    sender: str = required(mail_address)
    to: tuple[str, ...] = required(mail_addresses)
    port: int = checked(587, between(1, 65535))
    security: Literal["starttls", "tls", "plain"] = "starttls"
    ca: Path | None = None
    user: str | None = None
    password: Secret | None = None
    timeout_s: float = checked(30.0, between(1, 600))

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ValueError("shows half of what it should; write user and password, or neither")
        if self.user is not None and not self.protected:
            raise ValueError("a password would be sent in clear; use security: starttls or tls")

    @property
    def protected(self) -> bool:
        """Whether nobody on the way can read it."""
        return self.security != "plain" or self.host in THIS_MACHINE


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address to which notices are posted as JSON, signed with a secret."""

    secret: Secret
    url: str = required(web_address)
    ca: Path | None = None
    timeout_s: float = checked(30.0, between(1, 600))

    @property
    def protected(self) -> bool:
        """Whether nobody on the way can read it."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or parts.hostname in THIS_MACHINE


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told of what, and how much. Raises ValueError for what must not cross a network in clear."""

    about: tuple[KindName, ...] = ("hold", "failure", "alarm", "constancy")
    contents: Contents = "codes"
    page: str | None = checked(None, _page)
    gather_s: float = checked(30.0, between(0, 3600))
    retry_first_s: float = checked(30.0, between(0.1, 86_400))
    retry_max_s: float = checked(1800.0, between(0.1, 86_400))
    give_up_after_s: float = checked(259_200.0, between(1, 31_536_000))
    mail: Mail | None = None
    webhook: Webhook | None = None

    def __post_init__(self) -> None:
        if self.contents != "codes" and not all(one.protected for one in self.channels.values()):
            raise ValueError(f"contents: {self.contents} would be sent in clear; encrypt the channel, or write codes")

    @property
    def channels(self) -> dict[str, Mail | Webhook]:
        """Name -> channel, of those that are set."""
        named: dict[str, Mail | Webhook | None] = {"mail": self.mail, "webhook": self.webhook}
        return {name: channel for name, channel in named.items() if channel is not None}

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of notices that are sent."""
        return frozenset(map(Kind, self.about))
