"""Facts about a job from its files, for the list of cases: scanner, protocol and findings.

    file                            what is known: scanner (PS3.3 C.7.5.1), protocol (PS3.3 C.7.3.1), findings
    out/<job>/report.json exists    all of them, and they never change again
    only in/<series>/ exists        scanner and protocol, from the header of one image
    neither                         none: the files were deleted

They are read once and remembered.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnode import log
from pipeline.errors import Unsuitable
from pipeline.series.attributes import Origin, origin_of
from pipeline.series.series import Series, read_instance

if TYPE_CHECKING:
    from pathlib import Path

    from dicomnode.ledger.rows import JobRow

REMEMBERED: Final = 2000
"""Jobs whose facts are kept in memory: those that were asked for last."""

UNKNOWN: Final = Origin("", "")


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Facts of a job: scanner and protocol, the number of its findings, and the names of those that do not pass."""

    origin: Origin
    findings: int = 0
    not_passing: tuple[str, ...] = ()


class JobFactsCache:
    """Reads and remembers the facts of jobs from the files below `root` (`node.data`). Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: OrderedDict[tuple[str, bool], JobFacts] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: JobRow) -> JobFacts:
        """Return the facts of a job; what cannot be read is left out."""
        key = (job.job, job.ct_series_uid is not None)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        facts = self.read(job)
        if facts is None:
            return JobFacts(UNKNOWN)
        with self._lock:
            self._kept[key] = facts
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return facts

    def read(self, job: JobRow) -> JobFacts | None:
        """Read the facts from the report where there is one, else from an image; None when neither can be read now."""
        if job.ct_series_uid is None:
            path = self._root / "in" / job.series_instance_uid / f"{min(job.sop_instance_uids)}.dcm"
            try:
                return JobFacts(origin_of(Series.of([read_instance(path)])))
            except (Unsuitable, OSError):
                return None
        try:
            report = json.loads((self._root / "out" / job.job / REPORT).read_text(encoding="utf-8"))
            origin = Origin(str(report.get("scanner", "")), str(report.get("protocol", "")))
            not_passing = tuple(str(one["name"]) for one in report["findings"] if one["verdict"] != "pass")
            return JobFacts(origin, len(report["findings"]), not_passing)
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.event("report_unreadable", level="warning", job=job.job, reason=type(error).__name__)
            return JobFacts(UNKNOWN)


REPORT: Final = "report.json"


def report_of(folder: Path) -> dict[str, Any]:
    """Return the report of a job; empty where there is none (yet, or any more), or it is damaged."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
