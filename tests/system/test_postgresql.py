"""The whole node on PostgreSQL: only `database` differs, and the database may go at any moment."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomnode.ledger.states import State

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

Node = Callable[..., Any]


def test_on_postgresql_series_are_received_synthesized_and_delivered_while_the_database_crashes_and_comes_back(
    node: Node,
    planning: Any,
    thigh_series: list[Path],
    another_series: Callable[..., list[Path]],
    postgres: "Postgres",
    postgresql_url: str,
) -> None:
    running = node(planning.destination, database=postgresql_url)
    with planning.up():
        running.start()
        running.until(lambda: running.ticks("deliver") > 1, "all roles are up")
        running.push(thigh_series)
        running.until(lambda: running.ledger.jobs(), "the first job")
        postgres.stop("immediate")
        while_it_is_away = another_series(5)
        running.push(while_it_is_away)
        time.sleep(3.0)
        postgres.start()
        running.until(lambda: len(running.ledger.jobs()) == 2, "the second job")
        running.until(lambda: len(planning.instances()) > 3, "the first is being sent")
        postgres.stop("immediate")
        postgres.start()
        states = running.until(
            lambda: all(one.state is State.DELIVERED for one in running.ledger.jobs()) and running.ledger.jobs(),
            "both are delivered",
            180.0,
        )
        running.push(thigh_series)
        time.sleep(4.0)
    assert running.stop() == 0
    assert "role_restarted" not in running.log()
    assert len(running.ledger.jobs()) == len(states) == 2
    made = [path.stem for path in (running.config.node.data / "out").glob("*/*.dcm")]
    assert len(planning.instances()) == len(made) == len(thigh_series) + len(while_it_is_away)
    assert len(planning.series()) == 2
