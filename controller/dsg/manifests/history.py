"""The headers of all versions, kept in every version, in segments of 64 lines: a commit adds one line to a small file.

So the chain can be followed and proved when the versions themselves are gone. Segments are named by what they hold:
`s1-s64`, `s65-s128` and so on. Only the last one ever grows. Nothing is read that is not checked: each header against
its own chain digest, and against the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dsg.manifests.entries import EntryError, version_number
from dsg.manifests.header import Header, decode_header
from dsg.manifests.lines import MAX_LINE, LineError

SEGMENT = 64
"""Versions in a segment."""


class HistoryError(ValueError):
    """A history that is not whole, or a header that does not continue it. Nothing of the segment may be used.

    `segment` and `line` (from 1) say where, `problem` says what.
    """

    def __init__(self, segment: str, problem: str, line: int | None = None) -> None:
        where = f"history segment {segment}" + (f", line {line}" if line is not None else "")
        super().__init__(
            f"{where}: {problem}. Every later version holds this segment too: compare it with a copy, a replica or a "
            "backup"
        )
        self.segment = segment
        self.line = line
        self.problem = problem


class HistorySource(Protocol):
    """Where segments are read from."""

    def read(self, segment: str) -> bytes | None:
        """Return the bytes of a segment, None when there is none of that name."""
        ...


def segment_name(version: str) -> str:
    """Return the name of the segment that holds a version's header. EntryError when that is no version."""
    return _name(_first(version_number(version)))


def append(source: HistorySource, header: Header) -> tuple[str, bytes]:
    """Return name and bytes of the segment that holds the history's headers up to this one.

    HistoryError unless the header follows the last one, or begins a history where there is none.
    """
    number = version_number(header.version)
    first = _first(number)
    name = _name(first)
    raw = source.read(name)
    held = [] if raw is None else _decode(name, first, raw)
    before = held or (_segment(source, first - SEGMENT, optional=True) if first > 1 else [])
    if before:
        _check_follows(before[-1], header, name)
    elif header.commit.previous is not None:
        raise HistoryError(
            name, f"{header.version} should follow a version of chain digest {header.commit.previous}, but none is here"
        )
    return name, (raw or b"") + header.encode()


def last(source: HistorySource, version: str) -> Header:
    """Return the header of the version that a history ends with. HistoryError when it ends with another."""
    first = _first(version_number(version))
    found = _segment(source, first)[-1]
    if found.version != version:
        raise HistoryError(_name(first), f"should end with {version}, but ends with {found.version}")
    return found


def headers(source: HistorySource, first: str, last: str, *, newest_first: bool = False) -> Iterator[Header]:
    """Yield the headers of versions `first` to `last`, both included, each checked against its neighbour.

    HistoryError when one is missing or altered. Memory: one segment.
    """
    low, high = version_number(first), version_number(last)
    if low > high:
        raise EntryError(f"versions {first} to {last} are none: the first comes after the last")
    starts = range(_first(low), high + 1, SEGMENT)
    neighbour: Header | None = None
    for start in reversed(starts) if newest_first else starts:
        held = _segment(source, start)
        name = _name(start)
        if neighbour is not None:
            _check_follows(*((held[-1], neighbour) if newest_first else (neighbour, held[0])), name)
        _check_reach(held, max(low, start), min(high, start + SEGMENT - 1), name)
        for header in reversed(held) if newest_first else held:
            if low <= version_number(header.version) <= high:
                yield header
        neighbour = held[0] if newest_first else held[-1]


def verify(source: HistorySource, version: str, chain: str) -> str:
    """Check the whole history of a version whose chain digest is known; return the version it begins with.

    The chain digest must come from a place that is trusted more than the history. HistoryError when anything is missing
    or was altered.
    """
    newest = last(source, version)
    start = _first(version_number(version))
    if newest.chain != chain:
        raise HistoryError(_name(start), f"{version} has the chain digest {newest.chain}, but {chain} is trusted")
    neighbour: Header | None = None
    while True:
        held = _segment(source, start)
        if neighbour is not None:
            _check_follows(held[-1], neighbour, _name(start))
        neighbour = held[0]
        if neighbour.commit.previous is None:
            break
        start -= SEGMENT
    if start > 1 and source.read(_name(start - SEGMENT)) is not None:
        raise HistoryError(_name(start), f"{neighbour.version} begins the history, but an older segment is here", 1)
    return neighbour.version


def _first(number: int) -> int:
    return number - (number - 1) % SEGMENT


def _name(first: int) -> str:
    return f"s{first}-s{first + SEGMENT - 1}"


def _segment(source: HistorySource, first: int, *, optional: bool = False) -> list[Header]:
    name = _name(first)
    raw = source.read(name)
    if raw is None:
        if optional:
            return []
        raise HistoryError(name, "is missing")
    return _decode(name, first, raw)


def _decode(name: str, first: int, raw: bytes) -> list[Header]:
    """Return the headers of a segment, at least one. It may begin later than its name says where a history begins."""
    if not raw:
        raise HistoryError(name, "is empty")
    if not raw.endswith(b"\n"):
        raise HistoryError(name, "ends within a line", raw.count(b"\n") + 1)
    found: list[Header] = []
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        if len(line) >= MAX_LINE:
            raise HistoryError(name, f"is longer than the {MAX_LINE} bytes that a line can have", number)
        try:
            header = decode_header(line + b"\n")
        except LineError as error:
            raise HistoryError(name, str(error), number) from None
        if _first(version_number(header.version)) != first:
            raise HistoryError(name, f"{header.version} does not belong here", number)
        if found:
            _check_follows(found[-1], header, name, number)
        elif header.commit.previous is not None and version_number(header.version) != first:
            raise HistoryError(name, f"begins with {header.version}, and what it follows is missing", number)
        found.append(header)
    return found


def _check_follows(before: Header, header: Header, name: str, line: int | None = None) -> None:
    expected = f"s{version_number(before.version) + 1}"
    if header.version != expected:
        raise HistoryError(name, f"{header.version} comes after {before.version}, where {expected} belongs", line)
    if header.commit.previous != before.chain:
        said = "nothing" if header.commit.previous is None else f"a version of chain digest {header.commit.previous}"
        raise HistoryError(name, f"{header.version} follows {said}, but {before.version} has {before.chain}", line)


def _check_reach(held: list[Header], low: int, high: int, name: str) -> None:
    if version_number(held[0].version) > low:
        raise HistoryError(name, f"begins with {held[0].version}; there is no s{low}")
    if version_number(held[-1].version) < high:
        raise HistoryError(name, f"ends with {held[-1].version}; s{high} is missing")
