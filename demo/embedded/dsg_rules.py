"""This project's rules, from the pydantic models, told in the words of the CRDs' CEL rules, as the real server does.

The models say what is wrong and where. The CRDs' `x-kubernetes-validations` say with which reason and message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from demo.embedded.failures import Cause
from demo.embedded.kinds import Kind
from demo.embedded.registry import Laws
from dsg.api.load import InvalidObject, forbidden_update, parse_object
from dsg.api.names import GROUP
from dsg.api.problems import Problem

Raw = Mapping[str, Any]
_VALIDATIONS = "x-kubernetes-validations"
_PREFIX = {"FieldValueRequired": "Required value: ", "FieldValueForbidden": "Forbidden: "}


@dataclass(frozen=True, slots=True)
class _Place:
    """One step of a path: where it is as the server writes it, the schema there, and the value."""

    path: str
    schema: Raw
    value: Any


def _places(schema: Raw, obj: Any, path: str) -> Iterator[_Place]:
    """Yield every place from the object itself to what a path names."""
    place = _Place("", schema, obj)
    yield place
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        inner: Raw
        if number:
            inner, value = place.schema.get("items", {}), place.value
            where = f"{place.path}[{number}]"
            found = value[int(number)] if isinstance(value, list) and int(number) < len(value) else None
        else:
            properties = place.schema.get("properties", {})
            others = place.schema.get("additionalProperties")
            inner = properties.get(name) or (others if isinstance(others, dict) else {})
            where = f"{place.path}.{name}".lstrip(".") if name in properties else f"{place.path}[{name}]"
            found = place.value.get(name) if isinstance(place.value, Mapping) else None
        place = _Place(where, inner, found)
        yield place


def _told(place: _Place, rule: Raw) -> Cause:
    reason = rule.get("reason", "FieldValueInvalid")
    shown = "" if isinstance(place.value, Mapping | list) else f"{json.dumps(place.value, ensure_ascii=False)}: "
    text = _PREFIX.get(reason, f"Invalid value: {shown}") + rule["message"]
    return Cause(f"{place.path}{rule.get('fieldPath', '')}".lstrip("."), text, reason)


def _cause(schema: Raw, obj: Raw, problem: Problem) -> Cause:
    places = list(_places(schema, obj, problem.path))
    end = places[-1]
    for place in reversed(places):
        for rule in place.schema.get(_VALIDATIONS, []):
            if rule["message"] == problem.message:
                return _told(place, rule)
    if end.value is None:
        for place in reversed(places[:-1]):
            for rule in place.schema.get(_VALIDATIONS, []):
                field = f"{place.path}{rule.get('fieldPath', '')}".lstrip(".")
                if rule.get("reason") == "FieldValueRequired" and field == end.path:
                    return _told(place, rule)
    return _told(end, {"message": problem.message})


def laws(kind: Kind) -> Laws:
    """Return the rules of one of this project's kinds."""

    def causes(obj: Raw, problems: Iterable[Problem]) -> list[Cause]:
        return [_cause(kind.schema, obj, problem) for problem in problems]

    def rule(obj: Raw) -> list[Cause]:
        try:
            parse_object(obj)
        except InvalidObject as error:
            return causes(obj, error.found)
        return []

    def change_rule(new: Raw, old: Raw) -> list[Cause]:
        try:
            before = parse_object(old)
        except InvalidObject:
            # It was written before a rule; what becomes of it is judged by itself alone.
            return []
        return causes(new, forbidden_update(before, parse_object(new)))

    return Laws(rule, change_rule)


def all_laws(kinds: Iterable[Kind]) -> dict[str, Laws]:
    """Return the rules of those kinds that are this project's, by resource."""
    return {kind.resource: laws(kind) for kind in kinds if kind.group == GROUP}
