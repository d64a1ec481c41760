"""Pixels of one instance: decoded to stored values, and stored values turned into MR values.

Decoders are chosen by name, so that a second installed plug-in never changes a result. pydicom keeps the BitsStored
bits of uncompressed values and extends their sign: old scanners hide overlays in the others (PS3.5 8.1.1).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame
from pipeline.series.instance import (
    DAMAGE,
    LOSSLESS_TRANSFER_SYNTAXES,
    LOSSY_TRANSFER_SYNTAXES,
    Instance,
    intact,
    read_file,
)

DECODERS = {
    RLELossless: "pylibjpeg",
    JPEGBaseline8Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}
"""Transfer syntax -> pydicom decoding plug-in; syntaxes not listed are not compressed."""

BITS_ALLOCATED = (8, 16, 32)
"""Sizes of a stored value; MR images have 16, Enhanced ones 8 or 16 (PS3.3 C.8.13.2)."""

Stored = NDArray[Any]


def decode_stored_values(instance: Instance) -> Stored:
    """Return the stored values of an image, an integer array (frame, row, column), before any rescale.

    Raises:
        Unsuitable: UNREADABLE, when the file is cut short or damaged, and when its bits are laid out in a way that no
            decoder here follows (PS3.5 8.1.1).
    """
    name, syntax = instance.sop_instance_uid, instance.transfer_syntax_uid
    with intact(name, "its image attributes are damaged"):
        frames = int(instance.header.get("NumberOfFrames") or 1)
        expected = (frames, int(instance.header.Rows), int(instance.header.Columns))
        bits = [int(instance.header.get(keyword)) for keyword in ("BitsAllocated", "BitsStored", "HighBit")]
    if bits[0] not in BITS_ALLOCATED or not 0 < bits[1] <= bits[0] or bits[2] != bits[1] - 1:
        detail = "its BitsAllocated, BitsStored and HighBit are {}, {} and {}".format(*bits)
        raise Unsuitable.of("UNREADABLE", name=name, detail=detail)
    with intact(name, "it is damaged"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of pixels, of which pydicom would warn, is checked below
        data_set, _ = read_file(instance.path, pixels=True)
    if "PixelData" not in data_set:
        raise Unsuitable.of("UNREADABLE", name=name, detail="its pixel data are missing or cut short")
    if syntax not in LOSSLESS_TRANSFER_SYNTAXES and syntax not in LOSSY_TRANSFER_SYNTAXES:
        raise Unsuitable.of("UNREADABLE", name=name, detail=f"its transfer syntax is {syntax.name}")
    with intact(name, "its pixel data are cut short or cannot be decoded"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, _ = get_decoder(syntax).as_array(data_set, raw=True, decoding_plugin=DECODERS.get(syntax, ""))
    if values.size != math.prod(expected):
        detail = f"{values.size} pixels where {math.prod(expected)} are expected"
        raise Unsuitable.of("UNREADABLE", name=name, detail=detail)
    return values.reshape(expected)


def mr_values(stored: Stored, frame: Frame) -> NDArray[np.float32]:
    """Return the MR values of one frame's stored values (row, column): Modality LUT or rescale, then padding to 0.

    The Modality LUT Sequence wins over slope and intercept, which the standard does not allow beside it (PS3.3
    C.11.1). Real World Value Mappings (PS3.3 C.7.6.16.2.11) and private scalings are not used. PixelPaddingValue, and
    what lies between it and PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2), is no signal.

    Raises:
        Unsuitable: BAD_RESCALE for a damaged Modality LUT, UNREADABLE for other damaged attributes.
    """
    header = frame.instance.header
    with intact(frame.name, "its image attributes are damaged"):
        if header.get("ModalityLUTSequence"):
            try:
                values = np.asarray(apply_modality_lut(stored, header), np.float64)
            except (OSError, *DAMAGE) as error:
                detail = f"its Modality LUT is damaged ({type(error).__name__})"
                raise Unsuitable.of("BAD_RESCALE", name=frame.name, detail=detail) from error
        else:
            values = stored * np.float64(frame.slope) + np.float64(frame.intercept)
        first, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
        if first is not None:
            bounds = [padding_value(int(value), header) for value in (first, first if limit is None else limit)]
            values[(stored >= min(bounds)) & (stored <= max(bounds))] = 0
    return values.astype(np.float32)


def padding_value(value: int, header: pydicom.Dataset) -> int:
    """Return a padding value as its bits mean it under PixelRepresentation, whatever VR it was written with."""
    bits = int(header.BitsAllocated)
    if int(header.PixelRepresentation) == 1 and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value % (1 << bits) if int(header.PixelRepresentation) == 0 else value
