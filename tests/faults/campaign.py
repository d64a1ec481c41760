"""Random faults at a real node, and what must hold afterwards (verdict.py). `make faults` runs it.

    python campaign.py --kills 250 --seed 4 --database postgresql --start forked

Series come from two scanners that send until they are answered, and go to two planning systems. Meanwhile processes of
the node get SIGKILL, half of the time at a random moment and half of the time just after something happened; the
planning systems are killed, refuse, abort, hang; PostgreSQL is stopped with `-m immediate`. Then all is left in peace,
jobs that are held are released as a person would, and everything is compared. The seed decides what is done; when it
happens is the machine's. Exit status 1 when anything was lost, doubled or left lying.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import tiny
from fleet import Fleet, Forked, Served, Zygote
from peers import Planning, Scanner, Sent, free_port, outage, sop_uid_of
from pydicom import dcmread
from verdict import UNFINISHED, Case

from dicomnode.cli import main as cli
from dicomnode.config import load as config
from dicomnode.config.load import Config
from dicomnode.config.sections import Log, Metrics, Node, Receive, Settle, Web
from dicomnode.errors import LedgerUnreachable
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.node.roles import ROLES

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

MOMENTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "receive": (
        ("receive", "association_accepted"),
        ("receive", "instance_stored"),
        ("receive", "series_received"),
        ("receive", "role_started"),
    ),
    "synthesize": (
        ("receive", "series_received"),
        ("synthesize", "series_synthesized"),
        ("synthesize", "role_started"),
    ),
    "deliver": (
        ("planning", "Association Received"),
        ("planning", "Received Store Request"),
        ("deliver", "series_delivered"),
        ("deliver", "delivery_postponed"),
    ),
}
"""Role -> whose words about what are a moment to kill it."""

WEIGHTS: Final = {"receive": 30, "synthesize": 20, "deliver": 30, "web": 5}
"""How often a role is chosen; the supervisor, where there is one, has 10."""

UNDER_WAY: Final = 12
"""Series and jobs on their way beyond which the scanners wait."""

STEP_S: Final = 0.01


@dataclass
class Options:
    """What is asked for."""

    kills: int
    seed: int
    database: str
    start: str
    minutes: float
    folder: Path | None = None


@dataclass
class Campaign:
    """One node under faults."""

    options: Options
    folder: Path
    config: Config
    fleet: Fleet
    ledger: Ledger
    scanners: list[Scanner]
    plannings: list[Planning]
    server: Postgres | None
    over: threading.Event = field(default_factory=threading.Event)
    restarts: int = 0
    strokes: Counter[str] = field(default_factory=Counter)

    def run(self) -> dict[str, object]:
        """Faults, peace, verdict; -> the summary."""
        begun = time.monotonic()
        for planning in self.plannings:
            planning.up()
        self.fleet.start()
        helpers = [*map(self._scan, self.scanners), *map(self._fail, self.plannings), self._crash_database]
        with ThreadPoolExecutor(len(helpers)) as threads:
            busy = [threads.submit(helper) for helper in helpers]
            try:
                self._strike(begun + 60 * self.options.minutes)
            finally:
                self.over.set()
            faults_s = time.monotonic() - begun
            while not all(one.done() for one in busy):
                self._pause(0.1)
        for one in busy:
            one.result()
        peaceful = self._make_peace()
        case = Case(self.config.node.data, self.ledger, self.sent(), self.plannings)
        complaints = [*peaceful, *case.complaints(), *(["nothing was sent"] if not self.sent() else [])]
        return {
            "seed": self.options.seed,
            "database": self.options.database,
            "started by": self.options.start,
            "SIGKILLs": sum(self.fleet.killed.values()),
            "by role": dict(self.fleet.killed),
            "strokes": dict(self.strokes),
            "outages": {one.name: one.outages for one in self.plannings},
            "database crashes": self.restarts,
            "unhandled errors": self._unhandled(),
            "associations": sum(one.attempts for one in self.scanners),
            **case.counts(),
            "seconds of faults": round(faults_s),
            "seconds in all": round(time.monotonic() - begun),
            "load": os.getloadavg(),
            "complaints": complaints,
        }

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.options.seed}/{purpose}")

    def sent(self) -> list[Sent]:
        """What the scanners have sent."""
        return [one for scanner in self.scanners for one in scanner.sent]

    # What is sent

    def _scan(self, scanner: Scanner) -> Callable[[], None]:
        """A scanner's day: series after series, as long as there are faults; the last one is finished."""
        first = 1000 * (1 + self.scanners.index(scanner))

        def day() -> None:
            for number in range(first, first + 1000):
                while self._busy() and not self.over.is_set():
                    self.over.wait(0.3)
                if self.over.is_set():
                    return
                scanner.send(made_series(self.folder, number, scanner.rng))

        return day

    def _busy(self) -> bool:
        try:
            jobs, receiving = self.ledger.jobs(), self.ledger.receiving()
        except LedgerUnreachable:
            return True
        return len(receiving) + sum(row.state in UNFINISHED and row.held is None for row in jobs) >= UNDER_WAY

    # What fails

    def _fail(self, planning: Planning) -> Callable[[], None]:
        rng = self._rng(planning.name)

        def days() -> None:
            while not self.over.wait(rng.uniform(1.0, 12.0)):
                outage(planning, rng, self.over.wait)

        return days

    def _crash_database(self) -> None:
        if self.server is None:
            return
        rng = self._rng("database")
        while not self.over.wait(rng.uniform(5.0, 25.0)):
            self.server.stop("immediate")
            self.restarts += 1
            self.over.wait(rng.uniform(0.0, 5.0))
            self.server.start()

    def _strike(self, deadline: float) -> None:
        """SIGKILLs until there were enough, or the time is over."""
        rng = self._rng("kills")
        while sum(self.fleet.killed.values()) < self.options.kills and time.monotonic() < deadline:
            roles = self._chosen(rng)
            if rng.random() < 0.5 and roles[0] in MOMENTS and len(roles) == 1:
                whose, words = rng.choice(MOMENTS[roles[0]])
                self._await_words(whose, words)
                self._pause(rng.choice((0.0, rng.uniform(0.0, 0.1))))
            else:
                self._pause(rng.uniform(0.0, 12.0 if isinstance(self.fleet, Served) else 1.5))
            if self.fleet.kill(roles, rng.choice((0.0, rng.uniform(0.0, 2.0)))):
                self.strokes["all" if len(roles) > 1 else roles[0]] += 1

    def _chosen(self, rng: random.Random) -> tuple[str, ...]:
        """Which roles are killed at once."""
        served = isinstance(self.fleet, Served)
        every = (*("serve",) * served, *ROLES)
        weights = [*(10,) * served, *(WEIGHTS[role] for role in ROLES)]
        return every if rng.random() < 0.1 else (rng.choices(every, weights)[0],)

    def _await_words(self, whose: str, words: str, limit_s: float = 3.0) -> None:
        """Until something is said that was not said before, or the time is over."""
        planning = {one.name: one for one in self.plannings}.get(whose)
        path = planning.log if planning else self.fleet.log(whose)
        deadline = time.monotonic() + limit_s
        at = path.stat().st_size if path.exists() else 0
        while time.monotonic() < deadline:
            self._pause(STEP_S)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(at)
                    if words.encode() in file.read():
                        return

    def _pause(self, seconds: float) -> None:
        """Wait, and start what has to be started meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            self.fleet.mend()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, STEP_S))

    def _unhandled(self) -> dict[str, int]:
        """How often a role ended by an error of its own, by role and error."""
        paths = {self.fleet.log(role) for role in ROLES}
        lines = [line for path in paths if path.exists() for line in path.read_text(errors="replace").splitlines()]
        told = [json.loads(line) for line in lines if '"unhandled error"' in line]
        return dict(Counter(f"{one['role']}: {one['error']} {one['where'][-1]}" for one in told))

    # Peace

    def _make_peace(self, limit_s: float = 120.0) -> list[str]:
        """No more faults; held jobs are released; -> a complaint when not all ends, and nothing happens for so long."""
        for planning in self.plannings:
            planning.up()
        case = Case(self.config.node.data, self.ledger, self.sent(), self.plannings)
        progress, deadline = (0, 0), time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self._pause(1.0)
            if case.progress() != progress:
                progress, deadline = case.progress(), time.monotonic() + limit_s
            if not case.finished():
                continue
            held = [row.job for row in self.ledger.jobs() if row.held is not None]
            if not held:
                return []
            self.strokes["released"] += len(held)
            for job in held:
                self._release(job)
        return [f"nothing happened for {limit_s:g} s, and not all has ended"]

    def _release(self, job: str) -> None:
        with redirect_stdout(sys.stderr):
            command = ["release", job, "--reason", "looked at", "--config", str(self.folder / "node.yaml")]
            assert cli.main(command) == 0, f"job {job} could not be released"


def made_series(folder: Path, number: int, rng: random.Random) -> Sent:
    """A series to be sent."""
    paths = tiny.write_series(folder / "made" / str(number), number, slices=rng.choice((5, 6, 8)))
    uid = str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)
    return Sent(uid, {sop_uid_of(path): path for path in paths})


@contextmanager
def campaign(options: Options) -> Iterator[Campaign]:
    """A node and its peers, prepared; all is stopped and, unless a folder was named, deleted afterwards."""
    with ExitStack() as ending:
        folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
        folder.mkdir(parents=True, exist_ok=True)
        if options.folder is None:
            ending.callback(shutil.rmtree, folder, ignore_errors=True)
        server = ending.enter_context(_postgres()) if options.database == "postgresql" else None
        plannings = [Planning(name, folder / name) for name in ("planning", "archive")]
        for planning in plannings:
            ending.callback(planning.down)
        chosen = node_config(folder, plannings, "sqlite" if server is None else server.new_database())
        (folder / "node.yaml").write_text(config.dump(chosen))
        ledger = Ledger(database_url(chosen))
        ending.callback(ledger.close)
        ledger.create()
        fleet = _fleet(options.start, folder, ending)
        ending.callback(fleet.end)
        titles = ("MR1", "MR2")
        scanners = [Scanner(title, chosen.node.port, random.Random(f"{options.seed}/{title}")) for title in titles]
        yield Campaign(options, folder, chosen, fleet, ledger, scanners, plannings, server)


def _fleet(start: str, folder: Path, ending: ExitStack) -> Fleet:
    """Who starts the processes."""
    if start == "serve":
        return Served(folder / "node.yaml", folder)
    zygote = Zygote()
    ending.callback(zygote.end)
    return Forked(zygote, folder / "node.yaml", folder)


def _postgres() -> AbstractContextManager[Postgres]:
    """A PostgreSQL server, as the other tests have it. Raises its Missing."""
    spec = importlib.util.spec_from_file_location("postgres", Path(__file__).parents[1] / "support" / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    running: AbstractContextManager[Postgres] = module.running()
    return running


def node_config(folder: Path, plannings: Sequence[Planning], database: str) -> Config:
    """A node that is quick to act and to try again."""
    model = tiny.write_model(folder / "model")
    (folder / "data").mkdir()
    return Config(
        node=Node(port=free_port(), data=folder / "data"),
        web=Web(port=free_port()),
        metrics=Metrics(port=free_port()),
        database=database,
        receive=Receive(disk_reserve_bytes=0, idle_timeout_s=10.0),
        settle=Settle(quiet_s=4.0, grace_s=1.0),
        model=str(model),
        device="cpu",
        destinations=tuple(one.destination() for one in plannings),
        log=Log(level="debug"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign and print its summary as JSON."""
    parser = argparse.ArgumentParser(prog="campaign.py", description="Random faults at a real node.")
    parser.add_argument("--kills", type=int, default=250, help="SIGKILLs to living processes")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000, help="decides what is done")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--start", choices=("forked", "serve"), default="forked", help="who starts killed processes")
    parser.add_argument("--minutes", type=float, default=60.0, help="the faults end after this time at the latest")
    parser.add_argument("--folder", type=Path, help="a new folder, kept; default: one that is deleted")
    options = Options(**vars(parser.parse_args(arguments)))
    sys.stderr.write(f"seed {options.seed}\n")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with campaign(options) as running:
        summary = running.run()
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if summary["complaints"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
