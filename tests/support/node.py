"""A whole node to test: a tiny untrained model of the true class, a phantom series, `sct-node serve` in processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
import tiny

from dicomnode import metrics
from dicomnode.cli import demo_archive
from dicomnode.config import load as config
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.rules import JobSettings
from dicomnode.config.sections import Metrics, Node, Receive, Settle, Web
from dicomnode.delivery.attempt import Deliveries
from dicomnode.delivery.storage_scu import send
from dicomnode.engine import executor
from dicomnode.engine.contract import Queues, together
from dicomnode.engine.queues import open_queues, prepare
from dicomnode.errors import NodeError
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import DeliveryRow, JobRow, Plan
from dicomnode.ledger.states import State
from dicomnode.spool.spool import Spool
from dicomnode.synthesis.attempt import options_of
from models.inference.weights import load_model
from pipeline.conversion import convert
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh
from pipeline.series.series import Series, read_instance

SLICES = 12


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with card and weights of a model that nobody trained."""
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def thigh_series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of an MR series of the phantom, 12 axial slices."""
    grid = axial_grid((SLICES, 64, 64), (6.0, 3.0, 3.0))
    return write_mr_series(thigh(grid).mr, tmp_path_factory.mktemp("thigh"))


@pytest.fixture
def another_series(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes other series of the phantom: `another_series(seed, slices=12)`."""

    def write(seed: int, slices: int = SLICES) -> list[Path]:
        grid = axial_grid((slices, 64, 64), (6.0, 3.0, 3.0))
        return write_mr_series(thigh(grid, seed=seed).mr, tmp_path / f"series-{seed}", seed=seed)

    return write


@dataclass
class Running:
    """`sct-node serve` in a session of processes of its own, and its ledger."""

    config: Config
    folder: Path
    ledger: Ledger
    process: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)
    seen_ticks: set[float] = field(default_factory=set)

    def start(self) -> None:
        """Start it and wait until its receiver listens."""
        path = self.folder / "node.yaml"
        path.write_text(config.dump(self.config))
        self.logs.append(self.folder / f"log-{len(self.logs)}")
        command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(path)]
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        self.until(self.answers, "the receiver listens")

    def answers(self) -> bool:
        """Whether the receiver of this start listens."""
        return "dicom_listening" in self.logs[-1].read_text()

    @property
    def itself(self) -> Destination:
        """The node as a sender sees it."""
        return Destination("node", self.config.node.ae_title, "127.0.0.1", self.config.node.port)

    def push(self, paths: Sequence[Path]) -> None:
        """Send files to it over one association, as a scanner does."""
        send(paths, self.itself, "SCANNER", lambda _: None)

    def kill(self) -> None:
        """SIGKILL to every process of the node at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """SIGTERM to `serve`; -> its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def end(self) -> None:
        """Nothing of it is left, however it was."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.ledger.close()

    def until(self, true: Callable[[], Any], what: str, limit_s: float = 90.0) -> Any:
        """Wait until `true()` holds, and return it; fails with the node's log."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            with contextlib.suppress(NodeError):
                found = true()
                if found:
                    return found
            time.sleep(0.02)
        pytest.fail(f"not within {limit_s} s: {what}\n{self.log()[-4000:]}")

    def job(self, *states: State, number: int = 1) -> JobRow:
        """The newest job once there are `number` of them and it is in one of the states."""

        def there() -> JobRow | None:
            jobs = self.ledger.jobs()
            return jobs[0] if len(jobs) == number and jobs[0].state in states else None

        found = self.until(there, f"job {number} is {' or '.join(states)}")
        assert isinstance(found, JobRow)
        return found

    def held(self) -> JobRow:
        """The newest job once it is held."""
        found = self.until(lambda: next((one for one in self.ledger.jobs() if one.held), None), "a job is held")
        assert isinstance(found, JobRow)
        return found

    def ticks(self, role: str) -> int:
        """How often a role has said that it is alive since this was first asked."""
        last = metrics.last_ticks(executor.metrics_folder(self.config)).get(role, 0.0)
        self.seen_ticks.add(last)
        return len(self.seen_ticks) - 1

    def log(self) -> str:
        """What it wrote to stderr, over all starts."""
        return "".join(path.read_text() for path in self.logs)


@pytest.fixture(scope="session")
def make_node(tiny_model: Path, free_port: Callable[[], int]) -> Callable[..., Running]:
    """Makes a node in a folder (not started): `make_node(folder, *destinations, **settings)`."""

    def make(folder: Path, *destinations: Destination, **settings: Any) -> Running:
        folder.mkdir()
        chosen = Config(
            node=Node(port=free_port(), data=folder / "data"),
            web=Web(port=free_port()),
            metrics=Metrics(port=free_port()),
            receive=Receive(disk_reserve_bytes=0),
            settle=Settle(quiet_s=8.0),
            model=str(tiny_model),
            device="cpu",
            destinations=destinations,
        )
        chosen = dataclasses.replace(chosen, **settings)
        chosen.node.data.mkdir(exist_ok=True)
        return Running(chosen, folder, Ledger(database_url(chosen)))

    return make


