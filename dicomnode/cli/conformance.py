"""The DICOM conformance statement (PS3.2), written from the tables that the node itself works by.

    python -m dicomnode.cli.conformance > deploy/CONFORMANCE.md       of a node without a configuration file
    python -m dicomnode.cli.conformance node.yaml                     of a node with that one

A test compares the file with what this writes, so a class, a syntax or a status that changes in code changes there.

Section 6 of the conformance statement: who is let in, TLS, and the audit trail (PS3.15).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final

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
from pipeline.series.volume_candidates import CONTRAST, REPETITION

SENT: Final = (CTImageStorage, *(one.sop_class_uid for one in COMPANIONS.values()))
"""Storage classes of what is sent: the CT, and companions where a destination asks for them."""

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
"""C-STORE status -> its name in PS3.4 Table B.2-1, and when the node answers so."""

DESTINATION_STATUSES: Final = (
    ("0x0000", "the instance is delivered"),
    ("0x0111", "Duplicate SOP Instance: delivered, the destination had it already"),
    ("0xB000, 0xB006, 0xB007, any 0xBxxx, 0x0001, 0x0107, 0x0116", "Warning: delivered, and shown as a warning"),
    ("any other, none, or no association", "not delivered: tried again later, without end"),
)

LOSSY: Final = {
    False: "Lossy transfer syntaxes are not accepted, and a series that was ever compressed with loss is rejected "
    "(`receive.accept_lossy: false`).",
    True: "Lossy transfer syntaxes are accepted (`receive.accept_lossy: true`); a CT made of an MR that was ever "
    "compressed with loss says so: Lossy Image Compression 01, ratio and method as far as known, and a warning.",
}
"""What is said of lossy compression, by `receive.accept_lossy`."""

COMPANION_WORDS: Final[Mapping[CompanionKind, str]] = {
    "rtstruct": "the MR's outline, holes filled, as EXTERNAL; where found, its voids as AVOIDANCE",
    "seg": "BINARY: body, and within it air, fat, soft tissue and bone by the HU of the synthetic CT",
    "uncertainty": "standard deviation in HU, 16 bits in steps of 0.1 HU by Real World Value Mapping",
    "sr": "TID 1500: each finding with its value, limits and verdict, and the decision of a person",
    "pdf": "the report of the case with pictures",
}
"""What is said of each companion."""

PAGE: Final = Template("""\
# DICOM conformance statement of sct-node

After DICOM PS3.2. Written by `python -m dicomnode.cli.conformance` from the tables and the configuration the node works
by; do not edit. With a configuration file as its argument it writes that node's.
Research, not for clinical use.

## 1 Overview

sct-node receives MR series, makes a synthetic CT series of each, and sends it to its destinations.

$overview

User identity, Query/Retrieve and Modality Worklist are not supported; of DICOMweb only what 2.6 says.

## 2 Networking

### 2.1 Application entity

One application entity, `node.ae_title` (here `$ae_title`), accepts and initiates associations.

| what | value |
|---|---|
| Application context | 1.2.840.10008.3.1.1.1 |
| Implementation Class UID | $class_uid |
| Implementation Version Name | $version_name |
| Listens on | `node.bind`, `node.port` (here $bind, $port) |
| Associations accepted at once | `receive.max_associations` (here $associations); more: rejected for now |
| Of one calling AE title | `receive.max_associations_per_ae` (here $per_ae); more: the same |
| A-ASSOCIATE-RQ awaited for (ARTIM) | `receive.request_timeout_s` (here $artim s) |
| Associations initiated at once | one a destination |
| Maximum PDU received | `receive.max_pdu_bytes` (here $pdu bytes; 0 is no limit); a longer one is aborted |
| Largest data set received | `receive.max_object_bytes` (here $object bytes) |
| Silent association aborted after | `receive.idle_timeout_s` (here $idle s) |
| Asynchronous operations | not supported |

