"""Preflight: what planning systems ask of a CT series, asked before it is sent. One named rule each.

`FILE_RULES` look at one file, `SERIES_RULES` at all of them together; a rule's docstring holds its evidence. A rule
yields one sentence a breach, without a patient's name or identifier. The conditions of conditional attributes stand in
`pipeline.conditions`, the tables of the standard in `pipeline.standard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom import DataElement, Dataset
from pydicom.uid import CTImageStorage

from pipeline.conditions import CONDITIONS, code_breaches
from pipeline.ct import HU_RANGE
from pipeline.ct_modules import AXIAL_ORIENTATION
from pipeline.elements import DS_LENGTH
from pipeline.instance import DAMAGE
from pipeline.standard import Attribute, Module, ct_image_modules

STEP_TOLERANCE_MM = 1e-4
"""How far a slice may lie from its place: the error allowed in a CT's positions."""
ONE_OF_A_SERIES = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientPosition",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
)
"""Attributes that a planning system takes from one slice and believes of all."""

SAME_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelRepresentation")
PLACE = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient")


@dataclass(frozen=True)
class Breach:
    """A rule that a file breaks: the rule's name, the file, and what is wrong, in a sentence."""

    rule: str
    file: Path
    sentence: str


@dataclass(frozen=True)
class CTFile:
    """A file of the series: its data set, and all its elements, those inside sequences too."""

    path: Path
    image: Dataset
    elements: tuple[DataElement, ...] = field(default=(), repr=False)


FileRule = Callable[[CTFile], Iterator[str]]
SeriesRule = Callable[[Sequence[CTFile]], Iterator[tuple[CTFile, str]]]


def preflight(paths: Iterable[Path], hu_range: tuple[int, int] = HU_RANGE) -> list[Breach]:
    """Ask all rules of the files of one CT series; an empty list means that it may be sent.

    `hu_range` is the range of rescaled values that the site allows.
    """
    files: list[CTFile] = []
    sequences: dict[tuple[int, bytes], DataElement] = {}
    breaches: list[Breach] = []
    for path in paths:
        try:
            file = _read(path, sequences)
        except (OSError, *DAMAGE) as error:
            breaches.append(Breach("readable", path, f"the file cannot be read ({type(error).__name__})"))
            continue
        breaches += [Breach(rule.__name__, path, text) for rule in FILE_RULES for text in rule(file)]
        breaches += [Breach("value_range", path, text) for text in value_range(file, hu_range)]
        files.append(_for_the_series(file))
    rules = SERIES_RULES if files else ()
    return breaches + [Breach(rule.__name__, file.path, text) for rule in rules for file, text in rule(files)]


def _read(path: Path, sequences: dict[tuple[int, bytes], DataElement]) -> CTFile:
    """Read a whole file and decode every element, so that no rule meets a damaged one.

    `sequences` are those of the files before: the same bytes, as in references to the source, are decoded once.
    """
    image = pydicom.dcmread(path)
    for tag in list(image.keys()):
        raw = image.get_item(tag)
        if raw.is_raw and raw.VR == "SQ":
            encoded = (int(tag), bytes(raw.value or b""))
            image[tag] = sequences.setdefault(encoded, sequences.get(encoded) or image[tag])
    return CTFile(path, image, tuple(image.iterall()))


def _for_the_series(file: CTFile) -> CTFile:
    """The few attributes that `SERIES_RULES` ask for; a long series is not kept in memory."""
    kept = Dataset()
    for keyword in (*ONE_OF_A_SERIES, *SAME_RESCALE, *PLACE):
        if keyword in file.image:
            kept[keyword] = file.image[keyword]
    return CTFile(file.path, kept)


# --- one file --------------------------------------------------------------------------------------------------------


def sop_class(file: CTFile) -> Iterator[str]:
    """CT Image Storage and Modality CT, in data set and file meta: importers sort by these (PS3.4 B.5, PS3.10 7.1)."""
    image = file.image
    meta = image.file_meta
    if image.get("SOPClassUID") != CTImageStorage or image.get("Modality") != "CT":
        yield f"SOPClassUID {image.get('SOPClassUID')} with Modality {image.get('Modality')} is no CT image"
    if meta.get("MediaStorageSOPClassUID") != image.get("SOPClassUID"):
        yield "MediaStorageSOPClassUID and SOPClassUID differ"
    if meta.get("MediaStorageSOPInstanceUID") != image.get("SOPInstanceUID"):
        yield "MediaStorageSOPInstanceUID and SOPInstanceUID differ"


