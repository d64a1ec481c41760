"""What kind of image a frame shows: the attributes by which several volumes of one series tell themselves apart.

The words are the keywords of the classic MR image (PS3.3 C.8.3.1); an Enhanced image says the same in functional groups
(PS3.3 C.8.13.5), a Legacy Converted one in the attributes that its conversion left unassigned (PS3.3 C.7.6.16.2.25).
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
"""What is read, in the order in which it is reported; `Dixon` and `DiffusionGradientOrientation` are added."""

COMPONENTS = {"M": "MAGNITUDE", "P": "PHASE", "R": "REAL", "I": "IMAGINARY", "PHASE MAP": "PHASE"}
"""Value 3 (Siemens) or 4 (Philips) of Image Type -> Complex Image Component (0008,9208), PS3.3 C.8.13.3.1.1.

Philips' value 3 says the same with the sequence, as M_FFE; a conversion to multi-frame keeps nothing but that.
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
    """Return the kind of a classic image: keyword -> text, "" where it is not said.

    Raises Unsuitable UNREADABLE, naming `name`, when a value cannot be decoded.
    """
    said = {keyword: text_of(header, keyword, name) for keyword, _, _ in KINDS}
    return _completed(said, header)


def frame_kind(header: pydicom.Dataset, macro: Macro, name: str) -> dict[str, str]:
    """Return the kind of one frame of a multi-frame image, in the same words as `classic_kind`.

    A value is taken from the frame's functional groups, else from its unassigned converted attributes, else from the
    object's top level; Image Type there is the whole object's and is not taken.
    """
    holders = [
        macro("UnassignedPerFrameConvertedAttributesSequence"),
        macro("UnassignedSharedConvertedAttributesSequence"),
    ]
    said = {}
    for keyword, sequence, attribute in KINDS:
        places = [(macro(sequence), attribute)] if sequence else []
        places += [(holder, keyword) for holder in (*holders, header) if keyword != "ImageType" or holder is not header]
        texts = (text_of(holder, word, name) for holder, word in places)
        said[keyword] = next(filter(None, texts), "")
    said["ASLContext"] = said["ASLContext"] or _philips_label(macro(PHILIPS_FRAME))
    directions = macro("MRDiffusionSequence").get("DiffusionGradientDirectionSequence") or ()
    return _completed(said, *directions, *holders, header)


def _completed(said: Mapping[str, str], *holders: pydicom.Dataset) -> dict[str, str]:
    """Return `said` with what vendors say in Image Type and private elements instead."""
    values = said["ImageType"].upper().split("\\")[2:]
    component = said["ComplexImageComponent"].upper() or next(filter(None, map(_component, values[:2])), "")
    return {
        **said,
        "ComplexImageComponent": component or _first(_ge_component, holders),
        "DiffusionBValue": said["DiffusionBValue"] or _first(_private_b_value, holders),
        "Dixon": next(filter(None, map(DIXON.get, values)), ""),
        "DiffusionGradientOrientation": _first(_direction, holders),
    }


def _component(value: str) -> str:
    return COMPONENTS.get(value[0] if value[1:2] == "_" else value, "") if value else ""


def _first(ask: Callable[[pydicom.Dataset], str], holders: tuple[pydicom.Dataset, ...]) -> str:
    return next(filter(None, map(ask, holders)), "")


def _direction(holder: pydicom.Dataset) -> str:
    """Gradient direction (0018,9089) to three decimals."""
    try:
        return "\\".join(f"{float(cosine):.3f}" for cosine in holder.get("DiffusionGradientOrientation") or ())
    except DAMAGE:
        return ""


def _philips_label(holder: pydicom.Dataset) -> str:
    """LABEL or CONTROL of arterial spin labelling, as Philips says it."""
    return private_text(holder, 0x2005, "Philips MR Imaging DD 005", 0x29, "")


def _ge_component(header: pydicom.Dataset) -> str:
    return GE_COMPONENTS.get(private_text(header, 0x0043, "GEMS_PARM_01", 0x2F, "<h"), "")


def _private_b_value(header: pydicom.Dataset) -> str:
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
