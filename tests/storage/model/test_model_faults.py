"""Faults before, during and after every operation: what is done and what the caller learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from dsg.storage.errors import CommandTimeout, NotFound
from dsg.storage.keys import WrappingKey
from dsg.storage.trees import Owning
from dsg.storage.zfs.model import OPERATIONS, Killed, ModelHost, ModelNode, ModelTrees, ModelZfs, Moment, PowerCut

from .picture import Picture, own_files, picture

KEY = bytes(range(32))
ROOT = "/srv/mounted"
OWNING = Owning(5, 6, 0o2770)


@dataclass
class Lab:
    node: ModelNode
    zfs: ModelZfs
    host: ModelHost
    trees: ModelTrees
    seen: list[tuple[Moment, str, Mapping[str, object]]] = field(default_factory=list)

    def state(self) -> tuple[Picture, dict[str, object], object, object]:
        mounts = [(m.filesystem.name, m.directory, m.read_only) for m in self.node.files.mounts.values()]
        loaded = sorted(root.name for root in self.node.pool("tank").loaded)
        return picture(self.node), own_files(self.node), mounts, loaded


def make() -> Lab:
    """Return a node with one of everything."""
    node = ModelNode(seed=3, clock=lambda: 1_700_000_000.0)
    node.add_pool("tank", mountpoint="legacy")
    zfs, host = ModelZfs(node), ModelHost(node)
    node.key_files["/keys/k"] = KEY
    for name in ("a", "b", "idle", "mounted"):
        zfs.create(f"tank/{name}", {"dsg:a": "1"})
    secret = {"encryption": "on", "keyformat": "raw", "keylocation": "file:///keys/k"}
    zfs.create("tank/open", secret)
    zfs.create("tank/closed", secret)
    zfs.unload_key("tank/closed")
    node.write("tank/a", "f", b"content")
    for name in ("s1", "s2"):
        zfs.snapshot([f"tank/a@{name}"])
    zfs.snapshot(["tank/mounted@s"])
    zfs.hold(["tank/a@s2"], "kept")
    zfs.clone("tank/a@s1", "tank/c", {})
    for path in ("/srv/empty", "/srv/free", "/srv/mounted", "/srv/dir"):
        host.make_directory(path, mode=0o755)
    host.point_link("/srv/link", "one")
    host.mount("tank/mounted", "/srv/mounted", read_only=False)
    trees = ModelTrees(node)
    trees.write(ROOT, "dir/file", b"line", mode=0o640, owning=OWNING)
    node.sync()
    return Lab(node, zfs, host, trees)


CHANGES: dict[str, Callable[[Lab], object]] = {
    "zfs.create": lambda lab: lab.zfs.create("tank/new", {}),
    "zfs.set_properties": lambda lab: lab.zfs.set_properties("tank/a", {"dsg:a": "2", "compression": "lz4"}),
    "zfs.inherit": lambda lab: lab.zfs.inherit("tank/a", ["dsg:a"]),
    "zfs.rename": lambda lab: lab.zfs.rename("tank/idle", "tank/renamed"),
    "zfs.destroy": lambda lab: lab.zfs.destroy("tank/idle"),
    "zfs.destroy_snapshots": lambda lab: lab.zfs.destroy_snapshots("tank/c", ["none"]),
    "zfs.snapshot": lambda lab: lab.zfs.snapshot(["tank/a@s3", "tank/b@s3"], {"dsg:a": "3"}),
    "zfs.clone": lambda lab: lab.zfs.clone("tank/a@s2", "tank/d", {}),
    "zfs.promote": lambda lab: lab.zfs.promote("tank/c"),
    "zfs.hold": lambda lab: lab.zfs.hold(["tank/a@s1"], "held"),
    "zfs.release": lambda lab: lab.zfs.release(["tank/a@s2"], "kept"),
    "zfs.program": lambda lab: lab.zfs.program(
        "tank", "zfs.sync.snapshot('tank/c@p') zfs.sync.promote('tank/c') zfs.sync.set_prop('tank', 'dsg:b', 'c')", []
    ),
    "zfs.load_key": lambda lab: lab.zfs.load_key("tank/closed"),
    "zfs.change_key": lambda lab: lab.zfs.change_key("tank/open", WrappingKey(b"n" * 32)),
    "zfs.unload_key": lambda lab: lab.zfs.unload_key("tank/open"),
    "host.mount": lambda lab: lab.host.mount("tank/a", "/srv/free", read_only=True),
    "host.remount": lambda lab: lab.host.remount("/srv/mounted", read_only=True),
    "host.unmount": lambda lab: lab.host.unmount("/srv/mounted"),
    "host.make_directory": lambda lab: lab.host.make_directory("/srv/more", mode=0o700),
    "host.remove_directory": lambda lab: lab.host.remove_directory("/srv/empty"),
    "host.set_owner": lambda lab: lab.host.set_owner("/srv/dir", uid=5, gid=6, mode=0o700),
    "host.point_link": lambda lab: lab.host.point_link("/srv/link", "two"),
    "host.remove_link": lambda lab: lab.host.remove_link("/srv/link"),
    "trees.write": lambda lab: lab.trees.write(ROOT, "new/file", b"x", mode=0o600, owning=OWNING),
    "trees.make_directory": lambda lab: lab.trees.make_directory(ROOT, "new/inner", owning=OWNING),
    "trees.move": lambda lab: lab.trees.move(ROOT, "dir/file", "new/file", owning=OWNING),
    "trees.copy": lambda lab: lab.trees.copy(ROOT, "dir/file", ROOT, "new/file", owning=OWNING),
    "trees.link": lambda lab: lab.trees.link(ROOT, "dir/file", "elsewhere", owning=OWNING),
    "trees.set_attributes": lambda lab: lab.trees.set_attributes(ROOT, "dir/file", mode=0, mtime=-1, owning=OWNING),
    "trees.remove": lambda lab: lab.trees.remove(ROOT, "dir/file"),
    "trees.remove_tree": lambda lab: lab.trees.remove_tree(ROOT, "dir"),
    "trees.sync": lambda lab: lab.trees.sync(ROOT),
}
READS: dict[str, Callable[[Lab], object]] = {
    "zfs.version": lambda lab: lab.zfs.version(),
    "zfs.pools": lambda lab: lab.zfs.pools(),
    "zfs.read": lambda lab: lab.zfs.read(["tank"], ["guid"]),
    "zfs.diff": lambda lab: lab.zfs.diff("tank/mounted@s", "tank/mounted"),
    "zfs.opens": lambda lab: lab.zfs.opens("tank/closed", WrappingKey(KEY)),
    "zfs.holds": lambda lab: lab.zfs.holds(["tank/a@s2"]),
    "zfs.events": lambda lab: lab.zfs.events().close(),
    "host.mounts": lambda lab: lab.host.mounts(),
    "host.stat": lambda lab: lab.host.stat("/srv"),
    "trees.facts": lambda lab: lab.trees.facts(ROOT, "dir/file"),
    "trees.names": lambda lab: lab.trees.names(ROOT, "dir"),
    "trees.walk": lambda lab: lab.trees.walk(ROOT),
    "trees.digest": lambda lab: lab.trees.digest(ROOT, "dir/file"),
    "trees.read": lambda lab: lab.trees.read(ROOT, "dir/file"),
    "trees.read_lines": lambda lab: lab.trees.read_lines(ROOT, "dir/file"),
    "trees.written_by_nobody": lambda lab: lab.trees.written_by_nobody(ROOT, "dir/file"),
}
MEMORY_ONLY = {"zfs.load_key", "zfs.unload_key", "host.mount", "host.remount", "host.unmount"}
UNSYNCED = {"host.make_directory", "host.set_owner"} | {
    name for name in CHANGES if name.startswith("trees.") and name != "trees.sync"
}
WITHOUT_EFFECT = {"zfs.destroy_snapshots", "trees.sync"}
ON_DISK = sorted(CHANGES.keys() - MEMORY_ONLY)


def strike(lab: Lab, moment: Moment, operation: str, fault: Callable[[], None]) -> None:
    """Let a fault strike at the first such moment of an operation."""

    def hook(now: Moment, name: str, arguments: Mapping[str, object]) -> None:
        if (now, name) == (moment, operation):
            lab.node.faults = None
            fault()

    lab.node.faults = hook


def killed() -> None:
    raise Killed


def test_every_operation_of_the_interfaces_is_tried_here() -> None:
    assert set(CHANGES) | set(READS) == set(OPERATIONS)
    assert not set(CHANGES) & set(READS)


@pytest.mark.parametrize("operation", sorted({**CHANGES, **READS}))
def test_the_hook_is_called_around_every_operation_and_each_is_counted(operation: str) -> None:
    lab = make()

    def hook(moment: Moment, name: str, arguments: Mapping[str, object]) -> None:
        lab.seen.append((moment, name, arguments))

    lab.node.faults = hook
    before = lab.node.calls[operation]
    {**CHANGES, **READS}[operation](lab)
    assert lab.node.calls[operation] == before + 1
    moments = [moment for moment, name, _ in lab.seen if name == operation]
    assert moments[0] is Moment.BEFORE
    assert moments[-1] is Moment.AFTER
    assert set(moments[1:-1]) == ({Moment.DURING} if operation in ON_DISK else set())


@pytest.mark.parametrize("operation", sorted(CHANGES))
def test_a_kill_before_an_operation_leaves_everything_as_it_was(operation: str) -> None:
    lab = make()
    before = lab.state()
    strike(lab, Moment.BEFORE, operation, killed)
    with pytest.raises(Killed):
        CHANGES[operation](lab)
    assert lab.state() == before


@pytest.mark.parametrize("operation", sorted(CHANGES))
@pytest.mark.parametrize("moment", [Moment.DURING, Moment.AFTER])
def test_a_kill_later_does_not_stop_the_kernel(operation: str, moment: Moment) -> None:
    if moment is Moment.DURING and operation in MEMORY_ONLY:
        return
    undisturbed, lab = make(), make()
    before = lab.state()
    CHANGES[operation](undisturbed)
    strike(lab, moment, operation, killed)
    with pytest.raises(Killed):
        CHANGES[operation](lab)
    assert lab.state() == undisturbed.state()
    assert (lab.state() == before) is (operation in WITHOUT_EFFECT)


@pytest.mark.parametrize("operation", ON_DISK)
@pytest.mark.parametrize("moment", list(Moment))
def test_a_power_cut_keeps_what_is_on_disk_and_nothing_else(operation: str, moment: Moment) -> None:
    lab, never, done = make(), make(), make()
    CHANGES[operation](done)
    done.node.power_cut()
    never.node.power_cut()
    strike(lab, moment, operation, lab.node.power_cut)
    with pytest.raises(PowerCut):
        CHANGES[operation](lab)
    kept = moment is Moment.AFTER and operation not in UNSYNCED
    assert picture(lab.node) == picture((done if kept else never).node)
    assert own_files(lab.node) == own_files((done if kept else never).node)
    assert lab.host.mounts() == []
    assert lab.node.pool("tank").loaded == set()


def test_a_power_cut_in_a_create_can_leave_a_dataset_without_its_properties() -> None:
    """OpenZFS sets the properties of a new dataset after the transaction group that creates it (zfs_ioc_create)."""
    found = []
    for count in range(1, 5):
        lab = make()
        left = [count]

        def hook(moment: Moment, name: str, _: Mapping[str, object], lab: Lab = lab, left: list[int] = left) -> None:
            if moment is Moment.DURING:
                left[0] -= 1
                if left[0] == 0:
                    lab.node.power_cut()

        lab.node.faults = hook
        with suppress(PowerCut):
            lab.zfs.create("tank/new", {"dsg:a": "mine", "quota": "1G"})
        lab.node.faults = None
        dataset = lab.zfs.read(["tank/new"], ["dsg:a", "quota"]).get("tank/new")
        found.append(None if dataset is None else (dataset.local("dsg:a"), dataset.number("quota")))
    assert found == [None, (None, 0), (None, 1 << 30), ("mine", 1 << 30)]


def test_a_lost_answer_is_a_timeout_with_effect() -> None:
    lab = make()

    def lost() -> None:
        raise CommandTimeout("no answer")

    strike(lab, Moment.AFTER, "zfs.destroy", lost)
    with pytest.raises(CommandTimeout):
        lab.zfs.destroy("tank/idle")
    with pytest.raises(NotFound):
        lab.zfs.destroy("tank/idle")


def test_a_refused_operation_has_no_after() -> None:
    lab = make()
    moments = []
    lab.node.faults = lambda moment, name, arguments: moments.append(moment)
    with pytest.raises(NotFound):
        lab.zfs.destroy("tank/none")
    assert moments == [Moment.BEFORE]


def test_the_hook_gets_the_arguments_by_name() -> None:
    lab = make()
    seen: list[Mapping[str, object]] = []
    lab.node.faults = lambda moment, name, arguments: seen.append(arguments)
    lab.host.mount("tank/a", "/srv/free", read_only=True)
    assert seen[0] == {"dataset": "tank/a", "directory": "/srv/free", "read_only": True}
