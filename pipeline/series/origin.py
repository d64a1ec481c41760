"""Where a series comes from, in words that may stand in reports, lists and metric labels: scanner and protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.errors import Unsuitable
from pipeline.series.instance import text
from pipeline.series.series import Series

LONGEST: Final = 64
"""Characters of a label; what is longer is cut (PS3.5 table 6.2-1, VR LO)."""
TELLING: Final = 4
"""A part of a name of so many letters is looked for within words too, a shorter one only as a word."""


@dataclass(frozen=True)
class Origin:
    """Scanner (ManufacturerModelName) and protocol (ProtocolName) of a series, "" where unknown.

    The scanner's maker writes the one, people type the other: a protocol that holds a part of the patient's name, or
    the patient's ID, is left empty.
    """

    scanner: str
    protocol: str


def origin_of(series: Series) -> Origin:
    """Read from the first image. Raises nothing for headers that are damaged: what cannot be read is empty."""
    scanner, protocol = _label(series, "ManufacturerModelName"), _label(series, "ProtocolName")
    try:
        secrets = [text(series.instances[0], keyword) for keyword in ("PatientName", "PatientID", "OtherPatientIDs")]
    except Unsuitable:
        return Origin(scanner, "")
    return Origin(scanner, "" if any(tells(protocol, secret) for secret in secrets) else protocol)


def _label(series: Series, keyword: str) -> str:
    try:
        said = text(series.instances[0], keyword)
    except Unsuitable:
        return ""
    return " ".join("".join(one if one.isprintable() else " " for one in said).split())[:LONGEST]


def tells(label: str, secret: str) -> bool:
    """Whether a label holds one of a secret's words, or all of it with its signs left out, whatever the case."""
    words = set(_words(label))
    joined = "".join(_words(label))
    parts = [*_words(secret), "".join(_words(secret))]
    return any(part in words or (len(part) >= TELLING and part in joined) for part in parts if len(part) > 1)


def _words(said: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", said.casefold())
