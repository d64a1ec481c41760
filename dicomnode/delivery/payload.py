"""What a destination gets of a job: the CT series, then the companions that it asks for.

    out/<job>/0001.dcm ...             the CT series                        made with the job
    out/<job>/companions/<kind>.dcm    outline, segments, uncertainty       made with the job
    out/<job>/sr/sr.dcm                findings, and what was decided       made when it is first sent, by one rename
    out/<job>/pdf/pdf.dcm              the report                           likewise

Whatever is made once is never made anew: every destination, and every attempt, gets the same bytes under the same UIDs.
A companion that could not be made of the case, or that nobody asked for when the job was made, is not sent: the job's
report says so, and so does the log.
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
    """What one destination gets, in the order in which it is sent."""

    ct: tuple[Path, ...]
    companions: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All of it."""
        return [*self.ct, *self.companions]

    def series(self) -> list[str]:
        """Series Instance UIDs: the CT's, then each companion's."""
        return [str(_of(path, "SeriesInstanceUID")) for path in (*self.ct[:1], *self.companions)]

    def studies(self) -> list[str]:
        """Study Instance UIDs: all of it lies in one study."""
        return [str(uid) for uid in {_of(path, "StudyInstanceUID") for path in self.ct[:1]} if uid]


def _of(path: Path, keyword: str) -> object:
    return dcmread(path, specific_tags=[keyword]).get(keyword)


def load_of(ledger: Ledger, spool: Spool, row: JobRow, destination: Destination) -> Load:
    """What a destination gets of a job. Raises FileNotFoundError when the job's folder is not there."""
    folder = spool.published(row.job)
    if folder is None:
        raise FileNotFoundError(f"out/{row.job}/ is missing, although its synthesis is on record")
    ct = tuple(sorted(folder.glob("*.dcm")))
    for kind in destination.companions:
        if COMPANIONS[kind].decided:
            spool.attach(row.job, kind, _Told(kind, ledger, spool, row, ct))
    places = {kind: _place(folder, kind) for kind in COMPANIONS if kind in destination.companions}
    missing = [kind for kind, path in places.items() if not path.exists()]
    if missing:
        log.event("companions_not_sent", job=row.job, destination=destination.name, missing=", ".join(missing))
    companions = tuple(path for kind, path in places.items() if kind not in missing)
    return Load(ct, companions)


def _place(folder: Path, kind: CompanionKind) -> Path:
    """Where the file of a companion is, or would be."""
    return folder / (kind if COMPANIONS[kind].decided else MADE_WITH_THE_CT) / f"{kind}.dcm"


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of a case at the moment of the call, as a companion."""

    kind: CompanionKind
    ledger: Ledger
    spool: Spool
    row: JobRow
    ct: tuple[Path, ...]

    def __call__(self, into: Path) -> None:
        """Write it into a folder."""
        from dicomnode.cases.report import case_of  # both take long to import, and few destinations ask for them
        from pipeline.companions.report_objects import write_report_object

        case = case_of(self.ledger, self.spool, self.row)
        write_report_object(self.kind, case, self.ct, into, datetime.datetime.now(datetime.UTC))
