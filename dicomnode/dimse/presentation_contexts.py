"""What the receiver accepts when an association is negotiated (PS3.8 9.3.2.2 and 9.3.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from pipeline.series.instance import LOSSLESS_TRANSFER_SYNTAXES, LOSSY_TRANSFER_SYNTAXES

if TYPE_CHECKING:
    from dicomnode.config.sections import Receive

VERIFICATION: Final = UID("1.2.840.10008.1.1")
"""The SOP class of C-ECHO (PS3.4 A.4)."""

SOP_CLASSES: Final = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
"""What may become a synthetic CT; any other class is refused when the association is negotiated."""


PLAIN_SYNTAXES: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
"""Accepted for everything but storage. No deflated one: what is decoded here could inflate without end."""


def transfer_syntaxes(receive: Receive) -> tuple[UID, ...]:
    """What is accepted for the storage classes; of several that a peer offers the first is taken (PS3.8 9.3.3.3)."""
    return (*LOSSLESS_TRANSFER_SYNTAXES, *(LOSSY_TRANSFER_SYNTAXES if receive.accept_lossy else ()))
