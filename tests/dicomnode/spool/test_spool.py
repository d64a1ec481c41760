"""Files are whole or not at all, on real disks, with real threads and really killed processes."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from dicomnode.errors import Damaged, NotStorable, OutOfResources
from dicomnode.spool.instance_file import Incoming, checked_uid, sop_class_of_intact
from dicomnode.spool.spool import Spool, Stored

SERIES = "1.2.826.0.1.99"
INSTANCE = "1.2.826.0.1.99.7"
# SpecificCharacterSet (0008,0005) "ISO_IR 100" in explicit VR little endian: the least data set that can be read
DATA_SET = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"


def incoming(dataset: bytes = DATA_SET, instance: str = INSTANCE, series: str = SERIES) -> Incoming:
    return Incoming(series, instance, MRImageStorage, ExplicitVRLittleEndian, "SCANNER", dataset)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "sct-node-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_stored_file_holds_the_data_set_byte_for_byte_behind_a_valid_file_head(spool: Spool) -> None:
    stored = spool.store(incoming())
    assert stored == Stored(SERIES, INSTANCE, spool.inbox / SERIES / f"{INSTANCE}.dcm", False, False)
    assert stored.path.read_bytes().endswith(DATA_SET)
    read = dcmread(stored.path)
    assert read.SpecificCharacterSet == "ISO_IR 100"
    assert read.file_meta.MediaStorageSOPInstanceUID == INSTANCE
    assert read.file_meta.MediaStorageSOPClassUID == MRImageStorage
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"


def test_the_file_head_is_valid_for_dcmtk(spool: Spool, program: Callable[[str], str]) -> None:
    stored = spool.store(incoming())
    said = subprocess.run([program("dcmdump"), "+L", stored.path], capture_output=True, text=True, check=True)
    assert "SourceApplicationEntityTitle" in said.stdout
    assert not said.stderr


def test_the_same_bytes_again_are_no_work(spool: Spool) -> None:
    first = spool.store(incoming())
    before = first.path.stat()
    again = spool.store(incoming())
    assert again == dataclasses.replace(first, duplicate=True)
    assert first.path.stat() == before
    assert files_below(spool.inbox) == [first.path]


def test_the_same_data_set_from_another_sender_is_no_work(spool: Spool) -> None:
    spool.store(incoming())
    assert spool.store(dataclasses.replace(incoming(), calling_ae="PACS")).duplicate


def test_other_bytes_under_a_uid_are_kept_beside_the_first_and_flagged(spool: Spool) -> None:
    first = spool.store(incoming())
    other = spool.store(incoming(DATA_SET + b"more"))
    assert other.conflict
    assert not other.duplicate
    assert first.path.read_bytes().endswith(DATA_SET)
    assert other.path.read_bytes().endswith(DATA_SET + b"more")
    assert spool.instances(SERIES) == [first.path]
    assert spool.conflicts(SERIES) == [other.path]
    assert spool.store(incoming(DATA_SET + b"more")) == dataclasses.replace(other, duplicate=True)


def test_the_same_bytes_in_another_transfer_syntax_are_other_bytes(spool: Spool) -> None:
    spool.store(incoming())
    assert spool.store(dataclasses.replace(incoming(), transfer_syntax_uid=ImplicitVRLittleEndian)).conflict


def test_threads_that_store_one_uid_at_once_lose_no_bytes(spool: Spool) -> None:
    versions = [bytes([number]) * 50_000 for number in range(8)]
    start = threading.Barrier(16)
    stored: list[Stored] = []

    def store(version: bytes) -> None:
        start.wait(10)
        stored.append(spool.store(incoming(version)))

    threads = [threading.Thread(target=store, args=(version,)) for version in versions * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    kept = [path.read_bytes()[-50_000:] for path in files_below(spool.inbox)]
    assert sorted(kept) == versions
    assert sum(one.duplicate for one in stored) == 8
    assert len(spool.instances(SERIES)) == 1


@given(st.lists(st.tuples(st.sampled_from(["1.1", "1.2", "1.3"]), st.sampled_from([b"a", b"b", b"cc"])), max_size=12))
@settings(max_examples=30, deadline=None)
def test_any_order_of_stores_keeps_each_different_data_set_once_and_uses_the_first(
    tmp_path_factory: pytest.TempPathFactory, stores: list[tuple[str, bytes]]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    first: dict[str, bytes] = {}
    for uid, dataset in stores:
        first.setdefault(uid, dataset)
        stored = spool.store(incoming(dataset, uid))
        assert stored.conflict == (first[uid] != dataset)
    assert len(files_below(spool.inbox)) == len(set(stores))
    for path in spool.instances(SERIES):
        assert path.read_bytes().endswith(first[path.stem])


@pytest.mark.parametrize(
    "uid", ["", ".", "..", "1..2", ".1", "1.", "../1", "1/2", "1\n", "1.2.a", "1~2", "/etc", "1" * 65, "1.-2", "１.2"]
)
def test_what_is_no_uid_never_becomes_a_path(spool: Spool, uid: str) -> None:
    with pytest.raises(NotStorable, match="SOP Instance UID"):
        spool.store(incoming(instance=uid))
    with pytest.raises(NotStorable, match="Series Instance UID"):
        spool.store(incoming(series=uid))
    assert files_below(spool.inbox) == []


@given(st.text(max_size=70))
def test_a_uid_that_passes_is_one_plain_name(text: str) -> None:
    try:
        uid = checked_uid(text, "UID")
    except NotStorable:
        return
    assert Path(uid).name == uid
    assert uid not in ("", ".", "..")
    assert set(uid) <= set("0123456789.")


def test_leading_zeros_and_padding_are_tolerated() -> None:
    assert checked_uid("1.02.003\0", "UID") == "1.02.003"
    assert checked_uid("1.2 ", "UID") == "1.2"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and what is named, in order, while it is really done."""
    seen: list[str] = []
    fsync, link, rename = os.fsync, os.link, Path.rename

    def watched_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        seen.append(f"fsync {'part' if name.endswith('.part') else name}")
        fsync(descriptor)

    def watched_link(source: Path, target: Path) -> None:
        seen.append("name")
        link(source, target)

    def watched_rename(source: Path, target: Path) -> Path:
        seen.append("name")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    monkeypatch.setattr(Path, "rename", watched_rename)
    return seen


