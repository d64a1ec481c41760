"""The demo: a scanner's stand-in, the node and a planning system's stand-in on this machine, in one command.

`demo` starts an embedded destination (`dicomnode.cli.demo_archive`) and the node (`sct-node serve`), each in processes
of its own and on free ports of the loopback interface, makes the MR series of an analytic thigh (or takes the user's),
pushes it by C-STORE, waits until the CT series is at the destination, and shows it: a table, and a picture beside the
node's files. Everything it started is stopped at the end, whatever the end is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import yaml

from dicomnode.config.load import Config, load
from dicomnode.config.peers import Destination
from dicomnode.delivery.storage_scu import send
from dicomnode.errors import LedgerUnreachable, NodeError
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import JobEvent, State
from dicomnode.node.check import missing
from pipeline.errors import PipelineError
from pipeline.phantom.comparison import picture, read_ct, tissue_errors, truth
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import oblique_grid, thigh
from pipeline.series.series import Series, only_series, read_series
from pipeline.volume.volume import read_volume

SCANNER: Final = "DEMOSCANNER"
DESTINATION: Final = "DEMOTPS"

START_S: Final = 180.0
"""Time limit for the node to be ready; the first start of torch from a cold disk is slow."""

CONVERT_S: Final = 3600.0
"""Time limit for the CT series; a large head on a slow CPU takes minutes."""

STORE_S: Final = 300.0
"""Time limit for the answer to each C-STORE; a disk that is busy with something else syncs slowly."""

STOP_S: Final = 20.0

Found = TypeVar("Found")


class DemoFailed(Exception):
    """The demo cannot go on; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Journey:
    """What is known when the CT has arrived: its files, the job, times of its events (s since pushing began)."""

    series: Series
    job: JobRow
    ct: tuple[Path, ...]
    pushed_s: float
    arrived_s: float
    steps_s: tuple[tuple[str, float], ...]


