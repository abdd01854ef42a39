"""Encryption: keys from files, loaded and forgotten."""

from __future__ import annotations

import pytest

from dsg.storage.errors import Busy, InvalidValue, KeyUnavailable, NotFound, StorageError

from .bench import Bench

KEY, OTHER = bytes(range(32)), bytes(reversed(range(32)))


def encrypted(bench: Bench) -> str:
    location = bench.key_file("key", KEY)
    name = bench.create("e", encryption="aes-256-gcm", keyformat="raw", keylocation=location)
    bench.create("e/child")
    return name


def test_an_encrypted_filesystem_shows_its_root_and_its_key(bench: Bench) -> None:
    name = encrypted(bench)
    for dataset in (name, f"{name}/child"):
        found = bench.properties(dataset, "encryption", "keystatus", "encryptionroot", "keyformat")
        assert {key: value.value for key, value in found.items()} == {
            "encryption": "aes-256-gcm",
            "keystatus": "available",
            "encryptionroot": name,
            "keyformat": "raw",
        }
    assert bench.value(name, "keylocation") == bench.key_file("key", KEY)
    assert bench.value(f"{name}/child", "keylocation") == "none"
    assert bench.value(bench.root, "keystatus") == "-"


def test_without_its_key_nothing_is_mounted_or_created(bench: Bench) -> None:
    name = encrypted(bench)
    bench.zfs.unload_key(name)
    assert bench.value(f"{name}/child", "keystatus") == "unavailable"
    with pytest.raises(KeyUnavailable):
        bench.mounted(f"{name}/child")
    with pytest.raises(KeyUnavailable):
        bench.zfs.create(f"{name}/second", {})
    bench.zfs.load_key(name)
    assert bench.value(f"{name}/child", "keystatus") == "available"
    bench.zfs.load_key(name)
    bench.host.mount(f"{name}/child", f"{bench.scratch}/mnt", read_only=False)


def test_a_key_in_use_is_not_unloaded(bench: Bench) -> None:
    name = encrypted(bench)
    directory = bench.mounted(f"{name}/child")
    with pytest.raises(Busy):
        bench.zfs.unload_key(name)
    bench.host.unmount(directory)
    bench.zfs.unload_key(name)
    with pytest.raises(KeyUnavailable):
        bench.zfs.unload_key(name)


def test_only_the_right_key_is_loaded(bench: Bench) -> None:
    name = encrypted(bench)
    bench.zfs.unload_key(name)
    for content in (OTHER, KEY[:31], None):
        bench.key_file("key", content)
        with pytest.raises(KeyUnavailable):
            bench.zfs.load_key(name)
    assert bench.value(name, "keystatus") == "unavailable"
    bench.zfs.set_properties(name, {"keylocation": bench.key_file("moved", KEY)})
    bench.zfs.load_key(name)
    assert bench.value(name, "keystatus") == "available"


def test_creating_needs_a_key_and_a_format(bench: Bench) -> None:
    name = f"{bench.root}/e"
    missing = bench.key_file("missing", None)
    with pytest.raises(KeyUnavailable):
        bench.zfs.create(name, {"encryption": "on", "keyformat": "raw", "keylocation": missing})
    with pytest.raises(InvalidValue):
        bench.zfs.create(name, {"encryption": "on"})
    with pytest.raises(InvalidValue):
        bench.zfs.create(name, {"keyformat": "raw", "keylocation": bench.key_file("key", KEY)})
    assert not bench.exists(name)


def test_keys_belong_to_encryption_roots(bench: Bench) -> None:
    name = encrypted(bench)
    with pytest.raises(NotFound):
        bench.zfs.load_key(f"{bench.root}/none")
    with pytest.raises(NotFound):
        bench.zfs.unload_key(f"{bench.root}/none")
    for call in (bench.zfs.load_key, bench.zfs.unload_key):
        for dataset in (bench.root, f"{name}/child"):
            with pytest.raises(StorageError):
                call(dataset)


def test_a_clone_keeps_the_encryption_of_its_origin(bench: Bench) -> None:
    name = encrypted(bench)
    bench.zfs.snapshot([f"{name}/child@s"])
    bench.zfs.clone(f"{name}/child@s", f"{name}/clone", {})
    found = bench.properties(f"{name}/clone", "encryptionroot", "keystatus")
    assert (found["encryptionroot"].value, found["keystatus"].value) == (name, "available")
