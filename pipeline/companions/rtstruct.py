"""Write the body's outline and the voids of the MR as an RT Structure Set (PS3.3 A.19) on the CT.

A mask becomes closed planar contours. Each contour runs half-way between the centres of voxels inside and outside the
mask, so that a reader that tests the centre of each voxel gets the same mask back. A hole within a slice is filled,
because a contour cannot have one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, RTStructureSetStorage
from skimage.measure import find_contours

from models.data.body import fill_slices
from pipeline.companions.companion import Companion, CtSeries, of_the_ct, reference
from pipeline.ct.elements import Elements, data_set, decimal_strings, elements, file_bytes, sequence
from pipeline.ct.provenance import RESEARCH_LABEL

LABEL: Final = "sCT structures"
"""Structure Set Label (3006,0002), VR SH."""
STUDY_COMPONENT: Final = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: the SOP Class of the study that planning systems expect (PS3.3 C.8.8.5)."""
DECIMALS: Final = 4
"""Decimals of a coordinate in mm."""
AXIAL: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Line = NDArray[np.float64]
"""Vertices (row, column) in voxels of a plane; the first is not repeated at the end."""
HALF: Final = 0.5
MOST_POINTS: Final = 1600
"""Vertices of one contour at most: their decimal strings must fit into the 65534 bytes of a DS (PS3.5 7.1.2)."""


@dataclass(frozen=True)
class Region:
    """One region of interest.

    Attributes:
        name: ROI Name (3006,0026).
        interpreted: RT ROI Interpreted Type (3006,00A4), PS3.3 C.8.8.8.1.
        how: ROI Generation Description (3006,0038).
        colour: RGB colour, 0 to 255.
        mask: voxels on the CT's grid (slice, row, column); holes within a slice are filled.
    """

    name: str
    interpreted: Literal["EXTERNAL", "AVOIDANCE"]
    how: str
    colour: tuple[int, int, int]
    mask: NDArray[np.bool_] = field(repr=False)


def rtstruct(ct: CtSeries, regions: Sequence[Region]) -> bytes:
    """Encode the file of a structure set of these regions; none of them may be empty."""
    contours = [region_contours(ct, region) for region in regions]
    content = b"".join(data_set(one) for of_region in contours for one in of_region)
    companion = of_the_ct(ct, "rtstruct", content)
    numbered = list(enumerate(zip(regions, contours, strict=True), start=1))
    roi_contours = [  # ROI Contour module (PS3.3 C.8.8.6)
        elements(ReferencedROINumber=number, ROIDisplayColor=list(region.colour))
        | sequence("ContourSequence", of_region)
        for number, (region, of_region) in numbered
    ]
    observations = [  # RT ROI Observations module (PS3.3 C.8.8.8)
        elements(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIInterpretedType=region.interpreted,
            ROIInterpreter=None,
        )
        for number, (region, _) in numbered
    ]
    return file_bytes(
        RTStructureSetStorage,
        companion.sop_instance_uid,
        companion.shared(),
        companion.frame_of_reference(),
        elements(OperatorsName=None, ApprovalStatus="UNAPPROVED"),
        structure_set(companion, regions),
        sequence("ROIContourSequence", roi_contours),
        sequence("RTROIObservationsSequence", observations),
    )


def structure_set(companion: Companion, regions: Sequence[Region]) -> Elements:
    """Make the Structure Set module (PS3.3 C.8.8.5)."""
    ct = companion.ct
    series = elements(SeriesInstanceUID=ct.uid) | sequence("ContourImageSequence", ct.references())
    study = reference(STUDY_COMPONENT, ct.study_uid) | sequence("RTReferencedSeriesSequence", [series])
    frame = elements(FrameOfReferenceUID=ct.frame_of_reference_uid) | sequence("RTReferencedStudySequence", [study])
    label = f"; {RESEARCH_LABEL}" if ct.research else ""
    rois = [
        elements(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=ct.frame_of_reference_uid,
            ROIName=region.name,
            ROIGenerationAlgorithm="AUTOMATIC",
            ROIGenerationDescription=region.how,
        )
        for number, region in enumerate(regions, start=1)
    ]
    return (
        elements(
            StructureSetLabel=LABEL,
            StructureSetDescription=f"Outlines made by the node that made the synthetic CT, from its MR{label}",
            StructureSetDate=companion.date,
            StructureSetTime=companion.time,
        )
        | sequence("ReferencedFrameOfReferenceSequence", [frame])
        | sequence("StructureSetROISequence", rois)
    )


def region_contours(ct: CtSeries, region: Region) -> list[Elements]:
    """Make the closed contours of a region, slice by slice (PS3.3 C.8.8.6.1).

    Contour Data are x, y, z of each vertex (LPS, mm). On axial slices z is the exact text of ImagePositionPatient.
    """
    row, column = ct.cosines
    down, right = ct.pixel_spacing_mm
    axial = (*row, *column) == AXIAL
    contours: list[Elements] = []
    for one, plane in zip(ct.slices, fill_slices(region.mask), strict=True):
        for line in outlines(plane):
            points = np.array(one.position, float) + line[:, :1] * down * column + line[:, 1:] * right * row
            texts = ((_short(x), _short(y), one.position[2] if axial else _short(z)) for x, y, z in points.tolist())
            contours.append(
                sequence("ContourImageSequence", [reference(CTImageStorage, one.sop_instance_uid)])
                | elements(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(line))
                | decimal_strings("ContourData", itertools.chain.from_iterable(texts))
                | elements(ContourNumber=len(contours) + 1)
            )
    return contours


def _short(value: float) -> str:
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def outlines(mask: NDArray[np.bool_], most: int = MOST_POINTS) -> list[Line]:
    """Find the outlines of the parts of a plane's mask (rows, columns), which must not have holes.

    Only vertices at which an outline turns are kept: coordinates are multiples of a half, so this is exact. When an
    outline has more than `most` vertices, the mask is cut in two across its longer side.
    """
    lines = []
    for closed in find_contours(np.pad(mask, 1).astype(np.float64), HALF, fully_connected="low"):
        line = closed[:-1] - 1
        into, out = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
        lines.append(np.asarray(line[into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]]))
    if all(len(line) <= most for line in lines):
        return lines
    indices = np.argwhere(mask)
    lowest, highest = indices.min(axis=0), indices.max(axis=0)
    axis = int(np.argmax(highest - lowest))
    first = np.indices(mask.shape)[axis] <= (lowest[axis] + highest[axis]) // 2
    return outlines(mask & first, most) + outlines(mask & ~first, most)
