"""This project's rules, from the pydantic models, in the words in which the real server reports CEL rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from demo.embedded.failures import Cause
from demo.embedded.registry import Laws
from dsg.api.base import Model
from dsg.api.names import GROUP
from dsg.api.repository import Repository
from dsg.api.storagepool import StoragePool
from dsg.api.synctransaction import SyncTransaction

Raw = Mapping[str, Any]


def _located(obj: Raw, location: tuple[int | str, ...]) -> tuple[str, Any]:
    """Return the path of an error, and the value there. The tag of a discriminated union is no field."""
    path: str = ""
    value: Any = obj
    for part in (step for name in location for step in (name.split(".") if isinstance(name, str) else (name,))):
        if isinstance(part, int):
            path, value = f"{path}[{part}]", value[part] if isinstance(value, list) else None
        elif isinstance(value, Mapping) and part not in value and value.get("type") == part:
            continue
        else:
            path = f"{path}.{part}" if path else part
            value = value.get(part) if isinstance(value, Mapping) else None
    return path, value


def _cause(path: str, value: Any, message: str) -> Cause:
    shown = "" if isinstance(value, Mapping | list) else f"{json.dumps(value, ensure_ascii=False)}: "
    return Cause(path or "<nil>", f"Invalid value: {shown}{message}")


def _broken(obj: Raw, error: ErrorDetails) -> Cause:
    path, value = _located(obj, error["loc"])
    return _cause(path, value, error["msg"])


def _laws(model: type[Model]) -> Laws:
    def rule(obj: Raw) -> list[Cause]:
        try:
            model.model_validate(obj)
        except ValidationError as failure:
            return [_broken(obj, error) for error in failure.errors(include_url=False)]
        return []

    def change_rule(new: Raw, old: Raw) -> list[Cause]:
        try:
            before = model.model_validate(old)
        except ValidationError:
            return []
        changes = model.model_validate(new).forbidden_changes(before)
        return [_cause(path, _located(new, tuple(path.split(".")))[1], message) for path, message in changes]

    return Laws(rule, change_rule)


LAWS: dict[str, Laws] = {
    f"repositories.{GROUP}": _laws(Repository),
    f"storagepools.{GROUP}": _laws(StoragePool),
    f"synctransactions.{GROUP}": _laws(SyncTransaction),
}
