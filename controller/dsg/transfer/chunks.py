"""Content-defined chunks of large files: after a local change, most chunks of the new file are those of the old one.

FastCDC (Xia and others, IEEE TPDS 2020) cuts where a rolling hash of the content says so. Both sides must cut alike,
so algorithm and sizes are fixed here; the server names them at `GET /v1/parameters`, and a client with
others uses no older file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import cache

from blake3 import blake3
from pyfastcdc import FastCDC

from dsg.transfer.wire import Chunk, ChunkList

MINIMUM = 256 << 10
AVERAGE = 1 << 20
MAXIMUM = 4 << 20
"""Bytes of a chunk: at least, about, and at most. Only the last of a file has fewer than MINIMUM."""
LOOK = 16
"""Chunks between two looks at whether to go on."""
WINDOW = 16 << 20
"""Bytes of a file in memory while it is cut."""

PARAMETERS: dict[str, str | int] = {
    "algorithm": "fastcdc-2020, normalization 1",
    "minimum": MINIMUM,
    "average": AVERAGE,
    "maximum": MAXIMUM,
    "digest": "blake3",
}
"""What both sides must have in common."""

ReadInto = Callable[[memoryview], int]
"""Reads the next bytes of a file into a buffer; returns how many, 0 at the end. May read fewer than there is room."""


def cut(read_into: ReadInto) -> Iterator[tuple[int, memoryview]]:
    """Yield the chunks of a file: offset and bytes, which are good until the next chunk is asked for.

    A chunk depends on nothing before its first byte and on at most MAXIMUM bytes from there on, so a file is cut the
    same through a window as in one piece. Memory: WINDOW, once.
    """
    cutter = FastCDC(AVERAGE, min_size=MINIMUM, max_size=MAXIMUM, normalized_chunking=1)
    buffer = memoryview(bytearray(WINDOW))
    held, offset, at_end = 0, 0, False
    while not at_end:
        while held < WINDOW and not at_end:
            count = read_into(buffer[held:])
            held += count
            at_end = not count
        done = 0
        for piece in cutter.cut_buf(buffer[:held]):
            if not at_end and held - piece.offset < MAXIMUM:
                # What follows the window may move this end.
                break
            yield offset + piece.offset, buffer[piece.offset : piece.offset + piece.length]
            done = piece.offset + piece.length
        buffer[: held - done] = bytes(buffer[done:held])
        offset += done
        held -= done


def chunks(read_into: ReadInto) -> Iterator[Chunk]:
    """Yield the chunks of a file."""
    for _, content in cut(read_into):
        yield Chunk(blake3(content).hexdigest(), len(content))


def chunk_list(descriptor: int) -> ChunkList:
    """Return the chunks of an open file, from its beginning. Raises OSError, WireError for more than MAX_CHUNKS."""
    return ChunkList.of(chunks(reader(descriptor)))


def reader(descriptor: int) -> ReadInto:
    """Return what reads an open file from its beginning, without moving its own offset.

    Not by mmap(2): a file that another process shortens meanwhile would end this one by SIGBUS.
    """
    offset = 0

    def read_into(buffer: memoryview) -> int:
        nonlocal offset
        count = os.preadv(descriptor, [buffer], offset)
        offset += count
        return count

    return read_into


def not_there(
    descriptor: int, wanted: ChunkList, look: Callable[[], None] = lambda: None, *, fresh: bool = False
) -> set[int]:
    """Return the indexes of the chunks that are not where they belong in an open file. Holes are not read.

    `fresh` says that it is one hole: ZFS may wait for its next transaction group before it tells. `look` is called now
    and then; what it raises ends it. Raises OSError. No chunk may have more than MAXIMUM bytes.
    """
    missing = set()
    data = None if fresh else _next_data(descriptor, 0)
    buffer = memoryview(bytearray(MAXIMUM))
    for index, (offset, chunk) in enumerate(wanted.placed()):
        if data is not None and data < offset:
            data = _next_data(descriptor, offset)
        if data is None or data >= offset + chunk.length:
            if chunk != _zeros():
                missing.add(index)
            continue
        if index % LOOK == 0:
            look()
        view = buffer[: chunk.length]
        if read_full(descriptor, view, offset) != chunk.length or blake3(view).hexdigest() != chunk.digest:
            missing.add(index)
    return missing


def read_full(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill a buffer from an offset on; return how many bytes there were. Raises OSError."""
    done = 0
    while done < len(view) and (count := os.preadv(descriptor, [view[done:]], offset + done)):
        done += count
    return done


def _next_data(descriptor: int, offset: int) -> int | None:
    """Return where data begins from an offset on; None where there are only holes."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        # The file system can't tell.
        return offset


@cache
def _zeros() -> Chunk:
    """Return the chunk that a hole is cut into. Shorter ones at its end are sent."""
    return Chunk(blake3(bytes(MAXIMUM)).hexdigest(), MAXIMUM)
