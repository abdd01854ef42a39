"""What this project needs of OpenZFS, as one typed interface.

Two implementations keep the same contract (tests/contract): `command_line.CommandLineZfs` runs zfs(8) and zpool(8),
`dsg.storage.zfs.model.ModelZfs` keeps pools in memory. All calls are synchronous and may block up to their timeout;
callers on an event loop use a worker thread. Every change is durable when its call returns, as OpenZFS waits for the
transaction group. Sizes are bytes. Errors are those of `dsg.storage.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dsg.storage.keys import WrappingKey


class Source(StrEnum):
    """Where a property's value comes from (zfsprops(7))."""

    LOCAL = "local"
    DEFAULT = "default"
    INHERITED = "inherited"
    TEMPORARY = "temporary"
    RECEIVED = "received"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Property:
    """A property's value as `zfs get -p` prints it, and where it comes from."""

    value: str
    source: Source
    inherited_from: str = ""


class DatasetKind(StrEnum):
    """What a name in a pool stands for."""

    FILESYSTEM = "filesystem"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    BOOKMARK = "bookmark"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset or snapshot as it was read: its name, kind, and the properties asked for."""

    name: str
    kind: DatasetKind
    properties: Mapping[str, Property]

    def value(self, name: str) -> str | None:
        """Return the value of a property from whatever source; None where it was not read or is `-`."""
        found = self.properties.get(name)
        return None if found is None or found.value == "-" else found.value

    def local(self, name: str) -> str | None:
        """Return a property's value only where it was set on this dataset itself; user properties are inherited."""
        found = self.properties.get(name)
        return found.value if found is not None and found.source is Source.LOCAL else None

    def number(self, name: str) -> int:
        """Return a numeric property in bytes or counts; 0 where it has no value (`-` or `none`)."""
        text = self.value(name)
        return int(text) if text is not None and text.lstrip("-").isdigit() else 0


@dataclass(frozen=True, slots=True)
class Scan:
    """The last or running scrub or resilver of a pool; times are Unix seconds, 0 when unknown."""

    function: str = "none"
    """`none`, `scrub` or `resilver`."""
    state: str = "none"
    """`none`, `scanning`, `finished` or `canceled`."""
    started: int = 0
    ended: int = 0
    errors: int = 0
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as zpool(8) reports it."""

    name: str
    guid: str
    health: str
    """ONLINE, DEGRADED, FAULTED, OFFLINE, UNAVAIL, REMOVED or SUSPENDED."""
    size: int
    allocated: int
    free: int
    fragmentation_percent: int
    capacity_percent: int
    readonly: bool = False
    read_errors: int = 0
    write_errors: int = 0
    checksum_errors: int = 0
    """Sums over the pool's leaf devices."""
    data_errors: int = 0
    """Known files or objects with permanent errors."""
    scan: Scan = field(default_factory=Scan)
    status: str = ""
    """What zpool status says is wrong; empty when nothing is."""
    action: str = ""
    """What zpool status advises; empty when nothing is."""


@dataclass(frozen=True, slots=True)
class Version:
    """The version of the userland tools, as (major, minor, patch)."""

    major: int
    minor: int
    patch: int

    @property
    def json_output(self) -> bool:
        """Whether `-j` is offered: zfs list, get and zpool list, get, status since 2.3.0."""
        return (self.major, self.minor) >= (2, 3)


@dataclass(frozen=True, slots=True)
class Hold:
    """A user hold on a snapshot (zfs-hold(8))."""

    snapshot: str
    tag: str


@dataclass(frozen=True, slots=True)
class ZfsEvent:
    """Something happened in a pool; a hint to look, never the only trigger (zpool-events(8))."""

    name: str
    """The event's class, such as `sysevent.fs.zfs.history_event` or `sysevent.fs.zfs.pool_export`."""
    pool: str
    dataset: str = ""
    """The dataset of a history event; empty where the event is about the pool."""


