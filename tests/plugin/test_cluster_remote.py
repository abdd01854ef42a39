"""A repository of a cluster as a working copy sees it: what is opened is closed, and what the operator says arrives."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dsg.api import access
from dsg.api.synctransaction import Endpoint as StatusEndpoint
from dsg.api.synctransaction import SyncTransactionStatus
from dsg.plugin import cluster_remote, transaction
from dsg.plugin.cluster_remote import ClusterRemote, TransferFailed
from dsg.plugin.kubectl import Connection, Kubectl, NotFound, NotLoggedIn, Unreachable
from dsg.plugin.transaction import OutcomeUnknown, Patience, State, TransactionError
from dsg.transfer.client import asks, errors
from dsg.transfer.client.identity import Endpoint, Identity
from dsg.transfer.contents import Outgoing, SourceChanged, Wanted
from dsg.workcopy.remote import (
    Committed,
    Conflicted,
    Ref,
    RemoteError,
    Request,
    Sink,
    StillOpen,
    Stopped,
    Unknown,
    VersionGone,
)
from tests.plugin.world import ENDPOINT, World, repository

IMPATIENT = Patience(tell=0.05, unanswered=0.5, pending=0.5, unreachable=0.5)
TREE = "a" * 64
SYNC = Request("Sync", "s1", "why", TREE, files=2, size=7, added=1)


STAGING = State("Staging", "Staged", "", SyncTransactionStatus(endpoint=StatusEndpoint.model_validate(ENDPOINT)))


class Node:
    """A data plane that takes everything."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.sent: list[bytes] = []
        self.connected: list[tuple[Endpoint, str, str]] = []
        self.closed = 0

    @contextmanager
    def reader(self, endpoint: Endpoint, uid: str, identity: Identity) -> Iterator[Any]:
        self.connected.append((endpoint, uid, identity.fingerprint))
        try:
            yield self
        finally:
            self.closed += 1

    writer = reader

    def header(self) -> None:
        return None

    def get(self, digest: str) -> bytes:
        if self.raises:
            raise self.raises
        return digest.encode()

    def send(self, contents: Iterable[Outgoing], report: asks.Report, changes: Iterable[bytes]) -> None:
        if self.raises:
            raise self.raises
        self.sent += changes
        for number, one in enumerate(contents, 1):
            with one.open() as file:
                self.sent.append(file.read())
            report(asks.Progress(number, one.size, 11, 5))

    def fetch(self, wanted: Iterable[Wanted], store: Path, report: asks.Report) -> None:
        for one in wanted:
            assert one.basis is not None
            with one.basis() as file:
                (store / one.digest).write_bytes(file.read())

    def complete(self) -> None:
        self.sent.append(b"complete")


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def remote(world: World, node: Node, told: list[str], monkeypatch: pytest.MonkeyPatch) -> ClusterRemote:
    world.put(repository(head=1))
    monkeypatch.setattr(cluster_remote, "_SETTLING", 0.3)
    monkeypatch.setattr(cluster_remote, "_PAUSE", 0.01)
    monkeypatch.setattr(transaction, "_FIRST_PAUSE", 0.01)
    kubectl = Kubectl(Connection("", "research", ""))
    return ClusterRemote(kubectl, "justice", node, tell=told.append, patience=IMPATIENT)


def nothing(*_: object) -> None:
    pass


def commit(remote: ClusterRemote, send: Callable[[Sink], None] = nothing, request: Request = SYNC) -> Any:
    return remote.commit(request, nothing, send, nothing)


def intents(world: World) -> list[str]:
    return [one["spec"]["intent"] for one in world.transactions()]


