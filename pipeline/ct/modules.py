"""Make the modules of the CT Image IOD (PS3.3 A.3); together they are one slice.

Each module has a function that returns its encoded elements. Values that never change stand in tables at the top.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.uid import CTImageStorage

from pipeline.ct.elements import (
    DS_DECIMALS,
    Elements,
    copied,
    decimal,
    decimal_string,
    elements,
    plain,
    raw_bytes,
    sequence,
)
from pipeline.ct.provenance import Equipment, Provenance
from pipeline.errors import Unsuitable
from pipeline.series.identity import check_patient_position
from pipeline.series.lossy_compression import Loss
from pipeline.series.series import Series
from pipeline.standard import empty_if_unknown, is_paired, keywords_of

IMAGE_TYPE = ("DERIVED", "SECONDARY", "AXIAL")
AXIAL_ORIENTATION = ("1", "0", "0", "0", "1", "0")
RESCALE_SLOPE, RESCALE_INTERCEPT, RESCALE_TYPE = 1, -1024, "HU"
BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGNED = 16, 16, 15, 1
WINDOW_CENTRE_HU, WINDOW_WIDTH_HU = 40, 400
SERIES_NUMBER_OFFSET = 9000
"""This is added to the MR's SeriesNumber, so that the CT is listed after the acquired series of the study."""
CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
"""A value of VR CS (PS3.5 table 6.2-1); any other body part is left out."""
LARGEST_SERIES_NUMBER = 2**31 - 1
"""Largest value of VR IS (PS3.5 table 6.2-1)."""
WRITTEN_TOLERANCE_MM = 1e-4
"""Largest distance of a voxel centre in the written CT from its place in the HU volume."""
COSINE_DECIMALS = 13
"""Decimals of a direction cosine: as many as a DS with a sign can hold (PS3.5 section 6.2)."""

CODES = {
    "ACQUISITION_EQUIPMENT": ("109101", "DCM", "Acquisition Equipment"),  # PS3.16 CID 7005
    "PROCESSING_ALGORITHM": ("Newcode1", "99IHE", "Processing Algorithm"),  # IHE RAD AI Results, not yet in CID 7005
    "SPATIAL_RESAMPLING": ("113085", "DCM", "Spatial resampling"),  # CID 7203
    "ARTIFICIAL_INTELLIGENCE": ("123110", "DCM", "Artificial Intelligence"),  # CID 7203 is extensible; from CID 7162
}
"""Name -> code value, coding scheme designator, code meaning."""

RETIRED_PATIENT_ATTRIBUTES = ("OtherPatientIDs", "EthnicGroup")
"""Attributes that scanners still write although the standard has retired them (PS3.6 table 6-1)."""
SHORT_LENGTH = 16
"""Longest value of VR SH and DS (PS3.5 table 6.2-1)."""

MR_EQUIPMENT = [
    "Manufacturer",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
]
"""Attributes of the scanner in its Contributing Equipment item (PS3.3 table C.12-1)."""

Point = tuple[Decimal, Decimal, Decimal]


