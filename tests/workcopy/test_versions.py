"""Looking at versions, and what else there is beside syncing."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dsg.manifests.compare import Aspect
from dsg.sync.plan import Fetch
from dsg.sync.states import State
from dsg.workcopy.clean import Interrupted, clean
from dsg.workcopy.errors import NoSuchVersion, NotAWorkingCopy, NoVersionYet
from dsg.workcopy.journal import Journal, Phase, write_journal
from dsg.workcopy.layout import Layout
from dsg.workcopy.origin import find_root, read_origin
from dsg.workcopy.restore import restore
from dsg.workcopy.results import Done
from dsg.workcopy.status import listing, status
from dsg.workcopy.validate import validate, validate_head
from dsg.workcopy.versions import At, Here, Last, Versions
from tests.transactions.ground import later
from tests.workcopy.copies import MOMENT, Copy, Thing, things
from tests.workcopy.server import Server


@pytest.fixture
def two(server: Server, tmp_path: Path) -> tuple[Copy, Copy]:
    """Four versions: ana made s1 and s3, bo s2 and s4, a day apart."""
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    mine.root.mkdir()
    mine.put({"a": Thing(b"a 1"), "d/b": Thing(b"b 1"), "d/c": Thing(b"c"), "l": Thing("a")})
    mine.init(message="first")
    theirs.clone()
    changes: list[tuple[Copy, dict[str, Thing | None]]] = [
        (theirs, {"a": Thing(b"a 2"), "d/b": None}),
        (mine, {"d/new": Thing(b"new"), "a": Thing(b"a 2", 0o644, MOMENT + 1)}),
        (theirs, {"a": Thing(b"a 4"), "d/b": Thing(b"b 4")}),
    ]
    for n, (one, what) in enumerate(changes):
        later(server.ground, days=1)
        one.done()
        one.put(what)
        one.done(message=f"change {n}")
    return mine, theirs


def test_log(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    with Versions(mine.layout, mine.remote) as versions:
        assert [header.version for header in versions.log()] == ["s4", "s3", "s2", "s1"]
        assert [header.version for header in versions.log(author="bo")] == ["s4", "s2"]
        assert [header.version for header in versions.log(author="ana", limit=1)] == ["s3"]
        third = versions.header("s3").commit.time
        assert [header.version for header in versions.log(since=third)] == ["s4", "s3"]
        assert versions.header("s1").commit.message == "first"
        for missing in ("s5", "s0"):
            with pytest.raises((NoSuchVersion, ValueError)):
                versions.header(missing)


def test_a_log_of_what_is_here_reads_nothing(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.done()
    mine.remote.reads.clear()
    with Versions(mine.layout, mine.remote) as versions:
        assert len(list(versions.log())) == 4
    assert mine.remote.reads == []


def test_blame(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    with Versions(mine.layout, mine.remote) as versions:
        found = [(one.header.version, one.header.commit.author, one.added) for one in versions.blame("a")]
        # A new time alone is nobody's change.
        assert found == [("s4", "bo", False), ("s2", "bo", False), ("s1", "ana", True)]
        assert [one.header.version for one in versions.blame("d/b")] == ["s4"]
        assert [one.header.version for one in versions.blame("d/b", "s1")] == ["s1"]
        with pytest.raises(NoSuchVersion):
            list(versions.blame("none"))


def test_blame_ends_where_versions_are_gone(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    ground = mine.server.ground
    ground.kind.prune(ground.target, ["s1"])
    with Versions(mine.layout, mine.remote) as versions:
        found = list(versions.blame("a"))
    assert [one.header.version for one in found] == ["s4", "s2"]
    assert "pruned" in found[-1].ends


def test_ls(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    with Versions(mine.layout, mine.remote) as versions:
        assert [entry.path for entry in versions.ls()] == ["a", "d/b", "d/c", "d/new", "l"]
        assert [entry.path for entry in versions.ls("s2", "d")] == ["d/c"]
        assert [entry.path for entry in versions.ls("s1", "d/b")] == ["d/b"]
        entry = versions.entry("d/b", "s2")
        assert entry is None


def test_diff(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.put({"d/c": None, "l": Thing("d/new"), "mine": Thing(b"mine")})
    with Versions(mine.layout, mine.remote) as versions:
        found = {one.path: one for one in versions.diff(At("s1"), At())}
        assert set(found) == {"a", "d/b", "d/new"}
        assert found["a"].aspects == Aspect.CONTENT
        assert found["d/new"].before is None
        assert {one.path for one in versions.diff(At("s2"), At("s3"))} == {"a", "d/new"}
        local = {one.path: (one.before is None, one.after is None) for one in versions.diff(Last(), Here())}
        assert local == {"d/c": (False, True), "l": (False, False), "mine": (True, False)}
        assert {one.path for one in versions.diff(Here(), At())} == {"a", "d/b", "d/c", "l", "mine"}
        assert [one.path for one in versions.diff(Here(), Here())] == []
    mine.done()
    mine.settled()


def test_fetch(two: tuple[Copy, Copy], tmp_path: Path) -> None:
    mine, _ = two
    into = tmp_path / "old"
    with Versions(mine.layout, mine.remote) as versions:
        found = versions.fetch("s1", [], into)
        assert (found.files, found.size, found.left) == (4, 7, ())
        assert things(into) == {
            "a": Thing(b"a 1"),
            "d/b": Thing(b"b 1"),
            "d/c": Thing(b"c"),
            "l": Thing("a"),
        }
        again = versions.fetch(None, ["d", "l"], into)
        assert {left.path for left in again.left} == {"d/b", "d/c", "l"}
        assert things(into)["d/b"].content == b"b 1"
        assert things(into)["d/new"].content == b"new"
        with pytest.raises(NoSuchVersion, match="'nothing'"):
            versions.fetch("s2", ["a", "nothing"], into)
    assert [path.name for path in into.iterdir() if path.name.startswith(".")] == []


def test_status_and_listing(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.put({"d/c": None, "mine": Thing(b"mine")})
    before = things(mine.root)
    found = status(mine.layout, mine.remote)
    assert (found.base, found.head) == ("s3", "s4")
    assert found.counts is not None
    assert found.counts.states[State.DELETED_HERE] == 1
    assert found.counts.states[State.CHANGED_THERE] == 1
    whole = listing(mine.layout, mine.remote)
    assert whole.status == found
    assert [change.path for change in whole.changes] == ["d/c", "mine"]
    assert [(type(one), one.path) for one in whole.operations] == [(Fetch, "a"), (Fetch, "d/b")]
    assert whole.saves == ()
    assert things(mine.root) == before
    mine.tidy()
    mine.put({"a": Thing(b"mine, too")})
    assert [conflict.path for conflict in listing(mine.layout, mine.remote).conflicts] == ["a"]
    assert not mine.layout.conflicts.exists()


def test_status_opens_nothing_while_the_head_stands(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.done()
    mine.remote.reads.clear()
    mine.put({"a": Thing(b"mine")})
    assert status(mine.layout, mine.remote).head == "s4"
    assert mine.remote.reads == []


def test_status_of_an_interrupted_sync(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    write_journal(mine.layout, Journal(identity="x", phase=Phase.SENDING))
    found = status(mine.layout, mine.remote)
    assert found.counts is None
    assert "interrupted" in found.interrupted
    with pytest.raises(Interrupted):
        clean(mine.layout)
    assert mine.done().recovered
    assert status(mine.layout, mine.remote).interrupted == ""


def test_restore(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    mine.put({"mine": Thing(b"mine")})
    done = restore(mine.layout, mine.remote, "s1", "back to the first")
    assert done.version == "s5"
    assert isinstance(done.synced, Done)
    assert {path: thing.content for path, thing in things(mine.root).items()} == {
        "a": b"a 1",
        "d/b": b"b 1",
        "d/c": b"c",
        "l": "a",
        "mine": b"mine",
    }
    mine.settled()
    theirs.done()
    theirs.settled()
    with Versions(mine.layout, mine.remote) as versions:
        assert versions.header("s5").commit.message == "back to the first"


def test_validate(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.done()
    good = validate(mine.layout)
    assert (good.version, good.files, good.findings, good.edited) == ("s4", 4, (), 0)
    assert validate_head(mine.layout, mine.remote).findings == ()
    # Rot: the content changes, and nothing that stat(2) tells does.
    path = mine.root / "d/c"
    times = path.stat()
    path.write_bytes(b"C")
    os.utime(path, ns=(times.st_mtime_ns, times.st_mtime_ns))
    mine.put({"a": Thing(b"edited"), "l": None, "more": Thing(b"more")})
    found = validate(mine.layout)
    assert [finding.path for finding in found.findings] == ["d/c"]
    assert found.edited == 3
    node = next((mine.layout.base / "nodes").iterdir())
    node.write_bytes(b"rot")
    damaged = validate(mine.layout)
    assert [finding.path for finding in damaged.findings] == [""]
    assert "missing" in damaged.findings[0].message


def test_validate_a_history_that_was_altered(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    segment = mine.layout.base / "history" / "s1-s64"
    segment.write_bytes(segment.read_bytes().replace(b"first", b"worst"))
    assert "history segment" in validate(mine.layout).findings[0].message


def test_clean(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    mine.done()
    mine.put({"a": Thing(b"mine")})
    theirs.put({"a": Thing(b"theirs")})
    theirs.done()
    mine.blocked()
    mine.decide("theirs")
    mine.done(resolve=True)
    (mine.layout.base / "nodes" / ("1" * 64)).write_bytes(b"of a sync that was not done")
    (mine.layout.store).mkdir(exist_ok=True)
    (mine.layout.store / ("0" * 64)).write_bytes(b"left over")
    would = clean(mine.layout, dry_run=True)
    assert (would.contents, would.nodes, would.kept, would.size) == (1, 1, (), 9)
    assert clean(mine.layout) == would
    assert clean(mine.layout) == replace(would, contents=0, nodes=0, size=0)
    assert mine.kept() == {b"mine"}
    assert clean(mine.layout, kept_for=timedelta(hours=1)).kept == ()
    gone = clean(mine.layout, kept_for=timedelta(0))
    assert len(gone.kept) == 1
    assert gone.size == 4
    assert mine.kept() == set()
    mine.done()
    mine.settled()


def test_a_working_copy_is_found_from_below(two: tuple[Copy, Copy], tmp_path: Path) -> None:
    mine, _ = two
    assert find_root(mine.root / "d") == mine.root
    with pytest.raises(NotAWorkingCopy):
        find_root(tmp_path)
    said = read_origin(Layout(mine.root))
    assert (said.namespace, said.repository, said.repository_uid) == ("research", "justice", "repository-1")


def test_nothing_to_look_at(server: Server, tmp_path: Path) -> None:
    mine = Copy(server, tmp_path / "mine")
    mine.clone()
    with Versions(mine.layout, mine.remote) as versions, pytest.raises(NoVersionYet):
        versions.head()
    with pytest.raises(NoVersionYet):
        validate(mine.layout)
