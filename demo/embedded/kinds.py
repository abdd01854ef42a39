"""The kinds that are served: Kubernetes' own few, and the custom resources of the CRDs that are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from demo.embedded import columns
from demo.embedded.builtin_schemas import schema
from demo.embedded.columns import Column

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_VERBS = ("get", "list", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One resource: its names, its schema, and how it behaves."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: Mapping[str, Any]
    """Structural schema of the whole object, metadata included."""
    columns: tuple[Column, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    selectable: tuple[str, ...] = ()
    """Fields for field selectors, beside metadata.name and metadata.namespace."""
    has_status: bool = False
    """Whether status is written through its own subresource alone."""
    custom: bool = False
    """Whether it comes from a CustomResourceDefinition."""
    verbs: tuple[str, ...] = VERBS
    counts_generations: bool = field(default=False)
    """Whether metadata.generation counts changes outside metadata and status."""

    @property
    def api_version(self) -> str:
        """Return `group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Return the plural with its group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def fields(self) -> tuple[str, ...]:
        """Return every field that field selectors may name."""
        return ("metadata.name", *(("metadata.namespace",) if self.namespaced else ()), *self.selectable)


_EVENT_FIELDS = (
    *(f"involvedObject.{part}" for part in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)


def builtin() -> list[Kind]:
    """Return Kubernetes' own kinds, as far as they are served."""
    return [
        Kind(
            "", "v1", "Namespace", "namespaces", "namespace", False, schema("V1Namespace"), columns.NAMESPACE,
            short_names=("ns",), selectable=("status.phase",),
            verbs=tuple(verb for verb in VERBS if verb != "deletecollection"),
        ),
        Kind(
            "", "v1", "Event", "events", "event", True, schema("CoreV1Event"), columns.EVENT,
            short_names=("ev",), selectable=_EVENT_FIELDS,
        ),
        Kind("coordination.k8s.io", "v1", "Lease", "leases", "lease", True, schema("V1Lease"), columns.LEASE),
        Kind(
            "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
            "customresourcedefinition", False,
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}}, columns.DEFINITION,
            short_names=("crd", "crds"), categories=("api-extensions",), verbs=READ_VERBS,
        ),
    ]  # fmt: skip


def custom(definition: Mapping[str, Any]) -> Kind:
    """Return the kind that a CustomResourceDefinition declares. Raises ValueError when it is more than this serves."""
    spec = definition["spec"]
    if len(spec["versions"]) != 1:
        raise ValueError(f"{definition['metadata']['name']} has several versions; the embedded API serves one")
    version, names = spec["versions"][0], spec["names"]
    declared = version["schema"]["openAPIV3Schema"]
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        **declared.get("properties", {}),
        "metadata": schema("V1ObjectMeta"),
    }
    return Kind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        schema={**declared, "properties": properties},
        columns=columns.declared(version.get("additionalPrinterColumns", [])),
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        selectable=tuple(one["jsonPath"].removeprefix(".") for one in version.get("selectableFields", ())),
        has_status="status" in version.get("subresources", {}),
        custom=True,
        counts_generations=True,
    )


def read_definitions(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions in YAML files; other objects in them are passed over."""
    found = []
    for path in sorted(paths):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition":
                found.append(document)
    return found
