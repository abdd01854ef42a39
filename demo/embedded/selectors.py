"""Label and field selectors (Kubernetes: labels and selectors; field selectors)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from demo.embedded.failures import bad_request

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]
ObjectTest = Callable[[Mapping[str, Any]], bool]

_KEY = r"[A-Za-z0-9_./-]+"
_VALUE = r"[A-Za-z0-9_.-]*"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^)]*)\)")
_EQUALS = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")


def _split(text: str) -> list[str]:
    """Return the requirements of a selector: parts between commas that stand in no parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text)]


def _label_test(text: str) -> LabelTest:
    if match := _SET.fullmatch(text):
        key, operator, values = match.groups()
        wanted = {value.strip() for value in values.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if match := _EQUALS.fullmatch(text):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.fullmatch(text):
        absent, key = bool(match[1]), match[2]
        return lambda labels: (key in labels) != absent
    raise bad_request(f"unable to parse requirement: found {text!r}, expected a label requirement")


def label_selector(text: str) -> ObjectTest:
    """Return the test of a label selector; an empty one selects everything. Raises ApiFailure (400)."""
    tests = [_label_test(part) for part in _split(text)] if text.strip() else []

    def test(obj: Mapping[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(one(labels) for one in tests)

    return test


def field_value(obj: Mapping[str, Any], path: str) -> str:
    """Return a field as selectors see it: empty where it is absent."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _field_test(text: str, known: Collection[str]) -> ObjectTest:
    match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", text)
    if match is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{text}'")
    path, operator, value = match[1], match[2], re.sub(r"\\([\\,=])", r"\1", match[3])
    if path not in known:
        raise bad_request(f"field label not supported: {path}")
    if operator == "!=":
        return lambda obj: field_value(obj, path) != value
    return lambda obj: field_value(obj, path) == value


def field_selector(text: str, known: Collection[str]) -> ObjectTest:
    """Return the test of a field selector over the fields that a resource offers. Raises ApiFailure (400)."""
    parts = [part for part in re.split(r"(?<!\\),", text) if part]
    tests = [_field_test(part, known) for part in parts]
    return lambda obj: all(one(obj) for one in tests)
