"""Change lists: what a transaction does to its base version, one line for each path, in path order.

A line says what a path is to be, as an entry without author and version; those are the server's to say. With `from`,
the content is that of a file of the base version and need not be sent. Or a line says that a path is to be there no
more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dsg.manifests.entries import Entry, EntryError, FileState, LinkState, State, check_path, to_bytes, to_name
from dsg.manifests.lines import (
    FILE_STEM,
    MAX_LINE,
    LineError,
    expect_fields,
    name_json,
    name_text,
    not_canonical,
    parse,
    read_mode,
    stem,
    text,
)

_FILE_FIELDS = ("path", "kind", "size", "mtime", "mode", "digest")
_LINK_FIELDS = ("path", "kind", "target")
_GONE_FIELDS = ("path", "kind")
_FILE_LINE = re.compile(rf"{FILE_STEM.pattern}\}}\n")
_SLASH = ord("/")


class ChangeError(ValueError):
    """A change list that is not whole and valid. Nothing of it may be used.

    `source`, `line` (from 1) and `path` (if it could be read) say where; `problem` says what.
    """

    def __init__(self, source: str, line: int, problem: str, path: str | None = None) -> None:
        where = f"{source}, line {line}" + (f" ({path!r})" if path is not None else "")
        super().__init__(f"{where}: {problem}. Nothing of this change list was used; make it anew and send it again")
        self.source = source
        self.line = line
        self.problem = problem
        self.path = path


@dataclass(frozen=True, slots=True)
class Place:
    """A file or link that is to be there, new or in place of what is there. EntryError when a value is not valid."""

    state: State
    """What it is to be."""
    source: str | None = None
    """Path of a file of the base version that has the content; the same path where only mode or time change."""

    def __post_init__(self) -> None:
        if self.source is not None:
            if isinstance(self.state, LinkState):
                raise EntryError(f"link {self.path!r} names a file to take content from; only a file has content")
            check_path(self.source)

    @property
    def path(self) -> str:
        """Where it is to be."""
        return self.state.path

    @property
    def key(self) -> bytes:
        """The path's bytes; changes are ordered by them."""
        return self.state.key

    def signed(self, author: str, version: str) -> Entry:
        """Return the entry with who made it so, and in which version."""
        return self.state.signed(author, version)


@dataclass(frozen=True, slots=True)
class Gone:
    """A path that is to be there no more. EntryError when no entry can have it."""

    path: str
    key: bytes = field(init=False, repr=False, compare=False)
    """The path's bytes; changes are ordered by them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", check_path(self.path))


Change = Place | Gone


def encode_change(change: Change) -> bytes:
    """Return the line of a change, newline included."""
    if isinstance(change, Gone):
        return f'{{"path":{name_json(change.path, change.key)},"kind":"deleted"}}\n'.encode()
    said = stem(change.state)
    if change.source is not None:
        said += f',"from":{name_json(change.source, to_bytes(change.source))}'
    return f"{said}}}\n".encode()


def decode_change(raw: bytes) -> Change:
    """Return the change of a line with its newline. LineError unless it is exactly what `encode_change` makes."""
    return _decode_plain(raw) or decode_any(raw)


def _decode_plain(raw: bytes) -> Place | None:
    """Return the change of a file's line without escapes; None for any other. LineError where no entry can say it."""
    try:
        found = _FILE_LINE.fullmatch(raw.decode())
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    path, size, mtime, mode, digest = found.groups()
    try:
        return Place(FileState(path, int(size), int(mtime), int(mode, 8), digest))
    except EntryError as error:
        raise LineError(str(error), path) from None


def decode_any(raw: bytes) -> Change:
    """Return the change of a line, whatever it says. LineError."""
    fields = parse(raw)
    path = None
    try:
        path = name_text(fields, "path")
        change = _read(path, fields)
    except (EntryError, LineError) as error:
        raise LineError(str(error), path) from None
    right = encode_change(change)
    if right != raw:
        raise LineError(not_canonical(raw, right), path)
    return change


def read_changes(lines: Iterable[bytes], name: str) -> Iterator[Change]:
    """Yield the changes of lines as a binary file yields them, ChangeError at the first that is not valid.

    Paths must rise, by their bytes, and no entry may be placed below another. `name` is what errors call the list. A
    list that was cut off between lines can't be told from a shorter one: compare its digest or count first. Memory is
    bounded by the length of a path, if `lines` bounds that of a line.
    """
    last: Change | None = None
    placed: list[Place] = []
    for number, raw in enumerate(lines, 1):
        if len(raw) > MAX_LINE:
            raise ChangeError(name, number, f"is longer than the {MAX_LINE} bytes that a line can have")
        if not raw.endswith(b"\n"):
            raise ChangeError(name, number, "ends without a newline: the list was cut off")
        try:
            change = decode_change(raw)
        except LineError as error:
            raise ChangeError(name, number, str(error), error.path) from None
        problem = _out_of_order(last, change) or _below(placed, change)
        if problem:
            raise ChangeError(name, number, problem, change.path)
        last = change
        yield change


def _read(path: str, fields: dict[str, Any]) -> Change:
    kind = fields.get("kind")
    if kind == "file":
        expect_fields(fields, (*_FILE_FIELDS, "from") if "from" in fields else _FILE_FIELDS)
        state = FileState(path, fields["size"], fields["mtime"], read_mode(fields["mode"]), text(fields, "digest"))
        return Place(state, name_text(fields, "from") if "from" in fields else None)
    if kind == "link":
        expect_fields(fields, _LINK_FIELDS)
        return Place(LinkState(path, name_text(fields, "target")))
    if kind == "deleted":
        expect_fields(fields, _GONE_FIELDS)
        return Gone(path)
    raise LineError(f"kind {kind!r} is neither file, link nor deleted")


def _out_of_order(last: Change | None, change: Change) -> str | None:
    if last is None or last.key < change.key:
        return None
    if last.key == change.key:
        return "comes twice; a path has one change"
    return f"comes after {last.path!r}, but sorts before it"


def _below(placed: list[Place], change: Change) -> str | None:
    """Tell when a change places something below what is placed; `placed` holds what later ones may lie below."""
    while placed and not change.key.startswith(placed[-1].key):
        placed.pop()
    if isinstance(change, Gone):
        return None
    for above in placed:
        if change.key[len(above.key)] == _SLASH:
            return f"lies below {to_name(above.key)!r}, which is no directory"
    placed.append(change)
    return None
