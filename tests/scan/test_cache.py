"""The stat cache: damage is told and costs time only; nothing stands in the way of a scan."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from dsg.manifests.entries import State
from dsg.scan.cache import FORMAT, YOUNG, Cache
from dsg.scan.scan import Scan
from tests.scan.oracle import everything, scan, settle


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Path, list[State]]:
    """A working copy, its cache, and its states."""
    root, cache = tmp_path / "root", tmp_path / "folder" / "cache"
    for folder in (root, cache.parent):
        folder.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text(name)
    settle()
    states, _ = scan(root, cache)
    return root, cache, states


def notes(done: Scan) -> str:
    return " ".join(note.message for note in done.report.notes)


def test_damage_anywhere_is_told_and_mended(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, states = copy
    good = cache.read_bytes()
    for at in range(len(good)):
        cache.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        again, done = scan(root, cache)
        assert again == states, at
        assert "is rebuilt" in notes(done), at
        assert cache.read_bytes() == good, at


def test_a_cache_that_ends_early_is_told_and_mended(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, states = copy
    good = cache.read_bytes()
    for length in range(len(good)):
        cache.write_bytes(good[:length])
        again, done = scan(root, cache)
        assert again == states, length
        assert "is rebuilt" in notes(done), length
        assert cache.read_bytes() == good, length


def test_what_stands_before_the_damage_is_still_used(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    for number in range(1200):
        (root / f"{number:04}").touch()
    settle()
    scan(root, cache)
    with cache.open("r+b") as file:
        file.seek(-60, os.SEEK_END)
        file.write(b"\xff")
    states, done = scan(root, cache)
    assert states == everything(root)
    assert 0 < done.report.progress.cached < 1200
    assert scan(root, cache)[1].report.progress.cached == 1200


def test_another_version_is_told(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, states = copy
    cache.write_bytes(FORMAT.replace(b"1", b"2") + b"whatever")
    again, done = scan(root, cache)
    assert again == states
    assert "another version of dsg" in notes(done)
    assert notes(scan(root, cache)[1]) == ""


def test_it_may_be_deleted(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, states = copy
    cache.unlink()
    again, done = scan(root, cache)
    assert again == states
    assert notes(done) == ""
    assert cache.exists()


@pytest.mark.parametrize("what", ["directory", "pipe", "link"])
def test_something_else_in_its_place_harms_nothing(copy: tuple[Path, Path, list[State]], what: str) -> None:
    root, cache, states = copy
    cache.unlink()
    if what == "directory":
        cache.mkdir()
    elif what == "pipe":
        os.mkfifo(cache)
    else:
        (cache.parent / "precious").write_text("precious")
        cache.symlink_to("precious")
    again, done = scan(root, cache)
    assert again == states
    assert "is rebuilt" in notes(done)
    assert what != "link" or (cache.parent / "precious").read_text() == "precious"


def test_a_folder_that_is_missing_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").touch()
    states, done = scan(tmp_path / "root", tmp_path / "nowhere" / "cache")
    assert states == everything(tmp_path / "root")
    assert "is not updated" in notes(done)


def test_a_full_disk_harms_nothing(copy: tuple[Path, Path, list[State]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache, _ = copy
    good = cache.read_bytes()
    (root / "d").touch()
    settle()

    def full(descriptor: int, data: bytes, at: int) -> int:
        if at:
            raise OSError(28, "No space left on device")
        return writes(descriptor, data, at)

    writes = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    states, done = scan(root, cache)
    assert states == everything(root)
    assert "No space left" in notes(done)
    assert cache.read_bytes() == good


def test_two_scans_at_once_do_not_write_the_same_cache(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, _ = copy
    (root / "d").touch()
    settle()
    beside = cache.with_name("cache.new")
    with beside.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        states, done = scan(root, cache)
        assert states == everything(root)
        assert "another scan" in notes(done)
        assert done.report.progress.cached == 3
    # What a scan left that was killed is taken over.
    beside.write_bytes(b"half a cache" * 1000)
    scan(root, cache)
    assert not beside.exists()
    assert scan(root, cache)[1].report.progress.cached == 4


def test_removed_files_leave_the_cache(copy: tuple[Path, Path, list[State]]) -> None:
    root, cache, _ = copy
    before = cache.stat().st_size
    (root / "c").unlink()
    scan(root, cache)
    assert cache.stat().st_size < before


def _status(mtime: int, ctime: int) -> os.stat_result:
    values: list[float] = [0o100644, 7, 8, 1, 0, 0, 3, 0, mtime // 10**9, ctime // 10**9]
    return os.stat_result([*values, 0.0, 0.0, 0.0, 0, mtime, ctime])


@pytest.mark.parametrize(("mtime", "ctime"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_whole_seconds_are_trusted_only_when_they_have_passed(tmp_path: Path, mtime: int, ctime: int) -> None:
    """As on file systems that keep two seconds: a change in the same two seconds would have the same times."""
    file = tmp_path / "cache"
    cache = Cache(file)
    assert cache.settled_before <= os.stat(tmp_path).st_mtime_ns - YOUNG + 1_000_000_000
    last = cache.settled_before // 2_000_000_000 * 2_000_000_000
    status = _status(last - 1 + mtime * 4_000_000_000, last - 1 + ctime * 4_000_000_000)
    cache.add(b"a", status, bytes(32))
    cache.save()
    cache.close()
    read = Cache(file)
    assert (read.find(b"a", status) is None) is bool(mtime or ctime)
    read.close()
