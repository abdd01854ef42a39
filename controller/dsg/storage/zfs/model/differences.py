"""What differs between a snapshot and a filesystem that descends from it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from dsg.storage.errors import InvalidValue
from dsg.storage.host import PathKind
from dsg.storage.zfs.interface import Change, ChangeKind, Diff
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.pool import refuse
from dsg.storage.zfs.model.tree import Block, Entry, Tree, above


def between(filesystem: Filesystem, snapshot: Snapshot, limit: int) -> Diff:
    """Return at most `limit` differences; refuses a filesystem that does not descend from the snapshot."""
    if not _descends(filesystem, snapshot):
        text = (
            f"cannot compare '{filesystem.name}' with '{snapshot.full_name}': not an earlier snapshot from the same fs"
        )
        refuse(errno.EXDEV, InvalidValue, text, filesystem.name)
    found = list(changes(snapshot.tree, filesystem.tree))
    return Diff(found[:limit], len(found) > limit)


def _descends(filesystem: Filesystem, snapshot: Snapshot) -> bool:
    place, latest = filesystem, snapshot.txg
    while place is not snapshot.filesystem:
        origin = place.origin
        if origin is None:
            return False
        place, latest = origin.filesystem, origin.txg
    return snapshot.txg <= latest


def changes(before: Tree, after: Tree) -> Iterator[Change]:
    """Yield what differs, by path.

    What was written anew differs even where its bytes are the same. A block is written once, so a file that is found
    elsewhere with the same one was moved.
    """
    old, new = before.entries, after.entries
    removed, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    moved = _moved(removed, added, old, new)
    renamed = set(moved.values())
    reordered = {above(path) for path in (*removed, *added)}
    for path in removed:
        if path in moved:
            yield Change(path, ChangeKind.RENAMED, new_path=moved[path])
        else:
            yield Change(path, ChangeKind.REMOVED, old[path].kind is PathKind.DIRECTORY)
    for path in added:
        if path not in renamed:
            yield Change(path, ChangeKind.ADDED, new[path].kind is PathKind.DIRECTORY)
    for path in sorted(old.keys() & new.keys()):
        yield from _at(path, old[path], new[path], names_changed=path in reordered)


def _moved(removed: list[str], added: list[str], old: dict[str, Entry], new: dict[str, Entry]) -> dict[str, str]:
    """Return where files went, by the path they had."""
    places: dict[Block, str] = {}
    for path in added:
        block = new[path].block
        if block is not None:
            places[block] = path
    found = {}
    for path in removed:
        block = old[path].block
        if block is not None and block in places:
            found[path] = places[block]
    return found


def _at(path: str, old: Entry, new: Entry, *, names_changed: bool) -> Iterator[Change]:
    was, is_now = old.kind is PathKind.DIRECTORY, new.kind is PathKind.DIRECTORY
    if old.kind is not new.kind or (old.kind is PathKind.LINK and old != new):
        yield Change(path, ChangeKind.REMOVED, was)
        yield Change(path, ChangeKind.ADDED, is_now)
    elif old != new or names_changed:
        yield Change(path, ChangeKind.MODIFIED, is_now)
