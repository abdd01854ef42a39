"""An older file that a large one is made from: cut and hashed beside other work, then read where it is alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Self

from blake3 import blake3

from dsg.transfer.chunks import MAXIMUM, cut, read_full, reader
from dsg.transfer.wire import Chunk


class Basis:
    """The chunks of an older file. One that can't be read has none; one that changes meanwhile may give wrong bytes.

    So whoever uses it checks the whole. Memory: some 300 bytes for each chunk, of a MiB on average.
    """

    def __init__(self, open_: Callable[[], BinaryIO]) -> None:
        self._open = open_
        self._file: BinaryIO | None = None
        self._places: dict[str, int] = {}
        self._buffer = memoryview(bytearray(MAXIMUM))
        self._ended = threading.Event()
        self._cutting: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._open()
        except OSError:
            return self
        self._cutting = threading.Thread(target=self._cut, args=(self._file,), name="cut a basis", daemon=True)
        self._cutting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._cutting is not None:
            self._cutting.join()
        if self._file is not None:
            self._file.close()

    def read(self, chunk: Chunk) -> memoryview | None:
        """Return the bytes of a chunk, good until the next call; None where the basis has none such.

        Waits until the basis is cut.
        """
        if self._file is None or self._cutting is None:
            return None
        self._cutting.join()
        offset = self._places.get(chunk.digest)
        if offset is None:
            return None
        view = self._buffer[: chunk.length]
        try:
            return view if read_full(self._file.fileno(), view, offset) == chunk.length else None
        except OSError:
            return None

    def _cut(self, file: BinaryIO) -> None:
        try:
            for offset, content in cut(reader(file.fileno())):
                if self._ended.is_set():
                    return
                self._places.setdefault(blake3(content).hexdigest(), offset)
        except OSError:
            # What was found so far stands.
            return
