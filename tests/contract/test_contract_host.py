"""The file namespace: directories, owners, links, mounts."""

from __future__ import annotations

import threading

import pytest

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    HasDependents,
    NotFound,
    PermissionDenied,
    StorageError,
)
from dsg.storage.host import Mount, PathKind, PathState
from dsg.storage.zfs.interface import Property, Source

from .bench import Bench


def directory_state(bench: Bench, path: str) -> PathState:
    found = bench.host.stat(path)
    assert found is not None
    assert found.kind is PathKind.DIRECTORY
    return found


# ---- directories


def test_make_directory_makes_parents_and_keeps_what_is_there(bench: Bench) -> None:
    path = f"{bench.scratch}/a/b/c"
    bench.host.make_directory(path, mode=0o2770)
    assert directory_state(bench, path) == PathState(PathKind.DIRECTORY, 0, 0, 0o2770)
    parent = directory_state(bench, f"{bench.scratch}/a")
    assert (parent.mode, parent.uid, parent.gid, parent.empty) == (0o755, 0, 0, False)
    bench.host.make_directory(path, mode=0o700)
    assert directory_state(bench, path).mode == 0o2770


def test_make_directory_is_refused_where_something_else_stands(bench: Bench) -> None:
    bench.write_file(f"{bench.scratch}/file", b"x")
    bench.host.point_link(f"{bench.scratch}/link", bench.scratch)
    for name in ("file", "link"):
        with pytest.raises(AlreadyExists):
            bench.host.make_directory(f"{bench.scratch}/{name}", mode=0o755)
    with pytest.raises(StorageError):
        bench.host.make_directory(f"{bench.scratch}/file/below", mode=0o755)


def test_stat_tells_what_stands_at_a_path(bench: Bench) -> None:
    bench.write_file(f"{bench.scratch}/file", b"x")
    bench.host.make_directory(f"{bench.scratch}/dir", mode=0o755)
    bench.host.point_link(f"{bench.scratch}/link", "dir")
    file = bench.host.stat(f"{bench.scratch}/file")
    assert file is not None
    assert file.kind is PathKind.OTHER
    link = bench.host.stat(f"{bench.scratch}/link")
    assert link is not None
    assert (link.kind, link.target) == (PathKind.LINK, "dir")
    assert directory_state(bench, f"{bench.scratch}/dir").empty
    assert not directory_state(bench, bench.scratch).empty
    for absent in ("none", "none/deeper", "file/deeper"):
        assert bench.host.stat(f"{bench.scratch}/{absent}") is None


def test_set_owner_sets_owner_group_and_mode(bench: Bench) -> None:
    path = f"{bench.scratch}/dir"
    bench.host.make_directory(path, mode=0o700)
    bench.host.set_owner(path, uid=1234, gid=4321, mode=0o2775)
    assert directory_state(bench, path) == PathState(PathKind.DIRECTORY, 1234, 4321, 0o2775)
    bench.host.set_owner(path, uid=0, gid=0, mode=0o750)
    assert directory_state(bench, path) == PathState(PathKind.DIRECTORY, 0, 0, 0o750)
    with pytest.raises(NotFound):
        bench.host.set_owner(f"{bench.scratch}/none", uid=0, gid=0, mode=0o755)


def test_set_owner_does_not_follow_a_link(bench: Bench) -> None:
    bench.host.make_directory(f"{bench.scratch}/dir", mode=0o700)
    bench.host.point_link(f"{bench.scratch}/link", f"{bench.scratch}/dir")
    with pytest.raises(StorageError):
        bench.host.set_owner(f"{bench.scratch}/link", uid=1, gid=1, mode=0o777)
    assert directory_state(bench, f"{bench.scratch}/dir") == PathState(PathKind.DIRECTORY, 0, 0, 0o700)


def test_remove_directory_takes_empty_ones_only(bench: Bench) -> None:
    bench.host.make_directory(f"{bench.scratch}/a/b", mode=0o755)
    with pytest.raises(HasDependents):
        bench.host.remove_directory(f"{bench.scratch}/a")
    bench.host.remove_directory(f"{bench.scratch}/a/b")
    bench.host.remove_directory(f"{bench.scratch}/a")
    bench.host.remove_directory(f"{bench.scratch}/a")
    assert bench.host.stat(f"{bench.scratch}/a") is None


# ---- links


