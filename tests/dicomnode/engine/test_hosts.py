"""Processes on one PostgreSQL database: who may say of whom that it is dead, and what comes of its work."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.cli import main
from dicomnode.config.load import Config
from dicomnode.config.peers import Destination
from dicomnode.config.sections import Hosts as Settings
from dicomnode.config.sections import Node, Receive
from dicomnode.config.sections import Settle as SettleSettings
from dicomnode.delivery.storage_scu import send
from dicomnode.engine import hosts
from dicomnode.engine.contract import delivery_id, synthesis_id, together
from dicomnode.engine.executor import metrics_folder, name_of
from dicomnode.engine.hosts import KnownHosts
from dicomnode.engine.queues import open_queues, prepare, stop, work_deliver, work_synthesize
from dicomnode.errors import StillAlive, UnknownHost
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow, Plan
from dicomnode.ledger.tables import processes
from dicomnode.receipt import Receipt
from dicomnode.reception.intake import Intake
from dicomnode.reception.other_receivers import SharedReceivers
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Arrival, Spool
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh

LIMIT_S = 1.0
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def ledger(postgresql_url: str) -> Iterator[Ledger]:
    made = Ledger(postgresql_url.replace("postgresql:", "postgresql+psycopg:"))
    made.create()
    prepare(made)
    yield made
    stop()
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "BEAT_S", 0.1)


def until(true: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait(event: threading.Event) -> None:
    event.wait(30)


def aged(ledger: Ledger, executor: str, silent_s: float) -> None:
    """A process was heard of so long ago."""
    with ledger.engine.begin() as connection:
        hosts.beat(connection, executor)
        row = processes.c.executor == executor
        connection.execute(processes.update().where(row).values(alive_at=processes.c.alive_at - silent_s))


def test_what_a_dead_process_had_begun_is_done_by_another_once(ledger: Ledger) -> None:
    queues, seen, hanging = open_queues(ledger), [], threading.Event()
    with ledger.engine.begin() as connection:
        queues.deliver("job", "planning", 1)(connection)
    work_deliver(ledger, "a/deliver/0", lambda *_: wait(hanging))
    until(lambda: queues.begun_by() == {"a/deliver/0"})
    stop()  # its thread hangs on: a machine that was cut off
    aged(ledger, "a/deliver/0", 60)

    other = KnownHosts(ledger, queues, LIMIT_S, "b/deliver/0")
    began = time.monotonic()
    while queues.begun_by():
        other.tick()
        time.sleep(0.05)
    assert time.monotonic() - began > LIMIT_S, "only after the own connection was good for as long"
    work_deliver(ledger, "b/deliver/0", lambda *call: seen.append(call))
    until(lambda: seen)
    hanging.set()
    assert seen == [("job", "planning", 1)]
    assert [one.executor for one in other.known()] == ["b/deliver/0"]


def test_a_process_whose_own_connection_was_away_says_of_nobody_that_it_is_dead(ledger: Ledger) -> None:
    aged(ledger, "a/deliver/0", 60)
    other = KnownHosts(ledger, open_queues(ledger), LIMIT_S, "b/deliver/0")
    for _ in range(3):
        other.tick()
        time.sleep(1.2 * LIMIT_S)
    assert {one.executor for one in other.known()} == {"a/deliver/0", "b/deliver/0"}


def test_a_person_takes_over_from_a_machine_that_is_silent_and_from_no_other(ledger: Ledger) -> None:
    known = KnownHosts(ledger, open_queues(ledger), LIMIT_S)
    with pytest.raises(UnknownHost, match=r"no machine 'a' works on this database.*known: none"):
        known.take_over("a")
    aged(ledger, "a/deliver/0", 0)
    with pytest.raises(StillAlive, match="a/deliver/0 was heard of 0 s ago"):
        known.take_over("a")
    assert known.take_over("a", force=True) == 0
    assert known.known() == []


def test_receivers_tell_each_other_what_arrives_and_only_one_looks_at_a_series(ledger: Ledger) -> None:
    a, b = (SharedReceivers(ledger.engine, f"{name}/receive/0", 30.0) for name in ("a", "b"))
    now = time.monotonic()
    arrival = Arrival("1.2", frozenset({"1"}), "MR", now - 5, now - 1, 2, 3, True, 0.5, now - 1, now - 4)
    assert a.exchange({"1.2": arrival}).exchanged_at == float("inf")
    told = b.exchange({})
    (seen,) = told.arrivals["1.2"]
    assert (seen.calling_ae, seen.open_associations, seen.associations, seen.interrupted) == ("MR", 2, 3, True)
    times = ((seen.first_at, 5), (seen.last_at, 1), (seen.awaited_since or 0, 1), (seen.begun_at or 0, 4))
    assert all(abs(at - (now - ago)) < 0.1 for at, ago in times)
    assert now <= told.exchanged_at <= time.monotonic()
    with a.claim("1.2") as first, b.claim("1.2") as second, b.claim("1.3") as another:
        assert (first, second, another) == (True, False, True)
    a.exchange({})
    assert b.exchange({}).arrivals == {}


def test_what_a_dead_receiver_left_is_adopted_by_another_and_becomes_one_job(
    ledger: Ledger, postgresql_url: str, tmp_path: Path
) -> None:
    mr = thigh(axial_grid((6, 32, 32), (6.0, 6.0, 6.0))).mr
    series = write_mr_series(mr, tmp_path / "series")
    config = Config(
        node=Node(port=0, data=tmp_path / "data"),
        database=postgresql_url,
        receive=Receive(disk_reserve_bytes=0),
        settle=SettleSettings(quiet_s=1.0),
    )
    spool = Spool(config.node.data)
    intakes = []
    for name in ("a", "b"):
        receiver = Receiver(config.node, config.receive, spool)
        receiver.start()
        others = SharedReceivers(ledger.engine, f"{name}/receive/0", LIMIT_S)
        intakes.append((receiver, Intake(config, ledger, open_queues(ledger), spool, receiver, others)))
    (a, dead), (b, other) = intakes
    other.tick()
    send(series, Destination("a", "SCTNODE", "127.0.0.1", a.port), "SCANNER", lambda _: None)
    dead.tick()
    a.stop(0)  # and it never ticks again

    def ticked() -> list[JobRow]:
        other.tick()
        return ledger.jobs()

    until(ticked)
    b.stop(0)
    assert [len(one.sop_instance_uids) for one in ledger.jobs()] == [6]
    assert [one.executor for one in KnownHosts(ledger, open_queues(ledger), LIMIT_S).known()] == ["b/receive/0"]


def test_the_commands_list_machines_and_take_over(
    ledger: Ledger, postgresql_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"database: {postgresql_url}\n")
    aged(ledger, "left/deliver/0", 0)
    assert main.main(["hosts", "--config", str(path)]) == 0
    assert main.main(["takeover", "left", "--config", str(path)]) == 1
    assert main.main(["takeover", "left", "--force", "--config", str(path)]) == 0
    said = capsys.readouterr()
    assert "left/deliver/0" in said.out
    assert "0 attempts of left are back in the queues" in said.out
    assert "stop that machine first, or say --force" in said.err


def test_what_ended_long_ago_is_deleted_from_the_engines_records_and_what_waits_is_not(ledger: Ledger) -> None:
    queues = open_queues(ledger)
    with ledger.engine.begin() as connection:
        together(queues.synthesize(f"job{n}", 1) for n in range(3))(connection)
        queues.deliver("job0", "planning", 1)(connection)
    done: list[str] = []
    work_synthesize(ledger, "a/synthesize/0", lambda job, _: done.append(job))
    until(lambda: len(done) == 3 and not queues.begun_by())
    assert queues.prune(3600.0) == 0
    time.sleep(0.1)
    assert queues.prune(0.0) == 3
    names = [synthesis_id("job0", 1), delivery_id("job0", "planning", 1)]
    assert list(queues.endings(names).values()) == ["unknown", "waiting"]


def test_text_that_postgresql_does_not_take_is_written_without_what_it_does_not_take(ledger: Ledger) -> None:
    ledger.arrived("1.2", "MR\0X", 1, time.time())
    job, _ = ledger.received("1.2", ["1"], Plan("m", "a" * 64, "b" * 64), "complete", lambda *_: None)
    ledger.synthesized(job, "9", 1, ("planning",), None, lambda _: None)
    ledger.answered(job, "planning", [Receipt("9.1", 0xA700, NOW, "no\0 \udc80")])
    assert [one.comment for one in ledger.receipts(job)] == ["no\N{REPLACEMENT CHARACTER} ?"]


def test_the_name_of_a_machine_is_the_configured_one_and_on_sqlite_always_the_same() -> None:
    shared = Config(node=Node(), database="postgresql://sct@127.0.0.1/sct", hosts=Settings(name="left"))
    assert name_of(shared) == "left"
    assert metrics_folder(shared).name == "left"
    assert name_of(Config(hosts=Settings(name="left"))) == "node"
