"""What must come of transactions, said in plain dictionaries: shares no code with what it is compared to.

Everything is done path by path and over whole trees, without order and without care for cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class AFile(NamedTuple):
    """A file of a version."""

    content: bytes
    mode: int
    mtime: int


class ALink(NamedTuple):
    """A symbolic link of a version."""

    target: str


State = AFile | ALink
Tree = Mapping[str, State]
Signed = Mapping[str, tuple[str, int]]
"""By path: who changed it last, and in which version."""


@dataclass(frozen=True)
class Version:
    """A committed version."""

    number: int
    tree: Tree
    signed: Signed
    author: str = ""
    message: str = ""
    uid: str = ""
    """The transaction that made it."""


NO_VERSION = Version(0, {}, {})


def real(before: State | None, after: State | None) -> bool:
    """Whether a difference is more than a time of modification."""
    if isinstance(before, AFile) and isinstance(after, AFile):
        return (before.content, before.mode) != (after.content, after.mode)
    return before != after


def inside(path: str, directory: str) -> bool:
    """Whether a path lies below another."""
    return path.startswith(f"{directory}/")


def whole(tree: Tree) -> bool:
    """Whether no entry lies below another."""
    return not any(inside(p, q) for p in tree for q in tree)


def placed(tree: Tree, path: str, state: State) -> dict[str, State]:
    """Return a tree with an entry put somewhere; what is in its way is gone."""
    kept = {p: s for p, s in tree.items() if not inside(p, path) and not inside(path, p)}
    return {**kept, path: state}


def on_top(head: Version, tree: Tree, author: str, message: str, uid: str) -> Version:
    """Return the version that a tree becomes after another."""
    number = head.number + 1
    signed = {
        path: head.signed[path] if path in head.tree and not real(head.tree[path], state) else (author, number)
        for path, state in tree.items()
    }
    return Version(number, dict(tree), signed, author, message, uid)


def merged(base: Tree, mine: Tree, theirs: Tree) -> tuple[dict[str, State], set[str]]:
    """Return what my changes of a base come to on top of theirs, and the paths that clash."""
    result: dict[str, State] = {}
    clashes: set[str] = set()
    put_by_me, put_by_them = set(), set()
    for path in set(base) | set(mine) | set(theirs):
        b, m, t = base.get(path), mine.get(path), theirs.get(path)
        if real(b, m) and m is not None:
            put_by_me.add(path)
        if real(b, t) and t is not None:
            put_by_them.add(path)
        if m == b:
            taken = t
        elif t == b:
            taken = m
        elif (m is not None and t is not None and not real(m, t)) or not real(b, m):
            taken = t
        elif not real(b, t):
            taken = m
        elif m is None and t is None:
            taken = None
        else:
            clashes.add(path)
            taken = None
        if taken is not None:
            result[path] = taken
    for here in put_by_me:
        if any(inside(here, there) or inside(there, here) for there in put_by_them):
            clashes.add(here)
    return result, clashes


@dataclass
class Wish:
    """What a transaction wants, as far as its outcome depends on it."""

    uid: str
    operation: str
    author: str
    message: str
    base: int
    starts: list[tuple[Tree, Tree]] = field(default_factory=list)
    """Base and wanted tree; more than one where an interrupted attempt may have put it on top of another version."""
    committed: int = 0
    """The version that it has become, whether or not anybody was told."""
    ended: bool = False


@dataclass(frozen=True)
class Made:
    """A version is made."""

    version: Version


@dataclass(frozen=True)
class Nothing:
    """The transaction is done without a version: the head has it all."""

    number: int


@dataclass(frozen=True)
class Clashing:
    """It ends, and these paths are named."""

    paths: frozenset[str]


@dataclass(frozen=True)
class Refused:
    """It ends for this reason."""

    reason: str


Outcome = Made | Nothing | Clashing | Refused


class Oracle:
    """The versions of one repository, and what may come next."""

    def __init__(self) -> None:
        self.versions: list[Version] = [NO_VERSION]
        """By number; the zeroth stands for none."""
        self.gone: set[int] = set()
        """Versions that retention let go of."""

    @property
    def head(self) -> Version:
        """Return the newest version."""
        return self.versions[-1]

    def there(self) -> list[int]:
        """Return the versions that must be there."""
        return [v.number for v in self.versions[1:] if v.number not in self.gone]

    def outcomes(self, wish: Wish) -> Iterator[Outcome]:
        """Yield what may come of a commit now."""
        head = self.head
        for base, wanted in wish.starts:
            if wanted == base:
                yield Nothing(wish.base)
            elif wish.operation == "Init" and head.number:
                yield Refused("AlreadyInitialized")
            elif wish.base == head.number and base == head.tree:
                yield Made(on_top(head, wanted, wish.author, wish.message, wish.uid))
            else:
                tree, clashes = merged(base, wanted, head.tree)
                if clashes:
                    yield Clashing(frozenset(clashes))
                elif tree == head.tree:
                    yield Nothing(head.number)
                else:
                    assert whole(tree), tree
                    yield Made(on_top(head, tree, wish.author, wish.message, wish.uid))

    def rebased(self, wish: Wish) -> None:
        """Note that an interrupted attempt may have put a transaction on top of the head."""
        head = self.head.tree
        for outcome in list(self.outcomes(wish)):
            if isinstance(outcome, Made) and (head, outcome.version.tree) not in wish.starts:
                wish.starts.append((head, outcome.version.tree))

    def take(self, version: Version) -> None:
        """Note that a version was committed."""
        assert version.number == self.head.number + 1
        self.versions.append(version)
