"""Whether a working copy is still what the last sync left: by a glance, where a scan has found so before.

`.dsg/unchanged` holds one digest, of C and of what a glance saw before a scan that found L to be C. If a glance sees
the same now, and C is the same, a scan would find the same: the first glance was settled, so every change since shows
in a time (docs/scan.md). Whatever else the file holds, nothing or anything, it costs a scan and no more.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from blake3 import blake3

from dsg.scan.cache import YOUNG
from dsg.scan.glance import Glance, glance
from dsg.workcopy.base import State
from dsg.workcopy.layout import Layout
from dsg.workcopy.results import Phase, Progress, Watch
from dsg.workcopy.writing import write_whole

FORMAT = "dsg-unchanged/1"


def look(layout: Layout, state: State, watch: Watch) -> Glance | None:
    """Return what a glance sees of what the last sync synced; None where it can't tell. Raises OSError."""
    # The file system's clock may be a server's; whichever is behind counts.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(layout.local, flags, 0o600)
    try:
        os.utime(descriptor)
        now = min(time.time_ns(), os.fstat(descriptor).st_mtime_ns)
    finally:
        os.close(descriptor)

    def tell(count: int) -> None:
        watch(Progress(Phase.SCANNING, count, 0))

    return glance(layout.root, state.synced.scope(), settled_before=now - YOUNG, tell=tell)


def is_unchanged(layout: Layout, state: State, seen: Glance | None) -> bool:
    """Tell whether what a glance saw is C. Without a stat cache, it is not: who removes that wants everything read."""
    if seen is None or not layout.scan.exists():
        return False
    try:
        return layout.unchanged.read_bytes() == _record(state, seen)
    except OSError:
        return False


def remember(layout: Layout, state: State, seen: Glance | None) -> None:
    """Remember that a scan, made after the glance, found C. What can't be written costs a scan and no more."""
    if seen is not None and seen.settled:
        with suppress(OSError):
            write_whole(layout.unchanged, _record(state, seen), durable=False)


def _record(state: State, seen: Glance) -> bytes:
    said = "\n".join((FORMAT, state.tree.digest, str(state.covered), state.synced.model_dump_json(), seen.digest.hex()))
    return f"{FORMAT} {blake3(said.encode()).hexdigest()}\n".encode()
