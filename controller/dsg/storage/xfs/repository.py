"""The repository type `xfs`: a directory with a record of whose it is, generations below it, and `head`, a link to one.

Readers follow the mountpoint, a link to `head`; a commit swaps `head` by rename(2). Everything is observed by system
calls, so looking at many repositories starts no process at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dsg.api.repository import StorageStatus, XfsStorage
from dsg.storage.errors import StorageError
from dsg.storage.host import Host, PathKind, PathState
from dsg.storage.host_steps import HostStep, MakeDirectory, PointLink, RemoveDirectory, RemoveLink, SetOwner
from dsg.storage.keys import KeyNeed, Keys
from dsg.storage.layout import FIRST_GENERATION, is_generation
from dsg.storage.ownership import owner_text, wanted_owner
from dsg.storage.repository_type import Cause, Finding, Outline, Plan, Problem, Step, Target
from dsg.storage.xfs.files import Files
from dsg.storage.xfs.steps import (
    RemoveTree,
    WriteRecord,
    XfsStep,
)

RECORD = ".dsg.json"
"""Name of the record in the repository's directory."""
HEAD = "head"
"""Name of the link to the current generation."""
OPEN = ".open"
"""Name of the directory in which transactions build, closed to everybody but the operator."""
LAYOUT = "1"


@dataclass(frozen=True, slots=True)
class Record:
    """Whose the directory is, and what was last applied to it."""

    layout: str = ""
    uid: str = ""
    repository: str = ""
    owner: str = ""
    """Owner and mode as last applied."""
    released: str = ""

    def encoded(self) -> bytes:
        """Return the record as it is stored (JSON)."""
        content = {name: getattr(self, name) for name in self.__slots__}
        return (json.dumps(content, sort_keys=True) + "\n").encode()


def decoded(content: bytes | None) -> Record | None:
    """Return the record that a file holds; None where there is none. Raises ValueError for one that can't be read."""
    if content is None:
        return None
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (a bad content, not a wrong argument)
    known = Record.__slots__
    return Record(**{name: str(value) for name, value in found.items() if name in known})


@dataclass(frozen=True, slots=True)
class Observation:
    """What is there for one repository."""

    above: PathState | None
    """The directory that holds it."""
    directory: PathState | None = None
    names: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    """What transactions are building."""
    record: Record | None = None
    unreadable: str = ""
    """Why the record can't be read; empty when it can."""
    head: PathState | None = None
    root: PathState | None = None
    """The root of the head's generation."""
    link: PathState | None = None
    """What stands at the public path."""

    @property
    def generation(self) -> str:
        """Return the generation that head points to; empty when it points to none."""
        if self.head is None or self.head.kind is not PathKind.LINK or not is_generation(self.head.target):
            return ""
        return self.head.target


def storage_of(target: Target) -> XfsStorage:
    """Return the target's storage. Raises TypeError for a target of another type."""
    storage = target.spec.storage
    if not isinstance(storage, XfsStorage):
        raise TypeError(f"{target.identity} is not stored on a POSIX file system")
    return storage


def plan(target: Target, observed: Observation) -> Plan:
    """Return the steps from what was observed to what the target asks for."""
    storage = storage_of(target)
    problem = _place_problem(storage, observed) or _ownership_problem(target, storage, observed)
    if problem is not None:
        return Plan(problem=problem)
    record = observed.record
    if record is None or not record.owner:
        if (taken := _link_problem(storage, observed)) is not None:
            return Plan(problem=taken)
        return Plan(_creation(target, storage))
    return _upkeep(target, storage, observed, record)


def _place_problem(storage: XfsStorage, observed: Observation) -> Problem | None:
    above = storage.directory.rpartition("/")[0] or "/"
    if observed.above is None or observed.above.kind is not PathKind.DIRECTORY:
        return Problem("PoolUnavailable", f"{above} is not there on node {storage.node}; is the file system mounted?")
    return None


