"""The node's file namespace: what an fsync keeps, and the way a path takes."""

from __future__ import annotations

import pytest

from dsg.storage.errors import Busy, InvalidValue, NotFound
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelZfs


def test_a_link_keeps_its_directory_and_what_is_beside_it(node: ModelNode, host: ModelHost) -> None:
    host.make_directory("/srv/links", mode=0o755)
    host.make_directory("/srv/links/beside", mode=0o755)
    host.make_directory("/elsewhere", mode=0o755)
    host.point_link("/srv/links/current", "one")
    node.power_cut()
    link = host.stat("/srv/links/current")
    assert link is not None
    assert link.target == "one"
    assert host.stat("/srv/links/beside") is not None
    assert host.stat("/elsewhere") is None


def test_without_an_fsync_directories_and_owners_are_lost_removals_are_not(node: ModelNode, host: ModelHost) -> None:
    host.make_directory("/a/b", mode=0o755)
    node.sync()
    host.set_owner("/a", uid=1, gid=2, mode=0o700)
    host.make_directory("/a/c/d", mode=0o755)
    node.power_cut()
    state = host.stat("/a")
    assert state is not None
    assert (state.uid, state.gid, state.mode) == (0, 0, 0o755)
    assert host.stat("/a/b") is not None
    assert host.stat("/a/c") is None
    host.remove_directory("/a/b")
    node.power_cut()
    assert host.stat("/a/b") is None


def test_run_is_empty_after_a_power_cut(node: ModelNode, host: ModelHost) -> None:
    host.make_directory("/run/dsg", mode=0o700)
    host.point_link("/run/dsg/link", "x")
    node.key_files.update({"/run/dsg/key": b"k", "/etc/key": b"k"})
    node.sync()
    node.power_cut()
    assert host.stat("/run/dsg") is None
    assert host.stat("/run") is not None
    assert set(node.key_files) == {"/etc/key"}


def test_changes_inside_a_dataset_wait_for_its_transaction_group(
    node: ModelNode, zfs: ModelZfs, host: ModelHost
) -> None:
    zfs.create("tank/a", {})
    host.make_directory("/mnt", mode=0o755)
    node.sync()
    host.mount("tank/a", "/mnt", read_only=False)
    host.set_owner("/mnt", uid=7, gid=7, mode=0o700)
    zfs.set_properties("tank", {"dsg:a": "syncs the pool"})
    host.make_directory("/mnt/lost", mode=0o755)
    host.point_link("/mnt/kept", "x")
    node.power_cut()
    host.mount("tank/a", "/mnt", read_only=False)
    state = host.stat("/mnt")
    assert state is not None
    assert state.uid == 7
    assert node.list_directory("/mnt") == ["kept"]


def test_paths_go_through_links_and_mounts(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    for name in ("tank/a", "tank/b"):
        zfs.create(name, {})
    host.make_directory("/data/a", mode=0o755)
    host.mount("tank/a", "/data/a", read_only=False)
    host.make_directory("/data/a/in/b", mode=0o755)
    host.mount("tank/b", "/data/a/in/b", read_only=False)
    node.write_file("/data/a/in/b/f", b"deep")
    host.point_link("/data/a/relative", "in/b")
    host.point_link("/data/absolute", "/data/a/relative")
    host.point_link("/data/up", "a/in/b/../b")
    for path in ("/data/a/relative/f", "/data/absolute/f", "/data/up/f", "/data/absolute/../b/f", "//data/./a/in/b/f"):
        assert node.read_file(path) == b"deep"
    assert [mount.directory for mount in host.mounts()] == ["/data/a", "/data/a/in/b"]
    assert node.content("tank/b") == {"f": b"deep"}
    assert node.content("tank/a") == {}
    host.make_directory("/data/absolute/dir", mode=0o755)
    assert "dir" in node.list_directory("/data/a/in/b")


def test_a_mount_hides_and_shows_again_what_is_below(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    zfs.create("tank/a", {})
    host.make_directory("/mnt", mode=0o755)
    node.write_file("/mnt/below", b"hidden")
    host.mount("tank/a", "/mnt", read_only=False)
    with pytest.raises(NotFound):
        node.read_file("/mnt/below")
    host.unmount("/mnt")
    assert node.read_file("/mnt/below") == b"hidden"


def test_links_in_a_circle_end(node: ModelNode, host: ModelHost) -> None:
    host.point_link("/one", "/two")
    host.point_link("/two", "/one")
    with pytest.raises(InvalidValue):
        node.read_file("/one/f")
    with pytest.raises(InvalidValue):
        host.stat("relative/path")


def test_a_mount_in_use_stays_until_the_power_goes(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    zfs.create("tank/a", {})
    host.make_directory("/mnt", mode=0o755)
    node.sync()
    host.mount("tank/a", "/mnt", read_only=False)
    with node.use("/mnt"):
        with pytest.raises(Busy):
            host.unmount("/mnt")
        node.power_cut()
        host.mount("tank/a", "/mnt", read_only=False)
    host.unmount("/mnt")


def test_two_mounts_of_one_dataset_share_their_flag(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    zfs.create("tank/a", {})
    for directory in ("/one", "/two"):
        host.make_directory(directory, mode=0o755)
    host.mount("tank/a", "/one", read_only=False)
    with pytest.raises(Busy):
        host.mount("tank/a", "/two", read_only=True)
    host.mount("tank/a", "/two", read_only=False)
    host.remount("/one", read_only=True)
    assert [mount.read_only for mount in host.mounts()] == [True, True]
    host.unmount("/one")
    with pytest.raises(Busy):
        zfs.destroy("tank/a")
