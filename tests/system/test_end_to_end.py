"""Real series from real senders through `sct-node serve` to real archives, and back from there.

dcmtk's storescu and Orthanc push; Orthanc and dcmtk's storescp receive. storescp is started late, so that for a while
one of two destinations is down. Between the good series come bad ones. Everything is pushed once, then looked at.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset

from dicomnode.config.load import Config, load
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import JobRow
from dicomnode.ledger.states import JobEvent, State
from pipeline.preflight.check import preflight
from pipeline.series.series import Series, only_series, read_series
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.volume import read_volume

if TYPE_CHECKING:
    from tests.conftest import Orthanc

pytestmark = pytest.mark.timeout(1500)

PATIENCE_S = 1200
GOOD = ("philips", "xa30", "ibsi_024", "ibsi_035")
HEADS = ("philips", "xa30")
WRONG_IN_THE_MR = {
    "StudyID": "of the ibsi series it is longer than a SH may be (PS3.5 table 6.2-1), so the CT has it empty",
    "ProcedureCodeSequence": "of the Philips series it has no item, which dciodvfy calls an error, so the CT has none",
}
"""Attribute -> why the CT has it not as the MR has."""


@dataclass(frozen=True)
class Site:
    """A running node and its peers."""

    process: subprocess.Popen[bytes]
    config: Config
    ledger: Ledger
    orthanc: Orthanc
    program: Callable[[str], str]
    archive_port: int
    folder: Path

    def storescu(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """dcmtk's sender, with all files of a folder."""
        titles = ["-aet", "STORESCU", "-aec", self.config.node.ae_title]
        peer = ["127.0.0.1", str(self.config.node.port)]
        command = [self.program("storescu"), *titles, "+sd", *peer, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    def push(self, files: Sequence[Path]) -> None:
        """Have Orthanc take files and send them to the node."""
        self.orthanc.push("node", [self.orthanc.upload(path) for path in files])

    def made(self, job: JobRow) -> list[Path]:
        """The CT files of a job as the node keeps them."""
        return sorted((self.config.node.data / "out" / job.job).glob("*.dcm"))


@dataclass(frozen=True)
class Journey:
    """One good series: the MR as it was sent, its job, and its CT as Orthanc and storescp have it."""

    source: Series
    job: JobRow
    made: list[Path]
    at_orthanc: list[Path]
    at_storescp: list[Path]


@pytest.fixture(scope="module")
def sources(mr_item: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> folder of what is sent, good and bad."""
    folder = tmp_path_factory.mktemp("sent")
    philips = mr_item("philips_ingenia_sag_mprage_classic")
    found = {"philips": philips, "ibsi_024": mr_item("ibsi_STS_024") / "MR_T1" / "image"}
    found |= {"ibsi_035": mr_item("ibsi_STS_035") / "MR_T1" / "image", "ct": mr_item("ibsi_STS_024") / "CT" / "image"}
    for name in ("xa30", "one_slice"):
        (folder / name).mkdir()
    shutil.copy(mr_item("siemens_xa30_enhanced_t1") / "series5.dcm", folder / "xa30")
    shutil.copy(min(found["ibsi_024"].glob("*.dcm")), folder / "one_slice")
    found |= {name: folder / name for name in ("xa30", "one_slice")}
    rewritten(folder / "one_slice", "1")
    missing = shutil.copytree(found["ibsi_035"], folder / "missing_slice")
    sorted(missing.glob("*.dcm"))[20].unlink()
    rewritten(missing, "2")
    truncated = shutil.copytree(found["ibsi_024"], folder / "truncated")
    rewritten(truncated, "3")
    cut(sorted(truncated.iterdir())[7])
    return found | {"missing_slice": missing, "truncated": truncated}


def rewritten(folder: Path, suffix: str) -> None:
    """Give the files of a folder a series and instances of their own."""
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID[:55]}.99{suffix}"
        uid = pydicom.uid.UID(f"{image.SOPInstanceUID[:55]}.99{suffix}")
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
        image.save_as(path)


def cut(path: Path) -> None:
    """Take half of the pixels away: dcmtk and Orthanc send no file that ends within an element."""
    image = pydicom.dcmread(path)
    image.PixelData = image.PixelData[: len(image.PixelData) // 4 * 2]
    image.save_as(path)


@pytest.fixture(scope="module")
def site(
    orthanc: Orthanc,
    program: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("node")
    archive_port = free_port()
    retries = {"retry_first_s": 1.0, "retry_max_s": 3.0}
    destinations = [
        {"name": "orthanc", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.port, **retries},
        {"name": "storescp", "ae_title": "STORESCP", "host": "127.0.0.1", "port": archive_port, **retries},
    ]
    values = {
        "node": {"data": str(folder / "data"), "port": free_port()},
        "web": {"port": free_port()},
        "metrics": {"port": free_port()},
        "settle": {"quiet_s": 15.0},
        "receive": {"disk_reserve_bytes": 0},
        "anatomy_check": "warn",
        "quality": {"gate": "never_hold"},  # what is cropped about a tumour would be held for its truncation
        "destinations": destinations,
    }
    (folder / "node.yaml").write_text(yaml.safe_dump(values))
    config = load(folder / "node.yaml")
    orthanc.know("node", config.node.ae_title, config.node.port)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "dicomnode.cli.main", "serve", "--config", str(folder / "node.yaml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    ledger = Ledger(database_url(config))
    try:
        wait_for(lambda: ready(config), process, 180, folder / "log")
        yield Site(process, config, ledger, orthanc, program, archive_port, folder)
    finally:
        process.terminate()
        process.wait(60)
        ledger.close()


def ready(config: Config) -> bool:
    """Whether /readyz says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{config.metrics.port}/readyz", timeout=5) as answer:
            return bool(json.loads(answer.read())["ready"])
    except OSError:
        return False


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], limit_s: float, log: Path, pause_s: float = 0.3
) -> None:
    """Wait until the condition holds; fails when the process ends or it takes too long."""
    until = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(pause_s)


