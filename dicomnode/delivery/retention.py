"""What is delivered everywhere, and long ago, may be deleted: off unless `retention.delivered_after_s` says when.

    kept in any case                                                          because
    a job that is not DELIVERED, or is held                                   its work is not done
    a series with a contradiction, decided or not                             a person may want to look again
    a job that a destination has not proved, where it was asked to            it may have to be sent once more
    a series with files that its delivered job is not made of                 they are somebody's only copy
    what was promised by storage commitment (`Spool.promise`)                 a commitment has no end (PS3.4 Annex J);
                                                                              only `retention.promised` lifts this

First the fact is written (ledger, audit trail, log), then a folder gets another name, then it is removed: killed
anywhere, the rest is done by the next run or by `Spool.sweep`. When images of a deleted series are sent again they are
stored and acknowledged, and make no second job (`dicomnode.reception.intake`); when they have grown old they are
deleted again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dicomnode import log
from dicomnode.commitment.proofs import Proofs
from dicomnode.errors import WrongState
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts
from dicomnode.security.audit_trail import Event

if TYPE_CHECKING:
    from dicomnode.config.load import Config
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow
    from dicomnode.security.audit_trail import AuditTrail
    from dicomnode.spool.spool import Spool


class RetentionSweep:
    """Looks now and then for what may go. Any number of processes may do so at once."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool, trail: AuditTrail) -> None:
        self._settings = config.retention
        self._ledger = ledger
        self._spool = spool
        self._trail = trail
        self._conflicts = Conflicts(ledger.engine)
        self._proofs = Proofs(ledger.engine)

    def run(self) -> None:
        """Delete what may go."""
        if self._settings.delivered_after_s is None:
            return
        before = time.time() - self._settings.delivered_after_s
        jobs = self._ledger.jobs()
        busy = {row.series_instance_uid for row in jobs if row.state in (State.RECEIVED, State.SYNTHESIZED) or row.held}
        for row in jobs:
            if row.state is State.DELIVERED and row.held is None and row.series_instance_uid not in busy:
                self._look(row, before)

    def _look(self, row: JobRow, before: float) -> None:
        """Delete what is left of a job and its series, if it may go."""
        source = row.series_instance_uid
        result, files = self._spool.published(row.job), self._spool.series_files(source)
        if (result is None and not files) or not self._old(row, before) or self._conflicts.of(source):
            return
        current = self._ledger.job_of(source)
        strange = {path.stem for path in files} - {*row.sop_instance_uids}
        owned = current is not None and current.job == row.job and not strange
        last = max((path.stat().st_ctime for path in files), default=0.0)
        takes_series = owned and last < before and bool(files)
        if result is not None or takes_series:
            self._delete(row, series=takes_series, result=result is not None)

    def _old(self, row: JobRow, before: float) -> bool:
        """Whether every destination has had the job since before then, and proved it where it was asked to."""
        deliveries = [one for one in self._ledger.deliveries(row.job) if one.withdrawn_at is None]
        delivered = [one.delivered_at for one in deliveries]
        long_ago = all(at is not None and at.timestamp() < before for at in delivered)
        return (
            bool(delivered)
            and long_ago
            and all(proof.ended_at and not proof.failed for proof in self._proofs.of(row.job))
        )

    def _delete(self, row: JobRow, *, series: bool, result: bool) -> None:
        """Say it, then do it; a series that was promised meanwhile stays."""
        source = row.series_instance_uid
        if series and not self._settings.promised and self._spool.promised(source):
            series = False
            if not result:
                return
        what = " and ".join(["received images"] * series + ["CT"] * result)
        words = f"delivered everywhere before {self._settings.delivered_after_s:g} s: {what} deleted"
        try:
            self._ledger.deleted(row.job, words)
        except WrongState:
            return  # sent once more meanwhile
        both, count = [uid for uid in (source, row.ct_series_uid) if uid], len(row.sop_instance_uids)
        self._trail.record(Event.DELETED, by="node", job=row.job, series=both, instances=count, words=words)
        log.event("series_deleted", job=row.job, series=source, what=what)
        if result:
            self._spool.discard_result(row.job)
        if series:
            self._spool.discard_series(source, even_promised=self._settings.promised)
