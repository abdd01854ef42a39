"""What changes a pool's datasets. Each function checks, then changes memory; the caller syncs the transaction group.

With `apply=False` only the check is made (zfs.check.* of channel programs). Checks and their order follow
dsl_dataset.c, dsl_destroy.c and dsl_userhold.c of OpenZFS 2.3, and what OpenZFS 2.3.9 answered when asked.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    HasDependents,
    Held,
    InvalidValue,
    NotFound,
    OutOfSpace,
)
from dsg.storage.zfs.interface import DatasetKind
from dsg.storage.zfs.model import names, space
from dsg.storage.zfs.model.dataset import Bookmark, Filesystem, Snapshot, stored
from dsg.storage.zfs.model.pool import ModelPool, Need, refuse
from dsg.storage.zfs.model.tree import Tree

MAX_TAG = 255


def _place(pool: ModelPool, name: str) -> Filesystem:
    """Return the parent for a new dataset; refuses what cannot be created there."""
    pool.check_name(name, "create")
    dataset, delimiter, _ = names.split(name)
    if delimiter:
        refuse(
            errno.EINVAL, InvalidValue, f"cannot create '{name}': delimiter '{delimiter}' is not expected here", name
        )
    pool.require_change(name)
    if dataset in pool.datasets:
        refuse(errno.EEXIST, AlreadyExists, f"cannot create '{name}': dataset already exists", name)
    parent = pool.datasets.get(names.parent_of(name))
    if parent is None:
        refuse(errno.ENOENT, NotFound, f"cannot create '{name}': parent does not exist", name)
    if parent.kind is not DatasetKind.FILESYSTEM:
        refuse(errno.EINVAL, InvalidValue, f"cannot create '{name}': parent is not a filesystem", name)
    return parent


def _attach(pool: ModelPool, filesystem: Filesystem, parent: Filesystem) -> None:
    pool.journal.put(pool.datasets, filesystem.name, filesystem)
    pool.journal.put(parent.children, filesystem.name, filesystem)
    space.touch(filesystem)
    pool.event(filesystem.name)


def create(pool: ModelPool, name: str, kind: DatasetKind = DatasetKind.FILESYSTEM) -> Filesystem:
    """Create a filesystem, or a volume, without properties."""
    parent = _place(pool, name)
    pool.require_space(Need.NORMAL, name)
    tree = pool.new_tree()
    room = space.available_below(parent, pool.usable_size, live=True)
    if tree.size > room:
        refuse(errno.EDQUOT, OutOfSpace, f"cannot create '{name}': out of space", name)
    filesystem = pool.new_filesystem(name, kind, parent, tree, None)
    _attach(pool, filesystem, parent)
    return filesystem


def clone(pool: ModelPool, snapshot_name: str, name: str) -> Filesystem:
    """Create a filesystem whose content is a snapshot's. Nothing is inherited from the origin but its encryption."""
    snapshot = pool.snapshot(snapshot_name)
    parent = _place(pool, name)
    pool.require_space(Need.NORMAL, name)
    filesystem = pool.new_filesystem(name, snapshot.filesystem.kind, parent, snapshot.tree, snapshot)
    filesystem.once = dict(snapshot.filesystem.once)
    filesystem.encryption_root = snapshot.filesystem.encryption_root
    pool.journal.put(snapshot.clones, filesystem.guid, filesystem)
    _attach(pool, filesystem, parent)
    return filesystem


def rename(pool: ModelPool, name: str, new: str) -> None:
    """Give a filesystem and all below it another name; what is mounted stays mounted."""
    filesystem = pool.filesystem(name)
    old_parent = filesystem.parent
    if old_parent is None:
        refuse(errno.EINVAL, InvalidValue, f"cannot rename '{name}': operation does not apply to pools", name)
    if new == name or new.startswith(name + "/"):
        text = f"cannot rename '{name}': a dataset can't be renamed into itself"
        refuse(errno.EINVAL, InvalidValue, text, name)
    parent = _place(pool, new)
    _check_move(pool, filesystem, new, parent)
    pool.event(name)
    pool.journal.drop(old_parent.children, name)
    space.touch(filesystem)
    pool.journal.set(filesystem, "parent", parent)
    pool.journal.put(parent.children, new, filesystem)
    _rename_below(pool, filesystem, new)
    space.touch(filesystem)
    pool.event(new)


