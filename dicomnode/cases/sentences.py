"""What is said of a job: why it is held or rejected, what destinations answered, and how far each is."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dicomnode.ledger.rows import DeliveryRow, JobRow, ReceiptRow
from dicomnode.receipt import DUPLICATE


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said, equal for `instances` instances of a job."""

    destination: str
    status: int
    comment: str
    meaning: str
    instances: int
    last_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one job and destination, instances: taken, of these with a warning, proved to be kept, reported as lost."""

    taken: int = 0
    warned: int = 0
    kept: int = 0
    lost: int = 0


def reason(job: JobRow) -> str:
    """Why a job is held or rejected, with its code, or what took its place; empty when nothing is to be said."""
    sentence = job.held or job.reason_sentence
    if sentence is None and job.superseded_by is not None:
        return f"more instances came late; the CT series of job {job.superseded_by[:12]} replaces this one"
    return f"{job.reason_code}: {sentence}" if sentence and job.reason_code else sentence or ""


def meaning(receipt: ReceiptRow) -> str:
    """A receipt in one word; the statuses of C-STORE are in PS3.4 Table B.2-1."""
    if receipt.status == DUPLICATE:
        return "taken, it had it already"
    if receipt.warning:
        return "taken, with a warning"
    return "taken" if receipt.taken else "refused"


def answers(receipts: Iterable[ReceiptRow]) -> list[Answer]:
    """The receipts of a job, equal ones counted, by destination and status."""
    groups: dict[tuple[str, int, str, str], list[ReceiptRow]] = {}
    for receipt in receipts:
        key = (receipt.destination, receipt.status, receipt.comment, meaning(receipt))
        groups.setdefault(key, []).append(receipt)
    return [Answer(*key, len(group), max(one.at for one in group)) for key, group in sorted(groups.items())]


def tally(delivery: DeliveryRow, receipts: Iterable[ReceiptRow]) -> Tally:
    """What a destination answered since the job was last sent anew."""
    own = [receipt for receipt in receipts if receipt.destination == delivery.destination]
    counting = [receipt for receipt in own if (receipt.attempt or 0) >= (delivery.resent_from or 0)]
    kept, lost = sum(one.commitment == 0 for one in counting), sum(bool(one.commitment) for one in counting)
    return Tally(sum(one.taken for one in counting), sum(one.warning for one in counting), kept, lost)


def delivery_sentence(delivery: DeliveryRow, receipts: Sequence[ReceiptRow], instances: int) -> str:
    """How far a destination is with a job's `instances`, in one sentence."""
    return f"{delivery.destination}: {progress(delivery, tally(delivery, receipts), instances)}"


def progress(delivery: DeliveryRow, counted: Tally, instances: int) -> str:
    """The same without the destination's name: `3 of 3, 3 proved to be kept`."""
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
