"""Plain values (what YAML and JSON know) -> frozen dataclasses, and back, by pydantic 2.

A dataclass is the schema: the types and defaults of its fields. pydantic reads it strictly: nothing is converted but a
list to a tuple, a whole number to a float and text to a path. Its errors become this project's sentences: the dotted
path, what was found, what is allowed. A value that may be a secret is never repeated.

The dataclasses are those of the standard library, so that no schema is built when the configuration is imported; that
happens once a process, when its first file is read.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dicomnode.config.values import kind, said
from dicomnode.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

STRICT: Final = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
"""`__pydantic_config__` of a dataclass that `build` makes; the dataclasses of its fields are read by it as well."""

UNKNOWN_KEY: Final = "unexpected_keyword_argument"
WANTED: Final = MappingProxyType(
    {
        "string_type": "write text here",
        "int_type": "write a whole number here",
        "float_type": "write a number here",
        "bool_type": "write true or false here",
        "tuple_type": "write a list here, each entry after a dash",
    }
)
"""pydantic's name of an error about a value's type -> what to write."""

Built = TypeVar("Built")


@cache
def adapter(wanted: Any) -> TypeAdapter[Any]:
    """Return the pydantic adapter that reads and writes a dataclass."""
    return TypeAdapter(wanted)


def build(wanted: type[Built], values: object, path: str) -> Built:
    """Return a dataclass made from a mapping of its keys; `path` is the dotted path of the mapping.

    Raises ConfigError: for an unknown key first, otherwise for the first key in the dataclass's order that is wrong.
    """
    try:
        # As JSON text: there pydantic's strict mode takes a list for a tuple, and nothing else of another type.
        built: Built = adapter(wanted).validate_json(json.dumps(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = next((one for one in found if one["type"] == UNKNOWN_KEY), found[0])
        raise _complaint(wanted, first, path) from None  # pydantic's error holds the values, of which some are secret
    return built


def plain(value: Any) -> Any:
    """Return the plain values that `build` makes an equal dataclass of."""
    return adapter(type(value)).dump_python(value, mode="json", warnings=False)


def nearest(key: str, known: Mapping[str, object]) -> str:
    """Return a remedy for a misspelt key."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _complaint(wanted: Any, error: ErrorDetails, path: str) -> ConfigError:
    """Return the sentence of pydantic's error about a dataclass at the dotted path `path`."""
    here, around = wanted, wanted  # types: of the value, and of what holds it
    for step in error["loc"]:
        if isinstance(step, int):
            path = f"{path}[{step}]"
        elif not step.startswith("<"):  # <...> names a branch of a union, no key
            path = f"{path}.{step}" if path else step
            around, here = here, _keys(here).get(step, here)
    value, name = error["input"], error["type"]
    given = error.get("ctx", {})
    if name == "complaint":
        return ConfigError(f"{path}{given['below']}", given["problem"], given["remedy"])
    if name == "broken_rule":
        path, value = (f"{path}.{given['key']}", value[given["key"]]) if given["key"] else (path, value)
        shown = "" if "://" in str(value) and "@" in str(value) else f"{value!r} "  # such a URL may hold a password
        return ConfigError(path, f"{shown}{given['problem']}", "correct the value")
    if name == "value_error":
        return ConfigError(path, str(given["error"]), "correct the value")
    if name == "missing":
        return ConfigError(path, "is missing", "add it; it has no default")
    if name == UNKNOWN_KEY:
        return ConfigError(path, "is no key of the configuration", nearest(str(error["loc"][-1]), _keys(around)))
    if name == "literal_error":
        return ConfigError(path, f"is {said(value)}", f"write one of: {', '.join(_words(here))}")
    if name in WANTED:
        return ConfigError(path, f"is {said(value)}", WANTED[name])
    # Never the value itself: a password may have been written where only its place belongs.
    return ConfigError(path or "(file)", f"is {kind(value)}", "write a mapping of keys to values here")


def _keys(hint: Any) -> dict[str, Any]:
    """Return the keys, with their types, of the dataclasses in a type."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return typing.get_type_hints(hint, include_extras=True)
    return {key: one for part in typing.get_args(hint) for key, one in _keys(part).items()}


def _words(hint: Any) -> Iterator[str]:
    """Yield the words of the Literal in a type."""
    for part in typing.get_args(hint):
        if typing.get_origin(hint) is Literal:
            yield str(part)
        else:
            yield from _words(part)
