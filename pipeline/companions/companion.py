"""Make the parts that all companions of a synthetic CT series share: patient, study, equipment, UIDs.

A companion is made from the finished CT files: patient and study are the CT's bytes, and so the MR's. UIDs are derived
from those of the CT and from the companion's content. The node's own text is ASCII, valid in every character set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from pipeline.ct.elements import Elements, copied, elements, elements_of, plain, raw_bytes
from pipeline.ct.provenance import LO_LENGTH, RESEARCH_LABEL
from pipeline.ct.write import scanner_time
from pipeline.series.instance import read_file
from pipeline.standard import keywords_of

PLACE: Final = ("SOPInstanceUID", "ImagePositionPatient")
"""Attributes that are read of every slice."""
COPIED: Final = (
    *("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber", "SoftwareVersions"),
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "ContributingEquipmentSequence"),
)
"""Attributes of equipment (PS3.3 C.7.5.1) and SOP Common (C.12.1) that a companion has from its CT."""
SERIES_NUMBER_STEP: Final = 100
"""Difference of the Series Numbers of the CT and of each next companion, in the order of `COMPANIONS`."""


@dataclass(frozen=True)
class Slice:
    """A CT image that companions refer to: its UID, and ImagePositionPatient (LPS, mm) exactly as it is written."""

    sop_instance_uid: str
    position: tuple[str, str, str]


@dataclass(frozen=True)
class CtSeries:
    """A finished synthetic CT series.

    Attributes:
        header: header of its first image, undecoded, so that its bytes can be copied.
        slices: its images in spatial order.
    """

    header: Dataset = field(repr=False)
    slices: tuple[Slice, ...]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> CtSeries:
        """Read the series from its files, in the order of `write_ct`. Raises OSError, InvalidDicomError."""
        slices = []
        for path in paths:
            image = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(PLACE))
            position = raw_bytes(image, "ImagePositionPatient").decode("ascii").split("\\")
            x, y, z = (part.strip() for part in position)
            slices.append(Slice(raw_bytes(image, "SOPInstanceUID").decode("ascii"), (x, y, z)))
        return cls(read_file(paths[0], pixels=False)[0], tuple(slices))

    @property
    def uid(self) -> str:
        """Return the Series Instance UID."""
        return self.text("SeriesInstanceUID")

    @property
    def study_uid(self) -> str:
        """Return the Study Instance UID, which is the MR's."""
        return self.text("StudyInstanceUID")

    @property
    def frame_of_reference_uid(self) -> str:
        """Return the Frame of Reference UID, which is the MR's."""
        return self.text("FrameOfReferenceUID")

    @property
    def research(self) -> bool:
        """Return whether the CT is labelled for research (PS3.3 C.8.13.2.1.1)."""
        return self.text("ContentQualification") == "RESEARCH"

    @property
    def software_version(self) -> str:
        """Return the version of sct-node that wrote the CT."""
        return self.text("SoftwareVersions").split("\\")[0]

    @property
    def geometry(self) -> VolumeGeometry:
        """Return the grid of its voxels (slice, row, column), LPS, mm (PS3.3 equation C.7.6.2.1-1)."""
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
        """Return the directions of increasing columns and of increasing rows (PS3.3 C.7.6.2.1.1)."""
        values = np.array(self.text("ImageOrientationPatient").split("\\"), float)
        return values[:3], values[3:]

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Return the distance between rows and between columns (PS3.3 section 10.7.1.3)."""
        down, right = self.text("PixelSpacing").split("\\")
        return float(down), float(right)

    def text(self, keyword: str) -> str:
        """Return the text of a UID, or of another attribute that the node wrote."""
        return raw_bytes(self.header, keyword).decode("ascii").strip()

    def references(self) -> list[Elements]:
        """Make a reference to each image (PS3.3 table 10-11)."""
        return [reference(CTImageStorage, one.sop_instance_uid) for one in self.slices]


@dataclass(frozen=True)
class Companion:
    """One companion that is being written.

    Attributes:
        ct: the CT series that it belongs to.
        kind: its kind.
        content: the bytes that its UIDs are derived from; other content is another object.
        date: date of creation, VR DA.
        time: time of creation, VR TM.
    """

    ct: CtSeries
    kind: CompanionKind
    content: bytes = field(repr=False)
    date: str
    time: str

    @property
    def series_uid(self) -> str:
        """Return its Series Instance UID: each companion is a series of its own."""
        return generate_uid(entropy_srcs=[self.ct.uid, self.kind, "series", self._digest])

    @property
    def sop_instance_uid(self) -> str:
        """Return its SOP Instance UID."""
        return generate_uid(entropy_srcs=[self.ct.uid, self.kind, "instance", self._digest])

    @property
    def series_number(self) -> int:
        """Return its Series Number (0020,0011), after the CT's; most of these objects need one."""
        text = self.ct.text("SeriesNumber")
        number = int(text) if text.isdigit() else modules.SERIES_NUMBER_OFFSET
        return min(number, modules.SERIES_NUMBER_OFFSET * 10) + SERIES_NUMBER_STEP * (
            1 + [*COMPANIONS].index(self.kind)
        )

    @property
    def title(self) -> str:
        """Return its Series Description (0008,103E), at most 64 characters."""
        tail = f"; {RESEARCH_LABEL}" if self.ct.research else ""
        return plain(COMPANIONS[self.kind].description, LO_LENGTH - len(tail)) + tail

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def shared(self) -> Elements:
        """Make the modules that are equal in every kind: patient, study, series, equipment and SOP Common.

        Patient and study (PS3.3 C.7.1, C.7.2) are the MR's, byte for byte; the equipment (C.7.5.1) is the node, as in
        the CT; SOP Common (C.12.1) names the scanner and the model as Contributing Equipment.
        """
        header = self.ct.header
        kind = COMPANIONS[self.kind]
        series = elements(
            Modality=kind.modality,
            SeriesInstanceUID=self.series_uid,
            SeriesNumber=self.series_number,
            SeriesDescription=self.title,
            SeriesDate=self.date,
            SeriesTime=self.time,
        )
        sop_common = elements(
            SOPClassUID=kind.sop_class_uid,
            SOPInstanceUID=self.sop_instance_uid,
            InstanceCreationDate=self.date,
            InstanceCreationTime=self.time,
            InstanceNumber=1,
        )
        return modules.patient(header) | modules.general_study(header) | series | sop_common | copied(header, COPIED)

    def frame_of_reference(self) -> Elements:
        """Make the Frame of Reference module (PS3.3 C.7.4.1), which is the MR's."""
        uid = self.ct.frame_of_reference_uid
        return elements(FrameOfReferenceUID=uid) | copied(self.ct.header, ["PositionReferenceIndicator"])

    def equipment(self) -> dict[str, Any]:
        """Return the equipment for highdicom; the CT's own bytes replace it afterwards."""
        return {
            "manufacturer": self.ct.text("Manufacturer"),
            "manufacturer_model_name": self.ct.text("ManufacturerModelName"),
            "software_versions": self.ct.software_version,
            "device_serial_number": self.ct.text("DeviceSerialNumber"),
        }

    def content_time(self) -> Elements:
        """Make Content Date and Content Time (0008,0023), (0008,0033)."""
        return elements(ContentDate=self.date, ContentTime=self.time)


