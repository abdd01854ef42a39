"""Files below a root on a model node: what a sync keeps of them, and what takes space."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.storage.errors import QuotaExceeded, StorageError
from dsg.storage.trees import Owning
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelTrees, ModelZfs

from .picture import entries

OWNING = Owning(5, 6, 0o2770)


def mounted(node: ModelNode, name: str, **properties: str) -> str:
    ModelZfs(node).create(f"tank/{name}", {"mountpoint": "legacy", **properties})
    host = ModelHost(node)
    host.make_directory(f"/srv/{name}", mode=0o755)
    node.sync()
    host.mount(f"tank/{name}", f"/srv/{name}", read_only=False)
    return f"/srv/{name}"


def test_a_sync_keeps_one_filesystem_and_no_other(node: ModelNode) -> None:
    trees = ModelTrees(node)
    one, two = mounted(node, "one"), mounted(node, "two")
    for root in (one, two):
        trees.write(root, "in/file", b"content", mode=0o640, owning=OWNING)
    trees.sync(one)
    trees.write(one, "late", b"content", mode=0o640, owning=OWNING)
    node.power_cut()
    assert node.content("tank/one") == {"in/file": b"content"}
    assert node.content("tank/two") == {}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "link", "move", "remove", "remove_tree", "attributes", "sync"]),
        st.sampled_from(["a", "b", "a/b", "b/a", "a/b/c"]),
        st.sampled_from(["a", "b", "a/b", "b/a"]),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(STEPS)
def test_a_power_cut_leaves_the_tree_of_the_last_sync(steps: list[tuple[str, str, str]]) -> None:
    """However files, links and directories took each other's place before and after it."""
    node = ModelNode(clock=lambda: 1.7e9)
    node.add_pool("tank", mountpoint="legacy")
    trees, root = ModelTrees(node), mounted(node, "one")
    kept = entries(node.dataset("tank/one").tree)
    for number, (step, path, other) in enumerate(steps):
        try:
            if step == "write":
                trees.write(root, path, b"%d" % number, mode=0o640, owning=OWNING)
            elif step == "link":
                trees.link(root, path, f"to {number}", owning=OWNING)
            elif step == "move":
                trees.move(root, path, other, owning=OWNING)
            elif step == "remove":
                trees.remove(root, path)
            elif step == "remove_tree":
                trees.remove_tree(root, path)
            elif step == "attributes":
                trees.set_attributes(root, path, mode=0o600, mtime=number, owning=OWNING)
            else:
                trees.sync(root)
                kept = entries(node.dataset("tank/one").tree)
        except StorageError:
            continue
    node.power_cut()
    assert entries(node.dataset("tank/one").tree) == kept


def test_moves_and_attributes_take_no_space(node: ModelNode) -> None:
    trees, root = ModelTrees(node), mounted(node, "one", quota="200K")
    trees.write(root, "file", bytes(90_000), mode=0o640, owning=OWNING)
    ModelZfs(node).snapshot(["tank/one@s1"])
    with pytest.raises(QuotaExceeded):
        trees.copy(root, "file", root, "copy", owning=OWNING)
    trees.set_attributes(root, "file", mode=0o600, mtime=5, owning=OWNING)
    trees.move(root, "file", "elsewhere/file", owning=OWNING)
    assert node.dataset("tank/one").tree.size == sum(block.size for block in node.dataset("tank/one").tree.blocks)
    node.sync()
    assert ModelZfs(node).read(["tank/one"], ["used"])["tank/one"].number("used") < 150_000


def test_a_file_open_for_writing_is_told_by_the_file_not_by_its_name(node: ModelNode) -> None:
    trees, root = ModelTrees(node), mounted(node, "one")
    trees.write(root, "a", b"old", mode=0o640, owning=OWNING)
    with node.use(f"{root}/a", writing=True):
        trees.move(root, "a", "b", owning=OWNING)
        assert not trees.written_by_nobody(root, "b")
        trees.write(root, "b", b"new", mode=0o640, owning=OWNING)
        assert trees.written_by_nobody(root, "b")


def test_an_fsync_keeps_the_directories_above(node: ModelNode) -> None:
    mounted(node, "one")
    node.write("tank/one", "a/b/file", b"first")
    node.write("tank/one", "a/other", b"lost")
    node.write("tank/one", "a/b/file", b"second", sync=True)
    node.power_cut()
    assert node.content("tank/one") == {"a/b/file": b"second"}
