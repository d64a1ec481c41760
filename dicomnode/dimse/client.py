"""Associations that the node requests (PS3.8): opened, answered or lost, and closed whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context

from dicomnode.config.peers import Destination
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.server import Connection
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.receipt import ACCEPTED
from dicomnode.security.tls import TlsConnection, client_arguments
from dicomnode.spool.instance_file import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pynetdicom.dimse_primitives import DimsePrimitiveType


def echo(destination: Destination, calling_ae: str) -> None:
    """C-ECHO (PS3.7 9.1.5). Raises Undelivered when the destination does not answer it with Success."""
    try:
        with associated(destination, calling_ae, [build_context(VERIFICATION)]) as association:
            status = answer(destination, association.send_c_echo)
    except AssociationLost as error:
        raise Undelivered((), f"{_named(destination)} {error}") from error
    if status.Status != ACCEPTED:
        raise Undelivered((), f"{_named(destination)} answered C-ECHO with status 0x{status.Status:04X}")


class AssociationLost(Exception):
    """The association did not come about or did not last; the text is what the destination did."""


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
        raise AssociationLost(f"cannot be called over TLS ({error})") from error
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
            raise AssociationLost(f"cannot be reached ({error.strerror})") from error
        if not association.is_established:
            failure = getattr(tls[0], "failure", "") if tls else ""
            if failure:
                raise AssociationLost(f"cannot be called over TLS ({failure})")
            raise AssociationLost(_why_not(association, rejections, connected=bool(opened)))
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


def answer(destination: Destination, request: Callable[[], Dataset]) -> Dataset:
    """Make a request and return the response as it came; pynetdicom's empty one means that none came. Raises Lost."""
    begun = time.monotonic()
    try:
        status = request()
    except RuntimeError as error:
        raise AssociationLost("ended the association") from error
    if "Status" in status:
        return status
    if time.monotonic() - begun >= destination.timeout_s:
        raise AssociationLost(f"gave no answer within {destination.timeout_s:g} s")
    raise AssociationLost("ended the association")


def send_while_paused(association: Association, request: DimsePrimitiveType, context_id: int) -> None:
    """Send a request over an association that a peer asked for, while its reactor stands still.

    No answer of the reactor's then comes between the P-DATA fragments of the request (PS3.8 E.1), and the reactor
    goes on to serve the peer afterwards. Raises AssociationLost when the association has ended.
    """
    reactor = association._reactor_checkpoint  # noqa: SLF001, as pynetdicom's own send_* do
    reactor.clear()
    try:
        deadline = time.monotonic() + 1.0
        while not association._is_paused and time.monotonic() < deadline:  # noqa: SLF001
            time.sleep(0.0005)
        there = association.is_established and association.is_alive()
        if not there or association.acse.is_aborted():
            raise AssociationLost("ended its association")
        association.dimse.send_msg(request, context_id)
    finally:
        reactor.set()


def _named(destination: Destination) -> str:
    """The destination as the configuration knows it."""
    return f"{destination.name} ({destination.where})"
