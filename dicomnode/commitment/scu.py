"""Storage Commitment SCU (PS3.4 J.3): asks a destination to prove that it keeps what it took, and takes its reports.

A destination whose `commitment` is set is asked (N-ACTION) once it has got all of a CT series. Its report
(N-EVENT-REPORT) may come

    over the same association    which stays open for `linger_s`
    over the next one            the node visits the destination again, with back-off, until a report has come
    over one of its own          to the node's own port: `Hearing` is bound to what the receiver accepts

What waits is in the database (`dicomnode.commitment.proofs`), so it survives a restart, and a report counts in
whichever process it comes. An instance of which nothing is reported is unproven, which is not failed: after
`ask_again_s` without a report the node asks again, after `alarm_after_s` there is an alarm. An instance that the
destination reports as failed is lost there: an alarm at once; a person has it sent once more (`sct-node resend`).

Visits carry nothing but storage commitment: pynetdicom would take a report that comes while a C-STORE is under way for
that C-STORE's answer.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context

from dicomnode import log, metrics
from dicomnode.commitment.push_model import (
    PUSH_MODEL,
    REQUEST,
    WELL_KNOWN_INSTANCE,
    Unacceptable,
    action_of,
    readable,
    refusal,
    report_of,
)
from dicomnode.commitment.visits import Visits
from dicomnode.dimse.client import AssociationLost, answer, associated
from dicomnode.dimse.messages import status_of
from dicomnode.engine.contract import back_off_s, jitter
from dicomnode.errors import LedgerUnreachable
from dicomnode.spool.instance_file import parcel
from dicomnode.spool.spool import every_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from dicomnode.commitment.proofs import Proofs
    from dicomnode.config.load import Config
    from dicomnode.config.peers import Destination, Proof
    from dicomnode.ledger.rows import ProofRow
    from dicomnode.spool.spool import Spool

VISITS_AT_ONCE: Final = 8
"""Destinations that are visited at the same time, one visit each."""

NO_REPORT: Final = "no report has come yet"

STATUSES: Final = {
    0x0000: "the report is remembered, durably",
    0x0110: "the database does not answer; report again later",
    0x0113: "the Event Type ID is neither 1 nor 2",
    0x0115: "the Event Information cannot be read, or the Transaction UID is none that the node asked for",
}
"""Status of an N-EVENT-REPORT response -> when the node answers so (PS3.7 10.1.1.1.8)."""


def hear(event: Event, proofs: Proofs) -> tuple[Dataset, None]:
    """Answer one N-EVENT-REPORT, wherever it comes; the report is durable before Success."""
    request = event.request
    assert isinstance(request, N_EVENT_REPORT)
    try:
        information = readable(lambda: event.event_information, "Event Information")
        report = report_of(request.EventTypeID, information)
        row = proofs.reported(report)
        if row is None:
            raise Unacceptable(0x0115, "No such transaction was asked for")  # noqa: TRY301, one place answers
    except (Unacceptable, LedgerUnreachable) as error:
        answered = refusal(error, away=0x0110)
        sender = event.assoc.acceptor if event.assoc.is_requestor else event.assoc.requestor
        named = {"status": f"{answered.Status:04X}", "reason": str(error), "ae_title": sender.ae_title.strip()}
        log.event("commitment_report_refused", level="warning", **named)
        return answered, None
    outcome = "failures" if row.failed else "committed"
    metrics.PROOFS.labels(destination=row.destination, outcome=outcome).inc()
    log.event(
        "destination_lost_instances" if row.failed else "commitment_confirmed",
        level="error" if row.failed else "info",
        job=row.job,
        destination=row.destination,
        transaction=row.transaction_uid,
        committed=len(report.committed),
        failed=len(report.failed),
    )
    return status_of(0x0000), None


class Hearing:
    """Takes reports that come to the node's own port; bound to what the receiver accepts."""

    sop_class: Final = PUSH_MODEL

    def __init__(self, proofs: Proofs) -> None:
        self._proofs = proofs

    def handlers(self) -> list[evt.EventHandlerType]:
        """Return what is to be bound to every association that the node accepts."""
        return [(evt.EVT_N_EVENT_REPORT, hear, [self._proofs])]


