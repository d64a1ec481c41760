"""The configuration: YAML -> frozen, validated values. Every complaint names the dotted path and what to do.

`config/node.yaml` shows every key with its default; a file may hold only what differs. Units are in the names. What a
key means is said once, there; the classes here say type, default and bounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import yaml

from dicomnode.conditions import When
from dicomnode.credentials import Secret
from dicomnode.errors import ConfigError
from dicomnode.plain import Check, between, build, kind, nearest, plain, said
from dicomnode.trust import EVERYONE, NO_TLS, Admission, ClientTls, Tls
from dicomnode.values import (
    ae_title,
    database_url,
    description,
    device_name,
    host_name,
    host_names,
    hu_range,
    image_type,
    networks,
    not_empty,
    plain_name,
    seconds_or_never,
    spacing,
    syslog_address,
    title,
    web_address,
)
from pipeline.choice import UNAMBIGUOUS, Choice
from pipeline.profile import BadProfile, load_profile
from pipeline.provenance import DESCRIPTION, NODE_EQUIPMENT, Equipment
from pipeline.stack import TOLERANCES, Tolerances

AnatomyCheck = Literal["hold", "warn"]


def _checked(default: Any, check: Check) -> Any:
    """A dataclass field with a default and a rule."""
    return field(default=default, metadata={"check": check})


def _required(check: Check) -> Any:
    """A dataclass field without a default, only sensible inside a list's entries."""
    return field(metadata={"check": check})


@dataclass(frozen=True, slots=True)
class Node:
    """Who the node is on the network, and the folder for all it keeps."""

    ae_title: str = _checked("SCTNODE", ae_title)
    bind: str = _checked("127.0.0.1", not_empty)
    port: int = _checked(11112, between(1, 65535))
    data: Path = Path("sct-data")
    hang_timeout_s: float = _checked(300.0, between(1, 86_400))


