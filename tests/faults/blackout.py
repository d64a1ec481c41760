"""Power failures of a node at work: nothing that was acknowledged is lost, and the node goes on. `make faults` runs it.

    python blackout.py --losses 200 --restarts 12 --seed 1

A node on SQLite with every process under the recorder takes series and sends the CTs on. Then, for moments drawn at
random, its folder is built as it may be found after a power failure then (power.py), and looked at: each acknowledged
instance is there and intact, the database is whole. From some of these folders the node is started again, the senders
send once more what they were not answered for, and everything must end as after any other fault (verdict.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaign import made_series, node_config
from fleet import Forked, Zygote
from peers import Planning, Sent, digest_of, free_port
from power import KEPT, Disk, Record, acknowledge, read_log, recorder
from verdict import Case

from dicomnode.config import load as config
from dicomnode.config.load import Config
from dicomnode.delivery.storage_scu import send
from dicomnode.errors import Damaged, Undelivered
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.spool.instance_file import sop_class_of_intact

LIMIT_S: Final = 180.0


@dataclass
class Options:
    """How much."""

    series: int
    losses: int
    restarts: int
    seed: int


@dataclass
class Recorded:
    """A node's work, call by call, and the peers it worked with."""

    folder: Path
    config: Config
    records: list[Record]
    sent: list[Sent]
    planning: Planning


def run(options: Options) -> dict[str, object]:
    """The recording, the failures, the restarts; -> the summary."""
    rng = random.Random(options.seed)
    with _folder() as folder:
        begun = time.monotonic()
        recorded = _record(folder, options, rng)
        moments = sorted(rng.sample(range(len(recorded.records)), min(options.losses, len(recorded.records))))
        again = set(rng.sample(moments, min(options.restarts, len(moments))))
        zygote, disk, played, complaints = Zygote(), Disk(recorded.config.node.data), 0, []
        try:
            for number, moment in enumerate(moments):
                for record in recorded.records[played:moment]:
                    disk.play(record)
                played, keep = moment, KEPT[number % len(KEPT)]
                found = folder / f"found-{moment}"
                disk.fail(found, keep, rng)
                told = [*_lost(disk, recorded, found)]
                if moment in again:
                    told += _goes_on(recorded, found, disk.at, zygote)
                complaints += [f"record {moment}, {keep} kept: {words}" for words in told]
                shutil.rmtree(found)
        finally:
            zygote.end()
        return {
            "seed": options.seed,
            "records": len(recorded.records),
            "syncs": sum(record.letter == "E" for record in recorded.records),
            "acknowledged": len(disk.acknowledged),
            "power failures": len(moments),
            "restarts": len(again),
            "seconds": round(time.monotonic() - begun),
            "load": os.getloadavg(),
            "complaints": complaints,
        }


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="blackout-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _record(folder: Path, options: Options, rng: random.Random) -> Recorded:
    """A node that takes series and sends on what it makes, until all is delivered."""
    planning = Planning("planning", folder / "planning")
    chosen = node_config(folder, [planning], "sqlite")
    (folder / "node.yaml").write_text(config.dump(chosen))
    log = folder / "log"
    watched = {"RECORDER_ROOT": str(chosen.node.data), "RECORDER_LOG": str(log)}
    zygote = Zygote(LD_PRELOAD=str(recorder(folder)), **watched)
    fleet = Forked(zygote, folder / "node.yaml", folder)
    planning.up()
    sent = [made_series(folder, number, rng) for number in range(1, options.series + 1)]
    try:
        fleet.start()
        for series in sent:
            _push(series, chosen, log)
        due = sum(len(series.files) for series in sent)
        _until(lambda: len(list(planning.folder.iterdir())) >= due, "all is delivered")
        time.sleep(2.0)
    finally:
        fleet.end()
        zygote.end()
        planning.down()
    return Recorded(folder, chosen, read_log(log), sent, planning)


