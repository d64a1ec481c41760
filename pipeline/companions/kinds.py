"""List the kinds of companions: DICOM objects that a destination may receive beside the synthetic CT series."""

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
"""Subfolder of a job's folder for the companions that are made together with the CT."""

CompanionKind = Literal["rtstruct", "seg", "uncertainty", "sr", "pdf"]


@dataclass(frozen=True)
class CompanionOf:
    """The properties of one kind of companion.

    Attributes:
        sop_class_uid: its storage class (PS3.4 B.5).
        modality: its Modality (0008,0060).
        description: the beginning of its Series Description (0008,103E).
        decided: whether it contains the decision about the job; then it is written when the job is first sent.
    """

    sop_class_uid: UID
    modality: str
    description: str
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
"""All kinds, in the order in which they are sent after the CT series."""
