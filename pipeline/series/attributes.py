"""The attributes of MR images that a site's rules may use, by keyword, and their values image by image.

An image is an instance, or a frame of a multi-frame instance. A keyword of classic MR finds the attribute in Enhanced
MR too: in the functional groups of the frame, else in those of all frames (PS3.3 C.7.6.16), else at the top level, and
under the name that Enhanced MR gives it (`ENHANCED_NAMES`). Attributes that a conversion to Legacy Converted Enhanced
MR left unassigned (PS3.3 C.7.6.16.2.25.1 and .2) are found as well.

`origin_of` returns scanner and protocol of a series, in words that may stand in reports, lists and metric labels.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import product
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
"""The values of an attribute of one image as text, without blanks around them; empty where it has none."""

TEXT: Final = frozenset({"CS", "LO", "SH", "UC"})
NUMBER: Final = frozenset({"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL", "US or SS"})
"""Value representations (PS3.5 6.2) that rules may use. Names, dates, UIDs and free text may identify the patient."""

OF_THE_STUDY: Final = frozenset({"StudyDescription"})
"""The attributes of patient and study that rules may use."""
OF_THE_PROCEDURE: Final = frozenset({"PerformedProcedureStepID"})
"""Attributes of the series that rules may not use."""

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
"""The errors of pydicom for damaged values of a header in memory; a sequence that ends early gives an OSError."""

CONVERTED: Final = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")


@cache
def askable() -> Mapping[str, Kind]:
    """Return every keyword that rules may use, and how its values compare: of MR images, without patient and study."""
    found: dict[str, Kind] = {}
    for keyword in mr_attributes():
        vr = dictionary_VR(keyword)
        if vr in TEXT | NUMBER and keyword not in about_the_patient():
            found[keyword] = "text" if vr in TEXT else "number"
    return MappingProxyType(found)


@cache
def about_the_patient() -> frozenset[str]:
    """Return the keywords of patient, study and procedure that rules may not use (PS3.3 A.1.2)."""
    of_either = {keyword for keyword, standing in mr_attributes().items() if standing.entities & {"Patient", "Study"}}
    return frozenset((of_either | OF_THE_PROCEDURE) - OF_THE_STUDY)


def values_by_image(series: Series, keyword: str) -> list[Values]:
    """Return the values of an attribute for each image of a series, in the order of its instances and frames.

    A bad header raises no error: an attribute that is missing, empty or cannot be decoded has no values.
    """
    with _quietly():
        return [values for instance in series.instances for values in _of_instance(instance, keyword)]


def has_contrast_agent(series: Series) -> list[bool]:
    """Return whether each image names a contrast agent (PS3.3 C.7.6.4; for Enhanced MR C.7.6.4b)."""
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
    """Suppress pydicom's warning of an unknown character set: a value that cannot be decoded matches nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _of_instance(instance: Instance, keyword: str) -> Iterator[Values]:
    """Yield the values for each frame; a classic instance has one."""
    names = tuple(filter(None, (keyword, ENHANCED_NAMES.get(keyword))))
    top = _first_values([instance.header], names)
    if not top and keyword == "BodyPartExamined":  # an Enhanced image has its anatomic region instead (PS3.3 10.5)
        with suppress(Unsuitable, *IN_MEMORY):
            top = tuple(filter(None, [Series((instance,)).anatomy]))
    if not instance.is_multi_frame:
        yield top
        return
    known = mr_attributes()
    macros = [*CONVERTED, *(macro for name in names if name in known for macro in known[name].macros)]
    shared = _first_values(_within(_items(instance.header, "SharedFunctionalGroupsSequence")[:1], macros), names)
    for frame in _frames(instance):
        yield _first_values(_within([frame], macros), names) or shared or top


def _frames(instance: Instance) -> Sequence[Dataset]:
    """Return the functional groups of each frame; one empty item for a classic instance, or where there are none."""
    found = _items(instance.header, "PerFrameFunctionalGroupsSequence") if instance.is_multi_frame else ()
    return found or [Dataset()]


def _within(groups: Iterable[Dataset], macros: Iterable[str]) -> list[Dataset]:
    """Return the first items of functional group macros (PS3.3 C.7.6.16.2)."""
    return [item for group in groups for macro in macros for item in _items(group, macro)[:1]]


def _items(data_set: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; none where it is absent, empty, damaged, or no sequence at all."""
    try:
        value = data_set.get(keyword)
        return [item for item in value if isinstance(item, Dataset)] if value else []
    except IN_MEMORY:
        return []


def _first_values(data_sets: Sequence[Dataset], keywords: Sequence[str]) -> Values:
    """Return the values of the first of `keywords` that one of `data_sets` has with a value."""
    for data_set, keyword in product(data_sets, keywords):
        with suppress(Unsuitable, *IN_MEMORY):
            value = text_of(data_set, keyword, keyword)
            if value.strip("\\ "):
                return tuple(part.strip() for part in value.split("\\"))
    return ()


LONGEST: Final = 64
"""Characters of a label; a longer one is cut (PS3.5 table 6.2-1, VR LO)."""
REVEALING: Final = 4
"""A part of a name with so many letters is searched within words too, a shorter one only as a word."""


@dataclass(frozen=True)
class Origin:
    """Scanner and protocol of a series, "" where unknown.

    Attributes:
        scanner: ManufacturerModelName (PS3.3 C.7.5.1), which the scanner's maker writes.
        protocol: ProtocolName (PS3.3 C.7.3.1), which people type: empty where it holds a part of the patient's name, or
            the patient's ID.
    """

    scanner: str
    protocol: str


def origin_of(series: Series) -> Origin:
    """Return the origin from the first image; an attribute that cannot be read is empty and raises no error."""
    scanner, protocol = _label(series, "ManufacturerModelName"), _label(series, "ProtocolName")
    try:
        secrets = [text(series.instances[0], keyword) for keyword in ("PatientName", "PatientID", "OtherPatientIDs")]
    except Unsuitable:
        return Origin(scanner, "")
    return Origin(scanner, "" if any(reveals(protocol, secret) for secret in secrets) else protocol)


def _label(series: Series, keyword: str) -> str:
    """Return an attribute of the first image as one printable line of at most `LONGEST` characters."""
    try:
        value = text(series.instances[0], keyword)
    except Unsuitable:
        return ""
    return " ".join("".join(one if one.isprintable() else " " for one in value).split())[:LONGEST]


def reveals(label: str, secret: str) -> bool:
    """Return whether a label holds one of a secret's words, or all of it without punctuation, whatever the case."""
    words = set(_words(label))
    joined = "".join(_words(label))
    parts = [*_words(secret), "".join(_words(secret))]
    return any(part in words or (len(part) >= REVEALING and part in joined) for part in parts if len(part) > 1)


def _words(label: str) -> list[str]:
    """Return the runs of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", label.casefold())
