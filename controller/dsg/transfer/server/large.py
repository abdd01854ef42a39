"""Large files of a transaction: sent in parts that may come in any order, and of which only those that differ.

A large file lies under `.large-DIGEST`, sparse and of its full size, until it is whole. What is in it already is found
by hashing, so nothing else need be remembered, neither by the client nor across a restart.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from blake3 import blake3

from dsg.manifests.entries import MAX_SIZE
from dsg.storage import confined
from dsg.storage.errors import StorageError
from dsg.transfer import chunks
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal, file_work
from dsg.transfer.server.incoming import LARGE, Incoming
from dsg.transfer.wire import ChunkList

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LargeFiles:
    """Who is at which large file just now: many may write, and nobody while it is made whole."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._writers: dict[tuple[str, str], int] = {}
        self._closing: set[tuple[str, str]] = set()

    @contextmanager
    def writing(self, uid: str, digest: str) -> Iterator[None]:
        """Write to a file. Raises Refusal while it is made whole."""
        key = (uid, digest)
        with self._guard:
            if key in self._closing:
                raise Refusal(Code.BUSY, f"The large file {digest} is being made whole by another request.")
            self._writers[key] = self._writers.get(key, 0) + 1
        try:
            yield
        finally:
            with self._guard:
                self._writers[key] -= 1
                if not self._writers[key]:
                    del self._writers[key]

    @contextmanager
    def closing(self, uid: str, digest: str) -> Iterator[None]:
        """Make a file whole. Raises Refusal while others write to it or make it whole."""
        key = (uid, digest)
        with self._guard:
            if key in self._closing or key in self._writers:
                raise Refusal(Code.BUSY, f"Another request is at the large file {digest} just now.")
            self._closing.add(key)
        try:
            yield
        finally:
            with self._guard:
                self._closing.discard(key)


def begin(incoming: Incoming, files: LargeFiles, digest: str, wanted: ChunkList, basis: str | None) -> list[int]:
    """Make a large file ready and return the indexes of the chunks that must be sent.

    `basis` is a file of the stage's tree that may have some of the chunks. It is a hint: one that is not there is no
    error. Raises Refusal.
    """
    if any(chunk.length > chunks.MAXIMUM for chunk in wanted):
        raise Refusal(
            Code.BAD_REQUEST, f"A chunk has more than {chunks.MAXIMUM} bytes: it was cut otherwise than here."
        )
    with files.writing(incoming.grant.uid, digest), file_work("begin a large file"):
        if incoming.size_of(digest) == wanted.size:
            return []
        descriptor, fresh = _prepared(incoming, digest, wanted.size)
        try:
            missing = chunks.not_there(descriptor, wanted, incoming.check, fresh=fresh)
            if missing and basis is not None:
                _copy_from(incoming, basis, descriptor, wanted, missing)
        finally:
            os.close(descriptor)
        return sorted(missing)


class LargeWriter:
    """Takes bytes for one place of a large file, in pieces."""

    def __init__(self, incoming: Incoming, files: LargeFiles, digest: str, offset: int) -> None:
        """Raises Refusal."""
        self._key = (incoming.grant.uid, digest)
        self._files = files
        self._offset = offset
        self.written = 0
        """Bytes that were written."""
        self._open = True
        self._name = f"{LARGE}{digest}"
        self._directory = incoming.descriptor
        with file_work("open a large file"):
            try:
                self._descriptor = os.open(self._name, _OPEN, dir_fd=incoming.descriptor)
            except FileNotFoundError:
                raise Refusal(Code.NOT_BEGUN) from None
        self._size = os.fstat(self._descriptor).st_size

    def require_room(self, size: int) -> None:
        """Raise Refusal where so many bytes more would lie behind the end of the file."""
        if self._offset + size > self._size:
            text = f"Bytes {self._offset} to {self._offset + size} are not in the file of {self._size} bytes."
            raise Refusal(Code.BAD_REQUEST, text)

    def feed(self, data: bytes) -> None:
        """Write the next piece. Raises Refusal."""
        self.require_room(len(data))
        with self._files.writing(*self._key), file_work("write to a large file"):
            # While it is written to, nobody makes it whole; before, somebody may have.
            if not self._is_begun():
                raise Refusal(Code.NOT_BEGUN)
            _write(self._descriptor, memoryview(data), self._offset)
            self._offset += len(data)
            self.written += len(data)

    def _is_begun(self) -> bool:
        try:
            found = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def finish(self) -> None:
        """Take the end of the body: nothing is to be done."""

    def abandon(self) -> None:
        """Close the file; what was written stays, and the next `begin` looks at it."""
        if self._open:
            self._open = False
            os.close(self._descriptor)


