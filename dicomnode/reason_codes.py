"""The actions that the help page recommends for each reason code; RUNBOOK.md has the same tables (a test compares).

The meanings of the other codes are defined once elsewhere: `pipeline.errors.REASONS` (a series is rejected), the rules
of `pipeline.preflight.rules` (a CT is held before it is sent), and `pipeline.findings.meanings` (a measurement). This
file has the meanings of the node's own codes and, for every code, the action of a person. Backticks mark text that the
page shows as code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

REJECTED: Final[Mapping[str, str]] = {
    "UNREADABLE": "send the named image again; when it is damaged in the archive as well, fetch it from the scanner",
    "NO_IMAGES": "reports, raw data or presentation states were sent; send the images",
    "SEVERAL_SERIES": "`convert` was given a folder with several MR series; give it one folder a series",
    "NOT_MR": "images of another modality or kind are in the series (secondary captures too); send the MR images alone",
    "LOSSY": "the archive or a router compresses with loss; export without it, or see `receive.accept_lossy`",
    "COLOUR": "colour maps or screenshots are in the series; send the greyscale MR images",
    "BURNED_IN": "the images carry text in their pixels; send the original series",
    "INVERTED_DISPLAY": "MONOCHROME1: an archive, a router or an editor inverted the images; send those of the scanner",
    "BAD_RESCALE": "the rescale values of the named image are impossible; export again, and report it to the vendor",
    "CONFLICTING_INSTANCES": "two different images came under one UID; find out which sender changed it, then "
    "send a clean series",
    "REPEATED_ATTRIBUTE": "a router or an editor damaged the named image; send it again from the scanner",
    "NO_PATIENT_ID": "register the patient with an ID and export again; planning systems cannot file a CT without it",
    "NO_FRAME_OF_REFERENCE": "the exporter dropped FrameOfReferenceUID; export from the scanner, or without "
    "de-identification",
    "BAD_UID": "an anonymiser or a converter damaged StudyInstanceUID or FrameOfReferenceUID; export from the scanner",
    "NO_GEOMETRY": "the exporter dropped position, orientation, pixel spacing or patient position; export from the "
    "scanner",
    "BAD_GEOMETRY": "the named attribute cannot be true; export from the scanner, and report it to the vendor",
    "MIXED_PATIENTS": "images of two patients or studies carry one SeriesInstanceUID: correct the merge in the "
    "archive first (an attribute that some images lack is no contradiction)",
    "MIXED_FRAMES_OF_REFERENCE": "the patient or the table was moved between parts of the series; acquire it in one go",
    "MIXED_PATIENT_POSITIONS": "the position was corrected at the scanner during the series; correct all "
    "images, or acquire again",
    "LOCALIZER": "a scout was sent, or a slice of the volume is marked as one; send the planning series",
    "MOSAIC": "switch mosaic off in the protocol (one slice an image), or export as Enhanced MR",
    "DERIVED_IMAGE": "a map, a difference or a projection was sent; send the images it was made from (an MPR is taken)",
    "NOT_MAGNITUDE": "export the magnitude images, or let a rule's `volume` choose `component`",
    "SEVERAL_VOLUMES": "export one echo, contrast or phase a series, or let a rule's `volume` choose; the "
    "sentence lists them",
    "NO_SUCH_VOLUME": "the rule's `volume` asks for what is not there; the sentence lists what is: "
    "correct the rule or the protocol",
    "INCOMPLETE": "slices did not come: send the whole series; a scanner that always announces too many: "
    "`stack.require_announced`",
    "TOO_FEW_SLICES": "acquire a volume; a site that plans on fewer lowers `stack.min_slices`",
    "TOO_COARSE": "acquire thinner slices or smaller pixels; a site that plans on coarser raises "
    "`stack.max_spacing_mm`",
    "TOO_LARGE": "positions or sizes are wrong, or the field of view is; a whole body may need `stack.max_extent_mm` "
    "raised",
    "MIXED_ORIENTATION": "slices were tilted against each other, or stacks were mixed; acquire one stack, "
    "export stacks apart",
    "MIXED_MATRIX": "images of another size are in the series; export the stack alone",
    "MIXED_SPACING": "images of another pixel spacing are in the series; never scale by hand: export the stack alone",
    "DUPLICATE_POSITION": "a slice was repeated or sent twice under two UIDs; delete one in the archive, send "
    "the series again",
    "GAP": "a slice is missing: send the series again; when it is missing at the scanner, acquire again",
    "UNEVEN_STEPS": "slices are not equally spaced: a slice of another stack came along, or the protocol varies "
    "the gap",
    "SHEAR": "slices are shifted within their plane (tilted stack, or moved between packages); acquire without, or "
    "reformat",
    "GRID_TOO_LARGE": "`output.spacing_mm` is finer than the field of view allows; make it larger, or leave it out",
}
"""Reason code of `pipeline.errors.REASONS` -> the action at the scanner, at the archive or on the node."""


@dataclass(frozen=True, slots=True)
class NodeCode:
    """A reason code of the node itself: its meaning, and the action of a person."""

    meaning: str
    action: str


NODE_CODES: Final[Mapping[str, NodeCode]] = {
    "IGNORED_BY_RULE": NodeCode(
        "a rule of the configuration ignores such series; its name is in the sentence",
        "nothing, if it was meant so; else change `rules` (see `sct-node explain DIR`) and restart",
    ),
    "ALWAYS_HELD": NodeCode(
        "`quality.gate` is always_hold, here or in the rule that took the series, or the model's card says it",
        "look at it, then `release` or `reject`",
    ),
    "SUPERSEDED": NodeCode(
        "slices came late, or a person chose other content; another job took its place, nothing of this one was sent",
        "nothing; ask why the sender was so slow: `settle.grace_s`, `settle.quiet_s`",
    ),
    "REJECTED_BY_PERSON": NodeCode("a physicist rejected the held case; who and why stands in its events", "nothing"),
    "CANCELLED_BY_PERSON": NodeCode(
        "a physicist stopped the case; who and why stands in its events",
        "what a destination had got before must be deleted there",
    ),
    "FAILED": NodeCode(
        "the conversion failed at each of `synthesize.tries` attempts; the traceback stands in the events",
        "report it; `release` tries again",
    ),
    "PROCESS_DIED": NodeCode(
        "the process that converted it ended at each attempt, as when memory runs out",
        "look after the machine's memory and its log; `release` tries again",
    ),
    "DELIVERY_FAILED": NodeCode(
        "a fault of the node while it sent the CT; the traceback stands in the events",
        "report it; `retry` or `release` sends on, there is nothing to look at in the CT",
    ),
    "WRONG_DIGEST": NodeCode(
        "the weights are not those of the model's card", "install the wheel again, then `release`"
    ),
    "UNKNOWN_MODEL": NodeCode(
        "the model that the case was given is not installed any more", "install it and `release`, or reject the case"
    ),
    "BAD_CARD": NodeCode("the model's card cannot be read", "install the model again, then `release`"),
    "UNKNOWN_SETTINGS": NodeCode(
        "the case was made by another version of the node, which knew settings that this one does not",
        "reject it and convert its folder in `node.data`/in by hand, or go back to that version",
    ),
}
"""The node's own reason codes; the pipeline and the node share CONFLICTING_INSTANCES, which `REJECTED` has."""

ANY_OTHER_RULE: Final = "any other"

HELD_BEFORE_SENDING: Final[Mapping[str, str]] = {
    "slice_count": "`output.spacing_mm`, a larger first number: `[3.0, 1.0, 1.0]`; or `output.field: body`",
    "length": "`output.field: body`, which leaves out what is beyond the body; else acquire a shorter field of view",
    "axial_orientation": "`output.orientation: axial`",
    "square_pixels": "none: the node writes square pixels; report it",
    "value_range": "`output.hu_range`, or a profile of your own with the range that the planning system takes",
    "image_type": "`output.image_type`: what it says is the site's responsibility; `SyntheticData` says YES in "
    "any case",
    "attributes_filled": "`output.equipment`",
    ANY_OTHER_RULE: "none: the node wrote what it should not; `sct-node show JOB`, and report it",
}
"""Preflight rule -> the key of the configuration that makes a CT fulfil it."""


def advice_of(code: str) -> str:
    """Return the recommended action for a case with this reason code, or "" if the code names a finding."""
    if code in NODE_CODES:
        return NODE_CODES[code].action
    return REJECTED.get(code) or HELD_BEFORE_SENDING.get(code.lower(), "")
