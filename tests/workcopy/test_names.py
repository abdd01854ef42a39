"""Names that a repository does not admit: refused, or made good, and put back when the sync fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dsg.api.repository import Ignore
from dsg.scan import hashing
from dsg.transactions.transactor import Stopped, Transactor
from dsg.workcopy.errors import CommitStopped, NamesRefused, NameTaken
from dsg.workcopy.remote import RemoteError
from tests.workcopy.copies import Copy, Thing, Things, things
from tests.workcopy.killing import effects, killed, to_strike
from tests.workcopy.server import Server

BAD: Things = {"data: one/what?.csv": Thing(b"1"), "con.txt": Thing(b"2", 0o600), "fine": Thing(b"3")}
GOOD: Things = {"data_ one/what_.csv": Thing(b"1"), "con_.txt": Thing(b"2", 0o600), "fine": Thing(b"3")}


@pytest.fixture
def mine(server: Server, tmp_path: Path) -> Copy:
    one = Copy(server, tmp_path / "mine")
    one.root.mkdir()
    one.put({"a": Thing(b"a")})
    one.init()
    one.put(dict(BAD))
    return one


def test_refused(mine: Copy) -> None:
    with pytest.raises(NamesRefused, match="--normalize") as caught:
        mine.sync()
    assert [problem.path for problem in caught.value.problems] == [
        "con.txt",
        "data: one/what?.csv",
        "data: one/what?.csv",
    ]
    assert things(mine.root) == {"a": Thing(b"a"), **BAD}
    mine.tidy()


def test_posix_admits_them(mine: Copy) -> None:
    mine.server.name_rules = "posix"
    mine.done()
    mine.settled()
    # What is there already is not judged by later rules.
    mine.server.name_rules = "portable"
    mine.put({"con.txt": Thing(b"new")})
    mine.done()
    mine.settled()


def test_made_good(mine: Copy) -> None:
    result = mine.done(normalize=True)
    assert dict(result.renamed) == {"data: one/what?.csv": "data_ one/what_.csv", "con.txt": "con_.txt"}
    assert things(mine.root) == {"a": Thing(b"a"), **GOOD}
    mine.settled()


def test_put_back_when_the_sync_fails(mine: Copy) -> None:
    def lost() -> None:
        raise RemoteError("lost")

    mine.remote.before_commit = lost
    with pytest.raises(RemoteError):
        mine.sync(normalize=True)
    assert things(mine.root) == {"a": Thing(b"a"), **BAD}
    mine.done(normalize=True)
    mine.settled()


def test_put_back_when_the_server_refuses(mine: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Transactor, "stage", lambda *_: Stopped("TransactionQuota", "too much"))
        with pytest.raises(CommitStopped):
            mine.sync(normalize=True)
    assert things(mine.root) == {"a": Thing(b"a"), **BAD}
    mine.tidy()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"CON_.TXT": Thing(b"taken")}, NamesRefused),
        ({"con?.txt": Thing(b"1"), "con_.txt": Thing(b"2")}, NamesRefused),
        ({"a?": Thing(b"1"), "a*": Thing(b"2")}, NamesRefused),
        ({"\udcff": Thing(b"no text")}, NamesRefused),
    ],
)
def test_no_good_name(mine: Copy, more: Things, error: type[Exception]) -> None:
    mine.put(dict(more))
    before = things(mine.root)
    with pytest.raises(error):
        mine.sync(normalize=True)
    assert things(mine.root) == before
    mine.tidy()


def test_something_unsynced_has_the_name(mine: Copy) -> None:
    mine.server.ignore = Ignore(names=["con_.txt"])
    mine.put({"con_.txt": Thing(b"ignored")})
    before = things(mine.root)
    with pytest.raises(NameTaken, match="con_"):
        mine.sync(normalize=True)
    assert things(mine.root) == before
    mine.tidy()


def test_two_names_that_are_one_elsewhere(mine: Copy, server: Server) -> None:
    with pytest.raises(NamesRefused):
        mine.sync()
    mine.put(dict.fromkeys(BAD))
    mine.put({"Read.me": Thing(b"1"), "READ.ME": Thing(b"2")})
    with pytest.raises(NamesRefused, match="one file on some systems") as caught:
        mine.sync()
    assert len(caught.value.collisions) == 1
    server.name_rules = "posix"
    mine.done()
    server.name_rules = "portable"
    mine.put({"other": Thing(b"other")})
    mine.done()
    mine.settled()
    mine.put({"Other": Thing(b"other")})
    with pytest.raises(NamesRefused):
        mine.sync()


def test_killed_while_names_are_made_good(
    make_server: Callable[[], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "QUIET", 0)

    def begin(name: str) -> Copy:
        one = Copy(make_server(), tmp_path / name)
        one.root.mkdir()
        one.put({"a": Thing(b"a")})
        one.init()
        one.put(dict(BAD))
        return one

    first = begin("first")
    found = effects(first.server, lambda: first.done(normalize=True))
    renaming = range(
        next(n for n, name in enumerate(found) if "journal" in name),
        next(n for n, name in enumerate(found) if n > 5 and "os.remove" in name and "local" in name) + 8,
    )
    chosen = [moment for moment in to_strike(found) if moment - 1 in renaming]
    assert len(chosen) > 6
    for moment in chosen:
        one = begin(f"copy-{moment}")
        assert killed(one.server, partial(one.done, normalize=True), moment)
        # Without the option, all is as it was.
        with pytest.raises(NamesRefused):
            one.sync()
        assert things(one.root) == {"a": Thing(b"a"), **BAD}, found[moment - 1]
        one.tidy()
