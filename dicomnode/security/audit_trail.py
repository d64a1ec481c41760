"""The audit trail (PS3.15 A.5): who sent, saw, released or rejected what. One line of JSON each; a copy goes to syslog.

    trail = audit.Trail(config.audit, config.node.data)
    trail.record(audit.Event.RELEASED, by="cli:jane", job=job, studies=[uid], words="reason")

Lines are appended to `node.data/audit/YYYY-MM-DD.jsonl` (UTC) and synced; each is one write, so that any number of
processes may share the file. `audit_message` defines the content of a line. A record is about an association and a
series, never about one instance; it names studies by UID, and patients only with `audit.patients`.

A trail that cannot be written does not stop the work: it is an error in the log and a metric. With `audit.required` the
receiver refuses instances (0xA700, PS3.4 Table B.2-1) until the trail can be written again.
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
    """Writes the records. Thread-safe; any number of processes may write one trail."""

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

        Args:
            event: what happened.
            by: who did it: "cli:jane", "web:jane", "ae:MR1" or "node".
            address: network address of `by`, or of `peer`.
            peer: AE title of the destination of a transfer outwards.
            failed: why it did not succeed.
            job: key of the job.
            studies: Study Instance UIDs.
            series: Series Instance UIDs.
            patients: Patient IDs; left out unless `audit.patients` is set.
            instances: number of instances.
            words: a sentence, such as the reason that a person gave.
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
        """Wait at most CLOSE_S for the syslog server; the files hold every record."""
        if self._syslog is not None:
            self._syslog.flush(CLOSE_S)

    def check(self) -> None:
        """Raise OutOfResources when the trail is required and cannot be written now."""
        if self._settings.required and self._broken:
            self._keep(None, datetime.datetime.now(datetime.UTC).date())
            if self._broken:
                raise OutOfResources("The audit trail cannot be written")

    def _keep(self, record: Message | None, day: datetime.date) -> None:
        """Append a record to the day's file; None only tests whether that is possible."""
        entry = b"" if record is None else json.dumps(record).encode() + b"\n"
        with self._lock:
            try:
                _append(self._folder, self._folder / f"{day.isoformat()}.jsonl", entry)
            except OSError as error:
                self._broken = True
                metrics.AUDIT_FAILURES.labels(where="file").inc()
                log.event("audit_record_not_written", level="error", reason=error.strerror or "the disk fails")
            else:
                self._broken = False


def _append(folder: Path, path: Path, entry: bytes) -> None:
    """Append an entry by one write to a file that only its owner and group may read, and sync it.

    A line that a full disk has cut short is ended first.
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
