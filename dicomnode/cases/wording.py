"""Words and plain values for jobs: `sct-node jobs --json` and `show --json`, and the sentences of pages and reports.

The sentences say why a job is held or rejected, what destinations answered, and how far each delivery is.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicomnode.commitment.proofs import Proofs
from dicomnode.ledger.rows import DeliveryRow, JobRow, ReceiptRow
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts
from dicomnode.receipt import DUPLICATE

if TYPE_CHECKING:
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow, ProofRow, Row, SeriesRow
    from dicomnode.receipt import Receipt


def job(row: JobRow) -> dict[str, Any]:
    """Return one job as JSON values; `held` is the sentence for which a person must look, or null."""
    listed = _plain(row)
    listed["instances"] = len(listed.pop("sop_instance_uids"))
    listed["source_series_uid"] = listed.pop("series_instance_uid")
    listed["settings"] = None if row.settings is None else json.loads(row.settings)
    return listed


def series(row: SeriesRow) -> dict[str, Any]:
    """Return a series that is still arriving, with the keys of a job that programs rely on; its `job` is empty."""
    return {
        "job": "",
        "state": str(State.RECEIVING),
        "held": None,
        "source_series_uid": row.series_instance_uid,
        "ct_series_uid": None,
        "instances": row.instances,
        "calling_ae": row.calling_ae,
        "created_at": row.first_at.isoformat(),
        "updated_at": row.last_at.isoformat(),
    }


def whole(ledger: Ledger, row: JobRow) -> dict[str, Any]:
    """Return a job with everything that is known of it."""
    return {
        **job(row),
        "sop_instance_uids": list(row.sop_instance_uids),
        "conflicts": [_plain(one) for one in Conflicts(ledger.engine).of(row.series_instance_uid)],
        "events": [_without_job(one) for one in ledger.events(row.job)],
        "deliveries": [_without_job(one) for one in ledger.deliveries(row.job)],
        "proofs": [proof(one) for one in Proofs(ledger.engine).of(row.job)],
        "receipts": [_without_job(one) | {"status": f"{one.status:04X}"} for one in ledger.receipts(row.job)],
    }


def proof(row: ProofRow) -> dict[str, Any]:
    """Return a storage commitment asked of a destination; what it reported of each instance is in the receipts."""
    listed = _without_job(row)
    listed |= {"listed": len(row.listed or ()), "failed": len(row.failed or ())}
    return listed | {"sentence": proof_sentence(row)}


def proof_sentence(row: ProofRow) -> str:
    """Say what a destination reported, or why the delivery is unproven."""
    if row.failed:
        return f"{len(row.failed)} of {len(row.listed or ())} instances are LOST THERE"
    if row.failed is not None:
        return f"{len(row.listed or ())} instances are kept there"
    text = f"unproven: {row.sentence or 'not asked yet'}"
    if row.alarmed_at is not None and row.ended_at is None:
        text = f"ALARM, {text}"
    return text if row.ended_at is not None else f"{text}; next visit at {row.due_at:%Y-%m-%d %H:%M:%S} UTC"


def receipt(answer: Receipt) -> dict[str, Any]:
    """Return a destination's answer; the status as four hexadecimal digits (PS3.7 C)."""
    return {
        "sop_instance_uid": answer.sop_instance_uid,
        "status": f"{answer.status:04X}",
        "outcome": answer.outcome,
        "comment": answer.comment,
        "at": answer.at.isoformat(),
    }


def _without_job(row: Row) -> dict[str, Any]:
    plain = _plain(row)
    del plain["job"]
    return plain


def _plain(row: Row) -> dict[str, Any]:
    """Return a row's values as JSON knows them."""
    plain = dataclasses.asdict(row)
    plain |= {key: value.isoformat() for key, value in plain.items() if isinstance(value, datetime.datetime)}
    return plain | {key: str(value) for key, value in plain.items() if isinstance(value, State)}


def span(length: datetime.timedelta) -> str:
    """Format a time span for people: `48 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    seconds = max(int(length.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02d} min" if days < 1 else f"{days} d {hours % 24} h"


def utc(moment: datetime.datetime) -> str:
    """Format a moment in UTC, to the second."""
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a destination that is equal for `instances` instances of a job."""

    destination: str
    status: int
    comment: str
    meaning: str
    instances: int
    last_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class ReceiptCounts:
    """Instances of one job and destination: taken, of these with a warning, proved to be kept, lost there."""

    taken: int = 0
    warned: int = 0
    kept: int = 0
    lost: int = 0


def reason(job: JobRow) -> str:
    """Say why a job is held or rejected, with its code, or what took its place; empty when it is neither."""
    sentence = job.held or job.reason_sentence
    if sentence is None and job.superseded_by is not None:
        return f"more instances came late; the CT series of job {job.superseded_by[:12]} replaces this one"
    return f"{job.reason_code}: {sentence}" if sentence and job.reason_code else sentence or ""


def meaning(receipt: ReceiptRow) -> str:
    """Name a receipt in a word; the statuses of C-STORE are in PS3.4 Table B.2-1."""
    if receipt.status == DUPLICATE:
        return "taken, it had it already"
    if receipt.warning:
        return "taken, with a warning"
    return "taken" if receipt.taken else "refused"


def answers(receipts: Iterable[ReceiptRow]) -> list[Answer]:
    """Group the receipts of a job by destination and status, and count equal ones."""
    groups: dict[tuple[str, int, str, str], list[ReceiptRow]] = {}
    for receipt in receipts:
        key = (receipt.destination, receipt.status, receipt.comment, meaning(receipt))
        groups.setdefault(key, []).append(receipt)
    return [Answer(*key, len(group), max(one.at for one in group)) for key, group in sorted(groups.items())]


def tally(delivery: DeliveryRow, receipts: Iterable[ReceiptRow]) -> ReceiptCounts:
    """Count a destination's answers since everything was last sent once more."""
    own = [receipt for receipt in receipts if receipt.destination == delivery.destination]
    counting = [receipt for receipt in own if (receipt.attempt or 0) >= (delivery.resent_from or 0)]
    kept, lost = sum(one.commitment == 0 for one in counting), sum(bool(one.commitment) for one in counting)
    return ReceiptCounts(sum(one.taken for one in counting), sum(one.warning for one in counting), kept, lost)


def delivery_sentence(delivery: DeliveryRow, receipts: Sequence[ReceiptRow], instances: int) -> str:
    """Say in one sentence how many of a job's `instances` a destination has."""
    return f"{delivery.destination}: {progress(delivery, tally(delivery, receipts), instances)}"


def progress(delivery: DeliveryRow, counted: ReceiptCounts, instances: int) -> str:
    """Say the same without the destination's name: `3 of 3, 3 proved to be kept`."""
    text = f"{counted.taken} of {instances}"
    if counted.warned:
        text += f", {counted.warned} with a warning"
    if counted.kept:
        text += f", {counted.kept} proved to be kept"
    if counted.lost:
        text += f", {counted.lost} LOST THERE"
    if delivery.open and delivery.alarmed_at is not None:
        text += "; ALARM: undelivered for too long"
    if delivery.open and delivery.attempt > 1:
        text += f"; attempt {delivery.attempt} at {delivery.due_at:%H:%M:%S} UTC. {delivery.sentence}"
    return text