def _push(series: Sent, chosen: Config, log: Path | None = None) -> None:
    """Send a series until all of it is acknowledged; each answer has its place in the log."""
    node = dataclasses.replace(Planning("node", Path()).destination(), port=chosen.node.port, ae_title="SCTNODE")
    deadline = time.monotonic() + LIMIT_S
    while not series.whole and time.monotonic() < deadline:
        try:
            paths = [path for uid, path in series.files.items() if uid not in series.acknowledged]
            send(paths, node, "SCANNER", lambda one: _note(series, one.sop_instance_uid, one.status, log))
        except Undelivered:
            time.sleep(0.2)


def _note(series: Sent, sop_uid: str, status: int, log: Path | None) -> None:
    if status == 0x0000:
        series.acknowledged.add(sop_uid)
        if log is not None:
            acknowledge(log, sop_uid)


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)


def _lost(disk: Disk, recorded: Recorded, found: Path) -> Iterator[str]:
    """What was acknowledged and is not there, or not whole; a database that is damaged."""
    files = {uid: (series.uid, path) for series in recorded.sent for uid, path in series.files.items()}
    for sop_uid in disk.acknowledged:
        series_uid, source = files[sop_uid]
        path = found / "in" / series_uid / f"{sop_uid}.dcm"
        if not path.exists():
            yield f"{sop_uid} was acknowledged and is not there"
            continue
        try:
            sop_class_of_intact(path)
        except Damaged as error:
            yield str(error)
        if digest_of(path) != digest_of(source):
            yield f"{sop_uid} was acknowledged and has other bytes"
    if (found / "node.sqlite").exists():
        yield from _unsound(found)


def _unsound(found: Path) -> Iterator[str]:
    """What SQLite says of a copy of the database."""
    with tempfile.TemporaryDirectory() as copy:
        for path in found.glob("node.sqlite*"):
            shutil.copy(path, copy)
        connection = sqlite3.connect(Path(copy) / "node.sqlite")
        try:
            said = connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.DatabaseError as error:
            said = [(str(error),)]
        finally:
            connection.close()
    if said != [("ok",)]:
        yield f"the database is damaged: {said[0][0]}"


def _goes_on(recorded: Recorded, found: Path, at: float, zygote: Zygote) -> list[str]:
    """Start the node from what was found; the planning system has what it had then; -> what did not end well."""
    folder = found.with_name("again")
    folder.mkdir()
    planning = Planning("planning", folder / "planning", recorded.planning.port)
    planning.folder.mkdir()
    for path in recorded.planning.folder.iterdir():
        if path.stat().st_mtime <= at:
            shutil.copy2(path, planning.folder)
    chosen = dataclasses.replace(recorded.config, node=dataclasses.replace(recorded.config.node, data=found))
    chosen = dataclasses.replace(chosen, node=dataclasses.replace(chosen.node, port=free_port()))
    (folder / "node.yaml").write_text(config.dump(chosen))
    fleet = Forked(zygote, folder / "node.yaml", folder)
    planning.up()
    try:
        fleet.start()
        sent = [Sent(series.uid, series.files) for series in recorded.sent]
        for series in sent:
            _push(series, chosen)
        _until((found / "node.sqlite").exists, "there is a database")
        ledger = Ledger(database_url(chosen))
        case = Case(found, ledger, sent, [planning])
        _until(case.finished, "all jobs have ended")
        complaints = case.complaints()
        ledger.close()
    except TimeoutError as error:
        complaints = [str(error)]
    finally:
        fleet.end()
        planning.down()
    shutil.rmtree(folder)
    return complaints


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the summary as JSON."""
    parser = argparse.ArgumentParser(prog="blackout.py", description="Power failures of a node at work.")
    parser.add_argument("--series", type=int, default=4)
    parser.add_argument("--losses", type=int, default=200, help="moments at which the power fails")
    parser.add_argument("--restarts", type=int, default=12, help="of these, how many the node is started from again")
    parser.add_argument("--seed", type=int, default=1)
    summary = run(Options(**vars(parser.parse_args(arguments))))
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if summary["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
