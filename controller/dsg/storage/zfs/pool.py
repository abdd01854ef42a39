"""StoragePools on OpenZFS: how well a pool is, and the dataset and directory below which repositories are placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

from dsg.api.storagepool import ErrorCounts, ScanStatus, ZfsPoolStorage
from dsg.storage.errors import StorageError
from dsg.storage.host import Host, PathKind, PathState
from dsg.storage.host_steps import HostStep, MakeDirectory
from dsg.storage.pool_type import PoolFacts, PoolTarget
from dsg.storage.repository_type import Cause, Plan, Problem, Step
from dsg.storage.zfs.interface import Dataset, Pool, Zfs
from dsg.storage.zfs.steps import CreateDataset, ZfsStep

_USABLE = frozenset({"ONLINE", "DEGRADED"})


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What is there for one StoragePool."""

    pool: Pool | None
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    """The root and the datasets above it, as far as they exist."""
    mount_root: PathState | None = None


def storage_of(target: PoolTarget) -> ZfsPoolStorage:
    """Return the target's storage. Raises TypeError for a target of another type."""
    storage = target.spec.storage
    if not isinstance(storage, ZfsPoolStorage):
        raise TypeError(f"StoragePool {target.name} is not on ZFS")
    return storage


def _lineage(root: str) -> list[str]:
    """Return the dataset and those above it, without the pool: tank/a/b gives tank/a, tank/a/b."""
    parts = root.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts) + 1)]


class ZfsPools:
    """StoragePools on OpenZFS (`dsg.storage.pool_type.PoolType`)."""

    def __init__(self, zfs: Zfs, host: Host) -> None:
        self._zfs = zfs
        self._host = host

    def observe(self, targets: Sequence[PoolTarget]) -> Mapping[str, PoolObservation | StorageError]:
        """Return what is there for each StoragePool; the processes of `zfs.pools()` and one more."""
        try:
            pools = self._zfs.pools()
            present = [t for t in targets if (p := pools.get(storage_of(t).pool)) is not None and p.health in _USABLE]
            roots = sorted({dataset for t in present for dataset in _lineage(storage_of(t).root)})
            datasets = self._zfs.read(roots, ("mountpoint",), depth=0) if roots else {}
        except StorageError as error:
            return {target.name: error for target in targets}
        return {target.name: self._one(target, pools, datasets) for target in targets}

    def _one(
        self, target: PoolTarget, pools: Mapping[str, Pool], datasets: Mapping[str, Dataset]
    ) -> PoolObservation | StorageError:
        storage = storage_of(target)
        mine = {name: datasets[name] for name in _lineage(storage.root) if name in datasets}
        try:
            return PoolObservation(pools.get(storage.pool), mine, self._host.stat(storage.mount_root))
        except StorageError as error:
            return error

    def plan(self, target: PoolTarget, observed: PoolObservation) -> Plan:
        """Return the steps that make the declared root and mountRoot, or the problem that makes the pool unusable."""
        storage, pool = storage_of(target), observed.pool
        if pool is None:
            return Plan(problem=Problem("PoolUnavailable", f"pool {storage.pool} is not imported on {storage.node}"))
        if pool.health == "SUSPENDED":
            return Plan(problem=Problem("PoolSuspended", f"the I/O of pool {pool.name} is suspended: {pool.status}"))
        if pool.health not in _USABLE:
            return Plan(problem=Problem("PoolFaulted", f"pool {pool.name} is {pool.health}: {pool.status}"))
        if pool.readonly:
            return Plan(problem=Problem("PoolFaulted", f"pool {pool.name} was imported read-only"))
        steps: list[Step] = [
            CreateDataset(Cause.CREATE, dataset, (("mountpoint", "legacy"), ("canmount", "off")))
            for dataset in _lineage(storage.root)
            if dataset not in observed.datasets
        ]
        if observed.mount_root is None:
            steps.append(MakeDirectory(Cause.CREATE, storage.mount_root))
        elif observed.mount_root.kind is not PathKind.DIRECTORY:
            what = f"mountRoot {PurePosixPath(storage.mount_root)} is a {observed.mount_root.kind}, not a directory"
            return Plan(tuple(steps), problem=Problem("StorageError", what))
        return Plan(tuple(steps))

    def apply(self, step: ZfsStep | HostStep) -> None:
        """Take one step."""
        if isinstance(step, HostStep):
            step.apply(self._host)
        else:
            step.apply(self._zfs, self._host)

    def facts(self, observed: PoolObservation) -> PoolFacts | None:
        """Return the pool's state; None when it is not imported."""
        pool = observed.pool
        if pool is None:
            return None
        counts = ErrorCounts(
            read=pool.read_errors, write=pool.write_errors, checksum=pool.checksum_errors, data=pool.data_errors
        )
        erroneous = any((counts.read, counts.write, counts.checksum, counts.data))
        scan = pool.scan
        finished = scan.function == "scrub" and scan.state == "finished"
        return PoolFacts(
            guid=pool.guid,
            health=pool.health,
            size=pool.size,
            free=pool.free,
            capacity_percent=pool.capacity_percent,
            healthy=pool.health == "ONLINE" and not erroneous,
            trouble=pool.status,
            fragmentation_percent=pool.fragmentation_percent,
            scan=ScanStatus(
                function=scan.function,
                state=scan.state,
                ended=_rfc3339(scan.ended) if scan.ended else "",
                errors=scan.errors,
            ),
            scan_ended=scan.ended if finished else None,
            scrubs=True,
            errors=counts,
        )


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
