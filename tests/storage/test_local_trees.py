"""What only this machine's files show: races, leftovers, depth, holes, signals, whole copies."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dsg.storage import copying
from dsg.storage.errors import AlreadyExists, NotFound, OutOfSpace, QuotaExceeded, StorageError
from dsg.storage.local_clone import clone
from dsg.storage.local_trees import LocalTrees
from dsg.storage.trees import FileKind, Owning

OWNING = Owning(os.geteuid(), os.getegid(), 0o2750)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def put(root: Path, path: str, content: bytes = b"content") -> None:
    LocalTrees().write(str(root), path, content, mode=0o640, owning=OWNING)


def content(root: Path) -> dict[str, bytes | str]:
    """Return every file and link below a root, with what it holds."""
    found: dict[str, bytes | str] = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


# ---- others change the tree meanwhile

INSIDE = {f"{name}/deep/{file}" for name in ("dir", "link") for file in ("file", "link")}


@contextmanager
def swapping(change: Callable[[], None]) -> Iterator[None]:
    """Make a change again and again in another thread."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            change()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def exchange(first: bytes, second: bytes) -> None:
    """Let two paths change places in one moment (RENAME_EXCHANGE of renameat2(2), which Python does not offer)."""
    here, at_once = -100, 2
    if ctypes.CDLL(None, use_errno=True).renameat2(here, first, here, second, at_once) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def test_a_link_swapped_in_while_a_call_runs_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_bytes(b"secret")
    before = content(outside)
    put(root, "dir/deep/file", b"inside")
    put(root, "source", b"inside")
    (root / "link").symlink_to(outside)
    first, second = os.fsencode(root / "dir"), os.fsencode(root / "link")

    def swap() -> None:
        exchange(first, second)
        exchange(first, second)

    trees, place = LocalTrees(), str(root)
    calls: list[Callable[[], object]] = [
        lambda: trees.read(place, "dir/deep/file"),
        lambda: trees.write(place, "dir/deep/file", b"inside", mode=0o640, owning=OWNING),
        lambda: trees.copy(place, "source", place, "dir/deep/file", owning=OWNING),
        lambda: trees.set_attributes(place, "dir/deep/file", mode=0o640, mtime=0, owning=OWNING),
        lambda: trees.link(place, "dir/deep/link", "x", owning=OWNING),
        lambda: trees.make_directory(place, "dir/deep/made", owning=OWNING),
        lambda: trees.remove(place, "dir/deep/link"),
        lambda: trees.remove_tree(place, "dir/deep/made"),
    ]
    read, refused, rounds = set(), 0, 0
    with swapping(swap):
        while rounds < 200 or not refused:
            rounds += 1
            for call in calls:
                try:
                    found = call()
                except StorageError:
                    refused += 1
                else:
                    read.add(found)
            assert {path for path, _ in trees.walk(place)} <= {"source", "link", "dir", *INSIDE}
    assert read <= {b"inside", None}
    assert content(outside) == before
    assert (outside / "deep" / "file").stat().st_mtime > 0
    assert {path.name for path in (outside / "deep").iterdir()} == {"file"}


def test_directories_that_go_away_because_they_are_empty_are_made_again(root: Path) -> None:
    trees, place = LocalTrees(), str(root)

    def come_and_go() -> None:
        trees.write(place, "a/b/other", b"x", mode=0o640, owning=OWNING)
        trees.remove(place, "a/b/other")

    with swapping(come_and_go):
        for _ in range(300):
            trees.write(place, "a/b/mine", b"x", mode=0o640, owning=OWNING)
            trees.remove(place, "a/b/mine")
    assert trees.names(place, "") == {".dsg"}


def test_readers_see_the_old_content_or_the_new(root: Path) -> None:
    trees, place = LocalTrees(), str(root)
    contents = [bytes([number]) * 50_000 for number in range(2)]
    put(root, "file", contents[0])
    turns = iter(range(10**9))

    def change() -> None:
        trees.write(place, "file", contents[next(turns) % 2], mode=0o640, owning=OWNING)

    with swapping(change):
        assert {trees.read(place, "file") for _ in range(300)} <= set(contents)


