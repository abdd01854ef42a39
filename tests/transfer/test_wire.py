from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.transfer.problems import ABOUT, Code, Problem, decode_problem
from dsg.transfer.wire import (
    HEAD_SIZE,
    MAX_BATCH,
    NO_DIGEST,
    Chunk,
    ChunkList,
    FrameHead,
    FrameParser,
    WireError,
    content_frame,
    decode_digests,
    decode_indexes,
    decode_path,
    decode_paths,
    encode_digests,
    encode_indexes,
    encode_paths,
    path_to_query,
    problem_frame,
    query_to_path,
)
from tests.transfer.server import digest_of, read_frames

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
names = st.binary(min_size=1, max_size=30).map(os.fsdecode)
problems = st.builds(
    Problem, st.sampled_from([str(code) for code in Code]), st.text(st.characters(exclude_categories=["Cs"])), st.none()
)


def _pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[start:stop] for start, stop in pairwise(at)]


@given(
    frames=st.lists(st.binary(max_size=200) | problems, max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=20)
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[bytes | Problem], cuts: list[int]) -> None:
    raw = b"".join(
        problem_frame(one) if isinstance(one, Problem) else content_frame(one, digest_of(one)) for one in frames
    )
    parser = FrameParser()
    found: list[bytes | Problem] = []
    content = bytearray()
    for piece in _pieces(raw, cuts):
        for one in parser.feed(piece):
            if isinstance(one, Problem):
                found.append(one)
            elif isinstance(one, memoryview):
                content += one
            elif one is None:
                found.append(bytes(content))
                content.clear()
    parser.close()
    assert found == frames


@given(raw=st.binary(max_size=400), problems=st.booleans(), cuts=st.lists(st.integers(0, 500), max_size=5))
def test_no_bytes_make_the_parser_fail_otherwise(raw: bytes, problems: bool, cuts: list[int]) -> None:
    parser = FrameParser(problems=problems)
    with suppress(WireError):
        for piece in _pieces(raw, cuts):
            for _ in parser.feed(piece):
                pass
        parser.close()


@given(frames=st.lists(st.binary(max_size=20), min_size=1, max_size=3), cut=st.integers(1, 10_000))
def test_a_body_that_was_cut_off_is_told(frames: list[bytes], cut: int) -> None:
    raw = b"".join(content_frame(one) for one in frames)
    ends = {0}
    for one in frames:
        ends.add(max(ends) + HEAD_SIZE + len(one))
    keep = cut % len(raw)
    parser = FrameParser()
    list(parser.feed(raw[:keep]))
    if keep in ends:
        parser.close()
    else:
        with pytest.raises(WireError, match="cut off"):
            parser.close()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\2" + bytes(40), "kind 2"),
        (b"\0" + bytes(40), "problem of 0 bytes"),
        (b"\0" + bytes(38) + b"\xff\xff", None),
        (b"\0" + b"\1" * 32 + bytes(7) + b"\1", "names a digest"),
        (b"\0" + bytes(32) + bytes(5) + b"\1\0\1", "problem of 65537"),
        (b"\1" + bytes(32) + b"\xff" * 8, "no file has more"),
    ],
)
def test_heads_that_can_not_be(head: bytes, said: str | None) -> None:
    if said is None:
        list(FrameParser().feed(head))
        return
    with pytest.raises(WireError, match=said):
        list(FrameParser().feed(head))


def test_problems_come_in_answers_only() -> None:
    with pytest.raises(WireError, match="kind 0"):
        list(FrameParser(problems=False).feed(problem_frame(Problem("busy", "wait"))))


@given(found=st.lists(digests, max_size=20))
def test_digests_are_read_as_they_were_written(found: list[str]) -> None:
    assert decode_digests(encode_digests(found)) == found


@given(found=st.lists(names, max_size=20))
def test_paths_are_read_as_they_were_written(found: list[str]) -> None:
    assert decode_paths(encode_paths(found)) == found
    for path in found:
        assert query_to_path(path_to_query(path)) == path


