"""The one tree of entries that come in order: nodes end where paths say so, and are given away as they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dsg.manifests.lines import Line
from dsg.manifests.nodes import Child, encode_inner, encode_leaf, ends

Put = Callable[[str, bytes], None]
"""Takes a node: its name and its bytes."""


@dataclass(slots=True)
class _Open:
    """The node of one level, from 1, that is being filled."""

    children: list[Child] = field(default_factory=list)
    total: int = 0
    """Children that this level ever got."""
    waits: bool = False
    """The node is complete, but it has the level's only child so far: should no other come, that child is the root."""


class Builder:
    """Makes the tree of what it is given in order. Children are given away before their parents, each once.

    Memory: one open node for each level.
    """

    def __init__(self, put: Put) -> None:
        self._put = put
        self._lines: list[Line] = []
        self._open: list[_Open] = []

    def add(self, line: Line) -> None:
        """Take the next entry."""
        self._lines.append(line)
        if ends(line.entry.key, 0, len(self._lines)):
            self._close_leaf()

    def fits(self, level: int) -> bool:
        """Tell whether a whole node of that level can come next: no node up to that level is open, or stays so.

        One that waits is complete, and is closed for what comes next. That makes a child of the level above, which must
        not leave a node open there either.
        """
        if self._lines:
            return False
        filled = [number for number, of in enumerate(self._open[:level], 1) if of.children]
        if not filled:
            return True
        waiting = filled[0]
        of = self._open[waiting - 1]
        if len(filled) > 1 or not of.waits:
            return False
        return all(ends(of.children[-1].last, above, 1) for above in range(waiting + 1, level + 1))

    def keep(self, child: Child, level: int) -> None:
        """Take the next entries as a node of that level that exists already; see `fits`.

        It must end where a node of its level ends, or be the last.
        """
        for below in range(1, level + 1):
            # Closing a node can begin a level above.
            if below <= len(self._open) and self._open[below - 1].waits:
                self._close(below)
        self._push(level + 1, child)

    def finish(self) -> tuple[Child, int]:
        """Return the root and its level. A root that was kept and has one child is not the root of the one tree."""
        if self._lines or not self._open:
            self._close_leaf()
        level = 1
        while True:
            of = self._open[level - 1]
            if of.total == 1 and len(self._open) == level:
                return of.children[0], level - 1
            if of.children:
                self._close(level)
            level += 1

    def _push(self, level: int, child: Child) -> None:
        while len(self._open) < level:
            self._open.append(_Open())
        of = self._open[level - 1]
        if of.waits:
            self._close(level)
        of.children.append(child)
        of.total += 1
        if ends(child.last, level, len(of.children)):
            if of.total == 1:
                of.waits = True
            else:
                self._close(level)

    def _close_leaf(self) -> None:
        child, raw = encode_leaf(self._lines)
        self._lines = []
        self._put(child.digest, raw)
        self._push(1, child)

    def _close(self, level: int) -> None:
        of = self._open[level - 1]
        child, raw = encode_inner(level, of.children)
        of.children, of.waits = [], False
        self._put(child.digest, raw)
        self._push(level + 1, child)
