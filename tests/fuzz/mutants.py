"""Damaged MR series, made by a seeded generator, and what the pipeline makes of each.

    python tests/fuzz/mutants.py FOLDER DATA                 writes the undamaged series into FOLDER/*/base
    python tests/fuzz/mutants.py FOLDER SEED COUNT FIRST

judges COUNT mutants of each undamaged series in FOLDER/*/base, from the mutant of number FIRST, with bounded memory.
Each line on stdout is one mutant as JSON: its number, what was done to it, the verdict, seconds, and peak memory.
`started` is written before a mutant is judged, so that the parent knows which one a hang or a crash belongs to.
`tests/fuzz/test_damaged_files.py` is that parent.

    verdict    what it means
    refused    Unsuitable or NotStorable, a named error; the code is told
    same       a volume came out, and it lies where the undamaged series lies: no voxel moved more than `SAME_MM`
    as said    a volume came out that lies elsewhere, exactly where the damaged headers say, read by dcmdump
    WRONG      a volume came out that lies elsewhere, and nobody said so
    CRASH      any other error escaped
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from highdicom import Volume, VolumeGeometry
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.errors import NodeError
from dicomnode.reception.request import identity
from models.inference.card import ModelCard
from pipeline.ct.write import Provenance, Sampling, write_ct
from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.instance import DAMAGE
from pipeline.series.series import only_series, read_series, stack_complete
from pipeline.volume.volume import read_volume

SAME_MM = 0.05
"""The largest tolerance of the stack (`pipeline.series.stack.TOLERANCES`): a slice may lie this far from the grid."""

MEMORY_BYTES = 3 * 2**30
"""Address space of the child; the libraries alone take a third of it."""

Draw = random.Random
Change = Callable[[pydicom.Dataset, Draw], str]
"""Damages a data set and says how."""

SLICES = 6
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRID = thigh.oblique_grid((SLICES, 32, 32), (4.0, 5.0, 5.0), TURN)


# --- the undamaged series --------------------------------------------------------------------------------------------


def classic(into: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    """A classic series in any syntax that pydicom writes."""
    for path in thigh.write_mr_series(thigh.thigh(GRID).mr, into):
        rewrite(path, syntax)


def enhanced(into: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    """An Enhanced object in any syntax that pydicom writes."""
    rewrite(thigh.write_enhanced_mr(thigh.thigh(GRID).mr, into), syntax)


def head_of(content: bytes) -> int:
    """Where the data set begins: after the file meta information (PS3.10 7.1)."""
    return 144 + int.from_bytes(content[140:144], "little")


def rewrite(path: Path, syntax: UID) -> None:
    """Encode a file anew."""
    image = pydicom.dcmread(path)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        image.compress(syntax, generate_instance_uid=False)
        image.save_as(path)
        return
    if not syntax.is_little_endian:
        values = np.frombuffer(image.PixelData, "<u2")
        image.PixelData = values.astype(">u2").tobytes()
    image.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer,
        image,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    path.write_bytes(buffer.getvalue())


def real(name: str, data: Path, into: Path) -> None:
    """Some neighbouring slices of a real series, every fourth pixel of every fourth row, header and all."""
    work = Path(tempfile.mkdtemp())
    shutil.unpack_archive(data / "mr" / f"{name}.tar.xz", work, filter="data")
    images = [pydicom.dcmread(path) for path in work.rglob("*") if path.is_file()]
    shutil.rmtree(work)
    normal = np.cross(*np.reshape([float(v) for v in images[0].ImageOrientationPatient], (2, 3)))
    images.sort(key=lambda image: float(np.dot(normal, [float(v) for v in image.ImagePositionPatient])))
    into.mkdir(exist_ok=True)
    for number, image in enumerate(images[40 : 40 + SLICES] if len(images) > 100 else images[:SLICES]):
        pixels = np.ascontiguousarray(image.pixel_array[::4, ::4])
        image.Rows, image.Columns = pixels.shape
        image.PixelSpacing = [4 * float(mm) for mm in image.PixelSpacing]
        image.PixelData = pixels.tobytes()
        for element in [element for element in image if _announces(element)]:
            del image[element.tag]
        image.save_as(into / f"{number}.dcm")


def _announces(element: DataElement) -> bool:
    """Whether it says how many images the series has: an excerpt has fewer."""
    private = {0x0025: 0x07, 0x2001: 0x18, 0x0029: 0x20}.get(element.tag.group)
    return element.keyword == "ImagesInAcquisition" or (
        element.tag.is_private and element.tag.element & 0xFF == private
    )


BASES: dict[str, Callable[[Path, Path], None]] = {
    "classic": lambda _, into: classic(into),
    "classic implicit": lambda _, into: classic(into, ImplicitVRLittleEndian),
    "classic big endian": lambda _, into: classic(into, ExplicitVRBigEndian),
    "classic deflated": lambda _, into: classic(into, DeflatedExplicitVRLittleEndian),
    "classic RLE": lambda _, into: classic(into, RLELossless),
    "classic JPEG-LS": lambda _, into: classic(into, JPEGLSLossless),
    "classic JPEG 2000": lambda _, into: classic(into, JPEG2000Lossless),
    "enhanced": lambda _, into: enhanced(into),
    "enhanced deflated": lambda _, into: enhanced(into, DeflatedExplicitVRLittleEndian),
    "enhanced RLE": lambda _, into: enhanced(into, RLELossless),
    "enhanced JPEG-LS": lambda _, into: enhanced(into, JPEGLSLossless),
    "enhanced JPEG 2000": lambda _, into: enhanced(into, JPEG2000Lossless),
    "Philips": lambda data, into: real("philips_ingenia_sag_mprage_classic", data, into),
    "Siemens": lambda data, into: real("siemens_prisma_sag_t1_HFS", data, into),
    "GE": lambda data, into: real("ge_pioneer_ax_mprage_gridphantom_classic", data, into),
}


def undamaged(folder: Path, data: Path) -> None:
    """Write every one of `BASES`."""
    for name, write in BASES.items():
        (folder / name).mkdir()
        write(data, folder / name / "base")


# --- damage to bytes -------------------------------------------------------------------------------------------------


def damage_bytes(content: bytes, draw: Draw) -> tuple[bytes, str]:
    """Damage a file somewhere, mostly in its header."""
    kinds = (flip, flip, flip, cut, cut, drop_run, double_run, overwrite_run, odd, length_field, syntax_uid)
    kind = draw.choice(kinds)
    end = len(content) if draw.random() < 0.3 else max(200, content.find(b"\xe0\x7f\x10\x00"))
    return kind(content, draw, end), kind.__name__


def flip(content: bytes, draw: Draw, end: int) -> bytes:
    """Flip one to eight bits."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        damaged[draw.randrange(128, end)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(content: bytes, draw: Draw, _end: int) -> bytes:
    """End the file early."""
    return content[: draw.randrange(0, len(content))]


