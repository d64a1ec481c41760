"""Structured logs: one JSON object a line on stderr, with job and series, never a patient's name or ID.

Keys always there: `time` (UTC, ISO 8601), `level`, `event`. Further ones as the caller names them: `job`, `series`,
`role`, `destination`, ... Callers pass UIDs and counts; header text of a patient is nobody's to log.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

LOGGER: Final = logging.getLogger("sct_node")

QUIET: Final = ("pynetdicom", "pydicom", "dbos", "uvicorn.access", "sqlalchemy", "asyncio")
"""Libraries that are heard from warning upward only."""

WITHHELD: Final = ("pydicom", "pynetdicom", "highdicom", "py.warnings")
"""Loggers whose words may quote a header, and so a patient: only that they spoke, and where, is logged."""

UNHEARD: Final = ("pynetdicom.transport", "pynetdicom.acse")
"""Loggers that repeat what our own events say of a connection."""

OVERANXIOUS: Final = ("pynetdicom.association",)
"""Loggers heard from error upward: this one warns of each answer to a report of ours over a sender's association."""


class JsonLines(logging.Formatter):
    """One JSON object a record; the fields given to `event` come after time, level and event."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "role": self._role,
        }
        if record.name != LOGGER.name:
            line["logger"] = record.name
        if record.name.startswith(WITHHELD):
            line |= {"event": "a library has something to say", "at": f"{record.module}:{record.lineno}"}
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "where": _where(record.exc_info[2])}
        return json.dumps(line, default=str)


def _where(trace: TracebackType | None) -> list[str]:
    """The last places of a traceback, without the message: that may quote a header. The ledger has a job's in full."""
    frames = traceback.extract_tb(trace)[-3:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def start(role: str, level: str = "info") -> None:
    """Send this process's logs to stderr as JSON lines; `role` goes into every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _unhandled
    threading.excepthook = lambda failed: _unhandled(failed.exc_type, failed.exc_value, failed.exc_traceback)
    for name in QUIET:
        tame(name)
    for name in OVERANXIOUS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in UNHEARD:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _unhandled(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """An error that nothing caught ends its thread or process, and says so as all others do."""
    if error is not None:
        LOGGER.critical("unhandled error", exc_info=(kind, error, trace))


def tame(library: str) -> None:
    """A library's logger speaks through ours, from warning upward."""
    logger = logging.getLogger(library)
    logger.handlers[:] = []
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def event(name: str, /, level: str = "info", **named: object) -> None:
    """Log that `name` (a few plain words) happened, with its `named` fields; no patient data in any of them."""
    LOGGER.log(logging.getLevelNamesMapping()[level.upper()], name, extra={"fields": named})


def fields(**named: object) -> dict[str, object]:
    """The `extra` of a call to LOGGER: its fields in the line."""
    return {"fields": named}
