"""Bringing contents of a version's files to a store: small ones many at a time, large ones piece by piece."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from blake3 import blake3

from dsg.transfer.chunks import MAXIMUM, not_there
from dsg.transfer.client.basis import Basis
from dsg.transfer.client.connection import Answer, Body, Connection
from dsg.transfer.client.errors import Damaged, Refused
from dsg.transfer.client.frames import Received, receive
from dsg.transfer.client.parameters import Parameters
from dsg.transfer.client.retrying import Lost, Patience
from dsg.transfer.client.runs import runs
from dsg.transfer.client.store import Store, hash_file, write_all
from dsg.transfer.contents import Opener, Wanted
from dsg.transfer.problems import Code
from dsg.transfer.wire import (
    CHUNK_SIZE,
    LARGE,
    MAX_CHUNKS,
    ChunkList,
    WireError,
    encode_paths,
    is_digest,
    path_to_query,
)

BATCH_FILES = 500
"""Files in one request at most."""
BATCH_BYTES = 4 << 20
"""Bytes of contents after which a request asks for no more."""
READ = 1 << 20
"""Bytes of a large file that are read, hashed and written at once."""


class Fetching:
    """One `fetch`: what is to be done, in pieces that any thread may do, and how far it is."""

    def __init__(self, connection: Connection, store: Store) -> None:
        self._connection = connection
        self._store = store
        self._parameters = Parameters(connection)
        self._guard = threading.Lock()
        self._under_way: set[str] = set()
        self.files = 0
        """Files that are there."""
        self.content = 0
        """Bytes of content that are there."""

    def shared_out(self, wanted: Iterable[Wanted]) -> Iterator[Callable[[], None]]:
        """Yield pieces of work. Memory: the names of a batch."""
        batch: list[Wanted] = []
        size = 0
        for one in wanted:
            if not is_digest(one.digest):
                raise ValueError(f"{one.digest!r} is no digest: 64 lower-case hexadecimal digits")
            with self._guard:
                twice = one.digest in self._under_way
                if not twice:
                    self._under_way.add(one.digest)
            if twice:
                self._done(files=1, content=one.size)
            elif one.size >= LARGE:
                yield partial(self._large, one)
            else:
                batch.append(one)
                size += one.size
                if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                    yield partial(self._small, batch)
                    batch, size = [], 0
        if batch:
            yield partial(self._small, batch)

    def _done(self, *, files: int = 0, content: int = 0) -> None:
        with self._guard:
            self.files += files
            self.content += content

    # ---- small files

    def _small(self, batch: list[Wanted]) -> None:
        left: deque[Wanted] = deque()
        for one in batch:
            if self._store.verified(one.digest, one.size):
                self._done(files=1, content=one.size)
            else:
                left.append(one)

        def do(patience: Patience) -> None:
            if not left:
                return
            body = Body.of(encode_paths(one.path for one in left))
            with self._connection.once("POST", "contents", body) as answer:
                for found in receive(answer, len(left), LARGE):
                    self._take(left[0], found)
                    left.popleft()
                    patience.moved()

        self._connection.insist(do)
        with self._guard:
            self._under_way.difference_update(one.digest for one in batch)

    def _take(self, one: Wanted, found: Received) -> None:
        found.raise_unless()
        content = found.content or b""
        _check(one, len(content), blake3(content).hexdigest())
        self._store.put(one.digest, content)
        self._done(files=1, content=one.size)

    # ---- large files

    def _large(self, one: Wanted) -> None:
        if self._store.verified(one.digest, one.size):
            self._done(files=1, content=one.size)
        else:
            basis = one.basis if one.basis is not None and self._parameters.same_chunks() else None
            if basis is not None:
                self._by_chunks(one, basis)
            else:
                self._through(one)
            self._store.keep(one.digest, chunks=basis is not None)
            self._done(files=1)
        with self._guard:
            self._under_way.discard(one.digest)

    def _through(self, one: Wanted) -> None:
        """Bring a large file from its beginning to its end, or from where an earlier attempt came to."""
        with self._store.part(one.digest, chunks=False) as descriptor:
            hasher = blake3()
            with self._store.writing(one.digest):
                begun = _hash_upto(descriptor, one.size, hasher)
            self._done(content=begun)
            self._rest(one, descriptor, begun, hasher)
            if begun and hasher.hexdigest() != one.digest:
                # A machine that failed may have left what was never written.
                self._done(content=-one.size)
                with self._store.writing(one.digest):
                    os.ftruncate(descriptor, 0)
                hasher = blake3()
                self._rest(one, descriptor, 0, hasher)
            self._judge(one, one.size, hasher.hexdigest())

    def _rest(self, one: Wanted, descriptor: int, begun: int, hasher: blake3) -> None:
        done = begun

        def do(patience: Patience) -> None:
            nonlocal done
            if done == one.size:
                return
            with self._range(one, done, one.size) as answer:
                while piece := answer.read(READ):
                    hasher.update(piece)
                    with self._store.writing(one.digest):
                        write_all(descriptor, memoryview(piece), done)
                    done += len(piece)
                    self._done(content=len(piece))
                    patience.moved()
            if done != one.size:
                raise Lost(f"{done} of {one.size} bytes came")

        self._connection.insist(do)

    def _by_chunks(self, one: Wanted, opener: Opener) -> None:
        """Bring those chunks of a large file that the basis does not have, nor an earlier attempt has brought."""
        # Both sides cut their file at the same time.
        with Basis(opener) as basis:
            chunks = self._chunks(one)
            with self._store.part(one.digest, chunks=True) as descriptor:
                with self._store.writing(one.digest):
                    fresh = not os.fstat(descriptor).st_size
                    os.ftruncate(descriptor, one.size)
                    missing = not_there(descriptor, chunks, fresh=fresh)
                copied = self._copy(one, chunks, descriptor, missing, basis)
                self._bring_all(one, chunks, descriptor, missing)
                digest = self._digest(one, descriptor)
                if copied and digest != one.digest:
                    # The basis was changed after it had been cut.
                    with self._store.writing(one.digest):
                        missing = not_there(descriptor, chunks)
                    self._done(content=-sum(chunks[index].length for index in missing))
                    self._bring_all(one, chunks, descriptor, missing)
                    digest = self._digest(one, descriptor)
                self._judge(one, one.size, digest)

    def _bring_all(self, one: Wanted, chunks: ChunkList, descriptor: int, missing: set[int]) -> None:
        for start, end in runs(chunks, sorted(missing)):
            self._bring(one, descriptor, start, end)

    def _digest(self, one: Wanted, descriptor: int) -> str:
        with self._store.writing(one.digest):
            return hash_file(descriptor)

    def _chunks(self, one: Wanted) -> ChunkList:
        raw = self._connection.ask(
            "POST", "chunks", Body.of(encode_paths([one.path])), limit=MAX_CHUNKS * CHUNK_SIZE, long=True
        )
        try:
            chunks = ChunkList(raw)
        except WireError as error:
            raise Damaged(one.digest, str(error), one.path) from error
        if any(chunk.length > MAXIMUM for chunk in chunks):
            raise Damaged(one.digest, f"it is cut into chunks of more than {MAXIMUM} bytes", one.path)
        if chunks.size != one.size:
            raise Damaged(one.digest, f"it has {chunks.size} bytes, and not {one.size}", one.path)
        return chunks

    def _copy(self, one: Wanted, chunks: ChunkList, descriptor: int, missing: set[int], basis: Basis) -> bool:
        """Copy what the basis has, and take it from `missing`; return whether there was any."""
        copied = False
        for index, (offset, chunk) in enumerate(chunks.placed()):
            if index not in missing:
                self._done(content=chunk.length)
                continue
            content = basis.read(chunk)
            if content is not None:
                with self._store.writing(one.digest):
                    write_all(descriptor, content, offset)
                missing.discard(index)
                copied = True
                self._done(content=chunk.length)
        return copied

    def _bring(self, one: Wanted, descriptor: int, start: int, end: int) -> None:
        at = start

        def do(patience: Patience) -> None:
            nonlocal at
            with self._range(one, at, end) as answer:
                while at < end and (piece := answer.read(min(READ, end - at))):
                    with self._store.writing(one.digest):
                        write_all(descriptor, memoryview(piece), at)
                    at += len(piece)
                    self._done(content=len(piece))
                    patience.moved()
            if at < end:
                raise Lost(f"{at - start} of {end - start} bytes came")

        self._connection.insist(do)

    @contextmanager
    def _range(self, one: Wanted, start: int, end: int) -> Iterator[Answer]:
        """Ask for a stretch of a file; yield an answer that holds no other."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        try:
            with self._connection.once("GET", f"content?path={path_to_query(one.path)}", headers=headers) as answer:
                said = answer.header("Content-Range")
                if said != f"bytes {start}-{end - 1}/{one.size}":
                    problem = f"bytes {start} to {end - 1} of {one.size} were asked for, and {said or 'others'} came"
                    raise Damaged(one.digest, problem, one.path)
                yield answer
        except Refused as error:
            if error.code == Code.RANGE:
                raise Damaged(one.digest, f"it has fewer than the {one.size} bytes it should have", one.path) from error
            raise

    def _judge(self, one: Wanted, size: int, digest: str) -> None:
        """Throw a large file away that is not the right one."""
        try:
            _check(one, size, digest)
        except Damaged:
            self._store.drop(one.digest)
            self._done(content=-size)
            raise


def _hash_upto(descriptor: int, size: int, hasher: blake3) -> int:
    """Hash what is there of a file of that size; return how much that is. What is longer is emptied."""
    if os.fstat(descriptor).st_size > size:
        os.ftruncate(descriptor, 0)
    buffer = memoryview(bytearray(READ))
    done = 0
    while count := os.preadv(descriptor, [buffer], done):
        hasher.update(buffer[:count])
        done += count
    return done


def _check(one: Wanted, size: int, digest: str) -> None:
    if size != one.size:
        raise Damaged(one.digest, f"it has {size} bytes, and not {one.size}", one.path)
    if digest != one.digest:
        raise Damaged(one.digest, f"its BLAKE3 is {digest}, and not {one.digest}", one.path)
