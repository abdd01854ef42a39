"""Trees of nodes for tests: nodes so small that few entries make many levels, a store in memory, edits of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import strategies as st

from dsg.manifests import nodes
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry, File, Link
from dsg.manifests.nodes import Inner, NodeMissing, decode_node
from dsg.manifests.tree import Put, Remove, build
from tests.manifests.strategies import file, ordered

# Names where a file and a directory of one name meet, with others sorting between them.
NAMES = [f"{a}{b}" for a in ("a", "b", "d/e/f", "g/h") for b in ("", "-x", ".y", "/y", "/z/q")] + [
    f"many/{n:02}" for n in range(60)
]


@contextmanager
def small_nodes(shape: tuple[int, int]) -> Iterator[None]:
    with patch.object(nodes, "BITS", shape[0]), patch.object(nodes, "MOST", shape[1]):
        yield


shapes = st.sampled_from([(1, 1024), (3, 1024), (7, 1024), (nodes.BITS, nodes.MOST), (3, 4), (63, 3), (255, 2)])
"""Nodes of 2, 4, 8 and 64 lines on average, and some that mostly end because they are full."""


class Store:
    """Nodes by name. Refuses a node before its children, or twice."""

    def __init__(self, held: Iterable[tuple[str, bytes]] = ()) -> None:
        self.held = dict(held)
        self.reads: list[str] = []
        self.put_bytes = 0

    def get(self, digest: str) -> bytes:
        self.reads.append(digest)
        if digest not in self.held:
            raise NodeMissing(digest)
        return self.held[digest]

    def put(self, digest: str, raw: bytes) -> None:
        assert digest not in self.held
        node = decode_node(raw, digest, rightmost=True)
        if isinstance(node, Inner):
            assert all(child.digest in self.held for child in node.children)
        self.held[digest] = raw
        self.put_bytes += len(raw)


def grown(entries: Iterable[Entry]) -> tuple[Store, Summary]:
    store = Store()
    return store, build(ordered(entries), store.put)


def reachable(store: Store, root: Summary) -> set[str]:
    """Names of all nodes of a tree, found by following it."""
    found: set[str] = set()
    ahead = [root.digest]
    while ahead:
        digest = ahead.pop()
        found.add(digest)
        node = decode_node(store.held[digest], digest, rightmost=True)
        if isinstance(node, Inner):
            ahead.extend(child.digest for child in node.children)
    return found


def possible(names: Iterable[str]) -> bool:
    held = set(names)
    return not any("/".join(name.split("/")[:n]) in held for name in held for n in range(1, name.count("/") + 1))


def entries_of(path: str) -> st.SearchStrategy[Entry]:
    files = st.builds(
        lambda size, author: file(path, size=size, author=author), st.integers(0, 3), st.sampled_from("ab")
    )
    return st.one_of(files, st.just(Link(path, "x", "ana", "s1")))


def some(names: list[str]) -> st.SearchStrategy[list[str]]:
    """A few of the names, or a part of them all: lists alone are hardly ever long."""
    mask = st.integers(0, 2 ** len(names) - 1)
    part = mask.map(lambda taken: [name for n, name in enumerate(names) if taken >> n & 1])
    return st.one_of(st.lists(st.sampled_from(names), unique=True, max_size=5), part, part) if names else st.just([])


@st.composite
def forests(draw: st.DrawFn) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    size = draw(st.integers(0, 3))
    for name in draw(some(NAMES)):
        if possible([*found, name]):
            found[name] = file(name, size=size)
    return found


@st.composite
def edits(draw: st.DrawFn, held: dict[str, Entry]) -> list[Put | Remove]:
    """Changes in path order, most of them possible, some not."""
    found: dict[str, Put | Remove] = {}
    names = sorted(held)
    match draw(st.sampled_from(["few", "some", "all but a range"])):
        case "some":
            found = {name: Remove(name) for name in draw(some(names))}
        case "all but a range":
            # What is left may be one old subtree, which then must not keep levels that it needs no more.
            low, high = sorted(draw(st.tuples(*[st.integers(0, len(names))] * 2)))
            found = {name: Remove(name) for name in names[:low] + names[high:]}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)):
        found[name] = Remove(name) if draw(st.integers(0, 9)) == 0 else Put(draw(entries_of(name)))
    return sorted(found.values(), key=lambda change: change.key)


def edited(held: dict[str, Entry], changes: Iterable[Put | Remove]) -> dict[str, Entry] | None:
    """What the changes make of the entries; None when they can't be made."""
    found = dict(held)
    for change in changes:
        if isinstance(change, Put):
            found[change.entry.path] = change.entry
        elif found.pop(change.path, None) is None:
            return None
    return found if possible(found) else None


def numbered(count: int, *, step: int = 1) -> Iterator[File]:
    for number in range(0, count, step):
        yield file(f"input/{number // 100:03}/interview-{number:06}.json", size=number)
