"""Who speaks with the node: scanners that send until they are answered, and planning systems that fail in many ways.

Both are dcmtk's storescu and storescp: peers that we did not write, whose start costs little.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info

from dicomnode.config.peers import Destination
from dicomnode.delivery.storage_scu import send
from dicomnode.errors import Undelivered

TIMEOUT_S: Final = 10


class NoDcmtk(Exception):
    """dcmtk is not installed."""


def dcmtk(name: str) -> str:
    """The path of one of its programs; pynetdicom installs some of the same name beside Python. Raises NoDcmtk."""
    ours = Path(sys.executable).parent.resolve()
    places = [place for place in os.get_exec_path() if Path(place).resolve() != ours]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise NoDcmtk(f"{name} is not installed (Debian package dcmtk)")
    return found


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def data_set_of(path: Path) -> bytes:
    """The bytes after the File Meta Information (PS3.10 7.1)."""
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def digest_of(path: Path) -> str:
    """SHA-256 of a file's data set."""
    return hashlib.sha256(data_set_of(path)).hexdigest()


def sop_uid_of(path: Path) -> str:
    """Media Storage SOP Instance UID."""
    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)


# Scanners


@dataclass
class Sent:
    """One series that a scanner sends: its files, and which of them were acknowledged with Success."""

    uid: str
    files: dict[str, Path]
    acknowledged: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Every instance was acknowledged."""
        return self.acknowledged >= self.files.keys()


@dataclass
class Scanner:
    """Sends series, piece by piece, again and again until each instance was answered with Success."""

    ae_title: str
    port: int
    rng: random.Random
    sent: list[Sent] = field(default_factory=list)
    attempts: int = 0

    def send(self, series: Sent, limit_s: float = 300.0) -> None:
        """Until all of it was acknowledged, or the time is over, which the verdict will tell."""
        self.sent.append(series)
        deadline = time.monotonic() + limit_s
        while not series.whole and time.monotonic() < deadline:
            missing = sorted(series.files.keys() - series.acknowledged)
            again = self.rng.sample(sorted(series.acknowledged), min(len(series.acknowledged), self.rng.choice((0, 1))))
            piece = missing[: self.rng.choice((len(missing), len(missing), len(missing), 1, 3))]
            how = self._by_storescu if self.rng.random() < 0.8 else self._by_ourselves
            series.acknowledged.update(how([series.files[uid] for uid in [*again, *piece]]))
            self.attempts += 1
            if not series.whole:
                time.sleep(self.rng.uniform(0.05, 0.8))

    def _by_storescu(self, paths: Sequence[Path]) -> list[str]:
        """By dcmtk; -> SOP Instance UIDs that were answered with Success."""
        limits = ["-to", str(TIMEOUT_S), "-ta", str(TIMEOUT_S), "-td", str(TIMEOUT_S)]
        called = ["-aet", self.ae_title, "127.0.0.1", str(self.port)]
        said = subprocess.run(
            [dcmtk("storescu"), "-v", *limits, *called, *map(str, paths)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        ).stdout
        return [sop_uid_of(path) for path in acknowledged_in(said)]

    def _by_ourselves(self, paths: Sequence[Path]) -> list[str]:
        """By the node's own SCU."""
        node = Destination("node", "SCTNODE", "127.0.0.1", self.port, timeout_s=TIMEOUT_S)
        done: list[str] = []
        with contextlib.suppress(Undelivered):
            send(paths, node, self.ae_title, lambda one: done.append(one.sop_instance_uid) if not one.status else None)
        return done


def acknowledged_in(said: str) -> list[Path]:
    """The files that storescu -v says were answered with Success, in order."""
    done: list[Path] = []
    current: Path | None = None
    for line in said.splitlines():
        if line.startswith("I: Sending file: "):
            current = Path(line.removeprefix("I: Sending file: "))
        elif line.startswith("I: Received Store Response (Success)") and current is not None:
            done.append(current)
            current = None
    return done


# Planning systems

MANNERS: Final[dict[str, tuple[str, ...]]] = {
    "well": (),
    "refusing": ("--refuse",),
    "deaf": ("--abort-after",),
    "rude": ("--abort-during",),
    "slow": ("--sleep-after", "1"),
}
"""How storescp may behave: `deaf` keeps an instance and aborts without an answer, `rude` aborts within it."""


@dataclass
class Planning:
    """A planning system: dcmtk's storescp, that writes what it gets byte for byte into a folder."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    outages: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def destination(self) -> Destination:
        """As the node knows it."""
        where = Destination(self.name, self.name.upper(), "127.0.0.1", self.port)
        return dataclasses.replace(where, timeout_s=4.0, retry_first_s=0.3, retry_max_s=2.0)

    def up(self, manner: str = "well") -> None:
        """Start it again with these manners."""
        self.down()
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["-v", "--fork", "+B", "-od", str(self.folder), "-aet", self.name.upper(), "-ta", "5", "-td", "5"]
        command = [dcmtk("storescp"), *options, *MANNERS[manner], str(self.port)]
        with self.log.open("ab") as log:
            quick = os.environ | {"TCP_NODELAY": "1"}  # without it dcmtk's answers wait for Nagle's algorithm
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=quick, start_new_session=True)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder.with_suffix(".log")

    def down(self) -> None:
        """SIGKILL, with the children that serve associations."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)
            self.process = None

    def hang(self) -> None:
        """It takes connections and says nothing more."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def instances(self) -> dict[str, str]:
        """SOP Instance UID -> digest of the data set, of all it has."""
        return {sop_uid_of(path): digest_of(path) for path in self.folder.iterdir() if path.stat().st_size > 0}


def outage(planning: Planning, rng: random.Random, wait: Callable[[float], object]) -> None:
    """One outage: killed, refusing, aborting, slow or hanging for some seconds; afterwards it is well."""
    kind = rng.choice(("down", "hanging", *(manner for manner in MANNERS if manner != "well")))
    planning.outages[kind] = planning.outages.get(kind, 0) + 1
    if kind == "hanging":
        planning.hang()
    elif kind == "down":
        planning.down()
    else:
        planning.up(kind)
    wait(rng.uniform(0.3, 6.0))
    planning.wake()
    if kind != "hanging":
        planning.up()
