"""Tests of the Storage SCP with foreign senders, bad senders, a full disk and SIGKILL."""

import gc
import io
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from dicomnode.config.sections import Node, Receive
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.server import Connection
from dicomnode.errors import NotStorable, PortTaken
from dicomnode.reception.arrivals import Arrivals
from dicomnode.reception.request import identity
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Arrival, Spool
from pipeline.phantom import thigh
from pipeline.series.instance import LOSSLESS_TRANSFER_SYNTAXES

if TYPE_CHECKING:
    from tests.conftest import Orthanc


def listening(data: Path, limits: Receive, port: int = 0) -> Receiver:
    """Start a receiver on the loopback interface."""
    receiver = Receiver(Node(port=port, data=data), limits, Spool(data, limits.disk_reserve_bytes))
    receiver.start()
    return receiver


LIMITS = Receive(idle_timeout_s=10.0, disk_reserve_bytes=0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.fixture
def receiver(spool: Spool) -> Iterator[Receiver]:
    running = listening(spool.root, LIMITS)
    yield running
    running.stop(grace_s=1)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a small MR series with one file for each slice."""
    affine = np.array([[0, 0, 4.0, -62], [0, 4.0, 0, -62], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    geometry = VolumeGeometry(affine=affine, spatial_shape=(24, 32, 32), coordinate_system="PATIENT")
    return thigh.write_mr_series(thigh.thigh(geometry).mr, tmp_path_factory.mktemp("series"))


def encoded(path: Path) -> bytes:
    """Return the data set of a DICOM file as it is encoded there (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def associated(receiver: Receiver, *contexts: tuple[str, str], called: str = "SCTNODE") -> Association:
    """Request an association, and return it."""
    ae = AE("SENDER")
    ae.dimse_timeout = ae.acse_timeout = ae.network_timeout = 20
    for sop_class, syntax in contexts or ((MRImageStorage, ExplicitVRLittleEndian),):
        ae.add_requested_context(sop_class, syntax)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, closable)]
    return ae.associate("127.0.0.1", receiver.port, ae_title=called, evt_handlers=handlers)


def closable(event: evt.Event) -> None:
    """Take over the socket: pynetdicom leaves one open that the other side has reset."""
    transport = event.assoc.dul.socket
    assert transport is not None
    assert transport.socket is not None
    transport.socket = Connection.of(transport.socket)


def send_bytes(association: Association, data_set: bytes, instance: str, sop_class: str = MRImageStorage) -> C_STORE:
    """Send a data set as these bytes in the only accepted context, and return the response."""
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = UID(sop_class)
    request.AffectedSOPInstanceUID = UID(instance)
    request.DataSet = io.BytesIO(data_set)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    (context,) = association.accepted_contexts
    assert context.context_id is not None
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE)
    return answer


def said(answer: C_STORE) -> tuple[int | None, str | None]:
    """Return status and Error Comment of a response."""
    return answer.Status, answer.ErrorComment


def send_file(association: Association, path: Path) -> C_STORE:
    """Send a file's data set byte for byte."""
    meta = pydicom.filereader.read_file_meta_info(path)
    return send_bytes(association, encoded(path), meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID)


