"""The companions that tell what was found and decided: written when a case is first sent, of its finished CT."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.companions.companion import CtSeries
from pipeline.companions.encapsulated_pdf import encapsulated_pdf
from pipeline.companions.kinds import CompanionKind
from pipeline.companions.report_objects import structured_report
from pipeline.ct.files import write_whole
from pipeline.report.case_report import Case, pdf_of


def write_told(kind: CompanionKind, case: Case, ct: Sequence[Path], into: Path, at: datetime) -> None:
    """Write the findings (`sr`) or the report (`pdf`) of a case into a folder, as of a moment (aware).

    `ct` are the files of its CT. Raises OSError, InvalidDicomError.
    """
    series = CtSeries.read(ct)
    told = structured_report(series, case, at) if kind == "sr" else encapsulated_pdf(series, pdf_of(case), at)
    write_whole([(kind, told)], into)
