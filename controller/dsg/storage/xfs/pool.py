"""StoragePools on POSIX file systems: whether the directory is there, and how full its file system is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsg.api.storagepool import XfsPoolStorage
from dsg.storage.errors import StorageError
from dsg.storage.host import Host, PathKind, PathState
from dsg.storage.host_steps import HostStep, MakeDirectory
from dsg.storage.pool_type import PoolFacts, PoolTarget
from dsg.storage.repository_type import Cause, Plan, Problem
from dsg.storage.xfs.files import Files, Space


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What is there for one StoragePool."""

    directory: PathState | None
    space: Space | None
    mount_root: PathState | None


def storage_of(target: PoolTarget) -> XfsPoolStorage:
    """Return the target's storage. Raises TypeError for a target of another type."""
    storage = target.spec.storage
    if not isinstance(storage, XfsPoolStorage):
        raise TypeError(f"StoragePool {target.name} is not on a POSIX file system")
    return storage


class XfsPools:
    """StoragePools on POSIX file systems (`dsg.storage.pool_type.PoolType`)."""

    def __init__(self, host: Host, files: Files) -> None:
        self._host = host
        self._files = files

    def observe(self, targets: Sequence[PoolTarget]) -> Mapping[str, PoolObservation | StorageError]:
        """Return what is there for each StoragePool; starts no process."""
        found: dict[str, PoolObservation | StorageError] = {}
        for target in targets:
            storage = storage_of(target)
            try:
                found[target.name] = PoolObservation(
                    self._host.stat(storage.directory),
                    self._files.space(storage.directory),
                    self._host.stat(storage.mount_root),
                )
            except StorageError as error:
                found[target.name] = error
        return found

    def plan(self, target: PoolTarget, observed: PoolObservation) -> Plan:
        """Return the step that makes the declared mountRoot, or the problem that makes the storage unusable."""
        storage = storage_of(target)
        if observed.directory is None or observed.directory.kind is not PathKind.DIRECTORY:
            text = f"directory {storage.directory} is not there on node {storage.node}; is the file system mounted?"
            return Plan(problem=Problem("PoolUnavailable", text))
        if observed.mount_root is None:
            return Plan((MakeDirectory(Cause.CREATE, storage.mount_root),))
        if observed.mount_root.kind is not PathKind.DIRECTORY:
            text = f"mountRoot {storage.mount_root} is a {observed.mount_root.kind}, not a directory"
            return Plan(problem=Problem("StorageError", text))
        return Plan()

    def apply(self, step: HostStep) -> None:
        """Take one step."""
        step.apply(self._host)

    def facts(self, observed: PoolObservation) -> PoolFacts | None:
        """Return the file system's state; None when the directory is not there."""
        space = observed.space
        if space is None:
            return None
        taken = space.size - space.free
        return PoolFacts(
            guid=space.identity,
            health="ONLINE",
            size=space.size,
            free=space.free,
            capacity_percent=round(100 * taken / space.size) if space.size else 0,
            healthy=True,
        )
