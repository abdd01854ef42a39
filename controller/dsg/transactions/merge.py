"""A change on top of another: which paths of both are apart, and which clash, as a pure function over two streams.

Both streams say what became of paths since the same base version: `mine` in the transaction, `theirs` in the versions
that were committed meanwhile. Paths that only mine changed go on top of theirs; a path that both brought to the same
state is left as theirs has it; any other path of both is a clash, and so is a file where the other side needs a
directory. A time of modification alone is no change that stands against another: copying or unpacking sets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from dsg.manifests.compare import AUTHORED, Added, Changed, Deleted, aspects
from dsg.manifests.entries import Entry

Change = Added | Deleted | Changed
"""What became of one path."""


class ClashState(StrEnum):
    """What both sides did to a path. The names are DSG's: L the transaction, C its base, R the head."""

    ALL_DIFFER = "sLCR__all_ne"
    DELETED_HERE = "sxLCR__C_ne_R"
    DELETED_THERE = "sLCxR__L_ne_C"
    BOTH_ADDED = "sLxCR__L_ne_R"
    IN_THE_WAY = "path_in_the_way"
    """DSG has no such state, as it looks at each path alone."""


EXPLANATIONS: dict[ClashState, str] = {
    ClashState.ALL_DIFFER: "changed in the transaction and, differently, in the head",
    ClashState.DELETED_HERE: "deleted in the transaction, changed in the head",
    ClashState.DELETED_THERE: "changed in the transaction, deleted in the head",
    ClashState.BOTH_ADDED: "added in the transaction and, differently, in the head",
    ClashState.IN_THE_WAY: "a file on one side and a directory on the other",
}
"""What each state means, for people."""


@dataclass(frozen=True, slots=True)
class Clash:
    """One path that keeps a transaction from being put on top of the head."""

    path: str
    state: ClashState


def merge(mine: Iterable[Change], theirs: Iterable[Change]) -> Iterator[Change | Clash]:
    """Yield, in path order, what of `mine` is to be done on top of `theirs`, and every clash.

    Both must be in path order and from the same base. Memory is bounded by the length of a path.
    """
    ours, others = iter(mine), iter(theirs)
    our, other = next(ours, None), next(others, None)
    above = _Above()
    while our is not None or (other is not None and above.waits):
        if other is not None and (our is None or _key(other) < _key(our)):
            yield from above.theirs(other)
            other = next(others, None)
        elif our is not None:
            both = other if other is not None and _key(other) == _key(our) else None
            yield from above.mine(our, both)
            if both is not None:
                yield from above.theirs(both)
                other = next(others, None)
            our = next(ours, None)


def _same_path(mine: Change, theirs: Change) -> Iterator[Change | Clash]:
    after, head = _after(mine), _after(theirs)
    if after is None and head is None:
        return
    if after is not None and head is not None and not aspects(after, head) & AUTHORED:
        return
    if _only_time(mine):
        return
    if _only_time(theirs):
        # What it starts from is the head's entry now, which differs from the base's in time alone.
        yield Deleted(_present(head)) if after is None else _changed(_present(head), after)
        return
    path = _entry(mine).path
    if isinstance(mine, Added):
        yield Clash(path, ClashState.BOTH_ADDED)
    elif after is None:
        yield Clash(path, ClashState.DELETED_HERE)
    elif head is None:
        yield Clash(path, ClashState.DELETED_THERE)
    else:
        yield Clash(path, ClashState.ALL_DIFFER)


def _only_time(change: Change) -> bool:
    return isinstance(change, Changed) and not change.aspects & AUTHORED


def _changed(before: Entry, after: Entry) -> Changed:
    return Changed(before, after, aspects(before, after))


def _present(entry: Entry | None) -> Entry:
    if entry is None:
        raise AssertionError("a change of time alone leaves an entry")
    return entry


def _after(change: Change) -> Entry | None:
    return None if isinstance(change, Deleted) else change.after


def _entry(change: Change) -> Entry:
    return change.before if isinstance(change, Deleted) else change.after


def _key(change: Change) -> bytes:
    return _entry(change).key


@dataclass(slots=True)
class _Placed:
    """An entry that one side put somewhere."""

    key: bytes
    path: str
    mine: bool
    told: bool
    """Whether a clash at this path was told."""


class _Above:
    """Entries that were put at paths which lie above the coming ones, of both sides: no entry can lie below another."""

    def __init__(self) -> None:
        self._stack: list[_Placed] = []

    @property
    def waits(self) -> bool:
        """Whether an entry of mine could still have something of theirs below it."""
        return any(placed.mine for placed in self._stack)

    def mine(self, change: Change, theirs: Change | None) -> Iterator[Change | Clash]:
        """Take my next change, with theirs of the same path; yield what comes of it."""
        if self._blocking(change, mine=True) is None:
            found: list[Change | Clash] = list(_same_path(change, theirs)) if theirs is not None else [change]
        else:
            found = [Clash(_entry(change).path, ClashState.IN_THE_WAY)]
        self._put(change, mine=True, told=any(isinstance(one, Clash) for one in found))
        yield from found

    def theirs(self, change: Change) -> Iterator[Clash]:
        """Take their next change; yield the clash when it lies below a file or link of mine."""
        blocking = self._blocking(change, mine=False)
        if blocking is not None and not blocking.told:
            blocking.told = True
            yield Clash(blocking.path, ClashState.IN_THE_WAY)
        self._put(change, mine=False, told=False)

    def _blocking(self, change: Change, *, mine: bool) -> _Placed | None:
        key, slash = _key(change), ord("/")
        while self._stack and not key.startswith(self._stack[-1].key):
            self._stack.pop()
        if isinstance(change, Deleted) or _only_time(change):
            return None
        return next(
            (p for p in self._stack if p.mine != mine and len(key) > len(p.key) and key[len(p.key)] == slash), None
        )

    def _put(self, change: Change, *, mine: bool, told: bool) -> None:
        if not isinstance(change, Deleted) and not _only_time(change):
            self._stack.append(_Placed(_key(change), change.after.path, mine, told))
