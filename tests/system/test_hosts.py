"""Several machines on one PostgreSQL database and one shared folder.

A machine is its name (`hosts.name`) and its processes; for the test in which one is cut off, each has a network
namespace of its own.
"""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association

from dicomnode.cli import demo_archive
from dicomnode.config import load as config
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Hosts, Node, Receive, Settle
from dicomnode.engine import queues
from dicomnode.engine.hosts import KnownHosts as Others
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.states import State
from pipeline.series.instance import LOSSLESS_TRANSFER_SYNTAXES

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

DEAD_AFTER_S = 10.0


@dataclass
class Machine:
    """A machine's processes of single roles, and the prefix with which a command runs on it."""

    config: Config
    folder: Path
    prefix: Sequence[str] = ()
    roles: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, *roles: str) -> None:
        """Start roles, each alone."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "node.yaml"
        path.write_text(config.dump(self.config))
        for role in roles:
            command = [*self.prefix, sys.executable, "-m", "dicomnode.cli.main", role, "--config", str(path)]
            with (self.folder / f"{role}.log").open("ab") as log:
                self.roles[role] = subprocess.Popen(command, stdout=log, stderr=log)

    def log(self) -> str:
        """What its roles wrote."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        """SIGKILL to all of it."""
        for process in self.roles.values():
            process.kill()
            process.wait(20)


@dataclass
class Site:
    """Machines that share a database and a folder."""

    folder: Path
    base: Config
    ledger: Ledger
    free_port: Callable[[], int]
    machines: dict[str, Machine] = field(default_factory=dict)

    def machine(self, name: str, prefix: Sequence[str] = (), **settings: Any) -> Machine:
        """A machine of that name, nothing running yet."""
        node = dataclasses.replace(self.base.node, port=self.free_port())
        here = dataclasses.replace(self.base, node=node, hosts=Hosts(name, DEAD_AFTER_S), **settings)
        self.machines[name] = Machine(here, self.folder / name, prefix)
        return self.machines[name]

    def until(self, true: Callable[[], Any], what: str, limit_s: float = 120.0) -> Any:
        """Wait until `true()` holds, and return it; fails with the logs."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if found := true():
                return found
            time.sleep(0.05)
        said = "\n".join(f"--- {name}\n{one.log()[-3000:]}" for name, one in self.machines.items())
        pytest.fail(f"not within {limit_s} s: {what}\n{said}")

    def listening(self, *names: str) -> None:
        """Wait until the receivers of these machines listen and know the database."""
        wanted = {f"{name}/receive/0" for name in names}
        self.until(lambda: wanted <= {one.executor for one in self.known()}, f"the receivers of {names} are up")

    def known(self) -> list[Any]:
        """The processes that said that they are alive."""
        with contextlib.suppress(Exception):
            return Others(self.ledger, queues.open_queues(self.ledger), DEAD_AFTER_S).known()
        return []

    def begun_by(self) -> set[str]:
        """Machines that have begun an attempt and not ended it."""
        with contextlib.suppress(Exception):
            return {one.split("/")[0] for one in queues.open_queues(self.ledger).begun_by()}
        return set()


