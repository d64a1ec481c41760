"""Rows of the ledger's tables as frozen values; the times in them are aware UTC datetimes."""

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
        """Take the columns that the class names from a row of the database."""
        return cls(**{one.name: value_of(one.name, row[one.name]) for one in dataclasses.fields(cls)})


def value_of(column: str, value: Any) -> Any:
    """Convert a column's value: Unix seconds to an aware UTC datetime, JSON to a dict or a tuple."""
    if value is None:
        return None
    if column in ("at", "since") or column.endswith("_at"):
        return datetime.datetime.fromtimestamp(value, datetime.UTC)
    if column in ("listed", "failed"):
        return json.loads(value)
    if column in ("sop_instance_uids", "destinations"):
        return tuple(json.loads(value))
    return State(value) if column == "state" else value


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions that a job keeps from when it is made, whatever the configuration says later.

    Attributes:
        model: Name of the model; `model_digest` is its SHA-256 (hex).
        configuration_digest: SHA-256 (hex) of `settings`.
        rule: Name of the rule that decided.
        destinations: Where the CT goes.
        settings: What of the configuration decides the result, as JSON.
        ignored: The sentence for which there will be no CT, or None.
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
        """Return the job's columns."""
        own = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "ignored"}
        return own | {"destinations": None if self.destinations is None else json.dumps(self.destinations)}


@dataclass(frozen=True, slots=True)
class SeriesRow(Row):
    """A series of which instances came; `job` is the job that took it as it is now."""

    series_instance_uid: str
    calling_ae: str
    instances: int
    first_at: datetime.datetime
    last_at: datetime.datetime
    job: str | None
    pause_s: float


@dataclass(frozen=True, slots=True)
class JobRow(Row):
    """A job: its state, and the reason for which it is held (`held`, a sentence) or ended (`reason_*`)."""

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
        """Return the Series Instance UID (0020,000E) of the MR series."""
        return self.series_instance_uid


def job_key(series_instance_uid: str, sop_instance_uids: Iterable[str], model_digest: str, config_digest: str) -> str:
    """Return the job's name: SHA-256 (hex) of what it is made of, so that asking twice is one job."""
    parts = [series_instance_uid, *sorted(sop_instance_uids), model_digest, config_digest]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EventRow(Row):
    """An event of a series or a job; `words` says more, `by` who decided it (None: the node)."""

    id: int
    at: datetime.datetime
    event: str
    series_instance_uid: str
    job: str | None
    state: State
    words: str
    by: str | None


@dataclass(frozen=True, slots=True)
class DeliveryRow(Row):
    """The delivery of a job to one destination: due at `due_at`, or ended at `delivered_at` or `withdrawn_at`.

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
        """Tell whether the destination is to get the job, and has not got all of it."""
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
    """The last answer of a destination for one instance (PS3.4 B.2.3), and the attempt in which it came.

    `taken`: the destination has it. `commitment` is what it reported since: 0 (it keeps it), a Failure Reason
    (0008,1197; PS3.3 C.14.1.1), or None (nothing yet).
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
    """A storage commitment that a sender asked for (PS3.4 J.3.2): `listed` is SOP Instance UID -> SOP Class UID.

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
    """A storage commitment that the node asks of a destination (PS3.4 J.3.2).

    `listed` is SOP Instance UID -> SOP Class UID; None before it is asked.
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