class EventStream(Protocol):
    """Events as they come. One thread iterates; any thread may close."""

    def __iter__(self) -> Iterator[ZfsEvent]:
        """Yield events, blocking between them; ends after `close`.

        Raises CommandFailed when the source dies by itself.
        """

    def close(self) -> None:
        """End the stream and free what it holds; a second call does nothing."""


ProgramValue = None | bool | int | str | list["ProgramValue"] | dict[str, "ProgramValue"]
"""What a channel program can return: Lua's nil, booleans, 64-bit integers, strings and tables."""


class ChangeKind(StrEnum):
    """What became of a path between a snapshot and what the dataset holds now (zfs-diff(8))."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    """Content, attributes or number of links changed, or a directory's names did."""
    RENAMED = "renamed"
    """It stands elsewhere; its content may have changed too."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. Paths are relative to the dataset's root, which is "" itself.

    Bytes that are no UTF-8 are surrogates, as in `os.fsdecode`.
    """

    path: str
    kind: ChangeKind
    directory: bool = False
    """Whether a directory stands there; for REMOVED, stood there."""
    new_path: str = ""
    """Where it stands now; only with RENAMED."""


@dataclass(frozen=True, slots=True)
class Diff:
    """Some of the differences, in no order that means anything."""

    changes: Sequence[Change]
    more: bool
    """Whether there are more than were asked for."""


