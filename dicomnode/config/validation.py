"""What a value of the configuration may be: each rule says what is wrong with a value, or nothing.

A rule is a `plain.Check`: value -> a complaint ("must be ..."), or None when the value is good.

Plain values (what YAML and JSON know) -> frozen dataclasses, and back. Every complaint names the dotted path.

A dataclass is the schema: its fields' types and defaults, and in a field's metadata `check` (a rule for one value),
`bounds` (lowest and highest number), and where the value is not written as its type says, `read` and `write`.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from dicomnode.errors import ConfigError


def ae_title(value: str) -> str | None:
    """VR AE (PS3.5 Table 6.2-1): 1 to 16 characters, no backslash, no control character, not only spaces."""
    plain = all(" " <= character <= "~" and character != "\\" for character in value)
    good = plain and 1 <= len(value) <= 16 and value.strip()
    return None if good else "must be 1 to 16 ASCII characters, no backslash"


def ae_titles(value: tuple[str, ...]) -> str | None:
    """AE titles."""
    return next(filter(None, map(ae_title, value)), None)


def ae_pattern(value: str) -> str | None:
    """An AE title in which * stands for any characters and ? for one: those two are characters of VR AE as well."""
    return ae_title(value)


def networks(value: tuple[str, ...]) -> str | None:
    """IPv4 and IPv6 addresses or networks, such as 192.0.2.0/24."""
    for one in value:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            return f"must hold addresses or networks such as 192.0.2.0/24 ({error})"
    return None


def syslog_address(value: str | None) -> str | None:
    """Where a syslog server listens, or nothing."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        good = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname and parts.port)
    except ValueError:
        good = False
    schemes = ("udp", "tls", "unix")
    return None if good and parts.scheme in schemes else "must be udp://HOST:PORT, tls://HOST:PORT or unix:///PATH"


def not_empty(value: str) -> str | None:
    """Some text."""
    return None if value.strip() else "must not be empty"


def each_once(value: tuple[str, ...]) -> str | None:
    """No word stands twice."""
    return None if len(set(value)) == len(value) else "names one twice"


def plain_name(value: str) -> str | None:
    """A name that is safe in a file name, a metric label and a command line."""
    plain = all(character.isascii() and (character.isalnum() or character in "-_.") for character in value)
    return None if value and plain and len(value) <= 64 else "must be 1 to 64 letters, digits, '-', '_' or '.'"


def time_of_day(value: str | None) -> str | None:
    """Nothing, or hours and minutes."""
    if value is None or (re.fullmatch(r"[0-9]{2}:[0-9]{2}", value) and value < "24" and value[3:] < "60"):
        return None
    return "must be null, or a time of day in quotes, such as '05:30'"


def host_name(value: str | None) -> str | None:
    """Nothing, or a host name (RFC 1123): it becomes part of file names and of the engine's names."""
    if value is None:
        return None
    plain = all(character.isascii() and (character.isalnum() or character in "-.") for character in value)
    return None if value and plain and len(value) <= 64 else "must be 1 to 64 letters, digits, '-' or '.'"


def title(value: str) -> str | None:
    """A name for people: also a metric's label, so short and on one line."""
    good = value.strip() == value and value.isprintable() and 1 <= len(value) <= 64
    return None if good else "must be 1 to 64 printable characters, no blank at either end"


def database_url(value: str) -> str | None:
    """`sqlite`, or a PostgreSQL URL without a password (RFC 3986 3.2.1; libpq's key `password`)."""
    if value == "sqlite":
        return None
    if not value.startswith(("postgresql://", "postgresql+psycopg://")):
        return "must be 'sqlite' or a URL that begins with postgresql://"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "is no URL"
    if parts.password is not None or "password" in parse_qs(parts.query, keep_blank_values=True):
        return "must hold no password; say in database_password where it is, {file: PATH} or {environment: NAME}"
    return None


def host_names(value: tuple[str, ...]) -> str | None:
    """Names of a host in lower case, without a port (RFC 952, RFC 1123)."""
    plain = all(one and set(one) <= _HOST_NAME and len(one) <= 253 for one in value)
    return None if plain else "must be a list of host names in lower case, without a port"


_HOST_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


def web_address(value: str) -> str | None:
    """A URL of http or https with a host, and nothing that would be kept secret or asked."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    plain = value.isascii() and value.isprintable() and " " not in value and not set(value) & set("@?#")
    return None if good and plain else "must be a URL such as https://archive.example/dicom-web, without user or query"


def device_name(value: str) -> str | None:
    """`auto`, `cpu` or `cuda:N`."""
    cuda = value.startswith("cuda:") and value.removeprefix("cuda:").isdigit()
    return None if value in ("auto", "cpu") or cuda else "must be 'auto', 'cpu' or 'cuda:0' (or another GPU's number)"


def seconds_or_never(value: float | None) -> str | None:
    """Nothing, or at least a minute: what was just delivered may still have to be looked at."""
    return None if value is None or 60 <= value <= 3_155_760_000 else "must be null, or from 60 to 3155760000"


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


def description(value: str) -> str | None:
    """A SeriesDescription that every character set can write: VR LO (PS3.5 table 6.2-1)."""
    named = value.replace("{model}", "").replace("{version}", "")
    plain_text = value.isascii() and value.isprintable() and not set(named) & set("{}\\")
    good = plain_text and value.strip() and len(value) <= 64
    return None if good else "must be 1 to 64 ASCII characters; only {model} and {version} stand in braces"


def image_type(value: tuple[str, ...]) -> str | None:
    """Values of ImageType of a CT image (PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1), VR CS."""
    words = all(1 <= len(word) <= 16 and set(word) <= _CODE_STRING for word in value)
    good = words and len(value) >= 3 and value[0] in ("ORIGINAL", "DERIVED") and value[1] in ("PRIMARY", "SECONDARY")
    return None if good and value[2] == "AXIAL" else "must be ORIGINAL or DERIVED, PRIMARY or SECONDARY, AXIAL, ..."


_CODE_STRING = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _")
"""Characters of VR CS (PS3.5 table 6.2-1)."""


Check = Callable[[Any], str | None]
"""A rule for one value: None when it holds, otherwise what the value must be."""
Read = Callable[[object, str], Any]
"""(plain value, dotted path) -> the field's value; raises ConfigError."""
Built = typing.TypeVar("Built")


