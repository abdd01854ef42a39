"""What GitOps tools do to our objects on a real kube-apiserver with the operator at work: apply, prune, replace."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dsg.storage.zfs import layout
from tests.api.objects import TREE
from tests.gitops.scenes import POOL, transaction
from tests.gitops.site import ARGOCD, FLUX, Site, wait
from tests.reconcile.specs import repository
from tests.reconcile.test_transactions import FIRST

pytestmark = pytest.mark.kube

_numbers = itertools.count(1)
EVIDENCE = FIRST["input/a"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site") / "api") as made:
        made.start()
        yield made


def _kept(adopt: bool = True) -> dict[str, Any]:
    """Return a new Repository as the examples for GitOps declare them."""
    obj = repository(f"kept-{next(_numbers)}", adopt=adopt)
    obj["spec"]["dataDirs"] = ["*"]
    return obj


def _standing(site: Site, obj: dict[str, Any]) -> dict[str, Any]:
    """Apply a Repository with its pool and commit its first version; return it as it is then."""
    name = obj["metadata"]["name"]
    site.apply(POOL, obj)
    site.wait_reason(obj, "Reconciled")
    first = transaction(f"first-{name}", "Init", content=FIRST, repositoryRef={"name": name})
    site.apply(first)
    site.wait_reason(first, "Staged")
    site.send(first, name, {}, FIRST)
    site.patch(first, {"spec": {"intent": "Commit"}})
    site.wait_reason(first, "Committed")
    return wait("the head", lambda: now if (now := site.get(obj))["status"].get("head") else None)


def _versions(site: Site, *objects: dict[str, Any]) -> list[tuple[str, int]]:
    found = [site.get(obj)["metadata"] for obj in objects]
    return [(metadata["resourceVersion"], metadata["generation"]) for metadata in found]


def _evidence(site: Site, obj: dict[str, Any], generation: str) -> bytes:
    content: bytes = site.node.content(f"{obj['spec']['storage']['dataset']}/{generation}")["input/a"]
    return content


@pytest.mark.parametrize("how", [ARGOCD, FLUX], ids=["argocd", "flux"])
def test_applying_the_same_again_changes_nothing(site: Site, how: tuple[str, ...]) -> None:
    obj = _kept()
    site.apply(POOL, obj, how=how)
    site.wait_reason(obj, "Reconciled")
    site.wait_reason(POOL, "Reconciled")
    wait("rest", lambda: _at_rest(site, obj, POOL))
    before = _versions(site, POOL, obj)
    site.apply(POOL, obj, how=how)
    assert site.differs(POOL, obj, how=how) == ""
    # Three looks of the operator.
    time.sleep(3)
    assert _versions(site, POOL, obj) == before
    assert site.differs(POOL, obj, how=how) == ""
    now = site.get(obj)["metadata"]
    assert now["finalizers"] == ["dsg.hrdag.org/node-a"]
    owners = {entry["manager"]: json.dumps(entry["fieldsV1"]) for entry in now["managedFields"]}
    (tool,) = [fields for manager, fields in owners.items() if f"--field-manager={manager}" == how[0]]
    assert "finalizers" not in tool and "f:status" not in tool
    assert '"f:deletionPolicy"' not in tool, "what the API server fills in belongs to nobody"


def _at_rest(site: Site, *objects: dict[str, Any]) -> bool:
    before = _versions(site, *objects)
    time.sleep(2)
    return _versions(site, *objects) == before


def test_the_operator_writes_no_field_of_a_spec(site: Site) -> None:
    """Else one of two tools would take it away from the other for ever."""
    obj = _kept()
    _standing(site, obj)
    tools = {how[0].partition("=")[2] for how in (ARGOCD, FLUX)}
    for entry in site.get(obj)["metadata"]["managedFields"]:
        assert ("f:spec" in entry["fieldsV1"]) == (entry["manager"] in tools), entry


@pytest.mark.parametrize("file", sorted((TREE / "examples").glob("repository-*.yaml")), ids=lambda file: file.stem)
def test_what_the_api_server_fills_in_is_no_difference(site: Site, file: Any) -> None:
    obj = yaml.safe_load(file.read_text())
    obj["metadata"]["name"] += "-applied"
    site.apply(obj)
    wait(
        "a look",
        lambda: site.get(obj)["status"]["observedGeneration"] > 0 or obj["spec"]["storage"]["node"] != "node-a",
    )
    assert site.differs(obj) == ""
    site.delete(obj, cascade="background")


def test_applied_together_in_any_order_it_never_looks_failed(site: Site) -> None:
    """A moment's Ready=False would end a sync wave of Argo CD, and a Flux Kustomization that waits."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "fresh", "labels": {"team": "fresh"}},
    }
    pool = copy.deepcopy(POOL)
    pool["metadata"]["name"] = "node-a-fresh"
    pool["spec"]["storage"].update(root="tank/fresh", mountRoot="/srv/fresh")
    pool["spec"]["namespaceSelector"] = {"matchLabels": {"team": "fresh"}}
    obj = repository("early", "fresh", dataset="tank/fresh/early", mountpoint="/srv/fresh/early")
    site.api.kubectl("admin", "create", "-f", "-", input=json.dumps(namespace))
    watching = site.watch(obj)
    site.apply(obj)
    time.sleep(2)
    site.apply(pool)
    site.wait_reason(obj, "Reconciled")
    time.sleep(1)
    seen = watching.end()
    assert seen[-1] == "True Reconciled"
    assert "Unknown AwaitingPool" in seen
    assert not [state for state in seen if state.startswith("False")], seen


