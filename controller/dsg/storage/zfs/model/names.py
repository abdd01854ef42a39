"""What OpenZFS accepts as a name: datasets, snapshots, bookmarks, user properties, hold tags."""

from __future__ import annotations

import string

MAX_NAME = 255
"""Bytes of a dataset's, snapshot's or bookmark's whole name (ZFS_MAX_DATASET_NAME_LEN less its final zero)."""
MAX_DEPTH = 50
"""Nesting allowed by the module parameter zfs_max_dataset_nesting."""
MAX_PROPERTY_NAME = 255
MAX_PROPERTY_VALUE = 8191
"""Bytes of a user property's value: ZAP_MAXVALUELEN, 8192, less its final zero."""

_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_.: ")
_PROPERTY_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-_.:")


def split(name: str) -> tuple[str, str, str]:
    """Return the dataset, the delimiter (`@`, `#` or nothing) and what follows it."""
    for position, character in enumerate(name):
        if character in "@#":
            return name[:position], character, name[position + 1 :]
    return name, "", ""


def pool_of(name: str) -> str:
    """Return the pool part of a dataset's or snapshot's name."""
    return split(name)[0].partition("/")[0]


def parent_of(name: str) -> str:
    """Return the name of the dataset above; empty for a pool's root."""
    return name.rpartition("/")[0]


def fault(name: str) -> str:
    """Return why OpenZFS refuses a name, as zfs(8) says it; empty when the name is good (zfs_namecheck.c)."""
    if len(name.encode()) > MAX_NAME:
        return "name is too long"
    if name.startswith("/"):
        return "leading slash in name"
    dataset, delimiter, tail = split(name)
    for component in [*dataset.split("/"), *([tail] if delimiter else [])]:
        if not component or "@" in component or "#" in component:
            return "empty component or misplaced '@' or '#' delimiter in name"
        wrong = next((c for c in component if c not in _CHARACTERS), None)
        if wrong is not None:
            return f"invalid character '{wrong}' in name"
    for component in dataset.split("/"):
        if component == ".":
            return "self reference, '.' is found in name"
        if component == "..":
            return "parent reference, '..' is found in name"
    if dataset.count("/") >= MAX_DEPTH:
        return "maximum name nesting depth exceeded"
    return ""


def is_user_property(name: str) -> bool:
    """Whether a name can only be a user property's: it holds a colon and no character that is not allowed."""
    return ":" in name and all(c in _PROPERTY_CHARACTERS for c in name)


def user_property_fault(name: str, value: str) -> str:
    """Return why OpenZFS refuses a user property; empty when it takes it (zfsprops(7), User Properties)."""
    if not is_user_property(name):
        return f"invalid property '{name}'"
    if len(name) > MAX_PROPERTY_NAME:
        return f"property name '{name}' is too long"
    if len(value.encode()) > MAX_PROPERTY_VALUE:
        return "property value too long"
    if "\0" in value:
        return "property value holds a zero byte"
    return ""
