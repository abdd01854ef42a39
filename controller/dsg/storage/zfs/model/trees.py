"""Files below root directories of a model node: the `Trees` interface.

Who may do what is not looked at; read-only mounts refuse. What is written is lost at a power cut until `sync` of the
same filesystem has returned, or anything was changed in its pool.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from blake3 import blake3

from dsg.storage.errors import AlreadyExists, Busy, CommandFailed, HasDependents, InvalidValue, NotFound, ReadOnlyPool
from dsg.storage.host import PathKind
from dsg.storage.tree_paths import inner, parts, require_target
from dsg.storage.trees import LEFT_OUT, Facts, FileKind, Owning
from dsg.storage.zfs.model.namespace import ROOT, Place
from dsg.storage.zfs.model.node import ModelNode
from dsg.storage.zfs.model.pool import refuse
from dsg.storage.zfs.model.tree import Entry, above
from dsg.storage.zfs.model.zfs import operation

_KINDS = {PathKind.OTHER: FileKind.FILE, PathKind.LINK: FileKind.LINK, PathKind.DIRECTORY: FileKind.DIRECTORY}
_NEW_FILE = 0o600


def _facts(entry: Entry) -> Facts:
    size = len(entry.data)
    if entry.kind is PathKind.LINK:
        return Facts(
            FileKind.LINK, len(os.fsencode(entry.target)), entry.mtime, 0o777, entry.target, entry.uid, entry.gid
        )
    return Facts(_KINDS[entry.kind], size, entry.mtime, entry.mode, "", entry.uid, entry.gid)


class ModelTrees:
    """The files of a model node, as `Trees`."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node

    # ---- looking

    @operation("trees", starts_process=False)
    def facts(self, root: str, path: str) -> Facts | None:
        """See `Trees.facts`."""
        entry = self._entry(self._place(root, path))
        return _facts(entry) if entry is not None else None

    @operation("trees", starts_process=False)
    def names(self, root: str, path: str) -> frozenset[str]:
        """See `Trees.names`."""
        place = self._place(root, path)
        entry = self._entry(place)
        if place is None or entry is None or entry.kind is not PathKind.DIRECTORY:
            return frozenset()
        return frozenset(self.node.files.tree(place.mount).children.get(place.path, ()))

    @operation("trees", starts_process=False)
    def walk(self, root: str) -> Iterator[tuple[str, Facts]]:
        """See `Trees.walk`."""
        found: list[tuple[str, Facts]] = []
        top = self._root(root)
        waiting = [name for name in self._names(top) if name not in LEFT_OUT]
        while waiting:
            path = waiting.pop()
            place = self.node.files.below(top, path.split("/"))
            entry = self._entry(place)
            if place is None or entry is None:
                continue
            if entry.kind is PathKind.DIRECTORY:
                waiting.extend(f"{path}/{name}" for name in self._names(place))
            else:
                found.append((path, _facts(entry)))
        return iter(found)

    def _names(self, place: Place) -> list[str]:
        return self.node.files.tree(place.mount).names(place.path)

    # ---- reading

    @operation("trees", starts_process=False)
    def digest(self, root: str, path: str) -> str:
        """See `Trees.digest`."""
        _, entry = self._file(root, path)
        return blake3(entry.data).hexdigest()

    @operation("trees", starts_process=False)
    def read(self, root: str, path: str, *, limit: int = 1 << 26) -> bytes | None:
        """See `Trees.read`."""
        try:
            _, entry = self._file(root, path)
        except NotFound:
            return None
        if len(entry.data) > limit:
            raise InvalidValue(f"{root}/{path} is larger than {limit} bytes", subject=path)
        return entry.data

    @operation("trees", starts_process=False)
    def read_lines(self, root: str, path: str) -> Iterator[bytes]:
        """See `Trees.read_lines`."""
        _, entry = self._file(root, path)
        *whole, rest = entry.data.split(b"\n")
        return iter([line + b"\n" for line in whole] + ([rest] if rest else []))

    @operation("trees", starts_process=False)
    def written_by_nobody(self, root: str, path: str) -> bool:
        """See `Trees.written_by_nobody`."""
        place, _ = self._file(root, path)
        return not self.node.written(place)

    # ---- placing

    @operation("trees", starts_process=False)
    def write(self, root: str, path: str, content: bytes, *, mode: int, owning: Owning) -> None:
        """See `Trees.write`."""
        entry = Entry(PathKind.OTHER, owning.uid, owning.gid, mode, data=content, mtime=self.node.now())
        self._place_whole(root, path, entry, owning)

    @operation("trees", starts_process=False)
    def make_directory(self, root: str, path: str, *, owning: Owning) -> None:
        """See `Trees.make_directory`."""
        place, missing = self._target(self._root(root), parts(path))
        entry = self._entry(place)
        if entry is None:
            self._make([*missing, place], owning)
            self.node.change_in_memory()
        elif entry.kind is not PathKind.DIRECTORY:
            raise AlreadyExists(f"{root}/{path} is no directory; it is left as it is", subject=path)

    @operation("trees", starts_process=False)
    def move(self, root: str, source: str, path: str, *, owning: Owning) -> None:
        """See `Trees.move`."""
        top = self._root(root)
        above_source, name = inner(source)
        old, missing = self._target(top, [*above_source, name])
        entry = self._entry(old)
        if missing or entry is None:
            raise NotFound(f"cannot move {root}/{source}: it does not exist", subject=source)
        if entry.kind is PathKind.DIRECTORY:
            raise InvalidValue(f"{root}/{source} is a directory; only files and links are moved", subject=source)
        new, missing = self._free(top, path)
        if new == old:
            return
        if new.mount != old.mount:
            refuse(errno.EXDEV, CommandFailed, f"{path} lies in another file system than {source}", path)
        self._require_writable(new)
        self._make(missing, owning)
        self.node.renamed(new, None)
        self.node.renamed(old, new.path)
        if new.mount == ROOT:
            self.node.files.own.put(old.path, None)
            self.node.files.own.put(new.path, entry)
        else:
            filesystem = self.node.files.mounts[new.mount].filesystem
            self.node.pool(filesystem.name).move_entry(filesystem, old.path, new.path)
        self.node.change_in_memory()

    @operation("trees", starts_process=False)
    def copy(self, source_root: str, source: str, root: str, path: str, *, owning: Owning) -> None:
        """See `Trees.copy`."""
        _, original = self._file(source_root, source)
        entry = Entry(PathKind.OTHER, owning.uid, owning.gid, _NEW_FILE, data=original.data, mtime=self.node.now())
        self._place_whole(root, path, entry, owning)

    @operation("trees", starts_process=False)
    def link(self, root: str, path: str, target: str, *, owning: Owning) -> None:
        """See `Trees.link`."""
        require_target(target)
        entry = Entry(PathKind.LINK, owning.uid, owning.gid, 0o777, target, mtime=self.node.now())
        self._place_whole(root, path, entry, owning)

    @operation("trees", starts_process=False)
    def set_attributes(self, root: str, path: str, *, mode: int, mtime: int, owning: Owning) -> None:
        """See `Trees.set_attributes`."""
        place, entry = self._file(root, path)
        changed = replace(entry, mode=mode, mtime=mtime, uid=owning.uid, gid=owning.gid)
        if changed != entry:
            self._put(place, changed)
            self.node.change_in_memory()

    # ---- removing

    @operation("trees", starts_process=False)
    def remove(self, root: str, path: str) -> None:
        """See `Trees.remove`."""
        top = self._root(root)
        above_it, name = inner(path)
        place = self.node.files.below(top, [*above_it, name])
        entry = self._entry(place)
        if place is None or entry is None:
            return
        if entry.kind is PathKind.DIRECTORY:
            raise HasDependents(f"{root}/{path} is a directory; it is left as it is", subject=path)
        self._put(place, None)
        self.node.renamed(place, None)
        tree, directory = self.node.files.tree(place.mount), above(place.path)
        for _ in above_it:
            if not directory or tree.children.get(directory) or self.node.files.mounted_on(place.mount, directory):
                break
            self._put(Place(place.mount, directory, ""), None)
            directory = above(directory)
        self.node.change_in_memory()

    @operation("trees", starts_process=False)
    def remove_tree(self, root: str, path: str) -> None:
        """See `Trees.remove_tree`."""
        top = self._root(root)
        above_it, name = inner(path)
        place = self.node.files.below(top, [*above_it, name])
        if place is None or self._entry(place) is None:
            return
        if self.node.files.covered(place) or (place.mount != top.mount and not place.path):
            raise Busy(f"cannot remove {root}/{path}: something is mounted there", subject=path)
        inside = [Place(place.mount, below, "") for below, _ in self.node.files.tree(place.mount).below(place.path)]
        for removed in [*inside, place]:
            self._put(removed, None)
            self.node.renamed(removed, None)
        self.node.change_in_memory()

    @operation("trees", starts_process=False)
    def sync(self, root: str) -> None:
        """See `Trees.sync`."""
        place = self._root(root)
        self.node.change_in_memory()
        if place.mount == ROOT:
            self.node.files.own.sync()
        else:
            filesystem = self.node.files.mounts[place.mount].filesystem
            self.node.pool(filesystem.name).log_writes(filesystem)

    # ---- paths

    def _root(self, root: str) -> Place:
        place = self.node.files.resolve(root)
        entry = self._entry(place)
        if place is None or entry is None or entry.kind is not PathKind.DIRECTORY:
            raise NotFound(f"'{root}' is no directory", subject=root)
        return place

    def _place(self, root: str, path: str) -> Place | None:
        """Return where a path leads; None where something on the way is no directory."""
        names = parts(path)
        top = self.node.files.resolve(root)
        return self.node.files.below(top, names) if top is not None else None

    def _entry(self, place: Place | None) -> Entry | None:
        return self.node.files.entry(place) if place is not None else None

    def _file(self, root: str, path: str) -> tuple[Place, Entry]:
        above_it, name = inner(path)
        place = self.node.files.below(self._root(root), [*above_it, name])
        entry = self._entry(place)
        if place is None or entry is None:
            raise NotFound(f"{root}/{path} does not exist", subject=path)
        if entry.kind is not PathKind.OTHER:
            raise InvalidValue(f"{root}/{path} is no regular file", subject=path)
        return place, entry

    def _target(self, top: Place, names: Sequence[str]) -> tuple[Place, list[Place]]:
        """Return where names lead, and the directories on the way that are missing."""
        place, missing = top, list[Place]()
        for number, name in enumerate(names, 1):
            step = None if missing else self.node.files.below(place, [name])
            if step is None:
                within = f"{place.path}/{name}" if place.path else name
                step = Place(place.mount, within, f"{place.absolute}/{name}")
            if number < len(names):
                entry = self._entry(step)
                if entry is None:
                    missing.append(step)
                elif entry.kind is not PathKind.DIRECTORY:
                    raise NotFound(f"{step.absolute} is no directory", subject=step.absolute)
            place = step
        return place, missing

    def _free(self, top: Place, path: str) -> tuple[Place, list[Place]]:
        """Return where a file or link is to be placed, and the directories that are missing for it."""
        above_it, name = inner(path)
        place, missing = self._target(top, [*above_it, name])
        entry = self._entry(place)
        if entry is not None and entry.kind is PathKind.DIRECTORY:
            raise AlreadyExists(f"{path} is a directory; it is left as it is", subject=path)
        return place, missing

    # ---- changing

    def _require_writable(self, place: Place) -> None:
        if place.mount != ROOT and self.node.files.mounts[place.mount].read_only:
            refuse(
                errno.EROFS, ReadOnlyPool, f"cannot change '{place.absolute}': read-only file system", place.absolute
            )

    def _put(self, place: Place, entry: Entry | None) -> None:
        self._require_writable(place)
        if place.mount == ROOT:
            self.node.files.own.put(place.path, entry)
        else:
            filesystem = self.node.files.mounts[place.mount].filesystem
            self.node.pool(filesystem.name).put_entry(filesystem, place.path, entry)

    def _make(self, missing: Iterable[Place], owning: Owning) -> None:
        for place in missing:
            self._put(place, Entry(PathKind.DIRECTORY, owning.uid, owning.gid, owning.directory_mode))

    def _place_whole(self, root: str, path: str, entry: Entry, owning: Owning) -> None:
        place, missing = self._free(self._root(root), path)
        # What takes space comes first, so that a refusal leaves nothing behind.
        self._put(place, entry)
        self._make(missing, owning)
        self.node.renamed(place, None)
        self.node.change_in_memory()
