"""Malformed PDUs and DIMSE messages at the port of a running node.

    PYTHONPATH=tests/fuzz python tests/fuzz/attack.py FOLDER [--count 100000] [--seed 1] [--at-once 16] [--first 0]

starts `sct-node serve` with its data in FOLDER, records what dcmtk's echoscu, storescu and findscu say to it, and opens
COUNT connections on the loopback interface, each with something malformed (`malformed.attack_of`). After each thousand
a C-ECHO must be answered within a second; at the end every process must be the one that it was, each connection must
have been closed by the node, and an image must go through. FOLDER/fuzz.csv has memory, threads and descriptors of the
receiver over time. Exit status 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from malformed import ACCEPT, Attack, attack_of
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when the module is loaded

from dicomnode.config import load
from dicomnode.config.load import Config
from dicomnode.config.sections import Log, Metrics, Node, Receive, Settle, Web
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh

EACH = 1000
ECHO_LIMIT_S = 1.0
CLOSED_LIMIT_S = 15.0
LATE_DESCRIPTORS = 10
"""What the database's pool may still open after the warming up: five connections of two files each."""
LIMITS = Receive(
    disk_reserve_bytes=0, idle_timeout_s=2.0, request_timeout_s=1.0, max_object_bytes=1 << 22, max_associations=48
)


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_it_listens(port: int, limit_s: float = 120.0) -> None:
    """Returns when something listens there."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("the node does not listen")


@dataclass
class Running:
    """The node under attack."""

    port: int
    serve: subprocess.Popen[bytes]
    log: Path

    def roles(self) -> dict[str, int]:
        """Role -> process id of its process now."""
        found = {}
        for child in Path(f"/proc/{self.serve.pid}/task/{self.serve.pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            found[words[words.index("dicomnode.cli.main") + 1]] = int(child)
        return found


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Running]:
    """`sct-node serve` in FOLDER; what it is sent is ignored by rule, so that nothing is computed."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = Config(
        node=Node(port=free_port(), data=folder / "data"),
        web=Web(port=free_port()),
        metrics=Metrics(port=free_port()),
        receive=LIMITS,
        settle=Settle(quiet_s=5.0, grace_s=1.0),
        otherwise=None,
        log=Log("warning"),
    )
    path, log = folder / "node.yaml", folder / "node.log"
    path.write_text(load.dump(chosen))
    with log.open("wb") as said:
        command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(path)]
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        wait_until_it_listens(chosen.node.port)
        yield Running(chosen.node.port, process, log)
    finally:
        process.terminate()
        process.wait(30)


def program(name: str) -> str:
    """Debian's program of that name, not pynetdicom's."""
    places = [place for place in os.get_exec_path() if Path(place).resolve() != Path(sys.executable).parent.resolve()]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise SystemExit(f"{name} is not installed (Debian package dcmtk)")
    return found


def recorded(port: int, *command: str) -> bytes:
    """What a program says over one connection to the node; it is given the port of a relay as its last words' PORT."""
    said = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        words = [word.replace("PORT", str(relay.getsockname()[1])) for word in command]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        inner, _ = relay.accept()
        with inner, socket.create_connection(("127.0.0.1", port)) as outer:
            answers = threading.Thread(target=relayed, args=(outer, inner, bytearray()))
            answers.start()
            relayed(inner, outer, said)
            answers.join()
        process.wait(20)
    return bytes(said)


def relayed(source: socket.socket, target: socket.socket, keep: bytearray) -> None:
    """Pass on what comes, and keep it, until either side ends."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            keep += piece
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def recordings(port: int, folder: Path) -> list[bytes]:
    """What dcmtk says: an echo, three images, the same in another context, and a query that is refused."""
    grid = axial_grid((3, 16, 16), (6.0, 8.0, 8.0))
    paths = [str(path) for path in write_mr_series(thigh(grid).mr, folder / "series")]
    there = ["-aec", "SCTNODE", "127.0.0.1", "PORT"]
    store = program("storescu")
    return [
        recorded(port, program("echoscu"), *there),
        recorded(port, store, *there, *paths),
        recorded(port, store, "-xi", *there, paths[0]),
        recorded(port, program("findscu"), "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=*", *there),
    ]


def answer(connection: socket.socket) -> int:
    """The type of the next PDU, which is read to its end; 0 when there is none."""
    head = connection.recv(6, socket.MSG_WAITALL)
    if len(head) < 6:
        return 0
    connection.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)
    return head[0]


def closed_after_s(port: int, attack: Attack) -> float:
    """Make the attack; how long the node took to close the connection after the last byte."""
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        connection.settimeout(CLOSED_LIMIT_S)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            connection.sendall(attack.opening)
            if attack.rest and answer(connection) == ACCEPT:
                connection.sendall(attack.rest)
                begun = time.monotonic()
            if attack.ending == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return 0.0
            if attack.ending == "half-close":
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        return time.monotonic() - begun


def echo_s(port: int) -> float:
    """Seconds from connecting to a C-ECHO's answer; more than the limit when there is none."""
    ae = AE("WATCH")
    ae.add_requested_context(Verification)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    begun = time.monotonic()
    association = ae.associate("127.0.0.1", port)
    status = association.send_c_echo() if association.is_established else None
    took_s = time.monotonic() - begun
    if association.is_established:
        association.release()
    return took_s if status is not None and status.get("Status") == 0 else 99.0


