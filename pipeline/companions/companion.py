"""What all companions of a synthetic CT series have in common: patient, study, frame of reference, equipment, UIDs.

A companion is made of the finished CT files: whatever it says of patient and study are the CT's bytes, and so the MR's.
UIDs follow from the CT's and the companion's own content. Text of our own is ASCII: valid in every character set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from pipeline.companions.kinds import COMPANIONS, CompanionKind
from pipeline.ct import modules
from pipeline.ct.elements import Elements, copied, elements, elements_of, plain, raw_bytes, sequence
from pipeline.ct.provenance import LO_LENGTH, RESEARCH_LABEL
from pipeline.ct.write import scanner_time
from pipeline.series.instance import read_file
from pipeline.standard import keywords_of

PLACE: Final = ("SOPInstanceUID", "ImagePositionPatient")
"""What is read of every slice."""
EQUIPMENT: Final = ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber", "SoftwareVersions")
SERIES_NUMBER_STEP: Final = 100
"""Between the Series Numbers of the CT and of its companions, in the order of `COMPANIONS`."""


@dataclass(frozen=True)
class Slice:
    """A CT image as companions refer to it: its UID, and the centre of its first voxel (LPS, mm) as it is written."""

    sop_instance_uid: str
    position: tuple[str, str, str]


@dataclass(frozen=True)
class CtSeries:
    """A finished synthetic CT series.

    Attributes:
        header: of its first image, undecoded, without pixels: its bytes are copied.
        slices: its images, in the order of its volume.
    """

    header: Dataset = field(repr=False)
    slices: tuple[Slice, ...]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> CtSeries:
        """The series of these files, as `write_ct` returns them. Raises OSError, InvalidDicomError."""
        return cls(read_file(paths[0], pixels=False)[0], tuple(map(_slice, paths)))

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.text("SeriesInstanceUID")

    @property
    def study_uid(self) -> str:
        """Study Instance UID, the MR's."""
        return self.text("StudyInstanceUID")

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID, the MR's."""
        return self.text("FrameOfReferenceUID")

    @property
    def research(self) -> bool:
        """Whether the CT is labelled for research."""
        return self.text("ContentQualification") == "RESEARCH"

    @property
    def software_version(self) -> str:
        """Version of sct-node that wrote it."""
        return self.text("SoftwareVersions").split("\\")[0]

    @property
    def geometry(self) -> VolumeGeometry:
        """The grid of its voxels, LPS, mm, (slice, row, column)."""
        row, column = self.cosines
        between = float(self.text("SpacingBetweenSlices"))
        down, right = self.pixel_spacing_mm
        affine = np.eye(4)
        affine[:3, :3] = np.stack([np.cross(row, column) * between, column * down, row * right], axis=1)
        affine[:3, 3] = [float(value) for value in self.slices[0].position]
        shape = (len(self.slices), int(self.header["Rows"].value), int(self.header["Columns"].value))
        return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=self.frame_of_reference_uid)

    @property
    def cosines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Image Orientation (Patient): the directions of increasing columns, and of increasing rows."""
        values = np.array(self.text("ImageOrientationPatient").split("\\"), float)
        return values[:3], values[3:]

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Between rows, and between columns."""
        down, right = self.text("PixelSpacing").split("\\")
        return float(down), float(right)

    def text(self, keyword: str) -> str:
        """An attribute that the node wrote, or a UID, as text."""
        return raw_bytes(self.header, keyword).decode("ascii").strip()

    def references(self) -> list[Elements]:
        """Items that name each image (PS3.3 table 10-11)."""
        return [reference(CTImageStorage, one.sop_instance_uid) for one in self.slices]


def _slice(path: Path) -> Slice:
    image = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(PLACE))
    x, y, z = (part.strip() for part in raw_bytes(image, "ImagePositionPatient").decode("ascii").split("\\"))
    return Slice(raw_bytes(image, "SOPInstanceUID").decode("ascii"), (x, y, z))


