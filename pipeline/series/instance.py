"""One received SOP instance: its UIDs, its file, and its header without pixels.

DICOM files (PS3.10) are read so that neither a damaged length nor a deflate bomb takes more memory than the file is
worth.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)

from pipeline.errors import Unsuitable

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
"""pydicom's complaints about a value quote it, a patient's name among them: they must reach neither log nor warning.

What matters of a header is checked where it is used.
"""

MR_SOP_CLASSES = frozenset({MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage})
"""SOP classes of the images that can become a synthetic CT (PS3.4 B.5)."""

MULTI_FRAME_SOP_CLASSES = frozenset({EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage})

LOSSLESS_TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
"""Transfer syntaxes that keep every stored value (PS3.5 section 10 and annex A), the preferred ones first."""

LOSSY_TRANSFER_SYNTAXES = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
"""Transfer syntaxes that may lose something -> Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1).

JPEG Extended (Process 2 and 4) is not among them: no permissively licensed decoder reads its 12 bits.
"""

PIXEL_DATA_TAGS = frozenset(
    bytes.fromhex(tag) for tag in ("E07F0800", "E07F0900", "E07F1000", "7FE00008", "7FE00009", "7FE00010")
)
"""(7FE0,0008), (7FE0,0009) and (7FE0,0010) as bytes, little and big endian (PS3.3 C.7.6.3 and C.7.6.24)."""

PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""The same as numbers."""

