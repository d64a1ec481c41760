"""An analytic left thigh: the same anatomy as MR values, as true HU and as labels, on any grid.

Every shape is a formula in patient coordinates (LPS, mm: x to the patient's left, y to posterior, z to superior)
and is sampled at voxel centres, so an oblique grid is as exact as an axial one. The femur lies lateral (+x) and
anterior (-y) of the centre and leans, the vessels lie medial, the thigh widens towards superior: no two directions
look alike, and a swapped axis shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat, format_number_as_ds

Coordinates = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tissue:
    """One tissue: its label, its HU, and its T1-weighted MR value (arbitrary units)."""

    label: int
    name: str
    hu: float
    mr: float


AIR = Tissue(0, "air", -1000.0, 10.0)
FAT = Tissue(1, "fat", -100.0, 1000.0)
MUSCLE = Tissue(2, "muscle", 55.0, 350.0)
CORTICAL_BONE = Tissue(3, "cortical bone", 1200.0, 60.0)
MARROW = Tissue(4, "marrow", -20.0, 900.0)
VESSEL = Tissue(5, "vessel", 45.0, 80.0)
TISSUES = (AIR, FAT, MUSCLE, CORTICAL_BONE, MARROW, VESSEL)

THIGH_RADIUS_MM = 75.0
"""Half the diameter at z = 0; it grows by `THIGH_TAPER` a mm towards superior."""
THIGH_TAPER = 0.0008
FEMUR_RADIUS_MM = 14.0
CORTEX_MM = 5.5
ARTERY_RADIUS_MM = 4.0
VEIN_RADIUS_MM = 5.0
SEPTUM_MM = 1.6
"""Thickness of the fatty planes between the three muscle compartments."""


@dataclass(frozen=True)
class Phantom:
    """One thigh on one grid: MR values (float32), true HU (float32) and labels (uint8, of `TISSUES`)."""

    mr: Volume
    hu: Volume
    labels: Volume


def thigh(geometry: VolumeGeometry, seed: int = 0, noise: float = 15.0, bias: float = 0.0) -> Phantom:
    """Sample the thigh at the voxel centres of `geometry` (any orientation, LPS mm).

    `noise` is the standard deviation of each channel of the Rician noise in MR units, drawn from `seed`; `bias` is
    the relative amplitude of a smooth receive field (0.1: about 10 %).
    """
    labels = _labels(geometry)
    mr = np.array([tissue.mr for tissue in TISSUES], np.float32)[labels]
    if bias:
        mr *= 1 + np.float32(bias) * _receive_field(geometry)
    hu = np.array([tissue.hu for tissue in TISSUES], np.float32)[labels]
    noisy = _rician(mr, noise, np.random.default_rng(seed))
    return Phantom(geometry.with_array(noisy), geometry.with_array(hu), geometry.with_array(labels))


def femur_centre_mm(z: Coordinates | float) -> tuple[Coordinates | float, Coordinates | float]:
    """Return (x, y) of the femur's axis at height `z`, LPS mm: it leans laterally towards superior."""
    return 14.0 + 0.08 * z, -10.0 + 0.03 * z


def axial_grid(
    shape: tuple[int, int, int] = (60, 180, 180),
    spacing_mm: tuple[float, float, float] = (3.0, 1.0, 1.0),
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    frame_of_reference_uid: str | None = None,
) -> VolumeGeometry:
    """Return an axial grid (slice, row, column), slices inferior to superior, its centre at `centre_mm` (LPS)."""
    step = np.zeros((3, 3))
    step[2, 0], step[1, 1], step[0, 2] = spacing_mm
    return _grid(shape, step, centre_mm, frame_of_reference_uid)


def oblique_grid(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rotation: NDArray[np.float64],
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    frame_of_reference_uid: str | None = None,
) -> VolumeGeometry:
    """Return a grid (slice, row, column) whose axes are the axial grid's, turned by `rotation` (3 x 3, LPS)."""
    step = np.zeros((3, 3))
    step[2, 0], step[1, 1], step[0, 2] = spacing_mm
    return _grid(shape, np.asarray(rotation) @ step, centre_mm, frame_of_reference_uid)


