"""Encryption with the key in a Secret: created, unlocked, replaced; what is wrong with it is told, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsg.reconcile.cluster import Key
from dsg.reconcile.keyring import COMPARE_EVERY, TRY_EVERY
from dsg.storage.errors import OutOfSpace
from dsg.storage.keys import WrappingKey, WrongLength
from dsg.storage.zfs import layout
from dsg.storage.zfs.model import Moment
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import World

DATASET = "tank/dsg/justice"
SECRET = ("research", "keys")
OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))


def encrypted(**changes: Any) -> dict[str, Any]:
    reference = {"name": "keys", "key": "justice"}
    return repository(encryption={"algorithm": "aes-256-gcm", "secretRef": reference}, **changes)


def world_with_secret(**entries: bytes) -> World:
    world = World()
    world.cluster.secrets[SECRET] = entries or {"justice": OLD}
    world.apply(pool(), encrypted())
    world.run()
    return world


def open_world() -> World:
    world = world_with_secret()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    return world


def replace(world: World, current: bytes, previous: bytes | None = None) -> None:
    """Put keys into the Secret."""
    entries = {"justice": current}
    world.cluster.secrets[SECRET] = entries if previous is None else {**entries, "justice.previous": previous}


def later(world: World) -> None:
    """Let the operator look when it looks at Secrets again by itself."""
    world.now += COMPARE_EVERY
    world.run()


def key(world: World) -> bytes | None:
    return world.node.dataset(DATASET).key


def test_a_repository_is_created_with_the_key_of_its_secret() -> None:
    world = world_with_secret()
    assert world.ready() == ("True", "Reconciled")
    assert key(world) == OLD
    assert world.local(DATASET, "keylocation") == "prompt"
    assert world.value(f"{DATASET}/g1", "encryptionroot") == DATASET
    assert world.condition("Unlocked")["reason"] == "KeyLoaded"
    assert world.get()["status"]["storage"]["key"] == "Loaded"
    world.quiet()


def test_after_a_reboot_the_key_is_read_again_and_the_data_shown() -> None:
    world = open_world()
    world.node.power_cut()
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    assert world.told("DriftCorrected") == []
    world.quiet()


def missing(world: World) -> None:
    del world.cluster.secrets[SECRET]


def no_entry(world: World) -> None:
    world.cluster.secrets[SECRET] = {"other": OLD}


def forbidden(world: World) -> None:
    world.cluster.forbidden.add(SECRET)


def line_break(world: World) -> None:
    world.cluster.secrets[SECRET] = {"justice": OLD + b"\n"}


def bad_previous(world: World) -> None:
    world.cluster.secrets[SECRET] = {"justice": OLD, "justice.previous": b"short"}


WRONG: dict[str, tuple[Callable[[World], None], str]] = {
    "missing": (missing, "KeyUnavailable"),
    "no entry": (no_entry, "KeyUnavailable"),
    "forbidden": (forbidden, "KeyForbidden"),
    "line break": (line_break, "KeyInvalid"),
    "bad previous": (bad_previous, "KeyInvalid"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_without_a_key_nothing_is_created_and_it_heals(wrong: str) -> None:
    spoil, reason = WRONG[wrong]
    world = World()
    world.cluster.secrets[SECRET] = {"justice": OLD}
    spoil(world)
    world.apply(pool(), encrypted())
    world.run()
    assert world.ready() == ("False", reason)
    assert "research/keys" in world.condition("Ready")["message"]
    assert world.datasets() == {"tank", "tank/dsg"}
    world.cluster.forbidden.clear()
    replace(world, OLD)
    world.run()
    assert world.ready() == ("True", "Reconciled")


@pytest.mark.parametrize("wrong", WRONG)
def test_without_a_key_a_locked_repository_stays_locked_says_so_and_heals(wrong: str) -> None:
    spoil, reason = WRONG[wrong]
    world = open_world()
    spoil(world)
    world.node.power_cut()
    world.run()
    assert world.ready() == ("False", reason)
    assert (world.condition("Unlocked")["status"], world.condition("Unlocked")["reason"]) == ("False", "KeyLocked")
    assert world.get()["status"]["storage"]["key"] == "Locked"
    world.cluster.forbidden.clear()
    replace(world, OLD)
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.condition("Unlocked")["reason"] == "KeyLoaded"
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"


@pytest.mark.parametrize("wrong", WRONG)
def test_while_the_key_is_loaded_work_goes_on_and_the_danger_is_told(wrong: str) -> None:
    spoil, _ = WRONG[wrong]
    world = open_world()
    spoil(world)
    later(world)
    assert world.ready() == ("True", "Reconciled")
    lock = world.condition("Unlocked")
    assert (lock["status"], lock["reason"]) == ("True", "KeyAtRisk")
    assert "after a reboot" in lock["message"]
    assert len(world.told("KeyAtRisk")) == 1
    assert key(world) == OLD
    world.cluster.forbidden.clear()
    replace(world, OLD)
    world.run()
    assert world.condition("Unlocked")["reason"] == "KeyLoaded"
    world.quiet()


def test_a_key_that_opens_nothing_is_told_apart() -> None:
    world = open_world()
    replace(world, OTHER)
    world.node.power_cut()
    world.run()
    assert world.ready() == ("False", "KeyWrong")
    assert "with .previous after its name" in world.condition("Ready")["message"]
    assert key(world) == OLD
    replace(world, OLD)
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_a_replaced_key_is_taken_over_while_people_work() -> None:
    world = open_world()
    replace(world, NEW)
    later(world)
    assert key(world) == NEW
    assert world.ready() == ("True", "Reconciled")
    assert any("let tank/dsg/justice have the key" in text for text in world.told("Updated"))
    world.quiet()
    world.node.power_cut()
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"


def test_a_look_that_was_asked_for_sees_a_replaced_key_at_once() -> None:
    world = open_world()
    replace(world, NEW)
    world.run()
    assert key(world) == OLD
    obj = encrypted()
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/requestedAt": "now"}
    world.apply(obj)
    world.run()
    assert key(world) == NEW


def test_a_key_replaced_while_locked_needs_both() -> None:
    world = open_world()
    world.node.power_cut()
    replace(world, NEW)
    world.run()
    assert world.ready() == ("False", "KeyWrong")
    replace(world, NEW, OLD)
    world.run()
    assert key(world) == NEW
    assert world.ready() == ("True", "Reconciled")
    replace(world, NEW)
    world.node.power_cut()
    world.run()
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


def test_a_suspended_repository_keeps_its_key() -> None:
    world = open_world()
    replace(world, NEW)
    obj = encrypted()
    obj["spec"]["suspend"] = True
    world.apply(obj)
    later(world)
    assert key(world) == OLD
    assert any("have the key" in step for step in world.get()["status"]["plan"])


def test_what_a_suspended_repository_would_get_stays_in_its_plan() -> None:
    world = open_world()
    replace(world, NEW)
    obj = encrypted()
    obj["spec"]["suspend"] = True
    world.apply(obj)
    later(world)
    plan = world.get()["status"]["plan"]
    for _ in range(3):
        world.now += timedelta(seconds=60)
        world.run()
        assert world.get()["status"]["plan"] == plan
    assert len(plan) == 1


def test_a_key_that_could_not_be_replaced_is_replaced_at_the_next_look() -> None:
    world = open_world()
    replace(world, NEW)

    def full(moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        if operation == "zfs.change_key":
            raise OutOfSpace("out of space")

    world.node.faults = full
    later(world)
    assert world.ready()[1] == "OutOfSpace"
    world.run()
    assert world.ready()[1] == "OutOfSpace"
    world.node.faults = None
    world.run()
    assert (key(world), world.ready()) == (NEW, ("True", "Reconciled"))


def by_hand(world: World, material: bytes) -> None:
    """Let the administrator give the dataset another key."""
    world.zfs.change_key(DATASET, WrappingKey(material))


def test_another_key_given_by_hand_is_set_back_before_a_reboot_makes_it_a_loss() -> None:
    world = open_world()
    by_hand(world, OTHER)
    world.now += TRY_EVERY
    world.run()
    assert key(world) == OLD
    assert world.told("DriftCorrected") == [
        f"wrapping key of {DATASET}: another → that of Secret research/keys, entry justice"
    ]
    world.quiet()


def test_another_key_given_by_hand_is_seen_by_a_new_operator() -> None:
    world = open_world()
    by_hand(world, OTHER)
    world.restart()
    world.run()
    assert key(world) == OLD
    assert len(world.told("DriftCorrected")) == 1


def test_under_report_another_key_is_told_and_left() -> None:
    world = open_world()
    obj = encrypted()
    obj["spec"]["driftPolicy"] = "Report"
    by_hand(world, OTHER)
    world.apply(obj)
    for _ in range(3):
        world.now += timedelta(seconds=60)
        world.run()
        assert key(world) == OTHER
        assert [found["field"] for found in world.get()["status"]["drift"]] == ["wrapping key"]
    by_hand(world, OLD)
    world.run()
    assert world.get()["status"]["drift"] == []


def test_keys_are_tried_at_the_first_look_and_then_once_a_day() -> None:
    world = open_world()

    def tried() -> int:
        before = world.node.calls["zfs.opens"]
        later(world)
        return world.node.calls["zfs.opens"] - before

    assert [tried() for _ in range(4)] == [1, 0, 0, 0]
    world.now += TRY_EVERY
    assert tried() == 1


def test_secrets_are_not_read_at_every_look() -> None:
    world = open_world()
    before = world.cluster.secrets_read
    for _ in range(10):
        world.now += timedelta(seconds=10)
        world.run()
    assert world.cluster.secrets_read == before
    later(world)
    assert world.cluster.secrets_read == before + 1


def test_a_silent_api_server_hides_no_data() -> None:
    world = open_world()
    world.cluster.down = True
    later(world)
    world.node.power_cut()
    result = world.run()
    assert Key("Repository", "research", "justice") in result.again
    world.cluster.down = False
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_the_record_of_the_key_that_is_wrong_or_gone_heals() -> None:
    world = open_world()
    recorded = world.local(DATASET, layout.KEY)
    for wrong in ("0" * 32, None):
        if wrong is None:
            world.zfs.inherit(DATASET, [layout.KEY])
        else:
            world.zfs.set_properties(DATASET, {layout.KEY: wrong})
        later(world)
        assert world.local(DATASET, layout.KEY) == recorded
        assert key(world) == OLD
        world.quiet()


def test_a_repository_with_a_key_file_moves_to_a_secret_without_moving_its_data() -> None:
    world = World()
    world.node.key_files["/keys/justice"] = OLD
    world.cluster.secrets[SECRET] = {"justice": NEW}
    world.apply(pool(), repository(encryption={"algorithm": "aes-256-gcm", "keyFile": "/keys/justice"}))
    world.run()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    world.cluster.delete(Key("Repository", "research", "justice"))
    world.run()
    world.apply(encrypted(adopt=True))
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert (key(world), world.local(DATASET, "keylocation")) == (NEW, "prompt")
    world.node.key_files.clear()
    world.node.power_cut()
    world.run()
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


def test_a_key_of_a_dataset_above_is_never_replaced() -> None:
    world = World()
    world.node.key_files["/keys/all"] = OLD
    world.apply(pool())
    world.run()
    world.zfs.destroy("tank/dsg")
    above = {"encryption": "aes-256-gcm", "keyformat": "raw", "keylocation": "file:///keys/all"}
    world.zfs.create("tank/dsg", above)
    world.zfs.create(DATASET, {layout.IDENTITY: "research/justice", layout.HEAD: "g1"})
    world.zfs.create(f"{DATASET}/g1", {})
    world.cluster.secrets[SECRET] = {"justice": NEW}
    world.apply(encrypted(adopt=True))
    world.run()
    assert world.ready() == ("False", "PropertyRefused")
    assert "tank/dsg above it" in world.condition("Ready")["message"]
    assert world.node.dataset("tank/dsg").key == OLD


@given(st.binary(min_size=32, max_size=32) | st.binary(max_size=80), st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_no_text_of_a_key_shows_it(material: bytes, identity: str) -> None:
    try:
        one = WrappingKey(material)
    except WrongLength as error:
        assert len(material) != 32
        assert str(len(material)) in str(error)
        return
    texts = (repr(one), str(one), one.fingerprint(identity), f"{one}")
    assert not any(material.hex() in text or repr(material)[2:-1] in text for text in texts)
    assert one.fingerprint(identity) == WrappingKey(material).fingerprint(identity)


def test_fingerprints_tell_keys_and_repositories_apart() -> None:
    found = {WrappingKey(material).fingerprint(name) for material in (OLD, NEW) for name in ("a/b", "a/c")}
    assert len(found) == 4