def test_point_link_makes_and_replaces_a_link(bench: Bench) -> None:
    for name in ("one", "two"):
        bench.host.make_directory(f"{bench.scratch}/{name}", mode=0o755)
        bench.write_file(f"{bench.scratch}/{name}/f", name.encode())
    link = f"{bench.scratch}/link"
    bench.host.point_link(link, "one")
    assert bench.read_file(f"{link}/f") == b"one"
    bench.host.point_link(link, f"{bench.scratch}/two")
    assert bench.read_file(f"{link}/f") == b"two"
    bench.host.point_link(link, "not there")
    found = bench.host.stat(link)
    assert found is not None
    assert found.target == "not there"
    bench.host.remove_link(link)
    bench.host.remove_link(link)
    assert bench.host.stat(link) is None
    assert directory_state(bench, bench.scratch).empty is False


def test_point_link_leaves_nothing_else_behind(bench: Bench) -> None:
    bench.host.make_directory(f"{bench.scratch}/links", mode=0o755)
    bench.host.point_link(f"{bench.scratch}/links/l", "a")
    bench.host.point_link(f"{bench.scratch}/links/l", "b")
    bench.host.remove_link(f"{bench.scratch}/links/l")
    assert directory_state(bench, f"{bench.scratch}/links").empty


def test_links_never_replace_or_remove_anything_else(bench: Bench) -> None:
    bench.write_file(f"{bench.scratch}/file", b"kept")
    bench.host.make_directory(f"{bench.scratch}/dir", mode=0o755)
    for name in ("file", "dir"):
        with pytest.raises(AlreadyExists):
            bench.host.point_link(f"{bench.scratch}/{name}", "x")
        with pytest.raises(AlreadyExists):
            bench.host.remove_link(f"{bench.scratch}/{name}")
    assert bench.read_file(f"{bench.scratch}/file") == b"kept"
    with pytest.raises(NotFound):
        bench.host.point_link(f"{bench.scratch}/none/link", "x")


def test_readers_see_the_old_link_or_the_new(bench: Bench) -> None:
    for name in ("one", "two"):
        bench.host.make_directory(f"{bench.scratch}/{name}", mode=0o755)
        bench.write_file(f"{bench.scratch}/{name}/f", name.encode())
    link = f"{bench.scratch}/link"
    bench.host.point_link(link, "one")
    seen: set[bytes] = set()
    stop = threading.Event()
    failures: list[Exception] = []

    def reader() -> None:
        while not stop.is_set():
            try:
                seen.add(bench.read_file(f"{link}/f"))
            except (OSError, StorageError) as error:
                failures.append(error)
                return

    thread = threading.Thread(target=reader)
    thread.start()
    for number in range(200):
        bench.host.point_link(link, "two" if number % 2 else "one")
    stop.set()
    thread.join(timeout=30)
    assert failures == []
    assert seen <= {b"one", b"two"}
    assert seen


# ---- mounts


def test_mount_shows_the_dataset_at_the_directory(bench: Bench) -> None:
    a = bench.create("a")
    directory = bench.mounted(a)
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    assert bench.value(a, "mounted") == "yes"
    bench.write_file(f"{directory}/f", b"inside")
    bench.host.unmount(directory)
    assert a not in {mount.dataset for mount in bench.host.mounts()}
    assert directory_state(bench, directory).empty
    bench.host.mount(a, directory, read_only=True)
    assert Mount(a, directory, read_only=True) in bench.host.mounts()
    assert bench.read_file(f"{directory}/f") == b"inside"
    with pytest.raises(PermissionDenied):
        bench.write_file(f"{directory}/f", b"changed")


def test_mounts_are_made_without_devices_and_set_user_id(bench: Bench) -> None:
    """And zfs get shows it, with the source `temporary`; so it does for readonly."""
    a = bench.create("a")
    bench.mounted(a, read_only=True)
    found = bench.properties(a, "devices", "setuid", "readonly", "exec")
    off = Property("off", Source.TEMPORARY)
    assert (found["devices"], found["setuid"]) == (off, off)
    assert found["readonly"] == Property("on", Source.TEMPORARY)
    assert found["exec"] == Property("on", Source.DEFAULT)


