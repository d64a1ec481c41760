"""Contradictions: a SOP Instance UID that stands for two things. Both are kept, and a person decides.

PS3.5 9.1 and PS3.3 C.12.1: a UID names one object. Where a sender breaks that,

    what came                                      what happens
    the same UID in the same series, other bytes   kept as in/<series>/<UID>~<digest>.dcm; the series' job is held
    the same UID in another series                 kept there; the job of the series that came later is held

A held job keeps its state, also after its delivery, which cannot be taken back. It continues when a person says which
bytes to use: `first` (that came) or `last`; the choice stands for every later job of the series. Bytes other than the
job's own make another job, which supersedes it (`dicomnode.ledger.superseding`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import sqlalchemy as sa

from dicomnode.errors import WrongState
from dicomnode.ledger.database import Then, fetch, transaction
from dicomnode.ledger.rows import ConflictRow, JobRow, job_key
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.superseding import delivered_by_all, open_job
from dicomnode.ledger.tables import conflicts, instances, jobs, series
from dicomnode.ledger.transitions import held_for, locked, release, step

Use = Literal["first", "last"]
"""Which of several contents of a SOP Instance UID is used: what came first, or what came last."""

CODE: Final = "CONFLICTING_INSTANCES"
NAMED: Final = 5
"""UIDs that the sentence names at most; `sct-node show` lists the files."""
_AT_ONCE: Final = 500
"""Values in one SQL list: SQLite takes 999 in its oldest versions."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file `name`.dcm that came under a SOP Instance UID which this series, or `other_series`, had before."""

    sop_instance_uid: str
    name: str
    other_series: str | None = None


@dataclass(frozen=True, slots=True)
class NewConflicts:
    """The contradictions of a series that were not known before, and the job held for them, if any."""

    new: tuple[Conflict, ...]
    held: str | None


def plain_uid(name: str) -> str:
    """Return the SOP Instance UID in a file's name: what is before `~`."""
    return name.partition("~")[0]


def names_of(sop_instance_uids: Iterable[str], rows: Iterable[ConflictRow]) -> list[str]:
    """Return the files that stand for instances, sorted: a person's choice, or else what came first."""
    chosen = {row.sop_instance_uid: row.chosen for row in rows if row.chosen}
    return sorted(chosen.get(uid, uid) for uid in sop_instance_uids)


def sentence(rows: Sequence[ConflictRow]) -> str:
    """Say what is contradictory, and what a person can do."""
    own = list(dict.fromkeys(row.sop_instance_uid for row in rows if row.other_series is None))
    others = dict.fromkeys((row.sop_instance_uid, row.other_series) for row in rows if row.other_series)
    parts = []
    if own:
        more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
        parts.append(f"SOP instance {', '.join(own[:NAMED])}{more} came again with different content")
    parts += [f"SOP instance {uid} belongs to series {other} too" for uid, other in islice(others, NAMED)]
    parts += [f"{len(others) - NAMED} more belong to other series"] if len(others) > NAMED else []
    return f"{'; '.join(parts)}; all are kept, and release takes --use first or --use last"


# Steps, inside a transaction that the caller has begun


def undecided(connection: sa.Connection, job: JobRow) -> list[ConflictRow]:
    """Return the contradictions about a job's instances that nobody has decided."""
    uids = {plain_uid(name) for name in job.sop_instance_uids}
    rows = _rows(connection, job.series_instance_uid)
    return [row for row in rows if row.chosen is None and row.sop_instance_uid in uids]


def hold(connection: sa.Connection, job: str) -> bool:
    """Hold a job while there are undecided contradictions about it; -> whether there are (and it has not ended)."""
    row = locked(connection, job)
    rows = undecided(connection, row)
    if not rows or row.state is State.REJECTED:
        return False
    words = sentence(rows)
    if row.held is not None and row.reason_code != CODE:
        words += f"; besides, {row.reason_code}: {row.held}"
    step(connection, JobEvent.CONFLICTED, job, words, held_for((CODE, words)))
    return True


def _rows(connection: sa.Connection, series_instance_uid: str) -> list[ConflictRow]:
    return [ConflictRow.of(row) for row in connection.execute(_of_series(series_instance_uid)).mappings()]


def _of_series(series_instance_uid: str) -> sa.Select[Any]:
    query = sa.select(conflicts).where(conflicts.c.series_instance_uid == series_instance_uid)
    return query.order_by(conflicts.c.id)


