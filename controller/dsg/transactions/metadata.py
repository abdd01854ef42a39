"""What lies in `.dsg` of a version's tree, and reading it: manifest nodes, history, and what a transaction brings in.

`nodes/DIGEST` are the nodes of the version's manifest, `history/N` the headers of all versions so far. `incoming` and
`work` are there while a transaction is open: the former holds `changes`, the list of what it changes, and content by
its digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dsg.manifests import history, tree
from dsg.manifests.header import Header, decode_header
from dsg.manifests.lines import LineError
from dsg.manifests.nodes import NodeMissing, NodeSource
from dsg.storage.errors import InvalidValue
from dsg.storage.layout import next_version, number
from dsg.storage.trees import Trees

_SEGMENT = re.compile("s[1-9][0-9]*-s[1-9][0-9]*", re.ASCII)

METADATA = ".dsg"
NODES = f"{METADATA}/nodes"
HISTORY = f"{METADATA}/history"
INCOMING = f"{METADATA}/incoming"
CHANGES = f"{INCOMING}/changes"
WORK = f"{METADATA}/work"
"""What building the version needs meanwhile; nobody but the operator writes there."""
TEMPORARY = f"{METADATA}/tmp"  # noqa: S108  (a directory of the tree)
"""Where `Trees` keeps unfinished files."""
SOURCES = f"{WORK}/sources"
"""Content that is taken from the base's own files, by digest, while these are replaced."""
DROPPED = f"{WORK}/dropped"
"""Digests of the base's nodes that the new manifest no longer holds, a line each."""


def incoming(digest: str) -> str:
    """Return where the content of a digest is sent to."""
    return f"{INCOMING}/{digest}"


class Metadata:
    """The metadata of one tree: a source of nodes (`dsg.manifests.tree.NodeSource`) and of the history."""

    def __init__(self, trees: Trees, root: str) -> None:
        self._trees = trees
        self._root = root

    def get(self, digest: str) -> bytes:
        """Return a node. Raises NodeMissing."""
        content = self._trees.read(self._root, f"{NODES}/{digest}")
        if content is None:
            raise NodeMissing(digest)
        return content

    def read(self, segment: str) -> bytes | None:
        """Return a segment of the history; None where there is none."""
        return self._trees.read(self._root, f"{HISTORY}/{segment}")

    def header(self, latest: str = "") -> Header | None:
        """Return the newest version's header; None where no version was made. Raises InvalidValue for a damaged one.

        `latest` is a version after which none can be here, where that is known ("" where it is not): its segment of the
        history is then the last, and the others need not be listed.
        """
        if latest:
            name = history.segment_name(latest)
            content = self.read(name)
            if content is not None:
                return self._last(name, content)
        names = [name for name in self._trees.names(self._root, HISTORY) if _SEGMENT.fullmatch(name)]
        if not names:
            return None
        name = max(names, key=lambda n: int(n.partition("-")[0][1:]))
        return self._last(name, self.read(name) or b"")

    def _last(self, name: str, content: bytes) -> Header:
        try:
            return decode_header(content[content.rstrip(b"\n").rfind(b"\n") + 1 :])
        except LineError as error:
            path = f"{self._root}/{HISTORY}/{name}"
            text = f"{path} is damaged: {error}. Compare it with that of an older version or a backup"
            raise InvalidValue(text, subject=path) from error

    def since(self, version: str, latest: str = "") -> Iterator[Header]:
        """Yield the headers of versions after one ("" for all), newest first. `latest`: see `header`."""
        newest = self.header(latest)
        if newest is not None and number(newest.version) > number(version):
            yield from history.headers(self, next_version(version), newest.version, newest_first=True)

    def nodes(self) -> frozenset[str]:
        """Return the digests of all nodes that lie here."""
        return self._trees.names(self._root, NODES)


class Layered:
    """Several sources of nodes: the first that has one gives it. Those that are not needed are never asked for."""

    def __init__(self, sources: Iterable[NodeSource]) -> None:
        self._coming = iter(sources)
        self._known: list[NodeSource] = []

    def get(self, digest: str) -> bytes:
        """Return a node. Raises NodeMissing when no source has it."""
        tried = 0
        while True:
            if tried == len(self._known):
                source = next(self._coming, None)
                if source is None:
                    raise NodeMissing(digest)
                self._known.append(source)
            try:
                return self._known[tried].get(digest)
            except NodeMissing:
                tried += 1


class _Nothing:
    """The manifest of no version."""

    def __init__(self) -> None:
        self._nodes: dict[str, bytes] = {}
        self.summary = tree.build([], self._nodes.__setitem__)

    def get(self, digest: str) -> bytes:
        if digest not in self._nodes:
            raise NodeMissing(digest)
        return self._nodes[digest]


NOTHING = _Nothing()
"""The empty manifest, as a source of nodes with its summary."""
