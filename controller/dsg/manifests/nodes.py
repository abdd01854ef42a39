"""Nodes of a manifest's tree: leaves hold entry lines, inner nodes a line for each child; each is named by its BLAKE3.

Which entries share a node follows from the paths alone: byte n of a path's BLAKE3 says whether a node of level n ends
after it, and a full node ends too. So a set of entries has exactly one tree, however it came about, and a change
touches the nodes above it only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blake3 import blake3

from dsg.manifests.entries import EntryError, File, check_digest, check_path, to_name
from dsg.manifests.lines import (
    MAX_LINE,
    Line,
    LineError,
    decode,
    expect_fields,
    name_json,
    name_text,
    not_canonical,
    parse,
    text,
)
from dsg.manifests.ordering import Order, OrderError

FORMAT = "dsg-node/1"
"""Name and version of the format. A reader refuses every other one."""
MAX_LEVEL = 32
"""Highest level, as a path's BLAKE3 has 32 bytes. Paths chosen to get there cost more hashing than anyone can do."""
BITS = 0x3F
"""Bits of a byte that are zero where a node ends: after one path, or child, in 64."""
MOST = 1024
"""Lines of a node. By chance one node in ten million would have more; names chosen for it must not fill the memory."""

_CHILD_FIELDS = ("last", "entries", "size", "tree", "digest")


class NodeError(ValueError):
    """A node that is not what its name or its parent says, or not written in the one way. Nothing of it may be used.

    `node` is its digest, `line` (from 1) says where, if it is one line's fault; `problem` says what.
    """

    def __init__(self, node: str, problem: str, line: int | None = None) -> None:
        where = f"manifest node {node}" + (f", line {line}" if line is not None else "")
        super().__init__(f"{where}: {problem}. Nothing of this node was used; take it from another copy of the version")
        self.node = node
        self.line = line
        self.problem = problem


class NodeMissing(ValueError):
    """A node that its source does not have. `digest` is its name."""

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"manifest node {digest} is missing: the version that holds it is damaged. Restore this file from a "
            "replica, a backup or a newer or older version that holds it too; its name is the BLAKE3 of its bytes"
        )
        self.digest = digest


class NodeSource(Protocol):
    """Where nodes are read from."""

    def get(self, digest: str) -> bytes:
        """Return the bytes of the node of that name, NodeMissing when there is none. Who calls checks them."""
        ...


@dataclass(frozen=True, slots=True)
class Child:
    """What a node comes to, as its parent says it."""

    last: bytes
    """Bytes of the last path in it."""
    entries: int
    """Number of files and links."""
    size: int
    """Bytes of content of all files."""
    tree: str
    """BLAKE3 of the node with authors, versions and names of nodes left out."""
    digest: str
    """BLAKE3 of the node's bytes: its name."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node of level 0."""

    lines: tuple[Line, ...]
    """Its entries, in order; none only in the tree of no entries."""
    sum: Child
    """What it comes to."""


@dataclass(frozen=True, slots=True)
class Inner:
    """A node of a level above 0."""

    level: int
    """One more than that of its children."""
    children: tuple[Child, ...]
    """At least one; two or more in a root."""
    sum: Child
    """What it comes to."""


Node = Leaf | Inner


def ends(key: bytes, level: int, count: int = 1) -> bool:
    """Tell whether a node of that level ends with so many lines, the last of which is of the path of those bytes."""
    return count >= MOST or (level < MAX_LEVEL and not blake3(key).digest()[level] & BITS)


def encode_leaf(lines: Sequence[Line]) -> tuple[Child, bytes]:
    """Return what entries come to as one leaf, and its bytes."""
    first = _marker(0)
    whole = b"".join([first, *(line.whole for line in lines)])
    tree = b"".join([first, *(line.tree for line in lines)])
    size = sum(line.entry.size for line in lines if isinstance(line.entry, File))
    last = lines[-1].entry.key if lines else b""
    return Child(last, len(lines), size, _digest(tree), _digest(whole)), whole


def encode_inner(level: int, children: Sequence[Child]) -> tuple[Child, bytes]:
    """Return what children come to as one node of that level, and its bytes."""
    first = _marker(level)
    stems = [_stem(child) for child in children]
    whole = b"".join(
        [first, *(b'%b,"digest":"%b"}\n' % (s, c.digest.encode()) for s, c in zip(stems, children, strict=True))]
    )
    tree = b"".join([first, *(b"%b}\n" % stem for stem in stems)])
    entries, size = sum(child.entries for child in children), sum(child.size for child in children)
    return Child(children[-1].last, entries, size, _digest(tree), _digest(whole)), whole


