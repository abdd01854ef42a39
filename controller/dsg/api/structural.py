"""From pydantic's JSON Schema to the structural schema of a CustomResourceDefinition.

Structural (Kubernetes: "Specifying a structural schema") means: no references, one type for each node, no alternatives.
So references are put in place, a null alternative goes (the API server drops nulls by itself), and a union on `type`
becomes one object with the fields of all members, whose differences are CEL rules.

What the CRD can't hold but the reference documents show stays in the tree under `x-dsg-…` keys; `stripped` removes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dsg.api.base import DISCRIMINATOR, FORWARD_ONLY, IMMUTABLE, never, only_from
from dsg.api.rules import PATTERN, REFUSED, VALIDATIONS, cel_string

Schema = dict[str, Any]

PRIVATE = "x-dsg-"
MEMBERS = "x-dsg-members"
"""On a field of a merged union: the types that have it."""
NEEDED_BY = "x-dsg-needed-by"
"""On a field of a merged union: the types that need it."""
DEFAULT = "x-dsg-default"
"""Default that readers apply, whether or not the CRD states it."""
FIXED = "x-dsg-fixed"
"""On a field: why it never changes."""
REMARK = "x-dsg-remark"
"""On a field of a merged union: what `kubectl explain` can't show otherwise; joins the CRD's description."""
MOVES_ONCE = "x-dsg-moves-once"
"""On a field: the only value from which it may change."""

_KEPT = {
    "description",
    "type",
    "enum",
    "format",
    "pattern",
    "nullable",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}
_ORDER = ("description", "type", "format", "enum", "default")


def structural(schema: Mapping[str, Any]) -> Schema:
    """Return pydantic's schema of a model as one structural schema, with the `x-dsg-…` keys.

    Raises ValueError for a construction that has no structural form.
    """
    return _Transformation(schema.get("$defs", {})).of(schema)


def stripped(schema: Any) -> Any:
    """Return a schema without the keys that no CRD may have."""
    if isinstance(schema, dict):
        found = {key: stripped(value) for key, value in schema.items() if not key.startswith(PRIVATE)}
        if REMARK in schema:
            found["description"] += schema[REMARK]
        return found
    if isinstance(schema, list):
        return [stripped(item) for item in schema]
    return schema


def flat(text: str) -> str:
    """Return a docstring as one line."""
    return " ".join(text.split())


class _Transformation:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def of(self, schema: Mapping[str, Any]) -> Schema:
        schema = self._resolved(schema)
        if "oneOf" in schema:
            return _ordered(self._union(schema))
        found: Schema = {}
        for key, value in schema.items():
            if key in _KEPT:
                found[key] = flat(value) if key == "description" else value
            elif key == "default":
                found |= _default(value)
            elif key == "const":
                found["enum"] = [value]
            elif key == "properties":
                found["properties"] = {name: self.of(field) for name, field in value.items()}
            elif key == "items":
                found["items"] = self.of(value)
            elif key == "additionalProperties":
                if isinstance(value, Mapping):
                    found["additionalProperties"] = self.of(value)
            elif key == "propertyNames":
                found.setdefault(VALIDATIONS, []).extend(_key_rules(value))
            elif key == VALIDATIONS:
                found.setdefault(VALIDATIONS, []).extend(value)
            elif key not in {"title", "$defs", IMMUTABLE, FORWARD_ONLY, PATTERN}:
                raise ValueError(f"{key} has no structural form: {schema}")
        if found.get("type") == "integer":
            found["format"] = "int64"
        if "properties" in found:
            found.setdefault(VALIDATIONS, []).extend(_transitions(schema, found))
            if not found[VALIDATIONS]:
                del found[VALIDATIONS]
        return _ordered(found)

    def _resolved(self, schema: Mapping[str, Any]) -> Schema:
        """Return a schema with its reference put in place and its null alternative gone; own keys win."""
        result = dict(schema)
        while True:
            if "$ref" in result:
                target = self._definitions[result.pop("$ref").rpartition("/")[2]]
                result = {**target, **result}
            elif "anyOf" in result:
                others = [choice for choice in result.pop("anyOf") if choice != {"type": "null"}]
                if len(others) != 1:
                    raise ValueError(f"alternatives have no structural form: {schema}")
                result = {**others[0], **result}
            else:
                return result

    def _union(self, schema: Schema) -> Schema:
        members = {tag: self._resolved({"$ref": ref}) for tag, ref in schema["discriminator"]["mapping"].items()}
        members = {tag: members[tag] for tag in _declared_order(schema, members)}
        advice: Mapping[str, str] = schema.get(REFUSED, {})
        parts = {tag: self.of({**member, IMMUTABLE: {}, FORWARD_ONLY: {}}) for tag, member in members.items()}

        kind: Schema = {
            **next(iter(parts.values()))["properties"][DISCRIMINATOR],
            "enum": [*members, *advice],
            VALIDATIONS: [{"rule": f"self != {cel_string(t)}", "message": text} for t, text in advice.items()],
        }
        owners: dict[str, list[str]] = {}
        for tag, part in parts.items():
            for field in part["properties"]:
                owners.setdefault(field, []).append(tag)
        properties: Schema = {DISCRIMINATOR: kind}
        rules: list[dict[str, str]] = []
        for field, tags in owners.items():
            if field == DISCRIMINATOR:
                continue
            needing = [tag for tag in tags if field in parts[tag].get("required", [])]
            properties[field] = _merged_field(field, {tag: parts[tag]["properties"][field] for tag in tags}, parts)
            properties[field] |= {MEMBERS: tags, NEEDED_BY: needing}
            properties[field][REMARK] = _remark(tags, needing, everywhere=len(members))
            if needing:
                rules.append(_needed(needing, field, everywhere=len(needing) == len(members)))
            rules += [_foreign(tag, field, tags) for tag in members if tag not in tags]
        for tag, part in parts.items():
            rules += [_only_for(tag, rule) for rule in part.get(VALIDATIONS, [])]
        merged: Schema = {
            "description": flat(schema["description"]),
            "type": "object",
            "required": [DISCRIMINATOR],
            "properties": properties,
        }
        rules += _union_transitions(members, merged)
        return {**merged, VALIDATIONS: rules}


def _declared_order(schema: Schema, members: Iterable[str]) -> list[str]:
    """Return the tags in the order in which the union names its members; pydantic sorts the mapping."""
    mapping = schema["discriminator"]["mapping"]
    order = [choice["$ref"] for choice in schema["oneOf"]]
    return sorted(members, key=lambda tag: order.index(mapping[tag]))


def _default(value: Any) -> Schema:
    # A default that says nothing (null, false, 0, "") is the reader's affair: objects stay as people wrote them.
    if value is None:
        return {}
    stated = {"default": value} if value and not isinstance(value, list | dict) else {}
    return {DEFAULT: value} | stated


def _key_rules(schema: Mapping[str, Any]) -> list[dict[str, str]]:
    rules = []
    for item in schema.get(VALIDATIONS, []):
        of_key = re.sub(r"\bself\b", "k", item["rule"])
        rules.append({"rule": f"self.all(k, {of_key})", "message": item["message"]})
    if "maxLength" in schema:
        longest = schema["maxLength"]
        rules.append(
            {"rule": f"self.all(k, size(k) <= {longest})", "message": f"a key has at most {longest} characters"}
        )
    return rules


def _remark(tags: list[str], needing: list[str], *, everywhere: int) -> str:
    """Return what `kubectl explain` can't show of a union's field."""
    if len(needing) == everywhere:
        return " Needed."
    if needing:
        return f" Needed for type {' and '.join(needing)}."
    return "" if len(tags) == everywhere else f" Only for type {' and '.join(tags)}."


def _is_any(tags: Iterable[str]) -> str:
    return f"self.type in [{', '.join(map(cel_string, tags))}]"


def _needed(tags: list[str], field: str, *, everywhere: bool) -> dict[str, str]:
    return {
        "rule": f"!({_is_any(tags)}) || has(self.{field})",
        "message": f"field {field} is needed" if everywhere else f"type {' and '.join(tags)} needs field {field}",
        "fieldPath": f".{field}",
        "reason": "FieldValueRequired",
    }


def foreign_field(field: str, owners: Iterable[str]) -> str:
    """Return the message about a field that belongs to other members of a union."""
    return f"field {field} is only for type {' and '.join(owners)}"


def _foreign(tag: str, field: str, owners: list[str]) -> dict[str, str]:
    return {
        "rule": f"self.type != {cel_string(tag)} || !has(self.{field})",
        "message": foreign_field(field, owners),
        "fieldPath": f".{field}",
        "reason": "FieldValueForbidden",
    }


def _only_for(tag: str, rule: Mapping[str, str]) -> dict[str, str]:
    """Return a member's rule as a rule of the union. A field that is missing is another rule's affair."""
    fields = dict.fromkeys(re.findall(r"\bself\.([A-Za-z]\w*)", rule["rule"]))
    guards = [f"self.type != {cel_string(tag)}", *(f"!has(self.{field})" for field in fields if field != DISCRIMINATOR)]
    return {**rule, "rule": f"{' || '.join(guards)} || ({rule['rule']})"}


def _merged_field(field: str, versions: Mapping[str, Schema], parts: Mapping[str, Schema]) -> Schema:
    """Return one schema for a field that several members have; they may differ in default and description alone."""
    first, *others = versions.values()
    result = dict(first)
    for other in others:
        if _meaning(first) != _meaning(other):
            raise ValueError(f"the members of a union disagree about {field}: {first} and {other}")
        if other["description"] not in result["description"]:
            result["description"] += " " + other["description"]
    # A default in an object of a type that has no such field would be refused.
    if len(versions) < len(parts) or any(v.get("default") != first.get("default") for v in others):
        result.pop("default", None)
    return result


def _meaning(schema: Schema) -> Schema:
    return {key: value for key, value in stripped(schema).items() if key not in {"description", "default"}}


def _transitions(schema: Mapping[str, Any], found: Schema) -> list[dict[str, str]]:
    rules = []
    fixed: Mapping[str, str] = schema.get(IMMUTABLE, {})
    for field, why in ((field, fixed[field]) for field in found["properties"] if field in fixed):
        rules.append(_change_rule(field, _same(field, found), never(field, why)))
        found["properties"][field][FIXED] = why
    for field, start in schema.get(FORWARD_ONLY, {}).items():
        if "default" not in found["properties"][field] and field not in found["required"]:
            raise ValueError(f"{field} may only move forward, so it must always have a value")
        moved = f"self.{field} == oldSelf.{field} || oldSelf.{field} == {cel_string(start)}"
        rules.append(_change_rule(field, moved, only_from(field, start)))
        found["properties"][field][MOVES_ONCE] = start
    return rules


def _union_transitions(members: Mapping[str, Schema], merged: Schema) -> list[dict[str, str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for tag, member in members.items():
        for field, why in member.get(IMMUTABLE, {}).items():
            found.setdefault((field, why), []).append(tag)
    rules = []
    order = list(merged["properties"])
    for (field, why), tags in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        same = _same(field, merged)
        if field != DISCRIMINATOR:
            # When the type changes as well, that is the one thing to say.
            types = "" if len(tags) == len(members) else f"!({_is_any(tags)}) || "
            same = f"self.type != oldSelf.type || {types}({same})"
        rules.append(_change_rule(field, same, never(field, why)))
        merged["properties"][field][FIXED] = why
    return rules


def _same(field: str, schema: Schema) -> str:
    """Return the CEL expression that a field has not changed; an optional one may not come or go either."""
    equal = f"self.{field} == oldSelf.{field}"
    if field in schema.get("required", []) or "default" in schema["properties"][field]:
        return equal
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {equal})"


def _change_rule(field: str, rule: str, message: str) -> dict[str, str]:
    return {"rule": rule, "message": message, "fieldPath": f".{field}", "reason": "FieldValueForbidden"}


def _ordered(schema: Schema) -> Schema:
    """Return a schema with its keys in the order in which a person reads them."""
    first = {key: schema[key] for key in _ORDER if key in schema}
    last: Schema = {key: schema[key] for key in ("required", "properties", "items") if key in schema}
    if VALIDATIONS in schema:
        keys = ("rule", "message", "fieldPath", "reason")
        last[VALIDATIONS] = [{key: rule[key] for key in keys if key in rule} for rule in schema[VALIDATIONS]]
    return first | {key: value for key, value in schema.items() if key not in first | last} | last
