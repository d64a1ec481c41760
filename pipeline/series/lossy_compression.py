"""Lossy compression of the pixels of a series, now or earlier: its method and its ratio.

An image has a loss when its transfer syntax is lossy, or when Lossy Image Compression (0028,2110) records an earlier
one, whatever its transfer syntax is now (PS3.3 C.7.6.1.1.5).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydicom.uid import HTJ2K, JPEG2000

from pipeline.errors import Unsuitable
from pipeline.series.instance import LOSSY_TRANSFER_SYNTAXES, Instance, intact, text
from pipeline.series.series import Series

PERHAPS_LOSSLESS = frozenset({JPEG2000, HTJ2K})
"""Syntaxes that may carry a reversible code stream (PS3.5 A.4.4); then Lossy Image Compression is 00."""

LARGEST_RATIO = 1e6
"""A larger number is no compression ratio."""

METHOD = re.compile(r"[A-Z0-9_ ]{1,16}")
"""A value of VR CS (PS3.5 table 6.2-1)."""


@dataclass(frozen=True)
class Loss:
    """The lossy compressions of one image, in their order.

    Attributes:
        name: SOP Instance UID of the image.
        ratios: original size / compressed size (PS3.3 C.7.6.1.1.5.2); empty where unknown.
        methods: defined terms of PS3.3 C.7.6.1.1.5.1; empty where unknown.
    """

    name: str
    ratios: tuple[float, ...]
    methods: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The sentence for the CT and the report: method and ratio, where known."""
        known = [*self.methods, *(f"ratio {ratio:.4g}" for ratio in self.ratios)]
        return f"the MR was compressed with loss ({', '.join(known) or 'method and ratio not stated'})"


def loss_of(series: Series) -> Loss | None:
    """Return the loss of the image that was compressed most, None where no image of the series has one.

    Raises:
        Unsuitable: UNREADABLE for a damaged header.
    """
    losses = filter(None, map(loss_of_image, series.instances))
    return max(losses, key=lambda loss: (math.prod(loss.ratios), loss.name), default=None)


def loss_warnings(series: Series, accepted: bool) -> tuple[str, ...]:
    """Return the warning for a user of the CT of a lossy MR: one sentence, or none where nothing was lost.

    Raises:
        Unsuitable: LOSSY where a loss is not `accepted`, or UNREADABLE.
    """
    loss = loss_of(series)
    if loss is None:
        return ()
    if not accepted:
        known = ", ".join([*loss.methods, *(f"ratio {ratio:.4g}" for ratio in loss.ratios)])
        raise Unsuitable.of("LOSSY", name=loss.name, detail=known or "LossyImageCompression is 01")
    return (loss.sentence,)


def loss_of_image(instance: Instance) -> Loss | None:
    """Return the loss of one image, or None; a syntax that may be lossless is so when the header has 00.

    Where the header has no ratio, that of the file to its stored values is taken.

    Raises:
        Unsuitable: UNREADABLE for a damaged header.
    """
    header, stated = instance.header, text(instance, "LossyImageCompression")
    syntax = instance.transfer_syntax_uid
    now = syntax in LOSSY_TRANSFER_SYNTAXES and not (syntax in PERHAPS_LOSSLESS and stated == "00")
    if not now and stated != "01":
        return None
    ratios = tuple(filter(None, map(_ratio, text(instance, "LossyImageCompressionRatio").split("\\"))))
    methods = tuple(filter(METHOD.fullmatch, text(instance, "LossyImageCompressionMethod").split("\\")))
    if now and not ratios:
        with intact(instance.sop_instance_uid, "its header is damaged"):
            pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
            bits = pixels * int(header.BitsAllocated)
        ratios = (round(bits / 8 / instance.path.stat().st_size, 2),)
    if now and not methods:
        methods = (LOSSY_TRANSFER_SYNTAXES[syntax],)
    return Loss(instance.sop_instance_uid, ratios, methods)


def _ratio(value: str) -> float | None:
    """Return a ratio as a number, None where it is none."""
    try:
        ratio = float(value)
    except ValueError:
        return None
    return ratio if 1 <= ratio <= LARGEST_RATIO else None
