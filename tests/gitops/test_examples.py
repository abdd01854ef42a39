"""The examples for Argo CD and Flux: valid by the tools' own CRDs and by our own, and in agreement with each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from dsg.api.load import parse_object
from gitops.generate import HERE
from lab import verdicts
from lab.controlplane import ControlPlane
from tests.api.objects import TREE

EXAMPLES = TREE / "examples" / "gitops"


def _documents(*patterns: str) -> list[dict[str, Any]]:
    files = sorted(file for pattern in patterns for file in EXAMPLES.glob(pattern))
    assert files, patterns
    return [obj for file in files for obj in yaml.safe_load_all(file.read_text())]


TOOLS = _documents("argocd/**/*.yaml", "flux/**/*.yaml")
OURS = [obj for obj in _documents("platform/*.yaml", "teams/**/*.yaml") if "kustomize.config" not in obj["apiVersion"]]


def _one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [obj for obj in TOOLS if obj["kind"] == kind and obj["metadata"]["name"] == name]
    return found


def test_both_tools_give_the_chart_the_same_values_and_it_takes_them() -> None:
    argocd = _one("Application", "dsg")["spec"]["source"]
    flux = _one("HelmRelease", "dsg")["spec"]["values"]
    assert argocd["helm"]["valuesObject"] == flux
    chart = TREE / "charts" / "dsg"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for key, value in flux.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    jsonschema.validate(values, json.loads((chart / "values.schema.json").read_text()))
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
    assert argocd["targetRevision"] == _one("OCIRepository", "dsg-chart")["spec"]["ref"]["tag"] == version


def test_the_paths_that_the_tools_follow_are_there() -> None:
    paths = [obj["spec"]["source"].get("path") for obj in TOOLS if obj["kind"] == "Application"]
    paths += [obj["spec"]["path"] for obj in TOOLS if obj["kind"] == "Kustomization"]
    for path in filter(None, paths):
        assert list((EXAMPLES / path).glob("*.yaml")), path


def test_waves_and_dependencies_have_one_order() -> None:
    waves = {
        obj["metadata"]["name"]: int(obj["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for obj in TOOLS
        if obj["kind"] == "Application" and obj["metadata"]["name"] != "dsg-root"
    }
    assert sorted(waves, key=lambda name: waves[name]) == ["dsg", "dsg-pools", "research-repositories"]
    assert len(set(waves.values())) == len(waves)
    needed = {
        obj["metadata"]["name"]: obj["spec"].get("dependsOn", []) for obj in TOOLS if obj["kind"] == "Kustomization"
    }
    assert needed == {
        "dsg": [],
        "dsg-pools": [{"name": "dsg"}],
        "research-repositories": [{"name": "dsg-pools"}],
    }


def test_the_expressions_are_those_that_are_tested() -> None:
    published = {
        check["kind"]: check for check in yaml.safe_load((HERE / "flux" / "health-check-exprs.yaml").read_text())
    }
    used = [check for obj in TOOLS for check in obj["spec"].get("healthCheckExprs", [])]
    assert used
    assert all(check == published[check["kind"]] for check in used)


def test_our_objects_are_valid_safe_from_pruning_and_fit_each_other() -> None:
    for obj in OURS:
        if obj["kind"] in {"Repository", "StoragePool", "Namespace"}:
            annotations = obj["metadata"]["annotations"]
            assert annotations["argocd.argoproj.io/sync-options"] == "Prune=confirm,Delete=confirm"
            assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
    for obj in OURS:
        if obj["apiVersion"].startswith("dsg.hrdag.org"):
            parse_object(obj)
    (repository,) = [obj["spec"] for obj in OURS if obj["kind"] == "Repository"]
    assert repository["storage"]["adopt"] is True
    assert repository["deletionPolicy"] == "Retain"


def test_tools_never_replace_or_force() -> None:
    for obj in TOOLS:
        spec = obj["spec"]
        options = spec.get("syncPolicy", {}).get("syncOptions", [])
        assert not [option for option in options if option.startswith(("Replace", "Force"))]
        assert not spec.get("force", False)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("api")) as plane:
        folders = (verdicts.argocd_parts() / "crds", verdicts.flux_parts() / "crds")
        for folder in folders:
            plane.kubectl("admin", "apply", "--server-side", "-f", str(folder))
        plane.kubectl("admin", "apply", "--server-side", "-k", str(TREE / "manifests" / "base"))
        plane.kubectl("admin", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        for namespace in ("argocd", "flux-system", "research"):
            plane.kubectl("admin", "create", "namespace", namespace)
        yield plane


FOLDERS = ["argocd", "argocd/apps", "flux", "flux/release"]


@pytest.mark.kube
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_tools_own_crds_take_them(api: ControlPlane, folder: str) -> None:
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / folder))
    api.kubectl("admin", *words)


@pytest.mark.kube
@pytest.mark.parametrize("folder", ["platform", "teams/research"])
def test_the_api_server_takes_what_they_apply(api: ControlPlane, folder: str) -> None:
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", str(EXAMPLES / folder))
    api.kubectl("admin", *words)


@pytest.mark.kube
def test_a_field_that_the_tool_does_not_have_is_refused(api: ControlPlane, tmp_path: Path) -> None:
    """So that the tests above can fail."""
    for file, field in (("argocd/apps/20-pools.yaml", "syncPolcy"), ("flux/pools.yaml", "dependOn")):
        obj = yaml.safe_load((EXAMPLES / file).read_text())
        obj["spec"][field] = []
        words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
        done = api.kubectl("admin", *words, input=yaml.safe_dump(obj), check=False)
        assert done.returncode != 0
        assert field in done.stderr


@pytest.mark.kube
@pytest.mark.parametrize("health", ["Healthy", "Degraded", None])
def test_an_application_of_applications_sees_its_applications(health: str | None) -> None:
    config_map = yaml.safe_load((HERE / "argocd" / "application-health.yaml").read_text())
    obj = {**_one("Application", "dsg"), "status": {"health": {"status": health} if health else {}}}
    (found,) = verdicts.argocd(config_map, [obj])
    assert found["health"]["status"] == (health or "Progressing")
