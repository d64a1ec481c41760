"""Twelve complaints of other nodes' users, none of which this node gives: one test each, on a running node.

One node serves all tests, with its senders (dcmtk's storescu, Orthanc, pynetdicom) and two planning systems: dcmtk's
storescp, and one of ours that refuses what a test tells it to.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from highdicom import VolumeGeometry
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt

from dicomnode.config.peers import Destination
from dicomnode.config.sections import Commitment, Peer, Receive, Settle
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import JobEvent, State
from dicomnode.spool.instance_file import sop_class_of_intact
from dicomnode.spool.spool import Spool
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import Phantom, axial_grid, thigh

if TYPE_CHECKING:
    from tests.conftest import Orthanc

SLICES = 12
QUIET_S = 3.0
LIMITED = """
for: a planning system that takes short series only
like: generic
rules:
  slice_count: {most: 50, evidence: this test says so}
"""


@dataclass
class Picky:
    """A planning system that answers each instance as `answer` says: a status, or status and Error Comment."""

    answer: Callable[[Dataset], int | tuple[int, str]] = lambda _: 0x0000
    kept: dict[str, str] = field(default_factory=dict)
    """SOP Instance UID -> Series Instance UID of what it took."""

    def listen(self, port: int) -> AE:
        """Serve in threads."""
        ae = AE("PICKY")
        ae.add_supported_context(CTImageStorage)
        ae.add_supported_context("1.2.840.10008.1.1")
        ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        return ae

    def _store(self, event: evt.Event) -> Dataset:
        said = self.answer(event.dataset)
        status = Dataset()
        status.Status, comment = said if isinstance(said, tuple) else (said, "")
        if comment:
            status.ErrorComment = comment
        if status.Status == 0x0000:
            self.kept[str(event.dataset.SOPInstanceUID)] = str(event.dataset.SeriesInstanceUID)
        return status


@dataclass
class Site:
    """The node, its planning systems, and its senders."""

    running: Any
    planning: Path
    picky: Picky
    storescu: str
    folder: Path
    seeds: Iterator[int]

    def series(self, mr: Phantom | None = None, slices: int = SLICES) -> list[Path]:
        """The files of a new MR series: of the thigh, axial, unless `mr` says otherwise."""
        seed = next(self.seeds)
        made = mr or thigh(axial_grid((slices, 64, 64), (6.0, 3.0, 3.0)), seed=seed)
        return write_mr_series(made.mr, self.folder / f"series-{seed}", seed=seed)

    def push(self, paths: Sequence[Path], *options: str, check: bool = True) -> str:
        """Send files by storescu over one association; -> what it said."""
        node = self.running.config.node
        command = [
            self.storescu,
            *options,
            "-v",
            "-aet",
            "STORESCU",
            "-aec",
            node.ae_title,
            "127.0.0.1",
            str(node.port),
        ]
        said = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, timeout=120)
        assert not check or said.returncode == 0, said.stderr + said.stdout
        return said.stdout + said.stderr

    def jobs(self, paths: Sequence[Path]) -> list[JobRow]:
        """The jobs of a series, the newest first."""
        return [one for one in self.running.ledger.jobs() if one.source_series_uid == series_of(paths)]

    def job(self, paths: Sequence[Path], *states: State, limit_s: float = 60.0) -> JobRow:
        """The newest job of a series once it is in one of the states."""

        def there() -> JobRow | None:
            return next((one for one in self.jobs(paths)[:1] if one.state in states), None)

        found = self.running.until(there, f"the job is {' or '.join(states)}", limit_s)
        assert isinstance(found, JobRow)
        return found

    def delivered(self, job: JobRow) -> list[Dataset]:
        """The headers of the job's CT series at the planning system, in the order of z."""
        found = [pydicom.dcmread(path) for path in self.planning.iterdir()]
        mine = [one for one in found if one.SeriesInstanceUID == job.ct_series_uid]
        return sorted(mine, key=lambda one: float(one.ImagePositionPatient[2]))

    def said(self, *arguments: str) -> str:
        """What `sct-node` prints."""
        config = self.running.folder / "node.yaml"
        command = [sys.executable, "-m", "dicomnode.cli.main", *arguments, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def page(self, path: str) -> str:
        """What the node's web page answers, or its metrics."""
        config = self.running.config
        port = config.metrics.port if path == "/metrics" else config.web.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def receiver(self) -> int:
        """The process id of the role that receives."""
        return role_of(self.running.process.pid, "receive")

    def restarted(self) -> None:
        """Every process is killed at once, and the node is started again."""
        self.running.kill()
        self.running.start()


def series_of(paths: Sequence[Path]) -> str:
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)


