"""SyncTransactions as the cluster sees them: phases, ends, timeouts, access, and what the Repository says of it all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from dsg.api.synctransaction import Endpoint
from dsg.manifests.changes import encode_change
from dsg.reconcile.cluster import Key
from dsg.storage.trees import Owning
from dsg.storage.zfs.model import Killed, Moment
from dsg.transactions.metadata import CHANGES, incoming
from tests.reconcile.specs import pool, repository
from tests.reconcile.world import MemoryDataPlane, World, running
from tests.transactions.ground import Content, change_list, tree_digest

FIRST: Content = {"input/a": b"one", "input/b": b"two"}
SECOND: Content = {"input/a": b"one, corrected", "input/c": b"three"}
OWNING = Owning(0, 0, 0o755)


def transaction(name: str, operation: str = "Sync", **spec: Any) -> dict[str, Any]:
    content = spec.pop("content", None)
    said: dict[str, Any] = {
        "repositoryRef": {"name": "justice"},
        "node": "node-a",
        "operation": operation,
        "author": "alice",
        "clientKey": "0" * 64,
        "timeout": "1h",
        "ttlAfterFinished": "1d",
        **spec,
    }
    if content is not None:
        size = sum(len(what) for what in content.values())
        said["changes"] = {"manifestDigest": tree_digest(content), "files": len(content), "size": size}
    return {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "SyncTransaction",
        "metadata": {"name": name, "namespace": "research"},
        "spec": said,
    }


def get(world: World, name: str) -> dict[str, Any]:
    return world.cluster.objects[Key("SyncTransaction", "research", name)]


def state(world: World, name: str) -> tuple[str, str]:
    status = get(world, name)["status"]
    return status["phase"], next(c["reason"] for c in status["conditions"] if c["type"] == "Ready")


def send(world: World, name: str, base: Content, wanted: Content) -> None:
    root = f"/srv/dsg/.justice/.open/stage-{get(world, name)['metadata']['uid']}"
    for what in wanted.values():
        assert isinstance(what, bytes)
        from blake3 import blake3

        world.trees.write(root, incoming(blake3(what).hexdigest()), what, mode=0o600, owning=OWNING)
    lines = b"".join(encode_change(change) for change in change_list(base, wanted))
    world.trees.write(root, CHANGES, lines, mode=0o600, owning=OWNING)
    world.trees.sync(root)


def intend(world: World, name: str, intent: str) -> None:
    obj = get(world, name)
    world.apply({**obj, "spec": {**obj["spec"], "intent": intent}})


def seen(world: World) -> dict[str, bytes]:
    link = world.host.stat("/srv/dsg/justice")
    assert link is not None
    root = f"/srv/dsg/{link.target}"
    found = {}
    for path, _ in world.trees.walk(root):
        content = world.trees.read(root, path)
        assert content is not None
        found[path] = content
    return found


def commit(world: World, name: str, operation: str, before: Content, wanted: Content, **spec: Any) -> None:
    world.apply(transaction(name, operation, content=wanted, **spec))
    world.advance(name)
    assert state(world, name) == ("Staging", "Staged")
    send(world, name, before, wanted)
    intend(world, name, "Commit")
    world.advance(name)


def initialized(**spec: Any) -> World:
    obj = repository()
    obj["spec"].update(spec)
    world = running(obj)
    commit(world, "first", "Init", {}, FIRST)
    assert state(world, "first") == ("Committed", "Committed")
    world.run()
    return world


def test_from_opening_to_the_next_version() -> None:
    world = running()
    world.apply(transaction("first", "Init", content=FIRST))
    left = world.advance("first")
    assert left is not None
    assert 3000 < left <= 3700
    status = get(world, "first")["status"]
    assert status["phase"] == "Staging"
    assert status["openedAt"] == "2026-01-01T00:00:00Z"
    assert seen(world) == {}
    world.run()
    assert world.get()["status"]["openTransactions"] == 1
    send(world, "first", {}, FIRST)
    intend(world, "first", "Commit")
    assert world.advance("first") == 86400
    status = get(world, "first")["status"]
    assert (status["phase"], status["version"]) == ("Committed", "s1")
    assert {t["step"] for t in status["timings"]} == {"stage", "verify", "commit", "reveal", "clean"}
    assert seen(world) == FIRST
    world.run()
    head = world.get()["status"]["head"]
    assert (head["version"], head["author"]) == ("s1", "alice")
    assert world.get()["status"]["openTransactions"] == 0
    assert world.datasets() == {"tank", "tank/dsg", "tank/dsg/justice", "tank/dsg/justice/g2"}
    world.run()
    world.quiet()


def test_a_conflict_names_every_path() -> None:
    world = initialized()
    world.apply(transaction("ours", content={**FIRST, "input/a": b"ours"}, base="s1"))
    world.advance("ours")
    send(world, "ours", FIRST, {**FIRST, "input/a": b"ours"})
    commit(world, "theirs", "Sync", FIRST, SECOND, base="s1", author="bob")
    intend(world, "ours", "Commit")
    world.advance("ours")
    assert state(world, "ours") == ("Conflict", "PathsConflict")
    status = get(world, "ours")["status"]
    assert status["conflicts"] == {"total": 1, "items": [{"path": "input/a", "state": "sLCR__all_ne"}]}
    assert seen(world) == SECOND
    world.run()
    assert len([name for name in world.datasets() if name.startswith("tank/dsg/justice/")]) == 1


def test_disjoint_changes_are_rebased() -> None:
    world = initialized()
    ours = {**FIRST, "ours": b"ours"}
    world.apply(transaction("ours", content=ours, base="s1"))
    world.advance("ours")
    send(world, "ours", FIRST, ours)
    commit(world, "theirs", "Sync", FIRST, {**FIRST, "theirs": b"theirs"}, base="s1", author="bob")
    intend(world, "ours", "Commit")
    world.advance("ours")
    status = get(world, "ours")["status"]
    assert (status["phase"], status["version"], status["rebasedOnto"]) == ("Committed", "s3", "s2")
    assert seen(world) == {**FIRST, "ours": b"ours", "theirs": b"theirs"}


def test_an_abort_and_a_timeout_leave_nothing() -> None:
    world = initialized()
    for name, end in (("given-up", ("Aborted", "Aborted")), ("forgotten", ("Expired", "Expired"))):
        world.apply(transaction(name, content=SECOND, base="s1"))
        world.advance(name)
        send(world, name, FIRST, SECOND)
        if name == "given-up":
            intend(world, name, "Abort")
        else:
            world.now += timedelta(hours=2)
        world.advance(name)
        assert state(world, name) == end
    world.run()
    assert seen(world) == FIRST
    assert world.datasets() == {"tank", "tank/dsg", "tank/dsg/justice", "tank/dsg/justice/g2"}


def test_a_commit_that_was_made_is_not_taken_back_by_an_abort_or_a_timeout() -> None:
    for late in ("Abort", "timeout"):
        world = initialized()
        world.apply(transaction("next", content=SECOND, base="s1"))
        world.advance("next")
        send(world, "next", FIRST, SECOND)
        intend(world, "next", "Commit")

        def strike(moment: Moment, operation: str, arguments: object, world: World = world) -> None:
            if (moment, operation) == (Moment.AFTER, "zfs.program"):
                world.node.faults = None
                raise Killed

        world.node.faults = strike
        with pytest.raises(Killed):
            world.advance("next")
        world.restart()
        if late == "timeout":
            world.now += timedelta(hours=2)
        world.advance("next")
        assert state(world, "next") == ("Committed", "Committed")
        assert seen(world) == SECOND


def test_who_may_not_write_is_refused() -> None:
    access = {"writers": {"users": ["alice"]}, "admins": {"users": ["ada"]}}
    world = initialized(access=access)
    world.apply(transaction("mallory", content=SECOND, base="s1", author="mallory"))
    world.advance("mallory")
    assert state(world, "mallory") == ("Failed", "AccessDenied")
    world.apply(transaction("back", "Restore", base="s1", restore="s1"))
    world.advance("back")
    assert state(world, "back") == ("Failed", "AccessDenied")
    world.apply(transaction("back-by-ada", "Restore", base="s1", restore="s1", author="ada", intent="Commit"))
    world.advance("back-by-ada")
    assert state(world, "back-by-ada") == ("Committed", "NothingToChange")


def test_it_waits_for_its_repository() -> None:
    world = running()
    world.apply(transaction("early", content=FIRST, operation="Init", repositoryRef={"name": "later"}))
    assert world.advance("early") is not None
    assert state(world, "early") == ("Pending", "RepositoryNotFound")
    world.now += timedelta(hours=2)
    world.advance("early")
    assert state(world, "early") == ("Expired", "Expired")


def test_it_is_deleted_after_its_time() -> None:
    world = initialized()
    assert world.advance("first") == 86400
    world.now += timedelta(days=2)
    world.advance("first")
    assert Key("SyncTransaction", "research", "first") not in world.cluster.objects


def test_a_deleted_transaction_leaves_nothing() -> None:
    world = initialized()
    world.apply(transaction("gone", content=SECOND, base="s1"))
    world.advance("gone")
    send(world, "gone", FIRST, SECOND)
    del world.cluster.objects[Key("SyncTransaction", "research", "gone")]
    world.run()
    assert world.datasets() == {"tank", "tank/dsg", "tank/dsg/justice", "tank/dsg/justice/g2"}


def test_what_was_written_by_hand_is_kept_and_named() -> None:
    world = initialized()
    world.node.write("tank/dsg/justice/g2", "by-hand", b"evidence")
    world.node.sync()
    commit(world, "next", "Sync", FIRST, SECOND, base="s1")
    assert state(world, "next")[0] == "Committed"
    world.run()
    assert world.node.read("tank/dsg/justice/g2", "by-hand") == b"evidence"
    condition = world.condition("UnexpectedData")
    assert condition["status"] == "True"
    assert "by-hand" in condition["message"]
    assert any("by-hand" in message for message in world.told("KeptForeign"))
    assert world.ready() == ("True", "Reconciled")


def test_retention_prunes_and_shows_its_plan() -> None:
    world = initialized(retention={"keepLast": 2})
    trees: list[Content] = [FIRST]
    for number in range(2, 6):
        trees.append({**FIRST, "input/a": f"{number}".encode()})
        world.now += timedelta(minutes=10)
        commit(world, f"t{number}", "Sync", trees[-2], trees[-1], base=f"s{number - 1}")
    world.zfs.hold([f"tank/dsg/justice/{world.local('tank/dsg/justice', 'org.hrdag.dsg:head')}@s2"], "court")
    world.now += timedelta(minutes=10)
    world.run()
    world.now += timedelta(minutes=10)
    world.run()
    retention = world.get()["status"]["retention"]
    assert retention["versions"] == 3
    assert "s2" in retention["held"][0]
    assert "@s2 has a hold" in world.condition("UnexpectedData")["message"]
    assert retention["lastPruned"] == 2
    assert any("s1" in message for message in world.told("Pruned"))


def test_every_step_is_in_the_transactions_own_trace() -> None:
    from opentelemetry import trace

    from dsg.reconcile.transaction_trace import context_of

    obj = {"metadata": {"uid": "01234567-89ab-cdef-0123-456789abcdef"}}
    first = trace.get_current_span(context_of(obj)).get_span_context()
    assert first.trace_id == 0x0123456789ABCDEF0123456789ABCDEF
    assert first == trace.get_current_span(context_of(obj)).get_span_context()
    told = {"dsg.hrdag.org/traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    annotated = trace.get_current_span(context_of({"metadata": {"uid": "x", "annotations": told}}))
    assert annotated.get_span_context().trace_id == int("a" * 32, 16)


def served(**spec: Any) -> tuple[World, MemoryDataPlane]:
    """Return a world with a first version, whose operator has a data plane from then on."""
    world = initialized(**spec)
    world.data_plane = MemoryDataPlane()
    world.restart()
    world.run()
    return world, world.data_plane


def uid(world: World, name: str) -> str:
    return str(get(world, name)["metadata"]["uid"])


def test_a_client_may_send_until_the_commit_begins() -> None:
    world, plane = served(transactions={"sizeLimit": "1Mi"})
    wanted = {**FIRST, "input/a": b"new"}
    world.apply(transaction("next", content=wanted, base="s1", clientKey="c" * 64))
    world.advance("next")
    status = get(world, "next")["status"]
    assert status["phase"] == "Staging"
    assert status["endpoint"] == {"url": "https://node-a.test:8443", "certificateFingerprint": "1" * 64}
    admission = plane.open[uid(world, "next")]
    assert (admission.mode, admission.author, admission.client_key) == ("write", "alice", "c" * 64)
    assert admission.root == f"/srv/dsg/.justice/.open/stage-{uid(world, 'next')}"
    assert (admission.size_limit, admission.repository) == (1 << 20, "research/justice")
    opened = datetime.fromisoformat(get(world, "next")["metadata"]["creationTimestamp"])
    assert admission.expires == opened + timedelta(hours=1)
    send(world, "next", FIRST, wanted)
    intend(world, "next", "Commit")
    # The operator dies before it hears of that, and comes back.
    world.restart()
    world.advance("next")
    assert state(world, "next") == ("Committed", "Committed")
    assert "endpoint" not in get(world, "next")["status"]
    assert plane.open == {}


def test_who_sends_is_shut_out_before_anything_is_verified() -> None:
    world, plane = served()
    wanted = {**FIRST, "input/a": b"new"}
    world.apply(transaction("next", content=wanted, base="s1"))
    world.advance("next")
    send(world, "next", FIRST, wanted)
    intend(world, "next", "Commit")
    plane.broken = True
    assert world.advance("next") == 1
    assert state(world, "next") == ("Staging", "StagingFailed")
    assert seen(world) == FIRST
    plane.broken = False
    world.advance("next")
    assert state(world, "next") == ("Committed", "Committed")


def test_a_version_is_read_until_the_client_has_enough() -> None:
    world, plane = served()
    commit(world, "second", "Sync", FIRST, SECOND, base="s1")
    world.apply(transaction("reader", "Read", base="s1", author="bob"))
    world.advance("reader")
    assert state(world, "reader") == ("Serving", "Serving")
    admission = plane.open[uid(world, "reader")]
    assert (admission.mode, admission.version) == ("read", "s1")
    found = {path: world.trees.read(admission.root, path) for path, _ in world.trees.walk(admission.root)}
    assert found == FIRST
    world.restart()
    before = len(world.cluster.writes)
    world.advance("reader")
    assert world.cluster.writes[before:] == []
    intend(world, "reader", "Abort")
    assert world.advance("reader") == 86400
    assert state(world, "reader") == ("Closed", "Closed")
    assert plane.open == {}
    assert not any("read-" in name for name in world.datasets())
    assert seen(world) == SECOND


def test_a_reader_that_stays_too_long_or_asks_for_too_much() -> None:
    world, plane = served()
    world.apply(transaction("reader", "Read", base="s1"), transaction("greedy", "Read", base="s7"))
    world.advance("reader")
    world.advance("greedy")
    assert state(world, "greedy") == ("Failed", "BaseGone")
    world.now += timedelta(hours=2)
    world.advance("reader")
    assert state(world, "reader") == ("Expired", "Expired")
    assert plane.open == {}


def test_a_version_that_is_read_is_not_pruned() -> None:
    world, plane = served(retention={"keepLast": 1})
    world.apply(transaction("reader", "Read", base="s1"))
    world.advance("reader")
    commit(world, "second", "Sync", FIRST, SECOND, base="s1")
    world.now += timedelta(minutes=30)
    world.run()
    admission = plane.open[uid(world, "reader")]
    assert world.trees.read(admission.root, "input/a") == b"one"
    intend(world, "reader", "Abort")
    world.advance("reader")
    world.now += timedelta(hours=2)
    world.run()
    assert world.get()["status"]["retention"]["lastPruned"] == 1


@pytest.mark.parametrize(
    ("access", "phase"),
    [
        ({"readers": {"users": ["alice"]}}, "Serving"),
        ({"writers": {"users": ["alice"]}}, "Serving"),
        ({"admins": {"users": ["alice"]}}, "Serving"),
        ({"readers": {"users": ["bob"]}}, "Failed"),
    ],
)
def test_who_may_read(access: dict[str, Any], phase: str) -> None:
    world, _ = served()
    obj = world.get()
    world.apply({**obj, "spec": {**obj["spec"], "access": access}})
    world.run()
    world.apply(transaction("reader", "Read", base="s1"), transaction("writer", content=FIRST, base="s1"))
    world.advance("reader")
    assert state(world, "reader")[0] == phase
    world.advance("writer")
    assert (state(world, "writer")[0] == "Staging") == (not {"writers", "admins"}.isdisjoint(access))


def test_without_a_data_plane_nothing_is_read() -> None:
    world = initialized()
    world.apply(transaction("reader", "Read", base="s1"))
    world.advance("reader")
    assert state(world, "reader") == ("Failed", "DataPlaneMissing")


def test_a_data_plane_that_has_not_started_is_waited_for() -> None:
    world, plane = served()
    plane.at = None
    world.apply(transaction("reader", "Read", base="s1"), transaction("next", content=FIRST, base="s1"))
    for name in ("reader", "next"):
        assert world.advance(name) == 1
        assert state(world, name) == ("Pending", "DataPlaneNotReady")
    plane.at = Endpoint(url="https://node-a.test:8443", certificate_fingerprint="2" * 64)
    world.advance("reader")
    world.advance("next")
    assert [state(world, name)[0] for name in ("reader", "next")] == ["Serving", "Staging"]
    # Another server, with another certificate: clients must hear of it.
    plane.at = Endpoint(url="https://node-a.test:8443", certificate_fingerprint="3" * 64)
    world.advance("reader")
    assert get(world, "reader")["status"]["endpoint"]["certificateFingerprint"] == "3" * 64


def test_grants_of_what_is_gone_are_withdrawn() -> None:
    world, plane = served()
    world.apply(transaction("reader", "Read", base="s1"), transaction("next", content=FIRST, base="s1"))
    world.advance("reader")
    world.advance("next")
    # Deleted while no operator runs.
    del world.cluster.objects[Key("SyncTransaction", "research", "reader")]
    world.restart()
    world.watch()
    world.transactions.withdraw_unknown()
    assert set(plane.open) == {uid(world, "next")}


class _Counted:
    """What is told to be over."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str]] = []

    def transaction_ended(self, operation: str, outcome: str, reason: str) -> None:
        self.ended.append((operation, outcome, reason))

    def transaction_step(self, step: str, seconds: float) -> None:
        assert seconds >= 0


def test_every_end_is_counted_once_also_of_what_never_began() -> None:
    counted = _Counted()
    world = World()
    world.recorder = counted
    world.restart()
    world.apply(pool(), repository())
    world.run()
    commit(world, "first", "Init", {}, FIRST)
    world.advance("first")
    lost = transaction("lost", content=FIRST, base="s1")
    lost["spec"]["repositoryRef"]["name"] = "nowhere"
    world.apply(lost)
    world.advance("lost")
    assert counted.ended == [("Init", "Committed", "Committed")]
    intend(world, "lost", "Abort")
    world.advance("lost")
    world.advance("lost")
    assert counted.ended[1:] == [("Sync", "Aborted", "Aborted")]
