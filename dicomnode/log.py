"""Structured logs: one JSON object (RFC 8259) per line on stderr, with job and series, never a patient's name or ID.

Every line has the keys `time` (UTC, RFC 3339), `level`, `event` (a code of `EVENTS`), `message` (its sentence) and
`role`. The caller adds others: `job`, `series`, `destination`, ... Callers pass UIDs and counts, never header text of a
patient.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

LOGGER: Final = logging.getLogger("sct_node")

WARNINGS_ONLY: Final = ("pynetdicom", "pydicom", "dbos", "uvicorn.access", "sqlalchemy", "asyncio")
"""Libraries of which only warnings and errors are logged."""

WITHHELD: Final = ("pydicom", "pynetdicom", "highdicom", "py.warnings")
"""Loggers whose messages may quote a header, and so a patient: only the place of the message is logged."""

SILENCED: Final = ("pynetdicom.transport", "pynetdicom.acse")
"""Loggers that repeat what our own events report about a connection."""

ERRORS_ONLY: Final = ("pynetdicom.association",)
"""Loggers of which only errors are logged: this one warns of each answer to a commitment report (PS3.4 J.3.3) that the
node sends over the association of the sender."""


EVENTS: Final[Mapping[str, str]] = {
    "association_aborted": "An association was aborted.",
    "association_accepted": "An association was accepted.",
    "association_rejected": "An association was rejected.",
    "association_released": "An association was released.",
    "attempt_outdated": "The job continued while this attempt ran: its result is not used.",
    "audit_record_not_sent": "An audit record could not be sent to syslog: it is tried again.",
    "audit_record_not_written": "An audit record could not be written.",
    "audit_records_left_out": "Audit records are left out of syslog: too many wait.",
    "call_refused": "A connection or an association was refused.",
    "certificate_expired": "A certificate has expired.",
    "certificate_expires": "A certificate expires soon.",
    "commitment_confirmed": "A destination confirms that it keeps the instances that it accepted (PS3.4 J.3.3).",
    "commitment_failed": "A report of storage commitment failed for a fault of the node: it is tried again.",
    "commitment_not_asked": "A destination could not be asked for storage commitment: it is asked again.",
    "commitment_report_given_up": "A report of storage commitment could not be sent for too long: it is given up.",
    "commitment_report_postponed": "A report of storage commitment could not be sent: it is tried again later.",
    "commitment_report_refused": "A report of storage commitment was refused.",
    "commitment_reported": "The result of a storage commitment request was reported to the sender.",
    "commitment_request_refused": "A request for storage commitment was refused.",
    "commitment_requested": "A sender asked for storage commitment.",
    "commitments_failed": "Requests for storage commitment could not be worked on: they are tried again.",
    "commitments_wait_for_database": "Reports of storage commitment wait for the database.",
    "companions_not_sent": "A destination does not accept some of the companions.",
    "constancy_failed": "The constancy check failed for a fault of the node.",
    "constancy_measured": "A constancy check was made.",
    "constancy_not_noted": "A constancy run could not be stored.",
    "constancy_not_withdrawn": "A constancy notice could not be withdrawn.",
    "constancy_reference_accepted": "A constancy run was accepted as reference.",
    "database_awaited": "The process waits for the database.",
    "database_upgraded": "The database was brought to this version.",
    "deleted_series_received": "Images of a deleted series came again: they are kept, and no job is made of them.",
    "delivery_failed": "A delivery failed for a fault of the node.",
    "delivery_postponed": "The delivery failed and is tried again later.",
    "delivery_requeued": "The workflow of an attempt ended without a result: the delivery was queued again.",
    "delivery_stopped": "The delivery was stopped.",
    "destination_asked": "A destination was asked by C-ECHO from the page.",
    "destination_lost_instances": "Alarm: a destination does not keep instances that it accepted (PS3.4 J.3.3).",
    "destination_undelivered": "Alarm: a destination has not taken a series for too long.",
    "destination_unproven": "Alarm: a destination has not confirmed for too long that it keeps a series (PS3.4 J.3.3).",
    "dicom_listening": "The node listens for DICOM.",
    "form_refused": "A form that does not come from this page was refused.",
    "hanging_attempt_not_noted": "The ledger could not store that an attempt hangs.",
    "host_taken_over": "The work of a dead process was put back into the queues.",
    "instance_conflict": "An instance came again with other bytes: both are kept.",
    "instance_refused": "An instance was refused.",
    "instance_stored": "An instance is on the disk.",
    "instances_late": "Instances came after a job had taken their series.",
    "job_held": "The job is held: a person must look at it.",
    "job_superseded": "More instances came: another job takes over.",
    "library_warning": "A library has logged a warning; its message is withheld, because it may quote a header.",
    "message_not_understood": "A message could not be understood: its association ends.",
    "metrics_not_served": "Metrics and health cannot be served.",
    "metrics_served_elsewhere": "Another process serves metrics and health already.",
    "negotiation_failed": "An association request could not be negotiated.",
    "node_started": "The processes of the node are started.",
    "node_stopped": "All processes of the node have stopped.",
    "notice_not_written": "A notice could not be stored.",
    "notices_failed": "Notices could not be sent for a fault of the node: they are tried again.",
    "notices_given_up": "Notices could not be sent for too long: they are given up.",
    "notices_postponed": "A channel did not accept notices: they are tried again later.",
    "notices_sent": "Notices were sent.",
    "notices_wait_for_database": "Notices wait for the database.",
    "page_closed": "The page is not served: nobody could sign in.",
    "pdu_not_understood": "A PDU could not be understood: its connection ends.",
    "pdu_too_long": "A peer announced a PDU that is too long: its connection was closed.",
    "peer_too_slow": "A peer was too slow: its connection was closed.",
    "proof_not_asked": "A request for storage commitment failed and is tried again.",
    "proofs_wait_for_database": "Requests for storage commitment wait for the database.",
    "receiver_adopted": "Another receiver died: its arriving series are looked for.",
    "report_unreadable": "The report.json of a job cannot be read.",
    "report_without_pictures": "The report of a job has no pictures: they cannot be made.",
    "role_killed": "A process of the node did not tick any more and was killed.",
    "role_restarted": "A process of the node ended and is started again.",
    "role_started": "A process of the node has started.",
    "role_stopped": "A process of the node has stopped.",
    "series_deleted": "The files of a series that was delivered long ago are deleted.",
    "series_delivered": "The destination has the whole series.",
    "series_not_handed_over": "A complete series could not become a job: it is tried again.",
    "series_received": "A complete series became a job; `action` says what a rule does with it.",
    "series_rejected": "The series cannot become a synthetic CT.",
    "series_synthesized": "The synthetic CT series is on the disk.",
    "stored_file_damaged": "A stored file is not as it was received.",
    "synthesis_failed": "A synthesis failed for a fault of the node.",
    "synthesis_hangs": "A synthesis exceeded synthesize.timeout_s: its process ends.",
    "synthesis_requeued": "A job had no workflow in the engine: it was put into the queue again.",
    "tick_failed": "A tick of the process failed and is tried again.",
    "tls_files_rejected": "The TLS files changed and cannot be used: the old ones stay in use.",
    "tls_files_reloaded": "The TLS files were loaded again.",
    "uid_conflict": "One SOP Instance UID stands for two things: all files are kept.",
    "unhandled_error": "An error that nothing caught ended a thread or a process.",
    "web_certificate_rejected": "The certificate of the page changed and cannot be used: the old one stays in use.",
    "web_certificate_reloaded": "The certificate of the page was loaded again.",
}
"""Code of each event that the node logs -> its sentence. A code never changes: alert rules and RUNBOOK name it."""


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; the fields given to `event` follow the keys that every line has."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "code", "library_warning"),
            "message": record.getMessage(),
            "role": self._role,
        }
        if record.name != LOGGER.name:
            line["logger"] = record.name
        if record.name.startswith(WITHHELD):
            line |= {"message": EVENTS["library_warning"], "at": f"{record.module}:{record.lineno}"}
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            # Without the message, which may quote a header; the ledger holds the whole traceback of a job.
            frames = traceback.extract_tb(record.exc_info[2])[-3:]
            where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
            line |= {"error": record.exc_info[0].__name__, "where": where}
        return json.dumps(line, default=str)


def start(role: str, level: str = "info") -> None:
    """Write the logs of this process to stderr as JSON lines; every line names `role`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _unhandled
    threading.excepthook = lambda failed: _unhandled(failed.exc_type, failed.exc_value, failed.exc_traceback)
    for name in WARNINGS_ONLY:
        log_warnings_only(name)
    for name in ERRORS_ONLY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _unhandled(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log an error that nothing caught, and that ends its thread or process."""
    if error is not None:
        _log(logging.CRITICAL, "unhandled_error", {}, (kind, error, trace))


def log_warnings_only(library: str) -> None:
    """Send the warnings and errors of a library to the handler of `start`, and drop its other messages."""
    logger = logging.getLogger(library)
    logger.handlers[:] = []
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def event(code: str, /, level: str = "info", **fields: object) -> None:
    """Log an event of `EVENTS` with its named fields, none of which holds patient data. KeyError for another code."""
    _log(logging.getLevelNamesMapping()[level.upper()], code, fields)


def exception(code: str, /, level: str = "error", **fields: object) -> None:
    """Log an event of `EVENTS` with the type and the place of the error in handling, without its message."""
    _log(logging.getLevelNamesMapping()[level.upper()], code, fields, sys.exc_info())


def _log(level: int, code: str, fields: Mapping[str, object], error: Any = None) -> None:
    LOGGER.log(level, EVENTS[code], exc_info=error, extra={"code": code, "fields": dict(fields)})
