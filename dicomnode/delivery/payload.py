"""The files that a destination gets of a job: the CT series, then the companions that it asks for.

    out/<job>/0001.dcm ...             the CT series                        written with the job
    out/<job>/companions/<kind>.dcm    outline, segments, uncertainty       written with the job
    out/<job>/sr/sr.dcm                findings and the decision            written when first sent, by one rename
    out/<job>/pdf/pdf.dcm              the report                           likewise

Each object is written once: every destination and every attempt gets the same bytes under the same UIDs. A companion
that could not be made, or that no destination asked for when the job was made, is not sent; the job's report and the
log say so.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.filereader import dcmread

from dicomnode import log
from pipeline.companions.kinds import COMPANIONS, MADE_WITH_THE_CT

if TYPE_CHECKING:
    from pathlib import Path

    from dicomnode.config.peers import Destination
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow
    from dicomnode.spool.spool import Spool
    from pipeline.companions.kinds import CompanionKind


@dataclass(frozen=True, slots=True)
class Load:
    """The files for one destination, in the order in which they are sent."""

    ct: tuple[Path, ...]
    companions: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Return all files."""
        return [*self.ct, *self.companions]

    def series(self) -> list[str]:
        """Return the Series Instance UIDs: the CT's, then each companion's."""
        return [str(_value(path, "SeriesInstanceUID")) for path in (*self.ct[:1], *self.companions)]

    def studies(self) -> list[str]:
        """Return the Study Instance UIDs; all files belong to one study."""
        return [str(uid) for uid in {_value(path, "StudyInstanceUID") for path in self.ct[:1]} if uid]


def _value(path: Path, keyword: str) -> object:
    return dcmread(path, specific_tags=[keyword]).get(keyword)


def load_of(ledger: Ledger, spool: Spool, row: JobRow, destination: Destination) -> Load:
    """Return the files of a job for a destination; the report objects are written where they are missing.

    Raises FileNotFoundError when the job's folder is missing.
    """
    folder = spool.published(row.job)
    if folder is None:
        raise FileNotFoundError(f"out/{row.job}/ is missing, although its synthesis is on record")
    ct = tuple(sorted(folder.glob("*.dcm")))
    paths: dict[str, Path] = {}
    for kind in (one for one in COMPANIONS if one in destination.companions):
        if COMPANIONS[kind].decided:
            spool.attach(row.job, kind, WriteReportObject(kind, ledger, spool, row, ct))
        paths[kind] = folder / (kind if COMPANIONS[kind].decided else MADE_WITH_THE_CT) / f"{kind}.dcm"
    missing = [kind for kind, path in paths.items() if not path.exists()]
    if missing:
        log.event("companions_not_sent", job=row.job, destination=destination.name, missing=", ".join(missing))
    return Load(ct, tuple(path for kind, path in paths.items() if kind not in missing))


@dataclass(frozen=True, slots=True)
class WriteReportObject:
    """Writes what is known of a job at the moment of the call as a structured report or an encapsulated PDF."""

    kind: CompanionKind
    ledger: Ledger
    spool: Spool
    row: JobRow
    ct: tuple[Path, ...]

    def __call__(self, into: Path) -> None:
        """Write the object into a folder."""
        from dicomnode.cases.report import case_of  # both take long to import, and few destinations ask for them
        from pipeline.companions.report_objects import write_report_object

        case = case_of(self.ledger, self.spool, self.row)
        write_report_object(self.kind, case, self.ct, into, datetime.datetime.now(datetime.UTC))
