"""The instance that a C-STORE request brings: its UIDs read, its data set untouched (PS3.7 9.1.1.1)."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Final

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE

from dicomnode.dimse.messages import DataSet
from dicomnode.errors import NotStorable
from dicomnode.spool.instance_file import Incoming, checked_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event

_IDENTITY: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
_TOLD: Final = ("StudyInstanceUID", "PatientID")
_LAST_NEEDED: Final = int(Tag("SeriesInstanceUID"))
_HEADER_BYTES: Final = 16 * 1024 * 1024
"""More than any header before the Series Instance UID; a deflated data set is inflated no further."""


class Mismatched(NotStorable):
    """The data set is another instance than the request announces; C-STORE status 0xA900 (PS3.4 Table B.2-1)."""


def incoming_of(event: Event) -> Incoming:
    """The request's instance, its data set untouched.

    Raises NotStorable when the UIDs cannot be read, Mismatched when they are not those of the request (PS3.7 9.1.1.1),
    OutOfResources (TooLarge) when the data set broke a limit while it came.
    """
    request, context = store_request(event), event.context
    if isinstance(request.DataSet, DataSet):
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
    """SOPClassUID, SOPInstanceUID and SeriesInstanceUID of an encoded data set, read no further than these.

    StudyInstanceUID and PatientID are there as well, as they came, empty where they are missing: for the audit trail.
    Raises NotStorable when one is missing, invalid, or the bytes make no sense up to there.
    """
    try:
        header = _inflated(encoded) if transfer_syntax.is_deflated else encoded
        found = read_dataset(
            io.BytesIO(header),
            transfer_syntax.is_implicit_VR,
            transfer_syntax.is_little_endian,
            stop_when=_beyond_identity,
            specific_tags=[Tag(keyword) for keyword in (*_IDENTITY, *_TOLD)],
        )
    except Exception as error:  # pydicom raises whatever the garbage leads it into
        raise NotStorable("The data set cannot be read") from error
    values = {keyword: _plain(found, keyword) for keyword in _IDENTITY}
    told = {keyword: _plain(found, keyword).strip(" \0") for keyword in _TOLD}
    return {keyword: checked_uid(value, keyword) for keyword, value in values.items()} | told


def _plain(found: Dataset, keyword: str) -> str:
    """The value of an element as it came, neither checked nor spoken of by pydicom; empty when it is missing."""
    value = found.get_item(keyword).value if keyword in found else None
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""


def store_request(event: Event) -> C_STORE:
    """The request primitive of a C-STORE event."""
    assert isinstance(event.request, C_STORE)
    return event.request


def _beyond_identity(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether an element comes after all that are needed; elements come in ascending order (PS3.5 7.1)."""
    return int(tag) > _LAST_NEEDED


def _inflated(encoded: bytes) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5)."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, _HEADER_BYTES)


def calling_ae(association: Association) -> str:
    """The sender's AE title; empty before it has asked for an association."""
    asked = association.requestor.primitive
    return (asked.calling_ae_title if asked is not None else association.requestor.ae_title).strip()
