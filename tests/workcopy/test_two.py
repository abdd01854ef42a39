"""Two people edit, sync and decide at random: nothing is ever lost, and what is synced is one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count, repeat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsg.scan import hashing
from dsg.workcopy import local
from dsg.workcopy.results import Undecided
from tests.workcopy.copies import MOMENT, Copy, Thing, Things, things
from tests.workcopy.memory import directory_in_memory
from tests.workcopy.server import Server

TICK = 0.005
"""Seconds within which files may get one time."""
PATHS = ("a", "b", "d/a", "d/b", "d", "e/f/g")
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from(PATHS), st.integers(0, 5)),
            st.tuples(st.just("write"), st.sampled_from(PATHS), st.integers(0, 5)),
            st.tuples(st.just("link"), st.sampled_from(PATHS), st.integers(0, 2)),
            st.tuples(st.just("mode"), st.sampled_from(PATHS), st.integers(0, 1)),
            st.tuples(st.just("delete"), st.sampled_from(PATHS), st.just(0)),
            st.tuples(st.just("move"), st.sampled_from(PATHS), st.integers(0, len(PATHS) - 1)),
            st.tuples(st.just("sync"), st.sampled_from(["mine", "theirs", "both"]), st.integers(0, 1)),
            st.tuples(st.just("sync"), st.sampled_from(["mine", "theirs", "both"]), st.integers(0, 1)),
        ),
    ),
    min_size=4,
    max_size=14,
)


class World:
    """A server, two working copies, and a dictionary for each of the three."""

    def __init__(self, server: Server, *, alike: bool) -> None:
        """`alike`: all files get one time, and it is proved by their ctime that they were not touched."""
        self.server = server
        self.alike = alike
        directory = server.directory
        self.copies = [Copy(self.server, directory / "ana", "ana"), Copy(self.server, directory / "bo", "bo")]
        self.copies[0].root.mkdir()
        self.copies[0].put({"a": Thing(b"a"), "d/a": Thing(b"d/a")})
        self.copies[0].init()
        self.copies[1].clone()
        self.head = things(self.copies[0].root)
        self.cached = [dict(self.head), dict(self.head)]
        self.versions: set[bytes | str] = {thing.content for thing in self.head.values()}
        self.times = repeat(MOMENT) if alike else count(MOMENT + 1, 1_000_000)

    def step(self, who: int, what: tuple[str, str, int]) -> None:
        kind, path, number = what
        copy = self.copies[who]
        if kind == "sync":
            self.sync(who, path, faster=bool(number))
            return
        here = things(copy.root)
        free = not any(p.startswith(f"{path}/") or path.startswith(f"{p}/") for p in here)
        if kind == "write" and free:
            # Equal contents at the same time are no edit that differs.
            copy.put({path: Thing(b"%d" % number if number else b"", 0o644, next(self.times))})
        elif kind == "link" and free:
            copy.put({path: Thing(f"l{number}")})
        elif kind == "mode" and path in here and not (copy.root / path).is_symlink():
            (copy.root / path).chmod(0o600 if number else 0o755)
        elif kind == "delete" and path in here:
            copy.put({path: None})
        elif kind == "move" and path in here:
            other, thing = PATHS[number], here[path]
            copy.put({path: None})
            left = things(copy.root)
            if any(p == other or p.startswith(f"{other}/") or other.startswith(f"{p}/") for p in left):
                other = path
            copy.put({other: thing})

    def sync(self, who: int, word: str, *, faster: bool) -> None:
        copy, before = self.copies[who], things(self.copies[who].root)
        if self.alike:
            time.sleep(TICK)
        if faster:
            copy.remote.before_commit = lambda: self.other(1 - who)
        merged = self.merged(who, before)
        result = copy.sync(allow_deletions=True)
        tries = 0
        while isinstance(result, Undecided):
            assert merged is None or faster
            if tries == 0 and result.before is None:
                assert things(copy.root) == before
            copy.decide(word)
            merged = None
            result = copy.sync(resolve=True, allow_deletions=True)
            tries += 1
            assert tries < 4
        raced = copy.remote.before_commit is None
        copy.remote.before_commit = None
        assert result.left == ()
        now = things(copy.root)
        copy.settled()
        if merged is not None and not (faster and raced):
            assert bare(now) == bare(merged)
        self.head, self.cached[who] = now, now
        self.versions |= {thing.content for thing in now.values()}
        # Whatever was here is here, in a version, or kept.
        kept = copy.kept()
        for thing in before.values():
            assert thing.content in self.versions or thing.content in kept, thing

    def other(self, who: int) -> None:
        """The other one commits something of its own while this one is at it."""
        copy = self.copies[who]
        with self.server.working():
            copy.put({f"other-{who}": Thing(b"other", 0o644, next(self.times))})
            if not isinstance(copy.sync(allow_deletions=True), Undecided):
                self.head = self.cached[who] = things(copy.root)
                self.versions |= {thing.content for thing in self.head.values()}

    def merged(self, who: int, local: Things) -> Things | None:
        """Return what a sync without conflicts comes to; None where there is one."""
        cached, found = self.cached[who], dict(self.head)
        for path in {*local, *cached, *self.head}:
            one, two, three = (bare(side).get(path) for side in (local, cached, self.head))
            if len({one, two, three}) == 3:
                return None
            if one != two:
                found.pop(path, None)
                if path in local:
                    found[path] = local[path]
        if any(other.startswith(f"{path}/") for path in found for other in found):
            return None
        return found


def bare(side: Things) -> dict[str, tuple[bytes | str, int]]:
    """What counts as a change: times alone do not."""
    return {path: (thing.content, thing.mode) for path, thing in side.items()}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from directory_in_memory()


@pytest.fixture(autouse=True)
def _nobody_writes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "QUIET", 0)


@pytest.mark.parametrize("alike", [False, True])
@settings(
    max_examples=1000 if os.environ.get("DSG_EXPLORE") else 30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps)
def test_nothing_is_lost(
    make_server: Callable[[], Server],
    monkeypatch: pytest.MonkeyPatch,
    alike: bool,
    done: list[tuple[int, tuple[str, str, int]]],
) -> None:
    server = make_server()
    if alike:
        monkeypatch.setattr(local, "COARSE", 0)
    world = World(server, alike=alike)
    for who, what in done:
        world.step(who, what)
    # In the end, all come together.
    for who in (0, 1, 0):
        world.sync(who, "both", faster=False)
    assert things(world.copies[0].root) == things(world.copies[1].root)
    shutil.rmtree(server.directory)
