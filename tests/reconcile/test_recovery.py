"""The operator is killed, or the node loses power, at every moment of every kind of work: it ends where it should.

The moments are taken from the running code: the work is done once to count them, then once more for each.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dsg.reconcile.cluster import Key
from dsg.storage.zfs import layout
from dsg.storage.zfs.model import Killed, Moment
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import World, running

DATASET = "tank/dsg/justice"
KEY = Key("Repository", "research", "justice")


def empty() -> World:
    world = World()
    world.apply(pool())
    world.run()
    return world


def with_data() -> World:
    world = running()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    return world


def create(world: World) -> None:
    world.apply(repository())


def update(world: World) -> None:
    obj = repository()
    obj["spec"]["storage"]["properties"].update(compression="zstd", refquota="9Gi", logbias="throughput")
    obj["spec"]["owner"] = {"uid": 3000, "gid": 3000, "mode": "0750"}
    world.apply(obj)


def drift(world: World) -> None:
    world.zfs.set_properties(DATASET, {"compression": "off", "copies": "2"})
    world.host.remount("/srv/dsg/.justice/g1", read_only=False)
    world.host.set_owner("/srv/dsg/.justice/g1", uid=0, gid=0, mode=0o777)


def release(world: World) -> None:
    world.cluster.delete(KEY)


def retained() -> World:
    world = with_data()
    world.cluster.delete(KEY)
    world.run()
    return world


def adopt(world: World) -> None:
    world.apply(repository(adopt=True))


def confirmed() -> World:
    obj = repository()
    obj["spec"]["deletionPolicy"] = "Delete"
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world = running(obj)
    world.zfs.snapshot([f"{DATASET}/g1@s1"])
    world.zfs.clone(f"{DATASET}/g1@s1", f"{DATASET}/g2", {})
    return world


OLD_KEY, NEW_KEY = bytes(range(32)), bytes(range(32, 64))


def encrypted() -> dict[str, Any]:
    return repository(encryption={"algorithm": "aes-256-gcm", "secretRef": {"name": "keys", "key": "justice"}})


def with_secret() -> World:
    world = empty()
    world.cluster.secrets["research", "keys"] = {"justice": OLD_KEY}
    return world


def with_encrypted_data() -> World:
    world = with_secret()
    world.apply(encrypted())
    world.run()
    world.node.write(f"{DATASET}/g1", "evidence", b"irreplaceable", sync=True)
    return world


def locked() -> World:
    world = with_encrypted_data()
    world.node.power_cut()
    return world


def create_encrypted(world: World) -> None:
    world.apply(encrypted())


def replace_key(world: World) -> None:
    world.cluster.secrets["research", "keys"] = {"justice": NEW_KEY, "justice.previous": OLD_KEY}
    obj = encrypted()
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/requestedAt": "now"}
    world.apply(obj)


WORK: dict[str, tuple[Callable[[], World], Callable[[World], None]]] = {
    "create": (empty, create),
    "update": (with_data, update),
    "correct": (with_data, drift),
    "release": (with_data, release),
    "adopt": (retained, adopt),
    "destroy": (confirmed, release),
    "create encrypted": (with_secret, create_encrypted),
    "unlock and replace the key": (locked, replace_key),
}

VOLATILE = {"creation", "createtxg", "guid"}


def picture(world: World) -> dict[str, Any]:
    """Return everything that matters at the end: the node's state, and what the API says."""
    names = (
        "compression",
        "copies",
        "logbias",
        "quota",
        "refquota",
        "mountpoint",
        layout.HEAD,
        layout.UID,
        layout.APPLIED,
        layout.KEY,
        "keylocation",
    )
    datasets = {
        name: {n: dataset.local(n) for n in names} | {"released": dataset.local(layout.RELEASED) is not None}
        for name, dataset in world.zfs.read(["tank"], [*names, layout.RELEASED]).items()
    }
    root = world.host.stat("/srv/dsg/.justice/g1")
    return {
        "datasets": datasets,
        "keys": {name: world.node.dataset(name).key for name in datasets},
        "key states": {name: d.value("keystatus") for name, d in world.zfs.read(["tank"], ["keystatus"]).items()},
        "mounts": [(m.dataset, m.directory, m.read_only) for m in world.host.mounts()],
        "link": world.host.stat("/srv/dsg/justice"),
        "root": (root.uid, root.gid, root.mode) if root is not None else None,
        "objects": {
            str(key): [(c["type"], c["status"], c["reason"]) for c in obj["status"].get("conditions", [])]
            for key, obj in world.cluster.objects.items()
        },
    }


def struck(name: str, stop: int, *, power: bool) -> tuple[World, list[str]]:
    """Do some work and strike at its `stop`-th moment; let a new operator go on. Returns the moments that passed."""
    prepare, act = WORK[name]
    world = prepare()
    act(world)
    moments: list[str] = []

    def strike(moment: Moment, operation: str, arguments: Mapping[str, object]) -> None:
        moments.append(f"{moment} {operation}")
        if len(moments) == stop:
            if power:
                world.node.power_cut()
            raise Killed

    world.node.faults = strike
    with contextlib.suppress(Killed):
        world.run()
    world.node.faults = None
    world.restart()
    for _ in range(3):
        world.run()
    return world, moments


def evidence(world: World, name: str) -> bool:
    return (
        name in {"create", "create encrypted", "destroy"}
        or world.node.read(f"{DATASET}/g1", "evidence") == b"irreplaceable"
    )


STRUCK = [(name, power) for name in WORK for power in (False, True) if (name, power) != ("create encrypted", False)]
"""Each kind of work killed and without power. What a kill can do to a creation does not depend on its key."""


@pytest.mark.parametrize(
    ("name", "power"), STRUCK, ids=[f"{name}-{'power cut' if power else 'killed'}" for name, power in STRUCK]
)
def test_struck_at_any_moment_the_work_ends_as_if_nothing_had_happened(name: str, power: bool) -> None:
    reference, moments = struck(name, 0, power=False)
    wanted = picture(reference)
    assert len(moments) > 8, moments
    for stop in range(1, len(moments) + 1):
        world, _ = struck(name, stop, power=power)
        where = f"{name}, {'power cut' if power else 'killed'} at {moments[stop - 1]} ({stop} of {len(moments)})"
        assert evidence(world, name), where
        assert picture(world) == wanted, where
        if name not in {"correct"}:
            assert world.told("DriftCorrected") == [], where
        if KEY in world.cluster.objects:
            world.quiet()


def test_a_status_that_could_not_be_written_is_written_later() -> None:
    world = running()
    world.zfs.set_properties(DATASET, {"compression": "off"})
    stale = copy.deepcopy(world.get())
    world.apply(repository())
    world.cluster.objects[KEY]["metadata"]["labels"] = {"touched": "by somebody"}
    world.cluster.objects[KEY]["metadata"]["resourceVersion"] = "999999"
    world.store.put(stale)
    world.engine.reconcile([KEY])
    world.run()
    assert world.ready() == ("True", "Reconciled")
    world.quiet()
