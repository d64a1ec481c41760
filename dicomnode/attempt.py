"""One attempt to deliver one job to one destination.

A destination's answer for an instance is kept as it comes, so a crash sends at most one instance again: same UID, same
bytes. What was not taken is postponed: the next attempt is a queue entry with a delay, written in the same transaction.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicomnode import log, metrics
from dicomnode.deliver import send
from dicomnode.engine import back_off_s, delivery_id, jitter
from dicomnode.errors import LedgerUnreachable, Undelivered, UnknownDestination, WrongState
from dicomnode.states import State

if TYPE_CHECKING:
    from dicomnode.config import Config, Destination
    from dicomnode.engine import Queues
    from dicomnode.ledger import Ledger
    from dicomnode.schema import DeliveryRow, JobRow
    from dicomnode.spool import Spool

UNKNOWN_DESTINATION_RETRY_S = 600.0


class Deliveries:
    """Attempts to deliver; any number of threads may attempt at once."""

    def __init__(self, config: Config, ledger: Ledger, queues: Queues, spool: Spool) -> None:
        self._config = config
        self._ledger = ledger
        self._queues = queues
        self._spool = spool

    def attempt(self, job: str, destination: str, attempt: int) -> None:
        """Send what the destination has not taken yet. Nothing happens when this attempt is not due (any more)."""
        row, delivery = self._due(job, destination, attempt)
        if row is None or delivery is None:
            return
        offer = Offer(self._ledger, job, destination)
        try:
            self._attempt(row, delivery, offer)
        except WrongState as error:
            log.event("delivery stopped", level="warning", job=job, destination=destination, reason=str(error))

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
            log.LOGGER.exception("delivery failed", extra=log.fields(job=row.job, destination=delivery.destination))
            self._failed(row, delivery, error)
        else:
            self._delivered(row, delivery.destination)

    def reconcile(self) -> None:
        """Bring the queue in line with the ledger: what is due and unknown to the engine, or ended without progress."""
        due = {delivery_id(one.job, one.destination, one.attempt): one for one in self._ledger.to_deliver()}
        for name, ending in self._queues.endings(due).items():
            if ending != "waiting":
                self._again(due[name], ending)

    def _again(self, delivery: DeliveryRow, ending: str) -> None:
        try:
            self._postpone(delivery, f"{delivery.destination}: the attempt's workflow is {ending}", delay_s=0.0)
        except WrongState:
            return  # it moved on meanwhile
        log.event(
            "delivery put back into the queue", level="warning", job=delivery.job, destination=delivery.destination
        )

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
        folder = self._spool.published(row.job)
        if folder is None:
            raise FileNotFoundError(f"out/{row.job}/ is missing, although its synthesis is on record")
        with metrics.STAGE_SECONDS.labels(stage="deliver").time():
            send(
                sorted(folder.glob("*.dcm")),
                destination,
                self._config.node.ae_title,
                lambda receipt: self._ledger.answered(row.job, name, [receipt], delivery.attempt),
                already=self._ledger.taken(row.job, name),
                before=offer,
            )

    def _postpone(
        self, delivery: DeliveryRow, sentence: str, delay_s: float | None = None, *, begun: bool = True
    ) -> None:
        """The next attempt, later; an alarm when the destination has waited too long."""
        destination = self._config.destination(delivery.destination)
        if delay_s is None:
            delay_s = UNKNOWN_DESTINATION_RETRY_S if destination is None else _delay_s(delivery.attempt, destination)
        following = self._queues.deliver(delivery.job, delivery.destination, delivery.attempt + 1, delay_s)
        due_at = time.time() + delay_s
        self._ledger.postponed(delivery.job, delivery.destination, delivery.attempt, sentence, due_at, following, begun)
        metrics.DELIVERY_ATTEMPTS.labels(destination=delivery.destination, outcome="postponed").inc()
        waited_s = time.time() - delivery.since.timestamp()
        alarm = destination is not None and waited_s > destination.alarm_after_s
        log.event(
            "destination alarm: undelivered for too long" if alarm else "delivery postponed",
            level="error" if alarm else "warning",
            job=delivery.job,
            destination=delivery.destination,
            reason=sentence,
            waited_s=round(waited_s),
            next_in_s=round(delay_s, 1),
        )

    def _failed(self, row: JobRow, delivery: DeliveryRow, error: Exception) -> None:
        """Our fault: tried again like a refusal, and after so many failures held with the traceback."""
        sentence = f"{delivery.destination}: {type(error).__name__}: {error}"
        if delivery.attempt >= self._config.synthesize.tries:
            self._ledger.held(row.job, "DELIVERY_FAILED", sentence, traceback.format_exc())
            metrics.HELD.labels(reason="DELIVERY_FAILED").inc()
            return
        self._postpone(delivery, sentence)

    def _delivered(self, row: JobRow, destination: str) -> None:
        """The destination has everything."""
        last = self._ledger.delivered(row.job, destination)
        metrics.DELIVERY_ATTEMPTS.labels(destination=destination, outcome="delivered").inc()
        source = self._ledger.series(row.series_instance_uid)
        if source is not None:
            journey_s = time.time() - source.last_at.timestamp()
            metrics.SCANNER_TO_DESTINATION_SECONDS.labels(destination=destination).observe(journey_s)
        log.event("series delivered", job=row.job, series=row.series_instance_uid, destination=destination)
        if last:
            metrics.JOBS.labels(state=State.DELIVERED).inc()


@dataclass
class Offer:
    """Asks before each instance of an attempt whether it may still be sent, and keeps how many were."""

    ledger: Ledger
    job: str
    destination: str
    instances: int = 0

    def __call__(self) -> None:
        """An instance is about to be sent. Raises WrongState when the job was superseded, held or ended meanwhile."""
        if self.instances == 0:
            self.ledger.begin(self.job, self.destination)
        row = self.ledger.job(self.job)
        if row.state is not State.SYNTHESIZED or row.held is not None:
            raise WrongState(f"job {row.job[:12]} was held or ended after {self.instances} instances had been sent")
        self.instances += 1

    def may_be_there(self, error: Undelivered) -> bool:
        """Whether the destination may have an instance: it took one, or did not answer for one."""
        return len(error.receipts) < self.instances or any(receipt.stored for receipt in error.receipts)


def _delay_s(attempt: int, destination: Destination) -> float:
    return back_off_s(attempt, destination.retry_first_s, destination.retry_max_s, jitter())