def test_mount_is_refused_without_dataset_directory_or_free_place(bench: Bench) -> None:
    a, b = bench.create("a"), bench.create("b")
    with pytest.raises(NotFound):
        bench.mounted(f"{bench.root}/none")
    with pytest.raises(NotFound):
        bench.host.mount(a, f"{bench.scratch}/nowhere", read_only=False)
    directory = bench.mounted(a)
    for dataset in (a, b):
        with pytest.raises(Busy):
            bench.host.mount(dataset, directory, read_only=False)
    assert [mount.dataset for mount in bench.host.mounts() if mount.directory == directory] == [a]


def test_only_legacy_mountpoints_are_mounted_by_hand(bench: Bench) -> None:
    a = bench.create("a", mountpoint="/nowhere/at/all")
    with pytest.raises(StorageError):
        bench.mounted(a)
    assert bench.value(a, "mounted") == "no"


def test_unmount_needs_a_mount_that_nobody_uses(bench: Bench) -> None:
    a, b = bench.create("a"), bench.create("b")
    directory = bench.mounted(a)
    bench.write_file(f"{directory}/f", b"open")
    with bench.in_use(f"{directory}/f"):
        with pytest.raises(Busy):
            bench.host.unmount(directory)
        with pytest.raises(Busy):
            bench.zfs.destroy(a)
    bench.mounted(b, "mnt/inner")
    with pytest.raises(Busy):
        bench.host.unmount(directory)
    with pytest.raises(Busy):
        bench.host.remove_directory(f"{directory}/inner")
    bench.host.unmount(f"{directory}/inner")
    bench.host.unmount(directory)
    with pytest.raises(NotFound):
        bench.host.unmount(directory)
    with pytest.raises(NotFound):
        bench.host.unmount(f"{bench.scratch}/none")


def test_remount_changes_between_read_only_and_writable(bench: Bench) -> None:
    a = bench.create("a")
    directory = bench.mounted(a)
    bench.write_file(f"{directory}/f", b"1")
    with bench.in_use(f"{directory}/f", writing=True), pytest.raises(Busy):
        bench.host.remount(directory, read_only=True)
    with bench.in_use(f"{directory}/f"):
        bench.host.remount(directory, read_only=True)
    assert Mount(a, directory, read_only=True) in bench.host.mounts()
    with pytest.raises(PermissionDenied):
        bench.write_file(f"{directory}/f", b"2")
    bench.host.remount(directory, read_only=False)
    bench.write_file(f"{directory}/f", b"3")
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    with pytest.raises(NotFound):
        bench.host.remount(bench.scratch, read_only=True)


def test_the_readonly_property_changes_mounts_at_once(bench: Bench) -> None:
    a = bench.create("a")
    directory = bench.mounted(a)
    bench.zfs.set_properties(bench.root, {"readonly": "on"})
    assert Mount(a, directory, read_only=True) in bench.host.mounts()
    with pytest.raises(PermissionDenied):
        bench.write_file(f"{directory}/f", b"x")
    bench.zfs.set_properties(a, {"readonly": "off"})
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    bench.write_file(f"{directory}/f", b"x")


def test_owner_and_mode_of_a_mounted_root_belong_to_the_dataset(bench: Bench) -> None:
    a, c = bench.create("a"), f"{bench.root}/c"
    directory = bench.mounted(a)
    bench.host.set_owner(directory, uid=77, gid=88, mode=0o2770)
    bench.host.make_directory(f"{directory}/data", mode=0o750)
    bench.zfs.snapshot([f"{a}@s"])
    bench.host.unmount(directory)
    assert directory_state(bench, directory) == PathState(PathKind.DIRECTORY, 0, 0, 0o755)
    bench.zfs.clone(f"{a}@s", c, {})
    bench.host.mount(c, directory, read_only=False)
    assert directory_state(bench, directory) == PathState(PathKind.DIRECTORY, 77, 88, 0o2770, empty=False)
    assert directory_state(bench, f"{directory}/data").mode == 0o750


def test_mounts_come_in_the_order_they_were_made(bench: Bench) -> None:
    names = [bench.create(letter) for letter in "cab"]
    for name in names:
        bench.mounted(name, name.rpartition("/")[2])
    bench.host.remount(f"{bench.scratch}/c", read_only=True)
    assert [mount.dataset for mount in bench.host.mounts() if mount.dataset in names] == names


def test_directories_with_odd_names_are_mounted_and_told(bench: Bench) -> None:
    a = bench.create("with space")
    directory = bench.mounted(a, "Été 2024 \\ tab\there")
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    bench.host.unmount(directory)
