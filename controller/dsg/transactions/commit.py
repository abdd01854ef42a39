"""The commit: a repository's head moves from one version to the next in one transaction group, or nothing changes.

One channel program (programs/commit.lua, zfs-program(8)) compares the head with what the transaction started from,
checks everything, and only then takes the snapshot `sN` of the staged generation, promotes it, and records version,
transaction and head on the parent. A commit may be repeated: whoever was killed in it and calls again is told the same.
What is mounted, revealed or destroyed afterwards is not decided here; the `head` property is the truth for all of it.

The former generation stays, and with it what others put there: snapshots after the base (which hold what the base
holds, or the commit would have been refused), and whatever is written after the comparison. Before the first version
there is no snapshot to compare with: a generation that an Init leaves behind may only be destroyed when it is empty.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

from dsg.storage.errors import CommandFailed, InvalidValue
from dsg.storage.layout import is_generation, is_version
from dsg.storage.zfs.interface import ProgramValue, Zfs


@dataclass(frozen=True, slots=True)
class Head:
    """Where a repository stands: the generation that readers see and the version it carries, "" where there is none."""

    generation: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if self.generation and not is_generation(self.generation):
            raise ValueError(f"{self.generation!r} is no generation; generations are g1, g2, g3 and so on")
        if self.version and not is_version(self.version):
            raise ValueError(f"{self.version!r} is no version; versions are s1, s2, s3 and so on")
        if self.version and not self.generation:
            raise ValueError(f"version {self.version} needs the generation that carries it")


@dataclass(frozen=True, slots=True)
class Commit:
    """What a transaction wants to become of the head."""

    parent: str
    """The repository's dataset."""
    base: Head
    """The head that the transaction was staged from; without a version for Init."""
    generation: str
    """The staged generation: a clone of the base's snapshot, or for Init a filesystem that is no clone."""
    version: str
    """The version it becomes: the one after the base's. An Init that brings versions along takes the one after them."""
    transaction: str
    """The transaction's identity: the same for every attempt, and for no other transaction."""
    manifest: str
    """Digest of the version's manifest."""
    accepted: int = 0
    """Bytes that the base's generation may have gained since the base: those known to be no content, as found by
    `written@sN` when the head was last known to be what its manifest says. The first mount after a snapshot counts,
    read-only too, when a file was ever synced in the generation (OpenZFS 2.3.9 writes 1 KiB then on 512-byte sectors),
    and so does a change of the root's owner.
    """

    def __post_init__(self) -> None:
        if not self.generation:
            raise ValueError("a commit needs a staged generation")
        new = Head(self.generation, self.version)
        if not new.version:
            raise ValueError("a commit needs the version it makes")
        if self.generation == self.base.generation:
            raise ValueError(f"{self.generation} is the head, and a commit never changes it in place; stage another")
        if self.base.version and int(self.version[1:]) != int(self.base.version[1:]) + 1:
            raise ValueError(f"the version after {self.base.version} can't be {self.version}")
        if not self.transaction or not self.manifest:
            raise ValueError("a commit needs the transaction's identity and the manifest's digest")
        if not 0 <= self.accepted < 2**63:
            raise ValueError(f"{self.accepted} is no number of bytes that could be accepted")


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction has its version."""

    version: str
    head: Head
    """The head now; later transactions may have moved it on, where the commit was a repeated one."""
    repeated: bool = False
    """Whether it was committed before, and this call changed nothing."""


@dataclass(frozen=True, slots=True)
class HeadMoved:
    """Nothing changed: another transaction was first."""

    head: Head
    """What to rebase onto."""


class Reason(StrEnum):
    """Why a commit was refused."""

    PARENT_MISSING = "ParentMissing"
    HEAD_MISSING = "HeadMissing"
    STAGED_MISSING = "StagedMissing"
    NOT_FROM_HEAD = "NotFromHead"
    WRITTEN = "Written"
    VERSION_TAKEN = "VersionTaken"
    NAMES_COLLIDE = "NamesCollide"
    BUSY = "Busy"
    OUT_OF_SPACE = "OutOfSpace"
    ENCRYPTION_ROOT = "EncryptionRoot"
    REFUSED = "Refused"
    """ZFS refused a step for a reason that no other name fits."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changed: what the transaction counted on does not hold, or ZFS would not take a step."""

    reason: Reason
    message: str
    """What is in the way and what to do, for the person who reads the condition."""
    subject: str
    """The dataset or snapshot it is about."""
    details: tuple[str, ...] = ()
    """What was found: names of snapshots, the origin, or a number of bytes."""
    transient: bool = False
    """Whether the same commit may succeed later without anybody doing anything."""


Outcome = Committed | HeadMoved | Refused


@cache
def source(name: str) -> str:
    """Return the text of a channel program of this package."""
    return files(__package__).joinpath("programs", name).read_text(encoding="utf-8")