### 2.2 Associations accepted

Proposed presentation contexts of any other SOP class are rejected (abstract syntax not supported, PS3.8 9.3.3.2).

$accepted

Transfer syntaxes for the storage classes, in the order in which the node prefers them:

$syntaxes

For Verification and Storage Commitment: Implicit VR Little Endian, Explicit VR Little Endian, Explicit VR Big Endian.

$lossy

Level of conformance: full (Level 2); the data set is kept as it came, private attributes included. Nothing is coerced.

Answers to C-STORE (PS3.4 Table B.2-1):

$statuses

### 2.3 Storage Commitment Push Model (PS3.4 Annex J)

A sender may ask by N-ACTION (action 1) whether its instances are safe. The request is remembered before it is answered:

$commitment_statuses

The report comes by N-EVENT-REPORT: over the association of the request, or the sender's next one, while it is open and
silent; else over a new association to the address that `receive.peers` has for its AE title, on which the node proposes
the SCP role (PS3.7 D.3.3.4). An instance that is not there is waited for `commitment.wait_s` (default $wait s).
A report that is not answered with Success is repeated after `commitment.retry_first_s` (default $first s), doubled each
time up to `commitment.retry_max_s` (default $most s), for `commitment.give_up_after_s` (default $give_up s), over
restarts.

An instance is committed when its file is there, its bytes are those that came (their SHA-256 is recorded in the
file, which is read again), and its SOP class is the one referenced. Otherwise it fails:

$failures

A Transaction UID that a sender repeats is reported again; with another list, the last list counts. Committed instances
are kept in the folder `in/` unless `retention.promised` is true; they cannot be retrieved by DICOM. Storage Media File
Set, Retrieve AE Title and Referenced Performed Procedure Step Sequence are neither used nor sent.

### 2.4 Storage Commitment asked of destinations

A destination with `destinations[].commitment` is asked by N-ACTION (action 1) about all instances of a CT series, once
it has taken them and `wait_s` (default $proof_wait s) have passed. The Transaction UID is random (PS3.5 B.2). The
association stays open for `linger_s` (default $proof_linger s); it carries nothing else. The report is taken over this
association, over a later one of the node's (it comes back after `retry_first_s`, doubled each time up to
`retry_max_s`), or over one that the destination opens to the node's own port, on which it proposes the SCP role. The
node's answers to the N-EVENT-REPORT:

$report_statuses

Without a report for `ask_again_s` (default $proof_again s) the node asks anew, under another Transaction UID; an
earlier report still counts. An instance of which nothing is reported is unproven, not failed: after `alarm_after_s`
(default $proof_alarm s) there is an alarm. For one that is reported as failed there is an alarm at once; a person may
have it sent once more.

### 2.5 Associations initiated

To each entry of `destinations`, when a CT series is ready, a delivery is due again, or storage commitment is to be
asked; to an entry of `receive.peers`, when a storage commitment is to be reported.

$initiated

An attempt that does not deliver everything is repeated after `retry_first_s` (default $retry_first s), doubled each
time up to `retry_max_s` (default $retry_max s), with jitter, without end. Only instances that are not delivered are
sent again. The node reads the destination's answers so:

$answers

### 2.6 DICOMweb (PS3.18)

A destination with `destinations[].stow` is sent to by STOW-RS (PS3.18 10.5), as user agent: one POST an instance to
`stow.url`/studies, `multipart/related; type="application/dicom"`, the file as it is; `application/dicom+json` is asked
for, XML is read too. An instance is stored when the answer is 200, or names it in the Referenced SOP Sequence; its
Warning Reason is its receipt then. One in the Failed SOP Sequence is refused; anything else is tried again as in 2.5.
Redirects are not followed. `sct-node check` makes a search of studies (PS3.18 10.6), limited to one. The node provides
no DICOMweb service.

## 3 Media interchange

None.

## 4 Objects

