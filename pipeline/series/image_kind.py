"""The kind of image that a frame shows: the attributes in which several volumes of one series differ.

They are named by the keywords of the classic MR image (PS3.3 C.8.3.1). An Enhanced image has the same in functional
groups (PS3.3 C.8.13.5), a Legacy Converted one in the attributes that its conversion left unassigned (PS3.3
C.7.6.16.2.25).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Mapping

import pydicom

from pipeline.series.instance import DAMAGE, text_of

KINDS: tuple[tuple[str, str, str], ...] = (
    # keyword of the classic image, functional group macro, keyword there
    ("ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("ComplexImageComponent", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("EchoNumbers", "", ""),
    ("InversionTime", "MRModifierSequence", "InversionTimes"),
    ("FlipAngle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("ASLContext", "MRArterialSpinLabelingSequence", "ASLContext"),
    ("DiffusionDirectionality", "MRDiffusionSequence", "DiffusionDirectionality"),
    ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("ContrastBolusAgent", "", ""),
    ("StackID", "FrameContentSequence", "StackID"),
)
"""The attributes in the order in which they are reported; `Dixon` and `DiffusionGradientOrientation` are added."""

COMPONENTS = {"M": "MAGNITUDE", "P": "PHASE", "R": "REAL", "I": "IMAGINARY", "PHASE MAP": "PHASE"}
"""Value 3 (Siemens) or 4 (Philips) of Image Type -> Complex Image Component (0008,9208), PS3.3 C.8.13.3.1.1.

Philips' value 3 has the sequence as well, as M_FFE; a conversion to multi-frame keeps that value alone.
"""

GE_COMPONENTS = {"0": "MAGNITUDE", "1": "PHASE", "2": "REAL", "3": "IMAGINARY"}
"""GE's private image type (0043,xx2F) -> Complex Image Component."""

DIXON = {
    "W": "WATER",
    "WATER": "WATER",
    "F": "FAT",
    "FAT": "FAT",
    "IP": "IN_PHASE",
    "IN_PHASE": "IN_PHASE",
    "IN PHASE": "IN_PHASE",
    "OP": "OPPOSED_PHASE",
    "OPP_PHASE": "OPPOSED_PHASE",
    "OPPOSED_PHASE": "OPPOSED_PHASE",
    "OUT_PHASE": "OPPOSED_PHASE",
    "OUT_OF_PHASE": "OPPOSED_PHASE",
}
"""A value of Image Type from the third on, as the vendors write it -> the Dixon image it is."""

PRIVATE_B_VALUES = (
    (0x0019, "SIEMENS MR HEADER", 0x0C, ""),
    (0x0043, "GEMS_PARM_01", 0x39, ""),
    (0x2001, "Philips Imaging DD 001", 0x03, "<f"),
    (0x0065, "Image Private Header", 0x09, "<d"),
)
"""Group, private creator (Siemens, GE, Philips, United Imaging), element, binary format of its value ("" is text)."""

GE_B_VALUE_OFFSET = 1_000_000_000
"""GE adds this to b-values of some sequences."""

PHILIPS_FRAME = 0x2005140F
"""Private sequence in Philips' functional groups: the classic image's attributes."""

Macro = Callable[[str | int], pydicom.Dataset]
"""From the keyword or tag of a functional group macro to its item for one frame, empty where it is absent."""


def classic_kind(header: pydicom.Dataset, name: str) -> dict[str, str]:
    """Return the kind of a classic image: keyword -> text, "" where it is absent.

    Raises:
        Unsuitable: UNREADABLE, naming `name`, when a value cannot be decoded.
    """
    return _completed({keyword: text_of(header, keyword, name) for keyword, _, _ in KINDS}, header)


def frame_kind(header: pydicom.Dataset, macro: Macro, name: str) -> dict[str, str]:
    """Return the kind of one frame of a multi-frame image, in the same words as `classic_kind`.

    A value is taken from the frame's functional groups, else from its unassigned converted attributes, else from the
    object's top level; Image Type there is the whole object's and is not taken.
    """
    holders = [
        macro("UnassignedPerFrameConvertedAttributesSequence"),
        macro("UnassignedSharedConvertedAttributesSequence"),
    ]
    stated = {}
    for keyword, sequence, attribute in KINDS:
        places = [(macro(sequence), attribute)] if sequence else []
        places += [(holder, keyword) for holder in (*holders, header) if keyword != "ImageType" or holder is not header]
        texts = (text_of(holder, word, name) for holder, word in places)
        stated[keyword] = next(filter(None, texts), "")
    # LABEL or CONTROL of arterial spin labelling, in Philips' private element
    label = private_text(macro(PHILIPS_FRAME), 0x2005, "Philips MR Imaging DD 005", 0x29)
    stated["ASLContext"] = stated["ASLContext"] or label
    directions = macro("MRDiffusionSequence").get("DiffusionGradientDirectionSequence") or ()
    return _completed(stated, *directions, *holders, header)


def _completed(stated: Mapping[str, str], *holders: pydicom.Dataset) -> dict[str, str]:
    """Return `stated`, completed from Image Type and from the private elements of vendors."""
    values = stated["ImageType"].upper().split("\\")[2:]
    component = stated["ComplexImageComponent"].upper()
    for value in values[:2]:
        component = component or COMPONENTS.get(value[0] if value[1:2] == "_" else value, "")
    for holder in holders:
        component = component or GE_COMPONENTS.get(private_text(holder, 0x0043, "GEMS_PARM_01", 0x2F, "<h"), "")
    return {
        **stated,
        "ComplexImageComponent": component,
        "DiffusionBValue": stated["DiffusionBValue"] or next(filter(None, map(_private_b_value, holders)), ""),
        "Dixon": next(filter(None, map(DIXON.get, values)), ""),
        "DiffusionGradientOrientation": next(filter(None, map(_direction, holders)), ""),
    }


def _direction(holder: pydicom.Dataset) -> str:
    """Return the gradient direction (0018,9089) with three decimals, "" where it is absent or damaged."""
    try:
        return "\\".join(f"{float(cosine):.3f}" for cosine in holder.get("DiffusionGradientOrientation") or ())
    except DAMAGE:
        return ""


def _private_b_value(header: pydicom.Dataset) -> str:
    """Return the b-value of a vendor's private element, in s/mm2, "" where there is none."""
    for group, creator, element, binary in PRIVATE_B_VALUES:
        value = private_text(header, group, creator, element, binary)
        with contextlib.suppress(ValueError):
            return f"{float(value) % GE_B_VALUE_OFFSET:.6g}"
    return ""


def private_text(header: pydicom.Dataset, group: int, creator: str, element: int, binary: str = "") -> str:
    """Return the first value of a private element (PS3.5 7.8) as text, "" where it is absent or cannot be read.

    Implicit VR, and a sender that knows no private dictionary, bring it as bytes of unknown VR.
    """
    try:
        value = header.private_block(group, creator)[element].value
        if isinstance(value, bytes):
            value = struct.unpack(binary, value)[0] if binary else value.decode("ascii").split("\\")[0]
        first = value[0] if isinstance(value, pydicom.multival.MultiValue) else value
        return "" if first is None else str(first).strip()
    except (OSError, *DAMAGE):
        return ""
