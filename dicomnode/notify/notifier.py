"""Tells people what is in the queue of notices, over each channel of the configuration.

A channel is tried by a thread of its own, one message at a time, so that a mail server that hangs delays neither the
node nor the other channel. What a channel does not take is tried again with growing delays, for days; then it is given
up, with an error in the log.
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
"""An attempt that has not ended so long after its patience is made again: its process did not survive it."""
REMEMBERED_S: Final = 30 * 86_400.0


class Notifier:
    """Sends what is due; any number of processes may do so at once."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool) -> None:
        self._config = config
        self._settings = config.notify
        self._ledger = ledger
        self._spool = spool
        self._notices = Notices(ledger.engine)
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Begin what is due; returns at once. Raises LedgerUnreachable."""
        channels = self._settings.channels
        self._notices.divide(self._settings.kinds, channels, self._settings.gather_s)
        for name, channel in channels.items():
            if name in self._busy:
                continue
            due = self._notices.due(name)
            if due:
                with self._lock:
                    self._busy.add(name)
                threading.Thread(target=self._try, args=(name, channel, due), name="notify", daemon=True).start()

    def forget(self) -> None:
        """Forget what ended long ago. Raises LedgerUnreachable."""
        self._notices.forget(time.time() - REMEMBERED_S)

    def _try(self, name: str, channel: Mail | Webhook, due: Sequence[NoticeRow]) -> None:
        """One attempt, in a thread of its own; what fails without being noted is due again after its lease."""
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
        try:
            send(message_of([self._told(row) for row in rows], self._config.node.ae_title), channel)
        except NotTaken as error:
            self._not_taken(name, rows, str(error))
        else:
            self._notices.sent(rows)
            metrics.NOTICES.labels(channel=name, outcome="sent").inc(len(rows))
            log.event("notices_sent", channel=name, notices=len(rows))

    def _not_taken(self, name: str, rows: Sequence[NoticeRow], sentence: str) -> None:
        """Those that are too old are given up, the others are tried again together."""
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
            log.event(
                "notices_postponed",
                level="warning",
                channel=name,
                notices=len(young),
                reason=sentence,
                next_in_s=round(delay_s),
            )

    def _told(self, row: NoticeRow) -> NoticeContent:
        """A notice with as much as the site wants to be told."""
        destination = next((one.name for one in self._config.destinations if row.words.startswith(f"{one.name} ")), "")
        contents, page = self._settings.contents, self._settings.page
        return NoticeContent(
            row,
            destination,
            page=f"{page.rstrip('/')}/jobs/{row.job}" if page and row.job else page or "",
            sentence="" if contents == "codes" else row.words[:LONGEST],
            patient=self._patient(row) if contents == "patients" else None,
        )

    def _patient(self, row: NoticeRow) -> NoticePatient | None:
        """The patient of the job's first image; None where there is no job, or no image any more."""
        if row.job is None:
            return None
        try:
            job = self._ledger.job(row.job)
            path = self._spool.series_folder(job.series_instance_uid) / f"{job.sop_instance_uids[0]}.dcm"
            header = dcmread(path, specific_tags=["PatientID", "PatientName", "SpecificCharacterSet"])
        except (UnknownJob, OSError, InvalidDicomError):
            return None
        return NoticePatient(str(header.get("PatientID", "")), str(header.get("PatientName", "")))


def send(message: Message, channel: Mail | Webhook) -> None:
    """Send a message over a channel. Raises NotTaken."""
    if isinstance(channel, Mail):
        send_mail(message, channel)
    else:
        post_webhook(message, channel)
