"""All 15 states at once, one path in each: what one sync, one init and one clone make of them.

It says of the storage what `test_states` and `test_states_at_the_start` say of each state alone, in few versions; so it
is what runs on OpenZFS, where a version takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsg.sync.states import ROWS, TABLE, Action, Row, State
from dsg.workcopy.errors import AlreadyAWorkingCopy, HasVersions, NotEmpty
from dsg.workcopy.results import Done
from tests.workcopy.copies import Copy, Things, things
from tests.workcopy.server import Server
from tests.workcopy.test_states import KEEP, three
from tests.workcopy.test_states_at_the_start import interrupted, none_any_more, refused, without_c

KIND = "mixed"
LOCAL, CACHED, REMOTE = range(3)


def path(row: Row) -> str:
    return f"data/{row.state.value}/x.csv"


def side(number: int, rows: tuple[Row, ...] = TABLE) -> Things:
    """Return what L, C or R has, with what is the same in all."""
    found = {path(row): three(row, KIND)[number] for row in rows}
    return {**KEEP, **{name: thing for name, thing in found.items() if thing is not None}}


def change(copy: Copy, number: int) -> None:
    """Make in a copy of C what L or R is."""
    for row in TABLE:
        sides = three(row, KIND)
        if sides[number] != sides[CACHED]:
            copy.put({path(row): sides[number]})


def bring(server: Server, tmp_path: Path) -> Copy:
    """Return a working copy with a path in each state."""
    mine, theirs = Copy(server, tmp_path / "mine", "ana"), Copy(server, tmp_path / "theirs", "bo")
    theirs.root.mkdir()
    theirs.put(dict(side(CACHED)))
    theirs.init()
    mine.clone()
    change(theirs, REMOTE)
    theirs.done()
    change(mine, LOCAL)
    return mine


def test_sync(server: Server, tmp_path: Path) -> None:
    mine = bring(server, tmp_path)
    before, versions = things(mine.root), server.ground.versions()
    blocked = mine.blocked()
    assert {one.path: one.state for one in blocked.conflicts} == {path(row): row.state for row in TABLE if row.blocks}
    assert (things(mine.root), server.ground.versions()) == (before, versions)
    mine.decide("theirs")
    result = mine.done(resolve=True)
    assert result.left == ()
    assert result.counts is not None
    named = {row.state for row in TABLE} - {State.NOWHERE, State.ALL_EQUAL}
    assert {state: result.counts.states[state] for state in named} == dict.fromkeys(named, 1)
    ours = {row for row in TABLE if not row.blocks and row.action in {Action.UPLOAD, Action.DELETE_REMOTE}}
    expected = dict(KEEP)
    for row in TABLE:
        thing = three(row, KIND)[LOCAL if row in ours else REMOTE]
        expected |= {path(row): thing} if thing is not None else {}
    assert things(mine.root) == expected
    assert server.ground.versions() == [*versions, f"s{len(versions) + 1}"]
    mine.settled()
    assert mine.done().committed == ()
    third = Copy(server, tmp_path / "third", "cleo")
    third.clone()
    assert things(third.root) == expected


def test_init_and_clone(server: Server, make_server: Callable[[], Server], tmp_path: Path) -> None:
    mine = bring(server, tmp_path)
    refused(mine, mine.init, AlreadyAWorkingCopy, "has a version already")
    refused(mine, mine.clone, AlreadyAWorkingCopy, "is a working copy of research/justice already")
    elsewhere = Copy(server, tmp_path / "elsewhere", "cleo")
    elsewhere.clone()
    assert things(elsewhere.root) == side(REMOTE)
    elsewhere.settled()

    none_any_more(mine)
    refused(mine, mine.init, HasVersions, "clone it into a new directory")
    refused(mine, mine.clone, NotEmpty, "is not empty")
    interrupted(mine)
    with pytest.raises(HasVersions, match="sync to bring"):
        mine.init()
    with pytest.raises(NotEmpty, match="Nothing was changed"):
        mine.clone()
    assert things(mine.root) == side(LOCAL)
    assert server.open_transactions() == []

    none_any_more(mine)
    new = make_server()
    first = Copy(new, mine.root, "ana")
    made = first.init()
    assert isinstance(made, Done)
    assert made.counts is not None
    assert made.counts.states[State.ADDED_HERE] == len(side(LOCAL))
    first.settled()
    other = Copy(new, tmp_path / "other", "cleo")
    other.clone()
    assert things(other.root) == side(LOCAL)

    # What an interrupted clone has brought, or a stranger: where it is what the head has, the clone goes on.
    none_any_more(mine)
    interrupted(mine)
    strange = [row for row in TABLE if ROWS[without_c(row)].action in {Action.UPLOAD, Action.CONFLICT}]
    assert 0 < len(strange) < len(TABLE)
    mine.put({path(row): None for row in strange})
    mine.clone()
    assert things(mine.root) == side(REMOTE)
    assert mine.remote.sent == []
    mine.settled()
