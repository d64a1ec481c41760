"""Write the phantom's MR volume as a classic MR series (PS3.3 A.4) or as one Enhanced MR object (PS3.3 A.36.2).

Both pass dciodvfy. Nothing is shared with the code that reads MR, so that tests of the reader are tests against the
standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from highdicom import Volume
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat, format_number_as_ds


@dataclass(frozen=True)
class Subject:
    """The patient and the body part that a phantom series names, and the position in the scanner."""

    patient_id: str = "SCT-PHANTOM"
    patient_name: str = "Phantom^Thigh"
    birth_date: str = "19700101"
    sex: str = "O"
    body_part: str = "THIGH"
    patient_position: str = "HFS"


PHANTOM_SUBJECT = Subject()


def write_mr_series(
    mr: Volume,
    into: Path,
    *,
    subject: Subject = PHANTOM_SUBJECT,
    seed: int = 0,
    shuffled: bool = False,
) -> list[Path]:
    """Write `mr` as a classic MR Image Storage series (PS3.3 A.4), one file for each slice, and return the paths.

    `mr` may have any orientation and axis order: its axes become slices, rows and columns. Values are rounded to
    0..4095. UIDs are derived from `seed` and the geometry, so the same call writes the same bytes. With `shuffled`,
    file names and InstanceNumber have a random order instead of the spatial one, as from some senders.
    """
    into.mkdir(parents=True, exist_ok=True)
    slices = mr.shape[0]
    order = np.random.default_rng(seed).permutation(slices) if shuffled else np.arange(slices)
    pixels = _stored(mr)
    identity = _identity(mr, subject, seed)
    paths = []
    for number, index in enumerate(order, start=1):
        data_set = _mr_image(mr, int(index), number, pixels[index], subject, identity)
        path = into / f"{number:04d}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_enhanced_mr(mr: Volume, into: Path, *, subject: Subject = PHANTOM_SUBJECT, seed: int = 0) -> Path:
    """Write `mr` as one Enhanced MR Image Storage object (PS3.3 A.36.2) with its frames out of order.

    Orientation, spacing and rescale are shared by all frames, the position is given per frame; otherwise as
    `write_mr_series`.
    """
    into.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(mr.shape[0])
    image = enhanced_image(mr, order, subject, _identity(mr, subject, seed))
    path = into / "enhanced.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def _identity(mr: Volume, subject: Subject, seed: int) -> tuple[str, ...]:
    """Return the texts from which the UIDs of a series are derived (PS3.5 section B.2)."""
    return str(seed), subject.patient_id, mr.affine.tobytes().hex(), str(mr.shape)


def _stored(mr: Volume) -> NDArray[np.uint16]:
    stored: NDArray[np.uint16] = np.clip(np.rint(mr.array), 0, 4095).astype("<u2")
    return stored


def _mr_image(
    mr: Volume,
    index: int,
    number: int,
    pixels: NDArray[np.uint16],
    subject: Subject,
    identity: Sequence[str],
) -> pydicom.FileDataset:
    """Return slice `index` of `mr` as an MR Image Storage data set."""
    image = pydicom.Dataset()
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = generate_uid(entropy_srcs=[*identity, "instance", str(index)])
    _patient_and_study(image, subject, identity)
    _series_and_equipment(image, subject, identity)
    image.FrameOfReferenceUID = mr.frame_of_reference_uid or generate_uid(entropy_srcs=[*identity, "frame"])
    image.PositionReferenceIndicator = ""
    image.InstanceNumber = number
    image.Laterality = "L"
    # Image Plane module (PS3.3 C.7.6.2)
    slice_step, row_step, column_step = mr.affine[:3, :3].T
    image.ImagePositionPatient = _ds(mr.affine[:3, 3] + index * slice_step)
    image.ImageOrientationPatient = _ds([*_unit(column_step), *_unit(row_step)])
    image.PixelSpacing = _ds(np.linalg.norm([row_step, column_step], axis=1))
    image.SliceThickness, image.SpacingBetweenSlices = _ds(np.linalg.norm([slice_step, slice_step], axis=1))
    # MR Image module (PS3.3 C.8.3.1) of a T1-weighted spin echo, and the acquisition
    image.AcquisitionDate, image.AcquisitionTime = "20250102", "102000"
    image.ContentDate, image.ContentTime = "20250102", "102000"
    image.AcquisitionNumber = 1
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    image.ScanningSequence = "SE"
    image.SequenceVariant = "NONE"
    image.ScanOptions = ""
    image.MRAcquisitionType = "2D"
    image.RepetitionTime, image.EchoTime, image.EchoTrainLength = "600", "12", "1"
    image.MagneticFieldStrength = "1.5"
    _image_pixels(image, pixels)
    return _as_file(image)


def _patient_and_study(image: pydicom.Dataset, subject: Subject, identity: Sequence[str]) -> None:
    """Write the modules Patient (PS3.3 C.7.1.1), General Study (C.7.2.1) and Patient Study (C.7.2.2)."""
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName = subject.patient_name
    image.PatientID = subject.patient_id
    image.PatientBirthDate = subject.birth_date
    image.PatientSex = subject.sex
    image.PatientWeight = "70"
    image.StudyInstanceUID = generate_uid(entropy_srcs=[*identity, "study"])
    image.StudyDate, image.StudyTime = "20250102", "101500"
    image.ReferringPhysicianName = ""
    image.StudyID = "1"
    image.AccessionNumber = ""
    image.StudyDescription = "Analytic thigh phantom"


def _series_and_equipment(image: pydicom.Dataset, subject: Subject, identity: Sequence[str]) -> None:
    """Write the modules General Series (PS3.3 C.7.3.1) and General Equipment (C.7.5.1)."""
    image.Modality = "MR"
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[*identity, "series"])
    image.SeriesNumber = 3
    image.SeriesDate, image.SeriesTime = "20250102", "102000"
    image.SeriesDescription = "T1 thigh phantom"
    image.ProtocolName = "T1"
    image.BodyPartExamined = subject.body_part
    image.PatientPosition = subject.patient_position
    image.Manufacturer = "sct-node"
    image.ManufacturerModelName = "analytic phantom"
    image.DeviceSerialNumber = "1"
    image.SoftwareVersions = "1"


def _unit(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return step / float(np.linalg.norm(step))


def _ds(values: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    """Return `values` as DS of at most 16 characters (PS3.5 section 6.2); values within 1e-12 of 0 become 0."""
    return [DSfloat(format_number_as_ds(float(v) if abs(v) > 1e-12 else 0.0)) for v in values]


def _image_pixels(image: pydicom.Dataset, pixels: NDArray[np.uint16]) -> None:
    """Write the Image Pixel module (PS3.3 C.7.6.3): 12 of 16 bits, unsigned."""
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape[-2:]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelData = pixels.tobytes()


def _as_file(image: pydicom.Dataset) -> pydicom.FileDataset:
    """Return `image` with its File Meta Information (PS3.10 section 7.1), Explicit VR Little Endian."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return pydicom.FileDataset("", image, file_meta=meta, preamble=b"\0" * 128)


