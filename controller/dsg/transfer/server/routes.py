"""All addresses of the server in one table: the server and docs/reference/openapi.yaml are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsg.transfer.problems import Code
from dsg.transfer.server.version import SEGMENT_PATTERN

UID = "[0-9a-zA-Z][0-9a-zA-Z-]{0,63}"
DIGEST = "[0-9a-f]{64}"


class Mode(StrEnum):
    """Whose request it is."""

    NOBODY = "nobody"
    """No grant is needed, nor a certificate."""
    INTRODUCTION = "introduction"
    """A grant, but no certificate: the client shows it."""
    ANY = "any"
    """A grant and its certificate."""
    READ = "read"
    """A grant to read, and its certificate."""
    WRITE = "write"
    """A grant to write, and its certificate."""


class Body(StrEnum):
    """What a request or an answer holds."""

    NONE = "none"
    CERTIFICATE = "certificate"
    DIGESTS = "digests"
    PATHS = "paths"
    PATH = "path"
    FRAMES = "frames"
    CHUNKS = "chunks"
    INDEXES = "indexes"
    BYTES = "bytes"
    CHANGES = "changes"
    HEADER = "header"
    SEGMENT = "segment"
    GRANT = "grant"
    PARAMETERS = "parameters"
    STORED = "stored"
    CHANGE_COUNT = "change-count"
    COMPLETED = "completed"
    ALIVE = "alive"
    DESCRIPTION = "description"


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in the query; the query holds nothing else."""

    name: str
    required: bool
    says: str
    number: bool = False
    """Whether it is a number and no path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One address with one method."""

    name: str
    """Of the operation; handlers are found by it."""
    method: str
    path: str
    mode: Mode
    says: str
    body: Body
    answer: Body
    codes: tuple[Code, ...] = ()
    """What it may refuse with, beside what all of its mode may."""
    query: Query | None = None
    moves: bool = True
    """Whether it moves data, and so waits for its turn."""

    @property
    def pattern(self) -> str:
        """The path as a pattern of the router."""
        return (
            self.path.replace("{uid}", f"{{uid:{UID}}}")
            .replace("{digest}", f"{{digest:{DIGEST}}}")
            .replace("{segment}", f"{{segment:{SEGMENT_PATTERN}}}")
        )


ALWAYS = (Code.BAD_REQUEST, Code.INTERNAL)
BY_MODE: dict[Mode, tuple[Code, ...]] = {
    Mode.NOBODY: (),
    Mode.INTRODUCTION: (Code.GRANT_OVER, Code.WRONG_CERTIFICATE, Code.TOO_MUCH, Code.TOO_SLOW, Code.STORAGE),
    Mode.ANY: (Code.NO_CERTIFICATE, Code.WRONG_CERTIFICATE, Code.GRANT_OVER, Code.STORAGE),
}
BY_MODE[Mode.READ] = BY_MODE[Mode.WRITE] = (*BY_MODE[Mode.ANY], Code.WRONG_MODE, Code.BUSY)

_BASE = "/v1/transactions/{uid}"
_SLOW = (Code.TOO_SLOW, Code.TOO_MUCH)
_STORES = (Code.TOO_SLOW, Code.TOO_LARGE, Code.NO_SPACE)
_PATH = Query("path", True, "Path of a file of the version: its bytes, percent-encoded.")
_BASIS = Query("basis", False, "Path of a file of the base version that may have some of the chunks.")
_OFFSET = Query("offset", True, "Where in the file the first byte belongs.", number=True)

