"""What ends a command: every message says what happened, what state things are in now, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsg.manifests.changes import ChangeError
from dsg.manifests.entries import EntryError
from dsg.manifests.history import HistoryError
from dsg.manifests.nodes import NodeError, NodeMissing
from dsg.manifests.ordering import OrderError
from dsg.scan.problems import ScanFailed
from dsg.sync.names import Collision, Problem
from dsg.sync.resolution import ResolutionError
from dsg.sync.sides import SidesError
from dsg.workcopy.remote import RemoteError

_SHOWN = 20


class WorkcopyError(Exception):
    """A command that ended without doing what it should."""


class NotAWorkingCopy(WorkcopyError):
    """Neither the directory nor one above it has a `.dsg` of ours."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} is in no working copy: no directory from there up has .dsg/origin.yaml. Go to one, or make "
            "one with `kubectl dsg clone` or `kubectl dsg init`"
        )


class AlreadyAWorkingCopy(WorkcopyError):
    """A directory that is a working copy, of this repository or another, or lies in one."""


class NotEmpty(WorkcopyError):
    """A directory that a clone can't go to."""


class OtherRepository(WorkcopyError):
    """The Repository of that name is not the one that the working copy was made from."""


class MovedOn(WorkcopyError):
    """A sync has replaced what was being looked at."""


class NoVersionYet(WorkcopyError):
    """The repository has no version, and what was asked for needs one."""


class HasVersions(WorkcopyError):
    """The repository has versions, and what was asked for makes the first one."""


class NoSuchVersion(WorkcopyError):
    """A version or path that the repository does not have."""


class NothingToSend(WorkcopyError):
    """A first version of no files."""


class Busy(WorkcopyError):
    """Another process works with the working copy."""

    def __init__(self, root: Path, process: str) -> None:
        who = f"process {process}" if process else "another process"
        super().__init__(f"{who} is working with {root}. Nothing was done; wait for it to end, then try again")


class Damaged(WorkcopyError):
    """A file of `.dsg` that is not what was written."""


class TooManyDeletions(WorkcopyError):
    """A sync that would delete most of the head's files, and nobody has confirmed that."""

    def __init__(self, deleted: int, total: int) -> None:
        super().__init__(
            f"this sync would delete {deleted} of the {total} files in the repository, because they are not here any "
            "more. Nothing was changed. If a disk is not mounted or files were moved away by mistake, bring them back; "
            "if that is what you want, sync again with --allow-deletions"
        )
        self.deleted = deleted
        self.total = total


class NamesRefused(WorkcopyError):
    """New files whose names the repository does not admit."""

    def __init__(self, problems: Sequence[Problem], collisions: Sequence[Collision], *, more: bool) -> None:
        lines = [f"  {problem}" for problem in problems]
        lines += [f"  {one.one!r} and {one.other!r} are one file on some systems" for one in collisions]
        rest = "\n  and more" if more or len(lines) > _SHOWN else ""
        super().__init__(
            "the repository does not admit these names (spec.nameRules). Nothing was changed:\n"
            + "\n".join(lines[:_SHOWN])
            + rest
            + "\nRename them, or let `kubectl dsg sync --normalize` do it where a rule says how"
        )
        self.problems = tuple(problems)
        self.collisions = tuple(collisions)


class NameTaken(WorkcopyError):
    """A file can't get the name that the repository admits."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(
            f"{old!r} can't be renamed to {new!r}: something that is not synced stands there. Nothing was changed; "
            "rename one of them"
        )


class CommitStopped(WorkcopyError):
    """The transaction ended without a version. `reason` stands in docs/reference/conditions.md."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"nothing was committed ({reason}): {message}. Nothing was changed here")
        self.reason = reason


class KeepsChanging(WorkcopyError):
    """Files that change each time they are to be sent, or a head that moves each time."""


EXPECTED: tuple[type[Exception], ...] = (
    WorkcopyError,
    RemoteError,
    ScanFailed,
    SidesError,
    ResolutionError,
    NodeError,
    NodeMissing,
    HistoryError,
    ChangeError,
    EntryError,
    OrderError,
    OSError,
)
"""What a command may raise whose message is for people; anything else is a defect."""