def _check_move(pool: ModelPool, filesystem: Filesystem, new: str, parent: Filesystem) -> None:
    """Refuse a rename that makes names too long, leaves an encryption root, or exceeds a quota on the way up."""
    name = filesystem.name
    for place in _subtree(filesystem):
        longest = max((len(tail.encode()) + 1 for tail in (*place.snapshots, *place.bookmarks)), default=0)
        if len(f"{new}{place.name.removeprefix(name)}".encode()) + longest > names.MAX_NAME:
            refuse(errno.ENAMETOOLONG, InvalidValue, f"cannot rename '{name}': dataset name is too long", name)
    root = filesystem.encryption_root
    if root is not None and root is not filesystem and parent.encryption_root is not root:
        text = f"cannot rename '{name}': cannot move encrypted child outside of its encryption root"
        refuse(errno.EACCES, InvalidValue, text, name)
    moved = max(space.used(filesystem, live=True), filesystem.own_number("reservation"))
    if _blocking_quota(filesystem, parent, moved) is not None:
        refuse(errno.EDQUOT, OutOfSpace, f"cannot rename '{name}': out of space below '{parent.name}'", name)


def _subtree(filesystem: Filesystem) -> Iterator[Filesystem]:
    yield filesystem
    for child in filesystem.children.values():
        yield from _subtree(child)


def _blocking_quota(source: Filesystem, target: Filesystem, moved: int) -> Filesystem | None:
    """Return the first filesystem whose quota is too small for what moves to the target, the shared ones aside."""
    shared = set()
    place: Filesystem | None = source
    while place is not None:
        shared.add(place.name)
        place = place.parent
    place = target
    while place is not None and place.name not in shared:
        quota = place.own_number("quota")
        if quota and space.used(place, live=True) + moved > quota:
            return place
        place = place.parent
    return None


def _rename_below(pool: ModelPool, filesystem: Filesystem, new: str) -> None:
    pool.journal.drop(pool.datasets, filesystem.name)
    for key, value in list(filesystem.local.items()):
        pool.journal.put(filesystem.local, key, stored(new, value.local.value))
    for old_name, child in list(filesystem.children.items()):
        below = f"{new}/{old_name.rpartition('/')[2]}"
        pool.journal.drop(filesystem.children, old_name)
        pool.journal.put(filesystem.children, below, child)
        filesystem.changed.update((old_name, below))
        _rename_below(pool, child, below)
    pool.journal.set(filesystem, "name", new)
    pool.journal.put(pool.datasets, new, filesystem)


def destroy_filesystem(pool: ModelPool, name: str, *, apply: bool = True) -> None:
    """Destroy a filesystem that has no children, no snapshots, and is mounted nowhere."""
    filesystem = pool.filesystem(name)
    pool.require_change(name)
    if filesystem.snapshots:
        text = f"cannot destroy '{name}': filesystem has children: {name}@{min(filesystem.snapshots)}"
        refuse(errno.EBUSY, HasDependents, text, name)
    if filesystem.children:
        code = errno.EBUSY if filesystem.mounted else errno.EEXIST
        refuse(
            code, HasDependents, f"cannot destroy '{name}': filesystem has children: {min(filesystem.children)}", name
        )
    if filesystem.mounted:
        refuse(errno.EBUSY, Busy, f"cannot destroy '{name}': dataset is busy (mounted)", name)
    if filesystem.parent is None:
        refuse(errno.EEXIST, InvalidValue, f"cannot destroy '{name}': operation does not apply to pools", name)
    if not apply:
        return
    pool.event(name)
    pool.journal.drop(pool.datasets, name)
    pool.journal.drop(filesystem.parent.children, name)
    pool.loaded.discard(filesystem)
    space.touch(filesystem)
    if filesystem.origin is not None:
        origin = filesystem.origin
        pool.journal.drop(origin.clones, filesystem.guid)
        if origin.deferred and not origin.clones and not origin.holds:
            _remove_snapshot(pool, origin)


