"""Rows of the ledger as frozen values."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from dicomnode.ledger.states import State

RowType = TypeVar("RowType", bound="Row")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table as a frozen value."""

    @classmethod
    def of(cls: type[RowType], row: sa.RowMapping) -> RowType:
        """From the database's row: the columns that the class names, times as aware UTC datetimes."""
        return cls(**{one.name: _value(one.name, row[one.name]) for one in dataclasses.fields(cls)})


def _value(name: str, value: Any) -> Any:
    """A column's value as the rows give it."""
    if name in ("at", "since") or name.endswith("_at"):
        return None if value is None else datetime.datetime.fromtimestamp(value, datetime.UTC)
    if name == "state":
        return State(value)
    if name in ("listed", "failed"):
        return None if value is None else json.loads(value)
    return tuple(json.loads(value)) if name in ("sop_instance_uids", "destinations") and value is not None else value


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job is told when it is made, and keeps whatever the configuration says later.

    `model` and its digest; `settings` (JSON) and their digest; `rule`, the name of what decided; `destinations`, where
    the CT goes; `ignored`, the sentence for which there will be no CT, or None.
    """

    model: str
    model_digest: str
    configuration_digest: str
    rule: str | None = None
    destinations: tuple[str, ...] | None = None
    settings: str | None = None
    ignored: str | None = None

    @property
    def columns(self) -> dict[str, str | None]:
        """The job's columns."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "configuration_digest": self.configuration_digest,
            "rule": self.rule,
            "destinations": None if self.destinations is None else json.dumps(self.destinations),
            "settings": self.settings,
        }


@dataclass(frozen=True, slots=True)
class SeriesRow(Row):
    """A series of which instances came."""

    series_instance_uid: str
    calling_ae: str
    instances: int
    first_at: datetime.datetime
    last_at: datetime.datetime
    job: str | None
    pause_s: float


@dataclass(frozen=True, slots=True)
class JobRow(Row):
    """A job: its state, and why a person must look (`held`, a sentence) or why it ended (`reason_*`)."""

    job: str
    series_instance_uid: str
    state: State
    held: str | None
    reason_code: str | None
    reason_sentence: str | None
    calling_ae: str
    model: str
    model_digest: str
    configuration_digest: str
    rule: str | None
    destinations: tuple[str, ...] | None
    settings: str | None
    sop_instance_uids: tuple[str, ...]
    ct_series_uid: str | None
    ct_instances: int | None
    attempt: int
    failures: int
    supersedes: str | None
    superseded_by: str | None
    replaces: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime

    @property
    def source_series_uid(self) -> str:
        """Series Instance UID (0020,000E) of the MR series."""
        return self.series_instance_uid


def job_key(series_instance_uid: str, sop_instance_uids: Iterable[str], model_digest: str, config_digest: str) -> str:
    """The job's name: SHA-256 (hex) of what it is made of, so that asking twice is one job."""
    parts = [series_instance_uid, *sorted(sop_instance_uids), model_digest, config_digest]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EventRow(Row):
    """Something that happened; `words` says more, `by` who decided it (None: the node)."""

    id: int
    at: datetime.datetime
    fact: str
    series_instance_uid: str
    job: str | None
    state: State
    words: str
    by: str | None


@dataclass(frozen=True, slots=True)
class DeliveryRow(Row):
    """How far one destination is with a job: the attempt that is due at `due_at`, or `delivered_at`, or `withdrawn_at`.

    From `begun_at` on, an instance may be there. From the attempt `resent_from` on, everything is sent once more.
    `instances` is how many objects it is to get, CT and companions; None before the first attempt.
    """

    job: str
    destination: str
    attempt: int
    since: datetime.datetime
    due_at: datetime.datetime
    sentence: str
    delivered_at: datetime.datetime | None
    begun_at: datetime.datetime | None
    withdrawn_at: datetime.datetime | None
    resent_from: int | None
    alarmed_at: datetime.datetime | None
    instances: int | None

    @property
    def open(self) -> bool:
        """Whether the destination is to get the job, and has not got all of it."""
        return self.delivered_at is None and self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class ConflictRow(Row):
    """A file whose SOP Instance UID stands for something else too: in this series, or in `other_series`.

    `name` is the file's, without .dcm; `chosen` is the name of the file that a person chose for the UID.
    """

    id: int
    series_instance_uid: str
    sop_instance_uid: str
    name: str
    other_series: str | None
    at: datetime.datetime
    chosen: str | None


@dataclass(frozen=True, slots=True)
class ReceiptRow(Row):
    """What a destination last answered for one instance, in which attempt; `taken` when it has it.

    `commitment` is what it reported of it since: 0 (it keeps it), a Failure Reason, or None (nothing yet).
    """

    job: str
    destination: str
    sop_instance_uid: str
    status: int
    taken: bool
    warning: bool
    comment: str
    at: datetime.datetime
    attempt: int | None
    commitment: int | None


@dataclass(frozen=True, slots=True)
class CommitmentRow(Row):
    """A storage commitment that was asked for: `listed` is SOP Instance UID -> SOP Class UID.

    `failed` (SOP Instance UID -> Failure Reason) is what was reported; None while nothing is.
    """

    requestor: str
    transaction_uid: str
    listed: dict[str, str]
    failed: dict[str, int] | None
    attempt: int
    asked_at: datetime.datetime
    due_at: datetime.datetime
    ended_at: datetime.datetime | None
    sentence: str


@dataclass(frozen=True, slots=True)
class ProofRow(Row):
    """A storage commitment that the node asks of a destination: `listed` is SOP Instance UID -> SOP Class UID.

    `failed` (SOP Instance UID -> Failure Reason) is what it reported; None while nothing is. The next visit is
    `attempt`, due at `due_at`. `sent_in` is the attempt at the delivery that is asked about.
    """

    transaction_uid: str
    job: str
    destination: str
    sent_in: int
    listed: dict[str, str] | None
    failed: dict[str, int] | None
    attempt: int
    since: datetime.datetime
    asked_at: datetime.datetime | None
    due_at: datetime.datetime
    ended_at: datetime.datetime | None
    alarmed_at: datetime.datetime | None
    sentence: str
