"""The plain sections of the configuration: type, default and bounds of each key; config/node.yaml explains the keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from dicomnode.config.peers import ClientTls, Secret
from dicomnode.config.validation import STRICT, build, nearest
from dicomnode.config.values import (
    AeTitle,
    Between,
    ExpandedPath,
    HostName,
    HostNames,
    HuRange,
    ImageType,
    MailAddress,
    MailAddresses,
    Networks,
    NonEmpty,
    Port,
    SecondsKept,
    SeriesDescription,
    Spacing,
    SyslogAddress,
    TimeOfDay,
    WebAddress,
    read_by,
    said,
)
from dicomnode.errors import ConfigError
from pipeline.ct.provenance import DESCRIPTION, NODE_EQUIPMENT, Equipment
from pipeline.findings.meanings import MEANINGS
from pipeline.gate import Gate

WITHOUT_LIMITS: Final = frozenset({"anatomy"})
"""Findings that are not about a number; `anatomy_check` decides about another anatomy."""


@dataclass(frozen=True, slots=True)
class Node:
    """The name and the address of the node on the network, and the folder for all that it keeps."""

    ae_title: AeTitle = "SCTNODE"
    bind: NonEmpty = "127.0.0.1"
    port: Port = 11112
    data: ExpandedPath = Path("sct-data")
    hang_timeout_s: Annotated[float, Between(1, 86_400)] = 300.0


@dataclass(frozen=True, slots=True)
class Web:
    """The address of the web page, and the persons and proxies that may use it."""

    bind: NonEmpty = "127.0.0.1"
    port: Port = 8080
    users: ExpandedPath | None = None
    session_idle_s: Annotated[float, Between(60, 86_400)] = 1800.0
    session_max_s: Annotated[float, Between(60, 604_800)] = 28_800.0
    certificate: ExpandedPath | None = None
    key: ExpandedPath | None = None
    key_password: Secret | None = None
    plain: bool = False
    proxies: Networks = ()
    names: HostNames = ()

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are named together or not at all")


@dataclass(frozen=True, slots=True)
class Metrics:
    """The address of the metrics and of the health and readiness endpoints."""

    bind: NonEmpty = "127.0.0.1"
    port: Port = 8081


@dataclass(frozen=True, slots=True)
class Peer:
    """The address at which the node calls back an AE that sends to it."""

    ae_title: AeTitle
    host: NonEmpty
    port: Port
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """Limits of the C-STORE SCP (PS3.4 B)."""

    max_associations: Annotated[int, Between(1, 10_000)] = 64
    max_associations_per_ae: Annotated[int, Between(1, 10_000)] = 32
    max_pdu_bytes: Annotated[int, Between(0, 16_777_216)] = 1_048_576
    max_object_bytes: Annotated[int, Between(1, 2**40)] = 1_073_741_824
    max_receiving_bytes: Annotated[int, Between(1, 2**40)] = 4_294_967_296
    min_bytes_per_s: Annotated[float, Between(0, 1e9)] = 1000.0
    request_timeout_s: Annotated[float, Between(0.1, 3600)] = 10.0
    idle_timeout_s: Annotated[float, Between(1, 3600)] = 60.0
    disk_reserve_bytes: Annotated[int, Between(0, 2**50)] = 1_073_741_824
    check_called_ae: bool = False
    accept_lossy: bool = False
    peers: tuple[Peer, ...] = ()

    def peer(self, ae_title: str) -> Peer | None:
        """Return the peer of that AE title, or None."""
        return next((one for one in self.peers if one.ae_title.strip() == ae_title), None)


@dataclass(frozen=True, slots=True)
class Commitment:
    """Times of the storage commitment reports to the senders (PS3.4 J.3.3)."""

    wait_s: Annotated[float, Between(0, 3600)] = 10.0
    timeout_s: Annotated[float, Between(1, 3600)] = 30.0
    retry_first_s: Annotated[float, Between(0.1, 86_400)] = 10.0
    retry_max_s: Annotated[float, Between(0.1, 604_800)] = 1800.0
    give_up_after_s: Annotated[float, Between(1, 31_536_000)] = 259_200.0


@dataclass(frozen=True, slots=True)
class Retention:
    """The age at which delivered cases are deleted."""

    delivered_after_s: SecondsKept | None = None
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """The silence after which a series counts as complete."""

    quiet_s: Annotated[float, Between(0.1, 86_400)] = 30.0
    grace_s: Annotated[float, Between(0.1, 86_400)] = 10.0


LIMITED: Final = {name: meaning for name, meaning in MEANINGS.items() if name not in WITHOUT_LIMITS}
"""Findings about numbers, which a site may give limits."""


@dataclass(frozen=True, slots=True)
class FindingLimits:
    """A finding passes from `low` to `high`, rejects the case beyond the reject limits, and holds it in between."""

    low: float
    high: float
    reject_low: float | None = None
    reject_high: float | None = None
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}: the lower one comes first")
        beyond_low = self.low if self.reject_low is None else self.reject_low
        beyond_high = self.high if self.reject_high is None else self.reject_high
        if beyond_low > self.low or beyond_high < self.high:
            raise ValueError("reject_low is not above low, and reject_high not below high")


def read_limits(value: object, path: str) -> dict[str, dict[str, float]]:
    """Return `quality.limits`: finding -> low and high, and where wished reject_low and reject_high."""
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"is {said(value)}", "write a mapping such as {noise: {low: 0, high: 5}}")
    for name in value:
        if name not in LIMITED:
            raise ConfigError(f"{path}.{name}", "is no finding with limits", nearest(name, LIMITED))
    limits = {name: dataclasses.asdict(build(FindingLimits, one, f"{path}.{name}")) for name, one in value.items()}
    return {name: {key: one for key, one in found.items() if one is not None} for name, found in limits.items()}


LimitedName: Any = Literal[tuple(LIMITED)]
LimitsOfFindings = Annotated[Mapping[str, Mapping[str, float]], read_by(read_limits, dict[LimitedName, FindingLimits])]


@dataclass(frozen=True, slots=True)
class Quality:
    """The gate for cases with findings, and the limits of the findings."""

    gate: Gate = "auto"
    limits: LimitsOfFindings = field(default_factory=dict)
    drift_cases: Annotated[int, Between(0, 500)] = 20


@dataclass(frozen=True, slots=True)
class Synthesize:
    """The number of workers that compute, and their attempts at a job."""

    workers: Annotated[int, Between(1, 64)] = 1
    tries: Annotated[int, Between(1, 10)] = 3
    timeout_s: Annotated[float, Between(1, 604_800)] = 7200.0


@dataclass(frozen=True, slots=True)
class Output:
    """The content of the CT objects and their grid."""

    research_label: bool = True
    spacing_mm: Spacing | None = None
    orientation: Literal["axial", "source"] = "axial"
    field: Literal["mr", "body"] = "mr"
    body_margin_mm: Annotated[float, Between(0, 500)] = 10.0
    hu_range: HuRange = (-1024, 3071)
    image_type: ImageType = ("DERIVED", "SECONDARY", "AXIAL")
    series_description: SeriesDescription = DESCRIPTION
    equipment: Equipment = NODE_EQUIPMENT


@dataclass(frozen=True, slots=True)
class Audit:
    """The content of the audit trail (PS3.15 A.5) and the syslog server that gets a copy (PS3.15 A.6)."""

    source: str = ""
    site: str = ""
    patients: bool = False
    required: bool = False
    syslog: SyslogAddress | None = None
    syslog_tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Constancy:
    """The time of the daily constancy check, and the largest deviations from its reference in HU and mm."""

    at: TimeOfDay | None = None
    hu: Annotated[float, Between(0, 1000)] = 5.0
    mm: Annotated[float, Between(0, 100)] = 0.5


@dataclass(frozen=True, slots=True)
class Hosts:
    """Settings for several machines on one PostgreSQL database."""

    name: HostName | None = None
    dead_after_s: Annotated[float, Between(10, 86_400)] = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """The lowest level that is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Kind(StrEnum):
    """The kinds of notices; `notify.about` names those that are sent."""

    HOLD = "hold"
    FAILURE = "failure"
    ALARM = "alarm"
    REJECTION = "rejection"
    CONSTANCY = "constancy"


THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
KindName = Literal["hold", "failure", "alarm", "rejection", "constancy"]
Contents = Literal["codes", "sentences", "patients"]


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server that takes messages (RFC 6409), their sender and their recipients. Raises ValueError."""

    host: NonEmpty
    sender: MailAddress
    to: MailAddresses
    port: Port = 587
    security: Literal["starttls", "tls", "plain"] = "starttls"
    ca: ExpandedPath | None = None
    user: str | None = None
    password: Secret | None = None
    timeout_s: Annotated[float, Between(1, 600)] = 30.0

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ValueError("shows half of what it should; write user and password, or neither")
        if self.user is not None and not self.protected:
            raise ValueError("a password would be sent in clear; use security: starttls or tls")

    @property
    def protected(self) -> bool:
        """Whether messages are encrypted on the way, or stay on this machine."""
        return self.security != "plain" or self.host in THIS_MACHINE


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL to which notices are posted as JSON, signed with a secret."""

    secret: Secret
    url: WebAddress
    ca: ExpandedPath | None = None
    timeout_s: Annotated[float, Between(1, 600)] = 30.0

    @property
    def protected(self) -> bool:
        """Whether messages are encrypted on the way, or stay on this machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or parts.hostname in THIS_MACHINE


@dataclass(frozen=True, slots=True)
class Notify:
    """The notices that people get, and over which channels. Raises ValueError for patient data sent in clear."""

    about: tuple[KindName, ...] = ("hold", "failure", "alarm", "constancy")
    contents: Contents = "codes"
    page: WebAddress | None = None
    gather_s: Annotated[float, Between(0, 3600)] = 30.0
    retry_first_s: Annotated[float, Between(0.1, 86_400)] = 30.0
    retry_max_s: Annotated[float, Between(0.1, 86_400)] = 1800.0
    give_up_after_s: Annotated[float, Between(1, 31_536_000)] = 259_200.0
    mail: Mail | None = None
    webhook: Webhook | None = None

    def __post_init__(self) -> None:
        if self.contents != "codes" and not all(one.protected for one in self.channels.values()):
            raise ValueError(f"contents: {self.contents} would be sent in clear; encrypt the channel, or write codes")

    @property
    def channels(self) -> dict[str, Mail | Webhook]:
        """The channels that are set, by name."""
        named: dict[str, Mail | Webhook | None] = {"mail": self.mail, "webhook": self.webhook}
        return {name: channel for name, channel in named.items() if channel is not None}

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of notices that are sent, as `Kind`."""
        return frozenset(map(Kind, self.about))