@pytest.fixture
def node(tmp_path: Path, make_node: Callable[..., Running]) -> Iterator[Callable[..., Running]]:
    """Makes a node (not started) for destinations and settings; ended after the test."""
    made: list[Running] = []

    def make(*destinations: Destination, **settings: Any) -> Running:
        made.append(make_node(tmp_path / f"node-{len(made)}", *destinations, **settings))
        return made[-1]

    yield make
    for running in made:
        running.end()


@dataclass(frozen=True)
class Disk:
    """A file system of 24 MiB that is full when a test wants it to be."""

    folder: Path

    def under(self, running: Running) -> Running:
        """The node, not started yet, with its data on this disk."""
        (self.folder / "data").mkdir()
        running.config = dataclasses.replace(
            running.config, node=dataclasses.replace(running.config.node, data=self.folder / "data")
        )
        running.ledger.close()
        running.ledger = Ledger(database_url(running.config))
        return running

    def fill(self) -> None:
        """Leave no room."""
        with (self.folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def clear(self) -> None:
        """Leave room again."""
        (self.folder / "ballast").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """Skips where no file system may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here (needs the rights of root)")
    yield Disk(folder)
    subprocess.run(["umount", "-l", folder], check=True)


@dataclass
class Planning:
    """A planning system to be: an archive in a process of its own, that may be up or down."""

    folder: Path
    port: int

    def up(self, *options: str) -> contextlib.AbstractContextManager[Destination]:
        """It answers while the context lasts; `options` are those of `dicomnode.cli.demo_archive`."""
        return demo_archive.serving(self.folder, *options, port=self.port)

    @property
    def destination(self) -> Destination:
        """As a node knows it, retried within a second or two."""
        where = Destination("planning", "ARCHIVE", "127.0.0.1", self.port)
        return dataclasses.replace(where, retry_first_s=0.5, retry_max_s=2.0, timeout_s=10.0)

    def instances(self) -> list[str]:
        """SOP Instance UIDs that it has."""
        return sorted(path.stem for path in self.folder.glob("*.dcm"))

    def series(self) -> set[str]:
        """SeriesInstanceUIDs that it has."""
        sets = (pydicom.dcmread(path, force=True) for path in self.folder.glob("*.dcm"))
        return {str(one.SeriesInstanceUID) for one in sets}


@pytest.fixture
def planning(tmp_path: Path, free_port: Callable[[], int]) -> Planning:
    """A planning system, down at first."""
    return Planning(tmp_path / "planning", free_port())


@pytest.fixture(scope="session")
def ct_files(tiny_model: Path, thigh_series: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CT series."""
    folder = tmp_path_factory.mktemp("ct")
    series = Series.of([read_instance(path) for path in thigh_series])
    convert(series, load_model(str(tiny_model), "cpu"), folder, options_of(JobSettings(), "cpu"))
    return folder


@dataclass
class Bench:
    """The parts of a deliver process, and a job SYNTHESIZED."""

    ledger: Ledger
    queues: Queues
    spool: Spool
    deliveries: Deliveries
    job: str

    def attempt(self, destination: str) -> DeliveryRow:
        """The attempt that is due; -> the delivery afterwards."""
        self.deliveries.attempt(self.job, destination, self.delivery(destination).attempt)
        return self.delivery(destination)

    def delivery(self, destination: str) -> DeliveryRow:
        return next(one for one in self.ledger.deliveries(self.job) if one.destination == destination)


@pytest.fixture
def bench(tmp_path: Path, ct_files: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench for destinations; `known` are those of the job, by default the same."""
    made: list[Bench] = []

    def make(*destinations: Destination, known: tuple[str, ...] | None = None) -> Bench:
        config = Config(node=Node(data=tmp_path / "data"), destinations=destinations)
        spool, ledger = Spool(config.node.data), Ledger(database_url(config))
        ledger.create()
        prepare(ledger)
        queues = open_queues(ledger)
        ledger.arrived("1.2", "MR", 12, time.time())
        job, _ = ledger.received("1.2", ["1"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)
        spool.publish(job, lambda into: shutil.copytree(ct_files, into, dirs_exist_ok=True))
        names = known if known is not None else tuple(one.name for one in destinations)
        sending = together(queues.deliver(job, name, 1) for name in names)
        ledger.synthesized(job, "1.3", 12, names, None, sending)
        made.append(Bench(ledger, queues, spool, Deliveries(config, ledger, queues, spool), job))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()
