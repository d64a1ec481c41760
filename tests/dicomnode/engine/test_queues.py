"""DBOS Transact as the engine, beyond the contract: what lies in its tables."""

import json
import time
from pathlib import Path

from dicomnode.engine.contract import synthesis_id
from dicomnode.engine.queues import open_queues, prepare, stop, work_synthesize
from dicomnode.ledger.ledger import Ledger


def test_arguments_lie_in_the_database_as_json(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'node.sqlite'}")
    ledger.create()
    prepare(ledger)
    queues = open_queues(ledger)
    with ledger.engine.begin() as connection:
        queues.synthesize("job", 1)(connection)
    work_synthesize(ledger, "node/synthesize/0", lambda *_: None)
    deadline = time.monotonic() + 30
    while queues.endings([synthesis_id("job", 1)]) != {"synthesize:job:1": "ended"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with ledger.engine.connect() as connection:
        inputs = connection.exec_driver_sql("SELECT inputs FROM workflow_input").scalars().all()
    assert [json.loads(one)["positionalArgs"] for one in inputs] == [["job", 1]]
    stop()
    ledger.close()
