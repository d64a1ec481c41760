"""The modules of the CT Image IOD (PS3.3 A.3), one short function each; together they are one slice.

Each function returns the encoded elements of its module. What is fixed stands in the tables at the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from pipeline.elements import Elements, copied, decimal, decimal_string, elements, plain, raw_bytes, sequence
from pipeline.errors import Unsuitable
from pipeline.provenance import Equipment, Provenance, series_description
from pipeline.series import Series
from pipeline.standard import empty_if_unknown, is_paired, keywords_of

IMAGE_TYPE = ("DERIVED", "SECONDARY", "AXIAL")
AXIAL_ORIENTATION = ("1", "0", "0", "0", "1", "0")
RESCALE_SLOPE, RESCALE_INTERCEPT, RESCALE_TYPE = 1, -1024, "HU"
BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGNED = 16, 16, 15, 1
WINDOW_CENTRE_HU, WINDOW_WIDTH_HU = 40, 400
SERIES_NUMBER_OFFSET = 9000
"""Added to the MR's SeriesNumber, so that the CT stands behind the acquired series of the study."""
LARGEST_SERIES_NUMBER = 2**31 - 1
AXIAL_TOLERANCE = 1e-6
"""How far a step of the grid may leave its axis, as a part of its length."""

CODES = {
    "ACQUISITION_EQUIPMENT": ("109101", "DCM", "Acquisition Equipment"),  # PS3.16 CID 7005
    "PROCESSING_ALGORITHM": ("Newcode1", "99IHE", "Processing Algorithm"),  # IHE RAD AI Results, not yet in CID 7005
    "SPATIAL_RESAMPLING": ("113085", "DCM", "Spatial resampling"),  # CID 7203
    "ARTIFICIAL_INTELLIGENCE": ("123110", "DCM", "Artificial Intelligence"),  # CID 7203 is extensible; from CID 7162
}
"""Name -> code value, coding scheme designator, code meaning."""

RETIRED_PATIENT_ATTRIBUTES = ("OtherPatientIDs", "EthnicGroup")
"""Retired from the Patient and Patient Study modules, still written by scanners; copied so that the patient agrees."""
STUDY_ID_LENGTH = 16
"""Longest Study ID, VR SH (PS3.5 table 6.2-1)."""

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
"""What the CT says of the scanner: attributes of a Contributing Equipment item (PS3.3 table C.12-1)."""
LOSSY_COMPRESSION = ["LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"]


@dataclass(frozen=True)
class AxialGrid:
    """The grid of the CT as it is written: exact decimals, mm, LPS.

    Attributes:
        shape: (slices, rows, columns).
        origin: centre of the first voxel of the most inferior slice, (x, y, z).
        step: (slice, row, column): towards superior, posterior and left; all positive.
    """

    shape: tuple[int, int, int]
    origin: tuple[Decimal, Decimal, Decimal]
    step: tuple[Decimal, Decimal, Decimal]

    @classmethod
    def of(cls, geometry: VolumeGeometry) -> AxialGrid:
        """Take the grid from a volume's geometry.

        Raises:
            ValueError: slices are not axial and inferior to superior, rows not to posterior, columns not to left.
        """
        steps = geometry.affine[:3, :3]
        along = np.array([steps[2, 0], steps[1, 1], steps[0, 2]])
        ideal = np.zeros((3, 3))
        ideal[2, 0], ideal[1, 1], ideal[0, 2] = along
        if np.any(along <= 0) or np.abs(steps - ideal).max() > AXIAL_TOLERANCE * along.min():
            raise ValueError(f"the grid is not axial, inferior to superior, with affine {geometry.affine.tolist()}")
        slices, rows, columns = geometry.spatial_shape
        x, y, z = (decimal(value) for value in geometry.affine[:3, 3])
        return cls((slices, rows, columns), (x, y, z), (decimal(along[0]), decimal(along[1]), decimal(along[2])))

    def position(self, index: int) -> tuple[Decimal, Decimal, Decimal]:
        """Centre of the first voxel of slice `index`: equal steps, exactly."""
        x, y, z = self.origin
        return x, y, z + index * self.step[0]

    def words(self) -> str:
        """Size and spacing for a person: columns x rows x slices."""
        slices, rows, columns = self.shape
        across = " x ".join(decimal_string(step) for step in reversed(self.step))
        return f"{columns} x {rows} x {slices}, {across} mm, axial"


