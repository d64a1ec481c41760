"""Contradictions: a SOP Instance UID that stands for two things. Both are kept, and a person decides.

    what came                                      what happens
    the same UID in the same series, other bytes   kept as in/<series>/<UID>~<digest>.dcm; the series' job is held
    the same UID in another series                 kept there; the job of the series that came later is held

A held job is held where it is, also after its delivery, which cannot be taken back. It goes on when a person says which
bytes to use: `first` (that came) or `last`; then the choice stands for every later job of the series. Bytes other than
the job's own make another job, which supersedes it (`dicomnode.ledger.superseding`).
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
from dicomnode.ledger.database import Then, transaction
from dicomnode.ledger.rows import ConflictRow, JobRow, job_key
from dicomnode.ledger.states import JobEvent, State
from dicomnode.ledger.superseding import delivered_by_all, open_job
from dicomnode.ledger.tables import conflicts, instances, jobs, series
from dicomnode.ledger.transitions import held_for, locked, release, step

Use = Literal["first", "last"]
"""Which of several contents of a SOP Instance UID is used: what came first, or what came last."""

CODE: Final = "CONFLICTING_INSTANCES"
NAMED: Final = 5
"""So many UIDs are named in the sentence; `sct-node show` lists the files."""
_AT_ONCE: Final = 500
"""Values in one SQL list: SQLite takes 999 in its oldest versions."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file `name`.dcm that came under a SOP Instance UID which this series, or `other_series`, had before."""

    sop_instance_uid: str
    name: str
    other_series: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a series found that was not known, and the job held for it, if any."""

    new: tuple[Conflict, ...]
    held: str | None


def plain_uid(name: str) -> str:
    """The SOP Instance UID in a file's name: what is before `~`."""
    return name.partition("~")[0]


def names_of(sop_instance_uids: Iterable[str], rows: Iterable[ConflictRow]) -> list[str]:
    """The files that stand for instances, sorted: a person's choice, or else what came first."""
    chosen = {row.sop_instance_uid: row.chosen for row in rows if row.chosen}
    return sorted(chosen.get(uid, uid) for uid in sop_instance_uids)


def sentence(rows: Sequence[ConflictRow]) -> str:
    """What is contradictory, and what a person can do."""
    own = dict.fromkeys(row.sop_instance_uid for row in rows if row.other_series is None)
    others = dict.fromkeys((row.sop_instance_uid, row.other_series) for row in rows if row.other_series)
    parts = [f"SOP instance {_listed(list(own))} came again with different content"] if own else []
    parts += [f"SOP instance {uid} belongs to series {other} too" for uid, other in islice(others, NAMED)]
    parts += [f"{len(others) - NAMED} more belong to other series"] if len(others) > NAMED else []
    return f"{'; '.join(parts)}; all are kept, and release takes --use first or --use last"


def _listed(uids: list[str]) -> str:
    more = f" and {len(uids) - NAMED} more" if len(uids) > NAMED else ""
    return ", ".join(uids[:NAMED]) + more


# Steps, inside a transaction that the caller has begun


def undecided(connection: sa.Connection, job: JobRow) -> list[ConflictRow]:
    """The contradictions about a job's instances that nobody has decided."""
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
    query = sa.select(conflicts).where(conflicts.c.series_instance_uid == series_instance_uid)
    return [ConflictRow.of(row) for row in connection.execute(query.order_by(conflicts.c.id)).mappings()]


