"""What lies in out/<job>/ beside the CT files, for processes that make none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

REPORT: Final = "report.json"


def report_of(folder: Path) -> dict[str, Any]:
    """What the report of a job says; nothing where there is none (yet, or any more), or it is damaged."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
