"""Rules about metadata that hold for every kind (k8s.io/apimachinery, validation of ObjectMeta)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from demo.embedded.failures import Cause

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_LONGEST_LABEL, _LONGEST_NAME, _LONGEST_ANNOTATIONS = 63, 253, 256 * 1024

SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
"""Fields of metadata that only the server sets."""


def _invalid(field: str, value: str, text: str) -> Cause:
    return Cause(field, f"Invalid value: {json.dumps(value)}: {text}")


def _name(kind: str, name: str) -> Iterator[Cause]:
    if not name:
        yield Cause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired")
        return
    pattern, text, longest = (
        (_LABEL, _LABEL_TEXT, _LONGEST_LABEL) if kind == "Namespace" else (_SUBDOMAIN, _SUBDOMAIN_TEXT, _LONGEST_NAME)
    )
    if len(name) > longest:
        yield _invalid("metadata.name", name, f"must be no more than {longest} bytes")
    if not re.fullmatch(pattern, name):
        yield _invalid("metadata.name", name, text)


def _qualified(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        yield _invalid(field, key, f"prefix part {_SUBDOMAIN_TEXT}")
    if len(name) > _LONGEST_LABEL or not re.fullmatch(_QUALIFIED, name):
        yield _invalid(field, key, _QUALIFIED_TEXT)


def causes(kind: str, obj: Mapping[str, Any]) -> list[Cause]:
    """Return what is wrong with an object's metadata, whose fields have their types."""
    metadata = obj["metadata"]
    found = list(_name(kind, str(metadata.get("name", ""))))
    for key, value in (metadata.get("labels") or {}).items():
        found += _qualified("metadata.labels", key)
        if len(value) > _LONGEST_LABEL or not re.fullmatch(_VALUE, value):
            found.append(_invalid("metadata.labels", value, _VALUE_TEXT))
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        found += _qualified("metadata.annotations", key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _LONGEST_ANNOTATIONS:
        text = f"Too long: may not be more than {_LONGEST_ANNOTATIONS} bytes"
        found.append(Cause("metadata.annotations", text, "FieldValueTooLong"))
    for name in metadata.get("finalizers") or []:
        found += _qualified("metadata.finalizers", name)
    return found


def change_causes(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    """Return what is wrong with an update of metadata."""
    before, after = old["metadata"], new["metadata"]
    found = []
    if before.get("deletionTimestamp"):
        known = before.get("finalizers") or []
        added = [name for name in after.get("finalizers") or [] if name not in known]
        if added:
            names = " ".join(json.dumps(name) for name in added)
            text = (
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{names}}}"
            )
            found.append(Cause("metadata.finalizers", text, "FieldValueForbidden"))
    return found