def drop_run(content: bytes, draw: Draw, end: int) -> bytes:
    """Leave some bytes out."""
    start = draw.randrange(128, end)
    return content[:start] + content[start + draw.choice((1, 2, 3, 8, 64, 500)) :]


def double_run(content: bytes, draw: Draw, end: int) -> bytes:
    """Say some bytes twice."""
    start = draw.randrange(128, end)
    return content[:start] + content[start : start + draw.choice((1, 2, 8, 64, 500))] + content[start:]


def overwrite_run(content: bytes, draw: Draw, end: int) -> bytes:
    """Write zeros, ones or noise over some bytes."""
    start, length = draw.randrange(128, end), draw.choice((1, 4, 16, 128))
    fill = draw.choice((b"\0" * length, b"\xff" * length, draw.randbytes(length)))
    return content[:start] + fill + content[start + length :]


def odd(content: bytes, draw: Draw, end: int) -> bytes:
    """Put one byte in."""
    start = draw.randrange(128, end)
    return content[:start] + draw.randbytes(1) + content[start:]


def length_field(content: bytes, draw: Draw, end: int) -> bytes:
    """Write an impossible length where a length may stand."""
    start = draw.randrange(132, end) & ~1
    return (
        content[:start]
        + draw.choice((b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\xff\xff\xff\x7f"))
        + content[start + 4 :]
    )


def syntax_uid(content: bytes, draw: Draw, _end: int) -> bytes:
    """Claim another transfer syntax of the same length."""
    others = [
        b"1.2.840.10008.1.2.4.50",
        b"1.2.840.10008.1.2.4.70",
        b"1.2.840.10008.1.2.4.80",
        b"1.2.840.10008.1.2.4.90",
    ]
    found = re.search(rb"1\.2\.840\.10008\.1\.2[0-9.]*", content[144:400])
    if found is None:
        return flip(content, draw, len(content))
    start, end = 144 + found.start(), 144 + found.end()
    return content[:start] + draw.choice(others).ljust(end - start, b"\0")[: end - start] + content[end:]


# --- damage to elements ----------------------------------------------------------------------------------------------

GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "RescaleSlope",
    "RescaleIntercept",
    "PatientPosition",
    "FrameOfReferenceUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
)
"""What decides where a volume lies and how it is read: damaged more often than the rest."""

RUBBISH = (
    b"",
    b" ",
    b"\\\\\\",
    b"NaN\\inf",
    b"1e400\\-1e400\\0",
    b"-0",
    b"0\\0\\0\\0\\0\\0",
    b"1\\2\\3\\4\\5\\6\\7",
    b"1,5\\2,5",
    b"9" * 70000,
    "木 ñ é".encode(),
    b"\x1b$B;3ED\x1b(B",
    b"\xff\xfe\0\xe0\xff\xff\xff\xff",
    bytes(range(256)),
)
"""Values that no attribute should have."""

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 13, 31, 33, 64, 255, 4096, 65535)


