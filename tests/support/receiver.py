"""Certificates of a hospital's CA and a stranger's, receivers that trust the first, and series to send to them."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import VolumeGeometry
from pynetdicom import evt

from dicomnode.config.peers import Tls
from dicomnode.config.sections import Audit, Node, Receive
from dicomnode.dimse.server import Connection
from dicomnode.reception.storage_scp import Receiver
from dicomnode.security.audit_trail import AuditTrail
from dicomnode.spool.spool import Spool
from pipeline.phantom import thigh
from tests.support.authority import Authority, Pair

UNSET = Audit()
LIMITS = Receive(idle_timeout_s=10.0, request_timeout_s=5.0, disk_reserve_bytes=0)


@dataclass(frozen=True)
class Pki:
    """Certificates by what is right or wrong with them."""

    hospital: Authority
    stranger: Authority
    node: Pair
    kinds: dict[str, Pair]

    def tls(self, **more: Any) -> Tls:
        """Return the TLS settings of a node that trusts the hospital's CA."""
        named: dict[str, Any] = {"certificate": self.node.certificate, "key": self.node.key, "ca": self.hospital.ca}
        return Tls(**({"port": 0, "plain": False} | named | more))


def eventually(true: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Return whether a condition becomes true in time."""
    deadline = time.monotonic() + limit_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    hospital = Authority(tmp_path_factory.mktemp("hospital"))
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Stranger's CA")
    same_name = Authority(tmp_path_factory.mktemp("copy"))
    kinds = {
        "right": hospital.sign("mr1.hospital", rsa_bits=2048),
        "other": hospital.sign("mr2.hospital"),
        "expired": hospital.sign("expired", (-10, -1)),
        "not yet valid": hospital.sign("future", (1, 10)),
        "alien": stranger.sign("mr1.hospital"),
        "same issuer name": same_name.sign("mr1.hospital"),
        "weak key": hospital.sign("weak", rsa_bits=1024),
    }
    return Pki(hospital, stranger, hospital.sign("node", rsa_bits=2048), kinds)


@dataclass
class Site:
    """A receiver with its folder and its audit trail."""

    receiver: Receiver
    data: Path
    spool: Spool = field(repr=False)

    def stored(self) -> list[Path]:
        """Return every instance on the disk."""
        return sorted(self.data.glob("in/*/*.dcm"))

    def trail(self) -> list[dict[str, Any]]:
        """Return every audit record."""
        files = sorted(self.data.glob("audit/*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def alerts(self) -> list[str]:
        """Return the text of every security alert."""
        events = [record["EventIdentification"] for record in self.trail()]
        return [one["EventOutcomeDescription"] for one in events if one["EventID"]["csd-code"] == "110113"]

    def alerted(self, words: str) -> bool:
        """Return whether an alert has this text; it is written after the caller has its answer, so wait a little."""
        return eventually(lambda: any(words in alert for alert in self.alerts()))


def starting(folder: Path) -> Iterator[Callable[..., Site]]:
    """Give a function that starts receivers, and stop them at the end."""
    begun: list[Receiver] = []

    def start(limits: Receive = LIMITS, audit: Audit = UNSET, services: tuple[Any, ...] = (), **more: Any) -> Site:
        data = folder / f"data{len(begun)}"
        spool = Spool(data, limits.disk_reserve_bytes)
        receiver = Receiver(Node(port=0, data=data), limits, spool, services, trail=AuditTrail(audit, data), **more)
        receiver.start()
        begun.append(receiver)
        return Site(receiver, data, spool)

    yield start
    for receiver in begun:
        receiver.stop(grace_s=0.5)


@pytest.fixture
def receiver_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Give a function that starts receivers for a test: `receiver_site(tls=..., admission=..., limits=...)`."""
    yield from starting(tmp_path)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Give a function that starts receivers for all tests of a module."""
    yield from starting(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a small MR series with one file for each slice."""
    affine = np.array([[0, 0, 4.0, -62], [0, 4.0, 0, -62], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    geometry = VolumeGeometry(affine=affine, spatial_shape=(6, 32, 32), coordinate_system="PATIENT")
    return thigh.write_mr_series(thigh.thigh(geometry).mr, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def dcmtk(program: Callable[[str], str]) -> Callable[..., int]:
    """Give a function that runs echoscu or storescu on the loopback interface, and returns the exit status."""

    def run(name: str, port: int, *arguments: str | Path) -> int:
        command = [program(name), "-to", "5", "-ta", "5", *map(str, arguments[:-1] if arguments else [])]
        last = [str(arguments[-1])] if arguments else []
        files = last if name == "storescu" else []
        command += [] if name == "storescu" else last
        done = subprocess.run([*command, "127.0.0.1", str(port), *files], capture_output=True, timeout=60)
        return done.returncode

    return run


def closable() -> list[evt.EventHandlerType]:
    """Return handlers that take over the socket: pynetdicom leaves one open that the other side has reset."""

    def opened(event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket = Connection.of(transport.socket)

    return [(evt.EVT_CONN_OPEN, opened)]


def shown(pair: Pair, trusted: Path) -> list[str]:
    """Return dcmtk's options for TLS with a certificate."""
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(trusted)]
