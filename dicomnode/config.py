"""The configuration: YAML -> frozen, validated values. Every complaint names the dotted path and what to do.

`config/node.yaml` shows every key with its default; a file may hold only what differs. Units are in the names. What a
key means is said once, there; the classes here say type, default and bounds.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from dicomnode.errors import ConfigError

Check = Callable[[Any], str | None]
"""A rule for one value: None when it holds, otherwise what the value must be."""

Built = typing.TypeVar("Built")


def between(low: float, high: float) -> Check:
    """The number is within [low, high]."""
    return lambda value: None if low <= value <= high else f"must be from {low} to {high}"


def ae_title(value: str) -> str | None:
    """VR AE (PS3.5 Table 6.2-1): 1 to 16 characters, no backslash, no control character, not only spaces."""
    plain = all(" " <= character <= "~" and character != "\\" for character in value)
    good = plain and 1 <= len(value) <= 16 and value.strip()
    return None if good else "must be 1 to 16 ASCII characters, no backslash"


def not_empty(value: str) -> str | None:
    """Some text."""
    return None if value.strip() else "must not be empty"


def plain_name(value: str) -> str | None:
    """A name that is safe in a file name, a metric label and a command line."""
    plain = all(character.isascii() and (character.isalnum() or character in "-_.") for character in value)
    return None if value and plain and len(value) <= 64 else "must be 1 to 64 letters, digits, '-', '_' or '.'"


def database_url(value: str) -> str | None:
    """`sqlite`, or a PostgreSQL URL."""
    good = value == "sqlite" or value.startswith(("postgresql://", "postgresql+psycopg://"))
    return None if good else "must be 'sqlite' or a URL that begins with postgresql://"


def device_name(value: str) -> str | None:
    """`auto`, `cpu` or `cuda:N`."""
    cuda = value.startswith("cuda:") and value.removeprefix("cuda:").isdigit()
    return None if value in ("auto", "cpu") or cuda else "must be 'auto', 'cpu' or 'cuda:0' (or another GPU's number)"


def spacing(value: float | tuple[float, ...] | None) -> str | None:
    """Nothing, one distance for all axes, or (slice, row, column) with square pixels."""
    if value is None:
        return None
    steps = value if isinstance(value, tuple) else (value,) * 3
    good = len(steps) == 3 and all(0.2 <= step <= 20 for step in steps) and steps[1] == steps[2]
    return None if good else "must be one number or three (slice, row, column), from 0.2 to 20, row and column equal"


def hu_range(value: tuple[int, ...]) -> str | None:
    """Lowest and highest HU within signed 16 bit stored values at intercept -1024."""
    good = len(value) == 2 and -33_792 <= value[0] < value[1] <= 31_743
    return None if good else "must be two whole numbers, the lower one first, from -33792 to 31743"


def image_type(value: tuple[str, ...]) -> str | None:
    """Values of ImageType of a CT image (PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1), VR CS."""
    words = all(1 <= len(word) <= 16 and set(word) <= _CODE_STRING for word in value)
    good = words and len(value) >= 3 and value[0] in ("ORIGINAL", "DERIVED") and value[1] in ("PRIMARY", "SECONDARY")
    return None if good and value[2] == "AXIAL" else "must be ORIGINAL or DERIVED, PRIMARY or SECONDARY, AXIAL, ..."


_CODE_STRING = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _")
"""Characters of VR CS (PS3.5 table 6.2-1)."""


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


@dataclass(frozen=True, slots=True)
class Web:
    """Where the jobs page, the metrics and the health answers are served."""

    bind: str = _checked("127.0.0.1", not_empty)
    port: int = _checked(8080, between(1, 65535))


@dataclass(frozen=True, slots=True)
class Receive:
    """Limits of the C-STORE SCP."""

    max_associations: int = _checked(64, between(1, 10_000))
    max_pdu_bytes: int = _checked(1_048_576, between(0, 16_777_216))
    idle_timeout_s: float = _checked(60.0, between(1, 3600))
    disk_reserve_bytes: int = _checked(1_073_741_824, between(0, 2**50))
    check_called_ae: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """When a series counts as complete."""

    quiet_s: float = _checked(30.0, between(0.1, 86_400))


@dataclass(frozen=True, slots=True)
class Synthesize:
    """The workers that compute."""

    workers: int = _checked(1, between(1, 64))
    tries: int = _checked(3, between(1, 10))


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


@dataclass(frozen=True, slots=True)
class Destination:
    """One C-STORE SCP that gets every CT series, with its own retries."""

    name: str = _required(plain_name)
    ae_title: str = _required(ae_title)
    host: str = _required(not_empty)
    port: int = _required(between(1, 65535))
    timeout_s: float = _checked(30.0, between(1, 3600))
    retry_first_s: float = _checked(10.0, between(0.1, 86_400))
    retry_max_s: float = _checked(1800.0, between(0.1, 604_800))
    alarm_after_s: float = _checked(3600.0, between(1, 2_592_000))


@dataclass(frozen=True, slots=True)
class Log:
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a site may set; `Config()` is the node without a file."""

    node: Node = Node()
    database: str = _checked("sqlite", database_url)
    web: Web = Web()
    receive: Receive = Receive()
    settle: Settle = Settle()
    model: str = _checked("limb-t1-ldm", not_empty)
    device: str = _checked("auto", device_name)
    anatomy_check: Literal["hold", "warn"] = "hold"
    synthesize: Synthesize = Synthesize()
    output: Output = Output()
    destinations: tuple[Destination, ...] = ()
    log: Log = Log()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what changes the result, without the model: a job's key holds its digest beside this one."""
        result = {"anatomy_check": self.anatomy_check, "output": dataclasses.asdict(self.output)}
        return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()

    def destination(self, name: str) -> Destination | None:
        """The destination of that name, or None."""
        return next((one for one in self.destinations if one.name == name), None)


