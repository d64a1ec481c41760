"""Files that the node writes (PS3.10): whole or not at all, Explicit VR Little Endian."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from pipeline.ct.elements import Elements, data_set

IMPLEMENTATION_CLASS_UID = generate_uid(entropy_srcs=["sct-node", "implementation class"])
IMPLEMENTATION_VERSION_NAME = "SCT_NODE"


def file_bytes(sop_class_uid: str, sop_instance_uid: str, *modules: Elements) -> bytes:
    """One whole file (PS3.10 section 7): preamble, file meta information, and the union of the modules."""
    return b"\0" * 128 + b"DICM" + _file_meta(sop_class_uid, sop_instance_uid) + data_set(*modules)


def _file_meta(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """File Meta Information (PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return buffer.getvalue()


def write_whole(files: Iterable[tuple[str, bytes]], into: Path) -> list[Path]:
    """Write files by their names without `.dcm`: every `.part` is on disk before the first gets its name."""
    into.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    try:
        for name, content in files:
            parts.append(into / f"{name}.part")
            _write_durably(parts[-1], content)
        paths = [part.rename(part.with_suffix(".dcm")) for part in parts]
    except BaseException:
        for part in parts:
            part.unlink(missing_ok=True)
            part.with_suffix(".dcm").unlink(missing_ok=True)
        raise
    _sync_folder(into)
    return paths


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
