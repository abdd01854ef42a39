"""A storage node in memory: its pools, its file namespace, its power, and the faults that strike it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    CommandTimeout,
    InvalidValue,
    NotFound,
    PoolNotFound,
    ReadOnlyPool,
)
from dsg.storage.host import PathKind
from dsg.storage.zfs.interface import DatasetKind, Version, ZfsEvent
from dsg.storage.zfs.model import changes, names
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.events import ModelEventStream
from dsg.storage.zfs.model.faults import FaultHook, Moment, PowerCut, Refusal
from dsg.storage.zfs.model.namespace import ROOT, Namespace, Place
from dsg.storage.zfs.model.pool import ModelPool, read_only_mount
from dsg.storage.zfs.model.tree import Entry, above

GIB = 1 << 30
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class OpenFile:
    """A file that a process has open; it has no path any more when it was removed or replaced."""

    mount: int
    path: str | None


class ModelNode:
    """One storage node. `ModelZfs` and `ModelHost` act on it; tests also write files, cut power and break pools.

    Attributes for tests: `faults` (a hook called around every operation), `calls` (how often each operation was
    called), `hanging` (while true, operations that start a process raise CommandTimeout and have no effect),
    `tools` (the version that the tools report), `key_files` (content of key files by path).

    What a power cut keeps: everything that an operation changed in a pool, once it has returned; file writes that were
    synced (fsync through `sync=True`, any later change of the same pool, or `sync`); of the node's own file system,
    the entries of a directory that was fsynced after them, as `Host.point_link` does. All else is lost.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, seed: int = 0) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.seed = seed
        self.pools: dict[str, ModelPool] = {}
        self.exported: dict[str, ModelPool] = {}
        self.files = Namespace()
        self.key_files: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.faults: FaultHook | None = None
        self.hanging = False
        self.tools = Version(2, 3, 9)
        self.boots = 0
        self._running: tuple[str, Mapping[str, object]] | None = None
        self._deferred: BaseException | None = None
        self._streams: list[ModelEventStream] = []
        self._users: Counter[int] = Counter()
        self._writers: Counter[int] = Counter()
        self._open: list[OpenFile] = []
        """What is open for writing."""

    # ---- running operations

    def perform(
        self, name: str, arguments: Mapping[str, object], action: Callable[[], T], *, starts_process: bool = True
    ) -> T:
        """Run one operation of an interface with the faults around it, one operation at a time."""
        with self.lock:
            boots = self.boots
            self.calls[name] += 1
            self._running = name, arguments
            self._deferred = None
            try:
                self._strike(Moment.BEFORE, boots)
                if self.hanging and starts_process:
                    raise CommandTimeout(f"{name} did not end in time; it may still be running")
                try:
                    result = action()
                except Refusal as refusal:
                    raise (self._deferred or refusal.error) from None
                if self._deferred is not None:
                    raise self._deferred
                self._strike(Moment.AFTER, boots)
                return result
            finally:
                self._running = None
                self._deferred = None

    def _strike(self, moment: Moment, boots: int) -> None:
        if self.faults is not None and self._running is not None:
            self.faults(moment, *self._running)
            if self.boots != boots:
                raise PowerCut

    def change_in_memory(self) -> None:
        """Let a fault strike between a change and its becoming durable; without a power cut the operation goes on."""
        boots = self.boots
        try:
            self._strike(Moment.DURING, boots)
        except BaseException as error:
            if self.boots != boots:
                raise
            self._deferred = self._deferred or error

    def commit(self, pool: ModelPool) -> None:
        """Write a pool's open transaction group to disk, as every administrative change waits for."""
        self.change_in_memory()
        if pool.suspended:
            raise CommandTimeout(f"pool '{pool.name}' was suspended during the call", subject=pool.name)
        pool.sync()

    # ---- pools

    def add_pool(self, name: str, *, size: int = 10 * GIB, mountpoint: str = "none") -> ModelPool:
        """Create a pool of a size in bytes, imported, with nothing but its root dataset."""
        with self.lock:
            if name in self.pools or name in self.exported:
                raise AlreadyExists(f"pool '{name}' exists", subject=name)
            fault = names.fault(name)
            if fault or "/" in name:
                raise InvalidValue(f"cannot create pool '{name}': {fault or 'invalid character'}", subject=name)
            pool = ModelPool(name, size=size, clock=self.clock, seed=self.seed)
            pool.deliver = self.deliver
            self.pools[name] = pool
            if mountpoint:
                from dsg.storage.zfs.model import values

                values.store(pool, pool.root, {"mountpoint": mountpoint})
            pool.sync()
            return pool

    def pool(self, name: str) -> ModelPool:
        """Return the imported pool that a name lies in. Raises PoolNotFound."""
        found = self.pools.get(names.pool_of(name))
        if found is None:
            text = f"no such pool '{names.pool_of(name)}': it is not imported on this node"
            raise PoolNotFound(text, subject=name)
        return found

    def export_pool(self, name: str) -> None:
        """Export a pool. Raises Busy while one of its filesystems is mounted, PoolNotFound."""
        with self.lock:
            pool = self.pool(name)
            if any(True for _ in self.files.of_pool(name)):
                raise Busy(f"cannot export '{name}': pool is busy", subject=name)
            pool.sync()
            pool.loaded.clear()
            pool.long_holds.clear()
            self.exported[name] = self.pools.pop(name)
            self.deliver(ZfsEvent("sysevent.fs.zfs.pool_export", name))

    def import_pool(self, name: str, *, readonly: bool = False) -> None:
        """Import an exported pool, mounting nothing. Raises PoolNotFound."""
        with self.lock:
            pool = self.exported.pop(name, None)
            if pool is None:
                raise PoolNotFound(f"cannot import '{name}': no such pool available", subject=name)
            pool.readonly = readonly
            self.pools[name] = pool
            self.deliver(ZfsEvent("sysevent.fs.zfs.pool_import", name))

    def suspend(self, name: str) -> None:
        """Let a pool lose its devices: changes raise PoolSuspended, and what is in flight waits for `resume`."""
        with self.lock:
            self.pool(name).suspended = True

    def resume(self, name: str) -> None:
        """Give a suspended pool its devices back; what was waiting becomes durable (zpool clear)."""
        with self.lock:
            pool = self.pool(name)
            pool.suspended = False
            pool.sync()

    def sync(self) -> None:
        """Make everything durable: every pool's open transaction group, and the node's own file system."""
        with self.lock:
            for pool in self.pools.values():
                if not pool.readonly:
                    pool.sync()
            self.files.own.sync()

    def power_cut(self, *, flushed: bool = False) -> None:
        """Cut the power and boot again: what was not durable is lost, nothing is mounted, no key is loaded.

        Pools that were imported are imported again. With `flushed`, everything happened to reach the disk just before.
        """
        with self.lock:
            self.boots += 1
            if flushed:
                self.sync()
            self.files.forget_mounts()
            for pool in self.pools.values():
                pool.lose_power()
            self.files.own.lose_power()
            self.key_files = {path: key for path, key in self.key_files.items() if not path.startswith("/run/")}
            self._users.clear()
            self._writers.clear()
            self._open.clear()
            streams, self._streams = self._streams, []
            for stream in streams:
                stream.fail("the node lost power")

    # ---- events

    def deliver(self, event: ZfsEvent) -> None:
        """Give an event to everybody who follows."""
        for stream in self._streams:
            stream.deliver(event)

    def follow(self) -> ModelEventStream:
        """Return a new stream of events, from now on."""
        stream = ModelEventStream(self._unfollow)
        self._streams.append(stream)
        return stream

    def _unfollow(self, stream: ModelEventStream) -> None:
        with self.lock:
            if stream in self._streams:
                self._streams.remove(stream)

    # ---- what users and other tools do on the node

    def dataset(self, name: str) -> Filesystem:
        """Return a filesystem as the model keeps it. Raises NotFound, PoolNotFound."""
        try:
            return self.pool(name).filesystem(name)
        except Refusal as refusal:
            raise refusal.error from None

    def snapshot(self, name: str) -> Snapshot:
        """Return a snapshot as the model keeps it. Raises NotFound, PoolNotFound."""
        try:
            return self.pool(name).snapshot(name)
        except Refusal as refusal:
            raise refusal.error from None

    def create_volume(self, name: str) -> None:
        """Create a volume, as somebody else's tool might; the model keeps nothing of its content."""
        with self.lock:
            pool = self.pool(name)
            try:
                changes.create(pool, name, DatasetKind.VOLUME)
            except Refusal as refusal:
                raise refusal.error from None
            pool.sync()

    def write(self, dataset: str, path: str, data: bytes, *, sync: bool = False) -> None:
        """Write a file of a filesystem, mounted or not, creating the directories above it; `sync` fsyncs it.

        Raises QuotaExceeded, OutOfSpace, PoolSuspended, ReadOnlyPool, NotFound.
        """
        with self.lock:
            filesystem = self.dataset(dataset)
            pool = self.pool(dataset)
            parts = path.strip("/").split("/")
            try:
                for count in range(1, len(parts)):
                    inner = "/".join(parts[:count])
                    if inner not in filesystem.tree.entries:
                        pool.put_entry(filesystem, inner, Entry(PathKind.DIRECTORY), durable=sync)
                pool.put_entry(filesystem, "/".join(parts), self.new_file(data), durable=sync)
            except Refusal as refusal:
                raise refusal.error from None

    def now(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return int(self.clock() * 1e9)

    def new_file(self, data: bytes) -> Entry:
        """Return a file that is written now."""
        return Entry(PathKind.OTHER, mode=0o644, data=data, mtime=self.now())

    def remove(self, dataset: str, path: str) -> None:
        """Remove a file, link or empty directory of a filesystem. Raises NotFound, Busy where it is not empty."""
        with self.lock:
            filesystem = self.dataset(dataset)
            inner = path.strip("/")
            if inner not in filesystem.tree.entries:
                raise NotFound(f"'{path}' does not exist in '{dataset}'", subject=path)
            if filesystem.tree.children.get(inner):
                raise Busy(f"'{path}' in '{dataset}' is not empty", subject=path)
            try:
                self.pool(dataset).put_entry(filesystem, inner, None)
            except Refusal as refusal:
                raise refusal.error from None

    def read(self, name: str, path: str) -> bytes:
        """Return a file's content from a filesystem or a snapshot. Raises NotFound."""
        with self.lock:
            thing = self.snapshot(name) if "@" in name else self.dataset(name)
            entry = thing.tree.entries.get(path.strip("/"))
            if entry is None or entry.kind is not PathKind.OTHER:
                raise NotFound(f"'{path}' is no file of '{name}'", subject=path)
            return entry.data

    def content(self, name: str) -> dict[str, bytes]:
        """Return every file of a filesystem or a snapshot, by path."""
        with self.lock:
            thing = self.snapshot(name) if "@" in name else self.dataset(name)
            return {path: entry.data for path, entry in thing.tree.files() if entry.kind is PathKind.OTHER}

    def write_file(self, path: str, data: bytes, *, sync: bool = False) -> None:
        """Write a file by its path on the node, through whatever is mounted there, following links.

        Raises NotFound, PermissionDenied (read-only mount), QuotaExceeded, OutOfSpace, PoolSuspended.
        """
        with self.lock:
            place = self.files.resolve(path, follow=True)
            if place is None or self.files.tree(place.mount).entries.get(above(place.path)) is None:
                raise NotFound(f"'{path}': no such directory", subject=path)
            self.put(place, self.new_file(data), durable=sync)
            if sync and place.mount == ROOT:
                self.files.own.fsync(above(place.path))

    def read_file(self, path: str) -> bytes:
        """Return a file's content by its path on the node, following links. Raises NotFound."""
        with self.lock:
            _, entry = self.files.existing(path, follow=True)
            if entry.kind is not PathKind.OTHER:
                raise NotFound(f"'{path}' is no file", subject=path)
            return entry.data

    def list_directory(self, path: str) -> list[str]:
        """Return the names in a directory by its path on the node, following links. Raises NotFound."""
        with self.lock:
            place, _ = self.files.existing(path, follow=True)
            return self.files.tree(place.mount).names(place.path)

    @contextmanager
    def use(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Keep a mount busy, as a process does with an open file or its working directory below `path`."""
        with self.lock:
            place, _ = self.files.existing(path, follow=True)
            number, boots = place.mount, self.boots
            opened = OpenFile(number, place.path)
            self._users[number] += 1
            self._writers[number] += writing
            if writing:
                self._open.append(opened)
        try:
            yield
        finally:
            with self.lock:
                if self.boots == boots:
                    self._users[number] -= 1
                    self._writers[number] -= writing
                    if writing:
                        self._open.remove(opened)

    def in_use(self, mount: int, *, writing: bool = False) -> bool:
        """Whether a process uses a mount, or has a file of it open for writing."""
        return (self._writers if writing else self._users)[mount] > 0

    def written(self, place: Place) -> bool:
        """Whether a process has the file at a place open for writing."""
        return any(opened.mount == place.mount and opened.path == place.path for opened in self._open)

    def renamed(self, place: Place, path: str | None) -> None:
        """Note that a file stands at another path of its mount, or has lost its name: who has it open, keeps it."""
        for opened in self._open:
            if opened.mount == place.mount and opened.path == place.path:
                opened.path = path

    @contextmanager
    def sending(self, snapshot: str) -> Iterator[None]:
        """Read a snapshot as `zfs send` does: until it is over, it can be neither destroyed nor moved by a promote."""
        with self.lock:
            taken, boots = self.snapshot(snapshot), self.boots
            holds = self.pool(snapshot).long_holds
            holds[taken] += 1
        try:
            yield
        finally:
            with self.lock:
                if self.boots == boots:
                    holds[taken] -= 1

    # ---- for both interfaces

    def put(self, place: Place, entry: Entry | None, *, durable: bool = False) -> None:
        """Write or remove an entry wherever a path led, within the limits of the filesystem there."""
        if place.mount == ROOT:
            self.files.own.put(place.path, entry)
            return
        point = self.files.mounts[place.mount]
        try:
            if point.read_only:
                read_only_mount(place.absolute)
            self.pool(point.filesystem.name).put_entry(point.filesystem, place.path, entry, durable=durable)
        except Refusal as refusal:
            if isinstance(refusal.error, ReadOnlyPool):
                read_only_mount(place.absolute)
            raise refusal.error from None