@contextlib.contextmanager
def storescp(site: Site) -> Iterator[Path]:
    """dcmtk's receiver, writing what comes bit by bit."""
    folder = site.folder / "storescp"
    folder.mkdir()
    command = [site.program("storescp"), "-aet", "STORESCP", "+B", "-od", str(folder), str(site.archive_port)]
    with subprocess.Popen(command) as process:
        try:
            yield folder
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def jobs(site: Site, sources: dict[str, Path]) -> dict[str, JobRow]:
    """Name -> job, once nothing more will happen: everything is sent, and storescp starts late."""
    assert site.storescu(sources["ibsi_024"]).returncode == 0
    assert site.storescu(sources["missing_slice"]).returncode == 0
    assert site.storescu(sources["one_slice"]).returncode == 0
    assert site.storescu(sources["truncated"]).returncode == 0
    site.push(sorted(sources["ibsi_035"].iterdir()))
    site.push(sorted(sources["xa30"].iterdir()))
    assert site.storescu(sources["philips"]).returncode == 0
    sent = (*GOOD, "missing_slice", "one_slice", "truncated")
    uids = {name: only_series(read_series(sources[name])).series_instance_uid for name in sent}

    def now() -> dict[str, JobRow | None]:
        return {name: site.ledger.job_of(uid) for name, uid in uids.items()}

    def orthanc_has(job: JobRow | None) -> bool:
        took = [one for one in site.ledger.deliveries(job.job) if one.delivered_at] if job else []
        return [one.destination for one in took] == ["orthanc"]

    log = site.folder / "log"
    wait_for(lambda: orthanc_has(now()["ibsi_024"]), site.process, PATIENCE_S, log)
    with storescp(site):
        ended = (State.DELIVERED, State.REJECTED)
        done = lambda: all(job and (job.state in ended or job.held) for job in now().values())  # noqa: E731
        wait_for(done, site.process, PATIENCE_S, log)
    return {name: job for name, job in now().items() if job}


@pytest.fixture(scope="module", params=GOOD)
def journey(request: pytest.FixtureRequest, site: Site, jobs: dict[str, JobRow], sources: dict[str, Path]) -> Journey:
    """One good series, its CT read back from Orthanc over REST into files."""
    job = jobs[request.param]
    assert job.state is State.DELIVERED, (job.reason_code, job.reason_sentence)
    made = site.made(job)
    ids = site.orthanc.instances()
    back = site.folder / "back" / request.param
    back.mkdir(parents=True)
    for path in made:
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        (back / path.name).write_bytes(site.orthanc.file(ids[uid]))
    received = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in (site.folder / "storescp").iterdir()}
    there = [received[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] for path in made]
    return Journey(only_series(read_series(sources[request.param])), job, made, sorted(back.iterdir()), there)


def images(paths: Sequence[Path]) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in paths]


