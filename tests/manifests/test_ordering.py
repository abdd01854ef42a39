"""Any order in, one order out; and what can't stand in one tree is told."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry
from dsg.manifests.ordering import OrderError, in_order, sort
from tests.manifests.strategies import file, ordered, paths, trees, written


@given(st.data(), trees(), st.integers(1, 4))
def test_order_of_entries_does_not_matter(data: st.DataObject, tree: list[Entry], run: int) -> None:
    shuffled = data.draw(st.permutations(tree))
    assert list(sort(shuffled, run=run)) == ordered(tree)
    assert summarize(sort(shuffled, run=run)) == summarize(sort(tree))
    assert written(sort(shuffled, run=run)) == written(ordered(tree))


def test_order_is_that_of_bytes() -> None:
    """Not that of code points: the stand-in for byte ff would sort before U+FFFD, its byte sorts after."""
    names = ["a", "a-b", "a.b", "a0", "\ufffd", "\udcff"]
    assert [entry.path for entry in sort(file(name) for name in reversed(names))] == names


@given(st.lists(paths, unique=True, max_size=8))
def test_exactly_what_can_be_one_tree_is_one(names: list[str]) -> None:
    possible = not any(other.startswith(name + "/") for name in names for other in names)
    try:
        list(sort(file(name) for name in names))
        taken = True
    except OrderError:
        taken = False
    assert taken == possible


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["b", "a"], "'a' comes after 'b', but sorts before it"),
        (["a", "a"], "'a' comes twice"),
        (["a", "a-", "a.b", "a/b"], "'a/b' lies below 'a', which is no directory"),
        (["a", "aa", "aa/b/c"], "'aa/b/c' lies below 'aa'"),
    ],
)
def test_a_broken_order_is_told(names: list[str], why: str) -> None:
    with pytest.raises(OrderError, match=why):
        list(in_order(file(name) for name in names))


def test_a_path_that_comes_twice_is_told_across_runs() -> None:
    with pytest.raises(OrderError, match="'b' comes twice"):
        list(sort((file(name) for name in "abcb"), run=2))


def test_more_than_a_block_passes_through_the_disk() -> None:
    names = [f"{n:04}/{'x' * 200}" for n in range(3000)]
    random.Random(1).shuffle(names)
    assert [e.path for e in sort((file(name) for name in names), run=700)] == sorted(names, key=os.fsencode)
