"""The monitor: a node whose operator falls silent is marked lost, by our own clock, and never marked well."""

from __future__ import annotations

from dsg.operator.monitor import LeaseAges, Monitor, lost_status
from dsg.reconcile.repository_status import old_condition
from tests.reconcile.world import running


def test_a_node_is_lost_when_its_lease_stays_the_same_for_too_long() -> None:
    ages = LeaseAges(limit=40)
    assert ages.lost({"a": "t1", "b": "t1"}, now=0) == set()
    assert ages.lost({"a": "t2", "b": "t1"}, now=30) == set()
    assert ages.lost({"a": "t3", "b": "t1"}, now=41) == {"b"}
    assert ages.lost({"a": "t3", "b": "t2"}, now=50) == set()


def test_clocks_that_differ_do_no_harm() -> None:
    ages = LeaseAges(limit=40)
    old = "1999-01-01T00:00:00.000000Z"
    assert ages.lost({"a": old}, now=1_000_000) == set(), "a renewal first seen now counts from now"
    assert ages.lost({"a": old}, now=1_000_041) == {"a"}


def test_a_lease_that_was_removed_says_nothing() -> None:
    ages = LeaseAges(limit=40)
    ages.lost({"a": "t1"}, now=0)
    assert ages.lost({}, now=100) == set()
    assert ages.lost({"a": "t1"}, now=200) == set()


def test_ages_are_told_on_our_own_clock() -> None:
    class Somewhere:
        def renewals(self) -> dict[str, str]:
            return renewed

        def list_objects(self, kind: str, node: str) -> list[object]:
            return []

    now, looks = [100.0], []
    renewed = {"a": "t1", "b": "t1"}
    monitor = Monitor(Somewhere(), Somewhere(), lambda: now[0], lambda: looks.append(now[0]))  # type: ignore[arg-type]
    monitor.look()
    now[0] = 170.0
    renewed["a"] = "t2"
    assert monitor.look() == {"b"}
    now[0] = 175.0
    assert monitor.lease_ages() == {"a": 5.0, "b": 75.0}
    assert looks == [100.0, 170.0]


def test_a_lost_node_makes_its_objects_unknown_and_its_own_operator_heals_them() -> None:
    world = running()
    status = lost_status(world.get(), "node-a", "2026-03-03T00:00:00Z")
    assert status is not None
    ready = old_condition(status, "Ready")  # type: ignore[arg-type]
    assert (ready["status"], ready["reason"]) == ("Unknown", "NodeLost")
    assert ready["lastTransitionTime"] == "2026-03-03T00:00:00Z"
    assert {c["type"] for c in status["conditions"]} == {c["type"] for c in world.get()["status"]["conditions"]}
    assert status["storage"] == world.get()["status"]["storage"]
    world.cluster.put_status(world.get(), status)
    assert lost_status(world.get(), "node-a", "2026-03-03T00:00:00Z") is None, "said once"
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_an_object_nobody_has_looked_at_is_left_to_kstatus() -> None:
    world = running()
    obj = {**world.get(), "status": {"observedGeneration": -1}}
    assert lost_status(obj, "node-a", "2026-03-03T00:00:00Z") is None
