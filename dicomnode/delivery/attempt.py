"""One attempt to deliver one job to one destination.

A destination's answer for an instance is kept as it comes, so a crash sends at most one instance again: same UID, same
bytes. What was not taken is postponed: the next attempt is a queue entry with a delay, written in the same transaction.

One attempt at a destination, in the language that it speaks: C-STORE (`deliver`) or STOW-RS (`stow`).
"""

from __future__ import annotations

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
    from dicomnode.ledger.database import Then
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import DeliveryRow, JobRow
    from dicomnode.receipt import Receipt
    from dicomnode.spool.spool import Spool

UNKNOWN_DESTINATION_RETRY_S: Final = 600.0
ALARM_AFTER_S: Final = 3600.0
"""For a destination that the configuration does not have any more."""


class Deliveries:
    """Attempts to deliver; any number of threads may attempt at once."""

    def __init__(self, config: Config, ledger: Ledger, queues: Queues, spool: Spool) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool
        self._proofs = Proofs(ledger.engine)
        self._trail = AuditTrail(config.audit, config.node.data, config.node.ae_title)

    def attempt(self, job: str, destination: str, attempt: int) -> None:
        """Send what the destination has not taken yet. Nothing happens when this attempt is not due (any more)."""
        row, delivery = self._due(job, destination, attempt)
        if row is None or delivery is None:
            return
        offer = Offer(self._ledger, job, destination)
        try:
            self._attempt(row, delivery, offer)
        except WrongState as error:
            log.event("delivery_stopped", level="warning", job=job, destination=destination, reason=str(error))

    def _attempt(self, row: JobRow, delivery: DeliveryRow, offer: Offer) -> None:
        """Send, and write the fact. Raises WrongState when the job was held, ended or sent anew meanwhile."""
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
            self._failed(row, delivery, error)
        else:
            self._delivered(row, delivery, offer.uids)

    def reconcile(self) -> None:
        """Bring the queue in line with the ledger: what is due and unknown to the engine, or ended without progress.

        Alarms that are due are raised, whatever the attempts do.
        """
        due = {delivery_id(one.job, one.destination, one.attempt): one for one in self._ledger.to_deliver()}
        for delivery in due.values():
            self._alarm(delivery)
        for name, ending in self._queues.endings(due).items():
            if ending != "waiting":
                self._again(due[name], ending)

    def _again(self, delivery: DeliveryRow, ending: str) -> None:
        try:
            self._postpone(delivery, f"{delivery.destination}: the attempt's workflow is {ending}", delay_s=0.0)
        except WrongState:
            return  # it moved on meanwhile
        log.event("delivery_requeued", level="warning", job=delivery.job, destination=delivery.destination)

    def _due(self, job: str, destination: str, attempt: int) -> tuple[JobRow | None, DeliveryRow | None]:
        """The job and its delivery, if this very attempt is what is due."""
        row = self._ledger.job(job)
        found = [one for one in self._ledger.deliveries(job) if one.destination == destination]
        open_ones = [one for one in found if one.open and one.attempt == attempt]
        if row.state is not State.SYNTHESIZED or row.held is not None or not open_ones:
            return None, None
        return row, open_ones[0]

    def _send(self, row: JobRow, delivery: DeliveryRow, offer: Offer) -> None:
        """One association; every answer goes into the ledger as it comes. Raises Undelivered, WrongState (stopped)."""
        name = delivery.destination
        destination = self._config.destination(name)
        if destination is None:
            raise UnknownDestination(f"the configuration has no destination {name!r} any more")
        load = load_of(self._ledger, self._spool, row, destination)
        offer.uids = frozenset(parcel(path).sop_instance_uid for path in load.paths)
        already = self._ledger.accepted_uids(row.job, name)
        transfer = Transfer(self._trail, row.job, destination, load, len(offer.uids - already))
        offer.begins = transfer.begins
        with metrics.STAGE_SECONDS.labels(stage="deliver").time(), transfer:
            send(
                load.paths,
                destination,
                self._config.node.ae_title,
                lambda receipt: self._ledger.answered(row.job, name, [transfer.noted(receipt)], delivery.attempt),
                already=already,
                before=offer,
            )

    def _postpone(
        self, delivery: DeliveryRow, sentence: str, delay_s: float | None = None, *, begun: bool = True
    ) -> None:
        """The next attempt, later."""
        destination = self._config.destination(delivery.destination)
        if delay_s is None:
            delay_s = UNKNOWN_DESTINATION_RETRY_S if destination is None else _delay_s(delivery.attempt, destination)
        following = self._queues.deliver(delivery.job, delivery.destination, delivery.attempt + 1, delay_s)
        due_at = time.time() + delay_s
        self._ledger.postponed(delivery.job, delivery.destination, delivery.attempt, sentence, due_at, following, begun)
        metrics.DELIVERY_ATTEMPTS.labels(destination=delivery.destination, outcome="postponed").inc()
        names = {"job": delivery.job, "destination": delivery.destination, "attempt": delivery.attempt}
        log.event("delivery_postponed", level="warning", reason=sentence, next_in_s=round(delay_s, 1), **names)
        self._alarm(dataclasses.replace(delivery, sentence=sentence))

    def _alarm(self, delivery: DeliveryRow) -> None:
        """Say once that a destination has not taken everything for too long."""
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

    def _failed(self, row: JobRow, delivery: DeliveryRow, error: Exception) -> None:
        """Our fault: tried again like a refusal, and after so many failures held with the traceback."""
        sentence = f"{delivery.destination}: {type(error).__name__}: {error}"
        if delivery.attempt >= self._config.synthesize.tries:
            self._ledger.held(row.job, "DELIVERY_FAILED", sentence, traceback.format_exc())
            metrics.HELD.labels(reason="DELIVERY_FAILED").inc()
            return
        self._postpone(delivery, sentence)

    def _delivered(self, row: JobRow, delivery: DeliveryRow, uids: frozenset[str]) -> None:
        """The destination has all `uids`; where the configuration says so, it is to prove that it keeps them."""
        destination = delivery.destination
        last = self._ledger.delivered(row.job, destination, self._proof(row.job, destination), uids)
        metrics.DELIVERY_ATTEMPTS.labels(destination=destination, outcome="delivered").inc()
        source = self._ledger.series(row.series_instance_uid)
        if source is not None and delivery.resent_from is None:
            journey_s = time.time() - source.last_at.timestamp()
            metrics.SCANNER_TO_DESTINATION_SECONDS.labels(destination=destination).observe(journey_s)
        log.event("series_delivered", job=row.job, series=row.series_instance_uid, destination=destination)
        if last:
            metrics.JOBS.labels(state=State.DELIVERED).inc()

    def _proof(self, job: str, name: str) -> Then | None:
        """What asks the destination for storage commitment, if it is to be asked."""
        destination = self._config.destination(name)
        proof = None if destination is None else destination.commitment
        return None if proof is None else self._proofs.wanted(job, name, proof.wait_s)


