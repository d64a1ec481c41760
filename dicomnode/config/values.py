"""The values that the configuration may hold: a rule for each, and the type of the fields that follow it.

A rule is a `Check`: value -> a complaint ("must be ..."), or None when the value is good. The type of a field names its
rule, such as `Annotated[str, ValueCheck(title)]`; pydantic asks it when a file is read (`dicomnode.config.validation`).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import Discriminator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, Tag
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from dicomnode.errors import ConfigError

Check = Callable[[Any], str | None]
"""A rule for one value: None when it holds, otherwise what the value must be."""


def ae_title(value: str) -> str | None:
    """VR AE (PS3.5 Table 6.2-1): 1 to 16 characters, no backslash, no control character, not only spaces."""
    plain = all(" " <= character <= "~" and character != "\\" for character in value)
    good = plain and 1 <= len(value) <= 16 and value.strip()
    return None if good else "must be 1 to 16 ASCII characters, no backslash"


def ae_titles(value: tuple[str, ...]) -> str | None:
    """Each is an AE title."""
    return next(filter(None, map(ae_title, value)), None)


def networks(value: tuple[str, ...]) -> str | None:
    """IPv4 and IPv6 addresses or networks, such as 192.0.2.0/24."""
    for one in value:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            return f"must hold addresses or networks such as 192.0.2.0/24 ({error})"
    return None


def syslog_address(value: str) -> str | None:
    """The address of a syslog server: UDP (RFC 5426), TLS (RFC 5425) or a local socket."""
    try:
        parts = urlsplit(value)
        good = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname and parts.port)
    except ValueError:
        good = False
    schemes = ("udp", "tls", "unix")
    return None if good and parts.scheme in schemes else "must be udp://HOST:PORT, tls://HOST:PORT or unix:///PATH"


def not_empty(value: str) -> str | None:
    """Text that is not blank."""
    return None if value.strip() else "must not be empty"


def each_once(value: tuple[str, ...]) -> str | None:
    """All entries are different."""
    return None if len(set(value)) == len(value) else "names one twice"


def plain_name(value: str) -> str | None:
    """A name that is safe in a file name, a metric label and a command line."""
    plain = all(character.isascii() and (character.isalnum() or character in "-_.") for character in value)
    return None if value and plain and len(value) <= 64 else "must be 1 to 64 letters, digits, '-', '_' or '.'"


def time_of_day(value: str) -> str | None:
    """A time of day, HH:MM."""
    good = re.fullmatch(r"[0-9]{2}:[0-9]{2}", value) and value < "24" and value[3:] < "60"
    return None if good else "must be null, or a time of day in quotes, such as '05:30'"


def host_name(value: str) -> str | None:
    """A host name (RFC 1123) that is safe in file names and in names of executors."""
    plain = all(character.isascii() and (character.isalnum() or character in "-.") for character in value)
    return None if value and plain and len(value) <= 64 else "must be 1 to 64 letters, digits, '-' or '.'"


def title(value: str) -> str | None:
    """A name for people, short enough for the label of a metric, on one line."""
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
    """A URL of http or https (RFC 3986 3) with a host, without user, query or fragment."""
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


def seconds_kept(value: float) -> str | None:
    """At least a minute, because a person may still want to look at what was just delivered."""
    return None if 60 <= value <= 3_155_760_000 else "must be null, or from 60 to 3155760000"


def spacing(value: float | tuple[float, ...]) -> str | None:
    """One distance for all axes, or (slice, row, column) with square pixels."""
    steps = value if isinstance(value, tuple) else (value,) * 3
    good = len(steps) == 3 and all(0.2 <= step <= 20 for step in steps) and steps[1] == steps[2]
    return None if good else "must be one number or three (slice, row, column), from 0.2 to 20, row and column equal"


def hu_range(value: tuple[int, ...]) -> str | None:
    """Lowest and highest HU within signed 16 bit stored values at intercept -1024 (PS3.3 C.11.1.1.2)."""
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


def mail_address(value: str) -> str | None:
    """An e-mail address (addr-spec of RFC 5322 3.4.1) in ASCII, without a display name."""
    try:
        good = value.isascii() and value.isprintable() and Address(addr_spec=value).domain
    except (HeaderParseError, ValueError, IndexError):
        good = None
    return None if good else "must be an e-mail address such as physics@hospital.example"


def mail_addresses(value: tuple[str, ...]) -> str | None:
    """At least one e-mail address."""
    return next(filter(None, map(mail_address, value)), None) if value else "must name at least one address"


def unless_unset(check: Check) -> Check:
    """Return the rule for text that is empty where it is not set."""
    return lambda value: check(value) if value else None


def complaint(problem: str, remedy: str, below: str = "") -> PydanticCustomError:
    """Return an error for pydantic; `below` is added to the dotted path of the value."""
    return PydanticCustomError("complaint", "{problem}", {"problem": problem, "remedy": remedy, "below": below})


def broken_rule(problem: str, key: str = "") -> PydanticCustomError:
    """Return an error for pydantic: the value, or its key `key`, breaks a rule."""
    return PydanticCustomError("broken_rule", "{problem}", {"problem": problem, "key": key})


def said(value: object) -> str:
    """Return a wrong value as it stands in the file, with its type in words."""
    return kind(value) if value is None or isinstance(value, list | dict) else f"{value!r} ({kind(value)})"


def kind(value: object) -> str:
    """Return the type of a plain value in words."""
    kinds: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kinds |= {type(None): "empty", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), type(value).__name__)


def _kept(check: Check, schema: CoreSchema) -> CoreSchema:
    """Return the schema of values that follow a rule."""

    def checked(value: Any) -> Any:
        problem = check(value)
        if problem:
            raise broken_rule(problem)
        return value

    return no_info_after_validator_function(checked, schema)


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """Marks a type in `Annotated`: its values follow the rule `check`."""

    check: Check

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _kept(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Between:
    """Marks a number's type in `Annotated`: its values lie within [low, high]."""

    low: float
    high: float

    def __call__(self, value: float) -> str | None:
        """Return the complaint about a number outside the bounds, or None. NaN lies outside."""
        return None if self.low <= value <= self.high else f"must be from {self.low} to {self.high}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _kept(self, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class WithinBounds:
    """Marks the dataclass `kind` in `Annotated`: each number lies within the `bounds` of its field's metadata."""

    kind: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def within(value: Any) -> Any:
            for one in dataclasses.fields(value):
                problem = Between(*one.metadata["bounds"])(getattr(value, one.name))
                if problem:
                    raise broken_rule(problem, one.name)
            return value

        return no_info_after_validator_function(within, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        properties = handler.resolve_ref_schema(found)["properties"]
        for one in dataclasses.fields(self.kind):
            if one.type != "bool":
                low, high = one.metadata["bounds"]
                properties[one.name] |= {"minimum": low, "maximum": high}
        return found


def read_by(read: Callable[[object, str], Any], written_as: Any) -> PlainValidator:
    """Return the mark of a type whose values a function makes.

    Args:
        read: makes the value from a plain value and its dotted path. Raises ConfigError.
        written_as: type of the plain value, for the JSON Schema.
    """

    def validated(value: object) -> Any:
        try:
            return read(value, "")
        except ConfigError as error:
            raise complaint(error.problem, error.remedy, error.path) from None

    return PlainValidator(validated, json_schema_input_type=written_as)


@dataclass(frozen=True, slots=True)
class ReadAs:
    """Marks a type in `Annotated`: a value of the type `written` is read, and `meaning` converts it."""

    written: Any
    meaning: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.meaning, handler.generate_schema(self.written))


