"""What the operator records, and that what must be recorded first is not done without it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dsg.audit.auditor import Auditor
from dsg.audit.errors import AuditError
from dsg.audit.log import AuditLog
from dsg.audit.record import Entry, Record, decode
from dsg.audit.verify import read_sources, verify
from dsg.reconcile.cluster import Key
from dsg.storage.zfs.model import Killed, Moment
from tests.reconcile.specs import pool, repository
from tests.reconcile.test_transactions import FIRST, SECOND, commit, get, intend, send, state, transaction
from tests.reconcile.world import World


class Book:
    """An audit log in a file, which can be made to fail."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "audit.jsonl"
        self.log = AuditLog(self.path, "operator", "node-a", sync=lambda fd: None)
        self.auditor = Auditor(self.log)
        self.broken = ""

    def require(self, entry: Entry, *, durable: bool = True) -> None:
        if self.broken and entry.action.startswith(self.broken):
            raise AuditError("the audit log can't be written: No space left on device")
        self.auditor.require(entry, durable=durable)

    def tell(self, entry: Entry) -> None:
        self.auditor.tell(entry)

    @property
    def records(self) -> list[Record]:
        return [decode(line) for line in self.path.read_bytes().splitlines()]

    def actions(self, prefix: str = "") -> list[str]:
        return [record.action for record in self.records if record.action.startswith(prefix)]

    def last(self, action: str) -> Record:
        return next(record for record in reversed(self.records) if record.action == action)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def started(book: Book, **spec: object) -> World:
    world = World()
    world.audit = book
    world.restart()
    obj = repository()
    obj["spec"].update(spec)
    world.apply(pool(), obj)
    world.run()
    return world


def test_a_transaction_is_recorded_from_opening_to_its_version(book: Book) -> None:
    world = started(book)
    commit(world, "first", "Init", {}, FIRST)
    world.run()
    assert book.actions("transaction.") == ["transaction.opened", "transaction.committing", "transaction.committed"]
    done = book.last("transaction.committed")
    assert (done.who, done.object.name, done.object.uid) == ("alice", "first", get(world, "first")["metadata"]["uid"])
    assert done.details["version"] == "s1"
    assert done.details["digest"] == world.get()["status"]["head"]["digest"]
    assert done.details["clientKey"] == "0" * 64
    assert verify(read_sources([book.path])).whole
    # Nothing of it is told again.
    before = len(book.records)
    world.run()
    world.advance("first")
    assert len(book.records) == before


def test_every_end_is_recorded(book: Book) -> None:
    world = started(book, access={"writers": {"users": ["alice"]}, "admins": {"users": ["alice"]}})
    commit(world, "first", "Init", {}, FIRST)
    world.apply(transaction("gone", base="s1", content=SECOND))
    world.advance("gone")
    intend(world, "gone", "Abort")
    world.advance("gone")
    world.apply(transaction("mallory", base="s1", content=SECOND, author="mallory"))
    world.advance("mallory")
    world.apply(transaction("empty", base="s1", content=SECOND, intent="Commit"))
    world.advance("empty")
    world.apply(transaction("late", base="s1", content=SECOND))
    world.advance("late")
    world.apply(transaction("back", "Restore", base="s1", restore="s1", intent="Commit"))
    world.advance("back")
    world.apply(transaction("other", base="s1", content={**FIRST, "input/a": b"mine"}))
    world.apply(transaction("same", base="s1", content={**FIRST, "input/a": b"theirs"}))
    for name, content in (("other", b"mine"), ("same", b"theirs")):
        world.advance(name)
        send(world, name, FIRST, {**FIRST, "input/a": content})
        intend(world, name, "Commit")
        world.advance(name)
    world.now += timedelta(hours=2)
    world.advance("late")
    ends = {r.object.name: r.action for r in book.records if r.action.startswith("transaction.")}
    assert ends == {
        "first": "transaction.committed",
        "gone": "transaction.aborted",
        "mallory": "transaction.refused",
        "empty": "transaction.failed",
        "late": "transaction.expired",
        "back": "transaction.committed",
        "other": "transaction.committed",
        "same": "transaction.conflict",
    }
    assert book.last("transaction.refused").details["reason"] == "AccessDenied"
    assert book.last("transaction.conflict").details["conflicts"] == 1
    # Names of files of the data stay out of it.
    assert b"input/a" not in book.path.read_bytes()


def test_a_commit_that_cannot_be_recorded_is_not_made_and_is_made_when_it_can(book: Book) -> None:
    world = started(book)
    world.apply(transaction("first", "Init", content=FIRST))
    world.advance("first")
    send(world, "first", {}, FIRST)
    intend(world, "first", "Commit")
    book.broken = "transaction."
    world.advance("first")
    assert state(world, "first") == ("Verifying", "AuditUnavailable")
    assert world.value("tank/dsg/justice", "org.hrdag.dsg:version") is None
    book.broken = ""
    world.advance("first")
    assert state(world, "first") == ("Committed", "Committed")
    assert book.actions("transaction.c") == ["transaction.committing", "transaction.committed"]


