"""What a transaction sends: files in `.dsg/incoming` of its stage, each named by the digest of its content.

A file is made under a name that begins with a dot, and takes its own name by rename(2) when it is whole and has that
digest. Nothing is synced file by file: all of it becomes durable at once, when the client asks for it at the end.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import count

from blake3 import blake3

from dsg.storage import confined
from dsg.storage.local_trees import LocalTrees
from dsg.storage.trees import OWN_DIRECTORY
from dsg.transfer.convoy import in_turn
from dsg.transfer.grants import Grant
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal, file_work
from dsg.transfer.server.ledger import Ledger, Ledgers
from dsg.transfer.server.limits import SMALL
from dsg.transfer.wire import HEAD_SIZE, NO_DIGEST, WireError, content_head, is_digest

INCOMING = (OWN_DIRECTORY, "incoming")
CHANGES = "changes"
"""Name of the list of changes."""
_PART = ".part-"
LARGE = ".large-"
"""Beginning of the name of a large file that is not whole yet; the digest follows."""
_NO_DIGEST = bytes.fromhex(NO_DIGEST)
_LEFT_OVER = 3600.0
"""Seconds after which a part that nobody writes to is removed: an interrupted process has left it."""


class Incoming:
    """The incoming directory of one stage, open. To be used from one thread at a time."""

    def __init__(self, descriptor: int, grant: Grant, ledger: Ledger, check: Callable[[], None]) -> None:
        self.descriptor = descriptor
        self.grant = grant
        self.ledger = ledger
        self.check = check
        """Raises Refusal when the grant is over."""

    def size_of(self, name: str) -> int | None:
        """Return the size of a regular file here; None where there is none."""
        try:
            found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def reserve(self, size: int) -> None:
        """Count bytes that are about to be stored. Raises Refusal."""
        self.ledger.reserve(size, self.grant.size_limit)

    def place(self, aside: str, name: str) -> None:
        """Give a whole file its name; what had it before is replaced. Raises Refusal when the grant is over."""
        with self.ledger.guard:
            replaced = self.size_of(name)
            self.check()
            os.rename(aside, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            if replaced is not None:
                self.ledger.release(replaced)

    def store(self, contents: Sequence[tuple[str, bytes]], names: Iterator[str]) -> None:
        """Store contents by their digests, all or none: verified ones, as far as they are not there, in memory.

        Whether the grant is over is looked at once, before the first gets its name. `names` gives those that files have
        until then. Raises Refusal, OSError.
        """
        with self.ledger.claimed([digest for digest, _ in contents]) as contested:
            there = {digest: self.size_of(digest) for digest, _ in contents}
            wanted = {digest: content for digest, content in contents if there[digest] != len(content)}
            left = sum(map(len, wanted.values()))
            self.reserve(left)
            written: list[tuple[str, str]] = []
            try:
                for digest, content in wanted.items():
                    aside = next(names)
                    written.append((aside, digest))
                    self._write(aside, content)
                with self.ledger.guard:
                    self.check()
                    while written:
                        aside, digest = written[-1]
                        replaced = self.size_of(digest) if digest in contested else there[digest]
                        os.rename(aside, digest, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
                        written.pop()
                        left -= len(wanted[digest])
                        self.ledger.release(replaced or 0)
            finally:
                self.ledger.release(left)
                for aside, _ in written:
                    self.remove(aside)

    def _write(self, name: str, content: bytes) -> None:
        descriptor = confined.create(self.descriptor, name)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove a file that is not wanted; one that is gone is no error."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)

    def contents(self) -> int:
        """Return how many contents are here."""
        with confined.listable(self.descriptor) as listing, os.scandir(listing) as entries:
            return sum(is_digest(entry.name) for entry in entries)

    def remove_left_over(self) -> None:
        """Remove parts that an interrupted process has left."""
        old = time.time() - _LEFT_OVER
        with confined.listable(self.descriptor) as listing, os.scandir(listing) as entries:
            parts = [entry.name for entry in entries if entry.name.startswith(_PART)]
        for name in parts:
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                if found.st_mtime < old:
                    os.unlink(name, dir_fd=self.descriptor)
                    self.ledger.release(found.st_size)


@contextmanager
def opened(grant: Grant, ledgers: Ledgers, check: Callable[[], None]) -> Iterator[Incoming]:
    """Open the incoming directory of a grant's stage. Raises Refusal."""
    with file_work("open the stage"):
        try:
            with confined.opened_root(grant.root) as top, confined.directory(top, list(INCOMING)) as found:
                descriptor = os.dup(found)
        except (FileNotFoundError, NotADirectoryError) as error:
            # The operator may have taken it away just now, and has taken the grant away before.
            check()
            raise Refusal(Code.STORAGE, "The transaction's stage takes no contents just now.") from error
    try:
        with file_work("count what was sent"):
            ledger = ledgers.of(grant.uid, lambda: _bytes(descriptor))
        yield Incoming(descriptor, grant, ledger, check)
    finally:
        os.close(descriptor)


def make_durable(grant: Grant) -> None:
    """Make everything in the stage durable. Raises Refusal."""
    with file_work("make durable what was sent"):
        LocalTrees().sync(grant.root)


def _bytes(descriptor: int) -> int:
    with confined.listable(descriptor) as listing, os.scandir(listing) as entries:
        return sum(_size(descriptor, entry.name) for entry in entries)