@dataclass(frozen=True, slots=True)
class Web:
    """Where the jobs page is served, and to whom."""

    bind: str = _checked("127.0.0.1", not_empty)
    port: int = _checked(8080, between(1, 65535))
    users: Path | None = None
    session_idle_s: float = _checked(1800.0, between(60, 86_400))
    session_max_s: float = _checked(28_800.0, between(60, 604_800))
    certificate: Path | None = None
    key: Path | None = None
    key_password: Secret | None = None
    plain: bool = False
    proxies: tuple[str, ...] = _checked((), networks)
    names: tuple[str, ...] = _checked((), host_names)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are named together or not at all")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the metrics and the answers of health and readiness are served."""

    bind: str = _checked("127.0.0.1", not_empty)
    port: int = _checked(8081, between(1, 65535))


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an AE that sends to the node can be called back."""

    ae_title: str = _required(ae_title)
    host: str = _required(not_empty)
    port: int = _required(between(1, 65535))
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """Limits of the C-STORE SCP."""

    max_associations: int = _checked(64, between(1, 10_000))
    max_associations_per_ae: int = _checked(32, between(1, 10_000))
    max_pdu_bytes: int = _checked(1_048_576, between(0, 16_777_216))
    max_object_bytes: int = _checked(1_073_741_824, between(1, 2**40))
    max_receiving_bytes: int = _checked(4_294_967_296, between(1, 2**40))
    min_bytes_per_s: float = _checked(1000.0, between(0, 1e9))
    request_timeout_s: float = _checked(10.0, between(0.1, 3600))
    idle_timeout_s: float = _checked(60.0, between(1, 3600))
    disk_reserve_bytes: int = _checked(1_073_741_824, between(0, 2**50))
    check_called_ae: bool = False
    accept_lossy: bool = False
    peers: tuple[Peer, ...] = ()

    def peer(self, ae_title: str) -> Peer | None:
        """The peer of that AE title, or None."""
        return next((one for one in self.peers if one.ae_title.strip() == ae_title), None)


@dataclass(frozen=True, slots=True)
class Commitment:
    """How storage commitments are reported."""

    wait_s: float = _checked(10.0, between(0, 3600))
    timeout_s: float = _checked(30.0, between(1, 3600))
    retry_first_s: float = _checked(10.0, between(0.1, 86_400))
    retry_max_s: float = _checked(1800.0, between(0.1, 604_800))
    give_up_after_s: float = _checked(259_200.0, between(1, 31_536_000))


@dataclass(frozen=True, slots=True)
class Retention:
    """What is deleted, and when."""

    delivered_after_s: float | None = _checked(None, seconds_or_never)
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """When a series counts as complete."""

    quiet_s: float = _checked(30.0, between(0.1, 86_400))
    grace_s: float = _checked(10.0, between(0.1, 86_400))


@dataclass(frozen=True, slots=True)
class Synthesize:
    """The workers that compute."""

    workers: int = _checked(1, between(1, 64))
    tries: int = _checked(3, between(1, 10))
    timeout_s: float = _checked(7200.0, between(1, 604_800))


@dataclass(frozen=True, slots=True)
class Output:
    """What is written into the CT objects, and on which grid."""

    research_label: bool = True
    spacing_mm: float | tuple[float, ...] | None = _checked(None, spacing)
    orientation: Literal["axial", "source"] = "axial"
    field: Literal["mr", "body"] = "mr"
    body_margin_mm: float = _checked(10.0, between(0, 500))
    hu_range: tuple[int, ...] = _checked((-1024, 3071), hu_range)
    image_type: tuple[str, ...] = _checked(("DERIVED", "SECONDARY", "AXIAL"), image_type)
    series_description: str = _checked(DESCRIPTION, description)
    equipment: Equipment = NODE_EQUIPMENT


@dataclass(frozen=True, slots=True)
class Proof:
    """How a destination is asked to prove, by storage commitment, that it keeps what it took."""

    ae_title: str | None = _checked(None, lambda value: None if value is None else ae_title(value))
    host: str | None = _checked(None, lambda value: None if value is None else not_empty(value))
    port: int | None = _checked(None, lambda value: None if value is None else between(1, 65535)(value))
    wait_s: float = _checked(10.0, between(0, 86_400))
    linger_s: float = _checked(5.0, between(0, 600))
    ask_again_s: float = _checked(43_200.0, between(1, 2_592_000))
    alarm_after_s: float = _checked(86_400.0, between(1, 2_592_000))

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

    url: str = _required(web_address)
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

    name: str = _required(plain_name)
    ae_title: str = _checked("", lambda value: ae_title(value) if value else None)  # "" and 0: not set, beside stow
    host: str = _checked("", lambda value: not_empty(value) if value else None)
    port: int = _checked(0, between(0, 65535))
    timeout_s: float = _checked(30.0, between(1, 3600))
    retry_first_s: float = _checked(10.0, between(0.1, 86_400))
    retry_max_s: float = _checked(1800.0, between(0.1, 604_800))
    alarm_after_s: float = _checked(3600.0, between(1, 2_592_000))
    profile: str = _checked("generic", not_empty)
    tls: ClientTls | None = None
    commitment: Proof | None = None
    stow: Stow | None = None

    @property
    def where(self) -> str:
        """Its address, for people."""
        return self.stow.url if self.stow is not None else f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def machine(self) -> str:
        """The host that is called."""
        return (urlsplit(self.stow.url).hostname or "") if self.stow is not None else self.host


def _volume(value: object, path: str) -> Choice:
    """`volume`: which volume of a series is meant."""
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"is {said(value)}", "write a mapping such as {component: MAGNITUDE}")
    try:
        return Choice.of(value)
    except ValueError as error:
        raise ConfigError(path, str(error), "correct it") from error


VOLUME: Final = MappingProxyType({"read": _volume, "write": lambda choice: plain(choice.wanted)})
"""How a field with a Choice is read and written."""


@dataclass(frozen=True, slots=True)
class Convert:
    """What a rule has made of a series; what it leaves out is the node's own setting."""

    model: str | None = _checked(None, not_empty)
    destinations: tuple[str, ...] | None = None
    volume: Choice = field(default=UNAMBIGUOUS, metadata=VOLUME)
    anatomy_check: AnatomyCheck | None = None


