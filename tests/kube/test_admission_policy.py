"""Who may open a transaction, as the real API server decides it by the policies that come with the CRDs."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.controlplane import ControlPlane
from tests.api.objects import TREE
from tests.reconcile.specs import repository
from tests.reconcile.test_transactions import FIRST, transaction

pytestmark = pytest.mark.kube

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("api")) as plane:
        plane.kubectl("admin", "apply", "--server-side", "-k", str(TREE / "manifests" / "base"))
        plane.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        plane.kubectl("admin", "create", "namespace", "research")
        # What they are refused is refused by the policies then, not by missing rights.
        for user in ("alice", "bob", "outsider"):
            plane.kubectl(
                *("admin", "create", "rolebinding", user, "-n", "research"),
                *("--clusterrole=dsg-researcher", f"--user={user}"),
            )
        restricted = repository("restricted")
        restricted["spec"]["access"] = {
            "writers": {"users": ["bob"], "groups": ["researchers"]},
            "readers": {"users": ["outsider"]},
            "admins": {"users": ["bob"]},
        }
        closed = repository("closed")
        closed["spec"]["access"] = {"admins": {"users": ["bob"]}}
        for obj in (restricted, closed, repository("free")):
            _apply(plane, "admin", obj)
        _settle(plane)
        yield plane


def _apply(plane: ControlPlane, user: str, obj: dict[str, Any]) -> str:
    """Create an object as a user; return "" or why it was refused."""
    done = plane.kubectl(user, "create", "-f", "-", input=json.dumps(obj), check=False)
    return "" if done.returncode == 0 else done.stderr


def _settle(plane: ControlPlane) -> None:
    """Wait until the API server enforces the policies, which it begins to do a moment after they are created."""
    for attempt in range(60):
        probe = transaction(f"probe-{attempt}", "Init", content=FIRST, repositoryRef={"name": "restricted"}, author="x")
        if "your own name" in _apply(plane, "alice", probe):
            return
        time.sleep(0.5)
    raise AssertionError("the policies are not enforced")


def said(name: str, **spec: Any) -> dict[str, Any]:
    operation = spec.pop("operation", "Init")
    content = None if operation in {"Restore", "Read"} else FIRST
    if operation == "Restore":
        spec |= {"base": "s2", "restore": "s1"}
    elif operation == "Read":
        spec |= {"base": "s1"}
    return transaction(name, operation, content=content, **{"repositoryRef": {"name": "restricted"}, **spec})


CASES = [
    ("a writer by group", "alice", {"author": "alice"}, ""),
    ("a writer by name", "bob", {"author": "bob"}, ""),
    ("in somebody else's name", "alice", {"author": "bob"}, "spec.author is bob and you are alice"),
    ("a reader", "outsider", {"author": "outsider"}, "is not among the writers or admins of Repository restricted"),
    (
        "nobody of the repository's",
        *("outsider", {"author": "outsider", "repositoryRef": {"name": "closed"}}),
        "is not among the writers or admins of Repository closed",
    ),
    ("a restore by an admin", "bob", {"author": "bob", "operation": "Restore"}, ""),
    ("a restore by a writer", "alice", {"author": "alice", "operation": "Restore"}, "is not among the admins"),
    ("a read by a reader", "outsider", {"author": "outsider", "operation": "Read"}, ""),
    ("a read by a writer", "alice", {"author": "alice", "operation": "Read"}, ""),
    (
        "a read by nobody of the repository's",
        *("outsider", {"author": "outsider", "operation": "Read", "repositoryRef": {"name": "closed"}}),
        "is not among the readers, writers or admins of Repository closed",
    ),
    ("another node", "alice", {"author": "alice", "node": "node-b"}, "is on node node-a"),
    ("a repository that is not there", "alice", {"author": "alice", "repositoryRef": {"name": "nowhere"}}, ""),
    ("a repository without spec.access", "outsider", {"author": "outsider", "repositoryRef": {"name": "free"}}, ""),
]


@pytest.mark.parametrize(("what", "user", "spec", "refusal"), CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_who_may_open_a_transaction(
    api: ControlPlane, what: str, user: str, spec: dict[str, Any], refusal: str
) -> None:
    answer = _apply(api, user, said(f"t-{next(_numbers)}", **spec))
    assert (refusal in answer) if refusal else answer == "", what


def _patch(plane: ControlPlane, user: str, name: str, patch: dict[str, Any]) -> str:
    """Patch a transaction as a user; return "" or why that was refused."""
    command = ("patch", "synctransaction", name, "-n", "research", "--type=merge", "-p", json.dumps(patch))
    done = plane.kubectl(user, *command, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_only_the_author_commits(api: ControlPlane) -> None:
    assert _apply(api, "alice", said("hers", author="alice")) == ""
    commit = {"spec": {"intent": "Commit"}}
    assert "only they may commit or abort it" in _patch(api, "bob", "hers", commit)
    assert "only they may commit or abort it" in _patch(api, "admin", "hers", commit)
    assert _patch(api, "alice", "hers", commit) == ""
    assert _patch(api, "alice", "hers", {"spec": {"intent": "Stage"}}) != ""


def test_the_operator_writes_status_and_deletes(api: ControlPlane) -> None:
    assert _apply(api, "alice", said("watched", author="alice")) == ""
    where = ("synctransaction", "watched", "-n", "research")
    obj = json.loads(api.kubectl("admin", "get", *where, "-o", "json").stdout)
    obj["status"] = {"phase": "Staging"}
    api.kubectl("operator", "replace", "--subresource=status", "-f", "-", input=json.dumps(obj))
    phase = api.kubectl("alice", "get", *where, "-o", "jsonpath={.status.phase}").stdout
    assert phase == "Staging"
    api.kubectl("operator", "delete", *where)


REFERENCE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"ownerReferences": [REFERENCE]}, id="an-owner-that-is-not-there-has-it-collected"),
        pytest.param({"finalizers": ["example.org/never"]}, id="a-finalizer-keeps-it-for-ever"),
    ],
)
def test_how_long_it_lives_is_for_its_author_or_those_who_may_delete(
    api: ControlPlane, metadata: dict[str, Any]
) -> None:
    name = f"lives-{next(_numbers)}"
    assert _apply(api, "alice", said(name, author="alice")) == ""
    assert _patch(api, "bob", name, {"metadata": {"labels": {"a": "b"}}}) == ""
    assert "ownerReferences and finalizers" in _patch(api, "bob", name, {"metadata": metadata})
    assert _patch(api, "alice", name, {"metadata": metadata}) == ""
    assert _patch(api, "bob", name, {"metadata": {"labels": {"a": "c"}}}) == "", "what stays is not looked at"
    assert "ownerReferences and finalizers" in _patch(api, "bob", name, {"metadata": dict.fromkeys(metadata)})
    assert _patch(api, "admin", name, {"metadata": dict.fromkeys(metadata)}) == ""


def test_many_repositories_in_a_namespace(api: ControlPlane) -> None:
    """The policy is evaluated for each Repository of the namespace; that must stay within the API server's limits."""
    api.kubectl("admin", "create", "namespace", "crowded")
    for user in ("alice", "outsider"):
        plain = ("create", "rolebinding", user, "-n", "crowded", "--clusterrole=dsg-researcher", f"--user={user}")
        api.kubectl("admin", *plain)
    names = [f"repository-{number}" for number in range(200)]
    many = []
    for name in names:
        obj = repository(name, namespace="crowded")
        obj["spec"]["access"] = {"writers": {"users": [f"user-{n}" for n in range(100)], "groups": ["researchers"]}}
        many.append(obj)
    assert _apply(api, "admin", {"apiVersion": "v1", "kind": "List", "items": many}) == ""
    for user, refusal in (("alice", ""), ("outsider", f"admins of Repository {names[-1]} ")):
        obj = said(f"of-{user}-among-many", author=user, repositoryRef={"name": names[-1]})
        obj["metadata"]["namespace"] = "crowded"
        answer = _apply(api, user, obj)
        assert (refusal in answer) if refusal else answer == ""


