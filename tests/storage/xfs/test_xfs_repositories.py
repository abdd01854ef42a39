"""The xfs type on this machine's own file system, through the same engine as ZFS."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dsg.reconcile.cluster import Key
from dsg.reconcile.engine import Engine
from dsg.reconcile.store import Store
from dsg.storage.local_host import LocalHost
from dsg.storage.xfs.files import LocalFiles
from dsg.storage.xfs.pool import XfsPools
from dsg.storage.xfs.repository import XfsRepositories
from tests.reconcile.world import World

KEY = Key("Repository", "research", "justice")


class XfsWorld(World):
    """A world whose storage is a directory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "data").mkdir(parents=True)
        super().__init__()

    def restart(self) -> None:
        host, files = LocalHost(), LocalFiles()
        self.store = Store()
        self.engine = Engine(
            "node-a",
            {"xfs": XfsRepositories(host, files)},
            {"xfs": XfsPools(host, files)},
            self.cluster,
            self.store,
            lambda: self.now,
        )

    def pool(self) -> dict[str, Any]:
        return {
            "apiVersion": "dsg.hrdag.org/v1alpha1",
            "kind": "StoragePool",
            "metadata": {"name": "node-a-data"},
            "spec": {
                "storage": {
                    "type": "xfs",
                    "node": "node-a",
                    "directory": str(self.base / "data"),
                    "mountRoot": str(self.base / "public"),
                },
                "namespaceSelector": {},
                "thresholds": {"capacityPercent": 100},
            },
        }

    def repository(self, **spec: Any) -> dict[str, Any]:
        storage = {
            "type": "xfs",
            "node": "node-a",
            "directory": str(self.directory),
            "mountpoint": str(self.public),
            **spec.pop("storage", {}),
        }
        owner = {"uid": os.getuid(), "gid": os.getgid(), "mode": "2770"}
        return {
            "apiVersion": "dsg.hrdag.org/v1alpha1",
            "kind": "Repository",
            "metadata": {"name": "justice", "namespace": "research"},
            "spec": {"storage": storage, "owner": owner, "dataDirs": ["*"], **spec},
        }

    @property
    def directory(self) -> Path:
        return self.base / "data" / "justice"

    @property
    def public(self) -> Path:
        return self.base / "public" / "justice"


@pytest.fixture
def world(tmp_path: Path) -> XfsWorld:
    made = XfsWorld(tmp_path / "node")
    made.apply(made.pool(), made.repository())
    made.run()
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_declared_repository_is_created_and_stays_quiet(world: XfsWorld) -> None:
    assert world.ready() == ("True", "Reconciled")
    assert world.public.is_symlink()
    assert world.public.resolve() == world.directory / "g1"
    assert (world.directory / "head").readlink() == Path("g1")
    assert mode(world.directory / "g1") == 0o2770
    assert world.get()["status"]["storage"]["location"] == str(world.directory)
    world.quiet()
    world.restart()
    world.quiet()


def test_changes_by_hand_are_set_back(world: XfsWorld) -> None:
    (world.directory / "g1").chmod(0o777)
    world.public.unlink()
    world.public.symlink_to("/etc")
    world.run()
    assert mode(world.directory / "g1") == 0o2770
    assert world.public.resolve() == world.directory / "g1"
    told = " | ".join(world.told("DriftCorrected"))
    assert "0777" in told
    assert "/etc → " in told
    world.quiet()


def test_under_report_the_mode_is_left(world: XfsWorld) -> None:
    world.apply(world.repository(driftPolicy="Report"))
    world.run()
    (world.directory / "g1").chmod(0o777)
    world.run()
    assert mode(world.directory / "g1") == 0o777
    assert world.condition("Drifted")["status"] == "True"
    world.quiet()


