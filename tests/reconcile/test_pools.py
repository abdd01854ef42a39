"""StoragePools: health, thresholds, roots, and what they mean for repositories."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from dsg.reconcile.cluster import Key
from dsg.storage.zfs.interface import Scan
from dsg.storage.zfs.model import ModelNode
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import START, World, running

KEY = Key("StoragePool", "", "node-a-tank")


def pool_status(world: World) -> dict[str, Any]:
    status: dict[str, Any] = world.cluster.objects[KEY]["status"]
    return status


def test_a_pool_is_observed_and_its_root_made() -> None:
    world = running()
    status = pool_status(world)
    assert status["health"] == "ONLINE"
    assert status["repositories"] == 1
    assert status["capacityPercent"] == 0
    assert status["errors"] == {"read": 0, "write": 0, "checksum": 0, "data": 0}
    assert world.value("tank/dsg", "mountpoint") == "legacy"
    assert world.pool_condition("Healthy")["status"] == "True"
    assert world.pool_condition("CapacityPressure")["reason"] == "WithinThreshold"
    assert world.pool_condition("Fragmented")["reason"] == "NoThreshold"


def test_a_root_of_several_levels_is_made_level_by_level() -> None:
    world = World()
    obj = pool()
    obj["spec"]["storage"]["root"] = "tank/teams/data/dsg"
    world.apply(obj, repository(dataset="tank/teams/data/dsg/justice"))
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_an_existing_root_is_left_as_it_is() -> None:
    world = World()
    world.zfs.create("tank/dsg", {"mountpoint": "/elsewhere", "compression": "gzip"})
    world.apply(pool(), repository())
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.local("tank/dsg", "mountpoint") == "/elsewhere"


def test_thresholds_warn_once_and_clear() -> None:
    node = ModelNode(seed=1)
    node.add_pool("tank", size=256 << 20)
    world = World(node)
    world.apply(pool(thresholds={"capacityPercent": 10, "scrubAgeDays": 30}), repository())
    world.run()
    assert world.pool_condition("ScrubOverdue")["status"] == "True"
    world.node.pool("tank").condition.scan = Scan("scrub", "finished", 0, int(START.timestamp()), 0, 100.0)
    world.node.write("tank/dsg/justice/g1", "big", random.Random(1).randbytes(40 << 20))
    node.sync()
    world.run()
    assert world.pool_condition("ScrubOverdue")["status"] == "False"
    assert world.pool_condition("CapacityPressure")["status"] == "True"
    assert world.pool_condition("Ready")["status"] == "True"
    told = world.told("AboveThreshold")
    assert sum("capacity" in message for message in told) == 1
    world.quiet()
    world.now = START + timedelta(days=31)
    world.run()
    assert world.pool_condition("ScrubOverdue")["status"] == "True"


def test_a_degraded_pool_still_serves_and_a_faulted_one_refuses() -> None:
    world = running()
    world.node.pool("tank").condition.health = "DEGRADED"
    world.run()
    assert world.pool_condition("Healthy")["reason"] == "PoolDegraded"
    assert world.pool_condition("Ready")["status"] == "True"
    assert world.ready() == ("True", "Reconciled")
    world.node.pool("tank").condition.health = "FAULTED"
    world.apply(repository("late"))
    world.run()
    assert world.pool_condition("Ready")["reason"] == "PoolFaulted"
    assert world.ready() == ("False", "PoolFaulted")
    assert world.ready("late") == ("False", "PoolFaulted")
    world.node.pool("tank").condition.health = "ONLINE"
    world.run()
    assert world.ready("late") == ("True", "Reconciled")
    assert world.pool_condition("Healthy")["status"] == "True"


def test_errors_of_devices_are_counted_and_told() -> None:
    world = running()
    tank = world.node.pool("tank")
    tank.condition.checksum_errors = 3
    world.run()
    assert world.pool_condition("Healthy")["reason"] == "ErrorsFound"
    assert pool_status(world)["errors"]["checksum"] == 3
    assert any("checksum 3" in message for message in world.told("ErrorsFound"))
    world.quiet()


def test_a_pool_imported_read_only_is_refused() -> None:
    world = World()
    world.node.export_pool("tank")
    world.node.import_pool("tank", readonly=True)
    world.apply(pool(), repository())
    world.run()
    assert world.pool_condition("Ready")["reason"] == "PoolFaulted"
    assert world.ready()[0] == "False"


def test_the_second_of_two_pools_with_one_root_is_told() -> None:
    world = running()
    world.apply(pool("second"))
    world.run()
    assert world.pool_condition("Ready", "second")["reason"] == "PoolOverlap"
    assert world.ready() == ("True", "Reconciled")
    world.cluster.delete(KEY)
    world.run()
    assert world.pool_condition("Ready", "second")["reason"] == "Reconciled"


def test_a_repository_without_a_pool_waits_for_one_and_loses_nothing_with_it() -> None:
    world = World()
    world.apply(repository())
    world.run()
    world.now += timedelta(minutes=1)
    world.run()
    assert world.ready() == ("False", "PoolNotDeclared")
    assert "finalizers" not in world.get()["metadata"]
    world.apply(pool())
    world.run()
    assert world.ready() == ("True", "Reconciled")
    world.cluster.delete(KEY)
    world.run()
    assert world.ready() == ("False", "PoolNotDeclared")
    assert "tank/dsg/justice/g1" in world.datasets()


@pytest.mark.parametrize("missing", ["pool", "right pool", "labels"])
def test_what_is_applied_together_never_passes_through_a_state_in_which_a_person_must_act(missing: str) -> None:
    world = World()
    labels = world.namespaces.pop("research")
    if missing == "right pool":
        other = pool("node-a-other")
        other["spec"]["storage"]["root"] = "tank/other"
        world.apply(other)
    if missing == "labels":
        world.apply(pool())
    else:
        world.namespaces["research"] = labels
    world.apply(repository())
    result = world.run()
    assert world.ready() == ("Unknown", "AwaitingPool")
    assert Key("Repository", "research", "justice") in result.again
    assert world.told("PoolNotDeclared") == []
    assert "finalizers" not in world.get()["metadata"], "nothing is begun on a place that nobody has granted"
    world.apply(pool())
    world.namespaces["research"] = labels
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_a_new_repository_waits_for_its_pool_no_longer_than_its_moments() -> None:
    world = World()
    world.apply(repository())
    made = datetime.fromisoformat(world.get()["metadata"]["creationTimestamp"])
    world.now = made + timedelta(seconds=14)
    world.run()
    assert world.ready() == ("Unknown", "AwaitingPool")
    assert "PoolNotDeclared" in world.condition("Ready")["message"]
    world.now = made + timedelta(seconds=15)
    world.run()
    assert world.ready() == ("False", "PoolNotDeclared")


def test_one_sick_pool_does_not_hide_the_others() -> None:
    world = running()
    world.node.add_pool("vault")
    vault = pool("node-a-vault")
    vault["spec"]["storage"].update(pool="vault", root="vault/dsg")
    world.apply(vault, repository("archive", pool="vault", dataset="vault/dsg/archive"))
    world.run()
    assert world.ready("archive") == ("True", "Reconciled")
    world.node.suspend("vault")
    world.run()
    assert world.ready("archive") == ("Unknown", "PoolSuspended")
    assert world.ready() == ("True", "Reconciled")


@pytest.mark.parametrize("percent", [9, 10, 11])
def test_the_threshold_itself_counts_as_reached(percent: int) -> None:
    from dsg.api.reasons import ConditionType
    from dsg.reconcile.pool_status import _measured

    state = _measured(ConditionType.CAPACITY_PRESSURE, "capacity", percent, 10)
    assert state.holds is (percent >= 10)
    assert replace(state, holds=None).message
