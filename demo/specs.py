"""The YAML files of the story, as the teams would keep them in Git."""

from __future__ import annotations

from typing import Any

import yaml

from demo.state import NAMESPACE
from demo.world import World

API = "dsg.hrdag.org/v1alpha1"
POOL = "disk-a"
REPOSITORY = "justice"
RIVAL = "justice-copy"

NAMESPACE_SPEC: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


class _Dumper(yaml.SafeDumper):
    """Writes as people write."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def text(obj: dict[str, Any]) -> str:
    """Return an object as YAML, in the order in which it was written."""
    return yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=100)


def pool(world: World) -> dict[str, Any]:
    """Return the StoragePool."""
    return {
        "apiVersion": API,
        "kind": "StoragePool",
        "metadata": {"name": POOL},
        "spec": {
            "storage": world.pool_storage(),
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "thresholds": {"capacityPercent": 95},
        },
    }


def repository(world: World, name: str = REPOSITORY, **storage: Any) -> dict[str, Any]:
    """Return a Repository; keyword arguments replace fields of its storage."""
    return {
        "apiVersion": API,
        "kind": "Repository",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storage": {**world.repository_storage(name), **storage},
            "owner": world.owner(),
            "dataDirs": ["input", "output"],
        },
    }
