"""One entry as one line of JSON: each entry has exactly one line, and each line that is accepted is that one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dsg.manifests.entries import Entry, EntryError, File, FileState, Link, LinkState, to_bytes, to_name

MAX_LINE = 65536
"""Bytes. The longest valid line has under 60,000: two names of 4,095 bytes, six characters for each control byte."""

_FILE_FIELDS = ("path", "kind", "size", "mtime", "mode", "digest", "author", "version")
_MODE = re.compile("[0-7]{3}")
_TEXT = r'[^"\\\x00-\x1f]*'
FILE_STEM = re.compile(
    rf'\{{"path":"({_TEXT})","kind":"file","size":(0|[1-9][0-9]{{0,18}}),"mtime":(0|-?[1-9][0-9]{{0,18}}),'
    r'"mode":"([0-7]{3})","digest":"([0-9a-f]{64})"'
)
"""What `stem` makes of a file whose path needs no escapes, and nothing else: almost all lines. They need no parser of
JSON and no comparison with what they should be, which is most of what a line costs.
"""
_FILE_LINE = re.compile(rf'{FILE_STEM.pattern},"author":"({_TEXT})","version":"(s[1-9][0-9]{{0,10}})"\}}\n')
_LINK_FIELDS = ("path", "kind", "target", "author", "version")

# What this escapes is what RFC 8785 escapes: '"', '\' and control characters; all else stays UTF-8.
quote = json.JSONEncoder(ensure_ascii=False).encode
"""Return a string as JSON."""
_parse = json.JSONDecoder().decode


class LineError(ValueError):
    """A line that is not valid. The reader adds where it stands.

    `path` is that of the entry, when it could be read.
    """

    def __init__(self, problem: str, path: str | None = None) -> None:
        super().__init__(problem)
        self.path = path


@dataclass(frozen=True, slots=True)
class Line:
    """An entry and its encodings, newlines included."""

    entry: Entry
    tree: bytes
    """What the entry says about the tree: the line without author and version."""
    whole: bytes
    """The line as it stands in a manifest."""


def name_json(name: str, raw: bytes) -> str:
    """Return the JSON of a path or target: text, or its bytes in hexadecimal when they are not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return f'{{"hex":"{raw.hex()}"}}'
    return quote(name)


def encode(entry: Entry) -> Line:
    """Return the line of an entry."""
    tree = stem(entry)
    whole = f'{tree},"author":{quote(entry.author)},"version":"{entry.version}"}}\n'
    return Line(entry, f"{tree}}}\n".encode(), whole.encode())


def stem(state: File | Link | FileState | LinkState) -> str:
    """Return what a line says about the tree, without its end."""
    path = name_json(state.path, state.key)
    if isinstance(state, File | FileState):
        return (
            f'{{"path":{path},"kind":"file","size":{state.size},"mtime":{state.mtime},'
            f'"mode":"{state.mode:03o}","digest":"{state.digest}"'
        )
    return f'{{"path":{path},"kind":"link","target":{name_json(state.target, to_bytes(state.target))}'


def decode(raw: bytes) -> Line:
    """Return the entry of a line with its newline. LineError unless it is exactly what `encode` makes."""
    return _decode_plain(raw) or decode_any(raw)


def _decode_plain(raw: bytes) -> Line | None:
    """Return the entry of a file's line without escapes; None for any other. LineError where no entry can say it."""
    try:
        said = raw.decode()
    except UnicodeDecodeError:
        return None
    found = _FILE_LINE.fullmatch(said)
    if found is None:
        return None
    path, size, mtime, mode, digest, author, version = found.groups()
    try:
        entry = File(path, int(size), int(mtime), int(mode, 8), digest, author, version)
    except EntryError as error:
        raise LineError(str(error), path) from None
    return Line(entry, f"{said[: found.end(5) + 1]}}}\n".encode(), raw)


def decode_any(raw: bytes) -> Line:
    """Return the entry of a line, whatever it holds. LineError."""
    fields = parse(raw)
    path = None
    try:
        path = name_text(fields, "path")
        kind = fields.get("kind")
        if kind == "file":
            expect_fields(fields, _FILE_FIELDS)
            entry: Entry = File(
                path,
                fields["size"],
                fields["mtime"],
                read_mode(fields["mode"]),
                text(fields, "digest"),
                text(fields, "author"),
                text(fields, "version"),
            )
        elif kind == "link":
            expect_fields(fields, _LINK_FIELDS)
            entry = Link(path, name_text(fields, "target"), text(fields, "author"), text(fields, "version"))
        else:
            raise LineError(f"kind {kind!r} is neither file nor link")  # noqa: TRY301  (gets the path below)
    except (EntryError, LineError) as error:
        raise LineError(str(error), path) from None
    line = encode(entry)
    if line.whole != raw:
        raise LineError(not_canonical(raw, line.whole), path)
    return line


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a line, LineError when it holds none."""
    try:
        found = _parse(raw.decode())
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise LineError("is nested too deep to be one of ours") from None
    except ValueError as error:
        raise LineError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise LineError("is JSON but no object")
    return found


def expect_fields(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raise LineError unless the fields are exactly those."""
    for name in names:
        if name not in fields:
            raise LineError(f"field {name!r} is missing")
    for name in fields:
        if name not in names:
            raise LineError(f"field {name!r} is not known")


def text(fields: dict[str, Any], name: str) -> str:
    """Return a field that must be a string, LineError when it is not."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise LineError(f"field {name!r} is not a string")
    return value


def not_canonical(found: bytes, right: bytes) -> str:
    """Return the message for a line that says something valid in another way than the one way."""
    at = next((n for n, (a, b) in enumerate(zip(found, right, strict=False)) if a != b), min(len(found), len(right)))
    return f"is not written in the one way it can be: from byte {at + 1} on, expected {right[at : at + 40]!r}"


def name_text(fields: dict[str, Any], name: str) -> str:
    """Return a field that holds a path or target as `name_json` writes it, LineError when it does not."""
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("hex"), str):
        try:
            return to_name(bytes.fromhex(value["hex"]))
        except ValueError:
            raise LineError(f"field {name!r} does not hold bytes in hexadecimal") from None
    raise LineError(f"field {name!r} is neither a string nor bytes in hexadecimal")


def read_mode(value: object) -> int:
    """Return the permission bits of a field, LineError when it holds none."""
    if not isinstance(value, str) or not _MODE.fullmatch(value):
        raise LineError(f"mode {value!r} is not a string of three octal digits")
    return int(value, 8)
