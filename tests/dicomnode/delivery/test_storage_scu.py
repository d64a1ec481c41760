"""Tests of the Storage SCU with foreign destinations, ones that refuse, and ones that are not there."""

import datetime
import gc
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from dicomnode.cli.demo_archive import serving
from dicomnode.config.peers import Destination
from dicomnode.delivery.storage_scu import send
from dicomnode.dimse.client import echo
from dicomnode.errors import Undelivered
from dicomnode.metrics import REGISTRY
from dicomnode.receipt import Receipt, outcome
from pipeline.phantom import thigh

if TYPE_CHECKING:
    from tests.conftest import Orthanc


def volume() -> thigh.Phantom:
    affine = np.array([[0, 0, 8.0, -60], [0, 8.0, 0, -60], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    return thigh.thigh(VolumeGeometry(affine=affine, spatial_shape=(8, 16, 16), coordinate_system="PATIENT"))


@pytest.fixture(scope="module")
def mr_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a small MR series, of a class that the archive does not accept."""
    return thigh.write_mr_series(volume().mr, tmp_path_factory.mktemp("mr"))


@pytest.fixture(scope="module")
def ct_files(mr_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write eight files of class CT Image Storage."""
    folder = tmp_path_factory.mktemp("ct")
    paths = []
    for number, source in enumerate(mr_files):
        data_set = pydicom.dcmread(source)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data_set.Modality = "CT"
        paths.append(folder / f"{number}.dcm")
        data_set.save_as(paths[-1], enforce_file_format=True)
    return paths


def uids(paths: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


def encoded(path: Path) -> bytes:
    """Return the data set of a DICOM file as it is encoded there (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def unread(_receipt: Receipt) -> None:
    """Ignore a receipt, where a test reads what `send` returns."""


def refused_by(destination: Destination, paths: list[Path]) -> Undelivered:
    """Return the error of a delivery that must fail."""
    with pytest.raises(Undelivered) as caught:
        send(paths, destination, "SCTNODE", unread)
    assert destination.name in caught.value.sentence
    assert f"{destination.host}:{destination.port}" in caught.value.sentence
    return caught.value


# Destinations that we did not write


def listens(port: int) -> bool:
    """Return whether a port accepts connections; wait a moment when it does not."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        time.sleep(0.05)
        return False
    return True


@contextmanager
def storescp(program: str, folder: Path, port: int, *options: str) -> Iterator[Destination]:
    """Start dcmtk's C-STORE SCP."""
    folder.mkdir(exist_ok=True)
    command = [program, "--output-directory", str(folder), *options, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not listens(port):
                assert process.poll() is None
                assert time.monotonic() < deadline
            yield Destination("planning", "STORESCP", "127.0.0.1", port, timeout_s=5)
        finally:
            process.terminate()


def test_storescp_gets_every_file_byte_for_byte(
    ct_files: list[Path], tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> None:
    with storescp(program("storescp"), tmp_path / "got", free_port(), "+B") as destination:
        echo(destination, "SCTNODE")
        receipts = send(ct_files, destination, "SCTNODE", unread)
    assert [receipt.outcome for receipt in receipts] == ["accepted"] * 8
    assert [receipt.sop_instance_uid for receipt in receipts] == uids(ct_files)
    got = {pydicom.dcmread(path).SOPInstanceUID: encoded(path) for path in (tmp_path / "got").iterdir()}
    assert got == dict(zip(uids(ct_files), map(encoded, ct_files), strict=True))


def test_storescp_that_takes_implicit_vr_only_gets_it_converted(
    ct_files: list[Path], tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> None:
    with storescp(program("storescp"), tmp_path / "got", free_port(), "+xi") as destination:
        send(ct_files, destination, "SCTNODE", unread)
    got = [pydicom.dcmread(path) for path in sorted((tmp_path / "got").iterdir())]
    assert {data_set.file_meta.TransferSyntaxUID for data_set in got} == {ImplicitVRLittleEndian}
    sent = {data_set.SOPInstanceUID: data_set for data_set in map(pydicom.dcmread, ct_files)}
    assert {data_set.SOPInstanceUID: data_set.PixelData for data_set in got} == {
        uid: data_set.PixelData for uid, data_set in sent.items()
    }


def test_orthanc_has_every_instance_afterwards_and_takes_it_twice(ct_files: list[Path], orthanc: "Orthanc") -> None:
    destination = Destination("archive", orthanc.ae_title, "127.0.0.1", orthanc.port)
    echo(destination, "SCTNODE")
    for _ in range(2):
        receipts = send(ct_files, destination, "SCTNODE", unread)
        assert all(receipt.stored for receipt in receipts)
    held = orthanc.instances()
    for path, uid in zip(ct_files, uids(ct_files), strict=True):
        (orthanc_file := path.with_suffix(".orthanc")).write_bytes(orthanc.file(held[uid]))
        assert pydicom.dcmread(orthanc_file) == pydicom.dcmread(path)


def test_storescp_that_refuses_the_association_is_undelivered_with_its_reason(
    ct_files: list[Path], tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> None:
    with storescp(program("storescp"), tmp_path / "got", free_port(), "--refuse") as destination:
        error = refused_by(destination, ct_files)
    assert "rejected the association" in error.sentence
    assert error.receipts == ()


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_storescp_that_aborts_in_the_middle_is_undelivered_and_what_it_acknowledged_has_a_receipt(
    ct_files: list[Path], tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int], option: str
) -> None:
    with storescp(program("storescp"), tmp_path / "got", free_port(), option) as destination:
        error = refused_by(destination, ct_files)
    assert "ended the association" in error.sentence
    assert len(error.receipts) <= 1


# What a destination answers


def test_every_answer_has_its_receipt_before_the_next_instance_is_sent(ct_files: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    started = datetime.datetime.now(datetime.UTC)

    def note(receipt: Receipt) -> None:
        seen.append((receipt.status, len(list(tmp_path.glob("*.dcm")))))
        assert started <= receipt.at <= datetime.datetime.now(datetime.UTC)

    with serving(tmp_path) as destination:
        receipts = send(ct_files, destination, "SCTNODE", note)
    assert seen == [(0x0000, number) for number in range(1, 9)]
    assert len(receipts) == 8


def test_one_refused_instance_does_not_stop_the_others(ct_files: list[Path], tmp_path: Path) -> None:
    with serving(tmp_path, "--answers", "0000,A700,0000,C123") as destination:
        error = refused_by(destination, ct_files)
    assert [receipt.status for receipt in error.receipts] == [0, 0xA700, 0, 0xC123, 0, 0, 0, 0]
    assert "refused 1 with status 0xA700, refused 1 with status 0xC123; 6 of 8 arrived" in error.sentence
    assert len(list(tmp_path.glob("*.dcm"))) == 6


def test_the_next_attempt_sends_only_what_is_missing(ct_files: list[Path], tmp_path: Path) -> None:
    with serving(tmp_path, "--answers", "A700,0000,A700") as destination:
        error = refused_by(destination, ct_files)
        there = {receipt.sop_instance_uid for receipt in error.receipts if receipt.stored}
        receipts = send(ct_files, destination, "SCTNODE", unread, already=there)
    assert [receipt.sop_instance_uid for receipt in receipts] == [uids(ct_files)[0], uids(ct_files)[2]]
    assert len(list(tmp_path.glob("*.dcm"))) == 8


def test_nothing_is_opened_when_everything_is_there(ct_files: list[Path], free_port: Callable[[], int]) -> None:
    nobody = Destination("planning", "TPS", "127.0.0.1", free_port())
    assert send(ct_files, nobody, "SCTNODE", unread, already=uids(ct_files)) == []


def test_warnings_and_duplicates_are_delivered_and_told_apart(ct_files: list[Path], tmp_path: Path) -> None:
    with serving(tmp_path, "--answers", "B000,B007,0111,B006") as destination:
        receipts = send(ct_files, destination, "SCTNODE", unread)
    outcomes = [receipt.outcome for receipt in receipts]
    assert outcomes == ["warning", "warning", "duplicate", "warning", "accepted", "accepted", "accepted", "accepted"]
    assert [receipt.warning for receipt in receipts][:4] == [True, True, False, True]


def test_the_metrics_count_what_a_destination_answers(ct_files: list[Path], tmp_path: Path) -> None:
    def count(outcome: str) -> float:
        labels = {"destination": "archive", "outcome": outcome}
        return REGISTRY.get_sample_value("sct_node_delivered_instances_total", labels) or 0.0

    before = {outcome: count(outcome) for outcome in ("accepted", "refused", "warning")}
    with serving(tmp_path, "--answers", "A700,B000") as destination, pytest.raises(Undelivered):
        send(ct_files, destination, "SCTNODE", unread)
    assert {outcome: count(outcome) - was for outcome, was in before.items()} == {
        "accepted": 6,
        "refused": 1,
        "warning": 1,
    }


@given(st.integers(0, 0xFFFF))
def test_only_success_and_duplicate_are_silent_and_every_failure_is_refused(status: int) -> None:
    receipt = Receipt("1.2", status, datetime.datetime.now(datetime.UTC))
    assert receipt.outcome == outcome(status)
    assert (status in (0x0000, 0x0111)) == (receipt.outcome in ("accepted", "duplicate"))
    if status >> 12 in (0xA, 0xC) or 0x0112 <= status <= 0x0115:
        assert not receipt.stored
    if 0xB000 <= status <= 0xBFFF:
        assert receipt.warning


def test_an_answer_that_is_repeated_for_the_next_instance_does_not_deliver_it(ct_files: list[Path]) -> None:
    asked: list[C_STORE] = []

    def repeats(event: Event) -> int:
        assert isinstance(event.request, C_STORE)
        asked.append(event.request)
        if len(asked) < 8:
            return 0x0000
        again = C_STORE()
        again.MessageIDBeingRespondedTo, again.Status = asked[-2].MessageID, 0x0000
        again.AffectedSOPClassUID, again.AffectedSOPInstanceUID = CTImageStorage, asked[-2].AffectedSOPInstanceUID
        event.assoc.dimse.send_msg(again, event.context.context_id)
        return 0xA700

    ae = AE("TPS")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, repeats)])
    assert server is not None
    try:
        error = refused_by(Destination("planning", "TPS", "127.0.0.1", server.server_address[1]), ct_files)
    finally:
        server.shutdown()
    assert [receipt.sop_instance_uid for receipt in error.receipts] == uids(ct_files)[:7]
    assert "gave the answer of another message to C-STORE (Message ID 7 instead of 8); 7 of 8 arrived" in error.sentence


# Destinations that do not take it


def test_a_class_that_a_destination_does_not_accept_is_named_and_the_others_arrive(
    ct_files: list[Path], mr_files: list[Path], tmp_path: Path
) -> None:
    with serving(tmp_path) as destination:
        error = refused_by(destination, [mr_files[0], *ct_files])
        alone = refused_by(destination, mr_files)
    assert "does not accept MR Image Storage as Explicit VR Little Endian; 8 of 9 arrived" in error.sentence
    assert len(error.receipts) == 8
    assert "accepts none of what was offered: MR Image Storage" in alone.sentence


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_is_not_there_is_undelivered(ct_files: list[Path], free_port: Callable[[], int]) -> None:
    nobody = Destination("planning", "TPS", "127.0.0.1", free_port())
    error = refused_by(nobody, ct_files)
    assert re.fullmatch(
        rf"planning \(TPS at 127\.0\.0\.1:{nobody.port}\) cannot be reached .*; 0 of 8 arrived", error.sentence
    )
    with pytest.raises(Undelivered, match="cannot be reached"):
        echo(nobody, "SCTNODE")


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_host_that_has_no_address_is_undelivered(ct_files: list[Path]) -> None:
    assert "cannot be reached" in refused_by(Destination("tps", "TPS", "no-such-host.invalid", 104), ct_files).sentence


def test_a_port_that_is_open_but_silent_is_given_up_after_the_time_out(ct_files: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        destination = Destination("tps", "TPS", "127.0.0.1", silent.getsockname()[1], timeout_s=1)
        begun = time.monotonic()
        error = refused_by(destination, ct_files)
    assert "gave no answer to the association request" in error.sentence
    assert time.monotonic() - begun < 5


def test_a_destination_that_stops_answering_is_given_up_after_the_time_out(
    ct_files: list[Path], tmp_path: Path
) -> None:
    with serving(tmp_path, "--delay-s", "3") as slow:
        destination = Destination("tps", slow.ae_title, slow.host, slow.port, timeout_s=1)
        error = refused_by(destination, ct_files)
    assert "gave no answer within 1 s; 0 of 8 arrived" in error.sentence


def test_a_delivery_leaves_no_thread_behind(ct_files: list[Path], tmp_path: Path) -> None:
    before = threading.active_count()
    with serving(tmp_path) as destination:
        for _ in range(5):
            send(ct_files, destination, "SCTNODE", unread)
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert threading.active_count() <= before


def test_a_destination_that_resets_the_connection_leaves_no_descriptor_behind(ct_files: list[Path]) -> None:
    def reset_each(listener: socket.socket) -> None:
        for _ in range(3):
            connection, _address = listener.accept()
            connection.recv(6)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    gc.collect()
    gc.disable()  # a descriptor must not have to wait for it
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            before = len(list(Path("/proc/self/fd").iterdir()))
            resetting = threading.Thread(target=reset_each, args=(listener,))
            resetting.start()
            for _ in range(3):
                refused_by(Destination("tps", "TPS", "127.0.0.1", listener.getsockname()[1], timeout_s=2), ct_files)
            resetting.join()
            assert len(list(Path("/proc/self/fd").iterdir())) <= before
    finally:
        gc.enable()


def test_a_receipt_that_cannot_be_noted_ends_the_delivery_with_its_own_error(
    ct_files: list[Path], tmp_path: Path
) -> None:
    def broken(_receipt: Receipt) -> None:
        raise ZeroDivisionError

    with serving(tmp_path) as destination, pytest.raises(ZeroDivisionError):
        send(ct_files, destination, "SCTNODE", broken)
    assert len(list(tmp_path.glob("*.dcm"))) == 1


def test_an_archive_that_cannot_listen_says_so(tmp_path: Path) -> None:
    with serving(tmp_path) as destination, pytest.raises(RuntimeError, match="did not start"):  # noqa: SIM117
        with serving(tmp_path / "second", port=destination.port):
            pass


STOPPED = """
import os, signal, sys
from dicomnode.config.peers import Destination
from dicomnode.delivery.storage_scu import associated
from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.presentation import build_context

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
moment = {"request": A_ASSOCIATE_RQ, "release": A_RELEASE_RQ}[sys.argv[2]]

def sent(event):
    if isinstance(event.pdu, moment):
        os.kill(os.getpid(), signal.SIGTERM)

there = Destination("there", "ARCHIVE", "127.0.0.1", int(sys.argv[1]))
with associated(there, "X", [build_context("1.2.840.10008.1.1")], handlers=[(evt.EVT_PDU_SENT, sent)]):
    pass
"""


@pytest.mark.parametrize("moment", ["request", "release"])
def test_a_process_that_is_stopped_within_an_association_ends(tmp_path: Path, moment: str) -> None:
    with serving(tmp_path) as there:
        command = [sys.executable, "-c", STOPPED, str(there.port), moment]
        assert subprocess.run(command, timeout=60).returncode == 143