def test_every_ct_file_has_no_error_for_dciodvfy(journey: Journey, site: Site) -> None:
    def errors(path: Path) -> list[str]:
        told = subprocess.run([site.program("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
        return [line for line in told.stderr.splitlines() if line.startswith("Error")]

    with ThreadPoolExecutor(4) as pool:
        assert [found for found in pool.map(errors, journey.at_orthanc) if found] == []


def test_ct_and_mr_together_are_consistent_for_dcentvfy_but_for_what_is_wrong_in_the_mr(
    journey: Journey, site: Site
) -> None:
    def told(files: Sequence[Path]) -> set[str]:
        run = subprocess.run([site.program("dcentvfy"), *map(str, files)], capture_output=True, text=True, check=False)
        return {line.partition(" for file ")[0] for line in (run.stdout + run.stderr).splitlines()}

    mr = [instance.path for instance in journey.source.instances]
    of_the_ct = told([*journey.at_orthanc, *mr]) - told(mr)
    assert [line for line in of_the_ct if not any(f"Element=<{keyword}>" in line for keyword in WRONG_IN_THE_MR)] == []
    assert [line for line in of_the_ct if line.startswith("Error")] == []


def test_every_type_1_and_2_attribute_is_there_and_every_rule_holds_at_the_archive(journey: Journey) -> None:
    assert preflight(journey.at_orthanc) == []


def test_slices_are_axial_at_equal_steps_at_the_places_that_the_mr_gives(journey: Journey) -> None:
    expected = axial_geometry(read_volume(journey.source).get_geometry())
    slices = sorted(images(journey.at_orthanc), key=lambda image: float(image.ImagePositionPatient[2]))
    positions = np.array([image.ImagePositionPatient for image in slices], float)
    wanted = np.array([expected.affine[:3, 3] + k * expected.affine[:3, 0] for k in range(expected.spatial_shape[0])])
    assert positions.shape == wanted.shape
    assert np.abs(positions - wanted).max() < 1e-4
    assert np.ptp(np.diff(positions[:, 2])) < 1e-4
    assert {tuple(map(float, image.ImageOrientationPatient)) for image in slices} == {(1, 0, 0, 0, 1, 0)}
    assert {tuple(map(float, image.PixelSpacing)) for image in slices} == {expected.pixel_spacing}


def test_patient_study_and_frame_of_reference_are_the_mr_s(journey: Journey) -> None:
    header = journey.source.header
    for image in images(journey.at_orthanc):
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition"):
            assert image.get(keyword) == header.get(keyword)


def data_set(path: Path) -> bytes:
    """The bytes of a DICOM file after its file meta information, whose length is at byte 140 (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_no_byte_of_a_ct_changes_on_the_trip_to_either_archive(journey: Journey) -> None:
    made = [data_set(path) for path in journey.made]
    assert made == [data_set(path) for path in journey.at_orthanc]
    assert made == [data_set(path) for path in journey.at_storescp]


def test_hu_have_the_range_of_a_body_with_air_around_it(journey: Journey) -> None:
    slices = images(journey.at_orthanc)
    hu = np.stack([image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in slices])
    assert {(float(i.RescaleSlope), float(i.RescaleIntercept), i.RescaleType) for i in slices} == {(1, -1024, "HU")}
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    assert 0.05 < (np.abs(hu) < 200).mean() < 0.95
    assert (hu < -900).any()


def test_a_head_carries_the_warning_that_the_model_claims_limbs_only(
    jobs: dict[str, JobRow], site: Site, sources: dict[str, Path]
) -> None:
    for name in GOOD:
        image = pydicom.dcmread(site.made(jobs[name])[0])
        words = f"{image.get('ImageComments', '')} {image.get('DerivationDescription', '')}"
        assert ("BRAIN" in words) == (name in HEADS)


def test_every_instance_has_a_receipt_of_each_destination(journey: Journey, site: Site) -> None:
    receipts = site.ledger.receipts(journey.job.job)
    assert all(one.taken for one in receipts)
    for name in ("orthanc", "storescp"):
        assert sum(one.destination == name for one in receipts) == len(journey.made)


def test_a_destination_that_was_down_delayed_no_other(jobs: dict[str, JobRow], site: Site) -> None:
    events = site.ledger.events(jobs["ibsi_024"].job)
    taken = [event.words for event in events if event.event == JobEvent.ACCEPTED]
    assert taken == ["orthanc", "storescp"]
    assert any(event.event == JobEvent.POSTPONED and event.words.startswith("storescp") for event in events)


def test_a_ct_is_refused_when_the_association_is_negotiated(
    jobs: dict[str, JobRow], site: Site, sources: dict[str, Path]
) -> None:
    done = site.storescu(sources["ct"])
    assert done.returncode != 0
    assert "resentation" in done.stdout + done.stderr
    ct = read_series(sources["ct"])[0].series_instance_uid
    assert not (site.config.node.data / "in" / ct).exists()


@pytest.mark.parametrize(
    ("name", "code"), [("missing_slice", "GAP"), ("one_slice", "TOO_FEW_SLICES"), ("truncated", "UNREADABLE")]
)
def test_a_bad_series_is_rejected_with_its_reason(jobs: dict[str, JobRow], name: str, code: str) -> None:
    assert (jobs[name].state, jobs[name].reason_code) == (State.REJECTED, code)


def test_no_log_line_and_no_page_holds_a_patient_s_name_or_id(
    jobs: dict[str, JobRow], site: Site, sources: dict[str, Path]
) -> None:
    said = (site.folder / "log").read_text()
    page, watch = site.config.web.port, site.config.metrics.port
    for path in (f"{page}/", f"{watch}/metrics", *(f"{page}/jobs/{job.job}" for job in jobs.values())):
        with urllib.request.urlopen(f"http://127.0.0.1:{path}", timeout=20) as answer:
            said += io.TextIOWrapper(answer).read()
    for name in ("philips", "xa30", "ibsi_024", "ibsi_035"):
        header = only_series(read_series(sources[name])).header
        for value in (str(header.get("PatientName", "")), str(header.get("PatientID", ""))):
            assert len(value) < 4 or value not in said


def test_the_node_is_still_the_same_process_and_ready(jobs: dict[str, JobRow], site: Site) -> None:
    assert site.process.poll() is None
    assert ready(site.config)
