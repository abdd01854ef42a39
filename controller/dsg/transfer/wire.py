"""How contents, lists of digests, paths and chunks are written into the bodies of requests and answers.

**Frames** carry any number of contents one after the other. Each is a head of 41 bytes and then `size` bytes:

| bytes | hold |
|---|---|
| 1 | kind: 1 a content, 0 a problem in its place |
| 32 | BLAKE3 digest of the content, or zeros: of a problem, and where the sender has not computed it |
| 8 | size, big-endian |

A problem's bytes are its JSON (`dsg.transfer.problems`). A body ends after a whole frame; any other end is a body that
was cut off.

**Digests** are lines of 64 hexadecimal digits, lower case. **Paths** are lines of JSON, `{"path": …}`, where a path is
written as in manifests. A **list of chunks** is 32 bytes BLAKE3 and 4 bytes length (big-endian) for each, in the order
of the file; **indexes** into it are 4 bytes each, big-endian.

Nothing here does I/O, and nothing keeps more than it was given.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload
from urllib.parse import quote_from_bytes, unquote_to_bytes

from dsg.manifests.entries import MAX_SIZE, EntryError, check_path, to_bytes, to_name
from dsg.manifests.lines import MAX_LINE, LineError, expect_fields, name_json, name_text, parse
from dsg.transfer.problems import MAX_PROBLEM, Problem, decode_problem

MAX_BATCH = 10_000
"""Digests or paths in one request."""
MAX_BATCH_BYTES = 8 << 20
"""Bytes of one request's digests or paths."""
MAX_CHUNKS = 1 << 19
"""Chunks in a list: 18 MiB of it, and about 500 GiB of file. Larger files travel whole."""
LARGE = 8 << 20
"""Bytes from which on a file travels by chunks."""

NO_DIGEST = "0" * 64
"""The digest in a head that has none."""

_HEAD = struct.Struct(">B32sQ")
HEAD_SIZE = _HEAD.size
_CHUNK = struct.Struct(">32sI")
CHUNK_SIZE = _CHUNK.size
"""Bytes of one chunk in a list."""
_INDEX = struct.Struct(">I")
_CONTENT = 1
_PROBLEM = 0
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
_DIGEST_LINE = 65
_DIGEST_LINES = re.compile(rb"(?:[0-9a-f]{64}\n)*")


class WireError(ValueError):
    """Bytes that are not formed as documented, or were cut off. The message says what is wrong with them."""


# ---- frames


@dataclass(frozen=True, slots=True)
class FrameHead:
    """The head of a frame."""

    digest: str
    """BLAKE3 of the content; NO_DIGEST where the sender has not computed it, and of a problem."""
    size: int
    """Bytes that follow."""
    problem: bool = False
    """Whether a problem follows in place of a content."""

    def encode(self) -> bytes:
        """Return the bytes of it."""
        return _HEAD.pack(_PROBLEM if self.problem else _CONTENT, bytes.fromhex(self.digest), self.size)


def content_frame(content: bytes, digest: str = NO_DIGEST) -> bytes:
    """Return the frame of a content that is in memory."""
    return FrameHead(digest, len(content)).encode() + content


def problem_frame(problem: Problem) -> bytes:
    """Return the frame that stands where a content should."""
    raw = problem.encode()
    return FrameHead(NO_DIGEST, len(raw), problem=True).encode() + raw


def content_head(buffer: bytes | bytearray, at: int) -> tuple[bytes, int]:
    """Return digest and size of the content whose frame begins there. Raises WireError where no content begins.

    HEAD_SIZE bytes must be there. It is what `FrameParser` gives, at a tenth of the cost.
    """
    kind, digest, size = _HEAD.unpack_from(buffer, at)
    if kind != _CONTENT:
        raise WireError(f"a frame is of kind {kind}, which can't stand here")
    if size > MAX_SIZE:
        raise WireError(f"a frame announces {size} bytes; no file has more than {MAX_SIZE}")
    return digest, size


def whole_frame(buffer: bytes | bytearray, at: int) -> tuple[bytes | Problem | None, int]:
    """Return what the frame that begins there holds, and where it ends; None where not all of it is there yet.

    It gives what `FrameParser` gives, of frames that fit into memory. Raises WireError.
    """
    begin = at + HEAD_SIZE
    if len(buffer) < begin:
        return None, begin
    kind, _, size = _HEAD.unpack_from(buffer, at)
    if kind == _CONTENT and size <= MAX_SIZE:
        end = begin + size
        return (bytes(buffer[begin:end]) if len(buffer) >= end else None), end
    # A problem, or what is no frame: then the parser says why.
    end = begin + min(size, MAX_PROBLEM)
    for part in FrameParser().feed(buffer[at:end]):
        if isinstance(part, Problem):
            return part, end
    return None, end


