"""Renaming filesystems."""

from __future__ import annotations

import pytest

from dsg.storage.errors import AlreadyExists, InvalidValue, NotFound, OutOfSpace, StorageError

from .bench import Bench


def test_rename_takes_along_properties_children_and_snapshots(bench: Bench) -> None:
    name = bench.create("a", **{"compression": "lz4", "org.hrdag.dsg:uid": "u1"})
    bench.create("a/g1")
    bench.zfs.snapshot([f"{name}/g1@s1"])
    guid = bench.value(name, "guid")
    new = f"{bench.root}/b"
    bench.zfs.rename(name, new)
    assert not bench.exists(name)
    assert bench.value(new, "guid") == guid
    assert bench.properties(new, "compression")["compression"].source == "local"
    inherited = bench.properties(f"{new}/g1", "org.hrdag.dsg:uid")["org.hrdag.dsg:uid"]
    assert (inherited.value, inherited.inherited_from) == ("u1", new)
    assert bench.exists(f"{new}/g1@s1")


def test_a_mounted_filesystem_is_renamed_and_stays_mounted(bench: Bench) -> None:
    name = bench.create("a")
    directory = bench.mounted(name)
    bench.write_file(f"{directory}/file", b"content")
    bench.zfs.rename(name, f"{bench.root}/b")
    assert bench.read_file(f"{directory}/file") == b"content"


def test_rename_refuses_and_changes_nothing(bench: Bench) -> None:
    name = bench.create("a")
    bench.create("taken")
    refused: dict[str, type[StorageError]] = {"taken": AlreadyExists, "nowhere/b": NotFound, "a/below": InvalidValue}
    for new, error in refused.items():
        with pytest.raises(error):
            bench.zfs.rename(name, f"{bench.root}/{new}")
    assert bench.exists(name)


def test_rename_needs_room_for_names_and_below_quotas(bench: Bench) -> None:
    name = bench.create("a", reservation="2M")
    bench.create("small", quota="1M")
    with pytest.raises(OutOfSpace):
        bench.zfs.rename(name, f"{bench.root}/small/a")
    child = bench.create("a/" + "x" * (247 - len(name)))
    with pytest.raises(InvalidValue):
        bench.zfs.rename(name, f"{bench.root}/longer-name")
    assert bench.exists(child)


def test_an_encrypted_child_stays_below_its_root(bench: Bench) -> None:
    location = bench.key_file("key", bytes(32))
    name = bench.create("e", encryption="on", keyformat="raw", keylocation=location)
    child = bench.create("e/child")
    with pytest.raises(StorageError):
        bench.zfs.rename(child, f"{bench.root}/out")
    bench.zfs.rename(name, f"{bench.root}/f")
    assert bench.value(f"{bench.root}/f/child", "encryptionroot") == f"{bench.root}/f"


def test_rename_of_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.zfs.rename(f"{bench.root}/ghost", f"{bench.root}/b")
