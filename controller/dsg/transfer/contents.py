"""Contents that travel, as a working copy and the client of the data plane both know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

Opener = Callable[[], BinaryIO]
"""Opens a regular file for reading, from its beginning; who calls closes it. Called in any thread. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A regular file of a version whose content is wanted; a working copy asks for no empty one."""

    path: str
    """Where it lies in the version, as its manifest writes it."""
    size: int
    """Bytes, as the manifest says."""
    digest: str
    """BLAKE3 of its content, as the manifest says: nothing else is kept."""
    basis: Opener | None = None
    """A local file that probably has much of the content, an older version for instance. Nothing rests on it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A content that the stage is to have. The same may come more than once; it is sent once."""

    path: str
    """Where it lies in the working copy; for messages only."""
    size: int
    """Bytes, as they were when the file was scanned."""
    digest: str
    """BLAKE3 of the content at that time; anything else is SourceChanged, and not kept."""
    open: Opener
    """The local file. A large one is read twice, so it is opened more than once."""
    basis_path: str | None = None
    """Path of a file of the base version that probably has much of the content. Nothing rests on it."""


class SourceChanged(Exception):
    """A file is not any more what it was when it was scanned. Nothing of it is used."""

    def __init__(self, path: str, problem: str = "its content is another than when it was looked at") -> None:
        super().__init__(
            f"{path!r} changed while it was sent: {problem}. Nothing of it is used. Let the program that writes it "
            "finish, then give the command again"
        )
        self.path = path
