"""Write files so that each is there whole or not at all, and survives a loss of power once the call has returned.

Every write goes the same way: the content into a `.part` in the target's folder, fsync of that file, rename to its
name, fsync of the folder. A rename alone hides half a file from readers, but after a loss of power the name may stand
for an empty file, or may be missing (POSIX.1-2017, fsync and rename).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, *pieces: bytes, mode: int = 0o666, owner: tuple[int, int] | None = None) -> None:
    """Write one file, in the place of an older one of this name.

    Args:
        path: the file; its folder exists.
        pieces: its content, one after the other.
        mode: its permissions, less the process's umask.
        owner: user and group that it belongs to; by default those of the process.

    Raises:
        OSError: it cannot be written; the older file is left as it was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        write_synced(part, *pieces, mode=mode, owner=owner)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_all(files: Iterable[tuple[str, bytes]], into: Path) -> list[Path]:
    """Write new files, (name, content) each, into a folder: all of them or none, when an error ends it.

    Every `.part` is on the disk before the first file gets its name.
    """
    into.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    try:
        for name, content in files:
            paths.append(into / name)
            write_synced(into / f"{name}.part", content)
        for path in paths:
            path.with_name(f"{path.name}.part").rename(path)
    except BaseException:
        for path in paths:
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise
    sync_folder(into)
    return paths


def move_into_place(part: Path, path: Path) -> None:
    """Sync a finished file or folder, with all that is in it, then give it its name in the same folder.

    It takes the place of an older file. Raises OSError, for a folder also where one that is not empty has the name.
    """
    sync_tree(part)
    part.rename(path)
    sync_folder(path.parent)


def write_synced(path: Path, *pieces: bytes, mode: int = 0o666, owner: tuple[int, int] | None = None) -> None:
    """Write a file that is not there yet and sync it; its name is durable once its folder is synced too.

    Raises FileExistsError, OSError. `mode` and `owner` as in `write_whole`.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def sync_tree(top: Path) -> None:
    """Sync a file, or a folder with every file and folder in it."""
    for path in (*top.rglob("*"), top):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the names that a folder holds; the content of its files is not meant."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
