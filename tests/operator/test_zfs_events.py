"""What happens in a pool concerns the repositories it names, and no others."""

from __future__ import annotations

import threading

from dsg.operator.zfs_events import ZfsEventWatch, concerned
from dsg.reconcile.cluster import Key
from dsg.storage.zfs.interface import ZfsEvent
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import running

HISTORY = "sysevent.fs.zfs.history_event"
OBJECTS = [pool(), repository(), repository("other"), repository("elsewhere", pool="vault", dataset="vault/dsg/e")]


def names(event: ZfsEvent) -> set[str]:
    return {key.name for key in concerned(event, OBJECTS)}


def test_a_dataset_concerns_its_repository_those_below_and_those_above() -> None:
    assert names(ZfsEvent(HISTORY, "tank", "tank/dsg/justice")) == {"justice"}
    assert names(ZfsEvent(HISTORY, "tank", "tank/dsg/justice/g1")) == {"justice"}
    assert names(ZfsEvent(HISTORY, "tank", "tank/dsg/justice/g1@daily")) == {"justice"}
    assert names(ZfsEvent(HISTORY, "tank", "tank/dsg")) == {"justice", "other"}
    assert names(ZfsEvent(HISTORY, "tank", "tank/dsg/justicex")) == set()


def test_an_event_of_the_pool_concerns_everything_in_it() -> None:
    assert names(ZfsEvent("sysevent.fs.zfs.pool_export", "tank")) == {"node-a-tank", "justice", "other"}
    assert names(ZfsEvent("sysevent.fs.zfs.pool_export", "other")) == set()


def test_a_change_by_hand_asks_for_a_look_at_once() -> None:
    world = running()
    asked: set[Key] = set()
    heard = threading.Event()

    def ask(keys: set[Key]) -> None:
        asked.update(keys)
        heard.set()

    watch = ZfsEventWatch(world.zfs, world.store, ask)
    watch.start()
    try:
        for _ in range(100):
            world.zfs.set_properties("tank/dsg/justice", {"compression": "off"})
            if heard.wait(0.05):
                break
        assert Key("Repository", "research", "justice") in asked
    finally:
        watch.stop()
