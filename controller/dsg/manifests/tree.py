"""A version's entries as a tree of nodes: built, read, searched, changed and compared at the cost of what is touched.

Functions that read check every node they use: its bytes against its name, and what its parent says against what it
holds. What is not read is not checked; `verify` reads all. They raise NodeError and NodeMissing, and what the source
raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsg.manifests.building import Builder
from dsg.manifests.compare import Added, Changed, Deleted, MismatchError, aspects
from dsg.manifests.digest import Summary, summary_of
from dsg.manifests.entries import Entry, check_path, to_bytes, to_name
from dsg.manifests.lines import Line, encode
from dsg.manifests.nodes import Child, Inner, Leaf, Node, NodeError, NodeMissing, NodeSource, decode_node
from dsg.manifests.ordering import Order, OrderError, in_order

__all__ = [
    "Finder",
    "NodeError",
    "NodeMissing",
    "NodeSource",
    "Put",
    "Remove",
    "Updated",
    "build",
    "differences",
    "entries",
    "lookup",
    "update",
    "verify",
]

_SLASH = ord("/")
_AFTER_SLASH = b"0"
_CACHED = 8


@dataclass(frozen=True, slots=True)
class Put:
    """An entry that is to be there, in place of one of its path or new; author and version as they are to be."""

    entry: Entry

    @property
    def key(self) -> bytes:
        """The path's bytes."""
        return self.entry.key


@dataclass(frozen=True, slots=True)
class Remove:
    """A path that is to be there no more."""

    path: str

    @property
    def key(self) -> bytes:
        """The path's bytes. EntryError when no entry can have it."""
        return check_path(self.path)


@dataclass(frozen=True, slots=True)
class Updated:
    """A tree that came from another."""

    summary: Summary
    """What it comes to."""
    dropped: tuple[str, ...]
    """Names of nodes of the other tree that this one does not hold."""


def build(entries: Iterable[Entry], put: Callable[[str, bytes], None]) -> Summary:
    """Give away all nodes of the tree of entries that come in order, each once, children first; return what it is.

    Raises OrderError, and what `put` raises. Memory: a node for each level.
    """
    builder = Builder(put)
    for entry in in_order(entries):
        builder.add(encode(entry))
    return summary_of(builder.finish()[0])


def entries(nodes: NodeSource, root: Summary, *, after: str = "") -> Iterator[Entry]:
    """Yield the entries in order, those whose paths sort after `after` only.

    Each node is checked before its entries come, so what came is right even where a later node is not.
    """
    tree = _Tree(nodes, root)
    order = Order()
    for line in _lines(tree, tree.root(), to_bytes(after)):
        try:
            order.check(line.entry)
        except OrderError as error:
            raise NodeError(root.digest, str(error)) from None
        yield line.entry


def lookup(nodes: NodeSource, root: Summary, path: str) -> Entry | None:
    """Return the entry of a path, None when there is none. Reads one node for each level."""
    line = _Tree(nodes, root).find(to_bytes(path))
    return None if line is None else line.entry


class Finder:
    """Looks up many paths of one tree; paths that lie beside each other share the nodes they read."""

    def __init__(self, nodes: NodeSource, root: Summary) -> None:
        self._tree = _Tree(nodes, root)

    def find(self, path: str) -> Entry | None:
        """Return the entry of a path, None when there is none."""
        line = self._tree.find(to_bytes(path))
        return None if line is None else line.entry


def verify(nodes: NodeSource, root: Summary) -> None:
    """Read the whole tree; return when every node is there, right, and where it belongs."""
    for _ in entries(nodes, root):
        pass


def update(
    nodes: NodeSource, root: Summary, changes: Iterable[Put | Remove], put: Callable[[str, bytes], None]
) -> Updated:
    """Make changes, in path order, in a tree; give away the nodes that the old one does not hold, children first.

    Reads and writes the nodes above what changes, and a few beside. Raises MismatchError when what is to be removed is
    not there, and OrderError when the changes are not in order, a path comes twice, or an entry would lie below
    another. Some nodes may have been given away by then; no node is ever changed, so they do no harm.
    """
    return _Update(_Tree(nodes, root), changes, put).run()


def differences(
    nodes_a: NodeSource, root_a: Summary, nodes_b: NodeSource, root_b: Summary
) -> Iterator[Added | Deleted | Changed]:
    """Yield what differs from tree a to tree b, in path order: what `compare` does, without what is the same.

    Subtrees that both have are not read.
    """
    if root_a.tree == root_b.tree:
        return
    one, other = _Cursor(_Tree(nodes_a, root_a)), _Cursor(_Tree(nodes_b, root_b))
    while True:
        old, new = one.head(), other.head()
        if old is None and new is None:
            return
        if isinstance(old, _At) or isinstance(new, _At):
            _approach(one, old, other, new)
        elif new is None or (old is not None and old.key < new.key):
            if old is not None:
                yield Deleted(old)
            one.step()
        elif old is None or new.key < old.key:
            yield Added(new)
            other.step()
        else:
            found = aspects(old, new)
            if found:
                yield Changed(old, new, found)
            one.step()
            other.step()


