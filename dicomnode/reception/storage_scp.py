"""The C-STORE SCP: what comes in over the network is durable before the sender hears Success.

    answer   when (PS3.4 Table B.2-1)                                     sender should
    0x0000   bytes, name and folder are on the disk, or were already       forget it
    0xA700   the disk is full, at its reserve, or fails; or too many       send again later
             instances are being received at once
    0xA701   the data set is larger than `receive.max_object_bytes`        look at the object
    0xA900   the data set's UIDs are not those of the request              look at the object
    0xC000   no Series or SOP Instance UID can be read from the data set   look at the object
    0xC211   our fault; the log has the traceback                          send again later

The data set is neither decoded nor changed: its first elements are read for the UIDs, the rest is written as it came.
There is no database and no inference in this process, so neither can refuse or slow an image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt

from dicomnode import log, metrics
from dicomnode.config.peers import EVERYONE, NO_TLS, Admission, Tls
from dicomnode.dimse.admission import AssociationAdmission, AssociationSlots
from dicomnode.dimse.presentation_contexts import PLAIN_SYNTAXES, SOP_CLASSES, VERIFICATION, transfer_syntaxes
from dicomnode.dimse.tls_server import Ports
from dicomnode.errors import NodeError, NotStorable, OutOfResources, TooLarge
from dicomnode.reception.arrivals import Arrivals
from dicomnode.reception.request import Mismatched, calling_ae, incoming_of, store_request
from dicomnode.reception.transfer_audit import TransferAudit
from dicomnode.spool.instance_file import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    import queue

    from pynetdicom.events import Event

    from dicomnode.config.sections import Node, Receive
    from dicomnode.security.audit_trail import AuditTrail
    from dicomnode.spool.spool import Arrival, Spool, Stored

STATUS: Final[dict[type[NodeError], int]] = {
    OutOfResources: 0xA700,
    TooLarge: 0xA701,
    Mismatched: 0xA900,
    NotStorable: 0xC000,
}
"""Error -> C-STORE status; the most specific counts."""


class Service(Protocol):
    """A further service that is provided on the associations that the receiver accepts."""

    @property
    def sop_class(self) -> UID:
        """Its SOP class."""

    def handlers(self) -> list[evt.EventHandlerType]:
        """What it does when."""


class Receiver:
    """Listens for C-ECHO and C-STORE, and puts what comes into the spool; `services` are provided beside these.

    Whoever settles series calls `arrivals` about every second and `forget` for each series handed over.
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
        places = AssociationSlots(receive.max_associations, receive.max_associations_per_ae)
        self._door = AssociationAdmission(admission, _own_titles(node, receive, admission), places, trail)
        self._tally = TransferAudit(trail)
        self._ae = _application_entity(node, receive)
        for service in services:
            self._ae.add_supported_context(service.sop_class, list(PLAIN_SYNTAXES), scu_role=True, scp_role=True)
        self._ports = Ports(node, receive, tls, self._door)

    def start(self) -> None:
        """Listen; returns at once. Raises PortTaken, and ConfigError for TLS files that are no good."""
        events: list[evt.EventHandlerType] = [
            (evt.EVT_REQUESTED, self._door.requested),
            (evt.EVT_C_ECHO, _answer_echo),
            (evt.EVT_C_STORE, self._answer_store),
            (evt.EVT_ACCEPTED, _log_association, ["association_accepted"]),
            (evt.EVT_REJECTED, _log_association, ["association_rejected"]),
            (evt.EVT_RELEASED, _log_association, ["association_released"]),
            (evt.EVT_ABORTED, _log_association, ["association_aborted"]),
            (evt.EVT_CONN_CLOSE, _end_without_request),
            (evt.EVT_RELEASED, self._tally.ended),
            (evt.EVT_ABORTED, self._tally.ended),
            *(handler for service in self._services for handler in service.handlers()),
        ]
        self._ports.open(self._ae, events)

    @property
    def port(self) -> int:
        """The TCP port without TLS that it listens on (of interest when the configured one is 0)."""
        assert self._ports.plain is not None, "not started"
        return int(self._ports.plain.server_address[1])

    @property
    def tls_port(self) -> int:
        """The TCP port with TLS."""
        assert self._ports.secured is not None, "not started, or without TLS"
        return int(self._ports.secured.server_address[1])

    def stop(self, grace_s: float = 5.0) -> None:
        """Listen no more, let associations end within `grace_s`, abort the rest."""
        self._ports.close()
        deadline = time.monotonic() + grace_s
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._ae.active_associations:
            association.abort()

    def arrivals(self) -> dict[str, Arrival]:
        """Series Instance UID -> what is known of each series not handed over yet."""
        self._tally.sweep()
        return self._arrivals.now()

    def adopt(self, found: Iterable[Arrival]) -> None:
        """Take over series found on disk at start (`Spool.scan`)."""
        self._arrivals.adopt(found)

    def forget(self, arrival: Arrival) -> bool:
        """Let go of a series handed over; False, and kept, when more of it has come since `arrival` was read."""
        return self._arrivals.forget(arrival)

    def _answer_store(self, event: Event) -> Dataset:
        """Answer one C-STORE request; whatever is not in `STATUS` becomes pynetdicom's 0xC211."""
        try:
            stored = self._stored(event)
        except tuple(STATUS) as error:
            return _refused(event, error)
        _count_stored(event, stored)
        return _status(0x0000)

    def _stored(self, event: Event) -> Stored:
        """Keep the request's instance and note its arrival."""
        if self._trail is not None:
            self._trail.check()
        incoming = incoming_of(event)
        with metrics.STAGE_SECONDS.labels(stage="receive").time():
            stored = self._spool.store(incoming)
        source, instance = stored.series_uid, stored.sop_instance_uid
        self._arrivals.note(source, instance, incoming.calling_ae, event.assoc, new=not stored.duplicate)
        self._tally.stored(event.assoc, incoming)
        return stored