def required_attributes(file: CTFile) -> Iterator[str]:
    """Every Type 1 attribute has a value and every Type 2 attribute is there (PS3.3 A.3, PS3.5 7.4), nested too.

    One planning system warns for each of StudyID, ReferringPhysicianName, AccessionNumber, SeriesNumber, KVP,
    AcquisitionNumber and PositionReferenceIndicator that is missing. A module that is not mandatory is asked for its
    attributes once one of its Type 1 attributes is there.
    """
    image = file.image
    for module in ct_image_modules():
        outermost = module.usage == "M" or _has_module(image, module)
        for row in module.attributes:
            if row.type in ("1", "2") and (row.path or outermost):
                yield from _missing(image, row)


def _has_module(image: Dataset, module: Module) -> bool:
    return any(row.keyword in image for row in module.attributes if row.type == "1" and not row.path)


def _missing(image: Dataset, row: Attribute) -> Iterator[str]:
    for item in _items(image, row.path):
        name = "/".join((*row.path, row.keyword))
        if row.keyword not in item:
            yield f"Type {row.type} attribute {name} is missing"
        elif row.type == "1" and item[row.keyword].is_empty:
            yield f"Type 1 attribute {name} has no value"


def _items(image: Dataset, path: Sequence[str]) -> list[Dataset]:
    """All items of the sequences along `path`; the image itself for an empty path."""
    items = [image]
    for keyword in path:
        items = [inner for item in items if keyword in item for inner in item[keyword].value or ()]
    return items


def conditional_attributes(file: CTFile) -> Iterator[str]:
    """Type 1C and 2C attributes whose condition holds are there, and those of Type 1C have a value (PS3.5 7.4)."""
    image = file.image
    for keyword, (kind, condition) in CONDITIONS.items():
        if condition is not None and condition(image):
            if keyword not in image:
                yield f"Type {kind} attribute {keyword} is missing although its condition holds"
            elif kind == "1C" and image[keyword].is_empty:
                yield f"Type 1C attribute {keyword} has no value although its condition holds"
    yield from code_breaches(file.elements)


def patient_id(file: CTFile) -> Iterator[str]:
    """PatientID has a value: a missing one crashed one planning system and made two patients in another."""
    image = file.image
    if not str(image.get("PatientID") or "").strip():
        yield "PatientID is missing or empty"


def axial_orientation(file: CTFile) -> Iterator[str]:
    """1\\0\\0\\0\\1\\0: one planning system closes its import dialog without a word otherwise, one fails at dose."""
    image = file.image
    orientation = [float(value) for value in image.get("ImageOrientationPatient") or ()]
    if orientation != [float(value) for value in AXIAL_ORIENTATION]:
        yield f"ImageOrientationPatient is {orientation}, not axial"


def square_pixels(file: CTFile) -> Iterator[str]:
    """PixelSpacing has two equal, positive values (DICOM.md, output table)."""
    image = file.image
    spacing = [float(value) for value in image.get("PixelSpacing") or ()]
    if len(spacing) != 2 or spacing[0] != spacing[1] or spacing[0] <= 0:
        yield f"PixelSpacing {spacing} is not that of square pixels"


def hu_rescale(file: CTFile) -> Iterator[str]:
    """RescaleType HU: one planning system is fatal with "If the Rescale Type attribute is defined it must be HU"."""
    image = file.image
    if image.get("RescaleType") != "HU":
        yield f"RescaleType is {image.get('RescaleType')}, not HU"


