"""Walk: order, descriptors, and what moves while it goes on."""

from __future__ import annotations

import os
import socket
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings

from dsg.manifests.entries import LinkState
from dsg.scan.hashing import Hashed, Hasher
from dsg.scan.listing import Listing
from dsg.scan.problems import Kind, Problems
from dsg.scan.scope import Scope
from dsg.scan.walk import OPEN, Found, Walk
from tests.scan.oracle import everything, settle, tree, trees

NEVER = 1 << 62
"""A time before which all is settled."""


def walk(root: Path, *, settled_before: int = NEVER, run: int = 65536) -> tuple[Walk, Problems]:
    problems = Problems()
    return Walk(root, Scope(["*"]), problems, settled_before=settled_before, run=run), problems


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=60)
@given(trees)
def test_names_come_in_the_order_of_a_manifest_also_through_a_temporary_file(
    items: dict[bytes, bytes | Path | None],
) -> None:
    with tree(items) as root:
        expected = [state.key for state in everything(root)]
        for run in (65536, 2):
            made, problems = walk(root, run=run)
            assert [found.key for found in made] == expected
            assert not problems.total


def test_a_huge_directory_is_listed_in_bounded_memory(tmp_path: Path) -> None:
    peaks = []
    made = 0
    for count in (2_000, 8_000):
        for made in range(made, count):  # noqa: B020
            (tmp_path / f"interview-with-a-long-name-{made:09}").touch()
        descriptor = os.open(tmp_path, os.O_RDONLY)
        tracemalloc.start()
        assert sum(1 for _ in Listing(descriptor, lambda _name, _directory: True, run=100)) == made + 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        os.close(descriptor)
    # What grows is a block for each run that is merged, a hundredth of the names.
    assert peaks[1] < peaks[0] * 4.5
    tracemalloc.start()
    held = sorted(os.listdir(tmp_path))
    assert peaks[1] < tracemalloc.get_traced_memory()[0] * 4
    tracemalloc.stop()
    assert len(held) == made + 1


def test_deep_trees_take_few_descriptors(tmp_path: Path) -> None:
    at = tmp_path
    for depth in range(3 * OPEN):
        at = at / "d"
        at.mkdir()
        for name in ("a", "z"):
            (at / name).write_text(str(depth))
    before = descriptors()
    made, problems = walk(tmp_path)
    most = 0
    keys = []
    for found in made:
        keys.append(found.key)
        most = max(most, descriptors() - before)
    assert keys == [state.key for state in everything(tmp_path)]
    assert most <= OPEN + 5
    assert descriptors() == before
    assert not problems.total


def test_giving_up_closes_everything(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    before = descriptors()
    made, _ = walk(tmp_path)
    steps = iter(made)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    made.close()
    assert descriptors() == before


def test_paths_of_ten_thousand_characters_are_reported() -> None:
    with tempfile.TemporaryDirectory() as made:
        at = os.open(made, os.O_RDONLY)
        for _ in range(100):
            os.mkdir("d" * 99, dir_fd=at)
            below = os.open("d" * 99, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)
        Path(made, "e").touch()
        steps, problems = walk(Path(made))
        assert [found.key for found in steps] == [b"e"]
        (problem,) = problems.all
        assert problem.kind is Kind.REFUSED
        assert len(problem.path) > 4000
        assert "4095" in problem.message


def test_what_is_neither_file_nor_link_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # A socket's own path must be short.
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    if os.geteuid() == 0:
        os.mknod("null", 0o600 | 0o020000, os.makedev(1, 3))
    Path("fine").touch()
    steps, problems = walk(tmp_path)
    assert [found.key for found in steps] == [b"fine"]
    expected = {"pipe": "a named pipe", "socket": "a socket"} | (
        {"null": "a character device"} if os.geteuid() == 0 else {}
    )
    assert {problem.path for problem in problems.all} == set(expected)
    for problem in problems.all:
        assert problem.kind is Kind.SPECIAL
        assert expected[problem.path] in problem.message


def test_links_that_lead_out_and_reserved_names_are_named_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("../elsewhere")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "fine").symlink_to("nowhere")
    (tmp_path / "\u200c.dsg").mkdir()
    (tmp_path / "\u200c.dsg" / "x").touch()
    steps, problems = walk(tmp_path)
    assert list(steps) == [LinkState("fine", "nowhere")]
    assert [problem.path for problem in problems.all] == ["absolute", "out", "\u200c.dsg"]
    assert {problem.kind for problem in problems.all} == {Kind.REFUSED}


@pytest.mark.parametrize(("source", "target"), [("z/file", "a/new"), ("z/file", "new"), ("z", "a/z")])
@pytest.mark.parametrize("settled_before", [NEVER, 0])
def test_what_moves_behind_the_walk_is_not_taken_for_deleted(
    tmp_path: Path, source: str, target: str, settled_before: int
) -> None:
    for folder in ("a", "m", "z"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    if settled_before:
        # Else the directories' times may be those of the move: the clock ticks in steps.
        settle()
    made, problems = walk(tmp_path, settled_before=settled_before)
    steps = iter(made)
    while next(steps).key != b"m/file":
        pass
    (tmp_path / source).rename(tmp_path / target)
    rest = [found.key for found in steps]
    assert b"z/file" not in rest
    assert problems.total
    assert {problem.kind for problem in problems.all} == {Kind.CHANGING}
    assert os.path.dirname(target) in {problem.path for problem in problems.all}


def test_hidden_and_ignored_files_may_come_and_go(tmp_path: Path) -> None:
    for folder in ("a", "z"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    made, problems = walk(tmp_path, settled_before=0)
    steps = iter(made)
    next(steps)
    (tmp_path / "a" / ".file.swp").touch()
    assert [found.key for found in steps] == [b"z/file"]
    assert not problems.total


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for place in (outside, root / "a", root / "z"):
        place.mkdir(parents=True)
        (place / "file").touch()
    (outside / "secret").touch()
    made, problems = walk(root)
    steps = iter(made)
    next(steps)
    (root / "z").rename(tmp_path / "gone")
    (root / "z").symlink_to(outside)
    assert list(steps) == []
    assert "z" in {problem.path for problem in problems.all}


def test_a_directory_that_is_swapped_far_above_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    at = root
    for _ in range(OPEN + 10):
        at = at / "d"
    at.mkdir(parents=True)
    (at / "file").touch()
    (root / "d" / "z").touch()
    made, problems = walk(root)
    steps = iter(made)
    next(steps)
    (root / "d").rename(tmp_path / "gone")
    (root / "d").mkdir()
    assert list(steps) == []
    assert "d" in {problem.path for problem in problems.all}


def test_a_file_that_goes_or_is_replaced_before_it_is_read_is_changing(tmp_path: Path) -> None:
    for name in ("gone", "pipe", "replaced"):
        (tmp_path / name).write_bytes(b"old")
    made, _ = walk(tmp_path)
    hasher = Hasher()
    outcomes = {}
    for found in made:
        assert isinstance(found, Found)
        place = tmp_path / found.path
        place.unlink()
        if found.path == "pipe":
            os.mkfifo(place)
        elif found.path == "replaced":
            place.write_bytes(b"new!")
        outcomes[found.path] = hasher.hash(found)
    replaced = outcomes.pop("replaced")
    assert isinstance(replaced, Hashed)
    assert replaced.status.st_size == 4
    for path, problem in outcomes.items():
        assert not isinstance(problem, Hashed)
        assert problem.kind is Kind.CHANGING
        assert path in problem.message