class Conflicts:
    """The contradictions that the node knows, in the ledger's database. Any thread and process may use it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, series_instance_uid: str) -> list[ConflictRow]:
        """Return the contradictions of a series, in the order in which they were seen."""
        return [ConflictRow.of(row) for row in fetch(self._engine, _of_series(series_instance_uid))]

    def seen(self) -> dict[str, int]:
        """Return how many instances of each series (by its UID) have been looked at."""
        source = instances.c.series_instance_uid
        query = sa.select(source, sa.func.count().label("seen")).group_by(source)
        return {row["series_instance_uid"]: row["seen"] for row in fetch(self._engine, query)}

    def missing(self, sop_instance_uids: Collection[str]) -> frozenset[str]:
        """Return those of the instances that have not been seen in any series."""
        left = frozenset(sop_instance_uids)
        with transaction(self._engine) as connection:
            for some in _batches(sorted(left)):
                query = sa.select(instances.c.sop_instance_uid).where(instances.c.sop_instance_uid.in_(some))
                left -= set(connection.execute(query).scalars())
        return left

    def found(
        self, series_instance_uid: str, sop_instance_uids: Collection[str], files: Collection[str]
    ) -> NewConflicts:
        """Record that instances of a series were looked at; `files`: those whose UID was there with other content.

        The newest job of the series is held if it uses a UID that is contradictory now.
        """
        with transaction(self._engine) as connection:
            known = {row.name for row in _rows(connection, series_instance_uid)}
            fresh = note_instances(connection, series_instance_uid, sop_instance_uids)
            others: dict[str, str] = {}
            for some in _batches(fresh):
                same = instances.c.sop_instance_uid.in_(some)
                query = sa.select(instances).where(same, instances.c.series_instance_uid != series_instance_uid)
                rows = connection.execute(query).mappings()
                others |= {row["sop_instance_uid"]: row["series_instance_uid"] for row in rows}
            every = [Conflict(plain_uid(name), name) for name in files]
            every += [Conflict(uid, uid, other) for uid, other in others.items()]
            new = tuple(one for one in every if one.name not in known)
            for one in new:
                row = {"series_instance_uid": series_instance_uid, "at": time.time(), "name": one.name}
                row |= {"sop_instance_uid": one.sop_instance_uid, "other_series": one.other_series}
                connection.execute(sa.insert(conflicts).values(row))
            newest = sa.select(jobs.c.job).where(jobs.c.series_instance_uid == series_instance_uid)
            newest = newest.order_by(jobs.c.created_at.desc()).limit(1)
            job = connection.execute(newest).scalar_one_or_none() if new else None
            return NewConflicts(new, job if job is not None and hold(connection, job) else None)

    def decide(
        self,
        job: str,
        use: Use,
        reason: str,
        continues: Then,
        begins: Callable[[str], Then],
        by: str | None = None,
    ) -> str:
        """Record which bytes of a held job a person (`by`) wants to be used.

        Args:
            continues: Writes the queue entry of this job, in the same transaction, where it continues.
            begins: Job -> writes the queue entry of a new job, where the chosen bytes make another one.

        Returns:
            The job that continues: this one, or the new one.

        Raises:
            WrongState: The job is not held, has no undecided contradiction, or there has been a job of these bytes.
        """
        with transaction(self._engine) as connection:
            row = locked(connection, job)
            rows = undecided(connection, row)
            if row.held is None or not rows:
                raise WrongState(f"job {job[:12]} is not held for a SOP instance with two contents: no --use")
            write_choice(connection, rows, use)
            names = names_of(map(plain_uid, row.sop_instance_uids), _rows(connection, row.series_instance_uid))
            words = f"{reason} (of each SOP instance the content that came {use})"
            if names == list(row.sop_instance_uids):
                release(connection, job, words, by)
                delivered_by_all(connection, job)
                continues(connection)
                return job
            other = open_with(connection, row, names, words, by)
            begins(other)(connection)
            return other


def write_choice(connection: sa.Connection, rows: Sequence[ConflictRow], use: Use) -> None:
    """Write a person's choice into every row of the UIDs in question; a UID of two series needs no choice of bytes."""
    for row in rows:
        same = (conflicts.c.series_instance_uid == row.series_instance_uid) & (
            conflicts.c.sop_instance_uid == row.sop_instance_uid
        )
        query = sa.select(conflicts.c.name).where(same, conflicts.c.other_series.is_(None)).order_by(conflicts.c.id)
        came = [row.sop_instance_uid, *connection.execute(query).scalars()]
        chosen = came[0] if use == "first" else came[-1]
        connection.execute(sa.update(conflicts).where(same).values(chosen=chosen))


def open_with(connection: sa.Connection, row: JobRow, names: Sequence[str], words: str, by: str | None) -> str:
    """Open a job like `row`, of other files; -> its key. Raises WrongState when there has been one."""
    columns = connection.execute(sa.select(jobs).where(jobs.c.job == row.job)).mappings().one()
    job = job_key(row.series_instance_uid, names, row.model_digest, row.configuration_digest)
    if connection.execute(sa.select(jobs.c.job).where(jobs.c.job == job)).first() is not None:
        raise WrongState(f"job {job[:12]} has been made of these contents already; see sct-node show {job[:12]}")
    copied: dict[str, Any] = {key: value for key, value in columns.items() if key not in _OWN}
    copied |= {"job": job, "sop_instance_uids": json.dumps(list(names))}
    open_job(connection, copied, words, "a person chose other content of a SOP instance", by)
    taking = sa.update(series).where(series.c.series_instance_uid == row.series_instance_uid, series.c.job == row.job)
    connection.execute(taking.values(job=job))
    return job


_HELD: Final = frozenset(("held", "reason_code", "reason_sentence"))
_MADE: Final = frozenset(("state", "attempt", "failures", "ct_series_uid", "ct_instances", "created_at", "updated_at"))
_OWN: Final = _HELD | _MADE | {"supersedes", "superseded_by", "replaces"}
"""Columns of a job that are its own history; the others say what is made of what, and how."""


def note_instances(connection: sa.Connection, series_instance_uid: str, uids: Collection[str]) -> list[str]:
    """Remember where instances have been seen; -> those that had not been seen in this series, sorted."""
    query = sa.select(instances.c.sop_instance_uid).where(instances.c.series_instance_uid == series_instance_uid)
    new = sorted(set(uids) - set(connection.execute(query).scalars()))
    rows = [{"sop_instance_uid": uid, "series_instance_uid": series_instance_uid} for uid in new]
    if rows:
        connection.execute(sa.insert(instances), rows)
    return new


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
