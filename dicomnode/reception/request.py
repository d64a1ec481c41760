"""The instance of a C-STORE request (PS3.7 9.1.1.1): its command set and UIDs are read, its data set is unchanged."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Final

from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE

from dicomnode.dimse.admission import calling_ae
from dicomnode.dimse.messages import LimitedDataSet
from dicomnode.errors import NotStorable
from dicomnode.spool.instance_file import Incoming, checked_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

_IDENTITY: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
_AUDITED: Final = ("StudyInstanceUID", "PatientID")
_LAST_NEEDED: Final = int(Tag("SeriesInstanceUID"))
_HEADER_BYTES: Final = 16 * 1024 * 1024
"""More than any header before the Series Instance UID; a deflated data set is inflated no further."""


class Mismatched(NotStorable):
    """The data set is another instance than the request announces; C-STORE status 0xA900 (PS3.4 Table B.2-1)."""


def incoming_of(event: Event) -> Incoming:
    """Return the instance of a C-STORE request (PS3.7 9.1.1.1): its command set and UIDs read, its data set unchanged.

    Raises:
        NotStorable: The UIDs cannot be read.
        Mismatched: The UIDs are not those of the request.
        OutOfResources: The data set exceeded a limit while it was received (TooLarge: `receive.max_object_bytes`).
    """
    request, context = event.request, event.context
    assert isinstance(request, C_STORE)
    if isinstance(request.DataSet, LimitedDataSet):
        request.DataSet.check()
    encoded = event.encoded_dataset(include_meta=False)
    found = identity(encoded, UID(context.transfer_syntax))
    asked = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    if asked[0] != context.abstract_syntax:
        raise Mismatched("The SOP class is not that of the presentation context")
    for (keyword, value), wanted in zip(found.items(), asked, strict=False):
        if value != wanted.strip(" \0"):
            raise Mismatched(f"{keyword} differs from the request's")
    return Incoming(
        series_uid=found["SeriesInstanceUID"],
        sop_instance_uid=found["SOPInstanceUID"],
        sop_class_uid=found["SOPClassUID"],
        transfer_syntax_uid=str(context.transfer_syntax),
        calling_ae=calling_ae(event.assoc),
        dataset=encoded,
        study_uid=found["StudyInstanceUID"],
        patient_id=found["PatientID"],
    )


def identity(encoded: bytes, transfer_syntax: UID) -> dict[str, str]:
    """Return the UIDs of an encoded data set by keyword, and what the audit trail needs; read no further than these.

    StudyInstanceUID and PatientID are not checked, and empty where they are missing. Elements come in ascending order
    (PS3.5 7.1), so reading stops after SeriesInstanceUID; a deflated data set (PS3.5 A.5) is inflated only so far.

    Raises:
        NotStorable: SOPClassUID, SOPInstanceUID or SeriesInstanceUID is missing, invalid or cannot be read.
    """
    try:
        if transfer_syntax.is_deflated:
            encoded = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, _HEADER_BYTES)
        found = read_dataset(
            io.BytesIO(encoded),
            transfer_syntax.is_implicit_VR,
            transfer_syntax.is_little_endian,
            stop_when=lambda tag, _vr, _length: int(tag) > _LAST_NEEDED,
            specific_tags=[Tag(keyword) for keyword in (*_IDENTITY, *_AUDITED)],
        )
    except Exception as error:  # malformed input can raise any error in pydicom
        raise NotStorable("The data set cannot be read") from error
    values = {keyword: _plain(found, keyword) for keyword in _IDENTITY}
    audited = {keyword: _plain(found, keyword).strip(" \0") for keyword in _AUDITED}
    return {keyword: checked_uid(value, keyword) for keyword, value in values.items()} | audited


def _plain(found: Dataset, keyword: str) -> str:
    """Return the value of an element as it was received, not checked by pydicom; empty when it is missing."""
    value = found.get_item(keyword).value if keyword in found else None
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""
