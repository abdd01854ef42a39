"""Everything that can happen to one repository, in any order: writers, readers, retention, strangers, clocks, crashes.

A hypothesis state machine acts on the model of OpenZFS as clients, operator and strangers do, and compares what it
finds after every step, and at every moment within an operation, with an oracle of plain dictionaries.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import (
    invariant,
    run_state_machine_as_test,
)

from tests.transactions.machine_strangers import Disturbed


class Machine(Disturbed):
    """One repository, everybody who acts on it, and what must be true."""

    @invariant()
    def sound(self) -> None:
        if self._began:
            type(self).steps += 1
        self._began = True
        self.look()
        self._versions_are_there()
        self._strangers_are_there()

    def _versions_are_there(self) -> None:
        if not self.oracle.head.number:
            return
        disk = self.disk_versions()
        assert sorted(disk) == self.oracle.there()
        for number, snapshot in disk.items():
            assert self.guids.setdefault(number, snapshot.guid) == snapshot.guid, f"s{number} is another one"
            known = self.known.get(id(snapshot.tree))
            if known is None:
                assert self.states(snapshot.tree) == self.oracle.versions[number].tree
                self.known[id(snapshot.tree)] = (snapshot.tree, number)
            else:
                assert known[1] == number
        assert self.parent("version") == f"s{self.oracle.head.number}"

    def _strangers_are_there(self) -> None:
        foreign = self.strangers
        if not (foreign.snapshots or foreign.datasets or foreign.writes or foreign.holds):
            return
        snapshots = self._snapshots()
        filesystems = {f.guid: f for f in self.filesystems()}
        assert set(foreign.snapshots) <= set(snapshots), "a stranger's snapshot was destroyed"
        assert set(foreign.datasets) <= set(filesystems), "a stranger's dataset was destroyed"
        for guid, written in foreign.writes.items():
            assert guid in filesystems, "what was written by hand was destroyed"
            for path, data in written.items():
                assert filesystems[guid].tree.entries[path].data == data
        for guid, tag in foreign.holds.items():
            assert tag in snapshots[guid].holds

    def teardown(self) -> None:
        """Bring everything to an end: no deadlock, no leftovers, every version as it was."""
        if not self._began:
            return
        self.tidy(0)
        self.node.sync()
        for client in list(self.open.values()):
            self._drive_to_end(client)
        self.keep(prune=True, strike=None)
        for _ in range(3):
            self.tidy(0)
            self.keep(prune=True, strike=None)
        for number in self.oracle.there():
            self.verify(number)
        self.look()
        assert self.revealed == self.oracle.head.number
        if not (self.strangers.snapshots or self.strangers.datasets or self.strangers.writes):
            self.ground.leftovers()
            self.seen["left in order"] += 1


SHARDS = 4
STEPS = 5_000
EXAMPLE = 50
PHASES = (Phase.generate, Phase.shrink)
COME_UP = {
    "struck: Killed",
    "struck: PowerCut",
    "struck: lost",
    "struck while starting",
    "committed, and nobody was told",
    "put on top",
    "aborted",
    "pruned",
    "kept",
    "left in order",
    "Init: Done",
    "Sync: Done",
    "Sync: Clashes",
    "Restore: Done",
    "refused: AlreadyInitialized",
}
"""What a shard has to come across to mean anything."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_anything_in_any_order(shard: int) -> None:
    class Shard(Machine):
        steps = 0
        seen: ClassVar[Counter[str]] = Counter()

    chosen = settings(
        max_examples=25,
        stateful_step_count=EXAMPLE,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        report_multiple_bugs=False,
        phases=PHASES,
    )
    rounds = 0
    while Shard.steps < STEPS:
        run_state_machine_as_test(seed(1000 * shard + rounds)(Shard), settings=chosen)
        rounds += 1
    assert Shard.seen.keys() >= COME_UP
