"""A file is there whole or not at all, and is synced before it has its name."""

import os
from pathlib import Path

import pytest

from pipeline.durable_files import move_into_place, write_all, write_whole


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and what is named, in order, while it is really done."""
    seen: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        seen.append(f"fsync {'part' if name.endswith('.part') else name}")
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> Path:
        seen.append(f"name {target.name}")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_file_takes_the_place_of_another_with_its_own_permissions(folder: Path, steps: list[str]) -> None:
    (folder / "a").write_text("old")
    write_whole(folder / "a", b"n", b"ew", mode=0o600)
    assert (folder / "a").read_text() == "new"
    assert (folder / "a").stat().st_mode & 0o777 == 0o600
    assert steps == ["fsync part", "name a", "fsync folder"]
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_file_that_cannot_be_written_leaves_the_older_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(descriptor)

    (folder / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match=r"\d"):
        write_whole(folder / "a", b"new")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a", "old")]


def test_of_several_files_every_part_is_on_the_disk_before_one_has_its_name(folder: Path, steps: list[str]) -> None:
    paths = write_all([("a", b"1"), ("b", b"2")], folder)
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
    assert steps == ["fsync part", "fsync part", "name a", "name b", "fsync folder"]


def test_of_several_files_none_is_left_when_one_cannot_be_made(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_all(((name, bytes([1 // number])) for name, number in (("a", 1), ("b", 0))), folder)
    assert list(folder.iterdir()) == []


def test_a_folder_is_synced_to_its_last_file_before_it_has_its_name(folder: Path, steps: list[str]) -> None:
    (folder / "made.part" / "deep").mkdir(parents=True)
    (folder / "made.part" / "deep" / "1").write_text("1")
    move_into_place(folder / "made.part", folder / "made")
    assert steps == ["fsync deep", "fsync 1", "fsync part", "name made", "fsync folder"]
