"""The tree that a head becomes by a plan's changes, made here before the server makes it, by the server's rule.

`dsg.transactions.build` signs changes in the same way; when both come to one digest, no node has to be fetched back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsg.manifests import tree
from dsg.manifests.changes import Change, Gone
from dsg.manifests.compare import AUTHORED, aspects
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry
from dsg.manifests.ordering import OrderError
from dsg.manifests.tree import Finder, Put, Remove
from dsg.workcopy.base import Base


@dataclass(frozen=True, slots=True)
class Target:
    """What changes come to."""

    summary: Summary
    added: int
    changed: int
    deleted: int
    moved: int = 0
    """Of those added, files whose content the head had under another path."""


def empty(base: Base) -> Summary:
    """Return the tree of no entries, whose node is then here."""
    return tree.build([], base.put)


def make(base: Base, head: Summary, changes: Iterable[Change], author: str, version: str) -> Target:
    """Make the changes in a head whose nodes are here; new nodes are kept here."""
    counts = {"added": 0, "changed": 0, "deleted": 0, "moved": 0}
    find = Finder(base, head).find

    def signed() -> Iterator[Put | Remove]:
        for change in changes:
            if isinstance(change, Gone):
                counts["deleted"] += 1
                yield Remove(change.path)
                continue
            before = find(change.path)
            entry = change.signed(author, version)
            if before is not None:
                found = aspects(before, entry)
                if not found:
                    continue
                if not found & AUTHORED:
                    entry = change.signed(before.author, before.version)
            counts["changed" if before is not None else "added"] += 1
            counts["moved"] += before is None and change.source is not None
            yield Put(entry)

    updated = tree.update(base, head, signed(), base.put)
    return Target(updated.summary, **counts)


def without(base: Base, target: Summary, left: Iterable[str], cached: Callable[[str], Entry | None]) -> Summary:
    """Return the tree in which paths that were left alone are as the last sync had them, or not there."""
    paths = sorted(set(left), key=lambda path: path.encode("utf-8", "surrogateescape"))
    if not paths:
        return target
    find = Finder(base, target).find

    def changes(*, restore: bool) -> Iterator[Put | Remove]:
        for path in paths:
            before, now = cached(path) if restore else None, find(path)
            if before is not None:
                if before != now:
                    yield Put(before)
            elif now is not None:
                yield Remove(path)

    try:
        return tree.update(base, target, changes(restore=True), base.put).summary
    except OrderError:
        # What was there would stand where others have a directory now: then nothing is known of it.
        find = Finder(base, target).find
        return tree.update(base, target, changes(restore=False), base.put).summary
