"""Tables: the form in which the server gives `kubectl get` its columns (meta.k8s.io/v1 Table)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from demo.embedded.kinds import Kind

Obj = Mapping[str, Any]


def _object(obj: Obj, include: str) -> Any:
    if include == "None":
        return None
    if include == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(
    kind: Kind, objects: Iterable[Obj], metadata: Obj, now: datetime, include: str, *, headed: bool = True
) -> dict[str, Any]:
    """Return objects as a Table; `include` is Metadata, Object or None, `headed` whether the columns are described."""
    rows = [
        {"cells": [column.cell(obj, now) for column in kind.columns], "object": _object(obj, include)}
        for obj in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.definition() for column in kind.columns] if headed else None,
        "rows": rows,
    }
