"""Whether the pixels of a series went through lossy compression, now or earlier, and what is known of it.

A lossy transfer syntax is a loss; so is what Lossy Image Compression (0028,2110) remembers of earlier ones, whatever
the syntax the image came in at last (PS3.3 C.7.6.1.1.5).
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
"""Syntaxes that may carry a reversible code stream (PS3.5 A.4.4); then Lossy Image Compression says 00."""

LARGEST_RATIO = 1e6
"""What is larger is no compression ratio."""

METHOD = re.compile(r"[A-Z0-9_ ]{1,16}")
"""A value of VR CS (PS3.5 table 6.2-1)."""


@dataclass(frozen=True)
class Loss:
    """What is known of the lossy compressions of one image, in their order; either list may be empty.

    `ratios` are original size / compressed size, `methods` are defined terms of PS3.3 C.7.6.1.1.5.1.
    """

    name: str
    ratios: tuple[float, ...]
    methods: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For the CT and the report: method and ratio, where known."""
        known = [*self.methods, *(f"ratio {ratio:.4g}" for ratio in self.ratios)]
        return f"the MR was compressed with loss ({', '.join(known) or 'method and ratio not stated'})"


def loss_of(series: Series) -> Loss | None:
    """Return the loss of the image that was compressed most, None where no image of the series says of any.

    Raises Unsuitable UNREADABLE for a damaged header.
    """
    losses = filter(None, map(_loss, series.instances))
    return max(losses, key=lambda loss: (math.prod(loss.ratios), loss.name), default=None)


def loss_warnings(series: Series, accepted: bool) -> tuple[str, ...]:
    """Return what a user of the CT must know of the loss of the MR: one sentence, or none where nothing was lost.

    Raises Unsuitable LOSSY where a loss is not `accepted`, and UNREADABLE.
    """
    loss = loss_of(series)
    if loss is None:
        return ()
    if not accepted:
        known = ", ".join([*loss.methods, *(f"ratio {ratio:.4g}" for ratio in loss.ratios)])
        raise Unsuitable.of("LOSSY", name=loss.name, detail=known or "LossyImageCompression is 01")
    return (loss.sentence,)


def _loss(instance: Instance) -> Loss | None:
    """Return the loss of one image; a syntax that may be lossless is believed to be when the header says 00."""
    said = text(instance, "LossyImageCompression")
    syntax = instance.transfer_syntax_uid
    now = syntax in LOSSY_TRANSFER_SYNTAXES and not (syntax in PERHAPS_LOSSLESS and said == "00")
    if not now and said != "01":
        return None
    ratios = tuple(filter(None, map(_ratio, text(instance, "LossyImageCompressionRatio").split("\\"))))
    methods = tuple(filter(METHOD.fullmatch, text(instance, "LossyImageCompressionMethod").split("\\")))
    if now:
        methods = methods or (LOSSY_TRANSFER_SYNTAXES[syntax],)
        ratios = ratios or (_measured(instance),)
    return Loss(instance.sop_instance_uid, ratios, methods)


def _ratio(value: str) -> float | None:
    """Return a ratio as a number, None where it is none."""
    try:
        ratio = float(value)
    except ValueError:
        return None
    return ratio if 1 <= ratio <= LARGEST_RATIO else None


def _measured(instance: Instance) -> float:
    """Return about how much smaller the file is than its stored values would be."""
    header = instance.header
    with intact(instance.sop_instance_uid, "its header is damaged"):
        bits = (
            int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) * int(header.get("NumberOfFrames") or 1)
        )
    return round(bits / 8 / instance.path.stat().st_size, 2)
