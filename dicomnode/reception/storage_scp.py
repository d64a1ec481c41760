"""The Storage SCP (PS3.4 B.2.2): an instance is durable on the disk before the sender receives Success.

    status   condition (PS3.4 Table B.2-1)                                 sender should
    0x0000   bytes, name and folder are on the disk, or were before        delete its copy if it likes
    0xA700   the disk is full, at its reserve, or fails; or too many       send again later
             instances are being received at once
    0xA701   the data set is larger than `receive.max_object_bytes`        check the object
    0xA900   the data set's UIDs are not those of the request              check the object
    0xC000   no Series or SOP Instance UID can be read from the data set   check the object
    0xC211   the node failed; its log has the traceback                    send again later

The data set is neither decoded nor changed: its first elements are read for the UIDs, and all bytes are written as they
were received. This process uses neither the database nor the model, so neither can refuse or delay an image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from pydicom.uid import UID
from pynetdicom import AE, evt

from dicomnode import log, metrics
from dicomnode.config.peers import EVERYONE, NO_TLS, Admission, Tls
from dicomnode.dimse.admission import AssociationAdmission, AssociationSlots, calling_ae
from dicomnode.dimse.messages import status_of
from dicomnode.dimse.presentation_contexts import PLAIN_SYNTAXES, SOP_CLASSES, VERIFICATION, transfer_syntaxes
from dicomnode.dimse.server import wake_waiting_thread
from dicomnode.dimse.tls_server import Ports
from dicomnode.errors import NodeError, NotStorable, OutOfResources, TooLarge
from dicomnode.reception.arrivals import Arrivals
from dicomnode.reception.request import Mismatched, incoming_of
from dicomnode.reception.transfer_audit import TransferAudit
from dicomnode.spool.instance_file import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

    from dicomnode.config.sections import Node, Receive
    from dicomnode.security.audit_trail import AuditTrail
    from dicomnode.spool.spool import Arrival, Spool

STATUS: Final[dict[type[NodeError], int]] = {
    OutOfResources: 0xA700,
    TooLarge: 0xA701,
    Mismatched: 0xA900,
    NotStorable: 0xC000,
}
"""C-STORE status by error class (PS3.4 Table B.2-1); the most specific class counts."""


class Service(Protocol):
    """A further service on the associations that the receiver accepts."""

    @property
    def sop_class(self) -> UID:
        """Return its SOP class."""

    def handlers(self) -> list[evt.EventHandlerType]:
        """Return its event handlers."""


class Receiver:
    """Listens for C-ECHO (PS3.7 9.1.5) and C-STORE (PS3.7 9.1.1), and stores the instances in the spool.

    `services` are provided beside these. The intake calls `arrivals` about every second, and `forget` for each series
    that it has handed over.
    """

    def __init__(
        self,
        node: Node,
        receive: Receive,
        spool: Spool,
        services: Sequence[Service] = (),
        *,
        admission: Admission = EVERYONE,
        tls: Tls = NO_TLS,
        trail: AuditTrail | None = None,
    ) -> None:
        self._spool = spool
        self._arrivals = Arrivals()
        self._services = services
        self._trail = trail
        slots = AssociationSlots(receive.max_associations, receive.max_associations_per_ae)
        any_title = not receive.check_called_ae and not admission.called
        accepted_titles = () if any_title else (node.ae_title, *admission.called)
        self._admission = AssociationAdmission(admission, accepted_titles, slots, trail)
        self._transfers = TransferAudit(trail)
        self._ae = application_entity(node, receive)
        for service in services:
            self._ae.add_supported_context(service.sop_class, list(PLAIN_SYNTAXES), scu_role=True, scp_role=True)
        self._ports = Ports(node, receive, tls, self._admission)

    def start(self) -> None:
        """Listen, and return at once. Raises PortTaken, and ConfigError when the TLS files cannot be used."""
        events: list[evt.EventHandlerType] = [
            (evt.EVT_REQUESTED, self._admission.answer_request),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),  # PS3.7 9.1.5: always Success
            (evt.EVT_C_STORE, self.answer_store),
            (evt.EVT_ACCEPTED, _log_association, ["association_accepted"]),
            (evt.EVT_REJECTED, _log_association, ["association_rejected"]),
            (evt.EVT_RELEASED, _log_association, ["association_released"]),
            (evt.EVT_ABORTED, _log_association, ["association_aborted"]),
            (evt.EVT_CONN_CLOSE, wake_waiting_thread),
            (evt.EVT_RELEASED, self._transfers.end),
            (evt.EVT_ABORTED, self._transfers.end),
            *(handler for service in self._services for handler in service.handlers()),
        ]
        self._ports.open(self._ae, events)

    @property
    def port(self) -> int:
        """Return the TCP port without TLS (the operating system chooses it when the configured one is 0)."""
        assert self._ports.plain is not None, "not started"
        return int(self._ports.plain.server_address[1])

    @property
    def tls_port(self) -> int:
        """Return the TCP port with TLS."""
        assert self._ports.secured is not None, "not started, or without TLS"
        return int(self._ports.secured.server_address[1])

    def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, let associations end within `grace_s`, and abort the rest."""
        self._ports.close()
        deadline = time.monotonic() + grace_s
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._ae.active_associations:
            association.abort()

    def arrivals(self) -> dict[str, Arrival]:
        """Return what is known of each series that is not handed over, by Series Instance UID."""
        self._transfers.sweep()
        return self._arrivals.now()

    def adopt(self, found: Iterable[Arrival]) -> None:
        """Adopt series that were found on the disk at start (`Spool.scan`)."""
        self._arrivals.adopt(found)

    def forget(self, arrival: Arrival) -> bool:
        """Forget a series that was handed over; return False, and keep it, when more of it has come meanwhile."""
        return self._arrivals.forget(arrival)

    def answer_store(self, event: Event) -> Dataset:
        """Store the instance of a C-STORE request, note its arrival, and return the response (PS3.4 B.2.3).

        An error that is not in `STATUS` leaves this method, and pynetdicom answers with 0xC211.
        """
        try:
            if self._trail is not None:
                self._trail.check()
            incoming = incoming_of(event)
            with metrics.STAGE_SECONDS.labels(stage="receive").time():
                stored = self._spool.store(incoming)
            source, instance = stored.series_uid, stored.sop_instance_uid
            self._arrivals.note(source, instance, incoming.calling_ae, event.assoc, new=not stored.duplicate)
            self._transfers.count(event.assoc, incoming)
        except tuple(STATUS) as error:
            code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
            metrics.STORE_RESPONSES.labels(status=f"{code:04X}").inc()
            named = {"reason": str(error), "calling_ae": calling_ae(event.assoc)}
            log.event("instance_refused", level="warning", status=f"{code:04X}", **named)
            return status_of(code, str(error))
        sop_class = UID(incoming.sop_class_uid).keyword or "other"
        metrics.STORE_RESPONSES.labels(status="0000").inc()
        metrics.INSTANCES_RECEIVED.labels(sop_class=sop_class).inc()
        names = {"series": stored.series_uid, "sop_instance": stored.sop_instance_uid}
        if stored.conflict and not stored.duplicate:
            metrics.INSTANCE_CONFLICTS.labels(sop_class=sop_class).inc()
            log.event("instance_conflict", level="error", **names)
        else:
            log.event("instance_stored", level="debug", duplicate=stored.duplicate, **names)
        return status_of(0x0000)


def application_entity(node: Node, receive: Receive) -> AE:
    """Return the node's application entity with its limits and the contexts that it accepts."""
    ae = AE(node.ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = sys.maxsize  # AssociationSlots decides: pynetdicom counts bare connections too
    ae.maximum_pdu_size = receive.max_pdu_bytes
    ae.acse_timeout = receive.request_timeout_s
    ae.dimse_timeout = ae.network_timeout = receive.idle_timeout_s
    ae.add_supported_context(VERIFICATION, list(PLAIN_SYNTAXES))
    for sop_class in SOP_CLASSES:
        ae.add_supported_context(sop_class, list(transfer_syntaxes(receive)))
    return ae


def _log_association(event: Event, what: str) -> None:
    """Log the beginning or the end of an association (PS3.8 7.1 to 7.4)."""
    log.event(what, calling_ae=calling_ae(event.assoc), address=event.assoc.requestor.address)
