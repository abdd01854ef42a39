"""`.dsg/store`: contents that operations need, brought there before anything is committed or applied."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from dsg.manifests.entries import File, FileState, to_bytes
from dsg.sync.plan import Fetch, Plan
from dsg.transfer.contents import Opener, Wanted
from dsg.workcopy.apply import Applier
from dsg.workcopy.files import Files
from dsg.workcopy.layout import METADATA, SYNC, Layout
from dsg.workcopy.remote import VersionReader
from dsg.workcopy.results import Phase, Progress, Watch

LARGE = 8 << 20
"""Bytes from which an older file is worth comparing with, piece by piece."""
_DIGEST = re.compile("[0-9a-f]{64}")
_PLACE = f"{METADATA}/{SYNC}/source".encode()


def check_store(layout: Layout, files: Files) -> None:
    """Remove what an interrupted sync left in the store and may not be what its name says.

    After a power cut, a file may have its name and not all of its content. A file with a second name was about to take
    its place, and is a file of the working copy by now.
    """
    layout.store.mkdir(exist_ok=True)
    for name in os.listdir(layout.store):  # noqa: PTH208  (fast)
        if not _DIGEST.fullmatch(name):
            continue
        path = f"{METADATA}/{layout.store.name}/{name}".encode()
        found = files.look(path)
        if found is None or found.st_nlink != 1 or files.digest(path) != name:
            files.remove(path)


def bring(
    layout: Layout,
    files: Files,
    plan: Plan,
    applier: Applier,
    reader: Callable[[], VersionReader],
    watch: Watch,
) -> None:
    """Bring to the store what the plan fetches and what is not in its place: from here where that can be, else from
    the repository; `reader` is asked only then.

    Raises RemoteError, OSError (no space above all). Nothing outside `.dsg` is changed.
    """
    layout.store.mkdir(exist_ok=True)
    total_files = total_size = 0
    for operation in plan.operations():
        if isinstance(operation, Fetch):
            applier.note(operation.entry)
            if _is_needed(layout, operation, applier) and not _from_here(files, operation, applier):
                total_files += 1
                total_size += operation.entry.size if isinstance(operation.entry, File) else 0
    applier.noted()
    if not total_files:
        return

    def wanted() -> Iterator[Wanted]:
        for operation in plan.operations():
            if not isinstance(operation, Fetch) or not isinstance(operation.entry, File):
                continue
            if _is_needed(layout, operation, applier):
                yield _wanted(layout, operation, operation.entry)

    def tell(done: int, size: int) -> None:
        watch(Progress(Phase.FETCHING, done, size, total_files, total_size))

    reader().fetch(wanted(), layout.store, tell)


def _is_needed(layout: Layout, operation: Fetch, applier: Applier) -> bool:
    entry = operation.entry
    if not isinstance(entry, File) or not entry.size or (layout.store / entry.digest).exists():
        return False
    return not applier.is_done(operation)


def _from_here(files: Files, operation: Fetch, applier: Applier) -> bool:
    """Copy content that another file here has; tell whether it was so."""
    entry = operation.entry
    if operation.source is None or not isinstance(entry, File):
        return False
    try:
        files.copy(to_bytes(operation.source), _PLACE)
        if files.digest(_PLACE) != entry.digest:
            return False
        files.set_aside(_PLACE, applier.content(entry.digest))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return True


def _wanted(layout: Layout, operation: Fetch, entry: File) -> Wanted:
    basis: Opener | None = None
    if entry.size >= LARGE and isinstance(operation.replaces, FileState):
        basis = opener(layout.root / os.fsdecode(to_bytes(entry.path)))
    return Wanted(entry.path, entry.size, entry.digest, basis)


def opener(path: Path) -> Opener:
    """Return what opens a file that may have become anything: a link, a pipe, nothing."""

    def open_file() -> BinaryIO:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "is no regular file any more", str(path))
        return os.fdopen(descriptor, "rb")

    return open_file
