"""What somebody with access to the port may try, each refused, and an honest image goes through afterwards.

TLS and admission have files of their own; `test_storage_scp` has slow and silent peers, `tests/dicomnode/web` those of
the page.
"""

import io
import json
import logging
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from dicomnode import log
from dicomnode.commitment.requests import Commitments
from dicomnode.commitment.scp import Provider
from dicomnode.config.load import Config
from dicomnode.config.peers import Admission, Caller
from dicomnode.config.sections import Commitment, Node
from dicomnode.ledger.ledger import Ledger
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
from tests.support.receiver import LIMITS, Site, closable, eventually
from tests.support.senders import answered, associated, encoded, spoken

Start = Callable[..., Site]
VERIFICATION = UID("1.2.840.10008.1.1")
COMMITMENT = UID("1.2.840.10008.1.20.1")


@pytest.fixture(scope="module")
def open_site(sites: Start) -> Site:
    """A receiver that anybody may call."""
    return sites()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit VR little endian (PS3.5 7.1.2)."""
    return struct.pack("<HH", group, number) + vr + struct.pack("<H", len(value)) + value


def minimal(study: bytes, series: bytes, instance: bytes) -> bytes:
    """A data set of nothing but its UIDs, which may be no UIDs."""

    def even(value: bytes) -> bytes:
        return value + b"\0" * (len(value) % 2)

    return b"".join(
        (
            element(8, 0x16, b"UI", even(MRImageStorage.encode())),
            element(8, 0x18, b"UI", even(instance)),
            element(0x20, 0x0D, b"UI", even(study)),
            element(0x20, 0x0E, b"UI", even(series)),
        )
    )


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


HOSTILE_UIDS = (
    b"../../../../tmp/owned",
    b"/etc/cron.d/owned",
    b"1.2/../../owned",
    b"..",
    b".",
    b"1.2\0/../owned",
    b"1.2\n1.3",
    b"1.2\\1.3",
    b"1." + b"2" * 63,
    b"1.2;rm -rf .",
    b"1.2%2f..%2fowned",
    "1．2".encode(),
    b"$(touch owned)",
    b"1.2~abc",
    b"-1.2",
    b"1.2.part",
)


def test_uids_that_are_paths_or_commands_never_become_names_on_the_disk(
    open_site: Site, dcmtk: Callable[..., int], images: list[Path]
) -> None:
    before = everything_below(open_site.data.parent) - everything_below(open_site.data / "audit")
    association = associated(open_site.receiver.port)
    for hostile in HOSTILE_UIDS:
        for series, instance in ((hostile, b"1.2.4"), (b"1.2.3", hostile), (hostile, hostile)):
            announced = (MRImageStorage, instance.decode("latin-1"))
            status = answered(association, 1, announced, minimal(b"1.2.3.4", series, instance))
            assert status in (0xC000, 0xA900, None), (series, instance)
            if status is None:
                association.abort()
                association = associated(open_site.receiver.port)
    association.release()
    assert everything_below(open_site.data.parent) - everything_below(open_site.data / "audit") == before


def test_a_study_uid_that_is_a_path_stays_words_in_the_audit_trail(receiver_site: Start) -> None:
    here = receiver_site()
    association = associated(here.receiver.port)
    hostile = b'../../x"},{"EventID":1}\n' + b"\x1b[2J"
    assert answered(association, 1, (MRImageStorage, "1.2.4"), minimal(hostile, b"1.2.3", b"1.2.4")) == 0x0000
    association.release()
    assert eventually(lambda: len(here.trail()) == 2)
    (study,) = here.trail()[0]["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == hostile.decode()
    assert sorted(path.name for path in here.stored()) == ["1.2.4.dcm"]


def test_another_instance_than_the_request_announces_is_refused(open_site: Site, images: list[Path]) -> None:
    whole = pydicom.dcmread(images[0])
    association = associated(open_site.receiver.port)
    data_set = encoded(whole)
    assert answered(association, 1, (MRImageStorage, "1.2.3.999"), data_set) == 0xA900
    whole.SOPClassUID = CTImageStorage
    assert answered(association, 1, (MRImageStorage, whole.SOPInstanceUID), encoded(whole)) == 0xA900
    association.release()


def test_what_was_not_negotiated_cannot_be_stored(open_site: Site, images: list[Path]) -> None:
    image = pydicom.dcmread(images[0])
    before = open_site.stored()
    association = associated(
        open_site.receiver.port, (MRImageStorage, ExplicitVRLittleEndian), (CTImageStorage, ExplicitVRLittleEndian)
    )
    assert [one.abstract_syntax for one in association.accepted_contexts] == [MRImageStorage]
    image.SOPClassUID = CTImageStorage
    announced = (str(CTImageStorage), str(image.SOPInstanceUID))
    for context_id in (1, 3, 99):  # of another class; refused; never offered
        fresh = associated(
            open_site.receiver.port, (MRImageStorage, ExplicitVRLittleEndian), (CTImageStorage, ExplicitVRLittleEndian)
        )
        assert spoken(fresh, context_id, announced, encoded(image)) != 0x0000
        fresh.abort()
    association.release()
    assert open_site.stored() == before


def test_an_object_beyond_the_limit_is_refused_and_its_memory_given_back(
    receiver_site: Start, images: list[Path]
) -> None:
    limits = LIMITS.__class__(disk_reserve_bytes=0, max_object_bytes=200_000, max_receiving_bytes=300_000)
    here = receiver_site(limits)
    association = associated(here.receiver.port)
    for number in range(4):
        big = minimal(b"1.2", b"1.2.3", f"1.2.{number}".encode()) + struct.pack(
            "<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 10**6
        )
        assert answered(association, 1, (MRImageStorage, f"1.2.{number}"), big + bytes(10**6)) == 0xA701
    small = minimal(b"1.2", b"1.2.3", b"1.2.77")
    assert answered(association, 1, (MRImageStorage, "1.2.77"), small) == 0x0000
    association.release()
    assert [path.name for path in here.stored()] == ["1.2.77.dcm"]


def test_a_pdu_that_announces_four_gigabytes_is_not_waited_for(open_site: Site, dcmtk: Callable[..., int]) -> None:
    for kind in (1, 4):
        with socket.create_connection(("127.0.0.1", open_site.receiver.port), timeout=10) as attacker:
            attacker.send(struct.pack(">BBI", kind, 0, 0xFFFFFFF0) + b"\0" * 1000)
            assert attacker.recv(10)[:1] in (b"\x07", b"")
    assert dcmtk("echoscu", open_site.receiver.port) == 0


# Decompression bombs


def bomb(image: Path, pixels: bytes, syntax: UID, size: int | None = None) -> bytes:
    """An MR image that claims `size` rows and columns, with such pixel data."""
    data_set = pydicom.dcmread(image)
    if size is not None:
        data_set.Rows = data_set.Columns = size
    data_set.SOPInstanceUID = generate_uid()
    data_set.PixelData = encapsulate([pixels])
    data_set["PixelData"].is_undefined_length = True
    data_set["PixelData"].VR = "OB"
    return encoded(data_set, syntax)


def deflated(image: Path, times: int) -> bytes:
    """A data set of zeros that becomes a thousand times as long."""
    data_set = pydicom.dcmread(image)
    data_set.SOPInstanceUID = generate_uid()
    del data_set.PixelData
    head = encoded(data_set)
    length = times * 2**20
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(head + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, length))
    zeros = bytes(2**20)
    packed += b"".join(packer.compress(zeros) for _ in range(times))
    return packed + packer.flush()


def codestream(width: int, height: int) -> bytes:
    """The beginning of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1) that announces so many pixels of 16 bit."""
    size = struct.pack(">HHIIIIIIIIH", 41, 0, width, height, 0, 0, width, height, 0, 0, 1) + bytes((15, 1, 1))
    return b"\xff\x4f\xff\x51" + size + b"\xff\xd9"


READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
from pathlib import Path
from pipeline.errors import Unsuitable
from pipeline.series.series import only_series, read_series
from pipeline.volume.volume import read_volume
for path in map(Path, sys.argv[1:]):
    try:
        read_volume(only_series(read_series([path, *sorted(path.parent.glob("honest*"))])))
        print("read")
    except Unsuitable as error:
        print(error.code)
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # ru_maxrss counts the parent too
print("peak", int(peak.split()[1]) // 1024)
"""


