"""Letting go of a ZFS repository: keep its data and say where, or destroy exactly what is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsg.storage.host import PathKind
from dsg.storage.host_steps import RemoveDirectory, RemoveLink
from dsg.storage.layout import is_generation, is_version, part_name
from dsg.storage.repository_type import Cause, Plan, Problem, Step, Target
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Dataset, DatasetKind, Hold, Zfs
from dsg.storage.zfs.observation import Observation, pool_problem, storage_of
from dsg.storage.zfs.steps import (
    DestroyDataset,
    DestroyVersions,
    DiscardUnfinished,
    SetProperties,
    Unmount,
)

_ALL = tuple(DatasetKind)
_NAMED = 8
"""How many foreign things a message names."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything below one repository's dataset, and the observation of the repository itself."""

    observed: Observation
    datasets: Mapping[str, Dataset]
    """Filesystems, volumes, snapshots and bookmarks by full name, the parent included."""
    holds: Sequence[Hold] = ()


def inventory(zfs: Zfs, target: Target, observed: Observation) -> Inventory:
    """Return everything that is there for one target: one process, and one more where snapshots are held."""
    dataset = storage_of(target).dataset
    if pool_problem(storage_of(target), observed) is not None:
        return Inventory(observed, {})
    datasets = zfs.read([dataset], ("origin", "clones", "userrefs"), kinds=_ALL, depth=None)
    held = [n for n, d in datasets.items() if d.kind is DatasetKind.SNAPSHOT and d.number("userrefs") > 0]
    return Inventory(observed, datasets, zfs.holds(held) if held else ())


def owned(target: Target, observed: Observation) -> bool:
    """Return whether there is data on disk that belongs to exactly this object."""
    return observed.parent is not None and observed.parent.local(layout.UID) == target.uid


def plan_release(target: Target, observed: Observation, now: str) -> Plan:
    """Return the steps that hide a repository and mark its data as released; data of another object is not touched."""
    storage = storage_of(target)
    if (hidden := pool_problem(storage, observed)) is not None:
        return _unseen(hidden)
    if not owned(target, observed):
        return _discard(target)
    marked = SetProperties(Cause.REMOVE, storage.dataset, ((layout.RELEASED, now),))
    return Plan((*_hide(target, observed, may_stay=True), marked))


def _unseen(problem: Problem) -> Plan:
    """Return the plan for data that can't be seen: nobody may conclude from that that there is none."""
    text = f"{problem.message}. The data can't be seen, so the object stays until it can"
    return Plan(problem=Problem("StorageFailed", text))


def _discard(target: Target) -> Plan:
    """Return the step that removes what an interrupted creation of this very object may have left."""
    unfinished = layout.unfinished(storage_of(target).dataset, target.uid)
    return Plan((DiscardUnfinished(Cause.REMOVE, unfinished),))


def _hide(target: Target, observed: Observation, *, may_stay: bool) -> list[Step]:
    storage = storage_of(target)
    steps: list[Step] = []
    link = observed.link
    if (
        link is not None
        and link.kind is PathKind.LINK
        and link.target.startswith(layout.link_target(storage.mountpoint, ""))
    ):
        steps.append(RemoveLink(Cause.REMOVE, storage.mountpoint))
    for generation in sorted(filter(is_generation, observed.children)):
        directory = layout.generation_directory(storage.mountpoint, generation)
        mount = observed.mounts.get(generation)
        if mount is None:
            # An interrupted removal may have left the directory.
            steps.append(RemoveDirectory(Cause.REMOVE, directory))
        elif mount.dataset == f"{storage.dataset}/{generation}":
            steps.append(Unmount(Cause.REMOVE, directory, may_stay=may_stay))
    for name in sorted(name for name in observed.children if part_name(name) is not None):
        steps.append(Unmount(Cause.REMOVE, layout.part_directory(storage.mountpoint, name), may_stay=may_stay))
    steps.append(RemoveDirectory(Cause.REMOVE, layout.workshop(storage.mountpoint)))
    steps.append(RemoveDirectory(Cause.REMOVE, layout.holder(storage.mountpoint)))
    return steps


def plan_destroy(target: Target, found: Inventory) -> Plan:
    """Return the steps that destroy a repository's data, or the problem that names what is not its own."""
    storage = storage_of(target)
    if (hidden := pool_problem(storage, found.observed)) is not None:
        return _unseen(hidden)
    if not owned(target, found.observed):
        return _discard(target)
    foreign = _foreign(storage.dataset, found)
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        return Plan(
            problem=Problem(
                "ForeignData",
                f"not this repository's own, and kept: {', '.join(foreign[:_NAMED])}{more}. Nothing was destroyed",
            )
        )
    return Plan((*_hide(target, found.observed, may_stay=False), *_destruction(storage_of(target).dataset, found)))


def _foreign(parent: str, found: Inventory) -> list[str]:
    foreign = [f"hold {hold.tag} on {hold.snapshot}" for hold in found.holds]
    for name, dataset in found.datasets.items():
        if name == parent:
            continue
        below = name.removeprefix(parent + "/")
        match dataset.kind:
            case DatasetKind.FILESYSTEM:
                known = is_generation(below) or part_name(below) is not None
            case DatasetKind.SNAPSHOT:
                generation, _, version = below.partition("@")
                known = is_generation(generation) and is_version(version)
            case _:
                known = False
        if not known:
            foreign.append(f"{dataset.kind} {name}")
        clones = [clone for clone in (dataset.value("clones") or "").split(",") if clone]
        foreign += [f"clone {clone} of {name}" for clone in clones if not clone.startswith(parent + "/")]
    return sorted(foreign)


def _destruction(parent: str, found: Inventory) -> list[Step]:
    """Return destroy steps in an order that ZFS accepts: clones before the snapshots they come from."""
    versions: dict[str, list[str]] = {}
    generations: list[str] = []
    for name, dataset in found.datasets.items():
        if dataset.kind is DatasetKind.SNAPSHOT:
            generation, _, version = name.partition("@")
            versions.setdefault(generation, []).append(version)
        elif name != parent:
            generations.append(name)
    steps: list[Step] = []
    waiting = {g: (found.datasets[g].value("origin") or "").partition("@")[0] for g in sorted(generations)}
    while waiting:
        free = [g for g in waiting if g not in waiting.values()]
        for generation in free:
            if versions.get(generation):
                steps.append(DestroyVersions(Cause.REMOVE, generation, tuple(versions[generation])))
            steps.append(DestroyDataset(Cause.REMOVE, generation))
            del waiting[generation]
    steps.append(DestroyDataset(Cause.REMOVE, parent))
    return steps