### 4.1 What a series must be

A received series becomes a synthetic CT when it is one regular volume, or when the rule that takes it chooses one of
its volumes. Only Image Position (Patient), Image Orientation (Patient) and Pixel Spacing decide about geometry. The
volumes of one series are told apart by orientation, matrix and pixel spacing, and by these attributes or what Enhanced
objects and vendors say in their place (`pipeline/series/image_kind.py`):

$contrast

and where positions still repeat, by the first one or two of these that leave one image at each:

$repetition

Otherwise its job is rejected with one of these:

$reasons

### 4.2 What is written

CT Image Storage (PS3.3 A.3), single-frame, one object a slice, axial, from inferior to superior; or, where
`output.orientation` is `source`, in the planes of the MR, along row x column
cosines. The values are defaults; `output` changes some.

$written

Where an entry of `destinations` asks for them (`companions`), these objects follow the CT series, each a series of its
own in the same study and, but for documents, in the same frame of reference:

$companions

Companions are made once: every destination, and every repetition, gets the same objects. `sr` and `pdf` are made when
the case is first sent to a destination that asks for one, and tell what a person decided. One that cannot be made of a
case (no outline, no uncertainty) is not sent; the case's report says why. The contours of `rtstruct` lie half-way
between voxels inside and outside; no contour has more than $points points. A private coding scheme, 99SCTNODE, holds
the names of findings and verdicts.

Patient, study, Frame of Reference UID and Patient Position are the MR's. Series and SOP Instance UIDs are derived from
the content (PS3.5 B.2), so that computing or sending again gives the same. Private attributes are not written.

### 4.3 What is checked before sending

Each destination has a profile (`destinations[].profile`, default `$profile`): a file of `config/profiles`, or a site's
own. A finished series that breaks a rule of the profile of one of its destinations is held, with the destination and
the rule, and is not sent. `sct-node preflight DIR --profile NAME` asks the same of any folder. That every file can be
read is always asked. The rules, and the shipped profiles that ask them:

$rules

The profiles, and why they ask:

$profiles

## 5 Character sets

The MR's Specific Character Set and the bytes of its patient and study attributes are copied unchanged.

## 6 Security

$security
""")


def statement(config: Config | None = None) -> str:
    """The whole statement, in Markdown, of a node with this configuration."""
    config = config or Config()
    node, receive = config.node, config.receive
    parts = {
        "commitment_statuses": _table(["status", "when"], _codes(STATUSES)),
        "report_statuses": _table(["status", "when"], _codes(REPORT_STATUSES)),
        "failures": _table(["Failure Reason (0008,1197)", "when"], _codes(FAILURES)),
        "overview": _overview(),
        "accepted": _table(["SOP class", "UID", "role"], _accepted()),
        "syntaxes": _table(["transfer syntax", "UID"], [[uid.name, uid] for uid in transfer_syntaxes(receive)]),
        "lossy": LOSSY[receive.accept_lossy],
        "statuses": _table(["status", "meaning", "when"], _statuses()),
        "initiated": _table(["SOP class", "UID", "transfer syntaxes", "role"], _initiated()),
        "answers": _table(["status of the destination", "what the node makes of it"], DESTINATION_STATUSES),
        "contrast": ", ".join(CONTRAST),
        "repetition": ", ".join(REPETITION),
        "reasons": _table(["reason code", "sentence"], [[code, _escaped(text)] for code, text in REASONS.items()]),
        "written": _table(["attribute", "keyword", "value"], _written()),
        "companions": _table(["companion", "SOP class", "Modality", "what it shows"], _companions()),
        "points": str(MOST_POINTS),
        "rules": _table(["rule", "what it asks", "profiles"], _rules()),
        "profiles": _table(["profile", "for, or rule", "evidence"], _profiles()),
        "profile": check.GENERIC,
        "security": security(config),
        "class_uid": IMPLEMENTATION_CLASS_UID,
        "version_name": IMPLEMENTATION_VERSION_NAME,
    }
    limits = {
        "associations": receive.max_associations,
        "per_ae": receive.max_associations_per_ae,
        "artim": f"{receive.request_timeout_s:g}",
        "pdu": receive.max_pdu_bytes,
        "object": receive.max_object_bytes,
    }
    defaults = dataclasses.asdict(node) | limits
    return PAGE.substitute(parts, **defaults, idle=f"{receive.idle_timeout_s:g}", **_retries(), **_patience())


def _retries() -> dict[str, str]:
    """Defaults of a destination's delays."""
    fields = {field.name: field.default for field in dataclasses.fields(Destination)}
    return {name: f"{fields[f'{name}_s']:g}" for name in ("retry_first", "retry_max")}


