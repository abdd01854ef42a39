"""Admission: which StoragePool offers a place, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from dsg.reconcile.admission import Offer, refusal, shadowed
from dsg.storage.repository_type import Target
from tests.reconcile.specs import pool, repository

LABELS = {"team": "data"}


def target(**storage: Any) -> Target:
    spec = Repository.model_validate(repository(**storage)).spec
    return Target("research", "justice", "uid-1", spec)


def offer(name: str = "node-a-tank", since: str = "2026-01-01T00:00:00Z", **spec: Any) -> Offer:
    return Offer(name, since, StoragePool.model_validate(pool(name, **spec)).spec)


def storage(**changes: Any) -> dict[str, Any]:
    return {**pool()["spec"]["storage"], **changes}


def test_a_place_that_a_pool_offers_to_the_namespace_is_admitted() -> None:
    assert refusal(target(), [offer()], LABELS) is None


@pytest.mark.parametrize(
    ("offers", "labels", "reason", "words"),
    [
        ([], LABELS, "PoolNotDeclared", "no StoragePool declares pool tank on node node-a"),
        ([offer(storage=storage(node="node-b"))], LABELS, "PoolNotDeclared", "node-a"),
        ([offer(storage=storage(root="tank/other"))], LABELS, "OutsidePool", "tank/other"),
        ([offer(storage=storage(mountRoot="/mnt/other"))], LABELS, "OutsidePool", "/mnt/other"),
        ([offer()], {"team": "ops"}, "NamespaceNotAdmitted", "namespace research"),
        ([offer()], {}, "NamespaceNotAdmitted", "namespace research"),
        ([offer()], None, "NamespaceNotAdmitted", "namespace research"),
    ],
)
def test_a_refusal_says_why(offers: list[Offer], labels: dict[str, str] | None, reason: str, words: str) -> None:
    problem = refusal(target(), offers, labels)
    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


def test_a_repository_lies_directly_below_the_root_and_not_deeper() -> None:
    problem = refusal(target(dataset="tank/dsg/deep/justice"), [offer()], LABELS)
    assert problem is not None
    assert problem.reason == "OutsidePool"


def test_an_empty_selector_admits_every_namespace() -> None:
    assert refusal(target(), [offer(namespaceSelector={})], {}) is None


def test_the_older_of_two_pools_with_one_root_counts() -> None:
    old = offer("old", "2026-01-01T00:00:00Z", namespaceSelector={"matchLabels": {"team": "ops"}})
    new = offer("new", "2026-02-01T00:00:00Z")
    assert shadowed([new, old]) == {"new": "old"}
    problem = refusal(target(), [new, old], LABELS)
    assert problem is not None
    assert "StoragePool old" in problem.message