class Conflicts:
    """The contradictions that the node knows, in the ledger's database. Any thread and process may use it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, series_instance_uid: str) -> list[ConflictRow]:
        """The contradictions of a series, in the order in which they were seen."""
        with transaction(self._engine) as connection:
            return _rows(connection, series_instance_uid)

    def seen(self) -> dict[str, int]:
        """Series Instance UID -> how many of its instances have been looked at."""
        source = instances.c.series_instance_uid
        query = sa.select(source, sa.func.count().label("seen")).group_by(source)
        with transaction(self._engine) as connection:
            return {row["series_instance_uid"]: row["seen"] for row in connection.execute(query).mappings()}

    def missing(self, sop_instance_uids: Collection[str]) -> frozenset[str]:
        """Those of the instances that have not been seen in any series."""
        left = frozenset(sop_instance_uids)
        with transaction(self._engine) as connection:
            for some in _batches(sorted(left)):
                query = sa.select(instances.c.sop_instance_uid).where(instances.c.sop_instance_uid.in_(some))
                left -= set(connection.execute(query).scalars())
        return left

    def found(self, series_instance_uid: str, sop_instance_uids: Collection[str], files: Collection[str]) -> Found:
        """Instances of a series were looked at; `files` are those whose UID was there with other content.

        The newest job of the series is held if it uses a UID that is contradictory now.
        """
        with transaction(self._engine) as connection:
            known = {row.name for row in _rows(connection, series_instance_uid)}
            fresh = _noted(connection, series_instance_uid, sop_instance_uids)
            others = _elsewhere(connection, series_instance_uid, fresh)
            every = [Conflict(plain_uid(name), name) for name in files]
            every += [Conflict(uid, uid, other) for uid, other in others.items()]
            new = tuple(one for one in every if one.name not in known)
            for one in new:
                row = {"series_instance_uid": series_instance_uid, "at": time.time(), "name": one.name}
                row |= {"sop_instance_uid": one.sop_instance_uid, "other_series": one.other_series}
                connection.execute(sa.insert(conflicts).values(row))
            job = _newest_job(connection, series_instance_uid) if new else None
            return Found(new, job if job is not None and hold(connection, job) else None)

    def decide(
        self, job: str, use: Use, reason: str, going_on: Then, anew: Callable[[str], Then], by: str | None = None
    ) -> str:
        """A person (`by`) says which bytes of a held job are used; -> the job that goes on: this one, or a new one.

        Their queue entries, `going_on` or `anew(job)`, are made in the same transaction. Raises WrongState when the job
        is not held, has no undecided contradiction, or there has been a job of the chosen bytes.
        """
        with transaction(self._engine) as connection:
            row = locked(connection, job)
            rows = undecided(connection, row)
            if row.held is None or not rows:
                raise WrongState(f"job {job[:12]} is not held for a SOP instance with two contents: no --use")
            _choose(connection, rows, use)
            names = names_of(map(plain_uid, row.sop_instance_uids), _rows(connection, row.series_instance_uid))
            words = f"{reason} (of each SOP instance the content that came {use})"
            if names == list(row.sop_instance_uids):
                release(connection, job, words, by)
                delivered_by_all(connection, job)
                going_on(connection)
                return job
            other = _other_bytes(connection, row, names, words, by)
            anew(other)(connection)
            return other


def _choose(connection: sa.Connection, rows: Sequence[ConflictRow], use: Use) -> None:
    """Write a person's choice into every row of the UIDs in question; a UID of two series needs none of bytes."""
    for row in rows:
        same = (conflicts.c.series_instance_uid == row.series_instance_uid) & (
            conflicts.c.sop_instance_uid == row.sop_instance_uid
        )
        query = sa.select(conflicts.c.name).where(same, conflicts.c.other_series.is_(None)).order_by(conflicts.c.id)
        came = [row.sop_instance_uid, *connection.execute(query).scalars()]
        chosen = came[0] if use == "first" else came[-1]
        connection.execute(sa.update(conflicts).where(same).values(chosen=chosen))


def _other_bytes(connection: sa.Connection, row: JobRow, names: Sequence[str], words: str, by: str | None) -> str:
    """Open a job like `row`, of other files. Raises WrongState when there has been one."""
    columns = connection.execute(sa.select(jobs).where(jobs.c.job == row.job)).mappings().one()
    made_of = (row.series_instance_uid, names, row.model_digest, row.configuration_digest)
    job = job_key(*made_of)
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


def _newest_job(connection: sa.Connection, series_instance_uid: str) -> str | None:
    query = sa.select(jobs.c.job).where(jobs.c.series_instance_uid == series_instance_uid)
    return connection.execute(query.order_by(jobs.c.created_at.desc()).limit(1)).scalar_one_or_none()


def _noted(connection: sa.Connection, series_instance_uid: str, sop_instance_uids: Collection[str]) -> list[str]:
    """Remember where instances have been seen; -> those that had not been seen in this series, sorted."""
    query = sa.select(instances.c.sop_instance_uid).where(instances.c.series_instance_uid == series_instance_uid)
    new = sorted(set(sop_instance_uids) - set(connection.execute(query).scalars()))
    rows = [{"sop_instance_uid": uid, "series_instance_uid": series_instance_uid} for uid in new]
    if rows:
        connection.execute(sa.insert(instances), rows)
    return new


def _elsewhere(connection: sa.Connection, series_instance_uid: str, sop_instance_uids: list[str]) -> dict[str, str]:
    """SOP Instance UID -> a series other than this one that has it too."""
    found: dict[str, str] = {}
    for some in _batches(sop_instance_uids):
        here = instances.c.series_instance_uid == series_instance_uid
        rows = connection.execute(sa.select(instances).where(instances.c.sop_instance_uid.in_(some), ~here)).mappings()
        found |= {row["sop_instance_uid"]: row["series_instance_uid"] for row in rows}
    return found


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