def _patience() -> dict[str, str]:
    """Defaults of `commitment`, and of `destinations[].commitment`."""
    ours = Commitment()
    values = {"wait": ours.wait_s, "first": ours.retry_first_s, "most": ours.retry_max_s}
    values |= {"give_up": ours.give_up_after_s, "proof_wait": Proof().wait_s, "proof_linger": Proof().linger_s}
    values |= {"proof_again": Proof().ask_again_s, "proof_alarm": Proof().alarm_after_s}
    return {name: f"{value:.0f}" for name, value in values.items()}


def _codes(meanings: Mapping[int, str]) -> list[list[str]]:
    return [[f"0x{code:04X}", words] for code, words in sorted(meanings.items())]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _overview() -> str:
    """Network services by class (PS3.2 Table A.1-1)."""
    rows = [[UID(VERIFICATION).name, "yes", "yes"], *([uid.name, "no", "yes"] for uid in SOP_CLASSES)]
    rows += [[uid.name, "yes", "no"] for uid in SENT]
    rows += [[PUSH_MODEL.name, "yes", "yes"]]
    return _table(["SOP class", "user (SCU)", "provider (SCP)"], rows)


def _accepted() -> list[list[str]]:
    rows = [[uid.name, uid, "SCP"] for uid in (VERIFICATION, *SOP_CLASSES)]
    return [*rows, [PUSH_MODEL.name, PUSH_MODEL, "SCP; SCU where the peer proposes the SCP role"]]


def _initiated() -> list[list[str]]:
    syntaxes = f"{ExplicitVRLittleEndian.name}, {ImplicitVRLittleEndian.name}"
    rows = [[uid.name, uid, syntaxes, "SCU"] for uid in (VERIFICATION, *SENT)]
    like = "as for Verification in 2.2"
    return [*rows, [PUSH_MODEL.name, PUSH_MODEL, like, "SCP to `receive.peers`, SCU to `destinations`"]]


def _statuses() -> list[list[str]]:
    """The statuses of `receive.STATUS`, and those of success and of a fault of ours."""
    answered = sorted({0x0000, 0xC211, *STATUS.values()})
    return [[f"0x{status:04X}", *STATUS_MEANINGS[status]] for status in answered]


