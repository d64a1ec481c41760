"""Storage Commitment Push Model (PS3.4 Annex J): requests and reports as values, and the check of the files.

A sender lists SOP instances in an N-ACTION and waits for the report that they are safe before it deletes its own. The
answer to the N-ACTION (`STATUSES`) says only that the request is understood and remembered; the verdict goes back in an
N-EVENT-REPORT (`dicomnode.commitment.scp`).

An instance is committed when its file is there, its bytes are those that came, by the digest recorded with them, and
its SOP class is the one referenced. Otherwise it fails for one of `FAILURES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode import log
from dicomnode.dimse.messages import status_of
from dicomnode.errors import Damaged, LedgerUnreachable, NodeError, NotStorable
from dicomnode.spool.instance_file import checked_uid, sop_class_of_intact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

PUSH_MODEL: Final = UID("1.2.840.10008.1.20.1")
"""Storage Commitment Push Model SOP Class (PS3.4 J.3)."""

WELL_KNOWN_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
"""The one SOP instance of that class (PS3.4 J.3.5)."""

REQUEST: Final = 1
"""Action Type ID of Request Storage Commitment (PS3.4 Table J.3-1)."""

SUCCESSFUL: Final = 1
FAILURES_EXIST: Final = 2
"""Event Type IDs (PS3.4 Table J.3-2): everything is committed; something is not."""

NO_SUCH_INSTANCE: Final = 0x0112
CLASS_CONFLICT: Final = 0x0119
CLASS_NOT_SUPPORTED: Final = 0x0122
PROCESSING_FAILURE: Final = 0x0110
FAILURES: Final[Mapping[int, str]] = {
    PROCESSING_FAILURE: "the file is damaged or cannot be read",
    NO_SUCH_INSTANCE: "no such instance has come",
    CLASS_CONFLICT: "the instance is of another SOP class than the request says",
    CLASS_NOT_SUPPORTED: "no such instance has come, and the node takes none of that SOP class",
}
"""Failure Reason (0008,1197) -> when an instance fails for it (PS3.3 C.14.1.1)."""

STATUSES: Final[Mapping[int, str]] = {
    0x0000: "the request is remembered, durably",
    0x0112: "the Requested SOP Instance UID is not 1.2.840.10008.1.20.1.1",
    0x0115: "the Action Information cannot be read, lacks something, or holds what is no UID",
    0x0123: "the Action Type ID is not 1",
    0x0213: "the database does not answer, or more is asked than is remembered; ask again later",
}
"""Status of an N-ACTION response -> when the node answers so."""

MOST_REFERENCES: Final = 50_000
"""References in one request, at most; a study has a few thousand."""


class Unacceptable(NodeError):
    """A request or report that is not remembered; `status` is the answer, the text its Error Comment (0000,0902)."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """A request of one AE; `references` maps SOP Instance UID -> SOP Class UID, in the order of the request."""

    requestor: str
    transaction_uid: str
    references: Mapping[str, str]


def readable(read: Callable[[], Dataset], what: str) -> Dataset:
    """Decode the data set of a message. Raises Unacceptable where that fails."""
    try:
        return read()
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise Unacceptable(0x0115, f"{what} cannot be read") from error


def refusal(error: Unacceptable | LedgerUnreachable, away: int) -> Dataset:
    """Return the answer to what is not remembered; `away` is the status while the database does not answer."""
    if isinstance(error, Unacceptable):
        return status_of(error.status, str(error))
    return status_of(away, "The database does not answer")


def request_of(
    requestor: str, instance_uid: object, action_type: int | None, information: Dataset
) -> CommitmentRequest:
    """Return the request in an N-ACTION's parameters (PS3.4 Table J.3-1). Raises Unacceptable."""
    if instance_uid != WELL_KNOWN_INSTANCE:
        raise Unacceptable(0x0112, "Requested SOP Instance UID is not the well-known one")
    if action_type != REQUEST:
        raise Unacceptable(0x0123, "Action Type ID is not 1")
    try:
        transaction_uid = checked_uid(_text(information, "TransactionUID"), "Transaction UID")
        items: Sequence[Dataset] = information.get("ReferencedSOPSequence") or []
        references = dict(map(_reference, items))
    except NotStorable as error:
        raise Unacceptable(0x0115, str(error)) from error
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise Unacceptable(0x0115, "Action Information cannot be read") from error
    if not references:
        raise Unacceptable(0x0115, "Referenced SOP Sequence is missing or empty")
    if len(references) > MOST_REFERENCES:
        raise Unacceptable(0x0213, f"More than {MOST_REFERENCES} references in one request")
    return CommitmentRequest(requestor, transaction_uid, references)


