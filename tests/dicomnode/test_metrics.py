"""The node's metrics: names, labels, and counting over several processes."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dicomnode import metrics
from dicomnode.cases.overview import LedgerOverview, QueueLength
from dicomnode.web import health

DEFINED = sorted(metrics.REGISTRY.collect(), key=lambda family: family.name)
NOTHING = health.LiveValues(0.0, None, 0, 0)
ALL = [metric for metric in vars(metrics).values() if isinstance(metric, Counter | Gauge | Histogram)]


def count_in_a_process(folder: Path, role: str, statements: str) -> None:
    """Run `statements` in a process of its own, as a role of a node does."""
    begin = (
        f"from pathlib import Path; from dicomnode import metrics; metrics.keep_in(Path({str(folder)!r}), {role!r})\n"
    )
    subprocess.run([sys.executable, "-c", begin + textwrap.dedent(statements)], check=True, timeout=60)


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(sample name, labels) -> value of an exposition."""
    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_two_processes_are_added_up(tmp_path: Path) -> None:
    count_in_a_process(tmp_path, "synthesize", "metrics.JOBS.labels(state='SYNTHESIZED').inc(2)")
    count_in_a_process(tmp_path, "deliver", "metrics.JOBS.labels(state='SYNTHESIZED').inc(3)")
    found = samples(health.exposition(tmp_path, NOTHING))
    assert found["sct_node_jobs_total", frozenset({("state", "SYNTHESIZED")})] == 5


def test_a_restarted_role_goes_on_counting_and_leaves_no_file_behind(tmp_path: Path) -> None:
    for _ in range(3):
        count_in_a_process(tmp_path, "receive", "metrics.STORE_RESPONSES.labels(status='A700').inc()")
    found = samples(health.exposition(tmp_path, NOTHING))
    assert found["sct_node_store_responses_total", frozenset({("status", "A700")})] == 3
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}_receive.db" for kind in metrics.KINDS}


def test_the_files_have_their_blocks_before_anything_is_counted(tmp_path: Path) -> None:
    count_in_a_process(tmp_path, "receive", "metrics.tick('receive')")
    sizes = [(path.stat().st_size, path.stat().st_blocks * 512) for path in tmp_path.iterdir()]
    assert all(size == metrics.FILE_BYTES and blocks >= size for size, blocks in sizes)


def test_the_folder_can_be_read_while_a_role_makes_its_files(tmp_path: Path) -> None:
    looks = f"""
    import os
    from pathlib import Path
    from dicomnode import metrics
    from dicomnode.web import health

    folder, allocate = Path({str(tmp_path)!r}), os.posix_fallocate

    def watched(*arguments):
        health.exposition(folder, health.LiveValues(0.0, None, 0, 0))
        allocate(*arguments)
        print("looked")

    os.posix_fallocate = watched
    metrics.keep_in(folder, "receive")
    """
    command = [sys.executable, "-c", textwrap.dedent(looks)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "looked\n" * len(metrics.KINDS)), ended.stderr


def test_a_histogram_counts_over_processes(tmp_path: Path) -> None:
    for role in ("synthesize", "deliver"):
        count_in_a_process(tmp_path, role, "metrics.STAGE_SECONDS.labels(stage='volume').observe(0.3)")
    found = samples(health.exposition(tmp_path, NOTHING))
    assert found["sct_node_stage_seconds_count", frozenset({("stage", "volume")})] == 2
    assert found["sct_node_stage_seconds_sum", frozenset({("stage", "volume")})] == pytest.approx(0.6)


def test_the_last_tick_of_each_role_is_read_back(tmp_path: Path) -> None:
    assert metrics.last_ticks(tmp_path / "not there yet") == {}
    count_in_a_process(tmp_path, "receive", "metrics.tick('receive')")
    ticks = metrics.last_ticks(tmp_path)
    assert list(ticks) == ["receive"]
    assert ticks["receive"] > 1.7e9