@dataclass(frozen=True)
class ImageGrid:
    """The grid of the CT as it is written: exact decimals, mm, LPS (PS3.3 C.7.6.2.1.1).

    The Series Instance UID depends on the names of these attributes, see `ct_series_uid`.

    Attributes:
        shape: (slices, rows, columns).
        origin: centre of the first voxel of the first slice, (x, y, z).
        step: distance of (slices, rows, columns); all positive.
        along: directions in which slices, rows and columns follow each other; slices along row x column cosines.
    """

    shape: tuple[int, int, int]
    origin: Point
    step: Point
    along: tuple[Point, Point, Point]

    @classmethod
    def of(cls, geometry: VolumeGeometry) -> ImageGrid:
        """Take the grid from a volume's geometry.

        Raises:
            ValueError: a voxel would be written more than `WRITTEN_TOLERANCE_MM` from its place, because the slices
                do not follow each other along row cosines x column cosines or the axes are not perpendicular.
        """
        slices, rows, columns = geometry.spatial_shape
        along = geometry.direction.T
        grid = cls(
            (slices, rows, columns),
            _point(geometry.position),
            _point(geometry.spacing),
            (_point(along[0], COSINE_DECIMALS), _point(along[1], COSINE_DECIMALS), _point(along[2], COSINE_DECIMALS)),
        )
        if grid.displacement_mm(geometry) > WRITTEN_TOLERANCE_MM:
            raise ValueError(f"slices do not lie along row x column cosines, affine {geometry.affine.tolist()}")
        return grid

    def position(self, index: int) -> Point:
        """Return the centre of the first voxel of slice `index`; the steps between slices are exactly equal."""
        x, y, z = (start + index * self.step[0] * part for start, part in zip(self.origin, self.along[0], strict=True))
        return decimal(x), decimal(y), decimal(z)

    def location(self, index: int) -> Decimal:
        """Return the position of slice `index` along the direction in which slices follow each other."""
        return decimal(sum(a * b for a, b in zip(self.position(index), self.along[0], strict=True)))

    @property
    def orientation(self) -> list[str]:
        """Return Image Orientation (Patient): direction of increasing columns, then of increasing rows."""
        return [decimal_string(cosine) for cosine in (*self.along[2], *self.along[1])]

    @property
    def axial(self) -> bool:
        """Return whether the planes are axial, 1\\0\\0\\0\\1\\0."""
        return tuple(self.orientation) == AXIAL_ORIENTATION

    def description(self) -> str:
        """Describe size and spacing for a person: columns x rows x slices."""
        slices, rows, columns = self.shape
        across = " x ".join(decimal_string(step) for step in reversed(self.step))
        return f"{columns} x {rows} x {slices}, {across} mm, {'axial' if self.axial else 'planes of the MR'}"

    def displacement_mm(self, geometry: VolumeGeometry) -> float:
        """Return how far a reader of the CT (PS3.3 equation C.7.6.2.1-1) puts a voxel from its place, at most."""
        row, column = (np.array(direction, float) for direction in (self.along[2], self.along[1]))
        steps = np.array(self.step, float)
        read = np.stack([np.cross(row, column) * steps[0], column * steps[1], row * steps[2]], axis=1)
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape])).reshape(3, -1)
        origin = np.array(self.origin, float)
        deviation = (read - geometry.affine[:3, :3]) @ corners + (origin - geometry.affine[:3, 3])[:, None]
        return float(np.linalg.norm(deviation, axis=0).max())


def _point(values: Sequence[float] | NDArray[np.float64], decimals: int = DS_DECIMALS) -> Point:
    x, y, z = (decimal(value, decimals) for value in values)
    return x, y, z


def patient(source: Dataset) -> Elements:
    """Copy the modules of the patient (PS3.3 C.7.1) byte for byte from the MR.

    Raises:
        Unsuitable: NO_PATIENT_ID.
    """
    if not raw_bytes(source, "PatientID").strip(b" \0"):
        raise Unsuitable.of("NO_PATIENT_ID", name="the MR series")
    return empty("Patient") | copied(source, [*keywords_of("Patient"), *RETIRED_PATIENT_ATTRIBUTES])


def general_study(source: Dataset) -> Elements:
    """Copy General Study and Patient Study modules (PS3.3 C.7.2) byte for byte, except values that are `too_long`."""
    kept = [keyword for keyword in keywords_of("Study") if keyword not in too_long(source)]
    return empty("Study") | copied(source, kept)


def too_long(source: Dataset) -> list[str]:
    """Return the keywords of Study ID and decimal strings of the study that are too long for their VR.

    Importers refuse such values and no archive files by them. A Type 2 attribute becomes empty, others are left out.
    """
    decimals = [keyword for keyword in keywords_of("Study") if dictionary_VR(keyword) == "DS"]
    values = {keyword: raw_bytes(source, keyword) for keyword in ("StudyID", *decimals)}
    longest = {keyword: max(len(one.strip()) for one in value.split(b"\\")) for keyword, value in values.items()}
    return [keyword for keyword, value in values.items() if value.isascii() and longest[keyword] > SHORT_LENGTH]


def empty(entity: str) -> Elements:
    """Make the Type 2 attributes of an entity with zero length (PS3.5 section 7.4.3)."""
    return elements(**dict.fromkeys(empty_if_unknown(entity)))


def general_series(source: Dataset, body_part: str, uid: str, written_at: datetime, description: str) -> Elements:
    """Make the General Series module (PS3.3 C.7.3.1).

    Raises:
        Unsuitable: NO_GEOMETRY.
    """
    return (
        elements(
            Modality="CT",
            SeriesInstanceUID=uid,
            SeriesNumber=series_number(source),
            SeriesDescription=description,
            SeriesDate=f"{written_at:%Y%m%d}",
            SeriesTime=f"{written_at:%H%M%S}",
        )
        | (elements(BodyPartExamined=body_part) if CODE_STRING.fullmatch(body_part) else {})
        | laterality(source, body_part)
        | patient_position(source)
    )


def patient_position(source: Dataset) -> Elements:
    """Copy Patient Position (0018,5100) from the MR (PS3.3 C.7.3.1.1.2), in capitals.

    Raises:
        Unsuitable: NO_GEOMETRY or BAD_GEOMETRY, the MR does not say how the patient lay.
    """
    said = raw_bytes(source, "PatientPosition").decode("ascii", "replace")
    return elements(PatientPosition=check_patient_position(said, "the MR series"))