def _reference(item: Dataset) -> tuple[str, str]:
    """Return SOP Instance UID and SOP Class UID of an item of the Referenced SOP Sequence (0008,1199)."""
    instance = checked_uid(_text(item, "ReferencedSOPInstanceUID"), "Referenced SOP Instance UID")
    return instance, checked_uid(_text(item, "ReferencedSOPClassUID"), "Referenced SOP Class UID")


def _text(data_set: Dataset, keyword: str) -> str:
    """Return an element's value as text; empty when it is missing."""
    value: Any = data_set.get(keyword)
    return "" if value is None else str(value)


def action_of(transaction_uid: str, references: Mapping[str, str]) -> Dataset:
    """Return a request's Action Information (PS3.4 Table J.3-1); `references`: SOP Instance UID -> SOP Class UID."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(uid, kind) for uid, kind in references.items()]
    return information


@dataclass(frozen=True, slots=True)
class Report:
    """A report of an SCP: the SOP Instance UIDs that it keeps, and those that it does not -> Failure Reason."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def report_of(event_type: int | None, information: Dataset) -> Report:
    """Return the report in an N-EVENT-REPORT's parameters (PS3.4 Table J.3-2). Raises Unacceptable."""
    if event_type not in (SUCCESSFUL, FAILURES_EXIST):
        raise Unacceptable(0x0113, "Event Type ID is neither 1 nor 2")
    try:
        transaction_uid = checked_uid(_text(information, "TransactionUID"), "Transaction UID")
        kept = [_reference(item)[0] for item in information.get("ReferencedSOPSequence") or []]
        lost = {_reference(item)[0]: int(item.FailureReason) for item in information.get("FailedSOPSequence") or []}
    except NotStorable as error:
        raise Unacceptable(0x0115, str(error)) from error
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise Unacceptable(0x0115, "Event Information cannot be read") from error
    return Report(transaction_uid, frozenset(kept) - lost.keys(), lost)


def failures(
    references: Mapping[str, str], files: Mapping[str, Sequence[Path]], accepted: Collection[str]
) -> dict[str, int]:
    """Read the files again; -> SOP Instance UID -> Failure Reason of the references that cannot be committed.

    `files` is what `Spool.find` found of them; `accepted`: SOP Class UIDs that the node takes.
    """
    found = {uid: failure_of(files.get(uid, []), sop_class, accepted) for uid, sop_class in references.items()}
    return {uid: reason for uid, reason in found.items() if reason is not None}


def failure_of(files: Sequence[Path], sop_class: str, accepted: Collection[str]) -> int | None:
    """Return the Failure Reason (0008,1197) of an instance; None when all its files are intact, one of the class."""
    if not files:
        return NO_SUCH_INSTANCE if sop_class in accepted else CLASS_NOT_SUPPORTED
    try:
        classes = {sop_class_of_intact(path) for path in files}
    except (Damaged, OSError) as error:
        log.event("stored_file_damaged", level="error", sop_instance=files[0].stem, reason=str(error))
        return PROCESSING_FAILURE
    return None if sop_class in classes else CLASS_CONFLICT


def report(request: CommitmentRequest, failed: Mapping[str, int]) -> tuple[int, Dataset]:
    """Return Event Type ID and Event Information of a report (PS3.4 Table J.3-2); `failed` as of `failures`."""
    information = Dataset()
    information.TransactionUID = request.transaction_uid
    committed = [_item(uid, kind) for uid, kind in request.references.items() if uid not in failed]
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = [_item(uid, request.references[uid], why) for uid, why in failed.items()]
    return FAILURES_EXIST if failed else SUCCESSFUL, information


def _item(instance: str, sop_class: str, reason: int | None = None) -> Dataset:
    """Return an item of the Referenced (0008,1199) or the Failed SOP Sequence (0008,1198)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = instance
    if reason is not None:
        item.FailureReason = reason
    return item
