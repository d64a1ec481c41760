"""Drift of the HU against the last cases: what counts as earlier, how far is far, and what it holds."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from dicomnode.ledger.tables import histograms, jobs, metadata, series
from dicomnode.synthesis import drift
from pipeline.conversion import Result
from pipeline.findings.findings import Finding, histogram
from pipeline.gate import ALWAYS_HELD, Hold

STRATUM = drift.stratum_of("scanner", "T1", "digest")
LIMITS = {"low": 0.0, "high": 70.0}


def shifted(by_hu: float) -> dict[str, Any]:
    return histogram(np.random.default_rng(1).normal(0, 100, 20_000) + by_hu)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    metadata.create_all(engine)
    one = {"series_instance_uid": "1.2", "calling_ae": "MR", "instances": 1, "first_at": 0, "last_at": 0, "pause_s": 0}
    with engine.begin() as connection:
        connection.execute(sa.insert(series).values(one))
    yield engine
    engine.dispose()


def job(ledger: sa.Engine, name: str, state: str = "DELIVERED", held: str | None = None) -> str:
    """A job as the ledger knows it once its CT is there."""
    reason = "NOISE" if held or state == "REJECTED" else None
    row: dict[str, Any] = {
        "job": name,
        "series_instance_uid": "1.2",
        "state": state,
        "held": held,
        "calling_ae": "MR",
        "model": "m",
    }
    row |= {"reason_code": reason, "reason_sentence": held or reason, "model_digest": "d", "configuration_digest": "c"}
    row |= {"sop_instance_uids": "[]", "ct_series_uid": "1.3", "ct_instances": 5, "created_at": 0, "updated_at": 0}
    with ledger.begin() as connection:
        connection.execute(sa.insert(jobs).values(row))
    return name


def result(found: dict[str, Any], hold: Hold | None = None) -> Result:
    return Result((), "1.3", (), (), hold, {"hu_histogram": found, "findings": []})


def test_a_shift_of_all_hu_is_the_distance() -> None:
    others = [shifted(0.0)] * 5
    assert drift.distance_hu(shifted(0.0), others) == pytest.approx(0.0, abs=1e-9)
    assert drift.distance_hu(shifted(48.0), others) == pytest.approx(48.0, abs=0.5)
    assert drift.distance_hu(shifted(-48.0), others) == pytest.approx(48.0, abs=0.5)


def test_only_cases_of_the_stratum_that_were_sent_count_the_newest_first(ledger: sa.Engine) -> None:
    for number, (state, held) in enumerate([("DELIVERED", None), ("SYNTHESIZED", "doubtful"), ("REJECTED", None)]):
        drift.keep(ledger, job(ledger, f"{number}", state, held), STRATUM, {"counts": [number]})
    drift.keep(ledger, job(ledger, "other"), drift.stratum_of("scanner", "T2", "digest"), {"counts": [8]})
    drift.keep(ledger, job(ledger, "late", "SYNTHESIZED"), STRATUM, {"counts": [9]})
    drift.keep(ledger, job(ledger, "this", "SYNTHESIZED"), STRATUM, {"counts": [7]})
    assert [one["counts"] for one in drift.earlier(ledger, "this", STRATUM, 20)] == [[9], [0]]
    assert len(drift.earlier(ledger, "this", STRATUM, 1)) == 1


def test_another_attempt_takes_the_place_of_the_first(ledger: sa.Engine) -> None:
    job(ledger, "this")
    for counts in ([1], [2]):
        drift.keep(ledger, "this", STRATUM, {"counts": counts})
    assert [one["counts"] for one in drift.earlier(ledger, "another", STRATUM, 20)] == [[2]]


def test_the_table_is_bounded(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "KEPT", 3)
    for number in range(6):
        drift.keep(ledger, job(ledger, f"{number}"), STRATUM, {"counts": [number]})
        time.sleep(0.002)
    with ledger.begin() as connection:
        kept = connection.execute(sa.select(histograms.c.job).order_by(histograms.c.at)).scalars().all()
    assert kept == ["3", "4", "5"]


def test_a_drift_beyond_the_limit_holds_the_case_and_stands_in_its_report() -> None:
    others = [shifted(0.0)] * drift.LEAST_CASES
    far = drift.with_drift(result(shifted(200.0)), others, LIMITS, "auto")
    assert far.hold is not None
    assert far.hold.code == "HU_DRIFT"
    assert json.loads(json.dumps(far.report))["findings"][0]["verdict"] == "review"
    near = drift.with_drift(result(shifted(20.0)), others, LIMITS, "auto")
    assert near.hold is None
    assert [one.verdict for one in near.findings] == ["pass"]


def test_a_drift_is_told_but_not_enforced_where_the_gate_never_holds() -> None:
    far = drift.with_drift(result(shifted(200.0)), [shifted(0.0)] * 5, LIMITS, "never_hold")
    assert far.hold is None
    assert [one.verdict for one in far.findings] == ["review"]


def test_nothing_is_said_of_drift_before_there_are_earlier_cases() -> None:
    few = drift.with_drift(result(shifted(200.0)), [shifted(0.0)] * (drift.LEAST_CASES - 1), LIMITS, "auto")
    assert few == result(shifted(200.0))


def test_a_case_that_is_held_anyway_keeps_its_reason() -> None:
    held = dataclasses.replace(result(shifted(200.0)), hold=Hold("NOISE", "noisy"))
    far = drift.with_drift(held, [shifted(0.0)] * 5, LIMITS, "always_hold")
    assert far.hold is not None
    assert far.hold.code == "NOISE"
    assert "noisy; hu_drift is 200" in far.hold.sentence
    assert ALWAYS_HELD not in far.hold.sentence


def test_the_finding_says_its_unit_and_limit() -> None:
    (finding,) = drift.with_drift(result(shifted(10.0)), [shifted(0.0)] * 5, LIMITS, "auto").findings
    assert finding.value == pytest.approx(10.0, abs=1.0)
    assert dataclasses.replace(finding, value=10.0) == Finding("hu_drift", 10.0, (0.0, 70.0), "[hnsf'U]", "pass")
