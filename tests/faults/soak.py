"""A long day: associations, bare TCP connects, instances by the thousand; does any process grow? `make soak` runs it.

    python soak.py --associations 10000 --connects 10000 --instances 100000 --minutes 40 --csv soak.csv

The node runs as `sct-node serve`. Each association is a storescu of dcmtk with a series of its own, four at a time; a
rule ignores most series, one in CONVERTED_EACH is converted and sent on. Between them come bare connects, as from load
balancers: closed, reset, or silent for a moment. Every SAMPLE_S seconds what each process holds goes to a CSV file.

Flat means: from the second quarter of the run to the last the median of threads, sockets and file descriptors grows by
no more than MORE, and that of resident memory by no more than MEMORY_MORE.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import proc
import tiny
from fleet import Served
from peers import Planning, acknowledged_in, dcmtk, free_port
from pydicom import dcmread

from dicomnode.config.load import AS_CONFIGURED, Config, Rule, dump
from dicomnode.config.rule_conditions import When
from dicomnode.config.sections import Metrics, Node, Receive, Settle, Web

SENDERS: Final = 4
CONVERTED_EACH: Final = 50
SAMPLE_S: Final = 5.0
MORE: Final = 3.0
MEMORY_MORE: Final = 0.05


@dataclass
class Options:
    """How much."""

    associations: int
    connects: int
    instances: int
    minutes: float
    csv: Path


@dataclass
class Template:
    """A series whose UIDs can be changed in the bytes: making it anew would cost more than sending it."""

    files: list[bytes]
    series_uid: str
    sop_uids: list[str]

    @classmethod
    def of(cls, folder: Path, slices: int, seed: int = 1) -> Template:
        """Of a phantom series, written to the folder."""
        paths = tiny.write_series(folder, seed, slices=slices)
        headers = [dcmread(path, stop_before_pixels=True) for path in paths]
        uids = [str(one.SOPInstanceUID) for one in headers]
        return cls([path.read_bytes() for path in paths], str(headers[0].SeriesInstanceUID), uids)

    def write(self, folder: Path, number: int) -> list[Path]:
        """The series of that number; UIDs keep their length."""
        folder.mkdir()
        paths: list[Path] = []
        for index, (whole, sop_uid) in enumerate(zip(self.files, self.sop_uids, strict=True)):
            changed = whole.replace(self.series_uid.encode(), _renumbered(self.series_uid, number, 99).encode())
            changed = changed.replace(sop_uid.encode(), _renumbered(sop_uid, number, index).encode())
            paths.append(folder / f"{index}.dcm")
            paths[-1].write_bytes(changed)
        return paths


def _renumbered(uid: str, number: int, index: int) -> str:
    """A UID of the same length that ends in both numbers."""
    return f"{uid[:-9]}1{number:06d}{index:02d}"


@dataclass
class Day:
    """What has been done so far; counted by several threads."""

    begun: float = field(default_factory=time.monotonic)
    associations: int = 0
    connects: int = 0
    acknowledged: int = 0
    refused_connects: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, **more: int) -> None:
        """Add to the counts."""
        with self.lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True)
class Sample:
    """What one process held at one moment of the day."""

    seconds: float
    role: str
    pid: int
    acknowledged: int
    load: float
    resident_bytes: int
    threads: int
    descriptors: int
    sockets: int
    cpu_s: float


def run(options: Options) -> dict[str, object]:
    """The whole day; -> the summary."""
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with _node() as (folder, chosen, fleet, planning):
        day = Day()
        template = Template.of(folder / "template", options.instances // options.associations)
        samples: list[Sample] = []
        with ThreadPoolExecutor(SENDERS + 2) as threads:
            sampling = threads.submit(_sample, fleet, day, samples, options.csv)
            probing = threads.submit(_probe, chosen.node.port, options, day)
            send = functools.partial(_send, template, folder, chosen.node.port, day)
            sending = [threads.submit(send, number) for number in range(options.associations)]
            try:
                _await_end(day, sending, options)
            finally:
                day.over.set()
            for one in (probing, sampling, *sending):
                if not one.cancelled():
                    one.result()
        kept = sum(1 for _ in (chosen.node.data / "in").glob("*/*.dcm"))
        return _summary(day, samples, kept, len(list(planning.folder.iterdir())))


@contextmanager
def _node() -> Iterator[tuple[Path, Config, Served, Planning]]:
    """A node with all its roles, and a planning system."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    planning = Planning("planning", folder / "planning")
    (folder / "data").mkdir()
    chosen = Config(
        node=Node(port=free_port(), data=folder / "data"),
        web=Web(port=free_port()),
        metrics=Metrics(port=free_port()),
        receive=Receive(disk_reserve_bytes=0),
        settle=Settle(quiet_s=5.0, grace_s=1.0),
        model=str(tiny.write_model(folder / "model")),
        device="cpu",
        destinations=(planning.destination(),),
        rules=(Rule("some", When.of({"CallingAE": "CONVERT"}, "rules[0].when"), AS_CONFIGURED),),
        otherwise=None,
    )
    (folder / "node.yaml").write_text(dump(chosen))
    fleet = Served(folder / "node.yaml", folder)
    try:
        planning.up()
        fleet.start()
        await_answer(chosen.node.port)
        yield folder, chosen, fleet, planning
    finally:
        fleet.end()
        planning.down()
        shutil.rmtree(folder, ignore_errors=True)


