"""Audit records of transfers to the node: one when a study begins to come over an association, one when it ends.

The first record is on the disk before the first instance is acknowledged, so the sender is known whatever happens next
(Begin Transferring DICOM Instances, PS3.15 A.5.3.3; DICOM Instances Transferred, PS3.15 A.5.3.7).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicomnode.dimse.admission import calling_ae
from dicomnode.security.audit_message import Event as Audited

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from dicomnode.security.audit_trail import AuditTrail
    from dicomnode.spool.instance_file import Incoming


@dataclass
class _Count:
    """The series and the number of instances of one study over one association."""

    series: set[str] = field(default_factory=set)
    instances: int = 0


class TransferAudit:
    """Counts the instances that come over each association until it ends. Thread-safe."""

    def __init__(self, trail: AuditTrail | None) -> None:
        self._trail = trail
        self._counts: dict[Association, dict[tuple[str, str], _Count]] = {}
        self._lock = threading.Lock()

    def count(self, association: Association, incoming: Incoming) -> None:
        """Count an instance that is on the disk and about to be acknowledged."""
        if self._trail is None:
            return
        study = (incoming.study_uid, incoming.patient_id)
        with self._lock:
            counts = self._counts.setdefault(association, {})
            first = study not in counts
            count = counts.setdefault(study, _Count())
            count.series.add(incoming.series_uid)
            count.instances += 1
        if first:
            self._record(Audited.BEGIN_TRANSFERRING, association, study, _Count({incoming.series_uid}))

    def end(self, event: Event) -> None:
        """Record the transfers of an association that was released or aborted (EVT_RELEASED, EVT_ABORTED)."""
        self._record_end(event.assoc)

    def sweep(self) -> None:
        """Record the transfers of associations that ended without an event."""
        with self._lock:
            ended = [association for association in self._counts if not association.is_alive()]
        for association in ended:
            self._record_end(association)

    def _record_end(self, association: Association) -> None:
        """Record all studies that came over an association."""
        with self._lock:
            counts = self._counts.pop(association, {})
        failed = None if association.is_released else "the association was aborted"
        for study, count in counts.items():
            self._record(Audited.INSTANCES_TRANSFERRED_IN, association, study, count, failed)

    def _record(
        self,
        event: Audited,
        association: Association,
        study: tuple[str, str],
        count: _Count,
        failed: str | None = None,
    ) -> None:
        """Write the record of one study, given as Study Instance UID and Patient ID."""
        assert self._trail is not None
        study_uid, patient_id = study
        self._trail.record(
            event,
            by=f"ae:{calling_ae(association)}",
            address=association.requestor.address or "",
            failed=failed,
            studies=[study_uid] if study_uid else [],
            patients=[patient_id] if patient_id else [],
            series=sorted(count.series),
            instances=count.instances,
        )
