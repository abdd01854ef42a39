"""Plans: laws over random trees, with a server and a working copy as plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dsg.manifests.changes import Gone, Place
from dsg.manifests.compare import Deleted, Same, compare
from dsg.manifests.entries import Entry, FileState
from dsg.manifests.ordering import OrderError, in_order
from dsg.sync.plan import Blocked, Fetch, Plan, Remember, Remove, SetAttributes, plan
from dsg.sync.sides import NeverSynced, NoVersion, NoWorkingCopy, Sides, SidesError, Version, WorkingCopy
from dsg.sync.states import Action, State
from dsg.sync.walk import walk
from dsg.transactions import merge

from .ground import (
    NAMES,
    Tree,
    bare,
    carried_out,
    committed,
    contents,
    file,
    header,
    line,
    remembered,
    same,
    sides,
    state,
    threes,
    trees,
    version,
    working_copy,
)


def planned(local: Tree, cached: Tree | None, remote: Tree | None) -> Plan:
    found = plan(sides(local, cached, remote))
    assert isinstance(found, Plan)
    return found


@settings(max_examples=200)
@given(threes())
def test_after_a_sync_all_three_are_equal_and_no_edit_is_lost(three: tuple[Tree, Tree, Tree]) -> None:
    local, cached, remote = three
    found = plan(sides(local, cached, remote))
    assume(isinstance(found, Plan))
    assert isinstance(found, Plan)
    head = committed(found, remote)
    assert bare(carried_out(found, local)) == bare(head)
    assert remembered(found, cached, head) == head
    assert list(found.saves()) == []
    for path, entry in local.items():
        if not same(entry, cached.get(path)):
            assert same(entry, head.get(path))
    for path, entry in remote.items():
        if not same(entry, cached.get(path)):
            assert same(entry, head.get(path))
    # What nobody deleted is there.
    for path in cached.keys() & local.keys() & remote.keys():
        assert path in head
    again = planned(head, head, head)
    assert not [*again.changes(), *again.operations(), *again.counts.rows()]


@settings(max_examples=150)
@given(threes())
def test_the_server_would_say_the_same(three: tuple[Tree, Tree, Tree]) -> None:
    """A plan is what dsg.transactions.merge makes of the same changes: same conflicts, same tree."""
    local, cached, remote = three
    ours = [d for d in compare(line(cached), line(local)) if not isinstance(d, Same)]
    others = [d for d in compare(line(cached), line(remote)) if not isinstance(d, Same)]
    results = list(merge.merge(ours, others))
    clashes = {clash.path: clash for clash in results if isinstance(clash, merge.Clash)}
    found = plan(sides(local, cached, remote))
    assert isinstance(found, Blocked) == bool(clashes)
    if isinstance(found, Blocked):
        for conflict in found.conflicts():
            if not conflict.in_the_way:
                assert clashes[conflict.path].state.value == conflict.state.value
        return
    merged = dict(remote)
    for result in results:
        assert not isinstance(result, merge.Clash)
        if isinstance(result, Deleted):
            del merged[result.before.path]
        else:
            merged[result.after.path] = result.after
    assert bare(merged) == bare(committed(found, remote))


@given(threes())
def test_a_path_has_one_decision_and_counts_add_up(three: tuple[Tree, Tree, Tree]) -> None:
    local, cached, remote = three
    decisions = list(walk(sides(local, cached, remote)))
    paths = [d.path for d in decisions]
    assert sorted(paths) == sorted(local.keys() | cached.keys() | remote.keys())
    assert [d.key for d in decisions] == sorted(d.key for d in decisions)
    for d in decisions:
        assert (d.local, d.cached, d.remote) == (bare(local).get(d.path), cached.get(d.path), remote.get(d.path))
    counts = plan(sides(local, cached, remote)).counts
    assert sum(counts.states.values()) == len(decisions)
    shown = sum(count for count, _ in counts.rows())
    quiet = sum(d.action is Action.NOTHING for d in decisions)
    assert shown == len(decisions) - quiet + counts.new_times_here + counts.new_times_there


@given(threes())
def test_conflicts_are_as_many_as_counted(three: tuple[Tree, Tree, Tree]) -> None:
    found = plan(sides(*three))
    conflicts = list(found.conflicts()) if isinstance(found, Blocked) else []
    assert len(conflicts) == found.counts.conflicts
    assert len({c.key for c in conflicts}) == len(conflicts)


@given(trees())
def test_a_first_sync_sends_all_and_a_clone_fetches_all(tree: Tree) -> None:
    first = planned(tree, None, None)
    assert bare(committed(first, {})) == bare(tree)
    assert list(first.operations()) == []
    made = plan(Sides(NoWorkingCopy(), NeverSynced(), version("s6", tree)))
    assert isinstance(made, Plan)
    assert list(made.changes()) == []
    assert carried_out(made, {}) == bare(tree)
    assert all(isinstance(operation, Fetch) and operation.source is None for operation in made.operations())


@given(trees(), trees())
def test_without_a_record_of_the_last_sync_nothing_is_deleted(local: Tree, remote: Tree) -> None:
    found = plan(sides(local, None, remote))
    if isinstance(found, Plan):
        assert not any(isinstance(change, Gone) for change in found.changes())
        assert not any(isinstance(operation, Remove) for operation in found.operations())
        assert contents(committed(found, remote)) == contents(local) | contents(remote)


def test_renames_and_copies_are_not_sent() -> None:
    old: Tree = {"old/a": file("old/a", 1), "keep": file("keep", 2)}
    new: Tree = {"new/a": file("new/a", 1), "keep": old["keep"], "copy": file("copy", 2), "fresh": file("fresh", 3)}
    found = planned(new, old, old)
    assert [(c.path, c.source if isinstance(c, Place) else "gone") for c in found.changes()] == [
        ("copy", "keep"),
        ("fresh", None),
        ("new/a", "old/a"),
        ("old/a", "gone"),
    ]
    back = planned(old, old, new)
    fetched = {o.path: o.source for o in back.operations() if isinstance(o, Fetch)}
    assert fetched == {"copy": "keep", "fresh": None, "new/a": "old/a"}


def test_contents_whose_digests_begin_alike_are_told_apart() -> None:
    one = file("one", 1)
    other = replace(one, path="other", digest="1" * 63 + "2")
    there: Tree = {"one": one}
    found = planned({**there, "other": other, "same": replace(one, path="same")}, there, there)
    assert [(c.path, c.source) for c in found.changes() if isinstance(c, Place)] == [("other", None), ("same", "one")]


def test_modes_move_no_content() -> None:
    old, new = file("a", 1), file("a", 1, mtime=5, mode=0o600)
    assert list(planned({"a": old}, {"a": old}, {"a": new}).operations()) == [
        SetAttributes(new, FileState(old.path, old.size, old.mtime, old.mode, old.digest))
    ]
    (change,) = planned({"a": new}, {"a": old}, {"a": old}).changes()
    assert isinstance(change, Place)
    assert change.source == "a"


def test_contents_of_one_size_are_not_taken_for_the_same() -> None:
    old, new = file("a", 1), replace(file("a", 2), size=1)
    assert [type(operation) for operation in planned({"a": old}, {"a": old}, {"a": new}).operations()] == [Fetch]
    (change,) = planned({"a": new}, {"a": old}, {"a": old}).changes()
    assert isinstance(change, Place)
    assert change.source is None


@pytest.mark.parametrize(
    ("local", "cached", "remote", "sent", "set_here"),
    [(1, 0, 0, True, False), (0, 0, 1, False, True), (1, 0, 2, False, True), (1, 0, 1, False, False)],
)
def test_a_new_time_alone_stands_against_nothing(
    local: int, cached: int, remote: int, sent: bool, set_here: bool
) -> None:
    found = planned({"a": file("a", 1, local)}, {"a": file("a", 1, cached)}, {"a": file("a", 1, remote)})
    assert bool(list(found.changes())) == sent
    assert any(isinstance(operation, SetAttributes) for operation in found.operations()) == set_here
    assert found.counts.states[State.ALL_EQUAL] == 1
    assert len(found.counts.rows()) == sent + set_here
    if local == remote:
        assert list(found.operations()) == [Remember("a", file("a", 1, remote))]


def test_the_heads_time_counts_where_both_made_the_same() -> None:
    for cached in ({"a": file("a", 0, 2)}, {"a": file("a", 0, 1)}, {}):
        found = planned({"a": file("a", 1, 1)}, dict(cached), {"a": file("a", 1, 2)})
        assert list(found.changes()) == []
        assert [type(operation) for operation in found.operations()] == [SetAttributes]
        assert found.counts.new_times_there == 1


def test_a_changed_file_that_others_deleted_is_a_conflict() -> None:
    """DSG's sync blocked on it, its plan sent it."""
    found = plan(sides({"a": file("a", 1)}, {"a": file("a", 0)}, {}))
    assert isinstance(found, Blocked)
    assert [c.state for c in found.conflicts()] == [State.CHANGED_HERE_DELETED_THERE]


