"""kubeconform, with the schemas of all that is rendered: Kubernetes', our own, prometheus-operator's."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import tools
from tests.packaging.rendered import TREE, Object

KUBERNETES = "{{.ResourceKind}}{{.KindSuffix}}.json"
OURS = str(TREE / "schemas" / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json")


@dataclass(frozen=True)
class Verdict:
    """What kubeconform said: counts, and its words about each object that is not as it should be."""

    valid: int
    invalid: int
    errors: int
    skipped: int
    problems: tuple[str, ...]


def strict(schema: Any) -> Any:
    """A schema of a CRD as JSON Schema that refuses unknown fields, as the API server does with strict validation."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(part) for key, part in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("format", None)
    open_ended = found.pop("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in found and "additionalProperties" not in found and not open_ended:
        found["additionalProperties"] = False
    return found


def write_schemas(crds: list[Path], folder: Path) -> None:
    """Write KIND_VERSION.json of each version of each CRD."""
    for file in crds:
        crd = yaml.load(file.read_text(), yaml.CSafeLoader)
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # In a CRD every object has these; their content is the API server's.
            schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
            name = f"{crd['spec']['names']['kind'].lower()}_{version['name']}.json"
            (folder / name).write_text(json.dumps(schema))


def check(objects: list[Object], folder: Path) -> Verdict:
    """Run kubeconform -strict on objects; `folder` has what `write_schemas` wrote."""
    locations = (
        str(tools.kubernetes_schemas() / KUBERNETES),
        OURS,
        str(folder / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"),
    )
    argv = [str(tools.kubeconform()), "-strict", "-summary", "-output", "json", "-n", "1"]
    for location in locations:
        argv += ["-schema-location", location]
    text = "---\n".join(json.dumps(obj) + "\n" for obj in objects)
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120, check=False)
    said = json.loads(done.stdout)
    summary = said["summary"]
    problems = tuple(f"{r['kind']} {r['name']}: {r['msg']}" for r in said["resources"] if r["status"] != "statusValid")
    return Verdict(summary["valid"], summary["invalid"], summary["errors"], summary["skipped"], problems)
