"""Associations that the node requests (PS3.8 7.1), and requests that it makes over an association (PS3.7 9 and 10).

Whatever a peer does ends in an answer or in `AssociationLost`, and every association that was opened is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider, _QueueItem
from pynetdicom.dimse_primitives import C_CANCEL
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicomnode.config.peers import Destination
from dicomnode.dimse.association_pdu import TolerantDUL
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.server import Connection
from dicomnode.errors import ConfigError, Undelivered
from dicomnode.receipt import ACCEPTED
from dicomnode.security.tls import TlsConnection, client_arguments
from dicomnode.spool.instance_file import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from ssl import SSLContext

    from pynetdicom.dimse_primitives import DimsePrimitiveType

PENDING: Final = (0xFF00, 0xFF01)
"""Statuses after which another answer follows (PS3.7 C); none of the node's requests has them."""


class AssociationLost(Exception):
    """The association was not established, or it ended too early; the text says what the destination did."""


def echo(destination: Destination, calling_ae: str) -> None:
    """Send C-ECHO (PS3.7 9.1.5). Raises Undelivered when the destination does not answer with Success."""
    try:
        with associated(destination, calling_ae, [build_context(VERIFICATION)]) as association:
            status = answer(destination, association.send_c_echo)
    except AssociationLost as error:
        raise Undelivered((), f"{described(destination)} {error}") from error
    if status.Status != ACCEPTED:
        raise Undelivered((), f"{described(destination)} answered C-ECHO with status 0x{status.Status:04X}")


def described(destination: Destination) -> str:
    """Return the name and the address of a destination, for sentences about it."""
    return f"{destination.name} ({destination.where})"


@contextmanager
def associated(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Open an association and release it at the end.

    Args:
        destination: The peer to call.
        calling_ae: The AE title of the node.
        contexts: The presentation contexts to propose (PS3.8 7.1.1.13).
        roles: Roles to propose where the node is not only the SCU (PS3.7 D.3.3.4).
        handlers: Handlers of what the peer requests.

    Raises:
        AssociationLost: The association is not established.
    """
    ae = RequestingAE(calling_ae)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    try:
        tls = client_arguments(destination)
    except ConfigError as error:
        raise AssociationLost(f"cannot be called over TLS ({error})") from error
    called = (destination.host, destination.port, contexts, destination.ae_title)
    call = OutgoingCall()
    watched: list[EventHandlerType] = [
        (evt.EVT_CONN_OPEN, call.note_connection),
        (evt.EVT_PDU_RECV, call.note_rejection),
        *handlers,
    ]
    with aborted_on_error(ae):
        try:
            association = ae.associate(*called, ext_neg=list(roles), tls_args=tls, evt_handlers=watched)
        except OSError as error:
            raise AssociationLost(f"cannot be reached ({error.strerror})") from error
        if not association.is_established:
            tls_failure = getattr(tls[0], "failure", "") if tls else ""
            if tls_failure:
                raise AssociationLost(f"cannot be called over TLS ({tls_failure})")
            raise AssociationLost(call.failure_of(association))
        answers = association.dimse
        assert isinstance(answers, Answers)
        try:
            yield association
        except AssociationLost as error:
            raise AssociationLost(answers.fault or str(error)) from error
        finally:
            association.release()
        answers.check()


class RequestingAE(AE):
    """The application entity of an association that the node requests; it gives the association the node's parts."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[SSLContext, str] | None
    ) -> AssociationSocket:
        """Replace parts of a new association before it connects; pynetdicom has no other place for it."""
        assoc.dimse = Answers(assoc)
        assoc.dul = TolerantDUL(assoc)
        return super()._create_socket(assoc, address, tls_args)


