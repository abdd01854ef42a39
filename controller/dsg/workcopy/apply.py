"""Carrying out a plan's operations in a working copy: each can be repeated, and touches only what the plan saw.

Before an operation replaces or removes something, it looks whether that is what the plan saw, and moves it to `.dsg`:
to `kept`, for good, where it is in no version, else to `undo`, until the sync is done. What is there otherwise was
edited meanwhile and is left alone. New things are made in `.dsg` and then take their place, where nothing may stand.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from dsg.manifests.entries import Entry, File, FileState, to_bytes
from dsg.sync.plan import Fetch, Move, Operation, Plan, Remember, Remove, SetAttributes
from dsg.sync.states import Local
from dsg.workcopy.files import Files, set_attributes
from dsg.workcopy.layout import KEPT, METADATA, STORE, SYNC, UNDO
from dsg.workcopy.results import Left, Phase, Progress, Watch

_STORE = f"{METADATA}/{STORE}/".encode()
_UNDO = f"{METADATA}/{UNDO}".encode()
_KEPT = f"{METADATA}/{KEPT}/".encode()
_PLACE = f"{METADATA}/{SYNC}/place".encode()
_PREFIX = 16


class _LeftAlone(Exception):
    """This operation is not done, because of what is there."""


@dataclass(slots=True)
class Counted:
    """What was done, or had been."""

    fetched: int = 0
    removed: int = 0
    attributes: int = 0


class Applier:
    """Carries out operations in one working copy."""

    def __init__(self, files: Files, plan: Plan, *, settled_before: int, kept: str, watch: Watch) -> None:
        """`settled_before`: what has an older ctime is as it was scanned. `kept`: directory for copies of this sync."""
        self._files = files
        self._plan = plan
        self._settled = settled_before
        self._watch = watch
        self._keep = _KEPT + kept.encode() + b"/"
        self._noted = array("Q")
        self._repeated: frozenset[int] | None = None
        self.counted = Counted()

    def run(self) -> Iterator[Left | None]:
        """Do everything in order, and yield for each operation what was left alone, if it was. Raises OSError."""
        for number, operation in enumerate(self._plan.operations(), 1):
            self._watch(Progress(Phase.APPLYING, number))
            try:
                self._do(operation)
            except _LeftAlone as left:
                yield Left(operation.path, str(left), operation.to if isinstance(operation, Move) else "")
            else:
                yield None

    def is_done(self, operation: Fetch) -> bool:
        """Tell whether what is to be fetched is in its place."""
        return self._has(operation.path, operation.entry)

    def content(self, digest: str) -> bytes:
        """Return where fetched content lies."""
        return _STORE + digest.encode()

    def note(self, entry: Entry) -> None:
        """Take note of what is fetched; once all was noted, `noted` tells what has to be copied."""
        if isinstance(entry, File) and entry.size:
            self._noted.append(int(entry.digest[:_PREFIX], 16))

    def noted(self) -> None:
        """Say that all was noted that the plan fetches."""
        self._repeated = _several(self._noted)

    def settle(self) -> Iterator[Left]:
        """Look at what was moved to `undo`: what was written to since, by a program that had it open, is kept."""
        # Nearly always there is none, and the plan need not be gone through.
        suspicious = {path for path in self._files.files(_UNDO) if self._written_since(_UNDO + b"/" + path)}
        if not suspicious:
            return
        for operation in self._plan.operations():
            old = _replaced(operation)
            if not isinstance(old, FileState) or old.key not in suspicious:
                continue
            aside = _UNDO + b"/" + old.key
            if not self._files.holds(aside, old, settled_before=0):
                self._files.set_aside(aside, self._keep + old.key)
                yield Left(old.path, "was written to while it was replaced; what was written is in the kept copy")

    def _written_since(self, aside: bytes) -> bool:
        found = self._files.look(aside)
        return found is not None and stat.S_ISREG(found.st_mode) and found.st_mtime_ns >= self._settled

    # ---- operations

    def _do(self, operation: Operation) -> None:
        match operation:
            case Move():
                self._move(operation)
            case Remove():
                self._remove(operation)
            case Fetch():
                self._fetch(operation)
            case SetAttributes():
                self._set_attributes(operation)
            case Remember():
                pass

    def _move(self, operation: Move) -> None:
        old, new = to_bytes(operation.path), to_bytes(operation.to)
        entry = operation.entry
        if self._has(operation.to, entry):
            one, other = self._files.look(old), self._files.look(new)
            if one is not None and other is not None and os.path.samestat(one, other):
                # Interrupted between link and unlink.
                self._files.remove(old)
            self._files.remove_empty_above(old)
            return
        if not self._is(operation.path, entry):
            raise _LeftAlone(f"was to become {operation.to!r}, but was changed meanwhile; the next sync looks again")
        try:
            self._files.move(old, new)
        except (FileExistsError, NotADirectoryError):
            raise _LeftAlone(
                f"was to become {operation.to!r}, where something stands that is not synced; move that away"
            ) from None
        self._files.remove_empty_above(old)

    def _remove(self, operation: Remove) -> None:
        path = to_bytes(operation.path)
        found = self._files.look(path)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            if not self._is(operation.path, operation.entry):
                raise _LeftAlone("was deleted by others, but changed here meanwhile; the next sync asks about it")
            self._set_aside(operation.entry, edited=operation.edited)
        self.counted.removed += 1
        self._files.remove_empty_above(path)

    def _fetch(self, operation: Fetch) -> None:
        path, entry = to_bytes(operation.path), operation.entry
        self.counted.fetched += 1
        if self.is_done(operation):
            return
        try:
            self._make_room(path, operation)
            self._place(path, entry)
        except _LeftAlone:
            self.counted.fetched -= 1
            raise
        except FileExistsError:
            self.counted.fetched -= 1
            raise _LeftAlone("was to be fetched, but something came there meanwhile; it is left as it is") from None
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            self.counted.fetched -= 1
            raise _LeftAlone("can't be fetched: a file or link stands where its directory belongs") from None

    def _make_room(self, path: bytes, operation: Fetch) -> None:
        found = self._files.look(path)
        old = operation.replaces
        if found is None:
            if old is not None and not self._was_set_aside(old):
                raise _LeftAlone("was deleted here meanwhile; the next sync asks about it")
        elif stat.S_ISDIR(found.st_mode):
            if not self._files.remove_empty_below(path):
                raise _LeftAlone("can't be fetched: a directory stands there with files that are not synced")
        elif old is not None and self._is(operation.path, old):
            self._set_aside(old, edited=operation.edited)
        else:
            raise _LeftAlone("was changed here meanwhile; the next sync looks again")

    def _place(self, path: bytes, entry: Entry) -> None:
        files = self._files
        if not isinstance(entry, File):
            files.link(path, to_bytes(entry.target))
            return
        content = self.content(entry.digest)
        if not entry.size:
            files.make_empty(_PLACE)
            content = _PLACE
        elif int(entry.digest[:_PREFIX], 16) in self._several():
            files.copy(content, _PLACE)
            content = _PLACE
        with files.open(content) as file:
            set_attributes(file.fileno(), entry.mode, entry.mtime)
        files.move(content, path)

    def _set_attributes(self, operation: SetAttributes) -> None:
        path, entry, old = to_bytes(operation.path), operation.entry, operation.replaces
        found = self._files.look(path)
        mixed = (
            found is not None
            and stat.S_ISREG(found.st_mode)
            # An interrupted call may have set the mode alone.
            and found.st_mode & 0o777 in {old.mode, entry.mode}
            and found.st_mtime_ns in {old.mtime, entry.mtime}
        )
        untouched = mixed and self._is(operation.path, old)
        if not untouched and not (mixed and self._files.holds(path, old, settled_before=0, times=False)):
            raise _LeftAlone("was to get another mode or time, but was changed meanwhile; the next sync looks again")
        self._with_attributes(path, entry)
        self.counted.attributes += 1

    def _with_attributes(self, path: bytes, entry: File) -> None:
        with self._files.open(path) as file:
            set_attributes(file.fileno(), entry.mode, entry.mtime)

    # ---- how

    def _is(self, path: str, seen: Entry | Local) -> bool:
        """Tell whether what the plan saw at a path is still there: what was not touched since, is."""
        return self._files.holds(to_bytes(path), seen, settled_before=self._settled)

    def _has(self, path: str, wanted: Entry | Local) -> bool:
        """Tell whether a path has what the plan wants there, by its content.

        That a file was not touched since the scan says nothing here: the plan saw another there, which may have the
        same size, time and mode.
        """
        return self._files.holds(to_bytes(path), wanted, settled_before=0)

    def _set_aside(self, old: Local, *, edited: bool) -> None:
        path = to_bytes(old.path)
        before = self._files.look(path)
        aside = (self._keep if edited else _UNDO + b"/") + path
        if self._files.look(aside) is not None:
            raise _LeftAlone("was changed here meanwhile; the next sync looks again")
        self._set_aside_as(path, aside)
        after = self._files.look(aside)
        same = (
            before is not None
            and after is not None
            and (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
        )
        if same:
            return
        # Somebody put another file in its place between the look and the move.
        try:
            self._files.move(aside, path)
        except FileExistsError:
            self._set_aside_as(aside, self._keep + path)
        raise _LeftAlone("was changed here meanwhile; the next sync looks again")

    def _set_aside_as(self, path: bytes, aside: bytes) -> None:
        self._files.set_aside(path, aside)

    def _was_set_aside(self, old: Local) -> bool:
        path = to_bytes(old.path)
        return any(self._files.look(aside) is not None for aside in (_UNDO + b"/" + path, self._keep + path))

    def _several(self) -> frozenset[int]:
        """Return the beginnings of digests that are fetched to more than one path; those are copied, not moved."""
        if self._repeated is None:
            self._repeated = repeated(op.entry for op in self._plan.operations() if isinstance(op, Fetch))
        return self._repeated


def repeated(entries: Iterable[Entry]) -> frozenset[int]:
    """Return the first 64 bits of digests that come more than once. Memory: eight bytes for each file."""
    return _several(array("Q", (int(e.digest[:_PREFIX], 16) for e in entries if isinstance(e, File) and e.size)))


def _several(found: Iterable[int]) -> frozenset[int]:
    return frozenset(one for one, other in pairwise(sorted(found)) if one == other)


def _replaced(operation: Operation) -> Local | None:
    if isinstance(operation, Remove) and not operation.edited:
        return operation.entry
    if isinstance(operation, Fetch) and not operation.edited:
        return operation.replaces
    return None
