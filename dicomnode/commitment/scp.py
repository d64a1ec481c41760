"""Storage Commitment SCP (PS3.4 J.3): takes N-ACTION requests and repeats each N-EVENT-REPORT until it is heard.

A report goes over the association that brought the request, or the sender's next one, while it is open and silent;
otherwise over a new association to the sender's address (`receive.peers`), on which the node proposes the SCP role
(PS3.4 J.3.3, PS3.7 D.3.3.4). Requests live in the database: whatever ends, the report is still due.

On an association of the sender's the report is put between its requests, and pynetdicom goes on serving it: the sender
may store, release or abort while its answer to the report is awaited. pynetdicom's own send_n_event_report would take
the sender's next request for the answer.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context, build_role

from dicomnode import log, metrics
from dicomnode.commitment.push_model import (
    PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentRequest,
    Unacceptable,
    failures,
    readable,
    refusal,
    report,
    request_of,
)
from dicomnode.commitment.visits import Visits
from dicomnode.config.peers import Destination
from dicomnode.dimse.admission import matches
from dicomnode.dimse.client import AssociationLost, answer, associated, send_while_paused
from dicomnode.dimse.messages import status_of
from dicomnode.dimse.presentation_contexts import PLAIN_SYNTAXES, SOP_CLASSES
from dicomnode.engine.contract import back_off_s, jitter
from dicomnode.errors import LedgerUnreachable
from dicomnode.spool.instance_file import source_ae

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pynetdicom.events import Event

    from dicomnode.commitment.requests import Commitments
    from dicomnode.config.load import Config
    from dicomnode.config.peers import Admission
    from dicomnode.ledger.rows import CommitmentRow
    from dicomnode.spool.spool import Spool

TICK_S: Final = 0.5
SILENT_S: Final = 0.5
"""Silence of a sender before a report goes over its association: most release it once the N-ACTION is answered."""

CALLS_AT_ONCE: Final = 8
"""Senders that get reports at the same time."""

_MESSAGE_IDS: Final = itertools.cycle(range(1, 0x10000))


@dataclass(eq=False)
class OpenAssociation:
    """An association of a sender's on which storage commitment was negotiated.

    Attributes:
        heard_at: When a message last came over it (monotonic time, seconds).
        asked: Message ID of a report of ours -> where its answer's status goes.
        tried: Transaction UIDs that have been reported over it.
    """

    association: Association
    context: PresentationContext
    heard_at: float = field(default_factory=time.monotonic)
    asked: dict[int, queue.SimpleQueue[int]] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)

    @property
    def open(self) -> bool:
        """Tell whether it is still there."""
        return self.association.is_established and self.association.is_alive()

    @property
    def lasts(self) -> bool:
        """Tell whether it is there, or has only just been accepted."""
        return self.open or (self.association.is_alive() and time.monotonic() - self.heard_at < TICK_S)

    @property
    def silent(self) -> bool:
        """Tell whether it is there and the sender has sent nothing for SILENT_S."""
        return self.open and time.monotonic() - self.heard_at >= SILENT_S

    def hear(self, message: object) -> None:
        """Note a DIMSE message; the answer to a report of ours goes to whoever waits for it."""
        self.heard_at = time.monotonic()
        command: Dataset = vars(message)["command_set"]
        if command.get("CommandField") == 0x8100:  # N-EVENT-REPORT-RSP, PS3.7 E.1
            waiting = self.asked.get(int(command.get("MessageIDBeingRespondedTo", 0)))
            named = (command.get("AffectedSOPClassUID"), command.get("AffectedSOPInstanceUID"))
            ours = named[0] in (None, "", PUSH_MODEL) and named[1] in (None, "", WELL_KNOWN_INSTANCE)
            if waiting is not None and ours:
                waiting.put(int(command.get("Status", 0x0110)))

    def send_report(self, event_type: int, information: Dataset, timeout_s: float) -> int:
        """Send an N-EVENT-REPORT request (PS3.7 10.3.1) and wait for its answer; -> the answer's status.

        Raises AssociationLost when the sender goes, or does not answer.
        """
        syntax = self.context.transfer_syntax[0]
        encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        assert encoded is not None, "a report of ours can always be encoded"
        message = N_EVENT_REPORT()
        message.MessageID = number = next(_MESSAGE_IDS)
        message.AffectedSOPClassUID = PUSH_MODEL
        message.AffectedSOPInstanceUID = WELL_KNOWN_INSTANCE
        message.EventTypeID = event_type
        message.EventInformation = io.BytesIO(encoded)
        answered = self.asked[number] = queue.SimpleQueue()
        try:
            send_while_paused(self.association, message, self.context.context_id or 0)
            deadline = time.monotonic() + timeout_s
            while self.open and time.monotonic() < deadline:
                with contextlib.suppress(queue.Empty):
                    return answered.get(timeout=0.1)
        finally:
            del self.asked[number]
        raise AssociationLost(f"gave no answer within {timeout_s:g} s" if self.open else "ended its association")


class Provider:
    """Takes requests and gives the reports; any number of nodes may share one database."""

    sop_class: Final = PUSH_MODEL

    def __init__(self, config: Config, commitments: Commitments, spool: Spool) -> None:
        self._config = config
        self._commitments = commitments
        self._spool = spool
        self._lines: dict[Association, OpenAssociation] = {}
        self._lock = threading.Lock()
        self._visits = Visits(CALLS_AT_ONCE, "commitment-report")
        self._woken = threading.Event()
        self._stopped = False

    def handlers(self) -> list[evt.EventHandlerType]:
        """Return what is to be bound to every association that the node accepts."""
        return [
            (evt.EVT_ACCEPTED, self.on_accepted),
            (evt.EVT_DIMSE_RECV, self.on_message),
            (evt.EVT_N_ACTION, self.on_request),
        ]

    def start(self) -> None:
        """Report what is due, in threads of its own, until `stop`."""
        threading.Thread(target=self.run, name="commitment", daemon=True).start()

    def stop(self) -> None:
        """Begin no further report; those that have begun are harmless."""
        self._stopped = True
        self._woken.set()

    # What senders do

    def on_accepted(self, event: Event) -> None:
        """Remember an association that has begun when reports can be given over it."""
        context = next((one for one in event.assoc.accepted_contexts if one.abstract_syntax == PUSH_MODEL), None)
        if context is not None and context.as_scp:  # else it came to report to us
            with self._lock:
                self._lines[event.assoc] = OpenAssociation(event.assoc, context)
            self._woken.set()

    def on_message(self, event: Event) -> None:
        """Note a DIMSE message over some association."""
        line = self._lines.get(event.assoc)
        if line is not None:
            line.hear(vars(event)["message"])

    def on_request(self, event: Event) -> tuple[Dataset, None]:
        """Answer one N-ACTION (PS3.7 10.1.4); the request is durable before Success."""
        sender = _sender(event.assoc)
        asked = event.request
        assert isinstance(asked, N_ACTION)
        try:
            information = readable(lambda: event.action_information, "Action Information")
            request = request_of(sender, asked.RequestedSOPInstanceUID, asked.ActionTypeID, information)
            self._commitments.asked(request)
        except (Unacceptable, LedgerUnreachable) as error:
            answered = refusal(error, away=0x0213)
            metrics.COMMITMENTS.labels(outcome="refused").inc()
            named = {"status": f"{answered.Status:04X}", "reason": str(error), "calling_ae": sender}
            log.event("commitment_request_refused", level="warning", **named)
            return answered, None
        line = self._lines.get(event.assoc)
        if line is not None:
            line.tried.discard(request.transaction_uid)
        log.event(
            "commitment_requested",
            calling_ae=sender,
            transaction=request.transaction_uid,
            instances=len(request.references),
            can_be_called_back=self._config.receive.peer(sender) is not None,
        )
        self._woken.set()
        return status_of(0x0000), None

    # Reports

    def run(self) -> None:
        """Look about every second, and at once when a sender did something, at what can be reported."""
        while not self._stopped:
            self._woken.wait(TICK_S)
            self._woken.clear()
            try:
                self.tick()
            except LedgerUnreachable as error:
                log.event("commitments_wait_for_database", level="error", reason=str(error))
                time.sleep(10 * TICK_S)
            except Exception:
                log.exception("commitments_failed")
                time.sleep(10 * TICK_S)

    def tick(self) -> None:
        """Begin to report, sender by sender, what can be reported now; return at once. Raises LedgerUnreachable."""
        with self._lock:
            self._lines = {association: line for association, line in self._lines.items() if line.lasts}
        waiting: dict[str, list[CommitmentRow]] = {}
        for row in self._commitments.waiting():
            if time.time() - row.asked_at.timestamp() <= self._config.commitment.give_up_after_s:
                waiting.setdefault(row.requestor, []).append(row)
                continue
            sentence = row.sentence or "no association over which it could be reported"
            if self._commitments.given_up(row, sentence):
                metrics.COMMITMENTS.labels(outcome="given_up").inc()
                names = {"calling_ae": row.requestor, "transaction": row.transaction_uid}
                log.event("commitment_report_given_up", level="error", reason=sentence, **names)
        for sender, rows in waiting.items():
            way = self.way_to(sender, rows)
            if way is not None:
                self._visits.begin(sender, partial(self.visit, sender, way))

    def way_to(self, sender: str, rows: Sequence[CommitmentRow]) -> Callable[[], None] | None:
        """Return how reports can be given now: over an association of the sender's, over one of ours, or not at all."""
        with self._lock:
            lines = [line for line in self._lines.values() if _sender(line.association) == sender and line.silent]
        for line in lines:
            fresh = [row for row in rows if row.transaction_uid not in line.tried]
            if fresh:
                return partial(self.report_over, line, fresh)
        peer = self._config.receive.peer(sender)
        due = [row for row in rows if row.due_at.timestamp() <= time.time()]
        if peer is None or not due:
            return None
        timeout_s = self._config.commitment.timeout_s
        destination = Destination(sender, peer.ae_title, peer.host, peer.port, timeout_s, tls=peer.tls)
        return partial(self.call_back, destination, due)

    def visit(self, sender: str, way: Callable[[], None]) -> None:
        """Give one sender its reports; what fails is logged, and due again later."""
        try:
            way()
        except Exception:
            log.exception("commitment_failed", calling_ae=sender)

    def report_over(self, line: OpenAssociation, rows: Sequence[CommitmentRow]) -> None:
        """Report over the sender's own association; when it ends meanwhile, other ways are open at once."""
        for row, failed in self._begun(rows):
            line.tried.add(row.transaction_uid)
            try:
                status = line.send_report(*report(_request_in(row), failed), self._config.commitment.timeout_s)
            except AssociationLost as error:
                self._commitments.postponed(row, f"{row.requestor} {error}", time.time())
            else:
                self._answered(row, failed, status)

    def call_back(self, destination: Destination, rows: Sequence[CommitmentRow]) -> None:
        """Report over an association of our own, on which the node is the SCP (PS3.7 D.3.3.4)."""
        begun = dict(enumerate(self._begun(rows)))
        if not begun:
            return
        contexts, roles = [build_context(PUSH_MODEL, list(PLAIN_SYNTAXES))], [build_role(PUSH_MODEL, scp_role=True)]
        try:
            with associated(destination, self._config.node.ae_title, contexts, roles) as association:
                for number in list(begun):
                    row, failed = begun[number]
                    status = send_report(association, destination, *report(_request_in(row), failed))
                    self._answered(row, failed, status)
                    del begun[number]
        except AssociationLost as error:
            for row, _ in begun.values():
                self._postpone(row, f"{destination.ae_title} at {destination.host}:{destination.port} {error}")

    def _begun(self, rows: Sequence[CommitmentRow]) -> list[tuple[CommitmentRow, dict[str, int]]]:
        """Begin attempts; -> the rows that are this process's now, each with the instances that fail.

        A request that lacks instances waits for them a while. The series of what is there are marked as promised, so
        that none is deleted (`dicomnode.delivery.retention`).
        """
        begun = []
        for row in rows:
            files = own_files(self._config.admission, row.requestor, self._spool.find(row.listed.keys()))
            if len(files) < len(row.listed) and time.time() - row.asked_at.timestamp() < self._config.commitment.wait_s:
                continue
            promised: dict[str, list[Path]] = {}
            for uid, paths in files.items():
                with contextlib.suppress(FileNotFoundError):  # deleted this moment, and so it is reported
                    self._spool.promise(paths)
                    promised[uid] = list(paths)
            failed = failures(row.listed, promised, SOP_CLASSES)
            now = self._commitments.begun(row, time.time() + 2 * self._config.commitment.timeout_s)
            if now is not None:
                begun.append((now, failed))
        return begun

    def _answered(self, row: CommitmentRow, failed: Mapping[str, int], status: int) -> None:
        """Record the sender's answer to a report (PS3.7 10.1.1.1.8)."""
        if status != 0x0000:
            self._postpone(row, f"{row.requestor} answered the report with status 0x{status:04X}")
            return
        self._commitments.reported(row, failed)
        metrics.COMMITMENTS.labels(outcome="failures" if failed else "committed").inc()
        names = {"calling_ae": row.requestor, "transaction": row.transaction_uid, "instances": len(row.listed)}
        log.event("commitment_reported", level="warning" if failed else "info", failed=len(failed), **names)

    def _postpone(self, row: CommitmentRow, sentence: str) -> None:
        """Record that this attempt came to nothing; the next comes later."""
        settings = self._config.commitment
        delay_s = back_off_s(row.attempt - 1, settings.retry_first_s, settings.retry_max_s, jitter())
        self._commitments.postponed(row, sentence, time.time() + delay_s)
        names = {"calling_ae": row.requestor, "transaction": row.transaction_uid}
        log.event("commitment_report_postponed", level="warning", reason=sentence, **names)


