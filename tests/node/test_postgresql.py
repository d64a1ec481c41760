"""The whole node on PostgreSQL: only `database` differs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicomnode.states import State

Node = Callable[..., Any]


def test_on_postgresql_a_series_becomes_a_delivered_ct_series_and_the_same_again_is_no_second_job(
    node: Node, planning: Any, thigh_series: list[Path], postgresql_url: str
) -> None:
    running = node(planning.destination, database=postgresql_url)
    with planning.up():
        running.start()
        running.push(thigh_series)
        done = running.job(State.DELIVERED)
        running.push(thigh_series)
        running.until(lambda: running.ledger.job_of(done.series_instance_uid) is not None, "taken again")
    assert running.stop() == 0
    assert [one.job for one in running.ledger.jobs()] == [done.job]
    assert len(planning.instances()) == len(thigh_series)