def load(path: Path | None) -> Config:
    """Read a YAML file; None, or an empty file, is all defaults. Relative folders count from the working folder.

    Raises ConfigError for a file that cannot be read, an unknown key, a wrong type, a value out of range.
    """
    text = "" if path is None else _read(path)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), f"is not YAML ({_where(error)})", "correct the file there") from error
    config = _build(Config, {} if values is None else values, "")
    _names_differ(config.destinations)
    return dataclasses.replace(config, node=dataclasses.replace(config.node, data=config.node.data.absolute()))


def dump(config: Config) -> str:
    """The configuration as YAML with every key; `load` of it gives an equal Config."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)


def _plain(value: Any) -> Any:
    """Only what YAML knows by itself."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


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


def _names_differ(destinations: tuple[Destination, ...]) -> None:
    """Receipts are kept by destination name, so a name is used once."""
    names = [destination.name for destination in destinations]
    for index, name in enumerate(names):
        if name in names[:index]:
            path = f"destinations[{index}].name"
            raise ConfigError(path, f"{name!r} is used twice", "give each destination its own name")


def _build(kind: type[Built], values: object, path: str) -> Built:
    """A dataclass from a mapping of its keys; `path` is the dotted path of the mapping."""
    if not isinstance(values, Mapping):
        raise ConfigError(path or "(file)", f"is {_said(values)}", "write a mapping of keys to values here")
    hints = typing.get_type_hints(kind)
    fields = {one.name: one for one in dataclasses.fields(typing.cast("Any", kind))}
    for key in values:
        if key not in fields:
            raise ConfigError(_below(path, str(key)), "is no key of the configuration", _nearest(str(key), fields))
    given = {key: _value(hints[key], value, fields[key], _below(path, key)) for key, value in values.items()}
    for name, one in fields.items():
        if name not in given and one.default is dataclasses.MISSING:
            raise ConfigError(_below(path, name), "is missing", "add it; it has no default")
    return kind(**given)


def _below(path: str, key: str) -> str:
    """The dotted path of a key."""
    return f"{path}.{key}" if path else key


def _nearest(key: str, known: Mapping[str, object]) -> str:
    """A remedy for a misspelt key."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _value(hint: Any, value: object, one: dataclasses.Field[Any], path: str) -> Any:
    """One value of the type that the dataclass field declares, and within its rule."""
    built = _typed(hint, value, path)
    check: Check | None = one.metadata.get("check")
    complaint = check(built) if check else None
    if complaint:
        raise ConfigError(path, f"{value!r} {complaint}", "correct the value")
    return built


def _typed(hint: Any, value: object, path: str) -> Any:
    """A value of the declared type; integers pass as floats, nothing else is converted in silence."""
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return _one_of(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, path)
    if origin is Literal:
        return _choice(typing.get_args(hint), value, path)
    if origin is tuple:
        return _list(typing.get_args(hint)[0], value, path)
    if hint is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if hint is float and type(value) in (int, float):
        return float(typing.cast("float", value))
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise ConfigError(path, f"is {_said(value)}", f"write {_WANTED[hint]} here")


_WANTED: Mapping[Any, str] = types.MappingProxyType(
    {str: "text", Path: "a folder's path", int: "a whole number", float: "a number", bool: "true or false"}
)


def _choice(choices: tuple[object, ...], value: object, path: str) -> object:
    """One of a few words."""
    if value not in choices or type(value) is not str:
        raise ConfigError(path, f"is {_said(value)}", f"write one of: {', '.join(map(str, choices))}")
    return value


def _one_of(kinds: tuple[Any, ...], value: object, path: str) -> Any:
    """A value of one of several types: a list where one may be, nothing where that is one, else the first of them."""
    if value is None and types.NoneType in kinds:
        return None
    lists = [kind for kind in kinds if typing.get_origin(kind) is tuple]
    return _typed(lists[0] if lists and isinstance(value, list) else kinds[0], value, path)


def _list(kind: Any, value: object, path: str) -> tuple[Any, ...]:
    """A list of one kind, as a tuple."""
    if not isinstance(value, list):
        raise ConfigError(path, f"is {_said(value)}", "write a list here, each entry after a dash")
    return tuple(_typed(kind, entry, f"{path}[{index}]") for index, entry in enumerate(value))


def _said(value: object) -> str:
    """A wrong value as the file said it, and what it is."""
    if value is None:
        return "empty"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return f"{value!r} ({kinds.get(type(value), type(value).__name__)})"