def read_path(value: object, path: str) -> Path:
    """Return a path with `~` expanded."""
    if not isinstance(value, str) or not value:
        raise ConfigError(path, f"is {said(value)}", "write a path here")
    return Path(value).expanduser()


AeTitle = Annotated[str, ValueCheck(ae_title)]
AeTitleOrUnset = Annotated[str, ValueCheck(unless_unset(ae_title))]
AeTitles = Annotated[tuple[str, ...], ValueCheck(ae_titles)]
DeviceName = Annotated[str, ValueCheck(device_name)]
ExpandedPath = Annotated[Path, read_by(read_path, str)]
HostName = Annotated[str, ValueCheck(host_name)]
HostNames = Annotated[tuple[str, ...], ValueCheck(host_names)]
HuRange = Annotated[tuple[int, ...], ValueCheck(hu_range)]
ImageType = Annotated[tuple[str, ...], ValueCheck(image_type)]
MailAddress = Annotated[str, ValueCheck(mail_address)]
MailAddresses = Annotated[tuple[str, ...], ValueCheck(mail_addresses)]
Networks = Annotated[tuple[str, ...], ValueCheck(networks)]
NonEmpty = Annotated[str, ValueCheck(not_empty)]
PlainName = Annotated[str, ValueCheck(plain_name)]
Port = Annotated[int, Between(1, 65535)]
SecondsKept = Annotated[float, ValueCheck(seconds_kept)]
SeriesDescription = Annotated[str, ValueCheck(description)]
SyslogAddress = Annotated[str, ValueCheck(syslog_address)]
TextOrUnset = Annotated[str, ValueCheck(unless_unset(not_empty))]
TimeOfDay = Annotated[str, ValueCheck(time_of_day)]
Title = Annotated[str, ValueCheck(title)]
WebAddress = Annotated[str, ValueCheck(web_address)]
Spacing = Annotated[
    Annotated[float, Tag("<number>")] | Annotated[tuple[float, ...], Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list | tuple) else "<number>"),
    ValueCheck(spacing),
]
"""One distance (mm) for all axes, or three (slice, row, column)."""
