"""The C-STORE SCU: one association, one attempt, one receipt for each instance as the answer comes.

    status                    outcome     what it means (PS3.4 Table B.2-1, PS3.7 Annex C)
    0x0000                    accepted    the destination has it
    0x0111                    duplicate   it had it already: sending twice is harmless
    0xB..., 0x0001, 0x0107,   warning     it has it and complains: shown, never silently success
    0x0116
    anything else             refused     it has it not

When the next attempt is made is not decided here. Nothing but NodeError leaves this module for what a destination does;
an unreadable file of our own is our fault and stays an OSError or InvalidDicomError.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread, read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context

from dicomnode import metrics
from dicomnode.config.destination import Destination
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.server import Connection
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.security.tls import TlsConnection, client_arguments
from dicomnode.spool.spool import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

ACCEPTED: Final = 0x0000
DUPLICATE: Final = 0x0111
_WARNINGS: Final = (0x0001, 0x0107, 0x0116)
_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def outcome(status: int) -> str:
    """`accepted`, `duplicate`, `warning` or `refused`, after a C-STORE status."""
    if status in (ACCEPTED, DUPLICATE):
        return "accepted" if status == ACCEPTED else "duplicate"
    return "warning" if status in _WARNINGS or status & 0xF000 == 0xB000 else "refused"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's answer for one instance: C-STORE status, Error Comment, and when (UTC)."""

    sop_instance_uid: str
    status: int
    at: datetime.datetime
    comment: str = ""

    @property
    def outcome(self) -> str:
        """`accepted`, `duplicate`, `warning` or `refused`."""
        return outcome(self.status)

    @property
    def warning(self) -> bool:
        """The destination has it and complains."""
        return self.outcome == "warning"

    @property
    def stored(self) -> bool:
        """The destination has it: no need to send it again."""
        return self.outcome != "refused"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file to send, and what has to be negotiated for it."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: str
    transfer_syntax_uid: UID


