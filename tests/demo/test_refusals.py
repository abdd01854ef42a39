"""Bad specs and bad changes: the embedded API refuses what the real one refuses, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from demo.embedded.api import EmbeddedApi
from lab.controlplane import ControlPlane
from tests.demo.http import GROUP, Answer, Client
from tests.demo.objects import repository, storage_pool

PROPERTIES: dict[str, Any] = {
    "compression": "lz4",
    "recordsize": "128Ki",
    "atime": False,
    "xattr": "sa",
    "quota": "1Gi",
    "refquota": "none",
    "reservation": "none",
}
ZFS = {
    "type": "zfs",
    "node": "node-a",
    "pool": "tank",
    "dataset": "tank/dsg/a",
    "mountpoint": "/srv/dsg/a",
    "properties": PROPERTIES,
}
XFS = {"type": "xfs", "node": "node-a", "directory": "/data/dsg/a", "mountpoint": "/srv/dsg/a"}


def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


BAD: dict[str, dict[str, Any]] = {
    "type-ipfs": {"storage": {**XFS, "type": "ipfs"}},
    "type-rclone": {"storage": {"type": "rclone", "node": "node-a", "mountpoint": "/srv/dsg/a"}},
    "type-unknown": {"storage": {**XFS, "type": "btrfs"}},
    "type-missing": {"storage": without(XFS, "type")},
    "type-of-other-case": {"storage": {**XFS, "type": "ZFS"}},
    "node-missing": {"storage": without(XFS, "node")},
    "node-upper-case": {"storage": {**XFS, "node": "Node_A"}},
    "directory-missing": {"storage": without(XFS, "directory")},
    "directory-relative": {"storage": {**XFS, "directory": "data/dsg"}},
    "directory-dots": {"storage": {**XFS, "directory": "/data/../dsg"}},
    "mountpoint-hidden": {"storage": {**XFS, "mountpoint": "/srv/.dsg"}},
    "mountpoint-inside": {"storage": {**XFS, "mountpoint": "/data/dsg/a/b"}},
    "xfs-with-pool": {"storage": {**XFS, "pool": "tank"}},
    "xfs-with-properties": {"storage": {**XFS, "properties": PROPERTIES}},
    "zfs-with-directory": {"storage": {**ZFS, "directory": "/data/a"}},
    "zfs-without-dataset": {"storage": without(ZFS, "dataset")},
    "zfs-without-properties": {"storage": without(ZFS, "properties")},
    "dataset-in-other-pool": {"storage": {**ZFS, "dataset": "other/dsg/a"}},
    "dataset-is-pool": {"storage": {**ZFS, "dataset": "tank"}},
    "pool-reserved": {"storage": {**ZFS, "pool": "mirror", "dataset": "mirror/a"}},
    "compression-on": {"storage": {**ZFS, "properties": {**PROPERTIES, "compression": "on"}}},
    "compression-false": {"storage": {**ZFS, "properties": {**PROPERTIES, "compression": False}}},
    "recordsize-odd": {"storage": {**ZFS, "properties": {**PROPERTIES, "recordsize": "100Ki"}}},
    "quota-decimal": {"storage": {**ZFS, "properties": {**PROPERTIES, "quota": "500G"}}},
    "quota-below-refquota": {"storage": {**ZFS, "properties": {**PROPERTIES, "refquota": "2Gi"}}},
    "atime-text": {"storage": {**ZFS, "properties": {**PROPERTIES, "atime": "off"}}},
    "copies-4": {"storage": {**ZFS, "properties": {**PROPERTIES, "copies": 4}}},
    "encryption-half": {"storage": {**ZFS, "encryption": {"algorithm": "aes-256-gcm"}}},
    "mode-number": {"owner": {"uid": 1, "gid": 1, "mode": 2770}},
    "mode-bad": {"owner": {"uid": 1, "gid": 1, "mode": "u+x"}},
    "uid-negative": {"owner": {"uid": -1, "gid": 1, "mode": "2770"}},
    "uid-too-large": {"owner": {"uid": 4294967295, "gid": 1, "mode": "2770"}},
    "owner-missing-gid": {"owner": {"uid": 1, "mode": "2770"}},
    "data-dirs-empty": {"dataDirs": []},
    "data-dirs-star-and-more": {"dataDirs": ["*", "input"]},
    "data-dirs-twice": {"dataDirs": ["input", "input"]},
    "data-dirs-path": {"dataDirs": ["a/b"]},
    "data-dirs-text": {"dataDirs": "input"},
    "ignore-suffix": {"ignore": {"suffixes": ["tmp"]}},
    "ignore-path": {"ignore": {"paths": ["/abs"]}},
    "name-rules": {"nameRules": "windows"},
    "retention-nothing": {"retention": {}},
    "retention-zero": {"retention": {"keepLast": 0}},
    "retention-named": {"retention": {"keepLast": 1, "named": ["v1"]}},
    "deletion-policy": {"deletionPolicy": "Remove"},
    "drift-policy": {"driftPolicy": "correct"},
    "suspend-text": {"suspend": "yes"},
    "reader-empty": {"access": {"readers": {"users": [""]}}},
    "several": {"owner": {"uid": -1, "gid": 1, "mode": "x"}, "dataDirs": ["*", "a"]},
}

BAD_POOLS: dict[str, dict[str, Any]] = {
    "type-ipfs": {"storage": {"type": "ipfs"}},
    "root-outside": {"storage": {"type": "zfs", "pool": "tank", "root": "other/dsg", "directory": None}},
    "no-selector": {"namespaceSelector": None},
    "threshold-over": {"thresholds": {"capacityPercent": 101}},
    "threshold-missing": {"thresholds": {}},
    "operator-without-values": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
    "operator-with-values": {
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}
    },
    "label-key": {"namespaceSelector": {"matchLabels": {"-a": "b"}}},
    "label-value": {"namespaceSelector": {"matchLabels": {"a": "-b"}}},
}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "node": (XFS, {"node": "node-b"}),
    "directory": (XFS, {"directory": "/data/dsg/b"}),
    "mountpoint": (XFS, {"mountpoint": "/srv/dsg/b"}),
    "type": (XFS, {**ZFS, "directory": None}),
    "dataset": (ZFS, {"dataset": "tank/dsg/b"}),
    "encryption": (ZFS, {"encryption": {"algorithm": "aes-256-gcm", "keyFile": "/etc/key"}}),
    "several": (ZFS, {"node": "node-b", "dataset": "tank/dsg/b"}),
}


def bad_repository(api: EmbeddedApi | ControlPlane, case: str) -> Answer:
    body = repository("a", "default", **BAD[case])
    body["spec"]["storage"] = BAD[case].get("storage", body["spec"]["storage"])
    return Client(api).post(f"{GROUP}/namespaces/default/repositories", body)


def bad_pool(api: EmbeddedApi | ControlPlane, case: str) -> Answer:
    return Client(api).post(f"{GROUP}/storagepools", storage_pool("a", **BAD_POOLS[case]))


def bad_change(api: EmbeddedApi | ControlPlane, case: str) -> Answer:
    client, (storage, change) = Client(api), CHANGES[case]
    path = f"{GROUP}/namespaces/default/repositories"
    body = repository("changed", "default")
    body["spec"]["storage"] = storage
    assert client.post(path, body).code == 201
    try:
        return client.patch(f"{path}/changed", {"spec": {"storage": change}})
    finally:
        client.delete(f"{path}/changed")


PARTLY = {"dataset-is-pool"}
"""The models try a rule about an object only when its fields are right; CEL tries it when their types are right."""


def same(embedded: Answer, real: Answer, case: str) -> None:
    assert (embedded.code, embedded.body["reason"]) == (real.code, real.body["reason"])
    if case in PARTLY:
        assert embedded.causes < real.causes
    else:
        assert embedded.causes == real.causes


@pytest.mark.parametrize("case", BAD)
def test_bad_repositories_are_refused(embedded: EmbeddedApi, case: str) -> None:
    answer = bad_repository(embedded, case)
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")


@pytest.mark.parametrize("case", BAD_POOLS)
def test_bad_pools_are_refused(embedded: EmbeddedApi, case: str) -> None:
    answer = bad_pool(embedded, case)
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")


@pytest.mark.parametrize("case", CHANGES)
def test_bad_changes_are_refused(embedded: EmbeddedApi, case: str) -> None:
    answer = bad_change(embedded, case)
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")


@pytest.mark.kube
@pytest.mark.parametrize("case", BAD)
def test_bad_repositories_are_refused_alike(embedded: EmbeddedApi, real: ControlPlane, case: str) -> None:
    same(bad_repository(embedded, case), bad_repository(real, case), case)


@pytest.mark.kube
@pytest.mark.parametrize("case", BAD_POOLS)
def test_bad_pools_are_refused_alike(embedded: EmbeddedApi, real: ControlPlane, case: str) -> None:
    same(bad_pool(embedded, case), bad_pool(real, case), case)


@pytest.mark.kube
@pytest.mark.parametrize("case", CHANGES)
def test_bad_changes_are_refused_alike(embedded: EmbeddedApi, real: ControlPlane, case: str) -> None:
    same(bad_change(embedded, case), bad_change(real, case), case)
