"""C: what a working copy was at its last sync. One small file says which tree; nodes and history lie beside it.

Nodes are named by what they hold, so those of a new C are added beside the old one's, and C changes with the rename of
`state.json`. What no C holds any more is removed afterwards; what is there too much does no harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blake3 import blake3
from pydantic import ValidationError

from dsg.api.base import Model
from dsg.manifests import history, tree
from dsg.manifests.digest import Summary
from dsg.manifests.entries import Entry
from dsg.manifests.header import Header, decode_header
from dsg.manifests.lines import LineError
from dsg.manifests.nodes import Inner, NodeMissing, decode_node
from dsg.sync.sides import Version
from dsg.workcopy.errors import Damaged
from dsg.workcopy.layout import HISTORY, NODES, STATE
from dsg.workcopy.origin import Synced
from dsg.workcopy.remote import VersionReader
from dsg.workcopy.writing import write_whole

_BATCH = 1000


class TreeModel(Model):
    """A tree of entries (`Summary`)."""

    entries: int
    """Files and links."""
    size: int
    """Bytes of all files."""
    tree: str
    """Digest without authors and versions."""
    digest: str
    """Name of the root node."""

    @classmethod
    def of(cls, summary: Summary) -> TreeModel:
        """Return the model of a summary."""
        return cls(entries=summary.entries, size=summary.size, tree=summary.tree, digest=summary.digest)

    def summary(self) -> Summary:
        """Return the summary. EntryError when it is none."""
        return Summary(self.entries, self.size, self.tree, self.digest)


class StateModel(Model):
    """`state.json`."""

    format: Literal["dsg-base/1"] = "dsg-base/1"
    """Name and version of the format."""
    header: str
    """Line of the header of the version that was synced with."""
    tree: TreeModel
    """The entries. Others than the header's where some paths were left as they were, or others were first."""
    covered: int
    """How many of them are synced, by `synced`."""
    synced: Synced
    """What was synced."""
    sync: str = ""
    """Identity of the sync that made it."""


