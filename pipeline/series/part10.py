"""DICOM files (PS3.10), read so that no damaged length and no deflate bomb takes more memory than they are worth."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import pydicom
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

INFLATED_TIMES = 100
"""How much longer than itself a deflated data set (PS3.5 A.5) may become: MR images do 2 to 20 times, bombs 1000."""

INFLATED_BYTES = 2**24
"""What it may become whatever its own length."""

LARGEST_INFLATED_BYTES = 2**30
"""What it may become at most: ten times a large Enhanced MR image."""

CHUNK_BYTES = 2**20


class Part10File(io.BufferedReader):
    """A file that gives no more than it has: Python takes the memory for a read before it sees the end of the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most what is left."""
        if size is None or not 0 <= size <= CHUNK_BYTES:
            left = max(self.size - self.tell(), 0)
            size = left if size is None or size < 0 else min(size, left)
        return super().read(size)


def read_file(path: Path, *, pixels: bool) -> tuple[pydicom.Dataset, bytes]:
    """Return the data set of a file, with or without pixels, and the four bytes that follow where it stopped.

    Raises InvalidDicomError, OSError (without errno where the content and not the disk is at fault) and whatever else
    pydicom raises on a damaged file; ValueError for a deflated file that becomes longer than it may.
    """
    with Part10File(path) as file:
        _check_inflated_size(file)
        data_set = pydicom.dcmread(file, stop_before_pixels=not pixels)
        return data_set, file.read(4)


def _check_inflated_size(file: Part10File) -> None:
    """Inflate a deflated data set piece by piece, only to see how long it is; leaves the file at its beginning."""
    if file.read(132)[128:] == b"DICM" and _is_deflated(file):
        inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        limit = min(max(INFLATED_BYTES, INFLATED_TIMES * file.size), LARGEST_INFLATED_BYTES)
        while packed := inflater.unconsumed_tail or file.read(CHUNK_BYTES):
            length += len(inflater.decompress(packed, CHUNK_BYTES))
            if length > limit:
                raise ValueError(f"it inflates to more than {limit} bytes")
    file.seek(0)


def _is_deflated(file: Part10File) -> bool:
    """Read the file meta information; what follows is the data set."""
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_beyond_file_meta)
    return bool(meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _beyond_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2
