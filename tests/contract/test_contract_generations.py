"""What transactions build on: mounted snapshots, clones and their quotas, promotes, renames, former heads."""

from __future__ import annotations

import os

import pytest

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    HasDependents,
    InvalidValue,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
)
from dsg.storage.host import Mount

from .bench import Bench

MIB = 1 << 20


def fresh(size: int) -> bytes:
    """Return bytes that no file system stores in less."""
    return os.urandom(size)


def version(bench: Bench, content: bytes = b"first") -> str:
    """Make a filesystem with one file and a snapshot s, not mounted."""
    a = bench.create("a")
    directory = bench.mounted(a, "a")
    bench.write_file(f"{directory}/f", content)
    bench.zfs.snapshot([f"{a}@s"])
    bench.host.unmount(directory)
    return a


# ---- mounted snapshots


def test_a_snapshot_is_mounted_read_only_and_told(bench: Bench) -> None:
    a = version(bench)
    directory = bench.mounted(a, "a")
    bench.write_file(f"{directory}/f", b"second")
    old = bench.mounted(f"{a}@s", "old")
    assert Mount(f"{a}@s", old, read_only=True) in bench.host.mounts()
    assert (bench.read_file(f"{old}/f"), bench.read_file(f"{directory}/f")) == (b"first", b"second")
    with pytest.raises(PermissionDenied):
        bench.write_file(f"{old}/f", b"changed")
    with pytest.raises(InvalidValue):
        bench.host.remount(old, read_only=False)
    bench.host.remount(old, read_only=True)
    assert Mount(f"{a}@s", old, read_only=True) in bench.host.mounts()
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    bench.host.unmount(directory)
    assert bench.value(a, "mounted") == "no"
    with bench.in_use(f"{old}/f"), pytest.raises(Busy):
        bench.host.unmount(old)
    bench.host.unmount(old)
    assert f"{a}@s" not in {mount.dataset for mount in bench.host.mounts()}


def test_a_snapshot_can_be_mounted_twice_and_without_a_legacy_mountpoint(bench: Bench) -> None:
    a = bench.create("a", mountpoint="/nowhere/at/all")
    bench.zfs.snapshot([f"{a}@s"])
    for name in ("one", "two"):
        bench.mounted(f"{a}@s", name)
    assert [m.directory for m in bench.host.mounts() if m.dataset == f"{a}@s"] == [
        f"{bench.scratch}/one",
        f"{bench.scratch}/two",
    ]
    bench.host.unmount(f"{bench.scratch}/two")
    with pytest.raises(Busy):
        bench.zfs.destroy(f"{a}@s")
    bench.host.unmount(f"{bench.scratch}/one")
    bench.zfs.destroy(f"{a}@s")


def test_a_snapshot_needs_an_empty_directory_of_its_own(bench: Bench) -> None:
    a = version(bench)
    directory = f"{bench.scratch}/full"
    bench.host.make_directory(directory, mode=0o755)
    bench.write_file(f"{directory}/file", b"x")
    with pytest.raises(Busy):
        bench.host.mount(f"{a}@s", directory, read_only=True)
    with pytest.raises(NotFound):
        bench.mounted(f"{a}@none", "old")
    with pytest.raises(NotFound):
        bench.host.mount(f"{a}@s", f"{bench.scratch}/nowhere", read_only=True)
    bench.mounted(f"{a}@s", "s")
    with pytest.raises(Busy):
        bench.host.mount(a, f"{bench.scratch}/s", read_only=True)


def test_a_mounted_snapshot_is_neither_destroyed_nor_moved(bench: Bench) -> None:
    """A long hold: destroying it, and promoting a clone of it or of a later one, is refused and changes nothing."""
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.snapshot([f"{a}@t"])
    bench.zfs.snapshot([f"{a}@u"])
    old = bench.mounted(f"{a}@s", "old")
    with pytest.raises(Busy):
        bench.zfs.destroy(f"{a}@s")
    with pytest.raises(Busy):
        bench.zfs.destroy_snapshots(a, ["t", "s"])
    bench.zfs.clone(f"{a}@t", b, {})
    with pytest.raises(Busy):
        bench.zfs.promote(b)
    assert list(bench.snapshots(a)) == [f"{a}@s", f"{a}@t", f"{a}@u"]
    source = "local argv = (...).argv\nreturn zfs.check.promote(argv[1])"
    assert bench.run(source, b) != 0
    bench.host.unmount(old)
    assert bench.run(source, b) == 0
    later = bench.mounted(f"{a}@u", "later")
    bench.zfs.promote(b)
    assert list(bench.snapshots(b)) == [f"{b}@s", f"{b}@t"]
    assert bench.read_file(f"{later}/f") == b"first"


