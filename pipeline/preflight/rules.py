"""The rules of preflight: each has a function, and its docstring is the rule. The profiles give the evidence for it.

A rule of `FILE_RULES` checks one file, a rule of `SERIES_RULES` all files of a series. Its keyword parameters come
from the profile (`pipeline.preflight.profile.RULES`). It yields a sentence for each breach, without a patient's name
or identifier. The conditions of conditional attributes are in `pipeline.preflight.conditional_attributes`, the tables
of the standard in `pipeline.standard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.uid import CTImageStorage

from pipeline.ct.elements import DS_LENGTH
from pipeline.ct.modules import AXIAL_ORIENTATION
from pipeline.preflight.conditional_attributes import CONDITIONS, code_breaches
from pipeline.series.identity import PATIENT_POSITIONS
from pipeline.standard import Attribute, ct_image_modules

ONE_OF_A_SERIES = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientPosition",
    "ImageOrientationPatient",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
)
"""Attributes that a planning system reads from one slice and uses for all."""

SAME_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelRepresentation")
PLACE = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SpacingBetweenSlices")
OF_THE_SERIES = (*ONE_OF_A_SERIES, *SAME_RESCALE, *PLACE)
"""All attributes that `SERIES_RULES` use; the rest of a file is not kept."""


@dataclass(frozen=True)
class CTFile:
    """A file of the series: its data set, and all its elements, also those inside sequences."""

    path: Path
    image: Dataset
    elements: tuple[DataElement, ...] = field(default=(), repr=False)


Sentences = Iterator[str]
Placed = Iterator[tuple[CTFile, str]]
FileRule = Callable[..., Sentences]
SeriesRule = Callable[..., Placed]


# --- one file --------------------------------------------------------------------------------------------------------


def sop_class(file: CTFile) -> Sentences:
    """SOP Class and Modality are those of a CT, and data set and File Meta agree (PS3.4 B.5, PS3.10 section 7.1)."""
    image = file.image
    meta = image.file_meta
    if image.get("SOPClassUID") != CTImageStorage or image.get("Modality") != "CT":
        yield f"SOPClassUID {image.get('SOPClassUID')} with Modality {image.get('Modality')} is no CT image"
    if meta.get("MediaStorageSOPClassUID") != image.get("SOPClassUID"):
        yield "MediaStorageSOPClassUID and SOPClassUID differ"
    if meta.get("MediaStorageSOPInstanceUID") != image.get("SOPInstanceUID"):
        yield "MediaStorageSOPInstanceUID and SOPInstanceUID differ"


def required_attributes(file: CTFile) -> Sentences:
    """Every Type 1 attribute has a value and every Type 2 attribute is present (PS3.3 A.3, PS3.5 section 7.4).

    This holds inside sequences too. Attributes of an optional module are required once it has a Type 1 attribute.
    """
    image = file.image
    for module in ct_image_modules():
        type_1 = [row.keyword for row in module.attributes if row.type == "1" and not row.path]
        outermost = module.usage == "M" or any(keyword in image for keyword in type_1)
        for row in module.attributes:
            if row.type in ("1", "2") and (row.path or outermost):
                yield from _missing(image, row)


def _missing(image: Dataset, row: Attribute) -> Sentences:
    """Yield a sentence for each item of the sequences along `row.path` (or the image) that lacks the attribute."""
    items = [image]
    for keyword in row.path:
        items = [inner for item in items if keyword in item for inner in item[keyword].value or ()]
    for item in items:
        name = "/".join((*row.path, row.keyword))
        if row.keyword not in item:
            yield f"Type {row.type} attribute {name} is missing"
        elif row.type == "1" and item[row.keyword].is_empty:
            yield f"Type 1 attribute {name} has no value"


def conditional_attributes(file: CTFile) -> Sentences:
    """Type 1C and 2C attributes are present if their condition holds, Type 1C with a value (PS3.5 section 7.4)."""
    image = file.image
    needed = {keyword: kind for keyword, (kind, condition) in CONDITIONS.items() if condition and condition(image)}
    for keyword, kind in needed.items():
        if keyword not in image:
            yield f"Type {kind} attribute {keyword} is missing although its condition holds"
        elif kind == "1C" and image[keyword].is_empty:
            yield f"Type 1C attribute {keyword} has no value although its condition holds"
    yield from code_breaches(file.elements)


def patient_id(file: CTFile) -> Sentences:
    """PatientID has a value (Type 2 in PS3.3 C.7.1.1, but planning systems need it)."""
    if not str(file.image.get("PatientID") or "").strip():
        yield "PatientID is missing or empty"


def patient_position(file: CTFile) -> Sentences:
    """PatientPosition, where it has a value, is a defined term (PS3.3 C.7.3.1.1.2)."""
    value = file.image.get("PatientPosition")
    if value and value not in PATIENT_POSITIONS:
        yield "PatientPosition is none of the defined terms of PS3.3 C.7.3.1.1.2"


def axial_orientation(file: CTFile) -> Sentences:
    """ImageOrientationPatient is exactly 1\\0\\0\\0\\1\\0 (PS3.3 C.7.6.2.1.1)."""
    orientation = [float(value) for value in file.image.get("ImageOrientationPatient") or ()]
    if orientation != [float(value) for value in AXIAL_ORIENTATION]:
        yield f"ImageOrientationPatient is {orientation}, not axial; set output.orientation to axial"


def square_pixels(file: CTFile) -> Sentences:
    """PixelSpacing has two equal, positive values (PS3.3 section 10.7.1.3)."""
    spacing = [float(value) for value in file.image.get("PixelSpacing") or ()]
    if len(spacing) != 2 or spacing[0] != spacing[1] or spacing[0] <= 0:
        yield f"PixelSpacing {spacing} is not that of square pixels"


def hu_rescale(file: CTFile) -> Sentences:
    """RescaleType is HU (PS3.3 C.11.1.1.2)."""
    if file.image.get("RescaleType") != "HU":
        yield f"RescaleType is {file.image.get('RescaleType')}, not HU"


def sixteen_bits(file: CTFile, *, stored: Sequence[int]) -> Sentences:
    """A pixel is one MONOCHROME2 sample of 16 bits, BitsStored is an allowed one, PixelData is complete (PS3.5 8.1)."""
    image = file.image
    bits = [image.get(keyword) for keyword in ("BitsAllocated", "BitsStored", "HighBit")]
    if bits[0] != 16 or bits[1] not in stored or bits[2] != bits[1] - 1:
        allowed = " or ".join(f"16/{number}/{number - 1}" for number in stored)
        yield f"BitsAllocated/BitsStored/HighBit {'/'.join(map(str, bits))} are not {allowed}"
    if image.get("SamplesPerPixel") != 1 or image.get("PhotometricInterpretation") != "MONOCHROME2":
        yield "the image is not one MONOCHROME2 sample a pixel"
    expected = 2 * (image.get("Rows") or 0) * (image.get("Columns") or 0)
    if len(image.get("PixelData") or b"") != expected:
        yield f"PixelData holds {len(image.get('PixelData') or b'')} bytes; {expected} are expected"


def synthetic_data(file: CTFile) -> Sentences:
    """SyntheticData is YES (PS3.3 C.12.1)."""
    if file.image.get("SyntheticData") != "YES":
        yield f"SyntheticData is {file.image.get('SyntheticData')}, not YES"


def decimal_strings(file: CTFile) -> Sentences:
    """A DS has at most 16 characters (PS3.5 section 6.2), inside sequences too."""
    for element in (element for element in file.elements if element.VR == "DS" and element.value is not None):
        for value in element.value if element.VM > 1 else [element.value]:
            if len(str(getattr(value, "original_string", value))) > DS_LENGTH:
                yield f"{element.keyword} {value} is longer than 16 characters"


def value_range(file: CTFile, *, lowest: int, highest: int) -> Sentences:
    """Rescaled values lie within the allowed HU (PS3.3 C.11.1)."""
    image = file.image
    kind = "<i2" if image.get("PixelRepresentation") == 1 else "<u2"
    pixels = image.get("PixelData") or b""
    stored = np.frombuffer(pixels[: len(pixels) // 2 * 2], kind)
    if not stored.size or image.get("RescaleSlope") is None or image.get("RescaleIntercept") is None:
        return
    slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    low, high = sorted((int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept))
    if low < lowest or high > highest:
        yield f"values from {low:g} to {high:g} HU leave the range {lowest} to {highest} HU; see output.hu_range"


def image_type(file: CTFile, *, first: Sequence[str]) -> Sentences:
    """Value 1 of ImageType (ORIGINAL or DERIVED) is an allowed one (PS3.3 C.7.6.1.1.2)."""
    values = file.image.get("ImageType") or [""]
    value = values if isinstance(values, str) else values[0]
    if value not in first:
        yield f"value 1 of ImageType is {value or 'missing'}, not {' or '.join(first)}; see output.image_type"


def attributes_filled(file: CTFile, *, keywords: Sequence[str]) -> Sentences:
    """Each of these attributes has a value, whatever its type in the standard."""
    for keyword in keywords:
        if keyword not in file.image or file.image[keyword].is_empty:
            yield f"{keyword} is missing or empty"


FILE_RULES: tuple[FileRule, ...] = (
    sop_class,
    required_attributes,
    conditional_attributes,
    patient_id,
    patient_position,
    synthetic_data,
    decimal_strings,
    hu_rescale,
    sixteen_bits,
    value_range,
    axial_orientation,
    square_pixels,
    image_type,
    attributes_filled,
)
"""Rules that check one file at a time."""


# --- the series ------------------------------------------------------------------------------------------------------


def equal_steps(files: Sequence[CTFile], *, tolerance_mm: float) -> Placed:
    """Slices lie at equal steps along row x column cosines (PS3.3 C.7.6.2.1.1), in the order of InstanceNumber.

    Axial slices so go from inferior to superior. No slice is farther from its place than the tolerance.
    """
    placed, normal = _placed(files)
    if len(placed) < 2 or normal is None:
        return
    positions = _positions(placed)
    step = float((positions[-1] - positions[0]) @ normal) / (len(placed) - 1)
    if step <= 0:
        yield placed[0], "slices do not follow each other along row x column cosines with InstanceNumber"
    ideal = positions[0] + np.outer(np.arange(len(placed)) * step, normal)
    for file, error in zip(placed, np.abs(positions - ideal).max(axis=1).tolist(), strict=True):
        if error > tolerance_mm:
            yield file, f"the slice lies {error:.4g} mm away from its place in a stack of {step:.6g} mm steps"


def slices_touch(files: Sequence[CTFile], *, tolerance_mm: float) -> Placed:
    """SliceThickness and SpacingBetweenSlices, if present, equal the distance of slices (PS3.3 C.7.6.2)."""
    placed, normal = _placed(files)
    if len(placed) < 2 or normal is None:
        return
    positions = _positions(placed)
    step = float((positions[-1] - positions[0]) @ normal) / (len(placed) - 1)
    for file in placed:
        for keyword in ("SliceThickness", "SpacingBetweenSlices"):
            value = file.image.get(keyword)
            if value is not None and abs(float(value) - abs(step)) > tolerance_mm:
                yield file, f"{keyword} is {float(value):g} mm, but slices are {abs(step):.6g} mm apart"


def slice_count(files: Sequence[CTFile], *, most: int) -> Placed:
    """The series has at most `most` slices."""
    if len(files) > most:
        yield files[0], f"{len(files)} slices, at most {most} are taken; a larger output.spacing_mm makes fewer"


def length(files: Sequence[CTFile], *, most_mm: float) -> Placed:
    """The series is at most `most_mm` long, from the outer edge of its first slice to that of its last."""
    placed, normal = _placed(files)
    if len(placed) < 2 or normal is None:
        return
    heights = _positions(placed) @ normal
    long_mm = float(np.ptp(heights)) * len(placed) / (len(placed) - 1)
    if long_mm > most_mm:
        yield placed[0], f"the series is {long_mm:.1f} mm long, at most {most_mm:g} mm are taken; see output.field"


def _placed(files: Sequence[CTFile]) -> tuple[list[CTFile], NDArray[np.float64] | None]:
    """Return the files with a position, in order of InstanceNumber, and the unit normal of the first plane, or None."""
    numbered = sorted(files, key=lambda file: int(file.image.get("InstanceNumber") or 0))
    placed = [file for file in numbered if len(file.image.get("ImagePositionPatient") or ()) == 3]
    cosines = [float(value) for file in placed[:1] for value in file.image.get("ImageOrientationPatient") or ()]
    normal = np.cross(cosines[:3], cosines[3:]) if len(cosines) == 6 else np.zeros(3)
    size = float(np.linalg.norm(normal))
    return placed, normal / size if size > 0 else None


def _positions(files: Sequence[CTFile]) -> NDArray[np.float64]:
    """Return the positions of the files, shape (files, 3), LPS mm."""
    return np.array([[float(value) for value in file.image.ImagePositionPatient] for file in files])


def one_series(files: Sequence[CTFile]) -> Placed:
    """All slices have one patient, study, series, frame of reference, orientation, matrix and spacing."""
    yield from _differing(files, ONE_OF_A_SERIES)


def same_rescale(files: Sequence[CTFile]) -> Placed:
    """All slices have the same rescale (PS3.3 C.11.1)."""
    yield from _differing(files, SAME_RESCALE)


def _differing(files: Sequence[CTFile], keywords: Iterable[str]) -> Placed:
    """Yield each file, and each of these attributes, that differs from the first file."""
    first = files[0].image
    for file in files[1:]:
        yield from (
            (file, f"{keyword} differs from that of the first file")
            for keyword in keywords
            if file.image.get(keyword) != first.get(keyword)
        )


def unique_sop_uids(files: Sequence[CTFile]) -> Placed:
    """Each slice has a SOPInstanceUID of its own (PS3.5 section 9.1)."""
    seen: set[str] = set()
    for file in files:
        uid = str(file.image.get("SOPInstanceUID"))
        if uid in seen:
            yield file, "SOPInstanceUID is that of another slice"
        seen.add(uid)


SERIES_RULES: tuple[SeriesRule, ...] = (
    equal_steps,
    slices_touch,
    one_series,
    same_rescale,
    unique_sop_uids,
    slice_count,
    length,
)
"""Rules that check all files of the series together."""
