"""Goes through a working copy in the order of a manifest, by descriptor, never through a link.

At the end, the directories that were listed are looked at again: a file that is moved from a directory that was not
yet listed to one that already was would be seen in neither, and be taken for deleted.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from blake3 import blake3

from dsg.manifests.entries import MAX_PATH, EntryError, LinkState, check_path, to_name
from dsg.scan.listing import RUN, Directory, Listing, kind_of, open_below, open_directory
from dsg.scan.problems import Kind, Problem, Problems, changing, from_error, refused, shown
from dsg.scan.scope import Scope, Verdict

OPEN = 32
"""Directories on the way down that stay open; macOS lets a process have 256 open files."""
_SPOOL = 1 << 20
_RECORD = struct.Struct(">H?32s32s")


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that belongs to the scan. `directory` is open until the walk goes on; hold it to use it longer."""

    key: bytes
    """Its path's bytes."""
    name: bytes
    """Its last component."""
    directory: Directory
    """The directory it lies in."""
    status: os.stat_result
    """What lstat(2) said when the walk came by."""

    @property
    def path(self) -> str:
        """Its path."""
        return to_name(self.key)


@dataclass(slots=True)
class _Frame:
    path: bytes
    verdict: Verdict
    status: os.stat_result
    listing: Listing
    names: Iterator[bytes]
    directory: Directory | None
    """None while it is closed because the walk is far below it."""


