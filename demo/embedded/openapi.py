"""OpenAPI v3 documents: what `kubectl explain` shows, and by which kubectl knows that the server checks fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from demo.embedded.builtin_schemas import schema
from demo.embedded.kinds import Kind

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_REFERENCE = {"allOf": [{"$ref": f"#/components/schemas/{_META}"}], "description": "Standard object's metadata."}


def _place(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _component(kind: Kind) -> str:
    parts = [*reversed(kind.group.split(".")), kind.version, kind.kind]
    return ".".join(part for part in parts if part)


def _operation(kind: Kind, action: str) -> dict[str, Any]:
    names = ("dryRun", "fieldManager", "fieldValidation")
    return {
        "operationId": f"{action}{kind.kind}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }


def _schema(kind: Kind) -> dict[str, Any]:
    properties = {**kind.schema.get("properties", {}), "metadata": _REFERENCE}
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    return {**kind.schema, "properties": properties, "x-kubernetes-group-version-kind": [gvk]}


class OpenApi:
    """The documents of all groups, each made once."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        by_place: dict[str, list[Kind]] = {}
        for kind in kinds:
            by_place.setdefault(_place(kind), []).append(kind)
        self.documents = {place: json.dumps(self._document(found)).encode() for place, found in by_place.items()}

    def _document(self, kinds: list[Kind]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        components: dict[str, Any] = {_META: schema("V1ObjectMeta")}
        for kind in kinds:
            scope = "/namespaces/{namespace}" if kind.namespaced else ""
            everything = f"/{_place(kind)}{scope}/{kind.plural}"
            paths[everything] = {"post": _operation(kind, "post")}
            paths[f"{everything}/{{name}}"] = {"put": _operation(kind, "put"), "patch": _operation(kind, "patch")}
            components[_component(kind)] = _schema(kind)
        return {
            "openapi": "3.0.0",
            "info": {"title": "dsg embedded API", "version": kinds[0].version},
            "paths": paths,
            "components": {"schemas": components},
        }

    def index(self) -> dict[str, Any]:
        """Return the document at /openapi/v3, in which each place carries a hash of its content."""
        paths = {}
        for place, content in self.documents.items():
            mark = hashlib.sha256(content).hexdigest().upper()
            paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={mark}"}
        return {"paths": paths}
