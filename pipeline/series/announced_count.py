"""How many instances the headers of a series announce. Evidence of completeness, never of geometry.

    attribute                                                   what it announces
    ImagesInAcquisition (0020,1002)                             images of one acquisition
    InConcatenationTotalNumber (0020,9163)                      objects of one concatenation (PS3.3 C.7.6.16.1)
    GE (0025,xx07) of GEMS_SERS_01                              images in series
    Philips (2001,xx18) of Philips Imaging DD 001               slices, times echoes, phases and temporal positions
    Siemens (0029,xx20) of SIEMENS CSA HEADER, its protocol     slices of the slice array, or images of the slab
    NumberOfTemporalPositions (0020,0105)                       images at each position: shows only what is missing

The private ones are as the vendors' conformance statements (GE, Philips) and the protocol text itself (Siemens) say.
A number counts only where every image of the series says the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.series.image_kind import private_text
from pipeline.series.instance import DAMAGE, Instance, text

if TYPE_CHECKING:
    from pipeline.series.series import Series

_PROTOCOL_VALUE = rb"^%s[ \t]*=[ \t]*(0x[0-9a-fA-F]+|[0-9]+)"
_TWO_DIMENSIONS = 2
"""`sKSpace.ucDimension` of a protocol that excites slice by slice."""


def announced(series: Series) -> int | None:
    """Return the number of instances that the headers announce for the series, the largest of several; or None.

    Of images that are not as they were acquired only a concatenation's: a reformat carries its source's counts. Of
    multi-frame objects too: what vendors count there are frames.
    """
    if not series.instances:
        return None
    acquired = all(text(one, "ImageType").startswith("ORIGINAL") and not one.is_multi_frame for one in series.instances)
    numbers = {number for count in (COUNTS if acquired else (_concatenation,)) if (number := count(series))}
    return max(numbers, default=None)


def lacks_announced(series: Series) -> bool:
    """Whether the headers show that something has not come: a number not reached, or a position with too few images."""
    number = announced(series)
    return (number is not None and len(series.instances) < number) or _lacks_temporal_positions(series)


def _images_in_acquisition(series: Series) -> int | None:
    """ImagesInAcquisition, where all images are of one acquisition (PS3.3 C.7.6.1)."""
    return _agreed(series, "ImagesInAcquisition") if _one_value(series, "AcquisitionNumber") else None


def _concatenation(series: Series) -> int | None:
    return _agreed(series, "InConcatenationTotalNumber")


def _ge(series: Series) -> int | None:
    return _agreed_private(series, 0x0025, "GEMS_SERS_01", 0x07)


def _philips(series: Series) -> int | None:
    """Slices times what is imaged at each; None for diffusion, whose directions are not announced."""
    creator = "Philips Imaging DD 001"
    slices = _agreed_private(series, 0x2001, creator, 0x18)
    if slices is None or any(text(one, "DiffusionBValue") not in ("", "0") for one in series.instances):
        return None
    echoes, phases = (_agreed_private(series, 0x2001, creator, offset) or 1 for offset in (0x14, 0x17))
    image_types = len({text(one, "ImageType") for one in series.instances})
    return slices * echoes * phases * (_agreed(series, "NumberOfTemporalPositions") or 1) * image_types


def _siemens(series: Series) -> int | None:
    """Slices of a protocol with one contrast and no repetition, of one magnitude image each."""
    if not _one_value(series, "ImageType"):
        return None
    protocol = _protocol(series.instances[0])
    if not isinstance(protocol, bytes):
        return None
    found = {name: _protocol_number(protocol, name) for name in _SIEMENS_KEYS}
    slices, slab, dimensions, contrasts, repetitions = (found[name] for name in _SIEMENS_KEYS)
    if slices is None or dimensions is None or (contrasts or 1) > 1 or (repetitions or 0) > 0:
        return None
    return slices if dimensions == _TWO_DIMENSIONS else slices * slab if slab else None


_SIEMENS_KEYS = (
    b"sSliceArray.lSize",
    b"sKSpace.lImagesPerSlab",
    b"sKSpace.ucDimension",
    b"lContrasts",
    b"lRepetitions",
)

COUNTS: tuple[Callable[[Series], int | None], ...] = (_images_in_acquisition, _concatenation, _ge, _philips, _siemens)


def _lacks_temporal_positions(series: Series) -> bool:
    """Whether a position has fewer images than NumberOfTemporalPositions, so that the last ones are still to come."""
    temporal = _agreed(series, "NumberOfTemporalPositions") if series.instances else None
    if temporal is None or any(instance.is_multi_frame for instance in series.instances):
        return False
    positions = {text(instance, "ImagePositionPatient") for instance in series.instances}
    return len(series.instances) < len(positions) * temporal


def _one_value(series: Series, keyword: str) -> bool:
    return len({text(instance, keyword) for instance in series.instances}) == 1


def _agreed(series: Series, keyword: str) -> int | None:
    """Return the positive number on which all instances agree."""
    return _number({text(instance, keyword) for instance in series.instances})


def _agreed_private(series: Series, group: int, creator: str, offset: int) -> int | None:
    return _number({private_text(instance.header, group, creator, offset, "<i") for instance in series.instances})


def _number(values: set[str]) -> int | None:
    (value, *others) = values
    return int(value) or None if not others and value.isascii() and value.isdigit() and len(value) < 9 else None


def _protocol(instance: Instance) -> object:
    """Return the value of Siemens' CSA Series Header Info (PS3.5 7.8.1), or None where it is absent or damaged."""
    try:
        return instance.header.private_block(0x0029, "SIEMENS CSA HEADER")[0x20].value
    except DAMAGE:
        return None


def _protocol_number(protocol: bytes, name: bytes) -> int | None:
    """Return a number of the protocol text (ASCCONV) in a CSA series header."""
    found = re.search(_PROTOCOL_VALUE % re.escape(name), protocol, re.MULTILINE)
    return int(found[1], 0) if found else None
