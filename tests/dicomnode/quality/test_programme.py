"""The report of a programme: what it counts, on a ledger whose cases are known."""

import datetime
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
import sqlalchemy as sa
from PIL import Image

from dicomnode.cli.main import main
from dicomnode.config.load import Config, dump
from dicomnode.config.sections import Node
from dicomnode.ledger.database import database_url, transaction
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.superseding import delivered_by_all
from dicomnode.ledger.tables import deliveries, events, jobs
from dicomnode.quality import constancy_runs, programme_report
from dicomnode.quality.constancy_runs import Outcome
from dicomnode.quality.programme import BadSpan, numbers, programme_of, span_of
from dicomnode.quality.programme_report import pdf_of
from dicomnode.spool.spool import Spool

NOW = datetime.datetime.now(datetime.UTC)
MONTH = NOW - datetime.timedelta(days=30)


def histogram(median_hu: float) -> dict[str, Any]:
    """As report.json has it: all voxels within 16 HU of a median."""
    bins = int((median_hu + 1024) // 16)
    return {"from_hu": -1024, "step_hu": 16, "counts": [0] * bins + [1000]}


class Month:
    """A ledger with cases of the last weeks."""

    def __init__(self, data: Path) -> None:
        self.config = Config(node=Node(data=data))
        data.mkdir()
        self.ledger = Ledger(database_url(self.config))
        self.ledger.create()
        self.spool = Spool(data)
        self.cases = 0

    def received(self) -> str:
        self.cases += 1
        uid = f"1.2.{self.cases}"
        self.ledger.arrived(uid, "MR1", 3, time.time())
        plan = Plan("limb-t1-ldm", "a" * 64, "b" * 64, destinations=("planning",))
        return self.ledger.received(uid, [f"{uid}.1"], plan, "quiet", lambda *_: None)[0]

    def converted(self, bone: float = 5.0, median_hu: float = 40.0, scanner: str = "Scanner A") -> str:
        """A case with a CT; held where there is more bone than 13."""
        job = self.received()
        verdict = "pass" if bone <= 13 else "review"
        finding = {"name": "bone_fraction", "value": bone, "limit": [0.0, 13.0], "unit": "%", "verdict": verdict}
        report: dict[str, Any] = {
            "findings": [finding],
            "scanner": scanner,
            "protocol": "t1",
            "seconds": {"synthesize": 12.0},
        }
        report |= {"hu_histogram": histogram(median_hu), "held_code": None if bone <= 13 else "BONE_FRACTION"}
        folder = self.spool.outbox / job
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(report))
        hold = None if bone <= 13 else ("BONE_FRACTION", f"bone_fraction is {bone} %")
        self.ledger.synthesized(job, f"1.3.{self.cases}", 3, ("planning",), hold, lambda _: None)
        return job

    def delivered(self, job: str) -> None:
        with transaction(self.ledger.engine) as connection:
            connection.execute(sa.update(deliveries).where(deliveries.c.job == job).values(delivered_at=time.time()))
            delivered_by_all(connection, job)

    def happened(self, job: str, *ago_s: float) -> None:
        """The events of a job happened so long ago, in order."""
        with transaction(self.ledger.engine) as connection:
            ids = connection.execute(sa.select(events.c.id).where(events.c.job == job).order_by(events.c.id)).scalars()
            for number, ago in zip(list(ids), ago_s, strict=True):
                at = NOW.timestamp() - ago
                connection.execute(sa.update(events).where(events.c.id == number).values(at=at))
            opened = {"created_at": NOW.timestamp() - ago_s[0]}
            connection.execute(sa.update(jobs).where(jobs.c.job == job).values(opened))


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Month]:
    """Eight cases: five delivered, one of them after it was held, one held, one rejected, one of long ago."""
    made = Month(tmp_path_factory.mktemp("month") / "data")
    day = 86_400.0
    for number, median_hu in enumerate((40.0, 40.0, 56.0, 56.0)):
        job = made.converted(5.0 + number, median_hu)
        made.delivered(job)
        begun = (20 - number) * day
        made.happened(job, begun, begun - 30, begun - 40 - number)
    job = made.converted(20.0, scanner="")
    made.ledger.released(job, "an implant", lambda _: None, "web:jane")
    made.delivered(job)
    made.happened(job, 3 * day, 3 * day - 50, 3 * day - 50 - 7200, 3 * day - 50 - 7210)
    made.happened(made.converted(30.0), 2 * day, 2 * day - 20)
    job = made.received()
    made.ledger.rejected(job, "GAP", "gap of 9 mm")
    made.happened(job, day, day - 1)
    made.happened(made.converted(), 60 * day, 60 * day)
    for passed in (True, False):
        measured = json.dumps({"tissues": {"muscle": 40.0 if passed else 52.0}})
        number = constancy_runs.begin(made.ledger.engine, "node/synthesize/0", "limb-t1-ldm", "a" * 64)
        said = "0 HU (muscle)" if passed else "muscle is 12 HU from the reference; 5 are allowed"
        constancy_runs.end(made.ledger.engine, number, Outcome(passed, said, 0.0, 0.0, measured, "cpu", 9.0))
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def told(month: Month) -> dict[str, Any]:
    return numbers(programme_of(month.ledger, month.spool, MONTH, datetime.datetime.now(datetime.UTC)))


