"""SOP classes and transfer syntaxes that the node accepts in the association negotiation (PS3.8 9.3.2.2, 9.3.3.2)."""

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
"""SOP classes of images that can become a synthetic CT (PS3.4 B.5); others are rejected in the negotiation."""

PLAIN_SYNTAXES: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
"""Transfer syntaxes for everything but storage (PS3.5 A.1 to A.3).

The deflated one (PS3.5 A.5) is not accepted: a small data set could inflate without end.
"""


def transfer_syntaxes(receive: Receive) -> tuple[UID, ...]:
    """Return the transfer syntaxes for storage; the first that a peer proposes is accepted (PS3.8 9.3.3.3)."""
    return (*LOSSLESS_TRANSFER_SYNTAXES, *(LOSSY_TRANSFER_SYNTAXES if receive.accept_lossy else ()))
