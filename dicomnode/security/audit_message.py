"""Audit messages (PS3.15 A.5): the event, its participants, the source of the record, and the objects concerned.

A message is a dictionary with the names of the schema of PS3.15 A.5.1, for a line of JSON; `xml` writes the same as
the document of that schema, which audit record repositories take over syslog (PS3.15 A.5, A.6).

    event                      EventID (PS3.15 A.5.3, CID 400)         action  EventTypeCode (CID 401, or our own)
    APPLICATION_STARTED        110100 Application Activity             E       110120 Application Start
    APPLICATION_STOPPED        110100 Application Activity             E       110121 Application Stop
    LOGIN                      110114 User Authentication              E       110122 Login
    LOGOUT                     110114 User Authentication              E       110123 Logout
    BEGIN_TRANSFERRING         110102 Begin Transferring Instances     E
    INSTANCES_TRANSFERRED_IN   110104 DICOM Instances Transferred      C
    INSTANCES_TRANSFERRED_OUT  110104 DICOM Instances Transferred      R
    ACCESSED                   110103 DICOM Instances Accessed         R
    RELEASED ... RESENT        110103 DICOM Instances Accessed         U       released ... resent (99SCTNODE)
    DELETED                    110105 DICOM Study Deleted              D
    ALERT                      110113 Security Alert                   E       110126 Node Authentication
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

Message = dict[str, Any]
"""The elements and attributes of an AuditMessage by name; an element that may be repeated is a list."""

OWN_CODES: Final = "99SCTNODE"
"""Coding scheme of the codes that the standard lacks (PS3.3 8.2: private schemes begin with 99)."""


def code(value: str, meaning: str, scheme: str = "DCM") -> Message:
    """Return a coded value (PS3.15 A.5.1, CodedValueType)."""
    return {"csd-code": value, "codeSystemName": scheme, "originalText": meaning}


_ACTIVITY: Final = code("110100", "Application Activity")
_BEGIN: Final = code("110102", "Begin Transferring DICOM Instances")
_ACCESSED: Final = code("110103", "DICOM Instances Accessed")
_TRANSFERRED: Final = code("110104", "DICOM Instances Transferred")
_DELETED: Final = code("110105", "DICOM Study Deleted")
_ALERT: Final = code("110113", "Security Alert")
_AUTHENTICATION: Final = code("110114", "User Authentication")

SOURCE: Final = code("110153", "Source Role ID")
DESTINATION: Final = code("110152", "Destination Role ID")
APPLICATION: Final = code("110150", "Application")
LAUNCHER: Final = code("110151", "Application Launcher")
STUDY: Final = code("110180", "Study Instance UID")
NODE: Final = code("110182", "Node ID")
PATIENT: Final = code("2", "Patient Number", "RFC-3881")
JOB: Final = code("job", "Job of the node", OWN_CODES)


class Event(enum.Enum):
    """The events that are recorded: EventID, EventActionCode, EventTypeCode (PS3.15 A.5.3)."""

    APPLICATION_STARTED = (_ACTIVITY, "E", code("110120", "Application Start"))
    APPLICATION_STOPPED = (_ACTIVITY, "E", code("110121", "Application Stop"))
    LOGIN = (_AUTHENTICATION, "E", code("110122", "Login"))
    LOGOUT = (_AUTHENTICATION, "E", code("110123", "Logout"))
    BEGIN_TRANSFERRING = (_BEGIN, "E", None)
    INSTANCES_TRANSFERRED_IN = (_TRANSFERRED, "C", None)
    INSTANCES_TRANSFERRED_OUT = (_TRANSFERRED, "R", None)
    ACCESSED = (_ACCESSED, "R", None)
    RELEASED = (_ACCESSED, "U", code("released", "Job released by a person", OWN_CODES))
    REJECTED = (_ACCESSED, "U", code("rejected", "Job rejected by a person", OWN_CODES))
    RETRIED = (_ACCESSED, "U", code("retried", "Job tried again by a person", OWN_CODES))
    CANCELLED = (_ACCESSED, "U", code("cancelled", "Delivery cancelled by a person", OWN_CODES))
    RESENT = (_ACCESSED, "U", code("resent", "Job sent again by a person", OWN_CODES))
    DELETED = (_DELETED, "D", None)
    ALERT = (_ALERT, "E", code("110126", "Node Authentication"))


TRANSFERS: Final = (Event.BEGIN_TRANSFERRING, Event.INSTANCES_TRANSFERRED_IN, Event.INSTANCES_TRANSFERRED_OUT)
"""Events with a source and a destination (PS3.15 A.5.3.3, A.5.3.7); a transfer by an AE is one inwards."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """The facts of one audit message.

    Attributes:
        event: what happened.
        at: when (ISO 8601).
        by: who did it: "cli:jane", "web:jane", "ae:MR1" or "node".
        peer: the other application entity of a transfer outwards.
        address: network address of `by`, or of `peer`.
        failed: why it did not succeed; None for success.
        job: key of the job.
        studies, series, patients: UIDs and Patient IDs.
        instances: number of instances.
        words: a sentence for EventOutcomeDescription.
    """

    event: Event
    at: str
    by: str
    peer: str = ""
    address: str = ""
    failed: str | None = None
    job: str | None = None
    studies: Sequence[str] = ()
    series: Sequence[str] = ()
    patients: Sequence[str] = ()
    instances: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the records (PS3.15 A.5.2.3): its ID and site, and the node's AE title and process."""

    name: str
    site: str
    ae_title: str
    process: int


