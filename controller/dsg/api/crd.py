"""The CustomResourceDefinitions of this project's kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsg.api.base import Model
from dsg.api.names import GROUP, VERSION
from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from dsg.api.structural import Schema, stripped, structural
from dsg.api.synctransaction import SyncTransaction

_API_VERSION = (
    "Version of the schema that this object follows; the API server converts between versions. "
    "See https://kubernetes.io/docs/concepts/overview/working-with-objects."
)
_KIND = "Kind of this object: what it stands for. It can't be changed."
_UNSEEN = {"observedGeneration": -1}
"""Status of an object that no operator has looked at: without it, kstatus takes such an object for well."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False
    """Shown with `-o wide` only."""

    def as_printer_column(self) -> dict[str, Any]:
        """Return the column as an item of additionalPrinterColumns."""
        found = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return found | ({"priority": 1} if self.wide else {})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource, as Kubernetes and its users meet it."""

    model: type[Model]
    plural: str
    short: str
    namespaced: bool
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    """Fields that `--field-selector` and watches can filter by (Kubernetes 1.32)."""

    @property
    def name(self) -> str:
        """Return the kind's name."""
        return self.model.__name__

    @property
    def file(self) -> str:
        """Return the name of the kind's CRD file, after the custom of controller-gen."""
        return f"{GROUP}_{self.plural}.yaml"


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = (
    Column("Ready", _condition("Ready", "status"), "Whether it is as declared."),
    Column("Reason", _condition("Ready", "reason"), "Why, in one word."),
)
_AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was declared.", "date")
_MESSAGE = Column("Message", _condition("Ready", "message"), "Why, for a person.", wide=True)

KINDS: tuple[Kind, ...] = (
    Kind(
        Repository,
        "repositories",
        "drepo",
        namespaced=True,
        columns=(
            *_READY,
            Column("Node", ".spec.storage.node", "Storage node that holds the data."),
            Column("Used", ".status.storage.used", "Space taken by all versions."),
            Column("Use%", ".status.storage.usedPercent", "Part of the quota that is used.", "integer"),
            Column("Version", ".status.head.version", "Current version."),
            _AGE,
            Column("Type", ".spec.storage.type", "Kind of storage.", wide=True),
            Column("Location", ".status.storage.location", "Dataset or directory on the node.", wide=True),
            Column("Mountpoint", ".spec.storage.mountpoint", "Where it is read on the node.", wide=True),
            Column("Key", ".status.storage.key", "Loaded or Locked, where it is encrypted.", wide=True),
            Column("Suspended", ".spec.suspend", "Whether the operator only looks.", "boolean", wide=True),
            _MESSAGE,
        ),
        selectable=(".spec.storage.node",),
    ),
    Kind(
        StoragePool,
        "storagepools",
        "dpool",
        namespaced=False,
        columns=(
            *_READY,
            Column("Node", ".spec.storage.node", "Storage node that has it."),
            Column("Pool", ".spec.storage.pool", "ZFS pool."),
            Column("Health", ".status.health", "Health in the pool's own words."),
            Column("Capacity%", ".status.capacityPercent", "Part of the space that is taken.", "integer"),
            Column("Free", ".status.free", "Free space."),
            Column("Repositories", ".status.repositories", "Repositories placed here.", "integer"),
            _AGE,
            Column("Type", ".spec.storage.type", "Kind of storage.", wide=True),
            Column("Root", ".spec.storage.root", "Dataset below which repositories lie.", wide=True),
            Column("Directory", ".spec.storage.directory", "Directory below which repositories lie.", wide=True),
            Column("Fragmentation%", ".status.fragmentationPercent", "Fragmentation of free space.", "integer", True),
            _MESSAGE,
        ),
        selectable=(".spec.storage.node",),
    ),
    Kind(
        SyncTransaction,
        "synctransactions",
        "dtx",
        namespaced=True,
        columns=(
            Column("Repository", ".spec.repositoryRef.name", "Repository that it changes."),
            Column("Operation", ".spec.operation", "Init, Sync or Restore."),
            Column("Phase", ".status.phase", "Where it stands."),
            Column("Version", ".status.version", "Version that it made."),
            Column("Author", ".spec.author", "Who makes the change."),
            _AGE,
            Column("Node", ".spec.node", "Storage node of the repository.", wide=True),
            Column("Base", ".spec.base", "Version that it starts from.", wide=True),
            Column("Intent", ".spec.intent", "What the client wants now.", wide=True),
            Column("Conflicts", ".status.conflicts.total", "Paths that keep it from committing.", "integer", True),
            Column("Message", ".spec.message", "The author's words.", wide=True),
        ),
        selectable=(".spec.node", ".spec.repositoryRef.name", ".spec.intent"),
    ),
)


def annotated_schema(kind: Kind) -> Schema:
    """Return a kind's structural schema with the `x-dsg-…` keys that the reference documents read."""
    schema = structural(kind.model.model_json_schema(by_alias=True))
    properties = schema["properties"]
    properties["apiVersion"] = {"description": _API_VERSION, "type": "string"}
    properties["kind"] = {"description": _KIND, "type": "string"}
    # Kubernetes itself defines metadata; a CRD may only say that it is there.
    properties["metadata"] = {"type": "object"}
    properties["status"] = _without_defaults(properties["status"]) | {"default": dict(_UNSEEN)}
    schema["required"] = ["spec"]
    for rule in schema.get("x-kubernetes-validations", []):
        if rule.get("fieldPath", "").startswith(".metadata."):
            # The API server knows no schema below metadata to point into.
            del rule["fieldPath"]
    return schema


def _without_defaults(schema: Schema) -> Schema:
    """Return a status schema without defaults: what an operator did not write must not appear."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(field) for name, field in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    return result


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.as_printer_column() for column in kind.columns],
        "selectableFields": [{"jsonPath": path} for path in kind.selectable],
        "schema": {"openAPIV3Schema": stripped(annotated_schema(kind))},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "dsg", "app.kubernetes.io/part-of": "dsg"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                # Not in `all`: `kubectl delete all --all` must not reach data.
                "categories": ["dsg"],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }
