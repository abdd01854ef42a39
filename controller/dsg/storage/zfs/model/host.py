"""A node's file namespace in memory: the `Host` interface on a model node."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

from dsg.storage.errors import AlreadyExists, Busy, CommandFailed, HasDependents, InvalidValue, KeyUnavailable, NotFound
from dsg.storage.host import Mount, PathKind, PathState, is_snapshot
from dsg.storage.zfs.model.dataset import MountPoint
from dsg.storage.zfs.model.namespace import ROOT, Place
from dsg.storage.zfs.model.node import ModelNode
from dsg.storage.zfs.model.pool import refuse
from dsg.storage.zfs.model.tree import Entry, above
from dsg.storage.zfs.model.zfs import operation


class ModelHost:
    """The namespace of a model node, as `Host`."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node

    @operation("host", starts_process=False)
    def mounts(self) -> Sequence[Mount]:
        """See `Host.mounts`."""
        return [Mount(point.source, point.directory, point.read_only) for point in self.node.files.mounts.values()]

    @operation("host")
    def mount(self, dataset: str, directory: str, *, read_only: bool) -> None:
        """See `Host.mount`. The flag beats the readonly property, unless the pool itself is read-only."""
        pool = self.node.pool(dataset)
        snapshot = pool.snapshot(dataset) if is_snapshot(dataset) else None
        filesystem = pool.filesystem(dataset) if snapshot is None else snapshot.filesystem
        place, entry = self.node.files.existing(directory, follow=True)
        if entry.kind is not PathKind.DIRECTORY:
            raise NotFound(f"'{directory}' is not a directory", subject=directory)
        if self.node.files.mounted_at(place) is not None:
            raise Busy(f"something is mounted at '{directory}' already", subject=directory)
        if snapshot is not None:
            pool.require_key(filesystem, KeyUnavailable, "mount")
            if self.node.files.tree(place.mount).names(place.path):
                raise Busy(f"cannot mount '{dataset}': '{directory}' is not empty", subject=directory)
            self.node.files.attach(filesystem, place, read_only=True, snapshot=snapshot)
            pool.long_holds[snapshot] += 1
            return
        mountpoint = filesystem.setting("mountpoint")
        if mountpoint != "legacy":
            text = (
                f"filesystem '{dataset}' cannot be mounted using 'mount': its mountpoint is '{mountpoint or 'a path'}'"
            )
            refuse(errno.EINVAL, CommandFailed, text, dataset)
        pool.require_key(filesystem, KeyUnavailable, "mount")
        effective = read_only or pool.readonly
        if filesystem.mounts and filesystem.mounts[0].read_only != effective:
            raise Busy(f"'{dataset}' is mounted elsewhere with another read-only flag", subject=dataset)
        self.node.files.attach(filesystem, place, read_only=effective)

    @operation("host")
    def remount(self, directory: str, *, read_only: bool) -> None:
        """See `Host.remount`. Every mount of the filesystem follows."""
        point = self._mounted(directory)
        if point.snapshot is not None:
            if not read_only:
                raise InvalidValue(f"'{directory}' shows a snapshot, which is never writable", subject=directory)
            return
        if read_only and self.node.in_use(point.number, writing=True):
            raise Busy(f"'{directory}' has files open for writing", subject=directory)
        pool = self.node.pool(point.filesystem.name)
        for other in point.filesystem.mounts:
            other.read_only = read_only or pool.readonly

    @operation("host")
    def unmount(self, directory: str) -> None:
        """See `Host.unmount`."""
        point = self._mounted(directory)
        if self.node.in_use(point.number) or self.node.files.nested(point):
            raise Busy(f"'{directory}' is in use", subject=directory)
        self.node.files.detach(point)
        if point.snapshot is not None:
            self.node.pool(point.source).long_holds[point.snapshot] -= 1

    def _mounted(self, directory: str) -> MountPoint:
        place = self.node.files.resolve(directory, follow=True)
        point = self.node.files.mounted_at(place) if place is not None else None
        if point is None:
            raise NotFound(f"nothing is mounted at '{directory}'", subject=directory)
        return point

    @operation("host", starts_process=False)
    def stat(self, path: str) -> PathState | None:
        """See `Host.stat`."""
        place = self.node.files.resolve(path)
        entry = self.node.files.entry(place) if place is not None else None
        if place is None or entry is None:
            return None
        if entry.kind is PathKind.LINK:
            return PathState(entry.kind, entry.uid, entry.gid, 0o777, entry.target)
        empty = not self.node.files.tree(place.mount).children.get(place.path)
        return PathState(entry.kind, entry.uid, entry.gid, entry.mode, empty=empty)

    @operation("host", starts_process=False)
    def make_directory(self, path: str, *, mode: int) -> None:
        """See `Host.make_directory`."""
        place = self.node.files.make_parents(path, self.node.put)
        entry = self.node.files.entry(place)
        if entry is not None and entry.kind is not PathKind.DIRECTORY:
            raise AlreadyExists(f"'{path}' is there and is no directory", subject=path)
        if entry is None:
            self.node.put(place, Entry(PathKind.DIRECTORY, mode=mode))
            self.node.change_in_memory()

    @operation("host", starts_process=False)
    def remove_directory(self, path: str) -> None:
        """See `Host.remove_directory`."""
        place = self.node.files.resolve(path)
        entry = self.node.files.entry(place) if place is not None else None
        if place is None or entry is None:
            return
        if entry.kind is not PathKind.DIRECTORY:
            raise AlreadyExists(f"'{path}' is no directory", subject=path)
        if self.node.files.mounted_at(place) is not None or place.path == "":
            raise Busy(f"'{path}' is a mount point", subject=path)
        if self.node.files.tree(place.mount).children.get(place.path):
            raise HasDependents(f"'{path}' is not empty", subject=path)
        self.node.put(place, None, durable=True)
        self._fsync(place)

    @operation("host", starts_process=False)
    def set_owner(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        """See `Host.set_owner`."""
        place, entry = self.node.files.existing(path)
        if entry.kind is not PathKind.DIRECTORY:
            raise InvalidValue(f"'{path}' is no directory", subject=path)
        self.node.put(place, replace(entry, uid=uid, gid=gid, mode=mode))
        self.node.change_in_memory()

    @operation("host", starts_process=False)
    def point_link(self, path: str, target: str) -> None:
        """See `Host.point_link`."""
        place = self._link_place(path)
        self.node.put(place, Entry(PathKind.LINK, mode=0o777, target=target), durable=True)
        self._fsync(place)

    @operation("host", starts_process=False)
    def remove_link(self, path: str) -> None:
        """See `Host.remove_link`."""
        place = self.node.files.resolve(path)
        entry = self.node.files.entry(place) if place is not None else None
        if place is None or entry is None:
            return
        if entry.kind is not PathKind.LINK:
            raise AlreadyExists(f"'{path}' is no symbolic link", subject=path)
        self.node.put(place, None, durable=True)
        self._fsync(place)

    def _link_place(self, path: str) -> Place:
        place = self.node.files.resolve(path)
        if place is None or above(place.path) not in self.node.files.tree(place.mount).entries:
            raise NotFound(f"'{path}': no such directory", subject=path)
        entry = self.node.files.entry(place)
        if entry is not None and entry.kind is not PathKind.LINK:
            raise AlreadyExists(f"'{path}' is there and is no symbolic link", subject=path)
        return place

    def _fsync(self, place: Place) -> None:
        """Make a directory's entries durable, after the moment in which a power cut still loses them."""
        self.node.change_in_memory()
        if place.mount == ROOT:
            self.node.files.own.fsync(above(place.path))
