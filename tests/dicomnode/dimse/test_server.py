"""Tests of the limits of reception: what exceeds a limit is stopped, and no other peer notices."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from dicomnode.config.sections import Node, Receive
from dicomnode.dimse.messages import LimitedDataSet, ReceiveBuffer
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.upper_layer import ElapsedTimer
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool

LIMITS = Receive(idle_timeout_s=2.0, request_timeout_s=1.0, disk_reserve_bytes=0)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Give a function that starts receivers with limits."""
    started: list[Receiver] = []

    def listen(limits: Receive) -> Receiver:
        receiver = Receiver(Node(port=0, data=tmp_path), limits, Spool(tmp_path))
        receiver.start()
        started.append(receiver)
        return receiver

    yield listen
    for one in started:
        one.stop(grace_s=0.2)


def associated(receiver: Receiver, title: str = "SENDER") -> Association:
    """Request an association for MR images and C-ECHO."""
    ae = AE(title)
    ae.dimse_timeout = ae.acse_timeout = ae.network_timeout = 10
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(VERIFICATION)
    return ae.associate("127.0.0.1", receiver.port)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    size = b"\0\0" + len(value).to_bytes(4, "little") if vr == b"OW" else len(value).to_bytes(2, "little")
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + size + value


def image(instance: str, pixel_bytes: int) -> bytes:
    """Return a data set with so many bytes of pixel data."""
    uids = ((8, 0x16, MRImageStorage.encode() + b"\0"), (8, 0x18, instance.encode()), (0x20, 0xE, b"1.2.34"))
    head = b"".join(element(group, number, b"UI", value) for group, number, value in uids)
    return head + element(0x7FE0, 0x10, b"OW", bytes(pixel_bytes))


