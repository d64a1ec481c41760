"""Each line of the engine's contract (`dicomnode.engine.contract`), on SQLite and on PostgreSQL, of every engine."""

import collections
import importlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.engine import queues
from dicomnode.engine.contract import RECOVERY_ATTEMPTS, Engine, Queues, delivery_id, synthesis_id, together
from dicomnode.ledger.ledger import Ledger

DBOS_TRANSACT: Engine = queues
ENGINES = {"dicomnode.engine.queues": DBOS_TRANSACT}
MINE, OTHER = "node/synthesize/0", "node/synthesize/1"

DIES_AT_WORK = """
import importlib, os, signal, sys, time
from dicomnode.ledger.ledger import Ledger

engine, url, executor = sys.argv[1:]
importlib.import_module(engine).work_synthesize(
    Ledger(url), executor, lambda job, attempt: os.kill(os.getpid(), signal.SIGKILL)
)
time.sleep(20)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of its own for each test, in an empty database."""
    url = f"sqlite:///{tmp_path / 'node.sqlite'}"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_url")).replace("postgresql:", "postgresql+psycopg:")
    made = Ledger(url)
    made.create()
    yield made
    made.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[Engine]:
    """An engine, prepared."""
    made: Engine = ENGINES[request.param]
    made.prepare(ledger)
    yield made
    made.stop()


@pytest.fixture
def asked(engine: Engine, ledger: Ledger) -> Queues:
    """Its queues."""
    return engine.open_queues(ledger)


def until(true: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def died(engine: Engine, ledger: Ledger, executor: str) -> bool:
    """A process works as an executor; -> whether its first attempt killed it (else it found nothing to do)."""
    name = next(name for name, one in ENGINES.items() if one is engine)
    url = ledger.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", DIES_AT_WORK, name, url, executor]
    return subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL


def test_an_engine_is_a_module_with_the_functions_of_the_contract() -> None:
    for name, engine in ENGINES.items():
        assert importlib.import_module(name) is engine


def test_asking_twice_is_one_attempt(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    for _ in range(3):
        with ledger.engine.begin() as connection:
            asked.synthesize("job", 1)(connection)
    seen: list[tuple[str, int]] = []
    engine.work_synthesize(ledger, MINE, lambda job, attempt: seen.append((job, attempt)))
    until(lambda: asked.endings([synthesis_id("job", 1)]) == {synthesis_id("job", 1): "ended"})
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)
        asked.synthesize("job", 2)(connection)
    until(lambda: asked.endings([synthesis_id("job", 2)]) == {synthesis_id("job", 2): "ended"})
    assert seen == [("job", 1), ("job", 2)]


def test_what_is_asked_in_a_transaction_is_undone_with_it(ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.connect() as connection:
        asked.synthesize("job", 1)(connection)
        asked.deliver("job", "planning", 1)(connection)
        connection.rollback()
    names = [synthesis_id("job", 1), delivery_id("job", "planning", 1)]
    assert asked.endings(names) == dict.fromkeys(names, "unknown")


def test_a_worker_does_one_synthesis_at_a_time_in_the_order_of_asking(
    engine: Engine, ledger: Ledger, asked: Queues
) -> None:
    with ledger.engine.begin() as connection:
        together(asked.synthesize(f"job{n}", 1) for n in range(4))(connection)
    running, most, done = [0], [0], []

    def synthesize(job: str, _attempt: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.2)
        running[0] -= 1
        done.append(job)

    engine.work_synthesize(ledger, MINE, synthesize)
    until(lambda: len(done) == 4)
    assert most == [1]
    assert done == ["job0", "job1", "job2", "job3"]


def test_a_destination_that_hangs_delays_no_other(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        together(asked.deliver(f"job{n}", "hanging", 1) for n in range(3))(connection)
        together(asked.deliver(f"job{n}", "good", 1) for n in range(3))(connection)
    seen: collections.Counter[str] = collections.Counter()
    let_go = threading.Event()

    def deliver(_job: str, destination: str, _attempt: int) -> None:
        seen[destination] += 1
        if destination == "hanging":
            let_go.wait(60)

    engine.work_deliver(ledger, "node/deliver/0", deliver)
    until(lambda: seen["good"] == 3)
    assert seen["hanging"] == 1
    let_go.set()
    until(lambda: seen["hanging"] == 3)


def test_an_attempt_with_a_delay_begins_no_earlier(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        asked.deliver("job", "later", 2, delay_s=2.0)(connection)
    begun, seen = time.monotonic(), []
    engine.work_deliver(ledger, "node/deliver/0", lambda *_: seen.append(time.monotonic()))
    assert asked.endings([delivery_id("job", "later", 2)]) == {delivery_id("job", "later", 2): "waiting"}
    until(lambda: seen)
    assert seen[0] - begun > 1.5


def test_an_attempt_that_raises_has_ended(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)

    def fail(_job: str, _attempt: int) -> None:
        raise RuntimeError("the ledger is away")

    engine.work_synthesize(ledger, MINE, fail)
    until(lambda: asked.endings([synthesis_id("job", 1)]) == {synthesis_id("job", 1): "ended"})


def test_the_work_of_an_executor_that_died_is_done_by_the_same_executor_and_by_no_other(
    engine: Engine, ledger: Ledger, asked: Queues
) -> None:
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)
    assert died(engine, ledger, MINE)
    assert asked.begun_by() == {MINE}
    with ledger.engine.begin() as connection:
        asked.synthesize("other", 1)(connection)
    by_other: list[str] = []
    engine.work_synthesize(ledger, OTHER, lambda job, _: by_other.append(job))
    until(lambda: by_other)
    engine.stop()
    seen: list[str] = []
    engine.work_synthesize(ledger, MINE, lambda job, _: seen.append(job))
    until(lambda: asked.endings([synthesis_id("job", 1)]) == {synthesis_id("job", 1): "ended"})
    assert (by_other, seen) == (["other"], ["job"])


def test_the_work_of_a_dead_executor_is_resumed_by_another(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)
    assert died(engine, ledger, MINE)
    assert asked.take_back([OTHER]) == 0
    assert asked.take_back([MINE]) == 1
    seen: list[str] = []
    engine.work_synthesize(ledger, OTHER, lambda job, _: seen.append(job))
    until(lambda: asked.endings([synthesis_id("job", 1)]) == {synthesis_id("job", 1): "ended"})
    assert seen == ["job"]
    assert asked.begun_by() == set()


def test_an_attempt_whose_process_dies_each_time_is_given_up(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)
    times = 0
    while asked.endings([synthesis_id("job", 1)]) != {synthesis_id("job", 1): "died"}:
        assert times <= RECOVERY_ATTEMPTS + 1
        times += died(engine, ledger, MINE)
    assert times >= RECOVERY_ATTEMPTS


def test_what_ended_is_forgotten_and_what_waits_is_not(engine: Engine, ledger: Ledger, asked: Queues) -> None:
    with ledger.engine.begin() as connection:
        asked.synthesize("job", 1)(connection)
        asked.synthesize("later", 1, delay_s=600)(connection)
    engine.work_synthesize(ledger, MINE, lambda *_: None)
    names = [synthesis_id("job", 1), synthesis_id("later", 1)]
    until(lambda: asked.endings(names) == dict(zip(names, ("ended", "waiting"), strict=True)))
    assert asked.prune(600) == 0
    until(lambda: asked.prune(0) == 1)
    assert asked.endings(names) == dict(zip(names, ("unknown", "waiting"), strict=True))
