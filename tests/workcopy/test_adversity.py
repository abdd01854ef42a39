"""What happens meanwhile: edits during a sync, others who are faster, guards, and damage."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsg.api.repository import Ignore
from dsg.scan.problems import ScanFailed
from dsg.sync.resolution import ResolutionError
from dsg.sync.sides import SidesError
from dsg.transactions.transactor import Stopped, Transactor
from dsg.workcopy import local
from dsg.workcopy import sync as module
from dsg.workcopy.apply import Applier
from dsg.workcopy.errors import (
    AlreadyAWorkingCopy,
    Busy,
    CommitStopped,
    Damaged,
    HasVersions,
    KeepsChanging,
    NothingToSend,
    NoVersionYet,
    OtherRepository,
    TooManyDeletions,
)
from dsg.workcopy.journal import Journal
from dsg.workcopy.remote import RemoteError
from dsg.workcopy.results import Done, Phase, Progress
from dsg.workcopy.sync import sync
from tests.workcopy.copies import Copy, Thing, Things, things, write
from tests.workcopy.server import Server

TICK = 0.02
"""Seconds within which files may get one time (the kernel's clock of files goes by ticks)."""


@pytest.fixture
def two(server: Server, tmp_path: Path) -> tuple[Copy, Copy]:
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    mine.root.mkdir()
    mine.put({name: Thing(b"%s 0" % name.encode()) for name in ("a", "b", "c", "d/e")})
    mine.init()
    theirs.clone()
    return mine, theirs


def before_applying(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Do something after all was committed and before anything is applied, once."""
    real = Applier.run
    todo = [do]

    def run(self: Applier) -> Any:
        if todo:
            todo.pop()()
        return real(self)

    monkeypatch.setattr(Applier, "run", run)


def test_edits_between_scan_and_apply_are_left_alone(two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two
    theirs.put({"a": Thing(b"a theirs"), "b": None, "c": Thing(b"c 0", 0o755), "new": Thing(b"new"), "d/e": Thing("x")})
    theirs.done()
    edits: Things = {
        "a": Thing(b"a edited"),
        "b": Thing(b"b edited"),
        "c": Thing(b"c edited"),
        "new": Thing(b"mine, new"),
    }

    def meanwhile() -> None:
        mine.put(dict(edits))
        (mine.root / "d/e").unlink()

    before_applying(monkeypatch, meanwhile)
    result = mine.done()
    assert {left.path for left in result.left} == {"a", "b", "c", "new", "d/e"}
    assert things(mine.root) == edits
    assert result.head == "s2"
    # Now they are seen as what they are: edits that stand against what others did.
    blocked = mine.blocked()
    assert {conflict.path: conflict.state.value for conflict in blocked.conflicts} == {
        "a": "sLCR__all_ne",
        "b": "sLCxR__L_ne_C",
        "c": "sLCR__all_ne",
        "d/e": "sxLCR__C_ne_R",
        "new": "sLxCR__L_ne_R",
    }
    mine.decide("theirs")
    mine.done(resolve=True)
    mine.settled()
    assert mine.kept() == {thing.content for thing in edits.values()}


@pytest.mark.parametrize("moved", [False, True])
def test_what_has_the_size_and_times_of_its_successor_is_replaced(
    two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    mine, theirs = two
    # So that times prove what they prove to people, who do not sync what they have just written.
    monkeypatch.setattr(local, "COARSE", 0)
    time.sleep(TICK)
    theirs.put({"b": None} if moved else {})
    theirs.put({"a" if not moved else "new": Thing(b"b 0" if moved else b"a 1")})
    assert theirs.done().committed == ("s2",)
    if moved:
        mine.put({"new": Thing(b"n 0"), "old": Thing(b"o 0")})
        mine.blocked()
        mine.decide("both")
        time.sleep(TICK)
        mine.done(resolve=True)
        assert {thing.content for thing in things(mine.root).values()} >= {b"b 0", b"n 0", b"o 0"}
    else:
        mine.done()
        assert things(mine.root) == things(theirs.root)
    mine.settled()
    theirs.done()
    assert things(mine.root) == things(theirs.root)


def test_a_program_that_writes_on_into_what_is_replaced(
    two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = two
    theirs.put({"a": Thing(b"a theirs")})
    theirs.done()
    with (mine.root / "a").open("ab", buffering=0) as file:
        real = Applier.settle

        def settle(self: Applier) -> Any:
            file.write(b", written on")
            return real(self)

        monkeypatch.setattr(Applier, "settle", settle)
        result = mine.done()
    assert [left.path for left in result.left] == ["a"]
    assert mine.kept() == {b"a 0, written on"}
    assert result.kept


def test_what_changes_while_it_is_sent_is_looked_at_again(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.put({"a": Thing(b"first"), "b": Thing(b"b 1")})
    times = 0

    def watch(progress: Progress) -> None:
        nonlocal times
        if progress.phase is Phase.COMPARING and times < 2:
            times += 1
            write(mine.root, "a", Thing(b"edit %d" % times))

    result = sync(mine.layout, mine.remote, module.Options(), watch)
    assert isinstance(result, Done)
    assert result.committed == ("s2",)
    assert times == 2
    assert mine.server.seen()["a"] == b"edit 2"
    mine.settled()

    def always(progress: Progress) -> None:
        if progress.phase is Phase.COMPARING:
            write(mine.root, "a", Thing(os.urandom(8)))

    mine.put({"a": Thing(b"one more")})
    with pytest.raises(KeepsChanging):
        sync(mine.layout, mine.remote, module.Options(), always)
    assert mine.server.ground.versions() == ["s1", "s2"]
    mine.done()
    mine.settled()


def test_others_who_are_faster_come_in_the_same_sync(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    mine.put({"a": Thing(b"a mine")})
    theirs.put({"b": Thing(b"b theirs"), "x/y": Thing(b"y")})
    mine.remote.before_commit = theirs.done
    result = mine.done()
    assert (result.committed, result.onto, result.head) == (("s3",), "s2", "s3")
    assert result.fetched == 2
    mine.settled()
    theirs.done()
    theirs.settled()


def test_others_who_are_faster_with_the_very_same(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    for one in two:
        one.put({"a": Thing(b"the same")})
    theirs.put({"b": Thing(b"b theirs")})
    mine.remote.before_commit = theirs.done
    result = mine.done()
    assert (result.committed, result.head) == ((), "s2")
    mine.settled()


def test_others_who_are_faster_with_the_same_path(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    mine.put({"a": Thing(b"a mine")})
    theirs.put({"a": Thing(b"a theirs")})
    mine.remote.before_commit = theirs.done
    blocked = mine.blocked()
    assert [conflict.path for conflict in blocked.conflicts] == ["a"]
    assert things(mine.root)["a"].content == b"a mine"
    mine.decide("mine")
    # Decisions outlive another version that has nothing to do with them.
    theirs.put({"b": Thing(b"b theirs")})
    theirs.done()
    again = mine.blocked(resolve=True)
    assert "as the head" in again.outdated
    mine.done(resolve=True)
    mine.settled()
    assert mine.server.seen()["a"] == b"a mine"


def test_decisions_that_are_none(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    mine.put({"a": Thing(b"a mine")})
    theirs.put({"a": Thing(b"a theirs")})
    theirs.done()
    with pytest.raises(ResolutionError, match="there are none"):
        mine.sync(resolve=True)
    mine.blocked()
    with pytest.raises(ResolutionError, match="not decided"):
        mine.sync(resolve=True)
    assert things(mine.root)["a"].content == b"a mine"


def test_most_of_a_repository_is_not_deleted_unasked(server: Server, tmp_path: Path) -> None:
    mine = Copy(server, tmp_path / "mine")
    mine.root.mkdir()
    mine.put({f"f{n:02}": Thing(b"%d" % n) for n in range(40)})
    mine.init()
    mine.put({f"f{n:02}": None for n in range(21)})
    with pytest.raises(TooManyDeletions, match="21 of the 40"):
        mine.sync()
    assert len(server.seen()) == 40
    assert mine.done(allow_deletions=True).sent.deleted == 21
    mine.settled()
    # Half of what is left is asked about from twenty-one on.
    mine.put({f"f{n:02}": None for n in range(21, 40)})
    assert mine.done().sent.deleted == 19


def test_one_at_a_time(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    with mine.layout.lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy, match=str(os.getpid())):
            mine.sync()
    mine.done()


def test_new_rules_delete_nothing(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    server = mine.server
    mine.put({"big.tmp": Thing(b"tmp"), "x/y.tmp": Thing(b"y")})
    mine.done()
    server.ignore = Ignore(suffixes=[".tmp"])
    (mine.root / "big.tmp").unlink()
    theirs.done()
    mine.done()
    assert "big.tmp" in server.seen()
    assert "big.tmp" not in things(theirs.root)
    # And back: what was left out was never here as far as the last sync knows, so it comes, and none is deleted.
    server.ignore = Ignore()
    theirs.done()
    theirs.settled()
    mine.done()
    mine.settled()
    assert set(server.seen()) == {"a", "b", "c", "d/e", "big.tmp", "x/y.tmp"}


def test_hidden_files_are_in_nobodys_way(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    write(mine.root, "d/.notes", Thing(b"private"))
    (mine.root / "empty/inner").mkdir(parents=True)
    theirs.put({"d/e": None, "d": Thing(b"a file now"), "empty": Thing(b"a file, too")})
    theirs.done()
    result = mine.done()
    assert [left.path for left in result.left] == ["d"]
    assert "not synced" in result.left[0].why
    assert (mine.root / "d/.notes").read_bytes() == b"private"
    assert (mine.root / "empty").read_bytes() == b"a file, too"
    (mine.root / "d/.notes").unlink()
    assert mine.done().left == ()
    mine.settled()


def test_links_are_never_followed(two: tuple[Copy, Copy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "e").write_bytes(b"d/e 0")
    theirs.put({"d/e": Thing(b"new"), "d/f": Thing(b"f")})
    theirs.done()

    def swap() -> None:
        (mine.root / "d/e").unlink()
        (mine.root / "d").rmdir()
        (mine.root / "d").symlink_to(outside)

    before_applying(monkeypatch, swap)
    result = mine.done()
    assert {left.path for left in result.left} == {"d/e", "d/f"}
    assert [path.name for path in outside.iterdir()] == ["e"]
    assert (outside / "e").read_bytes() == b"d/e 0"


def test_nothing_to_do_opens_no_transaction_and_writes_nothing(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.done()
    mine.remote.reads.clear()
    before = {path: path.stat().st_mtime_ns for path in mine.layout.base.rglob("*")}
    known = len(mine.server.known())
    assert mine.done().committed == ()
    assert mine.remote.reads == []
    assert len(mine.server.known()) == known
    assert {path: path.stat().st_mtime_ns for path in mine.layout.base.rglob("*")} == before


def test_a_sync_reads_back_nothing_of_what_it_sent(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.remote.reads.clear()
    mine.put({"a": Thing(b"a 1"), "copy": Thing(b"b 0"), "c": Thing(b"c 0", 0o600)})
    mine.remote.sent.clear()
    mine.done()
    assert mine.remote.reads == []
    assert mine.remote.sent == ["a"]
    mine.settled()


def test_repositories_without_versions(server: Server, tmp_path: Path) -> None:
    mine = Copy(server, tmp_path / "mine")
    cloned = mine.clone()
    assert (cloned.header, cloned.done.head) == (None, "")
    with pytest.raises(NoVersionYet):
        mine.sync()
    with pytest.raises(NothingToSend):
        mine.init()
    mine.put({"a": Thing(b"a")})
    mine.init()
    mine.settled()
    with pytest.raises(AlreadyAWorkingCopy):
        mine.init()
    with pytest.raises(AlreadyAWorkingCopy):
        mine.clone()
    other = Copy(server, tmp_path / "other")
    with pytest.raises(HasVersions):
        other.init()
    inside = Copy(server, mine.root / "inside")
    with pytest.raises(AlreadyAWorkingCopy):
        inside.clone()


def test_another_repository_of_the_same_name(two: tuple[Copy, Copy], make_server: Callable[[], Server]) -> None:
    mine, _ = two
    other = make_server()
    other.uid = "repository-2"
    writer = Copy(other, mine.root.parent / "other-writer")
    writer.root.mkdir()
    writer.put({"a": Thing(b"other")})
    writer.init()
    before = things(mine.root)
    with pytest.raises(OtherRepository, match="Keep this copy"):
        Copy(other, mine.root).sync()
    assert things(mine.root) == before


def test_a_repository_that_was_made_anew_from_the_same_data_goes_on(two: tuple[Copy, Copy]) -> None:
    mine, theirs = two
    theirs.put({"new": Thing(b"by them")})
    theirs.done()
    mine.server.uid = "repository-2"
    mine.put({"mine": Thing(b"by me")})
    mine.done()
    theirs.done()
    assert things(mine.root) == things(theirs.root)
    assert {"new", "mine"} <= set(things(mine.root))


def test_a_repository_that_was_restored_without_what_was_synced_here(
    two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = two
    before = mine.server.head()
    assert before is not None
    mine.put({"late": Thing(b"not in the backup")})
    mine.done()
    mine.server.uid = "repository-2"
    monkeypatch.setattr(mine.server, "head", lambda: before)
    content = things(mine.root)
    with pytest.raises(OtherRepository, match="what a backup has not"):
        mine.sync()
    assert things(mine.root) == content


def test_a_history_that_was_replaced(two: tuple[Copy, Copy], make_server: Callable[[], Server]) -> None:
    mine, _ = two
    other = make_server()
    writer = Copy(other, mine.root.parent / "writer")
    writer.root.mkdir()
    writer.put({"a": Thing(b"other")})
    writer.init()
    before = things(mine.root)
    foreign = Copy(other, mine.root, "ana")
    with pytest.raises(SidesError, match="not the s1"):
        foreign.sync()
    writer.put({"b": Thing(b"b")})
    writer.done()
    with pytest.raises(SidesError, match="not the one"):
        foreign.sync()
    assert things(mine.root) == before
    assert len(other.seen()) == 2


def test_a_working_copy_that_can_not_be_read_deletes_nothing(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    os.mkfifo(mine.root / "pipe")
    (mine.root / "a").unlink()
    with pytest.raises(ScanFailed):
        mine.sync()
    assert "a" in mine.server.seen()


def test_nodes_that_are_damaged_or_lost_are_fetched_again(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    node = next((mine.layout.base / "nodes").iterdir())
    node.unlink()
    mine.put({"a": Thing(b"a 1")})
    mine.done()
    mine.settled()
    node = next((mine.layout.base / "nodes").iterdir())
    node.write_bytes(b"rot")
    mine.put({"a": Thing(b"a 2")})
    mine.done()
    mine.settled()


def test_a_damaged_record_is_told(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    (mine.layout.base / "state.json").write_text("{}")
    with pytest.raises(Damaged, match="Move it away"):
        mine.sync()
    (mine.layout.base / "state.json").unlink()
    # Then all is new, and equal.
    assert mine.done().committed == ()
    mine.settled()


def test_what_the_server_refuses_changes_nothing(two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two
    theirs.put({"b": Thing(b"b theirs")})
    theirs.done()
    mine.put({"a": Thing(b"a 1")})

    def lost() -> None:
        raise RemoteError("lost")

    mine.remote.before_commit = lost
    with pytest.raises(RemoteError):
        mine.sync()
    assert things(mine.root)["b"].content == b"b 0"
    assert mine.done().recovered
    mine.settled()
    mine.put({"a": Thing(b"a 2")})
    with monkeypatch.context() as patch:
        patch.setattr(Transactor, "stage", lambda *_: Stopped("TransactionQuota", "too much"))
        with pytest.raises(CommitStopped, match="TransactionQuota"):
            mine.sync()
    mine.done()
    mine.settled()


def test_a_transaction_that_nobody_remembers(two: tuple[Copy, Copy], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two
    mine.put({"a": Thing(b"a 1")})
    theirs.put({"b": Thing(b"b theirs")})
    mine.remote.before_commit = theirs.done
    mine.server.forgetful = True

    real = Applier.run

    def dies(self: Applier) -> Any:
        if self._files.root == mine.root:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Applier, "run", dies)
        # As if it had been killed before it heard of the commit.
        patch.setattr(Journal, "done", lambda self, _outcome: self)
        with pytest.raises(KeyboardInterrupt):
            mine.sync()
    result = mine.done()
    assert "s3" in result.recovered
    assert result.onto == "s2"
    mine.settled()
    assert mine.server.ground.versions() == ["s1", "s2", "s3"]


def test_what_was_renamed_is_not_taken_for_deleted(server: Server, tmp_path: Path) -> None:
    mine = Copy(server, tmp_path / "mine")
    mine.root.mkdir()
    mine.put({f"old/f{n:02}": Thing(b"%d" % n) for n in range(40)})
    mine.init()
    (mine.root / "old").rename(mine.root / "new")
    sent = mine.done().sent
    assert (sent.added, sent.deleted, sent.files) == (40, 40, 0)
    mine.settled()
    # Some renamed, and most gone.
    mine.put({f"new/f{n:02}": None for n in range(30)})
    (mine.root / "new").rename(mine.root / "other")
    with pytest.raises(TooManyDeletions, match="30 of the 40"):
        mine.sync()


def test_a_transaction_that_is_refused_leaves_nothing_to_recover(two: tuple[Copy, Copy]) -> None:
    mine, _ = two
    mine.put({"a": Thing(b"a 1")})
    mine.remote.refused = RemoteError("you may not")
    with pytest.raises(RemoteError, match="you may not"):
        mine.sync()
    assert not mine.layout.journal.exists()
    assert mine.done().recovered == ""
    mine.settled()


@pytest.mark.parametrize("length", [4095, 4096, 10_000])
def test_paths_as_long_as_can_be_and_longer(server: Server, tmp_path: Path, length: int) -> None:
    server.name_rules = "posix"
    mine, theirs = Copy(server, tmp_path / "mine"), Copy(server, tmp_path / "theirs", "bo")
    mine.root.mkdir()
    # No such path can be opened at once, but made, and walked to, name by name.
    here = os.open(mine.root, os.O_RDONLY)
    left = length
    while left > 255:
        name = "d" * min(200, left - 2)
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, left = below, left - len(name) - 1
    os.close(os.open("f" * left, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here))
    os.close(here)
    if length > 4095:
        with pytest.raises(ScanFailed, match="bytes; Linux opens at most 4095"):
            mine.init()
        assert server.ground.versions() == []
        return
    mine.init()
    theirs.clone()
    assert mine.done().committed == theirs.done().committed == ()