@given(
    found=st.lists(st.builds(Chunk, digests, st.integers(1, 2**32 - 1)), max_size=10),
    wanted=st.sets(st.integers(0, 9)),
)
def test_lists_of_chunks_are_read_as_they_were_written(found: list[Chunk], wanted: set[int]) -> None:
    packed = ChunkList.of(found)
    again = ChunkList(packed.encode())
    assert list(again) == found == again[:]
    assert (len(again), again.size) == (len(found), sum(chunk.length for chunk in found))
    offset = 0
    for index, (at, chunk) in enumerate(again.placed()):
        assert (at, chunk, again[index]) == (offset, found[index], found[index])
        offset += chunk.length
    indexes = sorted(index for index in wanted if index < len(found))
    assert decode_indexes(encode_indexes(indexes), len(found)) == indexes


@pytest.mark.parametrize(
    ("decode", "raw", "said"),
    [
        (decode_digests, b"a" * 64, "list of digests"),
        (decode_digests, b"A" * 64 + b"\n", "line 1"),
        (decode_digests, b"\xff" * 64 + b"\n", "line 1"),
        (decode_digests, b"a" * 65, "list of digests"),
        (decode_digests, (b"a" * 64 + b"\n") * (MAX_BATCH + 1), "more than"),
        (decode_digests, b"a" * 64 + b"\n" + b"a" * 30 + b"\n" + b"a" * 33 + b"\n", "line 2"),
        (decode_paths, b'{"path":"a"}', "cut off"),
        (decode_paths, b"\n", "line 1 is not JSON"),
        (decode_paths, b'{"path":"a"}\n' * (MAX_BATCH + 1), "more than"),
        (decode_paths, b'{"path":1}\n', "neither a string"),
        (decode_paths, b'{"path":"a","size":1}\n', "not known"),
        (decode_paths, b'{"path":"' + b"a" * 70000 + b'"}\n', "longer"),
        (decode_path, b"[" * 5000, "nested|JSON"),
        (decode_path, b"", "JSON"),
        (ChunkList, bytes(35), "cut off"),
        (ChunkList, bytes(36), "no bytes"),
        (lambda raw: decode_indexes(raw, 3), b"abc", "cut off"),
        (lambda raw: decode_indexes(raw, 3), encode_indexes([1, 1]), "follow"),
        (lambda raw: decode_indexes(raw, 3), encode_indexes([3]), "follow"),
    ],
)
def test_what_is_not_formed_as_documented(decode: Callable[[bytes], object], raw: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        decode(raw)


@given(raw=st.binary(max_size=300))
def test_decoders_fail_by_their_own_error_only(raw: bytes) -> None:
    for decode in (decode_digests, decode_paths, decode_path, ChunkList, lambda raw: decode_indexes(raw, 1000)):
        with suppress(WireError):
            decode(raw)


@given(code=st.sampled_from(list(Code)), message=st.text(max_size=6000), path=st.none() | names)
def test_problems_are_read_as_they_were_written(code: Code, message: str, path: str | None) -> None:
    raw = Problem(code, message, path).encode()
    assert len(raw) < 65536
    found = decode_problem(raw)
    assert (found.code, found.path) == (code, path)
    assert read_frames(problem_frame(found)) == [found]


def test_every_code_has_a_meaning_and_a_status() -> None:
    assert set(ABOUT) == set(Code)
    assert all(400 <= about.status < 600 and about.means and about.advice for about in ABOUT.values())


def test_a_frame_has_the_documented_bytes() -> None:
    assert FrameHead("ab" * 32, 258).encode() == b"\x01" + b"\xab" * 32 + b"\0\0\0\0\0\0\1\2"
    assert content_frame(b"x", NO_DIGEST) == b"\x01" + bytes(39) + b"\x01x"
