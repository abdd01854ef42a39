"""Two manifests side by side, as streams: what differs, how to get from one to the other, and who changed what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Flag, auto

from dsg.manifests.entries import Entry, File, FileState, Link, LinkState, State
from dsg.manifests.ordering import in_order


class Aspect(Flag):
    """In what two entries of one path differ. Author and version are no aspect: they say who, not what."""

    KIND = auto()
    """One is a file, the other a link; nothing else is compared then."""
    CONTENT = auto()
    """Bytes of a file, or target of a link."""
    MODE = auto()
    """Permission bits."""
    MTIME = auto()
    """Time of last modification."""


NOTHING = Aspect(0)
AUTHORED = Aspect.KIND | Aspect.CONTENT | Aspect.MODE
"""Aspects whose change makes someone the author. A time alone does not: copying, unpacking or opening a file sets it
without anyone meaning to change anything, and each sync would take over the authorship of what it touched.
"""


_FILES, _LINKS = (File, FileState), (Link, LinkState)


def aspects(one: Entry | State, other: Entry | State) -> Aspect:
    """Return in what two entries of one path differ; either can be one without author and version."""
    if isinstance(one, _FILES) and isinstance(other, _FILES):
        found = NOTHING
        # Equal digests with unequal sizes can't be true of any file; it is a difference that must not be lost.
        if one.digest != other.digest or one.size != other.size:
            found |= Aspect.CONTENT
        if one.mode != other.mode:
            found |= Aspect.MODE
        if one.mtime != other.mtime:
            found |= Aspect.MTIME
        return found
    if isinstance(one, _LINKS) and isinstance(other, _LINKS):
        return NOTHING if one.target == other.target else Aspect.CONTENT
    return Aspect.KIND


@dataclass(frozen=True, slots=True)
class Added:
    """A path that only the later manifest has."""

    after: Entry


@dataclass(frozen=True, slots=True)
class Deleted:
    """A path that only the earlier manifest has."""

    before: Entry


@dataclass(frozen=True, slots=True)
class Changed:
    """A path that both have, with entries that differ."""

    before: Entry
    after: Entry
    aspects: Aspect
    """In what they differ; never nothing."""


@dataclass(frozen=True, slots=True)
class Same:
    """A path that both have with the same entry, author and version apart."""

    before: Entry
    after: Entry


Difference = Added | Deleted | Changed | Same


def compare(before: Iterable[Entry], after: Iterable[Entry]) -> Iterator[Difference]:
    """Yield what became of every path, in order. Both must be in order; OrderError when one is not."""
    olds, news = in_order(before), in_order(after)
    old, new = next(olds, None), next(news, None)
    while True:
        if new is None:
            if old is None:
                return
            yield Deleted(old)
            old = next(olds, None)
        elif old is None or new.key < old.key:
            yield Added(new)
            new = next(news, None)
        elif old.key < new.key:
            yield Deleted(old)
            old = next(olds, None)
        else:
            found = aspects(old, new)
            yield Changed(old, new, found) if found else Same(old, new)
            old, new = next(olds, None), next(news, None)


class MismatchError(ValueError):
    """A base that does not have what a difference starts from."""


def apply(differences: Iterable[Difference], base: Iterable[Entry]) -> Iterator[Entry]:
    """Yield `base` with the differences made in it, both in order; paths without a difference stay as they are.

    MismatchError when a path in the base is not as it was where the difference was taken (author and version apart);
    OrderError when either is not in order or the result can't be one tree.
    """
    return in_order(_apply(differences, base))


def _apply(differences: Iterable[Difference], base: Iterable[Entry]) -> Iterator[Entry]:
    entries = in_order(base)
    entry = next(entries, None)
    for difference in differences:
        subject = difference.after if isinstance(difference, Added) else difference.before
        while entry is not None and entry.key < subject.key:
            yield entry
            entry = next(entries, None)
        found = entry if entry is not None and entry.key == subject.key else None
        if isinstance(difference, Added):
            if found is not None:
                raise MismatchError(f"{subject.path!r} was added, but the base has it already")
        elif found is None:
            raise MismatchError(f"{subject.path!r} was changed or deleted, but the base does not have it")
        elif aspects(difference.before, found):
            raise MismatchError(f"{subject.path!r} was changed or deleted, but the base has another state of it")
        if not isinstance(difference, Deleted):
            yield difference.after
        if found is not None:
            entry = next(entries, None)
    if entry is not None:
        yield entry
    yield from entries


def attribute(previous: Iterable[Entry], current: Iterable[Entry], author: str, version: str) -> Iterator[Entry]:
    """Yield the current entries with author and version of their last change, both in order.

    What equals the previous version but for its mtime keeps author and version; all else gets the given ones. Author
    and version that the current entries came with count for nothing, so a client can't sign for somebody else.
    """
    for difference in compare(previous, current):
        match difference:
            case Same(before=before):
                yield before
            case Changed(before, after, found) if not found & AUTHORED:
                yield _signed(after, before.author, before.version)
            case Added(after) | Changed(after=after):
                yield _signed(after, author, version)
            case Deleted():
                pass


def _signed(entry: Entry, author: str, version: str) -> Entry:
    if isinstance(entry, File):
        return File(entry.path, entry.size, entry.mtime, entry.mode, entry.digest, author, version)
    return Link(entry.path, entry.target, author, version)