def _grid(
    shape: tuple[int, int, int],
    step: NDArray[np.float64],
    centre_mm: tuple[float, float, float],
    frame_of_reference_uid: str | None,
) -> VolumeGeometry:
    affine = np.eye(4)
    affine[:3, :3] = step
    affine[:3, 3] = np.asarray(centre_mm) - step @ ((np.asarray(shape) - 1) / 2)
    return VolumeGeometry(affine, shape, "PATIENT", frame_of_reference_uid=frame_of_reference_uid)


def _coordinates(geometry: VolumeGeometry) -> tuple[Coordinates, Coordinates, Coordinates]:
    """Return x, y and z (LPS, mm) of every voxel centre, each of the grid's shape."""
    steps = [np.arange(n, dtype=np.float64) for n in geometry.spatial_shape]
    k, j, i = np.ix_(*steps)
    affine = geometry.affine
    x, y, z = (affine[a, 0] * k + affine[a, 1] * j + affine[a, 2] * i + affine[a, 3] for a in range(3))
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _labels(geometry: VolumeGeometry) -> NDArray[np.uint8]:
    """Return the label at every voxel centre; later shapes overwrite earlier ones."""
    x, y, z = _coordinates(geometry)
    labels = np.full(geometry.spatial_shape, AIR.label, np.uint8)
    scale = 1 + np.float32(THIGH_TAPER) * z
    labels[_ellipse(x, y, THIGH_RADIUS_MM * scale, 0.94 * THIGH_RADIUS_MM * scale)] = FAT.label
    muscle = _ellipse(x - 3, y + 4, (THIGH_RADIUS_MM - 14) * scale, (0.94 * THIGH_RADIUS_MM - 13) * scale)
    labels[muscle & ~_septa(x, y, z)] = MUSCLE.label
    labels[_ellipse(x + 27, y + 12, ARTERY_RADIUS_MM, ARTERY_RADIUS_MM)] = VESSEL.label
    labels[_ellipse(x + 34, y + 3, VEIN_RADIUS_MM, VEIN_RADIUS_MM)] = VESSEL.label
    femur_x, femur_y = femur_centre_mm(z)
    from_axis = np.hypot(x - femur_x, y - femur_y)
    labels[from_axis < FEMUR_RADIUS_MM] = CORTICAL_BONE.label
    labels[from_axis < FEMUR_RADIUS_MM - CORTEX_MM] = MARROW.label
    return labels


def _ellipse(x: Coordinates, y: Coordinates, a: Coordinates | float, b: Coordinates | float) -> Mask:
    inside: Mask = (x / a) ** 2 + (y / b) ** 2 < 1
    return inside


def _septa(x: Coordinates, y: Coordinates, z: Coordinates) -> Mask:
    """Three half planes from the femur outwards: the borders of extensors, flexors and adductors."""
    femur_x, femur_y = femur_centre_mm(z)
    x, y = x - femur_x, y - femur_y
    septa = np.zeros(x.shape, np.bool_)
    for degrees in (25.0, 130.0, 195.0):
        c, s = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
        septa |= (np.abs(x * s - y * c) < SEPTUM_MM / 2) & (x * c + y * s > 0)
    return septa


def _receive_field(geometry: VolumeGeometry) -> Coordinates:
    """Return a smooth field between about -1 and 1 over the thigh, brighter towards anterior left."""
    x, y, z = _coordinates(geometry)
    field = np.sin((x - y) / 120) + 0.3 * np.cos(z / 90)
    return np.clip(field, -1, 1).astype(np.float32)


def _rician(signal: Coordinates, sigma: float, draw: np.random.Generator) -> Coordinates:
    """|signal + n1 + i n2| with n1, n2 of standard deviation `sigma`: the noise of a magnitude image."""
    if sigma <= 0:
        return signal
    real = signal + sigma * draw.standard_normal(signal.shape, np.float32)
    imaginary = sigma * draw.standard_normal(signal.shape, np.float32)
    noisy: Coordinates = np.hypot(real, imaginary)
    return noisy


