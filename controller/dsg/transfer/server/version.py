"""What a reader gets of a version: header, history, nodes of the manifest, and contents of files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

from dsg.manifests.entries import EntryError, check_path
from dsg.storage import confined
from dsg.storage.tree_paths import inner
from dsg.storage.trees import OWN_DIRECTORY
from dsg.transfer import chunks
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Cut, Refusal, file_work
from dsg.transfer.server.limits import PIECE
from dsg.transfer.wire import NO_DIGEST, ChunkList, FrameHead, WireError, problem_frame

_NODES = (OWN_DIRECTORY, "nodes")
_HISTORY = (OWN_DIRECTORY, "history")
SEGMENT_PATTERN = "s[1-9][0-9]{0,10}-s[1-9][0-9]{0,10}"
_SEGMENT = re.compile(SEGMENT_PATTERN, re.ASCII)
_MAX_SEGMENT = 1 << 23
"""Bytes of a segment: 64 lines, each at most 64 KiB."""

Pieces = Generator[bytes]
"""The body of an answer, piece by piece; closing it closes its files. Raises Cut where it can't be ended rightly."""


@dataclass(frozen=True, slots=True)
class Content:
    """A part of a file."""

    size: int
    """Bytes of the whole file."""
    start: int
    """First byte of the part."""
    length: int
    """Bytes of the part."""
    pieces: Pieces


class Version:
    """The tree of one version, open. To be used from one thread at a time."""

    def __init__(self, root: int) -> None:
        self._root = root

    def header(self) -> bytes | None:
        """Return the line of the version's header; None where no version was made. Raises Refusal."""
        with file_work("read the history"):
            try:
                with confined.directory(self._root, list(_HISTORY)) as found, confined.listable(found) as listing:
                    names = [name for name in os.listdir(listing) if _SEGMENT.fullmatch(name)]  # noqa: PTH208
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not names:
                return None
            raw = self._read(_HISTORY, max(names, key=lambda name: int(name.partition("-")[0][1:])), _MAX_SEGMENT)
            return raw[raw.rstrip(b"\n").rfind(b"\n") + 1 :]

    def segment(self, name: str) -> bytes:
        """Return a segment of the history. Raises Refusal."""
        with file_work(f"read the segment {name} of the history"):
            return self._read(_HISTORY, name, _MAX_SEGMENT)

    def nodes(self, digests: Iterable[str]) -> Pieces:
        """Yield a frame for each node, or a problem in its place."""
        above = "/".join(_NODES)
        return self._frames(_Wanted(f"the node {digest}", f"{above}/{digest}", digest) for digest in digests)

    def contents(self, paths: Iterable[str]) -> Pieces:
        """Yield a frame for each file's content, or a problem in its place. Digests are not computed."""
        return self._frames(_Wanted("the file", path, NO_DIGEST, path) for path in paths)

    def content(self, path: str, start: int | None, stop: int | None) -> Content:
        """Open a file to send bytes `start` to `stop` of it, counted from the end where negative. Raises Refusal."""
        with file_work("read the file", path), ExitStack() as opened:
            descriptor = opened.enter_context(confined.regular_file(self._root, _checked(path)))
            size = os.fstat(descriptor).st_size
            if start is not None and start >= max(size, 1):
                raise Refusal(Code.RANGE, f"The file has {size} bytes; the range begins at {start}.", path)
            first, last, _ = slice(start, stop).indices(size)
            length = max(last - first, 0)
            pieces = _pieces(descriptor, first, length, opened.pop_all())
            # A generator that was not begun would not close its file.
            next(pieces)
            return Content(size, first, length, pieces)

    def chunks(self, path: str, check: Callable[[], None]) -> bytes:
        """Return the list of a file's chunks. `check` is called now and then. Raises Refusal."""
        found = bytearray()
        with file_work("read the file", path), confined.regular_file(self._root, _checked(path)) as descriptor:
            try:
                for one in chunks.chunks(chunks.reader(descriptor)):
                    found += ChunkList.of([one]).encode()
                    check()
                return ChunkList(found).encode()
            except WireError as error:
                raise Refusal(Code.TOO_MUCH, f"The file can't be sent by chunks: {error}.", path) from error

    def _read(self, above: tuple[str, ...], name: str, limit: int) -> bytes:
        with confined.regular_file(self._root, "/".join((*above, name))) as descriptor:
            raw = _upto(descriptor, limit + 1)
        if len(raw) > limit:
            raise Refusal(Code.STORAGE, f"{name} is larger than the {limit} bytes it can have.")
        return raw

    def _frames(self, wanted: Iterable[_Wanted]) -> Pieces:
        held = bytearray()
        with _Files(self._root) as files:
            for one in wanted:
                if len(held) >= PIECE:
                    yield bytes(held)
                    held.clear()
                try:
                    with file_work(f"read {one.what}", one.path):
                        if one.path is not None:
                            _checked(one.path)
                        raw, size = files.begin(one.place)
                except Refusal as refusal:
                    held += problem_frame(refusal.problem)
                    continue
                held += FrameHead(one.digest, size).encode()
                held += raw
                if size > len(raw):
                    yield bytes(held)
                    held.clear()
                    yield from _range(files.descriptor, len(raw), size)
        if held:
            yield bytes(held)


