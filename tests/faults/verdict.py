"""What must hold after any faults, whatever they were.

every acknowledged instance is in in/, byte for byte, with the digest of when it was written
no instance was kept twice with different bytes
every job is DELIVERED, REJECTED, or held; the newest job of each series has all of it and is DELIVERED
the same images have one job, a job has one CT series, no two jobs share a SOP Instance UID
a job was synthesized once, delivered once, and taken once by each destination
each destination has what was made for each DELIVERED job, byte for byte, and nothing that was not made
the receipts of a DELIVERED job are those of its instances, one for each destination, and each says it was taken
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peers import digest_of, sop_uid_of

from dicomnode.errors import Damaged, LedgerUnreachable
from dicomnode.ledger.states import State
from dicomnode.spool.instance_file import sop_class_of_intact

if TYPE_CHECKING:
    from peers import Planning, Sent

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

UNFINISHED = (State.RECEIVED, State.SYNTHESIZED)


@dataclass
class Case:
    """A node after its faults, and the peers that know what it was given and what they got."""

    data: Path
    ledger: Ledger
    sent: Sequence[Sent]
    plannings: Sequence[Planning]

    def complaints(self) -> list[str]:
        """Each breach in a sentence; empty when all holds."""
        return [*self._reception(), *self._jobs(), *self._series(), *self._destinations()]

    def counts(self) -> dict[str, object]:
        """What there is to be checked."""
        jobs = self.ledger.jobs()
        return {
            "series": len(self.sent),
            "acknowledged": sum(len(one.acknowledged) for one in self.sent),
            "jobs": dict(Counter("held" if row.held else str(row.state) for row in jobs)),
            "superseded": sum(row.superseded_by is not None for row in jobs),
            "rejected for": dict(Counter(row.reason_code for row in jobs if row.state is State.REJECTED)),
            "at destinations": {one.name: len(list(one.folder.iterdir())) for one in self.plannings},
        }

    def finished(self) -> bool:
        """Every series has a job, and nothing is on its way; False while the database does not answer."""
        try:
            jobs, receiving = self.ledger.jobs(), self.ledger.receiving()
        except LedgerUnreachable:
            return False
        known = {row.series_instance_uid for row in jobs}.issuperset(one.uid for one in self.sent)
        return known and not receiving and not any(row.state in UNFINISHED and row.held is None for row in jobs)

    def progress(self) -> tuple[int, int]:
        """Something that changes as long as anything happens."""
        jobs = self.ledger.jobs()
        left = sum(row.state in UNFINISHED and row.held is None for row in jobs)
        return len(jobs) - left, sum(len(list(one.folder.iterdir())) for one in self.plannings)

    def _reception(self) -> Iterator[str]:
        for one in self.sent:
            for uid in one.acknowledged:
                path = self.data / "in" / one.uid / f"{uid}.dcm"
                if not path.exists():
                    yield f"{uid} was acknowledged and is not there"
                    continue
                if digest_of(path) != digest_of(one.files[uid]):
                    yield f"{uid} was acknowledged and has other bytes"
                try:
                    sop_class_of_intact(path)
                except Damaged as error:
                    yield str(error)
        yield from (f"{path.name}: the same UID with other bytes" for path in self.data.glob("in/*/*~*.dcm"))

    def _jobs(self) -> Iterator[str]:
        owners: dict[str, str] = {}
        for row in self.ledger.jobs():
            name = f"job {row.job[:12]}"
            if row.state in UNFINISHED and row.held is None:
                yield f"{name} is still {row.state}"
            facts = Counter(str(event.event) for event in self.ledger.events(row.job))
            once = {"synthesized": 1, "delivered": 1, "accepted": len(self.plannings)}
            yield from (f"{name} was {fact} {facts[fact]} times" for fact in once if facts[fact] > once[fact])
            if row.state is State.DELIVERED:
                yield from self._receipts(row)
            for uid in self._made(row.job):
                if owners.setdefault(uid, row.job) != row.job:
                    yield f"{name} and job {owners[uid][:12]} made the same instance {uid}"

    def _receipts(self, row: JobRow) -> Iterator[str]:
        expected = {(one.name, uid) for one in self.plannings for uid in self._made(row.job)}
        taken = [(one.destination, one.sop_instance_uid) for one in self.ledger.receipts(row.job) if one.taken]
        if Counter(taken) != Counter(expected):
            yield f"job {row.job[:12]} has {len(taken)} receipts that say taken, {len(expected)} are due"

    def _series(self) -> Iterator[str]:
        rows: dict[str, list[JobRow]] = defaultdict(list)
        for row in self.ledger.jobs():
            rows[row.series_instance_uid].append(row)
        for one in self.sent:
            jobs = rows[one.uid]
            sets = Counter(tuple(row.sop_instance_uids) for row in jobs)
            if any(count > 1 for count in sets.values()):
                yield f"series {one.uid}: the same images have several jobs"
            last = [row for row in jobs if row.superseded_by is None]
            if [set(row.sop_instance_uids) for row in last] != [set(one.files)] or last[0].state is not State.DELIVERED:
                said = [(len(row.sop_instance_uids), str(row.state), row.held) for row in last]
                yield f"series {one.uid} of {len(one.files)} ended as {said}"

    def _destinations(self) -> Iterator[str]:
        made = {uid: digest for row in self.ledger.jobs() for uid, digest in self._made(row.job).items()}
        delivered = [row for row in self.ledger.jobs() if row.state is State.DELIVERED]
        due = {uid for row in delivered for uid in self._made(row.job)}
        for planning in self.plannings:
            has = planning.instances()
            for uid in due - has.keys():
                yield f"{planning.name} lacks {uid}, which counts as delivered"
            for uid, digest in has.items():
                if uid not in made:
                    yield f"{planning.name} has {uid}, which was never made"
                elif made[uid] != digest and uid in due:
                    yield f"{planning.name} has other bytes of {uid}"

    def _made(self, job: str) -> dict[str, str]:
        """SOP Instance UID -> digest of the data set, of what lies in out/."""
        return {sop_uid_of(path): digest_of(path) for path in (self.data / "out" / job).glob("*.dcm")}
