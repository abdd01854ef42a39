"""A scan: the states of a working copy's files and links, in the order of a manifest, at the cost of what changed."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from pathlib import Path

from dsg.manifests.entries import MAX_MODE, EntryError, FileState, LinkState, State, to_name
from dsg.scan.cache import YOUNG, Cache, Known
from dsg.scan.hashing import Hashed, Hasher, Stopped
from dsg.scan.listing import Directory
from dsg.scan.problems import Note, Problem, Problems, ScanFailed, refused, shown
from dsg.scan.scope import Scope
from dsg.scan.walk import Found, Walk

SLOTS = 64
"""Entries that pass through the scan together: one call of a thread for each would cost more than small files do."""
BYTES = 1 << 22
"""Bytes to hash from which a group of entries is full."""
DIRECTORIES = 4
"""Directories with files to hash from which a group is full: each stays open until the group is hashed."""
AHEAD = 2
"""Groups in flight for each thread. Bounds memory and open directories: macOS lets a process have 256 open files."""
MAX_THREADS = 8
"""Threads at most, unless told otherwise: disks answer no faster, and Python runs one at a time."""
SMALL = 1 << 20
"""Bytes of a group up to which its files cost more in Python than in the kernel. Threads would wait for each other
then, and each time that costs more than a read of what is in memory: on two processors, two of them took half as much
time again as none.
"""
SHARED_OUT = 64
"""Groups that are shared out among threads, small or not, once the storage has made a scan wait."""
_TICK = 0.1
_TOLERATED = 0.001
"""Seconds of waiting for a group that say nothing: another process may have had the processor."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is."""

    directories: int
    """Directories listed."""
    files: int
    """Files whose state is known."""
    links: int
    """Links whose state is known."""
    size: int
    """Bytes of those files."""
    hashed: int
    """Bytes read and hashed."""
    cached: int
    """Files whose digest came from the cache."""
    left_out: int
    """Names that are hidden, ignored or in no data directory; what lies below them is not counted."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a scan."""

    whole: bool
    """Every path in scope is among the states. Without it, a path that is missing must not be taken for deleted."""
    progress: Progress
    problems: tuple[Problem, ...]
    """Ordered by path; the first 10,000 that were found."""
    problems_total: int
    notes: tuple[Note, ...]
    """What was left out of the states that are there, and what became of the cache; the first 10,000."""
    notes_total: int


@dataclass(slots=True)
class _Hit:
    known: Known
    status: os.stat_result


@dataclass(slots=True)
class _Miss:
    found: Found
    outcome: Hashed | Problem | None = None


@dataclass(slots=True)
class _Group:
    slots: list[LinkState | _Hit | _Miss] = field(default_factory=list)
    misses: int = 0
    directories: int = 0
    last: Directory | None = None
    size: int = 0
    future: Future[None] | None = None


