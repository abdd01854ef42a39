"""Races and Ctrl-C: states are of one moment, and what was hashed is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from dsg.manifests.entries import FileState
from dsg.scan.hashing import ATTEMPTS, WHOLE
from dsg.scan.problems import Kind, ScanFailed
from dsg.scan.scan import SLOTS, Scan
from dsg.scan.scope import Scope
from tests.scan.oracle import SETTLED, everything, scan, settle


@pytest.mark.parametrize("pause", [0.0, 0.03])
@pytest.mark.parametrize("by_rename", [False, True])
def test_a_file_that_is_rewritten_meanwhile_is_whole_or_named(tmp_path: Path, pause: float, by_rename: bool) -> None:
    root = tmp_path / "root"
    (root / ".aside").mkdir(parents=True)
    place, aside = root / "file", root / ".aside" / "file"
    versions = [bytes([n]) * 200_000 for n in range(4)]
    whole = {blake3(version).hexdigest() for version in versions}
    place.write_bytes(versions[0])
    stop = threading.Event()

    def rewrite() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % len(versions)
            if by_rename:
                aside.write_bytes(versions[number])
                aside.rename(place)
            else:
                with place.open("r+b") as file:
                    file.write(versions[number])
            os.utime(place, ns=(0, 0))
            stop.wait(pause)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(4):
            try:
                (state,) = Scan(root, Scope(["*"]), cache=tmp_path / "cache")
            except ScanFailed as failed:
                (problem,) = failed.problems
                assert (problem.path, problem.kind) == ("file", Kind.CHANGING)
                assert "wait for whatever writes there" in problem.message
            else:
                assert isinstance(state, FileState)
                assert state.digest in whole
    finally:
        stop.set()
        writer.join()
    assert scan(root, tmp_path / "cache")[0] == everything(root)


@pytest.mark.parametrize("size", [100, 2 * WHOLE])
@pytest.mark.parametrize("times", [1, 2, ATTEMPTS])
def test_a_write_between_looking_and_looking_again_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, times: int
) -> None:
    place = tmp_path / "file"
    place.write_bytes(bytes(size))
    writes = 0

    def meddle() -> None:
        nonlocal writes
        if writes < times:
            writes += 1
            settle()
            with place.open("r+b") as file:
                file.seek(size - 1)
                file.write(bytes([writes]))

    def read(descriptor: int, count: int) -> bytes:
        content = reads(descriptor, count)
        meddle()
        return content

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        meddle() if os.lseek(descriptor, 0, os.SEEK_CUR) else None
        return readvs(descriptor, buffers)

    reads, readvs = os.read, os.readv
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "readv", readv)
    scanned = Scan(tmp_path, Scope(["*"]), threads=1)
    if times < ATTEMPTS:
        assert list(scanned) == everything(tmp_path)
    else:
        with pytest.raises(ScanFailed, match="'file' changed each of the 3 times that it was read"):
            list(scanned)
    assert writes == times


def test_a_file_that_is_moved_to_and_fro_is_seen_once_or_told(tmp_path: Path) -> None:
    places = [tmp_path / "a" / "file", tmp_path / "z" / "file"]
    for folder in "abcdefz":
        (tmp_path / folder).mkdir()
    places[0].write_text("evidence")
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            places[0].rename(places[1])
            stop.wait(0.002)
            places[1].rename(places[0])
            stop.wait(0.01)

    mover = threading.Thread(target=move)
    mover.start()
    outcomes = []
    try:
        for _ in range(30):
            try:
                outcomes.append([state.path for state in Scan(tmp_path, Scope(["*"]))])
            except ScanFailed as failed:
                assert {problem.kind for problem in failed.problems} == {Kind.CHANGING}
    finally:
        stop.set()
        mover.join()
    assert all(paths in (["a/file"], ["z/file"]) for paths in outcomes)


def test_a_file_that_is_open_for_writing_but_left_alone_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (tmp_path / "file").open("r+"):
        assert list(Scan(tmp_path, Scope(["*"]))) == everything(tmp_path)


@pytest.mark.usefixtures("small")
def test_ending_early_keeps_what_was_done_and_what_was_known(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    for number in range(1000):
        (root / f"{number:04}").write_text(str(number))
    settle()
    before = len(os.listdir("/proc/self/fd"))
    states = iter(Scan(root, Scope(["*"]), cache=cache, young=SETTLED))
    for _ in range(300):
        next(states)
    states.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
    done = Scan(root, Scope(["*"]), cache=cache, young=SETTLED)
    assert list(done) == everything(root)
    assert 300 <= done.report.progress.cached < 1000
    assert not done.report.notes

    # Everything is known now; a change near the start, and an early end, must not forget the rest.
    (root / "0005").write_text("other")
    settle()
    states = iter(Scan(root, Scope(["*"]), cache=cache, young=SETTLED))
    next(states)
    states.close()  # type: ignore[attr-defined]
    done = Scan(root, Scope(["*"]), cache=cache, young=SETTLED)
    assert list(done) == everything(root)
    assert done.report.progress.cached >= 999
    assert not done.report.notes


PROGRAM = """
import sys
from pathlib import Path
from dsg.scan.scan import Scan
from dsg.scan.scope import Scope

def tell(progress):
    if progress.files == int(sys.argv[3]) and progress.hashed > 1_000_000:
        print("reading", flush=True)

scan = Scan(Path(sys.argv[1]), Scope(["*"]), cache=Path(sys.argv[2]), young=20_000_000, progress=tell)
try:
    for state in scan:
        pass
except KeyboardInterrupt:
    print("interrupted", scan.progress.hashed, scan.report.whole, flush=True)
"""


def test_ctrl_c_ends_it_and_leaves_a_good_cache(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    # Whole groups, so that all of them are through when only the large file is being read.
    count = 8 * SLOTS
    for number in range(count):
        (root / f"{number:04}").write_text(str(number))
    size = 1 << 40
    with (root / "huge").open("wb") as file:
        file.truncate(size)
    settle()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), str(cache), str(count)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        watchdog = threading.Timer(120, running.kill)
        watchdog.start()
        assert running.stdout.readline() == "reading\n"
        running.send_signal(signal.SIGINT)
        last = running.stdout.read().splitlines()[-1].split()
        assert running.wait() == 0
        watchdog.cancel()
    assert last[0] == "interrupted"
    # It would have taken minutes.
    assert int(last[1]) < size
    assert last[2] == "False"
    (root / "huge").unlink()
    states, done = scan(root, cache)
    assert states == everything(root)
    assert done.report.progress.cached == count
    assert not done.report.notes
    assert os.listdir(tmp_path).count("cache.new") == 0
