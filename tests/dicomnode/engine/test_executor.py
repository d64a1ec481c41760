"""An executor's stable name, and the delays between its attempts."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.config.load import Config
from dicomnode.config.sections import Node
from dicomnode.engine import executor
from dicomnode.engine.contract import back_off_s
from dicomnode.errors import RoleTaken


@given(st.integers(1, 10_000), st.floats(0.1, 1e5), st.floats(0.1, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_delay_grows_is_capped_and_is_never_nothing(attempt: int, first_s: float, max_s: float, draw: float) -> None:
    delay_s = back_off_s(attempt, first_s, max_s, draw)
    assert 0 < delay_s <= max_s
    assert delay_s >= 0.75 * min(first_s, max_s) - 1e-9
    assert back_off_s(attempt + 1, first_s, max_s, draw) >= delay_s


def test_delays_double_around_their_nominal_value() -> None:
    assert [back_off_s(n, 10, 100, 0.5) for n in (1, 2, 3, 4, 5)] == [10, 20, 40, 80, 100]
    assert {back_off_s(1, 10, 100, random.random()) for _ in range(100)} > {back_off_s(1, 10, 100, 0.5)} - {10}


def test_an_executor_name_belongs_to_one_process(tmp_path: Path) -> None:
    config = Config(node=Node(data=tmp_path))
    first = executor.Executor(config, "synthesize", 0)
    assert first.id == "node/synthesize/0"
    with pytest.raises(RoleTaken, match="runs already"):
        executor.Executor(config, "synthesize", 0)
    executor.Executor(config, "synthesize", 1).close()
    first.close()
    executor.Executor(config, "synthesize", 0).close()
