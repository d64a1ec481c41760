"""Tests of association PDUs as devices write them, by hand and in both directions (PS3.8 9.3.2, 9.3.3)."""

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicomnode.config.peers import Destination
from dicomnode.config.sections import Node, Receive
from dicomnode.dimse.association_pdu import SMALL_LENGTH, item_of, items_in, rewritten
from dicomnode.dimse.client import echo
from dicomnode.dimse.presentation_contexts import VERIFICATION
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool

CONTEXT = item_of(0x10, b"1.2.840.10008.3.1.1.1")
VERIFY = item_of(0x30, VERIFICATION.encode()) + item_of(0x40, b"1.2.840.10008.1.2")
LENGTH, CLASS_UID = item_of(0x51, struct.pack(">I", 16_384)), item_of(0x52, b"1.2.3.4")
C_ECHO_RQ = (
    bytes.fromhex("00000000 0400 0000 3800 0000 0000 0200 1200 0000".replace(" ", ""))
    + b"1.2.840.10008.1.1\0"
    + bytes.fromhex("0000 0001 0200 0000 3000 0000 1001 0200 0000 0700 0000 0008 0200 0000 0101")
)
ECHOED, ABORTED = "echo 0x0000", "abort"


def request(
    *user: bytes, called: bytes = b"SCTNODE", calling: bytes = b"MR1", version: int = 1, more: bytes = b""
) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes Verification, with user information sub-items."""
    content = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32) + CONTEXT
    content += item_of(0x20, b"\1\0\0\0" + VERIFY) + item_of(0x50, b"".join(user)) + more
    return struct.pack(">BBI", 1, 0, len(content)) + content


def read_pdu(stream: socket.socket) -> bytes:
    """Return the next PDU; empty when the peer has gone."""
    with stream.makefile("rb", buffering=0) as reader:
        head = reader.read(6) or b""
        content = b""
        while len(head) == 6 and len(content) < int.from_bytes(head[2:], "big"):
            content += reader.read(int.from_bytes(head[2:], "big") - len(content)) or b""
        return head + content


def said(port: int, asked: bytes) -> str:
    """Return in words what the node answers to an association request, and to C-ECHO if it accepts."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(asked)
        answered = read_pdu(stream)
        if answered[:1] == b"\3":
            return f"reject {tuple(answered[7:10])}"
        if answered[:1] != b"\2":
            return ABORTED
        value = struct.pack(">IBB", len(C_ECHO_RQ) + 2, 1, 3) + C_ECHO_RQ
        stream.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
        answered = read_pdu(stream)
        at = answered.find(b"\0\0\0\x09\2\0\0\0")
        return f"echo 0x{int.from_bytes(answered[at + 8 : at + 10], 'little'):04X}" if at > 0 else ABORTED


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    data = tmp_path_factory.mktemp("node")
    receiver = Receiver(Node(port=0, data=data, ae_title="SCTNODE"), Receive(disk_reserve_bytes=0), Spool(data))
    receiver.start()
    yield receiver.port
    receiver.stop(grace_s=1)


TAKEN = {
    "as most devices do": request(LENGTH, CLASS_UID),
    "a sub-item of a later edition": request(LENGTH, CLASS_UID, item_of(0x5A, b"x"), item_of(0xF0, b"")),
    "a later edition's version too": request(LENGTH, CLASS_UID, version=0x0003),
    "another reserved version bit": request(LENGTH, CLASS_UID, version=0x8001),
    "called title padded with NUL": request(LENGTH, CLASS_UID, called=b"SCTNODE".ljust(16, b"\0")),
    "calling title padded with NUL": request(LENGTH, CLASS_UID, calling=b"MR1".ljust(16, b"\0")),
    "titles with blanks before": request(LENGTH, CLASS_UID, called=b"  SCTNODE", calling=b" MR1 \0 "),
    "version name that ends with NUL": request(LENGTH, CLASS_UID, item_of(0x55, b"MR_V1\0")),
    "version name of 17 characters": request(LENGTH, CLASS_UID, item_of(0x55, b"V" * 17)),
    "version name that is not ASCII": request(LENGTH, CLASS_UID, item_of(0x55, "Köln\\1".encode())),
    "empty version name": request(LENGTH, CLASS_UID, item_of(0x55, b"")),
    "no Maximum Length": request(CLASS_UID),
    "no limit": request(item_of(0x51, bytes(4)), CLASS_UID),
}
REFUSED = {
    "no bit of a version": (request(LENGTH, CLASS_UID, version=2), "reject (1, 2, 2)"),
    "blank calling title": (request(LENGTH, CLASS_UID, calling=b""), "reject (1, 1, 3)"),
    "calling title of NUL": (request(LENGTH, CLASS_UID, calling=bytes(16)), "reject (1, 1, 3)"),
    "calling title in Latin-1": (request(LENGTH, CLASS_UID, calling=b"MR-K\xf6ln"), "reject (1, 1, 3)"),
    "calling title with a control character": (request(LENGTH, CLASS_UID, calling=b"MR\x07"), "reject (1, 1, 3)"),
    "calling title with a backslash": (request(LENGTH, CLASS_UID, calling=b"MR\\1"), "reject (1, 1, 3)"),
    "blank called title": (request(LENGTH, CLASS_UID, called=b""), "reject (1, 1, 7)"),
    "called title in Latin-1": (request(LENGTH, CLASS_UID, called=b"K\xf6ln"), "reject (1, 1, 7)"),
    "an item that is cut off": (request(LENGTH, CLASS_UID, more=b"\x50\0\0\xff"), ABORTED),
}


