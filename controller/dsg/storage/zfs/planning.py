"""From what is there to what was declared: the plan of one ZFS repository, as a pure function."""

from __future__ import annotations

from collections.abc import Iterable

from dsg.api.repository import ZfsStorage
from dsg.storage.host import PathKind
from dsg.storage.host_steps import PointLink
from dsg.storage.keys import Keys
from dsg.storage.layout import FIRST_GENERATION, is_generation
from dsg.storage.ownership import owner_text, wanted_owner
from dsg.storage.repository_type import Cause, Finding, Plan, Problem, Step, Target
from dsg.storage.zfs import keying, layout, policy
from dsg.storage.zfs.interface import Dataset, DatasetKind
from dsg.storage.zfs.observation import Observation, pool_problem, storage_of
from dsg.storage.zfs.received import identity_of, take_over
from dsg.storage.zfs.steps import (
    CreateDataset,
    CreateParent,
    InheritProperties,
    MakeReadOnly,
    Mount,
    SetOwner,
    SetProperties,
)


def plan(target: Target, observed: Observation) -> Plan:
    """Return the steps from what was observed to what the target asks for."""
    storage = storage_of(target)
    problem = pool_problem(storage, observed)
    if problem is None and (taken := take_over(target, storage, observed)) is not None:
        return taken
    problem = problem or _ownership_problem(target, storage, observed)
    if problem is not None:
        return Plan(problem=problem)
    link_problem = _link_problem(storage, observed)
    if observed.parent is None:
        keys = keying.given(target)
        missing = link_problem or (keys if isinstance(keys, Problem) else None)
        if missing is not None:
            return Plan(problem=missing)
        return Plan(steps=_creation(target, storage, keys if isinstance(keys, Keys) else None))
    return _upkeep(target, storage, observed, observed.parent, link_problem)


def _ownership_problem(target: Target, storage: ZfsStorage, observed: Observation) -> Problem | None:
    parent = observed.parent
    if parent is None:
        if not target.existed:
            return None
        return Problem(
            "DataMissing",
            f"dataset {storage.dataset} existed and is gone. Nothing was created in its place: restore it, for example "
            f"with zfs receive, or delete this Repository and apply it anew to begin with an empty one",
        )
    if parent.kind is not DatasetKind.FILESYSTEM:
        return Problem("DatasetForeign", f"{storage.dataset} is a {parent.kind}, not a filesystem; it was not touched")
    if parent.local(layout.UID) != target.uid and (foreign := _adoption_problem(target, storage, parent)) is not None:
        return foreign
    written = parent.local(layout.LAYOUT_PROPERTY)
    if written not in {None, layout.LAYOUT}:
        return Problem(
            "LayoutUnknown",
            f"dataset {storage.dataset} has layout {written} and this operator knows {layout.LAYOUT}; upgrade it",
        )
    return _head_problem(target, storage, observed, parent)


def _adoption_problem(target: Target, storage: ZfsStorage, parent: Dataset) -> Problem | None:
    identity = identity_of(parent)
    take = f"zfs set {layout.IDENTITY}={target.identity} {storage.dataset}"
    if identity is None:
        return Problem(
            "DatasetForeign",
            f"dataset {storage.dataset} exists and was not made for a Repository; it was not touched. "
            f"To take it over, set adopt to true and run on the node: {take}",
        )
    if identity != target.identity:
        return Problem(
            "DatasetForeign",
            f"dataset {storage.dataset} belongs to Repository {identity}; it was not touched. If that one is gone for "
            f"good, set adopt to true here and run on the node: {take}",
        )
    if not storage.adopt:
        return Problem(
            "DatasetForeign",
            f"dataset {storage.dataset} holds the data of an earlier {identity}; it was not touched. "
            f"To take it over, set spec.storage.adopt to true",
        )
    return None


def _head_problem(target: Target, storage: ZfsStorage, observed: Observation, parent: Dataset) -> Problem | None:
    head, generations = observed.head, sorted(filter(is_generation, observed.children))
    if head is None:
        interrupted = parent.local(layout.UID) == target.uid and not target.existed
        if interrupted and generations in ([], [FIRST_GENERATION]):
            return None
        return Problem(
            "LayoutUnknown" if not target.existed else "DataMissing",
            f"dataset {storage.dataset} names no head. Its data must lie in a filesystem below it that is called "
            f"{FIRST_GENERATION} or another generation; then run on the node: "
            f"zfs set {layout.HEAD}={generations[-1] if generations else FIRST_GENERATION} {storage.dataset}",
        )
    if not is_generation(head) or head not in observed.children:
        return Problem(
            "DataMissing",
            f"the head of {storage.dataset} is {head}, and there is no filesystem {storage.dataset}/{head}. "
            f"Restore it, or name another generation with zfs set {layout.HEAD}=…",
        )
    return None


