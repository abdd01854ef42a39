"""Killed anywhere, the next run goes on, and comes to what an undisturbed one comes to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dsg.manifests import history as kept
from dsg.migration.adopt import NotThisRepository
from dsg.migration.growing import Interfered, StatusBehind
from dsg.workcopy.clone import clone, origin_of
from dsg.workcopy.layout import Layout
from dsg.workcopy.sync import Options, sync
from tests.migration.adopting import Place
from tests.migration.old_dsg import TREES, OldRepository, facts, four_versions
from tests.transactions.ground import XfsGround
from tests.workcopy.server import FakeRemote, Server


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Dying(FakeRemote):
    """A remote of a process that is killed at its n-th moment."""

    def __init__(self, server: Server, at: int) -> None:
        super().__init__(server, "carol")
        self.at, self.moments, self.dead = at, 0, False

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.at:
            self.dead = True
            raise Killed

    def repository(self) -> Any:
        self.moment()
        return super().repository()

    def open_read(self, version: str) -> Any:
        self.moment()
        return super().open_read(version)

    def commit(
        self,
        request: Any,
        note: Callable[[Any], None],
        send: Callable[[Any], None],
        committing: Callable[[], None],
    ) -> Any:
        def noted(ref: Any) -> None:
            note(ref)
            self.moment()

        def sent(sink: Any) -> None:
            self.moment()
            send(sink)
            self.moment()

        def asked() -> None:
            committing()
            self.moment()

        found = super().commit(request, noted, sent, asked)
        # It has committed, and who asked for it never hears of it.
        self.moment()
        return found

    def abort(self, ref: Any) -> None:
        if not self.dead:
            super().abort(ref)


def history(place: Place) -> list[tuple[str, str, str]]:
    """Return version, tree and message of each version."""
    header = place.server.head()
    assert header is not None
    with FakeRemote(place.server).open_read(header.version) as reader:
        found = list(kept.headers(reader, "s1", header.version))
    return [(one.version, one.summary.tree, one.commit.message) for one in found]


def test_killed_at_any_moment(place: Place, tmp_path: Path) -> None:
    old = OldRepository(place.old)
    for tree in TREES[:3:2]:
        old.sync(tree)
    before = facts(place.old)
    place.adopt()
    wanted = history(place)
    at = 1
    while True:
        directory = tmp_path / f"killed-{at}"
        directory.mkdir()
        other = Place(place.old, Server(directory, XfsGround(directory / "disk")))
        remote = Dying(other.server, at)
        with suppress(Killed):
            other.adopt(remote=remote)
        if not remote.dead:
            break
        head = other.server.head()
        made = other.adopt()
        assert history(other) == wanted, at
        assert sum(one.already for one in made.versions) == (int(head.version[1:]) if head is not None else 0)
        at += 2 if at > 6 else 1
    assert at > 15
    assert facts(place.old) == before


class Asking(FakeRemote):
    """A remote of a process that is killed when it has asked for its n-th commit, of which it never hears."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(server, "carol")
        self.left, self.uid = number, ""

    def commit(self, request: Any, note: Any, send: Any, committing: Callable[[], None]) -> Any:
        def noted(ref: Any) -> None:
            note(ref)
            self.uid = ref.uid

        def asked() -> None:
            committing()
            self.left -= 1
            if not self.left:
                record = self._server.record(self.uid)
                record.write_text(json.dumps({**json.loads(record.read_text()), "intent": "Commit"}))
                raise Killed

        return super().commit(request, noted, send, asked)


@pytest.mark.parametrize("number", [1, 3])
def test_a_commit_that_comes_through_late_is_known_again(place: Place, number: int) -> None:
    """The operator finishes what a killed run had asked for while the next run is about to ask for the same."""
    four_versions(place.old)
    earlier = Asking(place.server, number)
    with suppress(Killed):
        place.adopt(remote=earlier)
    later = FakeRemote(place.server, "carol")
    later.before_commit = lambda: place.server.finish(earlier.uid)
    made = place.adopt(remote=later)
    assert [(one.old, one.new) for one in made.versions] == [(f"s{n}", f"s{n}") for n in range(1, 5)]
    assert len(history(place)) == 4


