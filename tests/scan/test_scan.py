"""Scan: the same states as the slow way, whatever the tree, and again after changes, with a cache."""

from __future__ import annotations

import io
import mmap
import os
import random
import resource
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.api.repository import Ignore
from dsg.manifests.codec import verify, write
from dsg.manifests.entries import FileState, State
from dsg.manifests.header import Commit
from dsg.scan import scan as module
from dsg.scan.cache import YOUNG
from dsg.scan.hashing import PARALLEL, WHOLE, Hashed, Hasher
from dsg.scan.problems import Kind, Problem, ScanFailed
from dsg.scan.scan import Progress, Scan
from dsg.scan.scope import Scope
from dsg.scan.walk import Found
from tests.scan import oracle
from tests.scan.oracle import SETTLED, everything, scan, settle, tree, trees, unprivileged

pytestmark = pytest.mark.usefixtures("small")

ignores = st.builds(
    Ignore,
    names=st.lists(st.sampled_from(["a", "x.tmp", "input"]), max_size=2, unique=True),
    suffixes=st.lists(st.sampled_from([".tmp", ".b"]), max_size=2, unique=True),
    paths=st.lists(st.sampled_from(["a/b", "input/a", "a"]), max_size=2, unique=True),
)


@settings(max_examples=60)
@given(trees, st.sampled_from([["*"], ["input"], ["a", "b"]]), ignores)
def test_states_are_those_of_the_slow_way(
    items: dict[bytes, bytes | Path | None], data_dirs: list[str], ignore: Ignore
) -> None:
    with tree(items) as root:
        assert list(Scan(root, Scope(data_dirs, ignore))) == oracle.naive_scan(root, data_dirs, ignore)


@settings(max_examples=25)
@given(trees, st.data())
def test_states_stay_right_through_changes_with_a_cache(
    items: dict[bytes, bytes | Path | None], data: st.DataObject
) -> None:
    with tree(items) as root, tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        for young in data.draw(st.lists(st.sampled_from([SETTLED, YOUNG]), min_size=2, max_size=3)):
            settle()
            states, _ = scan(root, cache, young=young)
            assert states == everything(root)
            again, repeated = scan(root, cache, young=young)
            assert again == states
            if young == SETTLED:
                assert repeated.report.progress.hashed == 0
            for state in states:
                _change(data.draw(st.sampled_from(CHANGES), label=state.path), root / state.path, root)


CHANGES = ["nothing", "nothing", "rewrite", "swap", "remove", "mode", "touch", "link"]


def _change(how: str, place: Path, root: Path) -> None:
    if how == "remove":
        place.unlink()
    elif how == "link":
        place.unlink()
        place.symlink_to("target")
    elif not place.is_symlink():
        before = place.stat()
        if how in {"rewrite", "swap"}:
            other = bytes(byte ^ 1 for byte in place.read_bytes())
            if how == "swap":
                aside = root / ".aside"
                aside.write_bytes(other)
                aside.rename(place)
            else:
                place.write_bytes(other)
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif how == "mode":
            place.chmod(before.st_mode ^ 0o111)
        elif how == "touch":
            place.touch()


