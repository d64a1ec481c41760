"""The audit trail: who sent, saw, released, rejected, sent out; one line of JSON each, and a copy to a syslog server.

    trail = audit.Trail(config.audit, config.node.data)
    trail.record(audit.Event.RELEASED, by="cli:jane", job=job, studies=[uid], words="reason")

Lines are appended to `node.data/audit/YYYY-MM-DD.jsonl` (UTC) and synced; each is one write, so that any number of
processes may share the file. What a line holds is said in `audit_message` (PS3.15 A.5). A record is of an association
and a series, never of one instance; it names studies by UID, and patients only where `audit.patients` says so.

A trail that cannot be written never stops the work by itself: it is an error in the log and a metric. With
`audit.required` the receiver refuses instances (0xA700) until it can be written again.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomnode import log, metrics
from dicomnode.errors import OutOfResources
from dicomnode.security.audit_message import AuditRecord, Event, Message, Source, message, xml
from dicomnode.security.syslog import Syslog, line
from pipeline.durable_files import sync_folder

if TYPE_CHECKING:
    from dicomnode.config.sections import Audit

__all__ = ["AuditTrail", "Event"]

CLOSE_S: Final = 2.0


class AuditTrail:
    """Where records go. Thread-safe; any number of processes may write one trail."""

    def __init__(self, settings: Audit, data: Path, ae_title: str = "SCTNODE") -> None:
        self._settings = settings
        self._folder = data / "audit"
        self._source = Source(settings.source or ae_title, settings.site, ae_title, os.getpid())
        self._lock = threading.Lock()
        self._broken = False
        self._syslog = Syslog(settings.syslog, settings.syslog_tls) if settings.syslog else None

    def record(
        self,
        event: Event,
        *,
        by: str,
        address: str = "",
        peer: str = "",
        failed: str | None = None,
        job: str | None = None,
        studies: Sequence[str] = (),
        series: Sequence[str] = (),
        patients: Sequence[str] = (),
        instances: int = 0,
        words: str = "",
    ) -> None:
        """Write one record; it is on the disk when this returns. Never raises for a disk or a server that fails.

        `by`: "cli:jane", "web:jane", "ae:MR1" or "node". `peer`: AE title of the destination of a transfer outwards.
        `patients` (Patient IDs) are left out unless the configuration wants them.
        """
        now = datetime.datetime.now(datetime.UTC)
        shown = patients if self._settings.patients else ()
        at = now.isoformat(timespec="milliseconds")
        fact = AuditRecord(event, at, by, peer, address, failed, job, studies, series, shown, instances, words)
        record = message(fact, self._source)
        self._keep(record, now.date())
        if self._syslog is not None:
            self._syslog.send(line(xml(record), at))

    def close(self) -> None:
        """Give what waits for the syslog server a moment; the files have it all."""
        if self._syslog is not None:
            self._syslog.flush(CLOSE_S)

    def check(self) -> None:
        """Raise OutOfResources when the trail is required and cannot be written now."""
        if self._settings.required and self._broken:
            self._keep(None, datetime.datetime.now(datetime.UTC).date())
            if self._broken:
                raise OutOfResources("The audit trail cannot be written")

    def _keep(self, record: Message | None, day: datetime.date) -> None:
        """Append a record to the day's file; none only tries whether that can be done."""
        entry = b"" if record is None else json.dumps(record).encode() + b"\n"
        with self._lock:
            try:
                _append(self._folder, self._folder / f"{day.isoformat()}.jsonl", entry)
            except OSError as error:
                self._fails(error)
            else:
                self._broken = False

    def _fails(self, error: OSError) -> None:
        """The trail cannot be written."""
        self._broken = True
        metrics.AUDIT_FAILURES.labels(where="file").inc()
        log.event("audit_record_not_written", level="error", reason=error.strerror or "the disk fails")


def _append(folder: Path, path: Path, entry: bytes) -> None:
    """One write at the end of a file that only its owner and group may read, and sync.

    A line that a full disk cut short is ended first.
    """
    new = not path.exists()
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and entry and os.pread(descriptor, 1, size - 1) != b"\n":
            entry = b"\n" + entry
        if entry and os.write(descriptor, entry) != len(entry):
            raise OSError(errno.ENOSPC, "the disk is full")
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(folder)
