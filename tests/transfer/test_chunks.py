from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.transfer import chunks
from dsg.transfer.chunks import MAXIMUM, MINIMUM, WINDOW, chunk_list, cut
from tests.transfer.server import digest_of


def _reader(content: bytes, most: int = 1 << 30) -> chunks.ReadInto:
    offset = 0

    def read_into(buffer: memoryview) -> int:
        nonlocal offset
        piece = content[offset : offset + min(most, len(buffer))]
        buffer[: len(piece)] = piece
        offset += len(piece)
        return len(piece)

    return read_into


def test_a_file_is_cut_the_same_through_a_window_as_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(1).randbytes(40 << 20)
    monkeypatch.setattr(chunks, "WINDOW", 48 << 20)
    whole = [(offset, digest_of(bytes(piece))) for offset, piece in cut(_reader(content))]
    for window in (WINDOW, MAXIMUM + 1, 5 << 20):
        monkeypatch.setattr(chunks, "WINDOW", window)
        assert [(offset, digest_of(bytes(piece))) for offset, piece in cut(_reader(content, 999_999))] == whole
    assert whole[0][0] == 0
    assert len(whole) > 20


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 9 << 20), zeros=st.booleans())
def test_chunks_cover_a_file_in_order_within_their_bounds(seed: int, size: int, zeros: bool) -> None:
    content = bytes(size) if zeros else random.Random(seed).randbytes(size)
    at = 0
    for offset, piece in cut(_reader(content)):
        assert offset == at
        assert 0 < len(piece) <= MAXIMUM
        assert len(piece) >= MINIMUM or offset + len(piece) == size
        assert piece == content[offset : offset + len(piece)]
        at += len(piece)
    assert at == size


def test_an_insertion_changes_few_chunks(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(30 << 20)
    changed = content[: 10 << 20] + b"inserted" + content[10 << 20 :]
    found = []
    for name, one in (("a", content), ("b", changed)):
        (tmp_path / name).write_bytes(one)
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        try:
            found.append(chunk_list(descriptor))
        finally:
            os.close(descriptor)
    assert found[1].size == len(changed)
    new = {chunk.digest for chunk in found[1]} - {chunk.digest for chunk in found[0]}
    assert 1 <= len(new) <= 3


def test_the_cut_never_changes() -> None:
    """Both sides, of any version that says it has these parameters, must cut alike."""
    content = blake3(b"the cut").digest(length=6 << 20)
    assert [len(piece) for _, piece in cut(_reader(content))] == CUT


CUT = [1347136, 1444960, 1105949, 1792456, 600955]
