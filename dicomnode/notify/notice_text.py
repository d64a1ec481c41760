"""The text of a notice: codes and their meaning, and more only where the site wants it.

notify.contents   the message holds
codes             kind, code, its fixed meaning, destination, job key, time, the address of the page
sentences         also the sentence, which may quote a header of the images, a destination's answer or a fault
patients          also the Patient ID (0010,0020) and Patient's Name (0010,0010) of the images (PS3.3 C.7.1.1)
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
"""The most characters of a sentence."""

KINDS: Final[Mapping[str, str]] = {
    Kind.HOLD: "a case is held and waits for a person",
    Kind.FAILURE: "the node failed at something, and a person is needed",
    Kind.ALARM: "a destination is late, or has lost something, or a CT that was sent is replaced",
    Kind.REJECTION: "there will be no synthetic CT of a series",
    Kind.CONSTANCY: "the check of the whole chain with the phantom failed",
}
"""The meaning of each kind, for people."""

OTHERS: Final[Mapping[str, str]] = {
    "ALARMED": "a destination has not taken, or not proved to keep, a CT series for too long",
    "COMMITMENT_FAILED": "a destination reports that it does not keep all of a CT series that it had taken",
    "REPLACED": "slices came after their CT had been sent; a new CT takes its place, and names it",
    "CONSTANCY_FAILED": "the phantom does not give its known CT any more: release nothing before it is understood",
    "ROLE_KEEPS_ENDING": "a process of the node ends again and again; its log says why",
    "ROLE_HANGS": "a process of the node showed no sign of life, and was ended and started again",
    "TEST": "a test of this channel, by sct-node notify",
}
"""The meaning of codes that no other table explains."""


@dataclass(frozen=True, slots=True)
class NoticePatient:
    """The patient of a notice: Patient ID (0010,0020) and Patient's Name (0010,0010) (PS3.3 C.7.1.1)."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class NoticeContent:
    """A notice and what the message says about it; an empty `sentence`, or no patient, is left out."""

    notice: NoticeRow
    destination: str = ""
    page: str = ""
    sentence: str = ""
    patient: NoticePatient | None = None

    def text(self) -> str:
        """Return the notice as lines of text."""
        notice, patient = self.notice, self.patient
        job = f", job {notice.job[:12]}" if notice.job else ""
        lines = [f"{notice.kind.upper()}: {notice.code}{job}, {notice.at:%Y-%m-%d %H:%M} UTC", KINDS[notice.kind]]
        more = {"": meaning(notice.code), "destination: ": self.destination, "to do: ": todo(notice.code)}
        named = f"{patient.id}, {patient.name}" if patient else ""
        more |= {"it says: ": self.sentence, "patient: ": named, "see ": self.page}
        return "\n  ".join(lines + [f"{what}{words}" for what, words in more.items() if words])

    def values(self) -> dict[str, Any]:
        """Return the notice as values for JSON."""
        notice, at = self.notice, self.notice.at.isoformat()
        values: dict[str, Any] = {"id": notice.id, "kind": notice.kind, "code": notice.code, "at": at}
        values |= {"job": notice.job, "meaning": meaning(notice.code), "todo": todo(notice.code)}
        values |= {"destination": self.destination or None, "page": self.page or None}
        values |= {"sentence": self.sentence} if self.sentence else {}
        return values | ({"patient": {"id": self.patient.id, "name": self.patient.name}} if self.patient else {})


@dataclass(frozen=True, slots=True)
class Message:
    """Notices for one channel; `id` stays when the same notices are sent again, `values` are for JSON."""

    id: str
    subject: str
    text: str
    values: dict[str, Any]


def message_of(contents: Sequence[NoticeContent], node: str) -> Message:
    """Return one message for one or more notices; `node` is the AE title."""
    notices = [one.notice for one in contents]
    parts = "\n".join(f"{one.id} {one.at.isoformat()}" for one in notices)
    name = hashlib.sha256(f"{node}\n{parts}".encode()).hexdigest()[:32]
    text = "\n\n".join([*(one.text() for one in contents), f"sct-node {node}. {LABEL}"]) + "\n"
    kinds = Counter(one.kind for one in notices)
    subject = f"[{node}] {len(notices)} notices: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    if len(notices) == 1:
        subject = f"[{node}] {notices[0].kind}: {notices[0].code}"
    return Message(name, subject, text, {"node": node, "notices": [one.values() for one in contents]})


def meaning(code: str) -> str:
    """Return the meaning of a code in fixed words that hold nothing of any case; empty where no table has it."""
    if code in OTHERS:
        return OTHERS[code]
    if code in reason_codes.NODE_CODES:
        return reason_codes.NODE_CODES[code].meaning
    if code.lower() in MEANINGS:
        return f"{MEANINGS[code.lower()].title} is not as expected"
    return "the series cannot be converted as it is" if code in REASONS else ""


def todo(code: str) -> str:
    """Return what to do about a code; empty where no table says so."""
    finding = MEANINGS.get(code.lower())
    return finding.look if finding is not None else reason_codes.advice_of(code)