def _link_problem(storage: ZfsStorage, observed: Observation) -> Problem | None:
    link = observed.link
    if link is None:
        return None
    if link.kind is not PathKind.LINK:
        return Problem(
            "MountpointTaken",
            f"{storage.mountpoint} is a {link.kind}, where the repository's link should be; it was not touched",
        )
    ours = link.target.startswith(layout.link_target(storage.mountpoint, ""))
    if not ours and observed.head is None:
        return Problem(
            "MountpointTaken",
            f"{storage.mountpoint} is a link to {link.target}, which is not this repository's; it was not touched",
        )
    return None


def _creation(target: Target, storage: ZfsStorage, keys: Keys | None) -> tuple[Step, ...]:
    values = policy.creation_values(policy.parent_values(storage)) | policy.identity_values(target)
    if storage.encryption is not None:
        values |= {"encryption": storage.encryption.algorithm, "keyformat": "raw"}
    if keys is not None:
        values |= keying.identifying(target, keys)
    unfinished = layout.unfinished(storage.dataset, target.uid)
    key = None if keys is None else keys.current
    parent = CreateParent(Cause.CREATE, storage.dataset, unfinished, tuple(values.items()), key)
    return (parent, *_first_generation(target, storage, create=True))


def _first_generation(target: Target, storage: ZfsStorage, *, create: bool) -> tuple[Step, ...]:
    """Return the steps from a parent without a head to a revealed first generation; each is safe to repeat."""
    dataset = f"{storage.dataset}/{FIRST_GENERATION}"
    directory = layout.generation_directory(storage.mountpoint, FIRST_GENERATION)
    steps: list[Step] = []
    values = tuple(policy.creation_values(policy.generation_values(storage)).items())
    if create:
        steps.append(CreateDataset(Cause.CREATE, dataset, values))
    elif values:
        # It was created and the properties may not have followed.
        steps.append(SetProperties(Cause.CREATE, dataset, values))
    steps.append(Mount(Cause.CREATE, dataset, directory))
    steps.append(_owner_step(Cause.CREATE, target, directory))
    # Last on disk: once there is a head, a missing generation means lost data and is never made anew.
    record = ((layout.HEAD, FIRST_GENERATION), (layout.APPLIED, policy.record(target, storage)))
    steps.append(SetProperties(Cause.CREATE, storage.dataset, record))
    steps.append(PointLink(Cause.CREATE, storage.mountpoint, layout.link_target(storage.mountpoint, FIRST_GENERATION)))
    return tuple(steps)


def _owner_step(cause: Cause, target: Target, directory: str, *findings: Finding) -> SetOwner:
    owner = target.spec.owner
    return SetOwner(cause, directory, owner.uid, owner.gid, int(owner.mode, 8), findings=findings)


def _upkeep(
    target: Target, storage: ZfsStorage, observed: Observation, parent: Dataset, link_problem: Problem | None
) -> Plan:
    steps: list[Step] = []
    if parent.local(layout.UID) != target.uid:
        steps.append(SetProperties(Cause.ADOPT, parent.name, tuple(policy.identity_values(target).items())))
    if parent.local(layout.RELEASED) is not None:
        steps.append(InheritProperties(Cause.ADOPT, parent.name, (layout.RELEASED,)))
    if (mismatch := _encryption_problem(storage, parent)) is not None:
        return Plan(problem=mismatch)
    key = keying.plan(target, storage, parent)
    if key.problem is not None:
        return Plan(problem=key.problem)
    steps += key.steps
    if observed.head is None:
        if link_problem is not None:
            return Plan(tuple(steps), problem=link_problem)
        missing = FIRST_GENERATION not in observed.children
        return Plan((*steps, *_first_generation(target, storage, create=missing)))
    drift = list(key.drift)
    policy_steps = _policy_steps(target, storage, observed, parent, drift)
    applied = policy.read_record(parent.local(layout.APPLIED))
    # An interrupted change of owner leaves the mount writable: that was us.
    ours = applied.get(policy.OWNER) != wanted_owner(target) or any(
        isinstance(step, SetOwner) and step.cause is Cause.CHANGE for step in policy_steps
    )
    reveal_steps, mount_problem = _reveal_steps(storage, observed, observed.head, drift, link_problem, ours=ours)
    return Plan((*steps, *policy_steps, *reveal_steps), tuple(drift), mount_problem)


def _encryption_problem(storage: ZfsStorage, parent: Dataset) -> Problem | None:
    if storage.encryption is None:
        return None
    if parent.value("encryption") == storage.encryption.algorithm:
        root = parent.value("encryptionroot")
        if root == parent.name:
            return None
        return Problem(
            "PropertyRefused",
            f"the key of dataset {storage.dataset} is that of {root} above it, which this Repository does not own; "
            "leave spec.storage.encryption out, or give the dataset a key of its own (zfs-change-key(8))",
        )
    return Problem(
        "PropertyRefused",
        f"dataset {storage.dataset} has encryption={parent.value('encryption')}, and ZFS can't change that to "
        f"{storage.encryption.algorithm}; declare a new Repository and copy the data",
    )


