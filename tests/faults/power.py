"""Power loss: what a folder may hold afterwards, when nothing is kept but what was synced.

`recorder.c`, preloaded into every process of a node, logs each call that changes the node's folder. `Disk` plays such a
log up to some record, the moment the power fails, and then builds the folder as it may be found:

    what was written to a file      is there once an fsync that began afterwards has ended; else it may be there or not,
                                    each write by itself, and torn between blocks
    a name in a folder              made, moved or removed: the same, with an fsync of the folder
    what was written by mapping     is not logged: never there (SQLite's -shm, the metrics)

That is as bad as POSIX allows, and worse than a journalling file system. SQLite's own files are treated like the rest.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<c3xiiIIqq")
_BLOCK: Final = 512

KEPT: Final = ("nothing", "names", "contents", "some")
"""What is kept of what was not synced; `some`: each change by the toss of a coin."""


class NoCompiler(Exception):
    """gcc is not installed."""


def recorder(folder: Path) -> Path:
    """The compiled recorder. Raises NoCompiler."""
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    try:
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    except FileNotFoundError as error:
        raise NoCompiler("gcc is not installed") from error
    return library


@dataclass(frozen=True)
class Record:
    """One call, see recorder.c; letter `A` is written by a sender: the instance `path` was acknowledged."""

    letter: str
    pid: int
    fd: int
    offset: int
    at: float
    path: str
    data: bytes


def read_log(path: Path) -> list[Record]:
    """The whole log."""
    return list(_records(path.read_bytes()))


def _records(whole: bytes) -> Iterator[Record]:
    at = 0
    while at < len(whole):
        letter, pid, fd, path_length, length, offset, now_ns = _HEAD.unpack_from(whole, at)
        at += _HEAD.size
        path, data = whole[at : at + path_length], whole[at + path_length : at + path_length + length]
        at += path_length + length
        yield Record(letter.decode(), pid, fd, offset, now_ns / 1e9, path.decode(), data)


def acknowledge(log: Path, sop_uid: str) -> None:
    """A sender's record, in its place among those of the node."""
    head = _HEAD.pack(b"A", os.getpid(), -1, len(sop_uid), 0, 0, 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, head + sop_uid.encode())
    finally:
        os.close(descriptor)


@dataclass(eq=False)
class File:
    """A file's durable bytes, and the writes (number, offset, data; data None: its length) that are not yet durable."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)

    def sync(self, until: int) -> None:
        """Changes up to a number become durable."""
        for number, offset, data in self.pending:
            if number <= until:
                _apply(self.durable, offset, data)
        self.pending = [change for change in self.pending if change[0] > until]

    def found(self, keep: str, rng: random.Random) -> bytes:
        """What may be found of it."""
        content = bytearray(self.durable)
        for _, offset, data in self.pending:
            if keep == "contents" or (keep == "some" and rng.random() < 0.5):
                torn = data is not None and keep == "some" and rng.random() < 0.2
                _apply(content, offset, data[: rng.randrange(0, len(data) + 1, _BLOCK)] if data and torn else data)
        return bytes(content)


@dataclass(eq=False)
class Folder:
    """A folder's durable names, those of now, and the changes (number, call, name, node) that are not yet durable."""

    durable: dict[str, Node] = field(default_factory=dict)
    now: dict[str, Node] = field(default_factory=dict)
    pending: list[tuple[int, str, Node | None]] = field(default_factory=list)

    def change(self, number: int, name: str, node: Node | None) -> None:
        """A name stands for something else, or for nothing."""
        _put(self.now, name, node)
        self.pending.append((number, name, node))

    def sync(self, until: int) -> None:
        """Changes up to a number become durable."""
        for number, name, node in self.pending:
            if number <= until:
                _put(self.durable, name, node)
        self.pending = [change for change in self.pending if change[0] > until]

    def found(self, keep: str, rng: random.Random, tossed: dict[int, bool]) -> dict[str, Node]:
        """The names that may be found; a move is one change of two names, kept or not as one."""
        names = dict(self.durable)
        for number, name, node in self.pending:
            kept = tossed.setdefault(number, rng.random() < 0.5) if keep == "some" else keep == "names"
            if kept:
                _put(names, name, node)
        return names


Node = File | Folder


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset + len(data or b"")
    content.extend(bytes(max(0, end - len(content))))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


def _put(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


class Disk:
    """A folder as a log says, with what is durable of it; `acknowledged` are the instances that senders may forget."""

    def __init__(self, root: Path) -> None:
        self.top = Folder()
        self.acknowledged: set[str] = set()
        self.at = 0.0
        self._root = str(root)
        self._number = 0
        self._open: dict[tuple[int, int], Node] = {}
        self._syncing: dict[tuple[int, int], int] = {}

    def play(self, record: Record) -> None:
        """One more call."""
        self._number += 1
        self.at = record.at or self.at
        if record.letter == "A":
            self.acknowledged.add(record.path)
        elif record.fd >= 0:
            self._on_descriptor(record)
        else:
            self._on_names(record)

    def _on_descriptor(self, record: Record) -> None:
        key = (record.pid, record.fd)
        if record.letter == "o":
            self._open[key] = self._opened(record.path, record.offset)
            return
        node = self._open.get(key)
        if record.letter == "c":
            self._open.pop(key, None)
        elif record.letter == "B":
            self._syncing[key] = self._number
        elif record.letter == "E" and node is not None:
            node.sync(self._syncing[key])
        elif isinstance(node, File):
            node.pending.append((self._number, record.offset, record.data if record.letter == "w" else None))

    def _opened(self, path: str, flags: int) -> Node:
        """What was opened, made when it was not there; O_TRUNC empties it."""
        if path == self._root:
            return self.top
        folder, name = self._place(path)
        node = folder.now.get(name)
        if node is None:
            node = File()
            folder.change(self._number, name, node)
        elif flags & os.O_TRUNC and isinstance(node, File):
            node.pending.append((self._number, 0, None))
        return node

    def _on_names(self, record: Record) -> None:
        folder, name = self._place(record.path)
        if record.letter == "m":
            folder.change(self._number, name, Folder())
        elif record.letter in "ud":
            folder.change(self._number, name, None)
        else:
            other, new = self._place(record.data.decode())
            other.change(self._number, new, folder.now[name])
            if record.letter == "r":
                folder.change(self._number, name, None)

    def _place(self, path: str) -> tuple[Folder, str]:
        """The folder of a path, and the name in it."""
        folder = self.top
        *above, name = path.removeprefix(self._root + "/").split("/")
        for one in above:
            node = folder.now[one]
            assert isinstance(node, Folder), f"{path}: {one} is no folder"
            folder = node
        return folder, name

    def fail(self, into: Path, keep: str, rng: random.Random) -> None:
        """The power fails now: write the folder as it may be found; `keep` is one of KEPT."""
        self._build(self.top, into, keep, rng, {})

    def _build(self, folder: Folder, into: Path, keep: str, rng: random.Random, tossed: dict[int, bool]) -> None:
        into.mkdir()
        for name, node in folder.found(keep, rng, tossed).items():
            if isinstance(node, Folder):
                self._build(node, into / name, keep, rng, tossed)
            else:
                (into / name).write_bytes(node.found(keep, rng))
