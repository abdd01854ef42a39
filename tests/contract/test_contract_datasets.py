"""Versions and pools; creating, reading and destroying datasets."""

from __future__ import annotations

import pytest

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    HasDependents,
    InvalidValue,
    NotFound,
    OutOfSpace,
    PoolNotFound,
    StorageError,
)
from dsg.storage.zfs.interface import DatasetKind

from .bench import FILESYSTEM, SNAPSHOT, Bench


def test_version_is_one_this_project_supports(bench: Bench) -> None:
    found = bench.zfs.version()
    assert (found.major, found.minor) >= (2, 1)


def test_the_pool_is_reported(bench: Bench) -> None:
    pool = bench.zfs.pools()[bench.pool]
    assert pool.name == bench.pool
    assert pool.health == "ONLINE"
    assert pool.guid.isdigit()
    assert pool.guid != "0"
    assert 0 < pool.allocated < pool.size
    assert pool.allocated + pool.free == pytest.approx(pool.size, rel=0.05)
    assert 0 <= pool.capacity_percent <= 100
    assert (pool.read_errors, pool.write_errors, pool.checksum_errors, pool.data_errors) == (0, 0, 0, 0)
    assert not pool.readonly


# ---- create


def test_create_makes_an_unmounted_filesystem(bench: Bench) -> None:
    name = bench.create("a")
    dataset = bench.zfs.read([name], ["mounted", "mountpoint"], depth=0)[name]
    assert dataset.kind is FILESYSTEM
    assert dataset.value("mounted") == "no"
    assert dataset.value("mountpoint") == "legacy"
    assert name not in {mount.dataset for mount in bench.host.mounts()}


def test_create_does_not_mount_a_filesystem_that_has_a_mountpoint(bench: Bench) -> None:
    name = bench.create("a", mountpoint=f"{bench.scratch}/auto")
    assert bench.value(name, "mounted") == "no"
    assert bench.host.stat(f"{bench.scratch}/auto") is None


def test_mountpoints_follow_the_dataset_above(bench: Bench) -> None:
    bench.create("a", mountpoint="/nowhere/a")
    bench.create("a/b")
    found = bench.properties(f"{bench.root}/a/b", "mountpoint")["mountpoint"]
    assert (found.value, found.inherited_from) == ("/nowhere/a/b", f"{bench.root}/a")


def test_create_is_refused_where_something_is_or_the_parent_is_not(bench: Bench) -> None:
    with pytest.raises(AlreadyExists):
        bench.zfs.create(bench.root, {})
    with pytest.raises(NotFound):
        bench.zfs.create(f"{bench.root}/missing/a", {})
    with pytest.raises(PoolNotFound):
        bench.zfs.create("no-such-pool-here/a", {})


def test_create_refuses_names_that_openzfs_does_not_allow(bench: Bench) -> None:
    for name in ("", "a//b", ".", "a/..", "a%b", "a!b", "é", "a@b", "a#b", "tab\tbed", "a/"):
        with pytest.raises(InvalidValue):
            bench.zfs.create(f"{bench.root}/{name}", {})
    assert bench.zfs.read([bench.root], ["guid"]).keys() == {bench.root}


def test_names_may_have_255_bytes_and_no_more(bench: Bench) -> None:
    longest = f"{bench.root}/" + "x" * (255 - len(bench.root) - 1)
    with pytest.raises(InvalidValue):
        bench.zfs.create(longest + "x", {})
    bench.zfs.create(longest, {})
    assert bench.exists(longest)
    spaced = bench.create("with some space")
    assert bench.exists(spaced)


def test_a_refused_create_leaves_nothing_behind(bench: Bench) -> None:
    name = f"{bench.root}/a"
    for properties, error in (
        ({"recordsize": "3"}, InvalidValue),
        ({"org.hrdag.dsg:uid": "x", "bogus": "1"}, InvalidValue),
        ({"quota": "10M", "reservation": "20M"}, OutOfSpace),
        ({"quota": "1K"}, OutOfSpace),
    ):
        with pytest.raises(error):
            bench.zfs.create(name, properties)
    assert not bench.exists(name)


def test_create_below_a_full_quota_is_refused(bench: Bench) -> None:
    used = int(bench.value(bench.root, "used"))
    bench.zfs.set_properties(bench.root, {"quota": str(used + 1024)})
    with pytest.raises(OutOfSpace):
        bench.create("a", reservation="1M")


# ---- read


def test_read_leaves_out_what_does_not_exist(bench: Bench) -> None:
    child = bench.create("a")
    roots = [child, f"{bench.root}/none", f"{bench.root}/none@s", "no-such-pool-here/x", bench.root + "/a@none"]
    assert bench.zfs.read(roots, ["guid"], kinds=[FILESYSTEM, SNAPSHOT]).keys() == {child}
    assert bench.zfs.read([f"{bench.root}/none"], ["guid"]) == {}


