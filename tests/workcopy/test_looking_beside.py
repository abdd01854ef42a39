"""log, ls, diff, blame and fetch take no lock: what they say is right, and no sync is disturbed by them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsg.manifests import history
from dsg.manifests.entries import Entry, File
from dsg.workcopy.base import Base
from dsg.workcopy.errors import MovedOn
from dsg.workcopy.versions import At, Here, Last, Versions
from tests.workcopy.copies import Copy, Thing, things
from tests.workcopy.memory import directory_in_memory
from tests.workcopy.server import FakeRemote, Server


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from directory_in_memory()


@pytest.fixture
def two(server: Server, tmp_path: Path) -> tuple[Copy, Copy]:
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    mine.root.mkdir()
    mine.put({"a": Thing(b"a 1"), "d/b": Thing(b"b 1"), "d/c": Thing(b"c"), "l": Thing("a")})
    mine.init()
    theirs.clone()
    return mine, theirs


def rounds(mine: Copy, theirs: Copy, number: int) -> None:
    """Let both commit, and mine be synced with it: all nodes of its C before are swept."""
    theirs.put({"a": Thing(b"a %d, theirs" % number)})
    theirs.done()
    mine.put({"d/b": Thing(b"b %d, mine" % number), f"new/{number}": Thing(b"new")})
    mine.done()
    theirs.done()


def shown(found: Iterator[Entry]) -> dict[str, str]:
    return {entry.path: entry.digest if isinstance(entry, File) else entry.target for entry in found}


LOOKS: dict[str, Callable[[Versions, Path], object]] = {
    "log": lambda versions, _: [header.version for header in versions.log()][-2:],
    "ls": lambda versions, _: shown(versions.ls("s1")),
    "blame": lambda versions, _: [one.header.version for one in versions.blame("d/b", "s2")],
    "diff of versions": lambda versions, _: [one.path for one in versions.diff(At("s1"), At("s3"))],
    "diff with the last sync": lambda versions, _: [one.path for one in versions.diff(At("s1"), Last())],
    "diff of the last sync": lambda versions, _: [one.path for one in versions.diff(Last(), At("s3"))],
    "fetch": lambda versions, into: (versions.fetch("s2", [], into).files, things(into)),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("before", [True, False], ids=["head seen", "only opened"])
def test_a_sync_between_the_steps_of_a_look(look: str, before: bool, two: tuple[Copy, Copy], tmp_path: Path) -> None:
    mine, theirs = two
    rounds(mine, theirs, 1)
    with Versions(mine.layout, mine.remote) as versions:
        expected = LOOKS[look](versions, tmp_path / "expected")
    with Versions(mine.layout, mine.remote) as versions:
        if before:
            versions.head()
        rounds(mine, theirs, 2)
        assert LOOKS[look](versions, tmp_path / "found") == expected
    mine.settled()
    # The history here is whole, too.
    state = Base(mine.layout.base).state()
    assert state is not None
    history.verify(Base(mine.layout.base), state.header.version, state.header.chain)


def test_a_sync_while_entries_are_given(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    with Versions(mine.layout, mine.remote) as versions:
        for kind in (versions.ls(), versions.log(), versions.diff(Last(), At("s1")), versions.blame("a")):
            next(iter(kind), None)
            rounds(mine, theirs, int(mine.server.ground.versions()[-1][1:]))
            list(kind)
    mine.settled()


def test_a_last_sync_that_was_replaced_and_pruned_is_told(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    ground = mine.server.ground
    with Versions(mine.layout, mine.remote) as versions:
        rounds(mine, theirs, 2)
        ground.kind.prune(ground.target, ["s1"])
        with pytest.raises(MovedOn, match="command again"):
            list(versions.diff(Last(), At("s3")))
    mine.settled()


def test_looking_writes_nothing(two: tuple[Copy, Copy], tmp_path: Path) -> None:
    mine, theirs = two
    rounds(mine, theirs, 1)
    theirs.put({"a": Thing(b"a 4")})
    theirs.done()

    def there() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in mine.layout.base.rglob("*") if path.is_file()}

    before = there()
    with Versions(mine.layout, mine.remote) as versions:
        for name, look in LOOKS.items():
            look(versions, tmp_path / name)
        scratch = versions.scratch
        assert any(scratch.rglob("*"))
    assert there() == before
    assert not scratch.exists()


def test_many_looks_beside_many_syncs(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    rounds(mine, theirs, 1)
    stop = threading.Event()
    failures: list[BaseException] = []
    done = 0

    def look() -> None:
        nonlocal done
        remote = FakeRemote(mine.server, "ana")
        try:
            while not stop.is_set():
                with Versions(mine.layout, remote) as versions:
                    log = [header.version for header in versions.log()]
                    assert log == [f"s{n}" for n in range(len(log), 0, -1)]
                    assert any(entry.path == "a" for entry in versions.ls(log[0]))
                    assert {entry.path for entry in versions.ls("s1")} == {"a", "d/b", "d/c", "l"}
                    assert [one.header.version for one in versions.blame("d/c")] == ["s1"]
                    list(versions.diff(Last(), Here()))
                    assert "d/b" in {one.path for one in versions.diff(At("s1"), Last())}
                done += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    number = 2
    while number < 5 or (done < 3 and not failures):
        rounds(mine, theirs, number)
        number += 1
    stop.set()
    thread.join()
    assert failures == []
    mine.settled()
