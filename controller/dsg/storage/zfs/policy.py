"""Policy of a ZFS repository, three ways: what the spec wants, what was last applied, what is there.

What differs from the spec although it was applied was changed by hand: drift. What differs because the spec moved on is
a change. The record of what was applied lies beside the data (`org.hrdag.dsg:applied`), so it survives the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from dsg.api.properties import Place, readable, wanted
from dsg.api.repository import ZfsStorage
from dsg.storage.ownership import wanted_owner
from dsg.storage.repository_type import Finding, Target
from dsg.storage.zfs import layout
from dsg.storage.zfs.interface import Dataset

OWNER = "owner"

NOT_INHERITED = frozenset({"quota", "refquota", "reservation", "refreservation", "canmount"})
"""Properties that ZFS does not inherit: only their value counts, not where it comes from."""

_SHOWN_AS: Mapping[tuple[str, str], frozenset[str]] = {
    ("xattr", "sa"): frozenset({"sa", "on"}),
    ("compression", "gzip-6"): frozenset({"gzip", "gzip-6"}),
    ("compression", "gzip"): frozenset({"gzip", "gzip-6"}),
    ("compression", "zstd-fast"): frozenset({"zstd-fast", "zstd-fast-1"}),
    ("compression", "zstd-fast-1"): frozenset({"zstd-fast", "zstd-fast-1"}),
}
"""Values that zfs get shows under another name: two spellings of one setting (measured on OpenZFS 2.3.9)."""


def shows(name: str, wanted_value: str, found: str) -> bool:
    """Return whether a value that was read is the one that is wanted."""
    return found == wanted_value or found in _SHOWN_AS.get((name, wanted_value), ())


Values = Mapping[str, str | None]
"""Property values as `zfs get -p` prints them; None for one that must not be set locally."""


def parent_values(storage: ZfsStorage) -> dict[str, str | None]:
    """Return what the parent dataset's own properties should be."""
    fixed: dict[str, str | None] = {"mountpoint": "legacy", "canmount": "off"}
    if storage.encryption is not None:
        file = storage.encryption.key_file
        fixed["keylocation"] = "prompt" if file is None else f"file://{file}"
    return fixed | wanted(storage.properties, Place.PARENT)


def generation_values(storage: ZfsStorage) -> dict[str, str | None]:
    """Return what every generation's own properties should be."""
    return wanted(storage.properties, Place.GENERATION)


def record(target: Target, storage: ZfsStorage) -> str:
    """Return the record of the whole policy, as it is written when all of it has been applied (canonical JSON)."""
    content = {f"parent.{name}": value for name, value in parent_values(storage).items()}
    content |= {f"generation.{name}": value for name, value in generation_values(storage).items()}
    content[OWNER] = wanted_owner(target)
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def read_record(text: str | None) -> dict[str, str | None]:
    """Return the content of a record; an absent or unreadable one says that nothing was applied."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(k): v for k, v in content.items() if v is None or isinstance(v, str)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One property that is not as it should be."""

    name: str
    value: str | None
    """The value to set; None to clear the local one."""
    finding: Finding
    drift: bool
    """Whether it was applied before, and so was changed by hand."""


def settable(name: str, value: str) -> str:
    """Return a value as zfs-set(8) takes it: sizes of 0 are written `none`."""
    return "none" if value == "0" and name in NOT_INHERITED else value


def differences(dataset: Dataset, place: str, values: Values, applied: Values) -> list[Difference]:
    """Return what differs on a dataset; `place` is `parent` or `generation`, as in the record."""
    found = []
    for name, value in values.items():
        actual, local = dataset.properties.get(name), dataset.local(name)
        if value is None:
            # Left out of the spec: any local value is a hand's, except that a 0 of a size means none.
            same = local is None or (name in NOT_INHERITED and local in {"0", "none"})
            shown, want = readable(name, local or ""), "(inherited)"
        else:
            same = (
                actual is not None and shows(name, value, actual.value) and (name in NOT_INHERITED or local is not None)
            )
            shown = readable(name, actual.value) if actual is not None else "(nothing)"
            shown += "" if local is not None or name in NOT_INHERITED else " (not set here)"
            want = readable(name, value)
        if not same:
            key = f"{place}.{name}"
            drift = key in applied and applied[key] == value
            found.append(Difference(name, value, Finding(dataset.name, name, want, shown), drift))
    return found


def creation_values(values: Values) -> dict[str, str]:
    """Return the properties to give at creation: those that are stated, without sizes of none."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (value == "0" and name in NOT_INHERITED)
    }


def identity_values(target: Target) -> dict[str, str]:
    """Return the user properties that say whose the dataset is."""
    return {
        layout.LAYOUT_PROPERTY: layout.LAYOUT,
        layout.UID: target.uid,
        layout.IDENTITY: target.identity,
    }