def stored(association: Association, data_set: bytes, instance: str = "1.2.34.56") -> int | None:
    """Send these bytes by C-STORE, and return the status."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, UID(instance)
    request.DataSet = io.BytesIO(data_set)
    association._reactor_checkpoint.clear()
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == MRImageStorage)
    assert context.context_id is not None
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE)
    return answer.Status


def closed_within(connection: socket.socket, limit_s: float) -> bool:
    """Return whether the node closes the connection in that time."""
    connection.settimeout(limit_s)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def eventually(true: Callable[[], bool], limit_s: float = 10.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_an_instance_that_is_too_large_is_refused_and_the_next_one_goes_through(
    listening: Callable[..., Receiver], tmp_path: Path
) -> None:
    receiver = listening(Receive(max_object_bytes=100_000, disk_reserve_bytes=0))
    association = associated(receiver)
    assert stored(association, image("1.2.34.56", 200_000)) == 0xA701
    assert list((tmp_path / "in").iterdir()) == []
    assert stored(association, image("1.2.34.56", 50_000)) == 0x0000
    association.release()


def test_what_is_too_much_at_once_is_refused_for_the_moment(listening: Callable[..., Receiver]) -> None:
    receiver = listening(Receive(max_receiving_bytes=100_000, disk_reserve_bytes=0))
    association = associated(receiver)
    for _ in range(3):
        assert stored(association, image("1.2.34.56", 200_000)) == 0xA700
        assert stored(association, image("1.2.34.56", 50_000)) == 0x0000
    association.release()


def test_a_data_set_gives_back_its_room_however_it_ends() -> None:
    memory = ReceiveBuffer(100)
    kept = LimitedDataSet(80, memory)
    kept.write(bytes(60))
    assert not memory.take(41)
    kept.write(bytes(60))
    assert kept.getvalue() == b""
    assert memory.take(100)
    memory.give_back(100)
    left = LimitedDataSet(80, memory)
    left.write(bytes(60))
    del left
    assert memory.take(100)


@pytest.mark.parametrize("length", [1_048_577, 2**31, 2**32 - 1])
def test_a_pdu_that_is_too_long_is_aborted_before_it_is_read(listening: Callable[..., Receiver], length: int) -> None:
    receiver = listening(LIMITS)
    with socket.create_connection(("127.0.0.1", receiver.port), 5) as connection:
        connection.sendall(b"\x01\x00" + length.to_bytes(4, "big"))
        assert connection.recv(10, socket.MSG_WAITALL) == b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"
        assert closed_within(connection, 5)


def test_half_a_request_in_drops_ends_with_the_artim_timer(listening: Callable[..., Receiver]) -> None:
    receiver = listening(LIMITS)
    threads = threading.active_count()
    with socket.create_connection(("127.0.0.1", receiver.port), 5) as connection:
        begun = time.monotonic()
        try:
            for byte in b"\x01\x00\x00\x00\x00\xd0" + bytes(200):
                connection.sendall(bytes((byte,)))
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert 0.5 < time.monotonic() - begun < 9
    assert eventually(lambda: threading.active_count() <= threads)


def test_a_message_that_drips_ends_its_association(listening: Callable[..., Receiver]) -> None:
    receiver = listening(Receive(idle_timeout_s=1.0, disk_reserve_bytes=0, min_bytes_per_s=10_000))
    association = associated(receiver)
    transport = association.dul.socket
    assert transport is not None
    connection = transport.socket
    assert connection is not None
    fragment = b"\x04\x00\x00\x00\x00\x0a\x00\x00\x00\x06\x01\x01abcd"
    try:
        for _ in range(40):
            connection.sendall(fragment)
            time.sleep(0.1)
    except OSError:
        pass
    assert eventually(lambda: association.is_aborted)


def test_connections_without_a_request_take_no_place_and_the_oldest_makes_room(
    listening: Callable[..., Receiver],
) -> None:
    receiver = listening(Receive(max_associations=4, request_timeout_s=30.0, disk_reserve_bytes=0))
    silent = [socket.create_connection(("127.0.0.1", receiver.port), 5) for _ in range(6)]
    try:
        assert eventually(lambda: sum(closed_within(one, 0.1) for one in silent) == 2)
        association = associated(receiver)
        assert association.is_established
        association.release()
    finally:
        for one in silent:
            one.close()


def test_one_sender_cannot_take_every_place(listening: Callable[..., Receiver]) -> None:
    receiver = listening(Receive(max_associations=3, max_associations_per_ae=2, disk_reserve_bytes=0))
    greedy = [associated(receiver, "GREEDY") for _ in range(3)]
    assert [one.is_established for one in greedy] == [True, True, False]
    assert greedy[2].is_rejected
    other = associated(receiver, "OTHER")
    assert other.is_established
    assert associated(receiver, "THIRD").is_rejected
    greedy[0].release()
    assert eventually(lambda: not greedy[0].is_alive())
    third = [associated(receiver, "THIRD")]
    while not third[-1].is_established and len(third) < 50:  # the place is free when the node's own thread has ended
        time.sleep(0.05)
        third.append(associated(receiver, "THIRD"))
    assert third[-1].is_established
    for one in (*greedy[1:2], other, third[-1]):
        one.release()


def test_a_step_of_the_clock_moves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = ElapsedTimer(60.0)
    timer.start()
    for step in (3600.0, -3600.0):
        now = time.time() + step
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert not timer.expired
        assert 59 < timer.remaining <= 60
    monkeypatch.undo()


def test_bare_events_that_the_machine_does_not_know_close_the_connection(listening: Callable[..., Receiver]) -> None:
    receiver = listening(LIMITS)
    odd = b"\x20\x00\x00\x04\x02\x00\x00\x00"  # a presentation context with an even number
    body = b"\x00\x01\x00\x00" + b"SCTNODE".ljust(16) + b"SENDER".ljust(16) + bytes(32)
    body += b"\x10\x00\x00\x151.2.840.10008.3.1.1.1" + odd + b"\x50\x00\x00\x08\x51\x00\x00\x04\x00\x00\x40\x00"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as connection:
            connection.sendall(b"\x01\x00" + len(body).to_bytes(4, "big") + body)
            assert closed_within(connection, 5)
    association = associated(receiver)
    assert association.send_c_echo().Status == 0
    association.release()
