"""Senders of arbitrary requests, which bypass pynetdicom's own checks."""

import io
import time

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from tests.support.receiver import closable


def associated(port: int, *contexts: tuple[str, str], calling: str = "ATTACKER") -> Association:
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    for sop_class, syntax in contexts or ((MRImageStorage, ExplicitVRLittleEndian),):
        ae.add_requested_context(sop_class, syntax)
    return ae.associate("127.0.0.1", port, evt_handlers=closable())


def answered(association: Association, context_id: int, announced: tuple[str, str], data_set: bytes) -> int | None:
    """Send a C-STORE request on any context, and return the status; None when the association is aborted."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = announced[0]
    object.__setattr__(request, "_affected_sop_instance_uid", UID(announced[1]))
    request.DataSet = io.BytesIO(data_set)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer.Status if isinstance(answer, C_STORE) else None


def encoded(data_set: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Return a data set as a peer may send it, unchecked."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def spoken(association: Association, context_id: int, announced: tuple[str, str], data_set: bytes) -> int | None:
    """Send a C-STORE request on any context number, and return the status; None without a response."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = announced
    request.DataSet = io.BytesIO(data_set)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    for pdv in message.encode_msg(context_id, 16384):
        pdu = P_DATA_TF()
        pdu.from_primitive(pdv)
        assert association.dul.socket is not None
        association.dul.socket.send(pdu.encode())
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer.Status if isinstance(answer, C_STORE) else None