class Lagging(FakeRemote):
    """The Repository's status follows each commit only after it was looked at some times."""

    looks = 4

    def __init__(self, server: Server) -> None:
        super().__init__(server, "carol")
        self.shown = super().repository()
        self.left = 0

    def repository(self) -> Any:
        now = super().repository()
        if now.head != self.shown.head:
            self.left += 1
            if self.left > self.looks:
                self.shown, self.left = now, 0
        return self.shown


def test_a_status_that_follows_late_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    four_versions(place.old)
    made = place.adopt(remote=Lagging(place.server))
    assert [one.new for one in made.versions] == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_status_that_is_behind_when_a_run_begins(place: Place, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What an earlier run committed last is not shown yet: it is asked for again, found, and not made twice."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    old = OldRepository(place.old)
    for tree in TREES[: number - 1]:
        old.sync(tree)
        place.adopt()
    old.sync(TREES[number - 1])
    behind = Lagging(place.server)
    place.adopt()
    made = place.adopt(remote=behind)
    assert [one.new for one in made.versions] == [f"s{n}" for n in range(1, number + 1)]
    assert len(history(place)) == number


def test_a_status_that_never_follows_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    four_versions(place.old)
    remote = Lagging(place.server)
    remote.looks = 10**6
    with pytest.raises(StatusBehind, match="s1 is committed, and the Repository's status does not show it"):
        place.adopt(remote=remote)
    assert [one.already for one in place.adopt().versions] == [True, False, False, False]


def test_two_runs_at_once_make_no_version_twice(place: Place) -> None:
    four_versions(place.old)
    one = FakeRemote(place.server, "carol")
    # All of the other run happens while the first has sent s1.
    one.before_commit = place.adopt
    made = place.adopt(remote=one)
    assert [(v.old, v.new) for v in made.versions] == [(f"s{n}", f"s{n}") for n in range(1, 5)]
    assert len(history(place)) == 4


def test_what_others_commit_stops_it(place: Place) -> None:
    old = four_versions(place.old)
    place.adopt()
    old.sync({"input/later.csv": b"later"})

    remote = FakeRemote(place.server, "carol")
    remote.before_commit = lambda: _commit_beside(place.server)
    with pytest.raises((Interfered, NotThisRepository), match="made by no migration"):
        place.adopt(remote=remote)
    with pytest.raises(NotThisRepository, match="Migrate into a Repository of its own"):
        place.adopt()


def _commit_beside(server: Server) -> None:
    """Have somebody commit a file in a working copy."""
    copy = server.directory / "copy"
    remote = FakeRemote(server, "eve")
    clone(copy, remote, lambda found: origin_of(found, context="", namespace="n", name="justice"))
    (copy / "input" / "mine.txt").write_text("mine")
    sync(Layout(copy), remote, Options(message="mine"))


def test_another_source_is_refused(place: Place, tmp_path: Path) -> None:
    four_versions(place.old)
    place.adopt()
    other = Place(tmp_path / "other", place.server)
    OldRepository(other.old).sync({"input/x": b"another history"})
    before = history(place)
    with pytest.raises(NotThisRepository, match="another repository, or its history was replaced"):
        other.adopt()
    assert history(place) == before


def test_a_repository_that_people_work_in_is_refused(place: Place) -> None:
    four_versions(place.old)
    place.adopt()
    _commit_beside(place.server)
    with pytest.raises(NotThisRepository, match="version s5 of the Repository, by eve, was made by no migration"):
        place.adopt()


def test_without_room_for_what_is_known_nothing_is_sent(place: Place) -> None:
    four_versions(place.old)
    place.server.data_dirs = ("input", "output")
    with pytest.raises(NotThisRepository, match=r"Add dsg-provenance to spec\.dataDirs"):
        place.adopt()
    assert place.server.known() == []