def test_whoever_opens_a_file_that_is_looked_at_ends_nobody(root: Path) -> None:
    """A lease that is broken sends a signal; the usual one would end this process."""
    put(root, "file")
    seen: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, frame: seen.append(number))

    def write() -> None:
        descriptor = os.open(root / "file", os.O_WRONLY)
        os.close(descriptor)

    try:
        with swapping(write):
            found = {LocalTrees().written_by_nobody(str(root), "file") for _ in range(2000)}
    finally:
        signal.signal(signal.SIGURG, before)
    assert found <= {True, False}
    assert LocalTrees().written_by_nobody(str(root), "file")


# ---- leftovers


def test_what_interrupted_calls_left_goes_with_the_next(root: Path) -> None:
    put(root, "file")
    (root / ".dsg" / "tmp" / "0123456789abcdef").write_bytes(b"half")
    (root / ".dsg" / "tmp" / "fedcba9876543210").symlink_to("nowhere")
    put(root, "other")
    assert content(root) == {"file": b"content", "other": b"content"}


def test_a_failed_write_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "file", b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dsg.storage.local_trees.copy_content", full)
    with pytest.raises(OutOfSpace):
        LocalTrees().copy(str(root), "file", str(root), "new/file", owning=OWNING)
    assert content(root) == {"file": b"old"}
    assert LocalTrees().names(str(root), "") == {"file", ".dsg"}


def test_the_space_of_two_writers_is_their_own(root: Path) -> None:
    """Nobody takes another's file for a leftover."""
    source = root / "source"
    source.write_bytes(os.urandom(1 << 20))
    trees = LocalTrees(share_blocks=False)
    failures: list[StorageError] = []

    def copy(number: int) -> None:
        for turn in range(20):
            try:
                trees.copy(str(root), "source", str(root), f"{number}/{turn}", owning=OWNING)
            except StorageError as error:
                failures.append(error)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    digests = {trees.digest(str(root), f"{number}/{turn}") for number in range(4) for turn in range(20)}
    assert digests == {trees.digest(str(root), "source")}


