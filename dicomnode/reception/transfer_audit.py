"""Who sent what: one audit record when a study begins to come over an association, and one when the association ends.

The first is on the disk before the first instance is acknowledged, so that a sender is known whatever happens next
(PS3.15 A.5.3.3, A.5.3.7).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicomnode.reception.request import calling_ae
from dicomnode.security.audit_message import Event as Audited

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from dicomnode.security.audit_trail import AuditTrail
    from dicomnode.spool.instance_file import Incoming


@dataclass
class _Count:
    """Of one study, over one association."""

    series: set[str] = field(default_factory=set)
    instances: int = 0


class TransferAudit:
    """Counts what comes over each association until it ends. Thread-safe."""

    def __init__(self, trail: AuditTrail | None) -> None:
        self._trail = trail
        self._counts: dict[Association, dict[tuple[str, str], _Count]] = {}
        self._lock = threading.Lock()

    def stored(self, association: Association, incoming: Incoming) -> None:
        """An instance is on the disk, and about to be acknowledged."""
        if self._trail is None:
            return
        about = (incoming.study_uid, incoming.patient_id)
        with self._lock:
            counts = self._counts.setdefault(association, {})
            first = about not in counts
            count = counts.setdefault(about, _Count())
            count.series.add(incoming.series_uid)
            count.instances += 1
        if first:
            self._record(Audited.BEGIN_TRANSFERRING, association, about, _Count({incoming.series_uid}))

    def ended(self, event: Event) -> None:
        """The association was released or aborted (EVT_RELEASED, EVT_ABORTED)."""
        self._end(event.assoc)

    def sweep(self) -> None:
        """End what ended in another way."""
        with self._lock:
            gone = [association for association in self._counts if not association.is_alive()]
        for association in gone:
            self._end(association)

    def _end(self, association: Association) -> None:
        """Record what came over an association."""
        with self._lock:
            counts = self._counts.pop(association, {})
        failed = None if association.is_released else "the association was aborted"
        for about, count in counts.items():
            self._record(Audited.INSTANCES_TRANSFERRED_IN, association, about, count, failed)

    def _record(
        self,
        event: Audited,
        association: Association,
        about: tuple[str, str],
        count: _Count,
        failed: str | None = None,
    ) -> None:
        """Write a record of one study."""
        assert self._trail is not None
        study, patient = about
        self._trail.record(
            event,
            by=f"ae:{calling_ae(association)}",
            address=association.requestor.address or "",
            failed=failed,
            studies=[study] if study else [],
            patients=[patient] if patient else [],
            series=sorted(count.series),
            instances=count.instances,
        )
