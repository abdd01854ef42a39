"""The order of entries in a manifest: by the bytes of their paths, each path once, nothing below a file or link."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from dsg.manifests.entries import Entry, State, to_name
from dsg.manifests.lines import decode, encode

RUN = 32768
"""Entries that `sort` holds in memory at once, some 20 MB."""
_BLOCK = 65536
_SLASH = ord("/")

AnyEntry = TypeVar("AnyEntry", bound=Entry | State)
"""Entries of one kind, with author and version or without."""


class OrderError(ValueError):
    """Entries that can't stand in one manifest, or not in this order."""


class Order:
    """Checks entries as they come. Memory is bounded by the length of a path."""

    def __init__(self) -> None:
        self._last = b""
        # Earlier paths that are prefixes of the last one, each a prefix of the next: what a coming path may lie below.
        # Paths with one prefix stand together, so what is no prefix any more never will be again.
        self._prefixes: list[bytes] = []

    def check(self, entry: Entry | State) -> None:
        """Take the next entry, or raise OrderError."""
        key = entry.key
        if key <= self._last:
            if key == self._last:
                raise OrderError(f"path {entry.path!r} comes twice")
            raise OrderError(f"path {entry.path!r} comes after {to_name(self._last)!r}, but sorts before it")
        prefixes = self._prefixes
        while prefixes and not key.startswith(prefixes[-1]):
            prefixes.pop()
        for above in prefixes:
            if key[len(above)] == _SLASH:
                raise OrderError(f"path {entry.path!r} lies below {to_name(above)!r}, which is no directory")
        prefixes.append(key)
        self._last = key


def in_order(entries: Iterable[AnyEntry]) -> Iterator[AnyEntry]:
    """Yield the entries as they come, OrderError at the first that breaks the order."""
    order = Order()
    for entry in entries:
        order.check(entry)
        yield entry


def sort(entries: Iterable[Entry], *, directory: Path | None = None, run: int = RUN) -> Iterator[Entry]:
    """Yield entries in order, whatever order they come in.

    More than `run` of them are sorted in runs in an unnamed temporary file in `directory` (default: the system's), so
    memory stays bounded. OrderError when a path comes twice or lies below another entry; OSError when the disk is full.
    """
    source = iter(entries)
    held = sorted(islice(source, run), key=_key)
    following = next(source, None)
    if following is None:
        yield from in_order(held)
        return
    with tempfile.TemporaryFile(dir=directory) as file:
        runs: list[tuple[int, int]] = []
        while held:
            start = file.tell()
            file.writelines(encode(entry).whole for entry in held)
            runs.append((start, file.tell()))
            head = [] if following is None else [following]
            held = sorted([*head, *islice(source, run - len(head))], key=_key)
            following = None
        file.flush()
        merged = heapq.merge(*(_read(file.fileno(), start, end) for start, end in runs), key=_key)
        yield from in_order(merged)


def _key(entry: Entry) -> bytes:
    return entry.key


def _read(descriptor: int, start: int, end: int) -> Iterator[Entry]:
    rest = b""
    while start < end:
        block = os.pread(descriptor, min(_BLOCK, end - start), start)
        if not block:
            raise OSError(f"the temporary file for sorting ends at byte {start}, {end - start} bytes early")
        start += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield decode(line + b"\n").entry
