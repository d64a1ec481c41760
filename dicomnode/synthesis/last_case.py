"""What a case looked like, as metrics: its findings, by scanner and protocol.

Names of scanners and protocols come from the images, so their number is bounded here: the first `PAIRS` pairs that this
machine counts keep their names, over restarts; whatever comes later is `other`. A name is shortened to `LONGEST`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dicomnode import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
PAIRS: Final = 20
LONGEST: Final = 40
OTHER: Final = ("other", "other")
NOT_NAMED: Final = "not named"


class Cases:
    """Counts cases; `folder` is where the processes of this machine keep their metrics."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._named: set[tuple[str, str]] = set()

    def count(self, report: Mapping[str, Any]) -> None:
        """Count a case by its report: the scanner, the protocol, and its findings."""
        scanner, protocol = self._pair(_name(report.get("scanner")), _name(report.get("protocol")))
        metrics.CASES.labels(scanner=scanner, protocol=protocol).inc()
        for one in report["findings"]:
            judged(one["name"], one["verdict"])
            gauge, factor = metrics.FINDING_BY_UNIT.get(one["unit"], (None, 0.0))
            if gauge is not None and isinstance(one["value"], int | float):
                labels = {"finding": one["name"], "scanner": scanner, "protocol": protocol}
                gauge.labels(**labels).set(one["value"] * factor)

    def _pair(self, scanner: str, protocol: str) -> tuple[str, str]:
        """The pair as it may be shown; a new one only while there is room."""
        pair = (scanner, protocol)
        if pair not in self._named:
            seen = metrics.seen(self._folder, "sct_node_cases", ("scanner", "protocol")) - {OTHER}
            self._named |= {(known[0], known[1]) for known in seen}
            if pair not in self._named and len(self._named) >= PAIRS:
                return OTHER
            self._named.add(pair)
        return pair


def judged(finding: str, verdict: str) -> None:
    """Count a check of a case, also of one of which there will be no CT."""
    metrics.FINDINGS.labels(finding=finding, verdict=verdict).inc()


def _name(text: object) -> str:
    """A name as a label may hold it: printable, on one line, not too long."""
    plain = "".join(one if one.isprintable() else " " for one in text) if isinstance(text, str) else ""
    return " ".join(plain.split())[:LONGEST].strip() or NOT_NAMED