def _policy_steps(
    target: Target, storage: ZfsStorage, observed: Observation, parent: Dataset, drift: list[Finding]
) -> list[Step]:
    """Return the steps that bring policy to the spec, and add what was changed by hand to `drift`."""
    applied = policy.read_record(parent.local(layout.APPLIED))
    correct = target.spec.drift_policy == "Correct"
    differences = policy.differences(parent, "parent", policy.parent_values(storage), applied)
    generations = [dataset for name, dataset in sorted(observed.children.items()) if is_generation(name)]
    for generation in generations:
        differences += policy.differences(generation, "generation", policy.generation_values(storage), applied)
    drift += [d.finding for d in differences if d.drift]
    steps: list[Step] = []
    for dataset in (parent.name, *(generation.name for generation in generations)):
        mine = [d for d in differences if d.finding.subject == dataset]
        steps += _property_steps(Cause.CHANGE, dataset, [d for d in mine if not d.drift])
        if correct:
            steps += _property_steps(Cause.DRIFT, dataset, [d for d in mine if d.drift])
    if (root := observed.root) is not None and observed.head is not None:
        wanted, found = wanted_owner(target), owner_text(root.uid, root.gid, root.mode)
        directory = layout.generation_directory(storage.mountpoint, observed.head)
        if found != wanted and applied.get(policy.OWNER) == wanted:
            finding = Finding(f"{storage.dataset}/{observed.head}", policy.OWNER, wanted, found)
            drift.append(finding)
            if correct:
                steps.append(_owner_step(Cause.DRIFT, target, directory, finding))
        elif found != wanted:
            steps.append(_owner_step(Cause.CHANGE, target, directory))
    record = policy.record(target, storage)
    if parent.local(layout.APPLIED) != record and observed.root is not None:
        # After everything it describes; a crash before it repeats the change and never hides one.
        steps.append(SetProperties(Cause.CHANGE, parent.name, ((layout.APPLIED, record),)))
    return steps


def _property_steps(cause: Cause, dataset: str, differences: Iterable[policy.Difference]) -> list[Step]:
    differences = list(differences)
    drifted = cause is Cause.DRIFT
    # zfs-inherit(8) refuses quotas and reservations; what clears them is the value none.
    to_set = [d for d in differences if d.value is not None or d.name in policy.NOT_INHERITED]
    to_clear = [d for d in differences if d.value is None and d.name not in policy.NOT_INHERITED]
    steps: list[Step] = []
    if to_set:
        values = tuple((d.name, policy.settable(d.name, d.value or "0")) for d in to_set)
        steps.append(SetProperties(cause, dataset, values, findings=tuple(d.finding for d in to_set if drifted)))
    if to_clear:
        names = tuple(d.name for d in to_clear)
        steps.append(InheritProperties(cause, dataset, names, findings=tuple(d.finding for d in to_clear if drifted)))
    return steps


def _reveal_steps(
    storage: ZfsStorage,
    observed: Observation,
    head: str,
    drift: list[Finding],
    link_problem: Problem | None,
    *,
    ours: bool,
) -> tuple[list[Step], Problem | None]:
    """Return the steps that let readers see the head. They are taken under every drift policy: readers rely on them.

    `ours`: a writable mount is explained by a change of our own.
    """
    dataset, directory = f"{storage.dataset}/{head}", layout.generation_directory(storage.mountpoint, head)
    mounted = observed.mounts.get(head)
    steps: list[Step] = []
    if mounted is not None and mounted.dataset != dataset:
        return steps, Problem("MountpointTaken", f"{mounted.dataset} is mounted at {directory}; it was not touched")
    if mounted is None:
        steps.append(Mount(Cause.REVEAL, dataset, directory))
    elif not mounted.read_only and ours:
        steps.append(MakeReadOnly(Cause.CHANGE, directory))
    elif not mounted.read_only:
        finding = Finding(directory, "mount", "read-only", "writable")
        drift.append(finding)
        steps.append(MakeReadOnly(Cause.DRIFT, directory, findings=(finding,)))
    if link_problem is not None:
        return steps, link_problem
    link, target = observed.link, layout.link_target(storage.mountpoint, head)
    if link is None or (link.target != target and link.target.startswith(layout.link_target(storage.mountpoint, ""))):
        # To another generation: a commit whose reveal was interrupted.
        steps.append(PointLink(Cause.REVEAL, storage.mountpoint, target))
    elif link.target != target:
        finding = Finding(storage.mountpoint, "link", target, link.target)
        drift.append(finding)
        steps.append(PointLink(Cause.DRIFT, storage.mountpoint, target, findings=(finding,)))
    return steps, None
