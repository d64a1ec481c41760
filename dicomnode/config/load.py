"""The configuration: a YAML file becomes frozen, validated values. Every error names the dotted path and what to do.

`config/node.yaml` shows every key with its default and explains it; a file may hold only what differs. Units are in the
names. The classes of this package give the type, the default and the bounds of each key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Discriminator, PlainSerializer, Tag

from dicomnode.config.peers import EVERYONE, NO_TLS, Admission, ClientTls, Destination, Secret, Tls
from dicomnode.config.rule_conditions import When
from dicomnode.config.sections import (
    Audit,
    Commitment,
    Constancy,
    Hosts,
    Log,
    Metrics,
    Node,
    Notify,
    Output,
    Peer,
    Quality,
    Receive,
    Retention,
    Settle,
    Synthesize,
    Web,
)
from dicomnode.config.validation import STRICT, build, nearest, plain
from dicomnode.config.values import (
    DeviceName,
    NonEmpty,
    ReadAs,
    Title,
    WithinBounds,
    complaint,
    database_url,
    kind,
    read_by,
    said,
)
from dicomnode.errors import ConfigError
from models.data.strict_yaml import BadYaml, Document, read_yaml
from pipeline.gate import Gate
from pipeline.preflight.profile import BadProfile, load_profile
from pipeline.series.stack import TOLERANCES, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice

AnatomyCheck = Literal["hold", "warn"]


def read_volume(value: object, path: str) -> Choice:
    """Return the choice that `volume` of a rule asks for."""
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"is {said(value)}", "write a mapping such as {component: MAGNITUDE}")
    try:
        return Choice.of(value)
    except ValueError as error:
        raise ConfigError(path, str(error), "correct it") from error


StackTolerances = Annotated[Tolerances, WithinBounds(Tolerances)]
AspectName: Any = Literal[tuple(one.name for one in dataclasses.fields(Choice))]
Volume = Annotated[Choice, read_by(read_volume, dict[AspectName, Any]), PlainSerializer(lambda choice: choice.wanted)]


@dataclass(frozen=True, slots=True)
class RuleAction:
    """The settings of a rule for the series that it takes; where it sets nothing, the node's own setting counts."""

    model: NonEmpty | None = None
    destinations: tuple[str, ...] | None = None
    volume: Volume = UNAMBIGUOUS
    anatomy_check: AnatomyCheck | None = None
    gate: Gate | None = None


AS_CONFIGURED: Final = RuleAction()
"""Convert with the node's own settings."""


def then_as_word(value: object) -> object:
    """Return a `then` that is no mapping, unchanged."""
    if value not in ("convert", "ignore"):
        raise complaint(f"is {said(value)}", "write convert, ignore, or a mapping with what to convert with")
    return value


def then_as_written(then: RuleAction | None) -> object:
    """Return the plain value from which `then` is read."""
    if then is None:
        return "ignore"
    set_here = {key: value for key, value in plain(then).items() if value is not None and (value or key != "volume")}
    return set_here or "convert"


Then = Annotated[
    RuleAction | None,
    ReadAs(
        Annotated[
            Annotated[Literal["convert", "ignore"], BeforeValidator(then_as_word), Tag("<word>")]
            | Annotated[RuleAction, Tag("<mapping>")],
            Discriminator(lambda value: "<mapping>" if isinstance(value, dict) else "<word>"),
        ],
        lambda then: {"convert": AS_CONFIGURED, "ignore": None}[then] if isinstance(then, str) else then,
    ),
    PlainSerializer(then_as_written),
]
"""What is done with a series: `convert`, a mapping of what to convert with, or `ignore` (None)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule takes the series that fulfil `when`, and does `then` with them (None: ignores them).

    The rules are asked in order; the first that takes a series decides.
    """

    name: Title
    when: Annotated[When, read_by(When.of, dict[str, Any]), PlainSerializer(lambda when: dict(when.written))]
    then: Then


SECRET: Final = re.compile(r"(password|secret|token|database)")
"""Dotted paths of values that no error message repeats."""