@dataclass(frozen=True, slots=True)
class _Wanted:
    what: str
    """What it is, in words."""
    place: str
    """Where it lies below the root."""
    digest: str
    """What its frame says."""
    path: str | None = None
    """Its path, where it is a file of the version."""


class _Files:
    """Opens one file after the other; the directory of the last one stays open, as the next is often beside it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._above: list[str] | None = None
        self._directory = ExitStack()
        self._file = ExitStack()
        self._parent = -1
        self.descriptor = -1
        """The file that was begun last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._directory.close()

    def begin(self, path: str) -> tuple[bytes, int]:
        """Return the first bytes of a regular file, at most PIECE, and how many it has."""
        self._file.close()
        above, name = inner(path)
        if above != self._above:
            self._directory.close()
            self._above = None
            self._parent = self._directory.enter_context(confined.directory(self._root, above))
            self._above = above
        self.descriptor = self._file.enter_context(confined.regular_file(self._parent, name))
        raw = _upto(self.descriptor, PIECE)
        # A file that is read to its end has the size that was read, whatever it was a moment ago.
        size = len(raw) if len(raw) < PIECE else max(os.fstat(self.descriptor).st_size, PIECE)
        return raw, size


def _checked(path: str) -> str:
    try:
        check_path(path)
    except EntryError as error:
        raise Refusal(Code.BAD_PATH, f"{error}.", path) from error
    return path


def _upto(descriptor: int, limit: int) -> bytes:
    """Return the first bytes of a file."""
    first = os.pread(descriptor, limit, 0)
    if not first or len(first) == limit:
        return first
    whole = bytearray(first)
    while len(whole) < limit and (more := os.pread(descriptor, limit - len(whole), len(whole))):
        whole += more
    return bytes(whole)


def _range(descriptor: int, start: int, stop: int) -> Pieces:
    while start < stop:
        piece = os.pread(descriptor, min(PIECE, stop - start), start)
        if not piece:
            raise Cut(f"a file ended at byte {start}, where {stop} were announced")
        yield piece
        start += len(piece)


def _pieces(descriptor: int, start: int, length: int, opened: ExitStack) -> Pieces:
    with opened:
        yield b""
        yield from _range(descriptor, start, start + length)


@contextmanager
def opened(root: str) -> Iterator[Version]:
    """Open the tree of a version. Raises Refusal."""
    with file_work("open the version"):
        try:
            with confined.opened_root(root) as found:
                descriptor = os.dup(found)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refusal(Code.STORAGE, "The version can't be read on the node just now.") from error
    try:
        yield Version(descriptor)
    finally:
        os.close(descriptor)