def test_a_file_is_synced_before_it_has_its_name_and_the_folder_after(spool: Spool, steps: list[str]) -> None:
    spool.store(incoming())
    assert steps == ["fsync in", "fsync part", "name", f"fsync {SERIES}"]


def test_a_result_is_synced_to_its_last_file_before_it_has_its_name(spool: Spool, steps: list[str]) -> None:
    spool.publish("job", written)
    assert steps == ["fsync deep", "fsync 1.dcm", "fsync part", "name", "fsync out"]


def test_a_full_disk_is_said_leaves_nothing_and_recovers_by_itself(small_disk: Path) -> None:
    spool = Spool(small_disk, reserve_bytes=-(2**30))  # as if it filled up after the look at what is free
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    with pytest.raises(OutOfResources, match="full"):
        spool.store(incoming(bytes(500_000)))
    assert spool.scan() == []
    assert files_below(spool.inbox) == []
    ballast.unlink()
    assert spool.store(incoming(bytes(500_000))).path.stat().st_size > 500_000


def test_a_disk_that_would_fall_below_its_reserve_is_full(small_disk: Path) -> None:
    spool = Spool(small_disk, reserve_bytes=600_000)
    with pytest.raises(OutOfResources, match="reserve"):
        spool.store(incoming(bytes(500_000)))
    assert spool.store(incoming(bytes(300_000)))


def test_a_result_that_does_not_fit_on_the_disk_leaves_nothing(small_disk: Path) -> None:
    spool = Spool(small_disk)

    def too_much(folder: Path) -> None:
        (folder / "1.dcm").write_bytes(bytes(2_000_000))

    with pytest.raises(OutOfResources, match="full"):
        spool.publish("job", too_much)
    assert list(spool.outbox.iterdir()) == []


def test_every_series_on_disk_is_found_with_its_sender(spool: Spool) -> None:
    for series, instance in (("1.5", "1.5.1"), ("1.5", "1.5.2"), ("1.6", "1.6.1")):
        spool.store(incoming(series=series, instance=instance))
    spool.store(incoming(DATA_SET + b"other", series="1.6", instance="1.6.1"))
    (spool.inbox / "1.7").mkdir()
    (spool.inbox / "lost+found").mkdir()
    found = {arrival.series_uid: arrival for arrival in spool.scan()}
    assert {uid: arrival.sop_uids for uid, arrival in found.items()} == {"1.5": {"1.5.1", "1.5.2"}, "1.6": {"1.6.1"}}
    assert found["1.5"].calling_ae == "SCANNER"
    assert found["1.5"].open_associations == 0