def test_what_was_committed_is_not_said_to_be_before_that_is_recorded(book: Book) -> None:
    world = started(book)
    world.apply(transaction("first", "Init", content=FIRST))
    world.advance("first")
    send(world, "first", {}, FIRST)
    intend(world, "first", "Commit")
    book.broken = "transaction.committed"
    world.advance("first")
    assert state(world, "first") == ("Committing", "AuditUnavailable")
    # Killed there, and started anew.
    world.restart()
    book.broken = ""
    world.advance("first")
    assert state(world, "first") == ("Committed", "Committed")
    assert book.last("transaction.committed").details["version"] == "s1"


def test_a_transaction_that_cannot_be_recorded_does_not_open(book: Book) -> None:
    world = started(book)
    book.broken = "transaction."
    world.apply(transaction("first", "Init", content=FIRST))
    world.advance("first")
    assert state(world, "first") == ("Pending", "AuditUnavailable")
    book.broken = ""
    world.advance("first")
    assert state(world, "first") == ("Staging", "Staged")


def test_a_repository_is_recorded_from_creation_to_release_and_adoption(book: Book) -> None:
    world = started(book)
    made = book.last("repository.created")
    assert (made.object.kind, made.object.name, made.who) == ("Repository", "justice", "")
    world.zfs.set_properties("tank/dsg/justice", {"compression": "off"})
    world.run()
    (corrected,) = [r for r in book.records if r.action == "drift.corrected"]
    assert "compression of tank/dsg/justice" in str(corrected.details["corrected"])
    world.cluster.delete(Key("Repository", "research", "justice"))
    book.broken = "repository."
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "StorageFailed"
    assert world.local("tank/dsg/justice", "org.hrdag.dsg:released") is None
    book.broken = ""
    world.run()
    assert book.actions("repository.rel") == ["repository.releasing", "repository.released"]
    obj = repository()
    obj["spec"]["storage"]["adopt"] = True
    world.apply(obj)
    world.run()
    assert "repository.adopted" in book.actions()


def test_what_is_destroyed_is_recorded_before(book: Book) -> None:
    obj = repository()
    world = started(book, deletionPolicy="Delete")
    obj = world.get()
    obj["metadata"]["annotations"] = {"dsg.hrdag.org/confirm-delete": "justice"}
    world.apply(obj)
    world.cluster.delete(Key("Repository", "research", "justice"))
    book.broken = "repository."
    world.run()
    assert "tank/dsg/justice" in world.datasets()
    book.broken = ""
    world.run()
    assert "tank/dsg/justice" not in world.datasets()
    assert book.actions("repository.destroy") == ["repository.destroying", "repository.destroyed"]


def test_versions_that_cannot_be_recorded_are_not_pruned(book: Book) -> None:
    world = started(book, retention={"keepLast": 1})
    commit(world, "first", "Init", {}, FIRST)
    commit(world, "second", "Sync", FIRST, SECOND, base="s1")
    book.broken = "versions."
    for _ in range(3):
        world.now += timedelta(hours=1, minutes=1)
        world.run()
    assert world.get()["status"]["retention"]["versions"] == 2
    book.broken = ""
    for _ in range(3):
        world.now += timedelta(hours=1, minutes=1)
        world.run()
    assert book.actions("versions.") == ["versions.pruning", "versions.pruned"]
    assert book.last("versions.pruned").details == {"versions": ["s1"], "count": 1}


def test_a_place_that_is_refused_is_recorded_once(book: Book) -> None:
    world = started(book)
    other = repository("other")
    other["spec"]["storage"]["dataset"] = "tank/elsewhere/other"
    world.apply(other)
    world.run()
    world.run()
    assert book.actions("repository.refused") == ["repository.refused"]
    assert book.last("repository.refused").object.name == "other"


def test_whoever_is_killed_anywhere_in_a_commit_leaves_a_record_of_it(tmp_path: Path) -> None:
    for number in range(0, 400, 23):
        directory = tmp_path / str(number)
        directory.mkdir()
        book = Book(directory)
        world = started(book)
        world.apply(transaction("first", "Init", content=FIRST))
        world.advance("first")
        send(world, "first", {}, FIRST)
        intend(world, "first", "Commit")
        count = 0

        def strike(moment: Moment, operation: str, arguments: object, world: World = world, at: int = number) -> None:
            nonlocal count
            count += 1
            if count > at:
                world.node.faults = None
                raise Killed

        world.node.faults = strike
        try:
            world.advance("first")
        except Killed:
            world.restart()
            world.run()
            for _ in range(3):
                world.advance("first")
        else:
            assert number > 20
            break
        assert state(world, "first") == ("Committed", "Committed")
        assert book.last("transaction.committed").details["version"] == "s1"
        assert verify(read_sources([book.path])).whole
    else:
        raise AssertionError("there was no end of moments")


def test_a_suspended_repository_that_is_let_go_is_recorded_too(book: Book) -> None:
    world = started(book)
    obj = world.get()
    obj["spec"]["suspend"] = True
    world.apply(obj)
    world.run()
    world.cluster.delete(Key("Repository", "research", "justice"))
    book.broken = "repository."
    world.run()
    assert world.condition("DeletionBlocked")["reason"] == "StorageFailed"
    book.broken = ""
    world.run()
    assert book.last("repository.released").details["suspended"] is True
