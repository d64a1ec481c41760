"""The companions that tell what was found and decided: written when a case is first sent, of its finished CT."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.companion import CtSeries
from pipeline.companion_kinds import CompanionKind
from pipeline.encapsulated_pdf import encapsulated_pdf
from pipeline.output_file import write_whole
from pipeline.report import Case, pdf_of
from pipeline.structured_report import structured_report


def write_told(kind: CompanionKind, case: Case, ct: Sequence[Path], into: Path, at: datetime) -> None:
    """Write the findings (`sr`) or the report (`pdf`) of a case into a folder, as of a moment (aware).

    `ct` are the files of its CT. Raises OSError, InvalidDicomError.
    """
    series = CtSeries.read(ct)
    told = structured_report(series, case, at) if kind == "sr" else encapsulated_pdf(series, pdf_of(case), at)
    write_whole([(kind, told)], into)