def series_number(source: Dataset) -> int | None:
    """Add an offset to the MR's Series Number (0020,0011); None when it is missing or no number."""
    text = raw_bytes(source, "SeriesNumber").strip()
    number = int(text) + SERIES_NUMBER_OFFSET if text.isdigit() else None
    return number if number is not None and number <= LARGEST_SERIES_NUMBER else None


def laterality(source: Dataset, body_part: str) -> Elements:
    """Copy the side of a paired body part, empty if unknown (Type 2C, PS3.3 C.7.3.1); an unpaired one has none."""
    image = copied(source, ["ImageLaterality"]) if raw_bytes(source, "ImageLaterality") else {}
    if image or is_paired(body_part) is False:
        return image
    if raw_bytes(source, "Laterality"):
        return copied(source, ["Laterality"])
    return elements(Laterality=None) if is_paired(body_part) else {}


def frame_of_reference(source: Dataset, uid: str) -> Elements:
    """Make the Frame of Reference module (PS3.3 C.7.4.1) of the MR, so that structures drawn on the MR fit the CT.

    Raises:
        Unsuitable: NO_FRAME_OF_REFERENCE.
    """
    if not uid:
        raise Unsuitable.of("NO_FRAME_OF_REFERENCE", name="the MR series")
    indicator = copied(source, ["PositionReferenceIndicator"]) or elements(PositionReferenceIndicator=None)
    return elements(FrameOfReferenceUID=uid) | indicator


def general_equipment(equipment: Equipment, provenance: Provenance) -> Elements:
    """Make the General Equipment module (PS3.3 C.7.5.1): the node, to which a site binds its HU-to-density table."""
    return elements(
        Manufacturer=equipment.manufacturer,
        ManufacturerModelName=equipment.model_name,
        StationName=equipment.station_name,
        DeviceSerialNumber=equipment.serial_number,
        SoftwareVersions=[plain(provenance.software_version, 64), model_version(provenance)],
    )


def model_version(provenance: Provenance) -> str:
    """Return name and version of the model, as VR LO."""
    return plain(f"{provenance.card.name} {provenance.card.version}", 64)


def general_acquisition(source: Dataset) -> Elements:
    """Copy the General Acquisition module (PS3.3 C.7.10.1): the time at which the MR was acquired."""
    return copied(source, ["AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"])


def general_image(written_at: datetime, comments: str, loss: Loss | None) -> Elements:
    """Make the General Image module (PS3.3 C.7.6.1) without InstanceNumber; a lossy MR makes a lossy CT."""
    return elements(
        ContentDate=f"{written_at:%Y%m%d}",
        ContentTime=f"{written_at:%H%M%S}",
        ImageComments=comments,
        BurnedInAnnotation="NO",
    ) | lossy_compression(loss)


def lossy_compression(loss: Loss | None) -> Elements:
    """Make Lossy Image Compression (0028,2110) with ratios and methods, if known (PS3.3 C.7.6.1.1.5)."""
    if loss is None:
        return elements(LossyImageCompression="00")
    known = {
        "LossyImageCompressionRatio": [decimal_string(decimal(ratio)) for ratio in loss.ratios],
        "LossyImageCompressionMethod": list(loss.methods),
    }
    return elements(LossyImageCompression="01", **{keyword: values for keyword, values in known.items() if values})


def general_reference(source: Series, description: str, resampled: bool) -> Elements:
    """Make the General Reference module (PS3.3 C.12.4): every slice is derived from the whole MR volume."""
    steps = ["SPATIAL_RESAMPLING"] if resampled else []
    return (
        elements(DerivationDescription=description)
        | code("DerivationCodeSequence", *steps, "ARTIFICIAL_INTELLIGENCE")
        | sequence("SourceImageSequence", image_references(source))
    )


def common_instance_reference(source: Series) -> Elements:
    """Make the Common Instance Reference module (PS3.3 C.12.2): the MR series, which lies in the CT's study."""
    instances = sequence("ReferencedInstanceSequence", references(source))
    series = elements(SeriesInstanceUID=source.series_instance_uid)
    return sequence("ReferencedSeriesSequence", [series | instances])


def image_references(source: Series) -> list[Elements]:
    """Make an Image SOP Instance Reference (PS3.3 table 10-3) to each MR instance, with the frames that are used."""
    frames = (source.frames.get(str(mr.sop_instance_uid)) for mr in source.instances)
    numbers = (elements(ReferencedFrameNumber=list(mine)) if mine else {} for mine in frames)
    return [one | mine for one, mine in zip(references(source), numbers, strict=True)]


def references(source: Series) -> list[Elements]:
    """Make an SOP Instance Reference (PS3.3 table 10-11) to each MR instance."""
    return [
        elements(ReferencedSOPClassUID=mr.sop_class_uid, ReferencedSOPInstanceUID=mr.sop_instance_uid)
        for mr in source.instances
    ]


