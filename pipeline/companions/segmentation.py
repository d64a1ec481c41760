"""Write the body and its tissues as a Segmentation (PS3.3 A.51), binary segments on the CT's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import highdicom
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from models.data.body import Mask
from models.measures.similarity import FAT_HU, SOFT_HU
from pipeline.companions.companion import CtSeries, of_highdicom, of_the_ct, stand_ins
from pipeline.ct.elements import file_bytes


@dataclass(frozen=True)
class Segment:
    """The name of a segment: label, property category and type (PS3.16 CID 7150, 7151), CIELab colour."""

    label: str
    category: Code
    property_type: Code
    colour: tuple[float, float, float]


SEGMENTS: Final = (
    Segment("Body", codes.SCT.AnatomicalStructure, codes.SCT.EntireBody, (80.0, -40.0, 40.0)),
    Segment(f"Air below {SOFT_HU[0]:g} HU", codes.SCT.Substance, codes.SCT.Air, (30.0, 0.0, -30.0)),
    Segment(f"Fat {FAT_HU[0]:g} to {FAT_HU[1]:g} HU", codes.SCT.Tissue, codes.SCT.AdiposeTissue, (85.0, 5.0, 60.0)),
    Segment(
        f"Soft tissue {FAT_HU[1]:g} to {SOFT_HU[1]:g} HU", codes.SCT.Tissue, codes.SCT.SoftTissue, (50.0, 50.0, 30.0)
    ),
    Segment(f"Bone above {SOFT_HU[1]:g} HU", codes.SCT.Tissue, codes.SCT.BoneTissue, (92.0, 0.0, 10.0)),
)
"""All segments, in the order of `masks`."""


def masks(hu: NDArray[np.floating], body: Mask) -> tuple[Mask, ...]:
    """Return the masks of `SEGMENTS`: the body, and its division into air, fat, soft tissue and bone by HU."""
    fat_from, fat_to = FAT_HU
    bone_from = SOFT_HU[1]
    return (
        body,
        body & (hu < fat_from),
        body & (hu >= fat_from) & (hu < fat_to),
        body & (hu >= fat_to) & (hu <= bone_from),
        body & (hu > bone_from),
    )


def segmentation(ct: CtSeries, hu: NDArray[np.floating], body: Mask) -> bytes:
    """Encode the file of the body and its tissues; arrays (slice, row, column) are on the CT's grid.

    The body must not be empty. A segment without a voxel is described and has no frame.
    """
    pixels = np.stack(masks(hu, body), axis=-1)
    companion = of_the_ct(ct, "seg", np.packbits(pixels).tobytes())
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="sct-node", version=ct.software_version, family=codes.DCM.ArtificialIntelligence
    )
    descriptions = [  # the Segment Sequence (PS3.3 C.8.20.2)
        SegmentDescription(
            segment_number=number,
            segment_label=one.label,
            segmented_property_category=one.category,
            segmented_property_type=one.property_type,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor(*one.colour),
        )
        for number, one in enumerate(SEGMENTS, start=1)
    ]
    made = Segmentation(
        source_images=stand_ins(ct),
        pixel_array=pixels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=companion.series_uid,
        series_number=companion.series_number,
        sop_instance_uid=companion.sop_instance_uid,
        instance_number=1,
        **companion.equipment(),
        content_label="SCT_TISSUES",
        content_description="Body and tissues by HU of the synthetic CT",
    )
    return file_bytes(
        SegmentationStorage, companion.sop_instance_uid, of_highdicom(companion, made, "BodyPartExamined")
    )
