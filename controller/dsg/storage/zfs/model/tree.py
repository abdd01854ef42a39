"""A tree of files: what a filesystem holds, frozen by snapshots and shared with clones until one of them writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from dsg.storage.host import PathKind

SECTOR = 512
TREE_METADATA = 24576
"""Bytes that an empty filesystem refers to (measured on OpenZFS 2.3.9 with 512-byte sectors)."""


class Block(NamedTuple):
    """Space on disk, born in a transaction group; trees that hold the same block share the space."""

    serial: int
    size: int
    birth: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory, link or file. `mtime` is in nanoseconds since 1970; that of directories is not kept."""

    kind: PathKind
    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    target: str = ""
    data: bytes = b""
    block: Block | None = None
    mtime: int = 0


def allocated(length: int) -> int:
    """Return the bytes that a file of some length takes on disk: whole sectors, no compression."""
    return -(-length // SECTOR) * SECTOR


def above(path: str) -> str:
    """Return the directory that holds a path of a tree; the root is the empty path."""
    return path.rpartition("/")[0]


class Tree:
    """Entries by path relative to the root, which is the empty path.

    `frozen` trees belong to a snapshot, or to a clone that has not written yet; a writer copies them first.
    """

    __slots__ = ("blocks", "children", "entries", "frozen", "metadata", "size")

    def __init__(self, root: Entry, metadata: Block | None = None) -> None:
        self.entries: dict[str, Entry] = {"": root}
        self.children: dict[str, set[str]] = {}
        """The names in each directory that is not empty."""
        self.blocks: set[Block] = set()
        self.size = 0
        self.metadata: Block | None = None
        self.frozen = False
        self.set_metadata(metadata)

    def copy(self) -> Tree:
        """Return a tree of its own with the same entries and blocks."""
        other = Tree.__new__(Tree)
        other.entries = dict(self.entries)
        other.children = {path: set(names) for path, names in self.children.items()}
        other.blocks = set(self.blocks)
        other.size = self.size
        other.metadata = self.metadata
        other.frozen = False
        return other

    def _count(self, block: Block | None, sign: int) -> None:
        if block is not None:
            (self.blocks.add if sign > 0 else self.blocks.discard)(block)
            self.size += sign * block.size

    def set_metadata(self, block: Block | None) -> Block | None:
        """Replace the block that stands for the tree's metadata; return the one before."""
        before = self.metadata
        self._count(before, -1)
        self._count(block, 1)
        self.metadata = block
        return before

    def replace(self, path: str, entry: Entry | None) -> Entry | None:
        """Put an entry at a path, or nothing; return what was there."""
        before = self.entries.get(path)
        if before is not None:
            self._count(before.block, -1)
        if entry is None:
            self.entries.pop(path, None)
        else:
            self.entries[path] = entry
            self._count(entry.block, 1)
        if path and (before is None) is not (entry is None):
            directory, _, name = path.rpartition("/")
            names = self.children.setdefault(directory, set())
            (names.add if before is None else names.discard)(name)
            if not names:
                del self.children[directory]
        return before

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(self.children.get(directory, ()))

    def below(self, directory: str) -> Iterator[tuple[str, Entry]]:
        """Yield everything below a directory, each directory after what it holds."""
        for name in self.names(directory):
            path = f"{directory}/{name}" if directory else name
            yield from self.below(path)
            yield path, self.entries[path]

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Yield every entry but the root, by path."""
        return ((path, entry) for path, entry in sorted(self.entries.items()) if path)

    def same_content(self, other: Tree) -> bool:
        """Whether both hold the same paths with the same kind, owner, mode, target and bytes."""

        def content(tree: Tree) -> dict[str, Entry]:
            return {path: replace(entry, block=None) for path, entry in tree.entries.items()}

        return self is other or content(self) == content(other)