def instances_of(paths: Sequence[Path]) -> list[str]:
    return [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]


def role_of(supervisor: int, role: str) -> int:
    """The process id of a role of a node."""
    said = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(supervisor)], capture_output=True, text=True, check=True
    )
    return next(int(line.split()[0]) for line in said.stdout.splitlines() if f"dicomnode.cli.main {role} " in line)


@pytest.fixture(scope="module")
def site(
    make_node: Callable[..., Any],
    program: Callable[[str], str],
    free_port: Callable[[], int],
    orthanc: Orthanc,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The running node; Orthanc can be called back."""
    folder = tmp_path_factory.mktemp("complaints")
    ports = [free_port(), free_port()]
    planning, picky = folder / "planning", Picky()
    planning.mkdir()
    (folder / "limited.yaml").write_text(LIMITED)
    destinations = [
        Destination("planning", "STORESCP", "127.0.0.1", ports[0]),
        Destination("picky", "PICKY", "127.0.0.1", ports[1], profile=str(folder / "limited.yaml")),
    ]
    destinations = [replace(one, retry_first_s=1.0, retry_max_s=2.0, timeout_s=10.0) for one in destinations]
    receive = Receive(disk_reserve_bytes=0, peers=(Peer(orthanc.ae_title, "127.0.0.1", orthanc.port),))
    commitment = Commitment(timeout_s=5.0, retry_first_s=0.5, retry_max_s=1.0)
    settle = Settle(quiet_s=QUIET_S)
    running = make_node(folder / "node", *destinations, receive=receive, commitment=commitment, settle=settle)
    storescp = [program("storescp"), "-od", str(planning), str(ports[0])]
    system = picky.listen(ports[1])
    with subprocess.Popen(storescp, stderr=subprocess.DEVNULL) as process:
        running.start()
        yield Site(running, planning, picky, program("storescu"), folder, iter(range(1, 1000)))
        running.end()
        system.shutdown()
        process.terminate()


@pytest.fixture(autouse=True)
def everything_is_welcome(site: Site) -> None:
    """The picky planning system refuses nothing unless a test says so."""
    site.picky.answer = lambda _: 0x0000


# 1


def test_complaint_1_series_completeness_by_timer_alone(site: Site) -> None:
    """Timers split slow series and delay fast ones; here the evidence decides, and the event says which."""
    fast, slow = site.series(), site.series()
    site.push(fast)
    scanner = AE("SLOW")
    scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = scanner.associate("127.0.0.1", site.running.config.node.port)
    assert [association.send_c_store(path).Status for path in slow[:6]] == [0x0000] * 6
    time.sleep(QUIET_S + 1.5)
    assert site.jobs(slow) == []
    assert [association.send_c_store(path).Status for path in slow[6:]] == [0x0000] * 6
    association.release()
    for paths in (fast, slow):
        job = site.job(paths, State.SYNTHESIZED, State.DELIVERED)
        assert [one.job for one in site.jobs(paths)] == [job.job]
        assert len(job.sop_instance_uids) == SLICES
        settled = next(one for one in site.running.ledger.events(job.job) if one.event == "settled")
        assert settled.words.startswith("complete")


# 2


def test_complaint_2_one_bad_file_blocks_all_later_sends(site: Site, program: Callable[[str], str]) -> None:
    """In: an object that cannot be kept is refused alone. Out: a series that is refused for ever delays no other."""
    refused, good = site.series(), site.series()
    bad = site.folder / "bad.dcm"
    shutil.copy(good[5], bad)
    subprocess.run([program("dcmodify"), "-nb", "-e", "(0020,000e)", str(bad)], check=True, capture_output=True)

    site.picky.answer = lambda _: 0xC000
    site.push(refused)
    unwelcome = site.job(refused, State.SYNTHESIZED).ct_series_uid
    site.picky.answer = lambda one: 0xC000 if one.SeriesInstanceUID == unwelcome else 0x0000
    said = site.push([bad, *good], "-nh", check=False)
    assert said.count("Received Store Response (Error") == 1
    job = site.job(good, State.DELIVERED)
    assert len(job.sop_instance_uids) == SLICES
    assert list(site.picky.kept.values()).count(str(job.ct_series_uid)) == SLICES
    assert site.jobs(refused)[0].state is State.SYNTHESIZED


# 3


def test_complaint_3_acknowledged_images_are_lost_at_crash_or_abort(site: Site) -> None:
    """What a sender heard Success for is on the disk and whole, whatever happened after that."""
    crashed, aborted = site.series(slices=41), site.series()
    del crashed[2]  # a gap: the node has nothing to compute
    node, acknowledged = site.running.config.node, 0
    command = [site.storescu, "-v", "-aec", node.ae_title, "127.0.0.1", str(node.port), *map(str, crashed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sender:
        assert sender.stdout is not None
        for line in sender.stdout:
            acknowledged += "Received Store Response (Success)" in line
            if acknowledged == 10 and site.running.process.poll() is None:
                site.running.kill()
    assert 10 <= acknowledged < len(crashed)
    site.running.start()
    scanner = AE("SCANNER")
    scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = scanner.associate("127.0.0.1", node.port)
    assert [association.send_c_store(path).Status for path in aborted[:5]] == [0x0000] * 5
    association.abort()
    kept = Spool(node.data).find(wanted := [*instances_of(crashed)[:acknowledged], *instances_of(aborted)[:5]])
    assert set(kept) == set(wanted)
    assert {sop_class_of_intact(path) for paths in kept.values() for path in paths} == {MRImageStorage}


# 4


def test_complaint_4_a_stale_lock_freezes_a_job_for_ever(site: Site) -> None:
    """SIGKILL while a job is worked on leaves every lock file behind, and the job goes on at the next start."""
    series = site.series()
    site.push(series)
    site.job(series, State.RECEIVED, State.SYNTHESIZED)
    site.running.kill()
    data = site.running.config.node.data
    assert list((data / "run").glob("*.lock"))
    assert list((data / ".writers").glob("*.lock"))
    site.running.start()
    assert len(site.delivered(site.job(series, State.DELIVERED))) == SLICES


# 5


def test_complaint_5_sent_is_shown_although_the_receiver_failed(site: Site) -> None:
    """One refused image among accepted ones, the last one accepted: not delivered, and it says so."""
    series, seen = site.series(), list[str]()
    study = pydicom.dcmread(series[0], stop_before_pixels=True).StudyInstanceUID

    def fifth_is_refused(one: Dataset) -> int:
        if one.StudyInstanceUID != study:  # an earlier test's, still on its way
            return 0x0000
        seen.append(str(one.SOPInstanceUID))
        return 0xA700 if seen[-1:] == seen[4:5] else 0x0000

    site.picky.answer = fifth_is_refused
    site.push(series)
    job = site.job(series, State.SYNTHESIZED)
    attempts = site.running.until(lambda: attempts_of(site, job), "the first attempt is over")
    assert "refused 1 with status 0xA700; 11 of 12 arrived" in attempts[0]
    assert site.jobs(series)[0].state is State.SYNTHESIZED
    assert [one.status for one in site.running.ledger.receipts(job.job) if not one.taken] == [0xA700]
    assert "0xA700" in site.said("show", job.job[:12])
    site.picky.answer = lambda _: 0x0000
    site.job(series, State.DELIVERED)
    assert list(site.picky.kept.values()).count(str(job.ct_series_uid)) == SLICES


def attempts_of(site: Site, job: JobRow) -> list[str]:
    """What came of the attempts to deliver a job that did not bring everything, the first one first."""
    return [one.words for one in site.running.ledger.events(job.job) if one.event == JobEvent.POSTPONED]


# 6


def test_complaint_6_storage_commitment_is_never_answered(site: Site, orthanc: Orthanc) -> None:
    """Orthanc asks, the node is killed before it could report, and Orthanc hears after the next start."""
    series = site.series()
    ids = [orthanc.upload(path) for path in series]
    orthanc.know("complained", "SCTNODE", site.running.config.node.port)
    orthanc.push("complained", ids)
    body = json.dumps({"Resources": ids}).encode()
    asked = json.loads(orthanc.rest("POST", "/modalities/complained/storage-commitment", body))

    def status() -> str:
        return str(json.loads(orthanc.rest("GET", f"/storage-commitment/{asked['ID']}"))["Status"])

    site.running.kill()
    assert status() == "Pending"
    site.running.start()
    site.running.until(lambda: status() != "Pending", "Orthanc hears the report", 20)
    assert status() == "Success"


# 7


def test_complaint_7_memory_grows_over_associations_and_bare_tcp_probes(site: Site) -> None:
    """Threads, descriptors and memory of the receiver are where they were, after each kind of caller came often."""
    receiver, port = site.receiver(), site.running.config.node.port
    callers(port, 40)
    # The files of database and metrics are opened by the first ticks: before them the process is still starting.
    site.running.until(lambda: site.running.ticks("receive") >= 3, "the receiver ticks")
    before = resources(receiver)
    callers(port, 200)
    site.running.until(lambda: resources(receiver)[:2] <= before[:2], "threads and descriptors are let go", 20)
    assert resources(receiver)[2] - before[2] < 4096, "more than 4 MiB"


def callers(port: int, number: int) -> None:
    """Bare TCP probes, closed and reset, and associations that echo, are released or aborted."""
    ae = AE("CALLER")
    ae.add_requested_context("1.2.840.10008.1.1")
    for turn in range(number):
        probe = socket.create_connection(("127.0.0.1", port))
        if turn % 2:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        probe.close()
        if turn % 4 == 0:
            association = ae.associate("127.0.0.1", port)
            assert association.send_c_echo().Status == 0x0000
            association.abort() if turn % 8 else association.release()


def resources(pid: int) -> tuple[int, int, int]:
    """Threads, open descriptors and resident memory (KiB) of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["VmRSS"].split()[0])