@dataclass(frozen=True)
class Subject:
    """Whom a written phantom series says it shows, and how that person lay in the scanner."""

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
    """Write `mr` as a classic MR Image Storage series (PS3.3 A.4), one file a slice, and return its paths.

    `mr` may have any orientation and axis order: its axes become slices, rows and columns. Values are rounded to
    0..4095. UIDs follow from `seed` and the geometry, so the same call writes the same bytes. With `shuffled`, file
    names and InstanceNumber follow a random order instead of the position, as some senders do.
    """
    into.mkdir(parents=True, exist_ok=True)
    slices = mr.shape[0]
    order = np.random.default_rng(seed).permutation(slices) if shuffled else np.arange(slices)
    pixels = np.clip(np.rint(mr.array), 0, 4095).astype("<u2")
    identity = (str(seed), subject.patient_id, mr.affine.tobytes().hex(), str(mr.shape))
    paths = []
    for number, index in enumerate(order, start=1):
        data_set = _mr_image(mr, int(index), number, pixels[index], subject, identity)
        path = into / f"{number:04d}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


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
    _image_plane(image, mr, index)
    _mr_acquisition(image)
    _image_pixels(image, pixels)
    return _as_file(image)


def _patient_and_study(image: pydicom.Dataset, subject: Subject, identity: Sequence[str]) -> None:
    """Patient (PS3.3 C.7.1.1), General Study (C.7.2.1) and Patient Study (C.7.2.2) modules."""
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
    """General Series (PS3.3 C.7.3.1) and General Equipment (C.7.5.1) modules."""
    image.Modality = "MR"
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[*identity, "series"])
    image.SeriesNumber = 3
    image.SeriesDate, image.SeriesTime = "20250102", "102000"
    image.SeriesDescription = "T1 thigh phantom"
    image.ProtocolName = "T1"
    image.BodyPartExamined = subject.body_part
    image.Laterality = "L"
    image.PatientPosition = subject.patient_position
    image.Manufacturer = "sct-node"
    image.ManufacturerModelName = "analytic phantom"
    image.DeviceSerialNumber = "1"
    image.SoftwareVersions = "1"


def _image_plane(image: pydicom.Dataset, mr: Volume, index: int) -> None:
    """Image Plane module (PS3.3 C.7.6.2): position, orientation and spacing from the affine."""
    slice_step, row_step, column_step = mr.affine[:3, :3].T
    image.ImagePositionPatient = _ds(mr.affine[:3, 3] + index * slice_step)
    image.ImageOrientationPatient = _ds([*_unit(column_step), *_unit(row_step)])
    image.PixelSpacing = _ds(np.linalg.norm([row_step, column_step], axis=1))
    image.SliceThickness, image.SpacingBetweenSlices = _ds(np.linalg.norm([slice_step, slice_step], axis=1))


def _unit(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return step / float(np.linalg.norm(step))


def _ds(values: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    """Return `values` as DS of at most 16 characters (PS3.5 6.2); -0.0 and rounding dust become 0."""
    return [DSfloat(format_number_as_ds(float(v) if abs(v) > 1e-12 else 0.0)) for v in values]


def _mr_acquisition(image: pydicom.Dataset) -> None:
    """Write the acquisition, as an MR Image module (PS3.3 C.8.3.1) of a T1-weighted spin echo."""
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


def _image_pixels(image: pydicom.Dataset, pixels: NDArray[np.uint16]) -> None:
    """Image Pixel module (PS3.3 C.7.6.3): 12 bits in 16, unsigned."""
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape[-2:]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelData = pixels.tobytes()


def _as_file(image: pydicom.Dataset) -> pydicom.FileDataset:
    """Return `image` with its file meta information (PS3.10 7.1), Explicit VR Little Endian."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.SOPClassUID
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return pydicom.FileDataset("", image, file_meta=meta, preamble=b"\0" * 128)