ROUTES = (
    Route("live", "GET", "/livez", Mode.NOBODY, "The process answers.", Body.NONE, Body.ALIVE, moves=False),
    Route("healthy", "GET", "/healthz", Mode.NOBODY, "The process answers.", Body.NONE, Body.ALIVE, moves=False),
    Route(
        "description",
        "GET",
        "/openapi.json",
        Mode.NOBODY,
        "This description.",
        Body.NONE,
        Body.DESCRIPTION,
        moves=False,
    ),
    Route(
        "parameters",
        "GET",
        "/v1/parameters",
        Mode.NOBODY,
        "What both sides must have in common, and the limits of a request.",
        Body.NONE,
        Body.PARAMETERS,
        moves=False,
    ),
    Route(
        "certificate",
        "POST",
        f"{_BASE}/certificate",
        Mode.INTRODUCTION,
        "Shows the client's certificate. It must be the one whose fingerprint is in the transaction's spec.clientKey. "
        "Connections that are made afterwards may use it. Needed again after a restart of the server.",
        Body.CERTIFICATE,
        Body.NONE,
        moves=False,
    ),
    Route(
        "grant", "GET", f"{_BASE}/grant", Mode.ANY, "What the transaction may do.", Body.NONE, Body.GRANT, moves=False
    ),
    Route(
        "header",
        "GET",
        f"{_BASE}/header",
        Mode.READ,
        "The header of the version: the last line of its history.",
        Body.NONE,
        Body.HEADER,
        (Code.NOT_FOUND,),
    ),
    Route(
        "segment",
        "GET",
        f"{_BASE}/history/{{segment}}",
        Mode.READ,
        "A segment of the history, such as s1-s64.",
        Body.NONE,
        Body.SEGMENT,
        (Code.NOT_FOUND,),
    ),
    Route(
        "nodes",
        "POST",
        f"{_BASE}/nodes",
        Mode.READ,
        "Nodes of the manifest, a frame for each digest, in the order asked for.",
        Body.DIGESTS,
        Body.FRAMES,
        _SLOW,
    ),
    Route(
        "readContents",
        "POST",
        f"{_BASE}/contents",
        Mode.READ,
        "With a transaction that reads: contents of files, a frame for each path, in the order asked for; digests are "
        "zeros.",
        Body.PATHS,
        Body.FRAMES,
        _SLOW,
    ),
    Route(
        "writeContents",
        "POST",
        f"{_BASE}/contents",
        Mode.WRITE,
        "With a transaction that writes: stores the contents of frames, each when it is whole and has the digest that "
        "its head announces. What came before a wrong one stays.",
        Body.FRAMES,
        Body.STORED,
        (*_STORES, Code.WRONG_DIGEST),
    ),
    Route(
        "content",
        "GET",
        f"{_BASE}/content",
        Mode.READ,
        "A file's content, or the part that a Range of one part asks for (RFC 9110).",
        Body.NONE,
        Body.BYTES,
        (Code.NOT_FOUND, Code.BAD_PATH, Code.RANGE),
        _PATH,
    ),
    Route(
        "chunks",
        "POST",
        f"{_BASE}/chunks",
        Mode.READ,
        "The list of a file's chunks. The file is read for it.",
        Body.PATH,
        Body.CHUNKS,
        (*_SLOW, Code.NOT_FOUND, Code.BAD_PATH),
    ),
    Route(
        "changes",
        "PUT",
        f"{_BASE}/changes",
        Mode.WRITE,
        "Stores the list of changes, in place of an earlier one, if it is whole and valid.",
        Body.CHANGES,
        Body.CHANGE_COUNT,
        (*_STORES, Code.BAD_CHANGES),
    ),
    Route(
        "missing",
        "POST",
        f"{_BASE}/missing",
        Mode.WRITE,
        "Those of the digests of which no content is there yet, in the order asked for.",
        Body.DIGESTS,
        Body.DIGESTS,
        _SLOW,
    ),
    Route(
        "beginLarge",
        "POST",
        f"{_BASE}/large/{{digest}}",
        Mode.WRITE,
        "Makes a large file ready and says which of its chunks must be sent: those that neither were sent before nor "
        "are in the basis. Both are read for it.",
        Body.CHUNKS,
        Body.INDEXES,
        (*_STORES, Code.TOO_MUCH, Code.BAD_PATH),
        _BASIS,
    ),
    Route(
        "writeLarge",
        "PUT",
        f"{_BASE}/large/{{digest}}",
        Mode.WRITE,
        "Stores bytes of a large file. They may not reach behind its end.",
        Body.BYTES,
        Body.STORED,
        (Code.TOO_SLOW, Code.NO_SPACE, Code.NOT_BEGUN),
        _OFFSET,
    ),
    Route(
        "completeLarge",
        "POST",
        f"{_BASE}/large/{{digest}}/complete",
        Mode.WRITE,
        "Gives a large file its name if it has that digest. It is read for it.",
        Body.NONE,
        Body.STORED,
        (Code.NOT_BEGUN, Code.WRONG_DIGEST, Code.NO_SPACE),
    ),
    Route(
        "complete",
        "POST",
        f"{_BASE}/complete",
        Mode.WRITE,
        "Makes durable what was sent. Only after this answer may the transaction's intent be Commit.",
        Body.NONE,
        Body.COMPLETED,
        (Code.NO_SPACE,),
    ),
)
