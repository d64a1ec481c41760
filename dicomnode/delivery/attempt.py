"""One attempt to deliver one job to one destination, by C-STORE (`storage_scu`) or STOW-RS (`stow_rs`).

The answer of the destination for each instance is stored as it comes, so a crash sends at most one instance again, with
the same UID and the same bytes. Instances that were not accepted are postponed: the next attempt is a queue entry with
a delay, written in the same transaction.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dicomnode import log, metrics
from dicomnode.commitment.proofs import Proofs
from dicomnode.delivery import storage_scu, stow_rs
from dicomnode.delivery.payload import load_of
from dicomnode.dimse import client
from dicomnode.engine.contract import back_off_s, delivery_id, jitter
from dicomnode.errors import LedgerUnreachable, Undelivered, UnknownDestination, WrongState
from dicomnode.ledger.states import State
from dicomnode.security.audit_trail import AuditTrail, Event
from dicomnode.spool.instance_file import parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from dicomnode.config.load import Config
    from dicomnode.config.peers import Destination
    from dicomnode.delivery.payload import Load
    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import DeliveryRow, JobRow
    from dicomnode.receipt import Receipt
    from dicomnode.spool.spool import Spool

UNKNOWN_DESTINATION_RETRY_S: Final = 600.0
"""Seconds until the next attempt at a destination that the configuration no longer has."""

ALARM_AFTER_S: Final = 3600.0
"""Seconds until the alarm for a destination that the configuration no longer has."""


class Deliveries:
    """Attempts deliveries; any number of threads may attempt at once."""

    def __init__(self, config: Config, ledger: Ledger, queues: Queues, spool: Spool) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool
        self._proofs = Proofs(ledger.engine)
        self._trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)

    def attempt(self, job: str, destination: str, attempt: int) -> None:
        """Send what the destination has not accepted yet; do nothing when this attempt is not due (any more)."""
        row = self._ledger.job(job)
        found = [one for one in self._ledger.deliveries(job) if one.destination == destination]
        due = [one for one in found if one.open and one.attempt == attempt]
        if row.state is not State.SYNTHESIZED or row.held is not None or not due:
            return
        try:
            self._attempt(row, due[0], Offer(self._ledger, job, destination))
        except WrongState as error:
            log.event("delivery_stopped", level="warning", job=job, destination=destination, reason=str(error))

    def _attempt(self, row: JobRow, delivery: DeliveryRow, offer: Offer) -> None:
        """Send, and record the result; a fault of the node is retried, and after some failures the job is held.

        Raises WrongState when the job was held, ended or sent again meanwhile.
        """
        try:
            self._send(row, delivery, offer)
        except Undelivered as error:
            begun = delivery.begun_at is not None or offer.may_be_there(error)
            self._postpone(delivery, error.sentence, begun=begun)
        except UnknownDestination as error:
            self._postpone(delivery, str(error))
        except (LedgerUnreachable, WrongState):
            raise
        except Exception as error:
            log.exception("delivery_failed", job=row.job, destination=delivery.destination)
            sentence = f"{delivery.destination}: {type(error).__name__}: {error}"
            if delivery.attempt < self._config.synthesize.tries:
                self._postpone(delivery, sentence)
                return
            self._ledger.held(row.job, "DELIVERY_FAILED", sentence, traceback.format_exc())
            metrics.HELD.labels(reason="DELIVERY_FAILED").inc()
        else:
            self._delivered(row, delivery, offer.uids)

    def reconcile(self) -> None:
        """Queue each attempt that is due but unknown to the engine, or whose workflow ended without a result.

        Alarms that are due are raised, whatever the attempts do.
        """
        due = {delivery_id(one.job, one.destination, one.attempt): one for one in self._ledger.to_deliver()}
        for delivery in due.values():
            self._alarm(delivery)
        for name, ending in self._queues.endings(due).items():
            if ending == "waiting":
                continue
            delivery = due[name]
            sentence = f"{delivery.destination}: the attempt's workflow is {ending}"
            with contextlib.suppress(WrongState):  # its state changed meanwhile
                self._postpone(delivery, sentence, delay_s=0.0)
                log.event("delivery_requeued", level="warning", job=delivery.job, destination=delivery.destination)

    def _send(self, row: JobRow, delivery: DeliveryRow, offer: Offer) -> None:
        """Send over one association, and store each answer as it comes. Raises Undelivered, and WrongState to stop."""
        name = delivery.destination
        destination = self._config.destination(name)
        if destination is None:
            raise UnknownDestination(f"the configuration has no destination {name!r} any more")
        load = load_of(self._ledger, self._spool, row, destination)
        offer.uids = frozenset(parcel(path).sop_instance_uid for path in load.paths)
        already = self._ledger.accepted_uids(row.job, name)
        transfer = Transfer(self._trail, row.job, destination, load, len(offer.uids - already))
        offer.on_begin = transfer.begin
        with metrics.STAGE_SECONDS.labels(stage="deliver").time(), transfer:
            send(
                load.paths,
                destination,
                self._config.node.ae_title,
                lambda receipt: self._ledger.answered(row.job, name, [transfer.count(receipt)], delivery.attempt),
                already=already,
                before=offer,
            )

    def _postpone(
        self, delivery: DeliveryRow, sentence: str, delay_s: float | None = None, *, begun: bool = True
    ) -> None:
        """Queue the next attempt, by default after a delay that grows. Raises WrongState."""
        destination = self._config.destination(delivery.destination)
        if delay_s is None:
            delay_s = UNKNOWN_DESTINATION_RETRY_S
            if destination is not None:
                delay_s = back_off_s(delivery.attempt, destination.retry_first_s, destination.retry_max_s, jitter())
        following = self._queues.deliver(delivery.job, delivery.destination, delivery.attempt + 1, delay_s)
        due_at = time.time() + delay_s
        self._ledger.postponed(delivery.job, delivery.destination, delivery.attempt, sentence, due_at, following, begun)
        metrics.DELIVERY_ATTEMPTS.labels(destination=delivery.destination, outcome="postponed").inc()
        names = {"job": delivery.job, "destination": delivery.destination, "attempt": delivery.attempt}
        log.event("delivery_postponed", level="warning", reason=sentence, next_in_s=round(delay_s, 1), **names)
        self._alarm(dataclasses.replace(delivery, sentence=sentence))

    def _alarm(self, delivery: DeliveryRow) -> None:
        """Raise an alarm, once, when a destination has not accepted everything for too long."""
        destination = self._config.destination(delivery.destination)
        limit_s = ALARM_AFTER_S if destination is None else destination.alarm_after_s
        waited_s = time.time() - delivery.since.timestamp()
        if delivery.alarmed_at is not None or waited_s <= limit_s:
            return
        why = delivery.sentence or "no attempt has ended"
        words = f"{delivery.destination} has not taken everything for {waited_s:.0f} s: {why}"
        if self._ledger.alarmed(delivery.job, delivery.destination, words):
            metrics.ALARMS.labels(destination=delivery.destination, what="undelivered").inc()
            names = {"job": delivery.job, "destination": delivery.destination, "waited_s": round(waited_s)}
            log.event("destination_undelivered", level="error", reason=why, **names)

    def _delivered(self, row: JobRow, delivery: DeliveryRow, uids: frozenset[str]) -> None:
        """Record that the destination has all `uids`; ask for storage commitment (PS3.4 J) where it is configured."""
        name = delivery.destination
        destination = self._config.destination(name)
        commitment = None if destination is None else destination.commitment
        then = None if commitment is None else self._proofs.wanted(row.job, name, commitment.wait_s)
        last = self._ledger.delivered(row.job, name, then, uids)
        metrics.DELIVERY_ATTEMPTS.labels(destination=name, outcome="delivered").inc()
        source = self._ledger.series(row.series_instance_uid)
        if source is not None and delivery.resent_from is None:
            journey_s = time.time() - source.last_at.timestamp()
            metrics.SCANNER_TO_DESTINATION_SECONDS.labels(destination=name).observe(journey_s)
        log.event("series_delivered", job=row.job, series=row.series_instance_uid, destination=name)
        if last:
            metrics.JOBS.labels(state=State.DELIVERED).inc()


class Transfer:
    """Writes the audit records of one attempt (PS3.15 A.5.3.3, A.5.3.7): one when it begins, one when it ends."""

    def __init__(self, trail: AuditTrail, job: str, destination: Destination, load: Load, instances: int) -> None:
        self._trail = trail
        self._job = job
        self._destination = destination
        self._load = load
        self._instances = instances
        self._begun = False
        self._stored = 0

    def begin(self) -> None:
        """Record that the first instance is about to be sent."""
        self._begun = True
        self._record(Event.BEGIN_TRANSFERRING, self._instances)

    def count(self, receipt: Receipt) -> Receipt:
        """Count a receipt, and return it."""
        self._stored += receipt.stored
        return receipt

    def __enter__(self) -> None:
        """Do nothing: no instance has been sent."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Record the end of the attempt; one that sent nothing has no record."""
        if self._begun:
            self._record(Event.INSTANCES_TRANSFERRED_OUT, self._stored, None if error is None else str(error))

    def _record(self, event: Event, instances: int, failed: str | None = None) -> None:
        self._trail.record(
            event,
            by="node",
            peer=self._destination.ae_title,
            address=self._destination.machine,
            failed=failed,
            job=self._job,
            studies=self._load.studies(),
            series=self._load.series(),
            instances=instances,
        )


