"""The engine's queues, in real processes' threads on a real database, and what is due without them."""

import collections
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.config.load import Config
from dicomnode.config.sections import Node
from dicomnode.engine import executor
from dicomnode.engine.queues import (
    Queues,
    back_off_s,
    delivery_id,
    prepare,
    stop,
    synthesis_id,
    together,
    work_deliver,
    work_synthesize,
)
from dicomnode.errors import RoleTaken
from dicomnode.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    made.create()
    prepare(made)
    yield made
    stop()
    made.close()


def until(true: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@given(st.integers(1, 10_000), st.floats(0.1, 1e5), st.floats(0.1, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_delay_grows_is_capped_and_is_never_nothing(attempt: int, first_s: float, max_s: float, draw: float) -> None:
    delay_s = back_off_s(attempt, first_s, max_s, draw)
    assert 0 < delay_s <= max_s
    assert delay_s >= 0.75 * min(first_s, max_s) - 1e-9
    assert back_off_s(attempt + 1, first_s, max_s, draw) >= delay_s


def test_delays_double_around_their_nominal_value() -> None:
    assert [back_off_s(n, 10, 100, 0.5) for n in (1, 2, 3, 4, 5)] == [10, 20, 40, 80, 100]
    assert {back_off_s(1, 10, 100, random.random()) for _ in range(100)} > {back_off_s(1, 10, 100, 0.5)} - {10}


def test_asking_twice_is_one_workflow_and_its_arguments_are_json(ledger: Ledger) -> None:
    queues = Queues(ledger)
    for _ in range(3):
        with ledger.engine.begin() as connection:
            queues.synthesize("job", 1)(connection)
    seen: list[tuple[str, int]] = []
    work_synthesize(ledger, "node/synthesize/0", lambda job, attempt: seen.append((job, attempt)))
    until(lambda: queues.endings([synthesis_id("job", 1)]) == {"synthesize:job:1": "ended"})
    assert seen == [("job", 1)]
    with ledger.engine.connect() as connection:
        inputs = connection.exec_driver_sql("SELECT inputs FROM workflow_input").scalars().all()
    assert [json.loads(one)["positionalArgs"] for one in inputs] == [["job", 1]]


def test_a_transaction_that_is_rolled_back_leaves_no_queue_entry(ledger: Ledger) -> None:
    queues = Queues(ledger)
    with ledger.engine.connect() as connection:
        queues.synthesize("job", 1)(connection)
        connection.rollback()
    assert queues.endings([synthesis_id("job", 1)]) == {"synthesize:job:1": "unknown"}


def test_a_worker_takes_one_synthesis_at_a_time(ledger: Ledger) -> None:
    queues = Queues(ledger)
    with ledger.engine.begin() as connection:
        together(queues.synthesize(f"job{n}", 1) for n in range(4))(connection)
    running, most, done = [0], [0], []

    def synthesize(job: str, _attempt: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.2)
        running[0] -= 1
        done.append(job)

    work_synthesize(ledger, "node/synthesize/0", synthesize)
    until(lambda: len(done) == 4)
    assert most == [1]
    assert done == ["job0", "job1", "job2", "job3"]


def test_a_destination_that_hangs_delays_no_other(ledger: Ledger) -> None:
    queues = Queues(ledger)
    with ledger.engine.begin() as connection:
        together(queues.deliver(f"job{n}", "hanging", 1) for n in range(3))(connection)
        together(queues.deliver(f"job{n}", "good", 1) for n in range(3))(connection)
    seen: collections.Counter[str] = collections.Counter()
    let_go = threading.Event()

    def deliver(_job: str, destination: str, _attempt: int) -> None:
        seen[destination] += 1
        if destination == "hanging":
            let_go.wait(30)

    work_deliver(ledger, "node/deliver/0", deliver)
    until(lambda: seen["good"] == 3)
    assert seen["hanging"] == 1
    let_go.set()
    until(lambda: seen["hanging"] == 3)


def test_a_delayed_attempt_waits_in_the_queue(ledger: Ledger) -> None:
    queues = Queues(ledger)
    with ledger.engine.begin() as connection:
        queues.deliver("job", "later", 2, delay_s=2.0)(connection)
    begun, seen = time.monotonic(), []
    work_deliver(ledger, "node/deliver/0", lambda *_: seen.append(time.monotonic()))
    assert queues.endings([delivery_id("job", "later", 2)]) == {"deliver:job:later:2": "waiting"}
    until(lambda: seen)
    assert seen[0] - begun > 1.5


def test_a_workflow_that_raises_is_known_as_ended(ledger: Ledger) -> None:
    queues = Queues(ledger)
    with ledger.engine.begin() as connection:
        queues.synthesize("job", 1)(connection)

    def fail(_job: str, _attempt: int) -> None:
        raise RuntimeError("the ledger is away")

    work_synthesize(ledger, "node/synthesize/0", fail)
    until(lambda: queues.endings([synthesis_id("job", 1)]) == {"synthesize:job:1": "ended"})


def test_an_executor_name_belongs_to_one_process(tmp_path: Path) -> None:
    config = Config(node=Node(data=tmp_path))
    first = executor.Executor(config, "synthesize", 0)
    assert first.id == "node/synthesize/0"
    with pytest.raises(RoleTaken, match="runs already"):
        executor.Executor(config, "synthesize", 0)
    executor.Executor(config, "synthesize", 1).close()
    first.close()
    executor.Executor(config, "synthesize", 0).close()
