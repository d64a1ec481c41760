"""The spool keeps received instances in `in/` and the results of jobs in `out/`; every file is complete or absent.

    in/<SeriesInstanceUID>/<SOPInstanceUID>.dcm           bytes as received, never changed
    in/<SeriesInstanceUID>/<SOPInstanceUID>~<sha12>.dcm   the same UID again with other bytes: kept, flagged, not used
    in/<SeriesInstanceUID>/<SOPInstanceUID>.<writer>.part being written
    in/<SeriesInstanceUID>/.promised                      a storage commitment was given for some of it
    in/.<SeriesInstanceUID>.<writer>.part/                being deleted
    out/<job>/                                            finished objects, made by one rename
    out/.<job>.<writer>.part/                             being built
    .writers/<writer>.lock                                held (flock) by each living process that writes

A file is complete under its name: `.part` is written and synced first, then gets its name by a hard link, which, unlike
a rename, never replaces what is there; then the folder is synced. Only after `store` has returned may the answer be
Success (PS3.4 B.2.3). A dead process loses its lock, so that the `.part` that it left behind can be removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import struct
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomnode.errors import NotStorable, OutOfResources
from dicomnode.spool.instance_file import _PREAMBLE, _UID, Incoming, _element, checked_uid, source_ae
from pipeline.durable_files import sync_folder, sync_tree, write_synced

if TYPE_CHECKING:
    from collections.abc import Iterable


_JOB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PROMISED: Final = ".promised"


@dataclass(frozen=True, slots=True)
class Stored:
    """The place of a stored instance.

    Attributes:
        series_uid: its Series Instance UID.
        sop_instance_uid: its SOP Instance UID.
        path: its file.
        duplicate: whether these bytes were there already, so that nothing was written.
        conflict: whether another file has the same SOP Instance UID and other bytes; both are kept, this is not used.
    """

    series_uid: str
    sop_instance_uid: str
    path: Path
    duplicate: bool
    conflict: bool


class Spool:
    """The node's folders on disk. Any number of threads and processes may use one root at once.

    `reserve_bytes`: free space that must remain; below it nothing more is stored.
    """

    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        self.root = root
        self.inbox = root / "in"
        self.outbox = root / "out"
        self._reserve_bytes = reserve_bytes
        self._numbers = itertools.count()
        self._writer: _Writer | None = None
        self._lock = threading.Lock()
        for folder in (self.inbox, self.outbox, root / ".writers"):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(root)

    # What came

    def store(self, incoming: Incoming) -> Stored:
        """Store one instance; it is durable when this returns.

        The same UID with identical bytes is not written again; with other bytes both are kept.

        Raises:
            NotStorable: a UID is invalid.
            OutOfResources: the disk is full, at its reserve, or fails (status 0xA700, PS3.4 Table B.2-1).
        """
        series_uid = checked_uid(incoming.series_uid, "Series Instance UID")
        sop_uid = checked_uid(incoming.sop_instance_uid, "SOP Instance UID")
        try:
            self.check_room(len(incoming.dataset))
            folder = self.inbox / series_uid
            folder.mkdir(exist_ok=True)
            sync_folder(self.inbox)
            stored = self._kept(incoming, folder, sop_uid)
            sync_folder(folder)
        except OSError as error:
            raise OutOfResources(_said(error)) from error
        return stored

    def check_room(self, wanted_bytes: int = 0) -> None:
        """Raise OutOfResources when `wanted_bytes` more would leave less than the reserve free."""
        disk = os.statvfs(self.root)
        left = disk.f_bavail * disk.f_frsize - wanted_bytes
        if left < self._reserve_bytes:
            raise OutOfResources("The disk is full" if left < 0 else "The disk has reached its reserve")

    def series_folder(self, series_uid: str) -> Path:
        """Return the folder of a series, which need not exist. Raises NotStorable for an invalid UID."""
        return self.inbox / checked_uid(series_uid, "Series Instance UID")

    def instances(self, series_uid: str) -> list[Path]:
        """Return the files of a series sorted by UID, one for each SOP Instance UID (the first that came)."""
        return [path for path in _dicom_files(self.series_folder(series_uid)) if "~" not in path.name]

    def conflicts(self, series_uid: str) -> list[Path]:
        """Return the files that came later under a known SOP Instance UID with other bytes."""
        return [path for path in _dicom_files(self.series_folder(series_uid)) if "~" in path.name]

    def series_files(self, series_uid: str) -> list[Path]:
        """Return every file of a series, conflicts included."""
        return list(_dicom_files(self.series_folder(series_uid)))

    def promise(self, paths: Collection[Path]) -> None:
        """Mark the series of these files as promised by storage commitment; durable when this returns.

        Raises OSError when a series is not there any more.
        """
        for folder in {path.parent for path in paths}:
            (folder / _PROMISED).touch()
            sync_folder(folder)

    def promised(self, series_uid: str) -> bool:
        """Return whether an instance of the series was promised by storage commitment (PS3.4 J)."""
        return (self.series_folder(series_uid) / _PROMISED).exists()

    def discard_series(self, series_uid: str, *, even_promised: bool = False) -> bool:
        """Remove a series unless it is promised. Return False when it stays or does not exist."""
        return self._discarded(self.series_folder(series_uid), even_promised=even_promised)

    def discard_result(self, job: str) -> bool:
        """Remove out/<job>/. Return False when it does not exist."""
        return self._discarded(self.outbox / _checked_job(job), even_promised=True)

    def find(self, sop_uids: Collection[str]) -> dict[str, list[Path]]:
        """Return the files of SOP Instance UIDs by UID, in whatever series they lie; conflicts included.

        The folders of the files are durable when this returns. The series that changed last is searched first.
        """
        found: dict[str, list[Path]] = {}
        for folder in sorted(self._series_folders(), key=lambda folder: folder.stat().st_mtime, reverse=True):
            for path in _dicom_files(folder):
                sop_uid = path.stem.partition("~")[0]
                if sop_uid in sop_uids:
                    found.setdefault(sop_uid, []).append(path)
            if len(found) == len(set(sop_uids)):
                break
        for folder in {path.parent for paths in found.values() for path in paths}:
            sync_folder(folder)
        return found

    def scan(self) -> list[Arrival]:
        """Return every series on disk as an arrival that has just come and whose sender has gone.

        The quiet time begins again, because a sender that our own end has cut off may be about to send the rest.
        """
        arrivals = []
        for folder in sorted(self._series_folders()):
            if files := self.instances(folder.name):
                uids, now = frozenset(path.stem for path in files), time.monotonic()
                arrivals.append(Arrival(folder.name, uids, source_ae(files[0]), now, now, 0, 0))
        return arrivals

    # What was made

    def published(self, job: str) -> Path | None:
        """Return the finished folder of a job, or None."""
        folder = self.outbox / _checked_job(job)
        return folder if folder.is_dir() else None

    def publish(self, job: str, build: Callable[[Path], object]) -> Path:
        """Let `build` write into a new folder, then rename that folder to `out/<job>/`, and return it.

        When `out/<job>/` exists, `build` is not called. Everything is synced before the rename. An exception of `build`
        is passed on and leaves no folder. Raises OutOfResources when the disk is full.
        """
        return self._built(job, self.outbox / _checked_job(job), build)

    def attach(self, job: str, name: str, build: Callable[[Path], object]) -> Path:
        """Publish a folder within `out/<job>/`. Raises OSError when `out/<job>/` does not exist."""
        return self._built(job, self.outbox / _checked_job(job) / name, build)

    def _built(self, job: str, target: Path, build: Callable[[Path], object]) -> Path:
        """Return the folder `target`, which `build` has filled before one rename."""
        if target.is_dir():
            return target
        part = self.outbox / f".{job}.{self._mark()}.part"
        try:
            part.mkdir()
            build(part)
            sync_tree(part)
            _rename_once(part, target)
            sync_folder(target.parent)
        except OSError as error:
            if error.errno in _FULL:
                raise OutOfResources(_said(error)) from error
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target

    def sweep(self) -> list[Path]:
        """Remove and return the unfinished files and folders of dead writers. Safe while others write."""
        leftovers = [*self.inbox.glob("*/*.part"), *self.inbox.glob(".*.part"), *self.outbox.glob(".*.part")]
        dead = []
        for path in leftovers:  # <anything>.<writer>-<number>.part
            writer = path.name.removesuffix(".part").rpartition(".")[2].partition("-")[0]
            if not self._alive(writer):
                dead.append(path)
        for path in dead:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for lock in (self.root / ".writers").glob("*.lock"):
            self._alive(lock.stem)
        return dead

    # Steps

    def _discarded(self, folder: Path, *, even_promised: bool) -> bool:
        """Hide a folder by one rename, then remove it; `sweep` removes what a kill leaves."""
        part = folder.parent / f".{folder.name}.{self._mark()}.part"
        try:
            folder.rename(part)
        except FileNotFoundError:
            return False
        if not even_promised and (part / _PROMISED).exists():
            _rename_once(part, folder)
            return False
        sync_folder(folder.parent)
        shutil.rmtree(part, ignore_errors=True)
        return True

    def _series_folders(self) -> Iterator[Path]:
        """Return the folder of each series on disk."""
        return (path for path in self.inbox.iterdir() if path.is_dir() and _UID.fullmatch(path.name))

    def _kept(self, incoming: Incoming, folder: Path, sop_uid: str) -> Stored:
        """Store the instance under the first name that is free or holds the same bytes."""
        digest = hashlib.sha256(incoming.dataset).hexdigest()
        names = ((f"{sop_uid}.dcm", False), (f"{sop_uid}~{digest[:12]}.dcm", True))
        for name, conflict in names:
            path = folder / name
            placed = not path.exists() and self._placed(incoming, path)
            if placed or _holds(path, incoming):
                return Stored(folder.name, sop_uid, path, duplicate=not placed, conflict=conflict)
        raise NotStorable("Two data sets with one SOP Instance UID and one digest")

    def _placed(self, incoming: Incoming, path: Path) -> bool:
        """Write `.part`, sync it and link it to its name. Return False when another writer was first."""
        part = path.with_name(f"{path.stem}.{self._mark()}.part")
        try:
            write_synced(part, incoming.file_head(), incoming.dataset)
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def _mark(self) -> str:
        """Return a new name for one write of this process; it begins with the name of the writer."""
        with self._lock:
            if self._writer is None:
                self._writer = _Writer(self.root / ".writers")
        return f"{self._writer.name}-{next(self._numbers)}"

    def _alive(self, writer: str) -> bool:
        """Return whether the process of a writer lives; the lock file of a dead one is removed."""
        path = self.root / ".writers" / f"{writer}.lock"
        try:
            lock = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False


class _Writer:
    """A lock file that shows that this process lives: locked until the spool is deleted or the process ends."""

    def __init__(self, folder: Path) -> None:
        while True:
            self.name = uuid.uuid4().hex[:16]
            path = folder / f"{self.name}.lock"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                weakref.finalize(self, _let_go, lock, path)
                return
            os.close(lock)  # a sweep has removed it before it was locked


def _let_go(lock: int, path: Path) -> None:
    """Remove a writer's lock file and its lock."""
    path.unlink(missing_ok=True)
    os.close(lock)


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def _said(error: OSError) -> str:
    """Return a sentence about a failed disk, without a path."""
    return "The disk is full" if error.errno in _FULL else f"The disk fails: {error.strerror}"