def read_database(value: object, path: str) -> str:
    """Return `database`; the error never repeats what was written, because it may hold a password."""
    problem = database_url(value) if isinstance(value, str) else f"is {kind(value)}"
    if problem:
        raise ConfigError(path, problem, "correct it")
    return str(value)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a site may set; `Config()` holds the defaults."""

    node: Node = Node()
    database: Annotated[str, read_by(read_database, str)] = "sqlite"
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
    model: NonEmpty = "limb-t1-ldm"
    device: DeviceName = "auto"
    anatomy_check: AnatomyCheck = "hold"
    quality: Quality = field(default_factory=Quality)
    synthesize: Synthesize = Synthesize()
    output: Output = Output()
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    otherwise: Then = field(default_factory=lambda: AS_CONFIGURED)
    stack: StackTolerances = TOLERANCES
    constancy: Constancy = Constancy()
    audit: Audit = Audit()
    notify: Notify = Notify()
    log: Log = Log()
    __pydantic_config__ = STRICT

    def destination(self, name: str) -> Destination | None:
        """Return the destination of that name, or None."""
        return next((one for one in self.destinations if one.name == name), None)

    def thens(self) -> Iterator[tuple[str, RuleAction]]:
        """Yield dotted path and content of every `then` that converts; `otherwise` comes last."""
        for index, rule in enumerate(self.rules):
            if rule.then is not None:
                yield f"rules[{index}].then", rule.then
        if self.otherwise is not None:
            yield "otherwise", self.otherwise


def load(path: Path | None) -> Config:
    """Read a configuration file (YAML); None or an empty file means all defaults.

    Relative folders are resolved against the working folder.

    Raises:
        ConfigError: the file cannot be read, or holds an unknown key, a wrong type, a value out of range, or sections
            that contradict each other; it names the file and the line.
    """
    document = Document(None) if path is None else _document(path)
    try:
        return _checked(build(Config, {} if document.values is None else document.values, ""))
    except ConfigError as error:
        raise (error if path is None else _located(error, path, document)) from error.__cause__


def _checked(config: Config) -> Config:
    """Return the configuration completed, after what one section says of another was compared. Raises ConfigError."""
    for key, entries in (("destinations", config.destinations), ("rules", config.rules)):
        names = [entry.name for entry in entries]  # receipts are kept by destination name, jobs by rule name
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigError(f"{key}[{index}].name", f"{name!r} is used twice", "give each its own name")
    for index, one in enumerate(config.destinations):
        _check_destination(one, f"destinations[{index}]")
    known = {destination.name: destination for destination in config.destinations}
    for path, then in config.thens():
        for index, name in enumerate(then.destinations or ()):
            if name not in known:
                path = f"{path}.destinations[{index}]"
                raise ConfigError(path, f"{name!r} is no destination of the configuration", nearest(name, known))
    audit = config.audit
    if (audit.syslog or "").startswith("tls:"):
        try:
            audit = dataclasses.replace(audit, syslog_tls=(audit.syslog_tls or ClientTls()).completed(config.tls))
        except ValueError as error:
            raise ConfigError("audit.syslog_tls", str(error), "correct it") from error
    peers = _tls_completed(config.receive.peers, "receive.peers", config.tls)
    return dataclasses.replace(
        config,
        audit=audit,
        node=dataclasses.replace(config.node, data=config.node.data.absolute()),
        receive=dataclasses.replace(config.receive, peers=peers),
        destinations=_tls_completed(config.destinations, "destinations", config.tls),
    )


def _check_destination(one: Destination, path: str) -> None:
    """Raise ConfigError unless it is either an application entity or a STOW-RS service, and its profile is known."""
    for key, value in {"ae_title": one.ae_title, "host": one.host, "port": one.port}.items():
        if one.stow is None and not value:
            kind_of = "a number from 1 to 65535" if key == "port" else "it; there is no default"
            raise ConfigError(f"{path}.{key}", "is missing", f"add {kind_of}, or stow in its place")
        if one.stow is not None and value:
            raise ConfigError(f"{path}.{key}", "says nothing beside stow", "take it out; stow.url is the address")
    if one.stow is not None and one.commitment is not None:
        raise ConfigError(f"{path}.commitment", "cannot be asked of a STOW-RS service", "take it out")
    try:
        load_profile(one.profile)
    except BadProfile as error:
        raise ConfigError(f"{path}.profile", error.problem, error.remedy) from error


Called = TypeVar("Called", Destination, Peer)


def _tls_completed(called: tuple[Called, ...], key: str, node: Tls) -> tuple[Called, ...]:
    """Return the peers that are called; TLS towards each takes from the node's `tls` what its own leaves out."""
    whole = []
    for index, one in enumerate(called):
        try:
            whole.append(one if one.tls is None else dataclasses.replace(one, tls=one.tls.completed(node)))
        except ValueError as error:
            raise ConfigError(f"{key}[{index}].tls", str(error), "correct it") from error
    return tuple(whole)


def dump(config: Config) -> str:
    """Return the configuration as YAML with every key; `load` makes an equal Config of it."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def located(error: ConfigError, path: Path | None) -> ConfigError:
    """Return an error about a value of the configuration file `path` with that file and the value's line."""
    return error if path is None or error.place else _located(error, path, _document(path))


def _document(path: Path) -> Document:
    """Return what the file says. Raises ConfigError for one that cannot be read as what it seems to say."""
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except BadYaml as error:
        if not error.path:
            raise ConfigError(str(path), error.problem, error.remedy) from None
        shown = "" if SECRET.search(error.path) else error.found
        place = f"{path}, line {error.line}"
        raise ConfigError(error.path, f"{shown} {error.problem}".lstrip(), error.remedy, place) from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(str(path), f"cannot be read ({why})", "name a readable YAML file") from error


def _located(error: ConfigError, path: Path, document: Document) -> ConfigError:
    """Return the error with the line of its dotted path; it quotes a word that YAML has read as true or false."""
    line = document.line(error.path)
    word = document.words.get(error.path)
    remedy = f"{error.remedy}; without quotes YAML reads {word} as true or false" if word else error.remedy
    return ConfigError(error.path, error.problem, remedy, f"{path}, line {line}" if line else str(path))
