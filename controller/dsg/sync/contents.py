"""Which contents are there already under another path: a compact index over digests, for renames and copies.

It holds sixteen bytes for each wanted content and what is found of them: digest and path, as bytes. So a rename of a
directory with a million files is told within some 100 MB, and nothing is dropped or spilled.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from dsg.manifests.entries import Entry, File, FileState, State, to_bytes, to_name

_PREFIX = 16
"""Hexadecimal digits of a digest that find its place: 64 bits."""
_DIGEST = 32
_LENGTH = 2
"""Bytes that hold the length of a path; MAX_PATH needs 12 bits."""


class Wanted:
    """Collects which contents are wanted."""

    def __init__(self) -> None:
        self.prefixes = array("Q")

    def add(self, digest: str) -> None:
        """Want a content, by its digest in hexadecimal."""
        self.prefixes.append(int(digest[:_PREFIX], 16))


class Contents:
    """Where wanted contents lie, of those that were looked through; for each the first path in order."""

    def __init__(self, wanted: Wanted, entries: Iterable[Entry | State]) -> None:
        """Look through the entries, if anything is wanted."""
        self._keys = array("Q", sorted(set(wanted.prefixes)))
        self._at = array("q", [-1]) * len(self._keys)
        self._found = bytearray()
        if self._keys:
            for entry in entries:
                if isinstance(entry, File | FileState) and entry.size:
                    self._offer(entry)

    def find(self, file: File | FileState) -> str | None:
        """Return the path of a file of the same content, None when none is known or the content is empty."""
        place = self._place(file.digest)
        if place is None or self._at[place] < 0:
            return None
        start = self._at[place]
        # Two contents whose digests begin alike have one place; the second is not known then, and is sent.
        if self._found[start : start + _DIGEST] != bytes.fromhex(file.digest):
            return None
        start += _DIGEST
        length = int.from_bytes(self._found[start : start + _LENGTH])
        start += _LENGTH
        return to_name(bytes(self._found[start : start + length]))

    def _offer(self, file: File | FileState) -> None:
        place = self._place(file.digest)
        if place is None or self._at[place] >= 0:
            return
        path = to_bytes(file.path)
        self._at[place] = len(self._found)
        self._found += bytes.fromhex(file.digest) + len(path).to_bytes(_LENGTH) + path

    def _place(self, digest: str) -> int | None:
        prefix = int(digest[:_PREFIX], 16)
        place = bisect_left(self._keys, prefix)
        return place if place < len(self._keys) and self._keys[place] == prefix else None
