"""What a job's files say of it for the list of cases: scanner, protocol and findings. Read once, remembered.

there is out/<job>/report.json    all of it is there, and never changes again
there is only in/<series>/        scanner and protocol, from the header of one image
neither                           nothing: the files were deleted

What lies in out/<job>/ beside the CT files, for processes that make none.
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
"""Jobs whose facts are kept in memory, those asked for last."""

UNKNOWN: Final = Origin("", "")


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a job: where its series comes from, how many findings there are, and the names of those that do not pass."""

    origin: Origin
    findings: int = 0
    doubtful: tuple[str, ...] = ()


class Known:
    """The facts of jobs, from the files below `root` (`node.data`). Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: OrderedDict[tuple[str, bool], Facts] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: JobRow) -> Facts:
        """The facts of a job; what cannot be read is left out."""
        key = (job.job, job.ct_series_uid is not None)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        facts = self._read(job)
        if facts is None:
            return Facts(UNKNOWN)
        with self._lock:
            self._kept[key] = facts
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return facts

    def _read(self, job: JobRow) -> Facts | None:
        """From the report where there is one, else from an image; None when nothing can be read now."""
        if job.ct_series_uid is not None:
            try:
                return _reported(json.loads((self._root / "out" / job.job / REPORT).read_text(encoding="utf-8")))
            except OSError:
                return None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.event("report_unreadable", level="warning", job=job.job, reason=type(error).__name__)
                return Facts(UNKNOWN)
        return self._of_an_image(job)

    def _of_an_image(self, job: JobRow) -> Facts | None:
        """From the header of an image of the series."""
        path = self._root / "in" / job.series_instance_uid / f"{min(job.sop_instance_uids)}.dcm"
        try:
            return Facts(origin_of(Series.of([read_instance(path)])))
        except (Unsuitable, OSError):
            return None


def _reported(report: Any) -> Facts:
    """Reports of earlier versions name neither scanner nor protocol. Raises KeyError, TypeError for no report."""
    if not isinstance(report, dict):
        raise TypeError
    origin = Origin(str(report.get("scanner", "")), str(report.get("protocol", "")))
    doubtful = tuple(str(one["name"]) for one in report["findings"] if one["verdict"] != "pass")
    return Facts(origin, len(report["findings"]), doubtful)


REPORT: Final = "report.json"


def report_of(folder: Path) -> dict[str, Any]:
    """What the report of a job says; nothing where there is none (yet, or any more), or it is damaged."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
