"""Every transfer syntax of the design: pushed, kept byte for byte, and decoded to the values that were encoded.

The encoders are not ours: dcmtk, OpenJPEG and OpenJPH. What they encode is what MR scanners write: 12 bits in 16, whole
16 bits, signed values, 8 bits with an odd number of pixels, and several frames in one object.
"""

import subprocess
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
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
    RLELossless,
    generate_uid,
)
from pynetdicom import AE

from dicomnode.config.sections import Node, Receive
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.instance import LOSSLESS_TRANSFER_SYNTAXES, LOSSY_TRANSFER_SYNTAXES, read_instance
from pipeline.series.lossy_compression import loss_of
from pipeline.series.series import Series
from pipeline.volume.pixels import DECODERS, decode_stored_values

Program = Callable[[str], str]

VALUES = np.random.default_rng(3)
SMOOTH = np.add.outer(np.arange(41) ** 2 // 4, 6 * np.arange(37)) + VALUES.integers(0, 9, (41, 37))  # at most 624

STORED: dict[str, tuple[NDArray[np.integer], int]] = {
    "12 bits": ((SMOOTH * 6).astype("<u2"), 12),
    "16 bits": ((SMOOTH * 100).astype("<u2"), 16),
    "signed": ((SMOOTH * 40 - 12000).astype("<i2"), 16),
    "8 bits": ((SMOOTH // 3).astype("u1"), 8),
    "frames": (np.stack([SMOOTH, SMOOTH[::-1], 700 - SMOOTH]).astype("<u2"), 12),
}
"""What is encoded, (frame,) row, column; and Bits Stored."""


def plain(name: str, into: Path) -> Path:
    """An MR image of `STORED` in Explicit VR Little Endian."""
    values, bits = STORED[name]
    (path,) = thigh.write_mr_series(thigh.thigh(thigh.axial_grid((1, 8, 8), (3.0, 20.0, 20.0))).mr, into)
    image = pydicom.dcmread(path)
    image.Rows, image.Columns = values.shape[-2:]
    image.BitsAllocated, image.BitsStored, image.HighBit = 8 * values.itemsize, bits, bits - 1
    image.PixelRepresentation = int(values.dtype.kind == "i")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if values.ndim == 3:
        image.NumberOfFrames = len(values)
    image.PixelData = values.tobytes() + b"\0" * (values.size * values.itemsize % 2)
    image["PixelData"].VR = "OW"
    image.save_as(path, enforce_file_format=True)
    return path


def dcmtk(tool: str, *options: str) -> Callable[[Path, Path, Program], None]:
    """An encoder of dcmtk."""

    def encode(path: Path, to: Path, program: Program) -> None:
        subprocess.run([program(tool), *options, str(path), str(to)], check=True, capture_output=True)

    return encode


def openjpeg(syntax: UID, psnr: list[float] | None = None) -> Callable[[Path, Path, Program], None]:
    """The encoder of OpenJPEG."""

    def encode(path: Path, to: Path, program: Program) -> None:
        image = pydicom.dcmread(path)
        image.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False, j2k_psnr=psnr)
        image.save_as(to)

    return encode


def openjph(syntax: UID, *options: str) -> Callable[[Path, Path, Program], None]:
    """The encoder of OpenJPH, which knows code streams and no DICOM."""

    def encode(path: Path, to: Path, program: Program) -> None:
        image = pydicom.dcmread(path)
        frames = image.pixel_array.reshape(-1, image.Rows, image.Columns)
        streams = [_high_throughput(frame, image, to, (program("ojph_compress"), *options)) for frame in frames]
        image.PixelData = encapsulate(streams)
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = syntax
        image.save_as(to)

    return encode


def _high_throughput(frame: NDArray[np.integer], image: pydicom.Dataset, to: Path, command: Sequence[str]) -> bytes:
    """One code stream.

    This encoder reads unsigned values only. A signed stream differs from that of the same values 32768 higher in one
    bit of its SIZ marker segment: the DC level shift makes the rest equal (ISO/IEC 15444-1 A.5.1, G.1).
    """
    raw, stream = to.with_suffix(".yuv"), to.with_suffix(".j2c")
    raw.write_bytes(
        (frame.astype("<i4") + 32768).astype("<u2").tobytes() if image.PixelRepresentation else frame.tobytes()
    )
    what = {
        "-dims": f"{{{image.Columns},{image.Rows}}}",
        "-num_comps": "1",
        "-signed": "false",
        "-bit_depth": str(image.BitsStored),
        "-downsamp": "{1,1}",
    }
    options = [word for pair in what.items() for word in pair]
    subprocess.run([*command, "-i", str(raw), "-o", str(stream), *options], check=True, capture_output=True)
    content = bytearray(stream.read_bytes())
    content[content.index(b"\xff\x51") + 40] |= 0x80 * image.PixelRepresentation
    return bytes(content)


ENCODERS: dict[UID, Callable[[Path, Path, Program], None]] = {
    ExplicitVRLittleEndian: dcmtk("dcmconv", "+te"),
    ImplicitVRLittleEndian: dcmtk("dcmconv", "+ti"),
    ExplicitVRBigEndian: dcmtk("dcmconv", "+tb"),
    DeflatedExplicitVRLittleEndian: dcmtk("dcmconv", "+td"),
    RLELossless: dcmtk("dcmcrle", "-u"),
    JPEGLosslessSV1: dcmtk("dcmcjpeg", "+e1"),
    JPEGLossless: dcmtk("dcmcjpeg", "+el", "+sv", "4"),
    JPEGLSLossless: dcmtk("dcmcjpls", "+el"),
    JPEG2000Lossless: openjpeg(JPEG2000Lossless),
    HTJ2KLossless: openjph(HTJ2KLossless, "-reversible", "true", "-prog_order", "CPRL"),
    HTJ2KLosslessRPCL: openjph(HTJ2KLosslessRPCL, "-reversible", "true", "-prog_order", "RPCL"),
    JPEGBaseline8Bit: dcmtk("dcmcjpeg", "+eb"),
    JPEGLSNearLossless: dcmtk("dcmcjpls", "+en", "+md", "2"),
    JPEG2000: openjpeg(JPEG2000, [60.0]),
    HTJ2K: openjph(HTJ2K, "-qstep", "0.01"),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("syntax", LOSSLESS_TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_lossless_syntax_decodes_to_the_values_that_were_encoded(
    syntax: UID, name: str, program: Program, tmp_path: Path
) -> None:
    ENCODERS[syntax](plain(name, tmp_path / "plain"), tmp_path / "encoded.dcm", program)
    instance = read_instance(tmp_path / "encoded.dcm")
    assert instance.transfer_syntax_uid == syntax
    values = decode_stored_values(instance)
    expected = STORED[name][0]
    assert np.array_equal(values.reshape(expected.shape), expected)
    assert loss_of(Series((instance,))) is None


def encoded(path: Path) -> bytes:
    """The data set of a DICOM file as it is encoded there (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def push(path: Path, receiver: Receiver) -> int | None:
    """Send the data set of a file byte for byte; the status, None where its syntax was not accepted."""
    meta = pydicom.filereader.read_file_meta_info(path)
    ae = AE("SENDER")
    ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", receiver.port)
    try:
        if all(context.abstract_syntax == VERIFICATION for context in association.accepted_contexts):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(association.send_c_store(path).Status)
    finally:
        association.release()


@pytest.mark.parametrize("accept_lossy", [False, True], ids=["lossless only", "lossy too"])
def test_what_is_accepted_is_kept_byte_for_byte_and_a_lossy_syntax_only_where_configured(
    accept_lossy: bool, program: Program, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "data", 0)
    limits = Receive(accept_lossy=accept_lossy, disk_reserve_bytes=0)
    receiver = Receiver(Node(port=0, data=spool.root), limits, spool)
    receiver.start()
    for syntax, encode in ENCODERS.items():
        path = tmp_path / f"{syntax}.dcm"
        encode(plain("8 bits", tmp_path / "plain"), path, program)
        if syntax in LOSSY_TRANSFER_SYNTAXES and not accept_lossy:
            assert push(path, receiver) is None
            continue
        assert push(path, receiver) == 0x0000
        (kept,) = spool.inbox.glob(f"*/{read_instance(path).sop_instance_uid}.dcm")
        sent = encoded(path)
        padded = sent + b"\0" * (len(sent) % 2)  # the sender does so with what was deflated (PS3.5 A.5)
        assert encoded(kept) == padded
        assert read_instance(kept).transfer_syntax_uid == syntax
    receiver.stop(grace_s=1)


@pytest.mark.parametrize("syntax", LOSSY_TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_a_lossy_syntax_decodes_nearly_and_says_what_was_lost(syntax: UID, program: Program, tmp_path: Path) -> None:
    name = "8 bits" if syntax == JPEGBaseline8Bit else "12 bits"
    ENCODERS[syntax](plain(name, tmp_path / "plain"), tmp_path / "encoded.dcm", program)
    instance = read_instance(tmp_path / "encoded.dcm")
    difference = np.abs(decode_stored_values(instance)[0].astype(int) - STORED[name][0])
    assert 0 < difference.max() < 200
    loss = loss_of(Series((instance,)))
    assert loss is not None
    assert loss.methods == (LOSSY_TRANSFER_SYNTAXES[syntax],)
    assert 1 < loss.ratios[0] < 40
    assert loss.sentence.startswith(f"the MR was compressed with loss ({LOSSY_TRANSFER_SYNTAXES[syntax]}, ratio ")


def test_a_syntax_that_nobody_knows_is_unreadable_by_name(tmp_path: Path) -> None:
    image = pydicom.dcmread(plain("12 bits", tmp_path))
    image.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")
    image.PixelData = encapsulate([b"\0\0"])
    image.save_as(tmp_path / "video.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(Unsuitable, match="its transfer syntax is MPEG2 Main Profile"):
        decode_stored_values(read_instance(tmp_path / "video.dcm"))


def test_every_syntax_that_is_accepted_has_one_decoder() -> None:
    native = {ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
    assert {*DECODERS} | native == {*LOSSLESS_TRANSFER_SYNTAXES, *LOSSY_TRANSFER_SYNTAXES}
    assert {*ENCODERS} == {*DECODERS} | native