def _remove_snapshot(pool: ModelPool, snapshot: Snapshot) -> None:
    filesystem = snapshot.filesystem
    pool.event(snapshot.full_name)
    pool.journal.drop(filesystem.snapshots, snapshot.name)
    pool.journal.set(filesystem, "snapshots_changed", pool.now())
    space.touch(filesystem)


def destroy_snapshot(pool: ModelPool, name: str, *, defer: bool = False, apply: bool = True) -> None:
    """Destroy a snapshot without holds and clones; `defer` waits for both to go. A missing one is passed over."""
    dataset, _, tail = names.split(name)
    filesystem = pool.datasets.get(dataset)
    snapshot = filesystem.snapshots.get(tail) if filesystem is not None else None
    pool.require_change(name)
    if snapshot is None:
        return
    if pool.long_holds[snapshot] > 0:
        refuse(errno.EBUSY, Busy, f"cannot destroy snapshot '{name}': dataset is busy", name)
    if not defer:
        if snapshot.holds:
            text = f"cannot destroy snapshot '{name}': it's being held by {', '.join(sorted(snapshot.holds))}"
            refuse(errno.EBUSY, Held, text, name)
        if snapshot.clones:
            clones = ", ".join(sorted(clone.name for clone in snapshot.clones.values()))
            text = f"cannot destroy '{name}': snapshot has dependent clones: {clones}"
            refuse(errno.EEXIST, HasDependents, text, name)
    if not apply:
        return
    if snapshot.holds or snapshot.clones:
        pool.journal.set(snapshot, "deferred", True)
    else:
        _remove_snapshot(pool, snapshot)


def snapshot(
    pool: ModelPool, snapshots: Sequence[str], properties: Mapping[str, str] | None = None, *, apply: bool = True
) -> None:
    """Take snapshots of several filesystems at one moment, all or none."""
    places = []
    for name in snapshots:
        dataset, delimiter, tail = names.split(name)
        if delimiter != "@":
            refuse(errno.EINVAL, InvalidValue, f"cannot create snapshot '{name}': it names no snapshot", name)
        pool.check_name(name, "create snapshot")
        filesystem = pool.filesystem(dataset)
        pool.require_change(name)
        pool.require_space(Need.NORMAL, name)
        if any(taken.txg >= pool.txg for taken in filesystem.snapshots.values()):
            text = f"cannot create snapshot '{name}': another was taken in the same transaction group"
            refuse(errno.EAGAIN, Busy, text, name)
        if tail in filesystem.snapshots:
            refuse(errno.EEXIST, AlreadyExists, f"cannot create snapshot '{name}': dataset already exists", name)
        places.append((filesystem, tail))
    if len({filesystem.name for filesystem, _ in places}) < len(places):
        text = "cannot create snapshots: multiple snapshots of same fs not allowed"
        refuse(errno.EXDEV, InvalidValue, text, snapshots[0])
    if apply:
        for filesystem, tail in places:
            _take(pool, filesystem, tail, properties or {})


def _take(pool: ModelPool, filesystem: Filesystem, tail: str, properties: Mapping[str, str]) -> None:
    filesystem.tree.frozen = True
    taken = Snapshot(
        filesystem=filesystem,
        name=tail,
        guid=pool.number(),
        txg=pool.txg,
        created=pool.now(),
        objset=pool.next_objset(),
        tree=filesystem.tree,
        local={name: stored(f"{filesystem.name}@{tail}", value) for name, value in properties.items()},
        holds={},
        clones={},
    )
    pool.journal.put(filesystem.snapshots, tail, taken)
    pool.journal.set(filesystem, "snapshots_changed", pool.now())
    space.touch(filesystem)
    pool.event(taken.full_name)


