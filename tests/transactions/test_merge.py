"""Merging two changes of one base: laws over random trees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.compare import AUTHORED, Added, Aspect, Changed, Deleted, Same, aspects, compare
from dsg.manifests.entries import Entry, File, Link
from dsg.manifests.ordering import OrderError, in_order
from dsg.transactions.merge import EXPLANATIONS, Change, Clash, ClashState, merge

NAMES = ("a", "b", "a-b", "a.b", "c")


def file(path: str, content: int, mtime: int = 0) -> File:
    return File(path, content, mtime, 0o644, f"{content:064x}", "ana", "s1")


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Entry]:
    """A valid tree of few paths, so that two of them meet often."""
    found: dict[str, Entry] = {}
    for _ in range(draw(st.integers(0, 8))):
        path = "/".join(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)))
        if any(p.startswith(f"{path}/") or path.startswith(f"{p}/") for p in found):
            continue
        if draw(st.integers(0, 9)) == 0:
            found[path] = Link(path, draw(st.sampled_from(NAMES)), "ana", "s1")
        else:
            found[path] = file(path, draw(st.integers(0, 2)), draw(st.integers(0, 1)))
    return found


def line(tree: dict[str, Entry]) -> list[Entry]:
    return sorted(tree.values(), key=lambda entry: entry.key)


def between(before: dict[str, Entry], after: dict[str, Entry]) -> list[Change]:
    return [d for d in compare(line(before), line(after)) if not isinstance(d, Same)]


def done(tree: dict[str, Entry], changes: list[Change]) -> dict[str, Entry]:
    result = dict(tree)
    for change in changes:
        if isinstance(change, Deleted):
            del result[change.before.path]
        else:
            result[change.after.path] = change.after
    return result


def split(found: list[Change | Clash]) -> tuple[list[Change], list[Clash]]:
    changes: list[Change] = []
    clashes: list[Clash] = []
    for one in found:
        if isinstance(one, Clash):
            clashes.append(one)
        else:
            changes.append(one)
    return changes, clashes


def valid(tree: dict[str, Entry]) -> bool:
    try:
        list(in_order(line(tree)))
    except OrderError:
        return False
    return True


@given(trees(), trees(), trees())
def test_without_a_clash_both_sides_are_in_the_result(
    base: dict[str, Entry], mine: dict[str, Entry], theirs: dict[str, Entry]
) -> None:
    ours, others = between(base, mine), between(base, theirs)
    changes, clashes = split(list(merge(ours, others)))
    if clashes:
        return
    result = done(theirs, changes)
    assert valid(result)
    # A path that only one side changed is as that side has it.
    for changed, other_changed, side in ((ours, others, mine), (others, ours, theirs)):
        touched = {path(c) for c in other_changed}
        for change in changed:
            if path(change) not in touched:
                assert result.get(path(change)) == side.get(path(change))
    # A change that means something is never dropped silently.
    for change in [*ours, *others]:
        if not only_time(change):
            side = mine if change in ours else theirs
            assert same(result.get(path(change)), side.get(path(change)))


@given(trees(), trees(), trees())
def test_a_clash_is_told_for_both_sides_alike(
    base: dict[str, Entry], mine: dict[str, Entry], theirs: dict[str, Entry]
) -> None:
    ours, others = between(base, mine), between(base, theirs)
    _, one = split(list(merge(ours, others)))
    _, other = split(list(merge(others, ours)))
    assert bool(one) == bool(other)
    touched = {path(c) for c in ours}
    assert {clash.path for clash in one} <= touched


@given(trees(), trees(), trees())
def test_clashes_are_exactly_what_can_not_stand_together(
    base: dict[str, Entry], mine: dict[str, Entry], theirs: dict[str, Entry]
) -> None:
    ours, others = between(base, mine), between(base, theirs)
    theirs_by_path = {path(c): c for c in others}
    expected = set()
    for change in ours:
        other = theirs_by_path.get(path(change))
        meant = other is not None and not only_time(change) and not only_time(other)
        if meant and other is not None and not same(after(change), after(other)):
            expected.add(path(change))
        if after(change) is not None and not only_time(change):
            for there in others:
                placed = after(there) if not only_time(there) else None
                if placed is not None and (
                    placed.path.startswith(f"{path(change)}/") or path(change).startswith(f"{placed.path}/")
                ):
                    expected.add(path(change))
    _, clashes = split(list(merge(ours, others)))
    assert sorted(clash.path for clash in clashes) == sorted(expected)


@given(trees(), trees())
def test_the_same_change_on_both_sides_is_done_already(base: dict[str, Entry], mine: dict[str, Entry]) -> None:
    assert list(merge(between(base, mine), between(base, mine))) == []


@given(trees(), trees())
def test_onto_an_unchanged_head_nothing_is_lost(base: dict[str, Entry], mine: dict[str, Entry]) -> None:
    assert list(merge(between(base, mine), [])) == between(base, mine)
    assert list(merge([], between(base, mine))) == []


def test_a_time_alone_is_in_nobodys_way() -> None:
    old, touched, below = file("a", 0), file("a", 0, mtime=1), file("a/b", 1)
    time: list[Change] = [Changed(old, touched, Aspect.MTIME)]
    replaced: list[Change] = [Deleted(old), Added(below)]
    assert list(merge(time, replaced)) == []
    assert list(merge(replaced, time)) == [Deleted(touched), Added(below)]
    there = file("a/b", 0)
    assert list(merge([Added(old), Deleted(there)], [Changed(there, file("a/b", 0, mtime=1), Aspect.MTIME)])) == [
        Added(old),
        Deleted(file("a/b", 0, mtime=1)),
    ]


def test_the_states_are_dsgs() -> None:
    base, here, there = file("a", 0), file("a", 1), file("a", 2)
    cases: list[tuple[list[Change], list[Change], ClashState]] = [
        ([Changed(base, here, Aspect.CONTENT)], [Changed(base, there, Aspect.CONTENT)], ClashState.ALL_DIFFER),
        ([Deleted(base)], [Changed(base, there, Aspect.CONTENT)], ClashState.DELETED_HERE),
        ([Changed(base, here, Aspect.CONTENT)], [Deleted(base)], ClashState.DELETED_THERE),
        ([Added(here)], [Added(there)], ClashState.BOTH_ADDED),
        ([Added(here)], [Added(file("a/b", 1))], ClashState.IN_THE_WAY),
        ([Added(file("a/b", 1))], [Added(there)], ClashState.IN_THE_WAY),
    ]
    for mine, theirs, state in cases:
        assert [one for one in merge(mine, theirs) if isinstance(one, Clash)] == [Clash(path(mine[0]), state)]
    assert {state for *_, state in cases} == set(ClashState) == set(EXPLANATIONS)


def path(change: Change) -> str:
    return change.before.path if isinstance(change, Deleted) else change.after.path


def after(change: Change) -> Entry | None:
    return None if isinstance(change, Deleted) else change.after


def only_time(change: Change) -> bool:
    return isinstance(change, Changed) and not change.aspects & AUTHORED


def same(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    return not aspects(one, other) & AUTHORED