def between(low: float, high: float) -> Check:
    """The number is within [low, high]."""
    return lambda value: None if low <= value <= high else f"must be from {low} to {high}"


def build(wanted: type[Built], values: object, path: str) -> Built:
    """A dataclass from a mapping of its keys; `path` is the dotted path of the mapping. Raises ConfigError."""
    if not isinstance(values, Mapping):
        # Never the value itself: a password may have been written where only its place belongs.
        raise ConfigError(path or "(file)", f"is {kind(values)}", "write a mapping of keys to values here")
    hints = typing.get_type_hints(wanted)
    fields = {one.name: one for one in dataclasses.fields(typing.cast("Any", wanted))}
    for key in values:
        if key not in fields:
            raise ConfigError(_below(path, str(key)), "is no key of the configuration", nearest(str(key), fields))
    given = {key: _value(hints[key], value, fields[key], _below(path, key)) for key, value in values.items()}
    for name, one in fields.items():
        if name not in given and one.default is one.default_factory is dataclasses.MISSING:
            raise ConfigError(_below(path, name), "is missing", "add it; it has no default")
    try:
        return wanted(**given)
    except ValueError as error:
        raise ConfigError(path, str(error), "correct the value") from error


def plain(value: Any) -> Any:
    """What `build` makes an equal value of."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _written(value, one) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def nearest(key: str, known: Mapping[str, object]) -> str:
    """A remedy for a misspelt key."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def said(value: object) -> str:
    """A wrong value as the file said it, and what it is."""
    return kind(value) if value is None or isinstance(value, list | dict) else f"{value!r} ({kind(value)})"


def kind(value: object) -> str:
    """What a plain value is, without the value."""
    kinds: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kinds |= {type(None): "empty", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), type(value).__name__)


def _written(whole: Any, one: dataclasses.Field[Any]) -> Any:
    """One field's plain value."""
    value = getattr(whole, one.name)
    write = one.metadata.get("write")
    return write(value) if write else plain(value)


def _below(path: str, key: str) -> str:
    """The dotted path of a key."""
    return f"{path}.{key}" if path else key


def _value(hint: Any, value: object, one: dataclasses.Field[Any], path: str) -> Any:
    """One value of the type that the dataclass field declares, and within its rule."""
    read: Read | None = one.metadata.get("read")
    built = read(value, path) if read else _typed(hint, value, path)
    check: Check | None = one.metadata.get("check")
    if "bounds" in one.metadata:
        check = between(*one.metadata["bounds"])
    complaint = check(built) if check else None
    if complaint:
        raise ConfigError(path, f"{value!r} {complaint}", "correct the value")
    return built


def _typed(hint: Any, value: object, path: str) -> Any:
    """A value of the declared type; integers pass as floats, nothing else is converted in silence."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _one_of(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, path)
    if origin is Literal:
        return _choice(typing.get_args(hint), value, path)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, path)
    if hint is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if hint is float and type(value) in (int, float):
        return float(typing.cast("float", value))
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise ConfigError(path, f"is {said(value)}", f"write {_WANTED[hint]} here")


_WANTED: Mapping[Any, str] = types.MappingProxyType(
    {str: "text", Path: "a path", int: "a whole number", float: "a number", bool: "true or false"}
)


def _one_of(kinds: tuple[Any, ...], value: object, path: str) -> Any:
    """A value of one of several types: a list where one may be, nothing where that is one, else the first of them."""
    if value is None and types.NoneType in kinds:
        return None
    lists = [kind for kind in kinds if typing.get_origin(kind) is tuple]
    return _typed(lists[0] if lists and isinstance(value, list) else kinds[0], value, path)


def _choice(choices: tuple[object, ...], value: object, path: str) -> object:
    """One of a few words."""
    if value not in choices or type(value) is not str:
        raise ConfigError(path, f"is {said(value)}", f"write one of: {', '.join(map(str, choices))}")
    return value


def _tuple(kinds: tuple[Any, ...], value: object, path: str) -> tuple[Any, ...]:
    """A list of one kind, or of a fixed number of values, as a tuple."""
    if not isinstance(value, list):
        raise ConfigError(path, f"is {said(value)}", "write a list here, each entry after a dash")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ConfigError(path, f"holds {len(value)} values", f"write {len(kinds)} here")
    return tuple(_typed(kind, one, f"{path}[{at}]") for at, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def checked(default: Any, check: Check) -> Any:
    """A dataclass field with a default and a rule."""
    return field(default=default, metadata={"check": check})


def required(check: Check) -> Any:
    """A dataclass field without a default, only sensible inside a list's entries."""
    return field(metadata={"check": check})
