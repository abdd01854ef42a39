"""Sending contents to a stage: those it does not have, small ones many at a time, large ones by their chunks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import BinaryIO

from blake3 import blake3

from dsg.transfer.chunks import MAXIMUM, cut, reader
from dsg.transfer.client.connection import Body, Buffer, Connection
from dsg.transfer.client.connection import cut as pieces_of
from dsg.transfer.client.errors import Damaged, LocalProblem, Refused, SourceChanged
from dsg.transfer.client.parameters import Parameters
from dsg.transfer.client.runs import runs
from dsg.transfer.contents import Outgoing
from dsg.transfer.problems import Code, Problem
from dsg.transfer.wire import (
    LARGE,
    Chunk,
    ChunkList,
    FrameHead,
    WireError,
    decode_digests,
    decode_indexes,
    encode_digests,
    is_digest,
    path_to_query,
)

ASKED = 2500
"""Contents that are asked for at once: few enough that the first are sent while the next are asked for."""
BATCH_FILES = 2000
"""Files in one request at most."""
BATCH_BYTES = 4 << 20
"""Bytes of contents in one request at most, unless one alone has more; a thread holds them twice for a moment."""
PIECE = MAXIMUM
"""Bytes of a chunk where there is no basis: then it does not matter where a file is cut."""
ROUNDS = 3
"""How often the data plane is asked again what it misses of a file that did not come out right there."""


class Sending:
    """One `send`: what is to be done, in pieces that any thread may do, and how far it is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parameters = Parameters(connection)
        self._guard = threading.Lock()
        self._under_way: set[str] = set()
        self.files = 0
        """Files whose content the stage has."""
        self.content = 0
        """Bytes of content that the stage has."""

    def shared_out(self, contents: Iterable[Outgoing]) -> Iterator[Callable[[], None]]:
        """Yield pieces of work. Memory: ASKED contents, as they were given."""
        left = iter(contents)
        while asked := list(islice(left, ASKED)):
            batch: list[Outgoing] = []
            size = 0
            for one in self._missing(asked):
                if one.size >= LARGE:
                    yield partial(self._large, one)
                    continue
                if batch and (len(batch) >= BATCH_FILES or size + one.size > BATCH_BYTES):
                    yield partial(self._small, batch)
                    batch, size = [], 0
                batch.append(one)
                size += one.size
            if batch:
                yield partial(self._small, batch)

    def _missing(self, asked: list[Outgoing]) -> Iterator[Outgoing]:
        """Yield the contents that the stage does not have and that are not under way, each once."""
        wanted: dict[str, Outgoing] = {}
        files = content = 0
        with self._guard:
            for one in asked:
                if not is_digest(one.digest):
                    raise ValueError(f"{one.digest!r} is no digest: 64 lower-case hexadecimal digits")
                if one.digest in self._under_way or one.digest in wanted:
                    files, content = files + 1, content + one.size
                else:
                    wanted[one.digest] = one
        self._done(files=files, content=content)
        raw = self._connection.ask("POST", "missing", Body.of(encode_digests(wanted)))
        try:
            missing = set(decode_digests(raw))
        except WireError as error:
            raise Refused(Problem("", f"its answer is not formed as documented: {error}")) from error
        there = [one for digest, one in wanted.items() if digest not in missing]
        self._done(files=len(there), content=sum(one.size for one in there))
        with self._guard:
            self._under_way.update(digest for digest in wanted if digest in missing)
        yield from (one for digest, one in wanted.items() if digest in missing)

    def _done(self, *, files: int = 0, content: int = 0) -> None:
        with self._guard:
            self.files += files
            self.content += content

    def _over(self, sent: Iterable[Outgoing]) -> None:
        with self._guard:
            self._under_way.difference_update(one.digest for one in sent)

    # ---- small files

    def _small(self, batch: list[Outgoing]) -> None:
        frames: list[Buffer] = []
        for one in batch:
            content = _content(one)
            frames.append(FrameHead(one.digest, one.size).encode())
            frames.append(content)
        joined = b"".join(frames)
        del frames
        try:
            self._connection.ask("POST", "contents", Body.of(joined))
        except Refused as error:
            raise _damaged_on_the_way(error, batch) from error
        self._done(files=len(batch), content=sum(one.size for one in batch))
        self._over(batch)

    # ---- large files

    def _large(self, one: Outgoing) -> None:
        with _opened(one) as file:
            by_content = one.basis_path is not None and self._parameters.same_chunks()
            chunks = _chunks(one, file, by_content=by_content)
            self._done(content=one.size)
            basis = one.basis_path if by_content else None
            for left in reversed(range(ROUNDS)):
                missing = self._begin(one, chunks, basis)
                stretches = list(runs(chunks, missing))
                self._done(content=-sum(end - start for start, end in stretches))
                try:
                    for start, end in stretches:
                        self._put(one, file, chunks, start, end)
                    self._connection.ask("POST", f"large/{one.digest}/complete", long=True)
                    break
                except Refused as error:
                    if error.code not in {Code.WRONG_DIGEST, Code.NOT_BEGUN}:
                        raise
                    # A data plane whose machine failed may have lost what it had not made durable yet.
                    if not left:
                        raise Damaged(one.digest, error.message, one.path) from error
        self._done(files=1)
        self._over([one])

    def _begin(self, one: Outgoing, chunks: ChunkList, basis: str | None) -> list[int]:
        """Tell the chunks; return the indexes of those that the stage does not have."""
        what = f"large/{one.digest}" + (f"?basis={path_to_query(basis)}" if basis is not None else "")
        raw = self._connection.ask("POST", what, Body.of(chunks.encode()), limit=4 * len(chunks), long=True)
        try:
            return decode_indexes(raw, len(chunks))
        except WireError as error:
            raise Damaged(one.digest, f"the data plane's answer is not formed as documented: {error}") from error

    def _put(self, one: Outgoing, file: BinaryIO, chunks: ChunkList, start: int, end: int) -> None:
        told = 0

        def pieces() -> Iterator[Buffer]:
            nonlocal told
            # A request that is made again sends all of it again.
            self._done(content=-told)
            told = 0
            for offset, chunk in chunks.placed():
                if start <= offset < end:
                    for piece in pieces_of(_chunk(one, file, offset, chunk)):
                        yield piece
                        self._done(content=len(piece))
                        told += len(piece)

        self._connection.ask("PUT", f"large/{one.digest}?offset={start}", Body(end - start, pieces))


