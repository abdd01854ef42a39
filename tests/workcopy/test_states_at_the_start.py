"""What init and clone do about each of the 15 states: only those without C can come up; the others are refused.

A working copy is brought into each state. From there on, what was L, C and R meets init and clone in every way that it
can: in the working copy itself, in a directory that is none any more, in one whose first command was interrupted, and
elsewhere. A refusal changes nothing on either side.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dsg.sync.states import ROWS, TABLE, Action, Row, State
from dsg.workcopy.errors import AlreadyAWorkingCopy, HasVersions, NotEmpty
from dsg.workcopy.origin import write_origin
from dsg.workcopy.results import Done
from tests.workcopy.copies import Copy, Thing, Things, origin, things
from tests.workcopy.server import Server
from tests.workcopy.test_states import KEEP, PATH, bring

pytestmark = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.state.value)

KIND = "mixed"
"""A file with a mode and a time of its own, a link, an empty file."""


def having(thing: Thing | None) -> Things:
    return {**KEEP, **({PATH: thing} if thing is not None else {})}


def picture(copy: Copy) -> object:
    """Return all that a refused command must leave as it is."""
    metadata = copy.layout.metadata
    kept = {
        str(path.relative_to(metadata)): path.read_bytes()
        for path in metadata.rglob("*")
        if path.is_file() and path.name not in {"lock", "scan.db", "scan.db-wal", "scan.db-shm"}
    }
    server = copy.server
    return things(copy.root), kept, server.ground.versions(), server.seen(), server.known()


def refused(copy: Copy, command: Callable[[], object], error: type[Exception], words: str) -> None:
    before = picture(copy)
    with pytest.raises(error, match=words) as caught:
        command()
    assert "Nothing was changed" in str(caught.value)
    assert picture(copy) == before


def none_any_more(copy: Copy) -> None:
    """Take from a directory what makes it a working copy."""
    shutil.rmtree(copy.layout.metadata)


def interrupted(copy: Copy) -> None:
    """Leave a directory as a first command that was interrupted early does: it has an origin and no C."""
    copy.layout.metadata.mkdir()
    write_origin(copy.layout, origin(copy.remote.repository()))


def test_init(row: Row, server: Server, make_server: Callable[[], Server], tmp_path: Path) -> None:
    mine, (local, _, _) = bring(server, tmp_path, row, KIND)
    refused(mine, mine.init, AlreadyAWorkingCopy, "has a version already")
    none_any_more(mine)
    refused(mine, mine.init, HasVersions, "clone it into a new directory")
    assert not mine.layout.metadata.exists()
    interrupted(mine)
    with pytest.raises(HasVersions, match="sync to bring"):
        mine.init()
    assert things(mine.root) == having(local)
    # In a repository without a version, only two states are left: added here, and nowhere.
    none_any_more(mine)
    new = make_server()
    first = Copy(new, mine.root, "ana")
    made = first.init()
    assert isinstance(made, Done)
    assert made.counts is not None
    assert made.counts.states[State.ADDED_HERE] == len(having(local))
    assert things(first.root) == having(local)
    first.settled()
    other = Copy(new, tmp_path / "other", "cleo")
    other.clone()
    assert things(other.root) == having(local)


def test_clone(row: Row, server: Server, tmp_path: Path) -> None:
    mine, (local, _, remote) = bring(server, tmp_path, row, KIND)
    refused(mine, mine.clone, AlreadyAWorkingCopy, "is a working copy of research/justice already")
    elsewhere = Copy(server, tmp_path / "elsewhere", "cleo")
    elsewhere.clone()
    assert things(elsewhere.root) == having(remote)
    elsewhere.settled()
    none_any_more(mine)
    refused(mine, mine.clone, NotEmpty, "is not empty")
    interrupted(mine)
    # Without C, the state is another one: what stands here is what an interrupted clone has brought, or a stranger.
    found = without_c(row)
    if ROWS[found].action in {Action.UPLOAD, Action.CONFLICT}:
        with pytest.raises(NotEmpty, match="Nothing was changed"):
            mine.clone()
        assert things(mine.root) == having(local)
        assert server.open_transactions() == []
        return
    cloned = mine.clone()
    assert cloned.done.counts is not None
    assert cloned.done.counts.states[found] >= (found is not State.NOWHERE)
    assert things(mine.root) == having(remote)
    assert mine.remote.sent == []
    mine.settled()


def without_c(row: Row) -> State:
    """Return the state that is left of one when C is not known."""
    local, remote = row.pattern[0], row.pattern[2]
    if local == "-":
        return State.NOWHERE if remote == "-" else State.ADDED_THERE
    if remote == "-":
        return State.ADDED_HERE
    return State.SAME_ADDITION if local == remote else State.BOTH_ADDED
