"""A node's file namespace: its own file system, the ZFS mounts in it, and the way a path takes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsg.storage.errors import AlreadyExists, InvalidValue, NotFound
from dsg.storage.host import PathKind
from dsg.storage.zfs.model.dataset import Filesystem, MountPoint, Snapshot
from dsg.storage.zfs.model.tree import Entry, Tree, above

ROOT = 0
MAX_LINKS = 40
VOLATILE = "/run"
"""A file system in memory: what is below it is gone after a power cut."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: a mount (0: the node's own file system), the path within it, and the path without links."""

    mount: int
    path: str
    absolute: str


class OwnFiles:
    """The node's own file system, as pessimistic as POSIX allows: what was not fsynced is lost at a power cut."""

    def __init__(self) -> None:
        self.tree = Tree(Entry(PathKind.DIRECTORY))
        self._durable: dict[str, Entry | None] = {}
        """What a power cut brings back, for every path changed since its directory was last fsynced."""
        self.put("run", Entry(PathKind.DIRECTORY))
        self.sync()

    def put(self, path: str, entry: Entry | None) -> None:
        """Write or remove an entry, in memory."""
        before = self.tree.replace(path, entry)
        self._durable.setdefault(path, before)

    def fsync(self, directory: str) -> None:
        """Make a directory's entries durable, and the directory itself with everything above it."""
        kept = {directory}
        place = directory
        while place:
            place = above(place)
            kept.add(place)
        for path in list(self._durable):
            if path in kept or above(path) == directory:
                del self._durable[path]

    def sync(self) -> None:
        """Make everything durable."""
        self._durable.clear()

    def lose_power(self) -> None:
        """Go back to what is durable."""
        for path, entry in self._durable.items():
            self.tree.replace(path, entry)
        self._durable.clear()
        volatile = VOLATILE.strip("/")
        for path in sorted(self.tree.entries):
            orphan = bool(path) and above(path) not in self.tree.entries
            if orphan or path.startswith(f"{volatile}/"):
                self.tree.replace(path, None)