def test_read_of_no_roots_is_nothing(bench: Bench) -> None:
    assert bench.zfs.read([], ["guid"]) == {}


def test_read_counts_depth_from_each_root(bench: Bench) -> None:
    root = bench.root
    for name in ("a", "a/b", "a/b/c"):
        bench.create(name)
    assert bench.zfs.read([root], ["guid"], depth=0).keys() == {root}
    assert bench.zfs.read([root], ["guid"], depth=1).keys() == {root, f"{root}/a"}
    assert bench.zfs.read([root, f"{root}/a/b"], ["guid"], depth=1).keys() == {
        root,
        f"{root}/a",
        f"{root}/a/b",
        f"{root}/a/b/c",
    }
    everything = {root, f"{root}/a", f"{root}/a/b", f"{root}/a/b/c"}
    assert bench.zfs.read([root], ["guid"]).keys() == everything
    assert bench.zfs.read([root, f"{root}/a"], ["guid"]).keys() == everything


def test_read_gives_the_kinds_asked_for(bench: Bench) -> None:
    root = bench.root
    bench.create("a")
    bench.zfs.snapshot([f"{root}@s", f"{root}/a@s"])
    both = bench.zfs.read([root], ["guid", "used"], kinds=[FILESYSTEM, SNAPSHOT])
    assert {name: dataset.kind for name, dataset in both.items()} == {
        root: FILESYSTEM,
        f"{root}@s": SNAPSHOT,
        f"{root}/a": FILESYSTEM,
        f"{root}/a@s": SNAPSHOT,
    }
    assert bench.zfs.read([root], ["guid"], kinds=[SNAPSHOT]).keys() == {f"{root}@s", f"{root}/a@s"}
    assert bench.zfs.read([root], ["guid"], kinds=[SNAPSHOT], depth=1).keys() == {f"{root}@s"}
    assert bench.zfs.read([root], ["guid"], kinds=[SNAPSHOT], depth=0) == {}
    assert bench.zfs.read([f"{root}/a@s"], ["guid"], kinds=[SNAPSHOT], depth=0).keys() == {f"{root}/a@s"}
    assert bench.zfs.read([root], ["guid"], kinds=[DatasetKind.VOLUME]) == {}


def test_names_and_properties_are_what_they_were(bench: Bench) -> None:
    bench.create("one")
    first = bench.zfs.read([bench.root], ["guid", "creation", "createtxg"])
    bench.create("two")
    second = bench.zfs.read([bench.root], ["guid", "creation", "createtxg"])
    assert {name: second[name] for name in first} == dict(first)
    guids = [dataset.value("guid") for dataset in second.values()]
    assert len(set(guids)) == len(guids)
    assert second[f"{bench.root}/two"].number("createtxg") > second[f"{bench.root}/one"].number("createtxg")


# ---- destroy


def test_destroy_takes_one_filesystem(bench: Bench) -> None:
    name = bench.create("a")
    bench.zfs.destroy(name)
    assert not bench.exists(name)
    with pytest.raises(NotFound):
        bench.zfs.destroy(name)
    with pytest.raises(NotFound):
        bench.zfs.destroy(f"{bench.root}@none")


def test_destroy_is_never_recursive(bench: Bench) -> None:
    bench.create("a")
    with pytest.raises(HasDependents):
        bench.zfs.destroy(bench.root)
    bench.zfs.snapshot([f"{bench.root}/a@s"])
    with pytest.raises(HasDependents):
        bench.zfs.destroy(f"{bench.root}/a")
    bench.zfs.clone(f"{bench.root}/a@s", f"{bench.root}/c", {})
    with pytest.raises(HasDependents):
        bench.zfs.destroy(f"{bench.root}/a@s")
    assert bench.exists(f"{bench.root}/a@s")
    bench.zfs.destroy(f"{bench.root}/c")
    bench.zfs.destroy(f"{bench.root}/a@s")
    bench.zfs.destroy(f"{bench.root}/a")


def test_a_pool_is_not_destroyed_as_a_dataset(bench: Bench) -> None:
    with pytest.raises(StorageError):
        bench.zfs.destroy(bench.pool)
    assert bench.exists(bench.pool)


def test_destroy_leaves_a_mounted_filesystem_alone(bench: Bench) -> None:
    name = bench.create("a")
    directory = bench.mounted(name)
    bench.write_file(f"{directory}/evidence", b"kept")
    with pytest.raises(Busy):
        bench.zfs.destroy(name)
    assert bench.read_file(f"{directory}/evidence") == b"kept"
    bench.host.unmount(directory)
    bench.zfs.destroy(name)
