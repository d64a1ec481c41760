"""Constancy: the phantom through the whole chain, its reference, its days, and what is told when it fails."""

import dataclasses
import datetime
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.cli.main import main
from dicomnode.config.load import Config, dump
from dicomnode.config.sections import Constancy, Node, Output, Synthesize
from dicomnode.engine import queues
from dicomnode.engine.queues import open_queues
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.tables import notices
from dicomnode.quality import constancy_runs
from dicomnode.quality.constancy import DIED, NO_REFERENCE, Daily, accept, check, due, reference_path
from dicomnode.quality.constancy_runs import Outcome
from dicomnode.spool.spool import Spool
from dicomnode.synthesis.attempt import Conversions
from models.inference.weights import Model, load_model
from pipeline.phantom.constancy import Measured, difference, measure
from pipeline.phantom.thigh import TISSUES, axial_grid, thigh

GRID = axial_grid((16, 90, 90), (4.0, 2.0, 2.0))
KNOWN = thigh(GRID, noise=0.0)
WORKER = "node/synthesize/0"
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    """One whose card rejects every patient."""
    loaded = load_model(str(tiny_model), "cpu")
    limits = {"body_volume": {"low": 1e8, "high": 1e9, "reject_low": 1e8}}
    return dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, findings=limits))


@pytest.fixture(scope="module")
def accepted(model: Model, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration whose reference was accepted."""
    data = tmp_path_factory.mktemp("constancy")
    config = Config(node=Node(data=data), model=str(tiny_model), device="cpu")
    assert accept(model, config, "cli:jane").passed
    return config


# What is measured


def measured(**changes: Any) -> Measured:
    return dataclasses.replace(measure(KNOWN.hu, GRID), **changes)


def test_the_true_phantom_is_measured_as_it_is() -> None:
    found = measured()
    assert found.tissues == {tissue.name: tissue.hu for tissue in TISSUES}
    assert found.corners == ((-89.0, -89.0, -30.0), (89.0, 89.0, 30.0))
    assert found.body is not None
    assert found.bone is not None
    assert np.hypot(*np.subtract(found.bone[:2], (14.0, -10.0))) < 0.5, "the femur is where the phantom has it"
    assert found.body_ml == pytest.approx(np.pi * 75 * 70.5 * 64 / 1000, rel=0.01)
    assert Measured.read(found.as_json()) == found


@pytest.mark.parametrize("tissue", ["cortical bone", "muscle", "air"])
def test_an_error_in_hu_is_found_in_its_tissue(tissue: str) -> None:
    label = next(one.label for one in TISSUES if one.name == tissue)
    wrong = KNOWN.hu.with_array(np.where(KNOWN.labels.array == label, KNOWN.hu.array + 20, KNOWN.hu.array))
    found = difference(measure(wrong, GRID), measured())
    assert (found.of_hu, found.lost) == (tissue, ())
    assert found.hu == pytest.approx(20)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_ct_that_is_shifted_by_a_voxel_or_flipped_is_found(axis: int) -> None:
    shifted = KNOWN.hu.with_array(np.roll(KNOWN.hu.array, 1, axis=axis))
    found = difference(measure(shifted, GRID), measured())
    assert found.mm == pytest.approx(2.0, abs=0.1)
    flipped = KNOWN.hu.with_array(np.flip(KNOWN.hu.array, axis=axis))
    found = difference(measure(flipped, GRID), measured())
    assert found.mm > 10
    assert found.hu > 100


def test_a_grid_that_lies_elsewhere_is_found() -> None:
    moved = axial_grid((16, 90, 90), (4.0, 2.0, 2.0), (0.0, 0.7, 0.0)).with_array(KNOWN.hu.array)
    assert difference(measure(moved, GRID), measured()).mm == pytest.approx(0.7, abs=1e-3)


def test_a_body_that_has_grown_and_bone_that_is_lost_are_found() -> None:
    assert difference(measured(body_ml=measured().body_ml * 1.03), measured()).of_mm == "size of the body"
    assert difference(measured(bone=None), measured()).lost == ("bone",)
    assert difference(measured(), measured(bone=None)).lost == ("bone",)


# Against the reference


def test_a_run_after_the_reference_was_accepted_passes(model: Model, accepted: Config) -> None:
    kept = json.loads(reference_path(accepted, model).read_text())
    assert (kept["digest"], kept["by"], kept["device"]) == (model.card.digest, "cli:jane", "cpu")
    outcome = check(model, accepted)
    assert outcome.passed, outcome.sentence
    assert (outcome.deviation_hu, outcome.deviation_mm) == (0.0, 0.0)


def test_one_run_tells_another_reference_of_none_and_of_a_damaged_one(
    model: Model, accepted: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = json.loads(reference_path(accepted, model).read_text())
    config = dataclasses.replace(accepted, node=Node(data=tmp_path))
    found = Measured.read(json.dumps(kept["measured"]))
    monkeypatch.setattr("dicomnode.quality.constancy._measured", lambda *_: found)
    assert check(model, config).sentence == NO_REFERENCE
    path = reference_path(config, model)
    path.parent.mkdir()
    path.write_text("{}")
    assert "is no reference; accept it anew" in check(model, config).sentence
    kept["measured"]["tissues"]["muscle"] += 7
    kept["measured"]["corners"][0][2] += 0.8
    path.write_text(json.dumps(kept))
    outcome = check(model, config)
    assert outcome.sentence == (
        "muscle is 7 HU from the reference; 5 are allowed; first voxel is 0.8 mm from the reference; 0.5 are allowed"
    )
    assert not outcome.passed
    assert outcome.deviation_hu == pytest.approx(7)
    wider = dataclasses.replace(config, constancy=Constancy(hu=8.0, mm=1.0))
    assert check(model, wider).passed


def test_the_command_accepts_and_compares_and_keeps_its_runs(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(
        node=Node(data=tmp_path / "data"), model=str(tiny_model), device="cpu", output=Output(spacing_mm=6.0)
    )
    file = tmp_path / "node.yaml"
    file.write_text(dump(config))
    config.node.data.mkdir()
    ledger = Ledger(database_url(config))
    ledger.create()
    assert main(["constancy", "--config", str(file)]) == 1
    assert NO_REFERENCE in capsys.readouterr().out
    assert main(["constancy", "--config", str(file), "--accept", "--by", "jane", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"]["corners"]
    runs = constancy_runs.history(ledger.engine)
    assert [(run.passed, run.model, run.device) for run in runs] == [(False, "tiny", "cpu"), (True, "tiny", "cpu")]
    assert runs[1].sentence == "accepted as the reference by cli:jane"
    assert constancy_runs.latest(ledger.engine) == runs[1:]
    assert told(ledger) == [NO_REFERENCE]
    ledger.close()


# Every day


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [
        ("2026-11-23 05:29", "2026-11-22 05:30", False),
        ("2026-11-23 05:30", "2026-11-22 05:30", True),
        ("2026-11-23 05:31", "2026-11-23 05:30", False),
        ("2026-11-23 23:00", "2026-11-23 05:29", True),
        ("2026-11-23 05:00", "2026-11-21 05:30", True),
        ("2026-11-23 05:00", None, True),
    ],
)
def test_a_run_is_due_once_a_day_and_is_made_up_for(now: str, last: str | None, expected: bool) -> None:
    moments = [None if one is None else datetime.datetime.fromisoformat(one) for one in (now, last)]
    assert moments[0] is not None
    assert due(moments[0], "05:30", moments[1]) is expected


@dataclass
class Worker:
    """A synthesize worker's check, and how it is seen."""

    config: Config
    ledger: Ledger
    conversions: Conversions

    def daily(self) -> Daily:
        return Daily(self.config, self.ledger, WORKER, self.conversions.run_exclusively)

    def runs(self) -> list[constancy_runs.ConstancyRow]:
        return constancy_runs.history(self.ledger.engine)


def told(ledger: Ledger) -> list[str]:
    """The words of the notices."""
    with ledger.engine.begin() as connection:
        return [row.words for row in connection.execute(notices.select().order_by(notices.c.id))]


def over(daily: Daily) -> None:
    """Wait until its thread has ended."""
    assert daily._thread is not None
    daily._thread.join(120)
    assert not daily._thread.is_alive()


@pytest.fixture
def worker(accepted: Config) -> Iterator[Callable[[Constancy], Worker]]:
    """A worker of an empty ledger, whose reference was accepted."""
    made: list[Worker] = []

    def make(constancy: Constancy) -> Worker:
        config = dataclasses.replace(accepted, constancy=constancy, synthesize=Synthesize(timeout_s=100.0))
        database = config.node.data / "node.sqlite"
        database.unlink(missing_ok=True)
        ledger = Ledger(database_url(config))
        ledger.create()
        queues.prepare(ledger)
        made.append(Worker(config, ledger, Conversions(config, ledger, open_queues(ledger), Spool(config.node.data))))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def test_a_worker_makes_one_run_a_day(worker: Callable[[Constancy], Worker]) -> None:
    one = worker(Constancy(at="00:00"))
    daily = one.daily()
    for _ in range(3):
        daily.tick()
    assert one.runs() == [], "a run that has not ended is none"
    over(daily)
    daily.tick()
    one.daily().tick()  # as after a restart
    assert [(run.executor, run.model, run.passed) for run in one.runs()] == [(WORKER, "tiny", True)]
    assert told(one.ledger) == []


def test_a_worker_that_has_no_time_of_day_makes_none(worker: Callable[[Constancy], Worker]) -> None:
    one = worker(Constancy())
    daily = one.daily()
    daily.tick()
    assert daily._thread is None
    assert one.runs() == []


def test_a_run_that_fails_is_told_once(worker: Callable[[Constancy], Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Outcome:
        raise RuntimeError("out of memory")

    one = worker(Constancy(at="00:00"))
    monkeypatch.setattr("dicomnode.quality.constancy.check", broken)
    daily = one.daily()
    daily.tick()
    over(daily)
    sentence = "the check itself failed, RuntimeError: out of memory"
    assert [(run.passed, run.sentence) for run in one.runs()] == [(False, sentence)]
    assert told(one.ledger) == [sentence]


def test_a_run_that_is_stopped_in_order_is_made_up_for(
    worker: Callable[[Constancy], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, stopped = worker(Constancy(at="00:00")), threading.Event()

    def slow(*_: object) -> Outcome:
        stopped.wait(60)
        return Outcome(True, "in time")

    monkeypatch.setattr("dicomnode.quality.constancy.check", slow)
    daily = one.daily()
    daily.tick()
    daily.stop()
    stopped.set()
    over(daily)
    assert one.runs() == []
    daily = one.daily()
    daily.tick()
    over(daily)
    assert [run.sentence for run in one.runs()] == ["in time"]
    assert told(one.ledger) == []


def test_a_run_that_its_process_did_not_survive_has_failed_and_is_not_begun_again(
    worker: Callable[[Constancy], Worker],
) -> None:
    one = worker(Constancy(at="00:00"))
    constancy_runs.begin(one.ledger.engine, WORKER, "tiny", "a" * 64)
    daily = one.daily()
    daily.tick()
    assert daily._thread is None
    assert [(run.passed, run.sentence) for run in one.runs()] == [(False, DIED)]
    assert told(one.ledger) == [DIED]
