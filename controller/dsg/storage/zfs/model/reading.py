"""Reading datasets: which ones, and their properties as `zfs get -p` prints them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence

from dsg.storage.errors import InvalidValue
from dsg.storage.zfs.interface import Dataset, DatasetKind, Property, Source
from dsg.storage.zfs.model import names, space
from dsg.storage.zfs.model.dataset import Bookmark, Filesystem, Snapshot
from dsg.storage.zfs.model.native import NATIVE, Native, Rule
from dsg.storage.zfs.model.pool import ModelPool, refuse
from dsg.storage.zfs.model.values import ON

Thing = Filesystem | Snapshot
Getter = Callable[[Thing], Property | None]

ABSENT = Property("-", Source.NONE)
_VOLATILE_OFF = Property("off", Source.TEMPORARY)
_WRITTEN = ("written@", "written#")


def _figure(value: object) -> Property:
    return Property(str(value), Source.NONE)


def _head(thing: Thing) -> Filesystem:
    return thing.filesystem if isinstance(thing, Snapshot) else thing


class Reader:
    """Reads the same properties of many datasets of one pool."""

    def __init__(self, pool: ModelPool, properties: Sequence[str], *, live: bool = False) -> None:
        self.pool = pool
        self.live = live
        """Whether figures count the open transaction group, as inside a channel program."""
        self._properties = properties
        # Whether all are properties is found out now.
        self._getters = {DatasetKind.FILESYSTEM: self._all(DatasetKind.FILESYSTEM)}

    def dataset(self, thing: Thing) -> Dataset:
        """Return a filesystem or snapshot with its properties."""
        if isinstance(thing, Snapshot):
            name, kind = thing.full_name, DatasetKind.SNAPSHOT
        else:
            name, kind = thing.name, thing.kind
        if kind not in self._getters:
            self._getters[kind] = self._all(kind)
        values = {}
        for key, get in self._getters[kind]:
            value = get(thing)
            if value is not None:
                values[key] = value
        return Dataset(name, kind, values)

    def _all(self, kind: DatasetKind) -> list[tuple[str, Getter]]:
        return [(name, self.getter(name, kind)) for name in self._properties]

    # ---- one getter for each property

    def getter(self, name: str, kind: DatasetKind) -> Getter:
        """Return what reads a property of datasets of one kind; refuses a name that is no property."""
        native = NATIVE.get(name)
        if native is None:
            if name.startswith(_WRITTEN) and len(name) > len(_WRITTEN[0]):
                return self._written_since(name[len(_WRITTEN[0]) - 1 :])
            if ":" in name:
                return self._inherited(name, None, None)
            refuse(errno.EINVAL, InvalidValue, f"bad property list: invalid property '{name}'", name)
        if not native.on & ON[kind]:
            return lambda _: ABSENT
        if native.rule is Rule.READ_ONLY:
            return self._figure(name)
        return self._setting(native)

    def _setting(self, native: Native) -> Getter:
        default = Property(native.default, Source.DEFAULT)
        if native.rule is Rule.ONCE:
            return self._once(native.name, default)
        if native.name == "mountpoint":
            return self._mountpoint
        get = self._inherited(native.name, default, native.rule)
        if native.name == "readonly":
            return self._mount_beats_readonly(get)
        if native.name in {"devices", "setuid"}:
            return self._mount_forbids(get)
        return get

    @staticmethod
    def _inherited(name: str, default: Property | None, rule: Rule | None) -> Getter:
        own_only = rule is Rule.DEFAULT

        def get(thing: Thing) -> Property | None:
            found = thing.local.get(name)
            if found is not None:
                return found.local
            if own_only:
                return default
            place = thing.filesystem if isinstance(thing, Snapshot) else thing.parent
            while place is not None:
                found = place.local.get(name)
                if found is not None:
                    return found.inherited
                place = place.parent
            return default

        return get

    @staticmethod
    def _once(name: str, default: Property) -> Getter:
        fixed = Property(default.value, Source.NONE)
        encryption = name in {"encryption", "keyformat", "pbkdf2iters"}

        def get(thing: Thing) -> Property:
            value = _head(thing).once.get(name)
            if value is not None:
                return Property(value, Source.NONE)
            return default if encryption else fixed

        return get

    @staticmethod
    def _mountpoint(thing: Thing) -> Property:
        filesystem = _head(thing)
        place: Filesystem | None = filesystem
        while place is not None:
            found = place.local.get("mountpoint")
            if found is not None:
                if place is filesystem:
                    return found.local
                value = found.local.value
                if value.startswith("/"):
                    value = value.rstrip("/") + filesystem.name[len(place.name) :]
                return Property(value, Source.INHERITED, place.name)
            place = place.parent
        return Property(f"/{filesystem.name}", Source.DEFAULT)

    @staticmethod
    def _mount_beats_readonly(get: Getter) -> Getter:
        def with_mount(thing: Thing) -> Property | None:
            value = get(thing)
            if isinstance(thing, Filesystem) and thing.mounts and value is not None:
                mounted = "on" if thing.mounts[0].read_only else "off"
                if mounted != value.value:
                    return Property(mounted, Source.TEMPORARY)
            return value

        return with_mount

    @staticmethod
    def _mount_forbids(get: Getter) -> Getter:
        """Mounts of this project are made without devices and set-user-id, and zfs get shows that."""

        def with_mount(thing: Thing) -> Property | None:
            value = get(thing)
            if isinstance(thing, Filesystem) and thing.mounts and value is not None and value.value == "on":
                return _VOLATILE_OFF
            return value

        return with_mount

    def _written_since(self, mark: str) -> Getter:
        """Read written@snapshot; for a bookmark OpenZFS knows only what was born since."""

        def get(thing: Thing) -> Property:
            if not isinstance(thing, Filesystem):
                return ABSENT
            if mark[0] == "#":
                bookmark = thing.bookmarks.get(mark[1:])
                if bookmark is None:
                    return ABSENT
                return _figure(sum(block.size for block in thing.tree.blocks if block.birth > bookmark.txg))
            dataset, _, tail = names.split(mark[1:] if "@" in mark[1:] else f"{thing.name}{mark}")
            other = self.pool.datasets.get(dataset)
            snapshot = other.snapshots.get(tail) if other is not None else None
            return ABSENT if snapshot is None else _figure(space.written_since(thing, snapshot))

        return get

    def _figure(self, name: str) -> Getter:
        compute = _FIGURES[name]

        def get(thing: Thing) -> Property:
            value = compute(self, thing)
            return ABSENT if value is None else Property(str(value), Source.NONE)

        return get

    def bookmark(self, filesystem: Filesystem, name: str, mark: Bookmark, properties: Sequence[str]) -> Dataset:
        """Return a bookmark with its properties; whatever it does not have is `-`."""
        full = f"{filesystem.name}#{name}"
        known = {
            "guid": str(mark.guid),
            "createtxg": str(mark.txg),
            "creation": str(mark.created),
            "referenced": str(mark.referenced),
            "logicalreferenced": str(mark.referenced),
            "compressratio": "1.00",
            "name": full,
            "type": "bookmark",
        }
        values = {}
        for key in properties:
            if key in known:
                values[key] = _figure(known[key])
            elif key in NATIVE or key.startswith(_WRITTEN):
                values[key] = ABSENT
        return Dataset(full, DatasetKind.BOOKMARK, values)


Figure = Callable[[Reader, Thing], object]


def _own(field: str) -> Figure:
    return lambda reader, thing: getattr(space.own(_head(thing), live=reader.live), field)


def _referenced(reader: Reader, thing: Thing) -> object:
    return thing.tree.size if isinstance(thing, Snapshot) else space.own(thing, live=reader.live).referenced


def _written(reader: Reader, thing: Thing) -> object:
    if isinstance(thing, Snapshot):
        return space.snapshot_written(thing)
    return space.own(thing, live=reader.live).written


def _used(reader: Reader, thing: Thing) -> object:
    return space.snapshot_used(thing) if isinstance(thing, Snapshot) else space.used(thing, live=reader.live)


def _origin(_: Reader, thing: Thing) -> object:
    origin = _head(thing).origin
    return None if origin is None else origin.full_name


def _clones(_: Reader, thing: Thing) -> object:
    if isinstance(thing, Filesystem):
        return None
    return ",".join(sorted(clone.name for clone in thing.clones.values()))


def _key_status(reader: Reader, thing: Thing) -> object:
    root = _head(thing).encryption_root
    if root is None:
        return None
    return "available" if root in reader.pool.loaded else "unavailable"


def _encryption_root(_: Reader, thing: Thing) -> object:
    root = _head(thing).encryption_root
    return None if root is None else root.name


def _kind(thing: Thing) -> object:
    return DatasetKind.SNAPSHOT.value if isinstance(thing, Snapshot) else thing.kind.value


def _default_none(_: Reader, __: Thing) -> object:
    return "none"


_FIGURES: dict[str, Figure] = {
    "available": lambda reader, thing: space.available(_head(thing), reader.pool.usable_size, live=reader.live),
    "clones": _clones,
    "compressratio": lambda _, __: "1.00",
    "createtxg": lambda _, thing: thing.txg,
    "creation": lambda _, thing: thing.created,
    "defer_destroy": lambda _, thing: "on" if isinstance(thing, Snapshot) and thing.deferred else "off",
    "encryptionroot": _encryption_root,
    "filesystem_count": _default_none,
    "guid": lambda _, thing: thing.guid,
    "keystatus": _key_status,
    "logicalreferenced": _referenced,
    "logicalused": _used,
    "mounted": lambda _, thing: "yes" if _head(thing).mounted else "no",
    "name": lambda _, thing: thing.full_name if isinstance(thing, Snapshot) else thing.name,
    "objsetid": lambda _, thing: thing.objset,
    "origin": _origin,
    "receive_resume_token": lambda _, __: None,
    "refcompressratio": lambda _, __: "1.00",
    "referenced": _referenced,
    "snapshot_count": _default_none,
    "snapshots_changed": lambda _, thing: _head(thing).snapshots_changed or None,
    "type": lambda _, thing: _kind(thing),
    "used": _used,
    "usedbychildren": lambda reader, thing: space.children(_head(thing), live=reader.live),
    "usedbydataset": _own("dataset"),
    "usedbyrefreservation": lambda reader, thing: space.reserved_for_own(_head(thing), live=reader.live),
    "usedbysnapshots": _own("snapshots"),
    "userrefs": lambda _, thing: len(thing.holds) if isinstance(thing, Snapshot) else 0,
    "version": lambda _, __: 5,
    "written": _written,
}


def below(filesystem: Filesystem, depth: int | None) -> Iterator[tuple[Filesystem, int | None]]:
    """Yield a filesystem and those below it, parents first and by name, each with the levels left."""
    yield filesystem, depth
    if depth is None or depth > 0:
        left = None if depth is None else depth - 1
        for name in sorted(filesystem.children):
            yield from below(filesystem.children[name], left)


def read(
    pool: ModelPool, roots: Sequence[str], properties: Sequence[str], kinds: Sequence[DatasetKind], depth: int | None
) -> dict[str, Dataset]:
    """Return what `Zfs.read` promises, for the roots that lie in one pool."""
    reader = Reader(pool, properties)
    wanted = set(kinds)
    heads = bool(wanted & {DatasetKind.FILESYSTEM, DatasetKind.VOLUME})
    result: dict[str, Dataset] = {}
    for root in roots:
        dataset, delimiter, tail = names.split(root)
        top = pool.datasets.get(dataset)
        if top is None:
            continue
        if delimiter:
            _read_one(reader, top, delimiter, tail, properties, wanted, result)
            continue
        for filesystem, left in below(top, depth):
            if heads and filesystem.kind in wanted:
                result[filesystem.name] = reader.dataset(filesystem)
            if left is None or left > 0:
                if DatasetKind.SNAPSHOT in wanted:
                    for snapshot in space.line(filesystem):
                        result[snapshot.full_name] = reader.dataset(snapshot)
                if DatasetKind.BOOKMARK in wanted:
                    for name, mark in sorted(filesystem.bookmarks.items()):
                        found = reader.bookmark(filesystem, name, mark, properties)
                        result[found.name] = found
    return result


def _read_one(
    reader: Reader,
    top: Filesystem,
    delimiter: str,
    tail: str,
    properties: Sequence[str],
    wanted: set[DatasetKind],
    result: dict[str, Dataset],
) -> None:
    if delimiter == "@" and DatasetKind.SNAPSHOT in wanted and tail in top.snapshots:
        snapshot = top.snapshots[tail]
        space.line(top)
        result[snapshot.full_name] = reader.dataset(snapshot)
    if delimiter == "#" and DatasetKind.BOOKMARK in wanted and tail in top.bookmarks:
        found = reader.bookmark(top, tail, top.bookmarks[tail], properties)
        result[found.name] = found


def lookup(pool: ModelPool, thing: Thing, name: str) -> Property | None:
    """Return one property as a channel program sees it; None where it has none. Refuses a name that is no property."""
    kind = DatasetKind.SNAPSHOT if isinstance(thing, Snapshot) else thing.kind
    if isinstance(thing, Snapshot):
        space.line(thing.filesystem)
    value = Reader(pool, (), live=True).getter(name, kind)(thing)
    return None if value is None or value == ABSENT else value


def is_figure(name: str) -> bool:
    """Whether a channel program gets a property as a number."""
    return name in _NUMBERS or name.startswith(_WRITTEN)


_NUMBERS = frozenset(
    {
        *("available", "createtxg", "creation", "filesystem_limit", "guid", "logicalreferenced", "logicalused"),
        *("objsetid", "pbkdf2iters", "quota", "recordsize", "referenced", "refquota", "refreservation", "reservation"),
        *("snapshot_limit", "snapshots_changed", "special_small_blocks", "used", "usedbychildren", "usedbydataset"),
        *("usedbyrefreservation", "usedbysnapshots", "userrefs", "version", "volsize", "written"),
    }
)