@dataclass(frozen=True, slots=True)
class _At:
    """A node and its place in the tree."""

    child: Child
    level: int
    low: bytes
    """The last path before it."""
    rightmost: bool
    """Nothing comes after it."""


class _Tree:
    """Reads nodes and checks that each is what its parent says. Keeps those read last."""

    def __init__(self, nodes: NodeSource, root: Summary) -> None:
        self.summary = root
        self._nodes = nodes
        self._cache: dict[str, Node] = {}

    def root(self) -> _At:
        """Return the root's place."""
        node = self._load(self.summary.digest, rightmost=True)
        level = node.level if isinstance(node, Inner) else 0
        if isinstance(node, Inner) and len(node.children) == 1:
            raise NodeError(self.summary.digest, "is a root with one child; that child should be the root")
        found, said = summary_of(node.sum), self.summary
        if found != said:
            raise NodeError(said.digest, f"comes to {_told(found)}, but the header says {_told(said)}")
        return _At(node.sum, level, b"", True)

    def read(self, at: _At) -> Node:
        """Return the node of a place."""
        said = at.child
        node = self._load(said.digest, rightmost=at.rightmost)
        level = node.level if isinstance(node, Inner) else 0
        if level != at.level:
            raise NodeError(said.digest, f"is of level {level}, but stands where one of level {at.level} belongs")
        if node.sum != said:
            raise NodeError(
                said.digest,
                f"comes to {_told(node.sum)} up to {to_name(node.sum.last)!r}, "
                f"but its parent says {_told(said)} up to {to_name(said.last)!r}",
            )
        if isinstance(node, Leaf) and node.lines and node.lines[0].entry.key <= at.low:
            raise NodeError(
                said.digest, f"{node.lines[0].entry.path!r} does not sort after {to_name(at.low)!r} before it"
            )
        return node

    def below(self, at: _At, node: Inner) -> Iterator[_At]:
        """Yield the places of a node's children."""
        low = at.low
        final = len(node.children) - 1
        for number, child in enumerate(node.children):
            yield _At(child, at.level - 1, low, at.rightmost and number == final)
            low = child.last

    def find(self, key: bytes) -> Line | None:
        """Return the line of a path."""
        at = self.root()
        while True:
            node = self.read(at)
            if isinstance(node, Leaf):
                return next((line for line in node.lines if line.entry.key == key), None)
            under = next((under for under in self.below(at, node) if key <= under.child.last), None)
            if under is None:
                return None
            at = under

    def _load(self, digest: str, *, rightmost: bool) -> Node:
        # A node that stands in two places, rightmost in one, would have paths twice, which `read` refuses.
        node = self._cache.pop(digest, None)
        if node is None:
            node = decode_node(self._nodes.get(digest), digest, rightmost=rightmost)
        self._cache[digest] = node
        if len(self._cache) > _CACHED:
            del self._cache[next(iter(self._cache))]
        return node


def _told(of: Summary | Child) -> str:
    return f"{of.entries} entries of {of.size} bytes with tree {of.tree}"


def _lines(tree: _Tree, at: _At, after: bytes) -> Iterator[Line]:
    node = tree.read(at)
    if isinstance(node, Leaf):
        for line in node.lines:
            if line.entry.key > after:
                yield line
        return
    for under in tree.below(at, node):
        if under.child.last > after:
            yield from _lines(tree, under, after)


class _Cursor:
    """Goes through a tree in order and opens nodes when told to. What comes next is a node or an entry."""

    def __init__(self, tree: _Tree) -> None:
        self._tree = tree
        # What is to come, next last: children of each open node, entries of one leaf.
        self._ahead: list[_At | Entry] = [tree.root()]

    def head(self) -> _At | Entry | None:
        """Return what comes next, None at the end."""
        return self._ahead[-1] if self._ahead else None

    def step(self) -> None:
        """Go past what comes next."""
        self._ahead.pop()

    def open(self, at: _At) -> None:
        """Replace the node that comes next by what it holds."""
        self._ahead.pop()
        node = self._tree.read(at)
        if isinstance(node, Leaf):
            self._ahead.extend(line.entry for line in reversed(node.lines))
        else:
            self._ahead.extend(reversed(list(self._tree.below(at, node))))


def _approach(one: _Cursor, old: _At | Entry | None, other: _Cursor, new: _At | Entry | None) -> None:
    """Pass two equal nodes, or open the higher one, or both when they are of one level."""
    if isinstance(old, _At) and isinstance(new, _At) and old.level == new.level:
        if old.child.tree == new.child.tree:
            one.step()
            other.step()
            return
        one.open(old)
        other.open(new)
    elif isinstance(old, _At) and (not isinstance(new, _At) or old.level > new.level):
        one.open(old)
    elif isinstance(new, _At):
        other.open(new)


@dataclass(frozen=True, slots=True)
class _Above:
    """A change that later paths may lie below."""

    key: bytes
    there: bool
    """It leaves an entry."""
    new: bool
    """There was no entry before."""


