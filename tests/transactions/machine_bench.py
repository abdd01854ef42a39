"""What the machine of `test_machine` stands on: one repository on the model, its readers, its operator, its oracle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, TypeVar

from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from dsg.manifests import tree as manifest_tree
from dsg.manifests.entries import File, Link
from dsg.storage import errors
from dsg.storage.host import PathKind
from dsg.storage.layout import Part
from dsg.storage.zfs.model import Killed, PowerCut
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot
from dsg.storage.zfs.model.tree import Tree as ModelTree
from dsg.transactions.metadata import Metadata
from tests.transactions.ground import ModelGround
from tests.transactions.machine_parts import (
    Client,
    Strangers,
    Strike,
    Watch,
)
from tests.transactions.oracle import (
    AFile,
    ALink,
    Oracle,
    State,
    Version,
    inside,
)

T = TypeVar("T")
PARENT, PUBLIC = "tank/dsg/justice", "/srv/dsg/justice"
KEPT = 3
"""How many versions retention keeps."""


class Bench(RuleBasedStateMachine):
    """One repository, seen past all interfaces and as readers see it, and an operator that can be struck."""

    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()
    """What has come up, over all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ground = ModelGround(retention={"keepLast": KEPT})
        self.node = self.ground.node
        self.oracle = Oracle()
        self.open: dict[str, Client] = {}
        self.strangers = Strangers()
        self.sends: list[tuple[AbstractContextManager[None], Snapshot]] = []
        self.users: list[AbstractContextManager[None]] = []
        self.coming: list[Version] = []
        """Versions that an operation may be making."""
        self.revealed = 0
        self.down = False
        """Whether nothing is mounted since a power cut."""
        self.clock_sane = True
        self.numbers = 0
        self.known: dict[int, tuple[ModelTree, int]] = {}
        """Frozen trees that were compared, with their version."""
        self.guids: dict[int, int] = {}
        """The snapshot's guid, by version."""
        self._began = False

    # ---- what is on disk, read past all interfaces

    def filesystems(self) -> list[Filesystem]:
        return [f for n, f in self.node.pool("tank").datasets.items() if inside(n, PARENT)]

    def parent(self, name: str) -> str:
        stored = self.node.dataset(PARENT).local.get(f"org.hrdag.dsg:{name}")
        return str(stored.local.value) if stored is not None else ""

    def head(self) -> Filesystem:
        return self.node.dataset(f"{PARENT}/{self.parent('head')}")

    def disk_versions(self) -> dict[int, Snapshot]:
        guids = self.strangers.snapshots
        return {int(s.name[1:]): s for s in self.head().snapshots.values() if s.guid not in guids}

    @staticmethod
    def states(tree: ModelTree) -> dict[str, State]:
        found: dict[str, State] = {}
        for path, item in tree.entries.items():
            if path == ".dsg" or path.startswith(".dsg/") or item.kind is PathKind.DIRECTORY:
                continue
            if item.kind is PathKind.LINK:
                found[path] = ALink(item.target)
            else:
                found[path] = AFile(item.data, item.mode, item.mtime)
        return found

    @staticmethod
    def number_of(tree: ModelTree) -> int:
        """Return which version a tree says it is."""
        segments = tree.children.get(".dsg/history")
        if not segments:
            return 0
        newest = max(segments, key=lambda name: int(name.partition("-")[0][1:]))
        lines = tree.entries[f".dsg/history/{newest}"].data.rstrip(b"\n").split(b"\n")
        return int(str(json.loads(lines[-1])["version"])[1:])

    # ---- readers

    def look(self) -> None:
        """Be a reader of the mountpoint, at any moment."""
        if self.down:
            return
        place = self.node.files.resolve(PUBLIC, follow=True)
        assert place is not None, "the mountpoint leads nowhere"
        assert place.mount, "readers see an empty directory of the node"
        filesystem = self.node.files.mounts[place.mount].filesystem
        tree = filesystem.tree
        known = self.known.get(id(tree))
        if known is None:
            number = self._compare(filesystem)
            if tree.frozen:
                self.known[id(tree)] = (tree, number)
        else:
            number = known[1]
        assert number >= self.revealed, f"readers went back from s{self.revealed} to s{number}"
        self.revealed = number

    def _compare(self, filesystem: Filesystem) -> int:
        number, found = self.number_of(filesystem.tree), self.states(filesystem.tree)
        written = self.strangers.writes.get(filesystem.guid, {})
        if number <= self.oracle.head.number:
            candidates = [self.oracle.versions[number]]
        else:
            candidates = [version for version in self.coming if version.number == number]
        for path, data in written.items():
            state = found.pop(path)
            assert isinstance(state, AFile)
            assert state.content == data
        wanted = [{p: s for p, s in version.tree.items() if p not in written} for version in candidates]
        assert found in wanted, f"readers see what is not s{number}"
        return number

    def verify(self, number: int) -> None:
        """Check a version through and through: tree, manifest, attribution, history."""
        ground, version = self.ground, self.oracle.versions[number]
        root = ground.kind.open(ground.target, "test-reader", Part.READ, f"s{number}")
        try:
            header = ground.check(root)
            assert header.version == f"s{number}"
            metadata = Metadata(ground.trees, root)
            found = {e.path: e for e in manifest_tree.entries(metadata, header.summary)}
            assert {p: (e.author, int(e.version[1:])) for p, e in found.items()} == version.signed
            assert set(found) == set(version.tree)
            for path, state in version.tree.items():
                kind, mode, mtime = (Link, 0, 0) if isinstance(state, ALink) else (File, state.mode, state.mtime)
                one = found[path]
                assert isinstance(one, kind)
                if isinstance(one, File):
                    assert (one.mode, one.mtime) == (mode, mtime)
            chain = [(h.version, h.commit.author, h.commit.message, h.commit.transaction) for h in metadata.since("")]
            wanted = [(f"s{v.number}", v.author, v.message, v.uid) for v in self.oracle.versions[number:0:-1]]
            assert chain == wanted
        finally:
            ground.kind.close(ground.target, "test-reader", Part.READ)

    # ---- running operations

    def attempt(self, strike: Strike, act: Callable[[], T]) -> T | None:
        """Let the operator do something; None where it was struck."""
        watch = Watch(self.node, strike, self.look)
        self.node.faults = watch
        try:
            return act()
        except (Killed, PowerCut) as blow:
            self.seen[f"struck: {type(blow).__name__}"] += 1
            if isinstance(blow, PowerCut):
                self._power_is_gone()
            else:
                self.look()
        except errors.CommandTimeout:
            assert watch.struck
            self.node.faults = None
            self.seen["struck: lost"] += 1
            return None
        finally:
            self.node.faults = None
        self._start(strike)
        return None

    def _power_is_gone(self) -> None:
        self.down = True
        self.sends.clear()
        self.users.clear()

    def _start(self, strike: Strike) -> None:
        """Start the operator again; it may be struck while it starts."""
        self.ground.restart()
        if strike is not None and strike[1] % 3 == 0:
            watch = Watch(self.node, ("kill" if strike[1] % 2 else "cut", strike[1] // 3), self.look)
            self.node.faults = watch
            try:
                self.ground.converge()
            except Killed:
                self.seen["struck while starting"] += 1
            except PowerCut:
                self.seen["struck while starting"] += 1
                self._power_is_gone()
            finally:
                self.node.faults = None
            self.ground.restart()
        self.ground.converge()
        self.down = False

    def pick(self, which: int) -> Client:
        clients = list(self.open.values())
        return clients[which % len(clients)]

    def live(self, *, without: Client | None = None) -> set[str]:
        return {uid for uid, client in self.open.items() if client is not without}
