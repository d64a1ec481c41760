"""The DICOM conformance statement (PS3.2): tables that the node itself works by, filled into `conformance.md.j2`.

    python -m dicomnode.cli.conformance > deploy/CONFORMANCE.md       of a node without a configuration file
    python -m dicomnode.cli.conformance node.yaml                     of a node with that one

A test compares the file with what this writes, so a class, a syntax or a status that changes in code changes there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import jinja2
from pydicom.datadict import dictionary_description
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.commitment.push_model import FAILURES, PUSH_MODEL, STATUSES
from dicomnode.commitment.scu import STATUSES as REPORT_STATUSES
from dicomnode.config.load import Config, load
from dicomnode.config.peers import Destination, Proof
from dicomnode.config.sections import Commitment
from dicomnode.dimse.admission import CALLED, CALLING, CONGESTION, LIMIT_EXCEEDED
from dicomnode.dimse.presentation_contexts import SOP_CLASSES, VERIFICATION, transfer_syntaxes
from dicomnode.reception.storage_scp import STATUS
from dicomnode.security.audit_message import Event
from dicomnode.security.tls import SUITES
from dicomnode.spool.instance_file import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pipeline.companions.kinds import COMPANIONS, CompanionKind
from pipeline.companions.rtstruct import MOST_POINTS
from pipeline.ct import modules
from pipeline.errors import REASONS
from pipeline.preflight import check
from pipeline.preflight.profile import load_profile, shipped
from pipeline.preflight.rules import FILE_RULES, SERIES_RULES
from pipeline.series.identity import ONE_PATIENT
from pipeline.series.volume_candidates import CONTRAST, REPETITION

SENT: Final = (CTImageStorage, *(one.sop_class_uid for one in COMPANIONS.values()))
"""Storage SOP classes that are sent (PS3.4 B.5): CT, and companions where a destination asks for them."""

OVERVIEW: Final = (
    (UID(VERIFICATION).name, "yes", "yes"),
    *((uid.name, "no", "yes") for uid in SOP_CLASSES),
    *((uid.name, "yes", "no") for uid in SENT),
    (PUSH_MODEL.name, "yes", "yes"),
)
"""Network services by class: SOP class, user, provider (PS3.2 Table A.1-1)."""

ACCEPTED: Final = (
    *((uid.name, uid, "SCP") for uid in (VERIFICATION, *SOP_CLASSES)),
    (PUSH_MODEL.name, PUSH_MODEL, "SCP; SCU where the peer proposes the SCP role"),
)
"""Presentation contexts that the node accepts: SOP class, its UID, role (PS3.7 D.3.3.4)."""

PROPOSED: Final = f"{ExplicitVRLittleEndian.name}, {ImplicitVRLittleEndian.name}"
LIKE_VERIFICATION: Final = "as for Verification in 2.2"
INITIATED: Final = (
    *((uid.name, uid, PROPOSED, "SCU") for uid in (VERIFICATION, *SENT)),
    (PUSH_MODEL.name, PUSH_MODEL, LIKE_VERIFICATION, "SCP to `receive.peers`, SCU to `destinations`"),
)
"""Presentation contexts that the node proposes: SOP class, its UID, transfer syntaxes, role."""

STATUS_MEANINGS: Final = {
    0x0000: ("Success", "bytes, name and folder are durable on the disk, or the same bytes were there already"),
    0xA700: (
        "Refused: out of resources",
        "disk full or at its reserve, or too much comes at once; send again later",
    ),
    0xA701: ("Refused: out of resources", "the data set has more bytes than `receive.max_object_bytes`"),
    0xA900: ("Error: data set does not match SOP class", "UIDs of data set and request differ"),
    0xC000: ("Error: cannot understand", "no Series or SOP Instance UID can be read; Error Comment says which"),
    0xC211: ("Error", "a fault of the node; send again later"),
}
"""C-STORE status -> its name (PS3.4 Table B.2-1), and when the node answers so."""

DESTINATION_STATUSES: Final = (
    ("0x0000", "the instance is delivered"),
    ("0x0111", "Duplicate SOP Instance: delivered, the destination had it already"),
    ("0xB000, 0xB006, 0xB007, any 0xBxxx, 0x0001, 0x0107, 0x0116", "Warning: delivered, and shown as a warning"),
    ("any other, none, or no association", "not delivered: tried again later, without end"),
)
"""Status in a destination's C-STORE response (PS3.4 B.2.3, PS3.7 C), and what the node makes of it."""

COMPANION_WORDS: Final[Mapping[CompanionKind, str]] = {
    "rtstruct": "the MR's outline, holes filled, as EXTERNAL; where found, its voids as AVOIDANCE",
    "seg": "BINARY: body, and within it air, fat, soft tissue and bone by the HU of the synthetic CT",
    "uncertainty": "standard deviation in HU, 16 bits in steps of 0.1 HU by Real World Value Mapping",
    "sr": "TID 1500: each finding with its value, limits and verdict, and the decision of a person",
    "pdf": "the report of the case with pictures",
}
"""Kind of companion -> what it shows."""