@pytest.mark.parametrize("asked", TAKEN.values(), ids=TAKEN)
def test_a_request_that_the_standard_tells_receivers_to_take_is_served(port: int, asked: bytes) -> None:
    assert said(port, asked) == ECHOED


@pytest.mark.parametrize(("asked", "answered"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_cannot_be_taken_is_refused_with_its_reason(port: int, asked: bytes, answered: str) -> None:
    assert said(port, asked) == answered


def test_a_title_that_cannot_be_taken_stands_in_the_log_as_printable_text_with_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(Node(port=0, data=tmp_path, ae_title="SCTNODE"), Receive(disk_reserve_bytes=0), Spool(tmp_path))
    receiver.start()
    with caplog.at_level(logging.INFO):
        said(receiver.port, request(LENGTH, CLASS_UID, calling=b"MR-\xfc\x01"))
    receiver.stop(grace_s=1)
    refused = [vars(one) for one in caplog.records if "call_refused" in str(vars(one))]
    assert len(refused) == 1
    assert "127.0.0.1" in str(refused)
    assert r"MR-\xfc\x01" in str(refused).replace(r"\\", "\\")


@given(
    st.lists(st.tuples(st.integers(0x5A, 0xFF), st.binary(max_size=40)), max_size=4),
    st.binary(max_size=40),
    st.integers(0, 0x7FFF),
    st.booleans(),
)
@example([], b"", 0, False)
def test_every_rewritten_request_is_read_by_pynetdicom_with_what_it_knows(
    unknown: list[tuple[int, bytes]], name: bytes, version: int, length: bool
) -> None:
    strange = [item_of(kind, value) for kind, value in unknown]
    asked = request(*strange, CLASS_UID, item_of(0x55, name), *[LENGTH] * length, version=2 * version + 1)
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(rewritten(asked))
    assert pdu.protocol_version == 1
    assert (pdu.called_ae_title.strip(), pdu.calling_ae_title.strip()) == ("SCTNODE", "MR1")
    assert pdu.user_information is not None
    assert pdu.user_information.maximum_length == SMALL_LENGTH
    assert str(pdu.user_information.implementation_class_uid) == "1.2.3.4"
    assert len(pdu.user_information.implementation_version_name or "") <= 16
    assert rewritten(rewritten(asked)) == rewritten(asked)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_rewriting_fail(content: bytes) -> None:
    for kind in (b"\1", b"\2"):
        changed = rewritten(kind + content)
        assert len(changed) < 74 or int.from_bytes(changed[2:6], "big") == len(changed) - 6


@contextmanager
def odd_acceptor(*user: bytes, version: int = 1) -> Iterator[Destination]:
    """Start a destination that accepts one association with the user information and answers C-ECHO with Success."""

    def serve(listener: socket.socket) -> None:
        stream, _ = listener.accept()
        with stream, contextlib.suppress(OSError):
            asked = read_pdu(stream)
            [proposed] = [value[0] for kind, value in items_in(asked[74:]) if kind == 0x20]
            content = struct.pack(">HH", version, 0) + asked[10:42] + bytes(32) + CONTEXT
            accepted = bytes([proposed, 0, 0, 0]) + item_of(0x40, b"1.2.840.10008.1.2")
            content += item_of(0x21, accepted) + item_of(0x50, b"".join(user))
            stream.sendall(struct.pack(">BBI", 2, 0, len(content)) + content)
            read_pdu(stream)
            elements = struct.pack("<HHIH", 0, 0x100, 2, 0x8030) + struct.pack("<HHIH", 0, 0x120, 2, 1)
            elements += struct.pack("<HHIH", 0, 0x800, 2, 0x0101) + struct.pack("<HHIH", 0, 0x900, 2, 0)
            command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
            value = struct.pack(">IBB", len(command) + 2, proposed, 3) + command
            stream.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
            read_pdu(stream)
            stream.sendall(struct.pack(">BBI", 6, 0, 4) + bytes(4))
            stream.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield Destination("planning", "TPS", "127.0.0.1", listener.getsockname()[1], timeout_s=3)
        thread.join()


ACCEPTED = {
    "as most devices do": (LENGTH, CLASS_UID),
    "a sub-item of a later edition": (LENGTH, CLASS_UID, item_of(0x5A, b"x")),
    "version name that ends with NUL": (LENGTH, CLASS_UID, item_of(0x55, b"TPS\0")),
    "version name of 20 characters": (LENGTH, CLASS_UID, item_of(0x55, b"V" * 20)),
    "no Maximum Length": (CLASS_UID,),
    "no limit": (item_of(0x51, bytes(4)), CLASS_UID),
}


@pytest.mark.parametrize("user", ACCEPTED.values(), ids=ACCEPTED)
def test_a_destination_whose_acceptance_is_odd_is_asked(user: tuple[bytes, ...]) -> None:
    with odd_acceptor(*user, version=3) as destination:
        echo(destination, "SCTNODE")
