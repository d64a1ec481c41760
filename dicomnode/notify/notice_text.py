"""What a message to people says of notices: their codes and what these mean; more only where the site wants it.

notify.contents   what is told
codes             kind, code, its fixed meaning, destination, job key, time, the page's address
sentences         also the sentence, which may quote a header of the images, a destination's answer or a fault
patients          also the Patient ID and name of the images
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnode import reason_codes
from dicomnode.config.sections import Kind
from pipeline.errors import REASONS
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dicomnode.ledger.notices import NoticeRow

LABEL: Final = "Research, not for clinical use."
LONGEST: Final = 500
"""Characters of a sentence."""

KINDS: Final[Mapping[str, str]] = {
    Kind.HOLD: "a case is held and waits for a person",
    Kind.FAILURE: "the node failed at something, and a person is needed",
    Kind.ALARM: "a destination is late, or has lost something, or a CT that was sent is replaced",
    Kind.REJECTION: "there will be no synthetic CT of a series",
    Kind.CONSTANCY: "the check of the whole chain with the phantom failed",
}
"""Kind -> what it is, for people."""

OTHERS: Final[Mapping[str, str]] = {
    "ALARMED": "a destination has not taken, or not proved to keep, a CT series for too long",
    "COMMITMENT_FAILED": "a destination reports that it does not keep all of a CT series that it had taken",
    "REPLACED": "slices came after their CT had been sent; a new CT takes its place, and names it",
    "CONSTANCY_FAILED": "the phantom does not give its known CT any more: release nothing before it is understood",
    "ROLE_KEEPS_ENDING": "a process of the node ends again and again; its log says why",
    "ROLE_HANGS": "a process of the node showed no sign of life, and was ended and started again",
    "TEST": "a test of this channel, by sct-node notify",
}
"""Codes of which no other table says what they mean."""


@dataclass(frozen=True, slots=True)
class NoticePatient:
    """Whom a notice is about: Patient ID (0010,0020) and name (0010,0010)."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class NoticeContent:
    """A notice with what is told of it; an empty `sentence`, or no patient, is not told."""

    notice: NoticeRow
    destination: str = ""
    page: str = ""
    sentence: str = ""
    patient: NoticePatient | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Notices for one channel: `id` is the same when the same are sent again; `values` are for JSON."""

    id: str
    subject: str
    text: str
    values: dict[str, Any]


def message_of(told: Sequence[NoticeContent], node: str) -> Message:
    """One message of notices (at least one); `node` is the AE title."""
    parts = "\n".join(f"{one.notice.id} {one.notice.at.isoformat()}" for one in told)
    name = hashlib.sha256(f"{node}\n{parts}".encode()).hexdigest()[:32]
    text = "\n\n".join([*map(_text, told), f"sct-node {node}. {LABEL}"]) + "\n"
    return Message(name, _subject(told, node), text, {"node": node, "notices": [_values(one) for one in told]})


def meaning(code: str) -> str:
    """What a code means, in fixed words that hold nothing of any case; empty where no table has it."""
    if code in OTHERS:
        return OTHERS[code]
    if code in reason_codes.NODE_CODES:
        return reason_codes.NODE_CODES[code].meaning
    if code.lower() in MEANINGS:
        return f"{MEANINGS[code.lower()].title} is not as expected"
    return "the series cannot be converted as it is" if code in REASONS else ""


def todo(code: str) -> str:
    """What to do about a code; empty where no table says."""
    finding = MEANINGS.get(code.lower())
    return finding.look if finding is not None else reason_codes.advice_of(code)


def _subject(told: Sequence[NoticeContent], node: str) -> str:
    if len(told) == 1:
        return f"[{node}] {told[0].notice.kind}: {told[0].notice.code}"
    kinds = Counter(one.notice.kind for one in told)
    return f"[{node}] {len(told)} notices: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _text(told: NoticeContent) -> str:
    """A notice as lines of text."""
    notice = told.notice
    job = f", job {notice.job[:12]}" if notice.job else ""
    lines = [f"{notice.kind.upper()}: {notice.code}{job}, {notice.at:%Y-%m-%d %H:%M} UTC", KINDS[notice.kind]]
    patient = f"{told.patient.id}, {told.patient.name}" if told.patient else ""
    more = {"": meaning(notice.code), "destination: ": told.destination, "to do: ": todo(notice.code)}
    more |= {"it says: ": told.sentence, "patient: ": patient, "see ": told.page}
    return "\n  ".join(lines + [f"{what}{words}" for what, words in more.items() if words])


def _values(told: NoticeContent) -> dict[str, Any]:
    """A notice as values for JSON."""
    notice = told.notice
    values: dict[str, Any] = {"id": notice.id, "kind": notice.kind, "code": notice.code, "at": notice.at.isoformat()}
    values |= {"job": notice.job, "meaning": meaning(notice.code), "todo": todo(notice.code)}
    values |= {"destination": told.destination or None, "page": told.page or None}
    values |= {"sentence": told.sentence} if told.sentence else {}
    return values | ({"patient": {"id": told.patient.id, "name": told.patient.name}} if told.patient else {})