def test_decompression_bombs_are_stored_packed_and_refused_when_they_are_read(
    receiver_site: Start, images: list[Path]
) -> None:
    here = receiver_site()
    run_length = struct.pack("<16I", 2, 64, 70, *[0] * 13) + b"\x81\x00" * 64
    j2k = codestream(65535, 65535)
    bombs = [
        (DeflatedExplicitVRLittleEndian, deflated(images[0], 300)),
        (RLELossless, bomb(images[1], run_length, RLELossless, 65535)),
        (JPEG2000Lossless, bomb(images[2], j2k, JPEG2000Lossless, 65535)),
        (JPEG2000Lossless, bomb(images[3], j2k, JPEG2000Lossless)),
    ]
    for syntax, content in bombs:
        uid = instance_of(content, syntax)
        association = associated(here.receiver.port, (MRImageStorage, syntax))
        assert answered(association, 1, (MRImageStorage, uid), content) == 0x0000
        association.release()
    stored = here.stored()
    assert len(stored) == len(bombs)
    assert sum(path.stat().st_size for path in stored) < 10 * 2**20
    done = subprocess.run([sys.executable, "-c", READ, *map(str, stored)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    *verdicts, peak = done.stdout.splitlines()
    assert "read" not in verdicts
    assert len(verdicts) == len(bombs)
    assert int(peak.split()[1]) < 1500


def instance_of(content: bytes, syntax: UID) -> str:
    """The SOP Instance UID of an encoded data set."""
    plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, 10_000) if syntax.is_deflated else content
    return str(
        pydicom.filereader.read_dataset(io.BytesIO(plain), False, True, stop_when=beyond_instance).SOPInstanceUID
    )


def beyond_instance(tag: object, _vr: object, _length: object) -> bool:
    return int(str(int(tag))) > 0x00080018  # type: ignore[call-overload]


# Storage commitment


@pytest.fixture
def committing(tmp_path: Path) -> Iterator[tuple[Receiver, Commitments]]:
    """A receiver with storage commitment that knows two scanners and a console."""
    callers = (Caller("MR1"), Caller("MR2"), Caller("CONSOLE", commits_for=("MR1",)))
    config = Config(
        node=Node(port=0, data=tmp_path / "data"),
        receive=LIMITS,
        admission=Admission(callers=callers),
        commitment=Commitment(wait_s=0.2, timeout_s=5.0, retry_first_s=0.3, retry_max_s=1.0),
    )
    spool, ledger = Spool(config.node.data), Ledger(f"sqlite:///{config.node.data / 'node.sqlite'}")
    ledger.create()
    provider = Provider(config, Commitments(ledger.engine), spool)
    receiver = Receiver(config.node, LIMITS, spool, [provider], admission=config.admission)
    receiver.start()
    provider.start()
    yield receiver, Commitments(ledger.engine)
    provider.stop()
    receiver.stop(grace_s=0.5)
    ledger.close()


def test_nobody_learns_by_storage_commitment_what_others_have_sent(
    committing: tuple[Receiver, Commitments], images: list[Path]
) -> None:
    receiver, _ = committing
    image = pydicom.dcmread(images[0])
    sender = associated(receiver.port, calling="MR1")
    announced = (MRImageStorage, str(image.SOPInstanceUID))
    assert answered(sender, 1, announced, encoded(image)) == 0x0000
    sender.release()
    assert asked(receiver, "MR2", image.SOPInstanceUID) == (2, [0x0112])
    assert asked(receiver, "CONSOLE", image.SOPInstanceUID) == (1, [])
    assert asked(receiver, "MR1", image.SOPInstanceUID) == (1, [])


def asked(receiver: Receiver, calling: str, uid: str) -> tuple[int | None, list[int]]:
    """Ask for commitment of an instance; -> event type and failure reasons of the report (PS3.4 J.3.3)."""
    reports: list[tuple[int | None, list[int]]] = []
    heard = threading.Event()

    def hear(event: evt.Event) -> tuple[int, None]:
        failed = event.event_information.get("FailedSOPSequence", [])
        reports.append((event.event_type, [one.FailureReason for one in failed]))
        heard.set()
        return 0x0000, None

    ae = AE(calling)
    ae.add_requested_context(COMMITMENT)
    handlers = [*closable(), (evt.EVT_N_EVENT_REPORT, hear)]
    association = ae.associate("127.0.0.1", receiver.port, evt_handlers=handlers)
    wanted, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MRImageStorage, uid
    wanted.TransactionUID, wanted.ReferencedSOPSequence = generate_uid(), [item]
    status, _ = association.send_n_action(wanted, 1, COMMITMENT, "1.2.840.10008.1.20.1.1")
    assert status.Status == 0x0000
    assert heard.wait(20)
    association.release()
    return reports[0]


# Floods, and words in the wrong place


def test_a_flood_of_associations_leaves_room_for_others(receiver_site: Start, dcmtk: Callable[..., int]) -> None:
    limits = LIMITS.__class__(disk_reserve_bytes=0, max_associations=20, max_associations_per_ae=8)
    here = receiver_site(limits)
    flood = [associated(here.receiver.port) for _ in range(12)]
    assert sum(one.is_established for one in flood) == 8
    connections = [socket.create_connection(("127.0.0.1", here.receiver.port), timeout=5) for _ in range(100)]
    assert dcmtk("echoscu", here.receiver.port) == 0
    for connection in connections:
        connection.close()
    for one in flood:
        one.abort()
    again = associated(here.receiver.port)
    assert again.is_established
    again.release()


def requested(calling: bytes, called: bytes) -> bytes:
    """An A-ASSOCIATE-RQ whose AE titles are any 16 bytes (PS3.8 9.3.2)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = "A", "B"
    context = build_context(VERIFICATION, ImplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = 16382
    implementation.implementation_class_uid = UID("1.2.3.4")
    primitive.user_information = [longest, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    plain = pdu.encode()
    return plain[:10] + called.ljust(16)[:16] + calling.ljust(16)[:16] + plain[42:]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What the receiver's log says, as it is written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(log.JsonLines("receive"))
    loggers = (log.LOGGER, logging.getLogger("pynetdicom"))
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield written
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.parametrize(
    "calling",
    [b'X\r\n{"level":1}', b"X\x1b[2J\x07", b"X\0Y", b"\xff\xfe\x80", b" " * 16, b"A\\B", b"${jndi:x}", b"<script>"],
    ids=repr,
)
def test_titles_with_control_characters_forge_no_line_of_log_or_trail(
    open_site: Site, calling: bytes, logged: io.StringIO, dcmtk: Callable[..., int]
) -> None:
    here = open_site
    with socket.create_connection(("127.0.0.1", here.receiver.port), timeout=10) as attacker:
        attacker.send(requested(calling, b"SCTNODE"))
        answer = attacker.recv(1000)
    printable = calling.strip().isascii() and calling.strip().decode("latin-1").isprintable() and b"\\" not in calling
    assert answer[:1] == b"\x02" if printable and calling.strip() else answer[:1] in (b"\x03", b"\x07", b"")
    assert dcmtk("echoscu", here.receiver.port) == 0
    lines = logged.getvalue().splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert all(line.isprintable() for line in lines)
    for file in here.data.glob("audit/*"):
        assert all(
            line.isprintable() and json.loads(line)["EventIdentification"] for line in file.read_text().splitlines()
        )


def test_after_all_of_that_an_honest_image_goes_through(
    open_site: Site, dcmtk: Callable[..., int], images: list[Path]
) -> None:
    assert dcmtk("storescu", open_site.receiver.port, images[-1]) == 0
    assert [path.stem for path in open_site.stored()] == [pydicom.dcmread(images[-1]).SOPInstanceUID]
