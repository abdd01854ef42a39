"""Killed at every effect of init, clone, sync and of a sync with decisions: the next ends right, no edit goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsg.scan import hashing
from dsg.workcopy.base import Base
from dsg.workcopy.journal import Phase, read_journal
from dsg.workcopy.results import Done
from tests.workcopy.copies import MOMENT, Copy, Thing, things
from tests.workcopy.killing import effects, interrupted, killed, to_strike
from tests.workcopy.memory import directory_in_memory
from tests.workcopy.server import Server

EVERY = 1 if os.environ.get("DSG_EXPLORE") else 3
"""At how many effects Ctrl-C comes."""


@pytest.fixture(autouse=True)
def _nobody_writes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "QUIET", 0)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from directory_in_memory()


@dataclass
class Scene:
    """A server and two working copies, put back to the same beginning for each moment."""

    server: Server
    mine: Copy
    theirs: Copy
    home: Path

    def keep(self) -> None:
        """Take what is there for the beginning."""
        for one in (self.server.directory, self.mine.root, self.theirs.root):
            shutil.copytree(one, self.home / "kept" / one.name, symlinks=True)

    def again(self) -> None:
        """Begin again."""
        for one in (self.server.directory, self.mine.root, self.theirs.root):
            shutil.rmtree(one)
            shutil.copytree(self.home / "kept" / one.name, one, symlinks=True)

    def at_every_effect(
        self,
        work: Callable[[], object],
        check: Callable[[int], None],
        *,
        late: bool = False,
        every: int = 1,
        end: Callable[[Server, Callable[[], object], int], bool] = killed,
    ) -> list[str]:
        """End work at each of its effects, and go on; `late`: only from the journal on; `every`: at some of them only.

        Returns the effects.
        """
        self.keep()
        found = effects(self.server, work)
        first = next(n for n, name in enumerate(found, 1) if "journal" in name) if late else 1
        for moment in [one for one in to_strike(found) if one >= first][::every]:
            self.again()
            assert end(self.server, work, moment)
            try:
                check(moment)
            except BaseException as error:
                error.add_note(
                    f"ended at effect {moment}, before {found[moment - 1]}; {found[max(0, moment - 3) : moment]}"
                )
                raise
        return found


@pytest.fixture
def scene(server: Server, tmp_path: Path) -> Scene:
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    mine.root.mkdir()
    mine.put(
        {
            "keep": Thing(b"keep"),
            "d/theirs": Thing(b"theirs 0"),
            "d/mine": Thing(b"mine 0"),
            "e/gone": Thing(b"gone"),
            "mine-gone": Thing(b"gone, too"),
            "both": Thing(b"both 0"),
        }
    )
    mine.init()
    theirs.clone()
    return Scene(server, mine, theirs, tmp_path)


def test_sync(scene: Scene) -> None:
    mine, theirs = scene.mine, scene.theirs
    theirs.put(
        {
            "d/theirs": Thing(b"theirs 1", 0o755),
            "e/gone": None,
            "n/new": Thing(b"new"),
            "n/same": Thing(b"new", 0o600),
            "n/link": Thing("new"),
            "keep": Thing(b"keep", 0o600, MOMENT + 1),
        }
    )
    theirs.done()
    mine.put({"d/mine": Thing(b"mine 1"), "d/mine-new": Thing(b"mine new"), "mine-gone": None})
    whole = {**things(theirs.root), **{path: things(mine.root)[path] for path in ("d/mine", "d/mine-new")}}
    del whole["mine-gone"]

    late: list[int] = []

    def check(moment: int) -> None:
        expected = dict(whole)
        state = Base(mine.layout.base).state()
        synced = state is not None and state.header.version == "s3"
        if moment % 2 or synced:
            # Somebody goes on working, on what was just sent, too.
            edits: dict[str, Thing | None] = {"d/mine": Thing(b"edited"), "d/added": Thing(b"added")}
            if synced:
                # All is known to be here: an edit of it is no conflict, whatever is left to be tidied up.
                edits["d/theirs"] = Thing(b"edited, too")
                late.append(moment)
            mine.put(edits)
            expected |= {path: thing for path, thing in edits.items() if thing is not None}
        assert mine.done().left == ()
        assert things(mine.root) == expected
        mine.settled()
        assert mine.kept() == set()

    found = scene.at_every_effect(mine.sync, check)
    assert len(found) > 50
    assert any("state.json" in name for name in found)
    assert late


def test_a_sync_that_others_were_faster_than(scene: Scene) -> None:
    mine, theirs = scene.mine, scene.theirs
    theirs.put({"d/theirs": Thing(b"theirs 1"), "n/new": Thing(b"new")})
    mine.put({"d/mine": Thing(b"mine 1"), "mine-new": Thing(b"mine new")})
    whole = {**things(theirs.root), **{path: things(mine.root)[path] for path in ("d/mine", "mine-new")}}

    def meanwhile() -> None:
        with scene.server.working():
            theirs.done()

    def work() -> None:
        mine.remote.before_commit = meanwhile
        assert mine.done().onto == "s2"

    def check(_moment: int) -> None:
        mine.done()
        if things(mine.root) != whole:
            theirs.done()
            mine.done()
        assert things(mine.root) == whole
        mine.settled()

    found = scene.at_every_effect(work, check, late=True)
    assert sum("state.json" in name for name in found) > 2


def test_ctrl_c(scene: Scene) -> None:
    mine, theirs = scene.mine, scene.theirs
    theirs.put({"d/theirs": Thing(b"theirs 1", 0o755), "e/gone": None, "n/new": Thing(b"new")})
    theirs.done()
    mine.put({"d/mine": Thing(b"mine 1"), "mine-gone": None, "bad: name": Thing(b"made good")})
    whole = {**things(theirs.root), "d/mine": Thing(b"mine 1"), "bad_ name": Thing(b"made good")}
    del whole["mine-gone"]

    def check(moment: int) -> None:
        # What was open is closed at once, and what was not committed is where it was.
        assert scene.server.open_transactions() == []
        journal = read_journal(mine.layout)
        if journal is None or journal.phase is Phase.SENDING:
            assert ("bad: name" in things(mine.root)) != (scene.server.ground.versions()[-1] == "s3")
        if moment % 2:
            mine.put({"d/mine": Thing(b"edited")})
        assert mine.done(normalize=True).left == ()
        assert things(mine.root) == {**whole, **({"d/mine": Thing(b"edited")} if moment % 2 else {})}
        mine.settled()
        assert mine.kept() == set()

    found = scene.at_every_effect(lambda: mine.done(normalize=True), check, late=True, every=EVERY, end=interrupted)
    assert len(found) > 60


def test_clone(scene: Scene) -> None:
    shutil.rmtree(scene.mine.root)
    scene.mine.root.mkdir()

    def check(_moment: int) -> None:
        if (scene.mine.layout.base / "state.json").exists():
            scene.mine.done()
        else:
            scene.mine.clone()
        scene.mine.settled()
        assert things(scene.mine.root) == things(scene.theirs.root)

    assert len(scene.at_every_effect(scene.mine.clone, check)) > 30


def test_init(scene: Scene, make_server: Callable[[], Server], tmp_path: Path) -> None:
    server = make_server()
    mine = Copy(server, tmp_path / "first")
    mine.root.mkdir()
    mine.put({"a": Thing(b"a"), "b/c": Thing(b"c", 0o600), "l": Thing("a")})

    def check(_moment: int) -> None:
        if mine.layout.origin.exists() and server.head() is not None:
            mine.done()
        else:
            assert isinstance(mine.init(), Done)
        mine.settled()
        assert server.ground.versions() == ["s1"]

    first = Scene(server, mine, scene.theirs, tmp_path)
    assert len(first.at_every_effect(mine.init, check)) > 20


def test_a_sync_with_decisions(scene: Scene) -> None:
    mine, theirs = scene.mine, scene.theirs
    theirs.put({"both": Thing(b"both, theirs"), "way/a": Thing(b"a"), "way/b": Thing(b"b"), "d/theirs": None})
    theirs.done()
    mine.put({"both": Thing(b"both, mine"), "way": Thing(b"a file"), "d/theirs": Thing(b"mine"), "m": Thing(b"m")})
    assert mine.blocked().counts.conflicts == 3
    # both where that is offered, theirs of the file that others deleted.
    mine.decide("both")
    mine.layout.conflicts.write_text(
        mine.layout.conflicts.read_text().replace("(mine or theirs): mine", "(mine or theirs): theirs")
    )

    def check(moment: int) -> None:
        mine.done(resolve=True)
        mine.settled()
        assert not mine.layout.conflicts.exists()
        here = {path: thing.content for path, thing in things(mine.root).items()}
        assert here == {
            "keep": b"keep",
            "d/mine": b"mine 0",
            "e/gone": b"gone",
            "mine-gone": b"gone, too",
            "both": b"both, theirs",
            "both.from-ana": b"both, mine",
            "way/a": b"a",
            "way/b": b"b",
            "way.from-ana": b"a file",
            "m": b"m",
        }
        assert mine.kept() == {b"mine"}

    assert len(scene.at_every_effect(lambda: mine.done(resolve=True), check, late=True)) > 40
