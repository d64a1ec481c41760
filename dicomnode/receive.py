"""The C-STORE SCP: what comes in over the network is durable before the sender hears Success.

    answer   when (PS3.4 Table B.2-1)                                     sender should
    0x0000   bytes, name and folder are on the disk, or were already       forget it
    0xA700   the disk is full, at its reserve, or fails                    send again later
    0xA900   the data set's UIDs are not those of the request              look at the object
    0xC000   no Series or SOP Instance UID can be read from the data set   look at the object
    0xC211   our fault; the log has the traceback                          send again later

The data set is neither decoded nor changed: its first elements are read for the UIDs, the rest is written as it came.
There is no database and no inference in this process, so neither can refuse or slow an image.
"""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicomnode import log, metrics
from dicomnode.config import Node, Receive
from dicomnode.errors import NodeError, NotStorable, OutOfResources, PortTaken
from dicomnode.settle import Arrival
from dicomnode.spool import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Incoming,
    Spool,
    Stored,
    checked_uid,
)
from pipeline.instance import LOSSLESS_TRANSFER_SYNTAXES, LOSSY_TRANSFER_SYNTAXES

VERIFICATION: Final = UID("1.2.840.10008.1.1")
"""The SOP class of C-ECHO (PS3.4 A.4)."""

SOP_CLASSES: Final = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
"""What may become a synthetic CT; any other class is refused when the association is negotiated."""

REQUEST_TIMEOUT_S: Final = 10.0
"""How long a TCP connection may last without an A-ASSOCIATE-RQ: the ARTIM timer (PS3.8 9.1.4)."""

_IDENTITY: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
_LAST_NEEDED: Final = int(Tag("SeriesInstanceUID"))
_HEADER_BYTES: Final = 16 * 1024 * 1024
"""More than any header before the Series Instance UID; a deflated data set is inflated no further."""


class Mismatched(NotStorable):
    """The data set is another instance than the request announces; C-STORE status 0xA900 (PS3.4 Table B.2-1)."""


STATUS: Final[dict[type[NodeError], int]] = {OutOfResources: 0xA700, Mismatched: 0xA900, NotStorable: 0xC000}
"""Error -> C-STORE status."""


class Service(Protocol):
    """A further service that is provided on the associations that the receiver accepts."""

    @property
    def sop_class(self) -> UID:
        """Its SOP class."""

    def handlers(self) -> list[evt.EventHandlerType]:
        """What it does when."""


class Link(Protocol):
    """As much of an association as the arrivals need."""

    is_established: bool
    is_released: bool

    def is_alive(self) -> bool:
        """Whether anything still serves it."""


@dataclass
class _Coming:
    """One series while it comes."""

    calling_ae: str
    first_at: float
    last_at: float
    sop_uids: set[str] = field(default_factory=set)
    links: set[Link] = field(default_factory=set)
    awaited: set[Link] = field(default_factory=set)
    heard_at: float = 0.0
    associations: int = 0
    interrupted: bool = False
    between_pieces: bool = False
    pause_s: float = 0.0

    def hear(self, calling_ae: str, link: Link, now: float) -> None:
        """An instance has come over `link`, new or not."""
        self.let_go()
        if link not in self.links:
            self.links.add(link)
            self.associations += 1
            self.interrupted = False
        self.awaited.add(link)
        self.calling_ae = calling_ae
        self.heard_at = now

    def note(self, sop_uid: str, now: float) -> None:
        """The instance was new."""
        if self.between_pieces:
            self.pause_s = max(self.pause_s, now - self.last_at)
            self.between_pieces = False
        self.sop_uids.add(sop_uid)
        self.last_at = now

    def let_go(self) -> None:
        """Let go of associations that have ended."""
        ended = {link for link in self.links if not (link.is_established and link.is_alive())}
        self.links -= ended
        self.awaited -= ended
        self.interrupted |= any(not link.is_released for link in ended)
        self.between_pieces |= bool(ended) and not self.links and not self.interrupted

    def arrival(self, series_uid: str) -> Arrival:
        """What is known now."""
        self.let_go()
        return Arrival(
            series_uid,
            frozenset(self.sop_uids),
            self.calling_ae,
            self.first_at,
            self.last_at,
            open_associations=len(self.links),
            associations=self.associations,
            interrupted=self.interrupted,
            pause_s=self.pause_s,
            awaited_since=self.heard_at if self.awaited else None,
        )