def commit(zfs: Zfs, wanted: Commit) -> Outcome:
    """Move the head, or say why not.

    Raises the errors of `Zfs.program`, and InvalidValue where what the parent records is no head. After one of the
    former (a timeout above all) the commit may have happened or may yet happen: call again. ProgramFailed means that a
    step was refused after all checks had passed and could not be undone; the head is still the old one.
    """
    pool = wanted.parent.partition("/")[0]
    arguments = (
        wanted.parent,
        wanted.base.generation,
        wanted.base.version,
        wanted.generation,
        wanted.version,
        wanted.transaction,
        wanted.manifest,
        str(wanted.accepted),
    )
    answer = _table(zfs.program(pool, source("commit.lua"), arguments))
    match answer["outcome"]:
        case "committed":
            head = _head(wanted, answer)
            return Committed(head.version, head, repeated=answer["repeated"] is True)
        case "moved":
            # It may have moved by this very transaction, if its caller died and others have committed since.
            made = zfs.program(
                pool, source("made_by.lua"), (wanted.parent, wanted.base.version, wanted.transaction), sync=False
            )
            head = _head(wanted, answer)
            return Committed(str(made), head, repeated=True) if made else HeadMoved(head)
    return _refused(wanted, answer)


def _table(value: ProgramValue) -> Mapping[str, ProgramValue]:
    if not isinstance(value, dict):
        raise CommandFailed(f"the commit program answered {value!r}, which is not understood here")
    return value


def _head(wanted: Commit, answer: Mapping[str, ProgramValue]) -> Head:
    try:
        return Head(str(answer["head"]), str(answer["version"]))
    except ValueError as error:
        text = f"the record on {wanted.parent} was changed by hand and names no head: {error}"
        raise InvalidValue(text, subject=wanted.parent) from error


def _refused(wanted: Commit, answer: Mapping[str, ProgramValue]) -> Refused:
    subject, given = str(answer["subject"]), answer.get("details")
    details = tuple(sorted(str(value) for value in given.values())) if isinstance(given, dict) else ()
    code = answer.get("errno")
    if isinstance(code, int):
        return _refused_by_zfs(str(answer["step"]), code, subject, details)
    reason, message = _explain(str(answer["reason"]), wanted, subject, ", ".join(details))
    return Refused(reason, message, subject, details)


def _explain(reason: str, wanted: Commit, subject: str, found: str) -> tuple[Reason, str]:
    base = f"{wanted.parent}/{wanted.base.generation}@{wanted.base.version}" if wanted.base.version else "nothing"
    match reason:
        case "parent":
            return Reason.PARENT_MISSING, f"there is no dataset {subject}; the repository has to be restored first"
        case "head":
            return Reason.HEAD_MISSING, f"the head {subject} is missing; restore it, or name another generation"
        case "staged":
            return Reason.STAGED_MISSING, f"there is no staged generation {subject}; open a new transaction"
        case "origin":
            text = f"{subject} was made from {found or 'nothing'} and not from {base}; open a new transaction"
            return Reason.NOT_FROM_HEAD, text
        case "written":
            text = (
                f"{found} bytes of {subject} were written since {wanted.base.version} where {wanted.accepted} are "
                f"accounted for, and a commit would leave them behind. See them with: zfs diff {base} {subject}"
            )
            return Reason.WRITTEN, text
        case "version":
            text = f"{subject} is there already and no transaction made it; rename it with zfs rename"
            return Reason.VERSION_TAKEN, text
    raise CommandFailed(f"the commit program refused with {reason!r}, which is not understood here", subject=subject)


def _refused_by_zfs(step: str, code: int, subject: str, details: tuple[str, ...]) -> Refused:
    name = errno.errorcode.get(code, str(code))
    match step, name:
        case "snapshot", "EEXIST":
            text = f"{subject} is there already and this transaction did not make it; open a new transaction"
            return Refused(Reason.VERSION_TAKEN, text, subject, details)
        case "promote", "EEXIST":
            text = (
                f"{subject} can't take over the versions so far, as it has snapshots with their names: "
                f"{', '.join(details)}. Rename or destroy those"
            )
            return Refused(Reason.NAMES_COLLIDE, text, subject, details)
        case "promote", "EBUSY":
            text = (
                f"{subject} can't take over the versions so far while one is being sent, or browsed in .zfs/snapshot; "
                "it is tried again"
            )
            return Refused(Reason.BUSY, text, subject, details, transient=True)
        case "snapshot", "EAGAIN" | "EBUSY":
            text = f"{subject} can't be taken just now ({name}); it is tried again"
            return Refused(Reason.BUSY, text, subject, details, transient=True)
        case _, "ENOSPC" | "EDQUOT":
            text = f"there is no space for {step} {subject} ({name}); raise the quota or make room in the pool"
            return Refused(Reason.OUT_OF_SPACE, text, subject, details, transient=True)
        case "promote", "EACCES":
            text = f"{subject} has another encryption root than the versions so far; open a new transaction"
            return Refused(Reason.ENCRYPTION_ROOT, text, subject, details)
    text = f"ZFS refuses to {step} {subject}: {name}"
    return Refused(Reason.REFUSED, text, subject, details)