def test_one_conflict_blocks_everything() -> None:
    found = plan(sides({"a": file("a", 1), "b": file("b", 1)}, None, {"a": file("a", 2)}))
    assert isinstance(found, Blocked)
    assert not hasattr(found, "changes")
    assert not hasattr(found, "operations")


def test_an_unreadable_head_is_an_error_and_never_an_empty_one() -> None:
    tree: Tree = {"a": file("a", 1), "b": file("b", 1)}
    local = working_copy(tree)

    def broken() -> Iterator[Entry]:
        yield tree["a"]
        raise OSError("gone")

    for read, error in ((broken, OSError), (lambda: line(tree)[:1], SidesError), (lambda: iter(()), SidesError)):
        three = Sides(local, version("s4", tree), Version(header("s6", tree), read))
        with pytest.raises(error):
            plan(three)
    with pytest.raises(SidesError, match="no version at all"):
        Sides(local, version("s4", tree), NoVersion())
    with pytest.raises(SidesError, match="is gone"):
        Sides(NoWorkingCopy(), version("s4", tree), version("s6", tree))
    with pytest.raises(SidesError, match="set back"):
        Sides(local, version("s4", tree), version("s3", tree))
    with pytest.raises(SidesError, match="replaced"):
        Sides(local, version("s4", tree), version("s4", {}))
    short = Sides(WorkingCopy(3, working_copy(tree).read), version("s4", tree), version("s6", tree))
    # A cache may be said to have another number than its version's header says; that many must come.
    other = version("s4", {**tree, "z": file("z", 1)}).header
    plan(Sides(local, Version(other, lambda: line(tree), count=len(tree)), version("s6", tree)))
    with pytest.raises(SidesError, match="should have 3 entries and gave 2"):
        plan(Sides(local, Version(other, lambda: line(tree), count=3), version("s6", tree)))
    with pytest.raises(SidesError, match="the working copy should have 3 entries and gave 2"):
        plan(short)