def _then(value: object, path: str) -> Convert | None:
    """`convert`, or what to convert with, or `ignore` (None)."""
    if value in ("convert", "ignore"):
        return AS_CONFIGURED if value == "convert" else None
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"is {said(value)}", "write convert, ignore, or a mapping with what to convert with")
    return build(Convert, value, path)


def _then_written(then: Convert | None) -> object:
    if then is None:
        return "ignore"
    set_here = {key: value for key, value in plain(then).items() if value is not None and (value or key != "volume")}
    return set_here or "convert"


THEN: Final = MappingProxyType({"read": _then, "write": _then_written})
"""How a field with what becomes of a series is read and written."""
AS_CONFIGURED: Final = Convert()
"""Convert with the node's own settings."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which series are converted with what, or ignored (`then` is None); the first rule that takes a series decides."""

    name: str = field(metadata={"check": title})
    when: When = field(metadata={"read": When.of, "write": lambda when: dict(when.written)})
    then: Convert | None = field(metadata=THEN)


def _database(value: object, path: str) -> str:
    """`database`; a complaint never repeats what was written, for it may hold a password."""
    problem = database_url(value) if isinstance(value, str) else f"is {kind(value)}"
    if problem:
        raise ConfigError(path, problem, "correct it")
    return str(value)


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit trail (PS3.15 A.5)."""

    source: str = ""
    site: str = ""
    patients: bool = False
    required: bool = False
    syslog: str | None = _checked(None, syslog_address)
    syslog_tls: ClientTls | None = None


@dataclass(frozen=True, slots=True)
class Hosts:
    """Several machines on one PostgreSQL database."""

    name: str | None = _checked(None, host_name)
    dead_after_s: float = _checked(60.0, between(10, 86_400))


@dataclass(frozen=True, slots=True)
class Log:
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a site may set; `Config()` is the node without a file."""

    node: Node = Node()
    database: str = field(default="sqlite", metadata={"read": _database})
    database_password: Secret | None = None
    hosts: Hosts = Hosts()
    web: Web = Web()
    metrics: Metrics = Metrics()
    receive: Receive = Receive()
    commitment: Commitment = Commitment()
    tls: Tls = NO_TLS
    admission: Admission = EVERYONE
    settle: Settle = Settle()
    retention: Retention = Retention()
    model: str = _checked("limb-t1-ldm", not_empty)
    device: str = _checked("auto", device_name)
    anatomy_check: AnatomyCheck = "hold"
    synthesize: Synthesize = Synthesize()
    output: Output = Output()
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    otherwise: Convert | None = field(default=AS_CONFIGURED, metadata=THEN)
    stack: Tolerances = TOLERANCES
    audit: Audit = Audit()
    log: Log = Log()

    def destination(self, name: str) -> Destination | None:
        """The destination of that name, or None."""
        return next((one for one in self.destinations if one.name == name), None)

    def thens(self) -> Iterator[tuple[str, Convert]]:
        """Dotted path and content of every `then` that converts, `otherwise` last."""
        for index, rule in enumerate(self.rules):
            if rule.then is not None:
                yield f"rules[{index}].then", rule.then
        if self.otherwise is not None:
            yield "otherwise", self.otherwise


