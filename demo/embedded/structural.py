"""What a structural schema does to an object: unknown fields, defaults, validation (Kubernetes: structural schemas)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from demo.embedded.failures import Cause

Schema = Mapping[str, Any]
PRESERVE = "x-kubernetes-preserve-unknown-fields"


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def pruned(schema: Schema, value: Any, unknown: list[str], path: str = "") -> Any:
    """Return a value without nulls that are not allowed and unknown fields, whose paths are added to `unknown`."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return [pruned(items, item, unknown, f"{path}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    result = {}
    for name, item in value.items():
        where = _at(path, name)
        if name in properties:
            if item is not None or properties[name].get("nullable"):
                result[name] = pruned(properties[name], item, unknown, where)
        elif isinstance(others, dict):
            result[name] = pruned(others, item, unknown, where)
        elif others is True or schema.get(PRESERVE) or "type" not in schema:
            result[name] = item
        else:
            unknown.append(where)
    return result


def set_defaults(schema: Schema, value: Any) -> None:
    """Fill in what the schema has defaults for."""
    if isinstance(value, list):
        for item in value:
            set_defaults(schema.get("items", {}), item)
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        for name, inner in properties.items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
        for name, item in value.items():
            inner = properties.get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                set_defaults(inner, item)


def _json_schema(schema: Schema) -> dict[str, Any]:
    """Return a structural schema as JSON Schema draft 4, which OpenAPI 3.0 builds on."""
    result = {key: item for key, item in schema.items() if key not in {"default", "example", "nullable"}}
    if "properties" in result:
        result["properties"] = {name: _json_schema(inner) for name, inner in result["properties"].items()}
    for key in ("items", "additionalProperties", "not"):
        if isinstance(result.get(key), dict):
            result[key] = _json_schema(result[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in result:
            result[key] = [_json_schema(inner) for inner in result[key]]
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return result


def _go_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = ((int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next(name for type_, name in names if isinstance(value, type_))


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _at(path, part)
    return path


def _limit_causes(error: jsonschema.ValidationError, path: str) -> Cause | None:
    limit, value = error.validator_value, error.instance
    bad = f"Invalid value: {len(value) if isinstance(value, list | dict) else _shown(value)}: {path} in body"
    match error.validator:
        case "minimum":
            return Cause(path, f"{bad} should be greater than or equal to {limit}")
        case "maximum":
            return Cause(path, f"{bad} should be less than or equal to {limit}")
        case "minLength":
            return Cause(path, f"{bad} should be at least {limit} chars long")
        case "minItems":
            return Cause(path, f"{bad} should have at least {limit} items")
        case "minProperties":
            return Cause(path, f"{bad} should have at least {limit} properties")
        case "pattern":
            return Cause(path, f"{bad} should match '{limit}'")
        case "maxLength":
            return Cause(path, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")
        case "maxItems" | "maxProperties":
            text = f"Too many: {len(value)}: must have at most {limit} items"
            return Cause(path, text, "FieldValueTooMany")
        case _:
            return None


def _causes(error: jsonschema.ValidationError) -> Iterator[Cause]:
    path, value = _path(error.absolute_path), error.instance
    match error.validator:
        case "type" | "format":
            kind = error.validator_value if error.validator == "format" else _wanted_type(error.validator_value)
            got = f'"{_go_type(value)}"' if error.validator == "type" else _shown(value)
            yield Cause(
                path, f"Invalid value: {got}: {path} in body must be of type {kind}: {got}", "FieldValueTypeInvalid"
            )
        case "required":
            for name in error.validator_value:
                if name not in value:
                    yield Cause(_at(path, name), "Required value", "FieldValueRequired")
        case "enum":
            allowed = ", ".join(_shown(item) for item in error.validator_value)
            text = f"Unsupported value: {_shown(value)}: supported values: {allowed}"
            yield Cause(path, text, "FieldValueNotSupported")
        case _:
            yield _limit_causes(error, path) or Cause(path, f"Invalid value: {error.message}")


def _wanted_type(wanted: Any) -> str:
    return next(one for one in wanted if one != "null") if isinstance(wanted, list) else str(wanted)


def _doubles(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Yield the items that a list of type set or map has twice."""
    if isinstance(value, dict):
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                yield from _doubles(inner, item, _at(path, name))
    if not isinstance(value, list):
        return
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", [])
    seen = []
    for number, item in enumerate(value):
        identity: Any = item
        if kind == "map" and isinstance(item, dict):
            identity = {key: item.get(key) for key in keys}
        if kind in {"set", "map"}:
            if identity in seen:
                yield Cause(f"{path}[{number}]", f"Duplicate value: {_shown(identity)}", "FieldValueDuplicate")
            seen.append(identity)
        yield from _doubles(schema.get("items", {}), item, f"{path}[{number}]")


_FORMATS = jsonschema.FormatChecker(formats=())


def _date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_FORMATS.checks("date-time", ValueError)(_date_time)


class Validator:
    """Checks objects against one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = jsonschema.Draft4Validator(_json_schema(schema), format_checker=_FORMATS)

    def causes(self, value: Any) -> list[Cause]:
        """Return everything that is wrong, each once."""
        found = [cause for error in self._validator.iter_errors(value) for cause in _causes(error)]
        found += _doubles(self._schema, value, "")
        return list(dict.fromkeys(found))