def test_sides_out_of_order_are_refused() -> None:
    tree: Tree = {"a": file("a", 1), "b": file("b", 1)}
    backwards = Sides(
        WorkingCopy(2, lambda: [state(entry) for entry in reversed(line(tree))]), NeverSynced(), NoVersion()
    )
    with pytest.raises(OrderError):
        plan(backwards)


def test_a_file_where_others_made_a_directory_is_one_question() -> None:
    remote: Tree = {f"a/{n}": file(f"a/{n}", n) for n in range(3)}
    for local, cached in (({"a": file("a", 5)}, {}), ({"a": file("a", 5)}, {"a": file("a", 4)})):
        found = plan(sides(dict(local), dict(cached), remote))
        assert isinstance(found, Blocked)
        (conflict,) = found.conflicts()
        assert found.counts.conflicts == 1
        assert conflict.path == "a"
        assert conflict.in_the_way
        assert conflict.mine == state(local["a"])
    # The other way round, beside names that sort between a directory and what lies in it.
    found = plan(sides({**remote, "a-": file("a-", 1)}, {}, {"a": file("a", 5), "a-": file("a-", 2)}))
    assert isinstance(found, Blocked)
    assert [(c.path, c.in_the_way) for c in found.conflicts()] == [("a", True), ("a-", False)]