class Namespace:
    """Paths and mounts of one node."""

    def __init__(self) -> None:
        self.own = OwnFiles()
        self.mounts: dict[int, MountPoint] = {}
        """By number, in mount order."""
        self._at: dict[tuple[int, str], int] = {}
        self._next = ROOT + 1

    # ---- trees

    def tree(self, mount: int) -> Tree:
        """Return what a mount shows."""
        return self.own.tree if mount == ROOT else self.mounts[mount].tree

    def entry(self, place: Place) -> Entry | None:
        """Return what stands at a place."""
        return self.tree(place.mount).entries.get(place.path)

    # ---- paths

    def resolve(self, path: str, *, follow: bool = False) -> Place | None:
        """Return where a path leads, None where a directory on the way is missing; the last component may be missing.

        Links on the way are followed, one in the last component only with `follow`.
        """
        if not path.startswith("/"):
            raise InvalidValue(f"'{path}' is not an absolute path", subject=path)
        at = self._at
        mount, inner = self._cross(ROOT, "")
        entries = self.tree(mount).entries
        absolute = "/"
        todo = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        links = 0
        # The model's most frequent call by far: a mount's entries are looked up only when the mount changes.
        while todo:
            part = todo.pop()
            here = entries.get(inner)
            if here is None or here.kind is not PathKind.DIRECTORY:
                return None
            if part == "..":
                upper = self._plain(above(absolute.strip("/")))
                mount, inner, absolute = upper.mount, upper.path, upper.absolute
                entries = self.tree(mount).entries
                continue
            next_mount, next_inner, next_entries = mount, f"{inner}/{part}" if inner else part, entries
            if (next_mount, next_inner) in at:
                next_mount, next_inner = self._cross(next_mount, next_inner)
                next_entries = self.tree(next_mount).entries
            found = next_entries.get(next_inner)
            if found is not None and found.kind is PathKind.LINK and (todo or follow):
                links += 1
                if links > MAX_LINKS:
                    raise InvalidValue(f"'{path}': too many levels of symbolic links", subject=path)
                todo.extend(p for p in reversed(found.target.split("/")) if p not in {"", "."})
                if found.target.startswith("/"):
                    mount, inner = self._cross(ROOT, "")
                    entries = self.tree(mount).entries
                    absolute = "/"
                continue
            mount, inner, entries = next_mount, next_inner, next_entries
            absolute = f"{absolute}/{part}" if absolute != "/" else f"/{part}"
        return Place(mount, inner, absolute)

    def below(self, place: Place, names: Iterable[str]) -> Place | None:
        """Return where names lead from a place; None where a link or a file is on the way, or nothing.

        The last one may be missing, or a link.
        """
        mount, path, absolute = place.mount, place.path, place.absolute
        for name in names:
            here = self.tree(mount).entries.get(path)
            if here is None or here.kind is not PathKind.DIRECTORY:
                return None
            mount, path = self._cross(mount, f"{path}/{name}" if path else name)
            absolute = f"{absolute}/{name}" if absolute != "/" else f"/{name}"
        return Place(mount, path, absolute)

    def mounted_on(self, mount: int, path: str) -> bool:
        """Whether something is mounted on a directory of a mount."""
        return (mount, path) in self._at

    def _plain(self, path: str) -> Place:
        """Return the place of a path that has no links in it."""
        place = Place(*self._cross(ROOT, ""), "/")
        for part in path.split("/"):
            if part:
                inner = f"{place.path}/{part}" if place.path else part
                place = Place(*self._cross(place.mount, inner), place.absolute.rstrip("/") + "/" + part)
        return place

    def _cross(self, mount: int, path: str) -> tuple[int, str]:
        while (mount, path) in self._at:
            mount, path = self._at[mount, path], ""
        return mount, path

    def existing(self, path: str, *, follow: bool = False) -> tuple[Place, Entry]:
        """Return where a path leads and what is there. Raises NotFound."""
        place = self.resolve(path, follow=follow)
        entry = self.entry(place) if place is not None else None
        if place is None or entry is None:
            raise NotFound(f"'{path}': no such file or directory", subject=path)
        return place, entry

    def make_parents(self, path: str, write: Callable[[Place, Entry | None], None]) -> Place:
        """Create the directories above a path and return where the path leads."""
        parts = [part for part in path.split("/") if part]
        for count in range(1, len(parts)):
            step = "/" + "/".join(parts[:count])
            place = self.resolve(step, follow=True)
            entry = self.entry(place) if place is not None else None
            if place is not None and entry is None:
                write(place, Entry(PathKind.DIRECTORY))
            elif entry is None or entry.kind is not PathKind.DIRECTORY:
                raise AlreadyExists(f"'{step}' is not a directory", subject=path)
        place = self.resolve(path)
        if place is None:
            raise NotFound(f"'{path}': no such file or directory", subject=path)
        return place

    # ---- mounts

    def attach(
        self, filesystem: Filesystem, place: Place, *, read_only: bool, snapshot: Snapshot | None = None
    ) -> MountPoint:
        """Mount a filesystem, or a snapshot of it, over a place."""
        point = MountPoint(filesystem, place.absolute, read_only, self._next, place.mount, place.path, snapshot)
        self._next += 1
        self.mounts[point.number] = point
        self._at[place.mount, place.path] = point.number
        if snapshot is None:
            filesystem.mounts.append(point)
        return point

    def detach(self, point: MountPoint) -> None:
        """Take a mount away."""
        del self.mounts[point.number]
        del self._at[point.within, point.place]
        if point.snapshot is None:
            point.filesystem.mounts.remove(point)

    def mounted_at(self, place: Place) -> MountPoint | None:
        """Return the mount whose root a place is."""
        return self.mounts.get(place.mount) if place.path == "" and place.mount != ROOT else None

    def nested(self, point: MountPoint) -> bool:
        """Whether something is mounted inside a mount."""
        return any(other.within == point.number for other in self.mounts.values())

    def covered(self, place: Place) -> bool:
        """Whether something is mounted on a directory, or inside it."""
        prefix = f"{place.path}/" if place.path else ""
        return any(within == place.mount and (at == place.path or at.startswith(prefix)) for within, at in self._at)

    def forget_mounts(self) -> None:
        """Drop every mount, as a reboot does."""
        for point in list(self.mounts.values()):
            point.filesystem.mounts = []
        self.mounts.clear()
        self._at.clear()

    def of_pool(self, pool_name: str) -> Iterator[MountPoint]:
        """Yield the mounts of one pool's filesystems."""
        return (m for m in self.mounts.values() if m.filesystem.name.partition("/")[0] == pool_name)