def holders(image: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The data set and the items of its sequences, all levels."""
    found = [image]
    for element in image:
        if element.VR == "SQ":
            for item in element.value or ():
                found += holders(item)
    return found


def place(image: pydicom.Dataset, draw: Draw) -> tuple[pydicom.Dataset, int]:
    """An element somewhere, often one of `GEOMETRY`; never the pixels."""
    everywhere = [(holder, int(tag)) for holder in holders(image) for tag in list(holder._dict) if tag.group != 0x7FE0]
    wanted = {int(Tag(keyword)) for keyword in GEOMETRY}
    chosen = [one for one in everywhere if one[1] in wanted]
    return draw.choice(chosen if chosen and draw.random() < 0.6 else everywhere)


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    """An element of any bytes."""
    return RawDataElement(Tag(tag), vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def removed(image: pydicom.Dataset, draw: Draw) -> str:
    """An attribute is missing."""
    holder, tag = place(image, draw)
    del holder[tag]
    return f"{Tag(tag)}"


def rubbish(image: pydicom.Dataset, draw: Draw) -> str:
    """An attribute has a value that makes no sense."""
    holder, tag = place(image, draw)
    vr = holder[tag].VR
    holder[tag] = raw(tag, vr if vr != "SQ" else "UN", draw.choice(RUBBISH))
    return f"{Tag(tag)} {vr}"


def wrong_vr(image: pydicom.Dataset, draw: Draw) -> str:
    """An attribute has another VR than its own."""
    holder, tag = place(image, draw)
    vr = draw.choice(("UN", "OB", "FL", "FD", "US", "SL", "LO", "SQ", "UI", "DS", "AT", "OW", "PN", "DA"))
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    holder[tag] = raw(tag, vr, draw.randbytes(draw.choice((0, 1, 2, 3, 4, 8, 16, 24))))
    return f"{Tag(tag)} {vr}"


def swapped(image: pydicom.Dataset, draw: Draw) -> str:
    """Two attributes have each other's values."""
    (one, first), (other, second) = place(image, draw), place(image, draw)
    a, b = one[first], other[second]
    one[first] = DataElement(first, a.VR, b.value, already_converted=True)
    other[second] = DataElement(second, b.VR, a.value, already_converted=True)
    return f"{Tag(first)} {Tag(second)}"


def number(image: pydicom.Dataset, draw: Draw) -> str:
    """A number of the image's layout is another, perhaps a huge one."""
    keyword = draw.choice(
        ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
    )
    value = draw.choice(NUMBERS)
    image[keyword] = DataElement(Tag(keyword), "US", value)
    return f"{keyword} {value}"


def frames(image: pydicom.Dataset, draw: Draw) -> str:
    """Another number of frames."""
    value = draw.choice(("0", "-1", "2", "5", "7", "1000", "999999999", "2147483647", "1.5", "x"))
    image[Tag("NumberOfFrames")] = raw(Tag("NumberOfFrames"), "IS", value.encode())
    return f"NumberOfFrames {value}"


def coordinates(image: pydicom.Dataset, draw: Draw) -> str:
    """A position, an orientation or a spacing has one number changed."""
    keyword = draw.choice(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    places = [holder for holder in holders(image) if keyword in holder]
    if not places:
        return removed(image, draw)
    holder = draw.choice(places)
    values = [float(value) for value in holder[keyword].value]
    values[draw.randrange(len(values))] *= draw.choice((-1, 0, 1.001, 1.1, 10, 1e6, 1e300))
    holder[keyword] = raw(Tag(keyword), "DS", "\\".join(f"{value:.6g}" for value in values).encode())
    return keyword


def nested(image: pydicom.Dataset, draw: Draw) -> str:
    """A sequence in a sequence in a sequence, hundreds deep."""
    depth = draw.choice((50, 400, 2000))
    keyword = draw.choice(("OtherPatientIDsSequence", "ReferencedStudySequence", "ProcedureCodeSequence"))
    item = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + _head(keyword) for _ in range(depth))
    image[Tag(keyword)] = raw(Tag(keyword), "UN", item)
    return f"{keyword} {depth} deep"


def _head(keyword: str) -> bytes:
    tag = int(Tag(keyword))
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)


