"""What the open transaction group has changed, so that a power cut can take it back.

Every change of a pool's state on disk goes through a journal. A sync forgets it, a power cut undoes it: both cost as
much as was changed, whatever the pool holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dsg.storage.zfs.model.tree import Block, Entry, Tree


class Journal:
    """Changes since the last sync, newest last."""

    __slots__ = ("_undo",)

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._undo)

    def set(self, thing: object, attribute: str, value: object) -> None:
        """Set an attribute."""
        self._undo.append(partial(setattr, thing, attribute, getattr(thing, attribute)))
        setattr(thing, attribute, value)

    def put(self, mapping: dict[Any, Any], key: object, value: object) -> None:
        """Set a key of a mapping."""
        if key in mapping:
            self._undo.append(partial(mapping.__setitem__, key, mapping[key]))
        else:
            self._undo.append(partial(mapping.pop, key, None))
        mapping[key] = value

    def drop(self, mapping: dict[Any, Any], key: object) -> None:
        """Remove a key of a mapping; nothing happens where it is not there."""
        if key in mapping:
            self._undo.append(partial(mapping.__setitem__, key, mapping.pop(key)))

    def replace(self, tree: Tree, path: str, entry: Entry | None) -> None:
        """Put an entry into a tree, or take one out."""
        self._undo.append(partial(tree.replace, path, tree.replace(path, entry)))

    def metadata(self, tree: Tree, block: Block) -> None:
        """Write a tree's metadata anew."""
        self._undo.append(partial(tree.set_metadata, tree.set_metadata(block)))

    def forget(self) -> None:
        """Keep what was changed: it is on disk now."""
        self._undo.clear()

    def undo(self) -> None:
        """Take back everything since the last sync."""
        while self._undo:
            self._undo.pop()()