def _checked_job(job: str) -> str:
    """Return the job's name when it is safe as the name of a folder. Raises ValueError."""
    if not _JOB.fullmatch(job):
        raise ValueError(f"{job!r} cannot be the name of a job")
    return job


def _dicom_files(folder: Path) -> Iterator[Path]:
    """Return the complete files of a folder, sorted by name; none when there is no folder."""
    return iter(sorted(folder.glob("*.dcm")))


def _holds(path: Path, incoming: Incoming) -> bool:
    """Return whether a stored file has the same data set bytes in the same transfer syntax."""
    with path.open("rb") as file:
        head = file.read(len(_PREAMBLE) + 12)
        (length,) = struct.unpack_from("<I", head, len(_PREAMBLE) + 8)
        meta = file.read(length)
        syntax = _element(0x0010, b"UI", incoming.transfer_syntax_uid.encode("ascii"))
        return syntax in meta and file.read() == incoming.dataset


def _rename_once(part: Path, target: Path) -> None:
    """Rename a folder; when another writer was first, that one's folder stays."""
    try:
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@dataclass(frozen=True, slots=True)
class Arrival:
    """A series in the spool of which no job has been made since its last instance.

    Attributes:
        series_uid: its Series Instance UID.
        sop_uids: the instances that came since the last job was made of it; the spool lists all of them.
        calling_ae: AE title of the last sender; empty when unknown.
        first_at: when the first of them came (s, `time.monotonic`, so that a step of the clock splits no series).
        last_at: when the last of them came.
        open_associations: associations that brought an instance of it and have not ended.
        associations: all associations that brought an instance of it; 0 for a series found on disk.
        interrupted: whether one ended without a release (PS3.8 7.2), and none has brought an instance since.
        pause_s: longest silence (s) after all its associations were released and before it went on; 0 for none.
        awaited_since: when an open association brought its last instance, duplicates included; None when every open
            association has gone on to another series.
        begun_at: when the last association began to bring instances of it.
    """

    series_uid: str
    sop_uids: frozenset[str]
    calling_ae: str
    first_at: float
    last_at: float
    open_associations: int
    associations: int
    interrupted: bool = False
    pause_s: float = 0.0
    awaited_since: float | None = None
    begun_at: float | None = None


def every_file(folder: Path) -> Iterable[Path]:
    """Return every DICOM file of a job, whichever destination gets it."""
    return [*sorted(folder.glob("*.dcm")), *sorted(folder.glob("*/*.dcm"))]
