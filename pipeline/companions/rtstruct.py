"""RT Structure Set (PS3.3 A.19): the body's outline as External, and voids of the MR, as contours on the CT.

Masks -> closed planar contours: exactly those voxels are inside whose centres the mask has.

The line runs half-way between the centres of voxels inside and outside, so that any reader that asks for each voxel's
centre gets the mask back. Holes have no contour of their own: a mask is filled, slice by slice, before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, RTStructureSetStorage
from skimage.measure import find_contours

from models.data.body import fill_slices
from pipeline.companions.companion import Companion, CtSeries, Slice, of_the_ct, reference
from pipeline.ct.elements import Elements, data_set, decimal_strings, elements, file_bytes, sequence
from pipeline.ct.provenance import RESEARCH_LABEL

LABEL: Final = "sCT structures"
"""Structure Set Label (3006,0002), VR SH."""
STUDY_COMPONENT: Final = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: what every planning system expects to be named for the study (PS3.3 C.8.8.5)."""
DECIMALS: Final = 4
"""Of a coordinate in mm."""
AXIAL: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Region:
    """One region of interest: `mask` on the CT's grid (slice, row, column); holes within a slice are filled."""

    name: str
    interpreted: Literal["EXTERNAL", "AVOIDANCE"]
    how: str
    colour: tuple[int, int, int]
    mask: NDArray[np.bool_] = field(repr=False)


def rtstruct(ct: CtSeries, regions: Sequence[Region]) -> bytes:
    """The file of a structure set of these regions, which are not empty."""
    contours = [_contours(ct, region) for region in regions]
    content = b"".join(data_set(one) for of_region in contours for one in of_region)
    companion = of_the_ct(ct, "rtstruct", content)
    return file_bytes(
        RTStructureSetStorage,
        companion.sop_instance_uid,
        companion.shared(),
        companion.frame_of_reference(),
        elements(OperatorsName=None, ApprovalStatus="UNAPPROVED"),
        _structure_set(companion, regions),
        _roi_contours(regions, contours),
        sequence("RTROIObservationsSequence", map(_observation, range(1, len(regions) + 1), regions)),
    )


def _structure_set(companion: Companion, regions: Sequence[Region]) -> Elements:
    """Structure Set module (PS3.3 C.8.8.5)."""
    ct = companion.ct
    series = elements(SeriesInstanceUID=ct.uid) | sequence("ContourImageSequence", ct.references())
    study = reference(STUDY_COMPONENT, ct.study_uid) | sequence("RTReferencedSeriesSequence", [series])
    frame = elements(FrameOfReferenceUID=ct.frame_of_reference_uid) | sequence("RTReferencedStudySequence", [study])
    label = f"; {RESEARCH_LABEL}" if ct.research else ""
    return (
        elements(
            StructureSetLabel=LABEL,
            StructureSetDescription=f"Outlines made by the node that made the synthetic CT, from its MR{label}",
            StructureSetDate=companion.date,
            StructureSetTime=companion.time,
        )
        | sequence("ReferencedFrameOfReferenceSequence", [frame])
        | sequence("StructureSetROISequence", (_roi(ct, *one) for one in enumerate(regions, start=1)))
    )


def _roi(ct: CtSeries, number: int, region: Region) -> Elements:
    return elements(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=ct.frame_of_reference_uid,
        ROIName=region.name,
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=region.how,
    )


def _roi_contours(regions: Sequence[Region], contours: Sequence[Sequence[Elements]]) -> Elements:
    """ROI Contour module (PS3.3 C.8.8.6)."""
    items = [
        elements(ReferencedROINumber=number, ROIDisplayColor=list(region.colour))
        | sequence("ContourSequence", of_region)
        for number, (region, of_region) in enumerate(zip(regions, contours, strict=True), start=1)
    ]
    return sequence("ROIContourSequence", items)


def _observation(number: int, region: Region) -> Elements:
    """An item of the RT ROI Observations module (PS3.3 C.8.8.8)."""
    return elements(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType=region.interpreted,
        ROIInterpreter=None,
    )


def _contours(ct: CtSeries, region: Region) -> list[Elements]:
    """The contours of a region, slice by slice."""
    filled = fill_slices(region.mask)
    places = [(one, line) for one, plane in zip(ct.slices, filled, strict=True) for line in outlines(plane)]
    return [_contour(ct, one, line) | elements(ContourNumber=at) for at, (one, line) in enumerate(places, start=1)]


def _contour(ct: CtSeries, one: Slice, line: Line) -> Elements:
    """One closed contour on one slice."""
    return (
        sequence("ContourImageSequence", [reference(CTImageStorage, one.sop_instance_uid)])
        | elements(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(line))
        | decimal_strings("ContourData", _coordinates(ct, one, line))
    )


def _coordinates(ct: CtSeries, one: Slice, line: Line) -> Iterator[str]:
    """x, y, z of each vertex (LPS, mm); on axial slices z is the very text of the slice's position."""
    row, column = ct.cosines
    down, right = ct.pixel_spacing_mm
    points = np.array(one.position, float) + line[:, :1] * down * column + line[:, 1:] * right * row
    z = one.position[2] if (*row, *column) == AXIAL else None
    for point in points.tolist():
        yield from (_short(value) for value in point[:2])
        yield z if z is not None else _short(point[2])


def _short(value: float) -> str:
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


Line = NDArray[np.float64]
"""Vertices (row, column) in voxels of a plane, the first not repeated at the end."""
HALF = 0.5
MOST_POINTS = 1600
"""Of one contour: three decimal strings each, together fewer than the 65534 bytes of a DS (PS3.5 7.1.2)."""


def outlines(mask: NDArray[np.bool_], most: int = MOST_POINTS) -> list[Line]:
    """The outlines of the parts of a plane's mask (rows, columns), which has no holes; corners only.

    Where one would have more than `most` points, the mask is cut in two, whose outlines lie side by side.
    """
    padded = np.pad(mask, 1).astype(np.float64)
    lines = [_corners(line[:-1] - 1) for line in find_contours(padded, HALF, fully_connected="low")]
    if all(len(line) <= most for line in lines):
        return lines
    first, second = _halves(mask)
    return outlines(first, most) + outlines(second, most)


def _halves(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A mask cut in two across its longer side."""
    indices = np.argwhere(mask)
    lowest, highest = indices.min(axis=0), indices.max(axis=0)
    axis = int(np.argmax(highest - lowest))
    first = np.indices(mask.shape)[axis] <= (lowest[axis] + highest[axis]) // 2
    return mask & first, mask & ~first


def _corners(line: Line) -> Line:
    """The vertices at which the line turns: coordinates are multiples of a half, so this is exact."""
    into = line - np.roll(line, 1, axis=0)
    out = np.roll(line, -1, axis=0) - line
    turns = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    return np.asarray(line[turns])