def test_a_key_in_use_by_a_mounted_snapshot_stays(bench: Bench) -> None:
    location = bench.key_file("key", bytes(32))
    a = bench.create("e", encryption="on", keyformat="raw", keylocation=location)
    bench.zfs.snapshot([f"{a}@s"])
    old = bench.mounted(f"{a}@s", "old")
    with pytest.raises(Busy):
        bench.zfs.unload_key(a)
    bench.host.unmount(old)
    bench.zfs.unload_key(a)
    with pytest.raises(StorageError):
        bench.mounted(f"{a}@s", "old")


# ---- renames


def test_mounts_follow_a_rename_at_once(bench: Bench) -> None:
    a, b = version(bench), f"{bench.root}/b"
    directory, old = bench.mounted(a, "a"), bench.mounted(f"{a}@s", "old")
    with bench.in_use(f"{directory}/f", writing=True):
        bench.zfs.rename(a, b)
    found = [(m.dataset, m.directory) for m in bench.host.mounts() if m.directory.startswith(bench.scratch)]
    assert found == [(b, directory), (f"{b}@s", old)]
    bench.write_file(f"{directory}/f", b"still writable")
    assert bench.value(b, "mounted") == "yes"
    bench.host.unmount(directory)
    bench.host.mount(b, directory, read_only=True)
    assert bench.read_file(f"{directory}/f") == b"still writable"


# ---- clones


def test_a_clones_quota_counts_only_what_it_wrote_itself(bench: Bench) -> None:
    """And it must go before the promote, which makes the clone pay for what it shared."""
    a, b = version(bench, fresh(8 * MIB)), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {"quota": str(3 * MIB)})
    directory = bench.mounted(b, "b")
    bench.write_file(f"{directory}/g", fresh(MIB), sync=True)
    bench.sync()
    assert int(bench.value(b, "referenced")) > 8 * MIB
    assert int(bench.value(b, "used")) < 2 * MIB
    assert int(bench.value(b, "available")) < 2 * MIB
    with pytest.raises(QuotaExceeded):
        for number in range(8):
            bench.write_file(f"{directory}/more{number}", fresh(MIB), sync=True)
            bench.sync()
    bench.host.unmount(directory)
    bench.zfs.snapshot([f"{b}@t"])
    with pytest.raises(OutOfSpace):
        bench.zfs.promote(b)
    assert list(bench.snapshots(b)) == [f"{b}@t"]
    bench.zfs.set_properties(b, {"quota": "none"})
    bench.zfs.promote(b)
    assert list(bench.snapshots(b)) == [f"{b}@s", f"{b}@t"]


def test_a_clone_is_told_by_its_name(bench: Bench) -> None:
    """A second call finds the first one's clone, whose properties a power cut may have taken."""
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {"org.hrdag.dsg:transaction": "u1"})
    with pytest.raises(AlreadyExists):
        bench.zfs.clone(f"{a}@s", b, {"org.hrdag.dsg:transaction": "u2"})
    assert bench.value(b, "org.hrdag.dsg:transaction") == "u1"


def test_a_former_head_is_destroyed_and_takes_nothing_along(bench: Bench) -> None:
    """One that owns its origin can't be; after the promote it owns nothing, and is destroyed once it is unmounted."""
    a, b = version(bench), f"{bench.root}/b"
    bench.zfs.clone(f"{a}@s", b, {})
    with pytest.raises(HasDependents):
        bench.zfs.destroy(a)
    directory = bench.mounted(a, "a", read_only=True)
    new = bench.mounted(b, "b")
    bench.write_file(f"{new}/g", b"new")
    bench.zfs.snapshot([f"{b}@t"])
    bench.zfs.promote(b)
    with pytest.raises(Busy):
        bench.zfs.destroy(a)
    assert bench.read_file(f"{directory}/f") == b"first"
    bench.host.unmount(directory)
    bench.zfs.destroy(a)
    assert list(bench.snapshots(b)) == [f"{b}@s", f"{b}@t"]
    assert bench.value(b, "origin") == "-"
    assert (bench.read_file(f"{new}/f"), bench.read_file(f"{new}/g")) == (b"first", b"new")


def test_a_writable_mount_in_use_is_not_unmounted(bench: Bench) -> None:
    a = version(bench)
    directory = bench.mounted(a, "a")
    for writing in (True, False):
        with bench.in_use(f"{directory}/f", writing=writing), pytest.raises(Busy):
            bench.host.unmount(directory)
    assert Mount(a, directory, read_only=False) in bench.host.mounts()
    bench.host.unmount(directory)