def _may(plane: ControlPlane, user: str, verb: str, resource: str, namespace: str = "research") -> bool:
    done = plane.kubectl(user, "auth", "can-i", verb, resource, "-n", namespace, check=False)
    return done.stdout.strip() == "yes"


def test_what_a_researcher_may_do(api: ControlPlane) -> None:
    allowed = {("get", "repositories"), ("create", "synctransactions"), ("patch", "synctransactions")}
    refused = {
        ("create", "repositories"),
        ("patch", "repositories"),
        ("delete", "repositories"),
        ("delete", "synctransactions"),
        ("update", "synctransactions/status"),
        ("patch", "repositories/status"),
        ("get", "secrets"),
        ("create", "serviceaccounts/token"),
    }
    for verb, resource in allowed | refused:
        assert _may(api, "alice", verb, resource) == ((verb, resource) in allowed), f"{verb} {resource}"
    assert not _may(api, "alice", "create", "synctransactions", "default")


def test_the_operator_reads_secrets_where_that_is_bound_alone(api: ControlPlane) -> None:
    """And there it can get them by name, but not list or change them."""
    api.kubectl("admin", "create", "namespace", "sealed")
    account = "--serviceaccount=dsg-system:dsg-operator"
    bind = ("create", "rolebinding", "keys", "-n", "sealed", "--clusterrole=dsg-operator-secrets", account)
    api.kubectl("admin", *bind)
    for _ in range(60):
        if _may(api, "operator", "get", "secrets", "sealed"):
            break
        time.sleep(0.5)
    assert _may(api, "operator", "get", "secrets", "sealed")
    assert not any(_may(api, "operator", verb, "secrets", "sealed") for verb in ("list", "watch", "update", "create"))
    assert not any(_may(api, "operator", "get", "secrets", other) for other in ("research", "kube-system", "default"))
