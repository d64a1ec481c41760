"""How things stand in the ledger, counted by either database."""

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.cases.overview import QueueLength, ledger_overview
from dicomnode.commitment.proofs import Proofs
from dicomnode.config.load import Config
from dicomnode.config.sections import Kind, Node
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.notices import Notices, put
from dicomnode.ledger.rows import Plan
from dicomnode.receipt import Receipt

NOBODY = QueueLength(0, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on either database."""
    where = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    made = Ledger(database_url(Config(node=Node(data=tmp_path), database=where)))
    made.create()
    yield made
    made.close()


def received(ledger: Ledger, series: str, ago_s: float = 0.0) -> str:
    """A job whose series came some time ago."""
    ledger.arrived(series, "MR1", 1, time.time() - ago_s)
    return ledger.received(series, [f"{series}.1"], Plan("tiny", "a" * 64, "b" * 64), "test", lambda *_: None)[0]


def synthesized(ledger: Ledger, series: str, hold: tuple[str, str] | None = None, *to: str) -> str:
    """A job whose CT of one instance is made."""
    job = received(ledger, series)
    ledger.synthesized(job, f"{series}.9", 1, to, hold, lambda *_: None)
    return job


def test_of_an_empty_ledger_nothing_waits(ledger: Ledger) -> None:
    now = ledger_overview(ledger.engine)
    assert (now.jobs, now.destinations, now.last_instance_at) == ({}, {}, None)
    assert now.queues == dict.fromkeys(("settle", "synthesize", "person", "deliver", "proof", "notice"), NOBODY)


def test_each_queue_is_counted_with_its_oldest(ledger: Ledger) -> None:
    began = time.time()
    ledger.arrived("1.2.1", "MR1", 3, began - 500)
    ledger.arrived("1.2.2", "MR1", 3, began - 100)
    received(ledger, "1.2.3", 9000)
    ledger.held(received(ledger, "1.2.4"), "FAILED", "x")
    synthesized(ledger, "1.2.5", ("ANATOMY", "x"), "planning")
    synthesized(ledger, "1.2.6", None, "planning", "archive")
    synthesized(ledger, "1.2.7", None, "planning")
    now = ledger_overview(ledger.engine)
    assert now.jobs == {
        ("RECEIVED", False): 1,
        ("RECEIVED", True): 1,
        ("SYNTHESIZED", True): 1,
        ("SYNTHESIZED", False): 2,
    }
    lengths = {name: line.length for name, line in now.queues.items()}
    assert lengths == {"settle": 2, "synthesize": 1, "person": 2, "deliver": 3, "proof": 0, "notice": 0}
    assert now.queues["settle"].since == pytest.approx(began - 500, abs=1)
    assert {name: line.length for name, line in now.destinations.items()} == {"planning": 2, "archive": 1}
    assert all((line.since or 0) >= began - 1 for line in (now.queues["person"], now.queues["deliver"]))
    assert now.last_instance_at == pytest.approx(began, abs=5)


def test_what_a_destination_has_and_what_was_told_wait_no_more(ledger: Ledger) -> None:
    job = synthesized(ledger, "1.2.1", None, "planning", "archive")
    for name in ("planning", "archive"):
        ledger.answered(job, name, [Receipt(f"1.2.1.9.{name}", 0x0000, datetime.datetime.now(datetime.UTC), "")])
        ledger.delivered(job, name, Proofs(ledger.engine).wanted(job, name, 10.0))
    with transaction(ledger.engine) as connection:
        put(connection, Kind.CONSTANCY, "CONSTANCY_FAILED", "x")
    notices = Notices(ledger.engine)
    notices.divide(set(Kind), ["mail"], 0.0)
    assert {name: line.length for name, line in ledger_overview(ledger.engine).queues.items() if line.length} == {
        "proof": 2,
        "notice": 1,
    }
    notices.sent(notices.due("mail"))
    for row in Proofs(ledger.engine).open():
        Proofs(ledger.engine).ended(row, "x")
    after = ledger_overview(ledger.engine)
    assert set(after.queues.values()) == {NOBODY}
    assert (after.jobs, after.destinations) == ({("DELIVERED", False): 1}, {})
