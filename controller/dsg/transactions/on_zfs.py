"""Transactions on OpenZFS: a stage is a clone, the commit one channel program; former heads that are nobody's go.

Nothing here is made durable file by file: what was written before the unmount is in a transaction group that comes
before the commit's own (zfs_umount waits for it), so the version holds all of it or does not exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dsg.api.properties import native
from dsg.api.repository import ZfsStorage
from dsg.storage import errors
from dsg.storage.host import Host, Mount, PathKind
from dsg.storage.layout import FIRST_GENERATION, Part, PartName, is_generation, is_version, number, part_name
from dsg.storage.repository_type import Target
from dsg.storage.zfs import layout, policy
from dsg.storage.zfs.interface import Dataset, DatasetKind, Zfs
from dsg.storage.zfs.observation import storage_of
from dsg.transactions.commit import Commit, Head, Outcome, Reason, Refused, commit
from dsg.transactions.repository import Cleaned, Situation, Stage, VersionFound

BATCH = 100
"""Snapshots that one command destroys: its arguments stay short, and so does the transaction group."""
_NAMED = 8
"""How many paths a phrase names."""
_READ = ("origin", "written", "quota", "refquota", "refreservation", *layout.USER_PROPERTIES)
_WORKSHOP_MODE = 0o700


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at a repository's datasets and mounts."""

    storage: ZfsStorage
    parent: Dataset
    children: Mapping[str, Dataset]
    mounts: Mapping[str, Mount]
    """By directory."""

    @property
    def head(self) -> Head:
        try:
            return Head(self.parent.local(layout.HEAD) or "", self.parent.local(layout.VERSION) or "")
        except ValueError as error:
            text = f"the record on {self.parent.name} was changed by hand and names no head: {error}"
            raise errors.InvalidValue(text, subject=self.parent.name) from error

    def dataset(self, name: str) -> str:
        """Return the full name of a child."""
        return f"{self.parent.name}/{name}"

    def directory(self, name: str) -> str:
        """Return where a child is mounted when it is."""
        if is_generation(name) and number(name) <= number(self.head.generation):
            return layout.generation_directory(self.storage.mountpoint, name)
        return layout.part_directory(self.storage.mountpoint, name)

    def stages(self) -> dict[str, str]:
        """Return what transactions have built and not committed: the child's name, by uid."""
        found: dict[str, str] = {}
        for name, dataset in self.children.items():
            part = part_name(name)
            if part is not None and part.part is Part.STAGE:
                found.setdefault(part.uid, name)
            elif is_generation(name) and number(name) > number(self.head.generation):
                uid = dataset.local(layout.TRANSACTION)
                if uid is not None:
                    # Renamed for a commit that did not come: it counts more than what it may have been made from.
                    found[uid] = name
        return found

    def part(self, uid: str, part: Part) -> str | None:
        """Return the child that is a transaction's part, whatever it is called now."""
        if part is Part.STAGE:
            return self.stages().get(uid)
        name = str(PartName(part, uid))
        return name if name in self.children else None

    def mounted(self, name: str) -> bool:
        """Whether a child is mounted where it belongs."""
        mount = self.mounts.get(self.directory(name))
        return mount is not None and mount.dataset == self.dataset(name)