def sequences(image: pydicom.Dataset, draw: Draw) -> str:
    """A sequence that is copied into the CT holds rubbish."""
    keyword = draw.choice(("OtherPatientIDsSequence", "ReferencedStudySequence", "ProcedureCodeSequence"))
    content = draw.choice(
        (
            draw.randbytes(40),
            b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
            b"\xfe\xff\x00\xe0\x20\0\0\0abc",
            b"\xfe\xff\x00\xe0\3\0\0\0abc",
        )
    )
    image[Tag(keyword)] = raw(Tag(keyword), "SQ" if draw.random() < 0.5 else "UN", content)
    return keyword


CHANGES: tuple[Change, ...] = (
    removed,
    removed,
    rubbish,
    rubbish,
    wrong_vr,
    swapped,
    number,
    frames,
    coordinates,
    coordinates,
    nested,
    sequences,
)


def damage_elements(content: bytes, seed: int) -> tuple[bytes, str] | None:
    """Change one element of a file; None where the result cannot even be written."""
    draw = random.Random(seed)
    image = pydicom.dcmread(io.BytesIO(content))
    change = draw.choice(CHANGES)
    syntax = image.file_meta.TransferSyntaxUID
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    try:
        said = change(image, draw)
        write_dataset(buffer, image)
    except (*DAMAGE, OSError, AssertionError):  # what cannot be written is no mutant
        return None
    head = content[: head_of(content)]
    body = buffer.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    return head + body, f"{change.__name__} {said}"


def bomb(content: bytes, draw: Draw) -> tuple[bytes, str]:
    """A deflated file that inflates to gigabytes."""
    head = content[: head_of(content)]
    body = zlib.decompress(content[len(head) :], -zlib.MAX_WBITS)
    size = draw.choice((300, 1200, 3000))
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    begin = packer.compress(body + struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, size * 2**20))
    begin += packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it can be repeated
    return head + begin + block * size + packer.flush(), f"bomb of {size} MiB"


# --- the judge -------------------------------------------------------------------------------------------------------


def header_geometry(folder: Path) -> VolumeGeometry | None:
    """Where the headers say that the slices lie, read by dcmdump; None where they make no regular stack."""
    planes = []
    for path in sorted(folder.iterdir()):
        found = subprocess.run(["dcmdump", "-q", "+L", str(path)], capture_output=True, check=False, timeout=20)
        text = found.stdout.decode("latin-1").replace("\0", "")
        lists = {
            keyword: [
                [float(v) for v in one.split("\\")]
                for one in re.findall(rf"\[([-+0-9.eE\\ ]+)\][^\n]* {keyword}\n", text)
            ]
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        }
        rows, columns = (re.findall(rf"US (\d+)[^\n]* {keyword}\n", text) for keyword in ("Rows", "Columns"))
        positions = lists["ImagePositionPatient"]
        if not positions or not rows or not columns or not all(lists.values()):
            return None
        orientations = lists["ImageOrientationPatient"] * (len(positions) // len(lists["ImageOrientationPatient"]))
        spacings = lists["PixelSpacing"] * (len(positions) // len(lists["PixelSpacing"]))
        planes += [
            (np.array(p), np.array(o), np.array(s), int(rows[0]), int(columns[0]))
            for p, o, s in zip(positions, orientations, spacings, strict=False)
        ]
    row, column = planes[0][1][:3], planes[0][1][3:]
    normal = np.cross(row, column)
    planes.sort(key=lambda plane: float(plane[0] @ normal))
    affine = np.eye(4)
    affine[:3, 0] = (planes[-1][0] - planes[0][0]) / (len(planes) - 1)
    affine[:3, 1], affine[:3, 2] = column * planes[0][2][0], row * planes[0][2][1]
    affine[:3, 3] = planes[0][0]
    return VolumeGeometry(affine, (len(planes), *planes[0][3:]), "PATIENT")


def apart_mm(a: VolumeGeometry | Volume, b: VolumeGeometry | Volume | None) -> float:
    """How far a voxel of one lies from the same voxel of the other; infinite where the shapes differ."""
    if b is None or tuple(a.spatial_shape) != tuple(b.spatial_shape):
        return float("inf")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.spatial_shape])).reshape(3, -1)
    moved = (a.affine - b.affine) @ np.vstack([corners, np.ones(8)])
    return float(np.linalg.norm(moved[:3], axis=0).max())