# --- Enhanced MR -----------------------------------------------------------------------------------------------------


def enhanced_image(
    mr: Volume, order: NDArray[np.int64], subject: Subject, identity: Sequence[str]
) -> pydicom.FileDataset:
    """Return `mr` as an Enhanced MR data set, its slices as frames in `order`."""
    image = pydicom.Dataset()
    image.SOPClassUID = EnhancedMRImageStorage
    image.SOPInstanceUID = generate_uid(entropy_srcs=[*identity, "enhanced"])
    _patient_and_study(image, subject, identity)
    _series_and_equipment(image, subject, identity)
    image.FrameOfReferenceUID = mr.frame_of_reference_uid or generate_uid(entropy_srcs=[*identity, "frame"])
    image.PositionReferenceIndicator = ""
    image.InstanceNumber = 1
    # Enhanced MR Image module (PS3.3 C.8.13.1) of a derived image, which needs no pulse sequence module
    image.ContentDate, image.ContentTime = "20250102", "102000"
    image.AcquisitionDateTime = "20250102102000"
    image.AcquisitionDuration = 120.0
    image.AcquisitionNumber = 1
    image.ImageType = ["DERIVED", "PRIMARY", "T1", "NONE"]
    _image_description(image)
    image.ContentQualification = "RESEARCH"
    image.ResonantNucleus = "1H"
    image.MagneticFieldStrength = 1.5
    image.ApplicableSafetyStandardAgency = "IEC"
    image.BurnedInAnnotation = "NO"
    image.LossyImageCompression = "00"
    image.PresentationLUTShape = "IDENTITY"
    image.AcquisitionContextSequence = []
    image.SharedFunctionalGroupsSequence = [_shared_groups(mr)]
    image.PerFrameFunctionalGroupsSequence = [_frame_groups(mr, int(index)) for index in order]
    # Multi-frame Dimension module (PS3.3 C.7.6.17): stack, then position in it
    organization = pydicom.Dataset()
    organization.DimensionOrganizationUID = generate_uid(entropy_srcs=[*identity, "dimensions"])
    image.DimensionOrganizationSequence = [organization]
    image.DimensionIndexSequence = []
    for keyword in ("StackID", "InStackPositionNumber"):
        index = pydicom.Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = tag_for_keyword(keyword)
        index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        image.DimensionIndexSequence.append(index)
    image.NumberOfFrames = len(order)
    _image_pixels(image, _stored(mr)[order])
    return _as_file(image)