class Arrivals:
    """Which series have come and are not handed over yet. Thread-safe; holds nothing of a series that was forgotten."""

    def __init__(self) -> None:
        self._coming: dict[str, _Coming] = {}
        self._lock = threading.Lock()

    def note(self, series_uid: str, sop_uid: str, calling_ae: str, link: Link, *, new: bool = True) -> None:
        """An instance of the series has been stored over the association `link`.

        One that is not `new` (the same bytes again) is only a sign of life of a series that is still coming.
        """
        now = time.monotonic()
        with self._lock:
            for other in self._coming.values():
                other.awaited.discard(link)
            if new:
                self._coming.setdefault(series_uid, _Coming(calling_ae, now, now))
            coming = self._coming.get(series_uid)
            if coming is not None:
                coming.hear(calling_ae, link, now)
            if coming is not None and new:
                coming.note(sop_uid, now)

    def adopt(self, found: Iterable[Arrival]) -> None:
        """Take over series found on disk (`Spool.scan`) as if they had come to this process."""
        with self._lock:
            for one in found:
                new = _Coming(one.calling_ae, one.first_at, one.last_at, associations=one.associations)
                self._coming.setdefault(one.series_uid, new).sop_uids |= one.sop_uids

    def now(self) -> dict[str, Arrival]:
        """Series Instance UID -> what is known of it at this moment."""
        with self._lock:
            return {uid: coming.arrival(uid) for uid, coming in self._coming.items()}

    def forget(self, arrival: Arrival) -> bool:
        """Let go of a series that was handed over; False, and kept, when more of it has come since `arrival`."""
        with self._lock:
            coming = self._coming.get(arrival.series_uid)
            if coming is None:
                return True
            if coming.last_at != arrival.last_at or coming.sop_uids != arrival.sop_uids:
                return False
            del self._coming[arrival.series_uid]
            return True


class Receiver:
    """Listens for C-ECHO and C-STORE, and puts what comes into the spool; `services` are provided beside these.

    Whoever settles series calls `arrivals` about every second and `forget` for each series handed over.
    """

    def __init__(self, node: Node, receive: Receive, spool: Spool, services: Sequence[Service] = ()) -> None:
        self._node = node
        self._receive = receive
        self._spool = spool
        self._arrivals = Arrivals()
        self._services = services
        self._ae = _application_entity(node, receive)
        for service in services:
            self._ae.add_supported_context(service.sop_class)
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen; returns at once. Raises PortTaken."""
        events: list[evt.EventHandlerType] = [
            (evt.EVT_C_ECHO, _answer_echo),
            (evt.EVT_C_STORE, self._answer_store),
            (evt.EVT_ACCEPTED, _log_association, ["association accepted"]),
            (evt.EVT_REJECTED, _log_association, ["association rejected"]),
            (evt.EVT_RELEASED, _log_association, ["association released"]),
            (evt.EVT_ABORTED, _log_association, ["association aborted"]),
            (evt.EVT_CONN_CLOSE, _end_without_request),
            *(handler for service in self._services for handler in service.handlers()),
        ]
        address = (self._node.bind, self._node.port)
        try:
            server = self._ae.make_server(address, evt_handlers=events, server_class=_Server)
        except OSError as error:
            raise PortTaken("node.port", *address) from error
        assert isinstance(server, _Server)
        server.idle_timeout_s = self._receive.idle_timeout_s
        self._server = server
        threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    @property
    def port(self) -> int:
        """The TCP port it listens on (of interest when the configured one is 0)."""
        assert self._server is not None, "not started"
        return int(self._server.server_address[1])

    def stop(self, grace_s: float = 5.0) -> None:
        """Listen no more, let associations end within `grace_s`, abort the rest."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server = None
        deadline = time.monotonic() + grace_s
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._ae.active_associations:
            association.abort()

    def arrivals(self) -> dict[str, Arrival]:
        """Series Instance UID -> what is known of each series not handed over yet."""
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
        incoming = incoming_of(event)
        with metrics.STAGE_SECONDS.labels(stage="receive").time():
            stored = self._spool.store(incoming)
        source, instance = stored.series_uid, stored.sop_instance_uid
        self._arrivals.note(source, instance, incoming.calling_ae, event.assoc, new=not stored.duplicate)
        return stored


class Connection(socket.socket):
    """A TCP connection that can always be closed, and sends small PDUs without delay.

    pynetdicom does not close a socket whose shutdown fails, and it fails when the peer has reset the connection, as
    load balancers do: descriptors would pile up.
    """

    @classmethod
    def of(cls, plain: socket.socket) -> Self:
        """The same connection, taken over from a plain socket."""
        timeout_s = plain.gettimeout()
        connection = cls(plain.family, plain.type, plain.proto, plain.detach())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        return connection

    def shutdown(self, how: int) -> None:
        """Shut down what is still there."""
        with contextlib.suppress(OSError):
            super().shutdown(how)


