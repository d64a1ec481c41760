"""From arrivals to jobs: the receive process' tick of about a second.

The files on disk are the truth. Each tick notes in the ledger what has come, asks `settle` which series are complete,
and hands those over: one job for the set of instances on disk, and its queue entry, in one transaction. A series whose
very set already has its job (the same images pushed again) is let go without a word. At start everything on disk that
no job has taken is looked at again, so a crash at any point loses nothing.

Two things raise an alarm (a log event of level error, and a metric), before the ledger knows of the first and after it
holds the job for the second: instances that come after a job had taken their series, and a SOP Instance UID that stands
for two things. Both are seen in `sct-node jobs` for ever.
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
from dicomnode.reception.settle import Patience, is_still, settled, together
from models.inference.card import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.config.rules import Decision
    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow
    from dicomnode.reception.other_receivers import Receivers
    from dicomnode.reception.settle import Reason, Stack
    from dicomnode.reception.storage_scp import Receiver
    from dicomnode.spool.spool import Arrival, Spool


class Intake:
    """Notes arrivals, settles series, opens jobs; called from one thread of one process a receiver."""

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
        """Take over what lies on disk and no job has taken; called once, before the first tick."""
        seen = self._conflicts.seen()
        self._receiver.adopt(one for one in self._spool.scan() if not self._taken(one, seen.get(one.series_uid, 0)))

    def tick(self) -> None:
        """Look at each series that is arriving; what fails for one is logged and tried again, the others go on.

        Raises LedgerUnreachable.
        """
        arrivals = self._receiver.arrivals()
        told = self._receivers.exchange(arrivals)
        for uid, arrival in arrivals.items():
            try:
                with self._receivers.turn(uid) as mine:
                    if mine:
                        self._look(arrival, together(arrival, told.arrivals.get(uid, ())), told.told_at)
            except LedgerUnreachable:
                raise
            except Exception:
                log.exception("series_not_handed_over", series=arrival.series_uid)
        if told.dead:
            log.event("receiver_adopted", level="warning", receivers=sorted(told.dead))
            self.adopt()
            self._receivers.bury(told.dead)

    def _taken(self, arrival: Arrival, seen: int) -> bool:
        """Whether a job has the series as it is on disk, and its contradictions are known."""
        job, rows = self._ledger.job_of(arrival.series_uid), self._conflicts.of(arrival.series_uid)
        known = {row.name for row in rows}.issuperset(path.stem for path in self._spool.conflicts(arrival.series_uid))
        whole = job is not None and list(job.sop_instance_uids) == names_of(arrival.sop_uids, rows)
        return whole and known and seen == len(arrival.sop_uids)

    def _look(self, own: Arrival, arrival: Arrival, told_at: float) -> None:
        """Note the series, and hand it over once it is settled; `arrival` is what all receivers know of it.

        Not before every other receiver has told later than its last instance came, at `told_at`.
        """
        uid = arrival.series_uid
        sop_uids = [path.stem for path in self._spool.instances(uid)]
        self._look_for_conflicts(arrival, sop_uids)
        names = names_of(sop_uids, self._conflicts.of(uid))
        job = self._ledger.job_of(uid)
        if job is not None and list(job.sop_instance_uids) == names:
            self._let_go(own)
            return
        if job is not None and not {name.partition("~")[0] for name in job.sop_instance_uids} <= set(sop_uids):
            self._keep_apart(arrival, job)
            return
        self._note(arrival, len(names))
        paths = [self._spool.series_folder(uid) / f"{name}.dcm" for name in names]
        reason = self._settled(arrival, paths) if told_at > arrival.last_at else None
        if reason is not None:
            self._hand_over(arrival, names, self._evidence.decision(uid, arrival.calling_ae, paths), reason)
            self._let_go(own)

    def _keep_apart(self, arrival: Arrival, job: JobRow) -> None:
        """Images of a series whose job had others that are deleted by now: they are kept, and make no smaller CT."""
        told = {"series": arrival.series_uid, "job": job.job, "instances": len(arrival.sop_uids)}
        log.event("deleted_series_received", level="warning", **told)
        self._let_go(arrival)

    def _settled(self, arrival: Arrival, paths: Sequence[Path]) -> Reason | None:
        """Why the series is complete, or None."""
        settle, now = self._config.settle, time.monotonic()
        habit_s = self._ledger.longest_pause_s(arrival.calling_ae)
        patience = Patience(settle.quiet_s, settle.grace_s, self._config.receive.idle_timeout_s, habit_s)
        stack: Stack = "unknown"
        if is_still(arrival, now, patience):
            stack = self._evidence.stack(arrival.series_uid, arrival.calling_ae, paths)
        return settled(arrival, stack, now, patience).reason

    def _look_for_conflicts(self, arrival: Arrival, sop_uids: Sequence[str]) -> None:
        """Tell the ledger of contradictions that were not known, once for each set of files; raise the alarm."""
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
        told = {"instances": len(uids), "sop_instances": uids[:NAMED], "other_series": others[:NAMED], "series": uid}
        log.event("uid_conflict", level="error", job=found.held, **told)
        metrics.INSTANCE_CONFLICTS.labels(sop_class="other").inc(sum(one.other_series is not None for one in found.new))
        if found.held is not None:
            metrics.HELD.labels(reason=CODE).inc()

    def _note(self, arrival: Arrival, instances: int) -> None:
        """Tell the ledger what has come, if it is more than last time; raise the alarm when it comes late."""
        if self._noted.get(arrival.series_uid) == instances:
            return
        last_at = _wall(arrival.last_at)
        pause_s = max(arrival.pause_s, self._late_s(arrival))
        self._ledger.arrived(arrival.series_uid, arrival.calling_ae, instances, last_at, pause_s)
        self._noted[arrival.series_uid] = instances

    def _late_s(self, arrival: Arrival) -> float:
        """Seconds by which instances came after those of which a job was made, if it is worth waiting for next time."""
        before, job = self._ledger.series(arrival.series_uid), self._ledger.job_of(arrival.series_uid)
        if before is None or job is None:
            return 0.0
        late_s = _wall(arrival.first_at) - before.last_at.timestamp()
        told = {"series": arrival.series_uid, "job": job.job, "state": str(job.state), "late_s": round(late_s, 1)}
        log.event("instances_late", level="error", calling_ae=arrival.calling_ae, **told)
        metrics.LATE_SERIES.labels(state=job.state).inc()
        habitual = arrival.associations > 0 and late_s <= self._config.settle.quiet_s
        return max(late_s, 0.0) if habitual else 0.0

    def _hand_over(self, arrival: Arrival, names: list[str], decision: Decision, reason: Reason) -> None:
        """Open the job and its queue entry."""
        uid = arrival.series_uid
        job, new = self._ledger.received(
            uid,
            names,
            plan_of(decision),
            f"{reason}: {len(names)} instances; {decision.sentence}",
            lambda connection, job: self._queues.synthesize(job, 1)(connection),
        )
        if new:
            metrics.SERIES_SETTLED.labels(reason=reason).inc()
            metrics.RULES.labels(rule=decision.rule, action=decision.action).inc()
            metrics.JOBS.labels(state=State.RECEIVED if decision.converts else State.REJECTED).inc()
            log.event(
                "series_received",
                series=uid,
                job=job,
                instances=len(names),
                reason=reason,
                rule=decision.rule,
                action=decision.action,
            )
            self._tell_of(self._ledger.job(job))

    def _tell_of(self, row: JobRow) -> None:
        """Say what else a new job means: one that it supersedes, and that it is held."""
        if row.held is not None:
            metrics.HELD.labels(reason=row.reason_code).inc()
            log.event("job_held", level="error", job=row.job, series=row.series_instance_uid, reason=row.reason_code)
        if row.supersedes is None:
            return
        old = self._ledger.job(row.supersedes)
        if old.reason_code == SUPERSEDED:
            metrics.JOBS.labels(state=State.REJECTED).inc()
            metrics.REJECTED.labels(reason=SUPERSEDED).inc()
        told = {"job": old.job, "series": old.series_instance_uid, "by": row.job, "replaces": row.replaces}
        log.event("job_superseded", level="error", state=str(old.state), reason=old.reason_code, **told)

    def _let_go(self, arrival: Arrival) -> None:
        """The ledger has it; when more came meanwhile, the next tick sees it."""
        if self._receiver.forget(arrival):
            self._noted.pop(arrival.series_uid, None)
            self._compared.pop(arrival.series_uid, None)
            self._evidence.forget(arrival.series_uid)


def _wall(monotonic: float) -> float:
    """The Unix time of a moment of `time.monotonic`."""
    return time.time() - (time.monotonic() - monotonic)


def plan_of(decision: Decision) -> Plan:
    """What the job of a series is told. Raises UnknownModel or BadCard when the model is not there (any more)."""
    return Plan(
        decision.model,
        find(decision.model).digest if decision.converts else "",
        decision.settings.digest,
        decision.rule,
        decision.destinations,
        decision.settings.as_json(),
        None if decision.converts else decision.sentence,
    )