def _size(descriptor: int, name: str) -> int:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
    return 0


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it where the file stands. Raises OSError."""
    written = os.write(descriptor, data) if data else 0
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


class Part:
    """A file that is being written, under a name that nobody looks for."""

    def __init__(self, incoming: Incoming, size: int = 0) -> None:
        """Count its bytes, as far as they are known, and make it. Raises Refusal before anything is made."""
        self._incoming = incoming
        self._name = f"{_PART}{secrets.token_hex(12)}"
        incoming.reserve(size)
        self._reserved = size
        try:
            self._descriptor = confined.create(incoming.descriptor, self._name)
        except BaseException:
            incoming.ledger.release(size)
            raise
        self._open = True

    def reserve(self, size: int) -> None:
        """Count bytes that are about to be written."""
        self._incoming.reserve(size)
        self._reserved += size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        write_all(self._descriptor, data)

    def place(self, name: str) -> None:
        """Close it and give it its name."""
        self._close()
        self._incoming.place(self._name, name)
        self._reserved = 0
        self._name = ""

    def abandon(self) -> None:
        """Remove it, unless it has its name."""
        self._close()
        if self._name:
            self._incoming.remove(self._name)
            self._incoming.ledger.release(self._reserved)
            self._name = ""

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


class ContentReceiver:
    """Takes a body of frames in pieces and stores each content that has the digest it was announced with.

    Small ones are held in memory until they are whole, and are stored together, as they came: each costs an open,
    write, close and rename, and little else.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        token = secrets.token_hex(12)
        self._names = (f"{_PART}{token}-{number}" for number in count())
        self._held = bytearray()
        """What came of the frames that are not dealt with yet; the first of them is small."""
        self._large: _LargeContent | None = None
        self.stored = 0
        """How many contents are there now, of those that came."""

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body. Raises Refusal."""
        with nullcontext() if self._large is not None else in_turn():
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._large is not None:
            data = self._take(memoryview(data))
        self._held += data
        whole: list[tuple[str, bytes]] = []
        at = 0
        try:
            while len(self._held) - at >= HEAD_SIZE:
                raw, size = content_head(self._held, at)
                if raw == _NO_DIGEST:
                    raise Refusal(Code.BAD_REQUEST, "A frame does not name the digest of its content.")
                begin = at + HEAD_SIZE
                if size > SMALL:
                    self._large = _LargeContent(self._incoming, raw.hex(), size)
                    rest = self._take(memoryview(bytes(self._held[begin:])))
                    at = len(self._held) - len(rest)
                    continue
                if len(self._held) < begin + size:
                    break
                content = bytes(self._held[begin : begin + size])
                _verify(raw.hex(), blake3(content).hexdigest())
                whole.append((raw.hex(), content))
                at = begin + size
        except WireError as error:
            raise Refusal(Code.BAD_REQUEST, f"{error}.") from error
        finally:
            # Those before the one that is wrong are right.
            self._store(whole)
        del self._held[:at]

    def finish(self) -> None:
        """Take the end of the body. Raises Refusal where it ends within a frame."""
        if self._held or self._large is not None:
            raise Refusal(Code.BAD_REQUEST, "the body ends within a frame: it was cut off.")

    def abandon(self) -> None:
        """Remove what is not whole."""
        if self._large is not None:
            self._large.abandon()
            self._large = None

    def _take(self, data: memoryview) -> bytes:
        """Give a large content what belongs to it; return the rest."""
        if self._large is None:
            return bytes(data)
        rest = self._large.feed(data)
        if self._large.left:
            return b""
        self._large.finish()
        self._large = None
        self.stored += 1
        return bytes(rest)

    def _store(self, contents: list[tuple[str, bytes]]) -> None:
        if not contents:
            return
        with file_work("store a content"):
            try:
                self._incoming.store(contents, self._names)
                self.stored += len(contents)
            except Refusal as error:
                if error.code != Code.TOO_LARGE or len(contents) == 1:
                    raise
                # As many as there is room for.
                for one in contents:
                    self._incoming.store([one], self._names)
                    self.stored += 1


class _LargeContent:
    """One content that is written as it comes."""

    def __init__(self, incoming: Incoming, digest: str, size: int) -> None:
        """Raises Refusal."""
        self._digest = digest
        self._hasher = blake3()
        self._part: Part | None = None
        self.left = size
        """Bytes that have not come yet."""
        with file_work("store a content"):
            # If it is there, only whether it was announced rightly is of interest.
            if incoming.size_of(digest) != size:
                self._part = Part(incoming, size)

    def feed(self, data: memoryview) -> memoryview:
        """Take what belongs to it; return the rest. Raises Refusal."""
        piece, rest = data[: self.left], data[self.left :]
        self.left -= len(piece)
        self._hasher.update(piece)
        if self._part is not None:
            with file_work("store a content"):
                self._part.write(piece)
        return rest

    def finish(self) -> None:
        """Give it its name. Raises Refusal."""
        try:
            _verify(self._digest, self._hasher.hexdigest())
            if self._part is not None:
                with file_work("store a content"):
                    self._part.place(self._digest)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Remove it, unless it has its name."""
        if self._part is not None:
            self._part.abandon()
            self._part = None


def _verify(announced: str, digest: str) -> None:
    if digest != announced:
        text = f"A content came that was announced as {announced} and has the digest {digest}."
        raise Refusal(Code.WRONG_DIGEST, f"{text} It was not stored.")
