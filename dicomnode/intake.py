"""From arrivals to jobs: the receive process' tick of about a second.

The files on disk are the truth. Each tick notes in the ledger what has come, asks `settle` which series are complete,
and hands those over: one job for the set of instances on disk, and its queue entry, in one transaction. A series whose
very set already has its job (the same images pushed again) is let go without a word. At start everything on disk that
no job has taken is looked at again, so a crash at any point loses nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dicomnode import log, metrics
from dicomnode.rules import Decision, choose
from dicomnode.schema import Plan
from dicomnode.settle import may_be_complete, settled
from dicomnode.states import State
from models.card import find
from pipeline.errors import Unsuitable
from pipeline.series import Instance, Series, read_instance, stack_complete

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dicomnode.config import Config
    from dicomnode.engine import Queues
    from dicomnode.ledger import Ledger
    from dicomnode.receive import Receiver
    from dicomnode.settle import Arrival
    from dicomnode.spool import Spool


class Intake:
    """Notes arrivals, settles series, opens jobs; called from one thread of one process."""

    def __init__(self, config: Config, ledger: Ledger, queues: Queues, spool: Spool, receiver: Receiver) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool
        self._receiver = receiver
        self._noted: dict[str, int] = {}
        self._headers: dict[str, dict[str, Instance | None]] = {}

    def adopt(self) -> None:
        """Take over what lies on disk and no job has taken; called once, before the first tick."""
        self._receiver.adopt(one for one in self._spool.scan() if not self._taken(one))

    def tick(self) -> None:
        """Look at each series that is arriving; what fails for one is logged and tried again, the others go on."""
        for arrival in self._receiver.arrivals().values():
            try:
                self._look(arrival)
            except Exception:
                log.LOGGER.exception("series not handed over, tried again", extra=log.fields(series=arrival.series_uid))

    def _taken(self, arrival: Arrival) -> bool:
        """Whether a job has the series as it is on disk."""
        job = self._ledger.job_of(arrival.series_uid)
        return job is not None and set(job.sop_instance_uids) == arrival.sop_uids

    def _look(self, arrival: Arrival) -> None:
        """Note the series, and hand it over once it is settled."""
        paths = self._spool.instances(arrival.series_uid)
        sop_uids = [path.stem for path in paths]
        if not self._repeated(arrival.series_uid, sop_uids):
            self._note(arrival, len(paths))
        now, quiet_s = time.monotonic(), self._config.settle.quiet_s
        complete = may_be_complete(arrival, now, quiet_s) and self._complete(arrival, paths)
        verdict = settled(arrival, complete, now, quiet_s)
        if verdict.reason is not None:
            self._hand_over(arrival, sop_uids, self._decision(arrival, paths), verdict.reason)

    def _repeated(self, series_uid: str, sop_uids: Iterable[str]) -> bool:
        """Whether a job has just these instances: the same images were pushed again."""
        job = self._ledger.job_of(series_uid)
        return job is not None and set(job.sop_instance_uids) == set(sop_uids)

    def _note(self, arrival: Arrival, instances: int) -> None:
        """Tell the ledger what has come, if it is more than last time."""
        if self._noted.get(arrival.series_uid) == instances:
            return
        last_at = time.time() - (time.monotonic() - arrival.last_at)
        self._ledger.arrived(arrival.series_uid, arrival.calling_ae, instances, last_at)
        self._noted[arrival.series_uid] = instances

    def _complete(self, arrival: Arrival, paths: Sequence[Path]) -> bool:
        """Whether the stack on disk, of the volume that its rule chooses, has no gap, by its headers."""
        series, settings = self._series(arrival, paths), self._decision(arrival, paths).settings
        return None not in self._headers[arrival.series_uid].values() and stack_complete(
            series, settings.volume, settings.stack
        )

    def _decision(self, arrival: Arrival, paths: Sequence[Path]) -> Decision:
        """What the rules say of the series as it is on disk."""
        return choose(self._series(arrival, paths), arrival.calling_ae, self._config)

    def _series(self, arrival: Arrival, paths: Sequence[Path]) -> Series:
        """The instances on disk whose headers can be read; each header is read once."""
        headers = self._headers.setdefault(arrival.series_uid, {})
        for path in paths:
            if path.name not in headers:
                headers[path.name] = _readable(path)
        return Series.of([instance for instance in headers.values() if instance is not None])

    def _hand_over(self, arrival: Arrival, sop_uids: list[str], decision: Decision, reason: str) -> None:
        """Open the job and its queue entry."""
        uid = arrival.series_uid
        job, new = self._ledger.received(
            uid,
            sop_uids,
            plan_of(decision),
            f"{reason}: {len(sop_uids)} instances; {decision.sentence}",
            lambda connection, job: self._queues.synthesize(job, 1)(connection),
        )
        if new:
            metrics.SERIES_SETTLED.labels(reason=reason).inc()
            metrics.RULES.labels(rule=decision.rule, action=decision.action).inc()
            metrics.JOBS.labels(state=State.RECEIVED if decision.converts else State.REJECTED).inc()
            told = f"series received, to {decision.action}"
            log.event(told, series=uid, job=job, instances=len(sop_uids), reason=reason, rule=decision.rule)
        self._let_go(arrival)

    def _let_go(self, arrival: Arrival) -> None:
        """The ledger has it; when more came meanwhile, the next tick sees it."""
        if self._receiver.forget(arrival):
            self._noted.pop(arrival.series_uid, None)
            self._headers.pop(arrival.series_uid, None)


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


def _readable(path: Path) -> Instance | None:
    """The instance, or None where its header is damaged."""
    try:
        return read_instance(path)
    except Unsuitable:
        return None
