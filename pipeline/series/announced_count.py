"""The number of instances that the headers of a series announce. Evidence of completeness, never of geometry.

    attribute                                                   what it announces
    ImagesInAcquisition (0020,1002)                             images of one acquisition (PS3.3 C.7.6.1)
    InConcatenationTotalNumber (0020,9163)                      objects of one concatenation (PS3.3 C.7.6.16.1)
    GE (0025,xx07) of GEMS_SERS_01                              images in series
    Philips (2001,xx18) of Philips Imaging DD 001               slices, times echoes, phases and temporal positions
    Siemens (0029,xx20) of SIEMENS CSA HEADER, its protocol     slices of the slice array, or images of the slab
    NumberOfTemporalPositions (0020,0105)                       images at each position: shows only what is missing

The private attributes (PS3.5 7.8) are defined by the vendors' conformance statements (GE, Philips) and by the protocol
text itself (Siemens). A number counts only where all images of the series have the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.series.image_kind import private_text
from pipeline.series.instance import DAMAGE, Instance, text

_PROTOCOL_VALUE = rb"^%s[ \t]*=[ \t]*(0x[0-9a-fA-F]+|[0-9]+)"
_TWO_DIMENSIONS = 2
"""`sKSpace.ucDimension` of a protocol that excites slice by slice."""
_SIEMENS_KEYS = (
    b"sSliceArray.lSize",
    b"sKSpace.lImagesPerSlab",
    b"sKSpace.ucDimension",
    b"lContrasts",
    b"lRepetitions",
)


def announced(instances: Sequence[Instance]) -> int | None:
    """Return the number of instances that the headers announce for the series, the largest of several; or None.

    For images that are not as they were acquired only a concatenation's number counts: a reformat carries its source's
    numbers. The same holds for multi-frame objects: there vendors count frames.
    """
    if not instances:
        return None
    numbers = {_agreed(instances, "InConcatenationTotalNumber")}
    if all(text(one, "ImageType").startswith("ORIGINAL") and not one.is_multi_frame for one in instances):
        if _one_value(instances, "AcquisitionNumber"):
            numbers.add(_agreed(instances, "ImagesInAcquisition"))
        numbers.add(_agreed_private(instances, 0x0025, "GEMS_SERS_01", 0x07))
        numbers |= {philips_images(instances), siemens_images(instances)}
    return max(filter(None, numbers), default=None)


def lacks_announced(instances: Sequence[Instance]) -> bool:
    """Return whether the headers show that an instance is missing.

    It is missing when an announced number is not reached, or when a position has fewer images than
    NumberOfTemporalPositions, so that the last ones are still to come.
    """
    number = announced(instances)
    if number is not None and len(instances) < number:
        return True
    temporal = _agreed(instances, "NumberOfTemporalPositions") if instances else None
    if temporal is None or any(instance.is_multi_frame for instance in instances):
        return False
    positions = {text(instance, "ImagePositionPatient") for instance in instances}
    return len(instances) < len(positions) * temporal


def philips_images(instances: Sequence[Instance]) -> int | None:
    """Return Philips' slices times images at each, or None; also for diffusion, whose directions are not announced."""
    creator = "Philips Imaging DD 001"
    slices = _agreed_private(instances, 0x2001, creator, 0x18)
    if slices is None or any(text(one, "DiffusionBValue") not in ("", "0") for one in instances):
        return None
    echoes, phases = (_agreed_private(instances, 0x2001, creator, offset) or 1 for offset in (0x14, 0x17))
    image_types = len({text(one, "ImageType") for one in instances})
    return slices * echoes * phases * (_agreed(instances, "NumberOfTemporalPositions") or 1) * image_types


def siemens_images(instances: Sequence[Instance]) -> int | None:
    """Return the slices of a Siemens protocol with one contrast and no repetition, of one magnitude image each.

    The protocol is text (ASCCONV) within CSA Series Header Info, which may be absent or damaged.
    """
    if not _one_value(instances, "ImageType"):
        return None
    try:
        protocol = instances[0].header.private_block(0x0029, "SIEMENS CSA HEADER")[0x20].value
    except DAMAGE:
        return None
    if not isinstance(protocol, bytes):
        return None
    found = (re.search(_PROTOCOL_VALUE % re.escape(name), protocol, re.MULTILINE) for name in _SIEMENS_KEYS)
    slices, slab, dimensions, contrasts, repetitions = (int(match[1], 0) if match else None for match in found)
    if slices is None or dimensions is None or (contrasts or 1) > 1 or (repetitions or 0) > 0:
        return None
    return slices if dimensions == _TWO_DIMENSIONS else slices * slab if slab else None


def _one_value(instances: Sequence[Instance], keyword: str) -> bool:
    return len({text(instance, keyword) for instance in instances}) == 1


def _agreed(instances: Sequence[Instance], keyword: str) -> int | None:
    """Return the positive number on which all instances agree."""
    return _number({text(instance, keyword) for instance in instances})


def _agreed_private(instances: Sequence[Instance], group: int, creator: str, offset: int) -> int | None:
    return _number({private_text(instance.header, group, creator, offset, "<i") for instance in instances})


def _number(values: set[str]) -> int | None:
    (value, *others) = values
    return int(value) or None if not others and value.isascii() and value.isdigit() and len(value) < 9 else None
