"""A line of the audit log: what it says, how it is written, how it is chained. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
NOTHING_BEFORE = "0" * 64
"""What the first record follows."""
MAX_LINE = 65536
"""Bytes of a line without its newline."""
_MAX_TEXT = 2000
_MAX_ITEMS = 600
_MAX_NAME = 253
_MAX_DETAILS = 32000
"""Bytes; so a line is never longer than MAX_LINE, however its texts are escaped."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Value = str | int | bool | list[str] | None


class RecordError(ValueError):
    """Bytes that are no record; says why."""


class HeadError(ValueError):
    """Text that names no head."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: the last record's sequence number, and the SHA-256 of its line."""

    sequence: int = 0
    digest: str = NOTHING_BEFORE

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the head that `SEQUENCE:DIGEST` names. Raises HeadError."""
        found = re.fullmatch(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})", text, re.ASCII)
        if found is None:
            raise HeadError(
                f"{text!r} is no head; a head is SEQUENCE:SHA-256, as `dsg-operator audit verify` prints it"
            )
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded. Texts may be anything; they are cut and made printable."""

    action: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    """metadata.uid of the object; of a SyncTransaction, it ties the operator's records to the data plane's."""
    who: str = ""
    """Name of the author as the API server knows it; "" for what nobody asked for."""
    origin: str = ""
    """Address and port of the client; "" where this process does not see it."""
    details: Mapping[str, Value] = field(default_factory=dict)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class About(_Model):
    """The object that a record is about."""

    kind: str
    namespace: str
    name: str
    uid: str


class Record(_Model):
    """One line."""

    format: Literal[1]
    seq: Annotated[int, Field(ge=1)]
    """One more than the record before."""
    prev: Digest
    """SHA-256 of the line of the record before, without its newline."""
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    """When it was written, UTC, by this node's clock."""
    log: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Random name of the log: another one means another log."""
    writer: str
    node: str
    action: str
    who: str
    origin: Annotated[str, Field(alias="from")]
    object: About
    details: dict[str, Value]


def encode(record: Record) -> bytes:
    """Return a record's line, without a newline: JSON without spaces, in ASCII, fields in one order."""
    return json.dumps(record.model_dump(by_alias=True), ensure_ascii=True, separators=(",", ":")).encode()


def decode(line: bytes) -> Record:
    """Return the record of a line. Raises RecordError for anything that `encode` does not make."""
    if len(line) > MAX_LINE:
        raise RecordError(f"has {len(line)} bytes, and a line has at most {MAX_LINE}")
    try:
        record = Record.model_validate(json.loads(line))
    except (ValidationError, RecursionError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            raise RecordError(f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}") from None
        raise RecordError("is no JSON") from None
    try:
        canonical = encode(record)
    except UnicodeError:
        raise RecordError("holds what is no text") from None
    if canonical != line:
        raise RecordError("is not written as this program writes lines")
    return record


def digest(line: bytes) -> str:
    """Return what the next record's `prev` is."""
    return hashlib.sha256(line).hexdigest()


def make(head: Head, log: str, writer: str, node: str, now: datetime, entry: Entry) -> bytes:
    """Return the line that records an entry after a head."""
    record = Record.model_validate(
        {
            "format": FORMAT,
            "seq": head.sequence + 1,
            "prev": head.digest,
            "time": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "log": log,
            "writer": _text(writer, _MAX_NAME),
            "node": _text(node, _MAX_NAME),
            "action": _text(entry.action, _MAX_NAME),
            "who": _text(entry.who, _MAX_NAME),
            "from": _text(entry.origin, _MAX_NAME),
            "object": {name: _text(getattr(entry, name), _MAX_NAME) for name in ("kind", "namespace", "name", "uid")},
            "details": _details(entry.details),
        }
    )
    return encode(record)


def _details(details: Mapping[str, Value]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    left = _MAX_DETAILS
    for name, value in details.items():
        clean = _value(value)
        left -= len(json.dumps([name, clean], ensure_ascii=True))
        if left < 0:
            found["cut"] = True
            break
        found[_text(name)] = clean
    return found


def _value(value: Value) -> Value:
    match value:
        case str():
            return _text(value)
        case list():
            shown = [_text(item) for item in value[:_MAX_ITEMS]]
            while len(json.dumps(shown)) > _MAX_DETAILS // 2:
                shown = shown[: len(shown) // 2]
            return shown if len(shown) == len(value) else [*shown, f"… {len(value)} in all"]
    return value


def _text(text: str, longest: int = _MAX_TEXT) -> str:
    text = text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()