def test_a_new_mode_in_the_spec_is_a_change(world: XfsWorld) -> None:
    obj = world.repository()
    obj["spec"]["owner"]["mode"] = "0750"
    world.apply(obj)
    world.run()
    assert mode(world.directory / "g1") == 0o750
    assert world.told("DriftCorrected") == []
    assert world.told("Updated")
    world.quiet()


def test_a_foreign_directory_is_not_touched(tmp_path: Path) -> None:
    world = XfsWorld(tmp_path / "node")
    world.directory.mkdir()
    (world.directory / "evidence").write_text("irreplaceable")
    world.apply(world.pool(), world.repository())
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    assert [p.name for p in world.directory.iterdir()] == ["evidence"]
    world.quiet()


def test_what_stands_at_the_mountpoint_is_not_touched(tmp_path: Path) -> None:
    world = XfsWorld(tmp_path / "node")
    world.public.mkdir(parents=True)
    world.apply(world.pool(), world.repository())
    world.run()
    assert world.ready() == ("False", "MountpointTaken")
    assert not world.directory.exists()


def test_retained_and_adopted_again(world: XfsWorld) -> None:
    (world.directory / "g1" / "evidence").write_text("irreplaceable")
    world.cluster.delete(KEY)
    world.run()
    assert KEY not in world.cluster.objects
    assert not world.public.is_symlink()
    assert str(world.directory) in world.cluster.events[-1][1].message
    world.apply(world.repository())
    world.run()
    assert world.ready() == ("False", "DatasetForeign")
    world.apply(world.repository(storage={"adopt": True}))
    world.run()
    assert world.ready() == ("True", "Reconciled")
    assert (world.public / "evidence").read_text() == "irreplaceable"
    world.quiet()


def test_destroyed_only_when_confirmed_and_without_what_is_foreign(world: XfsWorld) -> None:
    obj = world.repository(deletionPolicy="Delete")
    world.apply(obj)
    world.cluster.delete(KEY)
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "NotConfirmed"
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(obj)
    (world.directory / "notes.txt").write_text("somebody's")
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "ForeignData"
    assert "notes.txt" in world.condition("DeletionBlocked")["message"]
    assert (world.directory / "g1").is_dir()
    (world.directory / "notes.txt").unlink()
    (world.directory / "g1" / "data").symlink_to("/etc")
    world.run()
    assert KEY not in world.cluster.objects
    assert not world.directory.exists()
    assert Path("/etc/passwd").exists()


def test_lost_data_is_never_replaced(world: XfsWorld) -> None:
    shutil.rmtree(world.directory / "g1")
    for _ in range(2):
        world.run()
        assert world.ready() == ("False", "DataMissing")
    shutil.rmtree(world.directory)
    for _ in range(2):
        world.run()
        assert world.ready() == ("False", "DataMissing")
    assert not world.directory.exists()


def test_a_file_system_that_is_not_mounted_is_noticed_and_heals(world: XfsWorld) -> None:
    (world.base / "data").rename(world.base / "away")
    world.run()
    assert world.ready() == ("Unknown", "PoolUnavailable")
    assert not (world.base / "data").exists()
    (world.base / "away").rename(world.base / "data")
    world.run()
    assert world.ready() == ("True", "Reconciled")
    world.quiet()


def test_a_record_that_cannot_be_read_stops_everything(world: XfsWorld) -> None:
    (world.directory / ".dsg.json").write_text("{ not json")
    world.run()
    assert world.ready() == ("False", "LayoutUnknown")
    world.quiet()


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_data_that_cannot_be_seen_is_not_taken_for_gone(world: XfsWorld, policy: str) -> None:
    obj = world.repository(deletionPolicy=policy)
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(obj)
    world.run()
    (world.base / "data").rename(world.base / "away")
    world.cluster.delete(KEY)
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "StorageFailed"
    (world.base / "away").rename(world.base / "data")
    world.run()
    assert KEY not in world.cluster.objects
    assert world.directory.exists() == (policy == "Retain")
