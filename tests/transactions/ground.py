"""One repository to make transactions on: on the model, on a directory (xfs type), or on a real pool.

A test states trees as dictionaries from path to content (bytes; a `str` is a link's target), sends them as a client
would, and reads what a reader of the mountpoint sees.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blake3 import blake3

from dsg.api.load import parse_object
from dsg.api.repository import Repository
from dsg.manifests import tree as manifest_tree
from dsg.manifests.changes import Change, Gone, Place, encode_change
from dsg.manifests.compare import Deleted, Same, compare
from dsg.manifests.digest import summarize
from dsg.manifests.entries import Entry, File, FileState, Link, LinkState
from dsg.manifests.header import Header
from dsg.storage import errors
from dsg.storage.repository_type import RepositoryType, Target
from dsg.storage.trees import FileKind, Owning, Trees
from dsg.transactions.keeper import Keeper, Kept
from dsg.transactions.metadata import CHANGES, Metadata, incoming
from dsg.transactions.repository import TransactionType
from dsg.transactions.transactor import Done, Operation, Result, Stopped, Transaction, Transactor
from tests.transactions.strikes import Strikes, Watched, watched

Content = Mapping[str, "bytes | str"]
"""A tree: files by their bytes, links by their target."""
START = datetime(2026, 1, 1, tzinfo=UTC)
MTIME = 1_700_000_000_000_000_000


def entries(content: Content) -> list[Entry]:
    """Return the manifest of a tree as a client would make it; the author is not the client's to say."""
    found: list[Entry] = []
    for path, what in content.items():
        if isinstance(what, str):
            found.append(Link(path, what, "nobody", "s1"))
        else:
            found.append(File(path, len(what), MTIME, 0o640, blake3(what).hexdigest(), "nobody", "s1"))
    return sorted(found, key=lambda entry: entry.key)


def tree_digest(content: Content) -> str:
    """Return the digest of a tree."""
    return summarize(entries(content)).tree


def change_list(base: Content, wanted: Content) -> list[Change]:
    """Return what a client sends: content that the base has under some path is taken from there."""
    known = {blake3(what).hexdigest(): path for path, what in base.items() if isinstance(what, bytes) and what}
    changes: list[Change] = []
    for one in compare(entries(base), entries(wanted)):
        if isinstance(one, Same):
            continue
        if isinstance(one, Deleted):
            changes.append(Gone(one.before.path))
        elif isinstance(one.after, Link):
            changes.append(Place(LinkState(one.after.path, one.after.target)))
        else:
            e = one.after
            changes.append(Place(FileState(e.path, e.size, e.mtime, e.mode, e.digest), known.get(e.digest)))
    return changes