@pytest.mark.parametrize("cascade", ["foreground", "background"])
def test_pruning_everything_keeps_the_data_and_applying_it_again_takes_it_up(site: Site, cascade: str) -> None:
    obj = _kept()
    before = _standing(site, obj)
    generation = before["status"]["storage"]["generation"]
    # In the worst order: the pool first.
    site.delete(POOL, obj, cascade=cascade)
    wait("all objects to be gone", lambda: all([site.collect_garbage(POOL), site.collect_garbage(obj)]))
    dataset = obj["spec"]["storage"]["dataset"]
    assert _evidence(site, obj, generation) == EVIDENCE
    assert site.zfs.read([dataset], [layout.RELEASED], depth=0)[dataset].local(layout.RELEASED)
    assert site.host.stat(obj["spec"]["storage"]["mountpoint"]) is None
    site.apply(obj, POOL)
    after = site.wait_reason(obj, "Reconciled")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    after = wait("the head", lambda: now if (now := site.get(obj))["status"].get("head") else None)
    assert after["status"]["head"] == before["status"]["head"]
    assert _evidence(site, obj, after["status"]["storage"]["generation"]) == EVIDENCE


def test_without_adopt_pruned_data_is_neither_touched_nor_taken_up(site: Site) -> None:
    obj = _kept(adopt=False)
    generation = _standing(site, obj)["status"]["storage"]["generation"]
    site.delete(obj)
    wait("it to be gone", lambda: site.collect_garbage(obj))
    site.apply(obj)
    site.wait_reason(obj, "DatasetForeign")
    assert _evidence(site, obj, generation) == EVIDENCE
    adopted = copy.deepcopy(obj)
    adopted["spec"]["storage"]["adopt"] = True
    site.apply(adopted)
    site.wait_reason(adopted, "Reconciled")
    assert _evidence(site, obj, generation) == EVIDENCE


def test_a_replaced_object_gets_its_finalizer_back(site: Site) -> None:
    """`Replace=true` writes the manifest in place of the object: metadata that the manifest lacks is lost."""
    obj = _kept()
    before = _standing(site, obj)
    site.api.kubectl("admin", "replace", "-f", "-", input=json.dumps(obj))
    after = wait(
        "the finalizer",
        lambda: now if (now := site.get(obj))["metadata"].get("finalizers") == ["dsg.hrdag.org/node-a"] else None,
    )
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["head"] == before["status"]["head"]
    site.wait_reason(obj, "Reconciled")
    site.delete(obj)
    wait("it to be gone", lambda: site.collect_garbage(obj))
    assert _evidence(site, obj, before["status"]["storage"]["generation"]) == EVIDENCE


def test_recreated_by_force_it_takes_its_data_up_again(site: Site) -> None:
    """`Replace=true` with `Force=true`, and Flux's `force`: delete, wait, create."""
    obj = _kept()
    before = _standing(site, obj)
    site.api.kubectl("admin", "replace", "--force", "-f", "-", input=json.dumps(obj))
    after = site.wait_reason(obj, "Reconciled")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    after = wait("the head", lambda: now if (now := site.get(obj))["status"].get("head") else None)
    assert after["status"]["head"] == before["status"]["head"]
    assert _evidence(site, obj, after["status"]["storage"]["generation"]) == EVIDENCE


def test_a_namespace_that_goes_lets_its_repositories_go_and_keeps_their_data(site: Site) -> None:
    """Nothing new can be made in a namespace that is being deleted, Events neither."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "leaving", "labels": {"team": "data"}}}
    site.api.kubectl("admin", "create", "-f", "-", input=json.dumps(namespace))
    obj = repository("leaves", "leaving", adopt=True)
    site.apply(POOL, obj)
    site.wait_reason(obj, "Reconciled")
    site.api.kubectl("admin", "delete", "namespace", "leaving", "--wait=false")
    # What the namespace controller does then; it belongs to kube-controller-manager.
    site.delete(obj, cascade="background")
    wait("it to be gone", lambda: site.find(obj) is None, timeout=30)
    dataset = obj["spec"]["storage"]["dataset"]
    assert site.zfs.read([dataset], [layout.RELEASED], depth=0)[dataset].local(layout.RELEASED)
    assert f"{dataset}/g1" in site.zfs.read([dataset], [layout.HEAD])
