"""Files: whole or not at all. What came lies in `in/`, what was made lies in `out/`.

    in/<SeriesInstanceUID>/<SOPInstanceUID>.dcm           bytes as received, never changed
    in/<SeriesInstanceUID>/<SOPInstanceUID>~<sha12>.dcm   the same UID again with other bytes: kept, flagged, not used
    in/<SeriesInstanceUID>/<SOPInstanceUID>.<writer>.part being written
    in/<SeriesInstanceUID>/.promised                      a storage commitment was given for some of it
    in/.<SeriesInstanceUID>.<writer>.part/                being deleted
    out/<job>/                                            finished objects, made by one rename
    out/.<job>.<writer>.part/                             being built
    .writers/<writer>.lock                                held (flock) by each living process that writes

A file is complete under its name: `.part` is written and synced first, then gets its name by a hard link, which, unlike
a rename, never replaces what is there; then the folder is synced. Only after `store` has returned may a sender be told
Success (PS3.4 B.2.3). A dead process loses its lock, and so the `.part` it left behind is known to be nobody's.
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
    """Where an instance lies now. `duplicate`: these bytes were there already, nothing was written.

    `conflict`: another file has the same SOP Instance UID and other bytes; both are kept, this one is not used.
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
        """Keep one instance; it is durable when this returns.

        The same UID with identical bytes is no work; with other bytes both are kept. Raises NotStorable for an invalid
        UID, OutOfResources when the disk is full, at its reserve, or fails.
        """
        series_uid = checked_uid(incoming.series_uid, "Series Instance UID")
        sop_uid = checked_uid(incoming.sop_instance_uid, "SOP Instance UID")
        try:
            self.check_room(len(incoming.dataset))
            folder = self._made(series_uid)
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
        """The folder of a series, there or not. Raises NotStorable for an invalid UID."""
        return self.inbox / checked_uid(series_uid, "Series Instance UID")

    def instances(self, series_uid: str) -> list[Path]:
        """The files of a series, one for each SOP Instance UID (the first that came), sorted by UID."""
        return [path for path in _dicom_files(self.series_folder(series_uid)) if "~" not in path.name]

    def conflicts(self, series_uid: str) -> list[Path]:
        """Files that came later under a SOP Instance UID already there, with other bytes."""
        return [path for path in _dicom_files(self.series_folder(series_uid)) if "~" in path.name]

    def series_files(self, series_uid: str) -> list[Path]:
        """Every file of a series, contradictions included."""
        return list(_dicom_files(self.series_folder(series_uid)))

    def promise(self, paths: Collection[Path]) -> None:
        """Mark the series of these files as promised by storage commitment; durable when this returns.

        Raises OSError when a series is not there any more.
        """
        for folder in {path.parent for path in paths}:
            (folder / _PROMISED).touch()
            sync_folder(folder)

    def promised(self, series_uid: str) -> bool:
        """Whether an instance of the series was promised by storage commitment."""
        return (self.series_folder(series_uid) / _PROMISED).exists()

    def discard_series(self, series_uid: str, *, even_promised: bool = False) -> bool:
        """Remove a series, unless it is promised by now; False when it stays or is not there."""
        return self._discarded(self.series_folder(series_uid), even_promised=even_promised)

    def discard_result(self, job: str) -> bool:
        """Remove out/<job>/; False when it is not there."""
        return self._discarded(self.outbox / _checked_job(job), even_promised=True)

    def find(self, sop_uids: Collection[str]) -> dict[str, list[Path]]:
        """SOP Instance UID -> its files, of those that are on disk, whatever their series; conflicting ones included.

        What the files' folders say is durable when this returns. A series that changed lately is looked at first.
        """
        found: dict[str, list[Path]] = {}
        for folder in sorted(self._series_folders(), key=_changed_at, reverse=True):
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
        """Every series on disk, as if it had just come and its sender had gone.

        The quiet time begins anew: a sender cut off by our own end may be about to send the rest.
        """
        arrivals = (self._found(folder) for folder in sorted(self._series_folders()))
        return [arrival for arrival in arrivals if arrival.sop_uids]

    # What was made

    def published(self, job: str) -> Path | None:
        """The finished folder of a job, or None."""
        folder = self.outbox / _checked_job(job)
        return folder if folder.is_dir() else None

    def publish(self, job: str, build: Callable[[Path], object]) -> Path:
        """Let `build` write into a folder of its own, then make that folder `out/<job>/` by one rename.

        Idempotent: when `out/<job>/` is there, `build` is not called. Everything is synced before the rename.
        What `build` raises passes through and leaves nothing. Raises OutOfResources when the disk is full.
        """
        return self._built(job, self.outbox / _checked_job(job), build)

    def attach(self, job: str, name: str, build: Callable[[Path], object]) -> Path:
        """The same for a folder within `out/<job>/`; OSError when the job's is not there (any more)."""
        return self._built(job, self.outbox / _checked_job(job) / name, build)

    def _built(self, job: str, target: Path, build: Callable[[Path], object]) -> Path:
        """A folder that is there, or was made by one rename."""
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
        """Remove what dead writers left half done, and say what it was. Safe while others write."""
        leftovers = [*self.inbox.glob("*/*.part"), *self.inbox.glob(".*.part"), *self.outbox.glob(".*.part")]
        dead = [path for path in leftovers if not self._alive(_writer_of(path))]
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
        """Take a folder out of sight by one rename, then remove it; what a kill leaves is swept."""
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
        """The folder of each series on disk."""
        return (path for path in self.inbox.iterdir() if path.is_dir() and _UID.fullmatch(path.name))

    def _made(self, series_uid: str) -> Path:
        """The folder of a series, its entry in `in/` durable."""
        folder = self.inbox / series_uid
        folder.mkdir(exist_ok=True)
        sync_folder(self.inbox)
        return folder

    def _kept(self, incoming: Incoming, folder: Path, sop_uid: str) -> Stored:
        """The instance under the first name that is free or holds the same bytes."""
        digest = hashlib.sha256(incoming.dataset).hexdigest()
        names = ((f"{sop_uid}.dcm", False), (f"{sop_uid}~{digest[:12]}.dcm", True))
        for name, conflict in names:
            path = folder / name
            placed = not path.exists() and self._placed(incoming, path)
            if placed or _holds(path, incoming):
                return Stored(folder.name, sop_uid, path, duplicate=not placed, conflict=conflict)
        raise NotStorable("Two data sets with one SOP Instance UID and one digest")

    def _placed(self, incoming: Incoming, path: Path) -> bool:
        """Write `.part`, sync it, link it to its name; False when another writer was first."""
        part = path.with_name(f"{path.stem}.{self._mark()}.part")
        try:
            write_synced(part, incoming.file_head(), incoming.dataset)
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def _found(self, folder: Path) -> Arrival:
        """One series folder as an arrival."""
        files = self.instances(folder.name)
        now = time.monotonic()
        uids = frozenset(path.stem for path in files)
        sender = source_ae(files[0]) if files else ""
        return Arrival(folder.name, uids, sender, first_at=now, last_at=now, open_associations=0, associations=0)

    def _mark(self) -> str:
        """A name for one piece of work of this process, beginning with its writer's name."""
        with self._lock:
            if self._writer is None:
                self._writer = _Writer(self.root / ".writers")
        return f"{self._writer.name}-{next(self._numbers)}"

    def _alive(self, writer: str) -> bool:
        """Whether that writer's process lives; the lock file of a dead one is removed."""
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
    """This process's proof of life: a lock file held until its spool is let go or the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        while True:
            self.name = uuid.uuid4().hex[:16]
            path = folder / f"{self.name}.lock"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                weakref.finalize(self, _let_go, lock, path)
                return
            os.close(lock)  # a sweep took it for a dead one's before it was locked


def _let_go(lock: int, path: Path) -> None:
    """Remove a writer's lock file and its lock."""
    path.unlink(missing_ok=True)
    os.close(lock)


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def _said(error: OSError) -> str:
    """A failed disk in a few words without a path."""
    return "The disk is full" if error.errno in _FULL else f"The disk fails: {error.strerror}"


