"""Neighbouring chunks that travel together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dsg.transfer.wire import ChunkList

RUN = 32 << 20
"""Bytes of chunks in one request: what travels again when it is cut off, at most."""


def runs(chunks: ChunkList, indexes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of stretches of neighbouring chunks, RUN bytes and one chunk at most."""
    wanted = set(indexes)
    begin = end = 0
    for index, (offset, chunk) in enumerate(chunks.placed()):
        if index not in wanted:
            continue
        if begin < end == offset and end - begin < RUN:
            end = offset + chunk.length
            continue
        if begin < end:
            yield begin, end
        begin, end = offset, offset + chunk.length
    if begin < end:
        yield begin, end