def _ownership_problem(target: Target, storage: XfsStorage, observed: Observation) -> Problem | None:
    directory, record = observed.directory, observed.record
    if observed.unreadable:
        return Problem("LayoutUnknown", f"{storage.directory}/{RECORD} can't be read: {observed.unreadable}")
    if directory is None or (directory.kind is PathKind.DIRECTORY and directory.empty):
        if target.existed:
            return Problem(
                "DataMissing",
                f"{storage.directory} existed and is gone or empty. Nothing was created in its place: restore it, or "
                f"delete this Repository and apply it anew to begin with an empty one",
            )
        return None
    take = f"write {RECORD} there with repository {target.identity}, and set spec.storage.adopt to true"
    if record is None:
        what = "a directory" if directory.kind is PathKind.DIRECTORY else f"a {directory.kind}"
        return Problem(
            "DatasetForeign",
            f"{storage.directory} is {what} that was not made for a Repository; it was not touched. To take it over, "
            f"lay its files out below {FIRST_GENERATION}, {take}",
        )
    if record.layout not in {"", LAYOUT}:
        return Problem("LayoutUnknown", f"{storage.directory} has layout {record.layout}; upgrade the operator")
    if record.uid == target.uid:
        if record.owner and not observed.generation:
            return Problem("DataMissing", f"{storage.directory}/{HEAD} does not name a generation; restore it")
        if record.owner and observed.root is None:
            return Problem("DataMissing", f"{storage.directory}/{observed.generation}, the head, is gone; restore it")
        return None
    if record.repository != target.identity:
        return Problem(
            "DatasetForeign",
            f"{storage.directory} belongs to Repository {record.repository or 'nobody'}; it was not touched. "
            f"To take it over, {take}",
        )
    if not storage.adopt:
        return Problem(
            "DatasetForeign",
            f"{storage.directory} holds the data of an earlier {target.identity}; it was not touched. To take it over, "
            f"set spec.storage.adopt to true",
        )
    return None


def _link_problem(storage: XfsStorage, observed: Observation) -> Problem | None:
    link = observed.link
    if link is None or (link.kind is PathKind.LINK and link.target == f"{storage.directory}/{HEAD}"):
        return None
    what = f"a link to {link.target}" if link.kind is PathKind.LINK else f"a {link.kind}"
    return Problem("MountpointTaken", f"{storage.mountpoint} is {what}, not this repository's; it was not touched")


def _ownership_record(target: Target, owner: str) -> Record:
    return Record(layout=LAYOUT, uid=target.uid, repository=target.identity, owner=owner)


def _owner_step(cause: Cause, target: Target, directory: str, *findings: Finding) -> SetOwner:
    owner = target.spec.owner
    return SetOwner(cause, directory, owner.uid, owner.gid, int(owner.mode, 8), findings=findings)


def _creation(target: Target, storage: XfsStorage) -> tuple[Step, ...]:
    """Return the steps to a revealed first generation; each is safe to repeat, and the record's owner comes last."""
    first = f"{storage.directory}/{FIRST_GENERATION}"
    path = f"{storage.directory}/{RECORD}"
    return (
        MakeDirectory(Cause.CREATE, storage.directory),
        WriteRecord(Cause.CREATE, path, _ownership_record(target, "").encoded()),
        MakeDirectory(Cause.CREATE, first),
        _owner_step(Cause.CREATE, target, first),
        PointLink(Cause.CREATE, f"{storage.directory}/{HEAD}", FIRST_GENERATION),
        WriteRecord(Cause.CREATE, path, _ownership_record(target, wanted_owner(target)).encoded()),
        PointLink(Cause.CREATE, storage.mountpoint, f"{storage.directory}/{HEAD}"),
    )


