"""Space: what is used, by whom, and what is left. The rules are those of dsl_dir.c and dsl_dataset.c.

What is used belongs to the filesystem in whose line a block was born; a clone is charged only for what it wrote
itself. As in OpenZFS, the figures that zfs(8) prints are those of the last transaction group that was synced; writes
of the open group show after it, while limits count them at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from dsg.storage.zfs.model.dataset import Filesystem, Own, Snapshot
from dsg.storage.zfs.model.tree import Block

SLOP_SHIFT = 5
SLOP_LEAST = 128 << 20
SLOP_MOST = 128 << 30
UNBOUNDED = 2**64 - 1


def slop(size: int) -> int:
    """Return what a pool keeps back of its size (spa_get_slop_space)."""
    return max(min(size >> SLOP_SHIFT, SLOP_MOST), min(size >> 1, SLOP_LEAST))


def touch(filesystem: Filesystem) -> None:
    """Forget what was worked out about a filesystem and those above it."""
    filesystem.own = None
    filesystem.line = None
    place = filesystem
    place.used = None
    while place.parent is not None:
        place.parent.used = None
        place.parent.changed.add(place.name)
        place = place.parent


def forget(filesystem: Filesystem) -> None:
    """Forget everything that was worked out about a filesystem."""
    filesystem.own = filesystem.own_on_disk = filesystem.line = filesystem.used = None
    filesystem.unsynced = False
    filesystem.charged = 0
    filesystem.charges.clear()
    filesystem.changed.update(filesystem.children)


def line(filesystem: Filesystem) -> list[Snapshot]:
    """Return a filesystem's snapshots, oldest first."""
    if filesystem.line is None:
        filesystem.line = sorted(filesystem.snapshots.values(), key=lambda snapshot: (snapshot.txg, snapshot.objset))
        for position, snapshot in enumerate(filesystem.line):
            snapshot.position = position
    return filesystem.line


def _size(blocks: Iterable[Block], since: int) -> int:
    return sum(block.size for block in blocks if block.birth > since)


def own(filesystem: Filesystem, *, live: bool = False) -> Own:
    """Return the space of one filesystem alone; `live` counts writes of the open transaction group."""
    if not live and filesystem.own_on_disk is not None:
        return filesystem.own_on_disk
    if filesystem.own is None:
        born = filesystem.origin.txg if filesystem.origin else 0
        snapshots = line(filesystem)
        kept: set[Block] = set()
        for snapshot in snapshots:
            kept.update(snapshot.tree.blocks)
        head = filesystem.tree.blocks
        filesystem.own = Own(
            referenced=filesystem.tree.size,
            written=_size(head, snapshots[-1].txg if snapshots else born),
            dataset=_size(head, born),
            snapshots=_size((block for block in kept if block not in head), born),
        )
    return filesystem.own


def reserved_for_own(filesystem: Filesystem, *, live: bool = False) -> int:
    """Return what a refreservation keeps beyond what is written (usedbyrefreservation)."""
    reservation = filesystem.own_number("refreservation")
    return max(0, reservation - own(filesystem, live=live).written) if reservation else 0


def children(filesystem: Filesystem, *, live: bool = False) -> int:
    """Return what those below use, unused reservations included (usedbychildren)."""
    if filesystem.unsynced and not live:
        return sum(_charge(child, live=False) for child in filesystem.children.values())
    while filesystem.changed:
        name = filesystem.changed.pop()
        child = filesystem.children.get(name)
        charge = _charge(child, live=True) if child is not None else 0
        filesystem.charged += charge - filesystem.charges.get(name, 0)
        filesystem.charges[name] = charge
        if child is None:
            del filesystem.charges[name]
    return filesystem.charged


def _charge(child: Filesystem, *, live: bool) -> int:
    return max(used(child, live=live), child.own_number("reservation"))


def used(filesystem: Filesystem, *, live: bool = False) -> int:
    """Return what a filesystem and everything below it use."""
    if filesystem.unsynced and not live:
        mine = own(filesystem)
        return mine.dataset + mine.snapshots + reserved_for_own(filesystem) + children(filesystem)
    if filesystem.used is None:
        mine = own(filesystem, live=True)
        filesystem.used = (
            mine.dataset + mine.snapshots + reserved_for_own(filesystem, live=True) + children(filesystem, live=True)
        )
    return filesystem.used


def available_below(filesystem: Filesystem, size: int, *, live: bool = False) -> int:
    """Return what a filesystem and those below may still take from a pool of some usable size, refquota aside."""
    taken = used(filesystem, live=live)
    quota = filesystem.own_number("quota") or UNBOUNDED
    if filesystem.parent is None:
        quota = min(quota, size)
        room = UNBOUNDED
    else:
        room = available_below(filesystem.parent, size, live=live)
        room += max(0, filesystem.own_number("reservation") - taken)
    return min(quota - taken, room) if taken <= quota else 0


def available(filesystem: Filesystem, size: int, *, live: bool = False) -> int:
    """Return what can still be written into a filesystem (the available property)."""
    room = available_below(filesystem, size, live=live) + reserved_for_own(filesystem, live=live)
    refquota = filesystem.own_number("refquota")
    if refquota:
        room = min(room, max(0, refquota - own(filesystem, live=live).referenced))
    return room


def snapshot_written(snapshot: Snapshot) -> int:
    """Return what was written between the snapshot before and this one."""
    snapshots = line(snapshot.filesystem)
    origin = snapshot.filesystem.origin
    since = snapshots[snapshot.position - 1].txg if snapshot.position else (origin.txg if origin else 0)
    return _size(snapshot.tree.blocks, since)


def snapshot_used(snapshot: Snapshot) -> int:
    """Return what only this snapshot holds: neither the one before nor the one after, nor the filesystem."""
    snapshots = line(snapshot.filesystem)
    origin = snapshot.filesystem.origin
    since = snapshots[snapshot.position - 1].txg if snapshot.position else (origin.txg if origin else 0)
    following = snapshot.position + 1
    after = snapshots[following].tree if following < len(snapshots) else snapshot.filesystem.tree
    return _size((block for block in snapshot.tree.blocks if block not in after.blocks), since)


def written_since(filesystem: Filesystem, snapshot: Snapshot) -> int:
    """Return what a filesystem refers to that a snapshot does not (written@snapshot)."""
    return sum(block.size for block in filesystem.tree.blocks if block not in snapshot.tree.blocks)
