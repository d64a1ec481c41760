"""Tests from dcmtk's senders to jobs: receiver, spool, ledger and queues are real, the test calls the tick."""

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from dicomnode import metrics
from dicomnode.config.load import Config
from dicomnode.config.sections import Node, Receive, Settle
from dicomnode.engine import review
from dicomnode.engine.contract import Queues, synthesis_id
from dicomnode.engine.queues import open_queues, prepare
from dicomnode.errors import WrongState
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import State
from dicomnode.ledger.uid_conflicts import Conflicts
from dicomnode.reception.intake import Intake
from dicomnode.reception.settle import LINGER_S
from dicomnode.reception.storage_scp import Receiver
from dicomnode.spool.spool import Spool

QUIET_S, GRACE_S = 6.0, 3.0
TICK_S = 0.1


@dataclass
class Site:
    """The parts of a receive process, and dcmtk's storescu."""

    config: Config
    ledger: Ledger
    queues: Queues
    spool: Spool
    receiver: Receiver
    intake: Intake
    storescu: str

    def send(self, *paths: Path, ae_title: str = "SCANNER") -> None:
        """Send the files in this order over one association; each is answered with Success."""
        peer = ["-aet", ae_title, "-aec", "SCTNODE", "127.0.0.1", str(self.receiver.port)]
        done = subprocess.run([self.storescu, *peer, *map(str, paths)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def tick_for(self, seconds: float) -> None:
        """Tick for a while, as the process does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.intake.tick()
            time.sleep(TICK_S)

    def settled(self, jobs: int = 1, limit_s: float = 40.0) -> JobRow:
        """Return the newest job once there are so many, and no series is arriving any more."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            self.intake.tick()
            if len(self.ledger.jobs()) == jobs and not self.receiver.arrivals():
                return self.ledger.jobs()[0]
            time.sleep(TICK_S)
        pytest.fail(f"not {jobs} jobs within {limit_s} s, but {self.ledger.jobs()}")

    def reason(self, job: JobRow) -> str:
        """Return the evidence by which the job's series was complete."""
        return self.ledger.events(job.job)[0].words.partition(":")[0]

    def waited_s(self, job: JobRow) -> float:
        """Return the seconds from the last instance of the job's series to the job."""
        source = self.ledger.series(job.series_instance_uid)
        assert source is not None
        return (job.created_at - source.last_at).total_seconds()

    def again(self) -> None:
        """Let the process die at this point, and another take over."""
        self.receiver.stop(0.0)
        self.receiver = Receiver(self.config.node, self.config.receive, self.spool)
        self.receiver.start()
        self.intake = Intake(self.config, self.ledger, self.queues, self.spool, self.receiver)
        self.intake.adopt()


@pytest.fixture
def site(
    tmp_path: Path, tiny_model: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[Site]:
    config = Config(
        node=Node(port=free_port(), data=tmp_path / "data"),
        receive=Receive(disk_reserve_bytes=0, idle_timeout_s=QUIET_S),
        settle=Settle(quiet_s=QUIET_S, grace_s=GRACE_S),
        model=str(tiny_model),
        device="cpu",
    )
    spool, ledger = Spool(config.node.data), Ledger(database_url(config))
    ledger.create()
    prepare(ledger)
    queues, receiver = open_queues(ledger), Receiver(config.node, config.receive, spool)
    receiver.start()
    intake = Intake(config, ledger, queues, spool, receiver)
    made = Site(config, ledger, queues, spool, receiver, intake, program("storescu"))
    yield made
    made.receiver.stop(1.0)
    ledger.close()


def shuffled(paths: Sequence[Path]) -> list[Path]:
    """Return the files in a fixed order that is not the order of slices."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def changed(path: Path, into: Path, **values: object) -> Path:
    """Write the file again with other values of some attributes."""
    header = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    header.save_as(into / f"changed-{path.name}")
    return into / f"changed-{path.name}"


# Complete or not


def test_a_series_in_one_association_is_complete_as_soon_as_it_is_still(site: Site, thigh_series: list[Path]) -> None:
    site.send(*shuffled(thigh_series))
    job = site.settled()
    assert (site.reason(job), len(job.sop_instance_uids)) == ("complete", len(thigh_series))
    assert site.waited_s(job) < LINGER_S + 2


def test_an_association_for_each_image_is_one_series_that_waits_for_the_grace_only(
    site: Site, thigh_series: list[Path]
) -> None:
    for path in shuffled(thigh_series):
        site.send(path)
        site.intake.tick()
    job = site.settled()
    assert (site.reason(job), len(job.sop_instance_uids)) == ("pieces", len(thigh_series))
    assert GRACE_S <= site.waited_s(job) < QUIET_S


def test_what_the_headers_announce_ends_the_waiting_for_pieces(
    site: Site, thigh_series: list[Path], tmp_path: Path
) -> None:
    announcing = [changed(path, tmp_path, ImagesInAcquisition=len(thigh_series)) for path in thigh_series]
    site.send(*announcing[:7])
    site.tick_for(LINGER_S + 1)
    assert not site.ledger.jobs()
    site.send(*announcing[7:])
    job = site.settled()
    assert (site.reason(job), len(job.sop_instance_uids)) == ("announced", len(thigh_series))
    assert site.waited_s(job) < LINGER_S + 2


def test_two_senders_at_once_make_one_series(site: Site, thigh_series: list[Path]) -> None:
    mixed = shuffled(thigh_series)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(site.send, *mixed[::2], ae_title="SCANNER1")
        second = pool.submit(site.send, *mixed[1::2], *mixed[:1], ae_title="SCANNER2")
        first.result()
        second.result()
    job = site.settled()
    assert len(job.sop_instance_uids) == len(thigh_series)
    assert job.supersedes is None


def test_a_first_piece_that_looks_whole_is_made_good_and_its_sender_is_waited_for_from_then_on(
    site: Site, thigh_series: list[Path], another_series: Callable[..., list[Path]]
) -> None:
    site.send(*thigh_series[:7])
    first = site.settled()
    assert (site.reason(first), len(first.sop_instance_uids)) == ("complete", 7)
    site.send(*thigh_series[7:])
    second = site.settled(jobs=2)
    assert (second.supersedes, len(second.sop_instance_uids)) == (first.job, len(thigh_series))
    old = site.ledger.job(first.job)
    assert (old.state, old.reason_code, old.superseded_by) == (State.REJECTED, "SUPERSEDED", second.job)

    again = another_series(3)
    site.send(*again[:7])
    site.tick_for(LINGER_S + 1)
    site.send(*again[7:])
    third = site.settled(jobs=3)
    assert (site.reason(third), len(third.sop_instance_uids), third.supersedes) == ("pieces", len(again), None)


def test_a_stack_with_a_gap_waits_for_the_quiet_time(site: Site, thigh_series: list[Path]) -> None:
    site.send(*thigh_series[:5], *thigh_series[6:])
    job = site.settled()
    assert site.reason(job) == "quiet"
    assert site.waited_s(job) >= QUIET_S


# Late slices


def late_series() -> float:
    """Return how often the alarm of late instances was counted."""
    samples = [sample for family in metrics.LATE_SERIES.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def test_a_late_slice_found_after_a_crash_supersedes_all_the_same(
    site: Site, thigh_series: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    site.send(*thigh_series[:-1])
    first = site.settled()
    before = late_series()
    site.send(thigh_series[-1])
    site.again()  # no tick has seen the late slice
    second = site.settled(jobs=2)
    assert (second.supersedes, len(second.sop_instance_uids)) == (first.job, len(thigh_series))
    assert site.ledger.job(first.job).reason_code == "SUPERSEDED"
    assert late_series() == before + 1
    told = [vars(record).get("code") for record in caplog.records if record.levelname == "ERROR"]
    alarms = [code for code in told if code != "audit_record_not_sent"]  # of a test before, ending late
    assert alarms == ["instances_late", "job_superseded"]
    site.again()
    site.tick_for(1.0)
    assert len(site.ledger.jobs()) == 2


# Duplicates and contradictions


def test_the_same_images_again_are_no_work(site: Site, thigh_series: list[Path]) -> None:
    site.send(*thigh_series)
    job = site.settled()
    site.send(*thigh_series[3:5])
    assert site.receiver.arrivals() == {}
    site.tick_for(0.5)
    assert site.ledger.jobs() == [job]
    assert [one.event for one in site.ledger.events(job.job)] == ["settled"]
    assert not site.spool.conflicts(job.series_instance_uid)


def test_the_same_image_again_does_not_begin_the_waiting_anew(site: Site, thigh_series: list[Path]) -> None:
    site.send(*thigh_series[:5], *thigh_series[6:])
    site.tick_for(QUIET_S / 2)
    site.send(thigh_series[0])
    job = site.settled()
    assert QUIET_S <= site.waited_s(job) < QUIET_S + 2


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_other_bytes_of_a_uid_hold_the_job_until_a_person_says_which(
    site: Site, thigh_series: list[Path], tmp_path: Path, crash: bool
) -> None:
    site.send(*thigh_series)
    first = site.settled()
    other = changed(thigh_series[4], tmp_path, SeriesDescription="edited")
    uid = str(pydicom.dcmread(other).SOPInstanceUID)
    site.send(other)
    if crash:
        site.again()
    held = site.settled()
    assert (held.job, held.state, held.reason_code) == (first.job, State.RECEIVED, "CONFLICTING_INSTANCES")
    assert uid in (held.held or "")
    assert not site.ledger.to_synthesize()
    with pytest.raises(WrongState):
        review.release(site.ledger, site.queues, held.job, by="me", reason="why")

    chosen = review.release(site.ledger, site.queues, held.job, by="me", reason="the edited one is right", use="last")
    assert chosen.job != first.job
    names = set(chosen.sop_instance_uids) - set(first.sop_instance_uids)
    assert [name.partition("~")[0] for name in names] == [uid]
    assert site.ledger.job(first.job).reason_code == "SUPERSEDED"
    entry = synthesis_id(chosen.job, 1)
    assert site.queues.endings([entry]) == {entry: "waiting"}
    site.send(other)
    site.again()
    site.tick_for(0.5)
    assert [one.job for one in site.ledger.jobs()] == [chosen.job, first.job]


def test_a_series_with_a_contradiction_is_held_from_the_beginning_and_the_first_content_may_be_chosen(
    site: Site, thigh_series: list[Path], tmp_path: Path
) -> None:
    site.send(*thigh_series, changed(thigh_series[4], tmp_path, SeriesDescription="edited"))
    held = site.settled()
    assert held.reason_code == "CONFLICTING_INSTANCES"
    goes_on = review.release(site.ledger, site.queues, held.job, by="me", reason="the first is right", use="first")
    assert (goes_on.job, goes_on.held) == (held.job, None)
    assert [one.chosen for one in Conflicts(site.ledger.engine).of(held.series_instance_uid)] == [
        pydicom.dcmread(thigh_series[4]).SOPInstanceUID
    ]


def test_a_uid_of_another_series_holds_the_later_series(
    site: Site, thigh_series: list[Path], another_series: Callable[..., list[Path]], tmp_path: Path
) -> None:
    site.send(*thigh_series)
    first = site.settled()
    others = another_series(5)
    uid = str(pydicom.dcmread(thigh_series[0]).SOPInstanceUID)
    borrowed = pydicom.dcmread(others[0])
    borrowed.SOPInstanceUID = borrowed.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    borrowed.save_as(tmp_path / "borrowed.dcm")
    site.send(tmp_path / "borrowed.dcm", *others[1:])
    held = site.settled(jobs=2)
    assert held.held is not None
    assert f"SOP instance {uid} belongs to series {first.series_instance_uid} too" in held.held
    assert site.ledger.job(first.job).held is None
    assert review.release(site.ledger, site.queues, held.job, by="me", reason="a copy", use="first").job == held.job