def await_answer(port: int, limit_s: float = 120.0) -> None:
    """Until the node accepts connections. Raises TimeoutError."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the node does not listen")


def _send(template: Template, folder: Path, port: int, day: Day, number: int) -> None:
    """One association with a series of its own."""
    if day.over.is_set():
        return
    paths = template.write(folder / f"series-{number}", number)
    title = "CONVERT" if number % CONVERTED_EACH == 0 else "SCANNER"
    command = [dcmtk("storescu"), "-v", "-aet", title, "127.0.0.1", str(port), *map(str, paths)]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    day.count(associations=1, acknowledged=len(acknowledged_in(said)))
    shutil.rmtree(paths[0].parent)


def _probe(port: int, options: Options, day: Day) -> None:
    """Bare connects, spread over the associations: closed at once, reset, or silent for a moment."""
    while not day.over.is_set():
        due = options.connects * (day.associations + 1) // options.associations
        if day.connects >= min(due, options.connects):
            day.over.wait(0.05)
            continue
        with socket.socket() as bare:
            bare.settimeout(10.0)
            day.count(connects=1, refused_connects=int(bare.connect_ex(("127.0.0.1", port)) != 0))
            if day.connects % 3 == 1:
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif day.connects % 3 == 2:
                time.sleep(0.02)


def _sample(fleet: Served, day: Day, samples: list[Sample], table: Path) -> None:
    """What each process holds, now and then, into the table."""
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([one.name for one in dataclasses.fields(Sample)])
        while not day.over.wait(SAMPLE_S):
            for role, pid in fleet.processes().items():
                try:
                    held = proc.holding(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                at = round(time.monotonic() - day.begun, 1)
                load = round(os.getloadavg()[0], 2)
                sample = Sample(at, role, pid, day.acknowledged, load, **dataclasses.asdict(held))
                samples.append(sample)
                rows.writerow(dataclasses.astuple(sample))
            file.flush()


def _await_end(day: Day, sending: Sequence[object], options: Options) -> None:
    """Until all was sent, or the time is over; half a minute of peace belongs to it."""
    deadline = day.begun + 60 * options.minutes
    while day.associations < len(sending) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(min(30.0, options.minutes * 6))


def _summary(day: Day, samples: Sequence[Sample], kept: int, delivered: int) -> dict[str, object]:
    """Counts, growth of each process, and the judgement."""
    by_role: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_role[sample.role].append(sample)
    growth = {role: growth_of(rows) for role, rows in by_role.items()}
    pids = {role: len({row.pid for row in rows}) for role, rows in by_role.items()}
    complaints = [f"{role}: {what} grow" for role, grown in growth.items() for what in grown["not flat"]]
    complaints += [f"{role} was started {count} times" for role, count in pids.items() if count > 1]
    if kept != day.acknowledged:
        complaints.append(f"{day.acknowledged} instances were acknowledged, {kept} are there")
    return {
        "associations": day.associations,
        "bare connects": day.connects,
        "bare connects refused": day.refused_connects,
        "instances acknowledged": day.acknowledged,
        "instances kept": kept,
        "instances delivered": delivered,
        "minutes": round((time.monotonic() - day.begun) / 60, 1),
        "load": [min(row.load for row in samples), max(row.load for row in samples)],
        "growth": growth,
        "complaints": complaints,
    }


def growth_of(rows: Sequence[Sample]) -> dict[str, list[object]]:
    """Of one process: median of the second and of the last quarter, slope by 1000 instances; what is not flat."""
    quarter = max(1, len(rows) // 4)
    early, late = rows[quarter : 2 * quarter] or rows, rows[-quarter:]
    grown: dict[str, list[object]] = {"not flat": []}
    for what in ("resident_bytes", "threads", "descriptors", "sockets"):
        before, after = (statistics.median(getattr(row, what) for row in part) for part in (early, late))
        seen = rows[quarter:] or rows
        varied = len({row.acknowledged for row in seen}) > 1
        pairs = [row.acknowledged / 1000 for row in seen], [getattr(row, what) for row in seen]
        slope = statistics.linear_regression(*pairs).slope if varied else 0.0
        grown[what] = [before, after, round(slope, 4)]
        allowed = MEMORY_MORE * before if what == "resident_bytes" else MORE
        if after - before > allowed:
            grown["not flat"].append(what)
    return grown


def options(arguments: Sequence[str] | None = None) -> Options:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="soak.py", description="Does any process of the node grow?")
    parser.add_argument("--associations", type=int, default=10_000)
    parser.add_argument("--connects", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=40.0, help="nothing more is sent after this time")
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"), help="the table of samples")
    return Options(**vars(parser.parse_args(arguments)))


def main() -> int:
    """Run one day and print its summary as JSON."""
    summary = run(options())
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if summary["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