class Ground(ABC):
    """One repository and what acts on it."""

    target: Target
    kind: TransactionType
    repositories: RepositoryType
    trees: Trees
    ordered: bool

    def __init__(self) -> None:
        self.now = START
        self._numbers = 0

    def wire(self, kind: TransactionType, repositories: RepositoryType, trees: Trees, *, ordered: bool) -> None:
        """Take the parts, as an operator that has just started would have them."""
        self.kind, self.repositories, self.trees, self.ordered = kind, repositories, trees, ordered
        self.transactor = Transactor(kind, trees, ordered=ordered, clock=lambda: self.now)
        self.keeper = Keeper(kind, trees)

    def seconds(self) -> float:
        """Return the time as a Unix time."""
        return self.now.timestamp()

    @abstractmethod
    def restart(self) -> None:
        """Forget everything that an operator keeps in memory."""

    # ---- the operator's part

    def converge(self) -> None:
        """Bring the repository to what was declared, as the reconciler does."""
        for _ in range(4):
            found = self.repositories.observe([self.target])[self.target.identity]
            assert not isinstance(found, errors.StorageError), found
            plan = self.repositories.plan(self.target, found)
            assert plan.problem is None, plan.problem
            if not plan.steps:
                return
            for step in plan.steps:
                self.repositories.apply(step)
        raise AssertionError("does not converge")

    def keep(self, live: Collection[str] = (), in_use: Collection[str] = (), *, prune: bool = True) -> Kept:
        """Put the repository in order."""
        versions = self.kind.versions([self.target])[self.target.identity] if prune else None
        found = self.repositories.observe([self.target])[self.target.identity]
        outline = self.repositories.outline(self.target, found)
        return self.keeper.keep(self.target, outline, live, in_use, self.now, versions)

    # ---- a client's part

    def transaction(self, operation: Operation, content: Content | None, **fields: Any) -> Transaction:
        """Return a transaction of its own."""
        self._numbers += 1
        said = {"uid": f"tx-{self._numbers}", "author": "ana", "message": f"change {self._numbers}", "base": ""}
        tree = tree_digest(content) if content is not None else None
        return Transaction(operation=operation, tree=tree, **{**said, **fields})

    def send(self, place: str, base: Content, wanted: Content) -> None:
        """Send what a transaction changes to its incoming directory; it is durable before a client hears so."""
        owning = Owning(os.getuid(), os.getgid(), 0o755) if not isinstance(self, ModelGround) else Owning(0, 0, 0o755)
        root, _, inside = place.rpartition("/.dsg/")
        assert inside == "incoming"
        changes = change_list(base, wanted)
        contents = {blake3(w).hexdigest(): w for w in wanted.values() if isinstance(w, bytes) and w}
        for change in changes:
            if isinstance(change, Place) and isinstance(change.state, FileState) and change.source is None:
                digest = change.state.digest
                if change.state.size:
                    self.trees.write(root, incoming(digest), contents[digest], mode=0o600, owning=owning)
        lines = b"".join(encode_change(change) for change in changes)
        self.trees.write(root, CHANGES, lines, mode=0o600, owning=owning)
        self.trees.sync(root)

    def run(self, transaction: Transaction, base: Content, wanted: Content | None) -> Result:
        """Take a transaction from opening to its end."""
        place = self.transactor.stage(self.target, transaction)
        if isinstance(place, Stopped):
            return place
        if wanted is not None:
            self.send(place, base, wanted)
        return self.finish(transaction)

    def finish(self, transaction: Transaction) -> Result:
        """Take a transaction whose content was sent to its end."""
        result = self.transactor.build(self.target, transaction)
        if result is not None:
            return result
        result = self.transactor.commit(self.target, transaction)
        if isinstance(result, Done):
            self.transactor.reveal(self.target)
        return result

    def init(self, content: Content, **fields: Any) -> Result:
        return self.run(self.transaction(Operation.INIT, content, **fields), {}, content)

    def sync(self, base: str, before: Content, content: Content, **fields: Any) -> Result:
        return self.run(self.transaction(Operation.SYNC, content, base=base, **fields), before, content)

    def restore(self, base: str, version: str, **fields: Any) -> Result:
        return self.run(self.transaction(Operation.RESTORE, None, base=base, restore=version, **fields), {}, None)

    # ---- a reader's part

    @abstractmethod
    def public(self) -> str:
        """Return the directory that the public path leads to now."""

    def content_of(self, root: str) -> dict[str, bytes | str]:
        """Return a tree as a reader finds it."""
        found: dict[str, bytes | str] = {}
        for path, facts in self.trees.walk(root):
            if facts.kind is FileKind.LINK:
                found[path] = facts.target
            else:
                assert facts.kind is FileKind.FILE, (path, facts)
                content = self.trees.read(root, path)
                assert content is not None, path
                found[path] = content
        return found

    def seen(self) -> dict[str, bytes | str]:
        """Return what a reader of the mountpoint sees."""
        return self.content_of(self.public())

    def header(self) -> Header | None:
        """Return the header of what a reader sees."""
        return Metadata(self.trees, self.public()).header()

    def check(self, root: str) -> Header:
        """Check that a version's tree is exactly what its manifest says, and its history whole; return its header."""
        metadata = Metadata(self.trees, root)
        header = metadata.header()
        assert header is not None
        wanted = {entry.path: entry for entry in manifest_tree.entries(metadata, header.summary)}
        found = dict(self.trees.walk(root))
        assert set(found) == set(wanted)
        for path, entry in wanted.items():
            facts = found[path]
            if isinstance(entry, Link):
                assert (facts.kind, facts.target) == (FileKind.LINK, entry.target), path
            else:
                said = (FileKind.FILE, entry.size, entry.mtime, entry.mode)
                assert (facts.kind, facts.size, facts.mtime, facts.mode) == said, path
                assert self.trees.digest(root, path) == entry.digest, path
        chain = list(metadata.since(""))
        assert chain[0] == header
        names = self.trees.names(root, ".dsg")
        assert names <= {"nodes", "history"}, names
        assert metadata.nodes() == nodes_of(metadata, header), "nodes that no manifest holds"
        return header

    def old(self, version: str) -> dict[str, bytes | str]:
        """Return the content of a version, checked against its manifest."""
        from dsg.storage.layout import Part

        root = self.kind.open(self.target, "test-reader", Part.READ, version)
        try:
            assert self.check(root).version == version
            return self.content_of(root)
        finally:
            self.kind.close(self.target, "test-reader", Part.READ)

    @abstractmethod
    def leftovers(self) -> None:
        """Check that there is nothing of a repository in order but its versions."""

    def versions(self) -> list[str]:
        """Return the names of all versions on disk, oldest first."""
        found = self.kind.versions([self.target])[self.target.identity]
        return sorted((version.name for version in found), key=lambda name: int(name[1:]))


