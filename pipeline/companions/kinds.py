"""The companions of a synthetic CT series: objects that a destination may have beside it, and what each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

MADE_WITH_THE_CT: Final = "companions"
"""Folder, within a job's, of the companions that are made together with the CT."""

CompanionKind = Literal["rtstruct", "seg", "uncertainty", "sr", "pdf"]


@dataclass(frozen=True)
class CompanionOf:
    """What a kind of companion is.

    Attributes:
        sop_class_uid: its storage class (PS3.4 B.5).
        modality: its Modality (0008,0060).
        words: what it shows, for Series Description.
        decided: whether it tells what people decided about the case, and so is written only when it is first sent.
    """

    sop_class_uid: UID
    modality: str
    words: str
    decided: bool = False


COMPANIONS: Final[Mapping[CompanionKind, CompanionOf]] = MappingProxyType(
    {
        "rtstruct": CompanionOf(RTStructureSetStorage, "RTSTRUCT", "sCT outline"),
        "seg": CompanionOf(SegmentationStorage, "SEG", "sCT body and tissues"),
        "uncertainty": CompanionOf(ParametricMapStorage, "OT", "sCT uncertainty"),
        "sr": CompanionOf(Comprehensive3DSRStorage, "SR", "sCT findings", decided=True),
        "pdf": CompanionOf(EncapsulatedPDFStorage, "DOC", "sCT report", decided=True),
    }
)
"""Every kind, in the order in which companions are sent, after the CT series."""
