"""What the machine's operator does between transactions, and what befalls it: retention, restarts, clocks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
)

from dsg.storage import errors
from dsg.storage.layout import Part
from dsg.storage.zfs.model.dataset import Filesystem
from dsg.transactions.keeper import Kept
from tests.transactions.machine_bench import KEPT, PARENT
from tests.transactions.machine_clients import Clients
from tests.transactions.machine_parts import (
    Strike,
    strikes,
)


class Keeping(Clients):
    """The operator without transactions."""

    @rule(prune=st.booleans(), strike=strikes)
    def keep(self, prune: bool, strike: Strike) -> None:
        in_use = {name for client in self.open.values() for name in client.bases}
        may_go, must_go = self._prunable(in_use)
        kept = self.attempt(strike, lambda: self._keep(in_use, prune=prune))
        gone = set(self.oracle.there()) - set(self.disk_versions())
        assert gone <= (may_go if prune else set()), f"{gone} were pruned"
        self.oracle.gone |= gone
        if gone:
            self.seen["pruned"] += 1
        if kept is None:
            return
        assert {f"s{number}" for number in gone} == set(kept.pruned)
        if prune and self.clock_sane and not self.sends:
            assert must_go <= gone, f"{must_go - gone} were to be pruned"
        self._orderly(kept)

    def _keep(self, in_use: Collection[str], *, prune: bool) -> Kept:
        ground, target = self.ground, self.ground.target
        versions = ground.kind.versions([target])[target.identity] if prune else None
        found = ground.repositories.observe([target])[target.identity]
        if isinstance(found, errors.StorageError):
            raise found
        outline = ground.repositories.outline(target, found)
        return ground.keeper.keep(target, outline, self.live(), in_use, ground.now, versions)

    def _prunable(self, in_use: Collection[str]) -> tuple[set[int], set[int]]:
        """Return which versions retention may let go of, and which of these nothing holds."""
        disk = self.disk_versions()
        may = {n for n in self.oracle.there()[:-KEPT] if f"s{n}" not in in_use and not disk[n].holds}
        parts = {f"{PARENT}/{part}-{uid}" for uid in self.open for part in Part}
        generations = {f.name for f in self.filesystems()}
        # What is over is removed first, and with it clones that stood in the way.
        free = {n for n in may if all(c.name not in generations | parts for c in disk[n].clones.values())}
        return may, free

    def _orderly(self, kept: Kept) -> None:
        """Nothing is left but the head, live transactions, what is in use, and what is somebody else's, by name."""
        head = self.head()
        phrases = kept.cleaned.kept
        for filesystem in head.parent.children.values() if head.parent is not None else ():
            name = filesystem.name.rpartition("/")[2]
            stored = filesystem.local.get("org.hrdag.dsg:transaction")
            uid = str(stored.local.value) if stored is not None else name.partition("-")[2]
            later = name[0] != "g" or int(name[1:]) > int(self.parent("head")[1:])
            if filesystem is head or (uid in self.open and later):
                continue
            busy = any(self.node.in_use(mount.number) for mount in filesystem.mounts)
            if busy:
                self.seen["waits"] += 1
                continue
            assert self._foreign(filesystem), f"{filesystem.name} is left: {kept.cleaned}"
            named = [phrase for phrase in phrases if filesystem.name in phrase]
            assert named, f"{filesystem.name} holds what is not ours, and {phrases} does not say so"
            self.seen["kept"] += 1
        if not self.strangers.writes.get(head.guid):
            assert all(not phrase.startswith("written") or f"/{head.name} " not in phrase for phrase in phrases)
        elif not head.unsynced and list(head.snapshots)[-1:] == [self.parent("version")]:
            # A stranger's snapshot hides what was written before it: `written` counts since the newest one.
            assert any(head.name in phrase for phrase in phrases), "written in the head, and nobody is told"

    def _foreign(self, filesystem: Filesystem) -> bool:
        return (
            filesystem.guid in self.strangers.datasets
            or bool(self.strangers.writes.get(filesystem.guid))
            or any(s.guid in self.strangers.snapshots for s in filesystem.snapshots.values())
            or any(self._foreign(child) for child in filesystem.children.values())
        )

    @rule(how=st.sampled_from(("kill", "cut", "flushed")))
    def restart(self, how: str) -> None:
        if how != "kill":
            self.node.power_cut(flushed=how == "flushed")
            self._power_is_gone()
        self._start(None)

    @rule(minutes=st.sampled_from((1, 1, 60, 60 * 24, 60 * 24 * 400, -1, -60 * 24 * 30)))
    def clock(self, minutes: int) -> None:
        self.ground.now += timedelta(minutes=minutes)
        if minutes < 0:
            self.clock_sane = False