class FrameParser:
    """Takes a body as it comes, in pieces of any size, and gives its frames.

    `feed` yields, for each frame, its `FrameHead`, then the content in pieces (views of what was fed, good until the
    next call) unless it is empty, then None for its end; for a problem, the `Problem` alone. Raises WireError.
    """

    def __init__(self, *, problems: bool = True) -> None:
        """`problems` tells whether problems may come: they do in answers only."""
        self._problems = problems
        self._held = bytearray()
        self._head: FrameHead | None = None
        self._left = 0

    @property
    def within(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._head is not None or bool(self._held)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[FrameHead | memoryview | Problem | None]:
        """Yield what the next piece of the body holds. It must be taken to its end before the next call."""
        view = memoryview(data)
        while view:
            if self._head is None:
                view = self._take(view, HEAD_SIZE)
                if len(self._held) < HEAD_SIZE:
                    return
                head = self._parse(bytes(self._held))
                self._held.clear()
                self._head, self._left = head, head.size
                if not head.problem:
                    yield head
            elif self._head.problem:
                view = self._take(view, self._head.size)
            else:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield piece
            yield from self._ended()

    def close(self) -> None:
        """Raise WireError where the body ended within a frame."""
        if self.within:
            raise WireError("the body ends within a frame: it was cut off")

    def _take(self, view: memoryview, size: int) -> memoryview:
        missing = size - len(self._held)
        self._held += view[:missing]
        return view[missing:]

    def _ended(self) -> Iterator[Problem | None]:
        head = self._head
        if head is None:
            return
        if head.problem and len(self._held) == head.size:
            raw = bytes(self._held)
            self._held.clear()
            self._head = None
            yield _problem(raw)
        elif not head.problem and not self._left:
            self._head = None
            yield None

    def _parse(self, raw: bytes) -> FrameHead:
        kind, digest, size = _HEAD.unpack(raw)
        head = FrameHead(digest.hex(), size, problem=kind == _PROBLEM)
        if kind not in {_CONTENT, _PROBLEM} or (head.problem and not self._problems):
            raise WireError(f"a frame is of kind {kind}, which can't stand here")
        if head.problem and head.digest != NO_DIGEST:
            raise WireError("a frame holds a problem and names a digest")
        if head.problem and not 0 < size <= MAX_PROBLEM:
            raise WireError(f"a frame holds a problem of {size} bytes; they have 1 to {MAX_PROBLEM}")
        if size > MAX_SIZE:
            raise WireError(f"a frame announces {size} bytes; no file has more than {MAX_SIZE}")
        return head


def _problem(raw: bytes) -> Problem:
    try:
        return decode_problem(raw)
    except ValueError as error:
        raise WireError(f"a frame holds a problem that {error}") from None


# ---- lists of digests and paths


def is_digest(text: str) -> bool:
    """Return whether a text is a digest: 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def encode_digests(digests: Iterable[str]) -> bytes:
    """Return digests as lines."""
    return "".join(f"{digest}\n" for digest in digests).encode()


def decode_digests(raw: bytes) -> list[str]:
    """Return the digests of lines, at most MAX_BATCH. Raises WireError."""
    if len(raw) % _DIGEST_LINE or (raw and not raw.endswith(b"\n")):
        raise WireError("is no list of digests: lines of 64 hexadecimal digits, each ended by a newline")
    if len(raw) > MAX_BATCH * _DIGEST_LINE:
        raise WireError(f"lists more than {MAX_BATCH} digests")
    if _DIGEST_LINES.fullmatch(raw):
        return raw.decode("ascii").split("\n")[:-1]
    found = []
    for number, line in enumerate(_lines(raw), 1):
        try:
            text = line.decode("ascii")
        except UnicodeDecodeError:
            text = ""
        if not is_digest(text):
            raise WireError(f"line {number} is no digest: 64 lower-case hexadecimal digits")
        found.append(text)
    return found


def encode_paths(paths: Iterable[str]) -> bytes:
    """Return paths as lines. Raises EntryError for one that is not the `str` of a name (os.fsdecode)."""
    return "".join(f'{{"path":{name_json(path, to_bytes(path))}}}\n' for path in paths).encode()


def decode_paths(raw: bytes) -> list[str]:
    """Return the paths of lines, at most MAX_BATCH, as they are: whether one can be a path is not looked at.

    Raises WireError.
    """
    if raw and not raw.endswith(b"\n"):
        raise WireError("the last line has no newline: the body was cut off")
    found: list[str] = []
    for number, line in enumerate(_lines(raw), 1):
        if number > MAX_BATCH:
            raise WireError(f"lists more than {MAX_BATCH} paths")
        found.append(_path(line, f"line {number}"))
    return found


def decode_path(raw: bytes) -> str:
    """Return the path of one JSON object, `{"path": …}`. Raises WireError."""
    return _path(raw.removesuffix(b"\n"), "the body")


def check_requested(path: str) -> str:
    """Return a path if a version can have it. Raises WireError that says why it can't."""
    try:
        check_path(path)
    except EntryError as error:
        raise WireError(str(error)) from None
    return path


def path_to_query(path: str) -> str:
    """Return a path as the value of a query's parameter: its bytes, percent-encoded."""
    return quote_from_bytes(to_bytes(path), safe="/")


def query_to_path(value: str) -> str:
    """Return the path that a query's raw value stands for."""
    return to_name(unquote_to_bytes(value))


def _path(line: bytes, where: str) -> str:
    if len(line) > MAX_LINE:
        raise WireError(f"{where} is longer than the {MAX_LINE} bytes that a line can have")
    try:
        fields = parse(line)
        expect_fields(fields, ("path",))
        return name_text(fields, "path")
    except LineError as error:
        raise WireError(f"{where} {error}") from None


def _lines(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        end = raw.index(b"\n", start)
        yield raw[start:end]
        start = end + 1


# ---- lists of chunks


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a file."""

    digest: str
    """BLAKE3 of its bytes."""
    length: int
    """Bytes, 1 to 2**32 - 1."""


class ChunkList(Sequence[Chunk]):
    """The chunks of a file in their order, packed: 36 bytes for each, however many there are.

    Raises WireError for bytes that are no such list.
    """

    def __init__(self, raw: bytes | bytearray = b"") -> None:
        if len(raw) % CHUNK_SIZE:
            raise WireError(f"a list of chunks has {len(raw)} bytes, no multiple of {CHUNK_SIZE}: it was cut off")
        if len(raw) > MAX_CHUNKS * CHUNK_SIZE:
            raise WireError(f"a list has more than {MAX_CHUNKS} chunks; send the file whole")
        self._raw = bytes(raw)
        self.size = 0
        """Bytes of the whole file."""
        for _, length in _CHUNK.iter_unpack(self._raw):
            if not length:
                raise WireError("a list has a chunk of no bytes")
            self.size += length

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> ChunkList:
        """Return the list of chunks. Raises WireError for one that can't stand in it."""
        packed = bytearray()
        for chunk in chunks:
            if not is_digest(chunk.digest) or not 0 < chunk.length < 1 << 32:
                raise WireError(f"{chunk} can't stand in a list")
            packed += _CHUNK.pack(bytes.fromhex(chunk.digest), chunk.length)
        return cls(packed)

    def encode(self) -> bytes:
        """Return the bytes of it."""
        return self._raw

    def placed(self) -> Iterator[tuple[int, Chunk]]:
        """Yield each chunk with the offset of its first byte in the file."""
        offset = 0
        for digest, length in _CHUNK.iter_unpack(self._raw):
            yield offset, Chunk(digest.hex(), length)
            offset += length

    def __len__(self) -> int:
        return len(self._raw) // CHUNK_SIZE

    def __iter__(self) -> Iterator[Chunk]:
        for digest, length in _CHUNK.iter_unpack(self._raw):
            yield Chunk(digest.hex(), length)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> list[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | list[Chunk]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no chunk {index} in a list of {len(self)}")
        digest, length = _CHUNK.unpack_from(self._raw, index % len(self) * CHUNK_SIZE)
        return Chunk(digest.hex(), length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChunkList) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)


def encode_indexes(indexes: Iterable[int]) -> bytes:
    """Return indexes into a list of chunks."""
    return b"".join(map(_INDEX.pack, indexes))


def decode_indexes(raw: bytes, count: int) -> list[int]:
    """Return the indexes into a list of `count` chunks: they rise and are below it. Raises WireError."""
    if len(raw) % _INDEX.size:
        raise WireError(f"a list of indexes has {len(raw)} bytes, no multiple of {_INDEX.size}: it was cut off")
    last = -1
    found = []
    for (index,) in _INDEX.iter_unpack(raw):
        if not last < index < count:
            raise WireError(f"index {index} does not follow {last} in a list of {count} chunks")
        found.append(index)
        last = index
    return found