def _shared_groups(mr: Volume) -> pydicom.Dataset:
    """Make the functional groups that all frames share (PS3.3 C.7.6.16.2 and C.8.13.5)."""
    slice_step, row_step, column_step = mr.affine[:3, :3].T
    measures, orientation = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = _ds(np.linalg.norm([row_step, column_step], axis=1))
    measures.SliceThickness, measures.SpacingBetweenSlices = _ds(np.linalg.norm([slice_step, slice_step], axis=1))
    orientation.ImageOrientationPatient = _ds([*_unit(column_step), *_unit(row_step)])
    rescale = pydicom.Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = "0", "1", "US"
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    window, region, anatomy, frame_type = (pydicom.Dataset() for _ in range(4))
    window.WindowCenter, window.WindowWidth = "600", "1200"
    shared.FrameVOILUTSequence = [window]
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "68367000", "SCT", "Thigh"
    anatomy.AnatomicRegionSequence = [region]
    anatomy.FrameLaterality = "L"
    shared.FrameAnatomySequence = [anatomy]
    frame_type.FrameType = ["DERIVED", "PRIMARY", "T1", "NONE"]
    _image_description(frame_type)
    shared.MRImageFrameTypeSequence = [frame_type]
    return shared


def _image_description(image: pydicom.Dataset) -> None:
    """Write the MR Image Description macro (PS3.3 C.8.13.3) of a T1-weighted magnitude volume."""
    image.PixelPresentation = "MONOCHROME"
    image.VolumetricProperties = "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"
    image.ComplexImageComponent = "MAGNITUDE"
    image.AcquisitionContrast = "T1"


def _frame_groups(mr: Volume, index: int) -> pydicom.Dataset:
    """Make the functional groups Frame Content and Plane Position of slice `index` (PS3.3 C.7.6.16.2)."""
    content, position, groups = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = "20250102102000"
    content.FrameAcquisitionDuration = 120000.0
    content.FrameAcquisitionNumber = 1
    content.StackID = "1"
    content.InStackPositionNumber = index + 1
    content.DimensionIndexValues = [1, index + 1]
    position.ImagePositionPatient = _ds(mr.affine[:3, 3] + index * mr.affine[:3, 0])
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [position]
    return groups
