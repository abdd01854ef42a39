"""What older repositories need and nothing else does: XXH3, LZ4, and Los Angeles time. Extra `migrate` brings them."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MOST = 4 << 30
"""Bytes of an unpacked manifest from which on it is taken for a bomb."""
_PIECE = 1 << 20
_ZONE = "America/Los_Angeles"


class PartMissing(Exception):
    """Something of the extra `migrate` is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not installed, and older repositories can't be read without it. Nothing was changed. Install "
            "it: pip install 'dsg[migrate]'"
        )


class Unpackable(ValueError):
    """A packed file that is not what its name says."""


class Hasher(Protocol):
    """Takes content, gives its digest."""

    def update(self, content: bytes | memoryview, /) -> None:
        """Take the next piece."""
        ...

    def hexdigest(self) -> str:
        """Return the digest as hexadecimal."""
        ...


def xxh3() -> Hasher:
    """Return a hasher of XXH3 with 64 bits, by which DSG named contents. Raises PartMissing."""
    try:
        from xxhash import xxh3_64
    except ImportError:
        raise PartMissing("xxhash") from None
    return xxh3_64()


def unpacked(raw: bytes, name: str) -> bytes:
    """Return what a file .lz4 or .gz holds, any other as it is. Raises PartMissing, Unpackable."""
    if name.endswith(".gz"):
        return _whole(gzip.GzipFile(fileobj=io.BytesIO(raw)), name)
    if not name.endswith(".lz4"):
        return raw
    try:
        from lz4.frame import LZ4FrameFile
    except ImportError:
        raise PartMissing("lz4") from None
    return _whole(LZ4FrameFile(io.BytesIO(raw)), name)


def _whole(file: io.BufferedIOBase, name: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        with file:
            while piece := file.read(_PIECE):
                size += len(piece)
                if size > MOST:
                    raise Unpackable(f"{name} holds more than {MOST >> 30} GiB, which no manifest does")
                pieces.append(piece)
    except (OSError, EOFError, RuntimeError) as error:
        raise Unpackable(f"{name} can't be unpacked: {error}") from None
    return b"".join(pieces)


def moment(text: object) -> datetime | None:
    """Return a time of DSG in UTC, None where it is none. DSG wrote Los Angeles time, mostly with its offset.

    Without an offset, of an hour that comes twice in autumn, the first is meant. Raises PartMissing.
    """
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(_ZONE))
        return found.astimezone(UTC)
    except ZoneInfoNotFoundError:
        raise PartMissing("tzdata") from None
    except (ValueError, OverflowError):
        return None
