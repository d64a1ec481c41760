"""Sends the notices in the queue to people, over each channel of the configuration.

Each channel has a thread of its own and sends one message at a time, so a mail server that hangs delays neither the
node nor the other channel. A message that a channel does not accept is tried again with growing delays, for days; then
it is given up, with an error in the log.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread

from dicomnode import log, metrics
from dicomnode.config.sections import Mail
from dicomnode.engine.contract import back_off_s, jitter
from dicomnode.errors import LedgerUnreachable, NotTaken, UnknownJob
from dicomnode.ledger.notices import Notices
from dicomnode.notify.channels import post_webhook, send_mail
from dicomnode.notify.notice_text import LONGEST, Message, NoticeContent, NoticePatient, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicomnode.config.load import Config
    from dicomnode.config.sections import Webhook
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.notices import NoticeRow
    from dicomnode.spool.spool import Spool

TICK_S: Final = 2.0
LEASE_S: Final = 60.0
"""Seconds after its timeout until an attempt without a result is made again: its process did not survive it."""

REMEMBERED_S: Final = 30 * 86_400.0
"""Seconds for which notices that have ended are kept."""


class Notifier:
    """Sends the notices that are due; any number of processes may do so at once."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool) -> None:
        self._config = config
        self._settings = config.notify
        self._ledger = ledger
        self._spool = spool
        self._notices = Notices(ledger.engine)
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Begin to send what is due, and return at once. Raises LedgerUnreachable."""
        channels = self._settings.channels
        self._notices.divide(self._settings.kinds, channels, self._settings.gather_s)
        for name, channel in channels.items():
            if name in self._busy:
                continue
            due = self._notices.due(name)
            if due:
                with self._lock:
                    self._busy.add(name)
                threading.Thread(target=self.attempt, args=(name, channel, due), name="notify", daemon=True).start()

    def forget(self) -> None:
        """Forget notices that ended long ago. Raises LedgerUnreachable."""
        self._notices.forget(time.time() - REMEMBERED_S)

    def attempt(self, name: str, channel: Mail | Webhook, due: Sequence[NoticeRow]) -> None:
        """Send notices once; what fails without a record is due again when its lease ends. Runs in its own thread."""
        try:
            rows = self._notices.begun(due, time.time() + 3 * channel.timeout_s + LEASE_S)
            if rows:
                self._send(name, channel, rows)
        except LedgerUnreachable as error:
            log.event("notices_wait_for_database", level="error", reason=str(error))
        except Exception:
            log.exception("notices_failed", channel=name)
        finally:
            with self._lock:
                self._busy.discard(name)

    def _send(self, name: str, channel: Mail | Webhook, rows: Sequence[NoticeRow]) -> None:
        """Send notices in one message, and record the result."""
        try:
            send(message_of([self.content_of(row) for row in rows], self._config.node.ae_title), channel)
        except NotTaken as error:
            self._not_taken(name, rows, str(error))
        else:
            self._notices.sent(rows)
            metrics.NOTICES.labels(channel=name, outcome="sent").inc(len(rows))
            log.event("notices_sent", channel=name, notices=len(rows))

    def _not_taken(self, name: str, rows: Sequence[NoticeRow], sentence: str) -> None:
        """Give up the notices that are too old, and postpone the others together."""
        before = time.time() - self._settings.give_up_after_s
        old = [row for row in rows if row.at.timestamp() < before]
        young = [row for row in rows if row.at.timestamp() >= before]
        if old:
            self._notices.given_up(old, sentence)
            metrics.NOTICES.labels(channel=name, outcome="given_up").inc(len(old))
            log.event("notices_given_up", level="error", channel=name, notices=len(old), reason=sentence)
        if young:
            tried = max(row.attempt for row in young)
            delay_s = back_off_s(tried, self._settings.retry_first_s, self._settings.retry_max_s, jitter())
            self._notices.postponed(young, sentence, time.time() + delay_s)
            metrics.NOTICES.labels(channel=name, outcome="postponed").inc(len(young))
            named: dict[str, object] = {"notices": len(young), "reason": sentence, "next_in_s": round(delay_s)}
            log.event("notices_postponed", level="warning", channel=name, **named)

    def content_of(self, row: NoticeRow) -> NoticeContent:
        """Return a notice with as much as the site wants to see of it (`notify.contents`)."""
        destination = next((one.name for one in self._config.destinations if row.words.startswith(f"{one.name} ")), "")
        contents, page = self._settings.contents, self._settings.page
        return NoticeContent(
            row,
            destination,
            page=f"{page.rstrip('/')}/jobs/{row.job}" if page and row.job else page or "",
            sentence="" if contents == "codes" else row.words[:LONGEST],
            patient=self.patient_of(row.job) if contents == "patients" and row.job is not None else None,
        )

    def patient_of(self, key: str) -> NoticePatient | None:
        """Return the patient in the first image of a job; None where the job or its images are deleted."""
        try:
            job = self._ledger.job(key)
            path = self._spool.series_folder(job.series_instance_uid) / f"{job.sop_instance_uids[0]}.dcm"
            header = dcmread(path, specific_tags=["PatientID", "PatientName", "SpecificCharacterSet"])
        except (UnknownJob, OSError, InvalidDicomError):
            return None
        return NoticePatient(str(header.get("PatientID", "")), str(header.get("PatientName", "")))


def send(message: Message, channel: Mail | Webhook) -> None:
    """Send a message over a channel. Raises NotTaken when the channel does not accept it."""
    if isinstance(channel, Mail):
        send_mail(message, channel)
    else:
        post_webhook(message, channel)