class Asking:
    """Visits destinations: asks, waits a moment for the report, comes again. Several nodes may share a database."""

    def __init__(self, config: Config, proofs: Proofs, spool: Spool) -> None:
        self._config = config
        self._proofs = proofs
        self._spool = spool
        self._visits = Visits(VISITS_AT_ONCE, "proof")

    def tick(self) -> None:
        """Raise the alarms and begin the visits that are due; return at once. Raises LedgerUnreachable."""
        waiting: dict[str, list[ProofRow]] = {}
        for row in self._proofs.open():
            waiting.setdefault(row.destination, []).append(row)
        for name, rows in waiting.items():
            destination = self._config.destination(name)
            if destination is None or destination.commitment is None:
                continue
            self.raise_alarms(rows, destination.commitment)
            due = [row for row in rows if row.due_at.timestamp() <= time.time()]
            if due:
                self._visits.begin(name, partial(self.visit, destination, destination.commitment, due))

    def raise_alarms(self, rows: list[ProofRow], proof: Proof) -> None:
        """Raise one alarm for each request that has been unproven for too long."""
        for row in rows:
            waited_s = time.time() - row.since.timestamp()
            if row.alarmed_at is not None or waited_s <= proof.alarm_after_s:
                continue
            why = row.sentence or NO_REPORT
            if self._proofs.alarmed(
                row, f"{row.destination} has not proved for {waited_s:.0f} s that it keeps it: {why}"
            ):
                metrics.ALARMS.labels(destination=row.destination, what="unproven").inc()
                names = {"job": row.job, "destination": row.destination, "reason": why, "waited_s": round(waited_s)}
                log.event("destination_unproven", level="error", **names)

    def visit(self, destination: Destination, proof: Proof, due: list[ProofRow]) -> None:
        """Make one visit; what fails is logged, and due again later."""
        try:
            Visit(destination, proof, self._proofs, self._config.node.ae_title, self.unproven_files).make(due)
        except LedgerUnreachable as error:
            log.event("proofs_wait_for_database", level="error", reason=str(error))
        except Exception:
            log.exception("proof_not_asked", destination=destination.name)

    def unproven_files(self, row: ProofRow) -> dict[str, str] | None:
        """Return SOP Instance UID -> SOP Class UID of what is unproven; None when out/<job>/ no longer exists."""
        folder = self._spool.published(row.job)
        if folder is None:
            return None
        unproven = set(self._proofs.unproven(row))
        parcels = map(parcel, every_file(folder))
        return {one.sop_instance_uid: str(one.sop_class_uid) for one in parcels if one.sop_instance_uid in unproven}


@dataclasses.dataclass
class Visit:
    """One association to a destination for nothing but storage commitment.

    Attributes:
        listed: Row -> SOP Instance UID -> SOP Class UID of what is unproven; None: the files are deleted.
        open: Transaction UIDs of which a report may still come over this association.
        heard: Is set when one has come.
    """

    destination: Destination
    proof: Proof
    proofs: Proofs
    calling_ae: str
    listed: Callable[[ProofRow], dict[str, str] | None]
    open: set[str] = dataclasses.field(default_factory=set)
    heard: threading.Event = dataclasses.field(default_factory=threading.Event)

    def make(self, due: list[ProofRow]) -> None:
        """Ask for what has not been asked for, and wait for reports; what gets none is due again later."""
        where = self.proof.address_of(self.destination)
        begun = self.begin(due)
        if not begun:
            return
        contexts, hearing = [build_context(PUSH_MODEL)], (evt.EVT_N_EVENT_REPORT, self.on_report)
        sentence = NO_REPORT
        try:
            with associated(where, self.calling_ae, contexts, handlers=[hearing]) as association:
                for row in begun:
                    self.ask(association, where, row)
                deadline = time.monotonic() + self.proof.linger_s
                while self.open and association.is_established and time.monotonic() < deadline:
                    self.heard.wait(0.1)
                    self.heard.clear()
        except AssociationLost as error:
            sentence = f"{where.ae_title} at {where.host}:{where.port} {error}"
        for row in begun:
            if row.transaction_uid in self.open:
                self.proofs.postponed(row, sentence, time.time() + self._delay_s(row))

    def begin(self, due: list[ProofRow]) -> list[ProofRow]:
        """Begin the requests that this visit is about; what waited too long for a report is renewed for the next."""
        begun = []
        for row in due:
            asked = row.asked_at
            if asked is not None and time.time() - asked.timestamp() > self.proof.ask_again_s:
                self.proofs.renewed(row)
                continue
            now = self.proofs.begun(row, time.time() + self.proof.linger_s + 3 * self.destination.timeout_s)
            if now is not None:
                begun.append(now)
                self.open.add(now.transaction_uid)
        return begun

    def ask(self, association: Association, where: Destination, row: ProofRow) -> None:
        """Request storage commitment (PS3.4 J.3.2), if that has not been done. Raises AssociationLost."""
        if row.asked_at is not None:
            return
        listed = self.listed(row)
        if not listed:
            self.open.discard(row.transaction_uid)
            self.proofs.ended(row, "the files are there no more" if listed is None else "nothing is unproven")
            return
        self.proofs.asking(row, listed)
        information = action_of(row.transaction_uid, listed)
        try:
            answered = answer(
                where, lambda: association.send_n_action(information, REQUEST, PUSH_MODEL, WELL_KNOWN_INSTANCE)[0]
            )
        except AssociationLost as error:
            self._not_asked(row, f"{where.ae_title} {error}")
            raise
        if answered.Status != 0x0000:
            self._not_asked(row, f"{where.ae_title} answered the request with status 0x{answered.Status:04X}")

    def _not_asked(self, row: ProofRow, sentence: str) -> None:
        """Record that the destination did not take the request."""
        self.open.discard(row.transaction_uid)
        self.proofs.not_asked(row, sentence, time.time() + self._delay_s(row))
        names = {"job": row.job, "destination": row.destination, "reason": sentence}
        log.event("commitment_not_asked", level="warning", **names)

    def on_report(self, event: Event) -> tuple[Dataset, None]:
        """Answer a report that came over this association, perhaps of an earlier visit."""
        answered, _ = hear(event, self.proofs)
        if answered.Status == 0x0000:
            self.open.discard(str(event.event_information.TransactionUID))
            self.heard.set()
        return answered, None

    def _delay_s(self, row: ProofRow) -> float:
        return back_off_s(row.attempt - 1, self.destination.retry_first_s, self.destination.retry_max_s, jitter())
