"""A glance at a working copy: names and stat(2) of all that is in scope, as one digest. No file is opened.

Two glances with the same digest saw the same names, kinds, modes, sizes, times, inodes and devices. So who has scanned
a tree between two such glances, the first of which was settled, knows what the scan would find now (docs/scan.md). A
glance costs a small part of a scan: nothing is made for each file but what one call of the system returns.

What a scan would complain about, or what changes meanwhile, is left to a scan: there is no glance then.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from dsg.scan.listing import RUN, Listing, open_below
from dsg.scan.scope import Scope, Verdict

FORMAT = b"dsg-glance/1\n"
"""What every digest begins with."""
_BATCH = 1024
"""Names that are looked at together."""
_SPOOL = 1 << 20
_LOOK = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev")
_MTIME, _CTIME = itemgetter(2), itemgetter(3)
_MARSHAL = 2
"""Its last version in which equal values always have equal bytes; later ones write the second of two objects short."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a glance saw."""

    digest: bytes
    """BLAKE3 of it."""
    settled: bool
    """All times of files and links are old enough that any change from then on gives another one."""


class _Changing(Exception):
    """A directory changed meanwhile."""


def glance(
    root: Path,
    scope: Scope,
    *,
    settled_before: int,
    tell: Callable[[int], None] = lambda _count: None,
    run: int = RUN,
) -> Glance | None:
    """Return what is in scope below a directory, None where that can't be told without a scan.

    `settled_before`: nanoseconds since 1970; times from then on do not prove that nothing changes any more. `tell` is
    told how many files and links were looked at. Directories of more than `run` names pass through a temporary file.
    """
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as seen:
            look = _Look(top, scope, settled_before, run, tell)
            newest = look.all(seen)
            look.check(seen)
            return Glance(look.hasher.digest(), newest < settled_before)
    except (OSError, _Changing):
        return None
    finally:
        os.close(top)


class _Look:
    def __init__(self, top: int, scope: Scope, settled_before: int, run: int, tell: Callable[[int], None]) -> None:
        self.hasher = blake3(FORMAT)
        self._top = top
        self._scope = scope
        self._settled_before = settled_before
        self._run = run
        self._tell = tell
        self._count = 0

    def all(self, seen: IO[bytes]) -> int:
        """Look at everything; return the newest time of files and links."""
        newest = 0
        below = [(b"", Verdict.THROUGH)]
        while below:
            path, verdict = below.pop()
            descriptor = open_below(self._top, path)
            try:
                status = _print(os.fstat(descriptor))
                names = blake3()
                for files, folders in self._names(descriptor, path, verdict):
                    record = _bytes((path, files, folders))
                    names.update(record)
                    self.hasher.update(record)
                    newest = max(newest, self._files(descriptor, files))
                    below.extend(reversed(list(self._judged(path, verdict, folders))))
            finally:
                os.close(descriptor)
            marshal.dump((path, verdict is Verdict.IN, status, names.digest()), seen, _MARSHAL)
        return newest

    def check(self, seen: IO[bytes]) -> None:
        """Look at all directories again: what was moved from one to another meanwhile may have been seen in neither."""
        end = seen.tell()
        seen.seek(0)
        while seen.tell() < end:
            path, inside, status, digest = marshal.load(seen)  # noqa: S302  (this process has written it)
            if _print(os.stat(path or b".", dir_fd=self._top, follow_symlinks=False)) != status:
                raise _Changing
            if max(status[2:]) < self._settled_before:
                continue
            # So young that a change since may have got the same time.
            names = blake3()
            descriptor = open_below(self._top, path)
            try:
                for files, folders in self._names(descriptor, path, Verdict.IN if inside else Verdict.THROUGH):
                    names.update(_bytes((path, files, folders)))
            finally:
                os.close(descriptor)
            if names.digest() != digest:
                raise _Changing

    def _files(self, descriptor: int, names: list[str]) -> int:
        """Look at files and links of a directory; return their newest time."""
        newest = 0
        look, stat = _LOOK, os.stat
        for at in range(0, len(names), _BATCH):
            batch = names[at : at + _BATCH]
            found = [look(stat(name, dir_fd=descriptor, follow_symlinks=False)) for name in batch]
            self.hasher.update(_bytes(found))
            newest = max(chain((newest,), map(_MTIME, found), map(_CTIME, found)))
            self._count += len(batch)
            self._tell(self._count)
        return newest

    def _names(self, descriptor: int, path: bytes, verdict: Verdict) -> Iterator[tuple[list[str], list[str]]]:
        """Yield files and links of a directory, and the directories in it, as far as they are in scope, in order."""
        prefix = path + b"/" if path else b""
        files: list[str] = []
        folders: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in islice(entries, self._run):
                (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
            more = next(entries, None) is not None
        if not more:
            files = self._scope.kept(verdict, prefix, files)
            folders = [name for name, _ in self._verdicts(prefix, verdict, folders)]
            files.sort()
            folders.sort()
            yield files, folders
            return
        judge = self._scope.judge

        def keep(name: bytes, directory: bool) -> bool:
            return judge(verdict, prefix + name, name, directory=directory) is not Verdict.OUT

        del files, folders
        names = iter(Listing(descriptor, keep, run=self._run))
        while batch := [os.fsdecode(name) for name in islice(names, _BATCH)]:
            yield (
                [name for name in batch if not name.endswith("/")],
                [name[:-1] for name in batch if name.endswith("/")],
            )

    def _judged(self, path: bytes, verdict: Verdict, folders: list[str]) -> Iterator[tuple[bytes, Verdict]]:
        prefix = path + b"/" if path else b""
        for name, found in self._verdicts(prefix, verdict, folders):
            yield prefix + os.fsencode(name), found

    def _verdicts(self, prefix: bytes, above: Verdict, folders: list[str]) -> Iterator[tuple[str, Verdict]]:
        for name in folders:
            raw = os.fsencode(name)
            found = self._scope.judge(above, prefix + raw, raw, directory=True)
            if found is not Verdict.OUT:
                yield name, found


def _bytes(value: Any) -> bytes:
    return marshal.dumps(value, _MARSHAL)


def _print(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what tells a directory, unchanged, from any other; times come last."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
