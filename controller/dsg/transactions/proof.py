"""Whether a version on the node is what it should be: its history, its manifest, and every file, read again.

For restore drills above all: it needs no cluster, no client and no Repository, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from dsg.manifests import history, tree
from dsg.manifests.entries import Entry, File
from dsg.manifests.header import Header
from dsg.manifests.history import HistoryError
from dsg.manifests.nodes import NodeError, NodeMissing
from dsg.storage.errors import StorageError
from dsg.storage.trees import FileKind, Trees
from dsg.transactions.metadata import Metadata

MOST_FINDINGS = 100
"""Findings of one version that are named; all are counted."""
_AHEAD = 64


@dataclass(slots=True)
class Proof:
    """What was found of one version."""

    version: str
    digest: str = ""
    """Its chain digest, as the Repository's status, the audit log and clients know it."""
    files: int = 0
    links: int = 0
    size: int = 0
    """Bytes that were read."""
    findings: list[str] = field(default_factory=list)
    total: int = 0

    @property
    def whole(self) -> bool:
        """Whether all is as it should be."""
        return not self.total

    def add(self, finding: str) -> None:
        """Note what is wrong."""
        self.total += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)


def prove(trees: Trees, root: str, version: str = "", digest: str = "", threads: int = 4) -> Proof:
    """Check the version that lies in a tree; `version` and `digest` are what it should be, where that is known.

    Raises StorageError where the tree can't be read at all.
    """
    metadata = Metadata(trees, root)
    proof = Proof(version)
    header = metadata.header()
    if header is None:
        proof.add("there is no version in this tree: its .dsg/history is missing or empty")
        return proof
    proof.version, proof.digest = header.version, header.chain
    if version and header.version != version:
        proof.add(f"it should be {version}, and its history ends with {header.version}")
    if digest and header.chain != digest:
        proof.add(f"its chain digest should be {digest}, and is {header.chain}")
    try:
        history.verify(metadata, header.version, header.chain)
        tree.verify(metadata, header.summary)
    except (HistoryError, NodeError, NodeMissing) as error:
        proof.add(f"its metadata is damaged: {error}")
        return proof
    with ThreadPoolExecutor(threads, thread_name_prefix="proof") as pool:
        _contents(trees, root, metadata, header, proof, pool)
    _strangers(trees, root, metadata, header, proof)
    return proof


def _contents(
    trees: Trees, root: str, metadata: Metadata, header: Header, proof: Proof, pool: ThreadPoolExecutor
) -> None:
    waiting: list[Future[str | None]] = []
    for entry in tree.entries(metadata, header.summary):
        if isinstance(entry, File):
            proof.files, proof.size = proof.files + 1, proof.size + entry.size
        else:
            proof.links += 1
        waiting.append(pool.submit(_compare, trees, root, entry))
        if len(waiting) >= _AHEAD:
            _take(waiting.pop(0), proof)
    for future in waiting:
        _take(future, proof)


def _take(future: Future[str | None], proof: Proof) -> None:
    if (finding := future.result()) is not None:
        proof.add(finding)


def _compare(trees: Trees, root: str, entry: Entry) -> str | None:
    try:
        facts = trees.facts(root, entry.path)
        if facts is None:
            return f"{entry.path!r} is missing"
        if not isinstance(entry, File):
            if (facts.kind, facts.target) != (FileKind.LINK, entry.target):
                return f"{entry.path!r} should be a link to {entry.target!r}"
            return None
        if facts.kind is not FileKind.FILE:
            return f"{entry.path!r} should be a file, and is a {facts.kind}"
        if (facts.size, facts.mode, facts.mtime) != (entry.size, entry.mode, entry.mtime):
            return (
                f"{entry.path!r} has size {facts.size}, mode {facts.mode:o}, time {facts.mtime}; "
                f"should be {entry.size}, {entry.mode:o}, {entry.mtime}"
            )
        if trees.digest(root, entry.path) != entry.digest:
            return f"{entry.path!r} has another content than it should"
    except StorageError as error:
        return f"{entry.path!r} can't be read: {error}"
    return None


def _strangers(trees: Trees, root: str, metadata: Metadata, header: Header, proof: Proof) -> None:
    """Look for what is in the tree and not in the manifest. Names are compared only where the numbers differ."""
    there = sum(1 for _ in _data(trees, root))
    if there == proof.files + proof.links and proof.whole:
        return
    named = {entry.path for entry in tree.entries(metadata, header.summary)}
    for path in _data(trees, root):
        if path not in named:
            proof.add(f"{path!r} is there, and not in the manifest")


def _data(trees: Trees, root: str) -> Iterator[str]:
    for path, facts in trees.walk(root):
        if facts.kind is not FileKind.DIRECTORY:
            yield path