@dataclass(frozen=True)
class Companion:
    """One companion that is being written: of which CT, of which kind, and with which content.

    `content` is what makes it another object when it differs; `date` and `time` say when it was made (DA, TM).
    """

    ct: CtSeries
    kind: CompanionKind
    content: bytes = field(repr=False)
    date: str
    time: str

    @property
    def series_uid(self) -> str:
        """Series Instance UID: each companion is a series of its own."""
        return generate_uid(entropy_srcs=[self.ct.uid, self.kind, "series", self._digest])

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return generate_uid(entropy_srcs=[self.ct.uid, self.kind, "instance", self._digest])

    @property
    def series_number(self) -> int:
        """Series Number (0020,0011): behind the CT's; it must be there in most of these objects."""
        text = self.ct.text("SeriesNumber")
        number = int(text) if text.isdigit() else modules.SERIES_NUMBER_OFFSET
        return min(number, modules.SERIES_NUMBER_OFFSET * 10) + SERIES_NUMBER_STEP * (
            1 + [*COMPANIONS].index(self.kind)
        )

    @property
    def title(self) -> str:
        """What lists of series show, at most 64 characters."""
        tail = f"; {RESEARCH_LABEL}" if self.ct.research else ""
        return plain(COMPANIONS[self.kind].words, LO_LENGTH - len(tail)) + tail

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def shared(self) -> Elements:
        """Patient, study, series, equipment and SOP Common modules, equal in every kind."""
        return self.subject() | self._series() | self._equipment() | self._sop_common()

    def subject(self) -> Elements:
        """Patient and study modules (PS3.3 C.7.1, C.7.2), byte for byte the MR's."""
        return modules.patient(self.ct.header) | modules.general_study(self.ct.header)

    def frame_of_reference(self) -> Elements:
        """Frame of Reference module (PS3.3 C.7.4.1), the MR's."""
        uid = self.ct.frame_of_reference_uid
        return elements(FrameOfReferenceUID=uid) | copied(self.ct.header, ["PositionReferenceIndicator"])

    def _series(self) -> Elements:
        """The series module (PS3.3 C.7.3.1 and what the kinds have in its place)."""
        return elements(
            Modality=COMPANIONS[self.kind].modality,
            SeriesInstanceUID=self.series_uid,
            SeriesNumber=self.series_number,
            SeriesDescription=self.title,
            SeriesDate=self.date,
            SeriesTime=self.time,
        )

    def equipment(self) -> dict[str, Any]:
        """What highdicom is told of the equipment; the CT's own bytes take its place afterwards."""
        return {
            "manufacturer": self.ct.text("Manufacturer"),
            "manufacturer_model_name": self.ct.text("ManufacturerModelName"),
            "software_versions": self.ct.software_version,
            "device_serial_number": self.ct.text("DeviceSerialNumber"),
        }

    def content_time(self) -> Elements:
        """When the content was made."""
        return elements(ContentDate=self.date, ContentTime=self.time)

    def _equipment(self) -> Elements:
        """General Equipment module (PS3.3 C.7.5.1): the node's own, as in the CT."""
        return copied(self.ct.header, EQUIPMENT)

    def _sop_common(self) -> Elements:
        """SOP Common module (PS3.3 C.12.1): of which scanner's images and with which model it was made."""
        return elements(
            SOPClassUID=COMPANIONS[self.kind].sop_class_uid,
            SOPInstanceUID=self.sop_instance_uid,
            InstanceCreationDate=self.date,
            InstanceCreationTime=self.time,
            InstanceNumber=1,
        ) | copied(self.ct.header, ["SpecificCharacterSet", "TimezoneOffsetFromUTC", "ContributingEquipmentSequence"])


def of_the_ct(ct: CtSeries, kind: CompanionKind, content: bytes) -> Companion:
    """A companion that was made together with the CT."""
    return Companion(ct, kind, content, ct.text("InstanceCreationDate"), ct.text("InstanceCreationTime"))


def made_at(ct: CtSeries, kind: CompanionKind, content: bytes, at: datetime) -> Companion:
    """A companion that is made at a moment (aware), which is told in the time zone of the CT."""
    there = scanner_time(at, ct.header)
    return Companion(ct, kind, content, f"{there:%Y%m%d}", f"{there:%H%M%S}")


def reference(sop_class_uid: str, sop_instance_uid: str) -> Elements:
    """SOP Instance Reference macro (PS3.3 table 10-11)."""
    return elements(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid)


def common_instance_reference(ct: CtSeries) -> Elements:
    """Common Instance Reference module (PS3.3 C.12.2): the CT series, in the same study."""
    instances = sequence("ReferencedInstanceSequence", ct.references())
    return sequence("ReferencedSeriesSequence", [elements(SeriesInstanceUID=ct.uid) | instances])


def stand_ins(ct: CtSeries) -> list[Dataset]:
    """The CT images as highdicom takes them: geometry and UIDs; patient and study say nothing, and are put in later."""
    return list(_stand_ins(ct))


def _stand_ins(ct: CtSeries) -> Iterator[Dataset]:
    geometry, (down, right) = ct.geometry, ct.pixel_spacing_mm
    orientation = [float(value) for value in np.concatenate(ct.cosines)]
    for one in ct.slices:
        image = Dataset()
        image.PatientID = image.PatientName = image.PatientBirthDate = image.PatientSex = ""
        image.AccessionNumber = image.StudyID = image.StudyDate = image.StudyTime = ""
        image.StudyInstanceUID, image.SeriesInstanceUID = ct.study_uid, ct.uid
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, one.sop_instance_uid
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = ct.frame_of_reference_uid, ""
        image.Modality = "CT"
        _, image.Rows, image.Columns = geometry.spatial_shape
        image.PixelSpacing = [down, right]
        image.SliceThickness = image.SpacingBetweenSlices = ct.text("SpacingBetweenSlices")
        image.ImageOrientationPatient, image.ImagePositionPatient = orientation, list(one.position)
        yield image


def of_highdicom(companion: Companion, made: Dataset, *also: str) -> Elements:
    """The elements of a data set of highdicom's, with patient, study, the rest of `Companion.shared`, and `also`."""
    about_the_patient = {*keywords_of("Patient"), *keywords_of("Study")}
    ours = companion.shared() | companion.content_time() | copied(companion.ct.header, also)
    return elements_of(made, about_the_patient) | ours