def sizes(pid: int) -> tuple[int, int, int]:
    """Resident memory (kB), threads and file descriptors of a process."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return int(status["VmRSS"].split()[0]), int(status["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


@dataclass
class Report:
    """What was seen."""

    complaints: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    echoes_s: list[float] = field(default_factory=list)
    closed_s: dict[str, float] = field(default_factory=dict)

    def closed(self, number: int, attack: Attack, took_s: float) -> None:
        """An attack was made, and its connection closed after so long."""
        self.kinds[attack.kind] += 1
        self.closed_s[attack.kind] = max(took_s, self.closed_s.get(attack.kind, 0.0))
        if took_s >= CLOSED_LIMIT_S:
            self.complaints.append(f"attack {number} ({attack.kind}, {attack.ending}): not closed after {took_s:.1f} s")

    def echo(self, done: int, took_s: float) -> None:
        """A C-ECHO was answered after so long."""
        self.echoes_s.append(took_s)
        if took_s > ECHO_LIMIT_S:
            self.complaints.append(f"after {done} attacks: C-ECHO took {took_s:.2f} s")


def attacked(running: Running, said: Sequence[bytes], options: argparse.Namespace) -> Report:
    """Make every attack, a thousand after the other; look at the node after each thousand."""
    report, before = Report(), running.roles()
    with (options.folder / "fuzz.csv").open("w") as csv, ThreadPoolExecutor(options.at_once) as pool:
        csv.write("attacks,seconds,rss_kb,threads,descriptors,echo_s\n")
        begun = time.monotonic()
        for first in range(options.first, options.first + options.count, EACH):
            numbers = range(first, min(first + EACH, options.first + options.count))
            attacks = [attack_of(options.seed, number, said) for number in numbers]
            for number, attack, took_s in zip(
                numbers, attacks, pool.map(lambda one: closed_after_s(running.port, one), attacks), strict=True
            ):
                report.closed(number, attack, took_s)
            took_s = echo_s(running.port)
            report.echo(numbers.stop, took_s)
            if running.roles() != before:
                report.complaints.append(
                    f"after {numbers.stop} attacks: processes were {before}, are {running.roles()}"
                )
                before = running.roles()
            rss, threads, descriptors = sizes(before["receive"])
            csv.write(f"{numbers.stop},{time.monotonic() - begun:.0f},{rss},{threads},{descriptors},{took_s:.3f}\n")
            csv.flush()
    return report


def warm(running: Running, said: Sequence[bytes], options: argparse.Namespace) -> None:
    """Let the node do once what it does: wait for its database, load what it loads late."""
    for number in range(100):
        closed_after_s(running.port, attack_of(options.seed + 1, number, said))
    time.sleep(2 * LIMITS.idle_timeout_s)


def settled(running: Running, at_first: tuple[int, int, int], report: Report) -> tuple[int, int, int]:
    """The receiver's sizes when all connections have timed out; a complaint where threads or descriptors stayed."""
    deadline = time.monotonic() + 30
    pid = running.roles()["receive"]
    while sizes(pid)[1] > at_first[1] and time.monotonic() < deadline:
        time.sleep(0.5)
    now = sizes(pid)
    if now[1] > at_first[1] + 2 or now[2] > at_first[2] + LATE_DESCRIPTORS:
        report.complaints.append(f"threads and descriptors were {at_first[1:]}, are {now[1:]}")
    return now


def main() -> int:
    """Attack and report; 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with node(options.folder.absolute()) as running:
        said = recordings(running.port, options.folder)
        warm(running, said, options)
        at_first = sizes(running.roles()["receive"])
        report = attacked(running, said, options)
        now = settled(running, at_first, report)
        if recorded(running.port, *[program("echoscu"), "-aec", "SCTNODE", "127.0.0.1", "PORT"]) != said[0]:
            report.complaints.append("dcmtk's echo is not what it was")
    lines = [
        f"{options.count} attacks, seed {options.seed}: {dict(sorted(report.kinds.items()))}",
        f"longest until closed: { {kind: round(took, 1) for kind, took in sorted(report.closed_s.items())} }",
        f"C-ECHO after each {EACH}: longest {max(report.echoes_s):.3f} s",
        f"receiver (RSS kB, threads, descriptors): {at_first} before, {now} after",
        *(report.complaints or ["nothing was wrong"]),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