class Zfs(Protocol):
    """OpenZFS on one node."""

    def version(self) -> Version:
        """Return the version of the tools. Raises ZfsUnavailable."""

    def pools(self) -> Mapping[str, Pool]:
        """Return every imported pool by name. Costs a constant number of processes."""

    def read(
        self,
        roots: Sequence[str],
        properties: Sequence[str],
        *,
        kinds: Sequence[DatasetKind] = (DatasetKind.FILESYSTEM,),
        depth: int | None = None,
    ) -> Mapping[str, Dataset]:
        """Return the datasets of the given kinds at and below `roots`, with the named properties, by name.

        `depth` counts levels below each root, 0 for the roots alone, None for all. Roots that do not exist are left
        out: absence is an answer here. User properties that a dataset does not have are left out of `properties`;
        native ones that do not apply have the value `-`. One process, however many roots.
        """

    def create(self, name: str, properties: Mapping[str, str], *, key: WrappingKey | None = None) -> None:
        """Create a filesystem with local properties; it is not mounted.

        The properties land in a later transaction group than the filesystem: a power cut can leave it without them.

        An encrypted one names a key file on the node by `keylocation=file://…`, or has `keylocation=prompt` and `key`.
        Its key is loaded.
        Raises AlreadyExists, NotFound (the parent), InvalidValue, OutOfSpace, KeyUnavailable.
        """

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set local properties of a dataset or user properties of a snapshot, all with one command."""

    def inherit(self, name: str, properties: Sequence[str]) -> None:
        """Clear local values, so that the dataset inherits them or has the default."""

    def rename(self, name: str, new: str) -> None:
        """Rename a filesystem with everything below it, in one transaction group (zfs-rename(8)).

        Raises NotFound (the filesystem or the new parent), AlreadyExists, InvalidValue (into itself, another pool).
        """

    def destroy(self, name: str) -> None:
        """Destroy one filesystem or one snapshot, never recursively.

        Raises NotFound, HasDependents (children, snapshots, clones), Held, Busy (mounted and in use). A mounted but
        idle filesystem with mountpoint=legacy is not unmounted by this call: it raises Busy.
        """

    def destroy_snapshots(self, dataset: str, names: Sequence[str]) -> None:
        """Destroy snapshots of one dataset (names after the `@`) with one process; all or none where one is not free.

        Names that do not exist are passed over. Raises NotFound (the dataset), HasDependents (clones), Held.
        """

    def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        """Take snapshots (`dataset@name`) of one pool atomically, with user properties.

        Raises AlreadyExists, NotFound.
        """

    def clone(self, snapshot: str, name: str, properties: Mapping[str, str]) -> None:
        """Create a filesystem from a snapshot; it is not mounted. Raises NotFound, AlreadyExists."""

    def promote(self, name: str) -> None:
        """Make a clone the owner of its origin and all older snapshots (zfs-promote(8)).

        Raises AlreadyExists on a snapshot-name collision, InvalidValue when it is no clone, OutOfSpace when a quota
        above it cannot take what moves.
        """

    def hold(self, snapshots: Sequence[str], tag: str) -> None:
        """Put a user hold on snapshots. Raises NotFound, AlreadyExists (the tag)."""

    def release(self, snapshots: Sequence[str], tag: str) -> None:
        """Take a user hold away. Raises NotFound (the snapshot or the tag)."""

    def holds(self, snapshots: Sequence[str]) -> Sequence[Hold]:
        """Return the user holds of the given snapshots. Raises NotFound."""

    def diff(self, snapshot: str, dataset: str, *, limit: int = 50) -> Diff:
        """Return what differs between a snapshot and a dataset: its own, or one that descends from it by clones.

        At most `limit` differences are read; 0 asks whether there are any. The dataset must be mounted, and so must the
        filesystem that the snapshot belongs to now, which is another one for a clone, and for a former head after a
        promote. Read-only mounts will do, a mounted snapshot will not. Where the name now leads to something else, a
        path comes twice, REMOVED and ADDED; so may a renamed one. What a renamed directory holds is not told one by
        one. Extended attributes that are kept as files come as `name/<xattrdir>/attribute`. A file that was removed and
        is still open is not told, but the directory is.
        An empty answer is the only proof that nothing changed: `written` of an untouched clone can be 1 KiB.
        While it runs, the dataset has a snapshot `zfs-diff-…`, which is gone when it ends, however it ends.
        Raises NotFound (the snapshot or the dataset), NotMounted, InvalidValue (the dataset does not descend from it).
        """

    def program(self, pool: str, source: str, arguments: Sequence[str], *, sync: bool = True) -> ProgramValue:
        """Run a channel program (zfs-program(8)): all its changes land in one transaction group.

        `source` is Lua; the arguments are `...`.argv in it, as zfs-program(8) passes them. `sync=False` runs it
        read-only (`-n`). Returns what the program returns: lists come as objects with the keys `1`, `2`, …, nil as
        true, and strings lose characters beyond U+FFFF (as zfs-program(8) prints JSON). Nothing is rolled back when a
        program stops half-way.
        Raises ProgramFailed with the program's error, PoolNotFound.
        """

    def load_key(self, name: str, key: WrappingKey | None = None) -> None:
        """Load the key of an encryption root: the one given, else from its keylocation.

        Nothing happens when it is loaded already. Raises NotFound, KeyUnavailable (the file is missing, or nothing is
        given and keylocation=prompt), KeyWrong.
        """

    def opens(self, name: str, key: WrappingKey) -> bool:
        """Return whether a key is that of an encryption root, loaded or not; nothing changes (zfs-load-key(8), `-n`).

        Raises NotFound, InvalidValue (no encryption root).
        """

    def change_key(self, name: str, key: WrappingKey) -> None:
        """Wrap the keys of an encryption root and of all below it with another wrapping key (zfs-change-key(8)).

        One transaction group; afterwards the new key is loaded, `keylocation=prompt` and `keyformat=raw`. Raises
        NotFound, KeyUnavailable while the present one is not loaded, InvalidValue (not encrypted).
        """

    def unload_key(self, name: str) -> None:
        """Unload a key. Raises NotFound, Busy while a dataset below is mounted, KeyUnavailable when none is loaded."""

    def events(self) -> EventStream:
        """Begin to follow what happens in the pools (zpool-events(8), `-f`), from now on. Raises ZfsUnavailable."""