class Answers(DIMSEServiceProvider):
    """The node's requests over an association, each with a Message ID of its own, and the peer's answers.

    An answer counts only for the request whose Message ID it repeats (PS3.7 9.1.1.1.1, 9.3.1.2). Whatever else comes
    in its place, and a second answer to one request, ends the association. pynetdicom takes any message that comes
    for the answer.

    Attributes:
        fault: What the peer answered wrongly, as the end of a sentence; empty while it has not.
    """

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.fault = ""
        self._request: DimsePrimitiveType | None = None
        self._number = 0
        self._awaited = False
        self._lock = threading.Lock()

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a request with the next Message ID, or an answer. Raises AssociationLost after a wrong answer."""
        if primitive.MessageIDBeingRespondedTo is None:
            self.check()
            assert not isinstance(primitive, C_CANCEL)
            self._number = self._number % 0xFFFF + 1
            primitive.MessageID = self._number
            with self._lock:
                self._request, self._awaited = primitive, True
        super().send_msg(primitive, context_id)

    def get_msg(self, block: bool = False) -> _QueueItem:
        """Return the answer to the last request (`block`), or the next request of the peer.

        Raises AssociationLost, after an A-ABORT, when something comes that is not the answer.
        """
        if not block:
            with self._lock:  # the association's thread must not take the answer that another thread has asked for
                surplus = self._surplus()
                item = (None, None) if self._awaited or surplus else super().get_msg()
            self._end_with(surplus)
            return item
        item = super().get_msg(block)
        with self._lock:
            self._awaited = False
        if item[1] is not None and self._request is not None:
            self._end_with(fault_of(item[1], self._request))
        self.check()
        return item

    def check(self) -> None:
        """Raise AssociationLost when the peer has answered wrongly, or more often than it was asked."""
        with self._lock:
            surplus = self._surplus()
        self._end_with(surplus)
        if self.fault:
            raise AssociationLost(self.fault)

    def _surplus(self) -> str:
        """Return what is wrong with an answer that waits although no request does; empty when there is none."""
        _, message = self.peek_msg()
        number = None if message is None or self._awaited else message.MessageIDBeingRespondedTo
        return "" if number is None else f"answered once more, to Message ID {number}, than it was asked"

    def _end_with(self, fault: str) -> None:
        """Abort the association because of a fault, if there is one."""
        if fault and not self.fault:
            self.fault = fault
            self.assoc.abort()


def fault_of(message: DimsePrimitiveType, request: DimsePrimitiveType) -> str:
    """Return why a message is not the answer to a request (PS3.7 9.3, 10.3), as the end of a sentence; empty if it is.

    The UIDs of the request need not be repeated; where they are, they must be the same.
    """
    kind = type(request).__name__.replace("_", "-")
    if type(message) is not type(request) or message.MessageIDBeingRespondedTo is None:
        return f"sent another message ({type(message).__name__.replace('_', '-')}) instead of the answer to {kind}"
    number = getattr(request, "MessageID", None)
    if message.MessageIDBeingRespondedTo != number:
        numbers = f"Message ID {message.MessageIDBeingRespondedTo} instead of {number}"
        return f"gave the answer of another message to {kind} ({numbers})"
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        asked = getattr(request, f"Affected{keyword}", None) or getattr(request, f"Requested{keyword}", None)
        named = getattr(message, f"Affected{keyword}", None)
        if named and named != asked:
            return f"gave the answer of another message to {kind} (another Affected {keyword.replace('UID', ' UID')})"
    status = getattr(message, "Status", None)
    return f"gave a pending status (0x{status:04X}) to {kind}, which has none" if status in PENDING else ""


@contextmanager
def aborted_on_error(ae: AE) -> Iterator[None]:
    """Abort the associations of an application entity when anything goes wrong.

    A signal may arrive while pynetdicom negotiates or releases; the reactor of the association would then keep the
    process alive for ever.
    """
    try:
        yield
    except BaseException:
        for thread in threading.enumerate():
            if isinstance(thread, DULServiceProvider) and thread.assoc.ae is ae:
                thread.assoc.abort()
        raise


@dataclass
class OutgoingCall:
    """Events of one association request of ours, from which a failure is explained.

    pynetdicom forgets an A-ASSOCIATE-RJ that arrives before it has looked whether it is connected, so it is kept here.
    """

    connected: bool = False
    rejection: A_ASSOCIATE_RJ | None = None

    def note_connection(self, event: Event) -> None:
        """Give the new TCP connection its limits (EVT_CONN_OPEN)."""
        self.connected = True
        transport = event.assoc.dul.socket
        if transport is None or transport.socket is None:
            return
        if isinstance(transport.socket, TlsConnection):
            transport.socket.settimeout(event.assoc.network_timeout)
        else:
            transport.socket = Connection.of(transport.socket)

    def note_rejection(self, event: Event) -> None:
        """Keep an A-ASSOCIATE-RJ (EVT_PDU_RECV, PS3.8 9.3.4)."""
        pdu: object = vars(event)["pdu"]
        if isinstance(pdu, A_ASSOCIATE_RJ) and self.rejection is None:
            self.rejection = pdu

    def failure_of(self, association: Association) -> str:
        """Return why the association was not established, as the end of a sentence."""
        if not self.connected:
            return "cannot be reached (nothing accepts the connection)"
        if self.rejection is not None:
            return f"rejected the association ({self.rejection.result_str}: {self.rejection.reason_str})"
        if association.rejected_contexts:
            names = {one.abstract_syntax.name for one in association.rejected_contexts if one.abstract_syntax}
            return f"accepts none of what was offered: {', '.join(sorted(names))}"
        return "accepted the connection but gave no answer to the association request"


def answer(destination: Destination, request: Callable[[], Dataset]) -> Dataset:
    """Make a request over an association and return the response.

    Raises AssociationLost when no response came, for which pynetdicom returns an empty data set.
    """
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
