"""Encryption at rest: the key is a file on the node; without it nothing is created, and it is loaded after a reboot."""

from __future__ import annotations

from typing import Any

from dsg.reconcile.cluster import Key
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import World

DATASET = "tank/dsg/justice"
KEY_FILE = "/etc/dsg/keys/justice"


def encrypted(**changes: Any) -> dict[str, Any]:
    return repository(encryption={"algorithm": "aes-256-gcm", "keyFile": KEY_FILE}, **changes)


def world_with_key() -> World:
    world = World()
    world.node.key_files[KEY_FILE] = bytes(range(32))
    world.apply(pool(), encrypted())
    world.run()
    return world


def test_an_encrypted_repository_is_created_encrypted() -> None:
    world = world_with_key()
    assert world.ready() == ("True", "Reconciled")
    assert world.value(DATASET, "encryption") == "aes-256-gcm"
    assert world.value(f"{DATASET}/g1", "encryption") == "aes-256-gcm"
    assert world.local(DATASET, "keylocation") == f"file://{KEY_FILE}"
    world.quiet()


def test_after_a_reboot_the_key_is_loaded_and_the_data_shown_again() -> None:
    world = world_with_key()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    world.node.power_cut()
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    assert world.told("DriftCorrected") == []
    world.quiet()


def test_without_its_key_nothing_is_created_and_it_heals_when_the_key_is_there() -> None:
    world = World()
    world.apply(pool(), encrypted())
    world.run()
    assert world.ready() == ("False", "KeyUnavailable")
    assert world.datasets() == {"tank", "tank/dsg"}
    world.node.key_files[KEY_FILE] = bytes(32)
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_a_key_that_is_gone_after_a_reboot_is_told_and_nothing_is_lost() -> None:
    world = world_with_key()
    key = world.node.key_files.pop(KEY_FILE)
    world.node.power_cut()
    world.run()
    assert world.ready() == ("False", "KeyUnavailable")
    assert KEY_FILE in world.condition("Ready")["message"] or DATASET in world.condition("Ready")["message"]
    world.node.key_files[KEY_FILE] = key
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_an_encrypted_repository_can_be_destroyed_without_its_key() -> None:
    world = world_with_key()
    world.node.key_files.clear()
    world.node.power_cut()
    obj = encrypted()
    obj["spec"]["deletionPolicy"] = "Delete"
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(obj)
    world.cluster.delete(Key("Repository", "research", "justice"))
    world.run()
    assert world.datasets() == {"tank", "tank/dsg"}


def test_encryption_is_not_added_to_what_exists() -> None:
    world = World()
    world.apply(pool(), repository())
    world.run()
    world.cluster.delete(Key("Repository", "research", "justice"))
    world.run()
    world.node.key_files[KEY_FILE] = bytes(32)
    world.apply(encrypted(adopt=True))
    world.run()
    assert world.ready() == ("False", "PropertyRefused")
    assert "can't change" in world.condition("Ready")["message"]