@pytest.fixture
def site(tmp_path: Path, postgresql_url: str, tiny_model: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    base = Config(
        node=Node(data=tmp_path / "shared"),
        database=postgresql_url,
        receive=Receive(disk_reserve_bytes=0),
        settle=Settle(quiet_s=30.0, grace_s=1.0),
        model=str(tiny_model),
        device="cpu",
    )
    (tmp_path / "shared").mkdir()
    made = Site(tmp_path, base, Ledger(database_url(base)), free_port)
    yield made
    for machine in made.machines.values():
        machine.end()
    made.ledger.close()


class Balancer:
    """A TCP balancer: each connection goes to the next of the ports."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._ports[number % len(self._ports)]))
                number += 1
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


def call(port: int) -> Association:
    """An association of a scanner's."""
    ae = AE("SCANNER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4", list(LOSSLESS_TRANSFER_SYNTAXES[:2]))
    association = ae.associate("127.0.0.1", port, ae_title="SCTNODE")
    assert association.is_established
    return association


def store(association: Association, *paths: Path) -> None:
    """Every file is answered with Success."""
    for path in paths:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000


def test_a_series_that_a_balancer_splits_over_two_receivers_becomes_one_job(
    site: Site, thigh_series: list[Path], another_series: Callable[..., list[Path]]
) -> None:
    a, b = site.machine("a"), site.machine("b")
    for machine in (a, b):
        machine.start("receive")
    site.listening("a", "b")
    balancer = Balancer(a.config.node.port, b.config.node.port)
    open_one, other = call(balancer.port), call(balancer.port)
    store(open_one, *thigh_series[:6])
    store(other, *thigh_series[6:])
    other.release()
    time.sleep(4.0)
    assert site.ledger.jobs() == [], "the association to the other receiver is open"
    open_one.release()
    site.until(site.ledger.jobs, "the job")

    several = [another_series(seed) for seed in (11, 12, 13)]
    for series in several:
        first, second = call(balancer.port), call(balancer.port)
        for path in series:
            store((first, second)[series.index(path) % 2], path)
        first.release()
        second.release()
    site.until(lambda: len(site.ledger.jobs()) == 4 and not site.ledger.receiving(), "four jobs")
    time.sleep(2.5)
    jobs = site.ledger.jobs()
    assert [len(one.sop_instance_uids) for one in jobs] == [12] * 4
    assert [one.supersedes for one in jobs] == [None] * 4
    assert [len(site.ledger.events(one.job)) for one in jobs] == [1] * 4
    assert "late instances" not in a.log() + b.log()
    balancer.close()


# One machine is cut off


NETWORK = "198.51.100"  # RFC 5737: for examples, so nobody's


def ip(*words: str, check: bool = True) -> bool:
    """Run `ip`; -> whether it did."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode == 0


@pytest.fixture
def networks() -> Iterator[dict[str, str]]:
    """Two network namespaces, each with a link to this one: machine -> the address of this side."""
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (Debian package iproute2)")
    if os.geteuid() != 0 or not ip("netns", "add", f"sct{os.getpid()}a", check=False):
        pytest.skip("network namespaces are not permitted here: they need root and CAP_NET_ADMIN")
    ip("netns", "add", f"sct{os.getpid()}b")
    made = {}
    for number, name in ((0, "a"), (4, "b")):
        inside, link = f"sct{os.getpid()}{name}", f"s{os.getpid()}{name}"
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", inside)
        ip("address", "add", f"{NETWORK}.{number + 1}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", inside, "address", "add", f"{NETWORK}.{number + 2}/30", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", inside, "link", "set", device, "up")
        made[name] = f"{NETWORK}.{number + 1}"
    yield made
    for name in made:
        ip("netns", "delete", f"sct{os.getpid()}{name}", check=False)


def test_the_job_of_a_machine_that_is_cut_off_is_finished_by_another_and_nothing_is_doubled(
    site: Site,
    networks: dict[str, str],
    postgres: "Postgres",
    postgresql_url: str,
    thigh_series: list[Path],
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    postgres.admit(f"{NETWORK}.0/24")
    port = free_port()
    planning = Destination("planning", "ARCHIVE", "127.0.0.1", port)
    receiver = site.machine("r", destinations=(planning,))
    receiver.start("receive")
    for name, address in networks.items():
        url = postgresql_url.replace("127.0.0.1", address)
        there = dataclasses.replace(planning, host=address, timeout_s=5.0, retry_first_s=0.5, retry_max_s=2.0)
        prefix = ["ip", "netns", "exec", f"sct{os.getpid()}{name}"]
        site.machine(name, prefix, database=url, destinations=(there,)).start("synthesize", "deliver")
    site.listening("r")
    site.until(lambda: {"a/synthesize/0", "b/synthesize/0"} <= {one.executor for one in site.known()}, "both are up")
    site.until(lambda: min(one.silent_s for one in site.known()) < DEAD_AFTER_S, "they are alive")

    sending = call(receiver.config.node.port)
    with demo_archive.serving(tmp_path / "planning", "--bind", "0.0.0.0", port=port):
        store(sending, *thigh_series)
        sending.release()
        cut = site.until(lambda: site.begun_by() & set(networks), "one has begun").pop()
        ip("link", "set", f"s{os.getpid()}{cut}", "down")
        other = next(name for name in networks if name != cut)
        done = site.until(lambda: [one for one in site.ledger.jobs() if one.state is State.DELIVERED], "delivered")
        assert "host_taken_over" in site.machines[other].log()
        ip("link", "set", f"s{os.getpid()}{cut}", "up")
        site.until(lambda: {one.host for one in site.known() if one.silent_s < 6} >= set(networks), "it is back")

    made = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "shared" / "out" / done[0].job).glob("*.dcm")}
    assert {path.stem for path in (tmp_path / "planning").glob("*.dcm")} == made
    assert len(made) == len(thigh_series)
    facts = [one.event for one in site.ledger.events(done[0].job)]
    assert [facts.count(fact) for fact in ("synthesized", "accepted", "delivered")] == [1, 1, 1]
    assert [one.job for one in site.ledger.jobs()] == [done[0].job]
