"""One tree for each set of entries, changed and compared at the cost of what changed, and nothing damaged is taken."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dsg.manifests.compare import MismatchError, Same, compare
from dsg.manifests.digest import Summary, summarize
from dsg.manifests.entries import Entry, EntryError, Link
from dsg.manifests.lines import encode
from dsg.manifests.nodes import Child, NodeError, NodeMissing, encode_inner, encode_leaf, ends
from dsg.manifests.ordering import OrderError
from dsg.manifests.tree import Put, Remove, build, differences, entries, lookup, update, verify
from tests.manifests.forest import (
    NAMES,
    Store,
    edited,
    edits,
    entries_of,
    forests,
    grown,
    numbered,
    reachable,
    shapes,
    small_nodes,
)
from tests.manifests.strategies import DIGESTS, file, ordered, pairs, trees

# Laws.


@given(trees(), shapes)
def test_what_is_built_is_read(tree: list[Entry], shape: tuple[int, int]) -> None:
    with small_nodes(shape):
        store, root = grown(tree)
        assert list(entries(store, root)) == ordered(tree)
        assert root == summarize(ordered(tree))
        assert reachable(store, root) == store.held.keys()
        verify(store, root)


@given(pairs())
def test_digests_are_equal_exactly_when_entries_are(pair: tuple[list[Entry], list[Entry]]) -> None:
    one, other = (grown(side)[1] for side in pair)
    assert (one.digest == other.digest) == (pair[0] == pair[1])
    assert (one.tree == other.tree) == all(isinstance(found, Same) for found in compare(*pair))


@settings(max_examples=200)
@given(st.data(), shapes, forests())
def test_changes_end_in_the_one_tree_of_what_they_make(
    data: st.DataObject, shape: tuple[int, int], held: dict[str, Entry]
) -> None:
    """However a tree came about, it is the one that is built from its entries; impossible changes are refused."""
    with small_nodes(shape):
        store, root = grown(held.values())
        for _ in range(3):
            changes = data.draw(edits(held))
            wanted = edited(held, changes)
            before = reachable(store, root)
            work = Store(store.held.items())
            if wanted is None:
                event("refused")
                with pytest.raises((MismatchError, OrderError)):
                    update(work, root, iter(changes), lambda _digest, _raw: None)
                continue
            event("made")
            # Versions that are gone leave no nodes: what the new tree lacks must be given anew.
            work = Store((digest, store.held[digest]) for digest in before)
            updated = update(work, root, iter(changes), work.put)
            fresh, right = grown(wanted.values())
            assert updated.summary == right
            assert work.held.keys() - before == fresh.held.keys() - before
            assert sorted(updated.dropped) == sorted(before - fresh.held.keys())
            store, root, held = work, right, wanted
            verify(store, root)


@given(st.data(), shapes, forests())
def test_differences_are_those_of_comparing_all(
    data: st.DataObject, shape: tuple[int, int], held: dict[str, Entry]
) -> None:
    changed = edited(held, data.draw(edits(held)))
    other = data.draw(forests()) if changed is None else changed
    with small_nodes(shape):
        (store_a, a), (store_b, b) = grown(held.values()), grown(other.values())
        for (one, root), (two, to), sides in (
            ((store_a, a), (store_b, b), (held, other)),
            ((store_b, b), (store_a, a), (other, held)),
        ):
            found = list(differences(one, root, two, to))
            full = compare(*(ordered(side.values()) for side in sides))
            assert found == [difference for difference in full if not isinstance(difference, Same)]


@given(shapes, forests(), st.data())
def test_a_path_is_found_exactly_when_it_is_there(
    shape: tuple[int, int], held: dict[str, Entry], data: st.DataObject
) -> None:
    with small_nodes(shape):
        store, root = grown(held.values())
        for name in [*NAMES, "", "zzz"]:
            assert lookup(store, root, name) == held.get(name)
        after = data.draw(st.sampled_from([*NAMES, "", "many", "zzz"]))
        assert [e.path for e in entries(store, root, after=after)] == sorted(name for name in held if name > after)


def test_who_and_when_are_no_difference_but_another_digest() -> None:
    (store, root), (other, to) = grown([file("a")]), grown([file("a", author="bo", version="s2")])
    assert root.tree == to.tree
    assert root.digest != to.digest
    assert not list(differences(store, root, other, to))


def test_no_change_is_no_work() -> None:
    store, root = grown(numbered(1000))
    updated = update(store, root, [], store.put)
    assert (updated.summary, updated.dropped, store.reads) == (root, (), [])
    same = next(iter(numbered(1000)))
    assert update(store, root, [Put(same)], store.put) == updated


def test_no_entries_are_a_tree_too() -> None:
    store, root = grown([])
    assert (root.entries, root.size, list(entries(store, root)), lookup(store, root, "a")) == (0, 0, [], None)
    updated = update(store, root, [Put(file("a"))], store.put)
    assert updated.dropped == (root.digest,)
    again = update(
        store, updated.summary, [Remove("a")], lambda digest, _: pytest.fail(digest) if digest != root.digest else None
    )
    assert again.summary == root


@given(st.data(), st.sampled_from([(1, 1024), (255, 2)]))
def test_a_part_that_is_left_over_keeps_no_level_too_many(data: st.DataObject, shape: tuple[int, int]) -> None:
    with small_nodes(shape):
        held = list(numbered(60))
        low, high = sorted(data.draw(st.tuples(st.integers(0, 60), st.integers(0, 60))))
        store, root = grown(held)
        updated = update(store, root, [Remove(entry.path) for entry in held[:low] + held[high:]], lambda *_: None)
        fresh, right = grown(held[low:high])
        assert updated.summary == right
        assert set(updated.dropped) == store.held.keys() - fresh.held.keys()


# Cost.


def test_cost_follows_what_changed() -> None:
    """20,000 entries make some 310 leaves under two inner levels."""
    store, root = grown(numbered(20_000))
    before = dict(store.held)
    assert 250 < len(before) < 380
    paths = [entry.path for entry in numbered(20_000, step=2000)]
    store.reads.clear()
    changes: list[Put | Remove] = [Put(file(path, size=1)) for path in paths]
    updated = update(store, root, changes, store.put)
    height = 3
    assert len(set(store.reads)) == len(store.reads) <= len(paths) * height
    assert len(store.held) - len(before) == len(updated.dropped) <= len(paths) * height
    store.reads.clear()
    assert len(list(differences(store, root, store, updated.summary))) == len(paths)
    assert len(store.reads) <= 2 * len(paths) * height
    store.reads.clear()
    assert lookup(store, root, paths[3]) is not None
    assert len(store.reads) == height


@pytest.mark.parametrize(
    "change",
    [
        Put(file("input/050/a-new-one")),
        Put(file("another/directory/far/away")),
        Put(file("zzz")),
        Remove("input/100/interview-010000.json"),
        Remove("input/199/interview-019999.json"),
    ],
)
def test_one_path_costs_a_few_nodes(change: Put | Remove) -> None:
    store, root = grown(numbered(20_000))
    store.reads.clear()
    count = len(store.held)
    update(store, root, [change], store.put)
    # The path to the leaf; to those where a directory above would stand, were it a file; and one beside.
    assert len(store.reads) <= 9
    assert len(store.held) - count <= 4


# Changes that can't be made.


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ([Remove("nothing")], MismatchError, "'nothing' is to be removed, but the tree does not have it"),
        ([Remove("zzz")], MismatchError, "'zzz' is to be removed"),
        ([Put(file("b")), Put(file("a"))], OrderError, "the change of 'a' comes after 'b', but sorts before it"),
        ([Put(file("b")), Remove("b")], OrderError, "the change of 'b' comes twice"),
        ([Put(file("input"))], OrderError, "'input/000/interview-000000.json' lies below 'input'"),
        ([Put(file("input/199"))], OrderError, "lies below 'input/199', which is no directory"),
        (
            [Put(file("input/003/interview-000300.json/a/b"))],
            OrderError,
            "lies below 'input/003/interview-000300.json'",
        ),
        ([Put(file("new")), Put(file("new/er"))], OrderError, "'new/er' lies below 'new'"),
        ([Put(file("new")), Put(file("new-a")), Put(file("new/er"))], OrderError, "'new/er' lies below 'new'"),
        ([Remove("../a")], EntryError, "must be relative"),
    ],
)
def test_what_can_not_be_done_is_refused_with_the_reason(
    changes: list[Put | Remove], error: type[Exception], why: str
) -> None:
    store, root = grown(numbered(20_000))
    held = dict(store.held)
    with pytest.raises(error, match=why):
        update(store, root, changes, lambda _digest, _raw: None)
    assert store.held == held


def test_a_path_below_a_file_in_a_far_leaf_is_refused() -> None:
    """Between `d` and `d/x` sort thousands of others, and no change touches them."""
    far = [file("d"), *(file(f"d-{n:05}") for n in range(5000))]
    store, root = grown(far)
    with pytest.raises(OrderError, match="'d/x' lies below 'd'"):
        update(store, root, [Put(file("d/x"))], lambda _digest, _raw: None)
    updated = update(store, root, [Remove("d"), Put(file("d/x"))], store.put)
    assert lookup(store, updated.summary, "d/x")
    with pytest.raises(OrderError, match="'d/x' lies below 'd'"):
        update(store, updated.summary, [Put(file("d"))], lambda _digest, _raw: None)
    back = update(store, updated.summary, [Put(file("d")), Remove("d/x")], lambda _digest, _raw: None)
    assert back.summary == root


def test_entries_out_of_order_are_no_tree() -> None:
    with pytest.raises(OrderError, match="sorts before it"):
        build([file("b"), file("a")], lambda _digest, _raw: None)
    with pytest.raises(OrderError, match="lies below"):
        build([file("a"), file("a/b")], lambda _digest, _raw: None)


# Damage.


@given(st.data(), forests())
def test_no_node_can_be_altered_lost_or_swapped(data: st.DataObject, held: dict[str, Entry]) -> None:
    with small_nodes((3, 1024)):
        store, root = grown(held.values())
        digest = data.draw(st.sampled_from(sorted(store.held)))
        raw = store.held.pop(digest)
        with pytest.raises(NodeMissing, match=digest) as missing:
            verify(store, root)
        assert missing.value.digest == digest
        at = data.draw(st.integers(0, len(raw) - 1))
        flipped = raw[:at] + bytes([raw[at] ^ 1 << data.draw(st.integers(0, 7))]) + raw[at + 1 :]
        for wrong in (flipped, raw[:at], raw + b"\n", *store.held.values()):
            damaged = Store([*store.held.items(), (digest, wrong)])
            with pytest.raises(NodeError, match=f"{digest}: its bytes have the digest") as caught:
                verify(damaged, root)
            assert caught.value.node == digest
        name = data.draw(st.sampled_from(NAMES))
        change = data.draw(entries_of(name))
        # What does not need the node goes on; what does, fails. Nothing comes out wrong.
        with suppress(NodeMissing):
            assert lookup(store, root, name) == held.get(name)
        wanted = edited(held, [Put(change)])
        with suppress(NodeMissing, OrderError):
            updated = update(store, root, [Put(change)], lambda _digest, _raw: None)
            assert wanted is not None
            assert updated.summary == grown(wanted.values())[1]


def ending(level: int, least: str = "") -> str:
    """A name after which a node of each level up to that one ends, and none above."""
    return next(
        name
        for name in (f"{least}n{n:04}" for n in range(10_000))
        if all(ends(name.encode(), lower) for lower in range(level + 1)) and not ends(name.encode(), level + 1)
    )


class Forger:
    """Makes nodes that are what their names say, but not what a tree may hold."""

    def __init__(self) -> None:
        self.store = Store()

    def leaf(self, *names: str) -> Child:
        return self.keep(encode_leaf([encode(file(name)) for name in names]))

    def inner(self, level: int, *children: Child) -> Child:
        return self.keep(encode_inner(level, children))

    def keep(self, made: tuple[Child, bytes]) -> Child:
        self.store.held[made[0].digest] = made[1]
        return made[0]


def root_of(child: Child) -> Summary:
    return Summary(child.entries, child.size, child.tree, child.digest)


def forgeries() -> dict[str, tuple[Callable[[Forger], Child], str]]:
    one, two, long = ending(0, "a"), ending(0, "b"), ending(1, "a")
    return {
        "count": (
            lambda f: f.inner(1, replace(f.leaf(one), entries=2), f.leaf("z")),
            "comes to 1 entries .* but its parent says 2 entries",
        ),
        "size": (lambda f: f.inner(1, f.leaf(one), replace(f.leaf("z"), size=9)), "of 9 bytes"),
        "tree": (lambda f: f.inner(1, f.leaf(one), replace(f.leaf("z"), tree=DIGESTS[0])), f"tree {DIGESTS[0]}"),
        "last": (lambda f: f.inner(1, f.leaf(one), replace(f.leaf("z"), last=b"zz")), "up to 'zz'"),
        "level": (
            lambda f: f.inner(2, f.leaf(one), f.leaf("z")),
            "is of level 0, but stands where one of level 1 belongs",
        ),
        "single": (lambda f: f.inner(1, f.leaf("a")), "root with one child"),
        "order": (lambda f: f.inner(1, f.leaf(two), f.leaf(one)), "does not sort after the one before"),
        "overlap": (lambda f: f.inner(1, f.leaf(one), f.leaf("a", "z")), "'a' does not sort after"),
        "early end": (
            lambda f: f.inner(1, f.leaf("a"), f.leaf("z")),
            "ends where no node ends, although others follow",
        ),
        "late end": (lambda f: f.leaf("a", one, "z"), f"should end after '{one}', but goes on"),
        "late inner end": (lambda f: f.inner(1, f.leaf(long), f.leaf("z")), f"should end after '{long}', but goes on"),
        "below": (lambda f: f.inner(1, f.leaf(one), f.leaf(f"{one}/z")), f"lies below '{one}'"),
        "empty leaf": (
            lambda f: f.inner(1, f.leaf(one), replace(f.leaf(), last=b"z", entries=1)),
            "comes to 0 entries",
        ),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_tree_that_is_not_the_one_tree_is_refused(name: str) -> None:
    make, why = forgeries()[name]
    forger = Forger()
    root = make(forger)
    with pytest.raises(NodeError, match=why):
        verify(forger.store, root_of(root))


def test_the_forger_can_make_a_true_tree() -> None:
    forger = Forger()
    names = [ending(0, "a"), "z"]
    root = forger.inner(1, *(forger.leaf(name) for name in names))
    verify(forger.store, root_of(root))
    assert root_of(root) == summarize(file(name) for name in names)


@pytest.mark.parametrize("values", [{"entries": 4}, {"size": 1}, {"tree": DIGESTS[0]}])
def test_what_the_header_says_is_checked_before_an_entry_comes(values: dict[str, int | str]) -> None:
    store, root = grown([file("a"), file("b")])
    wrong = replace(root, **values)  # type: ignore[arg-type]
    for act in (
        lambda: next(entries(store, wrong)),
        lambda: lookup(store, wrong, "a"),
        lambda: update(store, wrong, [Remove("a")], store.put),
        lambda: next(differences(store, wrong, *grown([]))),
    ):
        with pytest.raises(NodeError, match="but the header says"):
            act()


def test_a_node_that_waits_can_leave_another_open_above() -> None:
    """A whole subtree must not be kept then: it would come before what is still open below it."""
    paths, gone = ("a", "d/e/f-x", "many/29", "many/30"), ("a", "many/29")
    with small_nodes((1, 1024)):
        store, root = grown([Link(path, "x", "ana", "s1") for path in paths])
        work = Store((digest, store.held[digest]) for digest in reachable(store, root))
        updated = update(work, root, [Remove(path) for path in gone], work.put)
        _, right = grown([Link(path, "x", "ana", "s1") for path in paths if path not in gone])
        assert updated.summary == right