def eventually(true: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Return whether a condition becomes true in time."""
    deadline = time.monotonic() + limit_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def only(arrivals: dict[str, Arrival]) -> Arrival:
    """Return the only series that has come."""
    (arrival,) = arrivals.values()
    return arrival


# Senders that we did not write


def test_echoscu_is_answered(receiver: Receiver, program: Callable[[str], str]) -> None:
    subprocess.run([program("echoscu"), "-aec", "SCTNODE", "127.0.0.1", str(receiver.port)], check=True)


def test_storescu_pushes_a_series_and_every_image_is_there(
    receiver: Receiver, spool: Spool, series: list[Path], program: Callable[[str], str]
) -> None:
    command = [program("storescu"), "-aet", "SCANNER", "-aec", "SCTNODE", "127.0.0.1", str(receiver.port)]
    subprocess.run([*command, *map(str, series)], check=True)
    sent = {data_set.SOPInstanceUID: data_set for data_set in map(pydicom.dcmread, series)}
    (series_uid,) = {str(data_set.SeriesInstanceUID) for data_set in sent.values()}
    kept = [pydicom.dcmread(path) for path in spool.instances(series_uid)]
    assert {data_set.SOPInstanceUID: data_set for data_set in kept} == sent
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 0)
    arrival = only(receiver.arrivals())
    assert (arrival.series_uid, arrival.calling_ae) == (series_uid, "SCANNER")
    assert arrival.sop_uids == frozenset(sent)
    assert arrival.associations == 1


def test_orthanc_pushes_a_series_and_every_image_is_there(
    receiver: Receiver, spool: Spool, series: list[Path], orthanc: "Orthanc"
) -> None:
    ids = [orthanc.upload(path) for path in series]
    orthanc.know("sct", "SCTNODE", receiver.port)
    orthanc.push("sct", ids)
    arrival = only(receiver.arrivals())
    assert arrival.calling_ae == "ORTHANC"
    kept = {path.stem: pydicom.dcmread(path) for path in spool.instances(arrival.series_uid)}
    for sent in map(pydicom.dcmread, series):
        assert kept[sent.SOPInstanceUID].PixelData == sent.PixelData
        assert kept[sent.SOPInstanceUID].ImagePositionPatient == sent.ImagePositionPatient


def test_two_senders_at_once_bring_all_their_images(
    receiver: Receiver, spool: Spool, series: list[Path], program: Callable[[str], str]
) -> None:
    command = [program("storescu"), "-aec", "SCTNODE", "127.0.0.1", str(receiver.port)]
    halves = (series[:16], series[8:])
    senders = [subprocess.Popen([*command, *map(str, half)]) for half in halves]
    assert [sender.wait(60) for sender in senders] == [0, 0]
    arrival = only(receiver.arrivals())
    assert len(arrival.sop_uids) == len(series) == len(spool.instances(arrival.series_uid))
    assert arrival.associations == 2
    assert spool.conflicts(arrival.series_uid) == []


# Bytes


@pytest.mark.parametrize("number", range(1, 10))
def test_a_real_file_of_each_transfer_syntax_is_kept_byte_for_byte(
    receiver: Receiver, spool: Spool, sct_data: Path, number: int
) -> None:
    path = sct_data / "mr" / "compressed_transfer_syntaxes" / f"{number}.dcm"
    meta = pydicom.filereader.read_file_meta_info(path)
    association = associated(receiver, (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID))
    assert send_file(association, path).Status == 0x0000
    association.release()
    (kept,) = spool.inbox.glob("*/*.dcm")
    assert encoded(kept) == encoded(path)
    assert pydicom.dcmread(kept).file_meta.TransferSyntaxUID == meta.TransferSyntaxUID


def test_a_deflated_data_set_is_kept_deflated(receiver: Receiver, spool: Spool, series: list[Path]) -> None:
    association = associated(receiver, (MRImageStorage, DeflatedExplicitVRLittleEndian))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = packer.compress(encoded(series[0])) + packer.flush()
    uid = pydicom.dcmread(series[0]).SOPInstanceUID
    assert send_bytes(association, deflated, uid).Status == 0x0000
    association.release()
    (kept,) = spool.inbox.glob("*/*.dcm")
    assert encoded(kept) == deflated
    assert pydicom.dcmread(kept).PixelData == pydicom.dcmread(series[0]).PixelData


# What is refused


@pytest.mark.parametrize(
    ("sop_class", "syntax"), [(CTImageStorage, ExplicitVRLittleEndian), (MRImageStorage, JPEGBaseline8Bit)]
)
def test_other_classes_and_lossy_syntaxes_are_refused_when_the_association_is_negotiated(
    receiver: Receiver, sop_class: str, syntax: str
) -> None:
    association = associated(receiver, (sop_class, syntax), (VERIFICATION, ImplicitVRLittleEndian))
    assert [context.abstract_syntax for context in association.accepted_contexts] == [VERIFICATION]
    association.release()


def rewritten(path: Path, **values: str | None) -> bytes:
    """Return the data set of a file with other values, or without an element (None), in explicit VR little endian."""
    data_set = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            data_set[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=pydicom.config.IGNORE)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def test_a_data_set_that_is_another_instance_than_announced_is_refused(
    receiver: Receiver, spool: Spool, series: list[Path]
) -> None:
    association = associated(receiver)
    answer = send_bytes(association, encoded(series[0]), generate_uid())
    assert said(answer) == (0xA900, "SOPInstanceUID differs from the request's")
    other_class = rewritten(series[0], SOPClassUID=CTImageStorage)
    assert send_bytes(association, other_class, pydicom.dcmread(series[0]).SOPInstanceUID).Status == 0xA900
    association.release()
    assert spool.scan() == []
    assert receiver.arrivals() == {}


@pytest.mark.parametrize("series_uid", [None, "", "../../etc", "1..2", "1." + "2" * 63])
def test_a_data_set_without_a_valid_series_uid_is_not_understood(
    receiver: Receiver, spool: Spool, series: list[Path], series_uid: str | None
) -> None:
    association = associated(receiver)
    answer = send_bytes(
        association,
        rewritten(series[0], SeriesInstanceUID=series_uid),
        pydicom.dcmread(series[0]).SOPInstanceUID,
    )
    assert said(answer) == (0xC000, "SeriesInstanceUID is no valid UID")
    association.release()
    assert [path for path in spool.root.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 300])
def test_bytes_that_make_no_sense_are_refused_and_the_next_image_goes_through(
    receiver: Receiver, spool: Spool, series: list[Path], cut: int
) -> None:
    association = associated(receiver)
    uid = pydicom.dcmread(series[0]).SOPInstanceUID
    answer = send_bytes(association, encoded(series[0])[:cut] or b"\xff\xfe garbage ", uid)
    status, comment = said(answer)
    assert status in (0xC000, 0xA900)
    assert comment
    assert send_file(association, series[1]).Status == 0x0000
    association.release()
    assert len(list(spool.inbox.glob("*/*"))) == 1


def test_no_error_comment_holds_what_the_data_set_says(receiver: Receiver, series: list[Path]) -> None:
    association = associated(receiver)
    answer = send_bytes(association, rewritten(series[0], SeriesInstanceUID="Doe^Jane"), "1.2.3")
    assert "Doe" not in str(answer.ErrorComment)
    association.release()


@pytest.mark.parametrize("syntax", LOSSLESS_TRANSFER_SYNTAXES)
def test_garbage_in_any_syntax_is_not_storable(syntax: UID) -> None:
    for garbage in (b"", b"\0" * 200, b"\xff" * 200, bytes(range(256)), b"DICM" * 99):
        with pytest.raises(NotStorable):
            identity(garbage, syntax)


def test_a_wrong_called_title_is_refused_where_it_is_checked(tmp_path: Path) -> None:
    receiver = listening(tmp_path, Receive(check_called_ae=True))
    assert associated(receiver, called="OTHER").is_rejected
    right = associated(receiver)
    assert right.is_established
    right.release()
    receiver.stop()


def test_a_taken_port_is_said_with_the_key_that_sets_it(receiver: Receiver, tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match=r"node\.port: 127\.0\.0\.1:"):
        listening(tmp_path / "other", LIMITS, receiver.port)


# The same image again


def test_the_same_image_again_is_success_and_other_bytes_are_kept_too(
    receiver: Receiver, spool: Spool, series: list[Path]
) -> None:
    association = associated(receiver)
    assert send_file(association, series[0]).Status == 0x0000
    assert send_file(association, series[0]).Status == 0x0000
    uid = pydicom.dcmread(series[0]).SOPInstanceUID
    other = rewritten(series[0], StudyInstanceUID=generate_uid())
    assert send_bytes(association, other, uid).Status == 0x0000
    association.release()
    (series_uid,) = receiver.arrivals()
    assert [encoded(path) for path in spool.instances(series_uid)] == [encoded(series[0])]
    assert [encoded(path) for path in spool.conflicts(series_uid)] == [other]


# Who is still sending


def test_an_association_is_open_for_the_series_it_brought_until_it_ends(receiver: Receiver, series: list[Path]) -> None:
    first, second, idle = associated(receiver), associated(receiver), associated(receiver)
    assert send_file(first, series[0]).Status == 0x0000
    assert only(receiver.arrivals()).open_associations == 1
    assert send_file(second, series[1]).Status == 0x0000
    assert only(receiver.arrivals()).open_associations == 2
    first.release()
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 1)
    second.abort()
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 0)
    idle.release()


def test_acknowledged_images_of_an_aborted_association_stay(
    receiver: Receiver, spool: Spool, series: list[Path]
) -> None:
    association = associated(receiver)
    for path in series[:5]:
        assert send_file(association, path).Status == 0x0000
    association.abort()
    assert len(spool.instances(only(receiver.arrivals()).series_uid)) == 5


def test_a_sender_that_vanishes_without_a_word_is_gone_for_its_series(receiver: Receiver, series: list[Path]) -> None:
    association = associated(receiver)
    send_file(association, series[0])
    transport = association.dul.socket
    assert transport is not None
    assert transport.socket is not None
    transport.socket.shutdown(socket.SHUT_RDWR)
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 0)


def test_a_series_is_interrupted_from_an_abort_until_a_new_association_brings_more(
    receiver: Receiver, series: list[Path]
) -> None:
    first = associated(receiver)
    send_file(first, series[0])
    assert not only(receiver.arrivals()).interrupted
    first.abort()
    assert eventually(lambda: only(receiver.arrivals()).interrupted)
    second = associated(receiver)
    send_file(second, series[1])
    second.release()
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 0)
    assert not only(receiver.arrivals()).interrupted


def test_an_abort_beside_a_sender_that_finishes_is_not_forgotten() -> None:
    arrivals = Arrivals()
    aborted, finished = _Ended(released=False), _Ended(released=True)
    aborted.is_established = finished.is_established = True
    aborted.alive = finished.alive = True
    arrivals.note("1.2", "1.2.1", "A", aborted)
    arrivals.note("1.2", "1.2.2", "B", finished)
    aborted.alive = False
    arrivals.note("1.2", "1.2.3", "B", finished)
    finished.alive = False
    assert only(arrivals.now()).interrupted


def test_a_series_is_forgotten_only_as_it_was_seen(receiver: Receiver, series: list[Path]) -> None:
    association = associated(receiver)
    send_file(association, series[0])
    seen = only(receiver.arrivals())
    send_file(association, series[1])
    assert not receiver.forget(seen)
    assert receiver.forget(only(receiver.arrivals()))
    assert receiver.arrivals() == {}
    send_file(association, series[2])
    late = only(receiver.arrivals())
    assert (len(late.sop_uids), late.open_associations) == (1, 1)
    association.release()


def test_series_found_on_disk_are_taken_over_and_join_what_comes(
    receiver: Receiver, spool: Spool, series: list[Path]
) -> None:
    association = associated(receiver)
    send_file(association, series[0])
    found = spool.scan()
    assert receiver.forget(only(receiver.arrivals()))
    receiver.adopt(found)
    assert only(receiver.arrivals()).sop_uids == only({"": found[0]}).sop_uids
    send_file(association, series[1])
    association.release()
    assert len(only(receiver.arrivals()).sop_uids) == 2


# Peers that misbehave


@pytest.mark.parametrize("reset", [False, True])
def test_bare_tcp_probes_leave_nothing_behind(receiver: Receiver, reset: bool) -> None:
    def probe() -> None:
        with socket.create_connection(("127.0.0.1", receiver.port)) as probing:
            probing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

    def last_one_served() -> None:
        association = associated(receiver)
        assert association.is_established
        association.release()

    def left() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    last_one_served()
    assert eventually(lambda: receiver._ae.active_associations == [])
    before = left()
    for _ in range(50):
        probe()
    last_one_served()
    assert eventually(lambda: left() <= before, limit_s=4)


@pytest.mark.parametrize("said", [b"", b"\x01\x00\x00", b"\x01\x00\x00\x00\xff\xff half", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_peer_that_stops_within_a_sentence_is_let_go(tmp_path: Path, said: bytes) -> None:
    receiver = listening(tmp_path, Receive(idle_timeout_s=1.0, request_timeout_s=1.0))
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", receiver.port)) as peer:
        peer.sendall(said)
        assert eventually(lambda: threading.active_count() > before or b"GET" in said)
        assert eventually(lambda: threading.active_count() <= before, limit_s=8)
    receiver.stop()


def test_a_silent_association_is_aborted_and_gone_for_its_series(tmp_path: Path, series: list[Path]) -> None:
    receiver = listening(tmp_path, Receive(idle_timeout_s=1.0, disk_reserve_bytes=0))
    association = associated(receiver)
    send_file(association, series[0])
    assert eventually(lambda: only(receiver.arrivals()).open_associations == 0, limit_s=5)
    assert eventually(lambda: association.is_aborted)
    receiver.stop()


def test_one_association_too_many_is_refused_for_the_moment(tmp_path: Path) -> None:
    receiver = listening(tmp_path, Receive(max_associations=3))
    held = [associated(receiver) for _ in range(3)]
    refused = associated(receiver)
    assert refused.is_rejected
    assert refused.acceptor.primitive is not None
    assert refused.acceptor.primitive.result_str == "Rejected Transient"
    held.pop().release()
    assert eventually(lambda: len(receiver._ae.active_associations) == 2)
    again = associated(receiver)
    assert again.is_established
    for association in [*held, again]:
        association.release()
    receiver.stop()


def test_nothing_is_kept_of_associations_that_have_ended(receiver: Receiver, series: list[Path]) -> None:
    for path in series:
        association = associated(receiver)
        send_file(association, path)
        association.release()
    assert eventually(lambda: receiver._ae.active_associations == [])
    assert receiver.forget(only(receiver.arrivals()))
    del association
    gc.collect()
    assert [one for one in gc.get_objects() if issubclass(type(one), Association)] == []
    assert receiver._arrivals._coming == {}


class _Ended:
    """Return an association that has ended, by a release or otherwise."""

    is_established = False
    alive = False

    def __init__(self, released: bool) -> None:
        self.is_released = released

    def is_alive(self) -> bool:
        return self.alive


def test_arrivals_count_every_association_that_brought_something() -> None:
    arrivals = Arrivals()
    for number in range(5):
        arrivals.note("1.2", f"1.2.{number}", "SCANNER", _Ended(released=True))
    arrival = only(arrivals.now())
    assert (arrival.associations, arrival.open_associations, len(arrival.sop_uids)) == (5, 0, 5)


# Disks and kills


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "sct-node-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_answered_with_out_of_resources_and_recovers_by_itself(
    small_disk: Path, series: list[Path]
) -> None:
    receiver = listening(small_disk, LIMITS)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**21))
    association = associated(receiver)
    answer = send_file(association, series[0])
    assert said(answer) == (0xA700, "The disk is full")
    assert list(small_disk.glob("in/*/*")) == []
    ballast.unlink()
    assert send_file(association, series[0]).Status == 0x0000
    association.release()
    receiver.stop()
    assert len(list(small_disk.glob("in/*/*.dcm"))) == 1


RECEIVER = """
import sys, time
from pathlib import Path
from dicomnode.config.sections import Node, Receive
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool
data = Path(sys.argv[1])
receiver = Receiver(Node(port=0, data=data), Receive(disk_reserve_bytes=0), Spool(data))
receiver.start()
print(receiver.port, sorted({"torch", "monai", "sqlalchemy", "dbos"} & set(sys.modules)), flush=True)
time.sleep(300)
"""


class _Elsewhere(Receiver):
    """A receiver in another process, of which only the port is known here."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def port(self) -> int:
        return self._port


def test_a_receiver_killed_during_a_push_has_every_image_it_acknowledged(tmp_path: Path, series: list[Path]) -> None:
    for images_before_kill in (1, 7, 15):
        data = tmp_path / str(images_before_kill)
        command = [sys.executable, "-c", RECEIVER, str(data)]
        acknowledged: list[Path] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port, _, modules = process.stdout.readline().partition(" ")
            assert modules == "[]\n", "the receiving process has loaded what it must not"
            association = associated(_Elsewhere(int(port)))
            for path in series:
                if len(acknowledged) == images_before_kill:
                    threading.Timer(0.002, os.kill, (process.pid, signal.SIGKILL)).start()
                try:
                    if send_file(association, path).Status == 0x0000:
                        acknowledged.append(path)
                except (AssertionError, RuntimeError):
                    break
        assert images_before_kill <= len(acknowledged) < len(series)
        spool = Spool(data)
        spool.sweep()
        (arrival,) = spool.scan()
        kept = {path.stem: encoded(path) for path in spool.instances(arrival.series_uid)}
        for path in acknowledged:
            assert kept[pydicom.dcmread(path).SOPInstanceUID] == encoded(path)
        assert set(kept.values()) <= set(map(encoded, series))
        assert list(spool.inbox.glob("*/*.part")) == []