def test_an_edit_of_the_same_size_in_the_same_moment_is_seen(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    seen = set()
    for content in (b"one", b"two", b"six"):
        (root / "file").write_bytes(content)
        os.utime(root / "file", ns=(0, 0))
        (state,) = Scan(root, Scope(["*"]), cache=cache)
        assert isinstance(state, FileState)
        assert state.digest == blake3(content).hexdigest()
        seen.add(state.mtime)
    assert seen == {0}


def test_an_edit_through_memory_that_leaves_the_times_alone_is_seen(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    (root / "file").write_bytes(bytes(4096))
    with (root / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        for number in range(1, 4):
            mapped[0] = number
            (state,) = Scan(root, Scope(["*"]), cache=cache)
            assert isinstance(state, FileState)
            assert state.digest == blake3(bytes([number]) + bytes(4095)).hexdigest()


def test_a_time_in_the_future_is_never_trusted(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    (root / "file").write_bytes(b"one")
    tomorrow = time.time_ns() + 86_400_000_000_000
    os.utime(root / "file", ns=(0, tomorrow))
    settle()
    for _ in range(2):
        _, done = scan(root, cache)
        assert done.report.progress.hashed == 3


@contextmanager
def opened_files() -> Iterator[list[object]]:
    """Collect what is opened that is no directory; names of files of a tree are bytes, relative to a descriptor."""
    _opened.clear()
    _watching.append(True)
    try:
        yield _opened
    finally:
        _watching.clear()


_opened: list[object] = []
_watching: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        path, _, flags = arguments
        if isinstance(path, bytes) and not flags & os.O_DIRECTORY:
            _opened.append(path)


sys.addaudithook(_hook)  # There is no way to take it off again; it does nothing unless told to.


def test_a_second_scan_opens_no_file_and_writes_no_cache(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    (root / "a").mkdir(parents=True)
    for number in range(1500):
        (root / "a" / f"{number}").write_text(str(number))
    settle()
    with opened_files() as first:
        states, _ = scan(root, cache)
    assert len(first) == 1500
    written = cache.stat()
    with opened_files() as second:
        again, done = scan(root, cache)
    assert again == states
    assert second == []
    assert done.report.progress.cached == 1500
    assert os.path.samestat(cache.stat(), written)
    (root / "a" / "700").write_text("other")
    with opened_files() as third:
        assert scan(root, cache)[0] == everything(root)
    assert third == [b"700"]
    assert not os.path.samestat(cache.stat(), written)
    assert os.listdir(tmp_path).count("cache.new") == 0


def test_sizes_at_which_the_way_of_reading_changes(tmp_path: Path) -> None:
    for size in (0, 1, WHOLE - 1, WHOLE, WHOLE + 1, PARALLEL, PARALLEL + 1):
        (tmp_path / str(size)).write_bytes(random.Random(size).randbytes(size))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 * WHOLE)
    for threads in (1, 3):
        assert list(Scan(tmp_path, Scope(["*"]), threads=threads)) == everything(tmp_path)


class Hashers:
    """Which threads hash, and how long each file takes to come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.threads: list[int] = []
        monkeypatch.setattr(Hasher, "hash", self._noted(Hasher.hash))

    def _noted(self, real: Callable[[Hasher, Found], Hashed | Problem]) -> Callable[[Hasher, Found], Hashed | Problem]:
        def noted(hasher: Hasher, found: Found) -> Hashed | Problem:
            self.threads.append(threading.get_ident())
            time.sleep(self.seconds)
            return real(hasher, found)

        return noted


def small_files(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"{number:04}").write_text(str(number))
    time.sleep(1.1)


def test_small_files_that_come_at_once_are_hashed_without_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    small_files(tmp_path, 500)
    hashers = Hashers(monkeypatch)
    # However busy this machine is.
    monkeypatch.setattr(module, "_TOLERATED", 60.0)
    assert list(Scan(tmp_path, Scope(["*"]), threads=2)) == everything(tmp_path)
    assert (threading.get_ident() in hashers.threads) is (small > 0)
    assert len(set(hashers.threads)) == 1 or small < 0


def test_small_files_that_are_slow_to_come_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    small_files(tmp_path, 600)
    hashers = Hashers(monkeypatch)
    hashers.seconds = 0.001
    assert list(Scan(tmp_path, Scope(["*"]), threads=3)) == everything(tmp_path)
    assert hashers.threads.count(threading.get_ident()) == (module.SLOTS if small > 0 else 0)


def test_few_open_files_are_enough(tmp_path: Path) -> None:
    for number in range(600):
        folder = tmp_path / f"{number // 20}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_text(str(number))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, limits[1]))
    try:
        states = list(Scan(tmp_path, Scope(["*"]), threads=8))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert states == everything(tmp_path)


def test_set_id_and_sticky_bits_are_dropped_and_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o4751)
    (state,), done = scan(tmp_path)
    assert isinstance(state, FileState)
    assert state.mode == 0o751
    (note,) = done.report.notes
    assert note.path == "file"
    assert "4000" in note.message


def test_times_are_kept_to_the_nanosecond(tmp_path: Path) -> None:
    for name, at in (("old", -1_234_567_891), ("new", 1_764_000_000_123_456_789)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, at))
    states, _ = scan(tmp_path)
    assert [state.mtime for state in states if isinstance(state, FileState)] == [
        (tmp_path / name).stat().st_mtime_ns for name in ("new", "old")
    ]


def test_states_make_a_manifest(tmp_path: Path) -> None:
    for path in ("a-b", "a/c", "a.b/c", "a0"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(path)
    commit = Commit("s1", None, "ana", datetime(2026, 1, 1, tzinfo=UTC), "", "t")
    target = io.BytesIO()
    header = write(target, commit, (state.signed("ana", "s1") for state in scan(tmp_path)[0]))
    target.seek(0)
    assert verify(target, "manifest") == header


def test_spellings_are_taken_verbatim(tmp_path: Path) -> None:
    for name in ("é", "e\u0301", "A", "a"):
        (tmp_path / name).touch()
    assert {state.path for state in scan(tmp_path)[0]} == {entry.name for entry in os.scandir(tmp_path)}


def test_reports_are_not_whole_before_the_end(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).touch()
    told: list[Progress] = []
    done = Scan(tmp_path, Scope(["*"]), progress=told.append)
    states: Iterator[State] = iter(done)
    next(states)
    assert not done.report.whole
    assert len(list(states)) == 199
    assert done.report.whole
    assert told[-1] == done.progress
    assert done.progress.files == 200
    assert [progress.files for progress in told] == sorted(progress.files for progress in told)
    with pytest.raises(RuntimeError, match="another Scan"):
        iter(done)


def test_a_root_that_is_not_there_is_no_empty_tree(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        scan(tmp_path / "file")


def test_all_problems_are_told_at_once_after_the_states(tmp_path: Path) -> None:
    (tmp_path / "fine").touch()
    for number in range(30):
        os.mkfifo(tmp_path / f"pipe{number:02}")
    done = Scan(tmp_path, Scope(["*"]))
    states: list[State] = []
    with pytest.raises(ScanFailed) as failed:
        states.extend(done)  # Takes none if it fails.
    assert failed.value.total == 30
    assert [problem.path for problem in failed.value.problems] == [f"pipe{number:02}" for number in range(30)]
    assert "'pipe00' is a named pipe" in str(failed.value)
    assert "and 10 more" in str(failed.value)
    assert not done.report.whole


def test_what_may_not_be_read_is_an_error_and_not_absent() -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "root")
        for folder in ("open", "listless", "closed"):
            (root / folder).mkdir(parents=True)
            (root / folder / "file").write_text(folder)
            (root / folder / "file").chmod(0o644)
        (root / "secret").write_text("secret")
        Path(made).chmod(0o755)
        (root / "secret").chmod(0)
        (root / "closed").chmod(0)
        (root / "listless").chmod(0o444)

        def act() -> str:
            done = Scan(root, Scope(["*"]))
            states = iter(done)
            paths = []
            try:
                while True:
                    paths.append(next(states).path)
            except ScanFailed as failed:
                assert {problem.kind for problem in failed.problems} == {Kind.UNREADABLE}
                assert all("Permission denied" in problem.message for problem in failed.problems)
                return " ".join([*paths, "|", *(problem.path for problem in failed.problems)])

        assert unprivileged(act) == "open/file | closed listless/file secret"
        for folder in ("closed", "listless"):
            (root / folder).chmod(0o755)


def test_others_files_are_read_without_leaving_access_times_alone() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        (Path(made) / "file").write_text("x")
        (Path(made) / "file").chmod(0o644)
        assert unprivileged(lambda: " ".join(state.path for state in Scan(Path(made), Scope(["*"])))) == "file"


def test_access_times_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.utime(tmp_path / "file", ns=(5, 10))
    scan(tmp_path)
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)
    assert (tmp_path / "file").stat().st_atime_ns == 5
