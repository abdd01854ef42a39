"""Reference documents in Markdown, from the schemas and the table of reasons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dsg.api.crd import KINDS, Kind, annotated_schema
from dsg.api.names import API_VERSION
from dsg.api.reasons import CONDITION_TYPES, REASONS, Readiness, Reason
from dsg.api.rules import LIST_TYPE, VALIDATIONS
from dsg.api.structural import DEFAULT, FIXED, MEMBERS, MOVES_ONCE, NEEDED_BY, Schema

_READINESS = {
    Readiness.READY: "Ready is True.",
    Readiness.WORKING: "Ready is Unknown, Reconciling is True: nobody needs to act on the object itself.",
    Readiness.STALLED: "Ready is False, Stalled is True: a person must act.",
}


def kind_page(kind: Kind, examples: Mapping[str, str]) -> str:
    """Return the page of one kind; `examples` are the contents of example files by their path from the page."""
    schema = annotated_schema(kind)
    scope = "in a namespace" if kind.namespaced else "for the whole cluster"
    selectors = ", ".join(f"`{path.removeprefix('.')}`" for path in kind.selectable)
    parts = [
        f"# {kind.name}",
        schema["description"],
        f"`{API_VERSION}`, declared {scope}. `kubectl get {kind.short}` lists them, `kubectl get dsg` lists all kinds, "
        f"`kubectl explain {kind.name.lower()}.spec` explains each field. Field selectors: {selectors}.",
    ]
    if rules := list(_messages(schema)):
        parts.append(_list(rules))
    parts.append("## Examples")
    for path, text in examples.items():
        body = "\n".join(line for line in text.splitlines() if "yaml-language-server" not in line)
        parts += [f"[{path.rpartition('/')[2]}]({path})", f"```yaml\n{body}\n```"]
    parts += ["## Columns", _columns(kind), "## Spec", schema["properties"]["spec"]["description"]]
    parts += _fields(schema["properties"]["spec"], "spec")
    parts += ["## Status", f"{schema['properties']['status']['description']} Nobody else writes it."]
    parts += _fields(schema["properties"]["status"], "status")
    return "\n\n".join(parts) + "\n"


def conditions_page() -> str:
    """Return the page about condition types and reasons."""
    parts = [
        "# Conditions and reasons",
        "Every condition and every Event carries one of these reasons. They are interface: alert on them. "
        "While the operator works towards what was declared, Ready is Unknown and Reconciling is True; only when a "
        "person must act, Ready is False and Stalled is True. "
        "`status.observedGeneration` is -1 until an operator has looked.",
        "## Condition types",
        _table(
            ("Type", "Kinds", "Meaning when True"),
            [(f"`{name}`", ", ".join(kinds), meaning) for name, (kinds, meaning) in CONDITION_TYPES.items()],
        ),
        "## Reasons",
    ]
    for reason in sorted(REASONS, key=lambda reason: reason.name):
        parts += [f"### {reason.name}", f"*{', '.join(_reason_facts(reason))}*", reason.meaning]
        parts.append(f"What to do: {reason.action}")
    return "\n\n".join(parts) + "\n"


def index_page() -> str:
    """Return the page that leads to the others."""
    kinds = [f"[{kind.name}]({kind.name.lower()}.md): {annotated_schema(kind)['description']}" for kind in KINDS]
    schemas = [f"`schemas/{schema_name(kind)}`" for kind in KINDS]
    return "\n\n".join(
        [
            "# Reference",
            _list([*kinds, "[Conditions and reasons](conditions.md): what a status says, and what to do."]),
            "## In an editor",
            f"Editors with yaml-language-server complete and check files that begin with "
            f"`# yaml-language-server: $schema=PATH`, where PATH leads to one of {', '.join(schemas)}. kubeconform "
            "finds them with `-schema-location 'schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'`.",
            "",
        ]
    )


def schema_name(kind: Kind) -> str:
    """Return the path of a kind's JSON Schema below `schemas/`, as kubeconform and CRD catalogues name them."""
    group, version = API_VERSION.split("/")
    return f"{group}/{kind.name.lower()}_{version}.json"


def _reason_facts(reason: Reason) -> Iterator[str]:
    yield " and ".join(reason.kinds)
    if reason.readiness is not None:
        yield _READINESS[reason.readiness].rstrip(".")
    if reason.condition is not None:
        yield f"condition {reason.condition}"
    if reason.event is not None:
        yield f"{reason.event} Event"


def _columns(kind: Kind) -> str:
    rows = [(column.name, "wide" if column.wide else "", column.description) for column in kind.columns]
    return _table(("Column", "Shown with `-o`", "Meaning"), rows)


def _fields(schema: Schema, path: str) -> list[str]:
    parts = []
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        parts += [f"### `{here}`", f"*{', '.join(_facts(field, name in schema.get('required', [])))}*"]
        parts.append(field["description"])
        rules = [*_messages(schema, name), *_messages(field), *_item_messages(field)]
        if FIXED in field:
            rules.append(f"It can't be changed: {field[FIXED]}.")
        if MOVES_ONCE in field:
            rules.append(f"It may only move on from {field[MOVES_ONCE]}, once.")
        if rules:
            parts.append(_list(rules))
        parts += _fields(field, here)
        parts += _fields(field.get("items", {}), f"{here}[]")
    return parts


def _facts(field: Schema, required: bool) -> Iterator[str]:
    yield _type(field)
    if "enum" in field:
        yield "one of " + ", ".join(f"`{option}`" for option in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        yield f"{low} to {high}"
    elif low is not None:
        yield f"{low} or more"
    yield from _sizes(field)
    if required:
        yield "required"
    if DEFAULT in field:
        yield f"default `{json.dumps(field[DEFAULT])}`"
    if needing := field.get(NEEDED_BY):
        yield "required" if needing == field[MEMBERS] and len(needing) > 1 else f"required for type {needing[0]}"
    if FIXED in field:
        yield "immutable"


def _sizes(field: Schema) -> Iterator[str]:
    if "maxLength" in field:
        yield f"at most {field['maxLength']} characters"
    if "maxItems" in field:
        yield f"{field.get('minItems', 0)} to {field['maxItems']} entries"
    if "maxProperties" in field:
        yield f"at most {field['maxProperties']} entries"
    if field.get(LIST_TYPE) == "set":
        yield "none twice"


def _type(field: Schema) -> str:
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if "additionalProperties" in field:
        return f"mapping to {_type(field['additionalProperties'])}s"
    if field.get("format") == "date-time":
        return "time (RFC 3339)"
    return str(field["type"])


def _messages(schema: Schema, field: str | None = None) -> Iterator[str]:
    """Return the messages of a schema's own rules: about the whole, or those that point to one field.

    Rules with a `reason` are about presence and change; those the facts tell already.
    """
    for rule in schema.get(VALIDATIONS, []):
        target = rule.get("fieldPath", "").removeprefix(".") or None
        if target == field and "reason" not in rule:
            yield _sentence(rule["message"])


def _item_messages(field: Schema) -> Iterator[str]:
    for part in ("items", "additionalProperties"):
        inner = field.get(part)
        if isinstance(inner, Mapping) and inner.get("type") != "object":
            yield from _messages(dict(inner))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
