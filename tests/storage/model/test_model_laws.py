"""Laws of the model under any order of operations: durability, space, and what belongs to whom."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dsg.storage.errors import StorageError
from dsg.storage.zfs.model import ModelNode, ModelZfs, Moment, PowerCut
from dsg.storage.zfs.model import space as accounting
from dsg.storage.zfs.model.dataset import Filesystem

from .picture import Picture, picture

NAMES = st.sampled_from(["tank/a", "tank/b", "tank/a/x", "tank/a/y", "tank/c", "tank/d", "tank/d/z"])
TAILS = st.sampled_from(["s1", "s2", "s3"])
PATHS = st.sampled_from(["f", "g", "d/h"])
SIZES = st.integers(0, 3000)
VALUES = st.sampled_from(["", "1", "2"])
MOMENTS = st.sampled_from(list(Moment))


class Durability(RuleBasedStateMachine):
    """A pool under random use. `durable` is what a power cut would leave, worked out from the rules alone."""

    def __init__(self) -> None:
        super().__init__()
        self.node = ModelNode(seed=1, clock=lambda: 1_700_000_000.0)
        self.node.add_pool("tank")
        self.zfs = ModelZfs(self.node)
        self.durable: Picture = {}
        self.synced: list[tuple[str, str, bytes]] = []

    @initialize()
    def start(self) -> None:
        self.zfs.create("tank/a", {})
        self.settled()

    def settled(self) -> None:
        """Note that everything is on disk."""
        self.durable = picture(self.node, figures=False)
        self.synced = []

    def change(self, operation: str, *arguments: object) -> None:
        """Do something administrative; when it returns, it and everything before it is durable."""
        try:
            getattr(self.zfs, operation)(*arguments)
        except StorageError:
            return
        self.settled()

    @rule(name=NAMES, quota=st.sampled_from(["none", "100K", "1M"]))
    def create(self, name: str, quota: str) -> None:
        self.change("create", name, {"quota": quota})
        self.settled_if_partial()

    def settled_if_partial(self) -> None:
        """A refused create or clone may still have synced the pool, when its properties were refused."""
        if len(self.node.pool("tank").journal) == 0:
            self.settled()

    # Most names are of what exists, so that most operations have something to do; some are not.

    def dataset(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.node.pool("tank").datasets)))

    def taken(self, data: st.DataObject) -> str:
        filesystems = self.node.pool("tank").datasets.values()
        names = sorted(s.full_name for f in filesystems for s in f.snapshots.values())
        return data.draw(st.sampled_from(names)) if names else "tank/a@none"

    def cloned(self, data: st.DataObject) -> str:
        names = sorted(f.name for f in self.node.pool("tank").datasets.values() if f.origin is not None)
        return data.draw(st.sampled_from(names)) if names else "tank/a"

    @rule(data=st.data(), tail=TAILS)
    def snapshot(self, data: st.DataObject, tail: str) -> None:
        self.change("snapshot", [f"{self.dataset(data)}@{tail}"])

    @rule(data=st.data(), name=NAMES)
    def clone(self, data: st.DataObject, name: str) -> None:
        self.change("clone", self.taken(data), name, {})

    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        self.change("promote", self.cloned(data))

    @rule(data=st.data(), new=NAMES)
    def rename(self, data: st.DataObject, new: str) -> None:
        self.change("rename", self.dataset(data), new)

    @rule(name=NAMES)
    def destroy(self, name: str) -> None:
        self.change("destroy", name)

    @rule(data=st.data(), tails=st.lists(TAILS, max_size=2))
    def destroy_snapshots(self, data: st.DataObject, tails: list[str]) -> None:
        dataset, _, tail = self.taken(data).partition("@")
        self.change("destroy_snapshots", dataset, [tail, *tails])

    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        self.change("hold", [self.taken(data)], "t")

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.change("release", [self.taken(data)], "t")

    @rule(data=st.data(), value=VALUES)
    def set_properties(self, data: st.DataObject, value: str) -> None:
        self.change("set_properties", self.dataset(data), {"dsg:a": value})

    @rule(data=st.data())
    def inherit(self, data: st.DataObject) -> None:
        self.change("inherit", self.dataset(data), ["dsg:a"])

    @rule(data=st.data(), path=PATHS, size=SIZES, sync=st.booleans())
    def write(self, data: st.DataObject, path: str, size: int, sync: bool) -> None:
        name, content = self.dataset(data), bytes([size % 251]) * size
        try:
            self.node.write(name, path, content, sync=sync)
        except StorageError:
            return
        if sync:
            self.synced.append((name, path, content))

    @rule(data=st.data(), path=PATHS)
    def remove(self, data: st.DataObject, path: str) -> None:
        name = self.dataset(data)
        with suppress(StorageError):
            self.node.remove(name, path)

    @rule()
    def sync(self) -> None:
        self.node.sync()
        self.settled()

    @rule(flushed=st.booleans())
    def power_cut(self, flushed: bool) -> None:
        if flushed:
            expected = picture(self.node, figures=False)
        self.node.power_cut(flushed=flushed)
        if flushed:
            assert picture(self.node, figures=False) == expected
        else:
            self.check_kept()
        self.settled()

    def check_kept(self) -> None:
        """Everything durable is there, and every fsynced file; whatever else was written is gone."""
        found = picture(self.node, figures=False)
        assert found.keys() == self.durable.keys()
        touched = {name for name, _, _ in self.synced}
        for name, value in found.items():
            if name not in touched:
                assert value == self.durable[name], name
        newest = {(name, path): data for name, path, data in self.synced}
        for (name, path), data in newest.items():
            assert self.node.read(name, path) == data

    @rule(
        data=st.data(), tail=TAILS, moment=MOMENTS, operation=st.sampled_from(["snapshot", "promote", "destroy", "set"])
    )
    def cut_in_the_middle(self, data: st.DataObject, tail: str, moment: Moment, operation: str) -> None:
        """The power goes at some moment of an operation: it has happened or it has not."""
        name = self.cloned(data) if operation == "promote" else self.dataset(data)
        before, writes = self.durable, self.synced
        outcome: list[Picture] = []

        def hook(now: Moment, _: str, __: Mapping[str, object]) -> None:
            if now is moment:
                if now is Moment.AFTER:
                    outcome.append(picture(self.node, figures=False))
                self.node.power_cut()

        self.node.faults = hook
        calls = {
            "snapshot": lambda: self.zfs.snapshot([f"{name}@{tail}"]),
            "promote": lambda: self.zfs.promote(name),
            "destroy": lambda: self.zfs.destroy(name),
            "set": lambda: self.zfs.set_properties(name, {"dsg:b": tail}),
        }
        try:
            calls[operation]()
        except PowerCut:
            if outcome:
                assert picture(self.node, figures=False) == outcome[0]
            else:
                self.durable, self.synced = before, writes
                self.check_kept()
            self.settled()
        except StorageError:
            pass
        finally:
            self.node.faults = None

    # ---- what always holds

    @invariant()
    def every_block_is_charged_once(self) -> None:
        """What the pool uses is exactly the space of all blocks that any tree holds."""
        pool = self.node.pool("tank")
        blocks = set()
        for filesystem in pool.datasets.values():
            blocks |= filesystem.tree.blocks
            for snapshot in filesystem.snapshots.values():
                blocks |= snapshot.tree.blocks
        assert accounting.used(pool.root, live=True) == sum(block.size for block in blocks)

    @invariant()
    def what_was_worked_out_before_is_still_true(self) -> None:
        """Cached figures are those of a fresh look."""
        pool = self.node.pool("tank")
        cached = {f.name: (accounting.used(f, live=True), accounting.own(f, live=True)) for f in pool.datasets.values()}
        for filesystem in pool.datasets.values():
            accounting.touch(filesystem)
        for filesystem in pool.datasets.values():
            fresh = (accounting.used(filesystem, live=True), accounting.own(filesystem, live=True))
            assert cached[filesystem.name] == fresh

    @invariant()
    def trees_add_up(self) -> None:
        for filesystem in self.node.pool("tank").datasets.values():
            for tree in (filesystem.tree, *(s.tree for s in filesystem.snapshots.values())):
                assert tree.size == sum(block.size for block in tree.blocks)
                children: dict[str, set[str]] = {}
                for path in tree.entries:
                    if path:
                        above, _, name = path.rpartition("/")
                        children.setdefault(above, set()).add(name)
                assert tree.children == children

    @invariant()
    def everything_knows_its_place(self) -> None:
        pool = self.node.pool("tank")
        for name, filesystem in pool.datasets.items():
            assert filesystem.name == name
            parent = filesystem.parent
            assert parent is None or parent.children[name] is filesystem
            for child in filesystem.children.values():
                assert pool.datasets[child.name] is child
            for tail, snapshot in filesystem.snapshots.items():
                assert (snapshot.filesystem, snapshot.name) == (filesystem, tail)
                for clone in snapshot.clones.values():
                    assert clone.origin is snapshot
            self.check_origin(filesystem)

    @staticmethod
    def check_origin(filesystem: Filesystem) -> None:
        origin = filesystem.origin
        if origin is not None:
            assert origin.filesystem.snapshots[origin.name] is origin
            assert origin.clones[filesystem.guid] is filesystem
            assert all(s.txg > origin.txg for s in filesystem.snapshots.values())


TestDurability = Durability.TestCase
TestDurability.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
