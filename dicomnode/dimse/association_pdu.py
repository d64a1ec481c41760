"""A-ASSOCIATE-RQ and A-ASSOCIATE-AC as peers write them (PS3.8 9.3.2, 9.3.3), rewritten into what pynetdicom reads.

    protocol version                   bit 0 alone is tested (PS3.8 tables 9-11 and 9-17)
    AE title                           NUL and blanks around it do not count; one that cannot be taken is put aside, and
                                       admission answers it with A-ASSOCIATE-RJ (PS3.8 9.3.4)
    unknown user information           is ignored (PS3.8 D.2, note 2)
    implementation version name        printable ASCII, NUL and blanks around it do not count, cut after 16 characters
                                       (PS3.7 D.3.3.2.3); it is never a reason to refuse
    no Maximum Length                  is taken for SMALL_LENGTH; the standard requires it (PS3.8 D.1)

What is malformed otherwise is left as it is: pynetdicom finds it, and the association is aborted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from pynetdicom.dul import DULServiceProvider

from dicomnode.config.values import ae_title

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu import _PDUType

SMALL_LENGTH: Final = 16_384
"""Bytes of a P-DATA-TF PDU that are sent to a peer that announces no Maximum Length (PS3.8 D.1)."""

REQUEST, ACCEPTANCE = 0x01, 0x02
"""Types of the PDUs A-ASSOCIATE-RQ and A-ASSOCIATE-AC."""

USER_INFORMATION, MAXIMUM_LENGTH, VERSION_NAME = 0x50, 0x51, 0x55
KNOWN_USER_INFORMATION: Final = range(0x51, 0x5A)
"""Types of the user information sub-items that pynetdicom reads (PS3.7 D.3.3, PS3.8 D.1)."""

STAND_IN: Final = b"UNREADABLE".ljust(16)
"""Stands in the PDU for an AE title that cannot be taken; the association is refused before it counts."""


class Titles(NamedTuple):
    """The AE titles of an A-ASSOCIATE-RQ as printable text; what no AE title may hold is escaped with a backslash."""

    called: str
    calling: str


def titles_of(pdu: bytes) -> Titles:
    """Return the AE titles of an A-ASSOCIATE-RQ, without the NUL and blanks around them (PS3.8 table 9-11)."""
    called, calling = (
        pdu[start : start + 16].strip(b" \0").decode("latin-1").encode("unicode_escape").decode() for start in (10, 26)
    )
    return Titles(called, calling)


def rewritten(pdu: bytes) -> bytes:
    """Return an A-ASSOCIATE-RQ or A-ASSOCIATE-AC PDU in the form that pynetdicom reads; other PDUs as they are."""
    if len(pdu) < 74 or pdu[0] not in (REQUEST, ACCEPTANCE):
        return pdu
    fixed = bytearray(pdu[:74])
    if fixed[7] & 1:
        fixed[6:8] = b"\0\1"
    if pdu[0] == REQUEST:
        for start, title in zip((10, 26), titles_of(pdu), strict=True):
            fixed[start : start + 16] = STAND_IN if ae_title(title) else title.encode().ljust(16)
    try:
        listed = list(items_in(pdu[74:]))
        known = b"".join(
            item_of(kind, user_information_of(value)) if kind == USER_INFORMATION else item_of(kind, value)
            for kind, value in listed
        )
    except ValueError:
        known = pdu[74:]
    else:
        if all(kind != USER_INFORMATION for kind, _ in listed):
            known += item_of(USER_INFORMATION, user_information_of(b""))
    fixed[2:6] = struct.pack(">I", 68 + len(known))
    return bytes(fixed) + known


def user_information_of(value: bytes) -> bytes:
    """Return the user information that pynetdicom reads, with a Maximum Length (PS3.8 9.3.2.3). Raises ValueError."""
    known = [(kind, part) for kind, part in items_in(value) if kind in KNOWN_USER_INFORMATION]
    if all(kind != MAXIMUM_LENGTH for kind, _ in known):
        known.insert(0, (MAXIMUM_LENGTH, struct.pack(">I", SMALL_LENGTH)))
    content = b""
    for kind, part in known:
        if kind != VERSION_NAME:
            content += item_of(kind, part)
            continue
        name = bytes(one for one in part if 0x20 <= one <= 0x7E and one != 0x5C).strip(b" ")[:16]
        content += item_of(kind, name) if name else b""
    return content


def items_in(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item (PS3.8 9.3.1). Raises ValueError when one is cut off."""
    at = 0
    while at < len(value):
        if at + 4 > len(value):
            raise ValueError("an item is cut off")
        length = int.from_bytes(value[at + 2 : at + 4], "big")
        if at + 4 + length > len(value):
            raise ValueError("an item is cut off")
        yield value[at], value[at + 4 : at + 4 + length]
        at += 4 + length


def item_of(kind: int, value: bytes) -> bytes:
    """Return an encoded item (PS3.8 9.3.1)."""
    return struct.pack(">BBH", kind, 0, len(value)) + value


class TolerantDUL(DULServiceProvider):
    """The upper layer of an association (PS3.8 9); it reads association PDUs as the standard tells receivers to.

    Attributes:
        titles: The AE titles of the A-ASSOCIATE-RQ that came; None before, and where the node is the requestor.
    """

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._idle_timer.timeout = association.network_timeout
        self.artim_timer.timeout = association.acse_timeout
        self.titles: Titles | None = None

    def _decode_pdu(self, bytestream: bytearray) -> tuple[_PDUType, str]:
        """Decode a PDU; return it with its event (PS3.8 9.2.2)."""
        pdu = bytes(bytestream)
        if self.titles is None and pdu[0] == REQUEST and len(pdu) >= 74:
            self.titles = titles_of(pdu)
        return super()._decode_pdu(bytearray(rewritten(pdu)))
