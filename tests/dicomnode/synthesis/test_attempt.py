"""Attempts at jobs without processes: real ledger, spool, queues and model; what each error leads to."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa

from dicomnode.config.load import AS_CONFIGURED, Config
from dicomnode.config.peers import Destination
from dicomnode.config.rules import OTHERWISE, decision, settings_of
from dicomnode.config.sections import Node, Output, Quality
from dicomnode.engine import review
from dicomnode.engine.contract import Queues, delivery_id, synthesis_id
from dicomnode.engine.queues import open_queues, prepare
from dicomnode.errors import WrongState
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import State
from dicomnode.ledger.tables import notices
from dicomnode.ledger.uid_conflicts import Conflicts
from dicomnode.reception.intake import plan_of
from dicomnode.spool.instance_file import Incoming
from dicomnode.spool.spool import Spool
from dicomnode.synthesis.attempt import MODELS_KEPT, Conversions
from models.inference.card import find

TPS = Destination("tps", "TPS", "127.0.0.1", 1)


@dataclass
class Bench:
    """The parts of a synthesize process."""

    config: Config
    ledger: Ledger
    queues: Queues
    spool: Spool
    conversions: Conversions

    def store(self, paths: list[Path]) -> str:
        """Files come; -> their series."""
        for path in paths:
            header = pydicom.dcmread(path)
            incoming = Incoming(
                header.SeriesInstanceUID,
                header.SOPInstanceUID,
                header.SOPClassUID,
                header.file_meta.TransferSyntaxUID,
                "MR",
                path.read_bytes()[132 + 12 + header.file_meta.FileMetaInformationGroupLength :],
            )
            self.spool.store(incoming)
        return str(header.SeriesInstanceUID)

    def job(self, paths: list[Path], **told: Any) -> str:
        """A job RECEIVED of files, and of what came before."""
        source = self.store(paths)
        uids = [path.stem for path in self.spool.instances(source)]
        self.ledger.arrived(source, "MR", len(uids), time.time())
        then = lambda connection, job: self.queues.synthesize(job, 1)(connection)  # noqa: E731
        plan = dataclasses.replace(plan_of(decision(OTHERWISE, self.config.otherwise, self.config)), **told)
        return self.ledger.received(source, uids, plan, "test", then)[0]

    def folder(self, job: str) -> Path:
        """What was made."""
        folder = self.spool.published(job)
        assert folder is not None
        return folder

    def attempt(self, job: str) -> JobRow:
        """The attempt that is due; -> the job afterwards."""
        self.conversions.attempt(job, self.ledger.job(job).attempt)
        return self.ledger.job(job)


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench for a configuration; the model is a copy that a test may spoil."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        model = shutil.copytree(tiny_model, tmp_path / "model", dirs_exist_ok=True)
        plain = Config(node=Node(data=tmp_path / "data"), model=str(model), device="cpu", destinations=(TPS,))
        config = dataclasses.replace(plain, **settings)
        spool = Spool(config.node.data)
        ledger = Ledger(database_url(config))
        ledger.create()
        prepare(ledger)
        queues = open_queues(ledger)
        made.append(Bench(config, ledger, queues, spool, Conversions(config, ledger, queues, spool)))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def test_a_job_becomes_a_folder_of_objects_with_its_report_and_an_entry_for_each_destination(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    row = b.attempt(job)
    folder = b.folder(job)
    assert (row.state, row.held, row.ct_instances) == (State.SYNTHESIZED, None, len(thigh_series))
    report = json.loads((folder / "report.json").read_text())
    assert report["ct_series_uid"] == row.ct_series_uid
    assert report["model"]["digest"] == row.model_digest
    assert len(list(folder.glob("*.dcm"))) == row.ct_instances
    assert b.queues.endings([delivery_id(job, "tps", 1)]) == {f"deliver:{job}:tps:1": "waiting"}


def test_a_crash_between_folder_and_fact_is_made_good_without_computing_again(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    made = b.conversions.published(b.ledger.job(job))
    assert b.ledger.job(job).state is State.RECEIVED
    before = {path: path.stat().st_mtime_ns for path in b.folder(job).iterdir()}
    (Path(b.config.model) / "tiny.safetensors").unlink()
    row = b.attempt(job)
    assert (row.state, row.ct_series_uid) == (State.SYNTHESIZED, made.ct_series_uid)
    assert {path: path.stat().st_mtime_ns for path in b.folder(job).iterdir()} == before


def test_a_missing_slice_is_rejected_with_its_code_and_never_tried_again(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series[:5] + thigh_series[6:])
    row = b.attempt(job)
    assert (row.state, row.reason_code) == (State.REJECTED, "GAP")
    assert "mm" in (row.reason_sentence or "")
    assert b.spool.published(job) is None
    assert not b.ledger.to_synthesize()


def test_weights_that_are_not_those_of_the_card_hold_the_job_at_once(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    with (Path(b.config.model) / "tiny.safetensors").open("ab") as file:
        file.write(b"x")
    row = b.attempt(job)
    assert (row.state, row.reason_code) == (State.RECEIVED, "WRONG_DIGEST")
    assert (row.held or "").startswith("weights of model tiny have SHA-256")


def test_any_other_error_is_tried_three_times_and_then_held_with_its_traceback(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    (Path(b.config.model) / "tiny.safetensors").unlink()
    rows = [b.attempt(job) for _ in range(4)]
    assert [one.attempt for one in rows] == [2, 3, 3, 3]
    assert [one.held is not None for one in rows] == [False, False, True, True]
    assert rows[-1].reason_code == "FAILED"
    assert "Traceback" in b.ledger.events(job)[-1].words
    assert b.queues.endings([synthesis_id(job, 3)]) == {f"synthesize:{job}:3": "waiting"}


def test_a_released_job_is_tried_again(bench: Callable[..., Bench], thigh_series: list[Path]) -> None:
    b = bench()
    job = b.job(thigh_series)
    weights = Path(b.config.model) / "tiny.safetensors"
    hidden = weights.rename(weights.with_suffix(".hidden"))
    for _ in range(3):
        b.attempt(job)
    hidden.rename(weights)
    released = review.release(b.ledger, b.queues, job, by="me", reason="weights are back")
    assert b.queues.endings([synthesis_id(job, released.attempt)])[f"synthesize:{job}:{released.attempt}"] == "waiting"
    assert b.attempt(job).state is State.SYNTHESIZED


def test_another_anatomy_is_held_with_its_objects_made_and_sent_when_released(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    card = Path(b.config.model) / "tiny.json"
    card.write_text(card.read_text().replace('"THIGH"', '"HEAD"'))
    job = b.job(thigh_series)
    row = b.attempt(job)
    assert (row.state, row.reason_code) == (State.SYNTHESIZED, "ANATOMY")
    assert "THIGH" in (row.held or "")
    assert len(list(b.folder(job).glob("*.dcm"))) == len(thigh_series)
    assert b.queues.endings([delivery_id(job, "tps", 1)]) == {f"deliver:{job}:tps:1": "unknown"}
    review.release(b.ledger, b.queues, job, by="me", reason="a thigh after all")
    assert b.queues.endings([delivery_id(job, "tps", 1)]) == {f"deliver:{job}:tps:1": "waiting"}


def test_a_finding_that_rejects_ends_the_job_under_its_name_without_a_ct(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench(quality=Quality(limits={"body_volume": {"low": 2e5, "high": 1e6, "reject_low": 1e5}}))
    job = b.job(thigh_series)
    row = b.attempt(job)
    assert (row.state, row.reason_code, row.ct_series_uid) == (State.REJECTED, "BODY_VOLUME", None)
    assert b.spool.published(job) is None
    with sa.create_engine(database_url(b.config)).connect() as connection:
        told = connection.execute(sa.select(notices.c.kind, notices.c.code).where(notices.c.job == job)).all()
    assert [tuple(one) for one in told] == [("failure", "BODY_VOLUME")]


def test_every_case_is_held_where_the_gate_says_so_and_sent_when_it_is_released(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench(quality=Quality(gate="always_hold"))
    job = b.job(thigh_series)
    row = b.attempt(job)
    assert (row.state, row.reason_code) == (State.SYNTHESIZED, "ALWAYS_HELD")
    review.release(b.ledger, b.queues, job, by="me", reason="looked at")
    assert b.queues.endings([delivery_id(job, "tps", 1)]) == {f"deliver:{job}:tps:1": "waiting"}


def test_a_case_that_drifts_from_the_last_ones_of_its_scanner_is_held(
    bench: Callable[..., Bench], another_series: Callable[..., list[Path]]
) -> None:
    b = bench(quality=Quality(limits={"hu_drift": {"low": -1.0, "high": -0.5}}))  # whatever differs, and what does not
    rows = [b.attempt(b.job(another_series(seed))) for seed in range(6)]
    assert [row.reason_code for row in rows] == [None] * 5 + ["HU_DRIFT"]


def test_exactly_the_instances_of_the_job_are_converted_whatever_came_since(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series[:8])
    b.store(thigh_series)
    assert b.attempt(job).ct_instances == 8


def test_a_job_keeps_what_it_was_told_whatever_the_configuration_says_later(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    told = b.ledger.job(job)
    other = dataclasses.replace(TPS, name="other")
    later = dataclasses.replace(b.config, destinations=(other,), output=Output(research_label=False), model="absent")
    Conversions(later, b.ledger, b.queues, b.spool).attempt(job, 1)
    row = b.ledger.job(job)
    assert (row.state, row.held, row.rule, row.destinations) == (State.SYNTHESIZED, None, OTHERWISE, ("tps",))
    assert [one.destination for one in b.ledger.deliveries(job)] == ["tps"]
    report = json.loads((b.folder(job) / "report.json").read_text())
    assert report["configuration_digest"] == told.configuration_digest != settings_of(later, AS_CONFIGURED).digest


def test_a_job_whose_settings_this_version_does_not_know_is_held_at_once(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series, settings=json.dumps({"colour": "blue"}))
    row = b.attempt(job)
    assert (row.state, row.reason_code, row.failures) == (State.RECEIVED, "UNKNOWN_SETTINGS", 0)
    assert "settings.colour" in (row.held or "")


def test_the_last_models_stay_loaded_and_the_one_not_used_for_longest_goes(
    bench: Callable[..., Bench], tiny_model: Path, tmp_path: Path
) -> None:
    b = bench()
    names = [str(shutil.copytree(tiny_model, tmp_path / f"model-{n}")) for n in range(MODELS_KEPT + 1)]
    digest = find(names[0]).digest
    models = [b.conversions.loaded(name, digest) for name in names[:MODELS_KEPT]]
    assert b.conversions.loaded(names[0], digest) is models[0]
    b.conversions.loaded(names[-1], digest)
    assert b.conversions.loaded(names[0], digest) is models[0]
    assert b.conversions.loaded(names[1], digest) is not models[1]


def test_an_attempt_that_is_not_due_does_nothing(bench: Callable[..., Bench], thigh_series: list[Path]) -> None:
    b = bench()
    job = b.job(thigh_series)
    b.conversions.attempt(job, 2)
    assert b.ledger.job(job).state is State.RECEIVED
    b.attempt(job)
    b.conversions.attempt(job, 1)
    assert [one.event for one in b.ledger.events(job)] == ["settled", "synthesized"]


def test_a_job_without_a_workflow_is_put_back_into_the_queue(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    b.conversions.reconcile()
    assert b.ledger.job(job).attempt == 1
    with b.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM workflow_status")
    b.conversions.reconcile()
    b.conversions.reconcile()
    assert b.ledger.job(job).attempt == 2
    assert b.queues.endings([synthesis_id(job, 2)]) == {f"synthesize:{job}:2": "waiting"}


def test_a_job_that_takes_its_process_down_each_time_is_held(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    job = b.job(thigh_series)
    with b.ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'")
    b.conversions.reconcile()
    assert b.ledger.job(job).reason_code == "PROCESS_DIED"


def test_a_job_superseded_while_it_is_computed_leaves_nothing(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    row = b.ledger.job(b.job(thigh_series[:8]))
    larger = b.job(thigh_series)
    with pytest.raises(WrongState, match="superseded while it was computed"):
        b.conversions.attempt_at(row)
    assert b.spool.published(row.job) is None
    assert b.ledger.job(row.job).reason_code == "SUPERSEDED"
    b.conversions.attempt(row.job, 1)
    assert b.attempt(larger).ct_instances == len(thigh_series)


def test_a_job_held_while_it_is_computed_goes_on_with_what_was_computed(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench()
    row = b.ledger.job(b.job(thigh_series))
    uid = row.sop_instance_uids[3]
    held = Conflicts(b.ledger.engine).found(row.series_instance_uid, row.sop_instance_uids, [f"{uid}~0123456789ab"])
    assert held.held == row.job
    with pytest.raises(WrongState):
        b.conversions.attempt_at(row)
    before = {path: path.stat().st_mtime_ns for path in b.folder(row.job).iterdir()}
    review.release(b.ledger, b.queues, row.job, by="me", reason="the first is right", use="first")
    assert b.attempt(row.job).state is State.SYNTHESIZED
    assert {path: path.stat().st_mtime_ns for path in b.folder(row.job).iterdir()} == before


def test_the_chosen_content_is_what_is_converted_and_the_ct_says_what_it_replaces(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench(destinations=())
    first = b.attempt(b.job(thigh_series))
    edited = pydicom.dcmread(thigh_series[4])
    edited.PixelData = bytes(len(edited.PixelData))
    edited.save_as(b.config.node.data / "edited.dcm")
    b.store([b.config.node.data / "edited.dcm"])
    (kept,) = b.spool.conflicts(first.series_instance_uid)
    Conflicts(b.ledger.engine).found(first.series_instance_uid, first.sop_instance_uids, [kept.stem])
    second = review.release(b.ledger, b.queues, first.job, by="me", reason="the last is right", use="last")
    assert kept.stem in second.sop_instance_uids
    row = b.attempt(second.job)
    assert (row.state, row.replaces) == (State.SYNTHESIZED, first.ct_series_uid)
    assert row.ct_series_uid != first.ct_series_uid
    ct = pydicom.dcmread(next(b.folder(row.job).glob("*.dcm")))
    assert ct.RelatedSeriesSequence[0].SeriesInstanceUID == first.ct_series_uid


def test_a_ct_that_one_destination_cannot_take_is_held_with_the_destination_and_the_rule(
    bench: Callable[..., Bench], thigh_series: list[Path], tmp_path: Path
) -> None:
    profile = tmp_path / "few.yaml"
    profile.write_text("for: a small planner\nlike: generic\nrules: {slice_count: {most: 11, evidence: its manual}}")
    small = Destination("small", "SMALL", "127.0.0.1", 1, profile=str(profile))
    b = bench(destinations=(TPS, small))
    row = b.attempt(b.job(thigh_series))
    assert (row.state, row.reason_code) == (State.SYNTHESIZED, "SLICE_COUNT")
    sentence = "12 slices, at most 11 are taken; a larger output.spacing_mm makes fewer"
    assert row.held == f"small, profile {profile}: slice_count: {sentence}"
    report = json.loads((b.folder(row.job) / "report.json").read_text())
    assert report["preflight"]["profiles"] == {"tps": "generic", "small": str(profile)}
    assert [one["destination"] for one in report["preflight"]["complaints"]] == ["small"]
    coarser = bench(destinations=(TPS, small), output=Output(spacing_mm=(8.0, 3.0, 3.0)))
    row = coarser.attempt(coarser.job(thigh_series))
    assert (row.held, row.ct_instances) == (None, 10)


def test_only_the_profiles_of_the_job_s_own_destinations_are_asked(
    bench: Callable[..., Bench], thigh_series: list[Path]
) -> None:
    b = bench(destinations=(TPS, Destination("original", "ORIG", "127.0.0.1", 1, profile="original-only")))
    row = b.attempt(b.job(thigh_series, destinations=("tps",)))
    assert row.held is None
