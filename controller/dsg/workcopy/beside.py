"""What a working copy has of versions, for whoever only looks: beside a sync that may replace it at any time.

Looking takes no lock, so a sync may make another tree C and remove the nodes of the old one between any two steps, and
may be adding to the very files. So nothing is written where syncs write: what is fetched goes to a directory of this
command's own. C and the history are read once. A node that is gone when it is needed is asked of the repository.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dsg.manifests import tree
from dsg.manifests.entries import Entry
from dsg.manifests.nodes import NodeMissing, NodeSource
from dsg.workcopy.base import Base, State
from dsg.workcopy.errors import MovedOn
from dsg.workcopy.layout import Layout
from dsg.workcopy.prepare import Reading
from dsg.workcopy.remote import Remote, VersionGone


class Beside(Base):
    """A working copy's base as it is now, and what is fetched to it; use it as a context manager."""

    def __init__(self, layout: Layout) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="kubectl-dsg-", ignore_cleanup_errors=True)
        self.directory = Path(self._scratch.name)
        super().__init__(self.directory)
        self.prepare()
        self._shared = Base(layout.base)
        self._segments: dict[str, bytes | None] = {}
        # Its tree is whole at this moment; the history, which grows before it does, is read after it.
        self._c = self._shared.state()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scratch.cleanup()

    def state(self) -> State | None:
        """Return C as it was when this began."""
        return self._c

    def look(self, digest: str) -> bytes | None:
        """Return a node, None where it is neither here nor there."""
        found = super().look(digest)
        return found if found is not None else self._shared.look(digest)

    def has(self, digest: str) -> bool:
        """Tell whether a node is here or there now."""
        return super().has(digest) or self._shared.has(digest)

    def read(self, segment: str) -> bytes | None:
        """Return a segment of the history as it was when it was first read."""
        if segment not in self._segments:
            self._segments[segment] = self._shared.read(segment)
        return self._segments[segment]

    def keep(self, segment: str, raw: bytes) -> None:
        """Keep a segment for this command."""
        self._segments[segment] = raw

    def names(self) -> set[str]:
        """Return the names of all nodes."""
        return super().names() | self._shared.names()

    def source(self, reading: Reading, version: str) -> NodeSource:
        """Return the nodes of a version, from the repository where they are not here."""
        return _Nodes(self, reading, version)

    def last(self, remote: Remote) -> Iterator[Entry]:
        """Yield the entries of C; none where this was never synced. Raises MovedOn, RemoteError."""
        state = self._c
        if state is None:
            return
        with Reading(remote) as reading:
            try:
                yield from tree.entries(self.source(reading, state.header.version), state.tree)
            except (NodeMissing, VersionGone) as error:
                if self._shared.state() == state:
                    raise
                raise MovedOn(
                    "a sync ended here while its state before was being read, and what that was is in no version any "
                    "more. Nothing was changed; give the command again"
                ) from error


class _Nodes:
    def __init__(self, here: Beside, reading: Reading, version: str) -> None:
        self._here, self._reading, self._version = here, reading, version

    def get(self, digest: str) -> bytes:
        found = self._here.look(digest)
        return found if found is not None else self._reading.of(self._version).get(digest)
