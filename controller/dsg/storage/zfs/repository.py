"""The repository type `zfs`: a thin face over observing, planning, removal and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsg.api.repository import StorageStatus
from dsg.api.sizes import from_bytes
from dsg.storage.errors import StorageError
from dsg.storage.host import Host
from dsg.storage.host_steps import HostStep
from dsg.storage.keys import KeyNeed, Keys
from dsg.storage.repository_type import Outline, Plan, Target
from dsg.storage.zfs import keying, layout, planning, removal
from dsg.storage.zfs.interface import Zfs
from dsg.storage.zfs.observation import Observation, observe, storage_of
from dsg.storage.zfs.removal import Inventory
from dsg.storage.zfs.steps import ZfsStep


class ZfsRepositories:
    """Repositories on OpenZFS (`dsg.storage.repository_type.RepositoryType`)."""

    def __init__(self, zfs: Zfs, host: Host) -> None:
        self._zfs = zfs
        self._host = host

    def observe(self, targets: Sequence[Target]) -> Mapping[str, Observation | StorageError]:
        """Return what is there for each target, by identity; an error stands for what could not be read."""
        return observe(self._zfs, self._host, targets)

    def inventory(self, target: Target) -> Inventory:
        """Return everything that is there for one target, versions and holds included."""
        observed = self.observe([target])[target.identity]
        if isinstance(observed, StorageError):
            raise observed
        return removal.inventory(self._zfs, target, observed)

    def key_need(self, target: Target, observed: Observation) -> KeyNeed:
        """Return what planning needs of the target's Secret."""
        return keying.need(target, observed)

    def key_fits(self, target: Target, observed: Observation, keys: Keys) -> bool:
        """Try whether a target's open repository has the current key."""
        return self._zfs.opens(storage_of(target).dataset, keys.current)

    def plan(self, target: Target, observed: Observation) -> Plan:
        """Return the steps from what was observed to what the target asks for."""
        return planning.plan(target, observed)

    def plan_release(self, target: Target, observed: Observation, now: str) -> Plan:
        """Return the steps that let go of a repository and keep its data."""
        return removal.plan_release(target, observed, now)

    def plan_destroy(self, target: Target, observed: Inventory) -> Plan:
        """Return the steps that destroy a repository's data."""
        return removal.plan_destroy(target, observed)

    def apply(self, step: ZfsStep | HostStep) -> None:
        """Take one step."""
        if isinstance(step, HostStep):
            step.apply(self._host)
        else:
            step.apply(self._zfs, self._host)

    def status(self, target: Target, observed: Observation) -> StorageStatus:
        """Return what the Repository's status says of the storage."""
        storage, parent, head = storage_of(target), observed.parent, observed.head
        if parent is None or not removal.owned(target, observed):
            return StorageStatus()
        quota, used = parent.number("quota"), parent.number("used")
        return StorageStatus(
            location=storage.dataset,
            generation=head or "",
            mounted_at=layout.generation_directory(storage.mountpoint, head) if head and observed.root else "",
            used=from_bytes(used),
            # What the pool has left would change the status of every repository in it.
            available=from_bytes(max(0, quota - used)) if quota else "",
            used_percent=round(100 * used / quota) if quota else None,
            key=keying.state(parent),
        )

    def outline(self, target: Target, observed: Observation) -> Outline:
        """Return what was seen of the repository's versions."""
        storage, parent, head = storage_of(target), observed.parent, observed.head
        if parent is None or head is None or not removal.owned(target, observed):
            return Outline()
        version = parent.local(layout.VERSION) or ""
        others = tuple(sorted(name for name in observed.children if name != head))
        written = observed.children[head].number("written") if head in observed.children else 0
        known = f"{version}:{written}" == parent.local(layout.ACCEPTED)
        return Outline(
            head,
            version,
            layout.generation_directory(storage.mountpoint, head) if observed.root is not None else "",
            others,
            str(written) if version and written and not known else "",
        )

    def whereabouts(self, target: Target, observed: Observation) -> str:
        """Return where the data is."""
        storage = storage_of(target)
        if not removal.owned(target, observed):
            return f"no data of this Repository is on node {storage.node}"
        return (
            f"dataset {storage.dataset} on node {storage.node}, head {observed.head or 'none'}; to use it again, "
            f"apply a Repository {target.identity} with spec.storage.adopt: true"
        )