def parcel(path: Path) -> Parcel:
    """Read a DICOM file's meta information (PS3.10 7.1)."""
    meta = read_file_meta_info(path)
    instance = str(meta.MediaStorageSOPInstanceUID)
    return Parcel(path, UID(meta.MediaStorageSOPClassUID), instance, UID(meta.TransferSyntaxUID))


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files over one association; those whose SOP Instance UID is in `already` are left out.

    `before` is called when an instance is about to be sent, and may stop the whole by raising an error of its own.
    `on_receipt` is called with each answer before the next instance is sent. A refused instance does not stop the
    others. Returns all receipts, warnings among them. Raises Undelivered when any instance is not at the destination
    afterwards, with the receipts of this attempt and a sentence that names the destination.
    """
    parcels = [one for one in map(parcel, paths) if one.sop_instance_uid not in already]
    if not parcels:
        return []
    receipts: list[Receipt] = []
    why: list[str] = []
    try:
        with associated(destination, calling_ae, _contexts(parcels)) as association:
            welcome = [one for one in parcels if _acceptable(association, one)]
            why += _unwelcome([one for one in parcels if one not in welcome])
            for one in welcome:
                before()
                receipts.append(_sent(association, one, destination))
                metrics.DELIVERED_INSTANCES.labels(destination.name, receipts[-1].outcome).inc()
                on_receipt(receipts[-1])
    except Lost as error:
        why.append(str(error))
    return concluded(destination, parcels, receipts, why)


def concluded(
    destination: Destination, parcels: Sequence[Parcel], receipts: list[Receipt], why: Sequence[str]
) -> list[Receipt]:
    """All receipts of an attempt. Raises Undelivered when an instance is not there; `why` is what else went wrong."""
    unsent = len(parcels) - len(receipts)
    metrics.DELIVERED_INSTANCES.labels(destination.name, "unsent").inc(unsent)
    reasons = [*why, *_refusals(receipts)]
    if reasons:
        arrived = sum(receipt.stored for receipt in receipts)
        raise Undelivered(receipts, f"{_named(destination)} {', '.join(reasons)}; {arrived} of {len(parcels)} arrived")
    return receipts


def echo(destination: Destination, calling_ae: str) -> None:
    """C-ECHO (PS3.7 9.1.5). Raises Undelivered when the destination does not answer it with Success."""
    try:
        with associated(destination, calling_ae, [build_context(VERIFICATION)]) as association:
            status = answer(destination, association.send_c_echo)
    except Lost as error:
        raise Undelivered((), f"{_named(destination)} {error}") from error
    if status.Status != ACCEPTED:
        raise Undelivered((), f"{_named(destination)} answered C-ECHO with status 0x{status.Status:04X}")


class Lost(Exception):
    """The association did not come about or did not last; the text is what the destination did."""


def _contexts(parcels: Sequence[Parcel]) -> list[PresentationContext]:
    """A presentation context for each class and syntax that is sent (PS3.8 7.1.1.13).

    Uncompressed files are offered in both little endian syntaxes, each in a context of its own, so that the
    destination may accept the one it wants and explicit VR is used where both are welcome.
    """
    wanted = {
        (one.sop_class_uid, syntax)
        for one in parcels
        for syntax in (_UNCOMPRESSED if one.transfer_syntax_uid in _UNCOMPRESSED else (one.transfer_syntax_uid,))
    }
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]


@contextmanager
def associated(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """An established association, released at the end; raises Lost when it cannot be had.

    `roles` are proposed where the node is not only the SCU (PS3.7 D.3.3.4); `handlers` answer what the peer asks.
    """
    ae = AE(calling_ae)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    opened: list[bool] = []
    rejections: list[A_ASSOCIATE_RJ] = []
    try:
        tls = client_arguments(destination)
    except ConfigError as error:
        raise Lost(f"cannot be called over TLS ({error})") from error
    called = (destination.host, destination.port, contexts, destination.ae_title)
    watched: list[EventHandlerType] = [
        (evt.EVT_CONN_OPEN, _connected, [opened]),
        (evt.EVT_PDU_RECV, _heard, [rejections]),
        *handlers,
    ]
    with _none_left(ae):
        try:
            association = ae.associate(*called, ext_neg=list(roles), tls_args=tls, evt_handlers=watched)
        except OSError as error:
            raise Lost(f"cannot be reached ({error.strerror})") from error
        if not association.is_established:
            failure = getattr(tls[0], "failure", "") if tls else ""
            if failure:
                raise Lost(f"cannot be called over TLS ({failure})")
            raise Lost(_why_not(association, rejections, connected=bool(opened)))
        try:
            yield association
        finally:
            association.release()


@contextmanager
def _none_left(ae: AE) -> Iterator[None]:
    """End what is left of an association when anything goes wrong.

    A signal may come while pynetdicom negotiates or releases: its reactor would keep the process from ending for ever.
    """
    try:
        yield
    except BaseException:
        for thread in threading.enumerate():
            if isinstance(thread, DULServiceProvider) and thread.assoc.ae is ae:
                thread.assoc.abort()
        raise


def _connected(event: Event, opened: list[bool]) -> None:
    """The TCP connection is there."""
    opened.append(True)
    transport = event.assoc.dul.socket
    if transport is None or transport.socket is None:
        return
    if isinstance(transport.socket, TlsConnection):
        transport.socket.settimeout(event.assoc.network_timeout)
    else:
        transport.socket = Connection.of(transport.socket)


def _heard(event: Event, rejections: list[A_ASSOCIATE_RJ]) -> None:
    """Keep an A-ASSOCIATE-RJ: pynetdicom forgets one that came before it looked whether it had connected."""
    pdu: object = vars(event)["pdu"]
    if isinstance(pdu, A_ASSOCIATE_RJ):
        rejections.append(pdu)


def _why_not(association: Association, rejections: Sequence[A_ASSOCIATE_RJ], *, connected: bool) -> str:
    """Why no association came about, as the end of a sentence."""
    if not connected:
        return "cannot be reached (nothing accepts the connection)"
    if rejections:
        return f"rejected the association ({rejections[0].result_str}: {rejections[0].reason_str})"
    if association.rejected_contexts:
        return f"accepts none of what was offered: {_class_names(association.rejected_contexts)}"
    return "accepted the connection but gave no answer to the association request"


def _class_names(contexts: Sequence[PresentationContext]) -> str:
    """The SOP classes of presentation contexts, by name."""
    return ", ".join(sorted({context.abstract_syntax.name for context in contexts if context.abstract_syntax}))


def _sent(association: Association, one: Parcel, destination: Destination) -> Receipt:
    """Send one instance and wait for its answer. Raises Lost."""
    data_set = dcmread(one.path)
    status = answer(destination, lambda: association.send_c_store(data_set))
    comment = str(status.get("ErrorComment", "") or "")
    return Receipt(one.sop_instance_uid, int(status.Status), datetime.datetime.now(datetime.UTC), comment)


def answer(destination: Destination, request: Callable[[], Dataset]) -> Dataset:
    """Make a request and return the response as it came; pynetdicom's empty one means that none came. Raises Lost."""
    begun = time.monotonic()
    try:
        status = request()
    except RuntimeError as error:
        raise Lost("ended the association") from error
    if "Status" in status:
        return status
    if time.monotonic() - begun >= destination.timeout_s:
        raise Lost(f"gave no answer within {destination.timeout_s:g} s")
    raise Lost("ended the association")


def _acceptable(association: Association, one: Parcel) -> bool:
    """Whether the destination accepted a context in which this file can be sent, converted between VRs if need be."""
    possible = _UNCOMPRESSED if one.transfer_syntax_uid in _UNCOMPRESSED else (one.transfer_syntax_uid,)
    return any(
        context.abstract_syntax == one.sop_class_uid and context.transfer_syntax[0] in possible
        for context in association.accepted_contexts
    )


def _unwelcome(parcels: Sequence[Parcel]) -> list[str]:
    """What a destination does not accept, as the middle of a sentence."""
    kinds = sorted({f"{one.sop_class_uid.name} as {one.transfer_syntax_uid.name}" for one in parcels})
    return [f"does not accept {kind}" for kind in kinds]


def _refusals(receipts: Sequence[Receipt]) -> list[str]:
    """With which statuses a destination refused how many instances; its comments stay in the receipts."""
    statuses = [receipt.status for receipt in receipts if not receipt.stored]
    return [f"refused {statuses.count(status)} with status 0x{status:04X}" for status in sorted(set(statuses))]


def _named(destination: Destination) -> str:
    """The destination as the configuration knows it."""
    return f"{destination.name} ({destination.where})"
