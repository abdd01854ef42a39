"""Valid objects to begin from: the examples that the documents show."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsg.api.documents import read_documents

TREE = Path(__file__).parents[2]
EXAMPLES = TREE / "examples"

BASES = {
    "zfs": "repository-minimal.yaml",
    "full": "repository-full.yaml",
    "encrypted": "repository-encrypted.yaml",
    "xfs": "repository-xfs.yaml",
    "pool": "pool-zfs.yaml",
    "xfspool": "pool-xfs.yaml",
    "tx": "synctransaction.yaml",
}


class _Gone:
    """Stands in a patch for a field that is taken out."""


GONE = _Gone()


def example(name: str) -> dict[str, Any]:
    """Return a fresh copy of the object in an example file."""
    return copy.deepcopy(_read(name))


@functools.cache
def _read(name: str) -> dict[str, Any]:
    (document,) = read_documents((EXAMPLES / name).read_text(), name)
    found: dict[str, Any] = document.raw
    return found


def patched(base: str, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a base with values set at paths such as `spec.storage.node`; missing mappings on the way are made."""
    raw = example(BASES[base])
    for path, value in patch.items():
        *way, last = path.split(".")
        place = raw
        for step in way:
            place = place.setdefault(step, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return raw


def restore(**more: Any) -> dict[str, Any]:
    """Return the patch that makes the example transaction a valid Restore."""
    return {"spec.operation": "Restore", "spec.restore": "s7", "spec.changes": GONE, **more}
