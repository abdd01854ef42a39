"""Opening many files to read: each the one that is meant, nothing through links, nothing left open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsg.workcopy.files import Files
from dsg.workcopy.nearby import Nearby


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("top", "a/one", "a/two", "a/deep/one", "b/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def nearby(root: Path) -> Iterator[Nearby]:
    before = descriptors()
    with Files(root) as files, Nearby(files) as made:
        yield made
    assert descriptors() == before


def read(nearby: Nearby, path: bytes) -> bytes:
    with nearby.open(path) as file:
        return file.read()


def test_each_path_is_the_file_that_is_meant(nearby: Nearby) -> None:
    for path in (b"top", b"a/one", b"a/two", b"a/deep/one", b"a/one", b"b/one", b"top"):
        assert read(nearby, path) == path


def test_threads_do_not_get_in_each_others_way(nearby: Nearby) -> None:
    paths = [b"top", b"a/one", b"a/deep/one", b"b/one", b"a/two"] * 200
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda path: read(nearby, path), paths)) == paths


def test_what_is_no_regular_file_or_gone_is_refused(nearby: Nearby, root: Path) -> None:
    os.mkfifo(root / "a/pipe")
    (root / "a/link").symlink_to("one")
    (root / "link").symlink_to("a")
    before = descriptors()
    for path in (b"a/pipe", b"a/link", b"link/one", b"a/deep", b"a/none", b"none/one", b"top/one"):
        with pytest.raises(OSError):
            nearby.open(path)
    (root / "a/one").unlink()
    with pytest.raises(FileNotFoundError):
        nearby.open(b"a/one")
    assert descriptors() <= before + 1, "the directory of the last file is open, and no other"
    assert read(nearby, b"b/one") == b"b/one"
