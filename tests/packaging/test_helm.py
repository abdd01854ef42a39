"""The chart as Helm itself sees it, and that Helm and kustomize make the same cluster."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import chart, tools
from lab.errors import LabError
from tests.packaging import kubeconform
from tests.packaging.rendered import ENVIRONMENTS, TREE, Object, find, helmed, normal, overlay

pytestmark = pytest.mark.lab

CHART = TREE / "charts" / "dsg"
EVERYTHING = ("--set", "namespace.create=true")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tools.helm(), *arguments], capture_output=True, text=True, timeout=120, check=False)


def values(environment: str) -> str:
    return str(TREE / "examples" / "helm" / f"{environment}.yaml")


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    kubeconform.write_schemas(tools.monitoring_crds(), folder)
    return folder


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_helm_lints_the_chart(environment: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", values(environment))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


def test_helm_refuses_unknown_and_missing_values() -> None:
    with pytest.raises(LabError, match="noSuchValue"):
        helmed("dev", "--set", "noSuchValue=1")
    with pytest.raises(LabError, match="endpoint"):
        chart.render()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_helm_and_kustomize_make_the_same_objects(environment: str) -> None:
    by_helm, by_kustomize = normal(helmed(environment, *EVERYTHING)), normal(overlay(environment))
    assert set(by_helm) == set(by_kustomize)
    for name, obj in by_helm.items():
        assert obj == by_kustomize[name], name


def test_what_is_rendered_for_kustomize_is_up_to_date() -> None:
    assert chart.stale(TREE, chart.outputs(TREE, with_rendered=True)) == ""


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_rendered_object_conforms(environment: str, schemas: Path) -> None:
    objects = helmed(environment, *EVERYTHING, "--set", "encryption.secretNamespaces={research}")
    verdict = kubeconform.check(objects, schemas)
    assert (verdict.invalid, verdict.errors, verdict.skipped, verdict.problems) == (0, 0, 0, ())
    assert verdict.valid == len(objects)
    assert {"DaemonSet", "CustomResourceDefinition", "RoleBinding"} <= {obj["kind"] for obj in objects}


def test_every_example_conforms(schemas: Path) -> None:
    files = sorted((TREE / "examples").glob("*.yaml"))
    objects = [obj for file in files for obj in yaml.safe_load_all(file.read_text()) if obj]
    verdict = kubeconform.check(objects, schemas)
    assert verdict.problems == ()
    assert verdict.valid == len(objects) > 0


def spoiled(objects: list[Object], kind: str, name: str, *path: str | int) -> list[Object]:
    """The objects, with an unknown field in one of them."""
    changed = copy.deepcopy(objects)
    place: Any = find(changed, kind, name)
    for part in path:
        place = place[part]
    place["noSuchField"] = 1
    return changed


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("DaemonSet", "dsg-operator", ("spec", "template", "spec", "containers", 0)),
        ("PodMonitor", "dsg", ("spec", "podMetricsEndpoints", 0)),
    ],
)
def test_an_unknown_field_does_not_conform(kind: str, name: str, path: tuple[str | int, ...], schemas: Path) -> None:
    objects = helmed("production")
    verdict = kubeconform.check(spoiled(objects, kind, name, *path), schemas)
    assert verdict.invalid == 1
    assert "noSuchField" in verdict.problems[0]


def test_crds_outlive_the_release() -> None:
    for obj in helmed("dev"):
        kept = obj["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        assert kept == (obj["kind"] == "CustomResourceDefinition"), obj["metadata"]["name"]


def test_parts_can_be_left_to_others() -> None:
    parts = ("crds.install", "admissionPolicies.install", "networkPolicy.enabled")
    kinds = {obj["kind"] for obj in helmed("dev", "--set", ",".join(f"{part}=false" for part in parts))}
    left_out = {"CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert not kinds & {*left_out, "NetworkPolicy"}
    assert {"DaemonSet", "Deployment", "ClusterRole"} <= kinds


def test_another_namespace_is_used_throughout() -> None:
    argv = ["template", "dsg", str(CHART), "--namespace", "storage", "--values", values("production")]
    done = helm(*argv)
    assert done.returncode == 0, done.stderr
    assert "dsg-system" not in done.stdout
    objects = [obj for obj in yaml.load_all(done.stdout, yaml.CSafeLoader) if obj]
    assert {obj["metadata"].get("namespace", "storage") for obj in objects} == {"storage"}


def test_a_node_without_zfs_gets_no_device() -> None:
    node = find(helmed("dev", "--set", "storage.zfs=false"), "DaemonSet", "dsg-operator")
    assert "/dev/zfs" not in json.dumps(node)


def test_pods_can_wait_to_be_replaced_by_hand() -> None:
    node = find(helmed("production", "--set", "updateStrategy.type=OnDelete"), "DaemonSet", "dsg-operator")
    assert node["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_secrets_are_readable_where_it_was_said() -> None:
    objects = helmed("dev", "--set", "encryption.secretNamespaces={research,archive}")
    bound = [o for o in objects if o["kind"] == "RoleBinding" and o["metadata"]["name"] == "dsg-operator-secrets"]
    assert {o["metadata"]["namespace"] for o in bound} == {"research", "archive"}
    # What is bound exists, and it lets the operator get Secrets and nothing else.
    role = find(objects, "ClusterRole", "dsg-operator-secrets")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]


def test_a_packaged_chart_is_whole(tmp_path: Path) -> None:
    assert helm("package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    (archive,) = tmp_path.glob("dsg-*.tgz")
    arguments = ("--namespace", chart.NAMESPACE, "--values", values("production"))
    from_archive, from_tree = (helm("template", "dsg", str(where), *arguments).stdout for where in (archive, CHART))
    assert from_archive == from_tree
