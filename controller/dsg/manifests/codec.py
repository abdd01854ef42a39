"""Manifest files: a header line, then one line for each entry. Written and read as streams.

A manifest has exactly one encoding, so equal manifests are equal files. The reader accepts nothing else and never
leaves an entry out: a dropped entry would look like a deleted file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from dsg.manifests.digest import Digester, Summary
from dsg.manifests.entries import Entry, version_number
from dsg.manifests.header import Commit, Header, decode_header
from dsg.manifests.lines import MAX_LINE, LineError, decode, encode
from dsg.manifests.ordering import Order, OrderError, in_order

_COPY = 1 << 20


class ManifestError(ValueError):
    """A manifest file that is not whole and valid. Nothing of it may be used.

    `source`, `line` (from 1) and `path` (of the entry, if it could be read) say where; `problem` says what.
    """

    def __init__(self, source: str, line: int, problem: str, path: str | None = None) -> None:
        where = f"{source}, line {line}" + (f" ({path!r})" if path is not None else "")
        super().__init__(f"{where}: {problem}. Nothing of this manifest was used; take another copy of the version")
        self.source = source
        self.line = line
        self.problem = problem
        self.path = path


class VersionError(ValueError):
    """An entry whose last change lies in a later version than the manifest."""


def write(target: BinaryIO, commit: Commit, entries: Iterable[Entry], *, directory: Path | None = None) -> Header:
    """Write a manifest and return its header. Entries must come in order (see `ordering.sort`).

    The header comes first and depends on all entries, so these pass through an unnamed temporary file in `directory`
    (default: the system's). `target` is written only when all entries were good; making that durable is the caller's.
    Raises OrderError, VersionError, and OSError from either file.
    """
    digester = Digester()
    versions = _Versions(commit.version)
    with tempfile.TemporaryFile(dir=directory) as body:
        for entry in in_order(entries):
            versions.check(entry)
            line = encode(entry)
            digester.add(line)
            body.write(line.whole)
        header = Header(commit, digester.summary())
        body.seek(0)
        target.write(header.encode())
        shutil.copyfileobj(body, target, _COPY)
    return header


class Reader:
    """A manifest file as a stream: `header` at once, then the entries, in order, by iterating once.

    Each entry is checked as it comes, counts and digests when all have been read. So do nothing that can't be undone
    before the iteration has ended, or call `verify` first. Raises ManifestError and the stream's OSError.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        """Read the header. `name` is what errors call the file."""
        self._source = source
        self._name = name
        self._started = False
        try:
            self.header = decode_header(self._line(1))
        except LineError as error:
            raise ManifestError(name, 1, str(error)) from None

    def __iter__(self) -> Iterator[Entry]:
        if self._started:
            raise RuntimeError(f"{self._name} was read already; open it again")
        self._started = True
        return self._entries()

    def _entries(self) -> Iterator[Entry]:
        count = self.header.summary.entries
        digester, order, versions = Digester(), Order(), _Versions(self.header.version)
        for number in range(2, count + 2):
            path = None
            try:
                line = decode(self._line(number))
                path = line.entry.path
                order.check(line.entry)
                versions.check(line.entry)
            except LineError as error:
                raise ManifestError(self._name, number, str(error), error.path) from None
            except (OrderError, VersionError) as error:
                raise ManifestError(self._name, number, str(error), path) from None
            digester.add(line)
            yield line.entry
        if self._source.read(1):
            raise ManifestError(self._name, count + 2, f"the header counts {count} entries, but more follows")
        self._compare(digester.summary())

    def _line(self, number: int) -> bytes:
        raw = self._source.readline(MAX_LINE)
        if raw.endswith(b"\n"):
            return raw
        if len(raw) == MAX_LINE:
            raise ManifestError(self._name, number, f"is longer than the {MAX_LINE} bytes that a line can have")
        if number == 1:
            raise ManifestError(self._name, number, "the file ends within the header" if raw else "the file is empty")
        count = self.header.summary.entries
        ends = "within this line" if raw else "before this line"
        raise ManifestError(self._name, number, f"the file ends {ends}; the header counts {count} entries")

    def _compare(self, found: Summary) -> None:
        said = self.header.summary
        for what, one, other in (
            ("a total size of", said.size, found.size),
            ("entries of digest", said.digest, found.digest),
            ("a tree of digest", said.tree, found.tree),
        ):
            if one != other:
                raise ManifestError(self._name, 1, f"the header says {what} {one}, the entries give {other}")


def verify(source: BinaryIO, name: str) -> Header:
    """Read a manifest to its end and return its header, ManifestError when it is not whole and valid."""
    reader = Reader(source, name)
    for _ in reader:
        pass
    return reader.header


class _Versions:
    """Refuses entries from the future of a version."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._limit = version_number(version)
        self._good = {version}

    def check(self, entry: Entry) -> None:
        if entry.version in self._good:
            return
        if version_number(entry.version) > self._limit:
            raise VersionError(f"{entry.path!r} was last changed in {entry.version}, after {self._version}")
        self._good.add(entry.version)
