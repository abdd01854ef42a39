"""Each of the 15 states, end to end: by a sync, and those that can come up in a clone and a first version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsg.sync.states import TABLE, Action, Row, State
from dsg.workcopy.errors import NotEmpty
from dsg.workcopy.results import Done
from tests.workcopy.copies import MOMENT, Copy, Thing, things
from tests.workcopy.server import Server

LATER = MOMENT + 5_000_000_000

KINDS: dict[str, dict[str, Thing]] = {
    "files": {
        "A": Thing(b"one\n"),
        "B": Thing(b"two, longer\n", 0o640, LATER),
        "C": Thing(b"three\0\xff", 0o755, LATER + 1),
    },
    "modes": {"A": Thing(b"same\n", 0o644), "B": Thing(b"same\n", 0o755), "C": Thing(b"same\n", 0o600)},
    "mixed": {"A": Thing(b"was a file\0\xff\n", 0o640, LATER), "B": Thing("keep"), "C": Thing(b"", 0o600)},
}
PATH = "data/deep/x.csv"
KEEP = {"keep": Thing(b"stays\n"), "data/keep.txt": Thing(b"stays, too\n")}


def three(row: Row, kind: str) -> list[Thing | None]:
    """Return what L, C and R have at the path."""
    return [None if mark == "-" else KINDS[kind][mark] for mark in row.pattern]


def bring(server: Server, tmp_path: Path, row: Row, kind: str) -> tuple[Copy, list[Thing | None]]:
    """Return a working copy in which the path is in that state."""
    local, cached, remote = sides = three(row, kind)
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    theirs.root.mkdir()
    theirs.put({**KEEP, **({PATH: cached} if cached is not None else {})})
    theirs.init()
    mine.clone()
    if remote != cached:
        theirs.put({PATH: remote})
        theirs.done()
    if local != cached:
        mine.put({PATH: local})
    return mine, sides


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.state.value)
def test_sync(row: Row, kind: str, server: Server, tmp_path: Path) -> None:
    mine, (local, _, remote) = bring(server, tmp_path, row, kind)
    before, versions = things(mine.root), server.ground.versions()
    if row.blocks:
        blocked = mine.blocked()
        assert [conflict.path for conflict in blocked.conflicts] == [PATH]
        assert blocked.conflicts[0].state is row.state
        assert things(mine.root) == before
        assert server.ground.versions() == versions
        mine.decide("theirs")
        result = mine.done(resolve=True)
        expected = remote
        # What was here is in no version.
        lost = local is not None and (remote is None or local.content != remote.content)
        assert mine.kept() == ({local.content} if lost and local is not None else set())
        assert bool(result.kept) == lost
    else:
        result = mine.done()
        expected = local if row.action in {Action.UPLOAD, Action.DELETE_REMOTE} else remote
        assert result.kept == ()
    assert result.counts is not None
    assert result.counts.states[row.state] == 1 or row.state in {State.ALL_EQUAL, State.NOWHERE}
    assert result.left == ()
    assert things(mine.root) == {**KEEP, **({PATH: expected} if expected is not None else {})}
    sends = row.action in {Action.UPLOAD, Action.DELETE_REMOTE}
    assert server.ground.versions() == versions + ([f"s{len(versions) + 1}"] if sends else [])
    mine.settled()
    assert mine.done().committed == ()
    theirs = Copy(server, tmp_path / "third", "cleo")
    theirs.clone()
    assert things(theirs.root) == things(mine.root)


@pytest.mark.parametrize("word", ["mine", "both"])
@pytest.mark.parametrize("kind", ["files", "mixed"])
@pytest.mark.parametrize("row", [row for row in TABLE if row.blocks], ids=lambda row: row.state.value)
def test_other_decisions(row: Row, kind: str, word: str, server: Server, tmp_path: Path) -> None:
    mine, (local, _, remote) = bring(server, tmp_path, row, kind)
    mine.blocked()
    mine.decide(word)
    mine.done(resolve=True)
    both = word == "both" and local is not None and remote is not None
    expected = {**KEEP}
    if both and remote is not None and local is not None:
        expected |= {PATH: remote, "data/deep/x.from-ana.csv": local}
    elif local is not None:
        expected[PATH] = local
    assert things(mine.root) == expected
    mine.settled()
    assert mine.kept() == set()


@pytest.mark.parametrize("kind", KINDS)
def test_clone(kind: str, server: Server, tmp_path: Path) -> None:
    one = Copy(server, tmp_path / "one")
    one.root.mkdir()
    wanted = {**KEEP, **{f"data/{name}": thing for name, thing in KINDS[kind].items()}}
    one.put(dict(wanted))
    assert isinstance(one.init(), Done)
    one.settled()
    other = Copy(server, tmp_path / "other", "bo")
    cloned = other.clone()
    assert cloned.header == server.head()
    assert cloned.done.fetched == len(wanted)
    assert things(other.root) == wanted
    other.settled()
    assert other.remote.sent == []


def test_a_clone_needs_a_place_of_its_own(server: Server, tmp_path: Path) -> None:
    one = Copy(server, tmp_path / "one")
    one.root.mkdir()
    one.put({"a": Thing(b"a")})
    one.init()
    other = Copy(server, tmp_path / "other")
    other.root.mkdir()
    other.put({"b": Thing(b"b")})
    with pytest.raises(NotEmpty, match="'b'"):
        other.clone()
    assert things(other.root) == {"b": Thing(b"b")}
    assert not other.layout.metadata.exists()


def test_sparse_files_and_holes(server: Server, tmp_path: Path) -> None:
    one, other = Copy(server, tmp_path / "one"), Copy(server, tmp_path / "other")
    one.root.mkdir()
    size = 3 << 20
    with (one.root / "sparse").open("wb") as file:
        file.seek(size - 1)
        file.write(b"x")
    os.utime(one.root / "sparse", ns=(MOMENT, MOMENT))
    one.put({"copy": Thing((one.root / "sparse").read_bytes())})
    one.init()
    other.clone()
    assert things(other.root) == things(one.root)
    one.settled()
    other.settled()
    # Others' copies of what is here are not fetched.
    one.put({"again": Thing((one.root / "sparse").read_bytes())})
    one.done()
    other.remote.fetched.clear()
    other.done()
    assert other.remote.fetched == []
    other.settled()
