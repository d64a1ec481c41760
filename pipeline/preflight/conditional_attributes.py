"""List the conditional attributes (Type 1C and 2C, PS3.5 section 7.4) of a synthetic CT image with their conditions.

`CONDITIONS` has every Type 1C and 2C attribute, outside sequences, of the modules (PS3.3) that a synthetic CT always
or often has; a test compares it with the standard's tables. `None` means that the condition never holds for an image
that this node makes: single-frame, uncompressed, greyscale, of one person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydicom import DataElement, Dataset

from pipeline.standard import is_paired

Condition = Callable[[Dataset], bool]


def _has(*keywords: str) -> Condition:
    return lambda image: any(keyword in image and not image[keyword].is_empty for keyword in keywords)


def _always(_: Dataset) -> bool:
    return True


def _deidentified_otherwise(other: str) -> Condition:
    """Require one of two attributes when the identity was removed (PS3.3 C.7.1.1)."""
    return lambda image: image.get("PatientIdentityRemoved") == "YES" and not _has(other)(image)


def _one_side_of_two(image: Dataset) -> bool:
    """Return whether the body part is paired and no other attribute states the side (PS3.3 C.7.3.1)."""
    sides = ("ImageLaterality", "FrameLaterality", "MeasurementLaterality")
    return bool(is_paired(str(image.get("BodyPartExamined") or ""))) and not _has(*sides)(image)


def _beyond_ascii(image: Dataset) -> bool:
    """Return whether a text value has characters outside ASCII and no character set is named (PS3.3 C.12.1.1.2)."""
    return "SpecificCharacterSet" not in image and any(
        element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT") and not str(element.value or "").isascii()
        for element in image.iterall()
    )


CONDITIONS: dict[str, tuple[str, Condition | None]] = {
    # Patient (PS3.3 C.7.1.1)
    "PatientAlternativeCalendar": ("1C", _has("PatientBirthDateInAlternativeCalendar")),
    "PatientSpeciesDescription": ("1C", None),
    "PatientSpeciesCodeSequence": ("1C", None),
    "PatientBreedDescription": ("2C", None),
    "PatientBreedCodeSequence": ("2C", None),
    "BreedRegistrationSequence": ("2C", None),
    "ResponsiblePerson": ("2C", None),
    "ResponsiblePersonRole": ("1C", _has("ResponsiblePerson")),
    "ResponsibleOrganization": ("2C", None),
    "DeidentificationMethod": ("1C", _deidentified_otherwise("DeidentificationMethodCodeSequence")),
    "DeidentificationMethodCodeSequence": ("1C", _deidentified_otherwise("DeidentificationMethod")),
    # General Series (PS3.3 C.7.3.1)
    "AnatomicalOrientationType": ("1C", None),
    "PatientPosition": ("2C", _always),
    "Laterality": ("2C", _one_side_of_two),
    # General Equipment (PS3.3 C.7.5.1)
    "PixelPaddingValue": ("1C", _has("PixelPaddingRangeLimit")),
    # General Image (PS3.3 C.7.6.1)
    "ContentDate": ("2C", None),
    "ContentTime": ("2C", None),
    "PatientOrientation": ("2C", None),
    # Image Pixel (PS3.3 C.7.6.3)
    "PlanarConfiguration": ("1C", None),
    "PixelAspectRatio": ("1C", None),
    "PixelPaddingRangeLimit": ("1C", None),
    "RedPaletteColorLookupTableDescriptor": ("1C", None),
    "GreenPaletteColorLookupTableDescriptor": ("1C", None),
    "BluePaletteColorLookupTableDescriptor": ("1C", None),
    "RedPaletteColorLookupTableData": ("1C", None),
    "GreenPaletteColorLookupTableData": ("1C", None),
    "BluePaletteColorLookupTableData": ("1C", None),
    "PixelDataProviderURL": ("1C", None),
    "ExtendedOffsetTableLengths": ("1C", None),
    "PixelData": ("1C", _always),
    # CT Image (PS3.3 C.8.2.1)
    "WaterEquivalentDiameterCalculationMethodCodeSequence": ("1C", _has("WaterEquivalentDiameter")),
    "EnergyWeightingFactor": ("1C", None),
    "RescaleType": ("1C", _always),
    "EquipmentFrameOfReferenceUID": ("1C", None),
    # VOI LUT (PS3.3 C.11.2)
    "WindowCenter": ("1C", _has("WindowWidth")),
    "WindowWidth": ("1C", _has("WindowCenter")),
    "VOILUTSequence": ("1C", None),
    # SOP Common (PS3.3 C.12.1)
    "SpecificCharacterSet": ("1C", _beyond_ascii),
    "QueryRetrieveView": ("1C", None),
    "ReferencedDefinedProtocolSequence": ("1C", None),
    "ReferencedPerformedProtocolSequence": ("1C", None),
    "ConversionSourceAttributesSequence": ("1C", None),
    "HL7StructuredDocumentReferenceSequence": ("1C", None),
    "EncryptedAttributesSequence": ("1C", None),
    # Common Instance Reference (PS3.3 C.12.2)
    "ReferencedSeriesSequence": ("1C", _has("SourceImageSequence")),
    "StudiesContainingOtherReferencedInstancesSequence": ("1C", None),
}
"""Keyword -> type (PS3.3) and condition."""


def code_breaches(elements: Iterable[DataElement]) -> Iterator[str]:
    """Yield the faults of coded entries: each has a code value, and a scheme unless it is a URN (PS3.3 table 8.8-1)."""
    coded = (one for one in elements if one.VR == "SQ" and one.keyword.endswith("CodeSequence"))
    for keyword, item in ((one.keyword, item) for one in coded for item in one.value or ()):
        if not _has("CodeValue", "LongCodeValue", "URNCodeValue")(item):
            yield f"an item of {keyword} has no code value"
        if _has("CodeValue", "LongCodeValue")(item) and not _has("CodingSchemeDesignator")(item):
            yield f"an item of {keyword} has no CodingSchemeDesignator"