def load(path: Path | None) -> Config:
    """Read a YAML file; None, or an empty file, is all defaults. Relative folders count from the working folder.

    Raises ConfigError for a file that cannot be read, an unknown key, a wrong type, a value out of range.
    """
    text = "" if path is None else _read(path)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), f"is not YAML ({_where(error)})", "correct the file there") from error
    config = build(Config, {} if values is None else values, "")
    _names_differ("destinations", config.destinations)
    _names_differ("rules", config.rules)
    _addresses_are_whole(config.destinations)
    _destinations_exist(config)
    _profiles_are_there(config.destinations)
    config = dataclasses.replace(config, audit=_audit_completed(config.audit, config.tls))
    peers = _tls_completed(config.receive.peers, "receive.peers", config.tls)
    return dataclasses.replace(
        config,
        node=dataclasses.replace(config.node, data=config.node.data.absolute()),
        receive=dataclasses.replace(config.receive, peers=peers),
        destinations=_tls_completed(config.destinations, "destinations", config.tls),
    )


def dump(config: Config) -> str:
    """The configuration as YAML with every key; `load` of it gives an equal Config."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def _read(path: Path) -> str:
    """The file's text; ConfigError when it cannot be had."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(str(path), f"cannot be read ({why})", "name a readable YAML file") from error


def _where(error: yaml.YAMLError) -> str:
    """Line and column of a YAML error, for a person."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "unreadable"
    return f"{problem}, line {mark.line + 1}, column {mark.column + 1}" if mark else problem


def _names_differ(key: str, entries: tuple[Destination, ...] | tuple[Rule, ...]) -> None:
    """Receipts are kept by destination name, jobs by rule name: a name is used once."""
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(f"{key}[{index}].name", f"{name!r} is used twice", "give each its own name")


def _addresses_are_whole(destinations: tuple[Destination, ...]) -> None:
    """A destination is an application entity or a STOW-RS service."""
    for index, one in enumerate(destinations):
        path = f"destinations[{index}]"
        parts = {"ae_title": one.ae_title, "host": one.host, "port": one.port}
        for key, value in parts.items():
            if one.stow is None and not value:
                kind_of = "a number from 1 to 65535" if key == "port" else "it; there is no default"
                raise ConfigError(f"{path}.{key}", "is missing", f"add {kind_of}, or stow in its place")
            if one.stow is not None and value:
                raise ConfigError(f"{path}.{key}", "says nothing beside stow", "take it out; stow.url is the address")
        if one.stow is not None and one.commitment is not None:
            raise ConfigError(f"{path}.commitment", "cannot be asked of a STOW-RS service", "take it out")


def _destinations_exist(config: Config) -> None:
    """What a rule sends to is a destination of this configuration."""
    known = {destination.name: destination for destination in config.destinations}
    for path, then in config.thens():
        for index, name in enumerate(then.destinations or ()):
            if name not in known:
                path = f"{path}.destinations[{index}]"
                raise ConfigError(path, f"{name!r} is no destination of the configuration", nearest(name, known))


def _profiles_are_there(destinations: tuple[Destination, ...]) -> None:
    """What a destination asks of a CT series is known before one is made."""
    for index, destination in enumerate(destinations):
        try:
            load_profile(destination.profile)
        except BadProfile as error:
            raise ConfigError(f"destinations[{index}].profile", error.problem, error.remedy) from error


Called = TypeVar("Called", Destination, Peer)


def _tls_completed(called: tuple[Called, ...], key: str, node: Tls) -> tuple[Called, ...]:
    """Every peer that is called over TLS with all that this needs, its own or the node's."""
    whole = []
    for index, one in enumerate(called):
        try:
            whole.append(one if one.tls is None else dataclasses.replace(one, tls=one.tls.completed(node)))
        except ValueError as error:
            raise ConfigError(f"{key}[{index}].tls", str(error), "correct it") from error
    return tuple(whole)


def _audit_completed(audit: Audit, node: Tls) -> Audit:
    """The trail with all that its syslog server needs over TLS."""
    if not (audit.syslog or "").startswith("tls:"):
        return audit
    try:
        return dataclasses.replace(audit, syslog_tls=(audit.syslog_tls or ClientTls()).completed(node))
    except ValueError as error:
        raise ConfigError("audit.syslog_tls", str(error), "correct it") from error