def _sender(association: Association) -> str:
    """Return the requestor's AE title."""
    return association.requestor.ae_title.strip()


def send_report(association: Association, destination: Destination, event_type: int, information: Dataset) -> int:
    """Send a report over an association of our own (PS3.7 10.1.1); -> the answer's status. Raises AssociationLost."""
    sent = partial(association.send_n_event_report, information, event_type, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    return int(answer(destination, lambda: sent()[0]).Status)


def _request_in(row: CommitmentRow) -> CommitmentRequest:
    return CommitmentRequest(row.requestor, row.transaction_uid, row.listed)


def may_ask_about(admission: Admission, requestor: str, source: str) -> bool:
    """Tell whether an AE may ask for commitment of what `source` sent: its own always, others' as its entry says."""
    if not admission.callers or requestor.strip() == source.strip():
        return True
    entries = [one for one in admission.callers if matches(requestor, one.ae_title)]
    return any(matches(source, pattern) for one in entries for pattern in one.commits_for)


def own_files(admission: Admission, requestor: str, files: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Return those of the files (by SOP Instance UID) that an AE may ask about."""
    if not admission.callers:
        return dict(files)
    kept = {
        uid: [one for one in all_of_it if may_ask_about(admission, requestor, source_ae(one))]
        for uid, all_of_it in files.items()
    }
    return {uid: own for uid, own in kept.items() if own}
