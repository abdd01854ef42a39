"""The machine's strangers: people on the node who make snapshots, write, create, hold, send and read; and undo it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
)

from dsg.storage.zfs.model.dataset import Snapshot
from tests.transactions.machine_bench import PARENT, PUBLIC
from tests.transactions.machine_keeping import Keeping
from tests.transactions.oracle import (
    AFile,
)


class Disturbed(Keeping):
    """A repository that others have their hands in."""

    @rule(
        what=st.sampled_from(("snapshot", "snapshot", "write", "write", "create", "hold", "send", "read")),
        which=st.integers(0, 9),
        one=st.booleans(),
        other=st.booleans(),
    )
    def stranger(self, what: str, which: int, one: bool, other: bool) -> None:
        match what:
            case "snapshot":
                self.stranger_snapshots(which)
            case "write":
                self.stranger_writes(which, one)
            case "create":
                self.stranger_creates(which, one, other)
            case "hold" if self.oracle.head.number:
                self.stranger_holds(which)
            case "send" if self.oracle.head.number:
                self.stranger_sends(which)
            case _:
                self.somebody_reads()

    def stranger_snapshots(self, which: int) -> None:
        filesystems = self.filesystems()
        filesystem = filesystems[which % len(filesystems)]
        self.numbers += 1
        name = f"by-hand-{self.numbers}"
        self.ground.zfs.snapshot([f"{filesystem.name}@{name}"])
        self.strangers.snapshots[filesystem.snapshots[name].guid] = name

    def stranger_holds(self, which: int) -> None:
        versions = list(self.disk_versions().values())
        snapshot = versions[which % len(versions)]
        if snapshot.guid not in self.strangers.holds:
            self.ground.zfs.hold([snapshot.full_name], "stranger")
            self.strangers.holds[snapshot.guid] = "stranger"

    def stranger_writes(self, which: int, over: bool) -> None:
        """Write past the transactions, into the head or what was the head."""
        head = int(self.parent("head")[1:])
        heads = [
            f
            for f in self.filesystems()
            if (name := f.name[len(PARENT) + 1 :])[0] == "g" and name[1:].isdigit() and int(name[1:]) <= head
        ]
        filesystem = heads[which % len(heads)]
        self.numbers += 1
        path, data = f"by-hand-{self.numbers}", f"evidence {self.numbers}".encode()
        files = [p for p, s in self.states(filesystem.tree).items() if isinstance(s, AFile)]
        if over and files:
            path = files[which % len(files)]
        self.strangers.writes.setdefault(filesystem.guid, {})[path] = data
        self.node.write(filesystem.name, path, data, sync=True)
        if which % 2 or filesystem is not self.head():
            # Otherwise ZFS does not yet count it as written; and whoever writes into what was the head has to mount it.
            self.node.sync()

    def stranger_creates(self, which: int, below: bool, clone: bool) -> None:
        self.numbers += 1
        filesystems = self.filesystems()
        above = filesystems[which % len(filesystems)].name if below else PARENT
        name = f"{above}/foreign-{self.numbers}"
        versions = list(self.disk_versions().values())
        if clone and versions:
            self.ground.zfs.clone(versions[which % len(versions)].full_name, name, {})
        else:
            self.ground.zfs.create(name, {})
        self.strangers.datasets[self.node.dataset(name).guid] = name.rpartition("/")[2]

    def stranger_sends(self, which: int) -> None:
        versions = list(self.disk_versions().values())
        snapshot = versions[which % len(versions)]
        sending = self.node.sending(snapshot.full_name)
        sending.__enter__()
        self.sends.append((sending, snapshot))

    def somebody_reads(self) -> None:
        """Stay in the directory that the mountpoint leads to now."""
        using = self.node.use(PUBLIC)
        using.__enter__()
        self.users.append(using)

    @rule(number=st.integers(0, 9))
    def tidy(self, number: int) -> None:
        """Take back what strangers did, one thing or all."""
        for sending, _ in self.sends:
            sending.__exit__(None, None, None)
        self.sends.clear()
        for using in self.users:
            using.__exit__(None, None, None)
        self.users.clear()
        todo: list[Callable[[], bool]] = [
            *(lambda g=guid: self._remove_dataset(g) for guid in list(self.strangers.datasets)),
            *(lambda g=guid: self._remove_snapshot(g) for guid in list(self.strangers.snapshots)),
            *(lambda g=guid: self._release(g) for guid in list(self.strangers.holds)),
            *(lambda g=guid: self._remove_writes(g) for guid in list(self.strangers.writes)),
        ]
        if number and todo:
            todo[number % len(todo)]()
            return
        for _ in range(3):
            for one in todo:
                one()

    def _snapshots(self) -> dict[int, Snapshot]:
        return {s.guid: s for f in self.filesystems() for s in f.snapshots.values()}

    def _remove_dataset(self, guid: int) -> bool:
        found = next((f for f in self.filesystems() if f.guid == guid), None)
        if found is None or found.children or found.snapshots:
            return False
        self.ground.zfs.destroy(found.name)
        del self.strangers.datasets[guid]
        return True

    def _remove_snapshot(self, guid: int) -> bool:
        snapshot = self._snapshots().get(guid)
        if snapshot is None or snapshot.clones:
            return False
        self.ground.zfs.destroy_snapshots(snapshot.filesystem.name, [snapshot.name])
        del self.strangers.snapshots[guid]
        return True

    def _release(self, guid: int) -> bool:
        if guid not in self.strangers.holds:
            return False
        self.ground.zfs.release([self._snapshots()[guid].full_name], self.strangers.holds.pop(guid))
        return True

    def _remove_writes(self, guid: int) -> bool:
        """Remove files that were written by hand; of a former head with overwritten ones, all of it."""
        if guid not in self.strangers.writes:
            return False
        found = next(f for f in self.filesystems() if f.guid == guid)
        written = self.strangers.writes[guid]
        for path in [p for p in written if p.startswith("by-hand")]:
            self.node.remove(found.name, path)
            self.node.sync()
            del written[path]
        if found is not self.head() and written and not found.snapshots and not found.children:
            for mount in list(found.mounts):
                self.ground.host.unmount(mount.directory)
            self.ground.host.remove_directory(f"/srv/dsg/.justice/{found.name.rpartition('/')[2]}")
            self.ground.zfs.destroy(found.name)
            written.clear()
        if not written:
            self.strangers.writes.pop(guid, None)
        return not written