def nodes_of(metadata: Metadata, header: Header) -> frozenset[str]:
    """Return the names of all nodes of a manifest, by reading it through."""

    class Noting:
        def __init__(self) -> None:
            self.read: set[str] = set()

        def get(self, digest: str) -> bytes:
            self.read.add(digest)
            return metadata.get(digest)

    noting = Noting()
    manifest_tree.verify(noting, header.summary)
    return frozenset(noting.read)


def make_target(raw: dict[str, Any], name: str = "justice", **spec: Any) -> Target:
    """Return what a Repository object asks for; keyword arguments replace fields of its spec."""
    raw["spec"].update(copy.deepcopy(spec))
    model = parse_object(raw)
    assert isinstance(model, Repository)
    return Target("research", name, f"uid-{name}", model.spec)


class ModelGround(Ground):
    """On OpenZFS in memory."""

    def __init__(self, **spec: Any) -> None:
        super().__init__()
        from dsg.storage.zfs.model import ModelNode
        from tests.reconcile.specs import repository

        self.node = ModelNode(seed=1, clock=self.seconds)
        self.node.add_pool("tank")
        raw = repository()
        self.target = make_target(raw, **spec)
        self.restart()
        self.node_setup()

    def node_setup(self) -> None:
        self.zfs.create("tank/dsg", {"mountpoint": "none"})
        self.host.make_directory("/srv/dsg", mode=0o755)
        self.converge()

    def restart(self) -> None:
        from dsg.storage.zfs.model import ModelHost, ModelTrees, ModelZfs
        from dsg.storage.zfs.repository import ZfsRepositories
        from dsg.transactions.on_zfs import ZfsTransactions

        self.zfs, self.host = ModelZfs(self.node), ModelHost(self.node)
        kind = ZfsTransactions(self.zfs, self.host)
        self.wire(kind, ZfsRepositories(self.zfs, self.host), ModelTrees(self.node), ordered=True)

    def public(self) -> str:
        link = self.host.stat("/srv/dsg/justice")
        assert link is not None
        return f"/srv/dsg/{link.target}"

    def datasets(self) -> set[str]:
        """Return the names below the repository's dataset."""
        names = self.zfs.read(["tank/dsg/justice"], ["guid"], depth=1)
        return {name.rpartition("/")[2] for name in names} - {"justice"}

    def leftovers(self) -> None:
        head = self.public().rpartition("/")[2]
        assert self.datasets() == {head}
        assert self.trees.names("/srv/dsg/.justice", "") <= {head, ".open"}
        assert self.trees.names("/srv/dsg/.justice/.open", "") == frozenset()


class XfsGround(Ground):
    """On a directory of this machine, as type xfs."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        super().__init__()
        self.directory = directory
        (directory / "data").mkdir(parents=True, exist_ok=True)
        (directory / "srv").mkdir(exist_ok=True)
        from tests.reconcile.specs import repository

        raw = repository()
        raw["spec"]["storage"] = {
            "type": "xfs",
            "node": "node-a",
            "directory": f"{directory}/data/justice",
            "mountpoint": f"{directory}/srv/justice",
        }
        raw["spec"]["owner"] = {"uid": os.getuid(), "gid": os.getgid(), "mode": "2770"}
        self.target = make_target(raw, **spec)
        self.restart()
        self.converge()

    def restart(self, strikes: Strikes | None = None) -> None:
        from dsg.storage import local_clone
        from dsg.storage.local_host import LocalHost
        from dsg.storage.local_trees import LocalTrees
        from dsg.storage.xfs.files import LocalFiles
        from dsg.storage.xfs.repository import XfsRepositories
        from dsg.transactions.on_xfs import XfsTransactions

        host: Any = LocalHost()
        files: Any = LocalFiles()
        trees: Any = LocalTrees()
        clone: Any = local_clone.clone
        if strikes is not None:
            host, files, trees = (
                Watched(inner, area, strikes) for inner, area in ((host, "host"), (files, "files"), (trees, "trees"))
            )
            clone = watched(clone, "clone", strikes)
        self.wire(XfsTransactions(host, files, trees, clone), XfsRepositories(host, files), trees, ordered=False)

    def public(self) -> str:
        return str((self.directory / "srv" / "justice").resolve())

    def leftovers(self) -> None:
        directory = self.directory / "data" / "justice"
        names = {path.name for path in directory.iterdir()}
        generations = {name for name in names if name.startswith("g")}
        assert names <= {".dsg.json", "head", ".open", *generations}
        assert len(generations) == max(1, len(self.versions()))
        if (directory / ".open").exists():
            assert list((directory / ".open").iterdir()) == []


def later(ground: Ground, **delta: float) -> None:
    """Let time pass."""
    ground.now += timedelta(**delta)
