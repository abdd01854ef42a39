"""What the data plane answers when it does not do what it was asked: one code for each cause, in one table.

The codes are the interface: clients decide by them, and the tables in docs/data-plane.md and
docs/reference/openapi.yaml are made from this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsg.manifests.entries import to_bytes
from dsg.manifests.lines import LineError, expect_fields, name_json, name_text, parse, quote, text

MAX_PROBLEM = 65536
"""Bytes of a problem as JSON; a client reads no more."""
_MAX_MESSAGE = 4000
"""Characters of a message; it may repeat a path."""


class Code(StrEnum):
    """Why something was not done."""

    GRANT_OVER = "grant-over"
    WRONG_MODE = "wrong-mode"
    NO_CERTIFICATE = "no-certificate"
    WRONG_CERTIFICATE = "wrong-certificate"
    BAD_REQUEST = "bad-request"
    BAD_PATH = "bad-path"
    NO_ROUTE = "no-route"
    WRONG_METHOD = "wrong-method"
    NOT_FOUND = "not-found"
    RANGE = "range"
    CHANGED = "changed"
    BAD_CHANGES = "bad-changes"
    WRONG_DIGEST = "wrong-digest"
    NOT_BEGUN = "not-begun"
    TOO_LARGE = "too-large"
    TOO_MUCH = "too-much"
    TOO_SLOW = "too-slow"
    BUSY = "busy"
    NO_SPACE = "no-space"
    STORAGE = "storage"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class About:
    """What a code means."""

    status: int
    """HTTP status of an answer with it."""
    means: str
    """What happened."""
    advice: str
    """What the client or its user can do."""
    again: bool = False
    """Whether the same request may succeed a moment later."""


ABOUT: dict[Code, About] = {
    Code.GRANT_OVER: About(
        403,
        "There is no such transaction here, or it has ended, was aborted or has expired.",
        "Start a new transaction; what was sent for this one was not committed by this request.",
    ),
    Code.WRONG_MODE: About(
        403, "The transaction reads and was asked to write, or the other way round.", "Use the right transaction."
    ),
    Code.NO_CERTIFICATE: About(
        401,
        "The connection came without a client certificate that this server trusts.",
        "POST the transaction's certificate to /certificate, then connect anew with it.",
    ),
    Code.WRONG_CERTIFICATE: About(
        403,
        "The certificate is not the one that the transaction names in spec.clientKey.",
        "Use the certificate that the transaction was made with, or start a new transaction.",
    ),
    Code.BAD_REQUEST: About(
        400, "The request is not formed as documented, or its body was cut off.", "Correct the client; send it again."
    ),
    Code.BAD_PATH: About(
        400, "The path can't be one of a version: it leads out of it, or into what belongs to dsg.", "Correct the path."
    ),
    Code.NO_ROUTE: About(404, "There is nothing at this address.", "See GET /openapi.json."),
    Code.WRONG_METHOD: About(405, "The address does not take this method.", "See GET /openapi.json."),
    Code.NOT_FOUND: About(404, "The version has no such file, node or segment.", "Look at the version's manifest."),
    Code.RANGE: About(416, "The range begins after the end of the file.", "Ask for bytes that are there."),
    Code.CHANGED: About(
        409, "A file is not as the version says, or changes while it is read.", "Run `kubectl dsg validate`."
    ),
    Code.BAD_CHANGES: About(
        422,
        "The list of changes is not valid; the message names line and path. An earlier list was kept.",
        "Make the list anew and send it again.",
    ),
    Code.WRONG_DIGEST: About(
        422,
        "What came does not have the digest that was announced. It was not stored.",
        "Read the file again: it changed while it was sent, or was damaged on its way.",
    ),
    Code.NOT_BEGUN: About(
        409,
        "The large file was not begun here, or is complete.",
        "POST its list of chunks first; it says what is missing.",
    ),
    Code.TOO_LARGE: About(
        413,
        "More bytes than the transaction may send. What was stored before stays.",
        "Send less, or have the limit raised in the Repository.",
    ),
    Code.TOO_MUCH: About(413, "More lines or bytes than one request may have.", "Send it in several requests."),
    Code.TOO_SLOW: About(
        408,
        "Nothing came for longer than the idle timeout. What was whole was stored.",
        "Send what is missing again.",
        True,
    ),
    Code.BUSY: About(
        503, "Too much is under way, or the same file is.", "Send it again after Retry-After seconds.", True
    ),
    Code.NO_SPACE: About(
        507,
        "The file system is full, or a quota is reached. What was stored before stays.",
        "Have the quota raised or space freed, then send what is missing again.",
    ),
    Code.STORAGE: About(
        503, "The node's storage failed; the message says how.", "Try again later; tell the node's administrator.", True
    ),
    Code.INTERNAL: About(
        500,
        "The server met a case that nobody has foreseen. What was stored before stays.",
        "Report it; its log says more.",
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that says why something was not done."""

    code: str
    """One of `Code`, or one that a newer server has."""
    message: str
    """A sentence or two for a person."""
    path: str | None = None
    """The path of the version that it is about."""

    def encode(self) -> bytes:
        """Return the JSON of it."""
        said = f'{{"error":{quote(self.code)},"message":{quote(_printable(self.message)[:_MAX_MESSAGE])}'
        if self.path is not None:
            said += f',"path":{name_json(self.path, to_bytes(self.path))}'
        return f"{said}}}".encode()


def decode_problem(raw: bytes) -> Problem:
    """Return the problem of its JSON. Raises ValueError for anything else."""
    fields = parse(raw)
    expect_fields(fields, ("error", "message", *(("path",) if "path" in fields else ())))
    path = name_text(fields, "path") if "path" in fields else None
    found = Problem(text(fields, "error"), text(fields, "message"), path)
    if _printable(found.message) != found.message or _printable(found.code) != found.code:
        raise LineError("holds lone surrogates, which are no characters")
    return found


def _printable(message: str) -> str:
    """Return a message as UTF-8 can carry it: bytes of names that are none are shown as \\xNN."""
    return message.encode("utf-8", "backslashreplace").decode()
