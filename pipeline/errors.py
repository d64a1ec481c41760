"""The errors between an MR series and its synthetic CT series, sorted by what happens next.

    PipelineError
    ├── Unsuitable    the input will never be suitable: the job is REJECTED, never retried, and visible
    └── Implausible   a finding rejects the case: the job is REJECTED with the finding's name as its reason code

A finding that asks for a review raises no error: the case is finished, and held (`pipeline.gate`). `Implausible` is
defined there. Any other error that leaves the pipeline is a fault of the node, and the caller treats it as one.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    # The files
    "UNREADABLE": "{name} cannot be read: {detail}",
    "NO_IMAGES": "no image was found among {files} files",
    "SEVERAL_SERIES": "{found} MR series were found; give one at a time",
    "NOT_MR": "the series holds {found}; MR images are needed",
    "LOSSY": "{name} was compressed with loss ({detail}); HU cannot come from a lossy MR image",
    "COLOUR": "{name} is no greyscale image ({detail})",
    "BURNED_IN": "{name} has text burnt into its pixels (BurnedInAnnotation YES)",
    "INVERTED_DISPLAY": "{name} is MONOCHROME1 (PS3.3 C.7.6.3.1.2): low values are shown bright, and whether the "
    "signal was inverted is not known; MONOCHROME2 is needed",
    "BAD_RESCALE": "the stored values of {name} cannot be turned into MR values: {detail}",
    "CONFLICTING_INSTANCES": "SOP instance {name} came twice with different content",
    # The header
    "REPEATED_ATTRIBUTE": "{name} has {attribute} twice with different values (PS3.5 7.1); which is true is not known",
    "NO_PATIENT_ID": "PatientID is missing or empty in {name}; planning systems need it to file the CT",
    "NO_FRAME_OF_REFERENCE": "FrameOfReferenceUID is missing in {name}; the CT could not be tied to the MR",
    "BAD_UID": "{attribute} in {name} is missing or is no UID; the CT could not be filed with the MR",
    "NO_GEOMETRY": "{name} lacks {attribute}; its place in the patient is unknown",
    "BAD_GEOMETRY": "{name} has an invalid {attribute}: {detail}",
    "MIXED_PATIENTS": "the series holds images of more than one patient or study: {difference}",
    "MIXED_FRAMES_OF_REFERENCE": "the series holds {found} frames of reference; one is needed",
    "MIXED_PATIENT_POSITIONS": "the patient lay {found} in different images of the volume; one position is needed",
    # What kind of image it is
    "LOCALIZER": "the series is a localizer (ImageType {image_type}), not a volume",
    "MOSAIC": "the slices are tiled into mosaics (ImageType {image_type}); one slice an image is needed",
    "DERIVED_IMAGE": "the images are calculated ({word} in ImageType {image_type}); they hold no MR signal",
    "NOT_MAGNITUDE": "the images are {component} images; a magnitude image is needed unless the site chooses otherwise",
    "SEVERAL_VOLUMES": "{found} where one is needed{detail}",
    "NO_SUCH_VOLUME": "no volume of the series is {choice}; it holds {found}: {detail}",
    "INCOMPLETE": "the volume is not whole: {found}, but {evidence}",
    # The stack
    "TOO_FEW_SLICES": "{found} slices; at least {least} are needed",
    "TOO_COARSE": "{what} {found_mm} mm apart; at most {limit_mm} mm are allowed",
    "TOO_LARGE": "{found}; at most {limit} are allowed",
    "MIXED_ORIENTATION": "slices of {found} orientations; the first that differs is {name}, by {degrees} degrees",
    "MIXED_MATRIX": "slices of different size: {expected} and, in {name}, {found} (rows x columns)",
    "MIXED_SPACING": "slices of different pixel spacing: {expected} and, in {name}, {found} mm",
    "DUPLICATE_POSITION": "{found} images lie at the position of slice {slice} of {slices}; one is expected",
    "GAP": "gap of {step_mm} mm at slice {slice} of {slices}; expected {expected_mm} mm",
    "UNEVEN_STEPS": "step of {step_mm} mm at slice {slice} of {slices}; expected {expected_mm} mm",
    "SHEAR": "slice {slice} of {slices} is shifted by {shift_mm} mm within its plane; at most {limit_mm} mm is allowed",
    # The CT
    "GRID_TOO_LARGE": "the CT would have {found} voxels, more than {most}; output.spacing_mm should be larger",
}
"""Reason code -> sentence, a `str.format` template. No template has a field for a patient's name or identifier."""


class PipelineError(Exception):
    """Base of the errors that the pipeline raises on purpose."""


class Unsuitable(PipelineError):
    """The input is unsuitable and will never be suitable.

    Attributes:
        code: a key of `REASONS`.
        sentence: what is wrong, for a physicist; without the patient's name or ID.
    """

    def __init__(self, code: str, sentence: str) -> None:
        if code not in REASONS:
            raise ValueError(f"unknown reason code {code}; known are {', '.join(REASONS)}")
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    @classmethod
    def of(cls, code: str, **fields: object) -> Unsuitable:
        """Return the error of `code`, its sentence filled with `fields` (KeyError when a field is missing)."""
        return cls(code, REASONS[code].format(**fields))

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"