def _upkeep(target: Target, storage: XfsStorage, observed: Observation, record: Record) -> Plan:
    steps: list[Step] = []
    drift: list[Finding] = []
    path, cause = f"{storage.directory}/{RECORD}", Cause.CHANGE
    if record.uid != target.uid or record.released:
        # Adoption: the owner stays on record, so that the policy below is compared with what was applied.
        cause = Cause.ADOPT
        record = _ownership_record(target, record.owner)
        steps.append(WriteRecord(cause, path, record.encoded()))
    if observed.root is None or not observed.generation:
        return Plan(tuple(steps), problem=Problem("DataMissing", f"{storage.directory} has no head; restore it"))
    wanted = wanted_owner(target)
    found = owner_text(observed.root.uid, observed.root.gid, observed.root.mode)
    directory = f"{storage.directory}/{observed.generation}"
    if found != wanted and record.owner == wanted:
        finding = Finding(directory, "owner", wanted, found)
        drift.append(finding)
        if target.spec.drift_policy == "Correct":
            steps.append(_owner_step(Cause.DRIFT, target, directory, finding))
    elif found != wanted:
        steps.append(_owner_step(cause, target, directory))
    if record.owner != wanted:
        steps.append(WriteRecord(cause, path, replace(record, owner=wanted).encoded()))
    link, text = observed.link, f"{storage.directory}/{HEAD}"
    if link is not None and link.kind is not PathKind.LINK:
        return Plan(tuple(steps), tuple(drift), _link_problem(storage, observed))
    if link is None:
        steps.append(PointLink(Cause.REVEAL, storage.mountpoint, text))
    elif link.target != text:
        finding = Finding(storage.mountpoint, "link", text, link.target)
        drift.append(finding)
        steps.append(PointLink(Cause.DRIFT, storage.mountpoint, text, findings=(finding,)))
    return Plan(tuple(steps), tuple(drift))


def owned(target: Target, observed: Observation) -> bool:
    """Return whether there is data on disk that belongs to exactly this object."""
    return observed.record is not None and observed.record.uid == target.uid


def _hidden(target: Target, observed: Observation) -> Plan | None:
    """Return the plan for data that can't be seen: nobody may conclude from that that there is none."""
    problem = _place_problem(storage_of(target), observed)
    if problem is None and observed.unreadable:
        problem = Problem("LayoutUnknown", f"{RECORD} can't be read: {observed.unreadable}")
    if problem is None:
        return None
    text = f"{problem.message}. Whose data is there can't be seen, so the object stays until it can"
    return Plan(problem=Problem("StorageFailed", text))


