"""What nobody changed is not scanned again, and no change ever hides behind that."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsg.api.repository import Ignore
from dsg.scan.problems import ScanFailed
from dsg.sync.states import State
from dsg.workcopy import prepare, unchanged
from dsg.workcopy.local import Scanned, scan_down
from dsg.workcopy.results import Done, Status
from dsg.workcopy.status import listing, status
from tests.scan.oracle import SETTLED, settle
from tests.scan.test_glance import EDITS
from tests.workcopy.copies import MOMENT, Copy, Thing, things
from tests.workcopy.server import Server

FILES = {"a": Thing(b"a"), "d/b": Thing(b"bb", 0o755), "d/e/c.tmp": Thing(b""), "link": Thing("a")}


class Scans:
    """Counts scans."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, *arguments: object) -> Scanned:
        self.made += 1
        return scan_down(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scans]:
    found = Scans()
    monkeypatch.setattr(prepare, "scan_down", found)
    monkeypatch.setattr(unchanged, "YOUNG", SETTLED)
    yield found


@pytest.fixture
def copy(server: Server, tmp_path: Path, scans: Scans) -> Copy:
    """A working copy in which nothing has changed, as a scan has found and noted."""
    made = Copy(server, tmp_path / "mine")
    made.root.mkdir()
    made.put(dict(FILES))
    made.init()
    settle()
    look(made)
    scans.made = 0
    return made


def look(copy: Copy) -> Status:
    found = status(copy.layout, copy.remote)
    assert list(copy.layout.sync.iterdir()) == []
    return found


def test_what_is_unchanged_is_not_scanned(copy: Copy, scans: Scans) -> None:
    found = look(copy)
    assert found.counts is not None
    assert found.counts.states[State.ALL_EQUAL] == len(FILES)
    assert found.counts.rows() == []
    shown = listing(copy.layout, copy.remote)
    assert (shown.status, shown.changes, shown.operations, shown.saves) == (found, (), (), ())
    done = copy.done()
    assert (done.head, done.committed, done.counts) == ("s1", (), found.counts)
    assert scans.made == 0
    copy.settled()


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("path", ["a", "d/b"])
def test_every_edit_is_seen(copy: Copy, scans: Scans, path: str, edit: str) -> None:
    EDITS[edit](copy.root / path)
    found = look(copy)
    assert scans.made == 1
    assert found.counts is not None
    if edit != "replace":
        assert found.counts.rows() != []
    else:
        assert found.counts.rows() == []
    if edit in {"link", "directory"}:
        return
    copy.done(allow_deletions=True)
    settle()
    look(copy)
    scans.made = 0
    look(copy)
    assert scans.made == 0
    copy.settled()


def test_a_young_file_is_scanned_until_its_times_tell(
    copy: Copy, scans: Scans, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(copy.root / "a", ns=(MOMENT, MOMENT))
    monkeypatch.setattr(unchanged, "YOUNG", 60_000_000_000)
    for expected in (1, 2):
        look(copy)
        assert scans.made == expected
    monkeypatch.setattr(unchanged, "YOUNG", SETTLED)
    settle()
    look(copy)
    look(copy)
    assert scans.made == 3


def test_other_rules_are_another_scan(copy: Copy, scans: Scans) -> None:
    copy.server.ignore = Ignore(suffixes=[".tmp"])
    assert look(copy).counts is not None
    assert scans.made == 1
    copy.done()
    settle()
    look(copy)
    scans.made = 0
    counts = look(copy).counts
    assert counts is not None
    assert (counts.states[State.ALL_EQUAL], scans.made) == (len(FILES) - 1, 0)
    (copy.root / "d/e/c.tmp").write_bytes(b"ignored")
    assert look(copy).counts == counts
    assert scans.made == 0
    copy.server.ignore = Ignore()
    found = look(copy).counts
    assert found is not None
    assert (found.rows() != [], scans.made) == (True, 1)


def test_what_others_commit_is_seen(copy: Copy, scans: Scans, tmp_path: Path) -> None:
    other = Copy(copy.server, tmp_path / "other", "bo")
    other.clone()
    other.put({"a": Thing(b"other"), "new": Thing(b"new")})
    other.done()
    scans.made = 0
    found = look(copy)
    assert (found.base, found.head) == ("s1", "s2")
    assert found.counts is not None
    assert found.counts.states[State.CHANGED_THERE] == found.counts.states[State.ADDED_THERE] == 1
    assert scans.made == 1
    copy.done()
    assert things(copy.root) == things(other.root)
    copy.settled()


def test_without_its_cache_everything_is_read(copy: Copy, scans: Scans) -> None:
    copy.layout.scan.unlink()
    look(copy)
    assert scans.made == 1


@pytest.mark.parametrize("content", [b"", b"dsg-unchanged/1 \n", b"\0" * 80, None])
def test_what_the_record_says_costs_a_scan_at_most(copy: Copy, scans: Scans, content: bytes | None) -> None:
    if content is None:
        copy.layout.unchanged.unlink()
        copy.layout.unchanged.mkdir()
    else:
        copy.layout.unchanged.write_bytes(content)
    found = look(copy)
    assert scans.made == 1
    assert found.counts is not None
    assert found.counts.rows() == []
    look(copy)
    assert scans.made == (2 if content is None else 1)


def test_what_a_scan_complains_about_is_complained_about_again(copy: Copy, scans: Scans) -> None:
    os.mkfifo(copy.root / "pipe")
    for _ in range(2):
        with pytest.raises(ScanFailed, match="pipe"):
            status(copy.layout, copy.remote)
    (copy.root / "pipe").unlink()
    (copy.root / "a").chmod(0o4644)
    settle()
    for _ in range(2):
        assert "set-id" in str(look(copy).notes)
    assert scans.made == 4


@pytest.mark.parametrize("seed", range(4))
def test_random_work_looks_the_same_with_and_without_the_record(copy: Copy, scans: Scans, seed: int) -> None:
    chance = random.Random(seed)
    without = used = 0
    for step in range(25):
        files = sorted(p for p in copy.root.rglob("*") if p.is_file() and not p.is_symlink() and ".dsg" not in p.parts)
        act = chance.choice(["nothing", "nothing", "edit", "settle", "sync", "rules"])
        if act == "edit" and files:
            name = chance.choice([name for name in EDITS if name not in {"link", "directory"}])
            try:
                EDITS[name](chance.choice(files))
            except FileExistsError:
                continue
        elif act == "settle":
            settle()
        elif act == "sync":
            assert isinstance(copy.sync(message=str(step), allow_deletions=True), Done)
        elif act == "rules":
            copy.server.ignore = chance.choice([Ignore(), Ignore(suffixes=[".tmp"]), Ignore(names=["e"])])
        scans.made = 0
        found = look(copy)
        used += not scans.made
        record = copy.layout.unchanged.read_bytes() if copy.layout.unchanged.exists() else None
        copy.layout.unchanged.unlink(missing_ok=True)
        copy.layout.scan.unlink(missing_ok=True)
        scans.made = 0
        assert look(copy) == found
        without += scans.made
        if record is not None:
            copy.layout.unchanged.write_bytes(record)
    assert without
    assert used, "the record was of use"
