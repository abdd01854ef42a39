"""What each part of the system may do in a cluster: these rights and no others. A new one is decided here too."""

from __future__ import annotations

from itertools import product
from typing import Any

import yaml

from lab.paths import TREE

BASE = TREE / "manifests" / "base"
OURS = "dsg.hrdag.org"
KINDS = ("repositories", "storagepools", "synctransactions")
WATCH = ("list", "watch")
LOOK = ("get", *WATCH)

Right = tuple[str, str, str]
"""API group, resource, verb."""


def rights(group: str, resources: tuple[str, ...], verbs: tuple[str, ...]) -> set[Right]:
    return set(product([group], resources, verbs))


OPERATOR = (
    rights(OURS, KINDS, WATCH)
    | rights(OURS, tuple(f"{kind}/status" for kind in KINDS), ("update",))
    | {(OURS, "repositories", "patch"), (OURS, "synctransactions", "delete")}
    | rights("", ("namespaces",), WATCH)
    | {("", "events", "create")}
)
RESEARCHER = (
    rights(OURS, ("repositories",), LOOK)
    | rights(OURS, ("synctransactions",), (*LOOK, "create", "patch"))
    | rights("", ("events",), LOOK)
)
KEYS = {("", "secrets", "get")}


def objects() -> list[dict[str, Any]]:
    files = sorted(BASE.glob("*.yaml"))
    assert len(files) > 3
    return [obj for file in files for obj in yaml.safe_load_all(file.read_text()) if obj]


def granted(name: str, kind: str = "ClusterRole") -> set[Right]:
    """Return what a role allows; rights that aren't simple triples are refused here."""
    found: set[Right] = set()
    roles = [obj for obj in objects() if obj["kind"] == kind and obj["metadata"]["name"] == name]
    assert len(roles) == 1, name
    for rule in roles[0]["rules"]:
        assert set(rule) == {"apiGroups", "resources", "verbs"}, rule
        found |= set(product(rule["apiGroups"], rule["resources"], rule["verbs"]))
    return found


def test_the_operator_has_these_rights_and_no_others() -> None:
    assert granted("dsg-operator") == OPERATOR
    assert granted("dsg-operator-leases", "Role") == rights("coordination.k8s.io", ("leases",), ("create", "patch"))


def test_a_researcher_can_not_delete_anything_nor_write_what_others_have_written() -> None:
    found = granted("dsg-researcher")
    assert found == RESEARCHER
    assert not [right for right in found if right[2] in {"delete", "deletecollection", "update"}]


def test_nobody_has_all_rights_or_those_over_rights() -> None:
    for obj in objects():
        if obj["kind"] in {"ClusterRole", "Role"}:
            for _, resource, verb in granted(obj["metadata"]["name"], obj["kind"]):
                assert "*" not in {resource, verb}, obj["metadata"]["name"]
                assert verb not in {"impersonate", "bind", "escalate"}
                assert resource not in {"pods", "pods/exec", "roles", "clusterroles", "serviceaccounts/token"}


def test_secrets_can_be_read_only_where_a_namespace_binds_the_right() -> None:
    assert granted("dsg-operator-secrets") == KEYS
    with_secrets = {
        obj["metadata"]["name"]
        for obj in objects()
        if obj["kind"] in {"ClusterRole", "Role"}
        and any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in obj["rules"])
    }
    assert with_secrets == {"dsg-operator-secrets"}
    bound = [obj["roleRef"]["name"] for obj in objects() if obj["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    assert "dsg-operator-secrets" not in bound
    assert "dsg-operator" in bound


def test_nobody_is_bound_but_our_own_accounts() -> None:
    for obj in objects():
        if obj["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
            for subject in obj["subjects"]:
                assert subject["kind"] == "ServiceAccount"
                assert subject["namespace"] == "dsg-system"