def of_the_ct(ct: CtSeries, kind: CompanionKind, content: bytes) -> Companion:
    """Make a companion with the date and time of the CT."""
    return Companion(ct, kind, content, ct.text("InstanceCreationDate"), ct.text("InstanceCreationTime"))


def made_at(ct: CtSeries, kind: CompanionKind, content: bytes, at: datetime) -> Companion:
    """Make a companion with the date and time `at` (aware), converted to the time zone of the CT."""
    there = scanner_time(at, ct.header)
    return Companion(ct, kind, content, f"{there:%Y%m%d}", f"{there:%H%M%S}")


def reference(sop_class_uid: str, sop_instance_uid: str) -> Elements:
    """Make an SOP Instance Reference (PS3.3 table 10-11)."""
    return elements(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid)


def stand_ins(ct: CtSeries) -> list[Dataset]:
    """Make the images from which highdicom takes geometry and UIDs.

    Their patient and study attributes are empty; `of_highdicom` puts in the CT's bytes later.
    """
    geometry, (down, right) = ct.geometry, ct.pixel_spacing_mm
    orientation = [float(value) for value in np.concatenate(ct.cosines)]
    images = []
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
        images.append(image)
    return images


def of_highdicom(companion: Companion, made: Dataset, *also: str) -> Elements:
    """Encode a data set that highdicom made, and replace `Companion.shared` and the attributes `also` by the CT's."""
    about_the_patient = {*keywords_of("Patient"), *keywords_of("Study")}
    ours = companion.shared() | companion.content_time() | copied(companion.ct.header, also)
    return elements_of(made, about_the_patient) | ours