class Scan:
    """Yields the states by iterating once, in the order of a manifest.

    When anything in scope could not be scanned, the iteration ends with ScanFailed, which names all problems. So do
    nothing that can't be undone before it has ended. Raises OSError when the root can't be opened, or no temporary file
    be written.

    Ending early (close(), Ctrl-C) stops the threads and keeps in the cache what was hashed so far.
    """

    def __init__(
        self,
        root: Path,
        scope: Scope,
        *,
        cache: Path | None = None,
        threads: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        folder: Path | None = None,
        young: int = YOUNG,
    ) -> None:
        """Prepare a scan of the directory `root`.

        `cache`: file of the stat cache, hidden or outside the root; its directory must exist. `threads`: how many read
        and hash what is large or slow to come (default: the processors this process may use, at most 8). `progress` is
        called in the thread that iterates, about ten times a second while it waits and once for each group of entries.
        `folder` (default: the system's) takes temporary files. `young`: nanoseconds before the scan within which a
        change of a file keeps it out of the cache, because the next change may not show in its times.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"a scan needs at least one thread, not {threads}")
        self._root = root
        self._scope = scope
        self._file = cache
        self._threads = threads or min(_processors(), MAX_THREADS)
        self._tell = progress
        self._folder = folder
        self._young = young
        self._problems = Problems()
        self._hasher = Hasher(parallel=self._threads > 1)
        self._files = self._links = self._size = self._cached = 0
        self._to_share_out = 0
        self._walk: Walk | None = None
        self._started = self._ended = False

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        directories, left_out = (self._walk.directories, self._walk.left_out) if self._walk is not None else (0, 0)
        return Progress(directories, self._files, self._links, self._size, self._hasher.hashed, self._cached, left_out)

    @property
    def report(self) -> Report:
        """What came of it so far."""
        found = self._problems
        whole = self._ended and not found.total
        return Report(whole, self.progress, found.all, found.total, found.notes, found.notes_total)

    def __iter__(self) -> Iterator[State]:
        if self._started:
            raise RuntimeError(f"{self._root} was scanned already; make another Scan")
        self._started = True
        return self._states()

    def _states(self) -> Iterator[State]:
        cache = Cache(self._file, young=self._young)
        try:
            yield from self._with(cache)
        finally:
            cache.close()
            for note in cache.notes:
                self._problems.note("", note)
        self._ended = True
        if self._problems.total:
            raise ScanFailed(self._problems.all, self._problems.total)

    def _with(self, cache: Cache) -> Iterator[State]:
        self._walk = walk = Walk(
            self._root, self._scope, self._problems, settled_before=cache.settled_before, folder=self._folder
        )
        pending: deque[_Group] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="scan")
        group = _Group()
        after = b""
        whole = False
        try:
            for item in walk:
                after = item.key
                self._fill(group, item, cache)
                if len(group.slots) < SLOTS and group.size < BYTES and group.directories < DIRECTORIES:
                    continue
                self._send(group, pool, pending)
                group = _Group()
                while len(pending) > AHEAD * self._threads:
                    yield from self._take(pending, cache)
            self._send(group, pool, pending)
            group = _Group()
            while pending:
                yield from self._take(pending, cache)
            whole = True
        finally:
            self._hasher.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            walk.close()
            if not whole:
                if all(group is not other for other in pending):
                    pending.append(group)
                for left in pending:
                    self._settle(left, cache)
            cache.save(after=None if whole else after)

    def _fill(self, group: _Group, item: Found | LinkState, cache: Cache) -> None:
        if isinstance(item, LinkState):
            group.slots.append(item)
            return
        known = cache.find(item.key, item.status)
        if known is not None:
            group.slots.append(_Hit(known, item.status))
            return
        item.directory.hold()
        group.slots.append(_Miss(item))
        group.misses += 1
        if item.directory is not group.last:
            group.last = item.directory
            group.directories += 1
        group.size += item.status.st_size

    def _send(self, group: _Group, pool: ThreadPoolExecutor, pending: deque[_Group]) -> None:
        if group.misses:
            if group.size <= SMALL and self._to_share_out <= 0:
                self._hash_here(group)
            else:
                self._to_share_out -= 1
                group.future = pool.submit(self._hash, group)
        pending.append(group)

    def _hash_here(self, group: _Group) -> None:
        """Hash the files of a small group in this thread. Where it mostly waits, threads do the next ones."""
        began, worked = time.perf_counter(), time.thread_time()
        self._hash(group)
        worked = time.thread_time() - worked
        if time.perf_counter() - began > 2 * worked + _TOLERATED:
            self._to_share_out = SHARED_OUT

    def _hash(self, group: _Group) -> None:
        """Hash the files of a group."""
        for slot in group.slots:
            if self._hasher.stopped.is_set():
                return
            if isinstance(slot, _Miss):
                try:
                    slot.outcome = self._hasher.hash(slot.found)
                except Stopped:
                    return

    def _take(self, pending: deque[_Group], cache: Cache) -> Iterator[State]:
        """Yield the states of the first group, once it is hashed."""
        group = pending[0]
        if group.future is not None:
            while wait_for([group.future], _TICK).not_done:
                self._told()
            group.future.result()
        pending.popleft()
        self._settle(group, cache)
        for slot in group.slots:
            state = self._state(slot)
            if state is not None:
                yield state
        self._told()

    def _settle(self, group: _Group, cache: Cache) -> None:
        """Tell the cache what is known of a group, and let go of its directories."""
        for slot in group.slots:
            if isinstance(slot, _Hit):
                cache.keep(slot.known)
            elif isinstance(slot, _Miss):
                slot.found.directory.release()
                if isinstance(slot.outcome, Hashed):
                    cache.add(slot.found.key, slot.outcome.status, slot.outcome.digest)

    def _state(self, slot: LinkState | _Hit | _Miss) -> State | None:
        if isinstance(slot, LinkState):
            self._links += 1
            return slot
        if isinstance(slot, _Hit):
            self._cached += 1
            return self._file_state(slot.known.key, slot.status, slot.known.digest)
        if isinstance(slot.outcome, Hashed):
            return self._file_state(slot.found.key, slot.outcome.status, slot.outcome.digest)
        if slot.outcome is None:
            raise RuntimeError(f"{slot.found.path!r} was not hashed, though its group was")
        self._problems.add(slot.outcome)
        return None

    def _file_state(self, key: bytes, status: os.stat_result, digest: bytes) -> FileState | None:
        path = to_name(key)
        mode = stat.S_IMODE(status.st_mode)
        try:
            state = FileState(path, status.st_size, status.st_mtime_ns, mode & MAX_MODE, digest.hex())
        except EntryError as error:
            self._problems.add(refused(path, str(error)))
            return None
        if mode & ~MAX_MODE:
            bits = f"{mode & ~MAX_MODE:04o}"
            self._problems.note(path, f"{shown(path)} has set-id or sticky bits ({bits}), which are not carried")
        self._files += 1
        self._size += status.st_size
        return state

    def _told(self) -> None:
        if self._tell is not None:
            self._tell(self.progress)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