def promote(pool: ModelPool, name: str, *, apply: bool = True) -> list[str]:
    """Make a clone the owner of its origin and everything older; returns the names of snapshots in the way, if any.

    Snapshots and bookmarks up to the origin move, with their properties, holds and clones. Later snapshots, local
    properties and children stay where they are. Refuses when names collide (EEXIST), when somebody reads a moving
    snapshot (EBUSY), when the clone's limits cannot take what moves.
    """
    filesystem = pool.filesystem(name)
    pool.require_change(name)
    pool.require_space(Need.RESERVED, name)
    origin = filesystem.origin
    if origin is None:
        refuse(errno.EINVAL, InvalidValue, f"cannot promote '{name}': not a cloned filesystem", name)
    former = origin.filesystem
    moving = [taken for taken in space.line(former) if taken.txg <= origin.txg]
    bookmarks = {key: mark for key, mark in former.bookmarks.items() if mark.txg <= origin.txg}
    for taken in moving:
        if pool.long_holds[taken] > 0:
            text = f"cannot promote '{name}': snapshot '{taken.full_name}' is busy: it is being sent or is mounted"
            refuse(errno.EBUSY, Busy, text, name)
        if len(f"{name}@{taken.name}".encode()) > names.MAX_NAME:
            text = f"cannot promote '{name}': snapshot name '{taken.name}' would become too long"
            refuse(errno.ENAMETOOLONG, InvalidValue, text, name)
    conflicts = [taken.name for taken in moving if taken.name in filesystem.snapshots]
    conflicts += [key for key in bookmarks if key in filesystem.bookmarks]
    if conflicts:
        return conflicts
    _check_transfer(pool, filesystem, former, origin, moving)
    if apply:
        _transfer(pool, filesystem, former, origin, moving, bookmarks)
    return []


def _check_transfer(
    pool: ModelPool, filesystem: Filesystem, former: Filesystem, origin: Snapshot, moving: Sequence[Snapshot]
) -> None:
    """Refuse when what moves does not fit below the limits that the two do not share (dsl_dir_transfer_possible)."""
    born = former.origin.txg if former.origin is not None else 0
    blocks = {block for taken in moving for block in taken.tree.blocks if block.birth > born}
    moved = sum(block.size for block in blocks)
    blocking = _blocking_quota(former, filesystem, moved)
    if blocking is not None:
        text = (
            f"cannot promote '{filesystem.name}': the snapshots up to '{origin.full_name}' take {moved} bytes, "
            f"more than the quota of '{blocking.name}' leaves"
        )
        refuse(errno.EDQUOT, OutOfSpace, text, filesystem.name)


def _transfer(
    pool: ModelPool,
    filesystem: Filesystem,
    former: Filesystem,
    origin: Snapshot,
    moving: Sequence[Snapshot],
    bookmarks: Mapping[str, Bookmark],
) -> None:
    journal = pool.journal
    for taken in moving:
        journal.drop(former.snapshots, taken.name)
        journal.put(filesystem.snapshots, taken.name, taken)
        journal.set(taken, "filesystem", filesystem)
    for key, mark in bookmarks.items():
        journal.drop(former.bookmarks, key)
        journal.put(filesystem.bookmarks, key, mark)
    journal.set(filesystem, "origin", former.origin)
    if former.origin is not None:
        journal.drop(former.origin.clones, former.guid)
        journal.put(former.origin.clones, filesystem.guid, filesystem)
    journal.set(former, "origin", origin)
    journal.drop(origin.clones, filesystem.guid)
    journal.put(origin.clones, former.guid, former)
    for changed in (filesystem, former):
        journal.set(changed, "snapshots_changed", pool.now())
        space.touch(changed)
    if former.encryption_root is former and filesystem.encryption_root is former:
        _move_key(pool, former, filesystem)
    pool.event(filesystem.name)


def _move_key(pool: ModelPool, former: Filesystem, filesystem: Filesystem) -> None:
    """Make the promoted clone the encryption root in place of its former one, as OpenZFS does."""
    for dataset in pool.datasets.values():
        if dataset.encryption_root is former:
            pool.journal.set(dataset, "encryption_root", filesystem)
    pool.journal.set(filesystem, "key", former.key)
    pool.journal.set(former, "key", None)
    location = former.local.get("keylocation")
    if location is not None:
        pool.journal.drop(former.local, "keylocation")
        pool.journal.put(filesystem.local, "keylocation", stored(filesystem.name, location.local.value))
    if former in pool.loaded:
        pool.loaded.discard(former)
        pool.loaded.add(filesystem)


