"""Laws of comparing, applying and attributing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.compare import (
    Added,
    Aspect,
    Changed,
    Deleted,
    Difference,
    MismatchError,
    Same,
    apply,
    aspects,
    attribute,
    compare,
)
from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry, File, Link
from dsg.manifests.ordering import OrderError
from tests.manifests.strategies import DIGESTS, file, ordered, pairs, trees


def tree_digest(entries: Iterable[Entry]) -> str:
    return summarize(entries).tree


def differing(one: Iterable[Entry], other: Iterable[Entry]) -> list[Difference]:
    return [found for found in compare(one, other) if not isinstance(found, Same)]


@given(trees().map(ordered))
def test_nothing_differs_from_itself(tree: list[Entry]) -> None:
    assert list(compare(tree, tree)) == [Same(entry, entry) for entry in tree]


@given(pairs())
def test_each_path_comes_once_in_order_with_what_each_side_has(pair: tuple[list[Entry], list[Entry]]) -> None:
    before, after = ({entry.path: entry for entry in side} for side in pair)
    seen = []
    for found in compare(*pair):
        old = None if isinstance(found, Added) else found.before
        new = None if isinstance(found, Deleted) else found.after
        path = (old or new).path  # type: ignore[union-attr]
        assert (old, new) == (before.get(path), after.get(path))
        if old is not None and new is not None:
            assert aspects(old, new) == (found.aspects if isinstance(found, Changed) else Aspect(0))
        seen.append(path.encode("utf-8", "surrogateescape"))
    assert seen == sorted({e.key for side in pair for e in side})


@given(pairs())
def test_comparing_the_other_way_round_is_the_reverse(pair: tuple[list[Entry], list[Entry]]) -> None:
    def reverse(found: Difference) -> Difference:
        match found:
            case Added(after):
                return Deleted(after)
            case Deleted(before):
                return Added(before)
            case Changed(before, after, what):
                return Changed(after, before, what)
            case Same(before, after):
                return Same(after, before)

    assert [reverse(found) for found in compare(*pair)] == list(compare(pair[1], pair[0]))


@given(pairs())
def test_applying_the_differences_leads_from_one_to_the_other(pair: tuple[list[Entry], list[Entry]]) -> None:
    before, after = pair
    assert list(apply(compare(before, after), before)) == after
    assert tree_digest(apply(differing(before, after), before)) == tree_digest(after)


@given(pairs())
def test_nothing_differs_exactly_when_the_trees_are_the_same(pair: tuple[list[Entry], list[Entry]]) -> None:
    assert (differing(*pair) == []) == (tree_digest(pair[0]) == tree_digest(pair[1]))


def one(path: str = "a", **values: object) -> list[Entry]:
    return [file(path, **values)]


LINK = Link("a", "b", "ana", "s1")


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (file("a"), file("a", digest=DIGESTS[0]), Aspect.CONTENT),
        (file("a"), file("a", size=4), Aspect.CONTENT),
        (file("a"), file("a", mode=0o600), Aspect.MODE),
        (file("a"), file("a", mtime=0), Aspect.MTIME),
        (file("a"), file("a", mtime=0, mode=0, digest=DIGESTS[0]), Aspect.MTIME | Aspect.MODE | Aspect.CONTENT),
        (file("a"), LINK, Aspect.KIND),
        (LINK, Link("a", "c", "ana", "s1"), Aspect.CONTENT),
        (LINK, Link("a", "b", "bo", "s2"), Aspect(0)),
        (file("a"), file("a", author="bo", version="s9"), Aspect(0)),
    ],
)
def test_what_changed_is_told(before: Entry, after: Entry, what: Aspect) -> None:
    assert list(compare([before], [after])) == [Changed(before, after, what) if what else Same(before, after)]


@pytest.mark.parametrize(
    ("differences", "base", "why"),
    [
        ([Added(file("a"))], one(), "has it already"),
        ([Deleted(file("a"))], [], "does not have it"),
        ([Deleted(file("a"))], one("b"), "does not have it"),
        ([Deleted(file("a"))], one(size=9), "another state"),
        ([Changed(file("a"), file("a", size=5), Aspect.CONTENT)], one(mode=0), "another state"),
        ([Same(file("a"), file("a"))], one(mtime=0), "another state"),
    ],
)
def test_differences_apply_only_to_what_they_start_from(
    differences: list[Difference], base: list[Entry], why: str
) -> None:
    with pytest.raises(MismatchError, match=why):
        list(apply(differences, base))


def test_disjoint_differences_apply_to_a_base_that_moved() -> None:
    base = [file("a"), file("b"), file("d")]
    mine = [file("a"), file("b", size=9), file("c")]
    moved = [file("a", mode=0), file("b"), file("d"), file("e")]
    assert list(apply(differing(base, mine), moved)) == [file("a", mode=0), file("b", size=9), file("c"), file("e")]


@pytest.mark.parametrize("differences", [[Added(file("a/b"))], [Added(file("c")), Added(file("b"))]])
def test_a_result_that_is_no_tree_is_refused(differences: list[Difference]) -> None:
    with pytest.raises(OrderError):
        list(apply(differences, one()))


@pytest.mark.parametrize("call", [lambda x: compare(x, []), lambda x: compare([], x), lambda x: apply([], x)])
def test_unordered_input_is_refused(call: Callable[[list[Entry]], Iterable[object]]) -> None:
    with pytest.raises(OrderError):
        list(call([file("b"), file("a")]))


@given(pairs())
def test_attribution_changes_no_tree_and_names_who_changed_each_path(pair: tuple[list[Entry], list[Entry]]) -> None:
    previous, current = pair
    result = list(attribute(previous, current, "me", "s41"))
    assert tree_digest(result) == tree_digest(current)
    before = {entry.path: entry for entry in previous}
    for entry in result:
        old = before.get(entry.path)
        kept = old is not None and not aspects(old, entry) & ~Aspect.MTIME
        owner = old if kept and old is not None else None
        assert (entry.author, entry.version) == ((owner.author, owner.version) if owner else ("me", "s41"))


@given(trees().map(ordered), st.data())
def test_a_version_without_a_change_is_attributed_as_the_one_before(tree: list[Entry], data: st.DataObject) -> None:
    assert list(attribute(tree, tree, "me", "s41")) == tree
    touched: list[Entry] = [
        File(e.path, e.size, data.draw(st.integers(0, 9)), e.mode, e.digest, "liar", "s1") if isinstance(e, File) else e
        for e in tree
    ]
    result = list(attribute(tree, touched, "me", "s41"))
    assert [(e.author, e.version) for e in result] == [(e.author, e.version) for e in tree]


@given(pairs())
def test_attribution_twice_is_attribution_once(pair: tuple[list[Entry], list[Entry]]) -> None:
    once = list(attribute(*pair, "me", "s41"))
    assert list(attribute(pair[0], once, "me", "s41")) == once
    assert list(attribute(once, once, "you", "s42")) == once