def patient(source: Dataset) -> Elements:
    """Patient module and its companions (PS3.3 C.7.1), byte for byte the MR's.

    Raises:
        Unsuitable: NO_PATIENT_ID.
    """
    if not raw_bytes(source, "PatientID").strip(b" \0"):
        raise Unsuitable.of("NO_PATIENT_ID", name="the MR series")
    return empty("Patient") | copied(source, [*keywords_of("Patient"), *RETIRED_PATIENT_ATTRIBUTES])


def general_study(source: Dataset) -> Elements:
    """General Study and Patient Study modules (PS3.3 C.7.2), byte for byte the MR's; a too long Study ID is emptied."""
    study = empty("Study") | copied(source, keywords_of("Study"))
    return study | (elements(StudyID=None) if study_id_too_long(source) else {})


def study_id_too_long(source: Dataset) -> bool:
    """Whether the MR's Study ID breaks its VR. It is Type 2 and files nothing: empty is valid, too long is not."""
    study_id = raw_bytes(source, "StudyID")
    return study_id.isascii() and len(study_id) > STUDY_ID_LENGTH


def empty(entity: str) -> Elements:
    """The Type 2 attributes of an entity, of zero length."""
    return elements(**dict.fromkeys(empty_if_unknown(entity)))


def general_series(
    source: Dataset, body_part: str, uid: str, provenance: Provenance, written_at: datetime, research_label: bool
) -> Elements:
    """General Series module (PS3.3 C.7.3.1).

    Raises:
        Unsuitable: NO_GEOMETRY, the MR does not say how the patient lay; nobody can know it afterwards.
    """
    if not raw_bytes(source, "PatientPosition"):
        raise Unsuitable.of("NO_GEOMETRY", name="the MR series", attribute="PatientPosition")
    return (
        elements(
            Modality="CT",
            SeriesInstanceUID=uid,
            SeriesNumber=series_number(source),
            SeriesDescription=series_description(provenance, research_label),
            SeriesDate=f"{written_at:%Y%m%d}",
            SeriesTime=f"{written_at:%H%M%S}",
        )
        | (elements(BodyPartExamined=body_part) if body_part else {})
        | laterality(source, body_part)
        | copied(source, ["PatientPosition"])
    )


def series_number(source: Dataset) -> int | None:
    """Series Number (0020,0011): the MR's plus an offset; empty where the MR's is missing or no number."""
    text = raw_bytes(source, "SeriesNumber").strip()
    number = int(text) + SERIES_NUMBER_OFFSET if text.isdigit() else None
    return number if number is not None and number <= LARGEST_SERIES_NUMBER else None


def laterality(source: Dataset, body_part: str) -> Elements:
    """Laterality (0020,0060), Type 2C: of a paired body part, empty if unknown; never of an unpaired one."""
    image = copied(source, ["ImageLaterality"]) if raw_bytes(source, "ImageLaterality") else {}
    if image or is_paired(body_part) is False:
        return image
    if raw_bytes(source, "Laterality"):
        return copied(source, ["Laterality"])
    return elements(Laterality=None) if is_paired(body_part) else {}


def frame_of_reference(source: Dataset, uid: str) -> Elements:
    """Frame of Reference module (PS3.3 C.7.4.1): the MR's, so that structures drawn on the MR lie on the CT.

    Raises:
        Unsuitable: NO_FRAME_OF_REFERENCE.
    """
    if not uid:
        raise Unsuitable.of("NO_FRAME_OF_REFERENCE", name="the MR series")
    indicator = copied(source, ["PositionReferenceIndicator"]) or elements(PositionReferenceIndicator=None)
    return elements(FrameOfReferenceUID=uid) | indicator


def general_equipment(equipment: Equipment, provenance: Provenance) -> Elements:
    """General Equipment module (PS3.3 C.7.5.1): the node's own, for the site's HU-to-density table."""
    return elements(
        Manufacturer=equipment.manufacturer,
        ManufacturerModelName=equipment.model_name,
        StationName=equipment.station_name,
        DeviceSerialNumber=equipment.serial_number,
        SoftwareVersions=[plain(provenance.software_version, 64), model_version(provenance)],
    )


