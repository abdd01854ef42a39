"""What keeps a scan from being whole: problems by path, all of them at once, and notes that harm nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import StrEnum

KEPT = 10_000
"""Problems, and notes, that are kept with their text; all are counted. Bounds memory."""
SHOWN = 20
"""Problems that the message of ScanFailed names."""


class Kind(StrEnum):
    """Why something could not be scanned."""

    UNREADABLE = "unreadable"
    """The system refused to list or read it."""
    CHANGING = "changing"
    """It changed, came or went while it was scanned."""
    SPECIAL = "special"
    """It is neither file nor link nor directory."""
    REFUSED = "refused"
    """No entry of a manifest can say it: its path, its target or its time."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that is there, or was, and is not among the states."""

    path: str
    """Relative to the root; '' is the root."""
    kind: Kind
    message: str
    """What happened, to what, and what to do next."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling that makes no state wrong."""

    path: str
    """What it is about, relative to the root; '' when it is about the scan."""
    message: str


class ScanFailed(Exception):
    """A scan that is not whole: what it did not see must not be taken for deleted."""

    def __init__(self, problems: tuple[Problem, ...], total: int) -> None:
        shown = [f"  {problem.message}" for problem in problems[:SHOWN]]
        if total > len(shown):
            shown.append(f"  and {total - len(shown)} more")
        count = "1 problem" if total == 1 else f"{total} problems"
        super().__init__("\n".join([f"the working copy could not be scanned: {count}. Nothing was changed", *shown]))
        self.problems = problems
        self.total = total


class Problems:
    """Collects problems and notes; the first KEPT of each are kept, all are counted."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._notes: list[Note] = []
        self.total = 0
        """Number of problems."""
        self.notes_total = 0
        """Number of notes."""

    def add(self, problem: Problem) -> None:
        """Take a problem."""
        self.total += 1
        if len(self._problems) < KEPT:
            self._problems.append(problem)

    def note(self, path: str, message: str) -> None:
        """Take a note."""
        self.notes_total += 1
        if len(self._notes) < KEPT:
            self._notes.append(Note(path, message))

    @property
    def all(self) -> tuple[Problem, ...]:
        """The problems, ordered by path."""
        return tuple(sorted(self._problems, key=lambda problem: os.fsencode(problem.path)))

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes, as they came."""
        return tuple(self._notes)


# What open(2) and its kin say when somebody put something else, or nothing, in a path's place.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE})


def shown(path: str) -> str:
    """Return a path as messages show it."""
    return repr(path) if path else "the root of the working copy"


def from_error(path: str, doing: str, error: OSError) -> Problem:
    """Return the problem of a system call that failed; `doing` is what was tried, such as 'read'."""
    if error.errno in _GONE:
        return changing(path, "was moved, replaced or removed while it was scanned")
    reason = error.strerror or str(error)
    advice = "mend that or ignore it"
    if isinstance(error, PermissionError):
        advice = "give yourself the permission or ignore it"
    elif error.errno == errno.EIO:
        advice = "the disk may be failing, copy what can be read"
    return Problem(path, Kind.UNREADABLE, f"cannot {doing} {shown(path)}: {reason}; {advice}, then scan again")


def changing(path: str, what: str) -> Problem:
    """Return the problem of something that did not hold still."""
    return Problem(path, Kind.CHANGING, f"{shown(path)} {what}; wait for whatever writes there, then scan again")


def refused(path: str, reason: str) -> Problem:
    """Return the problem of something that no entry can say; the reason names it."""
    return Problem(path, Kind.REFUSED, f"{reason}; rename, mend or ignore it, then scan again")