def _content(one: Outgoing) -> bytes:
    """Return the content of a small file, which is what it was when it was scanned. Raises SourceChanged."""
    try:
        with one.open() as file:
            # One byte more than there should be tells that there is more.
            content = os.pread(file.fileno(), one.size + 1, 0)
    except OSError as error:
        raise _problem(one, error) from error
    if len(content) != one.size:
        raise SourceChanged(one.path, "its size is another than when it was looked at")
    if blake3(content).hexdigest() != one.digest:
        raise SourceChanged(one.path)
    return content


def _chunks(one: Outgoing, file: BinaryIO, *, by_content: bool) -> ChunkList:
    """Return the chunks of a large file, which is what it was when it was scanned. Raises SourceChanged."""
    whole = blake3()
    found: list[Chunk] = []
    read_into = reader(file.fileno())
    for content in (piece for _, piece in cut(read_into)) if by_content else _equal(read_into):
        whole.update(content)
        found.append(Chunk(blake3(content).hexdigest(), len(content)))
    chunks = ChunkList.of(found)
    if chunks.size != one.size:
        raise SourceChanged(one.path, "its size is another than when it was looked at")
    if whole.hexdigest() != one.digest:
        raise SourceChanged(one.path)
    return chunks


def _equal(read_into: Callable[[memoryview], int]) -> Iterator[memoryview]:
    """Yield a file in chunks of PIECE bytes."""
    buffer = memoryview(bytearray(PIECE))
    while True:
        held = 0
        while held < PIECE and (count := read_into(buffer[held:])):
            held += count
        if held:
            yield buffer[:held]
        if held < PIECE:
            return


def _chunk(one: Outgoing, file: BinaryIO, offset: int, chunk: Chunk) -> bytes:
    with _reading(one):
        content = os.pread(file.fileno(), chunk.length, offset)
    if blake3(content).hexdigest() != chunk.digest:
        raise SourceChanged(one.path)
    return content


@contextmanager
def _opened(one: Outgoing) -> Iterator[BinaryIO]:
    with _reading(one), one.open() as file:
        yield file


@contextmanager
def _reading(one: Outgoing) -> Iterator[None]:
    """Raise this package's errors for what the local file does; a connection's are Lost by then."""
    try:
        yield
    except OSError as error:
        raise _problem(one, error) from error


def _problem(one: Outgoing, error: OSError) -> SourceChanged | LocalProblem:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ESTALE}:
        return SourceChanged(one.path, "it is gone, or is no regular file any more")
    return LocalProblem("read", one.path, error)


def _damaged_on_the_way(error: Refused, batch: list[Outgoing]) -> Refused | Damaged:
    """Return the error for a content that was verified here and is wrong there."""
    if error.code != Code.WRONG_DIGEST:
        return error
    return Damaged(batch[0].digest, error.message)