def test_instances_are_found_whatever_their_series_with_every_content_they_came_with(spool: Spool) -> None:
    spool.store(incoming(instance="1.1", series="1"))
    spool.store(incoming(instance="2.1", series="2"))
    spool.store(incoming(DATA_SET + b"\x08\x00\x05\x00CS\0\0", instance="1.1", series="1"))
    found = spool.find(["1.1", "2.1", "3.1"])
    assert {uid: [path.parent.name for path in paths] for uid, paths in found.items()} == {
        "1.1": ["1", "1"],
        "2.1": ["2"],
    }
    assert {sop_class_of_intact(path) for paths in found.values() for path in paths} == {MRImageStorage}


def test_a_stored_file_with_any_byte_changed_or_missing_is_damaged(spool: Spool) -> None:
    path = spool.store(incoming()).path
    whole = path.read_bytes()
    changed = [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(len(whole))]
    for content in (*changed, *(whole[:end] for end in range(0, len(whole), 5)), whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(Damaged):
            sop_class_of_intact(path)
    path.write_bytes(whole)
    assert sop_class_of_intact(path) == MRImageStorage


def test_a_file_that_is_no_dicom_does_not_stop_the_scan(spool: Spool) -> None:
    folder = spool.inbox / "1.5"
    folder.mkdir()
    (folder / "1.5.1.dcm").write_bytes(b"no DICOM")
    assert [(one.series_uid, one.calling_ae) for one in spool.scan()] == [("1.5", "")]


def written(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "1.dcm").write_bytes(b"one")


def test_a_result_appears_whole_and_is_built_once(spool: Spool) -> None:
    seen: list[bool] = []

    def build(folder: Path) -> None:
        written(folder)
        seen.append(spool.published("job-1") is None)

    folder = spool.publish("job-1", build)
    assert (folder / "deep" / "1.dcm").read_bytes() == b"one"
    assert spool.publish("job-1", build) == folder == spool.published("job-1")
    assert seen == [True]
    assert [path.name for path in spool.outbox.iterdir()] == ["job-1"]


def test_a_build_that_fails_leaves_nothing_and_its_error_passes(spool: Spool) -> None:
    def fails(folder: Path) -> None:
        written(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spool.publish("job", fails)
    assert list(spool.outbox.iterdir()) == []


def test_of_two_builders_at_once_one_result_stays_whole(spool: Spool) -> None:
    both = threading.Barrier(2)

    def build(folder: Path) -> None:
        written(folder)
        both.wait(10)

    threads = [threading.Thread(target=spool.publish, args=("job", build)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [path.relative_to(spool.outbox) for path in files_below(spool.outbox)] == [Path("job/deep/1.dcm")]


@pytest.mark.parametrize("job", ["", "..", "a/b", ".hidden", "a b", "x" * 129])
def test_a_jobs_name_that_is_no_plain_name_is_our_fault(spool: Spool, job: str) -> None:
    with pytest.raises(ValueError, match="job"):
        spool.publish(job, written)


def test_an_error_of_the_disk_that_is_not_fullness_is_told_apart(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OutOfResources, match="Input/output error"):
        spool.store(incoming())
    assert files_below(spool.inbox) == []


HALF_DONE = """
import sys, time
from pathlib import Path
from dicomnode.spool import spool as s
store = s.Spool(Path(sys.argv[1]))
real = s.write_synced
def stuck(path, *pieces):
    real(path, *pieces)
    def build(folder):
        (folder / "1.dcm").write_bytes(b"half")
        print("half done", flush=True)
        time.sleep(60)
    store.publish("job", build)
s.write_synced = stuck
store.store(s.Incoming("1.5", "1.5.1", "1.2", "1.2.840.10008.1.2.1", "X", b"bytes"))
"""


def test_what_a_killed_process_left_half_done_is_swept_and_a_living_ones_work_is_not(spool: Spool) -> None:
    command = [sys.executable, "-c", HALF_DONE, str(spool.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == "half done\n"
            half = [*spool.inbox.glob("1.5/*.part"), *spool.outbox.glob(".job.*.part")]
            assert len(half) == 2
            assert spool.sweep() == []
            assert all(path.exists() for path in half)
        finally:
            writer.send_signal(signal.SIGKILL)
    assert sorted(spool.sweep()) == sorted(half)
    assert not any(path.exists() for path in half)
    assert list((spool.root / ".writers").iterdir()) == []
    assert spool.published("job") is None
    assert spool.scan() == []


def test_a_sweep_does_not_disturb_threads_that_write(spool: Spool) -> None:
    writing = threading.Thread(
        target=lambda: [spool.store(incoming(instance=f"1.9.{number}")) for number in range(200)]
    )
    writing.start()
    swept = []
    while writing.is_alive():
        swept += Spool(spool.root).sweep()
    writing.join()
    assert swept == []
    assert len(spool.instances(SERIES)) == 200