def rollback(pool: ModelPool, name: str, *, apply: bool = True) -> str:
    """Return a filesystem to its newest snapshot and say which; refuses when it is mounted."""
    filesystem = pool.filesystem(name)
    pool.require_change(name)
    snapshots = space.line(filesystem)
    if not snapshots:
        refuse(errno.ENOENT, NotFound, f"cannot rollback '{name}': it has no snapshot", name)
    target = snapshots[-1]
    if filesystem.mounted:
        refuse(errno.EBUSY, Busy, f"cannot rollback '{name}': dataset is busy (mounted)", name)
    if any(mark.txg > target.txg for mark in filesystem.bookmarks.values()):
        refuse(errno.EEXIST, HasDependents, f"cannot rollback '{name}': there are newer bookmarks", name)
    if apply:
        tree: Tree = target.tree
        pool.journal.set(filesystem, "tree", tree)
        space.touch(filesystem)
        pool.event(name)
    return target.full_name


def rename_snapshot(pool: ModelPool, dataset: str, old: str, new: str, *, apply: bool = True) -> None:
    """Give a snapshot another name."""
    filesystem = pool.filesystem(dataset)
    taken = pool.snapshot(f"{dataset}@{old}")
    pool.check_name(f"{dataset}@{new}", "rename to")
    pool.require_change(taken.full_name)
    if new in filesystem.snapshots:
        refuse(errno.EEXIST, AlreadyExists, f"cannot rename to '{dataset}@{new}': dataset already exists", dataset)
    if apply:
        pool.journal.drop(filesystem.snapshots, old)
        pool.journal.put(filesystem.snapshots, new, taken)
        pool.journal.set(taken, "name", new)
        pool.journal.set(filesystem, "snapshots_changed", pool.now())
        filesystem.line = None
        pool.event(taken.full_name)


def bookmark(pool: ModelPool, source: str, name: str, *, apply: bool = True) -> None:
    """Keep a snapshot's place in history as a bookmark of the same filesystem."""
    taken = pool.snapshot(source)
    pool.check_name(name, "create bookmark")
    dataset, delimiter, tail = names.split(name)
    if delimiter != "#":
        refuse(errno.EINVAL, InvalidValue, f"cannot create bookmark '{name}': it names no bookmark", name)
    filesystem = pool.filesystem(dataset)
    pool.require_change(name)
    if taken.filesystem is not filesystem:
        refuse(errno.EXDEV, InvalidValue, f"cannot create bookmark '{name}': '{source}' is of another filesystem", name)
    if tail in filesystem.bookmarks:
        refuse(errno.EEXIST, AlreadyExists, f"cannot create bookmark '{name}': bookmark exists", name)
    if apply:
        mark = Bookmark(taken.guid, taken.txg, taken.created, taken.tree.size)
        pool.journal.put(filesystem.bookmarks, tail, mark)
        pool.event(name)


def hold(pool: ModelPool, name: str, tag: str) -> None:
    """Put a user hold on one snapshot."""
    if names.split(name)[1] != "@":
        refuse(errno.EINVAL, InvalidValue, f"cannot hold '{name}': it is not a snapshot", name)
    taken = pool.snapshot(name)
    pool.require_change(name)
    pool.require_space(Need.RESERVED, name)
    if len(tag.encode()) > MAX_TAG:
        refuse(errno.E2BIG, InvalidValue, f"cannot hold snapshot '{name}': tag too long", name)
    if tag in taken.holds:
        refuse(errno.EEXIST, AlreadyExists, f"cannot hold snapshot '{name}': tag already exists on this dataset", name)
    pool.journal.put(taken.holds, tag, pool.now())
    pool.event(name)


def release(pool: ModelPool, name: str, tag: str) -> None:
    """Take a user hold off one snapshot; the last one off a deferred snapshot destroys it."""
    taken = pool.snapshot(name)
    pool.require_change(name)
    if tag not in taken.holds:
        text = f"cannot release hold from snapshot '{name}': no such tag on this dataset"
        refuse(errno.ESRCH, NotFound, text, name)
    pool.journal.drop(taken.holds, tag)
    pool.event(name)
    if taken.deferred and not taken.holds and not taken.clones:
        _remove_snapshot(pool, taken)