# 8


def test_complaint_8_throughput_collapses_with_parallel_senders(site: Site) -> None:
    """An image costs the receiver about the same processor time when four send at once as when one does."""
    alone, together = cpu_s_an_image(site, 1), cpu_s_an_image(site, 4)
    assert alone < 0.025
    assert together < 2 * alone


def cpu_s_an_image(site: Site, senders: int, images: int = 60) -> float:
    """Processor seconds of the receiver an image, when so many senders push a series (with a gap) each at once."""
    pushes = [[path for path in site.series(slices=images + 1) if path.name != "0009.dcm"] for _ in range(senders)]
    node, receiver = site.running.config.node, site.receiver()
    begun = cpu_s(receiver)
    command = [site.storescu, "-aec", node.ae_title, "127.0.0.1", str(node.port)]
    running = [subprocess.Popen([*command, *map(str, paths)]) for paths in pushes]
    assert [one.wait(60) for one in running] == [0] * senders
    return (cpu_s(receiver) - begun) / (senders * images)


def cpu_s(pid: int) -> float:
    """Processor time of a process, user and system, in seconds."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


# 9


def test_complaint_9_geometry_is_distorted_by_a_stray_slice(site: Site) -> None:
    """A localizer in the series is set aside, a slice between two others is refused; no voxel is ever stretched."""
    with_localizer, with_stray = site.series(), site.series()
    localizer, between = site.folder / "localizer.dcm", site.folder / "between.dcm"
    moved(with_localizer[0], localizer, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[-90, 0, 90])
    middle = pydicom.dcmread(with_stray[5]).ImagePositionPatient
    moved(with_stray[5], between, ImagePositionPatient=[middle[0], middle[1], middle[2] + 2.0])
    site.push([*with_localizer, localizer])
    site.push([*with_stray, between])

    made = site.delivered(site.job(with_localizer, State.DELIVERED))
    assert positions(made) == positions([pydicom.dcmread(path) for path in with_localizer])
    refused = site.job(with_stray, State.REJECTED)
    assert refused.reason_code in ("UNEVEN_STEPS", "GAP", "DUPLICATE_POSITION")
    assert "mm" in str(refused.reason_sentence)


def moved(source: Path, path: Path, **values: Any) -> None:
    """The same image as another instance somewhere else."""
    image = pydicom.dcmread(source)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(path)


def positions(images: Sequence[Dataset]) -> list[list[float]]:
    """ImagePositionPatient of each, LPS mm, in the order of z."""
    found = [[float(value) for value in one.ImagePositionPatient] for one in images]
    return sorted(found, key=lambda place: place[2])


# 10


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_complaint_10_left_and_right_are_mixed_up_or_all_is_shifted_by_half_a_voxel(site: Site, plane: str) -> None:
    """The body's outline in the CT lies where the true one lies, in patient coordinates, whatever the MR's planes."""
    centre_mm = (25.0, -18.0, 4.0)
    affine = np.eye(4)
    affine[:3, :3] = {"axial": [[0, 0, 3], [0, 3, 0], [4, 0, 0]], "sagittal": [[3, 0, 0], [0, 0, 3], [0, -3, 0]]}[plane]
    shape = {"axial": (16, 72, 72), "sagittal": (72, 24, 72)}[plane]
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    series = site.series(thigh(VolumeGeometry(affine, shape, "PATIENT"), noise=5.0))
    site.push(series)
    job = site.job(series, State.SYNTHESIZED, State.DELIVERED)
    site.running.until(lambda: len(site.delivered(job)) == job.ct_instances, "the CT is at the planning system")
    slices = site.delivered(job)
    outline = np.stack([one.pixel_array + float(one.RescaleIntercept) > -900 for one in slices])
    truth = thigh(geometry_of(slices)).labels.array > 0
    assert np.abs(centroid_mm(outline, slices) - centroid_mm(truth, slices)).max() < 0.5
    assert np.count_nonzero(outline & truth) / np.count_nonzero(outline | truth) > 0.9


def geometry_of(slices: Sequence[Dataset]) -> VolumeGeometry:
    """The grid of axial slices (slice, row, column), LPS mm."""
    first, second = (np.asarray(one.ImagePositionPatient, float) for one in slices[:2])
    rows, columns = (float(value) for value in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([second - first, [0, rows, 0], [columns, 0, 0]], axis=1)
    affine[:3, 3] = first
    return VolumeGeometry(affine, (len(slices), slices[0].Rows, slices[0].Columns), "PATIENT")


def centroid_mm(mask: np.ndarray[Any, Any], slices: Sequence[Dataset]) -> np.ndarray[Any, Any]:
    """The centre of a mask in patient coordinates, LPS mm."""
    centre = np.argwhere(mask).mean(axis=0)
    return np.asarray((geometry_of(slices).affine @ [*centre, 1.0])[:3])


# 11


def test_complaint_11_a_planning_system_refuses_without_saying_why(site: Site) -> None:
    """What it would refuse is held with the rule's name; what it does refuse is shown with its status and words."""
    long = site.series(thigh(axial_grid((51, 32, 32), (3.0, 6.0, 6.0))))
    site.push(long)
    held = site.running.until(lambda: [one.held for one in site.jobs(long) if one.held], "a rule is broken")[0]
    assert "slice_count" in held
    assert "picky" in held

    series = site.series()
    site.picky.answer = lambda _: (0xA900, "Slice thickness is not supported")
    site.push(series)
    job = site.job(series, State.SYNTHESIZED)
    attempts = site.running.until(lambda: attempts_of(site, job), "the first attempt is over")
    assert "refused 12 with status 0xA900" in attempts[0]
    shown = site.said("show", job.job[:12])
    assert "0xA900" in shown
    assert "Slice thickness is not supported" in shown
    page = site.page("/metrics")
    assert 'sct_node_delivered_instances_total{destination="picky",outcome="refused"}' in page


# 12


def test_complaint_12_the_same_uid_again_deletes_or_duplicates(site: Site, program: Callable[[str], str]) -> None:
    """Pushed again: no work. Other bytes under the same UID: both are kept, nothing changes at the destination."""
    series = site.series()
    site.push(series)
    job = site.job(series, State.DELIVERED)
    there = {path.name: path.read_bytes() for path in site.planning.iterdir()}
    site.push(series)
    changed = site.folder / "changed.dcm"
    shutil.copy(series[3], changed)
    subprocess.run(
        [program("dcmodify"), "-nb", "-m", "(0008,103e)=other", str(changed)], check=True, capture_output=True
    )
    site.push([changed])
    held = site.running.until(lambda: site.jobs(series)[0].held, "a person is asked", 20)
    assert instances_of(series)[3] in held or "SOP" in held
    assert [one.job for one in site.jobs(series)] == [job.job]
    uid = instances_of(series)[3]
    contents = Spool(site.running.config.node.data).find([uid])[uid]
    assert len({path.read_bytes() for path in contents}) == 2
    assert {path.name: path.read_bytes() for path in site.planning.iterdir()} == there
