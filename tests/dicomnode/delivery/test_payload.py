"""Tests of the delivery of companions, with a real ledger, spool, queues and destination, with dcmtk and Orthanc."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from dicomnode.cases.files import REPORT
from dicomnode.commitment.proofs import Proofs
from dicomnode.config.load import Config, dump
from dicomnode.config.peers import Destination
from dicomnode.config.rules import JobSettings
from dicomnode.config.sections import Node
from dicomnode.engine import review
from dicomnode.errors import WrongState
from dicomnode.ledger.states import State
from dicomnode.spool.spool import every_file
from dicomnode.synthesis.attempt import companions_of, options_of
from models.inference.weights import load_model
from pipeline.companions.kinds import COMPANIONS
from pipeline.companions.write import Content, write_companions
from pipeline.conversion import convert
from pipeline.report.viewer_volumes import ct_of
from pipeline.series.series import Series, read_instance

if TYPE_CHECKING:
    from tests.conftest import Orthanc
    from tests.support.node import Bench

EVERY = tuple(COMPANIONS)


def furnished(bench: Bench) -> Bench:
    """Return a bench with the companions that a synthesis would have written."""
    folder = bench.spool.outbox / bench.job
    found = {"name": "bone_fraction", "value": 30.5, "limit": [1.0, 9.0], "unit": "%", "verdict": "review"}
    (folder / REPORT).write_text(json.dumps({"findings": [found]}))
    hu = ct_of(folder).array
    sd = np.full(hu.shape, 12.5, np.float32)
    write_companions(EVERY, Content(hu, hu > -300, sd), sorted(folder.glob("*.dcm")), folder)
    return bench


def test_a_conversion_makes_what_the_jobs_destinations_ask_for_and_says_what_it_could_not_make(
    tiny_model: Path, thigh_series: list[Path], tmp_path: Path, program: Callable[[str], str]
) -> None:
    asked = companions_of(
        Config(
            destinations=(
                Destination("a", "A", "127.0.0.1", 104, companions=("rtstruct", "sr")),
                Destination("b", "B", "127.0.0.1", 105, companions=("rtstruct", "uncertainty")),
                Destination("c", "C", "127.0.0.1", 106, companions=("seg",)),
            )
        ),
        ["a", "b"],
    )
    series = Series.of([read_instance(path) for path in thigh_series])
    options = dataclasses.replace(options_of(JobSettings(), "cpu"), companions=asked)
    result = convert(series, load_model(str(tiny_model), "cpu"), tmp_path, options)
    assert result.report["companions"] == {
        "rtstruct": "written",
        "uncertainty": "the model gives no uncertainty",
        "sr": "written when the case is first sent",
    }
    [file] = (tmp_path / "companions").iterdir()
    told = subprocess.run([program("dciodvfy"), str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert "Error" not in told.stderr
    assert [roi.ROIName for roi in pydicom.dcmread(file).StructureSetROISequence] == ["External", "MR void"]


@pytest.fixture
def wanting(planning: Any) -> Destination:
    """Return the planning system, which asks for every companion."""
    system: Destination = planning.destination
    return dataclasses.replace(system, companions=EVERY)


def modalities(planning: Any) -> list[str]:
    return sorted(str(pydicom.dcmread(path).Modality) for path in planning.folder.glob("*.dcm"))


def test_a_destination_gets_the_companions_that_it_asks_for_after_the_ct_and_each_has_a_receipt(
    bench: Callable[..., Bench], planning: Any, wanting: Destination
) -> None:
    b = furnished(bench(wanting))
    with planning.up():
        delivery = b.attempt("planning")
    assert delivery.delivered_at is not None
    assert delivery.instances == 17
    assert b.ledger.job(b.job).state is State.DELIVERED
    assert modalities(planning) == ["CT"] * 12 + ["DOC", "OT", "RTSTRUCT", "SEG", "SR"]
    at = {one.sop_instance_uid: one.at for one in b.ledger.receipts(b.job)}
    slices = {path.stem for path in planning.folder.glob("*.dcm") if pydicom.dcmread(path).Modality == "CT"}
    assert len(at) == 17
    assert max(at[uid] for uid in slices) <= min(at[uid] for uid in at if uid not in slices)


def test_a_proof_and_everything_once_more_are_about_the_companions_too(
    bench: Callable[..., Bench], planning: Any, wanting: Destination
) -> None:
    b = furnished(bench(wanting))
    with planning.up():
        b.attempt("planning")
        proofs = Proofs(b.ledger.engine)
        with b.ledger.engine.begin() as connection:
            proofs.wanted(b.job, "planning", 0.0)(connection)
        every = {path_uid(path) for path in every_file(b.spool.outbox / b.job)}
        assert set(proofs.unproven(proofs.of(b.job)[0])) == every
        for path in planning.folder.glob("*.dcm"):
            path.unlink()
        review.resend(b.ledger, b.queues, b.job, by="cli:ada", reason="lost there")
        assert b.attempt("planning").delivered_at is not None
    assert set(planning.instances()) == every


def test_companions_that_were_taken_never_stand_for_a_slice_or_a_companion_that_was_refused(
    bench: Callable[..., Bench], planning: Any, wanting: Destination
) -> None:
    b = furnished(bench(wanting))
    with planning.up("--answers", ",".join(["A700", *["0000"] * 15, "0122"])):
        assert "refused 1 with status 0x0122, refused 1 with status 0xA700; 15 of 17" in b.attempt("planning").sentence
        assert b.ledger.job(b.job).state is State.SYNTHESIZED
        with pytest.raises(WrongState, match="the receipts do not show"):
            b.ledger.delivered(b.job, "planning", uids=[path_uid(one) for one in every_file(b.spool.outbox / b.job)])
        assert b.attempt("planning").delivered_at is not None
    assert len(planning.instances()) == 17


def test_findings_and_report_carry_the_decision_of_the_person_who_released_the_case_and_never_change(
    bench: Callable[..., Bench], planning: Any, wanting: Destination
) -> None:
    b = furnished(bench(wanting))
    b.ledger.held(b.job, "BONE_FRACTION", "bone_fraction is 30 %, expected 1 to 9")
    review.release(b.ledger, b.queues, b.job, by="web:ada", reason="an implant, looked at")
    folder = b.spool.outbox / b.job
    b.attempt("planning")  # it is down: they are made all the same, and stay
    first = {path: path.read_bytes() for path in every_file(folder)}
    with planning.up():
        assert b.attempt("planning").delivered_at is not None
    assert {path: path.read_bytes() for path in every_file(folder)} == first
    sr = pydicom.dcmread(folder / "sr" / "sr.dcm")
    said = [str(item.TextValue) for item in sr.ContentSequence if item.ValueType == "TEXT"]
    assert any(text.startswith("RELEASED by web:ada") and "an implant, looked at" in text for text in said)
    assert [str(item.PersonName) for item in sr.ContentSequence if item.ValueType == "PNAME"] == ["web:ada^"]
    pdf = bytes(pydicom.dcmread(folder / "pdf" / "pdf.dcm").EncapsulatedDocument)
    assert pdf.startswith(b"%PDF")


def path_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


PROGRAM = """
import sys
from pathlib import Path
from dicomnode.delivery.attempt import Deliveries
from dicomnode.config.load import load
from dicomnode.engine.queues import open_queues
from dicomnode.ledger.ledger import Ledger, database_url
from dicomnode.spool.spool import Spool
config = load(Path(sys.argv[1]))
ledger = Ledger(database_url(config))
[delivery] = ledger.deliveries(sys.argv[2])
deliveries = Deliveries(config, ledger, open_queues(ledger), Spool(config.node.data))
deliveries.attempt(sys.argv[2], "planning", delivery.attempt)
"""


def test_a_process_that_is_killed_among_the_companions_sends_one_of_them_twice_at_most(
    bench: Callable[..., Bench], planning: Any, wanting: Destination, tmp_path: Path
) -> None:
    b = furnished(bench(wanting))
    file = tmp_path / "node.yaml"
    file.write_text(dump(Config(node=Node(data=b.spool.root), destinations=(wanting,))))
    with planning.up("--delay-s", "0.1"):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(file), b.job])
        deadline = time.monotonic() + 60
        while len(b.ledger.receipts(b.job)) < 14 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        had = len(b.ledger.receipts(b.job))
        assert 14 <= had < 17
        files = {path: path.read_bytes() for path in every_file(b.spool.outbox / b.job)}
        assert b.attempt("planning").delivered_at is not None
    assert len(planning.instances()) == 17
    assert {path: path.read_bytes() for path in every_file(b.spool.outbox / b.job)} == files


def test_orthanc_takes_ct_and_companions_into_one_study(bench: Callable[..., Bench], orthanc: Orthanc) -> None:
    there = Destination("archive", orthanc.ae_title, "127.0.0.1", orthanc.port, companions=EVERY)
    b = furnished(bench(there))
    assert b.attempt("archive").delivered_at is not None
    uids = {path_uid(path) for path in every_file(b.spool.outbox / b.job)}
    assert uids <= set(orthanc.instances())
    assert len(uids) == 17
