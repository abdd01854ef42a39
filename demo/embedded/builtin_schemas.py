"""Schemas of Kubernetes' own kinds, taken from the official client's models: field names and types, no descriptions."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import kubernetes.client

_LIST = re.compile(r"[Ll]ist\[(.+)\]")
_DICT = re.compile(r"[Dd]ict[(\[]str, (.+)[)\]]")
_SCALARS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _of(type_: str) -> dict[str, Any]:
    if type_ in _SCALARS:
        return _SCALARS[type_]
    if match := _LIST.fullmatch(type_):
        return {"type": "array", "items": _of(match[1])}
    if match := _DICT.fullmatch(type_):
        return {"type": "object", "additionalProperties": _of(match[1])}
    return schema(type_)


@cache
def schema(model: str) -> dict[str, Any]:
    """Return the schema of a model of the client, by its class name, such as `V1ObjectMeta`."""
    found = getattr(kubernetes.client, model)
    return {
        "type": "object",
        "properties": {found.attribute_map[name]: _of(type_) for name, type_ in found.openapi_types.items()},
    }
