"""Eight senders at once while the node computes: nothing is lost, and how long does an answer take? A benchmark.

    python senders.py --senders 8 --instances 100

Each sender has two associations, to the node and to dcmtk's storescp, and sends each instance first to the one, then to
the other, on one machine in the same minute; the time is that from the first byte of the request to the last of the
answer. The node syncs the file and its folder to the disk before it answers, storescp does not. Meanwhile the node
converts series with the model, one after the other. The senders are raw sockets with prepared bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import proc
import tiny
from fleet import Served
from peers import Planning, free_port, sop_uid_of
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from soak import Template, await_answer

from dicomnode.config import load
from dicomnode.config.load import Config
from dicomnode.config.sections import Metrics, Node, Receive, Settle, Web

PDU_BYTES: Final = 16_384
ACCEPTED: Final = 2
"""PDU type of an A-ASSOCIATE-AC (PS3.8 9.3.3)."""
STATUS_ELEMENT: Final = b"\0\0\0\x09\x02\0\0\0"
"""Tag (0000,0900) and length of a response's status (PS3.7 E.1), which is 0 for Success."""
RELEASE_REQUEST: Final = b"\x05\0\0\0\0\x04\0\0\0\0"
"""An A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass
class Options:
    """How much."""

    senders: int
    instances: int
    model: str | None
    slices: int


def association_request() -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) that offers MR Image Storage in explicit VR little endian."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "SENDER", "ANY-SCP"
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = PDU_BYTES
    implementation.implementation_class_uid = "1.2.3"
    request.user_information = [longest, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def store_request(path: Path, number: int) -> bytes:
    """The P-DATA-TF PDUs of a C-STORE-RQ (PS3.7 9.3.1) of a file."""
    whole = path.read_bytes()
    request = C_STORE()
    request.MessageID, request.Priority = number, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, sop_uid_of(path)
    request.DataSet = io.BytesIO(whole[144 + int.from_bytes(whole[140:144], "little") :])
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return b"".join(_data_pdu(part) for part in message.encode_msg(1, PDU_BYTES))


def _data_pdu(part: P_DATA) -> bytes:
    pdu = P_DATA_TF()
    pdu.from_primitive(part)
    return bytes(pdu.encode())


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """One PDU (PS3.8 9.3.1): its type and the rest."""
    kind, length = struct.unpack(">BxL", _read(connection, 6))
    return kind, _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            raise ConnectionError("the peer has gone")
        found += piece
    return found


class Sender:
    """An association, and the seconds that each answer took."""

    def __init__(self, port: int) -> None:
        self.seconds: list[float] = []
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(association_request())
        kind, _ = read_pdu(self._connection)
        assert kind == ACCEPTED, f"the association was answered with a PDU of type {kind}"

    def send(self, request: bytes) -> bool:
        """One C-STORE; -> whether it was answered with Success."""
        begun = time.perf_counter()
        self._connection.sendall(request)
        _, answer = read_pdu(self._connection)
        self.seconds.append(time.perf_counter() - begun)
        at = answer.index(STATUS_ELEMENT) + len(STATUS_ELEMENT)
        return answer[at : at + 2] == b"\0\0"

    def end(self) -> None:
        """Release."""
        self._connection.sendall(RELEASE_REQUEST)
        with contextlib.suppress(OSError):
            read_pdu(self._connection)
        self._connection.close()


@dataclass
class Outcome:
    """What one sender saw."""

    node: list[float]
    peer: list[float]
    acknowledged: set[str]


def _work(requests: Sequence[tuple[str, bytes]], ports: tuple[int, int]) -> Outcome:
    """One sender: each instance to the node, then to the peer."""
    node, peer = (Sender(port) for port in ports)
    acknowledged = set()
    for sop_uid, request in requests:
        if node.send(request):
            acknowledged.add(sop_uid)
        peer.send(request)
    node.end()
    peer.end()
    return Outcome(node.seconds, peer.seconds, acknowledged)


def run(options: Options) -> dict[str, object]:
    """Series for the model to work on first, then all senders at once; -> the summary."""
    with contextlib.ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="senders-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        chosen = _config(folder, options)
        fleet, peer = Served(folder / "node.yaml", folder), Planning("peer", folder / "peer")
        ending.callback(fleet.end)
        ending.callback(peer.down)
        fleet.start()
        peer.up()
        ports = (chosen.node.port, peer.port)
        for port in ports:
            await_answer(port)
        ahead, *work = [_requests(folder, number, options) for number in range(options.senders + 1)]
        outcomes = [_work(ahead, ports)]
        _await_first_ct(chosen)
        synthesis = fleet.processes()["synthesize"]
        begun, cpu_s = time.monotonic(), proc.holding(synthesis).cpu_s
        with ThreadPoolExecutor(options.senders) as threads:
            outcomes += threads.map(lambda requests: _work(requests, ports), work)
        lasted_s, cpu_s = time.monotonic() - begun, proc.holding(synthesis).cpu_s - cpu_s
        acknowledged = set().union(*(one.acknowledged for one in outcomes))
        kept = {path.stem for path in (chosen.node.data / "in").glob("*/*.dcm")}
        return {
            "senders": options.senders,
            "instances": sum(len(requests) for requests in work),
            "acknowledged": len(acknowledged),
            "lost": len(acknowledged - kept),
            "seconds": round(lasted_s, 1),
            "processor seconds of synthesis meanwhile": round(cpu_s, 1),
            "node, ms": _quantiles([one.node for one in outcomes[1:]]),
            "storescp, ms": _quantiles([one.peer for one in outcomes[1:]]),
            "load": os.getloadavg(),
        }


def _config(folder: Path, options: Options) -> Config:
    (folder / "data").mkdir()
    chosen = Config(
        node=Node(port=free_port(), data=folder / "data"),
        web=Web(port=free_port()),
        metrics=Metrics(port=free_port()),
        receive=Receive(disk_reserve_bytes=0),
        settle=Settle(quiet_s=5.0, grace_s=1.0),
        model=options.model or str(tiny.write_model(folder / "model")),
        device="cpu",
        anatomy_check="warn",
    )
    (folder / "node.yaml").write_text(load.dump(chosen))
    return chosen


def _requests(folder: Path, sender: int, options: Options) -> list[tuple[str, bytes]]:
    """What a sender sends: series of so many slices, prepared."""
    found: list[tuple[str, bytes]] = []
    template = Template.of(folder / f"template-{sender}", options.slices, seed=sender)
    for number in range(-(-options.instances // options.slices)):
        for path in template.write(folder / f"series-{sender}-{number}", number):
            found.append((sop_uid_of(path), store_request(path, len(found) + 1)))
    return found[: options.instances]


def _await_first_ct(chosen: Config, limit_s: float = 300.0) -> None:
    """Until the model has made one CT: from now on it is loaded, and busy with the next. Raises TimeoutError."""
    deadline = time.monotonic() + limit_s
    while not any((chosen.node.data / "out").glob("[0-9a-f]*")):
        if time.monotonic() > deadline:
            raise TimeoutError("no CT was made")
        time.sleep(0.1)


def _quantiles(seconds: Sequence[Sequence[float]]) -> dict[str, float]:
    every = sorted(1000 * one for each in seconds for one in each)
    named = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {
        **{name: round(every[int(part * (len(every) - 1))], 1) for name, part in named.items()},
        "longest": round(every[-1], 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the summary as JSON."""
    parser = argparse.ArgumentParser(prog="senders.py", description="Senders at once while the node computes.")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--instances", type=int, default=96, help="of each sender")
    parser.add_argument("--slices", type=int, default=24, help="of each series")
    parser.add_argument("--model", help="a model's name or folder; default: a tiny one")
    summary = run(Options(**vars(parser.parse_args(arguments))))
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if summary["lost"] or summary["acknowledged"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