def _own_titles(node: Node, receive: Receive, admission: Admission) -> tuple[str, ...]:
    """As whom the node may be called; none is as anyone."""
    return (node.ae_title, *admission.called) if receive.check_called_ae or admission.called else ()


def _application_entity(node: Node, receive: Receive) -> AE:
    """Who we are and what we accept."""
    ae = AE(node.ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = sys.maxsize  # the places decide: pynetdicom counts bare connections too
    ae.maximum_pdu_size = receive.max_pdu_bytes
    ae.acse_timeout = receive.request_timeout_s
    ae.dimse_timeout = ae.network_timeout = receive.idle_timeout_s
    ae.add_supported_context(VERIFICATION, list(PLAIN_SYNTAXES))
    for sop_class in SOP_CLASSES:
        ae.add_supported_context(sop_class, list(transfer_syntaxes(receive)))
    return ae


def _status(code: int, comment: str = "") -> Dataset:
    """A C-STORE response's status; Error Comment (0000,0902) holds 64 characters (PS3.7 C)."""
    answer = Dataset()
    answer.Status = code
    if comment:
        answer.ErrorComment = comment[:64]
    return answer


def _refused(event: Event, error: NodeError) -> Dataset:
    """The answer for an instance that is not kept, counted and logged."""
    code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    metrics.STORE_RESPONSES.labels(status=f"{code:04X}").inc()
    sender = calling_ae(event.assoc)
    log.event("instance_refused", level="warning", status=f"{code:04X}", reason=str(error), calling_ae=sender)
    return _status(code, str(error))


def _count_stored(event: Event, stored: Stored) -> None:
    """Count and log an instance that is kept."""
    sop_class = UID(str(store_request(event).AffectedSOPClassUID)).keyword or "other"
    metrics.STORE_RESPONSES.labels(status="0000").inc()
    metrics.INSTANCES_RECEIVED.labels(sop_class=sop_class).inc()
    names = {"series": stored.series_uid, "sop_instance": stored.sop_instance_uid}
    if stored.conflict and not stored.duplicate:
        metrics.INSTANCE_CONFLICTS.labels(sop_class=sop_class).inc()
        log.event("instance_conflict", level="error", **names)
    else:
        log.event("instance_stored", level="debug", duplicate=stored.duplicate, **names)


def _answer_echo(_event: Event) -> int:
    """C-ECHO is always answered with Success (PS3.7 9.1.5)."""
    return 0x0000


def _log_association(event: Event, what: str) -> None:
    """Log the beginning or end of an association."""
    log.event(what, calling_ae=calling_ae(event.assoc), address=event.assoc.requestor.address)


def _end_without_request(event: Event) -> None:
    """A connection was closed before it asked for an association (a load balancer's probe): wake who waits for it."""
    if event.assoc.requestor.primitive is None:
        waiting: queue.Queue[Any] = event.assoc.dul.to_user_queue
        waiting.put(None)