@dataclass
class Offer:
    """Checks before each instance of an attempt whether it may still be sent, and counts the instances.

    `uids` are the SOP Instance UIDs of everything that the destination shall have; `on_begin` is called before the
    first instance.
    """

    ledger: Ledger
    job: str
    destination: str
    uids: frozenset[str] = frozenset()
    instances: int = 0
    on_begin: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        """Allow the next instance. Raises WrongState when the job was superseded, held or ended meanwhile."""
        if self.instances == 0:
            self.ledger.begin(self.job, self.destination, len(self.uids))
            self.on_begin()
        row = self.ledger.job(self.job)
        if row.state is not State.SYNTHESIZED or row.held is not None:
            raise WrongState(f"job {row.job[:12]} was held or ended after {self.instances} instances had been sent")
        self.instances += 1

    def may_be_there(self, error: Undelivered) -> bool:
        """Return whether the destination may have an instance: it accepted one, or did not answer for one."""
        return len(error.receipts) < self.instances or any(receipt.stored for receipt in error.receipts)


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files to a destination by its protocol; see `storage_scu.send`. Raises Undelivered."""
    if destination.stow is not None:
        return stow_rs.send(paths, destination, on_receipt, already, before)
    return storage_scu.send(paths, destination, calling_ae, on_receipt, already, before)


def reach(destination: Destination, calling_ae: str) -> str:
    """Ask a destination by C-ECHO or by a search, and return a sentence. Raises Undelivered when it does not answer."""
    if destination.stow is not None:
        stow_rs.reach(destination)
        return f"{destination.where} answers"
    client.echo(destination, calling_ae)
    return f"{destination.where} answers C-ECHO"
