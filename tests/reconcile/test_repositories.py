"""A Repository declared becomes a dataset, stays so, and tells so: on the model of OpenZFS."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from dsg.reconcile.cluster import Key
from dsg.storage.host import PathKind
from dsg.storage.zfs import layout
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import World, running

DATASET = "tank/dsg/justice"
KEY = Key("Repository", "research", "justice")


def changed(**spec: Any) -> dict[str, Any]:
    obj = repository()
    obj["spec"].update(spec)
    return obj


def with_properties(**properties: Any) -> dict[str, Any]:
    obj = repository()
    obj["spec"]["storage"]["properties"].update(properties)
    return obj


def test_a_declared_repository_is_created_as_declared() -> None:
    world = running()
    assert world.ready() == ("True", "Reconciled")
    assert world.local(DATASET, "compression") == "lz4"
    assert world.local(DATASET, "recordsize") == str(128 << 10)
    assert world.local(DATASET, "quota") == str(10 << 30)
    assert world.value(f"{DATASET}/g1", "refquota") == str(8 << 30)
    assert world.value(f"{DATASET}/g1", "compression") == "lz4"
    assert world.local(DATASET, layout.HEAD) == "g1"
    assert world.local(DATASET, layout.IDENTITY) == "research/justice"
    link, root = world.host.stat("/srv/dsg/justice"), world.host.stat("/srv/dsg/.justice/g1")
    assert link is not None and root is not None
    assert (link.kind, link.target) == (PathKind.LINK, ".justice/g1")
    assert (root.uid, root.gid, root.mode) == (2000, 2000, 0o2770)
    assert [(m.dataset, m.read_only) for m in world.host.mounts()] == [(f"{DATASET}/g1", True)]
    status = world.get()["status"]
    assert status["observedGeneration"] == 1
    assert status["storage"]["location"] == DATASET
    assert status["storage"]["generation"] == "g1"
    assert len(world.told("Created")) == 1
    assert world.told("Reconciled") == ["the pool may hold repositories"]
    assert world.get()["metadata"]["finalizers"] == ["dsg.hrdag.org/node-a"]
    world.quiet()


def test_a_restarted_operator_writes_nothing() -> None:
    world = running()
    world.restart()
    world.quiet()


def test_a_change_of_the_spec_is_carried_out_and_told_as_an_update() -> None:
    world = running()
    world.apply(with_properties(compression="zstd-3", refquota="9Gi"))
    world.run()
    assert world.local(DATASET, "compression") == "zstd-3"
    assert world.value(f"{DATASET}/g1", "refquota") == str(9 << 30)
    assert len(world.told("Updated")) == 1
    assert world.told("DriftCorrected") == []
    assert world.get()["status"]["observedGeneration"] == 2
    world.quiet()


def test_a_property_left_out_again_is_inherited_again() -> None:
    world = running(with_properties(logbias="throughput"))
    assert world.local(DATASET, "logbias") == "throughput"
    world.apply(repository())
    world.run()
    assert world.local(DATASET, "logbias") is None
    world.quiet()


def test_a_new_owner_is_a_change_and_not_drift() -> None:
    world = running()
    world.apply(changed(owner={"uid": 3000, "gid": 3001, "mode": "750"}))
    world.run()
    root = world.host.stat("/srv/dsg/.justice/g1")
    assert root is not None and (root.uid, root.gid, root.mode) == (3000, 3001, 0o750)
    assert [m.read_only for m in world.host.mounts()] == [True]
    assert world.told("DriftCorrected") == []
    world.quiet()


HAND_MADE: dict[str, tuple[Callable[[World], object], str, str]] = {
    "a value": (lambda w: w.zfs.set_properties(DATASET, {"compression": "off"}), "compression", "off → lz4"),
    "a value cleared": (lambda w: w.zfs.inherit(DATASET, ["atime"]), "atime", "(not set here) → off"),
    "a value added": (lambda w: w.zfs.set_properties(DATASET, {"copies": "2"}), "copies", "2 → (inherited)"),
    "a quota": (lambda w: w.zfs.set_properties(DATASET, {"quota": "20G"}), "quota", "20Gi → 10Gi"),
    "a quota removed": (lambda w: w.zfs.set_properties(DATASET, {"quota": "none"}), "quota", "none → 10Gi"),
    "a generation's quota": (
        lambda w: w.zfs.set_properties(f"{DATASET}/g1", {"refquota": "1G"}),
        "refquota",
        "1Gi → 8Gi",
    ),
}


def test_a_size_left_out_again_is_cleared() -> None:
    world = running(with_properties(refreservation="1Mi"))
    assert world.value(f"{DATASET}/g1", "refreservation") == str(1 << 20)
    world.apply(repository())
    world.run()
    assert world.value(f"{DATASET}/g1", "refreservation") in {"0", None}
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


@pytest.mark.parametrize(("stated", "shown"), [("sa", "on"), ("off", "off"), ("dir", "dir")])
def test_a_value_that_zfs_shows_under_another_name_is_no_drift(stated: str, shown: str) -> None:
    world = running(with_properties(xattr=stated))
    assert world.local(DATASET, "xattr") == shown
    world.quiet()


@pytest.mark.parametrize("compression", ["gzip", "gzip-6", "zstd-fast-1", "zstd-19", "lzjb"])
def test_every_spelling_of_compression_settles(compression: str) -> None:
    world = running(with_properties(compression=compression))
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


@pytest.mark.parametrize("case", HAND_MADE)
def test_a_change_by_hand_is_set_back_and_told_from_what_to_what(case: str) -> None:
    act, field, words = HAND_MADE[case]
    world = running()
    before = world.zfs.read([DATASET], [field], depth=1)
    act(world)
    world.run()
    assert world.zfs.read([DATASET], [field], depth=1) == before
    (message,) = world.told("DriftCorrected")
    assert field in message and words in message, message
    last = world.get()["status"]["lastDrift"]
    assert (last["field"], last["corrected"]) == (field, True)
    assert world.condition("Drifted")["status"] == "False"
    assert world.told("Updated") == []
    world.quiet()


def test_owner_mode_link_and_mount_are_kept_too() -> None:
    world = running()
    world.host.remount("/srv/dsg/.justice/g1", read_only=False)
    world.host.set_owner("/srv/dsg/.justice/g1", uid=0, gid=0, mode=0o777)
    world.host.point_link("/srv/dsg/justice", "/etc")
    world.run()
    told = " | ".join(world.told("DriftCorrected"))
    for words in ("0:0 0777 → 2000:2000 2770", "writable → read-only", "/etc → .justice/g1"):
        assert words in told
    world.quiet()


def test_a_rebooted_node_reveals_its_repositories_again_and_calls_it_no_drift() -> None:
    world = running()
    world.node.power_cut()
    world.run()
    assert [m.directory for m in world.host.mounts()] == ["/srv/dsg/.justice/g1"]
    assert world.told("DriftCorrected") == []
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


def test_under_report_drift_is_told_and_left() -> None:
    world = running(changed(driftPolicy="Report"))
    world.zfs.set_properties(DATASET, {"compression": "off"})
    world.run()
    assert world.local(DATASET, "compression") == "off"
    assert world.condition("Drifted")["status"] == "True"
    assert world.get()["status"]["drift"] == [
        {"subject": DATASET, "field": "compression", "wanted": "lz4", "found": "off"}
    ]
    assert len(world.told("DriftReported")) == 1
    assert world.ready() == ("True", "Reconciled")
    world.quiet()
    # A change of the spec elsewhere is carried out and does not sweep the hand-made one away.
    obj = changed(driftPolicy="Report")
    obj["spec"]["storage"]["properties"]["recordsize"] = "1Mi"
    world.apply(obj)
    world.run()
    assert world.local(DATASET, "recordsize") == str(1 << 20)
    assert world.local(DATASET, "compression") == "off"
    world.quiet()
    # Correct sets it back.
    world.apply(with_properties(recordsize="1Mi"))
    world.run()
    assert world.local(DATASET, "compression") == "lz4"
    assert world.condition("Drifted")["status"] == "False"


def test_suspended_the_operator_looks_and_changes_nothing() -> None:
    world = running()
    obj = with_properties(compression="zstd")
    obj["spec"]["suspend"] = True
    world.apply(obj)
    world.zfs.set_properties(DATASET, {"atime": "on"})
    world.run()
    assert world.local(DATASET, "compression") == "lz4"
    assert world.local(DATASET, "atime") == "on"
    status = world.get()["status"]
    assert any("compression=zstd" in step for step in status["plan"])
    assert [d["field"] for d in status["drift"]] == ["atime"]
    assert world.condition("Suspended")["status"] == "True"
    assert world.ready() == ("True", "Reconciled")
    world.quiet()
    world.apply(with_properties(compression="zstd"))
    world.run()
    assert world.local(DATASET, "compression") == "zstd"
    assert world.local(DATASET, "atime") == "off"
    assert "plan" not in world.get()["status"] or world.get()["status"]["plan"] == []


def test_a_repository_that_begins_suspended_is_not_created() -> None:
    world = running(changed(suspend=True))
    assert DATASET not in world.datasets()
    assert world.ready() == ("Unknown", "NotYetCreated")
    assert world.get()["status"]["plan"]
    assert "finalizers" not in world.get()["metadata"]
    world.quiet()


def test_a_foreign_dataset_is_never_touched() -> None:
    world = World()
    world.apply(pool())
    world.run()
    world.zfs.create(DATASET, {"compression": "gzip"})
    world.node.write(DATASET, "evidence", b"irreplaceable")
    world.apply(repository())
    before = world.zfs.read([DATASET], ["compression", layout.UID])
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert world.zfs.read([DATASET], ["compression", layout.UID]) == before
    assert world.node.read(DATASET, "evidence") == b"irreplaceable"
    world.quiet()


def released() -> World:
    world = running()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    world.cluster.delete(KEY)
    world.run()
    assert KEY not in world.cluster.objects
    return world


def test_deletion_retains_by_default_and_says_where() -> None:
    world = released()
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    last = world.cluster.events[-1][1]
    assert last.reason == "Retained"
    assert DATASET in last.message and "node-a" in last.message and "adopt: true" in last.message
    assert world.host.stat("/srv/dsg/justice") is None
    assert world.host.mounts() == []
    assert world.local(DATASET, layout.RELEASED) is not None


@pytest.mark.parametrize("suspend", [False, True])
def test_a_finalizer_that_a_replacement_dropped_comes_back(suspend: bool) -> None:
    obj = repository()
    world = running(obj)
    obj["spec"]["suspend"] = suspend
    world.apply(obj)
    world.cluster.objects[KEY]["metadata"]["finalizers"] = []
    world.apply(obj)
    world.run()
    assert world.get()["metadata"]["finalizers"] == ["dsg.hrdag.org/node-a"]
    world.quiet()


def test_in_a_namespace_that_goes_an_object_goes_though_no_event_can_tell_of_it() -> None:
    world = running()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    world.cluster.leaving.add("research")
    world.cluster.delete(KEY)
    world.run()
    assert KEY not in world.cluster.objects
    assert world.local(DATASET, layout.RELEASED) is not None
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_what_is_released_or_destroyed_is_so_once_though_the_watch_is_late(policy: str) -> None:
    obj = repository()
    obj["spec"]["deletionPolicy"] = policy
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world = running(obj)
    world.cluster.delete(KEY)
    world.watch()
    world.engine.reconcile([KEY])
    calls, events = dict(world.node.calls), len(world.cluster.events)
    # ZFS tells of what was just done, and asks for another pass, before the API server tells that the object is gone.
    world.engine.reconcile([KEY])
    assert len(world.cluster.events) == events
    assert world.node.calls == calls


def test_retained_data_is_adopted_only_when_the_spec_says_so() -> None:
    world = released()
    world.apply(repository())
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert "adopt to true" in world.condition("Ready")["message"]
    world.apply(repository(adopt=True))
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert len(world.told("Adopted")) == 1
    assert world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    assert world.local(DATASET, layout.RELEASED) is None
    assert world.local(DATASET, layout.UID) == world.get()["metadata"]["uid"]
    world.quiet()


def test_adoption_needs_a_matching_identity_too() -> None:
    world = released()
    world.zfs.set_properties(DATASET, {layout.IDENTITY: "other/justice"})
    world.apply(repository(adopt=True))
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert "other/justice" in world.condition("Ready")["message"]
    world.zfs.set_properties(DATASET, {layout.IDENTITY: "research/justice"})
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_delete_needs_the_repositorys_name_repeated() -> None:
    world = running(changed(deletionPolicy="Delete"))
    world.cluster.delete(KEY)
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "NotConfirmed"
    assert "kubectl annotate repository justice" in world.condition("DeletionBlocked")["message"]
    assert f"{DATASET}/g1" in world.datasets()
    world.quiet()
    for wrong in ("", "Justice", "research/justice"):
        obj = changed(deletionPolicy="Delete")
        obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": wrong}
        world.apply(obj)
        world.run()
        assert f"{DATASET}/g1" in world.datasets()
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(obj)
    world.run()
    assert KEY not in world.cluster.objects
    assert world.datasets() == {"tank", "tank/dsg"}
    assert world.host.stat("/srv/dsg/justice") is None
    assert world.host.stat("/srv/dsg/.justice") is None
    assert world.cluster.events[-1][1].reason == "Destroyed"


def confirmed() -> dict[str, Any]:
    obj = changed(deletionPolicy="Delete")
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    return obj


FOREIGN: dict[str, tuple[Callable[[World], object], Callable[[World], object]]] = {
    "a snapshot": (lambda w: w.zfs.snapshot([f"{DATASET}/g1@daily"]), lambda w: w.zfs.destroy(f"{DATASET}/g1@daily")),
    "a dataset": (lambda w: w.zfs.create(f"{DATASET}/notes", {}), lambda w: w.zfs.destroy(f"{DATASET}/notes")),
    "a hold": (
        lambda w: (w.zfs.snapshot([f"{DATASET}/g1@s1"]), w.zfs.hold([f"{DATASET}/g1@s1"], "court")),
        lambda w: w.zfs.release([f"{DATASET}/g1@s1"], "court"),
    ),
    "a clone": (
        lambda w: (w.zfs.snapshot([f"{DATASET}/g1@s1"]), w.zfs.clone(f"{DATASET}/g1@s1", "tank/copy", {})),
        lambda w: w.zfs.destroy("tank/copy"),
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_nothing_foreign_is_destroyed_with_a_repository(case: str) -> None:
    put, take_away = FOREIGN[case]
    world = running(confirmed())
    put(world)
    before = world.datasets()
    world.cluster.delete(KEY)
    world.run()
    assert world.datasets() == before
    assert world.condition("DeletionBlocked")["reason"] == "ForeignData"
    assert len(world.host.mounts()) == 1, "nothing at all was done"
    world.quiet()
    take_away(world)
    world.run()
    assert KEY not in world.cluster.objects
    assert DATASET not in world.datasets()


def test_versions_and_their_clones_go_in_an_order_that_zfs_accepts() -> None:
    world = running(confirmed())
    for number in range(1, 4):
        world.zfs.snapshot([f"{DATASET}/g{number}@s{number}"])
        world.zfs.clone(f"{DATASET}/g{number}@s{number}", f"{DATASET}/g{number + 1}", {})
    world.zfs.promote(f"{DATASET}/g3")
    world.cluster.delete(KEY)
    world.run()
    assert world.datasets() == {"tank", "tank/dsg"}


def test_a_mount_in_use_keeps_a_destruction_waiting_and_a_release_not() -> None:
    world = running(confirmed())
    world.cluster.delete(KEY)
    with world.node.use("/srv/dsg/.justice/g1"):
        result = world.run()
        assert world.condition("DeletionBlocked")["reason"] == "StorageFailed"
        assert KEY in result.again
    world.run()
    assert KEY not in world.cluster.objects

    world = running()
    world.cluster.delete(KEY)
    with world.node.use("/srv/dsg/.justice/g1"):
        world.run()
    assert KEY not in world.cluster.objects
    assert f"{DATASET}/g1" in world.datasets()


def test_lost_data_is_never_replaced_by_an_empty_repository() -> None:
    world = running()
    world.host.unmount("/srv/dsg/.justice/g1")
    world.zfs.destroy(f"{DATASET}/g1")
    for _ in range(3):
        world.run()
        assert world.ready() == ("False", "DataMissing")
    world.zfs.destroy(DATASET)
    for _ in range(3):
        world.run()
        assert world.ready() == ("False", "DataMissing")
    assert world.datasets() == {"tank", "tank/dsg"}
    assert world.get()["status"]["storage"]["location"] == DATASET
    world.restart()
    world.quiet()


def test_two_repositories_cannot_claim_one_dataset() -> None:
    world = running()
    world.apply(repository("second", dataset=DATASET))
    world.run()
    assert world.ready("second") == ("False", "PathConflict")
    assert "research/justice" in world.condition("Ready", "second")["message"]
    assert world.ready() == ("True", "Reconciled")
    world.quiet()
    # Deleting the one that never had the data leaves the other's alone.
    world.cluster.delete(Key("Repository", "research", "second"))
    world.run()
    assert f"{DATASET}/g1" in world.datasets()
    assert world.host.stat("/srv/dsg/justice") is not None


def test_what_stands_at_the_mountpoint_is_not_touched() -> None:
    world = World()
    world.apply(pool())
    world.host.make_directory("/srv/dsg/justice", mode=0o700)
    world.apply(repository())
    world.run()
    assert world.ready() == ("False", "MountpointTaken")
    assert DATASET not in world.datasets()
    world.host.remove_directory("/srv/dsg/justice")
    world.run()
    assert world.ready() == ("True", "Reconciled")


@pytest.mark.parametrize(
    ("break_", "mend", "reason"),
    [
        (lambda n: n.export_pool("tank"), lambda n: n.import_pool("tank"), ("Unknown", "PoolUnavailable")),
        (lambda n: n.suspend("tank"), lambda n: n.resume("tank"), ("Unknown", "PoolSuspended")),
        (lambda n: setattr(n, "hanging", True), lambda n: setattr(n, "hanging", False), ("Unknown", "StorageTimeout")),
    ],
)
def test_what_fails_ends_in_its_condition_and_heals_by_itself(break_: Any, mend: Any, reason: tuple[str, str]) -> None:
    world = running()
    if reason[1] == "PoolUnavailable":
        # A pool whose datasets are mounted is not exported.
        world.host.unmount("/srv/dsg/.justice/g1")
    break_(world.node)
    result = world.run()
    assert world.ready() == reason
    assert world.pool_condition("Ready")["reason"] == reason[1]
    assert KEY in result.again
    world.quiet()
    mend(world.node)
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert world.pool_condition("Ready")["status"] == "True"
    world.quiet()


def test_an_api_server_that_is_away_costs_nothing_but_time() -> None:
    world = World()
    world.apply(pool(), repository())
    world.cluster.down = True
    result = world.run()
    assert KEY in result.again
    assert DATASET not in world.datasets(), "no data without a finalizer"
    world.cluster.down = False
    world.run()
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


def test_a_namespace_that_loses_its_admission_keeps_its_data() -> None:
    world = running()
    world.namespaces["research"] = {"team": "ops"}
    world.run()
    assert world.ready() == ("False", "NamespaceNotAdmitted")
    assert f"{DATASET}/g1" in world.datasets()
    world.namespaces["research"] = {"team": "data"}
    world.run()
    assert world.ready() == ("True", "Reconciled")


def test_a_spec_that_came_past_validation_is_reported_and_not_acted_on() -> None:
    world = running()
    obj = copy.deepcopy(world.get())
    obj["spec"]["storage"]["dataset"] = "rpool/elsewhere"
    world.apply(obj)
    world.run()
    assert world.ready() == ("False", "InvalidSpec")
    assert "dataset must lie in pool" in world.condition("Ready")["message"]


def test_a_request_to_look_now_is_acknowledged() -> None:
    world = running()
    obj = repository()
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/requestedAt": "now-1"}
    world.apply(obj)
    world.run()
    assert world.get()["status"]["lastHandledReconcileAt"] == "now-1"


def test_a_quota_below_what_is_used_is_refused_with_the_reason() -> None:
    world = running()
    world.node.write(f"{DATASET}/g1", "big", b"x" * (4 << 20), sync=True)
    world.apply(with_properties(quota="1Mi", refquota="1Mi"))
    world.run()
    assert world.ready() == ("False", "QuotaTooLow")


def test_the_number_of_processes_does_not_grow_with_the_number_of_repositories() -> None:
    world = running(*(repository(f"r{number}") for number in range(40)))
    counted = []
    for keys in (None, [Key("Repository", "research", "r7")]):
        before = sum(world.node.calls[n] for n in ("zfs.pools", "zfs.read"))
        world.run(keys)
        counted.append(sum(world.node.calls[n] for n in ("zfs.pools", "zfs.read")) - before)
    assert counted[0] <= 4 and counted[1] <= 2, counted


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("away", ["exported", "suspended"])
def test_data_that_cannot_be_seen_is_not_taken_for_gone(policy: str, away: str) -> None:
    obj = changed(deletionPolicy=policy)
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world = running(obj)
    if away == "exported":
        world.host.unmount("/srv/dsg/.justice/g1")
        world.node.export_pool("tank")
    else:
        world.node.suspend("tank")
    world.cluster.delete(KEY)
    for _ in range(2):
        world.run()
        assert KEY in world.cluster.objects
        assert world.condition("DeletionBlocked")["reason"] == "StorageFailed"
    if away == "exported":
        world.node.import_pool("tank")
    else:
        world.node.resume("tank")
    world.run()
    assert KEY not in world.cluster.objects
    assert (f"{DATASET}/g1" in world.datasets()) == (policy == "Retain")


def test_a_fault_in_one_repository_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsg.storage.zfs import planning
    from dsg.storage.zfs.repository import ZfsRepositories

    def plan(self: ZfsRepositories, target: Any, observed: Any) -> Any:
        if target.name == "justice":
            raise ZeroDivisionError("a bug")
        return planning.plan(target, observed)

    monkeypatch.setattr(ZfsRepositories, "plan", plan)
    world = running(repository(), repository("other"))
    assert world.ready("other") == ("True", "Reconciled")
    assert world.ready() == ("False", "OperatorFault")
    assert "a bug" not in world.condition("Ready")["message"]
    monkeypatch.undo()
    world.run()
    assert world.ready() == ("True", "Reconciled")