def image_plane(grid: ImageGrid, index: int) -> Elements:
    """Make the Image Plane module (PS3.3 C.7.6.2): mm, LPS, exactly equal steps; slices touch."""
    position = [decimal_string(value) for value in grid.position(index)]
    between = decimal_string(grid.step[0])
    return elements(
        ImagePositionPatient=position,
        ImageOrientationPatient=grid.orientation,
        PixelSpacing=[decimal_string(grid.step[1]), decimal_string(grid.step[2])],
        SliceThickness=between,
        SpacingBetweenSlices=between,
        SliceLocation=decimal_string(grid.location(index)),
    )


def image_pixel(stored: NDArray[np.int16]) -> Elements:
    """Make the Image Pixel module (PS3.3 C.7.6.3) of stored values, shape (rows, columns)."""
    return elements(
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[0],
        Columns=stored.shape[1],
        BitsAllocated=BITS_ALLOCATED,
        BitsStored=BITS_STORED,
        HighBit=HIGH_BIT,
        PixelRepresentation=SIGNED,
        PixelData=np.ascontiguousarray(stored, dtype="<i2").tobytes(),
    )


def related_series(header: Dataset, replaces: str | None) -> Elements:
    """Make the Related Series Sequence (PS3.3 C.7.3.1) that names the CT series which this one replaces, if any.

    PS3.16 CID 7210 has no code for a replaced series, so the purpose (Type 2) is empty; Image Comments tell a person.
    """
    if replaces is None:
        return {}
    purpose = sequence("PurposeOfReferenceCodeSequence", [])
    study = copied(header, ["StudyInstanceUID"])
    return sequence("RelatedSeriesSequence", [study | elements(SeriesInstanceUID=replaces) | purpose])


def ct_image(image_type: Sequence[str] = IMAGE_TYPE) -> Elements:
    """Make the CT Image module (PS3.3 C.8.2.1): HU, one rescale for all slices; without an X-ray tube KVP is empty."""
    return elements(
        ImageType=list(image_type),
        KVP=None,
        AcquisitionNumber=None,
        RescaleIntercept=RESCALE_INTERCEPT,
        RescaleSlope=RESCALE_SLOPE,
        RescaleType=RESCALE_TYPE,
    )


def voi_lut() -> Elements:
    """Make the VOI LUT module (PS3.3 C.11.2): a soft tissue window, in HU."""
    return elements(WindowCenter=WINDOW_CENTRE_HU, WindowWidth=WINDOW_WIDTH_HU)


def sop_common(source: Dataset, provenance: Provenance, written_at: datetime, research_label: bool) -> Elements:
    """Make the SOP Common module (PS3.3 C.12.1) without the SOP Instance UID: synthetic data, equipment, label."""
    return (
        elements(
            SOPClassUID=CTImageStorage,
            InstanceCreationDate=f"{written_at:%Y%m%d}",
            InstanceCreationTime=f"{written_at:%H%M%S}",
            SyntheticData="YES",
        )
        | (elements(ContentQualification="RESEARCH") if research_label else {})
        | sequence("ContributingEquipmentSequence", contributing_equipment(source, provenance, written_at))
        | copied(source, ["SpecificCharacterSet", "TimezoneOffsetFromUTC"])
    )


def contributing_equipment(source: Dataset, provenance: Provenance, written_at: datetime) -> Sequence[Elements]:
    """Make Contributing Equipment items: the MR scanner, if it names its maker, and the model (IHE RAD AIR)."""
    card = provenance.card
    scanner = copied(source, MR_EQUIPMENT) | code("PurposeOfReferenceCodeSequence", "ACQUISITION_EQUIPMENT")
    model = code("PurposeOfReferenceCodeSequence", "PROCESSING_ALGORITHM") | elements(
        Manufacturer="sct-node",
        ManufacturerModelName=plain(card.name, 64),
        SoftwareVersions=plain(card.version, 64),
        DeviceSerialNumber=card.digest,
        ContributionDateTime=f"{written_at:%Y%m%d%H%M%S}",
        ContributionDescription=plain(f"MR to HU; SHA-256 of the weights {card.digest}; limits: {card.limits}", 1024),
    )
    return [scanner, model] if raw_bytes(source, "Manufacturer") else [model]


def code(keyword: str, *names: str) -> Elements:
    """Make a code sequence of entries of `CODES` (PS3.3 table 8.8-1)."""
    rows = [CODES[name] for name in names]
    items = [elements(CodeValue=value, CodingSchemeDesignator=by, CodeMeaning=meaning) for value, by, meaning in rows]
    return sequence(keyword, items)
