"""Plain values (what YAML and JSON know) -> frozen dataclasses, and back. Every complaint names the dotted path.

A dataclass is the schema: its fields' types and defaults, and in a field's metadata `check` (a rule for one value),
`bounds` (lowest and highest number), and where the value is not written as its type says, `read` and `write`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from dicomnode.errors import ConfigError

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