@dataclass(frozen=True, slots=True)
class State:
    """Which version was synced with, and the tree that came of it."""

    header: Header
    tree: Summary
    covered: int
    synced: Synced
    sync: str = ""

    @property
    def plain(self) -> bool:
        """Whether the tree is the version's."""
        return self.tree == self.header.summary

    def encode(self) -> bytes:
        """Return the file of it."""
        model = StateModel(
            header=self.header.encode().decode(),
            tree=TreeModel.of(self.tree),
            covered=self.covered,
            synced=self.synced,
            sync=self.sync,
        )
        return model.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def read_state(path: Path) -> State | None:
    """Return the state that a file holds, None when there is no file. Raises Damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        model = StateModel.model_validate_json(raw)
        header = decode_header(model.header.encode())
        return State(header, model.tree.summary(), model.covered, model.synced, model.sync)
    except (ValidationError, LineError, ValueError) as error:
        raise Damaged(
            f"{path}, the record of the last sync, is damaged: {error}. Nothing was changed. Move it away and sync: "
            "what is equal here and in the repository is taken as synced, and you are asked about the rest"
        ) from error


class Base:
    """The directory `.dsg/base`: a source of nodes and of history. Every node is checked when it is read."""

    def __init__(self, directory: Path) -> None:
        self._nodes = directory / NODES
        self._history = directory / HISTORY
        self._state = directory / STATE

    def prepare(self) -> None:
        """Make its directories."""
        for directory in (self._nodes, self._history):
            directory.mkdir(parents=True, exist_ok=True)

    def state(self) -> State | None:
        """Return C, None where this working copy was never synced. Raises Damaged."""
        return read_state(self._state)

    def replace(self, state: State) -> None:
        """Make a tree whose nodes are here C, in one step and durably."""
        write_whole(self._state, state.encode())

    # ---- nodes

    def get(self, digest: str) -> bytes:
        """Return a node. NodeMissing where it is not here; a damaged one is removed, so that it is fetched again."""
        raw = self.look(digest)
        if raw is None:
            with suppress(FileNotFoundError):
                os.unlink(self._nodes / digest)  # noqa: PTH108
            raise NodeMissing(digest)
        return raw

    def look(self, digest: str) -> bytes | None:
        """Return a node, None where it is not here, or is damaged."""
        try:
            raw = (self._nodes / digest).read_bytes()
        except FileNotFoundError:
            return None
        return raw if blake3(raw).hexdigest() == digest else None

    def has(self, digest: str) -> bool:
        """Tell whether a node is here."""
        return (self._nodes / digest).exists()

    def put(self, digest: str, node: bytes) -> None:
        """Keep a node."""
        # Made durable with all else before a state names it; read damaged, it counts as missing.
        write_whole(self._nodes / digest, node, durable=False)

    def complete(self, root: Summary, reader: Callable[[], VersionReader]) -> None:
        """Fetch what is missing of a tree; `reader` gives a version that has it, and is asked only when needed.

        Raises NodeError, NodeMissing where what comes is not right.
        """
        there = self.names()
        level = [(root.digest, True)]
        while level:
            missing = [digest for digest, _ in level if digest not in there]
            for at in range(0, len(missing), _BATCH):
                self._fetch(missing[at : at + _BATCH], reader())
            there.update(missing)
            level = self._below(level, reader)

    def _fetch(self, digests: Sequence[str], reader: VersionReader) -> None:
        reader.prefetch(digests)
        for digest in digests:
            raw = reader.get(digest)
            if blake3(raw).hexdigest() != digest:
                raise NodeMissing(digest)
            self.put(digest, raw)

    def _below(self, level: list[tuple[str, bool]], reader: Callable[[], VersionReader]) -> list[tuple[str, bool]]:
        """Return the children of nodes of one level, right to left as they stand; the flag tells the rightmost."""
        found: list[tuple[str, bool]] = []
        for digest, rightmost in level:
            try:
                raw = self.get(digest)
            except NodeMissing:
                self._fetch([digest], reader())
                raw = self.get(digest)
            node = decode_node(raw, digest, rightmost=rightmost)
            if not isinstance(node, Inner):
                # A level is of leaves or of inner nodes; leaves are checked when they are read.
                return []
            last = len(node.children) - 1
            found.extend((child.digest, rightmost and n == last) for n, child in enumerate(node.children))
        return found

    def sweep(self, trees: Iterable[Summary]) -> None:
        """Remove the nodes that none of the trees hold. The trees must be complete."""
        # Unfinished files too: whoever made them is gone.
        for name in self.superfluous(trees):
            os.unlink(self._nodes / name)  # noqa: PTH108  (the tests' list of effects is that of os)

    def superfluous(self, trees: Iterable[Summary]) -> set[str]:
        """Return the names of nodes that none of the trees hold, and of unfinished files."""
        names = self.names()
        needed: set[str] = set()
        for root in trees:
            level = [(root.digest, True)]
            while level:
                needed.update(digest for digest, _ in level)
                level = self._below(level, _no_reader)
        return names - needed

    def names(self) -> set[str]:
        """Return the names of all nodes, and of unfinished files."""
        return set(os.listdir(self._nodes))  # noqa: PTH208  (fast)

    # ---- history

    def read(self, segment: str) -> bytes | None:
        """Return a segment of the history, None where it is not here."""
        try:
            return (self._history / segment).read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, segment: str, raw: bytes) -> None:
        """Keep a segment."""
        if self.read(segment) != raw:
            write_whole(self._history / segment, raw, durable=False)

    # ---- as a side

    def entries(self, root: Summary) -> Iterator[Entry]:
        """Yield the entries of a tree that is here."""
        return tree.entries(self, root)

    def cached(self, state: State) -> Version:
        """Return C as a side of a sync: what was synced, with the rule of that time."""
        if state.plain and state.covered == state.tree.entries:
            # All of the version: then who reads both need not read it twice (`Sides.head_is_base`).
            return Version(state.header, lambda: self.entries(state.tree))
        covers = state.synced.scope().covers
        return Version(
            state.header, lambda: (e for e in self.entries(state.tree) if covers(e.path)), count=state.covered
        )

    def covered(self, root: Summary, synced: Synced) -> int:
        """Return how many entries of a tree are synced."""
        covers = synced.scope().covers
        return sum(1 for entry in self.entries(root) if covers(entry.path))


class KeptHistory:
    """The history of a version that is being read; segments that are complete here are not fetched again."""

    def __init__(self, base: Base, reader: VersionReader, last: str) -> None:
        self._base, self._reader = base, reader
        self._last = history.segment_name(last)

    def read(self, segment: str) -> bytes | None:
        """Return a segment."""
        if segment != self._last:
            here = self._base.read(segment)
            if here is not None and here.count(b"\n") == history.SEGMENT:
                return here
        raw = self._reader.read(segment)
        if raw is not None:
            self._base.keep(segment, raw)
        return raw


def _no_reader() -> VersionReader:
    raise Damaged("a node of the last sync's manifest is missing; run `kubectl dsg sync`, which fetches it again")
