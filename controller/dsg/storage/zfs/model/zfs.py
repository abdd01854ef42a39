"""OpenZFS in memory: the `Zfs` interface on a model node."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from dsg.storage.errors import AlreadyExists, InvalidValue, NotMounted, OutOfSpace, PoolNotFound, QuotaExceeded
from dsg.storage.keys import WrappingKey
from dsg.storage.zfs.interface import Dataset, DatasetKind, Diff, Hold, Pool, ProgramValue, Version
from dsg.storage.zfs.model import changes, differences, keys, names, reading, values
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.events import ModelEventStream
from dsg.storage.zfs.model.faults import Refusal
from dsg.storage.zfs.model.native import NATIVE, Rule
from dsg.storage.zfs.model.node import ModelNode
from dsg.storage.zfs.model.pool import ModelPool, refuse

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="OnNode")


class OnNode(Protocol):
    """Something that acts on a model node."""

    node: ModelNode


def operation(
    area: str, *, starts_process: bool = True
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Make a method an operation of an interface: counted, one at a time, with the fault hook around it."""

    def decorate(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        name = f"{area}.{method.__name__}"
        signature = inspect.signature(method)

        @wraps(method)
        def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            arguments: Mapping[str, object] = {}
            if self.node.faults is not None:
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                arguments = {key: value for key, value in bound.arguments.items() if key != "self"}
            return self.node.perform(
                name, arguments, lambda: method(self, *args, **kwargs), starts_process=starts_process
            )

        return cast("Callable[Concatenate[S, P], R]", call)

    return decorate


class ModelZfs:
    """The pools of a model node, as `Zfs`."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node

    @operation("zfs")
    def version(self) -> Version:
        """See `Zfs.version`."""
        return self.node.tools

    @operation("zfs")
    def pools(self) -> Mapping[str, Pool]:
        """See `Zfs.pools`."""
        return {name: pool.report() for name, pool in sorted(self.node.pools.items())}

    @operation("zfs")
    def read(
        self,
        roots: Sequence[str],
        properties: Sequence[str],
        *,
        kinds: Sequence[DatasetKind] = (DatasetKind.FILESYSTEM,),
        depth: int | None = None,
    ) -> Mapping[str, Dataset]:
        """See `Zfs.read`. Datasets of a pool whose devices are gone are left out, like those of one not imported."""
        by_pool: dict[str, list[str]] = {}
        for root in roots:
            by_pool.setdefault(names.pool_of(root), []).append(root)
        result: dict[str, Dataset] = {}
        for name, inside in by_pool.items():
            pool = self.node.pools.get(name)
            if pool is not None and pool.usable:
                result.update(reading.read(pool, inside, properties, kinds, depth))
        return result

    # ---- creating

    @operation("zfs")
    def create(self, name: str, properties: Mapping[str, str], *, key: WrappingKey | None = None) -> None:
        """See `Zfs.create`. As in OpenZFS, the properties land in transaction groups after the one that creates."""
        pool = self._pool(name)
        parent = pool.datasets.get(names.parent_of(name))
        pool.check_name(name, "create")
        parsed = values.parse(name, properties, DatasetKind.FILESYSTEM, creating=True)
        if name not in pool.datasets and parent is not None:
            new = keys.plan(pool, name, parsed, parent, self.node.key_files.get, key)
        else:
            new = None
        filesystem = changes.create(pool, name)
        if new is not None:
            keys.apply(pool, filesystem, new)
            if new.location:
                values.store(pool, filesystem, {"keylocation": new.location})
        once = {n for n in parsed if n in NATIVE and NATIVE[n].rule is Rule.ONCE}
        for fixed in once - {"encryption", "keyformat"}:
            filesystem.once[fixed] = parsed[fixed]
        self.node.commit(pool)
        self._furnish(pool, filesystem, {n: v for n, v in parsed.items() if n not in once and n != "keylocation"})

    @operation("zfs")
    def clone(self, snapshot: str, name: str, properties: Mapping[str, str]) -> None:
        """See `Zfs.clone`. As in OpenZFS, the properties land in transaction groups after the one that clones."""
        pool = self._pool(snapshot)
        pool.check_name(name, "create")
        parsed = values.parse(name, properties, DatasetKind.FILESYSTEM)
        if names.pool_of(name) != pool.name:
            text = f"cannot create '{name}': source and target pools differ"
            refuse(errno.EXDEV, InvalidValue, text, name)
        filesystem = changes.clone(pool, snapshot, name)
        self.node.commit(pool)
        self._furnish(pool, filesystem, parsed)

    def _furnish(self, pool: ModelPool, filesystem: Filesystem, parsed: Mapping[str, str]) -> None:
        """Set a new filesystem's properties; where one is refused, the filesystem is destroyed again."""
        try:
            self._set(pool, filesystem, parsed)
        except Refusal as refusal:
            if filesystem.name in pool.datasets:
                changes.destroy_filesystem(pool, filesystem.name)
                self.node.commit(pool)
            if isinstance(refusal.error, QuotaExceeded | OutOfSpace):
                text = f"cannot create '{filesystem.name}': out of space ({refusal.error})"
                raise OutOfSpace(text, subject=filesystem.name) from None
            raise

    # ---- properties

    def _set(self, pool: ModelPool, thing: Filesystem | Snapshot, parsed: Mapping[str, str]) -> None:
        """Set limits one by one, then the rest together, and report the first refusal, as zfs_set_prop_nvlist does."""
        together, limits = values.divide(parsed)
        refusal = self._set_limits(pool, thing, limits) if isinstance(thing, Filesystem) else None
        if together:
            values.store(pool, thing, together)
            self.node.commit(pool)
            if "readonly" in together and isinstance(thing, Filesystem):
                self._follow_readonly(thing)
        if refusal is not None:
            raise refusal

    def _set_limits(self, pool: ModelPool, filesystem: Filesystem, limits: Mapping[str, str]) -> Refusal | None:
        """Set each limit in a transaction group of its own; one that is refused gets a second try after the others."""
        refusals: dict[str, Refusal] = {}
        todo = list(limits)
        for _ in range(2):
            refusals = {}
            for name in todo:
                try:
                    values.store_limit(pool, filesystem, name, limits[name])
                except Refusal as refusal:
                    refusals[name] = refusal
                else:
                    self.node.commit(pool)
            todo = list(refusals)
        return next(iter(refusals.values()), None)

    def _follow_readonly(self, changed: Filesystem, *, below: bool = False) -> None:
        """Let mounts follow the readonly property, on the dataset and on those that inherit it; or on all below."""
        for point in self.node.files.of_pool(names.pool_of(changed.name)):
            place: Filesystem | None = point.filesystem if point.snapshot is None else None
            while place is not None and place is not changed and (below or "readonly" not in place.local):
                place = place.parent
            if place is changed:
                point.read_only = point.filesystem.setting("readonly") == "on"

    @operation("zfs")
    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """See `Zfs.set_properties`."""
        pool = self._pool(name)
        thing = pool.either(name)
        kind = DatasetKind.SNAPSHOT if isinstance(thing, Snapshot) else thing.kind
        self._set(pool, thing, values.parse(name, properties, kind))

    @operation("zfs")
    def inherit(self, name: str, properties: Sequence[str]) -> None:
        """See `Zfs.inherit`: each property in a transaction group of its own."""
        pool = self._pool(name)
        thing = pool.either(name)
        for key in properties:
            values.clear(pool, thing, key)
            self.node.commit(pool)
            if key == "readonly" and isinstance(thing, Filesystem):
                self._follow_readonly(thing)

    @operation("zfs")
    def rename(self, name: str, new: str) -> None:
        """See `Zfs.rename`."""
        pool = self._pool(name)
        if names.pool_of(new) != pool.name:
            refuse(errno.EXDEV, InvalidValue, f"cannot rename '{name}': datasets must be within same pool", name)
        changes.rename(pool, name, new)
        self.node.commit(pool)
        self._follow_readonly(pool.filesystem(new), below=True)

    # ---- destroying

    @operation("zfs")
    def destroy(self, name: str) -> None:
        """See `Zfs.destroy`."""
        pool = self._pool(name)
        if "@" in name:
            pool.snapshot(name)
            changes.destroy_snapshot(pool, name)
        else:
            changes.destroy_filesystem(pool, name)
        self.node.commit(pool)

    @operation("zfs")
    def destroy_snapshots(self, dataset: str, names: Sequence[str]) -> None:
        """See `Zfs.destroy_snapshots`."""
        pool = self._pool(dataset)
        pool.filesystem(dataset)
        wanted = [f"{dataset}@{name}" for name in names]
        for name in wanted:
            changes.destroy_snapshot(pool, name, apply=False)
        for name in wanted:
            changes.destroy_snapshot(pool, name)
        self.node.commit(pool)

    # ---- snapshots

    @operation("zfs")
    def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        """See `Zfs.snapshot`."""
        if not names:
            return
        pool = self._pool(names[0])
        for name in names:
            if self._pool(name) is not pool:
                refuse(
                    errno.EXDEV,
                    InvalidValue,
                    f"cannot create snapshot '{name}': all snapshots must be in one pool",
                    name,
                )
        parsed = values.parse(names[0], properties or {}, DatasetKind.SNAPSHOT)
        changes.snapshot(pool, names, parsed)
        self.node.commit(pool)

    @operation("zfs")
    def promote(self, name: str) -> None:
        """See `Zfs.promote`."""
        pool = self._pool(name)
        conflicts = changes.promote(pool, name)
        if conflicts:
            text = f"cannot promote '{name}': snapshots of the same name exist: {', '.join(sorted(conflicts))}"
            raise AlreadyExists(text, subject=name)
        self.node.commit(pool)

    @operation("zfs")
    def hold(self, snapshots: Sequence[str], tag: str) -> None:
        """See `Zfs.hold`: each snapshot in a transaction group of its own, the first refusal reported last."""
        self._each(snapshots, lambda pool, name: changes.hold(pool, name, tag))

    @operation("zfs")
    def release(self, snapshots: Sequence[str], tag: str) -> None:
        """See `Zfs.release`: each snapshot in a transaction group of its own, the first refusal reported last."""
        self._each(snapshots, lambda pool, name: changes.release(pool, name, tag))

    def _each(self, snapshots: Iterable[str], change: Callable[[ModelPool, str], None]) -> None:
        first: Refusal | PoolNotFound | None = None
        for name in snapshots:
            try:
                pool = self._pool(name)
                change(pool, name)
            except (Refusal, PoolNotFound) as refusal:
                first = first or refusal
            else:
                self.node.commit(pool)
        if first is not None:
            raise first

    @operation("zfs")
    def holds(self, snapshots: Sequence[str]) -> Sequence[Hold]:
        """See `Zfs.holds`."""
        return [Hold(name, tag) for name in snapshots for tag in sorted(self._pool(name).snapshot(name).holds)]

    @operation("zfs")
    def diff(self, snapshot: str, dataset: str, *, limit: int = 50) -> Diff:
        """See `Zfs.diff`. Files that were moved are told as such, links and directories as removed and added."""
        if "@" not in snapshot or limit < 0:
            text = f"cannot read {limit} differences of '{dataset}' and '{snapshot}'"
            refuse(errno.EINVAL, InvalidValue, text, dataset)
        pool = self._pool(dataset)
        filesystem = pool.filesystem(dataset)
        owner = pool.filesystem(names.split(snapshot)[0])
        if not filesystem.mounted or not owner.mounted:
            unmounted = owner if filesystem.mounted else filesystem
            text = f"cannot compare '{dataset}' with '{snapshot}': '{unmounted.name}' is not mounted"
            refuse(errno.ENOTSUP, NotMounted, text, unmounted.name)
        return differences.between(filesystem, pool.snapshot(snapshot), limit)

    # ---- programs, keys, events

    @operation("zfs")
    def program(self, pool: str, source: str, arguments: Sequence[str], *, sync: bool = True) -> ProgramValue:
        """See `Zfs.program`. Needs lupa, from the extra `model`."""
        from dsg.storage.zfs.model import program

        if pool not in self.node.pools:
            raise PoolNotFound(f"cannot open '{pool}': no such pool", subject=pool)
        target = self.node.pools[pool]
        if sync:
            target.require_change(pool)
            target.settle()
        try:
            return program.run(target, source, arguments, sync=sync)
        finally:
            if sync:
                self.node.commit(target)

    @operation("zfs")
    def load_key(self, name: str, key: WrappingKey | None = None) -> None:
        """See `Zfs.load_key`."""
        pool = self._pool(name)
        keys.load(pool, name, self.node.key_files.get, key)

    @operation("zfs")
    def opens(self, name: str, key: WrappingKey) -> bool:
        """See `Zfs.opens`."""
        return keys.opens(self._pool(name), name, key)

    @operation("zfs")
    def change_key(self, name: str, key: WrappingKey) -> None:
        """See `Zfs.change_key`. Of a dataset that is no encryption root, OpenZFS makes one; here that is refused."""
        pool = self._pool(name)
        keys.change(pool, name, key)
        self.node.commit(pool)

    @operation("zfs")
    def unload_key(self, name: str) -> None:
        """See `Zfs.unload_key`."""
        keys.unload(self._pool(name), name)

    @operation("zfs")
    def events(self) -> ModelEventStream:
        """See `Zfs.events`."""
        return self.node.follow()

    def _pool(self, name: str) -> ModelPool:
        return self.node.pool(name)