WRITTEN: Final = {
    "ImageType": "\\".join(modules.IMAGE_TYPE),
    "SyntheticData": "YES",
    "ImageOrientationPatient": "\\".join(modules.AXIAL_ORIENTATION),
    "RescaleSlope": modules.RESCALE_SLOPE,
    "RescaleIntercept": modules.RESCALE_INTERCEPT,
    "RescaleType": modules.RESCALE_TYPE,
    "BitsAllocated": modules.BITS_ALLOCATED,
    "BitsStored": modules.BITS_STORED,
    "HighBit": modules.HIGH_BIT,
    "PixelRepresentation": modules.SIGNED,
    "WindowCenter": modules.WINDOW_CENTRE_HU,
    "WindowWidth": modules.WINDOW_WIDTH_HU,
}
"""Attribute of the CT (PS3.3 A.3) -> its value where nothing of the MR and no setting decides it."""

REJECTIONS: Final = (
    (CALLING, "calling AE title not recognized", "not in `admission.callers`; or from another address, or with another"
     " certificate, than its entry says; or with characters that VR AE does not know"),
    (CALLED, "called AE title not recognized", "not the node's, where `receive.check_called_ae` or"
     " `admission.called` asks"),
    (LIMIT_EXCEEDED, "local limit exceeded", "`receive.max_associations`, `receive.max_associations_per_ae`, or that of"
     " the caller's entry"),
    (CONGESTION, "temporary congestion", "`audit.required` is true and the trail cannot be written"),
)  # fmt: skip
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), its words, and when."""
RESULTS: Final = {1: "rejected permanent", 2: "rejected transient"}
"""Result of an A-ASSOCIATE-RJ (PS3.8 9.3.4) -> its words."""


def statement(config: Config | None = None) -> str:
    """Return the whole statement, in Markdown, of a node with this configuration."""
    config = config or Config()
    environment = jinja2.Environment(  # noqa: S701, Markdown is written, and nothing of it by a stranger
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.globals["table"] = markdown_table
    environment.filters["number"] = "{:g}".format
    template = environment.from_string(Path(__file__).with_name("conformance.md.j2").read_text(encoding="utf-8"))
    return template.render(
        node=config.node,
        receive=config.receive,
        admission=config.admission,
        tls=config.tls,
        audit=config.audit,
        commitment=Commitment(),
        proof=Proof(),
        destination=Destination(name="default", ae_title="DEFAULT", host="localhost", port=104),
        class_uid=IMPLEMENTATION_CLASS_UID,
        version_name=IMPLEMENTATION_VERSION_NAME,
        overview=OVERVIEW,
        accepted=ACCEPTED,
        syntaxes=[[uid.name, uid] for uid in transfer_syntaxes(config.receive)],
        statuses=[[_hex(code), *STATUS_MEANINGS[code]] for code in sorted({0x0000, 0xC211, *STATUS.values()})],
        commitment_statuses=_codes(STATUSES),
        report_statuses=_codes(REPORT_STATUSES),
        failures=_codes(FAILURES),
        initiated=INITIATED,
        answers=DESTINATION_STATUSES,
        contrast=CONTRAST,
        repetition=REPETITION,
        one_patient=ONE_PATIENT,
        reasons=REASONS.items(),
        written=[[dictionary_description(word), word, f"`{value}`"] for word, value in WRITTEN.items()],
        companions=[
            [f"`{kind}`", one.sop_class_uid.name, one.modality, COMPANION_WORDS[kind]]
            for kind, one in COMPANIONS.items()
        ],
        points=MOST_POINTS,
        profile=check.GENERIC,
        rules=rule_rows(),
        profiles=profile_rows(),
        rejections=[[f"{RESULTS[code[0]]} {code}", words, when] for code, words, when in REJECTIONS],
        over_tls=[one.name for one in config.destinations if one.tls is not None],
        suites=SUITES,
        messages=sorted({f"{event.value[0]['originalText']} ({event.value[0]['csd-code']})" for event in Event}),
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _hex(code: int) -> str:
    """Write a status as the standard does (PS3.7 C.1)."""
    return f"0x{code:04X}"


def _codes(meanings: Mapping[int, str]) -> list[list[str]]:
    """Return the rows of a table of statuses or reasons, in ascending order."""
    return [[_hex(code), words] for code, words in sorted(meanings.items())]


def rule_rows() -> list[list[str]]:
    """Return each preflight rule with the first paragraph of its docstring, and the profiles that ask it."""
    profiles = [load_profile(name) for name in shipped()]
    rows = []
    for rule in (*FILE_RULES, *SERIES_RULES):
        asking = [one.name for one in profiles if rule.__name__ in [asked.rule for asked in one.rules]]
        what = " ".join((rule.__doc__ or "").split("\n\n")[0].split())
        rows.append([f"`{rule.__name__}`", what, ", ".join(asking)])
    return rows


def profile_rows() -> list[list[str]]:
    """Return each shipped profile with its purpose, and each rule of its own with the evidence for it."""
    rows = []
    for profile in map(load_profile, shipped()):
        inherited = load_profile(profile.like).rules if profile.like else ()
        own = [one for one in profile.rules if one not in inherited]
        like = f"; all of `{profile.like}`, and" if profile.like else ""
        rows += [[f"`{profile.name}`", f"{profile.purpose}{like}", ""]]
        rows += [["", f"`{one.description()}`", one.evidence] for one in own]
    return rows


if __name__ == "__main__":
    sys.stdout.write(statement(load(Path(sys.argv[1]) if sys.argv[1:] else None)))
