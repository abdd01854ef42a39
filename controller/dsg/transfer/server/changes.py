"""The list of changes, as it comes: each line is looked at, and only a whole valid list takes its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from dsg.manifests.changes import ChangeError, read_changes
from dsg.manifests.lines import MAX_LINE
from dsg.transfer.convoy import in_turn
from dsg.transfer.problems import Code
from dsg.transfer.server.errors import Refusal, file_work
from dsg.transfer.server.incoming import CHANGES, Incoming, Part


class _Lines:
    """Lines that are there already, for a reader that asks for one after the other."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> bytes:
        if not self.waiting:
            raise StopIteration
        return self.waiting.popleft()


class Validator:
    """Reads a list of changes in pieces. It holds one line, and what `read_changes` holds."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._changes = read_changes(self._lines, "the list of changes")
        self._rest = b""
        self.count = 0
        """Lines that were read."""

    def feed(self, data: bytes) -> None:
        """Read the lines that end in the next piece. Raises ChangeError."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._read(line + b"\n")
        if len(self._rest) > MAX_LINE:
            self._read(self._rest)

    def finish(self) -> None:
        """Read what is left. Raises ChangeError where the last line was cut off."""
        if self._rest:
            self._read(self._rest)

    def _read(self, line: bytes) -> None:
        self._lines.waiting.append(line)
        next(self._changes)
        self.count += 1


class ChangesReceiver:
    """Takes a list of changes in pieces and stores it, in place of an earlier one."""

    def __init__(self, incoming: Incoming) -> None:
        """Raises Refusal."""
        self._validator = Validator()
        with file_work("store the list of changes"):
            self._part = Part(incoming)

    @property
    def count(self) -> int:
        """Return how many changes came."""
        return self._validator.count

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises Refusal."""
        with _told(), in_turn():
            self._validator.feed(data)
        self._part.reserve(len(data))
        with file_work("store the list of changes"):
            self._part.write(data)

    def finish(self) -> None:
        """Put the list in its place. Raises Refusal."""
        with _told():
            self._validator.finish()
        with file_work("store the list of changes"):
            self._part.place(CHANGES)

    def abandon(self) -> None:
        """Remove what is not whole."""
        self._part.abandon()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ChangeError as error:
        raise Refusal(Code.BAD_CHANGES, f"{error}.", error.path) from error
