"""One instance as a DICOM file (PS3.10 7): written as received, and read without decoding its data set."""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from dicomnode.errors import Damaged, NotStorable

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_PREAMBLE: Final = b"\0" * 128 + b"DICM"
_DIGEST_BYTES: Final = 32


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Return element (0002,number) in explicit VR little endian (PS3.5 7.1.2), padded to even length (PS3.5 6.2)."""
    padded = value + (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(padded)) if vr == b"OB" else struct.pack("<H", len(padded))
    return struct.pack("<HH", 0x0002, number) + vr + length + padded


IMPLEMENTATION_CLASS_UID: Final = "2.25.167002375628855213724802636761998151049"
IMPLEMENTATION_VERSION_NAME: Final = "SCT-NODE"
"""The implementation that writes the files and negotiates (PS3.7 D.3.3.2); the UID is a UUID (PS3.5 B.2)."""


def checked_uid(uid: str, what: str) -> str:
    """Return the UID without padding: at most 64 digits and dots (PS3.5 9.1), so it is safe as a file name.

    Leading zeros are tolerated. `what` names the UID in the error. Raises NotStorable.
    """
    plain = uid.strip(" \0")
    if len(plain) > 64 or not _UID.fullmatch(plain):
        raise NotStorable(f"{what} is no valid UID")
    return plain


@dataclass(frozen=True, slots=True)
class Incoming:
    """One instance of a C-STORE request (PS3.7 9.1.1.1); its data set stays encoded and unchanged.

    `study_uid` and `patient_id` are as they came, for the audit trail alone.
    """

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    dataset: bytes
    study_uid: str = ""
    patient_id: str = ""

    def file_head(self) -> bytes:
        """Return preamble, prefix and File Meta Information (PS3.10 7.1) that make the data set a file.

        Its last element, Private Information (0002,0102), ends with the SHA-256 of all other bytes of the file.
        """
        elements = b"".join(
            (
                _element(0x0001, b"OB", b"\x00\x01"),
                _element(0x0002, b"UI", self.sop_class_uid.encode("ascii")),
                _element(0x0003, b"UI", self.sop_instance_uid.encode("ascii")),
                _element(0x0010, b"UI", self.transfer_syntax_uid.encode("ascii")),
                _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
                _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
                _element(0x0016, b"AE", self.calling_ae.encode("ascii", "replace")[:16]),
                _element(0x0100, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
                _element(0x0102, b"OB", bytes(_DIGEST_BYTES)),
            )
        )
        head = _PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements[:-_DIGEST_BYTES]
        digest = hashlib.sha256(head)
        digest.update(self.dataset)
        return head + digest.digest()


def source_ae(path: Path) -> str:
    """Return Source Application Entity Title (0002,0016; PS3.10 Table 7.1-1) of a file; empty when it has none."""
    try:
        meta = read_file_meta_info(path)
    except (InvalidDicomError, OSError, EOFError, struct.error):
        return ""
    return str(meta.get("SourceApplicationEntityTitle", "")).strip()


def sop_class_of_intact(path: Path) -> str:
    """Read a stored file, compare its digest with that of its writing, and return its SOP Class UID.

    Raises Damaged when they differ, OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(len(_PREAMBLE) + 12)
        head += file.read(int.from_bytes(head[-4:], "little"))
        digest = hashlib.sha256(head[:-_DIGEST_BYTES])
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.digest() != head[-_DIGEST_BYTES:]:
        raise Damaged(f"the bytes of {path.name} are no longer those that were written")
    return str(read_file_meta_info(path).MediaStorageSOPClassUID)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file to send, with the presentation context that it needs (PS3.8 9.3.2.2)."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: str
    transfer_syntax_uid: UID


def parcel(path: Path) -> Parcel:
    """Return the parcel of a DICOM file, from its File Meta Information (PS3.10 7.1)."""
    meta = read_file_meta_info(path)
    instance = str(meta.MediaStorageSOPInstanceUID)
    return Parcel(path, UID(meta.MediaStorageSOPClassUID), instance, UID(meta.TransferSyntaxUID))
