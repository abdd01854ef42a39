"""The three sides of a sync, as types that tell what is not there from what could not be read.

DSG took a head that it could not read for an empty one and deleted the working copy (its defect D3). Here a side is
either absent, which has to be said by its own name, or it brings its entries and says how many there must be. What
can't be read raises; what comes short raises too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsg.manifests.entries import Entry, version_number
from dsg.manifests.header import Header
from dsg.manifests.ordering import AnyEntry, in_order
from dsg.sync.states import Local

Read = Callable[[], Iterable[AnyEntry]]
"""Opens entries in the order of manifests, anew each time. Raises when it can't, before or while they come."""


class SidesError(ValueError):
    """Three sides that don't belong together, or one that is not whole. Nothing was changed anywhere."""


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """L: a directory that was scanned to its end, with nothing in it that could not be read."""

    count: int
    """Entries that the scan found."""
    read: Read[Local]


@dataclass(frozen=True, slots=True)
class NoWorkingCopy:
    """L of a clone: there is no directory yet."""


@dataclass(frozen=True, slots=True)
class Version:
    """C or R: a version and all its entries."""

    header: Header
    read: Read[Entry]
    count: int | None = None
    """Entries that there must be, where that is not what the header says: a cache in which some paths are as an older
    version had them, or of which a part was synced.
    """


@dataclass(frozen=True, slots=True)
class NeverSynced:
    """C where the working copy has never been synced."""


@dataclass(frozen=True, slots=True)
class NoVersion:
    """R where the repository itself has said that it has no version yet; never one that was not found."""


def _everything(_path: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Sides:
    """L, C and R. SidesError when they can't be those of one working copy and its repository."""

    local: WorkingCopy | NoWorkingCopy
    cached: Version | NeverSynced
    remote: Version | NoVersion
    covers: Callable[[str], bool] = _everything
    """Tells whether a path is synced, as the scan of L was told. What it leaves out is left out of C and R too: it is
    in no scan, and would look deleted. It stays as it is, everywhere.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.cached, Version):
            return
        cached = self.cached.header
        if isinstance(self.local, NoWorkingCopy):
            raise SidesError(
                f"the working copy was synced with {cached.version} and is gone. That is not taken for a deletion of "
                "everything. Mount or restore it, or clone into a new directory"
            )
        if isinstance(self.remote, NoVersion):
            raise SidesError(
                f"this working copy was synced with {cached.version}, and the repository has no version at all: it is "
                "another one, or was made anew. Nothing is deleted here. Ask who keeps the repository; to fill it from "
                "this working copy, start from a copy without .dsg"
            )
        remote = self.remote.header
        if version_number(remote.version) < version_number(cached.version):
            raise SidesError(
                f"this working copy was synced with {cached.version}, but the repository's head is {remote.version}: "
                "it was set back or restored, or is another one. What was lost there may be left here only, so nothing "
                "is deleted. Keep this copy, clone anew and compare"
            )
        if remote.version == cached.version and remote.chain != cached.chain:
            raise SidesError(
                f"the repository's {remote.version} is not the {cached.version} that this working copy was synced "
                "with: its history was replaced, or it is another repository. Keep this copy, clone anew and compare"
            )

    @property
    def head_is_base(self) -> bool:
        """Whether nobody has committed since the last sync, so that C and R are one and need not be read twice."""
        cached, remote = self.cached, self.remote
        if not isinstance(cached, Version) or not isinstance(remote, Version) or cached.count is not None:
            return False
        return cached.header == remote.header

    def entries_local(self) -> Iterator[Local]:
        """Yield L's entries, each time from the start. SidesError when they are not as many as was said."""
        return self._covered(self._local())

    def entries_cached(self) -> Iterator[Entry]:
        """Yield C's entries likewise."""
        return self._covered(_of_version(_CACHED, self.cached))

    def entries_remote(self) -> Iterator[Entry]:
        """Yield R's entries likewise."""
        return self._covered(_of_version(_REMOTE, self.remote))

    def left_out(self) -> Iterator[Entry]:
        """Yield R's entries that are not synced: they stay in the head whatever this working copy sends."""
        if self.covers is not _everything:
            yield from (e for e in _of_version(_REMOTE, self.remote) if not self.covers(e.path))

    def paths(self) -> Iterator[str]:
        """Yield every path that any side has, synced or not; in no order, and several times where several have it."""
        yield from (entry.path for entry in self._local())
        for entries in (_of_version(_CACHED, self.cached), _of_version(_REMOTE, self.remote)):
            yield from (entry.path for entry in entries)

    def _local(self) -> Iterator[Local]:
        if isinstance(self.local, NoWorkingCopy):
            return iter(())
        return _whole("the working copy", self.local.count, self.local.read)

    def _covered(self, entries: Iterator[AnyEntry]) -> Iterator[AnyEntry]:
        return entries if self.covers is _everything else (entry for entry in entries if self.covers(entry.path))


_CACHED, _REMOTE = "the last sync's manifest", "the head's manifest"


def _of_version(name: str, side: Version | NeverSynced | NoVersion) -> Iterator[Entry]:
    if not isinstance(side, Version):
        return iter(())
    count = side.header.summary.entries if side.count is None else side.count
    return _whole(f"{name} ({side.header.version})", count, side.read)


def _whole(name: str, count: int, read: Read[AnyEntry]) -> Iterator[AnyEntry]:
    found = 0
    for found, entry in enumerate(in_order(read()), 1):  # noqa: B007  (how many came is what counts)
        yield entry
    if found != count:
        raise SidesError(
            f"{name} should have {count} entries and gave {found}. What is missing is not taken for deleted: read it "
            "again, or take another copy of it"
        )
