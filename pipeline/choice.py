"""Which volume of a series is meant, where it holds several: the site's `Choice`, in a physicist's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WORDS: Final[Mapping[str, frozenset[str]]] = {
    "component": frozenset({"MAGNITUDE", "PHASE", "REAL", "IMAGINARY"}),
    "dixon": frozenset({"IN_PHASE", "OPPOSED_PHASE", "WATER", "FAT"}),
    "orientation": frozenset({"AXIAL", "CORONAL", "SAGITTAL"}),
    "contrast_agent": frozenset({"YES", "NO"}),
}
"""Aspects that are chosen by word, and their words."""

NUMBERS: Final = frozenset(
    {
        "echo",
        "echo_time_ms",
        "b_value",
        "temporal_position",
        "acquisition",
        "inversion_time_ms",
        "trigger_time_ms",
        "flip_angle_deg",
    }
)
"""Aspects that are chosen by number; `echo` counts from 1 in the order of echo time."""

TEXTS: Final = frozenset({"image_type", "stack"})
"""Aspects that are chosen by text: a value of ImageType, or a StackID."""

NOT_STATED: Final = "NONE"
"""The value of a volume whose headers do not state an aspect."""


@dataclass(frozen=True)
class Choice:
    """What a site wants of a series that holds several volumes; nothing: only a series that leaves no choice is taken.

    `wanted` holds (aspect, values), the values in order of preference.
    """

    wanted: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, mapping: Mapping[str, object]) -> Choice:
        """Return the choice that a mapping of plain values means, such as {"echo": 1, "dixon": ["IN_PHASE", "WATER"]}.

        Raises ValueError with what is wrong.
        """
        return cls(tuple(sorted((str(aspect), _values(str(aspect), given)) for aspect, given in mapping.items())))

    @property
    def mapping(self) -> dict[str, list[str]]:
        """The plain values that `of` takes again, for a record of the choice."""
        return {aspect: list(values) for aspect, values in self.wanted}


UNAMBIGUOUS: Final = Choice()
"""Take a volume only when it is the only one."""


def _values(aspect: str, given: object) -> tuple[str, ...]:
    """Return the values of one aspect as text, in order of preference."""
    known = sorted({*WORDS, *NUMBERS, *TEXTS})
    if aspect not in known:
        raise ValueError(f"{aspect!r} is nothing to choose a volume by; known are {', '.join(known)}")
    values = tuple(_value(aspect, one) for one in (given if isinstance(given, list | tuple) else [given]))
    if not values:
        raise ValueError(f"{aspect} is an empty list; name at least one value")
    return values


def _value(aspect: str, given: object) -> str:
    """Return one value as text; numbers in the form in which headers are compared."""
    if given is None or str(given).upper() == NOT_STATED:
        return NOT_STATED
    if aspect in NUMBERS:
        try:
            return f"{float(str(given)):.6g}"
        except ValueError:
            raise ValueError(f"{aspect} is {given!r}; a number is needed") from None
    word = {True: "YES", False: "NO"}[given] if isinstance(given, bool) else str(given).upper()
    if not word or word not in WORDS.get(aspect, {word}):
        raise ValueError(f"{aspect} is {given!r}; known are {', '.join(sorted(WORDS.get(aspect, {'any text'})))}")
    return word
