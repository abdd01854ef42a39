"""Renaming filesystems."""

from __future__ import annotations

import pytest

from dsg.storage.errors import AlreadyExists, InvalidValue, NotFound, StorageError

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


@pytest.mark.parametrize(
    ("new", "error"),
    [("taken", AlreadyExists), ("nowhere/b", NotFound), ("a/below", InvalidValue)],
)
def test_rename_refuses_and_changes_nothing(bench: Bench, new: str, error: type[StorageError]) -> None:
    name = bench.create("a")
    bench.create("taken")
    with pytest.raises(error):
        bench.zfs.rename(name, f"{bench.root}/{new}")
    assert bench.exists(name)


def test_rename_of_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.zfs.rename(f"{bench.root}/ghost", f"{bench.root}/b")
