"""Deletes what was delivered everywhere long ago; off unless `retention.delivered_after_s` is set.

    kept in any case                                                          because
    a job that is not DELIVERED, or is held                                   its work is not done
    a series with a UID conflict, decided or not                              a person may want to look again
    a job that a destination was asked to commit to, and has not              it may have to be sent again
    a series with files that its delivered job does not contain               they may be the only copy
    instances that the node has committed to (`Spool.promise`)                a commitment has no end (PS3.4 Annex J);
                                                                              only `retention.promised` lifts this

The deletion is recorded first (ledger, audit trail, log), then a folder is renamed, then it is removed: after a crash
at any point, the next run or `Spool.sweep` does the rest. When images of a deleted series are sent again they are
stored and acknowledged, and make no second job (`dicomnode.reception.intake`); old ones are deleted again.
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
    """Deletes old jobs and their series. Any number of processes may do so at once."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool, trail: AuditTrail) -> None:
        self._settings = config.retention
        self._ledger = ledger
        self._spool = spool
        self._trail = trail
        self._conflicts = Conflicts(ledger.engine)
        self._proofs = Proofs(ledger.engine)

    def run(self) -> None:
        """Delete everything that may be deleted now."""
        if self._settings.delivered_after_s is None:
            return
        before = time.time() - self._settings.delivered_after_s
        jobs = self._ledger.jobs()
        busy = {row.series_instance_uid for row in jobs if row.state in (State.RECEIVED, State.SYNTHESIZED) or row.held}
        for row in jobs:
            if row.state is State.DELIVERED and row.held is None and row.series_instance_uid not in busy:
                self.delete_old(row, before)

    def delete_old(self, row: JobRow, before: float) -> None:
        """Delete the files of a job that every destination has had since `before` (Unix time), and of its series.

        A series that its delivered job does not contain whole, or that has grown since, is kept.
        """
        source = row.series_instance_uid
        has_result, files = self._spool.published(row.job) is not None, self._spool.series_files(source)
        delivered = [one.delivered_at for one in self._ledger.deliveries(row.job) if one.withdrawn_at is None]
        long_ago = bool(delivered) and all(at is not None and at.timestamp() < before for at in delivered)
        if not (has_result or files) or not long_ago or self._conflicts.of(source):
            return
        if not all(proof.ended_at and not proof.failed for proof in self._proofs.of(row.job)):
            return
        current = self._ledger.job_of(source)
        strange = {path.stem for path in files} - {*row.sop_instance_uids}
        last = max((path.stat().st_ctime for path in files), default=0.0)
        owned = bool(files) and current is not None and current.job == row.job and not strange and last < before
        with_series = owned and (self._settings.promised or not self._spool.promised(source))
        if has_result or with_series:
            self._delete(row, series=with_series, result=has_result)

    def _delete(self, row: JobRow, *, series: bool, result: bool) -> None:
        """Record the deletion, then delete; a series to which the node commits meanwhile is kept."""
        source = row.series_instance_uid
        what = " and ".join(["received images"] * series + ["CT"] * result)
        words = f"delivered everywhere before {self._settings.delivered_after_s:g} s: {what} deleted"
        try:
            self._ledger.deleted(row.job, words)
        except WrongState:
            return  # it was sent again meanwhile
        both, count = [uid for uid in (source, row.ct_series_uid) if uid], len(row.sop_instance_uids)
        self._trail.record(Event.DELETED, by="node", job=row.job, series=both, instances=count, words=words)
        log.event("series_deleted", job=row.job, series=source, what=what)
        if result:
            self._spool.discard_result(row.job)
        if series:
            self._spool.discard_series(source, even_promised=self._settings.promised)
