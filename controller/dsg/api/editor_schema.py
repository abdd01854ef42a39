"""JSON Schemas (draft 2020-12) that tell an editor what belongs into a file, and what does not.

Unlike a CRD they are strict about unknown fields and have a part for each member of a union. What needs an expression
(dataset lies in pool) is left to `kubectl dsg validate` and the API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsg.api.base import DISCRIMINATOR, Model
from dsg.api.names import API_VERSION
from dsg.api.rules import LIST_TYPE, PATTERN
from dsg.api.structural import Schema, flat

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KEPT = {
    "$ref",
    "type",
    "enum",
    "const",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
}
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {
    "description": "Name, labels and annotations, as for every Kubernetes object.",
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"description": "Name of the object.", "type": "string", "maxLength": 253},
        "namespace": {"description": "Namespace of the object.", "type": "string", "maxLength": 63},
        "labels": {"description": "Labels to select objects by.", **_STRINGS},
        "annotations": {"description": "Notes of people and tools, and requests to the operator.", **_STRINGS},
    },
}


def editor_schema(model: type[Model]) -> Schema:
    """Return the JSON Schema of a kind for editors such as those with yaml-language-server."""
    schema = model.model_json_schema(by_alias=True)
    definitions = {name: part for name, part in schema["$defs"].items() if name != "ObjectMeta"}
    result = {"$schema": _DIALECT, "title": model.__name__, **_part(schema)}
    result["properties"] |= {"metadata": _METADATA}
    result["properties"]["apiVersion"] |= {"const": API_VERSION}
    result["$defs"] = {name: _part(part) for name, part in definitions.items()}
    return result


def _part(schema: Mapping[str, Any]) -> Schema:
    if "anyOf" in schema:
        (choice,) = (one for one in schema["anyOf"] if one != {"type": "null"})
        return _part({**{key: value for key, value in schema.items() if key != "anyOf"}, **choice})
    if "oneOf" in schema:
        return _union(schema)
    found: Schema = {}
    for key, value in schema.items():
        if key in _KEPT:
            found[key] = value
        elif key == "description":
            found[key] = flat(value)
        elif key == "default" and value is not None:
            found[key] = value
        elif key == "properties":
            found[key] = {name: _part(field) for name, field in value.items()}
        elif key in {"items", "propertyNames"}:
            found[key] = _part(value)
        elif key == "additionalProperties":
            found[key] = _part(value) if isinstance(value, Mapping) else value
        elif key == PATTERN:
            found |= {"pattern": value["pattern"], "patternErrorMessage": value["message"]}
        elif key == LIST_TYPE and value == "set":
            found["uniqueItems"] = True
    return found


def _union(schema: Mapping[str, Any]) -> Schema:
    """Return a union as conditions on its type, so that an editor complains about the member that is meant."""
    mapping: Mapping[str, str] = schema["discriminator"]["mapping"]
    order = [choice["$ref"] for choice in schema["oneOf"]]
    tags = sorted(mapping, key=lambda tag: order.index(mapping[tag]))
    return {
        "description": flat(schema["description"]),
        "type": "object",
        "required": [DISCRIMINATOR],
        "properties": {DISCRIMINATOR: {"enum": tags}},
        "allOf": [
            {
                "if": {"properties": {DISCRIMINATOR: {"const": tag}}, "required": [DISCRIMINATOR]},
                "then": {"$ref": mapping[tag]},
            }
            for tag in tags
        ],
    }