class ProgressLines:
    """Lines of progress, each with the seconds since the start; on a terminal the last one is rewritten."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        print(f"\r{self._stamp()} {text}\033[K" if self._terminal else f"{self._stamp()} {text}", flush=True)

    def wait(self, text: str, look: Callable[[], Found | None], limit_s: float) -> Found:
        """Call `look` until it finds something, and show `text` meanwhile. Raises DemoFailed after `limit_s`."""
        began = printed = time.monotonic()
        self._alive(text)
        while (found := look()) is None:
            now = time.monotonic()
            if now - began > limit_s:
                raise DemoFailed(f"gave up after {limit_s:.0f} s of: {text}")
            if self._terminal or now - printed > 10:
                self._alive(text)
                printed = now
            time.sleep(0.25)
        return found

    def _alive(self, text: str) -> None:
        """Print a line that the next one replaces on a terminal."""
        print(f"\r{self._stamp()} {text} ...\033[K" if self._terminal else f"{self._stamp()} {text} ...", end="")
        print("" if self._terminal else "\n", end="", flush=True)

    def _stamp(self) -> str:
        """Return the seconds since the start, as `[  12.3 s]`."""
        return f"[{time.monotonic() - self._start:6.1f} s]"


def demo(input: Path | None, out: Path) -> int:  # noqa: A002
    """Run the demo with the series in `input`, or with the phantom; return 0, or 1 when no CT series arrived.

    Everything is kept in a new folder below `out`: the MR and CT files, the node's own folder, its log and the picture.
    """
    folder = out.absolute() / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    progress = ProgressLines()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        journey = run_journey(input, folder, progress)
        show_journey(journey, folder, phantom=input is None)
    except (DemoFailed, NodeError, PipelineError) as error:
        print(f"\nThe demo failed: {error}\nWhat the node said is in {folder / 'node.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped, and everything that was started with it.", file=sys.stderr)
        return 130
    return 0


def run_journey(given: Path | None, folder: Path, progress: ProgressLines) -> Journey:
    """Start everything, push the series, wait for the CT, stop everything. Raises DemoFailed."""
    series = phantom_series(folder / "mr") if given is None else only_series(read_series(given))
    size = sum(instance.path.stat().st_size for instance in series.instances) / 1e6
    whose = "the phantom" if given is None else given
    progress.say(f"an MR series of {len(series.instances)} files, {size:.1f} MB ({whose})")
    with contextlib.ExitStack() as stack:
        log = folder / "archive.log"
        arguments = [str(folder / "ct"), "--port", "0", "--ae-title", DESTINATION]
        archive = stack.enter_context(_process("dicomnode.cli.demo_archive", arguments, log))

        def listening() -> int | None:
            """Return the port on which the destination listens, once it does."""
            _alive(archive, log)
            lines = [line for line in log.read_text().splitlines() if line.startswith("listening on ")]
            return int(lines[0].rpartition(":")[2]) if lines else None

        port = progress.wait("starting the destination", listening, START_S)
        config, file = write_configuration(folder, port, anatomy_check="hold" if given is None else "warn")
        arguments = ["serve", "--config", str(file)]
        node = stack.enter_context(_process("dicomnode.cli.main", arguments, folder / "node.log"))

        def ready() -> bool | None:
            """Return True once the node is ready."""
            _alive(node, folder / "node.log")
            return True if missing(config) is None else None

        progress.wait("starting the node", ready, START_S)
        progress.say(f"the node is ready; its jobs are on http://{config.web.bind}:{config.web.port}/")
        return push_and_wait(series, config, node, folder, progress)


def phantom_series(into: Path) -> Series:
    """Write the MR series of the thigh: planes oblique by 12 and 8 degrees (PS3.3 C.7.6.2), files in no order."""
    x, y = np.deg2rad(12), np.deg2rad(8)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    grid = oblique_grid((36, 192, 192), (3.3, 1.0, 1.0), about_x @ about_y)
    return only_series(read_series(write_mr_series(thigh(grid, seed=1).mr, into, seed=1, shuffled=True)))


def write_configuration(folder: Path, archive_port: int, anatomy_check: str) -> tuple[Config, Path]:
    """Write a configuration of free ports and one destination; return what it says, and its file."""
    to = {"name": "demo", "ae_title": DESTINATION, "host": "127.0.0.1", "port": archive_port, "retry_first_s": 1.0}
    values = {
        "node": {"port": _free_port(), "data": str(folder / "node")},
        "web": {"port": _free_port()},
        "metrics": {"port": _free_port()},
        "receive": {"disk_reserve_bytes": 0},
        "anatomy_check": anatomy_check,
        "destinations": [to],
    }
    file = folder / "node.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return load(file), file


def _free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _process(module: str, arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of ours as a process, in a session of its own so that Ctrl-C reaches only the demo.

    It is ended by SIGTERM; after `STOP_S`, it and what it started by SIGKILL.
    """
    with log.open("wb") as written:
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, stdout=written, stderr=written, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _alive(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise DemoFailed, with the end of its log, when a process has ended."""
    if process.poll() is not None:
        tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-8:])
        raise DemoFailed(f"a process ended with status {process.returncode}; the end of {log.name} is\n    {tail}")


def push_and_wait(
    series: Series, config: Config, node: subprocess.Popen[bytes], folder: Path, progress: ProgressLines
) -> Journey:
    """Push the series by C-STORE (PS3.4 B.2) and wait until its CT is at the destination.

    Raises:
        DemoFailed: the node ended, or the series was rejected or held; the sentence is the job's own reason.
    """
    began = time.time()
    to = Destination("node", config.node.ae_title, "127.0.0.1", config.node.port, timeout_s=STORE_S)
    receipts = send([instance.path for instance in series.instances], to, SCANNER, lambda _: None)
    pushed_s = time.time() - began
    progress.say(f"pushed {len(receipts)} instances by C-STORE in {pushed_s:.1f} s")
    ledger = Ledger(database_url(config))
    seen: set[str] = set()

    def ended() -> JobRow | None:
        """Return the job once nothing more will happen by itself; print each new state once."""
        _alive(node, folder / "node.log")
        try:
            job = ledger.job_of(series.series_instance_uid)
        except LedgerUnreachable:
            return None
        if job is not None and job.state not in seen:
            seen.add(job.state)
            progress.say(f"{job.state}: {STATE_WORDS[job.state]}")
        return job if job is not None and (job.state in (State.DELIVERED, State.REJECTED) or job.held) else None

    try:
        job = progress.wait("waiting for the CT series", ended, CONVERT_S)
        steps = [(event.event, event.at.timestamp() - began) for event in ledger.events(job.job)]
    finally:
        ledger.close()
    if job.state is State.REJECTED:
        raise DemoFailed(f"the series was rejected, {job.reason_code}: {job.reason_sentence}")
    if job.held:
        where = f"; the CT is in {folder / 'node' / 'out' / job.job}" if job.state is State.SYNTHESIZED else ""
        raise DemoFailed(f"the job is held for a person, {job.reason_code}: {job.held}{where}")
    ct = tuple(sorted((folder / "ct").rglob("*.dcm")))
    return Journey(series, job, ct, pushed_s, time.time() - began, tuple(steps))


STATE_WORDS: Final = {
    State.RECEIVED: "the series is complete; the CT is being computed",
    State.SYNTHESIZED: "the CT series is on disk; it is being sent",
    State.DELIVERED: "the destination has every instance",
    State.REJECTED: "there will be no CT of this series",
}


def show_journey(journey: Journey, folder: Path, *, phantom: bool) -> None:
    """Print what came, what went, the times and, of the phantom, HU against the truth; draw the picture."""
    mr, ct = read_volume(journey.series), read_ct(journey.ct)
    known = truth(ct, mr.get_geometry()) if phantom else None
    tilt = np.rad2deg(np.arccos(np.clip(np.abs(mr.direction).max(axis=0).min(), -1, 1)))
    print("\nWhat came  ", f"{len(journey.series.instances)} MR instances: {_grid_text(mr.shape, mr.spacing)};")
    planes = "along the patient's axes" if tilt < 0.5 else f"oblique by up to {tilt:.0f} degrees"
    print("           ", f"planes {planes}; pushed by {SCANNER} in {journey.pushed_s:.1f} s")
    print("What went  ", f"{len(journey.ct)} CT instances to {DESTINATION}: {_grid_text(ct.shape, ct.spacing)}; axial")
    print("           ", f"series {journey.job.ct_series_uid}")
    print("Model      ", f"{journey.job.model}, weights {journey.job.model_digest[:12]}")
    words = {JobEvent.SETTLED: "the series was complete", JobEvent.SYNTHESIZED: "the CT series was on disk"}
    steps = [(words[JobEvent(event)], at_s) for event, at_s in journey.steps_s if event in words]
    print("Times      ", f"{journey.pushed_s:6.1f} s  the MR series was at the node")
    for step, at_s in (*steps, ("the CT series was at the destination", journey.arrived_s)):
        print("           ", f"{at_s:6.1f} s  {step}")
    if known is not None:
        print("\nTissue           true HU   sCT HU       SD      MAE    voxels")
        for row in tissue_errors(ct, known, mr.get_geometry()):
            figures = f"{row.true_hu:8.0f} {row.mean_hu:8.0f} {row.sd_hu:8.0f} {row.mae_hu:8.0f}"
            print(f"{row.name:<15} {figures} {row.voxels:9d}")
    path = folder / "picture.png"
    picture(mr, ct, known, path)
    print(f"\nPicture    {path}\nFiles      {folder}\nResearch, not for clinical use.")


def _grid_text(shape: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Write a grid as `36 x 192 x 192 voxels of 3.30 x 1.00 x 1.00 mm`."""
    sizes = " x ".join(str(size) for size in shape)
    return f"{sizes} voxels of {' x '.join(f'{step:.2f}' for step in spacing_mm)} mm (slice, row, column)"
