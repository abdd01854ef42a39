"""What is rendered for a cluster: by kustomize anywhere, by helm where the lab has it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lab import binaries, chart

TREE = Path(__file__).parents[2]
ENVIRONMENTS = ("dev", "staging", "production")

Object = dict[str, Any]


@cache
def kustomized(directory: str) -> list[Object]:
    """The objects of a directory below manifests/; nobody may change them."""
    argv = [str(binaries.kubectl()), "kustomize", str(TREE / "manifests" / directory)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    # The loader in C: CRDs are long.
    return [obj for obj in yaml.load_all(done.stdout, yaml.CSafeLoader) if obj]


def overlay(environment: str) -> list[Object]:
    return kustomized(f"overlays/{environment}")


def helmed(environment: str, *arguments: str) -> list[Object]:
    """The objects that helm renders with examples/helm/ENVIRONMENT.yaml."""
    return chart.render("--values", str(TREE / "examples" / "helm" / f"{environment}.yaml"), *arguments)


def find(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def containers(workload: Object) -> dict[str, Object]:
    """Containers of a workload by name, those of its start too."""
    spec = workload["spec"]["template"]["spec"]
    return {c["name"]: c for c in [*spec.get("initContainers", []), *spec["containers"]]}


def environment_of(container: Object, **given: str) -> dict[str, str]:
    """A container's variables; `given` are those that come from the pod's own fields.

    Fails on one that refers to another: the kubelet expands these in their order, and patches don't keep it.
    """
    found: dict[str, str] = {}
    for entry in container.get("env", []):
        found[entry["name"]] = entry["value"] if "value" in entry else given[entry["name"]]
    assert not [name for name, value in found.items() if "$(" in value]
    return found


def arguments_of(container: Object, **given: str) -> list[str]:
    """A container's arguments as the kubelet expands them. Fails on a variable that the container does not have."""
    known = environment_of(container, **given)
    return [_expanded(argument, known) for argument in container.get("args", [])]


def _expanded(text: str, known: dict[str, str]) -> str:
    """`$(NAME)` replaced (Kubernetes: dependent environment variables); only variables before this one count."""
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda match: known[match[1]], text)


def normal(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Objects by kind and name, without what only Helm or only kustomize writes, and with lists in order of names."""
    found = {}
    for obj in objects:
        plain = chart.plain(copy.deepcopy(obj))
        # The chart marks its objects; a fixed file has no labels beyond those that selectors use.
        labels = {
            k: v for k, v in plain["metadata"].get("labels", {}).items() if not k.startswith("app.kubernetes.io/")
        }
        plain["metadata"]["labels"] = labels
        found[plain["kind"], plain["metadata"]["name"]] = json.loads(json.dumps(_sorted(plain)))
    return found


def _sorted(value: Any) -> Any:
    """Lists of things with names in order of these: merging may put to the front what it adds, and it means nothing.

    Of variables too, since none refers to another (`environment_of`).
    """
    if isinstance(value, dict):
        return {key: _sorted(part) for key, part in value.items()}
    if isinstance(value, list):
        parts = [_sorted(part) for part in value]
        named = all(isinstance(part, dict) and "name" in part for part in parts)
        return sorted(parts, key=lambda part: json.dumps(part, sort_keys=True)) if named else parts
    return value


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for obj in objects:
        if obj["kind"] in {"DaemonSet", "Deployment"}:
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]
