"""Read the profile of a planning system: the rules that a CT series must keep before it is sent, with their limits.

A profile is a YAML file of `config/profiles`, or a site's own:

    for: whom the profile is for, in words
    like: generic            # optional: all rules of a shipped profile as well
    without: [square_pixels] # optional: except these
    rules:
      slice_count:           # a rule of `RULES`, with exactly its parameters
        most: 399
        evidence: why the rule is needed; shown to the person who looks at a held job

An error in a profile is reported with the path to it, such as `rules.slice_count.most`. The rules themselves are in
`pipeline.preflight.rules`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from models.data.strict_yaml import BadYaml, read_yaml

Parameter = Literal["whole number", "number", "words", "whole numbers"]

RULES: dict[str, dict[str, Parameter]] = {
    "sop_class": {},
    "required_attributes": {},
    "conditional_attributes": {},
    "patient_id": {},
    "patient_position": {},
    "synthetic_data": {},
    "decimal_strings": {},
    "hu_rescale": {},
    "sixteen_bits": {"stored": "whole numbers"},
    "value_range": {"lowest": "whole number", "highest": "whole number"},
    "axial_orientation": {},
    "square_pixels": {},
    "image_type": {"first": "words"},
    "attributes_filled": {"keywords": "words"},
    "equal_steps": {"tolerance_mm": "number"},
    "slices_touch": {"tolerance_mm": "number"},
    "one_series": {},
    "same_rescale": {},
    "unique_sop_uids": {},
    "slice_count": {"most": "whole number"},
    "length": {"most_mm": "number"},
}
"""Rule -> its parameters and their types."""

KEYS = ("for", "like", "without", "rules")


class BadProfile(ValueError):
    """A profile cannot be used.

    Attributes:
        where: path within the file, or "".
        problem: profile, path, and the fault.
        remedy: the correction that the person should make.
    """

    def __init__(self, profile: str, where: str, problem: str, remedy: str) -> None:
        self.where = where
        self.problem = f"profile {profile}: {where}{': ' if where else ''}{problem}"
        self.remedy = remedy
        super().__init__(f"{self.problem}; {remedy}")


@dataclass(frozen=True)
class ProfileRule:
    """A rule of a profile: its name, its parameters, and the evidence that a planning system needs it."""

    rule: str
    parameters: Mapping[str, Any]
    evidence: str

    def description(self) -> str:
        """Return the rule with its parameters, such as `slice_count(most 399)`."""
        texts = []
        for name, value in self.parameters.items():
            several = isinstance(value, tuple)
            text = ", ".join(map(str, value)) if several else f"{value:g}" if isinstance(value, float) else value
            texts.append(f"{name} {text}")
        return f"{self.rule}({'; '.join(texts)})" if texts else self.rule


@dataclass(frozen=True)
class Profile:
    """The requirements of one kind of planning system for a CT series.

    Attributes:
        name: name of a shipped profile, or the path of a site's own file.
        purpose: the planning systems that it is for.
        rules: its rules; the inherited ones come first.
        like: name of the profile whose rules it inherits, or "".
    """

    name: str
    purpose: str
    rules: tuple[ProfileRule, ...]
    like: str = ""


def shipped() -> tuple[str, ...]:
    """Return the names of the profiles of `config/profiles`, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


@cache
def load_profile(name: str) -> Profile:
    """Read a shipped profile by its name, or a site's own by the path of its file (ending in .yaml or .yml).

    Raises:
        BadProfile: there is no such profile, or it is not valid.
    """
    own = name.endswith((".yaml", ".yml"))
    path = Path(name).expanduser() if own else _folder() / f"{name}.yaml"
    if not own and name not in shipped():
        raise BadProfile(repr(name), "", "is not shipped", f"name one of {', '.join(shipped())}, or a .yaml file")
    try:
        values = read_yaml(path.read_text(encoding="utf-8")).values
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadProfile(name, "", f"cannot be read ({why})", "name a readable YAML file") from error
    except BadYaml as error:
        problem = f"{error.found} {error.problem} (line {error.line})".lstrip()
        raise BadProfile(name, error.path, problem, error.remedy) from error
    top = _mapping(name, "", values)
    _known(name, "", top, KEYS)
    like = _text(name, "like", top["like"]) if "like" in top else ""
    if like and (like not in shipped() or like == name):
        raise BadProfile(name, "like", f"{like!r} is no other shipped profile", f"name one of {', '.join(shipped())}")
    rules = _mapping(name, "rules", top.get("rules", {}))
    _known(name, "rules", rules, RULES)
    inherited = {one.rule: one for one in load_profile(like).rules} if like else {}
    without = _words(name, "without", top.get("without", []))
    _known(name, "without", without, inherited)
    given_rules = {rule: _checked(name, rule, given) for rule, given in rules.items()}
    kept = {rule: one for rule, one in {**inherited, **given_rules}.items() if rule not in without}
    if not kept:
        raise BadProfile(name, "rules", "there is no rule", "ask at least one rule")
    return Profile(name, _text(name, "for", top.get("for")), tuple(kept.values()), like)


def _folder() -> Path:
    return Path(str(files("config").joinpath("profiles")))


def _checked(name: str, rule: str, given: object) -> ProfileRule:
    """Check that a rule has exactly its parameters and an evidence."""
    where = f"rules.{rule}"
    values = _mapping(name, where, given)
    wanted = RULES[rule]
    _known(name, where, values, (*wanted, "evidence"))
    for parameter in wanted:
        if parameter not in values:
            raise BadProfile(name, f"{where}.{parameter}", "is missing", "add it; it has no default")
    parameters = {
        parameter: _value(name, f"{where}.{parameter}", kind, values[parameter]) for parameter, kind in wanted.items()
    }
    return ProfileRule(rule, parameters, _text(name, f"{where}.evidence", values.get("evidence")))


def _value(name: str, where: str, kind: Parameter, value: object) -> object:
    """Check that a parameter has its type."""
    if kind == "whole number" and type(value) is int:
        return value
    if kind == "number" and isinstance(value, int | float) and type(value) is not bool and 0 <= value < math.inf:
        return float(value)
    if kind == "whole numbers" and isinstance(value, list) and value and all(type(one) is int for one in value):
        return tuple(value)
    if kind == "words" and isinstance(value, list) and value:
        return _words(name, where, value)
    raise BadProfile(name, where, f"is {value!r}", f"write {'a list of ' if kind.endswith('s') else 'a '}{kind}")


def _mapping(name: str, where: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadProfile(name, where, f"is {value!r}", "write a mapping of keys to values here")
    return value


def _text(name: str, where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadProfile(name, where, "is missing or no text", "say it in words")
    return " ".join(value.split())


def _words(name: str, where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise BadProfile(name, where, f"is {value!r}", "write a list of words")
    return tuple(value)


def _known(name: str, where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise BadProfile for a key that is not known, and name the nearest one."""
    wanted = list(known)
    for key in keys:
        if key not in wanted:
            near = difflib.get_close_matches(key, wanted, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(wanted)}"
            raise BadProfile(name, f"{where}.{key}" if where else key, "is not known", remedy)
