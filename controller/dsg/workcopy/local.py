"""L, scanned and written down: a plan reads it several times, and it must not change meanwhile. Changes likewise."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dsg.manifests.changes import Change, Place, encode_change, read_changes
from dsg.manifests.entries import FileState, State
from dsg.scan import scan
from dsg.scan.cache import COARSE
from dsg.scan.problems import Note
from dsg.scan.scope import Scope
from dsg.sync.sides import WorkingCopy
from dsg.workcopy.errors import Damaged
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Phase, Progress, Watch


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan that is whole."""

    side: WorkingCopy
    settled_before: int
    """Nanoseconds since 1970, by the file system's clock: what changes from now on has a later ctime."""
    notes: tuple[Note, ...]


def scan_down(layout: Layout, scope: Scope, watch: Watch) -> Scanned:
    """Scan a working copy into `.dsg/sync/local`. Raises ScanFailed, OSError."""

    def tell(progress: scan.Progress) -> None:
        watch(Progress(Phase.SCANNING, progress.files + progress.links, progress.size))

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(layout.local, flags, 0o600), "wb") as file:
        file.truncate()
        os.utime(file.fileno())
        began = min(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns) - COARSE
        work = scan.Scan(layout.root, scope, cache=layout.scan, progress=tell)
        count = 0
        for count, state in enumerate(work, 1):  # noqa: B007  (how many came is what counts)
            file.write(encode_change(Place(state)))
    return Scanned(local_side(layout, count), began, work.report.notes)


def local_side(layout: Layout, count: int) -> WorkingCopy:
    """Return what was written down as a side."""
    return WorkingCopy(count, lambda: read_local(layout.local))


@dataclass(frozen=True, slots=True)
class Written:
    """Changes that were written down."""

    changes: int
    files: int
    """Files whose content comes with them."""
    size: int
    """Their bytes."""


def write_changes(layout: Layout, changes: Iterable[Change]) -> Written:
    """Write down what a plan sends, which it goes through everything for each time."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    count = files = size = 0
    with os.fdopen(os.open(layout.changes, flags, 0o600), "wb") as file:
        for change in changes:
            file.write(encode_change(change))
            count += 1
            if (sent := to_send(change)) is not None:
                files, size = files + 1, size + sent.size
    return Written(count, files, size)


def to_send(change: Change) -> FileState | None:
    """Return the file whose content has to be sent for a change, None where there is none."""
    if not isinstance(change, Place) or change.source is not None or not isinstance(change.state, FileState):
        return None
    return change.state if change.state.size else None


def written_changes(layout: Layout) -> Iterator[Change]:
    """Yield what was written down. Raises ChangeError."""
    with layout.changes.open("rb") as file:
        yield from read_changes(file, str(layout.changes))


def read_local(path: Path) -> Iterator[State]:
    """Yield the states. Raises ChangeError, Damaged."""
    with path.open("rb") as file:
        for change in read_changes(file, str(path)):
            if not isinstance(change, Place):
                raise Damaged(f"{path} holds what no scan finds at {change.path!r}; remove .dsg/sync and sync again")
            yield change.state
