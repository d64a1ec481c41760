"""Tests of the reactor: it rests while its peer is silent, and answers at once when it is not."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AE
from pynetdicom.association import Association

from dicomnode.config.sections import Node, Receive
from dicomnode.dimse.messages import Messages
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.dimse.upper_layer import LONGEST_REST_S, SHORTEST_REST_S, IdleAwareDUL, rest_s
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_a_longer_silence_never_means_a_shorter_rest_and_the_rest_has_bounds(one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert SHORTEST_REST_S <= rest_s(short) <= rest_s(long) <= LONGEST_REST_S
    assert rest_s(short) <= max(SHORTEST_REST_S, short / 50)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    data = tmp_path / "data"
    running = Receiver(Node(port=0, data=data), Receive(disk_reserve_bytes=0), Spool(data))
    running.start()
    yield running
    running.stop(grace_s=1)


def associated(receiver: Receiver) -> Association:
    ae = AE("SENDER")
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", receiver.port)
    assert association.is_established
    return association


def test_a_silent_peer_is_looked_at_seldom_and_answered_at_once_when_it_speaks_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = {"reactor": 0, "messages": 0}
    look, ask = IdleAwareDUL._is_transport_event, Messages.get_msg

    def counted_look(self: IdleAwareDUL) -> bool:
        looks["reactor"] += 1
        return look(self)

    def counted_ask(self: Messages, block: bool = False) -> object:
        looks["messages"] += 1
        return ask(self, block)

    monkeypatch.setattr(IdleAwareDUL, "_is_transport_event", counted_look)
    monkeypatch.setattr(Messages, "get_msg", counted_ask)
    association = associated(receiver)
    time.sleep(2.0)
    looks.update(reactor=0, messages=0)
    time.sleep(1.0)
    assert 5 <= looks["reactor"] <= 60
    assert 5 <= looks["messages"] <= 60
    begun = time.monotonic()
    assert association.send_c_echo().Status == 0x0000
    assert time.monotonic() - begun < 20 * LONGEST_REST_S
    association.release()
    assert association.is_released


def test_no_message_is_taken_while_another_thread_waits_for_an_answer(receiver: Receiver) -> None:
    association = associated(receiver)
    [server] = [one for one in receiver._ae.active_associations if one is not association]
    server._reactor_checkpoint.clear()
    while not server._is_paused:
        time.sleep(0.001)
    server.dimse.msg_queue.put((None, None))
    assert server.dimse.get_msg() == (None, None)
    assert server.dimse.msg_queue.qsize() == 1
    server.dimse.msg_queue.get()
    server._reactor_checkpoint.set()
    association.release()