def sixteen_bits(file: CTFile) -> Iterator[str]:
    """16 bits allocated, 12 or 16 stored, grey: "Bits Allocated must have the value 16"; BitsStored is checked too."""
    image = file.image
    allocated, stored, high = (image.get(k) for k in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated != 16 or stored not in (12, 16) or high != stored - 1:
        yield f"BitsAllocated/BitsStored/HighBit {allocated}/{stored}/{high} are neither 16/16/15 nor 16/12/11"
    if image.get("SamplesPerPixel") != 1 or image.get("PhotometricInterpretation") != "MONOCHROME2":
        yield "the image is not one MONOCHROME2 sample a pixel"
    expected = 2 * (image.get("Rows") or 0) * (image.get("Columns") or 0)
    if len(image.get("PixelData") or b"") != expected:
        yield f"PixelData holds {len(image.get('PixelData') or b'')} bytes; {expected} are expected"


def synthetic_data(file: CTFile) -> Iterator[str]:
    """SyntheticData YES: the content is no faithful acquisition, and must say so (PS3.3 C.12.1)."""
    image = file.image
    if image.get("SyntheticData") != "YES":
        yield f"SyntheticData is {image.get('SyntheticData')}, not YES"


def decimal_strings(file: CTFile) -> Iterator[str]:
    """A DS takes at most 16 characters (PS3.5 6.2); longer ones are cut by some importers and refused by others."""
    for element in file.elements:
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "DS" and element.value is not None:
            yield from (f"{element.keyword} {value} is longer than 16 characters" for value in values if _long(value))


def _long(value: object) -> bool:
    return len(str(getattr(value, "original_string", value))) > DS_LENGTH


FILE_RULES: tuple[FileRule, ...] = (
    sop_class,
    required_attributes,
    conditional_attributes,
    patient_id,
    axial_orientation,
    square_pixels,
    hu_rescale,
    sixteen_bits,
    synthetic_data,
    decimal_strings,
)


def value_range(file: CTFile, hu_range: tuple[int, int]) -> Iterator[str]:
    """Rescaled values lie inside the allowed HU: a vendor's import test asks -1024..3071, other importers clip."""
    image = file.image
    kind = "<i2" if image.get("PixelRepresentation") == 1 else "<u2"
    pixels = image.get("PixelData") or b""
    stored = np.frombuffer(pixels[: len(pixels) // 2 * 2], kind)
    if not stored.size or image.get("RescaleSlope") is None or image.get("RescaleIntercept") is None:
        return
    slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    low, high = sorted((int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept))
    if low < hu_range[0] or high > hu_range[1]:
        yield f"values from {low:g} to {high:g} HU leave the range {hu_range[0]} to {hu_range[1]} HU"


# --- the series ------------------------------------------------------------------------------------------------------


def equal_steps(files: Sequence[CTFile]) -> Iterator[tuple[CTFile, str]]:
    """Slices lie along one line at equal steps, ascending with InstanceNumber: one stray slice stretched voxels
    by 16.7 % in silence in a peer."""
    numbered = sorted(files, key=lambda file: int(file.image.get("InstanceNumber") or 0))
    placed = [file for file in numbered if len(file.image.get("ImagePositionPatient") or ()) == 3]
    positions = np.array([[float(v) for v in file.image.ImagePositionPatient] for file in placed]).reshape(-1, 3)
    if len(placed) < 2:
        return
    expected = (positions[-1] - positions[0]) / (len(placed) - 1)
    if expected[2] <= 0:
        yield placed[0], "slices do not run from inferior to superior with InstanceNumber"
    for file, place, ideal in zip(
        placed, positions, positions[0] + np.outer(range(len(placed)), expected), strict=True
    ):
        error = float(np.abs(place - [*positions[0][:2], ideal[2]]).max())
        if error > STEP_TOLERANCE_MM:
            yield file, f"the slice lies {error:.4g} mm away from its place in a stack of {expected[2]:.6g} mm steps"


def one_series(files: Sequence[CTFile]) -> Iterator[tuple[CTFile, str]]:
    """One patient, study, series, frame of reference, matrix and spacing over all slices."""
    yield from _differing(files, ONE_OF_A_SERIES)


def same_rescale(files: Sequence[CTFile]) -> Iterator[tuple[CTFile, str]]:
    """The same rescale on every slice: importers take the first slice's for all."""
    yield from _differing(files, SAME_RESCALE)


def _differing(files: Sequence[CTFile], keywords: Iterable[str]) -> Iterator[tuple[CTFile, str]]:
    first = files[0].image
    for file in files[1:]:
        yield from (
            (file, f"{keyword} differs from that of the first file")
            for keyword in keywords
            if file.image.get(keyword) != first.get(keyword)
        )


def unique_sop_uids(files: Sequence[CTFile]) -> Iterator[tuple[CTFile, str]]:
    """Each slice has its own SOPInstanceUID: archives keep one of two and drop the other."""
    seen: set[str] = set()
    for file in files:
        uid = str(file.image.get("SOPInstanceUID"))
        if uid in seen:
            yield file, "SOPInstanceUID is that of another slice"
        seen.add(uid)


SERIES_RULES: tuple[SeriesRule, ...] = (equal_steps, one_series, same_rescale, unique_sop_uids)
