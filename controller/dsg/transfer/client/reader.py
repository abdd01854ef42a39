"""One version, read from the data plane: its header, its manifest's nodes, its history, and its files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from blake3 import blake3

from dsg.manifests.header import Header, decode_header
from dsg.manifests.lines import MAX_LINE, LineError
from dsg.manifests.nodes import Inner, NodeMissing, decode_node, encode_leaf
from dsg.transfer.client.asks import Progress, Report
from dsg.transfer.client.connection import Body, Connection
from dsg.transfer.client.crew import Crew
from dsg.transfer.client.errors import Damaged, Refused
from dsg.transfer.client.fetching import Fetching
from dsg.transfer.client.frames import Received, receive
from dsg.transfer.client.nodes import MemoryNodes, NodeCache
from dsg.transfer.client.retrying import Patience
from dsg.transfer.client.store import Store
from dsg.transfer.contents import Wanted
from dsg.transfer.problems import Code
from dsg.transfer.wire import encode_digests, is_digest

MAX_NODE = 32 << 20
"""Bytes of a node: 1,024 lines of the longest paths."""
MAX_SEGMENT = 64 * MAX_LINE
"""Bytes of a segment of the history."""
NODES = 256
"""Nodes in one request: about 4 MiB, so several connections share them."""

_LEAF = encode_leaf(())[1]
"""How a node begins that holds entries, and names no others."""


class Reader:
    """A version that a transaction may read. See `asks.VersionReader`."""

    def __init__(self, connection: Connection, nodes: NodeCache | None = None) -> None:
        """`nodes` is where nodes are kept; without it, in memory for as long as this object lives."""
        self._connection = connection
        self._nodes = nodes if nodes is not None else MemoryNodes()

    def header(self) -> Header | None:
        """Return the version's header, None where there is none. That its chain is the right one, who calls checks."""
        raw = self._optional("header", MAX_LINE)
        if raw is None:
            return None
        try:
            return decode_header(raw)
        except LineError as error:
            raise Damaged("of the header", str(error), ".dsg") from error

    def get(self, digest: str) -> bytes:
        """Return the bytes of a node, which have that digest. Raises NodeMissing."""
        found = self._nodes.get(digest)
        if found is not None:
            return found
        fetched: list[bytes] = []
        self._bring([digest], lambda _digest, node: fetched.append(node))
        if not fetched:
            raise NodeMissing(digest)
        return fetched[0]

    def read(self, segment: str) -> bytes | None:
        """Return the bytes of a segment of the history, None when there is none of that name."""
        return self._optional(f"history/{segment}", MAX_SEGMENT)

    def prefetch(self, digests: Iterable[str]) -> None:
        """Bring nodes into the cache with few requests, so that `get` asks for none. Missing ones are no error."""
        wanted = (digest for digest in digests if self._nodes.get(digest) is None)
        with Crew(self._connection, lambda: None) as crew:
            while batch := list(islice(wanted, NODES)):
                crew.do(lambda batch=batch: self._bring(batch))  # type: ignore[misc]

    def prefetch_tree(self, root: str, known: Callable[[str], bool] = lambda _digest: False) -> None:
        """Bring a tree's nodes into the cache, level by level, all but what lies below nodes that are `known`.

        Raises NodeMissing, NodeError.
        """
        level = [root]
        while level := [digest for digest in level if not known(digest)]:
            self.prefetch(level)
            level = [child for digest in level for child in self._children(digest)]

    def fetch(self, wanted: Iterable[Wanted], store: Path, report: Report | None = None) -> None:
        """Bring contents into a directory, each as a file named by its digest (mode 0600), verified.

        Those there already are checked, not fetched. `store` must be a directory, of nobody else. Half a large file
        stays there under another name, and the next call goes on from it.
        """
        with Store(store) as opened:
            fetching = Fetching(self._connection, opened)

            def tick() -> None:
                if report is not None:
                    traffic = self._connection.traffic
                    report(Progress(fetching.files, fetching.content, traffic.sent, traffic.received))

            with Crew(self._connection, tick) as crew:
                for work in fetching.shared_out(wanted):
                    crew.do(work)
            tick()

    def _children(self, digest: str) -> Iterator[str]:
        raw = self.get(digest)
        if raw.startswith(_LEAF):
            return
        # Only the last node of a level may end anywhere; whoever walks the tree checks which one that is.
        node = decode_node(raw, digest, rightmost=True)
        if isinstance(node, Inner):
            for child in node.children:
                yield child.digest

    def _optional(self, what: str, limit: int) -> bytes | None:
        try:
            return self._connection.ask("GET", what, limit=limit)
        except Refused as error:
            if error.code == Code.NOT_FOUND:
                return None
            raise

    def _bring(self, digests: list[str], take: Callable[[str, bytes], None] = lambda _digest, _node: None) -> None:
        """Put those nodes into the cache that the server has."""
        left = deque(digests)
        for digest in left:
            if not is_digest(digest):
                raise ValueError(f"{digest!r} is no digest: 64 lower-case hexadecimal digits")

        def do(patience: Patience) -> None:
            if not left:
                return
            with self._connection.once("POST", "nodes", Body.of(encode_digests(left))) as answer:
                for found in receive(answer, len(left), MAX_NODE):
                    self._keep(left[0], found, take)
                    left.popleft()
                    patience.moved()

        self._connection.insist(do)

    def _keep(self, digest: str, found: Received, take: Callable[[str, bytes], None]) -> None:
        if found.content is None:
            found.raise_unless(Code.NOT_FOUND)
            return
        raw = bytes(found.content)
        actual = blake3(raw).hexdigest()
        if actual != digest:
            raise Damaged(digest, f"it has the digest {actual}", "a part of the version's manifest")
        self._nodes.put(digest, raw)
        take(digest, raw)
