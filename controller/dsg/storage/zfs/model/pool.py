"""One pool: its datasets by name, transaction groups, and what a power cut leaves."""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NoReturn

from dsg.storage.errors import (
    CommandFailed,
    InvalidValue,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    PoolSuspended,
    QuotaExceeded,
    ReadOnlyPool,
    StorageError,
)
from dsg.storage.host import PathKind
from dsg.storage.zfs.interface import DatasetKind, Pool, Scan, ZfsEvent
from dsg.storage.zfs.model import names, space
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.faults import Refusal
from dsg.storage.zfs.model.journal import Journal
from dsg.storage.zfs.model.tree import TREE_METADATA, Block, Entry, Tree, above, allocated

HISTORY = "sysevent.fs.zfs.history_event"
UNUSABLE = frozenset({"FAULTED", "UNAVAIL", "OFFLINE", "REMOVED"})


class Need(Enum):
    """How much of a full pool's reserve a change may use (zfs_space_check_t)."""

    NORMAL = 1
    """Nothing: it is refused as soon as the pool is full."""
    RESERVED = 2
    """Half of the slop space: setting properties, promoting, holding."""
    NONE = 4
    """All of it: destroying."""


@dataclass(eq=False, slots=True)
class Condition:
    """What a test says about a pool's devices; `status` and `action` are what zpool status prints."""

    health: str = "ONLINE"
    read_errors: int = 0
    write_errors: int = 0
    checksum_errors: int = 0
    data_errors: int = 0
    fragmentation_percent: int = 0
    scan: Scan = field(default_factory=Scan)
    status: str = ""
    action: str = ""


def refuse(code: int, kind: type[StorageError], message: str, subject: str) -> NoReturn:
    """Raise what OpenZFS answers: an errno for programs, an error for callers of the interface."""
    raise Refusal(code, kind(message, subject=subject))