class _Server(ThreadedAssociationServer):
    """A listening socket whose connections cannot be silent for ever."""

    request_queue_size = 128
    idle_timeout_s = 60.0

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with a limit for a peer that stops within a PDU."""
        accepted, address = super().get_request()
        connection = Connection.of(accepted)
        connection.settimeout(self.idle_timeout_s)
        return connection, address

    def shutdown(self) -> None:
        """Stop accepting and close the listening socket."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def _application_entity(node: Node, receive: Receive) -> AE:
    """Who we are and what we accept."""
    ae = AE(node.ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = receive.max_associations
    ae.require_called_aet = receive.check_called_ae
    ae.maximum_pdu_size = receive.max_pdu_bytes
    ae.acse_timeout = min(REQUEST_TIMEOUT_S, receive.idle_timeout_s)
    ae.dimse_timeout = ae.network_timeout = receive.idle_timeout_s
    ae.add_supported_context(VERIFICATION)
    for sop_class in SOP_CLASSES:
        ae.add_supported_context(sop_class, list(transfer_syntaxes(receive)))
    return ae


def transfer_syntaxes(receive: Receive) -> tuple[UID, ...]:
    """What is accepted for the storage classes; of several that a peer offers the first is taken (PS3.8 9.3.3.3)."""
    return (*LOSSLESS_TRANSFER_SYNTAXES, *(LOSSY_TRANSFER_SYNTAXES if receive.accept_lossy else ()))


def incoming_of(event: Event) -> Incoming:
    """The request's instance, its data set untouched.

    Raises NotStorable when the UIDs cannot be read, Mismatched when they are not those of the request (PS3.7 9.1.1.1).
    """
    request, context = _store_request(event), event.context
    encoded = event.encoded_dataset(include_meta=False)
    found = identity(encoded, UID(context.transfer_syntax))
    asked = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    for (keyword, value), wanted in zip(found.items(), asked, strict=False):
        if value != wanted.strip(" \0"):
            raise Mismatched(f"{keyword} differs from the request's")
    return Incoming(
        series_uid=found["SeriesInstanceUID"],
        sop_instance_uid=found["SOPInstanceUID"],
        sop_class_uid=found["SOPClassUID"],
        transfer_syntax_uid=str(context.transfer_syntax),
        calling_ae=_calling_ae(event.assoc),
        dataset=encoded,
    )


def identity(encoded: bytes, transfer_syntax: UID) -> dict[str, str]:
    """SOPClassUID, SOPInstanceUID and SeriesInstanceUID of an encoded data set, read no further than these.

    Raises NotStorable when one is missing, invalid, or the bytes make no sense up to there.
    """
    try:
        header = _inflated(encoded) if transfer_syntax.is_deflated else encoded
        found = read_dataset(
            io.BytesIO(header),
            transfer_syntax.is_implicit_VR,
            transfer_syntax.is_little_endian,
            stop_when=_beyond_identity,
            specific_tags=[Tag(keyword) for keyword in _IDENTITY],
        )
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise NotStorable("The data set cannot be read") from error
    values = {keyword: _plain(found, keyword) for keyword in _IDENTITY}
    return {keyword: checked_uid(value, keyword) for keyword, value in values.items()}


def _plain(found: Dataset, keyword: str) -> str:
    """The value of an element as it came, neither checked nor spoken of by pydicom; empty when it is missing."""
    value = found.get_item(keyword).value if keyword in found else None
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""


def _store_request(event: Event) -> C_STORE:
    """The request primitive of a C-STORE event."""
    assert isinstance(event.request, C_STORE)
    return event.request


def _beyond_identity(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether an element comes after all that are needed; elements come in ascending order (PS3.5 7.1)."""
    return int(tag) > _LAST_NEEDED


def _inflated(encoded: bytes) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5)."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, _HEADER_BYTES)


def _calling_ae(association: Association) -> str:
    """The sender's AE title."""
    return association.requestor.ae_title.strip()


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
    sender = _calling_ae(event.assoc)
    log.event("instance refused", level="warning", status=f"{code:04X}", reason=str(error), calling_ae=sender)
    return _status(code, str(error))


def _count_stored(event: Event, stored: Stored) -> None:
    """Count and log an instance that is kept."""
    sop_class = UID(str(_store_request(event).AffectedSOPClassUID)).keyword or "other"
    metrics.STORE_RESPONSES.labels(status="0000").inc()
    metrics.INSTANCES_RECEIVED.labels(sop_class=sop_class).inc()
    names = {"series": stored.series_uid, "sop_instance": stored.sop_instance_uid}
    if stored.conflict and not stored.duplicate:
        metrics.INSTANCE_CONFLICTS.labels(sop_class=sop_class).inc()
        log.event("same UID with other bytes: both kept", level="error", **names)
    else:
        log.event("instance stored", level="debug", duplicate=stored.duplicate, **names)


def _answer_echo(_event: Event) -> int:
    """C-ECHO is always answered with Success (PS3.7 9.1.5)."""
    return 0x0000


def _log_association(event: Event, what: str) -> None:
    """Log the beginning or end of an association."""
    log.event(what, calling_ae=_calling_ae(event.assoc), address=event.assoc.requestor.address)


def _end_without_request(event: Event) -> None:
    """A connection was closed before it asked for an association (a load balancer's probe): wake who waits for it."""
    if event.assoc.requestor.primitive is None:
        waiting: queue.Queue[Any] = event.assoc.dul.to_user_queue
        waiting.put(None)