def test_cases_are_counted_by_what_became_of_them(told: dict[str, Any]) -> None:
    assert (told["cases"], told["states"]) == (7, {"DELIVERED": 5, "REJECTED": 1, "SYNTHESIZED": 1})
    assert (told["holds"], told["held_now"], told["decisions"]) == ({"BONE_FRACTION": 2}, 1, {"released": 1})
    assert told["rejections"] == {"GAP": 1}
    assert told["destinations"] == {"planning": {"cases": 6, "delivered": 5, "attempts": 6}}
    assert told["constancy"] == {"runs": 2, "failed": 1}


def test_times_are_those_between_the_events(told: dict[str, Any]) -> None:
    times = told["times"]
    assert times["computing the CT"]["median_s"] == 12.0
    assert times["complete series to CT"] == {
        "cases": 6,
        "median_s": pytest.approx(30),
        "most_s": pytest.approx(40),
        "longest_s": pytest.approx(50),
    }
    assert times["complete series to last destination"]["median_s"] == pytest.approx(42)
    assert times["CT held to decision"]["longest_s"] == pytest.approx(7200)


def test_findings_are_told_with_verdicts_and_percentiles(told: dict[str, Any]) -> None:
    (bone,) = told["findings"]
    assert bone["verdicts"] == {"pass": 4, "review": 2}
    assert bone["median"] == 7.5
    assert bone["high"] == pytest.approx(np.percentile([5, 6, 7, 8, 20, 30], 95))


def test_hu_that_drift_are_seen_scanner_by_scanner(month: Month) -> None:
    programme = programme_of(month.ledger, month.spool, MONTH, NOW)
    known, unnamed = programme.origins
    assert (known.scanner, known.protocol, known.cases, known.held) == ("Scanner A", "t1", 5, 1)
    assert known.drift_hu == pytest.approx(16 * 2 / 3), "two cases of 40 HU, then two of 56 and one of 40"
    assert (unnamed.scanner, unnamed.held, unnamed.drift_hu) == ("not named", 1, None)
    assert unnamed.median_hu == pytest.approx(40, abs=16)


def test_the_document_has_every_part(month: Month) -> None:
    programme = programme_of(month.ledger, month.spool, MONTH, datetime.datetime.now(datetime.UTC))
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf_of(programme, "SCT"))).pages)
    parts = ["Cases 7", "BONE_FRACTION", "GAP", "Scanner A", "bone_fraction", "planning", "muscle is 12 HU"]
    assert [part for part in parts if part not in text.replace("\n", " ")] == []
    assert "1.2.1" not in text, "no UID stands in it"


def test_a_month_without_cases_has_a_report(tmp_path: Path) -> None:
    empty = Month(tmp_path / "data")
    programme = programme_of(empty.ledger, empty.spool, MONTH, NOW)
    assert "No case has got so far." in pypdf.PdfReader(io.BytesIO(pdf_of(programme, "SCT"))).pages[0].extract_text()
    empty.ledger.close()


def test_the_trend_of_constancy_is_a_picture(month: Month) -> None:
    runs = constancy_runs.history(month.ledger.engine)
    for some in (runs, runs[:1], []):
        with Image.open(io.BytesIO(programme_report.trend(some))) as drawn:
            assert drawn.size == (770, 396)


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("4w", 672)])
def test_a_span_is_hours_days_or_weeks(text: str, hours: int) -> None:
    assert span_of(text) == datetime.timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-3d", "3 d", "999999d", "1y"])
def test_other_words_are_no_span(text: str) -> None:
    with pytest.raises(BadSpan, match="write hours, days or weeks"):
        span_of(text)


def test_the_command_writes_either_report(month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "node.yaml", tmp_path / "out.pdf"
    file.write_text(dump(month.config))
    assert main(["report", "--since", "30d", "--config", str(file), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 7
    job = month.ledger.jobs()[0].job
    assert main(["report", job[:12], "--config", str(file), "--out", str(out)]) == 0
    assert job in pypdf.PdfReader(out).pages[0].extract_text()
    assert main(["report", "--config", str(file)]) == 1
    assert "takes a JOB, or --since SPAN" in capsys.readouterr().err