class XfsRepositories:
    """Repositories on POSIX file systems (`dsg.storage.repository_type.RepositoryType`)."""

    def __init__(self, host: Host, files: Files) -> None:
        self._host = host
        self._files = files

    def observe(self, targets: Sequence[Target]) -> Mapping[str, Observation | StorageError]:
        """Return what is there for each target, by identity; starts no process."""
        found: dict[str, Observation | StorageError] = {}
        for target in targets:
            try:
                found[target.identity] = self._one(storage_of(target))
            except StorageError as error:
                found[target.identity] = error
        return found

    def _one(self, storage: XfsStorage) -> Observation:
        directory = storage.directory
        above = self._host.stat(directory.rpartition("/")[0] or "/")
        if above is None or above.kind is not PathKind.DIRECTORY:
            return Observation(above)
        unreadable, record = "", None
        try:
            record = decoded(self._files.read(f"{directory}/{RECORD}"))
        except ValueError as error:
            unreadable = str(error)
        seen = Observation(
            above=above,
            directory=self._host.stat(directory),
            names=self._files.names(directory),
            open=self._files.names(f"{directory}/{OPEN}"),
            record=record,
            unreadable=unreadable,
            head=self._host.stat(f"{directory}/{HEAD}"),
            link=self._host.stat(storage.mountpoint),
        )
        root = self._host.stat(f"{directory}/{seen.generation}") if seen.generation else None
        return replace(seen, root=root)

    def inventory(self, target: Target) -> Observation:
        """Return everything that is there for one target."""
        return self._one(storage_of(target))

    def key_need(self, target: Target, observed: Observation) -> KeyNeed:
        """Return what planning needs of the target's Secret: nothing, as this type does not encrypt."""
        return KeyNeed.NOTHING

    def key_fits(self, target: Target, observed: Observation, keys: Keys) -> bool:
        """Return True: nothing here has a key that could be another."""
        return True

    def plan(self, target: Target, observed: Observation) -> Plan:
        """Return the steps from what was observed to what the target asks for."""
        return plan(target, observed)

    def plan_release(self, target: Target, observed: Observation, now: str) -> Plan:
        """Return the steps that let go of a repository and keep its data."""
        if (hidden := _hidden(target, observed)) is not None:
            return hidden
        if not owned(target, observed) or observed.record is None:
            return self._leftover(target, observed)
        path = f"{storage_of(target).directory}/{RECORD}"
        marked = WriteRecord(Cause.REMOVE, path, replace(observed.record, released=now).encoded())
        return Plan((*self._hide(target, observed), marked))

    def _leftover(self, target: Target, observed: Observation) -> Plan:
        """Return the step that removes the empty directory that an interrupted creation or removal may have left."""
        directory = observed.directory
        if directory is None or directory.kind is not PathKind.DIRECTORY or not directory.empty:
            return Plan()
        return Plan((RemoveDirectory(Cause.REMOVE, storage_of(target).directory),))

    def _hide(self, target: Target, observed: Observation) -> Iterable[Step]:
        storage = storage_of(target)
        if observed.link is not None and _link_problem(storage, observed) is None:
            yield RemoveLink(Cause.REMOVE, storage.mountpoint)

    def plan_destroy(self, target: Target, observed: Observation) -> Plan:
        """Return the steps that destroy a repository's data, the record last but for the directory itself."""
        if (hidden := _hidden(target, observed)) is not None:
            return hidden
        if not owned(target, observed):
            return self._leftover(target, observed)
        directory = storage_of(target).directory
        foreign = sorted(
            name for name in observed.names if name not in {RECORD, HEAD, OPEN} and not is_generation(name)
        )
        if foreign:
            text = (
                f"not this repository's own, and kept: {', '.join(foreign[:8])} in {directory}. Nothing was destroyed"
            )
            return Plan(problem=Problem("ForeignData", text))
        steps: list[Step] = [*self._hide(target, observed), RemoveLink(Cause.REMOVE, f"{directory}/{HEAD}")]
        ours = sorted(name for name in observed.names if is_generation(name) or name == OPEN)
        steps += [RemoveTree(Cause.REMOVE, f"{directory}/{name}") for name in ours]
        steps += [RemoveTree(Cause.REMOVE, f"{directory}/{RECORD}"), RemoveDirectory(Cause.REMOVE, directory)]
        return Plan(tuple(steps))

    def apply(self, step: XfsStep | HostStep) -> None:
        """Take one step."""
        if isinstance(step, HostStep):
            step.apply(self._host)
        else:
            step.apply(self._files)

    def status(self, target: Target, observed: Observation) -> StorageStatus:
        """Return what the Repository's status says of the storage."""
        if not owned(target, observed):
            return StorageStatus()
        directory = storage_of(target).directory
        return StorageStatus(
            location=directory,
            generation=observed.generation,
            mounted_at=f"{directory}/{observed.generation}" if observed.root is not None else "",
        )

    def outline(self, target: Target, observed: Observation) -> Outline:
        """Return what was seen of the repository's versions; on this type every generation is one."""
        storage = storage_of(target)
        if not owned(target, observed) or not observed.generation or observed.root is None:
            return Outline()
        others = sorted({*observed.names, *observed.open} - {RECORD, HEAD, OPEN, observed.generation})
        return Outline(observed.generation, "", f"{storage.directory}/{observed.generation}", tuple(others), "")

    def whereabouts(self, target: Target, observed: Observation) -> str:
        """Return where the data is."""
        storage = storage_of(target)
        if not owned(target, observed):
            return f"no data of this Repository is on node {storage.node}"
        return (
            f"directory {storage.directory} on node {storage.node}, head {observed.generation or 'none'}; to use it "
            f"again, apply a Repository {target.identity} with spec.storage.adopt: true"
        )