NOW = health.LiveValues(
    at=5000.0,
    standing=LedgerOverview(
        jobs={("RECEIVED", True): 2, ("DELIVERED", False): 1},
        queues={"person": QueueLength(2, 1000.0), "settle": QueueLength(0, None)},
        destinations={"planning": QueueLength(3, 4000.0)},
        last_instance_at=4900.0,
    ),
    disk_free_bytes=12345,
    disk_bytes=99999,
    workers={"synthesize": 2},
    constancy=[health.LastConstancy("node/synthesize/0", "limb-t1-ldm", 4500.0, passed=True, deviation_hu=2.5)],
)


def test_what_waits_the_disk_the_workers_and_constancy_are_as_of_now(tmp_path: Path) -> None:
    found = samples(health.exposition(tmp_path / "new", NOW))

    def value(name: str, **labels: str) -> float:
        return found[f"sct_node_{name}", frozenset(labels.items())]

    assert value("jobs_current", state="RECEIVED", held="yes") == 2
    assert value("jobs_current", state="DELIVERED", held="no") == 1
    assert (value("queue_length", queue="person"), value("queue_oldest_seconds", queue="person")) == (2, 4000)
    assert (value("queue_length", queue="settle"), value("queue_oldest_seconds", queue="settle")) == (0, 0)
    assert value("delivery_waiting_seconds", destination="planning") == 1000
    assert value("delivery_waiting_jobs", destination="planning") == 3
    assert value("last_instance_timestamp_seconds") == 4900
    assert (value("disk_free_bytes"), value("disk_size_bytes")) == (12345, 99999)
    assert value("workers_current", role="synthesize") == 2
    run = {"worker": "node/synthesize/0", "model": "limb-t1-ldm"}
    assert value("constancy_passed", **run) == 1
    assert value("constancy_last_run_timestamp_seconds", **run) == 4500
    assert value("constancy_deviation_hounsfield", **run) == 2.5


@pytest.mark.parametrize("role", ["", "synthesize_1"])
def test_a_role_name_the_files_cannot_hold_is_refused(tmp_path: Path, role: str) -> None:
    with pytest.raises(ValueError, match="a role's name cannot be"):
        metrics.keep_in(tmp_path, role)


@pytest.mark.parametrize("family", DEFINED, ids=lambda family: family.name)
def test_every_metric_is_prefixed_documented_and_has_a_base_unit(family: Metric) -> None:
    assert family.name.startswith("sct_node_")
    assert family.documentation.endswith(".") or family.documentation.endswith("(Unix time).")
    assert not family.name.endswith(("_ms", "_milliseconds", "_minutes", "_kb", "_mb"))


def test_every_label_is_declared_with_what_it_can_hold(tmp_path: Path) -> None:
    used = {name for metric in ALL for name in metric._labelnames}
    exposed = text_string_to_metric_families(health.exposition(tmp_path, NOW).decode())
    used |= {label for family in exposed for sample in family.samples for label in sample.labels}
    assert used == set(metrics.LABEL_VALUES)


def test_the_table_has_a_row_for_each_metric_and_no_other() -> None:
    defined = {metric._name + ("_total" if isinstance(metric, Counter) else "") for metric in ALL}
    assert defined == set(metrics.METRICS)


def test_every_metric_has_a_label_so_that_none_has_a_value_before_the_process_knows_its_folder() -> None:
    assert len(ALL) == len(DEFINED)
    assert all(metric._labelnames for metric in ALL)


def test_promtool_finds_nothing_to_say_about_the_exposition(tmp_path: Path, program: Callable[[str], str]) -> None:
    everything = """
    for metric in list(metrics.REGISTRY._collector_to_names):
        child = metric.labels(*["x"] * len(metric._labelnames))
        getattr(child, "observe", getattr(child, "set", getattr(child, "inc", None)))(1)
    """
    count_in_a_process(tmp_path, "web", everything)
    text = health.exposition(tmp_path, NOW)
    assert {family.name for family in DEFINED} <= {f.name for f in text_string_to_metric_families(text.decode())}
    told = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


def test_without_a_folder_counts_stay_in_memory() -> None:
    metrics.REJECTED.labels(reason="GAP").inc()
    assert b'sct_node_rejected_total{reason="GAP"}' in generate_latest(metrics.REGISTRY)
