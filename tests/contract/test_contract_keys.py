"""Encryption: keys from files and given ones, loaded, tried, replaced and forgotten."""

from __future__ import annotations

import pytest

from dsg.storage.errors import Busy, InvalidValue, KeyUnavailable, KeyWrong, NotFound, StorageError
from dsg.storage.keys import WrappingKey

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


GIVEN = {"encryption": "aes-256-gcm", "keyformat": "raw", "keylocation": "prompt"}
MINE, NEXT = WrappingKey(KEY), WrappingKey(OTHER)


def prompted(bench: Bench) -> str:
    name = f"{bench.root}/e"
    bench.zfs.create(name, GIVEN, key=MINE)
    bench.zfs.create(f"{name}/child", {})
    return name


def test_a_key_that_is_given_lies_nowhere(bench: Bench) -> None:
    name = prompted(bench)
    found = bench.properties(f"{name}/child", "encryptionroot", "keystatus", "keyformat")
    assert {key: value.value for key, value in found.items()} == {
        "encryptionroot": name,
        "keystatus": "available",
        "keyformat": "raw",
    }
    assert bench.value(name, "keylocation") == "prompt"
    bench.zfs.unload_key(name)
    with pytest.raises(KeyUnavailable):
        bench.zfs.load_key(name)
    assert bench.value(name, "keystatus") == "unavailable"
    bench.zfs.load_key(name, MINE)
    bench.zfs.load_key(name, MINE)
    assert bench.value(name, "keystatus") == "available"


def test_creating_with_a_prompt_needs_a_key(bench: Bench) -> None:
    with pytest.raises(KeyUnavailable):
        bench.zfs.create(f"{bench.root}/e", GIVEN)
    assert not bench.exists(f"{bench.root}/e")


def test_a_wrong_key_that_is_given_opens_nothing(bench: Bench) -> None:
    name = prompted(bench)
    bench.zfs.unload_key(name)
    with pytest.raises(KeyWrong):
        bench.zfs.load_key(name, NEXT)
    assert bench.value(name, "keystatus") == "unavailable"


def test_a_key_file_can_be_passed_over(bench: Bench) -> None:
    name = encrypted(bench)
    bench.zfs.unload_key(name)
    bench.key_file("key", None)
    bench.zfs.load_key(name, MINE)
    assert bench.value(name, "keystatus") == "available"


def test_a_key_is_tried_without_being_loaded(bench: Bench) -> None:
    name = prompted(bench)
    for _ in range(2):
        assert bench.zfs.opens(name, MINE)
        assert not bench.zfs.opens(name, NEXT)
        # While it is loaded, and again while it is not.
        if bench.value(name, "keystatus") == "available":
            bench.zfs.unload_key(name)
    assert bench.value(name, "keystatus") == "unavailable"
    with pytest.raises(NotFound):
        bench.zfs.opens(f"{bench.root}/none", MINE)
    for dataset in (bench.root, f"{name}/child"):
        with pytest.raises(InvalidValue):
            bench.zfs.opens(dataset, MINE)


def test_a_key_is_replaced_while_files_are_open(bench: Bench) -> None:
    name = prompted(bench)
    directory = bench.mounted(f"{name}/child")
    bench.write_file(f"{directory}/evidence", b"irreplaceable", sync=True)
    bench.zfs.snapshot([f"{name}/child@s"])
    bench.zfs.clone(f"{name}/child@s", f"{name}/clone", {})
    with bench.in_use(f"{directory}/evidence"):
        bench.zfs.change_key(name, NEXT)
    assert bench.read_file(f"{directory}/evidence") == b"irreplaceable"
    assert bench.zfs.opens(name, NEXT)
    assert not bench.zfs.opens(name, MINE)
    bench.host.unmount(directory)
    bench.zfs.unload_key(name)
    with pytest.raises(KeyWrong):
        bench.zfs.load_key(name, MINE)
    bench.zfs.load_key(name, NEXT)
    for dataset in (f"{name}/child", f"{name}/clone"):
        assert bench.value(dataset, "encryptionroot") == name
        assert bench.value(dataset, "keystatus") == "available"
    bench.host.mount(f"{name}/clone", directory, read_only=True)
    assert bench.read_file(f"{directory}/evidence") == b"irreplaceable"


def test_a_key_from_a_file_is_replaced_by_one_that_is_given(bench: Bench) -> None:
    name = encrypted(bench)
    bench.zfs.change_key(name, NEXT)
    assert bench.value(name, "keylocation") == "prompt"
    bench.zfs.unload_key(name)
    bench.zfs.load_key(name, NEXT)


def test_a_key_is_replaced_only_while_the_present_one_is_loaded(bench: Bench) -> None:
    name = prompted(bench)
    bench.zfs.unload_key(name)
    with pytest.raises(KeyUnavailable):
        bench.zfs.change_key(name, NEXT)
    assert bench.zfs.opens(name, MINE)
    with pytest.raises(InvalidValue):
        bench.zfs.change_key(bench.root, NEXT)
    with pytest.raises(NotFound):
        bench.zfs.change_key(f"{bench.root}/none", NEXT)