def model_version(provenance: Provenance) -> str:
    """Name and version of the model, as LO."""
    return plain(f"{provenance.card.name} {provenance.card.version}", 64)


def general_acquisition(source: Dataset) -> Elements:
    """General Acquisition module (PS3.3 C.7.10.1): when the MR was acquired, from which the CT was derived."""
    return copied(source, ["AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"])


def general_image(source: Dataset, written_at: datetime, comments: str) -> Elements:
    """General Image module (PS3.3 C.7.6.1) without InstanceNumber; loss in the MR is a loss in the CT."""
    lossy = raw_bytes(source, "LossyImageCompression") == b"01"
    return elements(
        ContentDate=f"{written_at:%Y%m%d}",
        ContentTime=f"{written_at:%H%M%S}",
        ImageComments=comments,
        BurnedInAnnotation="NO",
    ) | (copied(source, LOSSY_COMPRESSION) if lossy else elements(LossyImageCompression="00"))


def general_reference(source: Series, description: str) -> Elements:
    """General Reference module (PS3.3 C.12.4): every slice is derived from the whole MR volume."""
    return (
        elements(DerivationDescription=description)
        | code("DerivationCodeSequence", "SPATIAL_RESAMPLING", "ARTIFICIAL_INTELLIGENCE")
        | sequence("SourceImageSequence", references(source))
    )


def common_instance_reference(source: Series) -> Elements:
    """Common Instance Reference module (PS3.3 C.12.2): the MR series, which lies in the CT's study."""
    instances = sequence("ReferencedInstanceSequence", references(source))
    series = elements(SeriesInstanceUID=source.series_instance_uid)
    return sequence("ReferencedSeriesSequence", [series | instances])


def references(source: Series) -> list[Elements]:
    """An SOP Instance Reference (PS3.3 table 10-11) of each MR instance; all frames of a multi-frame one."""
    return [
        elements(ReferencedSOPClassUID=mr.sop_class_uid, ReferencedSOPInstanceUID=mr.sop_instance_uid)
        for mr in source.instances
    ]


def image_plane(grid: AxialGrid, index: int) -> Elements:
    """Image Plane module (PS3.3 C.7.6.2): mm, LPS, exactly equal steps; slices touch."""
    position = [decimal_string(value) for value in grid.position(index)]
    between = decimal_string(grid.step[0])
    return elements(
        ImagePositionPatient=position,
        ImageOrientationPatient=list(AXIAL_ORIENTATION),
        PixelSpacing=[decimal_string(grid.step[1]), decimal_string(grid.step[2])],
        SliceThickness=between,
        SpacingBetweenSlices=between,
        SliceLocation=position[2],
    )


def image_pixel(stored: NDArray[np.int16]) -> Elements:
    """Image Pixel module (PS3.3 C.7.6.3) of stored values, shape (rows, columns)."""
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


def ct_image() -> Elements:
    """CT Image module (PS3.3 C.8.2.1): HU, the same rescale on every slice; no X-ray tube, so KVP is unknown."""
    return elements(
        ImageType=list(IMAGE_TYPE),
        KVP=None,
        AcquisitionNumber=None,
        RescaleIntercept=RESCALE_INTERCEPT,
        RescaleSlope=RESCALE_SLOPE,
        RescaleType=RESCALE_TYPE,
    )


def voi_lut() -> Elements:
    """VOI LUT module (PS3.3 C.11.2): a soft tissue window, in HU."""
    return elements(WindowCenter=WINDOW_CENTRE_HU, WindowWidth=WINDOW_WIDTH_HU)


def sop_common(source: Dataset, provenance: Provenance, written_at: datetime, research_label: bool) -> Elements:
    """SOP Common module (PS3.3 C.12.1) without the SOP Instance UID: synthetic, for research, by which equipment."""
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
    """Items of Contributing Equipment: the MR scanner, where it names its maker, and the model (IHE AI Results)."""
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
    """A code sequence of entries of `CODES` (PS3.3 table 8.8-1)."""
    rows = [CODES[name] for name in names]
    items = [elements(CodeValue=value, CodingSchemeDesignator=by, CodeMeaning=meaning) for value, by, meaning in rows]
    return sequence(keyword, items)