def test_a_directory_made_by_an_interrupted_call_gets_its_owner_and_mode(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir").chmod(0o1700)
    put(root, "dir/file")
    assert (root / "dir").stat().st_mode & 0o7777 == OWNING.directory_mode
    (root / "other").mkdir(mode=0o700)
    put(root, "other/file")
    assert (root / "other").stat().st_mode & 0o7777 == 0o700


# ---- odd trees


def test_no_depth_takes_more_descriptors(root: Path, tmp_path: Path) -> None:
    deep = "/".join(["d"] * 300)
    trees, place = LocalTrees(), str(root)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        put(root, f"{deep}/file")
        assert [path for path, _ in trees.walk(place)] == [f"{deep}/file"]
        assert trees.read(place, f"{deep}/file") == b"content"
        clone(place, str(tmp_path / "clone"), owning=OWNING)
        assert trees.read(str(tmp_path / "clone"), f"{deep}/file") == b"content"
        trees.remove_tree(place, "d")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert trees.names(place, "") == {".dsg"}


def test_devices_sockets_and_fifos_are_told_and_never_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as made, working_in(root):
        made.bind("socket")
    trees, place = LocalTrees(), str(root)
    assert {path: facts.kind for path, facts in trees.walk(place)} == {
        "fifo": FileKind.OTHER,
        "socket": FileKind.OTHER,
    }
    for name in ("fifo", "socket"):
        with pytest.raises(StorageError):
            trees.digest(place, name)
        with pytest.raises(StorageError):
            trees.copy(place, name, place, "copy", owning=OWNING)
    put(root, "fifo")
    trees.remove(place, "socket")
    assert content(root) == {"fifo": b"content"}


@contextmanager
def working_in(path: Path) -> Iterator[None]:
    """Work in a directory: a socket's path is short."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def test_two_names_of_one_file_become_one_when_one_is_moved_to_the_other(root: Path) -> None:
    put(root, "a")
    os.link(root / "a", root / "b")
    LocalTrees().move(str(root), "a", "b", owning=OWNING)
    assert content(root) == {"b": b"content"}


# ---- copies


@pytest.mark.parametrize("way", ["as it comes", "no clone", "ranges refused", "plain"])
def test_every_way_of_copying_keeps_content_and_holes(root: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def refused(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if way != "as it comes":
        monkeypatch.setattr("dsg.storage.copying.fcntl.ioctl", refused)
    if way == "ranges refused":
        monkeypatch.setattr("dsg.storage.copying.os.copy_file_range", refused)
    size = 8 << 20
    data = os.urandom(70_000)
    with (root / "sparse").open("wb") as file:
        file.write(data)
        file.seek(5 << 20)
        file.write(data)
        file.truncate(size)
    LocalTrees(share_blocks=way != "plain").copy(str(root), "sparse", str(root), "copy", owning=OWNING)
    assert (root / "copy").read_bytes() == (root / "sparse").read_bytes()
    os.sync()
    assert (root / "copy").stat().st_blocks * 512 < size // 2


def test_a_quota_reached_in_a_clone_is_no_reason_to_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*arguments: object) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    put(root, "file")
    monkeypatch.setattr("dsg.storage.copying.fcntl.ioctl", reached)
    with pytest.raises(QuotaExceeded):
        LocalTrees().copy(str(root), "file", str(root), "copy", owning=OWNING)
    assert content(root) == {"file": b"content"}


# ---- whole trees


def filled(root: Path) -> None:
    trees, place = LocalTrees(), str(root)
    put(root, ".dsg/manifest", b"manifest")
    put(root, "a/b/file", b"file")
    trees.set_attributes(place, "a/b/file", mode=0o604, mtime=-5_000_000_001, owning=OWNING)
    trees.link(place, "a/link", "../..", owning=OWNING)
    trees.make_directory(place, "empty", owning=OWNING)
    (root / ".zfs" / "snapshot").mkdir(parents=True)
    (root / ".zfs" / "snapshot" / "file").write_bytes(b"x")
    (root / ".dsg" / "tmp" / "left").write_bytes(b"x")
    (root / "deep" / ".zfs").mkdir(parents=True)
    put(root, "deep/.zfs/file", b"data")
    os.mkfifo(root / "fifo")


EXPECTED: dict[str, bytes | str] = {
    ".dsg/manifest": b"manifest",
    "a/b/file": b"file",
    "a/link": "../..",
    "deep/.zfs/file": b"data",
}


def test_a_clone_holds_everything_with_mode_and_time(root: Path, tmp_path: Path) -> None:
    filled(root)
    made = tmp_path / "clone"
    clone(str(root), str(made), owning=OWNING)
    assert content(made) == EXPECTED
    trees = LocalTrees()
    assert dict(trees.walk(str(made))) == {
        path: facts for path, facts in trees.walk(str(root)) if facts.kind is not FileKind.OTHER
    }
    assert trees.names(str(made), "") == {".dsg", "a", "deep", "empty"}
    for directory in (".", "a/b", "empty"):
        assert (made / directory).stat().st_mode & 0o7777 == OWNING.directory_mode
    (made / "a" / "b" / "file").write_bytes(b"changed")
    assert (root / "a" / "b" / "file").read_bytes() == b"file"


def test_an_interrupted_clone_is_repeated_over_what_is_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(root)
    made = tmp_path / "clone"
    copy = copying.copy_content
    for stop in range(4):
        left = [stop]

        def stopping(source: int, target: int, *, share: bool, left: list[int] = left) -> None:
            if not left[0]:
                os.write(target, b"half")
                raise KeyboardInterrupt
            left[0] -= 1
            copy(source, target, share=share)

        with monkeypatch.context() as patch:
            patch.setattr("dsg.storage.local_clone.copy_content", stopping)
            with suppress(KeyboardInterrupt):
                clone(str(root), str(made), owning=OWNING)
        assert content(made).items() <= EXPECTED.items()
    clone(str(root), str(made), owning=OWNING)
    assert content(made) == EXPECTED


def test_a_clone_needs_its_source_and_replaces_no_directory(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        clone(str(tmp_path / "none"), str(tmp_path / "clone"), owning=OWNING)
    assert not (tmp_path / "clone").exists()
    put(root, "thing")
    (tmp_path / "clone" / "thing").mkdir(parents=True)
    with pytest.raises(AlreadyExists):
        clone(str(root), str(tmp_path / "clone"), owning=OWNING)