class ModelPool:
    """A pool in memory. `size` is what it holds, in bytes; `condition` is free for tests to set."""

    def __init__(self, name: str, *, size: int, clock: Callable[[], float], seed: int = 0) -> None:
        self.name = name
        self.size = size
        self.clock = clock
        self.condition = Condition()
        self.readonly = False
        self.suspended = False
        self.journal = Journal()
        self.txg = 4
        self.random = random.Random(f"{name} {seed}")  # noqa: S311
        self.guid = self.number()
        self.serial = 0
        self.objset = 50
        self.loaded: set[Filesystem] = set()
        """Encryption roots whose key is in memory."""
        self.long_holds: Counter[Snapshot] = Counter()
        """Snapshots that somebody reads: sent, or mounted below `.zfs/snapshot`. Memory only."""
        self.unsynced: set[Filesystem] = set()
        self.intent_log: list[tuple[int, str, Entry | None]] = []
        """Synchronous writes since the last sync, as (filesystem's guid, path, entry): replayed after a power cut."""
        self.unlogged: dict[int, dict[str, Entry | None]] = {}
        """The other writes since the last sync, by filesystem's guid and path: lost at a power cut."""
        self.pending: list[ZfsEvent] = []
        self.deliver: Callable[[ZfsEvent], None] = lambda event: None
        self.root = self.new_filesystem(name, DatasetKind.FILESYSTEM, None, self.new_tree(), None)
        self.datasets: dict[str, Filesystem] = {name: self.root}

    # ---- numbers

    def number(self) -> int:
        """Return a fresh guid: 64 bits, so that half of them are negative to Lua."""
        return self.random.getrandbits(64) or 1

    def now(self) -> int:
        """Return the time in Unix seconds."""
        return int(self.clock())

    def next_objset(self) -> int:
        """Return a fresh object set number."""
        self.objset += 1
        return self.objset

    def block(self, size: int) -> Block:
        """Return space born in the open transaction group."""
        self.serial += 1
        return Block(self.serial, size, self.txg)

    def new_tree(self) -> Tree:
        """Return an empty filesystem's tree."""
        return Tree(Entry(PathKind.DIRECTORY), self.block(TREE_METADATA))

    def new_filesystem(
        self, name: str, kind: DatasetKind, parent: Filesystem | None, tree: Tree, origin: Snapshot | None
    ) -> Filesystem:
        """Return a filesystem that stands nowhere yet."""
        return Filesystem(
            name=name,
            kind=kind,
            parent=parent,
            guid=self.number(),
            txg=self.txg,
            created=self.now(),
            objset=self.next_objset(),
            tree=tree,
            origin=origin,
            children={},
            snapshots={},
            bookmarks={},
            local={},
            once={},
        )

    # ---- looking up

    def filesystem(self, name: str) -> Filesystem:
        """Return a filesystem; refuses with ENOENT."""
        found = self.datasets.get(name)
        if found is None:
            refuse(errno.ENOENT, NotFound, f"cannot open '{name}': dataset does not exist", name)
        return found

    def snapshot(self, name: str) -> Snapshot:
        """Return a snapshot by its full name; refuses with ENOENT."""
        dataset, _, tail = names.split(name)
        found = self.datasets.get(dataset)
        snapshot = found.snapshots.get(tail) if found is not None else None
        if snapshot is None:
            refuse(errno.ENOENT, NotFound, f"cannot open '{name}': dataset does not exist", name)
        return snapshot

    def either(self, name: str) -> Filesystem | Snapshot:
        """Return a filesystem or a snapshot; refuses with ENOENT."""
        return self.snapshot(name) if "@" in name else self.filesystem(name)

    def check_name(self, name: str, verb: str) -> None:
        """Refuse a name that OpenZFS does not allow."""
        reason = names.fault(name)
        if reason:
            code = errno.ENAMETOOLONG if "too long" in reason else errno.EINVAL
            refuse(code, InvalidValue, f"cannot {verb} '{name}': {reason}", name)

    # ---- whether anything can be changed

    @property
    def usable(self) -> bool:
        """Whether the pool's datasets can be opened."""
        return self.condition.health not in UNUSABLE

    def require_change(self, subject: str) -> None:
        """Refuse changes of a pool that is read-only, suspended or faulted."""
        if self.suspended:
            refuse(errno.EAGAIN, PoolSuspended, f"pool '{self.name}': pool I/O is currently suspended", subject)
        if not self.usable:
            refuse(errno.ENXIO, CommandFailed, f"pool '{self.name}' is {self.condition.health}: I/O error", subject)
        if self.readonly:
            refuse(errno.EROFS, ReadOnlyPool, f"cannot change '{subject}': pool is read-only", subject)

    def require_space(self, need: Need, subject: str) -> None:
        """Refuse changes of a full pool, up to the reserve that a change of this kind may use."""
        if need is not Need.NONE:
            reserve = space.slop(self.size) // need.value
            if space.used(self.root, live=True) >= self.size - reserve:
                refuse(errno.ENOSPC, OutOfSpace, f"cannot change '{subject}': out of space", subject)

    @property
    def usable_size(self) -> int:
        """What datasets may take in all, in bytes."""
        return self.size - space.slop(self.size)

    # ---- files

    def writable_tree(self, filesystem: Filesystem) -> Tree:
        """Return a filesystem's tree to write into: its own, with metadata born in the open transaction group."""
        if filesystem not in self.unsynced:
            filesystem.own_on_disk = space.own(filesystem)
            self.unsynced.add(filesystem)
            place: Filesystem | None = filesystem
            while place is not None and not place.unsynced:
                place.unsynced = True
                place = place.parent
        if filesystem.tree.frozen:
            self.journal.set(filesystem, "tree", filesystem.tree.copy())
        tree = filesystem.tree
        if tree.metadata is None or tree.metadata.birth < self.txg:
            self.journal.metadata(tree, self.block(TREE_METADATA))
        return tree

    def put_entry(self, filesystem: Filesystem, path: str, entry: Entry | None, *, durable: bool = False) -> None:
        """Write or remove one directory, link or file of a filesystem, within its limits.

        `durable` also writes the intent log, as fsync(2) does. Refuses as write(2) would: EROFS, ENOSPC, EDQUOT.
        An entry that has a block keeps it: only the attributes are others.
        """
        self.require_change(filesystem.name)
        if entry is not None and entry.kind is PathKind.OTHER and entry.block is None:
            entry = replace(entry, block=self.block(allocated(len(entry.data))))
        if entry is not None:
            self._check_limits(filesystem, path, entry)
        tree = self.writable_tree(filesystem)
        self.journal.replace(tree, path, entry)
        space.touch(filesystem)
        unlogged = self.unlogged.setdefault(filesystem.guid, {})
        if durable:
            # With an entry, the directories above it become durable, and that what was below it is gone.
            above_it = [other for other in unlogged if path.startswith(f"{other}/")]
            below_it = [other for other in unlogged if other.startswith(f"{path}/")]
            self._log(filesystem, {other: unlogged.pop(other) for other in [*above_it, *below_it]})
            unlogged.pop(path, None)
            self.intent_log.append((filesystem.guid, path, entry))
        else:
            unlogged[path] = entry

    def move_entry(self, filesystem: Filesystem, source: str, path: str) -> None:
        """Give a file or link of a filesystem another path, in place of what is there. Takes no space."""
        self.require_change(filesystem.name)
        tree = self.writable_tree(filesystem)
        entry = tree.entries[source]
        self.journal.replace(tree, source, None)
        self.journal.replace(tree, path, entry)
        space.touch(filesystem)
        self.unlogged.setdefault(filesystem.guid, {}).update({source: None, path: entry})

    def log_writes(self, filesystem: Filesystem) -> None:
        """Write what was written to a filesystem to the intent log, as syncfs(2) does; what was not yet."""
        self._log(filesystem, self.unlogged.pop(filesystem.guid, {}))

    def _log(self, filesystem: Filesystem, written: Mapping[str, Entry | None]) -> None:
        there = sorted((path, entry) for path, entry in written.items() if entry is not None)
        gone = sorted((path for path, entry in written.items() if entry is None), reverse=True)
        self.intent_log += [(filesystem.guid, path, entry) for path, entry in there]
        self.intent_log += [(filesystem.guid, path, None) for path in gone]

    def _check_limits(self, filesystem: Filesystem, path: str, entry: Entry) -> None:
        before = filesystem.tree.entries.get(path)
        freed = before.block.size if before is not None and before.block is not None else 0
        if before is not None and before.block is not None and before.block is not entry.block:
            snapshots = space.line(filesystem)
            last = snapshots[-1].txg if snapshots else (filesystem.origin.txg if filesystem.origin else 0)
            if before.block.birth <= last:
                freed = 0
        growth = (entry.block.size if entry.block is not None else 0) - freed
        if filesystem.tree.frozen:
            growth += TREE_METADATA
        if growth <= 0:
            return
        name = filesystem.name
        refquota = filesystem.own_number("refquota")
        size_before = before.block.size if before is not None and before.block is not None else 0
        size_after = entry.block.size if entry.block is not None else 0
        if refquota and filesystem.tree.size + size_after - size_before > refquota:
            refuse(errno.EDQUOT, QuotaExceeded, f"cannot write to '{name}': refquota of {refquota} bytes reached", name)
        if growth > space.available_below(filesystem, self.usable_size, live=True) + space.reserved_for_own(
            filesystem, live=True
        ):
            place: Filesystem | None = filesystem
            while place is not None:
                quota = place.own_number("quota")
                if quota and space.used(place, live=True) + growth > quota:
                    text = f"cannot write to '{name}': quota of '{place.name}', {quota} bytes, reached"
                    refuse(errno.EDQUOT, QuotaExceeded, text, name)
                place = place.parent
            refuse(errno.ENOSPC, OutOfSpace, f"cannot write to '{name}': pool '{self.name}' is full", name)

    # ---- transaction groups

    def event(self, dataset: str) -> None:
        """Note a change for the history; delivered when its transaction group is synced."""
        self.pending.append(ZfsEvent(HISTORY, self.name, dataset))

    def settle(self) -> None:
        """Count the writes of the open transaction group in the figures: they are being synced."""
        for filesystem in self.unsynced:
            filesystem.own_on_disk = None
            place: Filesystem | None = filesystem
            while place is not None and place.unsynced:
                place.unsynced = False
                place = place.parent
        self.unsynced.clear()

    def sync(self) -> None:
        """Write the open transaction group to disk and open the next. A suspended pool can't."""
        if self.suspended:
            return
        self.settle()
        self.journal.forget()
        self.intent_log.clear()
        self.unlogged.clear()
        self.txg += 1
        events, self.pending = self.pending, []
        for event in events:
            self.deliver(event)

    def lose_power(self) -> None:
        """Go back to the last transaction group on disk, then replay the intent log."""
        self.journal.undo()
        self.pending.clear()
        self.unlogged.clear()
        self.loaded.clear()
        self.long_holds.clear()
        for filesystem in self.datasets.values():
            space.forget(filesystem)
            filesystem.mounts = []
        self.unsynced.clear()
        self.suspended = False
        log, self.intent_log = self.intent_log, []
        by_guid = {filesystem.guid: filesystem for filesystem in self.datasets.values()} if log else {}
        for guid, path, entry in log:
            found = by_guid.get(guid)
            if found is not None and (not path or above(path) in found.tree.entries):
                self.journal.replace(self.writable_tree(found), path, entry)
                space.touch(found)
        self.txg += 1
        self.sync()

    # ---- as zpool(8) shows it

    def report(self) -> Pool:
        """Return the pool as `zpool list` and `zpool status` report it."""
        allocated_bytes = min(self.size, space.used(self.root))
        return Pool(
            name=self.name,
            guid=str(self.guid),
            health="SUSPENDED" if self.suspended else self.condition.health,
            size=self.size,
            allocated=allocated_bytes,
            free=self.size - allocated_bytes,
            fragmentation_percent=self.condition.fragmentation_percent,
            capacity_percent=allocated_bytes * 100 // self.size,
            readonly=self.readonly,
            read_errors=self.condition.read_errors,
            write_errors=self.condition.write_errors,
            checksum_errors=self.condition.checksum_errors,
            data_errors=self.condition.data_errors,
            scan=self.condition.scan,
            status=self.condition.status,
            action=self.condition.action,
        )

    def require_key(self, filesystem: Filesystem, kind: type[StorageError], verb: str) -> None:
        """Refuse what needs an encrypted filesystem's key while that is not loaded."""
        root = filesystem.encryption_root
        if root is not None and root not in self.loaded:
            text = f"cannot {verb} '{filesystem.name}': encryption key of '{root.name}' not loaded"
            refuse(errno.EACCES, kind, text, filesystem.name)


def read_only_mount(subject: str) -> NoReturn:
    """Refuse a write through a read-only mount."""
    refuse(errno.EROFS, PermissionDenied, f"cannot change '{subject}': read-only file system", subject)
