"""Pools that are full, suspended, faulted, exported or read-only; commands that hang; figures and events."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dsg.storage.errors import (
    AlreadyExists,
    Busy,
    CommandFailed,
    CommandTimeout,
    OutOfSpace,
    PermissionDenied,
    PoolNotFound,
    PoolSuspended,
    QuotaExceeded,
    ReadOnlyPool,
)
from dsg.storage.zfs.interface import Scan, ZfsEvent
from dsg.storage.zfs.model import ModelHost, ModelNode, ModelZfs, Moment, PowerCut
from dsg.storage.zfs.model.space import slop

MIB = 1 << 20
Call = Callable[[], object]


def figure(zfs: ModelZfs, name: str, key: str) -> int:
    return zfs.read([name], [key], depth=0)[name].number(key)


def test_a_full_pool_takes_no_more_but_lets_go(node: ModelNode, zfs: ModelZfs) -> None:
    node.add_pool("small", size=256 * MIB)
    zfs.create("small/a", {})
    with pytest.raises(OutOfSpace):
        for number in range(300):
            node.write("small/a", f"f{number}", bytes(MIB))
    assert node.pool("small").report().allocated <= 256 * MIB - slop(256 * MIB)
    node.sync()
    node.write("small/a", "last", bytes(figure(zfs, "small/a", "available")))
    refusals: list[Call] = [lambda: zfs.create("small/b", {}), lambda: zfs.snapshot(["small/a@s"])]
    for refused in refusals:
        with pytest.raises(OutOfSpace):
            refused()
    zfs.set_properties("small/a", {"dsg:a": "properties may use the reserve"})
    zfs.destroy("small/a")
    zfs.create("small/b", {})


def test_quotas_stop_writers(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {"quota": "3M"})
    zfs.create("tank/a/g", {"refquota": "2M"})
    node.write("tank/a/g", "f", bytes(MIB))
    with pytest.raises(QuotaExceeded):
        node.write("tank/a/g", "g", bytes(MIB))
    node.write("tank/a/g", "f", b"")
    node.write("tank/a/g", "g", bytes(MIB))
    zfs.snapshot(["tank/a/g@s"])
    node.write("tank/a/g", "g", bytes(MIB - 1))
    zfs.snapshot(["tank/a/g@t"])
    with pytest.raises(QuotaExceeded):
        node.write("tank/a/g", "g", bytes(MIB))
    assert node.content("tank/a/g") == {"f": b"", "g": bytes(MIB - 1)}


def test_figures_are_those_of_the_last_synced_transaction_group(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {})
    zfs.snapshot(["tank/a@s"])
    node.write("tank/a", "f", bytes(MIB))
    assert (figure(zfs, "tank/a", "written"), figure(zfs, "tank/a", "used")) == (0, 24576)
    source = "return { (zfs.get_prop('tank/a', 'written')), (zfs.get_prop('tank/a', 'written@s')) }"
    written = MIB + 24576
    assert zfs.program("tank", source, []) == {"1": written, "2": written}
    assert figure(zfs, "tank/a", "written") == written
    node.write("tank/a", "g", bytes(MIB))
    assert figure(zfs, "tank/a", "written") == written
    node.sync()
    assert figure(zfs, "tank/a", "written") == written + MIB


def test_a_suspended_pool_refuses_changes_until_it_is_resumed(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {"dsg:a": "1"})
    node.suspend("tank")
    assert zfs.pools()["tank"].health == "SUSPENDED"
    changes: list[Call] = [
        lambda: zfs.create("tank/b", {}),
        lambda: zfs.set_properties("tank/a", {"dsg:a": "2"}),
        lambda: zfs.destroy("tank/a"),
        lambda: zfs.snapshot(["tank/a@s"]),
        lambda: zfs.program("tank", "return 1", []),
        lambda: node.write("tank/a", "f", b"x"),
    ]
    for change in changes:
        with pytest.raises(PoolSuspended):
            change()
    assert zfs.read(["tank/a"], ["dsg:a"])["tank/a"].value("dsg:a") == "1"
    node.resume("tank")
    zfs.destroy("tank/a")


@pytest.mark.parametrize("resumed", [True, False])
def test_a_change_under_way_when_the_pool_is_suspended_waits(node: ModelNode, zfs: ModelZfs, resumed: bool) -> None:
    def hook(moment: Moment, *_: object) -> None:
        if moment is Moment.DURING:
            node.suspend("tank")

    node.faults = hook
    with pytest.raises(CommandTimeout):
        zfs.create("tank/a", {})
    node.faults = None
    if resumed:
        node.resume("tank")
    node.power_cut()
    assert ("tank/a" in zfs.read(["tank"], ["guid"])) is resumed


def test_a_faulted_pool_is_seen_but_its_datasets_are_not(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {})
    condition = node.pool("tank").condition
    condition.health = "FAULTED"
    condition.checksum_errors = 3
    condition.scan = Scan("scrub", "finished", 10, 20, 3, 100.0)
    condition.status, condition.action = "One or more devices could not be used", "Replace the device"
    found = zfs.pools()["tank"]
    assert (found.health, found.checksum_errors, found.scan.errors) == ("FAULTED", 3, 3)
    assert (found.status, found.action) == (condition.status, condition.action)
    assert zfs.read(["tank/a"], ["guid"]) == {}
    with pytest.raises(CommandFailed):
        zfs.create("tank/b", {})


def test_a_degraded_pool_works(node: ModelNode, zfs: ModelZfs) -> None:
    node.pool("tank").condition.health = "DEGRADED"
    zfs.create("tank/a", {})
    assert zfs.pools()["tank"].health == "DEGRADED"


def test_an_exported_pool_is_gone_until_it_is_imported(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    zfs.create("tank/a", {})
    host.make_directory("/mnt", mode=0o755)
    host.mount("tank/a", "/mnt", read_only=False)
    with pytest.raises(Busy):
        node.export_pool("tank")
    host.unmount("/mnt")
    stream = zfs.events()
    node.export_pool("tank")
    assert zfs.pools() == {}
    assert zfs.read(["tank/a"], ["guid"]) == {}
    with pytest.raises(PoolNotFound):
        zfs.set_properties("tank/a", {"dsg:a": "1"})
    node.import_pool("tank")
    zfs.set_properties("tank/a", {"dsg:a": "1"})
    stream.close()
    stream = zfs.events()
    node.export_pool("tank")
    assert next(iter(stream)) == ZfsEvent("sysevent.fs.zfs.pool_export", "tank")
    node.import_pool("tank")
    assert next(iter(stream)) == ZfsEvent("sysevent.fs.zfs.pool_import", "tank")
    with pytest.raises(PoolNotFound):
        node.import_pool("tank")
    with pytest.raises(AlreadyExists):
        node.add_pool("tank")


def test_a_pool_imported_read_only_is_read_only(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    zfs.create("tank/a", {})
    node.write("tank/a", "f", b"content")
    host.make_directory("/mnt", mode=0o755)
    node.export_pool("tank")
    node.import_pool("tank", readonly=True)
    assert zfs.pools()["tank"].readonly
    changes: list[Call] = [lambda: zfs.create("tank/b", {}), lambda: zfs.destroy("tank/a")]
    for change in changes:
        with pytest.raises(ReadOnlyPool):
            change()
    host.mount("tank/a", "/mnt", read_only=False)
    assert host.mounts()[0].read_only
    assert node.read_file("/mnt/f") == b"content"
    with pytest.raises(PermissionDenied):
        node.write_file("/mnt/f", b"changed")


def test_what_hangs_has_no_effect_and_ends_in_a_timeout(node: ModelNode, zfs: ModelZfs, host: ModelHost) -> None:
    node.hanging = True
    calls: list[Call] = [zfs.version, zfs.pools, lambda: zfs.create("tank/a", {}), lambda: host.unmount("/mnt")]
    for call in calls:
        with pytest.raises(CommandTimeout):
            call()
    assert host.mounts() == []
    assert host.stat("/") is not None
    node.hanging = False
    assert "tank/a" not in zfs.read(["tank"], ["guid"])


def test_somebody_reading_a_snapshot_keeps_it_where_it_is(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {})
    zfs.snapshot(["tank/a@s"])
    zfs.clone("tank/a@s", "tank/c", {})
    with node.sending("tank/a@s"):
        with pytest.raises(Busy):
            zfs.promote("tank/c")
        assert zfs.program("tank", "return zfs.check.promote('tank/c')", []) == 16
        zfs.destroy("tank/c")
        with pytest.raises(Busy):
            zfs.destroy("tank/a@s")
    zfs.destroy("tank/a@s")


def test_events_end_with_the_power(node: ModelNode, zfs: ModelZfs) -> None:
    stream = zfs.events()
    zfs.create("tank/a", {})
    assert next(iter(stream)).dataset == "tank/a"
    node.power_cut()
    with pytest.raises(CommandFailed):
        next(iter(stream))
    assert list(stream) == []


def test_a_change_that_was_lost_is_not_told(node: ModelNode, zfs: ModelZfs) -> None:
    def hook(moment: Moment, *_: object) -> None:
        if moment is Moment.DURING:
            node.power_cut()

    node.faults = hook
    with pytest.raises(PowerCut):
        zfs.create("tank/a", {})
    node.faults = None
    stream = zfs.events()
    zfs.create("tank/b", {})
    assert next(iter(stream)).dataset == "tank/b"


def test_threads_take_turns(node: ModelNode, zfs: ModelZfs) -> None:
    zfs.create("tank/a", {"dsg:n": "0"})
    source = """
      local value = zfs.get_prop("tank/a", "dsg:n")
      zfs.sync.set_prop("tank/a", "dsg:n", tostring(tonumber(value) + 1))
    """

    def count() -> None:
        for _ in range(25):
            zfs.program("tank", source, [])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert zfs.read(["tank/a"], ["dsg:n"])["tank/a"].value("dsg:n") == "100"
    assert node.calls["zfs.program"] == 100


def test_volumes_are_other_peoples(node: ModelNode, zfs: ModelZfs) -> None:
    from dsg.storage.zfs.interface import DatasetKind

    node.create_volume("tank/v")
    assert zfs.read(["tank"], ["type"]).keys() == {"tank"}
    found = zfs.read(["tank"], ["type", "quota"], kinds=[DatasetKind.VOLUME])["tank/v"]
    assert (found.value("type"), found.value("quota")) == ("volume", None)