class Walk:
    """Yields files and links by iterating once; the rest goes to `problems`."""

    def __init__(
        self,
        root: Path,
        scope: Scope,
        problems: Problems,
        *,
        settled_before: int,
        folder: Path | None = None,
        run: int = RUN,
    ) -> None:
        """Open the root, OSError when that fails.

        `settled_before`: nanoseconds since 1970; times from then on do not prove that nothing changed, because the
        next change may get the same one. `folder` (default: the system's) takes temporary files.
        """
        self.directories = 0
        """Directories that were listed."""
        self.left_out = 0
        """Names that are hidden, ignored or in no data directory."""
        self._scope = scope
        self._problems = problems
        self._settled_before = settled_before
        self._folder = folder
        self._run = run
        self._stack: list[_Frame] = []
        # The root itself may be reached through a link: people put working copies where there is room.
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __iter__(self) -> Iterator[Found | LinkState]:
        try:
            with tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=self._temporary()) as seen:
                self._enter(b"", Verdict.THROUGH, os.dup(self._root))
                while self._stack:
                    yield from self._step(self._stack[-1], seen)
                self._check(seen)
        finally:
            self.close()

    def close(self) -> None:
        """Close what is open. Safe to call twice."""
        for frame in self._stack:
            if frame.directory is not None:
                frame.directory.release()
        self._stack.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _step(self, frame: _Frame, seen: IO[bytes]) -> Iterator[Found | LinkState]:
        """Go through the names of a directory up to the next directory or the end."""
        if frame.directory is None:
            try:
                frame.directory = Directory(self._again(frame))
            except OSError as error:
                self._problems.add(from_error(to_name(frame.path), "come back to", error))
                self._stack.pop()
                return
        directory = frame.directory
        prefix = frame.path + b"/" if frame.path else b""
        try:
            for name in frame.names:
                if name.endswith(b"/"):
                    if self._descend(frame, directory, prefix + name[:-1], name[:-1]):
                        return
                else:
                    found = self._look(directory, prefix + name, name)
                    if found is not None:
                        yield found
        except OSError as error:
            self._problems.add(from_error(to_name(frame.path), "list", error))
        else:
            self._remember(frame, seen)
        self._stack.pop()
        directory.release()

    def _look(self, directory: Directory, key: bytes, name: bytes) -> Found | LinkState | None:
        path = to_name(key)
        try:
            status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return Found(key, name, directory, status)
            if stat.S_ISLNK(status.st_mode):
                return LinkState(path, to_name(os.readlink(name, dir_fd=directory.descriptor)))
        except OSError as error:
            self._problems.add(from_error(path, "look at", error))
        except EntryError as error:
            self._problems.add(refused(path, str(error)))
        else:
            if stat.S_ISDIR(status.st_mode):
                self._problems.add(changing(path, "became a directory while it was scanned"))
            else:
                what = kind_of(status.st_mode)
                message = f"{shown(path)} is {what}, which can't be synced; remove or ignore it, then scan again"
                self._problems.add(Problem(path, Kind.SPECIAL, message))
        return None

    def _descend(self, frame: _Frame, above: Directory, path: bytes, name: bytes) -> bool:
        """Enter a directory; tell whether there is anything to do in it now."""
        verdict = self._scope.judge(frame.verdict, path, name, directory=True)
        try:
            descriptor = open_directory(name, above.descriptor)
        except OSError as error:
            self._problems.add(from_error(to_name(path), "list", error))
            return False
        return self._enter(path, verdict, descriptor)

    def _enter(self, path: bytes, verdict: Verdict, descriptor: int) -> bool:
        directory = Directory(descriptor)
        try:
            status = os.fstat(descriptor)
            listing = self._list(path, verdict, descriptor)
            names = iter(listing)
            why = _no_entry_below(path)
            if why and next(names, None) is not None:
                self._problems.add(refused(to_name(path), why))
            if why:
                directory.release()
                return False
        except OSError as error:
            directory.release()
            self._problems.add(from_error(to_name(path), "list", error))
            return False
        self.directories += 1
        self.left_out += listing.left_out
        self._stack.append(_Frame(path, verdict, status, listing, names, directory))
        if len(self._stack) > OPEN:
            far = self._stack[-OPEN - 1]
            if far.directory is not None:
                far.directory.release()
                far.directory = None
        return True

    def _list(self, path: bytes, verdict: Verdict, descriptor: int) -> Listing:
        prefix = path + b"/" if path else b""
        judge = self._scope.judge

        def keep(name: bytes, directory: bool) -> bool:
            return judge(verdict, prefix + name, name, directory=directory) is not Verdict.OUT

        return Listing(descriptor, keep, folder=self._folder, run=self._run)

    def _again(self, frame: _Frame) -> int:
        """Open a directory that was closed meanwhile, OSError when it is another one now."""
        descriptor = open_below(self._root, frame.path)
        if not os.path.samestat(os.fstat(descriptor), frame.status):
            os.close(descriptor)
            raise FileNotFoundError
        return descriptor

    def _remember(self, frame: _Frame, seen: IO[bytes]) -> None:
        settled = max(frame.status.st_mtime_ns, frame.status.st_ctime_ns) < self._settled_before
        record = _RECORD.pack(len(frame.path), settled, _print(frame.status), frame.listing.digest())
        verdict = b"\1" if frame.verdict is Verdict.IN else b"\0"
        seen.write(record + verdict + frame.path)

    def _check(self, seen: IO[bytes]) -> None:
        """Look at all directories again: names must be the same."""
        seen.seek(0)
        while record := seen.read(_RECORD.size):
            length, settled, status, digest = _RECORD.unpack(record)
            verdict = Verdict.IN if seen.read(1) == b"\1" else Verdict.THROUGH
            path = seen.read(length)
            try:
                if settled and _print(os.stat(path or b".", dir_fd=self._root, follow_symlinks=False)) == status:
                    continue
                same = self._names(path, verdict) == digest
            except OSError as error:
                self._problems.add(from_error(to_name(path), "look again at", error))
                continue
            if not same:
                self._problems.add(
                    changing(to_name(path), "got or lost a file, link or directory while the working copy was scanned")
                )

    def _temporary(self) -> str | None:
        return None if self._folder is None else str(self._folder)

    def _names(self, path: bytes, verdict: Verdict) -> bytes:
        descriptor = open_below(self._root, path)
        try:
            listing = self._list(path, verdict, descriptor)
            for _ in listing:
                pass
            return listing.digest()
        finally:
            os.close(descriptor)


def _no_entry_below(path: bytes) -> str | None:
    """Return why no entry can lie below a directory, None when one can."""
    if not path:
        return None
    try:
        check_path(to_name(path))
    except EntryError as error:
        return str(error)
    if len(path) + 2 > MAX_PATH:
        return f"directory {to_name(path[:80])!r}… has a path of {len(path)} bytes; Linux opens at most {MAX_PATH}"
    return None


def _print(status: os.stat_result) -> bytes:
    """Return what tells a directory, unchanged, from any other."""
    seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return blake3(repr(seen).encode()).digest()
