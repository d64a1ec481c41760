"""The intake turns arrivals into jobs; it is the tick of the receive process, of about a second.

The files on the disk are the truth. Each tick notes in the ledger what has come, asks `settle` which series are
complete, and hands those over: it writes one job for the set of instances on the disk, and its queue entry, in one
transaction. A series whose set of instances has a job already (the same images were sent again) is forgotten silently.
At start, everything on the disk that no job has taken is examined again, so a crash at any point loses nothing.

Two events raise an alarm (a log event of level error, and a metric): instances that come after a job has taken their
series, before the ledger notes them, and a SOP Instance UID with two contents, after the ledger holds the job.
`sct-node jobs` shows both for ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dicomnode import log, metrics
from dicomnode.commitment.requests import Commitments
from dicomnode.errors import LedgerUnreachable
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.states import State
from dicomnode.ledger.superseding import SUPERSEDED
from dicomnode.ledger.uid_conflicts import CODE, NAMED, Conflicts, names_of
from dicomnode.reception.evidence import Evidence
from dicomnode.reception.other_receivers import SingleReceiver
from dicomnode.reception.settle import Patience, is_still, merge, settled
from models.inference.card import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.config.rules import Decision
    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.reception.other_receivers import Receivers
    from dicomnode.reception.settle import Reason, Stack
    from dicomnode.reception.storage_scp import Receiver
    from dicomnode.spool.spool import Arrival, Spool


class Intake:
    """Notes arrivals, settles series and opens jobs; called from one thread of one process for each receiver."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        queues: Queues,
        spool: Spool,
        receiver: Receiver,
        receivers: Receivers | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool
        self._receiver = receiver
        self._receivers = receivers or SingleReceiver()
        self._conflicts = Conflicts(ledger.engine)
        self._evidence = Evidence(config, Commitments(ledger.engine).requests, self._conflicts.missing)
        self._noted: dict[str, int] = {}
        self._compared: dict[str, tuple[int, int]] = {}

    def adopt(self) -> None:
        """Adopt the series on the disk that no job has taken; called once, before the first tick."""
        seen = self._conflicts.seen()
        self._receiver.adopt(one for one in self._spool.scan() if not self._is_taken(one, seen.get(one.series_uid, 0)))

    def tick(self) -> None:
        """Examine each series that is arriving; an error in one is logged, and it is examined again by the next tick.

        Raises LedgerUnreachable.
        """
        arrivals = self._receiver.arrivals()
        others = self._receivers.exchange(arrivals)
        for uid, arrival in arrivals.items():
            try:
                with self._receivers.claim(uid) as mine:
                    merged = merge(arrival, others.arrivals.get(uid, ()))
                    done = mine and self._handle(merged, all_known=others.exchanged_at > merged.last_at)
                if done and self._receiver.forget(arrival):  # when more has come meanwhile, the next tick examines it
                    self._noted.pop(uid, None)
                    self._compared.pop(uid, None)
                    self._evidence.forget(uid)
            except LedgerUnreachable:
                raise
            except Exception:
                log.exception("series_not_handed_over", series=arrival.series_uid)
        if others.dead:
            log.event("receiver_adopted", level="warning", receivers=sorted(others.dead))
            self.adopt()
            self._receivers.forget_dead(others.dead)

    def _is_taken(self, arrival: Arrival, seen: int) -> bool:
        """Return whether a job has the series as it is on the disk, and its conflicts are known."""
        job, rows = self._ledger.job_of(arrival.series_uid), self._conflicts.of(arrival.series_uid)
        known = {row.name for row in rows}.issuperset(path.stem for path in self._spool.conflicts(arrival.series_uid))
        whole = job is not None and list(job.sop_instance_uids) == names_of(arrival.sop_uids, rows)
        return whole and known and seen == len(arrival.sop_uids)

    def _handle(self, arrival: Arrival, *, all_known: bool) -> bool:
        """Note a series, and open its job once it is settled; return whether it can be forgotten.

        `arrival` is what all receivers know of it. It is not settled before every other receiver has written what it
        knows after the last instance came (`all_known`).
        """
        uid = arrival.series_uid
        sop_uids = [path.stem for path in self._spool.instances(uid)]
        self.note_conflicts(arrival, sop_uids)
        names = names_of(sop_uids, self._conflicts.of(uid))
        job = self._ledger.job_of(uid)
        if job is not None and list(job.sop_instance_uids) == names:
            return True
        if job is not None and not {name.partition("~")[0] for name in job.sop_instance_uids} <= set(sop_uids):
            # Other instances of the job were deleted: these are kept, and no smaller CT is made of them.
            named = {"series": uid, "job": job.job, "instances": len(arrival.sop_uids)}
            log.event("deleted_series_received", level="warning", **named)
            return True
        self.note_arrival(arrival, len(names))
        paths = [self._spool.series_folder(uid) / f"{name}.dcm" for name in names]
        reason = self.reason_of(arrival, paths) if all_known else None
        if reason is None:
            return False
        self.open_job(arrival, names, self._evidence.decision(uid, arrival.calling_ae, paths), reason)
        return True

    def reason_of(self, arrival: Arrival, paths: Sequence[Path]) -> Reason | None:
        """Return the reason why a series is complete, or None while it is not."""
        settle, now = self._config.settle, time.monotonic()
        habit_s = self._ledger.longest_pause_s(arrival.calling_ae)
        patience = Patience(settle.quiet_s, settle.grace_s, self._config.receive.idle_timeout_s, habit_s)
        stack: Stack = "unknown"
        if is_still(arrival, now, patience):
            stack = self._evidence.stack(arrival.series_uid, arrival.calling_ae, paths)
        return settled(arrival, stack, now, patience).reason

    def note_conflicts(self, arrival: Arrival, sop_uids: Sequence[str]) -> None:
        """Note in the ledger, and raise the alarm for, each SOP Instance UID with two contents.

        A UID names one instance only (PS3.5 9), so a person must decide. Each set of files is compared once.
        """
        uid, files = arrival.series_uid, [path.stem for path in self._spool.conflicts(arrival.series_uid)]
        compared = (len(sop_uids), len(files))
        if self._compared.get(uid) == compared:
            return
        found = self._conflicts.found(uid, sop_uids, files)
        self._compared[uid] = compared
        if not found.new:
            return
        uids = [one.sop_instance_uid for one in found.new]
        others = sorted({one.other_series for one in found.new if one.other_series})
        named = {"instances": len(uids), "sop_instances": uids[:NAMED], "other_series": others[:NAMED], "series": uid}
        log.event("uid_conflict", level="error", job=found.held, **named)
        metrics.INSTANCE_CONFLICTS.labels(sop_class="other").inc(sum(one.other_series is not None for one in found.new))
        if found.held is not None:
            metrics.HELD.labels(reason=CODE).inc()

    def note_arrival(self, arrival: Arrival, instances: int) -> None:
        """Note in the ledger what has come, if it is more than before; raise the alarm when it comes after its job.

        The time by which it is late counts as a pause of the sender where it is worth waiting for next time.
        """
        uid = arrival.series_uid
        if self._noted.get(uid) == instances:
            return
        pause_s = arrival.pause_s
        before, job = self._ledger.series(uid), self._ledger.job_of(uid)
        if before is not None and job is not None:
            late_s = _unix_time(arrival.first_at) - before.last_at.timestamp()
            named = {"series": uid, "job": job.job, "state": str(job.state), "late_s": round(late_s, 1)}
            log.event("instances_late", level="error", calling_ae=arrival.calling_ae, **named)
            metrics.LATE_SERIES.labels(state=job.state).inc()
            if arrival.associations > 0 and late_s <= self._config.settle.quiet_s:
                pause_s = max(pause_s, late_s)
        self._ledger.arrived(uid, arrival.calling_ae, instances, _unix_time(arrival.last_at), pause_s)
        self._noted[uid] = instances

    def open_job(self, arrival: Arrival, names: list[str], decision: Decision, reason: Reason) -> None:
        """Open the job of a settled series with its queue entry; log and count what it means for other jobs."""
        job, new = self._ledger.received(
            arrival.series_uid,
            names,
            plan_of(decision),
            f"{reason}: {len(names)} instances; {decision.sentence}",
            lambda connection, job: self._queues.synthesize(job, 1)(connection),
        )
        if not new:
            return
        metrics.SERIES_SETTLED.labels(reason=reason).inc()
        metrics.RULES.labels(rule=decision.rule, action=decision.action).inc()
        metrics.JOBS.labels(state=State.RECEIVED if decision.converts else State.REJECTED).inc()
        why = {"reason": reason, "rule": decision.rule, "action": decision.action}
        log.event("series_received", series=arrival.series_uid, job=job, instances=len(names), **why)
        row = self._ledger.job(job)
        if row.held is not None:
            metrics.HELD.labels(reason=row.reason_code).inc()
            log.event("job_held", level="error", job=row.job, series=row.series_instance_uid, reason=row.reason_code)
        if row.supersedes is None:
            return
        old = self._ledger.job(row.supersedes)
        if old.reason_code == SUPERSEDED:
            metrics.JOBS.labels(state=State.REJECTED).inc()
            metrics.REJECTED.labels(reason=SUPERSEDED).inc()
        named = {"job": old.job, "series": old.series_instance_uid, "by": row.job, "replaces": row.replaces}
        log.event("job_superseded", level="error", state=str(old.state), reason=old.reason_code, **named)


def _unix_time(monotonic: float) -> float:
    """Return the Unix time of a moment of `time.monotonic`."""
    return time.time() - (time.monotonic() - monotonic)


def plan_of(decision: Decision) -> Plan:
    """Return the plan of a job. Raises UnknownModel or BadCard when its model is not there (any more)."""
    return Plan(
        decision.model,
        find(decision.model).digest if decision.converts else "",
        decision.settings.digest,
        decision.rule,
        decision.destinations,
        decision.settings.as_json(),
        None if decision.converts else decision.sentence,
    )