def _writer_of(part: Path) -> str:
    """The writer's name in `<anything>.<writer>-<number>.part`."""
    return part.name.removesuffix(".part").rpartition(".")[2].partition("-")[0]


def _checked_job(job: str) -> str:
    """The job's name if it is safe as a folder's name; ValueError otherwise, since job names are ours."""
    if not _JOB.fullmatch(job):
        raise ValueError(f"{job!r} cannot be the name of a job")
    return job


def _dicom_files(folder: Path) -> Iterator[Path]:
    """The complete files of a folder, sorted by name; none when there is no folder."""
    return iter(sorted(folder.glob("*.dcm")))


def _changed_at(folder: Path) -> float:
    """When an entry of a folder last changed (Unix time)."""
    return folder.stat().st_mtime


def _holds(path: Path, incoming: Incoming) -> bool:
    """Whether a stored file has these very data set bytes in this very encoding."""
    with path.open("rb") as file:
        head = file.read(len(_PREAMBLE) + 12)
        (length,) = struct.unpack_from("<I", head, len(_PREAMBLE) + 8)
        meta = file.read(length)
        syntax = _element(0x0010, b"UI", incoming.transfer_syntax_uid.encode("ascii"))
        return syntax in meta and file.read() == incoming.dataset


def _rename_once(part: Path, target: Path) -> None:
    """Rename a folder; when another writer was first, that one stays."""
    try:
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of one series in the spool that has not been handed over yet.

    Attributes: `series_uid`; `sop_uids` (the instances that came since it was last handed over; the spool lists all of
    them); `calling_ae` (the last sender's AE title, empty if unknown); `first_at` and `last_at` (seconds of
    `time.monotonic`, so that a step of the clock splits no series); `open_associations` (those that brought an instance
    of it and are neither released nor aborted nor lost); `associations` (how many have brought it in all; 0 for one
    found on disk); `interrupted` (one ended without a release, and none has begun to bring it after that); `pause_s`
    (the longest silence before another piece of it began; 0: it came in one piece); `awaited_since` (when an open
    association brought its last instance, one that was there already included; None when every open one has gone on to
    another series).
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
    """Every object of a job, whoever gets it."""
    return [*sorted(folder.glob("*.dcm")), *sorted(folder.glob("*/*.dcm"))]