def _written() -> list[list[str]]:
    """The fixed values of the CT, from the tables of `pipeline.ct.modules`."""
    values = {
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
    return [[dictionary_description(word), word, f"`{value}`"] for word, value in values.items()]


def _companions() -> list[list[str]]:
    """Each kind of companion, in the order in which they are sent."""
    return [
        [f"`{kind}`", one.sop_class_uid.name, one.modality, COMPANION_WORDS[kind]] for kind, one in COMPANIONS.items()
    ]


def _rules() -> list[list[str]]:
    """Preflight's rules, each with the first paragraph of its docstring, and the profiles that ask it."""
    profiles = [load_profile(name) for name in shipped()]
    rows = []
    for rule in (*FILE_RULES, *SERIES_RULES):
        asking = [one.name for one in profiles if rule.__name__ in [asked.rule for asked in one.rules]]
        what = " ".join((rule.__doc__ or "").split("\n\n")[0].split())
        rows.append([f"`{rule.__name__}`", _escaped(what), ", ".join(asking)])
    return rows


def _profiles() -> list[list[str]]:
    """The shipped profiles, whom they are for, and the rules that each has of its own, with their evidence."""
    rows = []
    for profile in map(load_profile, shipped()):
        inherited = load_profile(profile.like).rules if profile.like else ()
        own = [one for one in profile.rules if one not in inherited]
        like = f"; all of `{profile.like}`, and" if profile.like else ""
        rows += [[f"`{profile.name}`", f"{profile.purpose}{like}", ""]]
        rows += [["", f"`{one.description()}`", _escaped(one.evidence)] for one in own]
    return rows


if __name__ == "__main__":
    sys.stdout.write(statement(load(Path(sys.argv[1]) if sys.argv[1:] else None)))


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


def security(config: Config) -> str:
    """The section, in Markdown."""
    return "\n\n".join((_admission(config), _tls(config), _audit(config)))


def _admission(config: Config) -> str:
    """6.1: rejections and rights."""
    rows = ["| A-ASSOCIATE-RJ | reason | when |", "| --- | --- | --- |"]
    rows += [f"| {RESULTS[code[0]]} {code} | {words} | {when} |" for code, words, when in REJECTIONS]
    callers = [f"`{one.ae_title}` ({', '.join(one.rights)})" for one in config.admission.callers]
    who = f"AEs that may call, and for what: {', '.join(callers)}." if callers else "Any AE may call."
    return "\n".join((
        "### 6.1 Admission",
        "",
        f"{who} A service that an AE has no right to is rejected as presentation context. Where callers are named,",
        "storage commitment is given for what the same AE has sent, or those its entry names; others' instances are",
        "reported as not there (0x0112). User identity (PS3.7 D.3.3.7) is not asked for.",
        "",
        *rows,
    ))  # fmt: skip


def _tls(config: Config) -> str:
    """6.2: the profile of PS3.15 B.12."""
    tls = config.tls
    offered = "not offered" if tls.port is None else f"offered on port {tls.port}"
    plain = "offered" if tls.plain else "not offered"
    shown = "must show a certificate" if tls.mutual else "may show a certificate"
    over = [one.name for one in config.destinations if one.tls is not None]
    return "\n".join((
        "### 6.2 TLS",
        "",
        "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12), in and out; not by default.",
        f"With this configuration TLS is {offered}, plain text is {plain}; destinations called over TLS:",
        f"{', '.join(over) or 'none'}. A peer that calls {shown}, signed by one of the CAs of `tls.ca`.",
        "",
        f"- Lowest version: TLS {tls.minimum}; TLS 1.3 is preferred. TLS 1.1 and older are refused.",
        f"- Cipher suites of TLS 1.2: {', '.join(SUITES)}.",
        "- Keys of RSA from 2048 bits, of elliptic curves as strong; signatures from SHA-256. Renegotiation,",
        "  compression and session tickets are not used. Revocation lists where the site has them (`tls.crl`).",
        "- Certificates and keys are loaded again when their files change; open associations go on.",
    ))  # fmt: skip


def _audit(config: Config) -> str:
    """6.3: the audit trail."""
    kinds = sorted({f"{event.value[0]['originalText']} ({event.value[0]['csd-code']})" for event in Event})
    to = f"; copies go to {config.audit.syslog}" if config.audit.syslog else ""
    return "\n".join((
        "### 6.3 Audit trail",
        "",
        f"Messages of PS3.15 A.5, as lines of JSON in `node.data`/audit{to}. To a syslog server they go as XML,",
        "over TLS (PS3.15 A.6), UDP (A.7) or a local socket. Patients are named where `audit.patients` says so.",
        "Messages:",
        f"{', '.join(kinds)}.",
    ))  # fmt: skip