CARD = ModelCard(
    name="none",
    version="1",
    digest="ab" * 32,
    architecture={},
    modality="MR",
    anatomy=("THIGH",),
    contrast="T1",
    spacing_mm=(3.0, 1.0, 1.0),
    hu_range=(-1024.0, 3071.0),
    training_data="none",
    limits="none",
)
SAMPLING = Sampling(seed=7, steps=4, samples=2, to_model="linear", to_ct="linear", model_spacing_mm=(3.0, 1.0, 1.0))
PROVENANCE = Provenance(CARD, SAMPLING, (), "cd" * 32, (), "0.1.0")
HU = thigh.axial_grid((2, 8, 8), (5.0, 20.0, 20.0)).with_array(np.zeros((2, 8, 8), np.float32))


def outcome(folder: Path, damaged: Path, syntax: UID, truth: Volume) -> tuple[str, str]:
    """Take a damaged series through the node without network and model."""
    try:
        with contextlib.suppress(NodeError):  # it would not be stored; as a file in a folder it goes on
            identity(damaged.read_bytes()[head_of(damaged.read_bytes()) :], syntax)
        series = only_series(read_series(folder))
        stack_complete(series)
        volume = read_volume(series)
        with tempfile.TemporaryDirectory() as into:
            write_ct(HU, series, PROVENANCE, Path(into), written_at=datetime(2026, 1, 1, tzinfo=UTC))
    except Unsuitable as error:
        return "refused", error.code
    except Exception:  # noqa: BLE001 (whatever it is, it is the finding)
        return "CRASH", traceback.format_exc(limit=-5)
    if apart_mm(volume, truth) <= SAME_MM:
        return "same", ""
    said = header_geometry(folder)
    return ("as said" if apart_mm(volume, said) <= SAME_MM else "WRONG"), f"{volume.spatial_shape} {series.set_aside}"


def mutants(folder: Path, seed: int, numbers: range) -> None:
    """Judge mutants of one undamaged series."""
    base = {path.name: path.read_bytes() for path in sorted(folder.glob("base/*"))}
    series = only_series(read_series(folder / "base"))
    truth, syntax = read_volume(series), series.instances[0].transfer_syntax_uid
    work = folder / "work"
    for index in numbers:
        draw = random.Random(f"{seed} {folder.name} {index}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        contents, victim, how = damage(dict(base), draw)
        for file, content in contents.items():
            (work / file).write_bytes(content)
        tell({"started": index, "base": folder.name, "how": how})
        began = time.perf_counter()
        verdict, detail = outcome(work, work / victim, syntax, truth)
        peak = peak_mib()
        seconds = round(time.perf_counter() - began, 3)
        tell(
            {
                "n": index,
                "base": folder.name,
                "how": how,
                "verdict": verdict,
                "detail": detail,
                "s": seconds,
                "peak_mib": peak,
            }
        )


def peak_mib() -> int:
    """The most memory that this program held; getrusage would count what its parent held before it became this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def damage(base: dict[str, bytes], draw: Draw) -> tuple[dict[str, bytes], str, str]:
    """Damage one file of a series, or all of them in the same way; -> the files, one damaged one, and how."""
    victim = draw.choice(sorted(base))
    deflated = b"1.2.840.10008.1.2.1.99" in base[victim][:400]
    if deflated and draw.random() < 0.04:
        base[victim], how = bomb(base[victim], draw)
        return base, victim, how
    if draw.random() < 0.45:
        base[victim], how = damage_bytes(base[victim], draw)
        return base, victim, f"{how} in one file"
    seed, everywhere = draw.randrange(2**32), draw.random() < 0.3
    changed = {file: damage_elements(base[file], seed) for file in (base if everywhere else [victim])}
    if any(one is None for one in changed.values()):
        return damage(base, draw)
    base |= {file: one[0] for file, one in changed.items() if one is not None}
    return base, victim, f"{(changed[victim] or ('', ''))[1]} in {'all files' if everywhere else 'one file'}"


def tell(what: dict[str, object]) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if len(sys.argv) == 3:
        undamaged(Path(sys.argv[1]), Path(sys.argv[2]))
        sys.exit()
    where, (drawn, each, begin) = Path(sys.argv[1]), map(int, sys.argv[2:])
    for nth, series_folder in enumerate(sorted(where.iterdir())):
        mutants(series_folder, drawn, range(max(nth * each, begin), (nth + 1) * each))