def complete(incoming: Incoming, files: LargeFiles, digest: str) -> None:
    """Give a large file its name if it has that digest; one that is whole already is left. Raises Refusal."""
    aside = f"{LARGE}{digest}"
    with files.closing(incoming.grant.uid, digest), file_work("complete a large file"):
        if incoming.size_of(aside) is None:
            if incoming.size_of(digest) is not None:
                return
            raise Refusal(Code.NOT_BEGUN)
        descriptor = os.open(aside, _OPEN, dir_fd=incoming.descriptor)
        try:
            found = _digest(descriptor, incoming)
        finally:
            os.close(descriptor)
        if found != digest:
            text = f"The large file {digest} has the digest {found} as far as it was sent."
            raise Refusal(
                Code.WRONG_DIGEST, f"{text} What came was kept; its list of chunks, sent again, says what is missing."
            )
        incoming.place(aside, digest)


def _prepared(incoming: Incoming, digest: str, size: int) -> tuple[int, bool]:
    """Open a large file, made if it is not there, of the right size; tell whether it was made."""
    if size > MAX_SIZE:
        raise Refusal(Code.BAD_REQUEST, f"The list of chunks comes to {size} bytes; no file has more than {MAX_SIZE}.")
    name = f"{LARGE}{digest}"
    with incoming.ledger.guard:
        before = incoming.size_of(name)
        incoming.reserve(size - (before or 0))
        try:
            incoming.check()
            descriptor = os.open(name, _OPEN | os.O_CREAT, 0o600, dir_fd=incoming.descriptor)
            try:
                if before != size:
                    os.ftruncate(descriptor, size)
            except BaseException:
                os.close(descriptor)
                raise
        except BaseException as error:
            incoming.ledger.release(size - (incoming.size_of(name) or 0))
            if isinstance(error, OSError) and error.errno in {errno.EFBIG, errno.EINVAL}:
                text = f"The file system takes no file of {size} bytes."
                raise Refusal(Code.TOO_LARGE, text) from error
            raise
    return descriptor, before is None


def _copy_from(incoming: Incoming, basis: str, descriptor: int, wanted: ChunkList, missing: set[int]) -> None:
    """Copy the missing chunks that a file of the stage's tree has, and take them from `missing`."""
    places: dict[str, list[tuple[int, int]]] = {}
    for index, (offset, chunk) in enumerate(wanted.placed()):
        if index in missing:
            places.setdefault(chunk.digest, []).append((index, offset))
    with ExitStack() as opened:
        try:
            top = opened.enter_context(confined.opened_root(incoming.grant.root))
            source = opened.enter_context(confined.regular_file(top, basis))
        except (OSError, StorageError):
            return
        for number, (_, content) in enumerate(chunks.cut(chunks.reader(source))):
            if number % chunks.LOOK == 0:
                incoming.check()
            for index, offset in places.pop(blake3(content).hexdigest(), ()):
                _write(descriptor, content, offset)
                missing.discard(index)
            if not places:
                return


def _digest(descriptor: int, incoming: Incoming) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = memoryview(bytearray(chunks.MAXIMUM))
    offset = number = 0
    while count := chunks.read_full(descriptor, buffer, offset):
        hasher.update(buffer[:count])
        offset += count
        number += 1
        if number % chunks.LOOK == 0:
            incoming.check()
    return hasher.hexdigest()


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset += count
        view = view[count:]