class ZfsTransactions:
    """Transactions on OpenZFS (`dsg.transactions.repository.TransactionType`)."""

    def __init__(self, zfs: Zfs, host: Host) -> None:
        self._zfs = zfs
        self._host = host

    def look(self, target: Target) -> Situation:
        """Return where a repository stands: one process."""
        seen = self._look(target)
        head = seen.head
        stages = {
            uid: Stage(name, seen.directory(name) if seen.mounted(name) else "") for uid, name in seen.stages().items()
        }
        root = seen.directory(head.generation) if head.generation and seen.mounted(head.generation) else ""
        return Situation(head, root, stages)

    def _look(self, target: Target) -> _Seen:
        storage = storage_of(target)
        found = self._zfs.read([storage.dataset], _READ, kinds=tuple(k for k in DatasetKind if k in _LISTED), depth=1)
        parent = found.get(storage.dataset)
        if parent is None:
            raise errors.NotFound(f"there is no dataset {storage.dataset}", subject=storage.dataset)
        children = {n.rpartition("/")[2]: d for n, d in found.items() if n != storage.dataset}
        return _Seen(storage, parent, children, {m.directory: m for m in self._host.mounts()})

    # ---- parts

    def open(self, target: Target, uid: str, part: Part, version: str) -> str:
        """Make a part by cloning a version's snapshot: a clone, unlike a mounted snapshot, stops no promote."""
        seen, name = self._look(target), str(PartName(part, uid))
        if name in seen.children and seen.children[name].local(layout.TRANSACTION) != uid:
            # Properties land after the dataset: a power cut came between, before anything was written.
            self._discard(seen, name)
            seen = self._look(target)
        if name not in seen.children:
            self._create(target, seen, uid, part, version)
        return self._accessible(target, seen, name, read_only=part is Part.READ)

    def _create(self, target: Target, seen: _Seen, uid: str, part: Part, version: str) -> None:
        dataset = seen.dataset(str(PartName(part, uid)))
        properties = {layout.TRANSACTION: uid}
        if part is not Part.READ:
            properties |= policy.creation_values(policy.generation_values(seen.storage))
            # Space that is kept free is the head's; a stage gets it when it becomes one.
            properties.pop("refreservation", None)
            limits = target.spec.transactions
            if limits is not None and limits.size_limit != "none":
                properties["quota"] = native("quota", limits.size_limit)
        try:
            if version:
                self._zfs.clone(f"{seen.dataset(seen.head.generation)}@{version}", dataset, properties)
            else:
                self._zfs.create(dataset, properties)
        except errors.AlreadyExists:
            return

    def _accessible(self, target: Target, seen: _Seen, name: str, *, read_only: bool) -> str:
        directory = seen.directory(name)
        if not seen.mounted(name):
            self._host.make_directory(layout.workshop(seen.storage.mountpoint), mode=_WORKSHOP_MODE)
            self._host.make_directory(directory, mode=0o755)
            self._host.mount(seen.dataset(name), directory, read_only=read_only)
        if not read_only:
            owner = target.spec.owner
            self._host.set_owner(directory, uid=owner.uid, gid=owner.gid, mode=int(owner.mode, 8))
        return directory

    def root(self, target: Target, uid: str, part: Part) -> str:
        """Return a part's root, mounted; one that was renamed for its commit is mounted where generations are."""
        seen = self._look(target)
        name = seen.part(uid, part)
        return self._accessible(target, seen, name, read_only=part is Part.READ) if name is not None else ""

    def close(self, target: Target, uid: str, *parts: Part) -> None:
        """Unmount and destroy parts."""
        seen = self._look(target)
        for part in parts:
            if (name := seen.part(uid, part)) is not None:
                self._discard(seen, name)

    def _discard(self, seen: _Seen, name: str) -> None:
        self._unmount(seen, name)
        with contextlib.suppress(errors.NotFound):
            self._zfs.destroy(seen.dataset(name))

    def _unmount(self, seen: _Seen, name: str) -> None:
        directory = seen.directory(name)
        if seen.mounted(name):
            with contextlib.suppress(errors.NotFound):
                self._host.unmount(directory)
        if directory not in seen.mounts or seen.mounted(name):
            with contextlib.suppress(errors.HasDependents, errors.Busy):
                self._host.remove_directory(directory)

    # ---- the commit

    def commit(self, target: Target, uid: str, part: Part, base: Head, version: str, digest: str) -> Outcome:
        """Unmount the part, give it a generation's name, and run the commit program."""
        seen = self._withdraw(self._look(target), uid, target)
        name = seen.part(uid, part) or seen.part(uid, Part.STAGE) or ""
        if name:
            self._unmount(seen, name)
            self._as_generation(seen, name, uid)
        if name and not is_generation(name):
            generation = f"g{1 + max((number(n) for n in seen.children if is_generation(n)), default=0)}"
            self._zfs.rename(seen.dataset(name), seen.dataset(generation))
        else:
            generation = name or f"g{number(base.generation) + 1}"
        # Bytes written past the transactions stay with the former generation, which is then kept for them: see `clean`.
        former = seen.children.get(base.generation)
        written = former.number("written") if former is not None else 0
        wanted = Commit(seen.parent.name, base, generation, version, uid, digest, written)
        outcome = commit(self._zfs, wanted)
        if isinstance(outcome, Refused) and outcome.reason is Reason.WRITTEN:
            # Somebody's snapshot stands between the base and what was written.
            outcome = commit(self._zfs, replace(wanted, accepted=self._written(seen, base)))
        return outcome

    def _as_generation(self, seen: _Seen, name: str, uid: str) -> None:
        """Give a stage the limits of a generation: the quota was the transaction's, and the spec may have changed.

        It must also say whose it is before it has a generation's name: a power cut can have taken that property.
        """
        dataset, wanted = seen.children[name], policy.generation_values(seen.storage)
        values = {}
        if dataset.local(layout.TRANSACTION) != uid:
            values[layout.TRANSACTION] = uid
        if dataset.number("quota"):
            values["quota"] = "none"
        if dataset.number("refquota") != int(wanted["refquota"] or 0):
            values["refquota"] = policy.settable("refquota", wanted["refquota"] or "0")
        if values:
            self._zfs.set_properties(dataset.name, values)

    def _withdraw(self, seen: _Seen, uid: str, target: Target) -> _Seen:
        """Take generations' names from trees whose commit was interrupted: the head is about to get such a name."""
        changed = False
        for name, dataset in list(self._numbered(seen)):
            other = dataset.local(layout.TRANSACTION)
            if other is None or other == uid:
                continue
            self._unmount(seen, name)
            stage = str(PartName(Part.STAGE, other))
            if stage in seen.children:
                # What it was rebased from is still there.
                self._discard(seen, name)
            else:
                self._zfs.rename(dataset.name, seen.dataset(stage))
            changed = True
        return self._look(target) if changed else seen

    def _numbered(self, seen: _Seen) -> Iterable[tuple[str, Dataset]]:
        head = number(seen.head.generation)
        return ((n, d) for n, d in seen.children.items() if is_generation(n) and number(n) > head)

    def _written(self, seen: _Seen, base: Head) -> int:
        if not base.version or base.generation not in seen.children:
            return 0
        dataset, since = seen.dataset(base.generation), f"written@{base.version}"
        found = self._zfs.read([dataset], [since], depth=0).get(dataset)
        return found.number(since) if found is not None else 0

    def reveal(self, target: Target) -> str:
        """Mount the head read-only and point the public link to it in one rename."""
        seen = self._look(target)
        head, mountpoint = seen.head.generation, seen.storage.mountpoint
        if not head:
            raise errors.NotFound(f"{seen.parent.name} names no head", subject=seen.parent.name)
        directory = seen.directory(head)
        mount = seen.mounts.get(directory)
        if mount is not None and mount.dataset != seen.dataset(head):
            text = f"{mount.dataset} is mounted at {directory}, where the head belongs; unmount it"
            raise errors.AlreadyExists(text, subject=directory)
        if mount is None:
            self._host.make_directory(directory, mode=0o755)
            self._host.mount(seen.dataset(head), directory, read_only=True)
        elif not mount.read_only:
            self._host.remount(directory, read_only=True)
        link, ours = self._host.stat(mountpoint), layout.link_target(mountpoint, "")
        if link is None or (link.kind is PathKind.LINK and link.target.startswith(ours)):
            self._host.point_link(mountpoint, layout.link_target(mountpoint, head))
        return directory

    # ---- what is over

    def clean(self, target: Target, live: Collection[str]) -> Cleaned:
        """Remove what is over. Costs one process where there is nothing."""
        seen = self._look(target)
        head = seen.head
        link = self._host.stat(seen.storage.mountpoint)
        ours = layout.link_target(seen.storage.mountpoint, "")
        if link is not None and link.target.startswith(ours) and link.target != f"{ours}{head.generation}":
            # A commit whose reveal did not come: what readers see now must not be taken from under them.
            self.reveal(target)
            seen = self._look(target)
        removed: list[str] = []
        kept: list[str] = []
        waits: list[str] = []
        for name in sorted(seen.children, key=lambda n: (number(n) if is_generation(n) else 0, n)):
            if name == head.generation:
                with contextlib.suppress(errors.Busy):
                    kept += self._written_in_head(seen, head)
                continue
            try:
                reason = self._clean_one(seen, name, head, live)
            except errors.Busy:
                waits.append(f"{seen.dataset(name)} is still in use")
                continue
            except errors.HasDependents as error:
                reason = f"{seen.dataset(name)}: {error}"
            if reason is None:
                removed.append(name)
            elif reason:
                kept.append(reason)
        if not waits and not kept:
            self._reserve(seen, head)
        return Cleaned(tuple(removed), tuple(kept), tuple(waits))

    def _reserve(self, seen: _Seen, head: Head) -> None:
        """Keep space free for the head, once the former head has given back its own."""
        wanted, dataset = policy.generation_values(seen.storage)["refreservation"], seen.children.get(head.generation)
        if dataset is not None and wanted is not None and dataset.number("refreservation") != int(wanted):
            value = policy.settable("refreservation", wanted)
            self._zfs.set_properties(dataset.name, {"refreservation": value})

    def _clean_one(self, seen: _Seen, name: str, head: Head, live: Collection[str]) -> str | None:
        """Remove one child: None when it is gone, "" when it is left in peace, else why it is kept."""
        dataset, part = seen.children[name], part_name(name)
        if part is not None:
            if part.uid in live:
                return ""
            self._discard(seen, name)
            return None
        if not is_generation(name) or dataset.kind is not DatasetKind.FILESYSTEM:
            return f"{dataset.kind} {dataset.name} is not this repository's own"
        uid = dataset.local(layout.TRANSACTION)
        if number(name) > number(head.generation):
            if uid is None:
                return f"generation {dataset.name} is newer than the head and no transaction made it"
            if uid in live:
                return ""
            self._discard(seen, name)
            return None
        return self._retire(seen, name, head)

    def _retire(self, seen: _Seen, name: str, head: Head) -> str | None:
        """Destroy a generation that was the head, if nothing in it is anybody else's."""
        dataset = seen.children[name]
        snapshots = self._zfs.read([dataset.name], ("guid",), kinds=[DatasetKind.SNAPSHOT], depth=1)
        if any("@zfs-diff-" in name for name in snapshots):
            raise errors.Busy(f"somebody runs zfs diff on {dataset.name}", subject=dataset.name)
        if snapshots:
            return f"generation {dataset.name} has snapshots that no transaction made: {_some(sorted(snapshots))}"
        origin = dataset.value("origin")
        if dataset.local(layout.TRANSACTION) is None and (name != FIRST_GENERATION or origin is not None):
            # The first one was made with the repository, every other by a transaction.
            return f"generation {dataset.name} was made by no transaction"
        if origin is None and head.version:
            if (reason := self._not_empty(seen, name)) is not None:
                return reason
        elif origin is None or origin.rpartition("@")[0] != seen.dataset(head.generation):
            return f"generation {dataset.name} was not the head before {head.generation}"
        elif dataset.number("written"):
            self._mount_to_look(seen, name)
            if (reason := self._differs(origin, dataset.name)) is not None:
                return reason
        self._unmount(self._again(seen), name)
        # What was written a moment ago shows in `written` when its transaction group is on disk, and unmounting what is
        # read-only does not wait for that; any change of a property does.
        said = f"{head.version}:{dataset.number('written')}"
        self._zfs.set_properties(dataset.name, {layout.ACCEPTED: said})
        after = self._zfs.read([dataset.name], ("written",), depth=0).get(dataset.name)
        if after is not None and after.number("written") > dataset.number("written"):
            raise errors.Busy(f"{dataset.name} was written to just now", subject=dataset.name)
        with contextlib.suppress(errors.NotFound):
            self._zfs.destroy(dataset.name)
        return None

    def _written_in_head(self, seen: _Seen, head: Head) -> list[str]:
        dataset = seen.children[head.generation]
        if not head.version or not dataset.number("written") or not seen.mounted(head.generation):
            return []
        said = f"{head.version}:{dataset.number('written')}"
        if seen.parent.local(layout.ACCEPTED) == said:
            return []
        reason = self._differs(f"{dataset.name}@{head.version}", dataset.name)
        if reason is not None:
            return [reason]
        # Mounting counts as writing. Noted, so that it is looked into once and not at every start.
        self._zfs.set_properties(seen.parent.name, {layout.ACCEPTED: said})
        return []

    def _differs(self, snapshot: str, dataset: str) -> str | None:
        """Return what was written past the transactions; the root's own owner and mode are policy."""
        try:
            found = self._zfs.diff(snapshot, dataset, limit=_NAMED)
        except errors.NotMounted as error:
            # The head is not revealed yet, after a reboot for instance; looked at again when it is.
            raise errors.Busy(str(error), subject=dataset) from error
        paths = [change.path for change in found.changes if change.path]
        if not paths and not found.more:
            return None
        more = " and more" if found.more else ""
        return f"written past the transactions in {dataset}: {', '.join(map(repr, paths))}{more}"

    def _not_empty(self, seen: _Seen, name: str) -> str | None:
        """Return why a generation that no version came before is kept: something lies in it."""
        self._mount_to_look(seen, name)
        state = self._host.stat(seen.directory(name))
        if state is None or not state.empty:
            return f"generation {seen.dataset(name)} holds files and was never a version"
        return None

    def _mount_to_look(self, seen: _Seen, name: str) -> None:
        if not seen.mounted(name):
            self._host.make_directory(seen.directory(name), mode=0o755)
            self._host.mount(seen.dataset(name), seen.directory(name), read_only=True)

    def _again(self, seen: _Seen) -> _Seen:
        return _Seen(seen.storage, seen.parent, seen.children, {m.directory: m for m in self._host.mounts()})

    # ---- versions

    def versions(self, targets: Sequence[Target]) -> Mapping[str, Sequence[VersionFound]]:
        """Return the snapshots of each repository: two processes however many there are."""
        parents = {storage_of(target).dataset: target.identity for target in targets}
        result: dict[str, list[VersionFound]] = {identity: [] for identity in parents.values()}
        if not parents:
            return result
        heads = {
            f"{name}/{dataset.local(layout.HEAD)}": parents[name]
            for name, dataset in self._zfs.read(list(parents), (layout.HEAD,), depth=0).items()
            if dataset.local(layout.HEAD)
        }
        properties = ("creation", "userrefs", "clones")
        found = self._zfs.read(list(heads), properties, kinds=[DatasetKind.SNAPSHOT], depth=1) if heads else {}
        for full, snapshot in found.items():
            dataset, _, version = full.partition("@")
            if dataset in heads and is_version(version):
                time = datetime.fromtimestamp(snapshot.number("creation"), UTC)
                result[heads[dataset]].append(VersionFound(version, time, _held(snapshot)))
        return result

    def prune(self, target: Target, versions: Sequence[str]) -> None:
        """Destroy snapshots of the head, a batch with each command."""
        seen = self._look(target)
        dataset = seen.dataset(seen.head.generation)
        for start in range(0, len(versions), BATCH):
            self._zfs.destroy_snapshots(dataset, versions[start : start + BATCH])


_LISTED = frozenset({DatasetKind.FILESYSTEM, DatasetKind.VOLUME})


def _held(snapshot: Dataset) -> str:
    if snapshot.number("userrefs"):
        return f"{snapshot.name} has a hold (zfs holds {snapshot.name})"
    clones = [clone for clone in (snapshot.value("clones") or "").split(",") if clone]
    return f"{snapshot.name} has a clone, {clones[0]}" if clones else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