@given(st.data())
def test_a_file_replaced_by_a_directory_on_one_side_alone_is_no_conflict(data: st.DataObject) -> None:
    old: Tree = {"a": file("a", 1), "b/c": file("b/c", 2), "b/d": file("b/d", 3)}
    new: Tree = {"a/x": file("a/x", 1), "b": file("b", 2)}
    local, remote = (new, old) if data.draw(st.booleans()) else (old, new)
    found = planned(local, old, remote)
    head = committed(found, remote)
    assert bare(head) == bare(new) == bare(carried_out(found, local))


def test_nothing_is_sent_to_where_something_stays_that_is_not_synced() -> None:
    def covers(path: str) -> bool:
        return "out" not in path.split("/")

    for mine, theirs in (("a", "a/out"), ("out-/b", "out-")):
        remote: Tree = {theirs: file(theirs, 1)}
        with pytest.raises(SidesError, match="not synced here"):
            plan(
                Sides(
                    working_copy({mine: file(mine, 2)}),
                    NeverSynced(),
                    version("s6", remote),
                    (lambda path: path != "out-") if theirs == "out-" else covers,
                )
            )
    beside: Tree = {"a/out": file("a/out", 1)}
    found = plan(Sides(working_copy({"a/in": file("a/in", 2)}), NeverSynced(), version("s6", beside), covers))
    assert isinstance(found, Plan)
    assert [change.path for change in found.changes()] == ["a/in"]


@given(threes(), st.sets(st.sampled_from(NAMES), min_size=1, max_size=3))
def test_what_is_not_synced_stays_as_it_is(three: tuple[Tree, Tree, Tree], out: set[str]) -> None:
    local, cached, remote = three

    def covers(path: str) -> bool:
        return out.isdisjoint(path.split("/"))

    def covered(tree: Tree) -> Tree:
        return {path: entry for path, entry in tree.items() if covers(path)}

    scanned = covered(local)
    within = plan(sides(scanned, covered(cached), covered(remote)))
    try:
        found = plan(Sides(working_copy(scanned), version("s4", cached), version("s6", remote), covers))
    except SidesError:
        # Not for nothing: with what stays, the head would be no tree.
        assert isinstance(within, Plan)
        stays = {path: entry for path, entry in remote.items() if not covers(path)}
        with pytest.raises(OrderError):
            list(in_order(line(stays | committed(within, covered(remote)))))
        return
    assert found.counts == within.counts
    if isinstance(found, Plan) and isinstance(within, Plan):
        assert list(found.changes()) == list(within.changes())
        assert list(found.operations()) == list(within.operations())
        assert {p: e for p, e in committed(found, remote).items() if not covers(p)} == {
            p: e for p, e in remote.items() if not covers(p)
        }


@given(st.data())
def test_a_head_that_nobody_moved_is_read_once(data: st.DataObject) -> None:
    base = data.draw(trees())
    local = data.draw(trees(base))
    reads = 0

    def read() -> list[Entry]:
        nonlocal reads
        reads += 1
        return line(base)

    same_version = Version(header("s4", base), read)
    three = Sides(working_copy(local), same_version, same_version)
    assert three.head_is_base
    found = plan(three)
    assert reads == 1
    apart = plan(Sides(working_copy(local), version("s4", base), version("s6", base)))
    assert isinstance(found, Plan)
    assert isinstance(apart, Plan)
    assert found.counts == apart.counts
    assert list(found.changes()) == list(apart.changes())
    assert list(found.operations()) == list(apart.operations())