ONCE = frozenset(
    Tag(keyword)
    for keyword in (
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
        *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
        *("PatientPosition", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        *("Rows", "Columns", "NumberOfFrames"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    )
)
"""Elements that identify or place an image: two values of one contradict each other (PS3.5 7.1)."""

DAMAGE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""The errors of pydicom and the decoders for a damaged file. OSError without errno is another: see `intact`."""

UID_PATTERN = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
"""A UID (PS3.5 9.1), leading zeros tolerated: some scanners write them, and nothing else would name their objects."""


@dataclass(frozen=True)
class Instance:
    """One received SOP instance: its UIDs, its transfer syntax, its file, and its header without pixels.

    `repeated` has the keywords of `ONCE` that its data set has twice with different values; `header` has the last ones.
    Two instances are equal when UIDs, transfer syntax and file are; headers are not compared.
    """

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    series_instance_uid: UID
    path: Path
    header: pydicom.Dataset = field(repr=False, compare=False)
    repeated: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_image(self) -> bool:
        """Whether it is an image, by the name of its SOP class (PS3.6) or by its matrix; a report is none."""
        return self.sop_class_uid.name.endswith("Image Storage") or "Rows" in self.header

    @property
    def is_multi_frame(self) -> bool:
        """Whether the geometry lies in functional groups (PS3.3 C.7.6.16) rather than at the top level."""
        return self.sop_class_uid in MULTI_FRAME_SOP_CLASSES


def read_instance(path: Path) -> Instance:
    """Read the header of one file, without its pixels.

    Raises:
        Unsuitable: UNREADABLE (naming the file), when it is no DICOM file, lacks the UIDs that identify it, or is an
            image that ends before its pixel data.
        OSError: the disk fails.
    """
    try:
        with intact(path.name, "its header is damaged"):
            counts: Counter[BaseTag] = Counter()
            header, next_tag = read_file(path, pixels=False, counts=counts)
            repeated = _repeated(path, header, [tag for tag, count in counts.items() if count > 1], counts)
            keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
            sop_class, sop_instance, series = (UID(str(header.get(keyword) or "")) for keyword in keywords)
            transfer_syntax_uid = UID(str(header.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))
    except InvalidDicomError as error:
        raise Unsuitable.of("UNREADABLE", name=path.name, detail="it is no DICOM file") from error
    if not all(map(UID_PATTERN.fullmatch, (sop_class, sop_instance, series))):
        raise Unsuitable.of("UNREADABLE", name=path.name, detail="its header is cut short or lacks its UIDs")
    instance = Instance(sop_class, sop_instance, transfer_syntax_uid, series, path, header, repeated)
    whole = next_tag in PIXEL_DATA_TAGS or transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    if instance.is_image and not whole:  # a deflated data set is read to its end or not at all
        raise Unsuitable.of("UNREADABLE", name=path.name, detail="it ends before its pixel data")
    return instance


@contextmanager
def intact(name: str, detail: str) -> Iterator[None]:
    """Turn the errors of damaged content into Unsuitable UNREADABLE; the error of a failing disk stays an OSError.

    pydicom raises OSError on damaged sequences, without an errno: no system call has failed.
    """
    try:
        yield
    except InvalidDicomError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise unreadable(name, detail, error) from error
    except DAMAGE as error:
        raise unreadable(name, detail, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of decoders written in Rust; it derives from no Exception
            raise
        raise unreadable(name, detail, error) from error


def unreadable(name: str, detail: str, error: BaseException) -> Unsuitable:
    """Return UNREADABLE with the type of `error` alone, since its text may quote a patient's name."""
    return Unsuitable.of("UNREADABLE", name=name, detail=f"{detail} ({type(error).__name__})")


def text(instance: Instance, keyword: str) -> str:
    """Return the top-level attribute `keyword` as text, values joined by a backslash, "" where absent or empty.

    Equal numbers give equal text: 80 and 80.0 are both "80".

    Raises:
        Unsuitable: UNREADABLE, when its value cannot be decoded.
    """
    return text_of(instance.header, keyword, instance.sop_instance_uid)


def text_of(data_set: pydicom.Dataset, keyword: str, name: str) -> str:
    """Return attribute `keyword` of `data_set` as `text` does; `name` is what UNREADABLE names."""
    with intact(name, f"its {keyword} is damaged"):
        value = data_set.get(keyword)
        if value is None:
            return ""
        values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        return "\\".join(f"{one:.6g}" if isinstance(one, float) else str(one).strip() for one in values)


INFLATED_TIMES = 100
"""A deflated data set (PS3.5 A.5) may become so many times longer: MR images become 2 to 20 times, bombs 1000 times."""
INFLATED_BYTES = 2**24
"""Length that any deflated data set may have when inflated."""
LARGEST_INFLATED_BYTES = 2**30
"""Length that no inflated data set may exceed: ten times a large Enhanced MR image."""
CHUNK_BYTES = 2**20


class Part10File(io.BufferedReader):
    """A file whose reads end at its end, because Python allocates the memory of a read before it sees that end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most the bytes that are left."""
        if size is None or not 0 <= size <= CHUNK_BYTES:
            left = max(self.size - self.tell(), 0)
            size = left if size is None or size < 0 else min(size, left)
        return super().read(size)

    def check_inflated_size(self) -> None:
        """Inflate a deflated data set piece by piece, only to measure it, and return to the beginning of the file.

        Raises:
            ValueError: it becomes longer than it may.
        """
        if self.read(132)[128:] == b"DICM":  # PS3.10 7.1; behind it the file meta information, then the data set
            meta = read_dataset(
                self, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2
            )
            packed = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
            inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
            limit = min(max(INFLATED_BYTES, INFLATED_TIMES * self.size), LARGEST_INFLATED_BYTES)
            while packed and (piece := inflater.unconsumed_tail or self.read(CHUNK_BYTES)):
                length += len(inflater.decompress(piece, CHUNK_BYTES))
                if length > limit:
                    raise ValueError(f"it inflates to more than {limit} bytes")
        self.seek(0)


def read_file(
    path: Path, *, pixels: bool, counts: Counter[BaseTag] | None = None, before_second: BaseTag | None = None
) -> tuple[pydicom.Dataset, bytes]:
    """Return the data set of a file, with or without pixels, and the four bytes that follow where it stopped.

    Args:
        path: of the file.
        pixels: whether it is read to its end, not to its pixel data alone.
        counts: of an element that the data set has twice the last value is kept; without pixels, here is counted how
            often each element of `ONCE` came at the top level.
        before_second: without pixels, where reading stops: before this element comes a second time.

    Raises:
        InvalidDicomError: it is no DICOM file.
        OSError: the disk fails; or the content is damaged, then without errno.
        ValueError: a deflated file becomes longer than it may.
        Exception: another of `DAMAGE`.
    """
    with Part10File(path) as file:
        file.check_inflated_size()
        met = Counter[BaseTag]() if counts is None else counts

        def ends(tag: BaseTag, _vr: str | None, _length: int) -> bool:
            if tag in ONCE:
                met[tag] += 1
            return tag in PIXEL_DATA or (tag == before_second and met[tag] > 1)

        return read_partial(file, None if pixels else ends), file.read(4)


def _repeated(path: Path, header: pydicom.Dataset, tags: list[BaseTag], counts: Counter[BaseTag]) -> tuple[str, ...]:
    """Return the keywords of those of `tags` that the data set has with different values, or more than twice.

    Elements inside sequences, as the functional groups of Enhanced images, are not looked at: pydicom keeps the last.
    """
    found = []
    for tag in tags:
        first = read_file(path, pixels=False, before_second=tag)[0].get_item(tag)
        last = header.get_item(tag)
        if counts[tag] > 2 or (first is not None and last is not None and first.value != last.value):
            found.append(keyword_for_tag(tag))
    return tuple(found)