class _Update:
    """One run of `update`: goes through the old tree and the changes side by side and feeds a builder.

    Old nodes that nothing changes are kept as they are where the builder is between nodes of their level; only what has
    changes, or stands beside an end that moved, is opened.
    """

    def __init__(self, tree: _Tree, changes: Iterable[Put | Remove], put: Callable[[str, bytes], None]) -> None:
        self._tree = tree
        self._put = put
        self._changes = iter(changes)
        self._change: Put | Remove | None = None
        self._key = b""
        self._opened: dict[str, None] = {}
        self._made: set[str] = set()
        self._builder = Builder(self._make)
        # Changes whose paths are prefixes of the last key, each a prefix of the next (as in ordering.Order).
        self._above: list[_Above] = []
        self._added = b""

    def run(self) -> Updated:
        """Make the changes."""
        self._next()
        if self._change is None:
            return Updated(self._tree.summary, ())
        self._node(self._tree.root())
        root, level = self._builder.finish()
        while level and root.digest not in self._made:
            at = _At(root, level, b"", True)
            node = self._tree.read(at)
            if not isinstance(node, Inner) or len(node.children) > 1:
                break
            self._opened[root.digest] = None
            root, level = node.children[0], level - 1
        return Updated(summary_of(root), tuple(self._opened))

    def _make(self, digest: str, raw: bytes) -> None:
        # Whatever the new tree shares with the old one was opened before it is made again: it holds the same entries.
        self._made.add(digest)
        if digest in self._opened:
            del self._opened[digest]
        else:
            self._put(digest, raw)

    def _next(self) -> None:
        self._change = next(self._changes, None)
        if self._change is None:
            return
        key = self._change.key
        if key <= self._key:
            twice = f"the change of {to_name(key)!r} comes "
            raise OrderError(
                twice + ("twice" if key == self._key else f"after {to_name(self._key)!r}, but sorts before it")
            )
        self._key = key

    def _node(self, at: _At) -> None:
        node = self._tree.read(at)
        self._opened[at.child.digest] = None
        if isinstance(node, Leaf):
            self._leaf(node, at)
            return
        for under in self._tree.below(at, node):
            if self._touches(under) or not self._builder.fits(under.level) or self._hides(under):
                self._node(under)
            else:
                self._builder.keep(under.child, under.level)

    def _touches(self, at: _At) -> bool:
        return self._change is not None and (at.rightmost or self._key <= at.child.last)

    def _hides(self, at: _At) -> bool:
        """Tell whether entries of a node may lie below an entry that was added."""
        return any(
            above.new and above.key + b"/" <= at.child.last and at.low < above.key + _AFTER_SLASH
            for above in self._above
        )

    def _leaf(self, leaf: Leaf, at: _At) -> None:
        before = at.low
        for line in leaf.lines:
            key = line.entry.key
            while self._change is not None and self._key < key:
                self._without(self._change, before, key)
            if self._change is not None and self._key == key:
                self._over(self._change)
            else:
                self._stays(line)
            before = key
        while self._change is not None and at.rightmost:
            self._without(self._change, before, b"")

    def _over(self, change: Put | Remove) -> None:
        """Make a change of a path that has an entry."""
        self._reach(change.key)
        if isinstance(change, Put):
            self._check_above(change.key, change.entry.path)
            self._builder.add(encode(change.entry))
        self._above.append(_Above(change.key, isinstance(change, Put), False))
        self._next()

    def _without(self, change: Put | Remove, before: bytes, after: bytes) -> None:
        """Make a change of a path that has no entry, between two that have."""
        if isinstance(change, Remove):
            raise MismatchError(f"{change.path!r} is to be removed, but the tree does not have it")
        key, path = change.key, change.entry.path
        self._reach(key)
        self._check_above(key, path)
        self._check_old_above(key, path, before, after)
        self._builder.add(encode(change.entry))
        self._above.append(_Above(key, True, True))
        self._added = key
        self._next()

    def _stays(self, line: Line) -> None:
        self._reach(line.entry.key)
        self._check_above(line.entry.key, line.entry.path)
        self._builder.add(line)

    def _reach(self, key: bytes) -> None:
        while self._above and not key.startswith(self._above[-1].key):
            self._above.pop()

    def _check_above(self, key: bytes, path: str) -> None:
        for above in self._above:
            if above.there and key[len(above.key)] == _SLASH:
                raise _below(path, above.key)

    def _check_old_above(self, key: bytes, path: str, before: bytes, after: bytes) -> None:
        """Refuse a path below an entry of the old tree, wherever that stands, unless it was removed."""
        removed = {above.key for above in self._above if not above.there}
        at = key.find(b"/")
        while at >= 0:
            directory = key[: at + 1]
            # Where something lies below a path, in the old tree or as checked before, that path is no entry.
            known = any(other.startswith(directory) for other in (before, after, self._added))
            if not known and key[:at] not in removed and self._tree.find(key[:at]) is not None:
                raise _below(path, key[:at])
            at = key.find(b"/", at + 1)


def _below(path: str, above: bytes) -> OrderError:
    return OrderError(f"path {path!r} lies below {to_name(above)!r}, which is no directory")
