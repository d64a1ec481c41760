"""Encode attributes as bytes (PS3.5), always in Explicit VR Little Endian (PS3.5 section A.2).

`Elements` maps a tag to its whole encoded element (tag, VR, length, value). A module of an information object is such
a mapping, a data set is the union of its modules, and a file is their bytes in order of the tags. There are two
reasons: elements that are copied from another object keep their value bytes whatever their character set, because
nothing decodes them; and elements that are the same on every slice are encoded once.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Container, Iterable
from decimal import Decimal

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element, write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from pipeline.series.instance import UID_PATTERN, intact

Elements = dict[int, bytes]
"""Tag -> encoded element."""

TEXT_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
"""VRs whose value bytes are the same in every transfer syntax (PS3.5 section 6.2 and table 7.3-1)."""
LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
"""VRs with a length of 32 bits in Explicit VR (PS3.5 table 7.1-1)."""
ITEM = b"\xfe\xff\x00\xe0"
"""Item (FFFE,E000), little endian (PS3.5 section 7.5)."""
DS_DECIMALS = 8
"""Decimals of a decimal string: 1000 steps add up to an error of at most 5e-6 mm, and -99999.12345678 still fits."""
DS_LENGTH = 16
"""Longest decimal string (PS3.5 table 6.2-1)."""
IMPLEMENTATION_CLASS_UID = generate_uid(entropy_srcs=["sct-node", "implementation class"])
"""Implementation Class UID (0002,0012) of the files that the node makes (PS3.10 section 7.1, PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = "SCT_NODE"


def elements(**values: object) -> Elements:
    """Encode attributes given by keyword; `None` gives an element of zero length.

    Raises:
        ValueError: the value breaks its VR, or the keyword is not in the data dictionary (PS3.6).
    """
    encoded: Elements = {}
    for keyword, value in values.items():
        tag = _tag(keyword)
        vr = "OW" if keyword == "PixelData" else dictionary_VR(tag)
        if vr != "UI":
            encoded[tag] = _encoded(DataElement(tag, vr, value, validation_mode=RAISE))
        elif UID_PATTERN.fullmatch(str(value)):  # with the leading zeros that some scanners write: it stays the MR's
            encoded[tag] = _framed(tag, "UI", str(value).encode("ascii"))
        else:
            raise ValueError(f"{keyword} is no UID")
    return encoded


def sequence(keyword: str, items: Iterable[Elements]) -> Elements:
    """Encode a sequence (SQ) of items, each of defined length (PS3.5 section 7.5.1)."""
    contents = [data_set(item) for item in items]
    framed = b"".join(ITEM + struct.pack("<I", len(content)) + content for content in contents)
    return {_tag(keyword): _framed(_tag(keyword), "SQ", framed)}


def decimal_strings(keyword: str, texts: Iterable[str]) -> Elements:
    """Encode a DS of values in text form. Raises struct.error for more than 65534 bytes (PS3.5 section 7.1.2)."""
    return {_tag(keyword): _framed(_tag(keyword), "DS", "\\".join(texts).encode("ascii"))}


def elements_of(source: Dataset, without: Container[str] = ()) -> Elements:
    """Encode the attributes of a data set that this node has made, except those in `without` (keywords)."""
    known = correct_ambiguous_vr(source, is_little_endian=True)
    return {int(element.tag): _encoded(element) for element in known if element.keyword not in without}


def copied(source: Dataset, keywords: Iterable[str]) -> Elements:
    """Copy the attributes that `source` has; the bytes of text values stay as they are and are not decoded.

    An empty item is left out, and so is a sequence without items: a Type 3 sequence must not be empty (PS3.5 section
    7.4.5). `source` must come directly from its file, because reading an element of a data set decodes it.

    Raises:
        Unsuitable: UNREADABLE, the content of an attribute is damaged; its keyword is named.
    """
    encoded: Elements = {}
    for tag in sorted(_tag(keyword) for keyword in keywords):
        if tag in source:
            with intact("the MR series", f"its {keyword_for_tag(tag)} is damaged"):
                element = _copied(source, tag)
            encoded |= {} if element is None else {tag: element}
    return encoded


def data_set(*modules: Elements) -> bytes:
    """Return the bytes of a data set: the elements of its modules in ascending order of tags (PS3.5 section 7.1)."""
    union: Elements = {}
    for module in modules:
        union.update(module)
    return b"".join(union[tag] for tag in sorted(union))


def decimal(value: float | Decimal, decimals: int = DS_DECIMALS) -> Decimal:
    """Round `value` to the decimal that is written. Every DS of geometry passes through here."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    return exact.quantize(Decimal(1).scaleb(-decimals)) + 0


def decimal_string(value: Decimal) -> str:
    """Write a decimal as DS, without an exponent and without zeros at its end.

    Raises:
        ValueError: it takes more than 16 characters (PS3.5 section 6.2).
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    if len(text) > DS_LENGTH:
        raise ValueError(f"{text} is longer than the {DS_LENGTH} characters of a decimal string")
    return "0" if text == "-0" else text


def plain(text: str, length: int) -> str:
    """Return `text` in ASCII, without backslashes and control characters, at most `length` long.

    Such a text is valid in every character set (PS3.5 section 6.1).
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    one_line = " ".join(ascii_text.replace("\\", "/").split())
    return one_line[:length].rstrip()


def raw_bytes(source: Dataset, keyword: str) -> bytes:
    """Return the undecoded bytes of a text value without its padding; empty when the attribute is missing."""
    encoded = copied(source, [keyword])
    return encoded[_tag(keyword)][8:].rstrip(b" \0") if encoded else b""


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword of the data dictionary")
    return tag


def _encoded(element: DataElement) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element)
    return buffer.getvalue()


def _framed(tag: int, vr: str, value: bytes) -> bytes:
    """Put the head of an element before `value`, and pad it to an even length (PS3.5 sections 6.2, 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    length = struct.pack("<HI", 0, len(value)) if vr in LONG_VRS else struct.pack("<H", len(value))
    return head + length + value


def _copied(source: Dataset, tag: int) -> bytes | None:
    """Encode a copy of one element; None for a sequence in which nothing is left."""
    vr = dictionary_VR(tag)
    raw = source.get_item(Tag(tag))
    if vr == "SQ":
        kept: list[Elements] = []
        for item in source[tag].value or ():  # private attributes have no meaning outside their object (PS3.5 7.8)
            tags = list(item.keys())
            known = [one for one in tags if dictionary_has_tag(one) and not one.is_private and one.element != 0]
            copies = {int(one): _copied(item, int(one)) for one in known}
            kept.append({one: copy for one, copy in copies.items() if copy is not None})
        return next(iter(sequence(keyword_for_tag(tag), filter(None, kept)).values())) if any(kept) else None
    if vr in TEXT_VRS and raw.is_raw:
        return _framed(tag, vr, raw.value or b"")
    return _encoded(source[tag])


def file_bytes(sop_class_uid: str, sop_instance_uid: str, *modules: Elements) -> bytes:
    """Encode one file (PS3.10 section 7): preamble, File Meta Information (section 7.1), the union of the modules."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return b"\0" * 128 + b"DICM" + buffer.getvalue() + data_set(*modules)
