"""Collects the content of a job's report from the ledger's rows and the node's files, without torch.

`sct-node report JOB` writes the report, the page of the job links it, and companions carry it to a destination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom

from dicomnode import log
from dicomnode.cases.files import report_of
from dicomnode.cases.wording import answers, delivery_sentence, reason
from dicomnode.config.rules import JobSettings
from dicomnode.errors import ConfigError
from dicomnode.ledger.states import JobEvent
from pipeline.errors import Unsuitable
from pipeline.report.case_report import Case, Happened, Sent
from pipeline.report.figures import CaseVolumes
from pipeline.report.viewer_volumes import ct_of, mr_of
from pipeline.volume.volume import UNCERTAINTY, read_nifti

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import EventRow, JobRow
    from dicomnode.spool.spool import Spool


def case_of(ledger: Ledger, spool: Spool, row: JobRow, *, pictures: bool = True, named: bool = False) -> Case:
    """Collect all that is known of a job.

    Args:
        pictures: Read its volumes.
        named: Name the patient, from the MR's header.

    Raises:
        LedgerUnreachable: The database does not answer.
    """
    receipts = ledger.receipts(row.job)
    given = answers(receipts)
    sent = []
    for delivery in ledger.deliveries(row.job):
        instances = delivery.instances or row.ct_instances or 0
        words = delivery_sentence(delivery, receipts, instances).removeprefix(f"{delivery.destination}: ")
        own = [one for one in given if one.destination == delivery.destination]
        statuses = [(f"0x{one.status:04X} {one.meaning} {one.comment}".strip(), one.instances) for one in own]
        sent.append(Sent(delivery.destination, words, statuses))
    return Case(
        job=row.job,
        state=str(row.state),
        report=report_of(spool.outbox / row.job),
        mr_series_uid=row.source_series_uid,
        ct_series_uid=row.ct_series_uid or "",
        held=row.held,
        reason=reason(row),
        calling_ae=row.calling_ae,
        rule=row.rule or "",
        events=[Happened(one.at, one.event, one.by or "", one.words) for one in without_repetition(ledger, row)],
        deliveries=sent,
        images=volumes_of(spool, row) if pictures else None,
        subject=subject_of(spool, row) if named else "",
    )


def without_repetition(ledger: Ledger, row: JobRow) -> Sequence[EventRow]:
    """Return the events of a job, but of several `postponed` in a row only the last."""
    events = ledger.events(row.job)
    following = [*events[1:], None]
    return [
        one
        for one, after in zip(events, following, strict=True)
        if after is None or {one.event, after.event} != {JobEvent.POSTPONED}
    ]


def _files(spool: Spool, row: JobRow) -> list[Path]:
    """Return the MR files of which the job was made."""
    folder = spool.series_folder(row.source_series_uid)
    return [folder / f"{uid}.dcm" for uid in row.sop_instance_uids]


def volumes_of(spool: Spool, row: JobRow) -> CaseVolumes | None:
    """Read the volumes; None while there is no CT, or when files are deleted or damaged."""
    folder = spool.outbox / row.job
    if row.ct_series_uid is None:
        return None
    try:
        settings = JobSettings() if row.settings is None else JobSettings.read(row.settings)
        mr = mr_of(_files(spool, row), settings.volume, settings.stack)
        sd = read_nifti(folder / UNCERTAINTY) if (folder / UNCERTAINTY).is_file() else None
        return CaseVolumes(mr, ct_of(folder), sd)
    except (OSError, Unsuitable, ConfigError) as error:
        log.event("report_without_pictures", level="warning", job=row.job, reason=type(error).__name__)
        return None


def subject_of(spool: Spool, row: JobRow) -> str:
    """Return name, ID and date of birth as the MR has them (PS3.3 C.7.1.1); empty when its files are deleted."""
    wanted = ("PatientName", "PatientID", "PatientBirthDate")
    for path in _files(spool, row):
        try:
            header = pydicom.dcmread(path, specific_tags=list(wanted), stop_before_pixels=True)
        except (OSError, pydicom.errors.InvalidDicomError):
            continue
        return ", ".join(str(header[keyword].value) for keyword in wanted if header.get(keyword))
    return ""