def message(fact: AuditRecord, source: Source) -> Message:
    """Return the audit message of a record (PS3.15 A.5.2)."""
    site = {"AuditEnterpriseSiteID": source.site} if source.site else {}
    return {
        "EventIdentification": _event(fact),
        "ActiveParticipant": list(_participants(fact, source)),
        # type 4 is an application server (PS3.15 A.5.2.3)
        "AuditSourceIdentification": {"AuditSourceID": source.name, **site, "AuditSourceTypeCode": [{"csd-code": "4"}]},
        "ParticipantObjectIdentification": list(_objects(fact, source)),
    }


def _event(fact: AuditRecord) -> Message:
    """Return the event, its time and its outcome: 0 success, 4 minor failure (PS3.15 A.5.2)."""
    event_id, action, kind = fact.event.value
    found: Message = {
        "EventActionCode": action,
        "EventDateTime": fact.at,
        "EventOutcomeIndicator": "0" if fact.failed is None else "4",
        "EventID": event_id,
    }
    if kind is not None:
        found["EventTypeCode"] = [kind]
    description = "; ".join(text for text in (fact.words, fact.failed) if text)
    return found | ({"EventOutcomeDescription": description} if description else {})


def _participants(fact: AuditRecord, source: Source) -> Iterator[Message]:
    """Yield the actor and the node itself, each in its role (PS3.15 A.5.2)."""
    scheme, _, name = fact.by.rpartition(":")
    own: Message = {"UserID": source.ae_title, "AlternativeUserID": str(source.process)}
    if fact.event in TRANSFERS:
        inwards = scheme == "ae"
        other = name if inwards else fact.peer
        yield _participant({"UserID": other}, SOURCE if inwards else DESTINATION, fact.address, requests=inwards)
        yield _participant(own, DESTINATION if inwards else SOURCE, requests=fact.by == "node")
        if not inwards and fact.by != "node":
            yield _participant({"UserID": name, "AlternativeUserID": fact.by}, LAUNCHER, requests=True)
        return
    yield _participant(own, APPLICATION, requests=fact.by == "node")
    if fact.by != "node":
        who = {"UserID": name, "AlternativeUserID": fact.by} if scheme else {"UserID": name}
        started = fact.event in (Event.APPLICATION_STARTED, Event.APPLICATION_STOPPED)
        yield _participant(who, LAUNCHER if started else None, fact.address, requests=True)


def _participant(who: Message, role: Message | None, address: str = "", *, requests: bool) -> Message:
    """Return a participant; NetworkAccessPointTypeCode 2 is an IP address, 1 a host name (PS3.15 A.5.2)."""
    found = who | {"UserIsRequestor": "true" if requests else "false"}
    if role is not None:
        found["RoleIDCode"] = [role]
    if address:
        kind = "2" if ":" in address or address.replace(".", "").isdigit() else "1"
        found |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": kind}
    return found


def _objects(fact: AuditRecord, source: Source) -> Iterator[Message]:
    """Yield studies (role 3), the job (role 20), patients (role 1), and for an alert the node (role 13)."""
    for study in fact.studies:
        found = _object(study, "2", "3", STUDY)
        if fact.instances:
            found["SOPClass"] = [{"NumberOfInstances": str(fact.instances)}]
        yield found | ({"ParticipantObjectDetail": _details("SeriesInstanceUID", fact.series)} if fact.series else {})
    if fact.job is not None:
        detail = _details("SeriesInstanceUID", () if fact.studies else fact.series)
        yield _object(fact.job, "2", "20", JOB) | ({"ParticipantObjectDetail": detail} if detail else {})
    for patient in fact.patients:
        yield _object(patient, "1", "1", PATIENT)
    if fact.event is Event.ALERT:
        detail = _details("Alert Description", [text for text in (fact.words, fact.failed) if text])
        yield _object(source.ae_title, "2", "13", NODE) | {"ParticipantObjectDetail": detail}


def _object(name: str, kind: str, role: str, id_type: Message) -> Message:
    """Return a participant object; `kind` 1 is a person, 2 a system object (PS3.15 A.5.2.4)."""
    return {
        "ParticipantObjectID": name,
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
        "ParticipantObjectIDTypeCode": id_type,
    }


def _details(kind: str, values: Sequence[str]) -> list[Message]:
    """Return details of one kind; in XML their values are base64 (PS3.15 A.5.1, ValuePair)."""
    return [{"type": kind, "value": value} for value in values]


# XML

_ELEMENTS: Final = (
    "EventIdentification",
    "ActiveParticipant",
    "AuditSourceIdentification",
    "ParticipantObjectIdentification",
    "EventID",
    "EventTypeCode",
    "EventOutcomeDescription",
    "RoleIDCode",
    "AuditSourceTypeCode",
    "ParticipantObjectIDTypeCode",
    "ParticipantObjectDetail",
    "SOPClass",
)
"""The elements of the schema (PS3.15 A.5.1) in its order; everything else is an attribute."""


def xml(one: Message) -> str:
    """Return the message as an XML document (PS3.15 A.5.1) on one line; control characters become question marks."""
    return ElementTree.tostring(_element("AuditMessage", one), encoding="unicode")


def _element(name: str, content: Mapping[str, Any]) -> ElementTree.Element:
    """Return an element with its attributes and, in the order of the schema, its elements."""
    attributes = {key: _printable(str(value)) for key, value in content.items() if key not in _ELEMENTS}
    if name == "ParticipantObjectDetail":
        attributes["value"] = base64.b64encode(str(content["value"]).encode()).decode()
    made = ElementTree.Element(name, attributes)
    for key in (one for one in _ELEMENTS if one in content):
        inner = content[key]
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, str):
                ElementTree.SubElement(made, key).text = _printable(one)
            else:
                made.append(_element(key, one))
    return made


def _printable(text: str) -> str:
    """Replace control characters, which XML 1.0 (2.2) forbids, and line breaks, which would end a syslog message."""
    return "".join(character if character.isprintable() else "?" for character in text)