class Transfer:
    """The audit records of one attempt: an association that brings instances of one job to one destination."""

    def __init__(self, trail: AuditTrail, job: str, destination: Destination, load: Load, instances: int) -> None:
        self._trail = trail
        self._job = job
        self._destination = destination
        self._load = load
        self._instances = instances
        self._begun = False
        self._stored = 0

    def begins(self) -> None:
        """The first instance is about to be sent."""
        self._begun = True
        self._record(Event.BEGIN_TRANSFERRING, self._instances)

    def noted(self, receipt: Receipt) -> Receipt:
        """The receipt, counted."""
        self._stored += receipt.stored
        return receipt

    def __enter__(self) -> None:
        """Nothing has been sent."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """The attempt has ended; one that offered nothing has no record."""
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
    """Asks before each instance of an attempt whether it may still be sent, and keeps how many were.

    `uids`: SOP Instance UIDs of all that the destination is to have in the end.
    """

    ledger: Ledger
    job: str
    destination: str
    uids: frozenset[str] = frozenset()
    instances: int = 0
    begins: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        """An instance is about to be sent. Raises WrongState when the job was superseded, held or ended meanwhile."""
        if self.instances == 0:
            self.ledger.begin(self.job, self.destination, len(self.uids))
            self.begins()
        row = self.ledger.job(self.job)
        if row.state is not State.SYNTHESIZED or row.held is not None:
            raise WrongState(f"job {row.job[:12]} was held or ended after {self.instances} instances had been sent")
        self.instances += 1

    def may_be_there(self, error: Undelivered) -> bool:
        """Whether the destination may have an instance: it took one, or did not answer for one."""
        return len(error.receipts) < self.instances or any(receipt.stored for receipt in error.receipts)


def _delay_s(attempt: int, destination: Destination) -> float:
    return back_off_s(attempt, destination.retry_first_s, destination.retry_max_s, jitter())


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files to a destination; see `deliver.send`. Raises Undelivered."""
    if destination.stow is not None:
        return stow_rs.send(paths, destination, on_receipt, already, before)
    return storage_scu.send(paths, destination, calling_ae, on_receipt, already, before)


def reach(destination: Destination, calling_ae: str) -> str:
    """Whether a destination answers: C-ECHO, or a search; -> a sentence. Raises Undelivered when it does not."""
    if destination.stow is not None:
        stow_rs.reach(destination)
        return f"{destination.where} answers"
    client.echo(destination, calling_ae)
    return f"{destination.where} answers C-ECHO"
