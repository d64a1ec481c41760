"""What a site may ask about a series: attributes of its MR images by keyword, and their values image by image.

An image is an instance, or a frame of a multi-frame instance. A keyword of classic MR finds the attribute in Enhanced
MR too: in the functional groups of the frame, else in those of all frames (PS3.3 C.7.6.16), else at the top level, and
under the name that Enhanced MR gives it (`ENHANCED_NAMES`). What the sender converted to Legacy Converted Enhanced MR
without a place of its own (PS3.3 C.7.6.16.2.25.1 and .2) is found as well.

Where a series comes from, in words that may stand in reports, lists and metric labels: scanner and protocol.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from pipeline.errors import Unsuitable
from pipeline.series.instance import DAMAGE, Instance, text, text_of
from pipeline.series.series import Series
from pipeline.standard import mr_attributes

Kind = Literal["text", "number"]

Values = tuple[str, ...]
"""The values of an attribute of one image as text, without blanks around them; empty when it says nothing."""

TEXT: Final = frozenset({"CS", "LO", "SH", "UC"})
NUMBER: Final = frozenset({"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL", "US or SS"})
"""Value representations (PS3.5 6.2) that may be asked for. Names, dates, UIDs and free text may tell who it is."""

OF_THE_STUDY: Final = frozenset({"StudyDescription"})
"""All that may be asked of patient and study."""
OF_THE_PROCEDURE: Final = frozenset({"PerformedProcedureStepID"})
"""What may not, although it stands with the series."""

ENHANCED_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AcquisitionNumber": "FrameAcquisitionNumber",
        "EchoTime": "EffectiveEchoTime",
        "ImageLaterality": "FrameLaterality",
        "ImageType": "FrameType",
        "ImagedNucleus": "ResonantNucleus",
        "ImagingFrequency": "TransmitterFrequency",
        "InversionTime": "InversionTimes",
        "Laterality": "FrameLaterality",
        "SequenceName": "PulseSequenceName",
        "TemporalPositionIdentifier": "TemporalPositionIndex",
    }
)
"""Keyword of MR Image (PS3.3 C.8.3.1) -> its keyword in Enhanced MR Image (PS3.3 C.8.13), where they differ."""

IN_MEMORY: Final = (OSError, *DAMAGE)
"""What pydicom raises on damaged values of a header that is read; for a sequence that ends early it is an OSError."""

CONVERTED: Final = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")


@cache
def askable() -> Mapping[str, Kind]:
    """Every keyword that may be asked for, and how its values compare: of MR images, less patient and study."""
    found: dict[str, Kind] = {}
    for keyword in mr_attributes():
        vr = dictionary_VR(keyword)
        if vr in TEXT | NUMBER and keyword not in about_the_patient():
            found[keyword] = "text" if vr in TEXT else "number"
    return MappingProxyType(found)


@cache
def about_the_patient() -> frozenset[str]:
    """Keywords that describe patient, study or procedure, none of which may be asked for."""
    of_either = {keyword for keyword, standing in mr_attributes().items() if standing.entities & {"Patient", "Study"}}
    return frozenset((of_either | OF_THE_PROCEDURE) - OF_THE_STUDY)


def values_by_image(series: Series, keyword: str) -> list[Values]:
    """The values of an attribute for each image of a series, in the order of its instances and frames.

    Never raises for a bad header: an attribute that is missing, empty or cannot be decoded has no values.
    """
    with _quietly():
        return [values for instance in series.instances for values in _of_instance(instance, keyword)]


def has_contrast_agent(series: Series) -> list[bool]:
    """Whether each image names a contrast agent (PS3.3 C.7.6.4; for Enhanced MR C.7.6.4b)."""
    named = values_by_image(series, "ContrastBolusAgent")
    with _quietly():
        listed = [
            bool(_items(instance.header, "ContrastBolusAgentSequence"))
            for instance in series.instances
            for _ in _frames(instance)
        ]
    return [bool(agent) or sequence for agent, sequence in zip(named, listed, strict=True)]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without pydicom's warning of an unknown character set: what cannot be decoded matches nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _of_instance(instance: Instance, keyword: str) -> Iterator[Values]:
    """The values for each frame; a classic instance counts as one."""
    names = tuple(filter(None, (keyword, ENHANCED_NAMES.get(keyword))))
    top = _said([instance.header], names) or _region(instance, keyword)
    if not instance.is_multi_frame:
        yield top
        return
    known = mr_attributes()
    macros = [*CONVERTED, *(macro for name in names if name in known for macro in known[name].macros)]
    shared = _said(_within(_items(instance.header, "SharedFunctionalGroupsSequence")[:1], macros), names)
    for frame in _frames(instance):
        yield _said(_within([frame], macros), names) or shared or top


def _frames(instance: Instance) -> Sequence[Dataset]:
    """The functional groups of each frame; one empty item for a classic instance, or where there are none."""
    found = _items(instance.header, "PerFrameFunctionalGroupsSequence") if instance.is_multi_frame else ()
    return found or [Dataset()]


def _within(groups: Iterable[Dataset], macros: Iterable[str]) -> list[Dataset]:
    """The first items of functional group macros (PS3.3 C.7.6.16.2)."""
    return [item for group in groups for macro in macros for item in _items(group, macro)[:1]]


def _items(data_set: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none where it is absent, empty, damaged, or no sequence at all."""
    try:
        value = data_set.get(keyword)
        return [item for item in value if isinstance(item, Dataset)] if value else []
    except IN_MEMORY:
        return []


def _region(instance: Instance, keyword: str) -> Values:
    """What an Enhanced image says in place of BodyPartExamined: its anatomic region (PS3.3 10.5)."""
    if keyword != "BodyPartExamined":
        return ()
    try:
        return tuple(filter(None, [Series((instance,)).anatomy]))
    except (Unsuitable, *IN_MEMORY):
        return ()


def _said(data_sets: Sequence[Dataset], keywords: Sequence[str]) -> Values:
    """The values of the first of `keywords` that one of `data_sets` has and that says something."""
    return next((found for data_set in data_sets for name in keywords if (found := _values(data_set, name))), ())


def _values(data_set: Dataset, keyword: str) -> Values:
    try:
        text = text_of(data_set, keyword, keyword)
    except (Unsuitable, *IN_MEMORY):
        return ()
    return tuple(part.strip() for part in text.split("\\")) if text.strip("\\ ") else ()


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
