"""The things a pool holds: filesystems, snapshots, bookmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dsg.storage.zfs.interface import DatasetKind, Property, Source
from dsg.storage.zfs.model.tree import Tree


class Stored(NamedTuple):
    """A value set on a dataset, as that dataset shows it and as those below show it."""

    local: Property
    inherited: Property


def stored(dataset: str, value: str) -> Stored:
    """Return a value set on a dataset."""
    return Stored(Property(value, Source.LOCAL), Property(value, Source.INHERITED, dataset))


class Bookmark(NamedTuple):
    """What is left of a snapshot when only its place in history is kept."""

    guid: int
    txg: int
    created: int
    referenced: int


class Own(NamedTuple):
    """Space of one filesystem without those below it, in bytes (zfsprops(7))."""

    referenced: int
    written: int
    dataset: int
    snapshots: int


@dataclass(eq=False, slots=True)
class MountPoint:
    """One place where a filesystem or a snapshot of it is mounted; memory only.

    All mounts of one filesystem share `read_only`; a snapshot's is always so.
    """

    filesystem: Filesystem
    """For a snapshot: the one it belongs to, which cannot change while it is mounted."""
    directory: str
    read_only: bool
    number: int
    within: int
    """The number of the mount that holds the directory mounted on; 0 is the node's own file system."""
    place: str
    """The directory's path within that mount."""
    snapshot: Snapshot | None = None

    @property
    def source(self) -> str:
        """The name of what is mounted, as mountinfo shows it."""
        return self.filesystem.name if self.snapshot is None else self.snapshot.full_name

    @property
    def tree(self) -> Tree:
        """What is seen there."""
        return self.filesystem.tree if self.snapshot is None else self.snapshot.tree


@dataclass(eq=False, slots=True)
class Snapshot:
    """A frozen tree. `filesystem` changes when a clone is promoted."""

    filesystem: Filesystem
    name: str
    guid: int
    txg: int
    created: int
    objset: int
    tree: Tree
    local: dict[str, Stored]
    holds: dict[str, int]
    clones: dict[int, Filesystem]
    """By guid."""
    deferred: bool = False
    position: int = 0
    """Where it stands among its filesystem's snapshots; valid right after `space.line`."""

    @property
    def full_name(self) -> str:
        """`dataset@name`."""
        return f"{self.filesystem.name}@{self.name}"


@dataclass(eq=False, slots=True)
class Filesystem:
    """A filesystem, or a volume, whose content the model does not keep."""

    name: str
    kind: DatasetKind
    parent: Filesystem | None
    guid: int
    txg: int
    created: int
    objset: int
    tree: Tree
    origin: Snapshot | None
    children: dict[str, Filesystem]
    snapshots: dict[str, Snapshot]
    bookmarks: dict[str, Bookmark]
    local: dict[str, Stored]
    once: dict[str, str]
    """Properties fixed when it was created."""
    key: bytes | None = None
    """The wrapping key, on an encryption root."""
    encryption_root: Filesystem | None = None
    snapshots_changed: int = 0

    mounts: list[MountPoint] = field(default_factory=list)
    """Memory only."""
    own: Own | None = None
    """Cached; see `space`."""
    own_on_disk: Own | None = None
    """While the filesystem has writes in the open transaction group: its space as of the last one."""
    used: int | None = None
    charges: dict[str, int] = field(default_factory=dict)
    """Cached: what each child takes from this one, unused reservations included."""
    charged: int = 0
    """The sum of `charges`."""
    changed: set[str] = field(default_factory=set)
    """Children whose charge has to be worked out again."""
    line: list[Snapshot] | None = None
    unsynced: bool = False
    """Whether this or a filesystem below has writes in the open transaction group."""

    @property
    def mounted(self) -> bool:
        """Whether it is mounted anywhere."""
        return bool(self.mounts)

    def setting(self, name: str) -> str:
        """Return a native property's value set here or above; empty where nobody set it."""
        place: Filesystem | None = self
        while place is not None:
            found = place.local.get(name)
            if found is not None:
                return found.local.value
            place = place.parent
        return ""

    def own_number(self, name: str) -> int:
        """Return a number that is not inherited, such as quota; 0 where it is not set."""
        found = self.local.get(name)
        return int(found.local.value) if found is not None else 0
