"""What is there for repositories on OpenZFS, read for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dsg.api.properties import PROPERTY_RULES
from dsg.api.repository import ZfsStorage
from dsg.storage.errors import StorageError
from dsg.storage.host import Host, PathState
from dsg.storage.host import Mount as HostMount
from dsg.storage.layout import FIRST_GENERATION
from dsg.storage.repository_type import Problem, Target
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Dataset, DatasetKind, Pool, Zfs

_READ = (
    *(rule.zfs for rule in PROPERTY_RULES),
    "mountpoint",
    "canmount",
    "encryption",
    "encryptionroot",
    "keylocation",
    "keystatus",
    "used",
    "available",
    "origin",
    "written",
    *layout.USER_PROPERTIES,
)
_KINDS = (DatasetKind.FILESYSTEM, DatasetKind.VOLUME)


@dataclass(frozen=True, slots=True)
class Observation:
    """What is there for one repository."""

    pool: Pool | None
    parent: Dataset | None = None
    children: Mapping[str, Dataset] = field(default_factory=dict)
    """Filesystems and volumes directly below the parent, by last component."""
    mounts: Mapping[str, HostMount] = field(default_factory=dict)
    """What is visible at the directory of each generation, by generation."""
    root: PathState | None = None
    """The root of the head's mounted tree; None while it is not mounted."""
    link: PathState | None = None
    """What stands at the public path."""

    @property
    def head(self) -> str | None:
        """Return the generation that the head property names."""
        return self.parent.local(layout.HEAD) if self.parent is not None else None


def pool_problem(storage: ZfsStorage, observed: Observation) -> Problem | None:
    """Return why the pool can't be used now; None when it can."""
    if observed.pool is None:
        return Problem("PoolUnavailable", f"pool {storage.pool} is not imported on node {storage.node}")
    match observed.pool.health:
        case "SUSPENDED":
            return Problem("PoolSuspended", f"the I/O of pool {storage.pool} is suspended: {observed.pool.status}")
        case "ONLINE" | "DEGRADED":
            return None
        case other:
            return Problem("PoolFaulted", f"pool {storage.pool} is {other}: {observed.pool.status}")


def storage_of(target: Target) -> ZfsStorage:
    """Return the target's storage. Raises TypeError for a target of another type."""
    storage = target.spec.storage
    if not isinstance(storage, ZfsStorage):
        raise TypeError(f"{target.identity} is not stored on ZFS")
    return storage


Family = Mapping[str, tuple[Dataset | None, Mapping[str, Dataset]]]
"""Each parent dataset with its children, by the parent's name."""


def observe(zfs: Zfs, host: Host, targets: Sequence[Target]) -> Mapping[str, Observation | StorageError]:
    """Return what is there for each target, by identity.

    Costs the processes of `zfs.pools()` and one more, however many targets; one more for each pool when reading all of
    them at once fails, so that a sick pool does not hide the others.
    """
    try:
        pools = zfs.pools()
    except StorageError as error:
        return {target.identity: error for target in targets}
    wanted: dict[str, list[str]] = {}
    for target in targets:
        storage = storage_of(target)
        pool = pools.get(storage.pool)
        if pool is not None and pool.health != "SUSPENDED":
            wanted.setdefault(storage.pool, []).append(storage.dataset)
    read = _read(zfs, wanted)
    mounts = {mount.directory: mount for mount in host.mounts()}
    found: dict[str, Observation | StorageError] = {}
    for target in targets:
        storage = storage_of(target)
        families = read.get(storage.pool, {})
        if isinstance(families, StorageError):
            found[target.identity] = families
            continue
        parent, children = families.get(storage.dataset, (None, {}))
        try:
            found[target.identity] = _one(host, storage, pools.get(storage.pool), parent, children, mounts)
        except StorageError as error:
            found[target.identity] = error
    return found


def _read(zfs: Zfs, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Family | StorageError]:
    if not wanted:
        return {}
    try:
        everything = _families(zfs.read([d for ds in wanted.values() for d in ds], _READ, kinds=_KINDS, depth=1))
    except StorageError as error:
        if len(wanted) == 1:
            return dict.fromkeys(wanted, error)
    else:
        return dict.fromkeys(wanted, everything)
    result: dict[str, Family | StorageError] = {}
    for pool, datasets in wanted.items():
        try:
            result[pool] = _families(zfs.read(datasets, _READ, kinds=_KINDS, depth=1))
        except StorageError as error:
            result[pool] = error
    return result


def _families(datasets: Mapping[str, Dataset]) -> Family:
    children: dict[str, dict[str, Dataset]] = {}
    for name, dataset in datasets.items():
        parent, _, last = name.rpartition("/")
        children.setdefault(parent, {})[last] = dataset
    return {name: (dataset, children.get(name, {})) for name, dataset in datasets.items()}


def _one(
    host: Host,
    storage: ZfsStorage,
    pool: Pool | None,
    parent: Dataset | None,
    children: Mapping[str, Dataset],
    mounts: Mapping[str, HostMount],
) -> Observation:
    if pool is None or pool.health == "SUSPENDED":
        # Looking into a mount of a pool that does not answer would hang.
        return Observation(pool, link=host.stat(storage.mountpoint))
    directories = {g: layout.generation_directory(storage.mountpoint, g) for g in {*children, FIRST_GENERATION}}
    here = {g: mounts[d] for g, d in directories.items() if d in mounts}
    head = (parent.local(layout.HEAD) if parent is not None else None) or FIRST_GENERATION
    mounted = here.get(head)
    root = None
    if mounted is not None and mounted.dataset == f"{storage.dataset}/{head}":
        root = host.stat(directories[head])
    return Observation(pool, parent, children, here, root, host.stat(storage.mountpoint))