def test_who_comes_by_a_group_waits_until_it_counts(
    world: World, remote: ClusterRemote, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CERTAIN_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(cluster_remote, "_BESIDE", 0.0)
    since = datetime.now(UTC)
    young = repository(head=1)
    young["metadata"]["creationTimestamp"] = since.isoformat()
    young["spec"]["access"] = {"writers": {"groups": ["researchers"]}}
    world.put(young)
    commit(remote)
    assert datetime.now(UTC) >= since + timedelta(seconds=1)
    assert len(world.transactions()) == 1
    assert "Repository justice was just made; waiting 1 s until groups of users count" in told


# --- looking


def test_the_head_and_the_rules_of_a_repository(world: World, remote: ClusterRemote) -> None:
    found = remote.repository()
    assert found.head is not None
    assert (found.head.version, found.head.author, found.uid) == ("s1", "ana", "uid-justice")
    assert found.head.time.isoformat() == "2026-01-31T12:00:00+00:00"
    assert found.data_dirs == ("input", "output")
    assert world.transactions() == []


def test_no_version_is_believed_only_when_the_operator_says_ready(world: World, remote: ClusterRemote) -> None:
    world.put(repository(head=0))
    assert remote.repository().head is None
    world.put(repository(head=0, ready="False"))
    with pytest.raises(TransactionError, match="the pool is away"):
        remote.repository()
    world.put({**repository(head=0), "status": {"observedGeneration": -1}})
    with pytest.raises(TransactionError, match="has not looked"):
        remote.repository()


def test_a_repository_that_is_not_there(world: World) -> None:
    with pytest.raises(NotFound, match="no Repository 'nobody'"):
        ClusterRemote(Kubectl(), "nobody", Node(), tell=nothing).repository()


# --- committing


def test_a_commit_says_what_it_brings_and_waits_for_its_version(
    world: World, remote: ClusterRemote, node: Node
) -> None:
    order: list[str] = []

    def note(ref: Ref) -> None:
        assert ref.name.startswith("justice-")
        there = [one["metadata"]["name"] for one in world.transactions()]
        if not there:
            assert (ref.uid, abs(ref.begun - time.time()) < 10) == ("", True)
            order.append("noted, none there")
        else:
            assert (there, ref.uid, ref.begun) == ([ref.name], f"uid-{ref.name}", 0)
            order.append("noted")

    def send(sink: Sink) -> None:
        order.append("send")
        content = Outgoing("a", 3, "d" * 64, lambda: io.BytesIO(b"abc"))
        sink.send([content], lambda *done: order.append(f"told {done}"), [b"change"])
        sink.complete()

    outcome = remote.commit(SYNC, note, send, lambda: order.append("committing"))
    assert outcome == Committed("s1", "")
    assert order == ["noted, none there", "noted", "send", "told (1, 3)", "committing"]
    assert node.sent == [b"change", b"abc", b"complete"]
    assert (remote.traffic.sent, remote.traffic.received) == (11, 5)
    (made,) = world.transactions()
    spec = made["spec"]
    assert spec["intent"] == "Commit"
    assert spec["changes"] == {"manifestDigest": TREE, "files": 2, "added": 1, "changed": 0, "deleted": 0, "size": 7}
    assert (spec["author"], spec["node"], spec["base"], spec["message"]) == ("ana", "node-a", "s1", "why")
    assert (spec["timeout"], spec["ttlAfterFinished"]) == ("1h", "24h")
    ((endpoint, uid, fingerprint),) = node.connected
    assert (endpoint.url, uid, fingerprint) == (ENDPOINT["url"], made["metadata"]["uid"], spec["clientKey"])
    assert node.closed == 1


def test_a_restore_sends_nothing(world: World, remote: ClusterRemote, node: Node) -> None:
    world.operator("Restore/Stage", {"phase": "Staging"})
    request = Request("Restore", "s1", "back", None, restore="s1")
    assert isinstance(commit(remote, request=request), Committed)
    assert node.connected == []
    (made,) = world.transactions()
    assert "changes" not in made["spec"]
    assert made["spec"]["restore"] == "s1"


def test_a_conflict_and_a_failure_are_outcomes(world: World, remote: ClusterRemote) -> None:
    items = [{"path": "input/a", "state": "sLCR__all_ne"}]
    world.operator("Commit", {"phase": "Conflict", "conflicts": {"total": 3, "items": items}})
    assert commit(remote) == Conflicted(3, ("input/a",))
    world.operator("Commit", {"phase": "Failed", "reason": "TransactionQuota", "message": "the quota is reached"})
    outcome = commit(remote)
    assert isinstance(outcome, Stopped)
    assert outcome.reason == "TransactionQuota"
    assert "the quota is reached" in outcome.message
    assert "Send less at once" in outcome.message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom"), OSError(28, "No space left")])
def test_whatever_ends_the_sending_aborts_the_transaction(
    world: World, remote: ClusterRemote, node: Node, error: BaseException
) -> None:
    def send(_sink: Sink) -> None:
        raise error

    with pytest.raises(type(error)):
        commit(remote, send)
    assert intents(world) == ["Abort"]
    assert node.closed == 1


def test_an_error_of_the_first_callback_aborts_too(world: World, remote: ClusterRemote) -> None:
    def note(ref: Ref) -> None:
        if ref.uid:
            raise OSError(28, "No space left")

    with pytest.raises(OSError, match="No space"):
        remote.commit(SYNC, note, nothing, nothing)
    assert intents(world) == ["Abort"]


def test_ctrl_c_before_the_commit_is_asked_for_aborts_and_afterwards_does_not(
    world: World, remote: ClusterRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.commit(SYNC, nothing, nothing, interrupt)
    assert intents(world) == ["Abort"]

    monkeypatch.setattr("dsg.plugin.transaction.watch", lambda *_: interrupt())
    monkeypatch.setattr("dsg.plugin.transaction.Transaction.opened_or_over", lambda _self: STAGING)
    with pytest.raises(KeyboardInterrupt):
        commit(remote)
    assert sorted(intents(world)) == ["Abort", "Commit"]


def test_ctrl_c_while_the_commit_is_asked_for_leaves_it_committed_or_aborted(
    world: World, remote: ClusterRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = Kubectl.patch
    arrives = False

    def interrupted(self: Kubectl, kind: str, name: str, change: Any, **more: Any) -> Any:
        asked = change["spec"]["intent"] == "Commit"
        made = None if asked and not arrives else patch(self, kind, name, change, **more)
        if asked:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(Kubectl, "patch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit(remote)
    assert intents(world) == ["Abort"]
    arrives = True
    with pytest.raises(KeyboardInterrupt):
        commit(remote)
    assert sorted(intents(world)) == ["Abort", "Commit"]


def test_nobody_is_told_of_an_abort_after_the_commit(world: World, remote: ClusterRemote, told: list[str]) -> None:
    assert isinstance(commit(remote), Committed)
    assert told == []
    verbs = [words[0] for words, flags in world.calls() if "Abort" in flags.get("patch", "")]
    assert verbs == []


def test_ctrl_c_while_it_is_created_aborts_it_by_its_name(
    world: World, remote: ClusterRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Kubectl.create

    def interrupted(self: Kubectl, body: Any) -> Any:
        create(self, body)
        raise KeyboardInterrupt

    monkeypatch.setattr(Kubectl, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit(remote)
    assert intents(world) == ["Abort"]


def test_a_cluster_that_goes_away_after_the_commit_leaves_the_outcome_open(world: World, remote: ClusterRemote) -> None:
    def committing() -> None:
        world.fails("get", "Unable to connect to the server: dial tcp: i/o timeout")

    with pytest.raises(OutcomeUnknown, match="not known") as caught:
        remote.commit(SYNC, nothing, nothing, committing)
    assert "same command again" in caught.value.advice
    assert intents(world) == ["Commit"]


def test_a_cluster_that_is_away_for_a_moment_is_waited_for(
    world: World, remote: ClusterRemote, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    get, seen = Kubectl.get, []

    def flaky(self: Kubectl, kind: str, name: str) -> Any:
        seen.append(name)
        if name != "justice" and len(seen) in {3, 4}:
            raise Unreachable("no route", "Wait.")
        return get(self, kind, name)

    monkeypatch.setattr(Kubectl, "get", flaky)
    assert isinstance(commit(remote), Committed)
    assert len(seen) > 4


def test_a_file_that_changed_is_told_as_the_working_copy_knows_it(remote: ClusterRemote, node: Node) -> None:
    node.raises = errors.SourceChanged("input/a")
    with pytest.raises(SourceChanged) as caught:
        commit(remote, lambda sink: sink.send([], nothing, []))
    assert caught.value.path == "input/a"


def test_an_error_of_the_data_plane_is_a_remote_error(world: World, remote: ClusterRemote, node: Node) -> None:
    node.raises = errors.WrongServer("https://x", "another certificate")
    with pytest.raises(RemoteError) as caught:
        commit(remote, lambda sink: sink.send([], nothing, []))
    assert isinstance(caught.value, TransferFailed)
    assert caught.value.reason == "WrongServer"
    assert intents(world) == ["Abort"]


# --- opening


def test_an_operator_that_does_not_run(world: World, remote: ClusterRemote, told: list[str]) -> None:
    world.operator("Stage")
    with pytest.raises(TransactionError, match="does not run") as caught:
        commit(remote)
    assert caught.value.reason == "OperatorSilent"
    assert intents(world) == ["Abort"]
    assert any("no operator has looked" in text for text in told)


def test_a_transaction_that_stays_pending(world: World, remote: ClusterRemote) -> None:
    world.operator("Stage", {"phase": "Pending", "reason": "RepositoryNotReady", "message": "the pool is away"})
    with pytest.raises(TransactionError, match="the pool is away") as caught:
        commit(remote)
    assert caught.value.reason == "RepositoryNotReady"
    assert caught.value.advice
    assert intents(world) == ["Abort"]


def test_a_refusal_is_told_in_the_operators_words_and_not_aborted_again(world: World, remote: ClusterRemote) -> None:
    world.operator("Stage", {"phase": "Failed", "reason": "AccessDenied", "message": "ana is no writer"})
    outcome = commit(remote)
    assert isinstance(outcome, Stopped)
    assert outcome.reason == "AccessDenied"
    assert "ana is no writer" in outcome.message
    assert "administers" in outcome.message
    assert intents(world) == ["Stage"]


def test_a_head_that_came_before_the_status_is_an_outcome(world: World, remote: ClusterRemote) -> None:
    """A migration that goes on after a killed one relies on it: the status knows no head yet, the operator does."""
    world.operator("Init/Stage", {"phase": "Failed", "reason": "AlreadyInitialized", "message": "it has version s1"})
    outcome = commit(remote, request=Request("Init", None, "why", TREE, files=2, size=7, added=2))
    assert isinstance(outcome, Stopped)
    assert outcome.reason == "AlreadyInitialized"


def test_a_node_without_a_data_plane(world: World, remote: ClusterRemote) -> None:
    world.operator("Stage", {"phase": "Staging"})
    with pytest.raises(TransactionError, match="no data plane"):
        commit(remote)
    world.operator("Stage", {"phase": "Staging", "endpoint": {**ENDPOINT, "url": "ftp://x"}})
    with pytest.raises(TransactionError, match="can't be reached"):
        commit(remote)
    assert intents(world) == ["Abort", "Abort"]


def test_a_transaction_that_somebody_deleted(world: World, remote: ClusterRemote) -> None:
    def note(ref: Ref) -> None:
        if ref.uid:
            (world.home / "objects" / "research" / f"{ref.name}.json").unlink()

    with pytest.raises(TransactionError, match="deleted by somebody"):
        remote.commit(SYNC, note, nothing, nothing)


def test_a_login_that_is_gone(world: World, remote: ClusterRemote) -> None:
    world.fails("create", "error: You must be logged in to the server (Unauthorized)")
    with pytest.raises(NotLoggedIn):
        commit(remote)
    assert world.transactions() == []


# --- reading


def test_a_version_is_closed_after_reading(world: World, remote: ClusterRemote, node: Node) -> None:
    with remote.open_read("s1") as reader:
        assert reader.get("ab") == b"ab"
        with pytest.raises(RemoteError, match="without its manifest"):
            reader.header()
    (made,) = world.transactions()
    assert (made["spec"]["operation"], made["spec"]["base"], made["spec"]["intent"]) == ("Read", "s1", "Abort")
    assert made["spec"]["ttlAfterFinished"] == "10m"
    assert node.closed == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom")])
def test_a_version_is_closed_whatever_happens(world: World, remote: ClusterRemote, error: BaseException) -> None:
    with pytest.raises(type(error)), remote.open_read("s1"):
        raise error
    assert intents(world) == ["Abort"]


def test_a_version_that_was_pruned(world: World, remote: ClusterRemote) -> None:
    world.operator("Read/Stage", {"phase": "Failed", "reason": "BaseGone", "message": "s1 was pruned"})
    with pytest.raises(VersionGone), remote.open_read("s1"):
        pass


def test_a_basis_that_became_something_else_is_not_waited_for(tmp_path: Path) -> None:
    from dsg.workcopy.store import opener

    (tmp_path / "file").write_bytes(b"abc")
    with opener(tmp_path / "file")() as file:
        assert file.read() == b"abc"
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    for name in ("pipe", "link", "gone"):
        with pytest.raises(OSError):
            opener(tmp_path / name)()


# --- afterwards


def made(world: World, intent: str, status: dict[str, Any]) -> Ref:
    body = {
        "apiVersion": "dsg.hrdag.org/v1alpha1",
        "kind": "SyncTransaction",
        "metadata": {"name": "justice-x", "namespace": "research", "uid": "u", "generation": 1},
        "spec": {
            "repositoryRef": {"name": "justice"},
            "node": "node-a",
            "operation": "Sync",
            "author": "ana",
            "base": "s1",
            "clientKey": TREE,
            "changes": {"manifestDigest": TREE, "files": 1, "size": 1},
            "intent": intent,
            "timeout": "1h",
            "ttlAfterFinished": "1h",
        },
    }
    world.put(json.loads(json.dumps(body)))
    if status:
        world.operator(intent, status)
    return Ref("justice-x", "u")


def test_what_became_of_an_earlier_transaction(world: World, remote: ClusterRemote) -> None:
    assert remote.find(Ref("justice-gone", "u")) == Unknown()
    ref = made(world, "Stage", {"phase": "Staging", "endpoint": ENDPOINT})
    assert remote.find(ref) == StillOpen()
    assert remote.find(Ref(ref.name, "another")) == Unknown()
    remote.abort(ref)
    assert intents(world) == ["Abort"]
    assert isinstance(remote.find(ref), Stopped)
    remote.abort(ref)
    remote.abort(Ref("justice-gone", "u"))


def test_one_whose_creation_was_not_answered_is_found_by_its_name(world: World, remote: ClusterRemote) -> None:
    ref = made(world, "Stage", {"phase": "Staging", "endpoint": ENDPOINT})
    assert remote.find(Ref(ref.name, begun=time.time())) == StillOpen()
    remote.abort(Ref(ref.name, begun=time.time()))
    assert intents(world) == ["Abort"]
    long_ago = time.time() - 3600
    assert remote.find(Ref("justice-gone", begun=long_ago)) == Unknown()
    remote.abort(Ref("justice-gone", begun=long_ago))


def test_one_of_somebody_else_is_not_taken_for_it(world: World, remote: ClusterRemote) -> None:
    ref = made(world, "Stage", {"phase": "Staging", "endpoint": ENDPOINT})
    world.said["user"] = "bo"
    world.save()
    remote.abort(Ref(ref.name, begun=time.time()))
    assert intents(world) == ["Stage"]


def test_a_creation_that_is_still_under_way_is_waited_for(
    world: World, remote: ClusterRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_remote, "_LATE", 0.01)
    get, looks = Kubectl.get, []

    def late(self: Kubectl, kind: str, name: str) -> Any:
        looks.append(name)
        if len(looks) == 3:
            made(world, "Stage", {"phase": "Staging", "endpoint": ENDPOINT})
        return get(self, kind, name)

    monkeypatch.setattr(Kubectl, "get", late)
    remote.abort(Ref("justice-x", begun=time.time()))
    assert intents(world) == ["Abort"]


def test_a_commit_that_is_under_way_is_waited_for(world: World, remote: ClusterRemote) -> None:
    ref = made(world, "Commit", {})
    world.operator("Commit", {"phase": "Committing"}, {"phase": "Committing"}, {"phase": "Committed", "version": "s1"})
    assert remote.find(ref) == Committed("s1", "")


def test_the_repositorys_status_is_waited_for_after_a_commit(
    world: World, remote: ClusterRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.operator("Commit", {"phase": "Committed", "version": "s2"})
    look, looks = ClusterRemote._look, []

    def later(self: ClusterRemote) -> Any:
        looks.append(1)
        if len(looks) == 3:
            world.put(repository(head=2))
        return look(self)

    monkeypatch.setattr(ClusterRemote, "_look", later)
    commit(remote)
    head = remote.repository().head
    assert head is not None
    assert head.version == "s2"
