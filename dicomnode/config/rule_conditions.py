"""The conditions of a rule (`rules[].when`), read strictly from plain values, and their test on a series.

    when:
      ProtocolName: "t1*"                   text: * is any characters, ? is one; capitals do not count
      ImageType: [*\\M\\*, "NORM"]          a list: any of them; each value is looked at, and all joined by a backslash
      MagneticFieldStrength: 1.5            a number
      EchoTime: {from: 0, to: 20}           a number within bounds, which belong to it; one of the two may be left out
      ContrastBolusAgent: {present: false}  the attribute says nothing, or (true) something
      contrast: false                       no image names a contrast agent, or (true) each one does
      CallingAE: MR_*                       the AE title of the sender

All conditions of a rule must hold, each for every image of the series, so that a stray image makes no series match.
`pipeline.series.attributes` explains what a keyword finds in Enhanced MR (PS3.3 A.36).
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from dicomnode.errors import ConfigError
from pipeline.series.attributes import Values, about_the_patient, askable, has_contrast_agent, values_by_image
from pipeline.series.series import Series

CALLING_AE: Final = "CallingAE"
CONTRAST: Final = "contrast"
SHOWN_CHARACTERS: Final = 64


class Want(Protocol):
    """The interface of a wanted value; a condition holds one or several."""

    def met(self, values: Values) -> bool:
        """Return whether the values of one image are as wanted."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A text pattern with `*` and `?`."""

    pattern: str

    def met(self, values: Values) -> bool:
        """Return whether one of the values, or all of them joined by backslashes, matches."""
        pattern = self.pattern.casefold().replace("[", "[[]")
        candidates = {*values, "\\".join(values)} if values else ()
        return any(fnmatch.fnmatchcase(value.casefold(), pattern) for value in candidates)

    def __str__(self) -> str:
        return f"does not match {self.pattern!r}"


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`."""

    low: float
    high: float

    def met(self, values: Values) -> bool:
        """Return whether one of the values is a number within the bounds, up to rounding."""
        numbers = [number for value in values if math.isfinite(number := _number(value))]
        return any(self.low - _slack(self.low) <= number <= self.high + _slack(self.high) for number in numbers)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"is not {self.low:g}"
        if math.isinf(self.low):
            return f"is above {self.high:g}"
        return f"is below {self.low:g}" if math.isinf(self.high) else f"is not from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Presence:
    """The presence of a value."""

    wanted: bool

    def met(self, values: Values) -> bool:
        """Return whether there are values, or none, as wanted."""
        return bool(values) == self.wanted

    def __str__(self) -> str:
        return "is absent" if self.wanted else "is present"


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of `when`: `key` is a DICOM keyword, `CallingAE` or `contrast`; one of `wanted` must be met."""

    key: str
    wanted: tuple[Want, ...]

    def failure(self, series: Series, calling_ae: str) -> str | None:
        """Return why the series does not fulfil the condition, with the value found; None when it does."""
        if self.key == CALLING_AE:  # counts as the value of one image
            found: list[Values] = [tuple(filter(None, [calling_ae.strip()]))]
        elif self.key == CONTRAST:
            found = [("agent",) if given else () for given in has_contrast_agent(series)]
        else:
            found = values_by_image(series, self.key)
        unmet = [values for values in found if not any(want.met(values) for want in self.wanted)]
        if found and not unmet:
            return None
        return f"{self.key} {self._said(unmet, len(found))}"

    def _said(self, unmet: Sequence[Values], images: int) -> str:
        """Return the commonest value that does not fulfil the condition, and the wanted values."""
        if not unmet:
            return "cannot be looked up: the series has no image"
        values, count = max(Counter(unmet).items(), key=lambda item: (item[1], item[0]))
        share = f" ({count} of {images} images)" if count < images else ""
        if not values:
            return f"is absent{share}"
        text = "\\".join(values)
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
        if not all(isinstance(want, Range) for want in self.wanted):
            shown = f"'{shown}'"
        patterns = [repr(want.pattern) for want in self.wanted if isinstance(want, Glob)]
        if len(patterns) == len(self.wanted) > 1:
            return f"{shown}{share} does not match any of {', '.join(patterns)}"
        return f"{shown}{share} {' and '.join(map(str, self.wanted))}"


@dataclass(frozen=True, slots=True)
class When:
    """All conditions of a rule; `written` is the mapping of the configuration. No condition takes every series."""

    written: Mapping[str, Any]
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, values: object, path: str) -> When:
        """Return the conditions of a mapping. Raises ConfigError with the dotted path below `path`."""
        if not isinstance(values, Mapping):
            raise ConfigError(path, "is no mapping", "write conditions, KEYWORD: VALUE each; {} takes every series")
        conditions = [
            Condition(_keyword(key, path), _wants(key, value, f"{path}.{key}")) for key, value in values.items()
        ]
        return cls(MappingProxyType(dict(values)), tuple(conditions))

    def failure(self, series: Series, calling_ae: str) -> str | None:
        """Return the first condition that fails, as a sentence; None when the rule takes the series."""
        failures = (condition.failure(series, calling_ae) for condition in self.conditions)
        return next((failure for failure in failures if failure is not None), None)

    def takes_all_that(self, other: When) -> bool:
        """Return whether it takes every series that `other` takes, because its conditions are among the other's."""
        return set(self.conditions) <= set(other.conditions)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _slack(bound: float) -> float:
    """Return the rounding error that a decimal string or a single-precision number may have."""
    return 0.0 if math.isinf(bound) else 1e-6 * abs(bound)


# Reading


def _keyword(key: object, path: str) -> str:
    """Return the keyword when a rule may ask for it. Raises ConfigError."""
    if key in (CALLING_AE, CONTRAST) or (isinstance(key, str) and key in askable()):
        return str(key)
    path = f"{path}.{key}"
    if key in about_the_patient():
        raise ConfigError(path, "describes the patient or the study", "ask for something that names nobody")
    known = {one.casefold(): one for one in (CALLING_AE, CONTRAST, *askable())}
    near = difflib.get_close_matches(str(key).casefold(), known, n=1)
    remedy = f"did you mean {known[near[0]]!r}?" if near else "write a DICOM keyword such as ProtocolName, or CallingAE"
    raise ConfigError(path, "is no attribute of MR images that a rule can ask for", remedy)


def _wants(key: str, value: object, path: str) -> tuple[Want, ...]:
    """Return the wanted values of a condition; a list holds alternatives."""
    if not isinstance(value, list):
        return (_want(key, value, path),)
    if not value:
        raise ConfigError(path, "is an empty list", "write what the attribute may be")
    return tuple(_want(key, one, f"{path}[{index}]") for index, one in enumerate(value))


def _want(key: str, value: object, path: str) -> Want:
    if key == CONTRAST:
        return Presence(_true_or_false(value, path))
    if isinstance(value, Mapping) and set(value) == {"present"}:
        return Presence(_true_or_false(value["present"], f"{path}.present"))
    if askable().get(key, "text") == "number":
        return _range(value, path)
    if isinstance(value, str) and value.strip():
        return Glob(value.strip())
    if isinstance(value, bool | int | float):
        raise ConfigError(path, f"is {_yaml(value)}, no text", "put it into quotes")
    raise ConfigError(path, "is no text", "write text with * and ?, a list of it, or {present: true}")


def _range(value: object, path: str) -> Range:
    if isinstance(value, Mapping) and value and set(value) <= {"from", "to"}:
        low = _finite(value["from"], f"{path}.from") if "from" in value else -math.inf
        high = _finite(value["to"], f"{path}.to") if "to" in value else math.inf
        if low > high:
            raise ConfigError(path, f"begins at {low:g} and ends at {high:g}", "write the lower bound as from")
        return Range(low, high)
    if isinstance(value, Mapping):
        raise ConfigError(path, "is no range", "write {from: 1, to: 2}, or one of the two, or {present: true}")
    number = _finite(value, path)
    return Range(number, number)


def _finite(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(path, f"is {_yaml(value)}", "write a number, or {from: 1, to: 2}")
    return float(value)


def _true_or_false(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(path, f"is {_yaml(value)}", "write true or false")
    return value


def _yaml(value: object) -> str:
    """Return a value as a YAML file shows it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
