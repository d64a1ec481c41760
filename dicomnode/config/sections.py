"""The configuration's plain sections: type, default and bounds of each key. What a key means is said in node.yaml.

How people are told of what happens: the configuration of `notify`. What a key means is said in node.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from dicomnode.config.peers import ClientTls, Secret
from dicomnode.config.validation import (
    ae_title,
    between,
    build,
    checked,
    description,
    host_name,
    host_names,
    hu_range,
    image_type,
    nearest,
    networks,
    not_empty,
    plain,
    required,
    said,
    seconds_or_never,
    spacing,
    syslog_address,
    time_of_day,
    web_address,
)
from dicomnode.errors import ConfigError
from pipeline.ct.provenance import DESCRIPTION, NODE_EQUIPMENT, Equipment
from pipeline.findings.meanings import MEANINGS
from pipeline.gate import Gate

WITHOUT_LIMITS: Final = frozenset({"anatomy"})
"""Findings that are no question of a number; what becomes of another anatomy says `anatomy_check`."""


@dataclass(frozen=True, slots=True)
class Node:
    """Who the node is on the network, and the folder for all it keeps."""

    ae_title: str = checked("SCTNODE", ae_title)
    bind: str = checked("127.0.0.1", not_empty)
    port: int = checked(11112, between(1, 65535))
    data: Path = Path("sct-data")
    hang_timeout_s: float = checked(300.0, between(1, 86_400))


@dataclass(frozen=True, slots=True)
class Web:
    """Where the web page is served, and to whom."""

    bind: str = checked("127.0.0.1", not_empty)
    port: int = checked(8080, between(1, 65535))
    users: Path | None = None
    session_idle_s: float = checked(1800.0, between(60, 86_400))
    session_max_s: float = checked(28_800.0, between(60, 604_800))
    certificate: Path | None = None
    key: Path | None = None
    key_password: Secret | None = None
    plain: bool = False
    proxies: tuple[str, ...] = checked((), networks)
    names: tuple[str, ...] = checked((), host_names)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are named together or not at all")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the metrics and the answers of health and readiness are served."""

    bind: str = checked("127.0.0.1", not_empty)
    port: int = checked(8081, between(1, 65535))


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an AE that sends to the node can be called back."""

    ae_title: str = required(ae_title)
    host: str = required(not_empty)
    port: int = required(between(1, 65535))
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """Limits of the C-STORE SCP."""

    max_associations: int = checked(64, between(1, 10_000))
    max_associations_per_ae: int = checked(32, between(1, 10_000))
    max_pdu_bytes: int = checked(1_048_576, between(0, 16_777_216))
    max_object_bytes: int = checked(1_073_741_824, between(1, 2**40))
    max_receiving_bytes: int = checked(4_294_967_296, between(1, 2**40))
    min_bytes_per_s: float = checked(1000.0, between(0, 1e9))
    request_timeout_s: float = checked(10.0, between(0.1, 3600))
    idle_timeout_s: float = checked(60.0, between(1, 3600))
    disk_reserve_bytes: int = checked(1_073_741_824, between(0, 2**50))
    check_called_ae: bool = False
    accept_lossy: bool = False
    peers: tuple[Peer, ...] = ()

    def peer(self, ae_title: str) -> Peer | None:
        """The peer of that AE title, or None."""
        return next((one for one in self.peers if one.ae_title.strip() == ae_title), None)


@dataclass(frozen=True, slots=True)
class Commitment:
    """How storage commitments are reported."""

    wait_s: float = checked(10.0, between(0, 3600))
    timeout_s: float = checked(30.0, between(1, 3600))
    retry_first_s: float = checked(10.0, between(0.1, 86_400))
    retry_max_s: float = checked(1800.0, between(0.1, 604_800))
    give_up_after_s: float = checked(259_200.0, between(1, 31_536_000))


@dataclass(frozen=True, slots=True)
class Retention:
    """What is deleted, and when."""

    delivered_after_s: float | None = checked(None, seconds_or_never)
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """When a series counts as complete."""

    quiet_s: float = checked(30.0, between(0.1, 86_400))
    grace_s: float = checked(10.0, between(0.1, 86_400))


def _limits(value: object, path: str) -> dict[str, dict[str, float]]:
    """`quality.limits`: finding -> low and high, and where wished reject_low and reject_high."""
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"is {said(value)}", "write a mapping such as {noise: {low: 0, high: 5}}")
    return {str(name): _limits_of(str(name), one, f"{path}.{name}") for name, one in value.items()}


def _limits_of(name: str, value: object, path: str) -> dict[str, float]:
    if name not in MEANINGS or name in WITHOUT_LIMITS:
        raise ConfigError(path, "is no finding with limits", nearest(name, LIMITED))
    limits = build(FindingLimits, value, path)
    return {key: one for key, one in plain(limits).items() if one is not None}


LIMITED: Final = {name: meaning for name, meaning in MEANINGS.items() if name not in WITHOUT_LIMITS}
"""Findings about numbers."""


@dataclass(frozen=True, slots=True)
class FindingLimits:
    """Within which values a finding passes, and beyond which it rejects the case."""

    low: float
    high: float
    reject_low: float | None = None
    reject_high: float | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}: the lower one comes first")
        beyond_low = self.low if self.reject_low is None else self.reject_low
        beyond_high = self.high if self.reject_high is None else self.reject_high
        if beyond_low > self.low or beyond_high < self.high:
            raise ValueError("reject_low is not above low, and reject_high not below high")


@dataclass(frozen=True, slots=True)
class Quality:
    """What becomes of doubtful cases, and what counts as doubtful."""

    gate: Gate = "auto"
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict, metadata={"read": _limits})
    drift_cases: int = checked(20, between(0, 500))


@dataclass(frozen=True, slots=True)
class Synthesize:
    """The workers that compute."""

    workers: int = checked(1, between(1, 64))
    tries: int = checked(3, between(1, 10))
    timeout_s: float = checked(7200.0, between(1, 604_800))


@dataclass(frozen=True, slots=True)
class Output:
    """What is written into the CT objects, and on which grid."""

    research_label: bool = True
    spacing_mm: float | tuple[float, ...] | None = checked(None, spacing)
    orientation: Literal["axial", "source"] = "axial"
    field: Literal["mr", "body"] = "mr"
    body_margin_mm: float = checked(10.0, between(0, 500))
    hu_range: tuple[int, ...] = checked((-1024, 3071), hu_range)
    image_type: tuple[str, ...] = checked(("DERIVED", "SECONDARY", "AXIAL"), image_type)
    series_description: str = checked(DESCRIPTION, description)
    equipment: Equipment = NODE_EQUIPMENT


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit trail (PS3.15 A.5)."""

    source: str = ""
    site: str = ""
    patients: bool = False
    required: bool = False
    syslog: str | None = checked(None, syslog_address)
    syslog_tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Constancy:
    """When the phantom goes through the whole chain, and how far what comes out may be from the reference."""

    at: str | None = checked(None, time_of_day)
    hu: float = checked(5.0, between(0, 1000))
    mm: float = checked(0.5, between(0, 100))


@dataclass(frozen=True, slots=True)
class Hosts:
    """Several machines on one PostgreSQL database."""

    name: str | None = checked(None, host_name)
    dead_after_s: float = checked(60.0, between(10, 86_400))


@dataclass(frozen=True, slots=True)
class Log:
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Kind(StrEnum):
    """What a notice is about; `notify.about` of the configuration says which kinds are sent."""

    HOLD = "hold"
    FAILURE = "failure"
    ALARM = "alarm"
    REJECTION = "rejection"
    CONSTANCY = "constancy"


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