def decode_node(raw: bytes, digest: str, *, rightmost: bool) -> Node:
    """Return the node of that name. NodeError unless its bytes are exactly what its name and the encoding ask for.

    `rightmost` tells that nothing follows the node in its tree: that one alone may end where no node ends.
    """
    found = _digest(raw)
    if found != digest:
        raise NodeError(digest, f"its bytes have the digest {found}")
    if not raw.endswith(b"\n"):
        raise NodeError(digest, "does not end with a newline")
    marker, *lines = raw.split(b"\n")[:-1]
    level = _read_marker(marker, digest)
    if len(lines) > MOST:
        raise NodeError(digest, f"has {len(lines)} lines; a node has {MOST} at most")
    node = _decode_inner(digest, level, lines) if level else _decode_leaf(digest, lines)
    _check_shape(node, digest, rightmost)
    return node


def _decode_leaf(digest: str, raws: list[bytes]) -> Leaf:
    lines: list[Line] = []
    order = Order()
    for number, raw in enumerate(raws, 2):
        try:
            line = decode(_limited(raw))
            order.check(line.entry)
        except (LineError, OrderError) as error:
            raise NodeError(digest, str(error), number) from None
        lines.append(line)
    return Leaf(tuple(lines), encode_leaf(lines)[0])


def _decode_inner(digest: str, level: int, raws: list[bytes]) -> Inner:
    children: list[Child] = []
    last = b""
    for number, raw in enumerate(raws, 2):
        try:
            child = _decode_child(_limited(raw))
        except (LineError, EntryError) as error:
            raise NodeError(digest, str(error), number) from None
        if child.last <= last:
            raise NodeError(digest, f"last path {to_name(child.last)!r} does not sort after the one before", number)
        last = child.last
        children.append(child)
    if not children:
        raise NodeError(digest, f"is of level {level} and has no children")
    return Inner(level, tuple(children), encode_inner(level, children)[0])


def _decode_child(raw: bytes) -> Child:
    fields = parse(raw)
    expect_fields(fields, _CHILD_FIELDS)
    child = Child(
        check_path(name_text(fields, "last")),
        _count(fields, "entries", 1),
        _count(fields, "size", 0),
        text(fields, "tree"),
        text(fields, "digest"),
    )
    check_digest(child.tree, "tree digest")
    check_digest(child.digest, "digest")
    right = b'%b,"digest":"%b"}\n' % (_stem(child), child.digest.encode())
    if right != raw:
        raise LineError(not_canonical(raw, right))
    return child


def _check_shape(node: Node, digest: str, rightmost: bool) -> None:
    if isinstance(node, Leaf):
        level, keys = 0, [line.entry.key for line in node.lines]
    else:
        level, keys = node.level, [child.last for child in node.children]
    for number, key in enumerate(keys[:-1], 2):
        if ends(key, level):
            raise NodeError(digest, f"the node should end after {to_name(key)!r}, but goes on", number)
    if not rightmost and not (keys and ends(keys[-1], level, len(keys))):
        raise NodeError(digest, "ends where no node ends, although others follow")


def _marker(level: int) -> bytes:
    return b'{"format":"%b","level":%d}\n' % (FORMAT.encode(), level)


def _read_marker(raw: bytes, digest: str) -> int:
    try:
        fields = parse(_limited(raw))
        if fields.get("format") != FORMAT:
            raise NodeError(digest, f"format is {fields.get('format')!r}; this dsg reads {FORMAT}", 1)
        expect_fields(fields, ("format", "level"))
        level = _count(fields, "level", 0)
    except LineError as error:
        raise NodeError(digest, str(error), 1) from None
    if level > MAX_LEVEL:
        raise NodeError(digest, f"level {level} is above {MAX_LEVEL}", 1)
    right = _marker(level)
    if right != raw + b"\n":
        raise NodeError(digest, not_canonical(raw + b"\n", right), 1)
    return level


def _limited(raw: bytes) -> bytes:
    if len(raw) >= MAX_LINE:
        raise LineError(f"is longer than the {MAX_LINE} bytes that a line can have")
    return raw + b"\n"


def _count(fields: dict[str, Any], name: str, least: int) -> int:
    value = fields[name]
    if type(value) is not int or value < least:
        raise LineError(f"{name} {value!r} is not a whole number from {least} on")
    return value


def _stem(child: Child) -> bytes:
    last = name_json(to_name(child.last), child.last)
    return f'{{"last":{last},"entries":{child.entries},"size":{child.size},"tree":"{child.tree}"'.encode()


def _digest(raw: bytes) -> str:
    return blake3(raw).hexdigest()
